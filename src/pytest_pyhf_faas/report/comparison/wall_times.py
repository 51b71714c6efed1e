"""How the wall time of an analysis and the times of its fits changed."""

from __future__ import annotations

import math
from statistics import median
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.report.comparison.changes import (
    SLOW_FIT,
    FitTimes,
    SlowFit,
    WallTimeChange,
    WallTimes,
    ratio_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_pyhf_faas.campaign.times import WallTime

#: A change of a mean wall time is larger than the spread beyond this many standard errors.
_STANDARD_ERRORS = 2.0


def wall_time_change(
    name: str, first: WallTime, second: WallTime, slower: float | None
) -> WallTimeChange:
    """Return how the wall time of an analysis changed; see `compare_runs` for `slower`."""
    before, after = _wall_times(first), _wall_times(second)
    if before.fits != after.fits:
        return WallTimeChange(name, before, after, None, None, None, False)
    beyond = None
    if before.stdev_s is not None and after.stdev_s is not None:
        error = math.hypot(
            before.stdev_s / math.sqrt(before.trials), after.stdev_s / math.sqrt(after.trials)
        )
        beyond = abs(after.mean_s - before.mean_s) > _STANDARD_ERRORS * error
    ratio = ratio_of(before.mean_s, after.mean_s)
    too_slow = slower is not None and ratio > slower and beyond is not False
    fit_ratio = ratio_of(before.fit_s, after.fit_s)
    return WallTimeChange(name, before, after, ratio, fit_ratio, beyond, too_slow)


def fit_times(name: str, pairs: Iterable[tuple[Any, Any]]) -> list[FitTimes]:
    """Return the times of the fits that both runs have, if there are any."""
    known = [
        SlowFit(second["patch"], first["seconds"]["fit"], second["seconds"]["fit"])
        for first, second in pairs
        if "fit" in first["seconds"] and "fit" in second["seconds"]
    ]
    if not known:
        return []
    times, seconds = SLOW_FIT
    slow = [
        fit
        for fit in known
        if fit.after_s > times * fit.before_s and fit.after_s > fit.before_s + seconds
    ]
    slow.sort(key=lambda fit: fit.before_s - fit.after_s)
    ratio = median(ratio_of(fit.before_s, fit.after_s) for fit in known)
    return [FitTimes(name, len(known), ratio, tuple(slow))]


def _wall_times(measured: WallTime) -> WallTimes:
    return WallTimes(
        trials=len(measured.trials),
        fits=measured.last.fits,
        workers=measured.last.workers,
        mean_s=measured.mean_s,
        stdev_s=measured.stdev_s,
        fit_s=measured.mean_of("fit_s"),
    )
