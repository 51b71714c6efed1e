"""Worker processes on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
import time
from concurrent.futures import Future, TimeoutError  # noqa: A004 - not builtin before Python 3.11
from typing import TYPE_CHECKING, Any

from pebble import ProcessExpired, ProcessPool

from pytest_pyhf_faas.engines import local_worker
from pytest_pyhf_faas.engines.base import Engine
from pytest_pyhf_faas.errors import EngineError, TaskTimeoutError, WorkerLostError

if TYPE_CHECKING:
    from collections.abc import Callable

_KILLED = -9
#: What multiprocessing says of a process whose fork server cannot tell how it ended.
_UNKNOWN = 255
_STOP_S = 10.0


class LocalEngine(Engine):
    """Pebble's process pool over a fork server that has pyhf loaded.

    A worker that dies costs its own task. Where one dies while no task runs, Pebble gives the
    whole pool up; `broken` says so, and `restart` makes a new one.
    """

    batch_s = 0.25
    fixed_workers = True
    worker_setup = "the environment that pytest runs in"

    def __init__(self, spec: str, workers: int) -> None:
        self.spec = spec
        self.workers = workers
        self._lock = threading.RLock()
        self._pool: ProcessPool | None = None
        self._waiting: set[Future[Any]] = set()
        self._ready_at: float | None = None
        self._started_at: float | None = None
        self._starting: threading.Thread | None = None

    def start(self) -> None:
        with self._lock:
            if self._pool is not None:
                return
            context = multiprocessing.get_context("forkserver")
            context.set_forkserver_preload([local_worker.__name__])
            pool = ProcessPool(
                max_workers=self.workers, initializer=local_worker.initialize, context=context
            )
            self._pool = pool
            self._ready_at = None
            self._started_at = time.monotonic()
            # The first fork waits until the server has imported pyhf; nobody else needs to.
            self._starting = threading.Thread(target=self._warm_up, args=(pool,), daemon=True)
            self._starting.start()

    def _warm_up(self, pool: ProcessPool) -> None:
        def answered(done: Future[Any]) -> None:
            if done.exception() is None and pool is self._pool:
                self._ready_at = time.monotonic()

        with contextlib.suppress(Exception):  # a submission meets the same error and reports it
            pool.schedule(time.monotonic).add_done_callback(answered)

    @property
    def ready_at(self) -> float | None:
        return self._ready_at

    @property
    def broken(self) -> bool:
        pool, starting = self._pool, self._starting
        if pool is None or (starting is not None and starting.is_alive()):
            return False
        return not pool.active

    @property
    def failure(self) -> str | None:
        return "a worker of it died while idle" if self.broken else None

    def describe(self) -> dict[str, str]:
        return {
            "endpoint": self.spec,
            "kind": "processes on this machine",
            "workers": str(self.workers),
        }

    @property
    def missing_since(self) -> float | None:
        return None if self._ready_at is not None else self._started_at

    @property
    def waits_for(self) -> str | None:
        return None if self._ready_at is not None else "its workers start"

    def restart(self) -> None:
        self.stop()
        self.start()

    def submit(  # type: ignore[override]
        self, function: Callable[..., Any], /, *args: Any, timeout_s: float | None = None
    ) -> Future[Any]:
        outer: Future[Any] = Future()
        outer.set_running_or_notify_cancel()
        with self._lock:
            self.start()
            pool = self._pool
            assert pool is not None  # it was just started
            self._waiting.add(outer)
        try:
            inner = pool.schedule(function, args=args, timeout=timeout_s)
        except (RuntimeError, OSError) as error:
            self._waiting.discard(outer)
            raise EngineError(f"the local worker pool broke down ({error})") from error
        inner.add_done_callback(lambda done: self._hand_over(done, outer, timeout_s))
        return outer

    def stop(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
            # Pebble forgets the tasks of a pool that is stopped; who waits for them must not.
            stopped = list(self._waiting)
            self._waiting.clear()
            starting = self._starting
        for future in stopped:
            future.set_exception(EngineError("the local engine was stopped"))
        if pool is None:
            return
        if starting is not None:
            # Stopping a pool that is half started would leave the workers that come up later.
            starting.join(_STOP_S)
        pool.stop()
        pool.join()

    def _hand_over(self, inner: Future[Any], outer: Future[Any], timeout_s: float | None) -> None:
        with self._lock:
            if outer not in self._waiting:
                return  # it ended when the engine was stopped
            self._waiting.remove(outer)
        _end(outer, inner, timeout_s)


def _end(outer: Future[Any], inner: Future[Any], timeout_s: float | None) -> None:
    error = inner.exception()
    if error is None:
        outer.set_result(inner.result())
    elif isinstance(error, TimeoutError):
        outer.set_exception(TaskTimeoutError(f"it was ended after its time limit of {timeout_s} s"))
    elif isinstance(error, ProcessExpired) and error.exitcode == _UNKNOWN:
        outer.set_exception(EngineError("the server that forks the workers was killed"))
    elif isinstance(error, ProcessExpired):
        outer.set_exception(WorkerLostError(_death(error.exitcode)))
    else:
        outer.set_exception(EngineError(f"the local worker pool broke down ({error!r})"))


def _death(exit_code: int) -> str:
    if exit_code == _KILLED:
        return (
            "its worker process was killed (signal 9); if nobody did that, the machine ran out of "
            "memory: use fewer workers (--faas-endpoint local:N)"
        )
    if exit_code < 0:
        return f"its worker process crashed (signal {-exit_code})"
    return f"its worker process ended with exit status {exit_code}"
