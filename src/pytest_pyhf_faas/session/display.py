"""Displays of progress: a stream of a command or script, or lines of a plugin."""

from __future__ import annotations

from typing import Protocol, TextIO

from pytest_pyhf_faas.wording import fitted, folded, terminal_width


class Display(Protocol):
    """A display of lines.

    Attributes
    ----------
    live : bool
        Whether a line can be redrawn.
    quiet : bool
        Whether nobody wants to see progress.
    """

    @property
    def live(self) -> bool:
        """See above."""

    @property
    def quiet(self) -> bool:
        """See above."""

    def write(self, text: str, *, marked: bool = False) -> None:
        """Write a line that stays."""

    def draw(self, text: str) -> None:
        """Redraw the live line; an empty text removes it."""


class StreamDisplay:
    """A stream other than a command's output; the live line is its last.

    Parameters
    ----------
    stream : file
        Such as the standard error.
    """

    quiet = False

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.live: bool = stream.isatty()

    def write(self, text: str, *, marked: bool = False) -> None:
        """See `Display`."""
        del marked
        self._stream.write(f"{folded(text, terminal_width())}\n")
        self._stream.flush()

    def draw(self, text: str) -> None:
        """See `Display`."""
        self._stream.write(f"\r\x1b[K{fitted(text, terminal_width() - 1)}")
        self._stream.flush()
