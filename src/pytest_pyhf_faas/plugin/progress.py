"""Shows how far the fits are while an item waits for one."""

from __future__ import annotations

import math
import sys
import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

from pytest_pyhf_faas.wording import counted, duration

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import pytest

    from pytest_pyhf_faas.campaign.progress import Progress

_REFRESH_S = 0.5
_FIRST_WAIT_S = 10.0


class ProgressLine:
    """One live line on a terminal, a line for each tenth elsewhere.

    The live line stands below pytest's own and is gone when the wait ends.

    Parameters
    ----------
    reporter : TerminalReporter or None
        pytest's terminal; a worker of xdist has none.
    uncaptured : callable
        Makes a context in which what is written reaches the terminal.
    """

    def __init__(
        self,
        reporter: pytest.TerminalReporter | None,
        uncaptured: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._reporter = reporter
        self._uncaptured = uncaptured
        self._shown_at = 0.0
        self._live = False
        self._tenth = 0
        self._total = self._done = 0
        self._waits_shown = 0

    def show(self, what: str, progress: Progress) -> None:
        """Show the progress of what is waited for."""
        reporter = self._reporter
        if reporter is None or reporter.verbosity < -1:
            return
        if progress.total != self._total or progress.done < self._done:
            self._tenth = 0  # other fits than before
        self._total, self._done = progress.total, progress.done
        tenth = 10 * progress.done // progress.total if progress.total else 0
        waits = _waits_worth_a_line(progress.waits_s)
        news = tenth > self._tenth or waits > self._waits_shown
        self._waits_shown = waits
        if news:
            self._tenth = tenth
        self._tell(reporter, partial(describe, what, progress), news)

    def wait(self, what: str, waits_s: float | None, waits_for: str | None) -> None:
        """Show for how long no worker has answered, outside of any fits; ``None``: one has."""
        reporter = self._reporter
        if waits_s is None:
            self._waits_shown = 0
            self.clear()
        elif reporter is not None and reporter.verbosity >= -1:
            lines = _waits_worth_a_line(waits_s)
            news, self._waits_shown = lines > self._waits_shown, lines
            nothing = (
                no_worker(waits_s, waits_for) if waits_for else f"no answer for {duration(waits_s)}"
            )
            self._tell(reporter, lambda: f"{what}: {nothing}", news)

    def _tell(self, reporter: pytest.TerminalReporter, text: Callable[[], str], news: bool) -> None:
        if reporter.isatty:
            now = time.monotonic()
            if now - self._shown_at >= _REFRESH_S:
                self._shown_at = now
                self._draw(text())
        elif news:
            with self._uncaptured():
                reporter.ensure_newline()
                reporter.write_line(text())
                reporter.flush()  # a log is read while it grows

    def say(self, text: str) -> None:
        """Write a line that stays."""
        if self._reporter is None:
            return
        self.clear()
        with self._uncaptured():
            self._reporter.ensure_newline()
            self._reporter.write_line(text, yellow=True)
            self._reporter.flush()

    def clear(self) -> None:
        """Remove the live line."""
        if self._live:
            self._draw("")
            self._live = False

    def _draw(self, text: str) -> None:
        if self._reporter is None:
            return
        writer = self._reporter.config.get_terminal_writer()
        column = writer.width_of_current_line
        right = f"\x1b[{column}C" if column else ""
        # Down to a fresh line, the text, and back to where pytest stopped.
        # Beside pytest's writer, which would take it for a part of its own line.
        with self._uncaptured():
            sys.stdout.write(f"\n\r\x1b[K{text[: writer.fullwidth - 1]}\x1b[A\r{right}")
            sys.stdout.flush()
        self._live = True


def _waits_worth_a_line(waits_s: float | None) -> int:
    """Return how many lines a wait is worth: at 10 s, and whenever it has doubled."""
    if waits_s is None or waits_s < _FIRST_WAIT_S:
        return 0
    return int(math.log2(waits_s / _FIRST_WAIT_S)) + 1


def describe(what: str, progress: Progress) -> str:
    """Return progress in words."""
    parts = [
        f"{what}: {progress.done}/{counted(progress.total, 'fit')} done",
        f"{progress.running} running",
    ]
    if progress.waits_s is not None:
        parts[1] = no_worker(progress.waits_s, progress.waits_for)
    if progress.cancelled:
        parts.append(f"{progress.cancelled} cancelled")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.done:
        parts.append(f"{progress.rate:.2g}/s")
    if progress.left_s is not None:
        parts.append(f"{duration(progress.left_s)} left")
    return ", ".join(parts)


def no_worker(seconds: float, waits_for: str | None) -> str:
    """Return for how long there has been no worker, and why."""
    return f"no worker for {duration(seconds)}" + (f" ({waits_for})" if waits_for else "")
