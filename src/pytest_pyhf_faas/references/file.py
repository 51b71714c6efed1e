"""The files of reference results, which people read in a diff: their content, and what changes it.

All that is done here is done to the content as JSON has it. What it means is said by `reference`.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_pyhf_faas.campaign.results import FITS, MinimumSet, json_number
from pytest_pyhf_faas.errors import ReferenceFileError
from pytest_pyhf_faas.schemas import accepted_by_own_schema, own_schema

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.pallets.pallet import Pallet

SCHEMA_VERSION = 3
SCHEMA = "reference.schema.json"
DIGEST_DIGITS = 16
#: What all references of a file have in common.
ONE_FILE = ("background_sha256", "hypotest")
#: How far the twice NLL of one model may differ between backends and machines: relative, absolute.
SAME_MODEL = (1e-9, 1e-7)
#: A minimum that lies so much higher than before, in twice the NLL, is another one.
_HIGHER = 1e-5
#: Two sets of Asimov data are one if twice the NLL of their known minima is as close as this.
_SAME_ASIMOV_DATA = 1e-3
#: The same of CLs, where the minima are the same: relative, absolute.
_SAME_CLS = (1e-6, 1e-9)
#: Digits of the starts of a pool, which need not be exact, behind the decimal point.
_POOL_DIGITS = 2
_INLINE_DEPTH = 3
#: What is written with a line for each of its parts, though it lies deeper.
_EXPANDED = frozenset({"nominal", "differences", "patches"})
#: What stands before the tolerances.
_HEAD = (
    "schema_version",
    "pallet",
    "description",
    "synthetic",
    "doi",
    "background_sha256",
    "hypotest",
)
#: The fields of an entry, in the order in which they are written.
_FIELDS = (
    "values",
    "digest",
    "error",
    "CLs_obs",
    "CLs_exp",
    "mu_hat",
    "twice_nll",
    "nominal",
    "minima",
    "twice_nll_off_minimum",
    "rounding",
    "distance",
    "search",
    "unseen",
    "fit_s",
    "checked",
    "provenance",
)
#: What an entry has of the search for a minimum: all starts, those that ended in the lowest
#: minimum, those that were drawn at random, and those of them that ended there.
_SEARCH = ("starts", "reached", "random", "reached_at_random")
_RANDOM = 2
#: How exceptions that are right answers are called in a file, whichever program raised them.
_ANSWERS = {"InvalidModel": "pyhf.exceptions.InvalidModel"}


# Reading


def read(path: Path) -> dict[str, Any]:
    """Read and validate a reference file.

    Raises
    ------
    ReferenceFileError
        If it cannot be read, is damaged, or was written by a newer version.
    """

    def wrong(why: str, remedy: str) -> ReferenceFileError:
        return ReferenceFileError(f"the reference file {path} cannot be used: {why}. {remedy}")

    restore = (
        "Restore it from version control, or remove it and make it anew with --faas-update=new"
    )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise wrong(str(error.strerror), "Check its permissions") from error
    except UnicodeDecodeError as error:
        raise wrong("it is not UTF-8 text", restore) from error
    except json.JSONDecodeError as error:
        raise wrong(
            f"it is no valid JSON (line {error.lineno}, column {error.colno}: {error.msg})", restore
        ) from error
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise wrong(
            f"it has schema version {version}, and this version reads up to {SCHEMA_VERSION}",
            "Upgrade pytest-pyhf-faas",
        )
    data = _as_of_today(data, version)
    violation = _violation(data)
    if violation is not None:
        raise wrong(violation, restore)
    known = len(data["provenance"])
    for name, entry in data["patches"].items():
        if entry["provenance"] >= known:
            raise wrong(f"{name} has a provenance that the file does not list", restore)
    return dict(data)


def _violation(data: Any) -> str | None:
    """Say where the content of a file violates the schema, if it does."""
    if accepted_by_own_schema(data, SCHEMA):
        return None
    import jsonschema

    validator = jsonschema.Draft7Validator(own_schema(SCHEMA))
    violation = jsonschema.exceptions.best_match(validator.iter_errors(data))
    if violation is None:
        return None
    where = "/".join(str(part) for part in violation.absolute_path) or "the top level"
    return f"at {where}, {violation.message[:200]}"


def _as_of_today(data: Any, version: Any) -> Any:
    """Return the content of a file of an older schema as one of this schema."""
    if version == 1:
        data = _from_schema_1(data)
    return _from_schema_2(data) if version in (1, 2) else data


def _from_schema_1(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a file of schema 1 as one of schema 2.

    It has the lowest minima alone, so that nothing is known of the nominal ones; of the others it
    lists, their gaps are kept. What does not fit is left for the schema to refuse.
    """
    converted = {**data, "schema_version": 2}
    with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError):
        converted["patches"] = {
            name: _entry_from_schema_1(entry) for name, entry in data["patches"].items()
        }
    return converted


def _entry_from_schema_1(old: Mapping[str, Any]) -> dict[str, Any]:
    entry = dict(old)
    minima: dict[str, list[float]] = {}
    for other in entry.pop("local_minima", ()):
        minima.setdefault(other["fit"], []).append(float(other["gap"]))
    if minima:
        entry["minima"] = {fit: sorted(gaps) for fit, gaps in minima.items()}
    if "starts" in entry:  # how many of them were drawn at random, nobody noted
        counts = entry.pop("starts").items()
        entry["search"] = {fit: [starts, reached, 0, 0] for fit, (starts, reached, _) in counts}
    if "CLs_obs" in entry:
        entry["nominal"] = None
    return _in_order(entry)


def _from_schema_2(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a file of schema 2, where a fit setup was called a combination."""
    converted = {**data, "schema_version": SCHEMA_VERSION}
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        converted["known_issues"] = [
            {"fit_setup" if name == "combination" else name: part for name, part in issue.items()}
            for issue in data["known_issues"]
        ]
    return converted


# What stands in a file


def header_of(pallet: Pallet, config: HypotestConfig) -> dict[str, Any]:
    """Return what a file says of all its references."""
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
    """Return what a file says of one hypothesis, without its provenance."""
    entry: dict[str, Any] = {
        "values": list(task.patch.values),
        "digest": task.patch.digest[:DIGEST_DIGITS],
    }
    if result.error is not None:
        entry["error"] = _ANSWERS.get(_last(result.error.type), result.error.type)
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
    """Cut the floats in a value to what tells two minima apart."""
    if isinstance(value, dict):
        return {name: _to_six_digits(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_to_six_digits(each) for each in value]
    return _six_digits(value) if isinstance(value, float) else value


def _six_digits(value: float) -> float:
    return float(f"{value:.6g}")


def _rounded(value: float | None) -> float | str | None:
    """Cut a float to 12 digits; the rest is rounding noise of one machine."""
    if value is None or not math.isfinite(value):
        return json_number(value)
    return float(f"{value:.12g}")


def _in_order(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an entry with its fields in the order in which they are written."""
    known = {name: entry[name] for name in _FIELDS if name in entry}
    return {**known, **entry}


def provenance_of(config: HypotestConfig, result: HypotestResult) -> dict[str, Any]:
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
    }


def packed_pool(points: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Return starts as a file has them: the names once, the values in two digits."""
    names = list(dict.fromkeys(name for point in points for name in point))
    return {
        "parameters": names,
        "points": [
            [None if point.get(n) is None else round(float(point[n]), _POOL_DIGITS) for n in names]
            for point in points
        ],
    }


def points_of(pool: Mapping[str, Any]) -> tuple[dict[str, float], ...]:
    """Return the starts of a file, each a value for some parameters by their names."""
    names = pool["parameters"]
    return tuple(
        {n: float(v) for n, v in zip(names, values, strict=True) if v is not None}
        for values in pool["points"]
    )


# Changing a file


@dataclass(slots=True)
class Written:
    """How many references of a file were written.

    Attributes
    ----------
    new, changed, confirmed : int
        Of hypotheses that had none, of those with other values than before, and of those with the
        same.
    invalid : int
        Those among them whose right answer is InvalidModel.
    worse, weaker : int
        Those that were refused, because the file has a lower minimum, or the same ones with a
        longer search.
    """

    new: int = 0
    changed: int = 0
    confirmed: int = 0
    invalid: int = 0
    worse: int = 0
    weaker: int = 0

    @property
    def total(self) -> int:
        """How many were written."""
        return self.new + self.changed + self.confirmed

    def count(self, refusal: Refusal) -> None:
        """Count one that was refused."""
        if refusal.worse:
            self.worse += 1
        else:
            self.weaker += 1

    def add(self, other: Written) -> None:
        """Count in what another process has written."""
        for name in Written.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Refusal(NamedTuple):
    """Why a reference stays as it is; `worse`: a minimum would be higher."""

    reason: str
    worse: bool


def entries_of(
    data: Mapping[str, Any] | None, header: Mapping[str, Any]
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """Return the entries of a file with their provenance, if they are for the same test."""
    if data is None or not _is_for(data, header):
        return {}
    return {
        name: (entry, data["provenance"][entry["provenance"]])
        for name, entry in data["patches"].items()
    }


def _is_for(data: Mapping[str, Any], header: Mapping[str, Any]) -> bool:
    return all(data[part] == header[part] for part in ONE_FILE)


def merged(
    old: Mapping[str, Any] | None,
    header: Mapping[str, Any],
    updates: Mapping[str, Mapping[str, Any]],
    pool: Mapping[str, Any] | None,
) -> tuple[dict[str, Any], Written]:
    """Put updates over what a file has for the same test, and count them."""
    written = Written()
    entries = entries_of(old, header)
    kept = old if old is not None and _is_for(old, header) else {}
    for name, update in updates.items():
        entry = update["entry"]
        before, _how = entries.get(name, (None, None))
        refusal = None if before is None else refusal_of(before, entry)
        if refusal is not None:
            written.count(refusal)
            continue
        entries[name] = entry, update["provenance"]
        written.invalid += "error" in entry
        if before is None:
            written.new += 1
            continue
        confirmed = before["digest"] == entry["digest"] and _is_confirmed(before, entry)
        written.confirmed += confirmed
        written.changed += not confirmed
        if "checked" in before and before["digest"] == entry["digest"]:
            # At which set of minima they were is not known, where the minima are others.
            dropped = () if confirmed else ("set",)
            entry["checked"] = {
                fit_setup: {part: v for part, v in found.items() if part not in dropped}
                for fit_setup, found in before["checked"].items()
            }
    # In the order of the file, so that the other patches keep their index, and their lines.
    used = [how for _entry, how in entries.values()]
    provenance = [how for how in kept.get("provenance", ()) if how in used]
    patches = {}
    for name, (entry, how) in sorted(entries.items()):
        if how not in provenance:
            provenance.append(how)
        patches[name] = _in_order({**entry, "provenance": provenance.index(how)})
    data = {
        **header,
        **{name: kept[name] for name in ("tolerances", "known_issues") if name in kept},
        "provenance": provenance,
        "patches": patches,
    }
    pool = kept.get("pool") if pool is None else pool
    if pool is not None:
        data["pool"] = pool
    return data, written


def refusal_of(old: Mapping[str, Any], new: Mapping[str, Any]) -> Refusal | None:
    """Say why an entry must not take the place of another one, if it must not."""
    if old["digest"] != new["digest"] or "error" in old or "error" in new:
        return None
    if not _is_same_model(old, new):
        return None
    rounding = max(old.get("rounding", 0.0), new.get("rounding", 0.0))
    lowest = [MinimumSet.from_json(entry) for entry in (old, new)]
    gaps = _gaps(lowest[0].twice_nll, lowest[1].twice_nll, rounding)
    fit = max(gaps, key=lambda name: gaps[name], default="")
    if fit and gaps[fit] > _HIGHER + rounding:
        return Refusal(
            f"the reference has a lower minimum (gap {gaps[fit]:.3g} in the "
            f"{fit.replace('_', ' ')}): nothing written",
            worse=True,
        )
    before, now = (
        sum(counts[_RANDOM] for counts in entry.get("search", {}).values()) for entry in (old, new)
    )
    if now < before and _is_confirmed(old, new):
        return Refusal(
            f"the reference has the same minima from a longer search ({before} random starts, not "
            f"{now}): nothing written",
            worse=False,
        )
    return None


def _gaps(old: Mapping[str, float], new: Mapping[str, float], rounding: float) -> dict[str, float]:
    """Return how much higher the new minimum of each fit is, of those to the same data."""
    gaps = {}
    for fit in FITS:
        before, now = old.get(fit, math.nan), new.get(fit, math.nan)
        if math.isfinite(before):
            gaps[fit] = now - before if math.isfinite(now) else math.inf
    known = gaps.pop("free_fit_to_asimov", 0.0)  # that of the data, not of a search
    if "fixed_poi_fit_to_asimov" in gaps:
        if abs(known) <= _SAME_ASIMOV_DATA + rounding:
            gaps["fixed_poi_fit_to_asimov"] -= known
        else:
            del gaps["fixed_poi_fit_to_asimov"]
    return gaps


def _is_same_model(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    if any(entry.get("twice_nll_off_minimum") is None for entry in (old, new)):
        return True
    before, now = (float(entry["twice_nll_off_minimum"]) for entry in (old, new))
    relative, absolute = SAME_MODEL
    rounding = max(entry.get("rounding", 0.0) for entry in (old, new))
    return _is_near(now, before, absolute + relative * abs(before) + rounding)


def _is_confirmed(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether two entries have the same answer: the same minima of both sets, and CLs."""
    if "error" in old or "error" in new:
        return same_error(old.get("error"), new.get("error"))
    rounding = max(old.get("rounding", 0.0), new.get("rounding", 0.0))
    if "nominal" in old and old["nominal"] is None:  # not known
        return "nominal" not in new and _are_same(old, new, rounding)
    nominal = [entry.get("nominal") or entry for entry in (old, new)]
    return _are_same(old, new, rounding) and _are_same(nominal[0], nominal[1], rounding)


def _are_same(one: Mapping[str, Any], other: Mapping[str, Any], rounding: float) -> bool:
    return same_minima(MinimumSet.from_json(one), MinimumSet.from_json(other), rounding)


def with_notes(data: Mapping[str, Any], fit_setup: str, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Put what was found of a fit setup into the content of a file."""
    checked = notes["checked"]
    patches = {
        name: _in_order(
            {**entry, "checked": {**entry.get("checked", {}), fit_setup: checked[name]}}
        )
        if name in checked
        else entry
        for name, entry in data["patches"].items()
    }
    issues = []
    for issue in data.get("known_issues", ()):
        kept = issue["patches"]
        if issue["fit_setup"] == fit_setup:
            kept = {name: wrong for name, wrong in kept.items() if name not in checked}
        if kept:
            issues.append({**issue, "patches": kept})
    for new in notes["known_issues"]:
        same = next((i for i in issues if {**i, "patches": 0} == {**new, "patches": 0}), None)
        if same is None:
            issues.append(new)
        else:
            same["patches"] = dict(sorted({**same["patches"], **new["patches"]}.items()))
    before = data.get("tolerances", {}).get(fit_setup, {})
    whole = set(checked) == set(data["patches"])
    # Of a part of the patches a smaller tolerance says nothing.
    rtol = notes["rtol"] if whole else max(notes["rtol"], before.get("rtol", 0.0))
    head = {name: data[name] for name in _HEAD if name in data}
    head["tolerances"] = dict(
        sorted({**data.get("tolerances", {}), fit_setup: {**before, "rtol": rtol}}.items())
    )
    if issues:
        head["known_issues"] = sorted(issues, key=lambda i: (i["fit_setup"], i["reason"]))
    tail = {"pool": data["pool"]} if "pool" in data else {}
    return {**head, "provenance": data["provenance"], "patches": patches, **tail}


# Comparing


def same_minima(one: MinimumSet, other: MinimumSet, rounding: float) -> bool:
    """Whether two sets are of the same minima, and CLs as well.

    Parameters
    ----------
    one, other : MinimumSet
        Of one model.
    rounding : float
        How far twice the NLL may be rounded.
    """
    relative, absolute = _SAME_CLS
    return (
        one.twice_nll.keys() == other.twice_nll.keys()
        and all(
            _is_near(value, other.twice_nll[fit], _HIGHER + rounding)
            for fit, value in one.twice_nll.items()
        )
        and len(one.cls_values) == len(other.cls_values)
        and all(
            _is_near(a, b, absolute + relative * abs(b))
            for a, b in zip(one.cls_values, other.cls_values, strict=True)
        )
    )


def same_error(one: str | None, other: str | None) -> bool:
    """Whether two names of exceptions are one, whichever program raised them."""
    return one is not None and other is not None and _last(one) == _last(other)


def _is_near(one: float, other: float, distance: float) -> bool:
    if math.isfinite(one) and math.isfinite(other):
        return abs(one - other) <= distance
    return repr(one) == repr(other)


def _last(error: str) -> str:
    return error.rpartition(".")[2]


# Writing


def write(path: Path, data: Mapping[str, Any]) -> None:
    """Replace the file in one step, so that a reader never sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(_format(data) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _format(value: Any, depth: int = 0, inline: int = _INLINE_DEPTH) -> str:
    """Format as JSON with a line for each field of a patch, so that a diff shows what changed."""
    parts = value.values() if isinstance(value, dict) else value
    if (
        not value
        or not isinstance(value, (dict, list))
        or depth == inline
        or (isinstance(value, list) and not any(isinstance(part, (dict, list)) for part in parts))
    ):
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    indent = "  " * (depth + 1)
    if isinstance(value, dict):
        lines = [
            f"{json.dumps(key)}: "
            f"{_format(item, depth + 1, max(inline, depth + 1 + (key in _EXPANDED)))}"
            for key, item in value.items()
        ]
    else:
        lines = [_format(item, depth + 1, inline) for item in value]
    opening, closing = ("{", "}") if isinstance(value, dict) else ("[", "]")
    return f"{opening}\n{indent}" + f",\n{indent}".join(lines) + f"\n{'  ' * depth}{closing}"
