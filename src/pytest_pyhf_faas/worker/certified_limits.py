"""The upper limits on the POI at certified minima; this runs on workers."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.histfactory.asymptotics import asimov_poi
from pytest_pyhf_faas.histfactory.limits import MIXED, PRECISION, observed_limit, upper_limits
from pytest_pyhf_faas.histfactory.minima import SAME
from pytest_pyhf_faas.worker.certified import answer_by_search, result_of
from pytest_pyhf_faas.worker.limits import LEVEL

if TYPE_CHECKING:
    from pytest_pyhf_faas.histfactory.limits import UpperLimits
    from pytest_pyhf_faas.histfactory.search import Search, Which
    from pytest_pyhf_faas.worker.messages import BatchAnswer, BatchPayload


def limit_batch(batch: BatchPayload) -> BatchAnswer:
    """Find the upper limits of each patch of a batch, at certified minima.

    Parameters
    ----------
    batch : dict
        As for `certified.certify_batch`.

    Returns
    -------
    dict
        The same, and the ``limits`` of each result: those at the lowest minima (``observed``,
        ``expected``, ``tests``, ``remarks`` in words), ``nominal`` with the same of the nominal
        minima (``None`` where all are equal), and ``mixed``: the observed limits where each fit has
        a choice of its own, by the names of those at their lowest minima, as in
        "free_fit_to_data+background_fit_to_data".
    """
    at_asimov = asimov_poi(batch["config"]["test_stat"])
    return answer_by_search(
        batch,
        lambda search, _patch, _seed: {
            **result_of(search, at_asimov),
            "limits": limits_of(search),
        },
    )


def limits_of(search: Search) -> dict[str, Any]:
    """Return the upper limits at the lowest, the nominal and all mixed minima."""
    lowest = upper_limits(search, "lowest", LEVEL)
    nominal = upper_limits(search, "nominal", LEVEL)
    return {
        **_json(lowest),
        "nominal": None if _same(lowest, nominal) else _json(nominal),
        "mixed": _mixed(search),
    }


def _same(one: UpperLimits, other: UpperLimits) -> bool:
    """Whether two sets of limits are the same, within the precision of a limit."""
    pairs = zip((one.observed, *one.expected), (other.observed, *other.expected), strict=True)
    return all(
        a == b or (a is not None and b is not None and abs(a - b) <= 2 * PRECISION * abs(b))
        for a, b in pairs
    )


def _mixed(search: Search) -> dict[str, float | str]:
    """Return the observed limits with some fits at their lowest minima and some at the nominal."""
    differing = [
        name
        for name in MIXED
        if search.nominal.twice_nll[name] - search.lowest.twice_nll[name] > SAME
    ]
    found = {}
    for count in range(1, len(differing)):
        for lowest in itertools.combinations(differing, count):
            choice: dict[str, Which] = {
                name: "lowest" if name in lowest else "nominal" for name in MIXED
            }
            found["+".join(lowest)] = _number(observed_limit(search, choice, LEVEL))
    return found


def _json(limits: UpperLimits) -> dict[str, Any]:
    return {
        "observed": _number(limits.observed),
        "expected": [_number(value) for value in limits.expected],
        "tests": len(limits.scan),
        "remarks": list(limits.remarks),
    }


def _number(limit: float | None) -> float | str:
    """Return a limit as JSON can hold it; if there is none, all values are allowed."""
    return "inf" if limit is None else limit
