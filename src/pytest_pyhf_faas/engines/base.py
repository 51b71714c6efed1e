"""The interface of an engine for the campaign."""

from __future__ import annotations

from abc import abstractmethod
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


#: Tasks that an engine holds for each worker: one that runs, one that waits.
IN_FLIGHT = 2
#: What is missing if nothing answers, unless an engine knows better.
WORKER = "worker"


class Engine(Executor):
    """A `concurrent.futures.Executor` that can be replaced in place when it breaks.

    Futures end with the function's value or with one of `WorkerLostError` (its worker died),
    `BlockLostError` (so did all workers around it), `TaskTimeoutError`, `RemoteCallError` and
    `EngineError` (nothing will come of this engine until it is restarted; if it is an
    `EndpointUnusableError`, then not even after that). An exception of the function itself never
    arrives, because the functions in `worker` answer with data.

    Attributes
    ----------
    spec : str
        The endpoint as the user named it.
    workers : int
        Tasks that run at once, when all workers are there.
    batch_s : float
        Seconds of fits that make a task worth its overhead on this engine.
    fixed_workers : bool
        Whether all its workers are there from its start to its end, so that fewer are a fault.
    watches_workers : bool
        Whether it notices by itself that a worker hangs. If it does not, silence counts as
        failure, and a straggler is run again on an idle worker.
    loses_tasks : bool
        Whether a task may be lost silently. Then the engine supports `ping`.
    walltime_s : float or None
        How long its workers live until a batch system ends them, where that is known.
    missed_after_s : float
        How long after their end the loss of workers with their block is noticed.
    whole : str
        Name of the whole, which is lost when it breaks down.
    worker_setup : str
        Where a user sets what its workers have installed, to be read after "in".
    on_accepted : callable
        Called with a future and a reference, once it is known under what a call can be collected
        by a later session; only engines whose calls outlive this one call it.
    """

    spec: str
    workers: int
    batch_s: float
    fixed_workers: bool = False
    watches_workers: bool = True
    loses_tasks: bool = False
    walltime_s: float | None = None
    missed_after_s: float = 0.0
    whole: str = "engine"
    worker_setup: str = "the environment of its workers"
    on_accepted: Callable[[Future[Any], str], None] = staticmethod(lambda _future, _reference: None)

    @abstractmethod
    def start(self) -> None:
        """Start workers in the background and return at once; calling it again does nothing."""

    @property
    @abstractmethod
    def ready_at(self) -> float | None:
        """`time.monotonic()` of the first answer of a worker since the start; ``None`` before."""

    @property
    @abstractmethod
    def broken(self) -> bool:
        """Whether tasks in flight may never end, so that the engine must be restarted."""

    @property
    def failure(self) -> str | None:
        """Why it is broken, where that is known."""
        return None

    @property
    def workers_known(self) -> bool:
        """Whether `workers` is known before they have answered."""
        return True

    @property
    def in_flight(self) -> int:
        """How many tasks it should hold."""
        return IN_FLIGHT * self.workers

    def describe(self) -> dict[str, str]:
        """Return what is known about the endpoint without its workers, for people.

        Raises
        ------
        ConfigurationError
            If there is no such endpoint, or it cannot be used as it is.
        """
        return {"endpoint": self.spec}

    @property
    def workers_there(self) -> int:
        """How many workers there are by now."""
        return self.workers

    @property
    def missing_since(self) -> float | None:
        """`time.monotonic()` since which there is no worker; ``None`` while there is one."""
        return None

    @property
    def waits_for(self) -> str | None:
        """What the next worker waits for, for people; ``None`` while there is one."""
        return None

    @property
    def missing(self) -> str:
        """What is missing meanwhile, for people: a worker, or any news of one."""
        return WORKER

    @property
    def remedy(self) -> str | None:
        """What people can do where the workers run while there is none.

        ``None`` where nothing is known, or where `waits_for` says it.
        """
        return None

    @property
    def knows(self) -> str | None:
        """What it knows about its workers while no answer comes, for people."""
        return None

    @abstractmethod
    def restart(self) -> None:
        """End workers and tasks in flight as `stop` does, and start again."""

    @abstractmethod
    def submit(  # type: ignore[override]
        self, function: Callable[..., Any], /, *args: Any, timeout_s: float | None = None
    ) -> Future[Any]:
        """Run a function on a worker; ``timeout_s`` counts from its start there.

        The engine is started if it is not. Arguments and value are what JSON can carry. The future
        cannot be cancelled; it ends with its engine at the latest.

        Raises
        ------
        EngineError
            If the engine cannot take tasks.
        EndpointUnusableError, ConfigurationError
            If it never can, because no worker of it ever came or because it is misconfigured.
        """

    def ping(self) -> Future[Any]:
        """Ask for an empty answer, after all that was submitted."""
        raise NotImplementedError(f"{self.spec} loses no tasks")

    def collect(self, reference: str) -> Future[Any]:
        """Return the future of a call that an earlier session has submitted."""
        raise NotImplementedError(f"nothing outlives a session of {self.spec}: {reference}")

    def settle(self) -> None:
        """Wait briefly until what was just submitted is accepted."""

    @abstractmethod
    def stop(self) -> None:
        """End all workers at once, busy ones too, and leave nothing behind.

        Futures of tasks in flight end with `EngineError`. Calling it again does nothing.
        """

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """End the engine; it never waits for running tasks, the campaign does that."""
        self.stop()
