"""What can change between two runs, and which changes are failures."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.campaign.results import json_number

if TYPE_CHECKING:
    from collections.abc import Mapping

#: A value moved if it changed by more than this, relative and absolute: more than rounding.
MOVED = (1e-6, 1e-8)
#: A single fit is listed if it took this many times as long, and this many seconds longer.
SLOW_FIT = (2.0, 1.0)


@dataclass(frozen=True, slots=True)
class Run:
    """One of the two runs."""

    id: str
    began_at: str
    package: str
    interrupted: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between the two runs, their machines or their inputs."""

    where: str
    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Moved:
    """A hypothesis with values that moved, or with fits that are at other minima than before.

    Attributes
    ----------
    quantity : str
        What they are: "CLs", "upper limits" or "toys", which is CLs from toys.
    before, after : tuple of float, shape (6,), or None
        The observed one first; ``None`` where there were none.
    value : str
        Which of the six moved most, relative to what it was.
    relative : float
        By how much; infinite where it is no number, was 0, or is not there.
    verdict : str
        The verdict of the later run.
    rtol, atol : float
        How far the backend and optimizer of the two runs may differ, or what was asked for; of toys
        `atol` follows from the standard errors of both.
    fails : bool
        Whether it moved by more than that, came or went, or is at other minima.
    minima : tuple of str or None
        At which set of minima it was and is, where it went from the lowest to the nominal ones or
        back.
    """

    quantity: str
    analysis: str
    patch: str
    before: tuple[float, ...] | None
    after: tuple[float, ...] | None
    value: str
    relative: float
    verdict: str
    rtol: float
    atol: float
    fails: bool
    minima: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class VerdictChange:
    """A hypothesis with another verdict than before, and the line that says why."""

    analysis: str
    patch: str
    before: str
    after: str
    kind: Literal["worse", "improved", "other"]
    title: str


@dataclass(frozen=True, slots=True)
class ReferenceChange:
    """A hypothesis that was compared with another reference than before.

    Attributes
    ----------
    before, after : mapping or None
        The error of the reference, and its values: `CLs`, or of upper limits `limit`.
    relative : float
        Largest relative difference of its values; infinite where there are none in one run.
    background : bool
        Whether the background, and so the model, is another one as well.
    """

    analysis: str
    patch: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    relative: float
    background: bool = False


@dataclass(frozen=True, slots=True)
class OnlyIn:
    """Hypotheses of an analysis that are in one run only; `whole`: the other has none of it."""

    analysis: str
    whole: bool
    patches: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WallTimes:
    """The wall time of an analysis in one run; the standard deviation of a single trial is None."""

    trials: int
    fits: int
    workers: int
    mean_s: float
    stdev_s: float | None
    fit_s: float


@dataclass(frozen=True, slots=True)
class WallTimeChange:
    """How the wall time of an analysis changed.

    Attributes
    ----------
    ratio : float or None
        After to before; ``None`` where not the same number of hypotheses was fitted.
    fit_ratio : float or None
        The same of the sum of the fits' own seconds: where it is near 1 and `ratio` is not, the
        change is not in the fits.
    beyond_spread : bool or None
        Whether the means differ by more than two standard errors; ``None`` where a run has one
        trial, so that the spread is not known.
    slower : bool
        Whether it is slower than allowed, see `compare_runs`.
    """

    analysis: str
    before: WallTimes
    after: WallTimes
    ratio: float | None
    fit_ratio: float | None
    beyond_spread: bool | None
    slower: bool


@dataclass(frozen=True, slots=True)
class SlowFit:
    """A single fit that took more than twice as long as before, and a second longer."""

    patch: str
    before_s: float
    after_s: float


@dataclass(frozen=True, slots=True)
class FitTimes:
    """The fits of an analysis that both runs have: median of their ratios, and the slow ones."""

    analysis: str
    fits: int
    median_ratio: float
    slow: tuple[SlowFit, ...]


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed from one run to another.

    Attributes
    ----------
    rtol, atol : float or None
        The tolerance that was asked for; ``None`` where each hypothesis has its own.
    compared : int
        How many hypotheses both runs have; one of which several quantities were calculated counts
        for each.
    quantities : mapping of str to int
        The same, by what was calculated.
    one_sided : int
        How many of them have values in one run alone.
    differences : tuple of Difference
        Of endpoints, environments, configurations, backgrounds and the making of references.
    moved : tuple of Moved
        Those that fail first, and of them the largest relative change.
    """

    before: Run
    after: Run
    rtol: float | None
    atol: float | None
    compared: int
    quantities: Mapping[str, int]
    one_sided: int
    differences: tuple[Difference, ...]
    moved: tuple[Moved, ...]
    verdicts: tuple[VerdictChange, ...]
    references: tuple[ReferenceChange, ...]
    only_before: tuple[OnlyIn, ...]
    only_after: tuple[OnlyIn, ...]
    wall_times: tuple[WallTimeChange, ...]
    fit_times: tuple[FitTimes, ...]

    @property
    def status(self) -> int:
        """The exit status: 1 if the later run is worse than the earlier one, else 0.

        That is so where a value moved by more than its backend and optimizer may differ, or
        fits are at other minima, a verdict changed without getting better, an analysis is slower
        than allowed, or the runs have hypotheses, but none in common. What differs between their
        environments, references that changed, verdicts that got better, and hypotheses that one run
        alone has, are no reason by themselves.
        """
        failed = (
            any(each.fails for each in self.moved)
            or any(change.kind != "improved" for change in self.verdicts)
            or any(change.slower for change in self.wall_times)
            or (not self.compared and (self.only_before or self.only_after))
        )
        return 1 if failed else 0

    @property
    def wall_time_ratio(self) -> float | None:
        """The wall time of all analyses that can be compared, over what it was before."""
        timed = [change for change in self.wall_times if change.ratio is not None]
        before, after = (
            sum(getattr(change, side).mean_s for change in timed) for side in ("before", "after")
        )
        return ratio_of(before, after) if timed else None

    def to_json(self) -> dict[str, Any]:
        """Return the changes as JSON-able values, the exit status among them."""
        return {"status": self.status, **json_able(asdict(self))}


def ratio_of(before: float, after: float) -> float:
    """Return after over before; 1 where both are 0."""
    return 1.0 if before == after else after / before if before else math.inf


def relative_change(before: float, after: float) -> float:
    """Return the change of a value relative to what it was; infinite where that is no number."""
    if before == after or (math.isnan(before) and math.isnan(after)):
        return 0.0
    if not before or not math.isfinite(before) or not math.isfinite(after):
        return math.inf
    return (after - before) / abs(before)


def json_able(value: Any) -> Any:
    """Return values as JSON has them: a list for a tuple, words for numbers that it lacks."""
    if isinstance(value, dict):
        return {name: json_able(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_able(each) for each in value]
    return json_number(value) if isinstance(value, float) else value
