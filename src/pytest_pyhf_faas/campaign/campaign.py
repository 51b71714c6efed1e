"""The fits of one endpoint: each task once, and none lost.

This is what callers see. The `state` decides what is sent when, and how a fit that failed
goes on; the `loop` does it on the engine. Callers get one future for each fit, which always
ends with a `HypotestResult`; what went wrong is in its status.
"""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import Future
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from pytest_pyhf_faas.campaign.accounting import TaskCost, account, crew, timeline
from pytest_pyhf_faas.campaign.clocks import Clocks
from pytest_pyhf_faas.campaign.events import EngineUnusable, Fit, FoundSent, Submitted, WoundDown
from pytest_pyhf_faas.campaign.loop import TICK_S, Loop
from pytest_pyhf_faas.campaign.policy import Policy
from pytest_pyhf_faas.campaign.progress import Progress, Tally
from pytest_pyhf_faas.campaign.results import ENGINE, FitError, HypotestResult
from pytest_pyhf_faas.campaign.watch import QUIET_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_pyhf_faas.campaign.accounting import Crew
    from pytest_pyhf_faas.campaign.answers import Answer
    from pytest_pyhf_faas.campaign.log import Record
    from pytest_pyhf_faas.campaign.sendings import Sendings
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.campaign.times import Timeline, Trial
    from pytest_pyhf_faas.engines.base import Engine

_Value = TypeVar("_Value")


class Campaign:
    """The fits of one endpoint.

    Parameters
    ----------
    engine : Engine
        Where the fits run; the campaign starts, restarts and stops it.
    policy : Policy, optional
        Time limit, retries, and how patient it is.
    expected_s : callable, optional
        Seconds that a task's fit took elsewhere, or ``None``: the longest are sent first.
    relative_s : callable, optional
        The same with another fit setup, for tasks whose own time is unknown.
    is_failure : callable, optional
        Whether progress counts a result as failed: an exception may be the right answer.
    on_result : callable, optional
        Called in the campaign's thread with each result as it arrives, before its future ends.
    on_record : callable, optional
        Called in the campaign's thread with each record of its log and its moment.
    clocks : Clocks, optional
        What is known about the workers' clocks; it is extended.
    clock : callable, optional
        The client's monotonic clock, in seconds.
    """

    def __init__(
        self,
        engine: Engine,
        policy: Policy | None = None,
        *,
        expected_s: Callable[[Task], float | None] = lambda _task: None,
        relative_s: Callable[[Task], float | None] = lambda _task: None,
        is_failure: Callable[[Task, HypotestResult], bool] = lambda _, result: (
            result.status != "ok"
        ),
        on_result: Callable[[HypotestResult], None] = lambda _result: None,
        on_record: Callable[[float, Record], None] | None = None,
        clocks: Clocks | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self.clocks = clocks or Clocks()
        #: The exception of a callback, for the end of the run; the fits went on.
        self.problem: str | None = None
        self._expected_s = expected_s
        self._relative_s = relative_s
        self._is_failure = is_failure
        self._on_result = on_result
        self._on_record = on_record
        self._clock = clock
        self._tasks: dict[str, Task] = {}
        self._futures: dict[str, Future[HypotestResult]] = {}
        self._tally = Tally()
        self._costs: list[TaskCost] = []
        self._loop = self._make_loop(policy or Policy())
        self._lock = self._loop.lock
        self._all_done = threading.Condition(self._lock)

    def _make_loop(self, policy: Policy) -> Loop:
        return Loop(self.engine, policy, self._tasks, self, self._clock)

    # For callers

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue the tasks that are not known yet."""
        fits = self._begin(tasks)
        if fits:
            self._loop.ask(lambda: Submitted(fits))

    def collect(self, reference: str, tasks: Iterable[Task]) -> None:
        """Await calls that an earlier session sent, instead of sending the tasks.

        Parameters
        ----------
        reference : str
            The reference under which the engine accepted them.
        tasks : iterable of Task
            All or some of those that were sent with it.
        """
        fits = self._begin(tasks)
        if fits:
            self._loop.ask(lambda: FoundSent(reference, fits))

    def _begin(self, tasks: Iterable[Task]) -> tuple[Fit, ...]:
        """Register new tasks; return the fits to do."""
        groups: dict[tuple[int, int, HypotestConfig], tuple[str, str]] = {}
        new: dict[str, Task] = {}
        for task in tasks:
            if task.key not in self._futures:
                new.setdefault(task.key, task)  # of tasks with equal content, the first is fitted
        # Before anything is registered, and without the lock: looking up a time may take long,
        # and may fail.
        fits = {key: self._fit(task, groups) for key, task in new.items()}
        with self._lock:
            for key in fits.keys() & self._futures.keys():  # another thread was faster
                del fits[key]
            for key in fits:
                self._tasks[key] = new[key]
                self._futures[key] = _future()
            self._tally.add(len(fits), self._clock())
        return tuple(fits.values())

    def _fit(
        self, task: Task, groups: dict[tuple[int, int, HypotestConfig], tuple[str, str]]
    ) -> Fit:
        kind = id(task.pallet), id(task.pool), task.config
        if kind not in groups:
            digest = task.pallet.digest
            content = f"{task.pallet.name} {digest} {task.config!r} {task.pool.sha256}"
            family = f"{digest[:16]} {task.config.fit_setup}"
            groups[kind] = hashlib.sha256(content.encode()).hexdigest()[:16], family
        name = f"{task.pallet.name}/{task.patch.name}"
        expected_s = self._expected_s(task)
        if expected_s is not None:
            return Fit(task.key, *groups[kind], expected_s, name)
        return Fit(task.key, *groups[kind], self._relative_s(task), name, is_relative=True)

    def __contains__(self, task: Task) -> bool:
        return task.key in self._futures

    def result(self, task: Task) -> Future[HypotestResult]:
        """Return the future of a task that was submitted or adopted, or of one of equal content.

        Its result has the names of this task.
        """
        own = _future()
        self._futures[task.key].add_done_callback(
            lambda shared: own.set_result(shared.result().of(task))
        )
        return own

    @property
    def results(self) -> list[HypotestResult]:
        """The results of the fits so far, adopted ones included."""
        with self._lock:
            return [future.result() for future in self._futures.values() if future.done()]

    def adopt(self, task: Task, result: HypotestResult) -> None:
        """Take a result from an earlier run instead of fitting."""
        future = _future()
        future.set_result(result)
        with self._lock:
            self._futures[task.key] = future

    def expect(self, coming: int) -> None:
        """Record how many more tasks will be submitted, for the progress."""
        with self._lock:
            self._tally.expect(coming, self._clock())

    def forget(self, task: Task) -> None:
        """Forget a finished task, so that a campaign of many keeps only those still needed."""
        with self._lock:
            self._futures.pop(task.key, None)
            self._tasks.pop(task.key, None)

    def drain(self, on_tick: Callable[[], None] = lambda: None) -> None:
        """Wait until nothing is queued or in flight; ``on_tick`` is called now and then."""
        while True:
            with self._lock:
                if self._all_done.wait_for(lambda: self._tally.all_done, TICK_S):
                    return
            on_tick()

    def measure(self, tasks: Sequence[Task], on_tick: Callable[[], None] = lambda: None) -> Trial:
        """Fit all tasks again, with nothing else on the engine, and return where the time went."""
        self.drain(on_tick)
        measured = {(task.pallet.name, task.config) for task in tasks}
        with self._lock:
            for task in tasks:
                self._futures.pop(task.key, None)
            self._costs = [cost for cost in self._costs if cost.analysis not in measured]
        self.engine.start()
        started, lost_before = self._clock(), self.sendings.lost
        self.submit(tasks)
        self.drain(on_tick)
        return account(
            [cost for cost in self._costs if cost.analysis in measured],
            self.clocks,
            fits=len(tasks),
            workers=self.engine.workers,
            started_at=started,
            ready_at=self.engine.ready_at,
            wall_s=self._clock() - started,
            lost=dict(self.sendings.lost - lost_before),
        )

    def timeline(self, pallet: str, config: HypotestConfig) -> Timeline | None:
        """Return when the fits of a pallet ran; in the last trial, if it was measured."""
        with self._lock:
            costs = [cost for cost in self._costs if cost.analysis == (pallet, config)]
        return timeline(costs, self.clocks)

    def crew(self) -> Crew:
        """Return how many workers and blocks were at work, in the last trial where one was."""
        with self._lock:
            costs = list(self._costs)
        return crew(costs, self.clocks)

    def progress(self) -> Progress:
        """Return the progress of the fits under way."""
        now = self._clock()
        engine = self.engine
        workers = engine.workers if engine.workers_known else engine.workers_there
        missing_since, missing = self.engine.missing_since, self.engine.missing
        waits_for = self.engine.waits_for
        with self._lock:
            state, tally = self._loop.state, self._tally
            waits = missing_since is not None and len(state.flight) > 0
            quiet, silent_s = state.quiet(now), state.silent_s(now)
            progress = Progress(
                total=tally.total + tally.coming,
                done=tally.done,
                cancelled=tally.cancelled,
                running=0 if waits else min(state.held, workers),
                failed=tally.failed,
                elapsed_s=tally.elapsed_s(now),
                left_s=tally.left_s(now, state.left_s(now)),
                waits_s=now - missing_since if waits and missing_since is not None else None,
                waits_for=waits_for if waits else None,
                missing=missing,
                running_s=state.running_s(now),
            )
        if silent_s >= QUIET_S:  # that may need the disk
            progress = replace(progress, knows=self.engine.knows)
        if quiet is None:
            return progress
        return replace(progress, quiet_s=quiet[0], expected_s=quiet[1])

    @property
    def sendings(self) -> Sendings:
        """How many fits were sent to workers, and why some of them again."""
        return self._loop.sendings

    @property
    def busy(self) -> bool:
        """Whether fits are with the engine."""
        return len(self._loop.state.flight) > 0

    @property
    def remaining(self) -> int:
        """How many fits go on after this session, for a later one to collect."""
        if not self.engine.loses_tasks:
            return 0
        with self._lock:
            return len(self._loop.state.with_engine)

    @property
    def given_up(self) -> str | None:
        """Why no more fits are done, if the engine is to blame; ``None`` otherwise."""
        with self._lock:
            stopped = self._loop.state.stopped
        return stopped[1] if stopped is not None and stopped[0] == "broken" else None

    def give_up(self, reason: str) -> None:
        """Give up the engine: unfinished fits end as "broken"."""
        self._loop.ask(lambda: EngineUnusable(reason))

    def wind_down(self, reason: str) -> None:
        """Let fits on the engine finish, and send nothing more; the rest ends as "cancelled"."""
        self._loop.ask(lambda: WoundDown(reason))

    def cancel(self, reason: str) -> None:
        """Stop at once: unfinished fits end as "cancelled", and the engine is stopped."""
        self._loop.stop(reason)

    # Calls of the loop, in its thread

    def note(self, now: float, record: Record) -> None:
        """Pass on a record of the log."""
        if self._on_record is not None:
            self._guarded(self._on_record, now, record)

    def count(self, answer: Answer, tasks: list[Task], sent_at: float, received_at: float) -> None:
        """Add the cost of an answer."""
        cost = TaskCost(
            analysis=(tasks[0].pallet.name, tasks[0].config),
            fits=len(tasks),
            worker=answer.worker,
            block=answer.block,
            first=answer.gap_s is None,
            sent_at=sent_at,
            received_at=received_at,
            began_s=answer.began_s,
            total_s=answer.total_s,
            unpack_s=answer.unpack_s,
            build_s=answer.build_s,
            fit_s=answer.fit_s,
        )
        self.clocks.observe(
            cost.worker,
            sent_at=sent_at,
            began_s=cost.began_s,
            ended_s=cost.ended_s,
            received_at=received_at,
        )
        with self._lock:
            self._costs.append(cost)

    def end(self, key: str, result: HypotestResult) -> None:
        """Give a result to those who wait for it."""
        cancelled = result.status == "cancelled"
        failed = not result.is_answer or self._guarded(self._is_failure, self._tasks[key], result)
        if not cancelled:
            self._guarded(self._on_result, result)
        with self._lock:
            self._tally.end(failed=bool(failed), cancelled=cancelled)
            self._futures[key].set_result(result)
            if self._tally.all_done:
                self._all_done.notify_all()

    def fail(self, text: str) -> None:
        """End all fits that wait."""
        with self._lock:
            waiting = [key for key, future in self._futures.items() if not future.done()]
        for key in waiting:
            task = self._tasks[key]
            names = key, task.pallet.name, task.patch.name
            self.end(key, HypotestResult(*names, "broken", error=FitError(ENGINE, text)))

    def _guarded(self, callback: Callable[..., _Value], *arguments: object) -> _Value | None:
        """Call a callback of this campaign: the fits go on even if it fails."""
        try:
            return callback(*arguments)
        except Exception as error:  # noqa: BLE001 - it is reported at the end
            if self.problem is None:
                self.problem = (
                    f"what was done on {self.engine.spec} could not be recorded in full "
                    f"({type(error).__name__}: {error}): the fits went on and their results "
                    "are complete, but --faas-resume may find fewer of them. Check the disk "
                    "that holds the journal"
                )
            return None


def _future() -> Future[HypotestResult]:
    """Return a future that no caller can cancel."""
    future: Future[HypotestResult] = Future()
    future.set_running_or_notify_cancel()
    return future
