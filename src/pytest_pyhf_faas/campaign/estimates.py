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
        self._measured_s = self._expected_s = 0.0

    @property
    def measured(self) -> bool:
        """Whether one fit was measured here, so that it is known how fast these workers are."""
        return bool(self._mean_s)

    def learn(self, fit: Fit, fit_s: float) -> None:
        """Take note of how long a fit took."""
        count, mean_s = self._mean_s.get(fit.family, (0, 0.0))
        self._mean_s[fit.family] = count + 1, mean_s + (fit_s - mean_s) / (count + 1)
        if fit.expected_s is not None:
            self._measured_s += fit_s
            self._expected_s += fit.expected_s

    def of(self, fit: Fit) -> float | None:
        """Return how long a fit will take, by its reference or else by others of its family."""
        if fit.expected_s is not None:
            faster = self._measured_s / self._expected_s if self._expected_s > 0 else 1.0
            return fit.expected_s * faster
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
