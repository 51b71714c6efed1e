"""The results of one hypothesis in many environments: which of them differ."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from pytest_pyhf_faas.report.comparison.hypotheses import (
    agree,
    larger,
    moved,
    own_tolerance,
    values_of,
)
from pytest_pyhf_faas.report.many.result import NO_RUN, Group
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import brief, one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pytest_pyhf_faas.report.comparison.changes import Moved
    from pytest_pyhf_faas.report.form import Hypothesis
    from pytest_pyhf_faas.report.many.matching import Fitted, Row
    from pytest_pyhf_faas.report.quantity import Quantity

#: Parts of messages that vary between errors of one kind.
_NUMBER = re.compile(r"0x[0-9a-f]+|[-+]?\d[\d.]*(e[-+]?\d+)?", re.IGNORECASE)
_MESSAGE = 100
_SETS = ("lowest", "nominal")


class _Value(NamedTuple):
    """What decides whether two results agree."""

    six: tuple[float, ...]
    minima: str
    tolerance: tuple[float, float]


class Values:
    """The six values of a hypothesis in each environment that has them.

    Parameters
    ----------
    row : Row
        The hypothesis in all environments.
    rtol, atol : float or None
        The tolerance for all; ``None``: the larger one of any two that are compared.

    Attributes
    ----------
    differs : dict of int to int
        For each environment, by its place, those that it differs from, as bits.
    """

    def __init__(self, row: Row, rtol: float | None, atol: float | None) -> None:
        self._row = row
        self._asked = rtol, atol
        #: Environments by value, the lowest first: most are the same to the last digit.
        self._same = self._by_value()
        self._places = {value: _bits(those) for value, those in self._same.items()}
        self._away = dict.fromkeys(self._same, 0)
        if row.quantity is not None and not _all_agree(self._same):
            for one, other in combinations(self._same, 2):
                if _differ(row.quantity, one, other):
                    self._away[one] |= self._places[other]
                    self._away[other] |= self._places[one]
        self.differs = {
            place: self._away[value] for value, those in self._same.items() for place in those
        }

    def _by_value(self) -> dict[_Value, dict[int, Fitted]]:
        found: dict[_Value, dict[int, Fitted]] = {}
        for place, fitted in enumerate(self._row.fitted):
            value = None if fitted is None else self._value(fitted)
            if fitted is not None and value is not None:
                found.setdefault(value, {})[place] = fitted
        return {value: found[value] for value in sorted(found, key=_order)}

    def _value(self, fitted: Fitted) -> _Value | None:
        quantity, hypothesis = self._row.quantity, fitted.hypothesis
        six = None if quantity is None else values_of(quantity.obtained(hypothesis))
        if quantity is None or six is None:
            return None
        own = own_tolerance(quantity, fitted.fit_setup, hypothesis)
        rtol, atol = (o if a is None else a for o, a in zip(own, self._asked, strict=True))
        minima = hypothesis["minimum_set"]
        # One object for all values that are not a number, so that they are equal.
        six = tuple(math.nan if math.isnan(each) else each for each in six)
        return _Value(six, minima if minima in _SETS else "", (rtol, atol))

    def change(self, before: int, after: int) -> Moved | None:
        """Return the change from one of some environments to one of others that differs.

        It is the median of all such changes: that of the step, without the
        noise on both sides.
        """
        pairs = [
            (one, other)
            for one, places in self._places.items()
            if places & before
            for other, others in self._places.items()
            if others & after & self._away[one]
        ]
        if not pairs or self._row.quantity is None:
            return None
        one, other = pairs[len(pairs) // 2]
        first, second = self._fitted(one, before), self._fitted(other, after)
        found = moved(
            self._row.quantity,
            self._row.analysis,
            (first.fit_setup, second.fit_setup),
            [(first.hypothesis, second.hypothesis)],
            *self._asked,
        )
        return next(iter(found), None)  # none if only the way back is beyond the tolerance

    def _fitted(self, value: _Value, among: int) -> Fitted:
        those = [each for place, each in self._same[value].items() if among >> place & 1]
        return min(those, key=lambda each: (each.fit_setup, each.hypothesis["verdict"]))

    def groups(self) -> tuple[Group, ...]:
        """Return the environments whose values are linked, those of the lowest value first."""
        left = list(self._same)
        found = []
        while left:
            group = [left.pop(0)]
            for one in group:  # which grows
                near = [other for other in left if not self._places[other] & self._away[one]]
                group += near
                left = [other for other in left if other not in near]
            places = sorted(place for value in group for place in self._same[value])
            observed = [value.six[0] for value in group]
            found.append(Group(tuple(places), min(observed), max(observed)))
        return tuple(found)


def _order(value: _Value) -> tuple[object, ...]:
    return *((not math.isnan(each), 0 if math.isnan(each) else each) for each in value.six), value[
        1:
    ]


def _bits(places: Mapping[int, object]) -> int:
    return sum(1 << place for place in places)


def _differ(quantity: Quantity, one: _Value, other: _Value) -> bool:
    if {one.minima, other.minima} == set(_SETS):
        return True
    tolerance = larger(one.tolerance, other.tolerance)
    if _close_numbers((one, other), tolerance):
        return False
    return not all(
        agree(quantity, first, second, tolerance) and agree(quantity, second, first, tolerance)
        for first, second in zip(one.six, other.six, strict=True)
    )


def _all_agree(values: Collection[_Value]) -> bool:
    """Whether a quick check shows that no two values differ, as is most common."""
    if not values or {each.minima for each in values} >= set(_SETS):
        return not values
    rtols, atols = zip(*(each.tolerance for each in values), strict=True)
    return _close_numbers(values, (min(rtols), min(atols)))


def _close_numbers(values: Collection[_Value], tolerance: tuple[float, float]) -> bool:
    """Whether values are within a tolerance of each other; if not, there are other reasons."""
    rtol, atol = tolerance
    for each in zip(*(value.six for value in values), strict=True):
        least, most = min(each), max(each)
        if not most - least <= atol + rtol * min(abs(least), abs(most)):
            return False
    return True


def verdict_of(fitted: Fitted | None) -> str:
    """Return the verdict of an environment; where it is right at one of two sets, at which."""
    if fitted is None:
        return NO_RUN
    hypothesis = fitted.hypothesis
    minima = hypothesis["minimum_set"]
    right = hypothesis["verdict"] == Verdict.RIGHT.value
    return (
        f"{hypothesis['verdict']} at {minima}"
        if right and minima in _SETS
        else hypothesis["verdict"]
    )


def verdicts_with_errors(row: Row, unfitted: Sequence[str | None]) -> dict[str, int]:
    """Return the verdicts, each kind of error apart, and the environments of each as bits.

    Hypotheses that were not fitted have no verdict to explain, unless nothing was: `unfitted`
    says for each environment why.
    """
    found: dict[str, int] = defaultdict(int)
    for place, fitted in enumerate(row.fitted):
        if fitted is None:
            continue
        why = unfitted[place]
        if Verdict(fitted.hypothesis["verdict"]).is_fitted:
            found[_with_error(fitted.hypothesis)] |= 1 << place
        elif why is not None:
            kind = _kind(why.partition("; ")[0])
            found[f"{fitted.hypothesis['verdict']}: {kind}"] |= 1 << place
    return dict(found)


def _with_error(hypothesis: Hypothesis) -> str:
    verdict, error = hypothesis["verdict"], hypothesis["error"]
    if error is None or Verdict(verdict).agrees:
        return verdict
    kind = error["type"] if error["type"] != verdict else ""
    message = error["message"].strip().partition("\n")[0]
    return ": ".join(filter(None, [verdict, kind, _kind(message)]))


def _kind(message: str) -> str:
    """Return the parts that messages of one kind share."""
    return brief(one_line(_NUMBER.sub("…", message)), _MESSAGE)
