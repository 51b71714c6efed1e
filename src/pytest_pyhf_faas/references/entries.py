"""Entries of a reference file: for its pallet, a hypothesis, and how it was made."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, cast

from pytest_pyhf_faas.campaign.results import FITS, MinimumSet, json_number
from pytest_pyhf_faas.campaign.tasks import worker_sha256
from pytest_pyhf_faas.references.file import SCHEMA_VERSION
from pytest_pyhf_faas.references.sameness import last_part

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.campaign.quantities import Limits, LimitSet
    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.pallets.pallet import Pallet
    from pytest_pyhf_faas.references.form import LimitsEntry, LimitValues, PoolEntry, Provenance

DIGEST_DIGITS = 16
#: Digits of the starts of a pool, which need not be exact, after the decimal point.
_POOL_DIGITS = 2
#: Fields of the search for a minimum: all starts, those that ended in the lowest
#: minimum, those that were drawn at random, and those of them that ended there.
_SEARCH = ("starts", "reached", "random", "reached_at_random")
#: Names in a file of exceptions that are right answers, for any program that raises them.
_ANSWERS = {"InvalidModel": "pyhf.exceptions.InvalidModel"}


def header_of(pallet: Pallet, config: HypotestConfig) -> dict[str, Any]:
    """Return the fields that all references of a file share."""
    return {
        "schema_version": SCHEMA_VERSION,
        "pallet": pallet.name,
        "description": pallet.description,
        "synthetic": pallet.synthetic,
        "doi": pallet.doi,
        "background_sha256": pallet.digest,
        "hypotest": config.physics,
    }


def entry_of(task: Task, result: HypotestResult) -> dict[str, Any]:
    """Return the entry of one hypothesis, without its provenance."""
    entry: dict[str, Any] = {
        "values": list(task.patch.values),
        "digest": task.patch.digest[:DIGEST_DIGITS],
    }
    if result.error is not None:
        entry["error"] = _ANSWERS.get(last_part(result.error.type), result.error.type)
        return entry
    entry |= _minima(result.lowest)
    certificate = result.certificate
    if result.ambiguous:
        differences = [_to_six_digits(each) for each in result.differences]
        entry["nominal"] = {**_minima(result.nominal), "differences": differences}
    minima = {
        fit: [_six_digits(gap) for gap in gaps] for fit, gaps in _of(certificate, "minima") if gaps
    }
    if minima:
        entry["minima"] = minima
    entry["twice_nll_off_minimum"] = _rounded(result.twice_nll_off_minimum)
    if certificate:
        entry["rounding"] = float(f"{result.rounding or 0.0:.2g}")
        entry["distance"] = float(f"{certificate['distance']:.2g}")
        search = dict(_of(certificate, "search"))
        entry["search"] = {fit: [how[name] for name in _SEARCH] for fit, how in search.items()}
        unseen = [how["unseen"] for how in search.values() if how.get("unseen") is not None]
        if unseen:
            entry["unseen"] = float(f"{max(unseen):.2g}")
    entry["fit_s"] = float(f"{result.seconds['fit']:.3g}")
    return entry


def limits_entry(limits: Limits) -> LimitsEntry:
    """Return the entry of the upper limits of a hypothesis."""
    entry = cast("LimitsEntry", _limit_values(limits.lowest))
    if limits.ambiguous:
        entry["nominal"] = _limit_values(limits.nominal)
    if limits.lowest.remarks:
        entry["remarks"] = list(limits.lowest.remarks)
    return entry


def _limit_values(found: LimitSet) -> LimitValues:
    observed, *expected = (json_number(float(f"{value:.9g}")) for value in found.values)
    return cast("LimitValues", {"observed": observed, "expected": expected})


def _of(certificate: Mapping[str, Any], what: str) -> list[tuple[str, Any]]:
    """Return a part of a certificate by the fits, in their order."""
    found = certificate.get(what, {})
    return [(fit, found[fit]) for fit in FITS if fit in found]


def _minima(found: MinimumSet) -> dict[str, Any]:
    return {
        "CLs_obs": _rounded(found.CLs_obs),
        "CLs_exp": [_rounded(value) for value in found.CLs_exp],
        "mu_hat": _rounded(found.mu_hat),
        "twice_nll": {fit: _rounded(found.twice_nll[fit]) for fit in FITS},
    }


def _to_six_digits(value: Any) -> Any:
    """Round the floats in a value to the digits that distinguish two minima."""
    if isinstance(value, dict):
        return {name: _to_six_digits(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_to_six_digits(each) for each in value]
    return _six_digits(value) if isinstance(value, float) else value


def _six_digits(value: float) -> float:
    return float(f"{value:.6g}")


def _rounded(value: float | None) -> float | str | None:
    """Round a float to 12 digits; the rest is rounding noise of one machine."""
    if value is None or not math.isfinite(value):
        return json_number(value)
    return float(f"{value:.12g}")


def provenance_of(config: HypotestConfig, result: HypotestResult) -> Provenance:
    """Return how, when and with which versions a result was made."""
    environment = result.environment
    versions = dict(environment.computing) if environment else {}
    return {
        "method": config.method,
        "backend": environment.backend if environment else config.backend,
        "optimizer": environment.optimizer if environment else config.optimizer,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "cpu": environment.cpu if environment else "unknown",
        "platform": environment.platform if environment else "unknown",
        "versions": versions,
        "worker_sha256": worker_sha256(),
    }


def packed_pool(points: Sequence[Mapping[str, float]]) -> PoolEntry:
    """Return starts as a file has them: the names once, the values in two digits."""
    names = list(dict.fromkeys(name for point in points for name in point))
    return {
        "parameters": names,
        "points": [
            [None if point.get(n) is None else round(float(point[n]), _POOL_DIGITS) for n in names]
            for point in points
        ],
    }


def points_of(pool: PoolEntry) -> tuple[dict[str, float], ...]:
    """Return the starts of a file, each a value for some parameters by their names."""
    names = pool["parameters"]
    return tuple(
        {n: float(v) for n, v in zip(names, values, strict=True) if v is not None}
        for values in pool["points"]
    )
