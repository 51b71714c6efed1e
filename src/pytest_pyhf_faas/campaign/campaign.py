"""Fit many patches on an engine: each once, longest first, bounded in flight, none lost.

One thread owns all state of the queue. Callers get one future for each fit, which always ends with
a `HypotestResult`; what went wrong is in its status.

A fit that meets trouble (`Trouble`) is sent again, as long as that may help:

- A worker that dies, or a worker that cannot do what it is sent: the fit may be to blame. It goes
  alone from then on, and is given up as broken after ``retries`` more attempts.
- A block that goes with all its workers, or an engine that breaks down: no fault of most fits that
  were there. One that was there twice is a suspect: it runs once more with nothing else on the
  engine, so that it takes no other down, and is given up after `MAX_LOSSES`.
- A time limit: not tried again, but for those that shared a task with the one that took too long.
- Silence of an engine that cannot tell whether its workers hang: it is replaced.
- An engine may lose a task and never know. What was overtaken, by an answer to something that was
  sent later, has begun or is lost; where that was long ago, it is sent once more.
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict, deque
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.campaign.accounting import TaskCost, account, timeline
from pytest_pyhf_faas.campaign.answers import parse_answer
from pytest_pyhf_faas.campaign.clocks import Clocks
from pytest_pyhf_faas.campaign.results import (
    ENGINE,
    FitError,
    HypotestResult,
    Status,
)
from pytest_pyhf_faas.campaign.tasks import batch_payload, worker_function
from pytest_pyhf_faas.engines.base import IN_FLIGHT
from pytest_pyhf_faas.errors import (
    BlockLostError,
    ConfigurationError,
    EndpointUnusableError,
    EngineError,
    FaasError,
    RemoteCallError,
    TaskTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_pyhf_faas.campaign.answers import Answer
    from pytest_pyhf_faas.campaign.results import Timeline, Trial, WorkerEnvironment
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.engines.base import Engine

#: How often an engine's health is looked at, and a caller that waits may show progress.
TICK_S = 0.2
#: Who stops at once waits so long for what is just being sent.
SETTLE_S = 2.0
#: An engine that breaks down so often without one answer in between is given up.
MAX_RESTARTS = 3
#: A fit that was in a block or an engine when it broke down is sent again so often.
MAX_LOSSES = 3
#: From so many such losses on it is sent with nothing else on the engine.
_SUSPECT_LOSSES = 2
#: An engine is silent when no answer came for so long, and for so many times its longest fit.
SILENCE_S = 300.0
SILENCE_FACTOR = 20.0
#: A fit is a straggler when it takes so long, and so many times what it should.
STRAGGLER_S = 20.0
STRAGGLER_FACTOR = 4.0
#: An engine that can be pinged is, when nothing came for so long.
PING_S = 10.0
#: A ping may be lost, or wait behind long fits: the next ones come less often, up to so much.
_PING_FACTOR = 4.0
#: The last fits of a campaign are spread over the workers in at least so many batches each.
TAIL_BATCHES = 4
#: Exceptions on a worker that say nothing about the fit: worth another try elsewhere.
_RETRIED_ERRORS = frozenset({"MemoryError"})

#: What may befall a fit on its way, in the words of the journal.
Trouble = Literal[
    "worker lost",
    "block lost",
    "engine lost",
    "timeout",
    "silence",
    "out of memory",
    "remote call failed",
]


@dataclass(frozen=True, slots=True)
class Event:
    """A fit was sent to the engine, once more or for the first time, or met trouble there.

    The text of "accepted" is the reference under which a later session can collect it.
    """

    kind: Literal["sent", "accepted", "copied"] | Trouble
    task: Task
    attempt: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a campaign is; counts are fits.

    While there is no worker, ``waits_s`` says for how long, and ``waits_for`` what for.
    """

    total: int
    done: int
    running: int
    failed: int
    elapsed_s: float
    left_s: float | None
    waits_s: float | None = None
    waits_for: str | None = None

    @property
    def rate(self) -> float:
        """Fits per second."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(slots=True)
class _Entry:
    task: Task
    expected_s: float | None = None
    future: Future[HypotestResult] = field(default_factory=Future)
    attempts: int = 0
    losses: int = 0
    silences: int = 0
    in_flight: int = 0  # batches that hold it; two while a straggler runs twice
    alone: bool = False  # its batch came to grief once: it may be the one that did it
    trouble: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # one caller cannot cancel it for the others


@dataclass(slots=True)
class _Batch:
    entries: list[_Entry]
    submitted_at: float = 0.0  # this and the generation are set when it is sent
    generation: int = 0
    quarantined: bool = False
    copied: bool = False
    collected: bool = False
    overtaken_at: float | None = None
    future: Future[Any] | None = None


class Campaign:
    """The fits of one endpoint.

    Parameters
    ----------
    engine : Engine
        Where the fits run; the campaign starts, restarts and stops it.
    timeout_s : float or None
        How long one fit may take on a worker.
    retries : int
        How often a fit is sent again after it broke (its worker died); never because of its value.
    queue_timeout_s : float or None
        How long no worker may be there before all is given up.
    expected_s : callable, optional
        Seconds that a task's fit took elsewhere, or ``None``: the longest are sent first.
    is_failure : callable, optional
        Whether progress counts a result as failed: an exception may be the right answer.
    on_result : callable, optional
        Called in the campaign's thread with each result as it arrives, before its future ends.
    on_event : callable, optional
        Called in the campaign's thread with each `Event`.
    clocks : Clocks, optional
        What is known of the workers' clocks already; it is added to.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        timeout_s: float | None,
        retries: int,
        queue_timeout_s: float | None = None,
        expected_s: Callable[[Task], float | None] = lambda _task: None,
        is_failure: Callable[[Task, HypotestResult], bool] = lambda _, result: (
            result.status != "ok"
        ),
        on_result: Callable[[HypotestResult], None] = lambda _result: None,
        on_event: Callable[[Event], None] = lambda _event: None,
        clocks: Clocks | None = None,
    ) -> None:
        self.engine = engine
        self.clocks = clocks or Clocks()
        self._timeout_s = timeout_s
        self._retries = retries
        self._queue_timeout_s = queue_timeout_s
        self._expected_s = expected_s
        self._is_failure = is_failure
        self._on_result = on_result
        self._on_event = on_event
        self._changed = threading.Condition()
        self._sending = threading.RLock()  # taken before the lock of what has changed
        self._entries: dict[str, _Entry] = {}
        self._queues: dict[tuple[str, str, str], deque[_Entry]] = {}
        self._suspects: list[_Entry] = []
        self._in_flight: dict[int, _Batch] = {}
        self._abandoned: set[str] = set()  # cancelled while they were with the engine
        self._arrived: deque[tuple[int, Future[Any]]] = deque()
        self._accepted: deque[tuple[Future[Any], str]] = deque()
        self._pings: set[int] = set()  # numbers in the order of the batches
        self._pinged_at = -math.inf
        self._batch_numbers = iter(range(2**63))
        self._generation = 0
        self._restarts = 0
        self._restart_due = False
        self._last_answer_at = self._last_missing_at = -math.inf
        self._winding_down: str | None = None
        self._stopped: tuple[Status, str] | None = None
        self._thread: threading.Thread | None = None
        self._environments: dict[tuple[str, str], WorkerEnvironment] = {}
        self._costs: list[TaskCost] = []
        self._mean_fit_s: dict[str, tuple[int, float]] = {}
        self._measured_s = self._expected_of_measured_s = 0.0
        self._began_at: float | None = None
        self._total = self._done = self._failed = 0
        self.fits_sent = 0
        engine.on_accepted = lambda future, reference: self._accepted.append((future, reference))

    # What callers use

    def submit(self, tasks: Iterable[Task]) -> None:
        """Queue the tasks that are not known yet."""
        with self._changed:
            fresh = self._begin(tasks)
            if fresh:
                self._enqueue(fresh)
                self._run()

    def collect(self, reference: str, tasks: Iterable[Task]) -> None:
        """Await what an earlier session has sent, instead of sending the tasks.

        Parameters
        ----------
        reference : str
            Under which the engine accepted them, in one of their `Event`.
        tasks : iterable of Task
            All or some of those that were sent with it.
        """
        with self._changed:
            fresh = self._begin(tasks)
            if not fresh:
                return
            number = next(self._batch_numbers)
            self._note_sent(number, _Batch(fresh, collected=True))
            self._run()
        self._follow(number, lambda: self.engine.collect(reference))

    def _begin(self, tasks: Iterable[Task]) -> list[_Entry]:
        """Take note of the tasks that are not known yet; return those that are to be fitted."""
        known = self._entries
        new = {task.key: task for task in tasks if task.key not in known}
        # All of them before any is taken note of: looking a time up may fail.
        fresh = [_Entry(task, self._expected_s(task)) for task in new.values()]
        known.update((entry.task.key, entry) for entry in fresh)
        if self._done == self._total:  # nothing under way: progress counts from here
            self._began_at = time.monotonic()
            self._total = self._done = self._failed = 0
        self._total += len(fresh)
        stopped = self._stopped
        if stopped is None and self._winding_down is not None:
            stopped = "cancelled", self._winding_down
        if stopped is None:
            return fresh
        for entry in fresh:
            self._end(entry, self._without_answer(entry, *stopped))
        return []

    def _run(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._loop, name="pyhf-faas-campaign", daemon=True
            )
            self._thread.start()
        self._changed.notify_all()

    def __contains__(self, task: Task) -> bool:
        return task.key in self._entries

    def result(self, task: Task) -> Future[HypotestResult]:
        """Return the future of a task that was submitted or adopted."""
        return self._entries[task.key].future

    def adopt(self, task: Task, result: HypotestResult) -> None:
        """Take a result from an earlier run instead of fitting."""
        with self._changed:
            entry = self._entries[task.key] = _Entry(task)
            entry.future.set_result(replace(result, pallet=task.pallet.name, patch=task.patch.name))

    def drain(self, on_tick: Callable[[], None] = lambda: None) -> None:
        """Wait until nothing is queued or in flight; ``on_tick`` is called now and then."""
        while True:
            with self._changed:
                if self._done >= self._total:
                    return
                self._changed.wait(TICK_S)
            on_tick()

    def measure(self, tasks: Sequence[Task], on_tick: Callable[[], None] = lambda: None) -> Trial:
        """Fit all tasks anew, with nothing else on the engine, and say where the time went."""
        self.drain(on_tick)
        with self._changed:
            for task in tasks:
                self._entries.pop(task.key, None)
            measured = {(task.pallet.name, task.config) for task in tasks}
            self._costs = [cost for cost in self._costs if cost.analysis not in measured]
        self.engine.start()
        started = time.monotonic()
        self.submit(tasks)
        self.drain(on_tick)
        return account(
            [cost for cost in self._costs if cost.analysis in measured],
            self.clocks,
            fits=len(tasks),
            workers=self.engine.workers,
            started_at=started,
            ready_at=self.engine.ready_at,
            wall_s=time.monotonic() - started,
        )

    def timeline(self, pallet: str, config: HypotestConfig) -> Timeline | None:
        """Return when the fits of a pallet ran; in the last trial, if it was measured."""
        with self._changed:
            costs = [cost for cost in self._costs if cost.analysis == (pallet, config)]
        return timeline(costs, self.clocks)

    def progress(self) -> Progress:
        """Return how far the fits under way are."""
        with self._changed:
            elapsed = 0.0 if self._began_at is None else time.monotonic() - self._began_at
            in_flight = sum(len(batch.entries) for batch in self._in_flight.values())
            missing_since = self.engine.missing_since if self._in_flight else None
            waits = {}
            if missing_since is not None:
                waits = {
                    "waits_s": time.monotonic() - missing_since,
                    "waits_for": self.engine.waits_for,
                }
                in_flight = 0
            return Progress(
                total=self._total,
                done=self._done,
                running=min(in_flight, self.engine.workers),
                failed=self._failed,
                elapsed_s=elapsed,
                left_s=self._left_s(elapsed),
                **waits,  # type: ignore[arg-type]
            )

    @property
    def busy(self) -> bool:
        """Whether fits are with the engine."""
        return bool(self._in_flight)

    @property
    def remaining(self) -> int:
        """How many fits run on when this session ends, for another one to collect."""
        if not self.engine.loses_tasks:
            return 0
        with self._changed:
            return len(self._abandoned | self._open_keys())

    def _open_keys(self) -> set[str]:
        entries = [entry for batch in self._in_flight.values() for entry in batch.entries]
        return {entry.task.key for entry in entries if not entry.future.done()}

    def wind_down(self, reason: str) -> None:
        """Let what is with the engine finish, and send nothing more; the rest ends "cancelled"."""
        with self._changed:
            self._winding_down = reason
            if self.engine.missing_since is not None:
                self._end_all("cancelled", reason)  # what is with the engine does not run
                return
            waiting = [entry for queue in self._queues.values() for entry in queue]
            waiting += self._suspects
            self._queues.clear()
            self._suspects.clear()
            for entry in waiting:
                self._end(entry, self._without_answer(entry, "cancelled", reason))

    def cancel(self, reason: str) -> None:
        """Stop at once: what is not done ends as "cancelled", and the engine is stopped."""
        # What is being sent is with the engine, or will be, and is to be collected by the next one.
        sent = self._sending.acquire(timeout=SETTLE_S)
        try:
            self.engine.settle()
            with self._changed:
                self._note_accepted()
                self._end_all("cancelled", reason)
        finally:
            if sent:
                self._sending.release()
        self.engine.stop()
        if self._thread is not None:
            self._thread.join()
            # The thread may have been sending or restarting, which starts an engine.
            self.engine.stop()

    # The thread

    def _loop(self) -> None:
        try:
            self._serve()
        except Exception as error:  # a waiting caller must get an answer whatever happens
            with self._changed:
                self._on_result = lambda _result: None  # it may be what failed
                self._end_all("broken", f"the campaign failed: {error!r}")
            raise
        finally:
            self.engine.stop()

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._await_work()
                self._note_accepted()
                while self._arrived and not self._stopped:
                    number, future = self._arrived.popleft()
                    self._receive(number, future)
                if self._ailing() and not self._stopped:
                    self._replace_engine("engine lost", self.engine.failure or "it broke down")
                if self._stopped:
                    return
                restart, self._restart_due = self._restart_due, False
                batch = self._next_batch() if self._can_send() else self._straggler()
                pings = self._ping_is_due()
            if restart:
                # Without the lock: an engine may wait for its callbacks, and they need it.
                try:
                    self.engine.restart()
                except FaasError as error:
                    with self._changed:
                        self._end_all("broken", str(error))
                    return
            if batch is not None:
                self._send(batch)
            if pings:
                self._ping()

    def _await_work(self) -> None:
        while not (self._stopped or self._arrived or self._can_send() or self._ailing()):
            self._changed.wait(TICK_S)
            if self._look_after():
                return

    def _ailing(self) -> bool:
        return bool(self._in_flight) and self.engine.broken

    def _can_send(self) -> bool:
        if any(batch.quarantined for batch in self._in_flight.values()):
            return False
        if self._queues:
            return len(self._in_flight) < self.engine.in_flight
        return bool(self._suspects) and not self._in_flight

    def _look_after(self) -> bool:
        """Look at what no answer tells of; say whether there is something to do about it."""
        self._note_accepted()
        if not self._in_flight:
            return False
        now = time.monotonic()
        oldest = min(batch.submitted_at for batch in self._in_flight.values())
        missing_since = self.engine.missing_since
        if missing_since is not None:
            self._last_missing_at = now
            waited_s = now - max(missing_since, oldest)
            if self._queue_timeout_s is not None and waited_s > self._queue_timeout_s:
                self._end_all("broken", self._no_worker(waited_s))
                return True
            return False
        began_at = max(oldest, self._last_missing_at, self.engine.ready_at or oldest)
        silent_s = now - max(began_at, self._last_answer_at)
        limit_s = self._silence_s()
        if limit_s is not None and silent_s > limit_s:
            self._replace_engine(
                "silence",
                f"no answer came for {silent_s:.0f} s, where {limit_s:.0f} s are enough for all "
                "that was sent",
            )
            return True
        return self._straggler() is not None or self._ping_is_due()

    def _no_worker(self, waited_s: float) -> str:
        what = self.engine.waits_for
        return (
            f"no worker of {self.engine.spec} was there for {waited_s:.0f} s"
            + (f": {what}" if what else "")
            + ". Look at the queue and at the start of a block by hand, or wait longer with "
            "--faas-queue-timeout"
        )

    def _silence_s(self) -> float | None:
        """Return after how long without any answer an engine is taken for dead, if ever."""
        if self.engine.watches_workers:
            return None
        limits = []
        estimates = [self._batch_s(batch) for batch in self._in_flight.values()]
        known = [seconds for seconds in estimates if seconds is not None]
        if self._mean_fit_s and len(known) == len(estimates):
            limits.append(max(SILENCE_S, SILENCE_FACTOR * max(known)))
        if self._timeout_s is not None:
            limits.append(SILENCE_S + IN_FLIGHT * self._timeout_s)
        return min(limits, default=None)

    def _batch_s(self, batch: _Batch) -> float | None:
        estimates = [self._estimate_s(entry) for entry in batch.entries]
        known = [seconds for seconds in estimates if seconds is not None]
        return sum(known) if len(known) == len(estimates) else None

    def _straggler(self) -> _Batch | None:
        """Return a copy of what takes too long, where that helps.

        That is, for a worker that has nothing else to do, or for the place that a lost batch takes.
        """
        if self.engine.watches_workers or self._winding_down is not None:
            return None
        nothing_else = not (self._queues or self._suspects)
        if not nothing_else and self._can_send():
            return None
        idle = nothing_else and len(self._in_flight) < self.engine.workers_there
        now = time.monotonic()
        for batch in self._in_flight.values():
            begun_at = batch.overtaken_at or (batch.submitted_at if idle else None)
            limit_s = self._straggles_after_s(batch)
            if begun_at is None or limit_s is None or batch.copied or batch.quarantined:
                continue
            if now - max(begun_at, self._last_missing_at) > limit_s:
                entries = [entry for entry in batch.entries if not entry.future.done()]
                return _Batch(entries, copied=True)
        return None

    def _straggles_after_s(self, batch: _Batch) -> float | None:
        """Return after how long a batch that has begun is sent once more, if ever."""
        limits = []
        expected_s = self._batch_s(batch)
        if expected_s is not None and (self._mean_fit_s or batch.overtaken_at is not None):
            limits.append(max(STRAGGLER_S, STRAGGLER_FACTOR * expected_s))
        if self._timeout_s is not None and batch.overtaken_at is not None:
            limits.append(STRAGGLER_S + self._timeout_s)  # its worker would have ended it
        return min(limits, default=None)

    def _send(self, batch: _Batch) -> None:
        entries = batch.entries
        payload = batch_payload([entry.task for entry in entries])
        function = worker_function(entries[0].task.config)
        number = next(self._batch_numbers)
        with self._sending:
            with self._changed:
                if self._stopped:
                    return
                if batch.copied:
                    for other in self._in_flight.values():
                        other.copied = other.copied or other.entries[0] in entries
                self._note_sent(number, batch)
                for entry in entries:
                    entry.attempts += not batch.copied
                    self._tell("copied" if batch.copied else "sent", entry)
            self.fits_sent += len(entries)
            self._follow(
                number, lambda: self.engine.submit(function, payload, timeout_s=self._timeout_s)
            )

    def _note_sent(self, number: int, batch: _Batch) -> None:
        batch.submitted_at = time.monotonic()
        batch.generation = self._generation
        self._in_flight[number] = batch
        for entry in batch.entries:
            entry.in_flight += 1

    def _follow(self, number: int, send: Callable[[], Future[Any]]) -> None:
        """Send a batch, or what else has a number, and hear of its end."""
        with self._sending:
            try:
                future = send()
            except FaasError as error:
                future = Future()
                future.set_exception(error)
            batch = self._in_flight.get(number)
            if batch is not None:
                batch.future = future
        future.add_done_callback(lambda done: self._announce(number, done))

    def _note_accepted(self) -> None:
        """Journal under which references the engine has accepted batches."""
        while self._accepted:
            future, reference = self._accepted.popleft()
            for batch in self._in_flight.values():
                if batch.future is future:
                    for entry in batch.entries:
                        self._tell("accepted", entry, reference)

    def _ping_is_due(self) -> bool:
        """Whether to find out which of the batches that do not answer have begun or are lost."""
        if not (self.engine.loses_tasks and self._in_flight) or self._winding_down is not None:
            return False
        newest = max(batch.submitted_at for batch in self._in_flight.values())
        since = max(self._last_answer_at, self._pinged_at, newest, self.engine.ready_at or math.inf)
        return time.monotonic() - since > PING_S * min(2.0 ** len(self._pings), _PING_FACTOR)

    def _ping(self) -> None:
        self._pinged_at = time.monotonic()
        number = next(self._batch_numbers)
        try:
            future = self.engine.ping()
        except FaasError:
            return
        self._pings.add(number)
        future.add_done_callback(lambda done: self._announce(number, done))

    def _overtake(self, number: int) -> None:
        """Take note that what was sent before has begun, or is lost."""
        now = time.monotonic()
        self._pings = {other for other in self._pings if other > number}
        for other, batch in self._in_flight.items() if self.engine.loses_tasks else ():
            if other < number and batch.overtaken_at is None:
                batch.overtaken_at = now

    def _tell(
        self,
        kind: Literal["sent", "accepted", "copied"] | Trouble,
        entry: _Entry,
        text: str = "",
    ) -> None:
        self._on_event(Event(kind, entry.task, entry.attempts, text))

    def _announce(self, number: int, future: Future[Any]) -> None:
        with self._changed:
            self._arrived.append((number, future))
            self._changed.notify_all()

    def _receive(self, number: int, future: Future[Any]) -> None:  # noqa: C901 - soon events
        if number in self._pings:
            self._pings.discard(number)
            if future.exception() is None:
                self._overtake(number)
            return
        batch = self._in_flight.get(number)
        if batch is None:
            return  # of an engine that was replaced, or its copy was faster
        error = EngineError("it cancelled a task") if future.cancelled() else future.exception()
        if isinstance(error, EngineError) and not isinstance(error, EndpointUnusableError):
            if batch.generation == self._generation:
                self._replace_engine("engine lost", str(error))
            return
        if isinstance(error, (EndpointUnusableError, ConfigurationError)):
            self._end_all("broken", str(error))
            return
        del self._in_flight[number]
        for entry in batch.entries:
            entry.in_flight -= 1
        self._overtake(number)
        self._last_answer_at = time.monotonic()
        self._restarts = 0
        if error is None:
            try:
                answer = parse_answer(future.result(), [entry.task for entry in batch.entries])
            except RemoteCallError as nonsense:
                error = nonsense
            else:
                self._take(batch, answer)
        if error is not None:
            self._recover(batch, error)
        if self.engine.loses_tasks:
            self._forget_answered()

    def _forget_answered(self) -> None:
        """Free the places of batches whose copies were faster: they may be lost."""
        for number, batch in list(self._in_flight.items()):
            if all(entry.future.done() for entry in batch.entries):
                del self._in_flight[number]
                for entry in batch.entries:
                    entry.in_flight -= 1

    def _recover(self, batch: _Batch, error: BaseException) -> None:
        """Send again or end what came to grief, but for what another copy may yet answer."""
        trouble = _trouble_of(error)
        text = str(error) if isinstance(error, FaasError) else repr(error)
        open_entries = []
        for entry in batch.entries:
            if entry.future.done():
                continue
            if entry.in_flight:
                self._tell(trouble, entry, text)
            else:
                open_entries.append(entry)
        if trouble == "block lost":
            self._send_after_loss(open_entries, trouble, text)
        else:
            shared = len(batch.entries) > 1
            again = shared or trouble != "timeout"
            self._retry_or_end(open_entries, trouble, text, shared, again=again)

    def _take(self, batch: _Batch, answer: Answer) -> None:
        # One object for each worker and way to find minima.
        kind = answer.worker, batch.entries[0].task.config.fit_setup
        if answer.environment is not None:
            self._environments.setdefault(kind, answer.environment)
        now = time.monotonic()
        if all(entry.future.done() for entry in batch.entries):
            return  # its copy was faster
        if not batch.collected:  # its worker began it at some time in an earlier session
            self._costs.append(self._cost(batch, answer, now))
        for entry in batch.entries:
            if entry.future.done():
                continue
            result = answer.results[entry.task.key]
            error = result.error
            if (
                error is not None
                and error.type in _RETRIED_ERRORS
                and entry.attempts <= self._retries
            ):
                text = f"{error.type} on {answer.worker}"
                if entry.in_flight:
                    self._tell("out of memory", entry, text)
                else:
                    self._requeue(entry, "out of memory", text)
                continue
            result = replace(
                result,
                environment=self._environments.get(kind),
                attempts=max(1, entry.attempts),  # an earlier session may have sent it
            )
            if result.status == "ok":
                self._learn(entry, result.seconds["fit"])
            self._end(entry, result)

    def _cost(self, batch: _Batch, answer: Answer, now: float) -> TaskCost:
        task = batch.entries[0].task
        cost = TaskCost(
            analysis=(task.pallet.name, task.config),
            fits=len(batch.entries),
            worker=answer.worker,
            first=answer.gap_s is None,
            sent_at=batch.submitted_at,
            received_at=now,
            began_s=answer.began_s,
            total_s=answer.total_s,
            unpack_s=answer.unpack_s,
            build_s=answer.build_s,
            fit_s=answer.fit_s,
        )
        self.clocks.observe(
            cost.worker,
            sent_at=cost.sent_at,
            began_s=cost.began_s,
            ended_s=cost.ended_s,
            received_at=now,
        )
        return cost

    def _retry_or_end(
        self, entries: list[_Entry], trouble: Trouble, text: str, shared: bool, *, again: bool
    ) -> None:
        for entry in entries:
            if again and (shared or entry.attempts <= self._retries):
                self._requeue(entry, trouble, text)
                if shared:
                    # One of them did it, so that the others must not pay for it.
                    entry.attempts = max(0, entry.attempts - 1)
            else:
                self._tell(trouble, entry, text)
                status: Status = "timeout" if trouble == "timeout" else "broken"
                self._end(entry, self._without_answer(entry, status, text))

    def _requeue(self, entry: _Entry, trouble: Trouble, text: str) -> None:
        self._tell(trouble, entry, text)
        entry.trouble.append(text)
        if self._winding_down is not None:
            self._end(entry, self._without_answer(entry, "cancelled", self._winding_down))
        elif entry.losses >= _SUSPECT_LOSSES:
            self._suspects.append(entry)
        else:
            entry.alone = True
            self._enqueue([entry])

    def _send_after_loss(self, entries: list[_Entry], trouble: Trouble, text: str) -> None:
        """Send again what was lost with all around it: most of it is not to blame."""
        for entry in entries:
            entry.losses += 1
            self._tell(trouble, entry, text)
            if self._winding_down is not None:
                self._end(entry, self._without_answer(entry, "cancelled", self._winding_down))
            elif entry.losses > MAX_LOSSES:
                reason = f"{text}. It was there {entry.losses} times when that happened, the last "
                reason += "times with nothing else on the engine"
                status: Status = "timeout" if trouble == "silence" else "broken"
                self._end(entry, self._without_answer(entry, status, reason))
            else:
                entry.attempts = max(0, entry.attempts - 1)  # what was collected has none
                entry.trouble.append(text)
                if entry.losses >= _SUSPECT_LOSSES:
                    self._suspects.append(entry)
                else:
                    entry.alone = True
                    self._enqueue([entry])

    def _replace_engine(self, trouble: Trouble, reason: str) -> None:
        self._generation += 1
        self._restarts += 1
        batches = list(self._in_flight.values())
        stranded = {id(entry): entry for batch in batches for entry in batch.entries}
        self._in_flight.clear()
        self._pings.clear()
        waiting = [entry for entry in stranded.values() if not entry.future.done()]
        for entry in stranded.values():
            entry.in_flight = 0
        if self._restarts > MAX_RESTARTS:
            self._end_all(
                "broken",
                f"the engine {self.engine.spec} broke down {self._restarts} times in a row without "
                f"one answer in between, the last time because {reason}",
            )
            return
        # There is nothing left to send while winding down.
        self._restart_due = self._winding_down is None
        self._last_answer_at = time.monotonic()
        if trouble == "silence" and len(waiting) == 1:
            # With others there, it may be one of them that hangs.
            waiting[0].silences += 1
            if waiting[0].silences > min(self._retries, MAX_RESTARTS - 1):
                self._retry_or_end(waiting, "timeout", reason, shared=False, again=False)
                return
        self._send_after_loss(waiting, trouble, reason)

    def _end_all(self, status: Status, reason: str) -> None:
        """Stop for good: what is not done ends so, and what comes later too."""
        if self._stopped is None:
            self._stopped = status, reason
        if status == "cancelled":
            self._abandoned |= self._open_keys()
        self._queues.clear()
        self._suspects.clear()
        self._in_flight.clear()
        for entry in list(self._entries.values()):
            if not entry.future.done():
                self._end(entry, self._without_answer(entry, status, reason))
        self._changed.notify_all()

    def _end(self, entry: _Entry, result: HypotestResult) -> None:
        self._done += 1
        try:
            if not result.is_answer or self._is_failure(entry.task, result):
                self._failed += 1
            if result.status != "cancelled":
                self._on_result(result)
        finally:
            entry.future.set_result(result)
            self._changed.notify_all()

    def _without_answer(self, entry: _Entry, status: Status, text: str) -> HypotestResult:
        # What ends all fits says itself what is to be done.
        kind = ENGINE if status == "broken" and self._stopped is not None else status
        history = "".join(
            f"\nattempt {number}: {trouble}" for number, trouble in enumerate(entry.trouble, 1)
        )
        return HypotestResult(
            key=entry.task.key,
            pallet=entry.task.pallet.name,
            patch=entry.task.patch.name,
            status=status,
            error=FitError(kind, text + history),
            attempts=entry.attempts,
        )

    # The order of work

    def _enqueue(self, entries: list[_Entry]) -> None:
        groups = defaultdict(list)
        for entry in entries:
            task = entry.task
            groups[task.pallet.digest, repr(task.config), task.pool.sha256].append(entry)
        for group, members in groups.items():
            queue = self._queues.get(group, ())
            # Unknown ones first: they may be long. The sort is stable.
            order = sorted([*queue, *members], key=self._rank)
            self._queues[group] = deque(order)

    @staticmethod
    def _rank(entry: _Entry) -> float:
        return -math.inf if entry.expected_s is None else -entry.expected_s

    def _next_batch(self) -> _Batch:
        if not self._queues:
            # Those that are most likely to blame come last.
            self._suspects.sort(key=lambda entry: entry.losses)
            return _Batch([self._suspects.pop(0)], quarantined=True)
        group = min(self._queues, key=lambda name: self._rank(self._queues[name][0]))
        queue = self._queues[group]
        waiting = sum(len(other) for other in self._queues.values())
        most = max(1, math.ceil(waiting / (self.engine.workers * TAIL_BATCHES)))
        entries = [queue.popleft()]
        seconds = self._estimate_s(entries[0])
        while queue and len(entries) < most and not (entries[0].alone or queue[0].alone):
            more = self._estimate_s(queue[0])
            if seconds is None or more is None or seconds + more > self.engine.batch_s:
                break
            seconds += more
            entries.append(queue.popleft())
        if not queue:
            del self._queues[group]
        return _Batch(entries)

    def _learn(self, entry: _Entry, fit_s: float) -> None:
        pallet = entry.task.pallet.digest
        count, mean_s = self._mean_fit_s.get(pallet, (0, 0.0))
        self._mean_fit_s[pallet] = count + 1, mean_s + (fit_s - mean_s) / (count + 1)
        if entry.expected_s is not None:
            self._measured_s += fit_s
            self._expected_of_measured_s += entry.expected_s

    def _estimate_s(self, entry: _Entry) -> float | None:
        if entry.expected_s is not None:
            known = self._expected_of_measured_s
            return entry.expected_s * (self._measured_s / known if known > 0 else 1.0)
        return self._mean_fit_s.get(entry.task.pallet.digest, (0, None))[1]

    def _left_s(self, elapsed: float) -> float | None:
        left = self._total - self._done
        if not left or not self._done:
            return None
        waiting = [entry for entry in self._entries.values() if not entry.future.done()]
        estimates = [self._estimate_s(entry) for entry in waiting]
        known = [seconds for seconds in estimates if seconds is not None]
        if len(known) == len(estimates):
            return sum(known) / self.engine.workers
        return elapsed / self._done * left


def _trouble_of(error: BaseException) -> Trouble:
    if isinstance(error, BlockLostError):
        return "block lost"
    if isinstance(error, TaskTimeoutError):
        return "timeout"
    return "remote call failed" if isinstance(error, RemoteCallError) else "worker lost"
