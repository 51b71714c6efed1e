"""Questions to the workers of an endpoint: sending, waiting, and clocks from the answers."""

from __future__ import annotations

import concurrent.futures
import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.advice import Advice, advice_in
from pytest_pyhf_faas.campaign.results import WorkerEnvironment
from pytest_pyhf_faas.errors import (
    BlockLostError,
    FaasError,
    NotReadyError,
    RemoteCallError,
    TaskTimeoutError,
    WorkerLostError,
)
from pytest_pyhf_faas.worker import inspection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from pytest_pyhf_faas.campaign.clocks import Clocks
    from pytest_pyhf_faas.engines.base import Engine
    from pytest_pyhf_faas.preflight.remedies import Remedies

#: At most this many tasks are sent to count the workers.
MOST_TASKS = 512
#: How long a small task may take on a worker, and how much longer its answer may take to arrive.
TASK_S, _ARRIVAL_S = 60.0, 60.0
_TICK_S = 0.05
#: Those who wait for a future wake before its callbacks run, a moment later.
_CALLBACK_S = 5.0


@dataclass(eq=False)
class Call:
    """A task on its way.

    Attributes
    ----------
    future : Future
        Its end.
    sent_at, sent : float
        When it left, by `time.time` and by `time.monotonic`.
    seconds : float
        How long it was on its way, once its answer is read.
    """

    future: concurrent.futures.Future[Any]
    sent_at: float
    sent: float
    seconds: float = math.nan
    arrived: threading.Event = field(default_factory=threading.Event)


@dataclass
class HostClock:
    """The clock of a host: how far it is ahead of this machine's, and how sure that is."""

    offset_s: float
    uncertainty_s: float


class Questions:
    """Asks the workers of an endpoint.

    Parameters
    ----------
    engine : Engine
        The engine of the endpoint.
    remedies : Remedies
        Says what is wrong.
    queue_timeout_s : float or None
        How long to wait for a worker; ``None`` means without limit.
    on_wait : callable
        See `Preflight`.
    on_lost : callable
        Called with the error after which nothing more will come.
    worker_clocks : Clocks
        Measured offsets of the workers' clocks are added to it.

    Attributes
    ----------
    clocks : dict
        What is known of the clocks of hosts.
    """

    def __init__(
        self,
        engine: Engine,
        remedies: Remedies,
        *,
        queue_timeout_s: float | None,
        on_wait: Callable[[float | None], None],
        on_lost: Callable[[NotReadyError], None],
        worker_clocks: Clocks,
    ) -> None:
        self.clocks: dict[str, HostClock] = {}
        self._engine = engine
        self._remedies = remedies
        self._queue_timeout_s = queue_timeout_s
        self._on_wait = on_wait
        self._on_lost = on_lost
        self._worker_clocks = worker_clocks

    def send(
        self, function: Callable[..., Any], *args: Any, limit_s: float | None = TASK_S
    ) -> Call:
        """Send a task."""
        sent_at, sent = time.time(), time.monotonic()
        try:
            future = self._engine.submit(function, *args, timeout_s=limit_s)
        except RemoteCallError as error:  # such as for its size; other tasks may pass
            raise self._remedies.not_ready(f"it rejected a task: {error}") from error
        except FaasError as error:
            raise self._lost(self._remedies.gone(error)) from error
        call = Call(future, sent_at, sent)

        def arrived(_future: object) -> None:
            call.seconds = time.monotonic() - sent
            call.arrived.set()

        future.add_done_callback(arrived)
        return call

    def value(self, call: Call, limit_s: float | None, what: str) -> Any:
        """Return the answer to a task, once workers are known to answer.

        While no worker is there, `queue_timeout_s` holds; the limit counts while one is.
        """
        patience_s = math.inf if limit_s is None else limit_s + _ARRIVAL_S
        queue_s = math.inf if self._queue_timeout_s is None else self._queue_timeout_s
        there_since = call.sent
        for waited_s in self._waits(lambda: self._done(call), call.sent):
            now = time.monotonic()
            missing_since = self._engine.missing_since
            if missing_since is not None:
                there_since = now
                missing_s = now - max(missing_since, call.sent)
                if missing_s > queue_s:
                    raise self._lost(self._no_worker(queue_s))
            elif now - there_since > patience_s:
                raise self._lost(
                    self._remedies.not_ready(
                        f"no answer within {waited_s:.0f} s, although it answered before ({what})",
                        *self._remedies.state(),
                    )
                )
        try:
            answer = call.future.result()
        except TaskTimeoutError as error:
            raise self._remedies.not_ready(
                f"a worker did not finish within {limit_s:g} s ({what})",
                *self._remedies.on_its_side("check whether its machine is overloaded"),
            ) from error
        except (WorkerLostError, BlockLostError) as error:
            raise self._remedies.not_ready(
                f"a worker died ({what}): {error}",
                *self._remedies.on_its_side("check its memory and its logs"),
            ) from error
        except RemoteCallError as error:
            raise self._remedies.advised(
                f"a worker failed ({what}): {error}",
                advice=advice_in(str(error)) or Advice(there="check its logs"),
            ) from error
        except FaasError as error:
            raise self._lost(self._remedies.gone(error)) from error
        if not call.arrived.wait(_CALLBACK_S):
            call.seconds = time.monotonic() - call.sent
        return answer

    def _done(self, call: Call) -> bool:
        """Wait for a moment; an engine that broke down may never end its tasks."""
        if concurrent.futures.wait([call.future], timeout=_TICK_S).done:
            return True
        if self._engine.broken:
            raise self._lost(self._remedies.gone(self._engine.failure or "it broke down"))
        return False

    def wait_for_a_worker(self, call: Call) -> None:
        """Wait for the first answer that there is."""
        limit_s = self._queue_timeout_s
        for waited_s in self._waits(lambda: self._done(call), call.sent):
            if limit_s is not None and waited_s > limit_s:
                raise self._no_worker(limit_s)

    def _no_worker(self, limit_s: float) -> NotReadyError:
        """Say that no worker was there for as long as one is waited for."""
        return self._remedies.not_ready(
            f"no worker answered within {limit_s:g} s", *self._remedies.state()
        )

    def describe(self) -> dict[str, str]:
        """Return what is known of the endpoint without any of its workers; it may take a while."""
        described: concurrent.futures.Future[dict[str, str]] = concurrent.futures.Future()

        def ask() -> None:
            try:
                described.set_result(self._engine.describe())
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                described.set_exception(error)

        threading.Thread(target=ask, daemon=True).start()
        for _ in self._waits(
            lambda: bool(concurrent.futures.wait([described], timeout=_TICK_S).done),
            time.monotonic(),
        ):
            pass
        return described.result()

    def _waits(self, is_over: Callable[[], bool], since: float) -> Iterator[float]:
        """Yield how long something is waited for, and show it, until the wait is over."""
        shown = False
        try:
            while not is_over():
                waited_s = time.monotonic() - since
                self._on_wait(waited_s)
                shown = True
                yield waited_s
        finally:
            if shown:
                self._on_wait(None)

    def take_time(self, call: Call) -> dict[str, Any]:
        """Measure a host's clock by an answer to `inspection.hold`, as NTP does."""
        answer: dict[str, Any] = self.value(call, TASK_S, "a small task")
        arrived_at = call.sent_at + call.seconds
        before, after = answer["began"] - call.sent_at, answer["ended"] - arrived_at
        on_the_way = call.seconds - (answer["ended"] - answer["began"])
        clock = HostClock((before + after) / 2, max(on_the_way, 0.0) / 2)
        self._worker_clocks.observe(
            answer["worker"],
            sent_at=call.sent,
            began_s=answer["began_s"],
            ended_s=answer["ended_s"],
            received_at=call.sent + call.seconds,
        )
        known = self.clocks.get(answer["host"])
        if known is None or clock.uncertainty_s < known.uncertainty_s:
            self.clocks[answer["host"]] = clock
        return answer

    def take_times(self, calls: Iterable[Call]) -> list[dict[str, Any]]:
        """Measure clocks by several answers."""
        return [self.take_time(call) for call in list(calls)]

    def environments(
        self, config: Mapping[str, Any], hold_s: float, count: int
    ) -> list[WorkerEnvironment]:
        """Return the answers of the workers that take these tasks."""
        calls = [self.send(inspection.present, hold_s, dict(config)) for _ in range(count)]
        found = {
            answer["worker"]: WorkerEnvironment.from_json(answer["environment"])
            for answer in self.take_times(calls)
        }
        return list(found.values())

    def at_work(self, hold_s: float, count: int) -> set[str]:
        """Return the workers that were at work in one moment, the one with the most of them."""
        while True:
            count = min(count, MOST_TASKS)
            calls = [self.send(inspection.hold, hold_s) for _ in range(count)]
            found = self._most_at_once(self.take_times(calls))
            # If each worker had two tasks, no other worker can have been idle.
            if 2 * len(found) <= count or count == MOST_TASKS:
                return found
            count *= 2

    def _most_at_once(self, answers: Sequence[Mapping[str, Any]]) -> set[str]:
        """Return the largest set of workers whose tasks overlap, by this machine's clock."""
        changes: list[tuple[float, int, str]] = []
        for answer in answers:
            ahead_s = self.clocks[answer["host"]].offset_s
            changes.append((answer["began"] - ahead_s, 1, answer["worker"]))
            changes.append((answer["ended"] - ahead_s, -1, answer["worker"]))
        tasks: dict[str, int] = {}
        most: set[str] = set()
        for _when, change, worker in sorted(changes):
            tasks[worker] = tasks.get(worker, 0) + change
            if not tasks[worker]:
                del tasks[worker]
            elif len(tasks) > len(most):
                most = set(tasks)
        return most

    def _lost(self, error: NotReadyError) -> NotReadyError:
        self._on_lost(error)
        return error
