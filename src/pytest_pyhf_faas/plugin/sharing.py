"""Under pytest-xdist one worker has the fits done, and the others read its journal.

Who leads is decided by a lock on a file beside the journal: when the leader dies, the lock is free,
and the next one that waits takes over with what the journal holds. A second lock, which each worker
holds for as long as it runs tests, tells the leader when nobody waits any more.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from pytest_pyhf_faas.campaign.results import HypotestResult

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
        self._leader = _open(journal.with_suffix(".leader"))
        self._running = _open(journal.with_suffix(".running"))
        self._leads = False
        fcntl.flock(self._running, fcntl.LOCK_SH)

    def leads(self) -> bool:
        """Whether this worker has the fits done; asking makes it so where nobody else does."""
        if not self._leads:
            self._leads = _try_lock(self._leader)
        return self._leads

    def results(self) -> dict[tuple[str, str], HypotestResult]:
        """Return what the journal holds by now, by endpoint and key."""
        for endpoint, result in self._reader.read():
            self._results[endpoint, result.key] = result
        return self._results

    def leave(self, *, wait_for_others: bool) -> None:
        """Say that this worker needs no more; a leader first waits until nobody does."""
        fcntl.flock(self._running, fcntl.LOCK_UN)
        while wait_for_others and self._leads and not _try_lock(self._running):
            time.sleep(_POLL_S)
        # Whoever is the last: a worker that took the place of one that died comes late.
        if _try_lock(self._running) and self.leads():
            self.journal.with_suffix(".leader").unlink(missing_ok=True)
            self.journal.with_suffix(".running").unlink(missing_ok=True)
        os.close(self._running)
        os.close(self._leader)


class XdistHooks:
    """Hooks of xdist, on its controller; registered only where xdist is."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self.summaries: list[dict[str, Any]] = []

    def pytest_configure_node(self, node: Any) -> None:
        """Tell each worker which journal is theirs."""
        node.workerinput[_INPUT] = str(self._journal)

    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Take what a worker has to say at its end."""
        del error
        summary = getattr(node, "workeroutput", {}).get(_OUTPUT)
        if summary:
            self.summaries.append(summary)


def sharing_of(config: pytest.Config) -> Sharing | None:
    """Return this process's part in a run under xdist; ``None`` without xdist."""
    journal = getattr(config, "workerinput", {}).get(_INPUT)
    return Sharing(Path(journal)) if journal else None


def hand_in(config: pytest.Config, summary: dict[str, Any]) -> None:
    """Send a summary of a worker to the controller; values must be plain."""
    config.workeroutput[_OUTPUT] = summary  # type: ignore[attr-defined]


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
