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
_STOP_S = 10.0


class LocalEngine(Engine):
    """Pebble's process pool over a fork server that has pyhf loaded.

    A worker that dies costs its own task. Where one dies while no task runs, Pebble gives the
    whole pool up; `broken` says so, and `restart` makes a new one.
    """

    batch_s = 0.25

    def __init__(self, spec: str, workers: int) -> None:
        self.spec = spec
        self.workers = workers
        self._lock = threading.RLock()
        self._pool: ProcessPool | None = None
        self._ready_at: float | None = None
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
            # The first fork waits until the server has imported pyhf; nobody else needs to.
            self._starting = threading.Thread(target=self._warm_up, args=(pool,), daemon=True)
            self._starting.start()

    def _warm_up(self, pool: ProcessPool) -> None:
        with contextlib.suppress(Exception):  # a submission meets the same error and reports it
            pool.schedule(time.monotonic).result()
            if pool is self._pool:
                self._ready_at = time.monotonic()

    @property
    def ready_at(self) -> float | None:
        return self._ready_at

    @property
    def broken(self) -> bool:
        pool, starting = self._pool, self._starting
        if pool is None or (starting is not None and starting.is_alive()):
            return False
        return not pool.active

    def restart(self) -> None:
        self.stop()
        self.start()

    def submit(  # type: ignore[override]
        self, function: Callable[..., Any], /, *args: Any, timeout_s: float | None = None
    ) -> Future[Any]:
        self.start()
        pool = self._pool
        if pool is None:
            raise EngineError("the local engine was stopped")
        try:
            inner = pool.schedule(function, args=args, timeout=timeout_s)
        except (RuntimeError, OSError) as error:
            raise EngineError(f"the local worker pool broke down ({error})") from error
        outer: Future[Any] = Future()
        outer.set_running_or_notify_cancel()
        inner.add_done_callback(lambda done: _hand_over(done, outer, timeout_s))
        return outer

    def stop(self) -> None:
        with self._lock:
            pool, self._pool = self._pool, None
            starting = self._starting
        if pool is None:
            return
        if starting is not None:
            # Stopping a pool that is half started would leave the workers that come up later.
            starting.join(_STOP_S)
        pool.stop()
        pool.join()


def _hand_over(inner: Future[Any], outer: Future[Any], timeout_s: float | None) -> None:
    if inner.cancelled():
        outer.set_exception(EngineError("the local engine was stopped"))
        return
    error = inner.exception()
    if error is None:
        outer.set_result(inner.result())
    elif isinstance(error, TimeoutError):
        outer.set_exception(TaskTimeoutError(f"it was ended after its time limit of {timeout_s} s"))
    elif isinstance(error, ProcessExpired):
        outer.set_exception(WorkerLostError(_death(error.exitcode)))
    else:
        outer.set_exception(EngineError(f"the local worker pool broke down ({error!r})"))


def _death(exit_code: int) -> str:
    if exit_code == _KILLED:
        return (
            "its worker process was killed (signal 9); if nobody did that, the machine ran out of "
            "memory: use fewer workers (--funcx-endpoint local:N)"
        )
    if exit_code < 0:
        return f"its worker process crashed (signal {-exit_code})"
    return f"its worker process ended with exit status {exit_code}"
