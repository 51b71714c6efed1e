"""Where the time of the workers went.

Each worker's share of a trial is one line from its first moment to its last, and each piece of the
line has one cause. Durations are those of one clock each; only the time before a worker's first
task and after its last depends on the offset of its clock, see `clocks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from pytest_pyhf_faas.campaign.times import Timeline, TimelineTask, Trial

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping, Sequence

    from pytest_pyhf_faas.campaign.clocks import Clocks


@dataclass(frozen=True, slots=True)
class TaskCost:
    """The cost of one task.

    Attributes
    ----------
    analysis : hashable
        The analysis that it belongs to.
    fits : int
        Patches in it.
    worker : str
        Host and process.
    block : str or None
        Name of its block, if known.
    first : bool
        Whether it was this worker's first task ever.
    sent_at, received_at : float
        On the client's clock.
    began_s : float
        On the worker's clock.
    total_s, unpack_s, build_s, fit_s : float
        Seconds on the worker: the total, and its known parts.
    """

    analysis: Hashable
    fits: int
    worker: str
    block: str | None
    first: bool
    sent_at: float
    received_at: float
    began_s: float
    total_s: float
    unpack_s: float
    build_s: float
    fit_s: float

    @property
    def ended_s(self) -> float:
        """Its end on the worker's clock."""
        return self.began_s + self.total_s


class AtOnce(NamedTuple):
    """How many were at work at the same time: at least, and at most, given the clocks."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Crew:
    """The workers and blocks at work, each from its first task to its last.

    Attributes
    ----------
    tasks : int
        The number of their tasks.
    workers : AtOnce
        Worker processes.
    blocks : AtOnce or None
        Their blocks; ``None`` if a worker does not report its block.
    """

    tasks: int
    workers: AtOnce
    blocks: AtOnce | None


@dataclass(frozen=True, slots=True)
class _Shift:
    """All tasks of one worker, by their order, and where they lie in the trial."""

    tasks: tuple[TaskCost, ...]
    begin_s: float
    end_s: float
    uncertainty_s: float


def account(
    tasks: Sequence[TaskCost],
    clocks: Clocks,
    *,
    fits: int,
    workers: int,
    started_at: float,
    ready_at: float | None,
    wall_s: float,
    lost: Mapping[str, int] | None = None,
) -> Trial:
    """Say where the workers' time in a trial went.

    Parameters
    ----------
    tasks : sequence of TaskCost
        Those that were answered.
    clocks : Clocks
        The observed clocks of their workers.
    fits, workers : int
        As asked for.
    started_at, ready_at : float
        When the trial began, and when the engine first answered (``None``: never), on the client's
        clock.
    wall_s : float
        How long the trial took.
    lost : mapping, optional
        See `Trial`.
    """
    lanes = _lanes(_shifts(tasks, clocks, started_at), workers)
    workers = max(workers, len(lanes))
    first_s = min((lane[0].begin_s for lane in lanes), default=wall_s)
    # An engine that was restarted meanwhile has worked before it was ready again.
    ready_s = min(first_s, wall_s if ready_at is None else ready_at - started_at)
    startup_s = min(max(0.0, ready_s), wall_s)
    queue_s = transfer_s = idle_s = 0.0
    for lane in lanes:
        before_s = max(0.0, lane[0].begin_s - startup_s)
        if lane[0].tasks[0].first:
            queue_s += before_s
        else:
            transfer_s += before_s
        transfer_s += sum(_gaps(shift) for shift in lane)
        idle_s += max(0.0, wall_s - lane[-1].end_s)
    absent_s = (workers - len(lanes)) * (wall_s - startup_s)
    if len(tasks) > len(lanes):  # there was work for more workers than there were
        queue_s += absent_s
    else:
        idle_s += absent_s
    total_s, unpack_s, build_s, fit_s = (
        sum(getattr(task, name) for task in tasks)
        for name in ("total_s", "unpack_s", "build_s", "fit_s")
    )
    explained_s = startup_s * workers + queue_s + transfer_s + total_s + idle_s
    waiting = [task.received_at - task.sent_at - task.total_s for task in tasks]
    return Trial(
        fits=fits,
        workers=workers,
        wall_s=wall_s,
        startup_s=startup_s * workers,
        queue_s=queue_s,
        waiting_s=sum(max(0.0, seconds) for seconds in waiting) / max(1, len(waiting)),
        transfer_s=transfer_s,
        unpack_s=unpack_s,
        build_s=build_s,
        fit_s=fit_s,
        overhead_s=total_s - unpack_s - build_s - fit_s,
        idle_s=idle_s,
        unattributed_s=workers * wall_s - explained_s,
        lost=dict(lost or {}),
    )


def timeline(tasks: Sequence[TaskCost], clocks: Clocks) -> Timeline | None:
    """Return what each worker did when, counted from the first task that was sent."""
    if not tasks:
        return None
    started_at = min(task.sent_at for task in tasks)
    shifts = sorted(_shifts(tasks, clocks, started_at), key=lambda shift: shift.begin_s)
    names = tuple(shift.tasks[0].worker for shift in shifts)
    offsets = [clocks.offset(name) for name in names]
    return Timeline(
        seconds=max(task.received_at for task in tasks) - started_at,
        workers=names,
        clock_uncertainty_s=tuple(offset.uncertainty_s for offset in offsets),
        tasks=tuple(
            TimelineTask(
                place,
                task.began_s + offset.seconds - started_at,
                task.ended_s + offset.seconds - started_at,
                task.fits,
            )
            for place, (shift, offset) in enumerate(zip(shifts, offsets, strict=True))
            for task in shift.tasks
        ),
    )


def crew(tasks: Sequence[TaskCost], clocks: Clocks) -> Crew:
    """Return how many workers, and how many blocks of them, were at work at the same time."""
    shifts = _shifts(tasks, clocks, 0.0)
    by_block: dict[str | None, list[_Shift]] = {}
    for shift in shifts:
        by_block.setdefault(shift.tasks[0].block, []).append(shift)
    workers = _at_once([[shift] for shift in shifts])
    return Crew(len(tasks), workers, None if None in by_block else _at_once(by_block.values()))


def _at_once(groups: Iterable[Sequence[_Shift]]) -> AtOnce:
    """Return how many groups were at work at once, each from its first begin to its last end."""
    spans = {
        sign: [
            (
                min(shift.begin_s + sign * shift.uncertainty_s for shift in group),
                max(shift.end_s - sign * shift.uncertainty_s for shift in group),
            )
            for group in groups
        ]
        for sign in (1, -1)
    }
    return AtOnce(_overlapping(spans[1]), _overlapping(spans[-1]))


def _overlapping(spans: Iterable[tuple[float, float]]) -> int:
    """Return how many spans have a moment in common, at most."""
    lasting = [span for span in spans if span[0] <= span[1]]
    return max(
        (sum(begin <= moment <= end for begin, end in lasting) for moment, _end in lasting),
        default=0,
    )


def _shifts(tasks: Sequence[TaskCost], clocks: Clocks, started_at: float) -> list[_Shift]:
    by_worker: dict[str, list[TaskCost]] = {}
    for task in tasks:
        by_worker.setdefault(task.worker, []).append(task)
    shifts = []
    for worker, own in by_worker.items():
        own.sort(key=lambda task: task.began_s)  # answers may come in another order
        offset = clocks.offset(worker)
        here = offset.seconds - started_at
        shifts.append(
            _Shift(tuple(own), own[0].began_s + here, own[-1].ended_s + here, offset.uncertainty_s)
        )
    return shifts


def _lanes(shifts: list[_Shift], workers: int) -> list[list[_Shift]]:
    """Assign the workers to the available places: later ones may replace those that ended."""
    lanes: list[list[_Shift]] = []
    for shift in sorted(shifts, key=lambda shift: shift.begin_s):
        free = min(lanes, key=lambda lane: lane[-1].end_s, default=None)
        if len(lanes) < workers or free is None or free[-1].end_s > shift.begin_s:
            lanes.append([shift])
        else:
            free.append(shift)
    return lanes


def _gaps(shift: _Shift) -> float:
    return sum(after.began_s - before.ended_s for before, after in pairwise(shift.tasks))
