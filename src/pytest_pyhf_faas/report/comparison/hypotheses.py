"""How CLs, verdict and reference of one hypothesis changed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.campaign.results import CLS_LABELS
from pytest_pyhf_faas.references.cls_values import close
from pytest_pyhf_faas.report.comparison.changes import Moved, ReferenceChange, VerdictChange
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_pyhf_faas.report.form import Hypothesis


def moved(
    name: str, first: Hypothesis, second: Hypothesis, rtol: float, atol: float
) -> Moved | None:
    """Return how CLs of a hypothesis moved, if it did by more than the tolerance."""
    before, after = _values(first["CLs"]), _values(second["CLs"])
    where = (name, second["patch"], before, after)
    if before is None or after is None:
        vanished = before != after and first["verdict"] == second["verdict"]
        return Moved(*where, CLS_LABELS[0], math.inf, second["verdict"]) if vanished else None
    minima = _other_minima(first, second)
    changes = [
        (_relative(one, other), label)
        for label, one, other in zip(CLS_LABELS, before, after, strict=True)
        if minima or not close(other, one, rtol, atol)
    ]
    if not changes:
        return None
    relative, label = max(changes, key=lambda change: abs(change[0]))
    return Moved(*where, label, relative, second["verdict"], minima)


def verdict_changes(pairs: Iterable[tuple[str, Any, Any]]) -> Iterable[VerdictChange]:
    """Return the hypotheses with another verdict than before."""
    for name, first, second in pairs:
        before, after = first["verdict"], second["verdict"]
        if before == after:
            continue
        change = _severity(after) - _severity(before)
        kind: Literal["worse", "improved", "other"] = "other"
        if change:
            kind = "worse" if change < 0 else "improved"
        yield VerdictChange(name, second["patch"], before, after, kind, second["title"])


def reference_changes(pairs: Iterable[tuple[str, Any, Any]]) -> Iterable[ReferenceChange]:
    """Return the hypotheses with another reference than before."""
    for name, first, second in pairs:
        before, after = first["reference"], second["reference"]
        old, new = _reference_sets(first), _reference_sets(second)
        errors = [each and each["error"] for each in (before, after)]
        if old == new and errors[0] == errors[1] and (before is None) == (after is None):
            continue
        relative = math.inf
        if None not in old and None not in new:
            changes = (
                _relative(*values)
                for both in zip(old, new, strict=True)
                for values in zip(*map(_numbers, both), strict=True)
            )
            relative = max(changes, key=abs)
        yield ReferenceChange(name, second["patch"], before, after, relative)


def _values(cls: Sequence[float | str] | None) -> tuple[float, ...] | None:
    return None if cls is None else _numbers(cls)


def _relative(before: float, after: float) -> float:
    if before == after or (math.isnan(before) and math.isnan(after)):
        return 0.0
    if not before or not math.isfinite(before) or not math.isfinite(after):
        return math.inf
    return (after - before) / abs(before)


def _other_minima(first: Hypothesis, second: Hypothesis) -> tuple[str, str] | None:
    """Return the sets of minima that a hypothesis was and is at, if it went to the other."""
    before, after = (each["minimum_set"] for each in (first, second))
    if before is None or after is None or {before, after} != {"lowest", "nominal"}:
        return None
    return before, after


def _severity(verdict: str) -> int:
    """Return its place; all that are worse than a known issue are equally bad."""
    worse = Verdict.KNOWN_ISSUE.severity - 1
    return max(worse, Verdict(verdict).severity)


def _reference_sets(hypothesis: Hypothesis) -> tuple[Any, ...]:
    """Return the CLs values of a reference at both sets of minima, whichever was compared."""
    ambiguous = hypothesis["ambiguous"]
    if ambiguous:
        return ambiguous["lowest"], ambiguous["nominal"]
    reference = hypothesis["reference"]
    return (reference and reference["CLs"],) * 2


def _numbers(cls: Sequence[float | str]) -> tuple[float, ...]:
    return tuple(float(value) for value in cls)
