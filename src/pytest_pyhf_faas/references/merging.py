"""Merge new results or notes into the content of a reference file."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_pyhf_faas.campaign.results import FITS, MinimumSet
from pytest_pyhf_faas.references.file import in_order
from pytest_pyhf_faas.references.known_issues import concerns
from pytest_pyhf_faas.references.sameness import (
    HIGHER,
    SAME_ASIMOV_DATA,
    SAME_MODEL,
    is_near,
    same_error,
    same_minima,
)
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_pyhf_faas.references.form import Entry, PoolEntry, Provenance, ReferenceFile

#: The fields that all references of a file share.
ONE_FILE = ("background_sha256", "hypotest")
#: The fields before the tolerances.
_HEAD = (
    "schema_version",
    "pallet",
    "description",
    "synthetic",
    "doi",
    "background_sha256",
    "hypotest",
)
_RANDOM = 2
#: Fields of an entry in addition to CLs; they stay if the minima stay.
BESIDE_CLS = ("limits", "toys", "published")


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
    replaced : int
        References of another background or test that were replaced.
    limits, toys, published : int
        Hypotheses to whose references these were added.
    """

    new: int = 0
    changed: int = 0
    confirmed: int = 0
    invalid: int = 0
    worse: int = 0
    weaker: int = 0
    replaced: int = 0
    limits: int = 0
    toys: int = 0
    published: int = 0

    @property
    def total(self) -> int:
        """How many were written."""
        return self.new + self.changed + self.confirmed

    @property
    def any(self) -> bool:
        """Whether anything was written, CLs or other fields."""
        return bool(self.total or any(getattr(self, part) for part in BESIDE_CLS))

    def count(self, refusal: Refusal) -> None:
        """Count one that was refused."""
        if refusal.worse:
            self.worse += 1
        else:
            self.weaker += 1

    def count_parts(self, parts: Iterable[str]) -> None:
        """Count what was added to one reference."""
        for part in parts:
            setattr(self, part, getattr(self, part) + 1)

    def add(self, other: Written) -> None:
        """Add what another process wrote."""
        for each in fields(Written):
            count = getattr(self, each.name) + getattr(other, each.name)
            setattr(self, each.name, count)


class Refusal(NamedTuple):
    """Why a reference stays as it is; `worse`: a minimum would be higher."""

    reason: str
    worse: bool


def entries_of(
    data: ReferenceFile | None, header: Mapping[str, Any]
) -> dict[str, tuple[Entry, Provenance]]:
    """Return the entries of a file with their provenance, if they are for the same test."""
    if data is None or not _is_for(data, header):
        return {}
    return {
        name: (entry, data["provenance"][entry["provenance"]])
        for name, entry in data["patches"].items()
    }


def replacement_of(
    data: ReferenceFile, header: Mapping[str, Any], names: Iterable[str]
) -> tuple[str, bool]:
    """Say which references an update would replace: none if they are for the same test.

    Also whether each of them gets a successor with the same name.
    """
    if _is_for(data, header):
        return "", True
    content: Mapping[str, Any] = data
    what = "background" if content[ONE_FILE[0]] != header[ONE_FILE[0]] else "test"
    of = f" {content[ONE_FILE[0]][:12]}..." if what == "background" else ""
    count = counted(len(data["patches"]), "reference")
    return f"{count} of another {what}{of}", set(data["patches"]) <= set(names)


def _is_for(data: ReferenceFile, header: Mapping[str, Any]) -> bool:
    content: Mapping[str, Any] = data
    return all(content[part] == header[part] for part in ONE_FILE)


def merged(
    old: ReferenceFile | None,
    header: Mapping[str, Any],
    updates: Mapping[str, Mapping[str, Any]],
    pool: PoolEntry | None,
) -> tuple[dict[str, Any], Written]:
    """Merge updates into what a file has for the same test, and count them."""
    written = Written()
    entries = entries_of(old, header)
    if old is not None and not _is_for(old, header):
        written.replaced = len(old["patches"])
    kept: Mapping[str, Any] = old if old is not None and _is_for(old, header) else {}
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
        if confirmed:
            known: Mapping[str, Any] = before
            entry.update({part: known[part] for part in BESIDE_CLS if part in known})
        if "checked" in before and before["digest"] == entry["digest"]:
            # If the minima changed, it is unknown which set they were at.
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
        patches[name] = in_order({**entry, "provenance": provenance.index(how)})
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


def refusal_of(old: Entry, new: Entry) -> Refusal | None:
    """Say why an entry must not replace another one, if it must not."""
    if old["digest"] != new["digest"] or "error" in old or "error" in new:
        return None
    if not _is_same_model(old, new):
        return None
    rounding = max(old.get("rounding", 0.0), new.get("rounding", 0.0))
    lowest = [MinimumSet.from_json(entry) for entry in (old, new)]
    gaps = _gaps(lowest[0].twice_nll, lowest[1].twice_nll, rounding)
    fit = max(gaps, key=lambda name: gaps[name], default="")
    if fit and gaps[fit] > HIGHER + rounding:
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
        if abs(known) <= SAME_ASIMOV_DATA + rounding:
            gaps["fixed_poi_fit_to_asimov"] -= known
        else:
            del gaps["fixed_poi_fit_to_asimov"]
    return gaps


def _is_same_model(old: Entry, new: Entry) -> bool:
    if any(entry.get("twice_nll_off_minimum") is None for entry in (old, new)):
        return True
    before, now = (float(entry["twice_nll_off_minimum"]) for entry in (old, new))
    relative, absolute = SAME_MODEL
    rounding = max(entry.get("rounding", 0.0) for entry in (old, new))
    return is_near(now, before, absolute + relative * abs(before) + rounding)


def _is_confirmed(old: Entry, new: Entry) -> bool:
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
    """Merge the findings about a fit setup into the content of a file."""
    checked = notes["checked"]
    patches = {
        name: in_order({**entry, "checked": {**entry.get("checked", {}), fit_setup: checked[name]}})
        if name in checked
        else entry
        for name, entry in data["patches"].items()
    }
    issues = _with_issues(data.get("known_issues", ()), fit_setup, notes)
    before = data.get("tolerances", {}).get(fit_setup, {})
    whole = set(checked) == set(data["patches"])
    # A smaller tolerance from only a part of the patches has no meaning.
    rtol = notes["rtol"] if whole else max(notes["rtol"], before.get("rtol", 0.0))
    head = {name: data[name] for name in _HEAD if name in data}
    head["tolerances"] = dict(
        sorted({**data.get("tolerances", {}), fit_setup: {**before, "rtol": rtol}}.items())
    )
    if issues:
        head["known_issues"] = sorted(issues, key=lambda i: (i["fit_setup"], i["reason"]))
    tail = {"pool": data["pool"]} if "pool" in data else {}
    return {**head, "provenance": data["provenance"], "patches": patches, **tail}


def _with_issues(
    known: Iterable[Mapping[str, Any]], fit_setup: str, notes: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Replace the issues of the same pyhf by those that were found."""
    issues: list[dict[str, Any]] = []
    versions: dict[str, str] = {}  # that have what a patch still has
    for issue in known:
        kept = issue["patches"]
        of_which = issue.get("pyhf", "")
        if issue["fit_setup"] == fit_setup and concerns(of_which, notes.get("pyhf")):
            versions |= dict.fromkeys(kept, of_which)
            kept = {name: wrong for name, wrong in kept.items() if name not in notes["checked"]}
        if kept:
            issues.append({**issue, "patches": kept})
    for found in notes["known_issues"]:
        for name, wrong in found["patches"].items():
            head = {part: value for part, value in found.items() if part != "patches"}
            if versions.get(name):
                head["pyhf"] = versions[name]
            same = next((i for i in issues if {**head, "patches": 0} == {**i, "patches": 0}), None)
            if same is None:
                same = {**head, "patches": {}}
                issues.append(same)
            same["patches"] = dict(sorted({**same["patches"], name: wrong}.items()))
    return issues
