"""Carries out the instructions of a campaign's state on an engine, and reports events to it.

One thread handles events, from the engine and from callers, in the order of arrival.
The lock is held while the state decides, which is quick, and never while the engine or a listener
is called.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from pytest_pyhf_faas.campaign.answers import parse_answer
from pytest_pyhf_faas.campaign.events import (
    Accepted,
    Answered,
    Collect,
    Count,
    EngineUnusable,
    Facts,
    Failed,
    GiveUp,
    Looked,
    Ping,
    PingEnded,
    Restart,
    Restarted,
    Send,
    Sent,
    Stopped,
    Take,
    Ticked,
    WoundDown,
)
from pytest_pyhf_faas.campaign.sendings import Sendings
from pytest_pyhf_faas.campaign.state import CampaignState
from pytest_pyhf_faas.campaign.tasks import batch_payload, worker_function
from pytest_pyhf_faas.campaign.translate import (
    failure_of,
    given_up,
    has_value,
    look_at,
    outcome_of,
)
from pytest_pyhf_faas.errors import (
    FaasError,
    RemoteCallError,
)
from pytest_pyhf_faas.wording import described

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from pytest_pyhf_faas.campaign.answers import Answer
    from pytest_pyhf_faas.campaign.events import Event, Instruction
    from pytest_pyhf_faas.campaign.policy import Policy
    from pytest_pyhf_faas.campaign.results import HypotestResult, WorkerEnvironment
    from pytest_pyhf_faas.campaign.tasks import Task
    from pytest_pyhf_faas.engines.base import Engine

#: How often an engine's health is checked, and a waiting caller may show progress.
TICK_S = 0.2
#: How long an immediate stop waits for what is just being sent.
SETTLE_S = 2.0


class Listener(Protocol):
    """Receives the results of the fits; called without any lock, one call at a time."""

    def note(self, now: float, record: Policy | Event | Instruction) -> None:
        """Record an event or an instruction, at a moment of the monotonic clock."""

    def count(self, answer: Answer, tasks: list[Task], sent_at: float, received_at: float) -> None:
        """Count the cost of an answer."""

    def end(self, key: str, result: HypotestResult) -> None:
        """End a fit."""

    def fail(self, text: str) -> None:
        """End all fits, because the campaign itself failed."""


class Loop:
    """The thread of a campaign.

    Parameters
    ----------
    engine : Engine
        Where the fits run.
    policy : Policy
        Of the state.
    tasks : mapping
        The tasks by their keys; it may grow, and what has ended may leave it.
    listener : Listener
        Receives their results.
    clock : callable
        The client's monotonic clock, in seconds.
    """

    def __init__(
        self,
        engine: Engine,
        policy: Policy,
        tasks: Mapping[str, Task],
        listener: Listener,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self.state = CampaignState(policy)
        #: Guards the state and the inbox.
        self.lock = threading.RLock()
        self._arrived = threading.Condition(self.lock)
        self.sendings = Sendings(engine.whole)
        self._policy = policy
        self._tasks = tasks
        self._listener = listener
        self._clock = clock
        self._inbox: deque[Callable[[], Event | None]] = deque()
        self._over = False
        self._thread: threading.Thread | None = None
        self._seen: tuple[Any, ...] = ()
        self._keys: dict[int, tuple[str, ...]] = {}
        self._numbers: dict[Future[Any], int] = {}
        self._taken: int | None = None  # the batch that the engine has just taken
        self._answer: Answer | None = None
        self._environments: dict[tuple[str, str], WorkerEnvironment] = {}
        engine.on_accepted = self._hear_accepted
        listener.note(clock(), policy)

    # For other threads

    def ask(self, make_event: Callable[[], Event | None]) -> None:
        """Handle an event of a caller: soon, or at once if everything has ended."""
        if not self._post(make_event):
            self._hear(make_event)

    def stop(self, reason: str) -> None:
        """End unfinished fits as "cancelled", and return when the thread and engine have ended."""
        self.ask(lambda: self._settle(reason))
        self._join()
        # The thread may have been sending or restarting, which starts an engine.
        self.engine.stop()

    # The thread

    def _post(self, make_event: Callable[[], Event | None]) -> bool:
        """Put something into the inbox, unless the thread has ended."""
        with self.lock:
            if self._over:
                return False
            self._inbox.append(make_event)
            self._start()
            self._arrived.notify()
            return True

    def _start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="pyhf-faas-campaign", daemon=True
            )
            self._thread.start()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join(SETTLE_S)
            if self._thread.is_alive():  # it sends something, or restarts the engine
                self.engine.stop()
                self._thread.join()

    def _run(self) -> None:
        try:
            while self._step(TICK_S):
                pass
        except Exception as error:  # waiting callers must get an answer in any case
            self._fail(f"the campaign failed: {described(error)}")
            raise
        finally:
            self.engine.stop()

    def _step(self, patience_s: float) -> bool:
        """Handle the first event, or that there is none; return whether there may be more."""
        with self.lock:
            if self._is_idle and self.state.stopped is None:
                self._arrived.wait_for(lambda: self._inbox, patience_s)
            if not self._inbox and self.state.stopped is not None:
                self._over = True
                return False
            make_event = self._inbox.popleft() if self._inbox else None
            # Events that arrived meanwhile come first: they may forbid further sending.
            taken, self._taken = self._taken, None if make_event is None else self._taken
        if make_event is None and taken is not None:
            self._handle(Sent(taken))
        else:
            self._hear(make_event or Ticked)
        return True

    @property
    def _is_idle(self) -> bool:
        return not self._inbox and self._taken is None

    def _fail(self, text: str) -> None:
        with self.lock:
            self.state = CampaignState(self._policy)
            self.state.handle(EngineUnusable(text), self._clock())
            self._inbox.clear()
            self._over = True
        self._listener.fail(text)

    def _hear(self, make_event: Callable[[], Event | None]) -> None:
        seen = look_at(self.engine)
        if seen != self._seen:
            self._seen = seen
            self._handle(Looked(Facts(*seen)))
        event = make_event()
        if event is not None:
            self._handle(event)

    def _handle(self, event: Event) -> None:
        now = self._clock()
        with self.lock:
            instructions = self.state.handle(event, now)
            self.sendings.reached = self.sendings.reached or self.state.reached
        if instructions or not isinstance(event, Ticked):
            self._listener.note(now, event)
        for instruction in instructions:
            self._listener.note(now, instruction)
            self.sendings.hear(instruction)
            self._follow(instruction, now)
        if isinstance(event, (Answered, Failed)):
            self._keys.pop(event.batch, None)

    def _follow(self, instruction: Instruction, now: float) -> None:
        match instruction:
            case Send():
                self._send(instruction)
            case Collect(batch, keys, reference):
                self._keys[batch] = keys
                self._await(batch, lambda: self.engine.collect(reference))
            case Ping(number):
                self._ping(number)
            case Restart():
                self._restart()
            case Count(batch, sent_at):
                assert self._answer is not None
                self._listener.count(self._answer, self._tasks_of(batch), sent_at, now)
            case Take(key, _batch, attempts):
                self._listener.end(key, self._result_of(key, attempts))
            case GiveUp(key):
                self._listener.end(key, given_up(instruction, self._tasks[key]))

    # Instructions

    def _send(self, send: Send) -> None:
        self._keys[send.batch] = send.keys
        tasks = self._tasks_of(send.batch)
        payload = batch_payload(tasks)
        function = worker_function(tasks[0].config)
        timeout_s = self._policy.timeout_s
        if self._await(
            send.batch, lambda: self.engine.submit(function, payload, timeout_s=timeout_s)
        ):
            self._taken = send.batch

    def _await(self, batch: int, send: Callable[[], Future[Any]]) -> bool:
        """Send a batch, and watch for its end; return whether the engine accepted it."""
        try:
            future = send()
        except FaasError as error:
            failure = failure_of(batch, error)
            self._post(lambda: failure)
            return False
        self._numbers[future] = batch
        future.add_done_callback(lambda done: self._post(lambda: self._ended(batch, done)))
        return True

    def _ping(self, number: int) -> None:
        try:
            future = self.engine.ping()
        except FaasError:
            self._post(lambda: PingEnded(number, answered=False))
            return
        future.add_done_callback(
            lambda done: self._post(lambda: PingEnded(number, answered=has_value(done)))
        )

    def _restart(self) -> None:
        self._keys.clear()
        self._numbers.clear()
        try:
            self.engine.restart()
        except FaasError as error:
            text = str(error)
            self._post(lambda: EngineUnusable(text))
        else:
            self._post(Restarted)

    # Events

    def _hear_accepted(self, future: Future[Any], reference: str) -> None:
        self._post(lambda: self._accepted(future, reference))

    def _accepted(self, future: Future[Any], reference: str) -> Event | None:
        batch = self._numbers.get(future)
        return None if batch is None else Accepted(batch, reference)

    def _ended(self, batch: int, future: Future[Any]) -> Event | None:
        self._numbers.pop(future, None)
        if batch not in self._keys:
            return None  # of an engine that was replaced
        if future.cancelled():
            return Failed(batch, "engine lost", "it cancelled a task")
        error = future.exception()
        if error is None:
            try:
                self._answer = answer = parse_answer(future.result(), self._tasks_of(batch))
            except RemoteCallError as senseless:
                error = senseless
            else:
                outcomes = tuple(outcome_of(result) for result in answer.results.values())
                return Answered(batch, answer.worker, outcomes)
        return failure_of(batch, error)

    def _settle(self, reason: str) -> Event | None:
        """Stop; record what was just sent, so that a later session can collect it."""
        if self.state.stopped is not None:
            return None
        self.engine.settle()
        self._post(lambda: Stopped(reason))
        return WoundDown(reason)

    def _result_of(self, key: str, attempts: int) -> HypotestResult:
        answer = self._answer
        assert answer is not None
        # One object for each worker and way to find minima.
        kind = answer.worker, self._tasks[key].config.fit_setup
        if answer.environment is not None:
            self._environments.setdefault(kind, answer.environment)
        environment = self._environments.get(kind)
        result = answer.results[key]
        if result.environment is environment and result.attempts == attempts:
            return result
        return replace(result, environment=environment, attempts=attempts)

    def _tasks_of(self, batch: int) -> list[Task]:
        """Return the tasks of a batch, except those that a faster copy of it has ended."""
        return [self._tasks[key] for key in self._keys[batch] if key in self._tasks]
