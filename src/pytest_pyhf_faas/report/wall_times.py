"""Measured wall times as a report has them."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import TYPE_CHECKING, Any, cast

from pytest_pyhf_faas.campaign.times import Trial, WallTime
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import NOTHING, with_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.report.form import Analysis, Hypothesis, TrialEntry

#: Outcomes of fits that gave no answer at all.
_LOST = ("broken", "timeout", "cancelled")
MEASURED_HEADER = ("wall time [s]", "single worker [s]", "speed-up", "efficiency")


def wall_time(trials: Sequence[TrialEntry], analysis: str = "", endpoint: str = "") -> WallTime:
    """Return measured trials with their mean and standard deviation."""
    return WallTime(analysis, endpoint, tuple(map(_trial, trials)))


def _trial(entry: TrialEntry) -> Trial:
    known = cast("dict[str, Any]", entry)  # which has what follows from these as well
    return Trial(**{each.name: known[each.name] for each in fields(Trial) if each.name in known})


def wall_time_of(analysis: Analysis) -> WallTime | None:
    """Return the measured wall time of an analysis.

    ``None`` where a fit gave no answer that could be right: reports of earlier versions have wall
    times of such runs.
    """
    measured = analysis["wall_time"]
    if measured is None or any(map(_is_unanswered, analysis["hypotheses"])):
        return None
    return wall_time(measured["trials"], analysis["pallet"], analysis["endpoint"])


def has_fit_times(analysis: Analysis) -> bool:
    """Whether each fit of an analysis gave an answer that could be right."""
    return not any(
        each["status"] is None or _is_unanswered(each) for each in analysis["hypotheses"]
    )


def _is_unanswered(hypothesis: Hypothesis) -> bool:
    """Whether the fit of a hypothesis was lost, or gave an exception that is not right."""
    verdict, status = Verdict(hypothesis["verdict"]), hypothesis["status"]
    return status in _LOST or (status == "error" and verdict is Verdict.ERROR)


def measured_cells(wall_time: WallTime | None) -> tuple[str, ...]:
    """Return what stands below `MEASURED_HEADER`."""
    if wall_time is None:
        return (NOTHING,) * len(MEASURED_HEADER)
    return (
        " ".join(
            filter(None, [with_spread(wall_time.mean_s, wall_time.stdev_s), _lost(wall_time)])
        ),
        f"{wall_time.mean_of('fit_s'):.1f}",
        _figure(wall_time.mean_of("speed_up"), ".2f"),
        _figure(wall_time.mean_of("efficiency"), ".0%"),
    )


def _lost(wall_time: WallTime) -> str:
    """Return what was lost in the trials: their time is not that of a healthy endpoint."""
    return f"({', '.join(wall_time.lost)})" if wall_time.lost else ""


def _figure(value: float, form: str) -> str:
    """Return a number, or a dash if there is none."""
    return format(value, form) if math.isfinite(value) else NOTHING
