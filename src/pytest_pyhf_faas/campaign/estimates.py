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
        self._sums: dict[str, tuple[float, float]] = {}

    @property
    def measured(self) -> bool:
        """Whether one fit was measured here, so that it is known how fast these workers are."""
        return bool(self._mean_s)

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


def _likeness(fit: Fit) -> str:
    """Return what fits have in common that are faster or slower here by one ratio.

    Between machines it is the same for all; between two ways to fit each pallet has its own.
    """
    return fit.family if fit.is_relative else ""
