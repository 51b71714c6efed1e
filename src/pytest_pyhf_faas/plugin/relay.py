"""Under pytest-xdist, the worker that runs the fits reports their progress to the controller.

It writes a file next to the journal, which the controller reads. The controller's own loop shows
it, so that its lines do not mix with those of pytest.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign.progress import Progress
from pytest_pyhf_faas.engines.base import WORKER
from pytest_pyhf_faas.session.progress import ProgressLine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from queue import Queue

    import pytest

RELAYED = "pyhf-faas-progress"
_SUFFIX = ".progress"
_LOOK_S = 0.5
#: An older report is no longer true: its sender has died.
_STALE_S = 5.0
#: Our event in the loop of xdist's controller.
_EVENT = "pyhf_faas_progress"


class Relay:
    """Reports progress to the controller, with the interface of a `ProgressLine`.

    Parameters
    ----------
    journal : Path
        The journal that the workers share.
    """

    def __init__(self, journal: Path) -> None:
        self._path = journal.with_suffix(_SUFFIX)
        self._told_at = 0.0
        self._stands = False

    def show(self, what: str, progress: Progress) -> None:
        """Show the progress of what is waited for."""
        self._write({"what": what, "progress": asdict(progress)})

    def wait(
        self,
        what: str,
        waits_s: float | None,
        waits_for: str | None,
        measures: str | None = None,
        missing: str = WORKER,
    ) -> None:
        """Show for how long nothing has answered, outside of fits; ``None``: an answer came."""
        del measures  # which nobody does under xdist
        if waits_s is None:
            self.clear()
        else:
            waits = {"waits_s": waits_s, "waits_for": waits_for, "missing": missing}
            self._write({"what": what, **waits})

    def say(self, text: str) -> None:
        """Do nothing: the controller reports an interrupt."""

    def clear(self) -> None:
        """Withdraw the last report."""
        if self._stands:
            self._stands = False
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _write(self, state: dict[str, Any]) -> None:
        now = time.monotonic()
        if now - self._told_at < _LOOK_S:
            return
        self._told_at, self._stands = now, True
        with contextlib.suppress(OSError):  # a full disk does not stop the run
            temporary = self._path.with_suffix(f"{_SUFFIX}-{os.getpid()}")
            temporary.write_text(json.dumps(state))
            temporary.replace(self._path)


class Relayed:
    """Shows on the controller of xdist what a worker reports.

    Parameters
    ----------
    journal : Path
        The journal that the workers share.
    config : Config
        Of the controller.
    line : callable
        Makes the display, once there is a terminal.
    """

    def __init__(
        self, journal: Path, config: pytest.Config, line: Callable[[], ProgressLine]
    ) -> None:
        self._path = journal.with_suffix(_SUFFIX)
        self._config = config
        self._line = ProgressLine(None)
        self._make_line = line
        self._over = threading.Event()

    def pytest_sessionstart(self) -> None:
        """Start to read the file."""
        loop = self._config.pluginmanager.getplugin("dsession")
        if loop is not None:
            self._line = self._make_line()
            setattr(loop, f"worker_{_EVENT}", self.look)
            threading.Thread(target=self._remind, args=(loop.queue,), daemon=True).start()

    def _remind(self, events: Queue[tuple[str, dict[str, Any]]]) -> None:
        while not self._over.wait(_LOOK_S):
            events.put((_EVENT, {}))

    def look(self) -> None:
        """Show the present report."""
        try:
            state = json.loads(self._path.read_text())
            is_stale = time.time() - self._path.stat().st_mtime > _STALE_S
        except (OSError, ValueError):
            self._line.clear()
            return
        if is_stale:
            self._line.clear()
        elif "progress" in state:
            self._line.show(state["what"], Progress(**state["progress"]))
        else:
            self._line.wait(**state)

    def pytest_runtest_logreport(self) -> None:
        """Make room for what pytest writes."""
        self._line.clear()

    def pytest_sessionfinish(self) -> None:
        """End."""
        self._over.set()
        self._line.clear()
        self._path.unlink(missing_ok=True)
