"""Worker processes on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, TimeoutError  # noqa: A004 - not builtin before Python 3.11
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pebble import ProcessExpired, ProcessPool

from pytest_pyhf_faas.engines import local_worker
from pytest_pyhf_faas.engines.session import Session, SessionEngine
from pytest_pyhf_faas.errors import (
    ConfigurationError,
    EngineError,
    FaasError,
    TaskTimeoutError,
    WorkerLostError,
)
from pytest_pyhf_faas.wording import described

if TYPE_CHECKING:
    from collections.abc import Callable

_KILLED = -9
#: The exit code in multiprocessing of a process whose end its fork server does not know.
_UNKNOWN = 255
_STOP_S = 10.0
#: The longest address of a Unix socket, with a zero byte at its end.
_SOCKET_PATH_BYTES = 108 if sys.platform == "linux" else 104


class LocalEngine(SessionEngine["_PoolSession"]):
    """Pebble's process pool, over a fork server that has pyhf loaded where the system can fork.

    A worker that dies costs its own task. If one dies while no task runs, Pebble gives the
    whole pool up; `broken` says so, and `restart` makes a new one.
    """

    batch_s = 0.25
    fixed_workers = True
    whole = "worker pool"
    worker_setup = "the environment that pytest runs in"

    def __init__(self, spec: str, workers: int) -> None:
        super().__init__(spec)
        if _start_method() == "forkserver":
            _check_temporary_directory()
        _check_main_module()
        self.workers = workers

    def _new_session(self) -> _PoolSession:
        return _PoolSession(self.workers)

    def describe(self) -> dict[str, str]:
        return {
            "endpoint": self.spec,
            "kind": "processes on this machine",
            "workers": str(self.workers),
        }

    def submit(  # type: ignore[override]
        self, function: Callable[..., Any], /, *args: Any, timeout_s: float | None = None
    ) -> Future[Any]:
        return self._started().submit(function, args, timeout_s)


class _PoolSession(Session):
    kind = "the local engine"
    ready_at: float | None = None
    missing_since: float | None = None

    def __init__(self, workers: int) -> None:
        super().__init__()
        context: Any = multiprocessing.get_context(_start_method())
        context.set_forkserver_preload([local_worker.__name__])
        self.missing_since = time.monotonic()
        self._pool = ProcessPool(
            max_workers=workers, initializer=local_worker.initialize, context=context
        )
        # The first fork waits until the server has imported pyhf; nothing else needs to.
        self._starting = threading.Thread(target=self._warm_up, daemon=True)
        self._starting.start()

    def _warm_up(self) -> None:
        with contextlib.suppress(Exception):  # a submission meets the same error and reports it
            self._pool.schedule(time.monotonic).add_done_callback(self._answered)

    def _answered(self, done: Future[Any]) -> None:
        if done.exception() is None:
            self.ready_at = time.monotonic()
            self.missing_since = None

    @property
    def failure(self) -> str | None:
        """Only Pebble knows; a pool that is not up yet is not broken."""
        if self._starting.is_alive() or self._closed.is_set() or self._pool.active:
            return None
        return "the local worker pool broke down: a worker died while idle"

    @property
    def waits_for(self) -> str | None:
        return None if self.ready_at is not None else "its workers start"

    def submit(
        self, function: Callable[..., Any], args: tuple[Any, ...], timeout_s: float | None
    ) -> Future[Any]:
        outer: Future[Any] = Future()
        self._begin(outer)
        try:
            inner = self._pool.schedule(function, args=args, timeout=timeout_s)
        except (RuntimeError, OSError) as error:
            self._waiting.discard(outer)
            raise EngineError(f"the local worker pool broke down ({described(error)})") from error
        inner.add_done_callback(lambda done: self._hand_over(done, outer, timeout_s))
        return outer

    def _hand_over(self, inner: Future[Any], outer: Future[Any], timeout_s: float | None) -> None:
        error = inner.exception()
        if error is None:
            self._finish(outer, value=inner.result())
        else:
            self._finish(outer, error=_translated(error, timeout_s))

    def _release(self) -> None:
        # Stopping a half-started pool would leave workers that start later.
        self._starting.join(_STOP_S)
        self._pool.stop()
        self._pool.join()


def _start_method() -> Literal["forkserver", "spawn"]:
    """Return how workers start: forked from a server that has pyhf loaded; alone on Windows."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def _check_temporary_directory() -> None:
    """Refuse one that is too long for the sockets that multiprocessing makes below it."""
    directory = tempfile.gettempdir()
    path = Path(directory, "pymp-12345678", "listener-12345678")
    if len(os.fsencode(path)) >= _SOCKET_PATH_BYTES:
        raise ConfigurationError(
            f"the local workers cannot start: the temporary directory {directory} has a path of "
            f"{len(os.fsencode(directory))} bytes, which is too long for the names of sockets in "
            "it. Set TMPDIR to a shorter one, such as TMPDIR=/tmp"
        )


def _check_main_module() -> None:
    """Refuse a script that would start its own workers in each worker, which imports it."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    try:
        source = Path(path).read_text(encoding="utf-8", errors="replace") if path else "__name__"
    except OSError:
        return
    if "__name__" not in source:
        raise ConfigurationError(
            f"the local workers cannot start: each of them imports {path}, and would run it again. "
            'Put what it does below a line\n    if __name__ == "__main__":\n'
            "as for all of Python's multiprocessing; a notebook needs no such line"
        )


def _translated(error: BaseException, timeout_s: float | None) -> FaasError:
    if isinstance(error, TimeoutError):
        return TaskTimeoutError(f"it was ended after its time limit of {timeout_s} s")
    if isinstance(error, ProcessExpired) and error.exitcode == _UNKNOWN:
        return EngineError("the server that forks the workers was killed")
    if isinstance(error, ProcessExpired):
        return WorkerLostError(_death(error.exitcode))
    return EngineError(f"the local worker pool broke down ({described(error)})")


def _death(exit_code: int) -> str:
    if exit_code == _KILLED:
        return (
            "its worker process was killed (signal 9); if nobody did that, the machine ran out of "
            "memory: use fewer workers (--faas-endpoint local:N)"
        )
    if exit_code < 0:
        return f"its worker process crashed (signal {-exit_code})"
    return f"its worker process ended with exit status {exit_code}"
