"""Engines with several lives: a restart ends one life and starts another."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pytest_pyhf_faas.engines.base import WORKER, Engine
from pytest_pyhf_faas.errors import EndpointUnusableError, EngineError

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future


class Session(ABC):
    """One life of an engine, and the futures that end with it at the latest.

    Attributes
    ----------
    kind : str
        The engine as messages call it.
    hopeless : bool
        Whether the next life would fail as this one did.
    """

    kind: str
    hopeless = False

    def __init__(self, *, proven: bool = False) -> None:
        self._proven = proven  # a worker has answered, in this life or in an earlier one
        self._failure: str | None = None
        self._changed = threading.Condition()
        self._waiting: set[Future[Any]] = set()  # whose ends are awaited
        self._closed = threading.Event()

    @property
    def failure(self) -> str | None:
        """Why it will return nothing more; ``None`` while it may."""
        return self._failure

    @property
    @abstractmethod
    def ready_at(self) -> float | None:
        """See `Engine`."""

    @property
    @abstractmethod
    def missing_since(self) -> float | None:
        """See `Engine`."""

    @property
    @abstractmethod
    def waits_for(self) -> str | None:
        """See `Engine`."""

    @property
    def missing(self) -> str:
        """See `Engine`."""
        return WORKER

    @property
    def remedy(self) -> str | None:
        """See `Engine`."""
        return None

    @property
    def knows(self) -> str | None:
        """See `Engine`."""
        return None

    @abstractmethod
    def _release(self) -> None:
        """End what was started, once no future is waited for any more."""

    def close(self) -> None:
        """End it; calling it again does nothing."""
        with self._changed:
            if self._closed.is_set():
                return
            self._closed.set()
            self._changed.notify_all()
        self._end_waiting(f"{self.kind} was stopped")
        self._release()

    def _begin(self, future: Future[Any]) -> None:
        """Take charge of a future, which cannot be cancelled from now on."""
        future.set_running_or_notify_cancel()
        with self._changed:
            if self.failure is not None or self._closed.is_set():
                raise self._error(self.failure or f"{self.kind} was stopped")
            self._waiting.add(future)

    def _finish(
        self, future: Future[Any], *, value: Any = None, error: BaseException | None = None
    ) -> None:
        """End a future, unless it has ended already."""
        with self._changed:
            if future not in self._waiting:
                return
            self._waiting.discard(future)
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)

    def _fail(self, reason: str, *, hopeless: bool = False) -> None:
        """End all that is waited for; the first reason counts."""
        with self._changed:
            if self._failure is not None or self._closed.is_set():
                return
            self._failure = reason
            self.hopeless = hopeless
            self._changed.notify_all()
        self._end_waiting(reason)

    def _end_waiting(self, reason: str) -> None:
        with self._changed:
            waiting = list(self._waiting)
        for future in waiting:
            self._finish(future, error=self._error(reason))

    def _error(self, reason: str) -> EngineError:
        return EndpointUnusableError(reason) if self.hopeless else EngineError(reason)

    def _in_thread(self, work: Callable[[], None]) -> threading.Thread:
        """Do some work until the session ends; an exception in it is a failure of the session."""

        def watched() -> None:
            try:
                work()
            except Exception as error:  # noqa: BLE001 - nobody would hear of it
                self._fail(f"{self.kind} broke down ({type(error).__name__}: {error})")

        thread = threading.Thread(target=watched, daemon=True)
        thread.start()
        return thread


AnySession = TypeVar("AnySession", bound=Session)


class SessionEngine(Engine, Generic[AnySession]):
    """An engine that delegates to its session, and has none until it is started."""

    def __init__(self, spec: str) -> None:
        self.spec = spec
        self._lock = threading.RLock()
        self._session: AnySession | None = None
        self._proven = False

    @abstractmethod
    def _new_session(self) -> AnySession:
        """Start a life, and return at once."""

    def start(self) -> None:
        self._started()

    def _started(self) -> AnySession:
        with self._lock:
            if self._session is None:
                self._session = self._new_session()
            return self._session

    @property
    def ready_at(self) -> float | None:
        return self._session.ready_at if self._session is not None else None

    @property
    def broken(self) -> bool:
        session = self._session
        return session is not None and session.failure is not None and not session.hopeless

    @property
    def failure(self) -> str | None:
        return self._session.failure if self._session is not None else None

    @property
    def missing_since(self) -> float | None:
        return self._session.missing_since if self._session is not None else None

    @property
    def waits_for(self) -> str | None:
        return self._session.waits_for if self._session is not None else None

    @property
    def missing(self) -> str:
        return self._session.missing if self._session is not None else WORKER

    @property
    def remedy(self) -> str | None:
        return self._session.remedy if self._session is not None else None

    @property
    def knows(self) -> str | None:
        return self._session.knows if self._session is not None else None

    def restart(self) -> None:
        self.stop()
        self.start()

    def stop(self) -> None:
        with self._lock:
            session, self._session = self._session, None
            self._proven = self._proven or (session is not None and session.ready_at is not None)
        if session is not None:
            session.close()
