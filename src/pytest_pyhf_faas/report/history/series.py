"""The runs of one analysis in the order of time, and what changed between them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast

from pytest_pyhf_faas.campaign.results import environment_differences
from pytest_pyhf_faas.report.comparison.hypotheses import moved, verdict_changes
from pytest_pyhf_faas.report.comparison.wall_times import wall_time_change
from pytest_pyhf_faas.report.history.points import OWN, facts_of, timing_facts_of
from pytest_pyhf_faas.report.quantity import quantity_of
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_pyhf_faas.report.comparison.changes import Moved, VerdictChange, WallTimeChange
    from pytest_pyhf_faas.report.form import Analysis, Hypothesis
    from pytest_pyhf_faas.report.history.points import Conditions, Key, Point

#: The packages whose versions come first.
_FIRST = ("pyhf", "numpy", "scipy", OWN)
#: The share of series without any change of a wall time for which chance may report one.
_FALSE_ALARMS = 0.05
#: Of a hypothesis, what the next run is compared with; the rest would fill the memory.
_KEPT = (
    *("patch", "test", "verdict", "title", "CLs", "limits", "toys", "minimum_set", "rtol", "atol"),
    *("digest", "reference", "ambiguous"),
)


class Shift(NamedTuple):
    """A version, or another fact, that changed."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"{self.name} {self.before} → {self.after}"


@dataclass(frozen=True, slots=True)
class Change:
    """Hypotheses of a run that changed since the last run that fitted them.

    Attributes
    ----------
    before, after : Point
        The two runs; there may be others in between that did not fit these hypotheses.
    shifts : tuple of Shift
        How the two runs differ.
    moved : tuple of Moved
        Values that moved by more than the tolerance, under the same verdict.
    """

    before: Point
    after: Point
    shifts: tuple[Shift, ...]
    verdicts: tuple[VerdictChange, ...]
    moved: tuple[Moved, ...]


@dataclass(frozen=True, slots=True)
class TimeChange:
    """A wall time that changed since the last run under the same conditions."""

    before: Point
    after: Point
    shifts: tuple[Shift, ...]
    times: WallTimeChange


@dataclass(frozen=True, slots=True)
class Pace:
    """What can be concluded about the wall times of a series.

    Attributes
    ----------
    steps : tuple of TimeChange
        Where something changed and the wall time with it, beyond what chance explains: see
        `Series.pace`.
    scatter : float or None
        The largest ratio of two neighbours between which nothing changed, at least 1; ``None``
        where there are none.
    quiet : int
        How many such neighbours there are.
    changed : int
        Between how many neighbours something changed, of which the spread is known.
    unknown : int
        The same of those with a single trial before or after, so that it is not known.
    """

    steps: tuple[TimeChange, ...]
    scatter: float | None
    quiet: int
    changed: int
    unknown: int


@dataclass(slots=True)
class Series:
    """The runs of one analysis, which are added in the order of time."""

    key: Key
    points: list[Point] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    #: Each hypothesis in the last run that fitted it.
    _last: dict[tuple[str, str], tuple[Point, Hypothesis]] = field(default_factory=dict)

    def add(self, point: Point, analysis: Analysis | None = None) -> None:
        """Add the next run, and compare its hypotheses with what they were."""
        self.points.append(point)
        if analysis is not None:
            self.changes += self._changes(point, analysis)

    @property
    def shifts(self) -> list[tuple[Shift, ...]]:
        """For each point, what changed since the last run that reported it."""
        known: dict[str, str] = {}
        found = []
        for point in self.points:
            facts = facts_of(point)
            found.append(_shifts(known, facts))
            known |= facts
        return found

    @property
    def pace(self) -> Pace:
        """What can be concluded about the wall times.

        A step is reported where something changed that may change a time, and all of this holds:

        - the means differ by more than two standard errors, as where two runs are compared;
        - by Welch's test, chance gives so large a difference in less than 5 % of series, however
          many changes these have (Bonferroni's correction);
        - the ratio is larger than that of any neighbours between which nothing changed, since runs
          differ by more than the trials of one.
        """
        changes = [
            TimeChange(
                before,
                after,
                _shifts(timing_facts_of(before), timing_facts_of(after)),
                wall_time_change(self.key.pallet, before.wall_time, after.wall_time, None),
            )
            for before, after in _comparable(self.points)
            if before.wall_time is not None and after.wall_time is not None
        ]
        scatter = [_size(each.times.ratio) for each in changes if not each.shifts]
        changed = [each for each in changes if each.shifts]
        known = [each for each in changed if each.times.beyond_spread is not None]
        return Pace(
            steps=tuple(
                each
                for each in known
                if each.times.beyond_spread
                and _chance(each.times) * len(known) < _FALSE_ALARMS
                and _size(each.times.ratio) > max(scatter, default=1.0)
            ),
            scatter=max(scatter, default=None),
            quiet=len(scatter),
            changed=len(known),
            unknown=len(changed) - len(known),
        )

    @property
    def judged(self) -> Point | None:
        """The last run that has verdicts."""
        return next((each for each in reversed(self.points) if each.verdicts), None)

    def _changes(self, point: Point, analysis: Analysis) -> Iterable[Change]:
        quantity = quantity_of(analysis)
        pairs: dict[str, tuple[Point, list[tuple[Hypothesis, Hypothesis]]]] = {}
        for each in analysis["hypotheses"]:
            if not Verdict(each["verdict"]).is_fitted:
                continue
            name = each["patch"], each["test"]
            now = cast("Hypothesis", {part: each[part] for part in _KEPT if part in each})  # type: ignore[literal-required]
            if name in self._last:
                before, then = self._last[name]
                pairs.setdefault(before.run, (before, []))[1].append((then, now))
            self._last[name] = point, now
        setups = (analysis["fit_setup"],) * 2
        for before, those in pairs.values():
            named = [(self.key.pallet, quantity, *pair) for pair in those]
            verdicts = tuple(verdict_changes(named))
            others = {each.patch for each in verdicts}
            far = tuple(
                each
                for each in moved(quantity, self.key.pallet, setups, those, None, None)
                if each.fails and each.patch not in others
            )
            if verdicts or far:
                shifts = _shifts(facts_of(before), facts_of(point))
                yield Change(before, point, shifts, verdicts, far)


def _shifts(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Shift, ...]:
    """Return what both know and differs, versions of pyhf and its dependencies first."""
    found = [
        Shift(name, str(old), str(new)) for name, old, new in environment_differences(before, after)
    ]
    return tuple(
        sorted(found, key=lambda each: _FIRST.index(each.name) if each.name in _FIRST else 99)
    )


def _comparable(points: Sequence[Point]) -> Iterable[tuple[Point, Point]]:
    """Return each measured run with the one before it under the same conditions.

    A run that lost something does not show the time of a healthy endpoint.
    """
    last: dict[Conditions, Point] = {}
    for point in points:
        if point.wall_time is None or point.wall_time.lost or not point.workers.cpus:
            continue
        if point.conditions in last:
            yield last[point.conditions], point
        last[point.conditions] = point


def _chance(times: WallTimeChange) -> float:
    """Return how often chance alone gives means that differ by so much, by Welch's test."""
    from scipy.special import stdtr

    before, after = times.before, times.after
    squares = [(each.stdev_s or 0.0) ** 2 / each.trials for each in (before, after)]
    if not sum(squares):
        return 1.0 if before.mean_s == after.mean_s else 0.0
    distance = abs(after.mean_s - before.mean_s) / math.sqrt(sum(squares))
    freedom = sum(squares) ** 2 / sum(
        square**2 / (each.trials - 1) for square, each in zip(squares, (before, after), strict=True)
    )
    return 2 * float(stdtr(freedom, -distance))


def _size(ratio: float | None) -> float:
    """Return a ratio as a number of at least 1, in either direction."""
    if not ratio:
        return math.inf
    return max(ratio, 1 / ratio)
