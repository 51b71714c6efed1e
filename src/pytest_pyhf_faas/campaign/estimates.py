"""How long fits take: what the references say, and what was measured here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_pyhf_faas.campaign.events import Fit


class FitTimes:
    """The times of the fits of a campaign; in seconds, ``None`` where nothing is known."""

    def __init__(self) -> None:
        self._mean_s: dict[str, tuple[int, float]] = {}
        #: Measured and expected seconds of fits, whose ratio is that of others like them.
        self._sums: dict[tuple[str, bool], tuple[float, float]] = {}

    def measured(self, fits: Iterable[Fit]) -> int:
        """Return how many fits were measured here of the family of each, at the least.

        Where none was, it is not known how fast these workers are.
        """
        return min((self._mean_s.get(fit.family, (0, 0.0))[0] for fit in fits), default=0)

    def learn(self, fit: Fit, fit_s: float) -> None:
        """Take note of how long a fit took."""
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


def _likeness(fit: Fit) -> tuple[str, bool]:
    """Return what fits have in common that are faster or slower here by one ratio."""
    return fit.family, fit.is_relative
