"""One life of a Parsl engine, from the start of Parsl's kernel to its end."""

from __future__ import annotations

import atexit
import contextlib
import math
import os
import queue
import shutil
import threading
import time
from collections import defaultdict
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

import parsl
import zmq
from parsl.executors.errors import BadStateException
from parsl.executors.high_throughput.errors import (
    CommandClientBadError,
    CommandClientTimeoutError,
    ManagerLost,
    WorkerLost,
)
from parsl.executors.high_throughput.executor import DEFAULT_INTERCHANGE_LAUNCH_CMD

from pytest_pyhf_faas.engines.parsl_blocks import (
    Jobs,
    Vacancies,
    end_vacant,
    managed,
    pending_text,
    poll_at_once,
    queue_states,
    remedy,
    states,
    with_blocks,
)
from pytest_pyhf_faas.engines.parsl_ends import called, why_it_ended
from pytest_pyhf_faas.engines.parsl_failures import failed_blocks
from pytest_pyhf_faas.engines.parsl_interchange import heartbeat_age_s, launch_command
from pytest_pyhf_faas.engines.remote import unpack_answer
from pytest_pyhf_faas.engines.session import Session
from pytest_pyhf_faas.engines.texts import in_one_line
from pytest_pyhf_faas.errors import BlockLostError, FaasError, RemoteCallError, WorkerLostError
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_WATCH_S = 0.2
_COUNT_S = 1.0
#: While there is no worker, the batch system is asked for the blocks this often, and ever more
#: rarely: after this fraction of the wait so far. Parsl asks once a minute, and takes three
#: ended blocks as a failure.
_ASK_S, _ASK_SHARE = 3.0, 1 / 20
#: How long Parsl may take to bring its interchange up, and to end in an orderly way.
_START_S = 150.0
_STOP_S = 20.0
#: Threads that wait for a dead interchange are released within this many seconds.
_LET_GO_S = 2.0
_DIRECTORY_TRIES = 10
#: Errors of asking an interchange that is ending or has ended; `_watch` handles that.
_NO_ANSWER = (zmq.ZMQError, CommandClientBadError, CommandClientTimeoutError)


class ParslSession(Session):
    """Parsl's kernel and its executors, which the tasks go to directly.

    Attributes
    ----------
    connected_workers : int
        How many workers there are by now.
    """

    kind = "the Parsl engine"
    ready_at: float | None = None
    missing_since: float | None = None

    def __init__(self, config: parsl.Config, directory: Path, *, proven: bool) -> None:
        super().__init__(proven=proven)
        self.missing_since = time.monotonic()
        self.connected_workers = 0
        self._config = config
        self._directory = directory
        self._executors: Sequence[Any] = config.executors
        self._kernel: parsl.DataFlowKernel | None = None
        self._submitting = threading.Lock()  # Parsl's sockets are for one thread at a time
        self._queue_says = ""
        self._asked_at = -math.inf
        self._blocks: dict[str, str] = {}  # by the manager that is or was connected
        self._lost: queue.SimpleQueue[tuple[Future[Any], Any, ManagerLost]] = queue.SimpleQueue()
        self._vacancies: defaultdict[str, Vacancies] = defaultdict(Vacancies)
        self._jobs = Jobs(directory / f"jobs-{os.getpid()}-{id(self)}.pickle")
        self._starting = self._in_thread(self._start)

    def _start(self) -> None:
        try:
            # It holds what is unpickled, so nobody else may write to it.
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for executor in managed(self._executors):
                if list(executor.interchange_launch_cmd) == DEFAULT_INTERCHANGE_LAUNCH_CMD:
                    executor.interchange_launch_cmd = launch_command(self._jobs.path)
            self._kernel = _kernel_of(self._config)
        except Exception as error:  # noqa: BLE001 - whatever Parsl, a provider or the system raises
            self._fail_for_all(f"Parsl cannot start: {in_one_line(error)}")
            return
        self._in_thread(self._watch)
        self._in_thread(self._count)
        self._in_thread(self._explain)
        with contextlib.suppress(FaasError):
            self.submit("None", {})  # says when the first worker is there

    def submit(self, expression: str, names: dict[str, str]) -> Future[Any]:
        """Have an expression evaluated by the least busy executor."""
        if self._kernel is None:
            self._starting.join(_START_S)
        outer: Future[Any] = Future()
        self._begin(outer)
        try:
            with self._submitting:
                executor = min(self._executors, key=_outstanding)
                inner = executor.submit(eval, {}, expression, names)
        except Exception as error:  # a bad state raises its cause
            self._waiting.discard(outer)
            raise self._error(f"Parsl accepts no tasks: {in_one_line(error)}") from error
        inner.add_done_callback(lambda done: self._hand_over(done, outer, executor))
        return outer

    def _hand_over(self, inner: Future[Any], outer: Future[Any], executor: Any) -> None:
        error = inner.exception()
        if isinstance(error, ManagerLost):
            poll_at_once(executor)
            self._lost.put((outer, executor, error))
        elif isinstance(error, BadStateException):
            self._fail_for_all(failed_blocks(executor))
        elif error is not None:
            self._finish(outer, error=_translated(error))
        else:
            self._answered()
            try:
                answer = inner.result()
                self._finish(outer, value=None if answer is None else unpack_answer(answer))
            except FaasError as problem:
                self._finish(outer, error=problem)

    def _explain(self) -> None:
        """End those whose block ended with the reason; in a thread, because schedulers are slow."""
        known: dict[bytes, str] = {}
        while not self._closed.is_set() and self.failure is None:
            try:
                outer, executor, error = self._lost.get(timeout=_WATCH_S)
            except queue.Empty:
                continue
            if error.manager_id not in known:
                known[error.manager_id] = self._end_of_block(executor, error)
            self._finish(outer, error=BlockLostError(known[error.manager_id]))

    def _end_of_block(self, executor: Any, error: ManagerLost) -> str:
        block = self._blocks.get(error.manager_id.decode())
        job = executor.blocks_to_job_id.get(block)
        which, why = "", None
        if block is not None and job is not None:
            which = f" ({called(executor.provider, job)})"
            with contextlib.suppress(Exception):  # no answer from the scheduler means no change
                why = why_it_ended(executor.provider, block, job)
        return (
            f"the block on {error.hostname}{which} ended: "
            f"{why or 'cancelled, out of walltime, or a dead node'}"
        )

    def _answered(self) -> None:
        """A worker that answers exists, whatever the last count says."""
        self.missing_since = None
        if self.ready_at is None:
            self.ready_at = time.monotonic()

    def _fail_for_all(self, reason: str) -> None:
        """Fail; if there never was a worker, the next life would be no better."""
        self._fail(reason, hopeless=self.ready_at is None and not self._proven)

    # Watching

    def _watch(self) -> None:
        """Notice what Parsl does not report to those who wait: a dead interchange, a bad state."""
        while not self._closed.wait(_WATCH_S) and self.failure is None:
            self._jobs.note(self._executors)
            for executor in with_blocks(self._executors):
                if executor.bad_state_is_set:
                    self._fail_for_all(failed_blocks(executor))
            for executor in managed(self._executors):
                process = executor.interchange_proc
                if process is not None and process.poll() is not None:
                    self._fail_for_all(
                        f"the interchange of {executor.label} died ({process.returncode})"
                    )

    def _count(self) -> None:
        """Count the connected workers; in a thread, because Parsl may wait long for the answer."""
        managers_before: dict[str, int] = {}
        while not self._closed.wait(_COUNT_S) and self.failure is None:
            try:
                self._count_once(managers_before)
            except _NO_ANSWER:
                continue

    def _count_once(self, managers_before: dict[str, int]) -> None:
        workers = 0
        for executor in managed(self._executors):
            connected = executor.connected_managers()
            self._blocks.update((each["manager"], each["block_id"]) for each in connected)
            active = [manager for manager in connected if manager["active"]]
            workers += sum(manager["worker_count"] for manager in active)
            if len(active) < managers_before.get(executor.label, 0):
                poll_at_once(executor)
                if not active and self._config.strategy in (None, "none"):
                    self._fail_for_all("all blocks ended, and strategy='none' starts no others")
            managers_before[executor.label] = len(active)
            if executor.provider is not None:
                end_vacant(executor, connected, self._vacancies[executor.label])
        self.connected_workers = workers
        if workers or (not managers_before and self.ready_at is not None):
            self.missing_since = None
            return
        now = time.monotonic()
        if self.missing_since is None:
            self.missing_since = now
        if now - self._asked_at >= max(_ASK_S, _ASK_SHARE * (now - self.missing_since)):
            self._asked_at = now
            self._queue_says = queue_states(self._executors)
            for executor in with_blocks(self._executors):
                poll_at_once(executor)

    @property
    def waits_for(self) -> str | None:
        """Say in which state the blocks are, while there is no worker."""
        if self.missing_since is None:
            return None
        return pending_text(self._executors, self._queue_says)

    @property
    def remedy(self) -> str | None:
        return None if self.missing_since is None else remedy(self._executors)

    @property
    def knows(self) -> str | None:
        """Say how many workers are connected, when they were heard from, and how blocks are."""
        workers = f"{counted(self.connected_workers, 'worker')} connected"
        ages_s = [
            heartbeat_age_s(self._jobs.path, executor.interchange_proc.pid)
            for executor in managed(self._executors)
            if executor.interchange_proc is not None
        ]
        if known_s := [age_s for age_s in ages_s if age_s is not None]:
            workers += f" (heartbeats at most {max(1, math.ceil(max(known_s)))} s old)"
        return f"{workers}, {states(self._executors, '')}"

    # The end

    def _release(self) -> None:
        """End all of it within some seconds, in an orderly way if that can be."""
        ending = threading.Thread(target=self._end, daemon=True)
        ending.start()
        ending.join(_STOP_S if self.failure is None else _STOP_S / 2)
        for executor in managed(self._executors):
            process = executor.interchange_proc
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        if self._kernel is not None:
            atexit.unregister(self._kernel.atexit_cleanup)
            if self.failure is None and self.ready_at is not None:
                shutil.rmtree(self._kernel.run_dir, ignore_errors=True)
        self._jobs.end()

    def _end(self) -> None:
        self._starting.join()
        kernel = self._kernel
        if kernel is not None:
            # First no new blocks, then none at all: Parsl leaves those of a bad state alone.
            kernel.job_status_poller._kill_event.set()  # noqa: SLF001 - its close() scales in, too
            # If the interchange is dead, it waits for its answer forever.
            limit_s = _STOP_S / 2 if self.failure is None else 1.0
            kernel.job_status_poller._thread.join(limit_s)  # noqa: SLF001
        self._jobs.note(self._executors)
        self._jobs.cancel(self._executors)
        with contextlib.suppress(Exception):
            if kernel is not None and self.failure is None:
                kernel.cleanup()
            else:
                for executor in self._executors:
                    _close_commands(executor)
                    executor.shutdown()


def _close_commands(executor: Any) -> None:
    """Close the sockets to the interchange, though threads may wait in them for an answer.

    A socket of ZeroMQ that is closed while another thread uses it may abort the process, and so
    may a context that two threads terminate at once; Parsl's `shutdown` checks neither. A
    context may be terminated by any thread; threads that wait in it are released. If a thread stays
    in it, it stays open, and Parsl no longer sees it.
    """
    client = getattr(executor, "command_client", None)
    if client is None:
        return
    terminating = threading.Thread(target=client.zmq_context.term, daemon=True)
    terminating.start()
    if client._lock.acquire(timeout=_LET_GO_S):  # noqa: SLF001 - it is held while one waits
        client.zmq_socket.close()
        client._lock.release()  # noqa: SLF001
        terminating.join(_LET_GO_S)
    if terminating.is_alive():
        del executor.command_client


def _kernel_of(config: parsl.Config) -> parsl.DataFlowKernel:
    """Start Parsl's kernel, which begins with the first free number for its directory."""
    for _ in range(_DIRECTORY_TRIES - 1):
        with contextlib.suppress(FileExistsError):  # another one was quicker
            return parsl.DataFlowKernel(config)
    return parsl.DataFlowKernel(config)


def _outstanding(executor: Any) -> int:
    outstanding = getattr(executor, "outstanding", 0)
    return int(outstanding() if callable(outstanding) else outstanding)


def _translated(error: BaseException) -> FaasError:
    if isinstance(error, WorkerLost):
        return WorkerLostError(
            f"its worker process on {error.hostname} died: killed, crashed or out of memory"
        )
    if isinstance(error, MemoryError):
        return WorkerLostError("its worker ran out of memory")
    return RemoteCallError(f"a worker failed: {type(error).__name__}: {in_one_line(error)}")
