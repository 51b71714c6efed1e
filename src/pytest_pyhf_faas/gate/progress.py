"""The progress of a gate, in a line."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pytest_pyhf_faas.wording import counted, duration

_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Counts:
    """The progress of a gate.

    Attributes
    ----------
    total, done, running, not_installed, broken : int
        How many environments there are, have a run, run, cannot be installed, and have no run for
        another reason.
    installing : str or None
        What is being installed.
    jobs : int
        How many run at once.
    seconds : tuple of float
        How long the finished ones took.
    """

    total: int
    done: int = 0
    running: int = 0
    not_installed: int = 0
    broken: int = 0
    installing: str | None = None
    jobs: int = 1
    seconds: tuple[float, ...] = ()

    @property
    def left_s(self) -> float | None:
        """How long it still takes, if those to come take as long as those that have run."""
        left = self.total - self.done - self.not_installed - self.broken
        if not self.seconds or not left:
            return None
        mean = sum(self.seconds) / len(self.seconds)
        # Running ones are half done, on average.
        return mean * max(left - self.running / 2, 0.5) / min(self.jobs, left)


def live_line(counts: Counts) -> str:
    """Return the line that is redrawn."""
    parts = [f"gate: {counts.done} of {counted(counts.total, 'environment')}"]
    parts += [f"{counts.running} running"] if counts.running else []
    parts += [f"{counts.not_installed} cannot be installed"] if counts.not_installed else []
    parts += [f"{counts.broken} failed"] if counts.broken else []
    if counts.left_s is not None:
        parts.append(f"about {_roughly(counts.left_s)} left")
    elif counts.installing and not counts.running:
        parts.append(f"installing {counts.installing}")
    return ", ".join(parts)


def ended_line(name: str, place: str, reason: str | None, seconds: float | None) -> str:
    """Return the line for a finished one, where lines cannot be redrawn."""
    if reason is None:
        reason = "taken over" if seconds is None else f"done in {duration(seconds)}"
    return f"gate: {place}: {name}: {reason}"


def _roughly(seconds: float) -> str:
    return f"{math.ceil(seconds)} s" if seconds < _MINUTE_S else f"{seconds / _MINUTE_S:.0f} min"
