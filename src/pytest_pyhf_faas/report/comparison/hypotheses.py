"""How values, verdict and reference of one hypothesis changed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.report.comparison.changes import (
    MOVED,
    Moved,
    ReferenceChange,
    VerdictChange,
    relative_change,
)
from pytest_pyhf_faas.report.comparison.toys import moved_toys
from pytest_pyhf_faas.report.quantity import CLS
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

    from pytest_pyhf_faas.report.form import Hypothesis
    from pytest_pyhf_faas.report.quantity import Quantity

    #: A hypothesis before and after, with the name and the quantity of its analysis.
    Pair = tuple[str, Quantity | None, Hypothesis, Hypothesis]


def moved(
    quantity: Quantity | None,
    name: str,
    setups: tuple[str, str],
    pairs: Iterable[tuple[Hypothesis, Hypothesis]],
    rtol: float | None,
    atol: float | None,
) -> list[Moved]:
    """Return the hypotheses of an analysis whose values moved by more than `MOVED`.

    Parameters
    ----------
    quantity : Quantity or None
        What the values are; ``None`` for toys, whose tolerance follows from their standard errors,
        and for what has no values.
    name : str
        Of the analysis.
    setups : tuple of str
        Its fit setup before and after.
    pairs : iterable of tuple
        Its hypotheses before and after.
    rtol, atol : float or None
        A value that moved by more fails; ``None``: the hypothesis's own tolerance.
    """
    found: list[Moved] = []
    if quantity is None:
        changes = (moved_toys(name, setups, *pair, rtol, atol) for pair in pairs)
        return [each for each in changes if each is not None]
    for first, second in pairs:
        own = tolerance_of(quantity, setups, first, second)
        tolerance = own[0] if rtol is None else rtol, own[1] if atol is None else atol
        change = _moved(quantity, name, first, second, tolerance)
        found += [] if change is None else [change]
    return found


def tolerance_of(
    quantity: Quantity, setups: tuple[str, str], first: Hypothesis, second: Hypothesis
) -> tuple[float, float]:
    """Return the tolerance of a backend and optimizer: the larger one of two runs.

    It is what the hypothesis was compared with, which comes from its reference file, or else the
    default of the optimizer.
    """
    both = zip(setups, (first, second), strict=True)
    return larger(*(own_tolerance(quantity, setup, each) for setup, each in both))


def own_tolerance(quantity: Quantity, setup: str, hypothesis: Hypothesis) -> tuple[float, float]:
    """Return what a hypothesis was compared with, or else the default of its fit setup."""
    rtol, atol = quantity.tolerance(setup)
    return (
        rtol if hypothesis["rtol"] is None else hypothesis["rtol"],
        atol if hypothesis["atol"] is None else hypothesis["atol"],
    )


def larger(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Return the larger of two tolerances, relative and absolute."""
    return max(one[0], other[0]), max(one[1], other[1])


def verdict_changes(pairs: Iterable[Pair]) -> Iterable[VerdictChange]:
    """Return the hypotheses with another verdict than before."""
    for name, _quantity, first, second in pairs:
        before, after = first["verdict"], second["verdict"]
        if before == after:
            continue
        change = _severity(after) - _severity(before)
        kind: Literal["worse", "improved", "other"] = "other"
        if change:
            kind = "worse" if change < 0 else "improved"
        yield VerdictChange(name, second["patch"], before, after, kind, second["title"])


def reference_changes(pairs: Iterable[Pair], others: Container[str]) -> Iterable[ReferenceChange]:
    """Return the hypotheses with another reference than before.

    Parameters
    ----------
    pairs : iterable of tuple
        The name of an analysis, what it is of, and a hypothesis of it before and after.
    others : container of str
        The names of the analyses with another background.
    """
    for name, quantity, first, second in pairs:
        if quantity is None or (quantity is not CLS and _is_one_sided(quantity, first, second)):
            continue  # a report has other references where there are values alone
        before, after = _reference(quantity, first), _reference(quantity, second)
        old, new = _reference_sets(quantity, first), _reference_sets(quantity, second)
        errors = [each and each["error"] for each in (before, after)]
        if old == new and errors[0] == errors[1] and (before is None) == (after is None):
            continue
        relative = math.inf
        if None not in old and None not in new:
            changes = (
                relative_change(*values)
                for both in zip(old, new, strict=True)
                for values in zip(*map(_numbers, both), strict=True)
            )
            relative = max(changes, key=abs)
        yield ReferenceChange(name, second["patch"], before, after, relative, name in others)


def is_one_sided(pair: Pair) -> bool:
    """Whether a hypothesis has values in only one of two runs."""
    _name, quantity, first, second = pair
    if quantity is None:
        return (first.get("toys") is None) != (second.get("toys") is None)
    return _is_one_sided(quantity, first, second)


def _is_one_sided(quantity: Quantity, first: Hypothesis, second: Hypothesis) -> bool:
    return (quantity.obtained(first) is None) != (quantity.obtained(second) is None)


def _moved(
    quantity: Quantity,
    name: str,
    first: Hypothesis,
    second: Hypothesis,
    tolerance: tuple[float, float],
) -> Moved | None:
    before, after = values_of(quantity.obtained(first)), values_of(quantity.obtained(second))
    where = (quantity.name, name, second["patch"], before, after)
    verdict = second["verdict"]
    if before is None or after is None:
        vanished = before != after and first["verdict"] == verdict
        observed = quantity.labels[0]
        return Moved(*where, observed, math.inf, verdict, *tolerance, True) if vanished else None
    minima = _other_minima(first, second)
    least = min(MOVED[0], tolerance[0]), min(MOVED[1], tolerance[1])
    values = list(zip(quantity.labels, before, after, strict=True))
    changes = [
        (relative_change(one, other), label)
        for label, one, other in values
        if minima or not agree(quantity, one, other, least)
    ]
    if not changes:
        return None
    fails = minima is not None or not all(
        agree(quantity, one, other, tolerance) for _label, one, other in values
    )
    relative, label = max(changes, key=lambda change: abs(change[0]))
    return Moved(*where, label, relative, verdict, *tolerance, fails, minima)


def agree(quantity: Quantity, before: float, after: float, tolerance: tuple[float, float]) -> bool:
    """Whether a value has not moved by more than a tolerance; two that are no numbers are equal."""
    both_nan = math.isnan(before) and math.isnan(after)
    return both_nan or quantity.close(after, before, *tolerance)


def values_of(cls: Sequence[float | str] | None) -> tuple[float, ...] | None:
    """Return values as numbers, if there are any."""
    return None if cls is None else _numbers(cls)


def _other_minima(first: Hypothesis, second: Hypothesis) -> tuple[str, str] | None:
    """Return the sets of minima that a hypothesis was and is at, if it went to the other."""
    before, after = (each["minimum_set"] for each in (first, second))
    if before is None or after is None or {before, after} != {"lowest", "nominal"}:
        return None
    return before, after


def _severity(verdict: str) -> int:
    """Return its rank; all verdicts worse than a known issue are equally bad."""
    worse = Verdict.KNOWN_ISSUE.severity - 1
    return max(worse, Verdict(verdict).severity)


def _reference(quantity: Quantity, hypothesis: Hypothesis) -> dict[str, Any] | None:
    """Return the values or the error of a reference."""
    reference = hypothesis["reference"]
    if reference is None:
        return None
    return {quantity.stem: quantity.reference(hypothesis), "error": reference["error"]}


def _reference_sets(quantity: Quantity, hypothesis: Hypothesis) -> tuple[Any, ...]:
    """Return the values of a reference at both sets of minima."""
    ambiguous = hypothesis["ambiguous"]
    if ambiguous and quantity is CLS:
        return ambiguous["lowest"], ambiguous["nominal"]
    return (quantity.reference(hypothesis),) * 2


def _numbers(cls: Sequence[float | str]) -> tuple[float, ...]:
    return tuple(float(value) for value in cls)
