"""Measured wall times as a report has them."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign.results import Trial, WallTime
from pytest_pyhf_faas.wording import NOTHING, with_spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEASURED_HEADER = ("wall time [s]", "single worker [s]", "speed-up", "efficiency")


def wall_time(
    trials: Sequence[Mapping[str, Any]], analysis: str = "", endpoint: str = ""
) -> WallTime:
    """Return measured trials with their mean and standard deviation."""
    names = [each.name for each in fields(Trial)]
    made = (Trial(**{name: trial[name] for name in names}) for trial in trials)
    return WallTime(analysis, endpoint, tuple(made))


def wall_time_of(analysis: Mapping[str, Any]) -> WallTime | None:
    """Return the measured wall time of an analysis."""
    measured = analysis["wall_time"]
    if measured is None:
        return None
    return wall_time(measured["trials"], analysis["pallet"], analysis["endpoint"])


def measured_cells(wall_time: WallTime | None) -> tuple[str, ...]:
    """Return what stands below `MEASURED_HEADER`."""
    if wall_time is None:
        return (NOTHING,) * len(MEASURED_HEADER)
    return (
        with_spread(wall_time.mean_s, wall_time.stdev_s),
        f"{wall_time.mean_of('fit_s'):.1f}",
        _figure(wall_time.mean_of("speed_up"), ".2f"),
        _figure(wall_time.mean_of("efficiency"), ".0%"),
    )


def _figure(value: float, form: str) -> str:
    """Return a number, or a dash for what is none."""
    return format(value, form) if math.isfinite(value) else NOTHING
