"""Workers that Parsl starts, on this machine or through the batch system of a cluster."""

from __future__ import annotations

import atexit
import contextlib
import gc
import logging
import os
import runpy
import shutil
import threading
import time
import warnings
from collections import Counter
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import parsl
from parsl.executors import HighThroughputExecutor
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import ManagerLost, WorkerLost
from parsl.executors.high_throughput.executor import DEFAULT_INTERCHANGE_LAUNCH_CMD
from parsl.executors.status_handling import BlockProviderExecutor
from parsl.executors.threads import ThreadPoolExecutor
from parsl.jobs.error_handlers import simple_error_handler, windowed_error_handler
from parsl.providers import LocalProvider, SlurmProvider

from pytest_pyhf_faas.engines.base import Engine
from pytest_pyhf_faas.engines.parsl_interchange import end_groups, launch_command, remember_jobs
from pytest_pyhf_faas.engines.remote import expression_arguments, pack_call, unpack_answer
from pytest_pyhf_faas.errors import (
    BlockLostError,
    ConfigurationError,
    EndpointUnusableError,
    EngineError,
    FaasError,
    RemoteCallError,
    WorkerLostError,
)
from pytest_pyhf_faas.wording import one_line, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_WATCH_S = 0.2
_COUNT_S = 1.0
#: How long Parsl may take to bring its interchange up, and to end in an orderly way.
_START_S = 150.0
_STOP_S = 20.0
_MESSAGE_CHARACTERS = 2000
_DIRECTORY_TRIES = 10
#: Parsl's own defaults, which are too slow or too loud for a session of pytest.
_RUN_DIR, _STRATEGY_PERIOD_S = "runinfo", 5
_QUICK_STRATEGY_PERIOD_S = 0.3


class ParslEngine(Engine):
    """The executors of a Parsl configuration.

    Parsl's kernel starts, scales and ends them; tasks go to the executors directly, for of what the
    kernel adds to a task (dependencies, retries, memory of results) the campaign needs nothing.

    Parameters
    ----------
    spec : str
        The endpoint as the user named it.
    path : Path
        A module with ``fresh_config()`` or ``config``.
    directory : Path
        Where Parsl keeps its files, if the configuration does not say. Workers must see it.
    blocks, workers : int or None
        Blocks (at the start and at most) and workers for each node, instead of the configuration's.

    Raises
    ------
    ConfigurationError
        If the file cannot be run, or has no configuration that can be used.
    """

    batch_s = 0.5
    watches_workers = False

    def __init__(
        self, spec: str, path: Path, directory: Path, *, blocks: int | None, workers: int | None
    ) -> None:
        self.spec = spec
        self.worker_setup = f"worker_init of the provider in {path.name}"
        self._path = path
        self._directory = directory
        self._blocks = blocks
        self._node_workers = workers
        self._lock = threading.RLock()
        self._kernel: _Kernel | None = None
        self._proven = False
        self._config: parsl.Config | None = self._load()
        self._description = _described(self._config)
        self.workers = sum(map(_slots, self._config.executors))

    def start(self) -> None:
        with self._lock:
            if self._kernel is None:
                config, self._config = self._config or self._load(), None
                self._kernel = _Kernel(config, self._directory, proven=self._proven)

    @property
    def ready_at(self) -> float | None:
        return self._kernel.ready_at if self._kernel is not None else None

    @property
    def broken(self) -> bool:
        kernel = self._kernel
        return kernel is not None and kernel.failure is not None and not kernel.hopeless

    @property
    def failure(self) -> str | None:
        return self._kernel.failure if self._kernel is not None else None

    def describe(self) -> dict[str, str]:
        return {"endpoint": self.spec, **self._description}

    @property
    def workers_there(self) -> int:
        return self._kernel.connected_workers if self._kernel is not None else 0

    @property
    def missing_since(self) -> float | None:
        return self._kernel.missing_since if self._kernel is not None else None

    @property
    def waits_for(self) -> str | None:
        return self._kernel.waits_for if self._kernel is not None else None

    def restart(self) -> None:
        self.stop()
        self.start()

    def submit(  # type: ignore[override]
        self, function: Callable[..., Any], /, *args: Any, timeout_s: float | None = None
    ) -> Future[Any]:
        with self._lock:
            self.start()
            kernel = self._kernel
            assert kernel is not None  # it was just started
        future = kernel.submit(*expression_arguments(pack_call(function, args, timeout_s)))
        self.workers = max(self.workers, kernel.connected_workers)
        return future

    def stop(self) -> None:
        with self._lock:
            kernel, self._kernel = self._kernel, None
            self._proven = self._proven or (kernel is not None and kernel.ready_at is not None)
        if kernel is not None:
            kernel.close()

    def _load(self) -> parsl.Config:
        config = _read(self._path)
        for executor in config.executors:
            if isinstance(executor, ThreadPoolExecutor):
                raise ConfigurationError(
                    f"the Parsl configuration {self._path} has a ThreadPoolExecutor, and pyhf's "
                    "backend is one for a whole process: use a HighThroughputExecutor"
                )
            _override(executor, self._blocks, self._node_workers)
        if config.initialize_logging is True:
            config.initialize_logging = False
            log = logging.getLogger("parsl")
            if log.level == logging.NOTSET:
                log.setLevel(logging.CRITICAL)  # what it says of failures is said by us
        if config.strategy_period == _STRATEGY_PERIOD_S:
            config.strategy_period = _QUICK_STRATEGY_PERIOD_S
        if config.run_dir == _RUN_DIR:
            config.run_dir = str(self._directory)
        return config


class _Kernel:
    """One life of the engine, from the start of Parsl's kernel to its end.

    Attributes
    ----------
    failure : str or None
        Why nothing will come of it any more.
    hopeless : bool
        Whether the next life would end so, too: none has ever had a worker.
    ready_at, missing_since, waits_for
        See `Engine`.
    """

    def __init__(self, config: parsl.Config, directory: Path, *, proven: bool) -> None:
        self.failure: str | None = None
        self.hopeless = False
        self._proven = proven
        self.ready_at: float | None = None
        self.missing_since: float | None = time.monotonic()
        self.connected_workers = 0
        self._config = config
        self._directory = directory
        self._executors: Sequence[Any] = config.executors
        self._kernel: parsl.DataFlowKernel | None = None
        self._submitting = threading.Lock()  # Parsl's sockets are for one thread at a time
        self._state = threading.Lock()
        self._waiting: set[Future[Any]] = set()
        self._closed = threading.Event()
        self._groups: dict[str, int] = {}
        self._queue_says = ""
        self._remembered: list[tuple[list[str], list[int]]] = []
        self._jobs = directory / f"jobs-{os.getpid()}-{id(self)}.pickle"
        self._starting = threading.Thread(target=self._start, daemon=True)
        self._starting.start()

    # Life

    def _start(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            for executor in self._managed():
                if list(executor.interchange_launch_cmd) == DEFAULT_INTERCHANGE_LAUNCH_CMD:
                    executor.interchange_launch_cmd = launch_command(self._jobs)
            self._kernel = _kernel_of(self._config)
        except Exception as error:  # noqa: BLE001 - whatever Parsl, a provider or the system raises
            self._fail(f"Parsl cannot start: {_readable(error)}")
            return
        threading.Thread(target=self._watch, daemon=True).start()
        threading.Thread(target=self._count, daemon=True).start()
        with contextlib.suppress(FaasError):
            self.submit("None", {})  # says when the first worker is there

    def submit(self, expression: str, names: dict[str, str]) -> Future[Any]:
        """Have an expression evaluated by the executor that has the least to do."""
        if threading.current_thread() is not self._starting:
            self._starting.join(_START_S)
        outer: Future[Any] = Future()
        outer.set_running_or_notify_cancel()
        with self._state:
            if self.failure is not None or self._closed.is_set():
                raise self._error(self.failure or "the Parsl engine was stopped")
            self._waiting.add(outer)
        try:
            with self._submitting:
                executor = min(self._executors, key=_outstanding)
                inner = executor.submit(eval, {}, expression, names)
        except Exception as error:  # a bad state raises what caused it
            self._waiting.discard(outer)
            raise self._error(f"Parsl takes no tasks: {_readable(error)}") from error
        inner.add_done_callback(lambda done: self._hand_over(done, outer, executor))
        return outer

    def close(self) -> None:
        """End all of it within some seconds, in an orderly way if that can be."""
        with self._state:
            if self._closed.is_set():
                return
            self._closed.set()
        self._end_waiting("the Parsl engine was stopped")
        ending = threading.Thread(target=self._end, daemon=True)
        ending.start()
        ending.join(_STOP_S if self.failure is None else _STOP_S / 2)
        for executor in self._managed():
            process = executor.interchange_proc
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        end_groups(list(self._groups.values()))
        kernel = self._kernel
        if kernel is not None:
            atexit.unregister(kernel.atexit_cleanup)
            if self.failure is None and self.ready_at is not None:
                shutil.rmtree(kernel.run_dir, ignore_errors=True)
        for suffix in (".pickle", ".log", ".new"):
            self._jobs.with_suffix(suffix).unlink(missing_ok=True)

    def _end(self) -> None:
        self._starting.join()
        kernel = self._kernel
        if kernel is not None:
            # First no new blocks, then none at all: Parsl leaves those of a bad state alone.
            kernel.job_status_poller._kill_event.set()  # noqa: SLF001 - its close() scales in, too
            # Where the interchange is dead it waits for its answer for ever.
            limit_s = _STOP_S / 2 if self.failure is None else 1.0
            kernel.job_status_poller._thread.join(limit_s)  # noqa: SLF001
        self._remember_jobs()
        for executor in self._with_blocks():
            live = _live_jobs(executor)
            if live:
                with contextlib.suppress(Exception):
                    executor.provider.cancel(live)
        with contextlib.suppress(Exception):
            if kernel is not None and self.failure is None:
                kernel.cleanup()
            else:
                for executor in self._executors:
                    executor.shutdown()

    def _fail(self, reason: str) -> None:
        with self._state:
            if self.failure is not None or self._closed.is_set():
                return
            self.failure = reason
            self.hopeless = self.ready_at is None and not self._proven
        self._end_waiting(reason)

    def _error(self, reason: str) -> FaasError:
        return EndpointUnusableError(reason) if self.hopeless else EngineError(reason)

    def _end_waiting(self, reason: str) -> None:
        with self._state:
            waiting = list(self._waiting)
            self._waiting.clear()
        for future in waiting:
            future.set_exception(self._error(reason))

    def _hand_over(self, inner: Future[Any], outer: Future[Any], executor: Any) -> None:
        error = inner.exception()
        if error is None and self.ready_at is None:
            self.ready_at = time.monotonic()
        if isinstance(error, ManagerLost):
            _poll_at_once(executor)
        if isinstance(error, BadStateException):
            self._fail(self._failed_blocks(executor))
            return  # it ended with the engine
        with self._state:
            if outer not in self._waiting:
                return  # it ended with the engine
            self._waiting.remove(outer)
        if error is not None:
            outer.set_exception(_translated(error))
            return
        try:
            answer = inner.result()
            outer.set_result(None if answer is None else unpack_answer(answer))
        except FaasError as problem:
            outer.set_exception(problem)

    # Watching

    def _watch(self) -> None:
        """Take note of what Parsl does not tell those who wait: a dead interchange, a bad state."""
        while not self._closed.wait(_WATCH_S) and self.failure is None:
            self._remember_jobs()
            for executor in self._with_blocks():
                if executor.bad_state_is_set:
                    self._fail(self._failed_blocks(executor))
            for executor in self._managed():
                process = executor.interchange_proc
                if process is not None and process.poll() is not None:
                    self._fail(f"the interchange of {executor.label} died ({process.returncode})")

    def _count(self) -> None:
        """Count the workers that are connected; apart, for Parsl waits for ever for the answer."""
        managers_before: dict[str, int] = {}
        while not self._closed.wait(_COUNT_S) and self.failure is None:
            workers = 0
            for executor in self._managed():
                try:
                    managers = executor.connected_managers()
                except Exception:  # noqa: BLE001 - sockets that are closed meanwhile
                    return
                active = [manager for manager in managers if manager["active"]]
                workers += sum(manager["worker_count"] for manager in active)
                before = managers_before.get(executor.label, 0)
                if len(active) < before:
                    _poll_at_once(executor)
                    if not active and self._config.strategy in (None, "none"):
                        self._fail("all blocks ended, and strategy='none' starts no others")
                managers_before[executor.label] = len(active)
            self.connected_workers = workers
            if workers or (not managers_before and self.ready_at is not None):
                self.missing_since = None
            elif self.missing_since is None:
                self.missing_since = time.monotonic()
            if self.missing_since is not None:
                self._queue_says = "; ".join(filter(None, map(_queue_state, self._with_blocks())))

    @property
    def waits_for(self) -> str | None:
        """Say in which state the blocks are, while there is no worker."""
        if self.missing_since is None:
            return None
        states: Counter[str] = Counter()
        messages: dict[str, None] = {}
        for executor in self._with_blocks():
            for status in list(executor.status_facade.values()):
                states[status.status_name.lower()] += 1
                if status.message and status.terminal:
                    messages[str(status.message)[:_MESSAGE_CHARACTERS]] = None
        counted = ", ".join(f"{count} {state}" for state, count in states.items())
        said = "; ".join(filter(None, [self._queue_says, *messages]))
        return f"blocks: {counted or 'none yet'}" + (f" ({said})" if said else "")

    def _failed_blocks(self, executor: Any) -> str:
        """Say in one line how blocks failed, whatever Parsl makes of it."""
        failed: Counter[str] = Counter()
        for status in list(executor.status_facade.values()):
            if status.terminal:
                code = "" if status.exit_code is None else f" with exit status {status.exit_code}"
                said = status.stderr_summary or status.stdout_summary or status.message or ""
                failed[f"{code}: {_readable(said)}" if said else code] += 1
        if not failed:
            return f"its blocks fail: {_readable(executor.executor_exception)}"
        counted = "; ".join(f"{count} ended{how}" for how, count in failed.items())
        where = getattr(executor.provider, "script_dir", None)
        return (
            f"its blocks of workers end before they have done anything: {counted}. Look at "
            f"worker_init and the provider of the configuration, and at the logs in {where}"
        )

    def _remember_jobs(self) -> None:
        for executor in self._with_blocks():
            if isinstance(executor.provider, LocalProvider):
                for job in list(executor.job_ids_to_block):
                    if job not in self._groups:
                        with contextlib.suppress(OSError, ValueError):
                            self._groups[job] = os.getpgid(int(job))
        jobs = [
            (executor.provider, _live_jobs(executor), list(self._groups.values()))
            for executor in self._with_blocks()
        ]
        known = [(ids, groups) for _, ids, groups in jobs]
        if known != self._remembered:
            with contextlib.suppress(OSError):
                remember_jobs(self._jobs, jobs)
                self._remembered = known

    def _with_blocks(self) -> Iterator[Any]:
        return (
            executor
            for executor in self._executors
            if isinstance(executor, BlockProviderExecutor) and executor.provider is not None
        )

    def _managed(self) -> Iterator[Any]:
        return (e for e in self._executors if isinstance(e, HighThroughputExecutor))


def _kernel_of(config: parsl.Config) -> parsl.DataFlowKernel:
    """Start Parsl's kernel, which begins with the first free number for its directory."""
    for _ in range(_DIRECTORY_TRIES - 1):
        with contextlib.suppress(FileExistsError):  # another one was quicker
            return parsl.DataFlowKernel(config)
    return parsl.DataFlowKernel(config)


def _read(path: Path) -> parsl.Config:
    try:
        with warnings.catch_warnings():
            # Parsl leaves sockets open while it looks for this machine's addresses; they are
            # collected while nobody is warned of them.
            warnings.simplefilter("ignore", ResourceWarning)
            names = runpy.run_path(str(path))
            config = names["fresh_config"]() if "fresh_config" in names else names["config"]
            gc.collect()
    except KeyError as error:
        if error.args != ("config",):
            raise ConfigurationError(_cannot_be_run(path, error)) from error
        raise ConfigurationError(
            f"the Parsl configuration {path} defines neither config nor fresh_config(): one of "
            "them must be a parsl.Config"
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(_cannot_be_run(path, error)) from error
    if not isinstance(config, parsl.Config):
        raise ConfigurationError(
            f"the configuration of {path} is a {type(config).__name__}: it must be a parsl.Config"
        )
    return config


def _cannot_be_run(path: Path, error: BaseException) -> str:
    return (
        f"the Parsl configuration {path} cannot be run ({type(error).__name__}: "
        f"{_readable(error)}): try `python {path}`"
    )


def _override(executor: Any, blocks: int | None, workers: int | None) -> None:
    """Set what the command line says, and what would lose or hang tasks."""
    provider = getattr(executor, "provider", None)
    if blocks is not None and provider is not None:
        provider.init_blocks = provider.max_blocks = blocks
        provider.min_blocks = min(provider.min_blocks, blocks)
    if isinstance(executor, HighThroughputExecutor):
        if workers is not None:
            executor.max_workers_per_node = workers
            executor._workers_per_node = workers  # noqa: SLF001 - made of it once, at the beginning
        # A worker that dies while it hands over a result hangs a manager that fetches ahead.
        executor.prefetch_capacity = 0
    if getattr(executor, "block_error_handler", None) is simple_error_handler:
        # One block that ends must not end them all, as where there is one block only.
        executor.block_error_handler = windowed_error_handler


def _described(config: parsl.Config) -> dict[str, str]:
    """Say what a configuration asks for, but for what may be nobody else's business."""
    executors = []
    for executor in config.executors:
        text = f"{executor.label} ({type(executor).__name__}"
        provider = getattr(executor, "provider", None)
        if provider is not None:
            text += (
                f" over {type(provider).__name__}; at most {provider.max_blocks} x "
                f"{provider.nodes_per_block} nodes x {_workers_per_node(executor)} workers"
            )
        executors.append(f"{text})")
    return {"kind": f"Parsl {parsl.__version__}", "executors": ", ".join(executors)}


def _slots(executor: Any) -> int:
    provider = getattr(executor, "provider", None)
    if provider is None:
        return 1
    slots = provider.max_blocks * provider.nodes_per_block * _workers_per_node(executor)
    return max(1, int(slots))


def _workers_per_node(executor: Any) -> int:
    try:
        return int(executor.workers_per_node)
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return 1


def _outstanding(executor: Any) -> int:
    outstanding = getattr(executor, "outstanding", 0)
    return int(outstanding() if callable(outstanding) else outstanding)


def _live_jobs(executor: Any) -> list[str]:
    status = executor.status_facade
    return [
        job
        for block, job in list(executor.blocks_to_job_id.items())
        if block not in status or not status[block].terminal
    ]


def _poll_at_once(executor: Any) -> None:
    """Let Parsl notice now that a block is gone; on clusters it asks once a minute only."""
    executor._last_poll_time = 0.0  # noqa: SLF001


def _queue_state(executor: Any) -> str:
    """Ask Slurm why blocks are pending."""
    jobs = _live_jobs(executor)
    if not jobs or not isinstance(executor.provider, SlurmProvider):
        return ""
    try:
        command = f"squeue --noheader --format='%T (%r)' --jobs={','.join(jobs)}"
        code, output, _errors = executor.provider.execute_wait(command)
    except Exception:  # noqa: BLE001 - a queue that does not answer is no news
        return ""
    said = Counter(output.splitlines()) if code == 0 else Counter[str]()
    return ", ".join(f"{count} {state} in Slurm" for state, count in said.items())


def _translated(error: BaseException) -> FaasError:
    if isinstance(error, WorkerLost):
        return WorkerLostError(
            f"its worker process on {error.hostname} died: killed, crashed or out of memory"
        )
    if isinstance(error, ManagerLost):
        return BlockLostError(
            f"its block on {error.hostname} is gone: cancelled, out of walltime, or a dead node"
        )
    if isinstance(error, MemoryError):
        return WorkerLostError("its worker ran out of memory")
    return RemoteCallError(f"a worker could not do it: {type(error).__name__}: {_readable(error)}")


def _readable(error: object) -> str:
    """Return a message as people can read it."""
    return shortened(one_line(error), _MESSAGE_CHARACTERS, cut="beginning")
