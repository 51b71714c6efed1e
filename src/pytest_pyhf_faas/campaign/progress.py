"""How far a campaign is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a campaign is; counts are fits.

    While there is no worker, ``waits_s`` says for how long, and ``waits_for`` what for.
    """

    total: int
    done: int
    running: int
    failed: int
    elapsed_s: float
    left_s: float | None
    waits_s: float | None = None
    waits_for: str | None = None

    @property
    def rate(self) -> float:
        """Fits per second."""
        return self.done / self.elapsed_s if self.elapsed_s > 0 else 0.0


@dataclass(slots=True)
class Tally:
    """Counts fits from the first one on; where all are done, it begins anew with the next."""

    total: int = 0
    done: int = 0
    failed: int = 0
    began_at: float | None = None

    def add(self, count: int, now: float) -> None:
        """Count fits that are asked for."""
        if self.done == self.total:
            self.began_at = now
            self.total = self.done = self.failed = 0
        self.total += count

    def end(self, *, failed: bool) -> None:
        """Count a fit that has ended."""
        self.done += 1
        self.failed += failed

    @property
    def all_done(self) -> bool:
        """Whether nothing is under way."""
        return self.done >= self.total

    def elapsed_s(self, now: float) -> float:
        """Return since when it counts, in seconds."""
        return 0.0 if self.began_at is None else now - self.began_at

    def left_s(self, now: float, known_s: float | None) -> float | None:
        """Return how many seconds are left; by what is known of the fits, or by those done."""
        left = self.total - self.done
        if not left or not self.done:
            return None
        return self.elapsed_s(now) / self.done * left if known_s is None else known_s
