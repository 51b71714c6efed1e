"""The progress of a campaign."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_pyhf_faas.engines.base import WORKER


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a campaign; counts are fits.

    Attributes
    ----------
    cancelled : int
        Fits that the campaign gave up when it was stopped: neither done nor failed.
    waits_s, waits_for, missing : float or None, str or None, str
        While there is no worker: for how long, what for, and what is missing; see `Engine`.
    quiet_s : float or None
        For how long the workers have returned nothing, if that is long.
    running_s : float or None
        How long the longest running fit has run.
    expected_s : float or None
        Then, how long the first of the running fits should take.
    knows : str or None
        What the engine knows about the workers, while nothing has come for some seconds.
    """

    total: int
    done: int
    running: int
    failed: int
    elapsed_s: float
    left_s: float | None
    cancelled: int = 0
    waits_s: float | None = None
    waits_for: str | None = None
    missing: str = WORKER
    quiet_s: float | None = None
    running_s: float | None = None
    expected_s: float | None = None
    knows: str | None = None

    @property
    def rate(self) -> float:
        """Fits per second."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(slots=True)
class Tally:
    """Counts fits from the first one on; once all are done, it starts again with the next.

    Attributes
    ----------
    coming : int
        How many more fits a caller will ask for.
    """

    total: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    began_at: float | None = None
    coming: int = 0

    def add(self, count: int, now: float) -> None:
        """Count fits that are asked for."""
        self._begin_anew(now)
        self.total += count
        self.coming = max(0, self.coming - count)

    def expect(self, count: int, now: float) -> None:
        """Record how many more fits will be asked for."""
        self._begin_anew(now)
        self.coming = count

    def _begin_anew(self, now: float) -> None:
        if self.all_done and not self.coming:
            self.began_at = now
            self.total = self.done = self.failed = self.cancelled = 0

    def end(self, *, failed: bool, cancelled: bool) -> None:
        """Count a fit that has ended."""
        if cancelled:
            self.cancelled += 1
            return
        self.done += 1
        self.failed += failed

    @property
    def all_done(self) -> bool:
        """Whether nothing is under way."""
        return not self._left

    @property
    def _left(self) -> int:
        return self.total - self.done - self.cancelled

    def elapsed_s(self, now: float) -> float:
        """Return since when it counts, in seconds."""
        return 0.0 if self.began_at is None else now - self.began_at

    def left_s(self, now: float, known_s: float | None) -> float | None:
        """Return how many seconds are left; by the known times of the fits, or by those done."""
        if not (self._left + self.coming) or not self.done:
            return None
        if known_s is None or self.coming:
            return self.elapsed_s(now) / self.done * (self._left + self.coming)
        return known_s
