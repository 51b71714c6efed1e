"""Shows the progress of fits while something waits for one, and what is known if they stall."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Protocol

from pytest_pyhf_faas.campaign.watch import QUIET_S
from pytest_pyhf_faas.engines.base import WORKER
from pytest_pyhf_faas.wording import counted, duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pyhf_faas.campaign.progress import Progress
    from pytest_pyhf_faas.session.display import Display

_REFRESH_S = 0.5
_FIRST_WAIT_S = 10.0
#: Shorter waits are not shown.
_SHORT_S = 1.0


class Shows(Protocol):
    """The interface that shows the progress of fits."""

    def show(self, what: str, progress: Progress) -> None:
        """Show the progress of what is waited for."""

    def wait(
        self,
        what: str,
        waits_s: float | None,
        waits_for: str | None,
        measures: str | None = None,
        missing: str = WORKER,
    ) -> None:
        """Show for how long nothing has answered, outside of fits; ``None``: an answer came."""

    def say(self, text: str) -> None:
        """Write a line that stays."""

    def clear(self) -> None:
        """Remove the live line."""


class ProgressLine:
    """One live line on a terminal, a line for each tenth and for long waits elsewhere.

    The live line disappears when the wait ends. Elsewhere a wait is worth a line when it
    becomes long, and then whenever it has doubled.

    Parameters
    ----------
    display : Display or None
        Where to show it; ``None``: nowhere.
    """

    def __init__(self, display: Display | None) -> None:
        self._display = display
        self._shown_at = 0.0
        self._live = False
        self._tenth = 0
        self._total = self._done = 0
        self._waits_shown = self._quiet_shown = 0
        self._measured: tuple[str, float] | None = None  # what, and since when
        self._measures_shown = 0

    def show(self, what: str, progress: Progress) -> None:
        """Show the progress of what is waited for."""
        if progress.total != self._total or progress.done < self._done:
            self._tenth = self._quiet_shown = 0  # other fits than before
        self._total, self._done = progress.total, progress.done
        tenth = 10 * progress.done // progress.total if progress.total else 0
        quiet = _worth_lines(progress.quiet_s, QUIET_S)
        waits = 0 if quiet else _worth_lines(progress.waits_s, _FIRST_WAIT_S)
        if tenth > self._tenth:
            self._quiet_shown = 0
        news = tenth > self._tenth or waits > self._waits_shown or quiet > self._quiet_shown
        self._waits_shown = waits
        # Each single long fit is not worth a line: wait for the next tenth.
        self._quiet_shown = max(quiet, self._quiet_shown)
        if news:
            self._tenth = tenth
        self._tell(partial(describe, what, progress), news)

    def wait(
        self,
        what: str,
        waits_s: float | None,
        waits_for: str | None,
        measures: str | None = None,
        missing: str = WORKER,
    ) -> None:
        """Show for how long nothing has answered, outside of fits; ``None``: an answer came."""
        if waits_s is None:
            self._waits_shown = 0
            self.clear()
            return
        lines = _worth_lines(waits_s, _FIRST_WAIT_S)
        news, self._waits_shown = lines > self._waits_shown, lines
        nothing = (
            nothing_for(missing, waits_s, waits_for)
            if waits_for
            else f"no answer for {duration(waits_s)}"
        )
        if waits_s >= _SHORT_S:
            self._tell(lambda: f"{what}: {nothing}", news)
        if waits_for or lines:
            self._measured = None  # to wait is not to measure, and has lines of its own
        elif measures is not None and waits_s < _SHORT_S:
            self._measure(what, measures)

    def _measure(self, what: str, measures: str) -> None:
        """Report long measurements; without a terminal no dot shows them."""
        now = time.monotonic()
        if self._measured is None or self._measured[0] != what:
            self._measured, self._measures_shown = (what, now), 0
        seconds = now - self._measured[1]
        lines = _worth_lines(seconds, _FIRST_WAIT_S)
        news, self._measures_shown = lines > self._measures_shown, lines
        display = self._display
        if news and display is not None and not (display.live or display.quiet):
            display.write(f"{what}: {duration(seconds)} of measurements so far, now {measures}")

    def say(self, text: str) -> None:
        """Write a line that stays."""
        if self._display is not None:
            self.clear()
            self._display.write(text, marked=True)

    def clear(self) -> None:
        """Remove the live line."""
        if self._live and self._display is not None:
            self._display.draw("")
            self._live = False

    def _tell(self, text: Callable[[], str], news: bool) -> None:
        display = self._display
        if display is None or display.quiet:
            return
        if display.live:
            now = time.monotonic()
            if now - self._shown_at >= _REFRESH_S:
                self._shown_at = now
                display.draw(text())
                self._live = True
        elif news:
            display.write(text())


def _worth_lines(seconds: float | None, first_s: float) -> int:
    """Return how many lines a wait is worth: when it becomes long, and whenever it has doubled."""
    if seconds is None or seconds < first_s:
        return 0
    return int(math.log2(seconds / first_s)) + 1


def describe(what: str, progress: Progress) -> str:
    """Return progress in words; without progress there is no estimate."""
    knows = f"; {progress.knows}" if progress.knows else ""
    parts = [f"{what}: {progress.done}/{counted(progress.total, 'fit')} done"]
    if progress.cancelled:
        parts.append(f"{progress.cancelled} cancelled")
    if progress.failed:
        parts.append(f"{progress.failed} failed")
    if progress.waits_s is not None:
        nothing = nothing_for(progress.missing, progress.waits_s, progress.waits_for)
        return ", ".join([*parts, nothing])
    if progress.quiet_s is not None:
        running = f"{progress.running} running"
        if progress.done or progress.running_s is None or not progress.running:
            parts.append(f"no news for {duration(progress.quiet_s)}: {running}")
        else:
            parts.append(f"{running}, the first for {duration(progress.running_s)}")
        if progress.expected_s is not None:
            parts[-1] += f" (about {_briefly(progress.expected_s)} expected)"
        return ", ".join(parts) + knows
    parts.append(f"{progress.running} running")
    if progress.done:
        parts.append(f"{float(f'{progress.rate:.2g}'):g}/s")
    if progress.left_s and progress.running:  # what should be done by now has no estimate
        parts.append(f"{duration(progress.left_s)} left")
    return ", ".join(parts) + knows


def _briefly(seconds: float) -> str:
    return duration(seconds) if seconds >= 1.0 else f"{seconds:.1g} s"


def nothing_for(missing: str, seconds: float, waits_for: str | None) -> str:
    """Return for how long there has been no worker, or none of what else is missing, and why."""
    return f"no {missing} for {duration(seconds)}" + (f" ({waits_for})" if waits_for else "")
