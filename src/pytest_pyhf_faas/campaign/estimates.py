"""How long fits take, and all that are left: by the references, and by what was measured here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_pyhf_faas.campaign.events import Fit


#: The least number of fits that gives a speed; more workers need more.
_FEWEST = 4


class FitTimes:
    """The times of the fits of a campaign; in seconds, ``None`` if unknown."""

    def __init__(self) -> None:
        self._mean_s: dict[str, tuple[int, float]] = {}
        #: Measured and expected seconds of fits, whose ratio is that of others like them.
        self._sums: dict[tuple[str, bool], tuple[float, float]] = {}

    def measured(self, fits: Iterable[Fit]) -> int:
        """Return the smallest number of fits measured here in the families of some fits.

        With none, the speed of these workers is unknown.
        """
        return min((self._mean_s.get(fit.family, (0, 0.0))[0] for fit in fits), default=0)

    def learn(self, fit: Fit, fit_s: float) -> None:
        """Record how long a fit took."""
        count, mean_s = self._mean_s.get(fit.family, (0, 0.0))
        self._mean_s[fit.family] = count + 1, mean_s + (fit_s - mean_s) / (count + 1)
        if fit.expected_s is not None:
            measured_s, expected_s = self._sums.get(_likeness(fit), (0.0, 0.0))
            self._sums[_likeness(fit)] = measured_s + fit_s, expected_s + fit.expected_s

    def of(self, fit: Fit) -> float | None:
        """Return how long a fit will take, by its reference or else by others of its family."""
        if fit.expected_s is not None:
            measured_s, expected_s = self._sums.get(_likeness(fit), (0.0, 0.0))
            if expected_s > 0:
                return fit.expected_s * measured_s / expected_s
            if not fit.is_relative:
                return fit.expected_s
        return self._mean_s.get(fit.family, (0, None))[1]

    def of_all(self, fits: Iterable[Fit]) -> float | None:
        """Return how long some fits take one after the other."""
        total_s = 0.0
        for fit in fits:
            seconds = self.of(fit)
            if seconds is None:
                return None
            total_s += seconds
        return total_s


class Pace:
    """The rate at which fits are done here, including everything between them.

    It counts from when the first of them could begin. Moments are in seconds.

    Parameters
    ----------
    now : float
        When the first fits were asked for.
    """

    def __init__(self, now: float) -> None:
        self._began_at = self._last_at = now
        self._count = 0
        self._work_s = 0.0

    def did(self, fit_s: float, now: float) -> None:
        """Record that a fit is done, and how long it took on its worker."""
        self._count += 1
        self._work_s += fit_s
        self._last_at = now

    def paused(self, since: float, now: float) -> None:
        """Record that no worker was available from one moment to another."""
        pause_s = now - max(since, self._began_at)
        self._began_at += pause_s
        self._last_at = max(self._last_at, self._began_at)

    def left_s(self, work_s: float, workers: int, now: float, ran_s: float = 0.0) -> float:
        """Return how many seconds are left until other fits are done, 0 where they should be.

        Parameters
        ----------
        work_s : float
            How long they take, one after the other.
        workers : int
            The number of workers, used until enough is measured.
        now : float
            The present: the fits have run since the last one was done.
        ran_s : float
            How long those that run have run already, together.
        """
        measured_s = self._last_at - self._began_at
        if self._count < max(_FEWEST, 2 * workers) or not (self._work_s and measured_s > 0):
            return max(0.0, work_s - ran_s) / workers
        return max(0.0, measured_s * work_s / self._work_s - (now - self._last_at))


def _likeness(fit: Fit) -> tuple[str, bool]:
    """Return the key of fits that are faster or slower here by one ratio."""
    return fit.family, fit.is_relative
