"""What Parsl knows about its blocks, and what must be ended with them."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from parsl.executors import HighThroughputExecutor
from parsl.executors.status_handling import BlockProviderExecutor
from parsl.jobs.states import JobState
from parsl.providers import KubernetesProvider, LocalProvider, SlurmProvider

from pytest_pyhf_faas.engines import parsl_pods
from pytest_pyhf_faas.engines.parsl_failures import alike, ended_blocks, said_by
from pytest_pyhf_faas.engines.parsl_interchange import end_groups, remember_jobs

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

#: How long a block may run without a manager, which normally ends it.
VACANT_S = 5.0


def with_blocks(executors: Sequence[Any]) -> list[Any]:
    """Return those executors whose workers are in blocks of a provider."""
    return [
        executor
        for executor in executors
        if isinstance(executor, BlockProviderExecutor) and executor.provider is not None
    ]


def managed(executors: Sequence[Any]) -> list[Any]:
    """Return those executors that have an interchange and managers."""
    return [e for e in executors if isinstance(e, HighThroughputExecutor)]


def states(executors: Sequence[Any], queue_says: str) -> str:
    """Say in which states the blocks are, and what is known about those that ended."""
    counts: Counter[str] = Counter()
    messages: dict[str, str] = {}
    for executor in with_blocks(executors):
        for status in list(executor.status_facade.values()):
            counts[status.status_name.lower()] += 1
        for status in ended_blocks(executor):
            if said := said_by(status):
                # Texts that differ in the number of a job are alike; the last one stays.
                messages[alike(said)] = said
    counted = ", ".join(f"{count} {state}" for state, count in counts.items())
    said = "; ".join(filter(None, [queue_says, *messages.values()]))
    return f"blocks: {counted or 'none yet'}" + (f" ({said})" if said else "")


def pending_text(executors: Sequence[Any], queue_says: str) -> str:
    """Say what the blocks wait for, while no worker is connected."""
    text = states(executors, queue_says)
    return f"{text}, without a connected worker" if "running" in _names(executors) else text


def remedy(executors: Sequence[Any]) -> str:
    """Say what to do about blocks in these states, while no worker is connected."""
    names = _names(executors)
    if "running" in names:
        return (
            "check the logs of a running block: its worker_init takes long or fails, or its "
            "workers cannot reach this machine"
        )
    if names & {"pending", "held"}:
        return "check the queue, and why it does not start the block"
    return "check the provider of the configuration, and start a block by hand"


def _names(executors: Sequence[Any]) -> set[str]:
    return {
        status.status_name.lower()
        for executor in with_blocks(executors)
        for status in list(executor.status_facade.values())
    }


def queue_states(executors: Sequence[Any]) -> str:
    """Ask Slurm or Kubernetes why blocks are pending."""
    return "; ".join(filter(None, map(_queue_state, with_blocks(executors))))


def _queue_state(executor: Any) -> str:
    jobs = live_jobs(executor)
    try:
        if isinstance(executor.provider, KubernetesProvider):
            return parsl_pods.waiting(executor.provider, jobs)
        if not jobs or not isinstance(executor.provider, SlurmProvider):
            return ""
        command = f"squeue --noheader --format='%T (%r)' --jobs={','.join(jobs)}"
        code, output, _errors = executor.provider.execute_wait(command)
    except Exception:  # noqa: BLE001 - a queue that does not answer is no news
        return ""
    lines = output.replace(" (None)", "").splitlines()  # a running job waits for nothing
    said = Counter(lines) if code == 0 else Counter[str]()
    return ", ".join(f"{count} {state} in Slurm" for state, count in said.items())


def live_jobs(executor: Any) -> list[str]:
    """Return the jobs of blocks that have not ended."""
    status = executor.status_facade
    return [
        job
        for block, job in list(executor.blocks_to_job_id.items())
        if block not in status or not status[block].terminal
    ]


def poll_at_once(executor: Any) -> None:
    """Let Parsl notice now that a block has ended; on clusters it asks only once a minute."""
    executor._last_poll_time = 0.0  # noqa: SLF001


class Vacancies:
    """The blocks of an executor that run according to the batch system, but lost all managers.

    Slurm shows a job on a dead node as running for five minutes, and Parsl starts no other block
    meanwhile. A manager that Parsl has given up ends itself, so such a block is useless.
    """

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._since: dict[str, float] = {}

    def __bool__(self) -> bool:
        return bool(self._since)

    def due(self, connected: Iterable[str], running: Iterable[str], now: float) -> list[str]:
        """Return the blocks to end now, each of them once.

        Parameters
        ----------
        connected : iterable of str
            The blocks that have a manager.
        running : iterable of str
            Those that run, as far as the batch system knows.
        now : float
            In seconds.
        """
        managed = set(connected)
        self._known |= managed
        vacant = self._known.intersection(running) - managed
        self._since = {block: self._since.get(block, now) for block in vacant}
        due = [block for block, since in self._since.items() if now - since >= VACANT_S]
        self._known.difference_update(due)
        return due


def end_vacant(executor: Any, managers: Sequence[dict[str, Any]], vacancies: Vacancies) -> None:
    """End the blocks of an executor whose managers are lost, so that Parsl starts others."""
    status = executor.status_facade
    running = [block for block, each in status.items() if each.state == JobState.RUNNING]
    connected = [manager["block_id"] for manager in managers]
    jobs = [
        executor.blocks_to_job_id[block]
        for block in vacancies.due(connected, running, time.monotonic())
    ]
    if jobs:
        with contextlib.suppress(Exception):
            executor.provider.cancel(jobs)
    if jobs or vacancies:  # it may have ended by itself
        poll_at_once(executor)


class Jobs:
    """The jobs and process groups that must not outlive a session, however it ends.

    They are written down for our interchange, which ends them if this process is killed.

    Parameters
    ----------
    path : Path
        Where they are written down.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._groups: dict[str, int] = {}
        self._written: list[tuple[list[str], list[int]]] = []

    def note(self, executors: Sequence[Any]) -> None:
        """Record what runs now."""
        blocks = with_blocks(executors)
        for executor in blocks:
            if isinstance(executor.provider, LocalProvider):
                for job in list(executor.job_ids_to_block):
                    if job not in self._groups:
                        with contextlib.suppress(OSError, ValueError):
                            self._groups[job] = os.getpgid(int(job))
        groups = list(self._groups.values())
        jobs = [(executor.provider, live_jobs(executor), groups) for executor in blocks]
        known = [(ids, groups) for _, ids, groups in jobs]
        if known != self._written:
            with contextlib.suppress(OSError):
                remember_jobs(self.path, jobs)
                self._written = known

    def cancel(self, executors: Sequence[Any]) -> None:
        """End the jobs: Parsl leaves those of a bad state alone."""
        for executor in with_blocks(executors):
            live = live_jobs(executor)
            if live:
                with contextlib.suppress(Exception):
                    executor.provider.cancel(live)

    def end(self) -> None:
        """End what is left on this machine, and forget all."""
        end_groups(list(self._groups.values()))
        for path in self.path.parent.glob(f"{self.path.stem}.*"):
            path.unlink(missing_ok=True)
