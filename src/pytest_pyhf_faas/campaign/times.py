"""Where the time of an analysis went: trials, timelines and wall times."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pytest_pyhf_faas.campaign.results import json_number

if TYPE_CHECKING:
    from collections.abc import Mapping

#: The parts of the workers' time, as `Trial` has them with ``_s``.
PARTS = (
    "fit",
    "build",
    "unpack",
    "transfer",
    "overhead",
    "startup",
    "queue",
    "idle",
    "unattributed",
)


@dataclass(frozen=True, slots=True)
class Trial:
    """One measured pass over an analysis; all in seconds.

    The `PARTS` are worker seconds and add up to ``workers * wall_s``. Durations are taken on one
    clock each: those of a worker on the worker's, the others on the client's.

    Attributes
    ----------
    wall_s : float
        From the first submission to the last result, on the client's clock.
    workers : int
        The number asked for, or more if there were more.
    startup_s : float
        Until the engine answered for the first time, times the workers; 0 where it was up already.
    queue_s : float
        From then on until a worker began its first task ever: its block was pending, or it began.
    waiting_s : float
        Mean time of a task on its way and in queues; no part of the sum.
    transfer_s : float
        The time on a worker between two of its tasks.
    overhead_s : float
        The time in a task outside unpacking, building and fitting.
    idle_s : float
        Workers without work at the end.
    unattributed_s : float
        The rest: fits that were lost with their worker, and what is not known
        of clocks.
    lost : mapping
        How many fits were sent again meanwhile, by what was lost: blocks, workers or the engine.
    """

    fits: int
    workers: int
    wall_s: float
    startup_s: float
    queue_s: float
    waiting_s: float
    transfer_s: float
    unpack_s: float
    build_s: float
    fit_s: float
    overhead_s: float
    idle_s: float
    unattributed_s: float
    lost: Mapping[str, int] = field(default_factory=dict)

    @property
    def speed_up(self) -> float:
        """How many times faster than one worker that does nothing but fit."""
        return self.fit_s / self.wall_s if self.wall_s > 0 else math.nan

    @property
    def efficiency(self) -> float:
        """Share of the workers' time that went into fits."""
        return self.speed_up / self.workers

    def to_json(self) -> dict[str, Any]:
        """Return the trial as JSON-able values, speed-up and efficiency among them."""
        return {
            **asdict(self),
            "speed_up": json_number(self.speed_up),
            "efficiency": json_number(self.efficiency),
        }


class TimelineTask(NamedTuple):
    """When a task ran on the client's clock: place of its worker, begin, end, fits in it."""

    worker: int
    begin_s: float
    end_s: float
    fits: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """What each worker did when, on the client's clock, as far as known."""

    seconds: float
    workers: tuple[str, ...]
    clock_uncertainty_s: tuple[float, ...]
    tasks: tuple[TimelineTask, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the timeline as JSON-able values."""
        return {
            "seconds": round(self.seconds, 6),
            "workers": [
                {"worker": worker, "clock_uncertainty_s": round(uncertainty_s, 6)}
                for worker, uncertainty_s in zip(
                    self.workers, self.clock_uncertainty_s, strict=True
                )
            ],
            "tasks": [
                [task.worker, round(task.begin_s, 6), round(task.end_s, 6), task.fits]
                for task in self.tasks
            ],
        }


@dataclass(frozen=True, slots=True)
class WallTime:
    """The wall time of an analysis over its trials, and the timeline of the last.

    Attributes
    ----------
    analysis : str
        The name of the pallet.
    endpoint : str
        Where it was fitted.
    trials : tuple of Trial
        The measurements.
    timeline : Timeline or None
        What each worker did in the last of them.
    """

    analysis: str
    endpoint: str
    trials: tuple[Trial, ...]
    timeline: Timeline | None = None

    @property
    def last(self) -> Trial:
        """The trial whose results are compared."""
        return self.trials[-1]

    @property
    def lost(self) -> list[str]:
        """The losses in all trials, such as "block lost"."""
        return sorted({what for trial in self.trials for what in trial.lost})

    @property
    def mean_s(self) -> float:
        """Mean wall time."""
        return fmean(trial.wall_s for trial in self.trials)

    @property
    def stdev_s(self) -> float | None:
        """Sample standard deviation of the wall time; ``None`` for a single trial."""
        if len(self.trials) < 2:  # noqa: PLR2004
            return None
        return stdev(trial.wall_s for trial in self.trials)

    def mean_of(self, name: str) -> float:
        """Mean over the trials of one of the figures of `Trial`."""
        return fmean(getattr(trial, name) for trial in self.trials)


@dataclass(frozen=True, slots=True)
class NotMeasured:
    """No wall time, and why; falsy, unlike a wall time."""

    reason: str

    def __bool__(self) -> Literal[False]:
        return False
