"""Under pytest-xdist one worker runs the fits, and the others read its journal.

A lock on a file next to the journal decides who leads: when the leader dies, the lock is free,
and the next one that waits takes over with what the journal holds. A lock of its own, which each
worker holds for as long as it runs tests, shows the leader when nobody waits any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest
    from filelock import BaseFileLock

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.plugin.summaries import Summary

XDIST = "pyhf-faas-xdist"
_INPUT = "pyhf_faas_journal"
_OUTPUT = "pyhf_faas_summary"
_POLL_S = 0.05


def is_worker(config: pytest.Config) -> bool:
    """Whether this process is a worker of xdist."""
    return hasattr(config, "workerinput")


class Sharing:
    """One worker's part in the sharing of fits.

    Parameters
    ----------
    journal : Path
        The same file for all workers of a run.
    """

    def __init__(self, journal: Path) -> None:
        from pytest_pyhf_faas.campaign.journal import JournalReader

        self.journal = journal
        journal.parent.mkdir(parents=True, exist_ok=True)
        self._reader = JournalReader(journal)
        self._results: dict[tuple[str, str], HypotestResult] = {}
        self._leader = _lock(journal.with_suffix(".leader"))
        self._running = _lock(journal.with_suffix(f".running-{os.getpid()}"))
        self._running.acquire()

    def leads(self) -> bool:
        """Whether this worker runs the fits; asking makes it the leader if there is none."""
        return self._leader.is_locked or _acquired(self._leader)

    def results(self) -> dict[tuple[str, str], HypotestResult]:
        """Return what the journal holds by now, by endpoint and key."""
        for endpoint, result in self._reader.read():
            self._results[endpoint, result.key] = result
        return self._results

    def is_first(self, what: str) -> bool:
        """Whether no worker of this run has asked this before."""
        name = hashlib.sha256(what.encode()).hexdigest()[:8]
        try:
            self.journal.with_suffix(f".first-{name}").open("x").close()
        except FileExistsError:
            return False
        return True

    def leave(self, *, wait_for_others: bool) -> None:
        """Say that this worker needs no more; a leader first waits until nobody does."""
        _remove(self._running)
        while wait_for_others and self._leader.is_locked and self._others_run():
            time.sleep(_POLL_S)
        # The last one: a worker that replaced one that died comes late.
        if not self._others_run() and self.leads():
            for path in self.journal.parent.glob(f"{self.journal.stem}.first-*"):
                path.unlink(missing_ok=True)
            _remove(self._leader)
        self._leader.release()

    def _others_run(self) -> bool:
        """Whether any other worker still runs tests; one that died does not."""
        for path in self.journal.parent.glob(f"{self.journal.stem}.running-*"):
            lock = _lock(path)
            if not _acquired(lock):
                return True
            _remove(lock)
        return False


class XdistHooks:
    """Hooks of xdist, on its controller; registered only where xdist is."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self.summaries: list[Summary] = []

    def pytest_configure_node(self, node: Any) -> None:
        """Give each worker the path of the journal."""
        node.workerinput[_INPUT] = str(self._journal)

    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Receive the summary of a worker at its end."""
        del error
        summary = getattr(node, "workeroutput", {}).get(_OUTPUT)
        if summary:
            self.summaries.append(summary)


def sharing_of(config: pytest.Config) -> Sharing | None:
    """Return this process's part in a run under xdist; ``None`` without xdist."""
    journal = getattr(config, "workerinput", {}).get(_INPUT)
    return Sharing(Path(journal)) if journal else None


def handed_in(config: pytest.Config) -> list[Summary]:
    """Return the summaries of workers that have ended; on the controller of xdist."""
    return [*getattr(config.pluginmanager.getplugin(XDIST), "summaries", ())]


def hand_in(config: pytest.Config, summary: Summary) -> None:
    """Send a summary of a worker to the controller; values must be plain."""
    config.workeroutput[_OUTPUT] = summary  # type: ignore[attr-defined]


def _lock(path: Path) -> BaseFileLock:
    from filelock import FileLock

    return FileLock(path)


def _acquired(lock: BaseFileLock) -> bool:
    """Take a lock, if it is free now."""
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _remove(lock: BaseFileLock) -> None:
    """Release a lock that nobody takes any more, and remove its file."""
    lock.release()
    with contextlib.suppress(OSError):
        Path(lock.lock_file).unlink()
