"""How many runs differ, and what explains it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.report.comparison.changes import json_able
from pytest_pyhf_faas.report.many.attribution import ABSENT
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import NOTHING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.report.comparison.changes import Moved, Run
    from pytest_pyhf_faas.report.many.attribution import Step

#: The verdict where an environment has no result for a hypothesis.
NO_RUN = "no run"


def plain(verdict: str) -> Verdict:
    """Return a verdict without the minima that it is right at."""
    return Verdict(verdict.partition(" at ")[0])


@dataclass(frozen=True, slots=True)
class Noise:
    """What moved from the first run by less than the tolerance, and more than the absolute one.

    Attributes
    ----------
    count : int
        Of hypotheses.
    median, largest : float
        Of their largest relative changes.
    """

    count: int
    median: float
    largest: float


@dataclass(frozen=True, slots=True)
class Environment:
    """An environment, and its run as a whole.

    Attributes
    ----------
    factors : mapping of str to str
        Its factors, by name.
    is_known : bool
        Whether these are complete.
    reason : str or None
        Why it has no run, no finished run, or no result.
    run : Run or None
        The run in it.
    verdicts : mapping of str to int
        How many hypotheses have each.
    moved : int
        How many moved from the first run by more than their tolerance.
    noise : Noise or None
        What else moved.
    fit_s : float or None
        Median of the seconds of a fit.
    fit_ratio : float or None
        Median of their ratio to those of the first run, over the hypotheses that both have.
    status : int
        The exit status of its comparison with the first run; 0 where there is none.
    """

    name: str
    factors: Mapping[str, str]
    is_known: bool
    reason: str | None
    run: Run | None
    verdicts: Mapping[str, int]
    moved: int
    noise: Noise | None
    fit_s: float | None
    fit_ratio: float | None
    status: int

    @property
    def has_results(self) -> bool:
        """Whether any of its hypotheses was fitted."""
        return any(plain(each).is_fitted for each in self.verdicts)

    def value(self, factor: str) -> str:
        """Return the value of a factor, or a word where it is unknown or absent."""
        return self.factors.get(factor, ABSENT if self.is_known else NOTHING)


@dataclass(frozen=True, slots=True)
class Group:
    """Environments, by their places, whose values are linked by steps within the tolerance.

    Attributes
    ----------
    lowest, highest : float
        Of their observed values.
    """

    environments: tuple[int, ...]
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A hypothesis in all environments.

    Attributes
    ----------
    quantity : str or None
        What its six values are, if it has six.
    verdicts : tuple of str
        The verdict in each environment.
    groups : tuple of Group
        Of values that agree, the lowest first; one that spans more than the tolerance is a drift.
    moved : tuple of int
        The environments, by their places, whose values differ from those of the first one.
    """

    analysis: str
    patch: str
    quantity: str | None
    verdicts: tuple[str, ...]
    groups: tuple[Group, ...]
    moved: tuple[int, ...]

    @property
    def differs(self) -> bool:
        """Whether its environments do not all agree on it."""
        return len(self.groups) > 1 or len(set(self.verdicts) - {NO_RUN}) > 1


@dataclass(frozen=True, slots=True)
class Shift:
    """Hypotheses whose values differ at both sides of a step.

    Attributes
    ----------
    step : Step or None
        ``None`` where neither one factor nor one pair explains it.
    hypotheses : tuple of tuple
        Analysis and patch of each.
    largest : Moved
        The one that moved most, from a typical run before the step to one after it.
    without_ratio : int
        How many moved from 0, or to or from a value that is not a number; `largest` is one of these
        only if there are no others.
    """

    step: Step | None
    hypotheses: tuple[tuple[str, str], ...]
    largest: Moved
    without_ratio: int


@dataclass(frozen=True, slots=True)
class VerdictShift:
    """Hypotheses with another verdict at both sides of a step.

    Attributes
    ----------
    step : Step or None
        ``None`` where neither one factor nor one pair explains it; `before` and `after` are then
        the verdicts that there are.
    hypotheses : tuple of tuple
        Analysis and patch of each.
    """

    step: Step | None
    before: str
    after: str
    hypotheses: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Many:
    """How many runs differ from the first of them.

    Attributes
    ----------
    environments : tuple of Environment
        The first one is the base.
    factors : tuple of str
        The names of the factors that differ.
    hypotheses : tuple of Hypothesis
        All of them.
    shifts : tuple of Shift
        Of values, that which moved most hypotheses first; those that nothing explains last.
    verdicts : tuple of VerdictShift
        Of verdicts, likewise.
    """

    environments: tuple[Environment, ...]
    factors: tuple[str, ...]
    hypotheses: tuple[Hypothesis, ...]
    shifts: tuple[Shift, ...]
    verdicts: tuple[VerdictShift, ...]

    @property
    def with_results(self) -> list[Environment]:
        """The environments that have any result."""
        return [each for each in self.environments if each.has_results]

    @property
    def status(self) -> int:
        """The exit status: 1 if a run is worse than the first one, else 0.

        See `Changes.status`; 1 as well if the first run, or all others, have no result. That an
        environment has no run is no reason by itself.
        """
        compared = len(self.with_results) > 1 and self.environments[0].has_results
        return max(each.status for each in self.environments) if compared else 1

    def to_json(self) -> dict[str, Any]:
        """Return all of it as JSON-able values, the exit status among them."""
        found: dict[str, Any] = json_able({"status": self.status, **asdict(self)})
        return found
