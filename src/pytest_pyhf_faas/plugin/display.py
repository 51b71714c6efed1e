"""Progress on pytest's terminal, below its own lines."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

from pytest_pyhf_faas.wording import fitted, folded, terminal_width

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    import pytest


class TerminalDisplay:
    """pytest's terminal; the live line is below pytest's own.

    Parameters
    ----------
    reporter : TerminalReporter
        pytest's terminal.
    uncaptured : callable
        Makes a context in which what is written reaches the terminal.
    """

    def __init__(
        self,
        reporter: pytest.TerminalReporter,
        uncaptured: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._reporter = reporter
        self._uncaptured = uncaptured
        self.live = bool(reporter.isatty)
        self.quiet: bool = reporter.verbosity < -1

    def write(self, text: str, *, marked: bool = False) -> None:
        """See `session.display.Display`."""
        with self._uncaptured():
            self._reporter.ensure_newline()
            writer = self._reporter.config.get_terminal_writer()
            if writer.width_of_current_line:  # dots of pytest-xdist
                writer.line()
            self._reporter.write_line(folded(text, terminal_width()), yellow=marked)
            self._reporter.flush()  # a log is read while it grows

    def draw(self, text: str) -> None:
        """See `session.display.Display`."""
        writer = self._reporter.config.get_terminal_writer()
        column = writer.width_of_current_line
        right = f"\x1b[{column}C" if column else ""
        # Down to a fresh line, the text, and back to where pytest stopped.
        # Without pytest's writer, which would count it as part of its own line.
        with self._uncaptured():
            sys.stdout.write(f"\n\r\x1b[K{fitted(text, writer.fullwidth - 1)}\x1b[A\r{right}")
            sys.stdout.flush()
