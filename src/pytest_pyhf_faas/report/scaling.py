"""How the speed of an analysis grows with the number of workers or blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean
from textwrap import wrap
from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign.times import PARTS
from pytest_pyhf_faas.report.analyses import title_of
from pytest_pyhf_faas.report.wall_times import wall_time
from pytest_pyhf_faas.wording import counted, table, with_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.report.form import Scaling, ScalingPoint

#: Names of parts of the workers' time, where these differ from `PARTS`.
PART_TITLES = {"startup": "start-up"}
#: Smaller shares of it are not shown.
_TOLD_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class ScalingFigures:
    """What a scaling measurement says; the sequences are ordered as ``counts``.

    Attributes
    ----------
    counts : tuple[int, ...]
        Workers or blocks, ascending.
    wall_s : tuple[float, ...]
        Mean wall time over the trials.
    stdev_s : tuple[float or None, ...]
        Its sample standard deviation; ``None`` for a single trial.
    start_s : tuple[float, ...]
        Mean time until the engine answered for the first time, when no worker works.
    speed_up : tuple[float, ...]
        How many times faster than with the first count, times the first count.
    efficiency : tuple[float, ...]
        The speed-up over the count.
    explained_fraction : float or None
        The serial fraction that the parts of the time explain; ``None`` without a wall time.
    measured_fraction : float or None
        The serial fraction that the wall times show; ``None`` for a single count.
    """

    counts: tuple[int, ...]
    wall_s: tuple[float, ...]
    stdev_s: tuple[float | None, ...]
    start_s: tuple[float, ...]
    speed_up: tuple[float, ...]
    efficiency: tuple[float, ...]
    explained_fraction: float | None
    measured_fraction: float | None


def scaling_figures(entry: Scaling) -> ScalingFigures:
    """Derive speed-up, efficiency and serial fractions from a scaling measurement.

    Points that were refused have no part in it; where all were, the sequences are empty.

    The speed-up with ``n`` workers is ``S = wall(1) / wall(n)``, and by Amdahl's law (Amdahl, AFIPS
    Conf. Proc. 30 (1967) 483) ``S = 1 / (s + (1 - s) / n)`` for work of which the fraction ``s`` is
    serial. Two estimates of ``s`` are made. The explained one is the time until the engine answered
    for the first time, when no worker works, over ``wall(1)``. The measured one is the metric of
    Karp and Flatt (Commun. ACM 33 (1990) 539), ``e = (1 / S - 1 / n) / (1 - 1 / n)``, averaged over
    ``n > 1``.

    Where the first count is not 1, it takes the place of one worker: ``wall(1)`` is its wall time,
    and ``n`` the count over the first.

    Parameters
    ----------
    entry : Mapping
        An entry of ``scaling`` in the document.
    """
    points = sorted(entry["points"], key=lambda point: int(point["count"]))
    counts = tuple(int(point["count"]) for point in points)
    walls = [wall_time(point["trials"]) for point in points]
    wall_s = tuple(wall.mean_s for wall in walls)
    first, wall_of_first = (counts[0], wall_s[0]) if points else (1, 0.0)
    ratios = [count / first for count in counts]
    relative = [wall_of_first / wall if wall > 0 else math.nan for wall in wall_s]
    measured = [
        (1 / speed_up - 1 / ratio) / (1 - 1 / ratio)
        for speed_up, ratio in zip(relative, ratios, strict=True)
        if ratio > 1 and speed_up > 0
    ]
    start_s = tuple(
        fmean(trial["startup_s"] / max(trial["workers"], 1) for trial in point["trials"])
        for point in points
    )
    return ScalingFigures(
        counts=counts,
        wall_s=wall_s,
        stdev_s=tuple(wall.stdev_s for wall in walls),
        start_s=start_s,
        speed_up=tuple(first * speed_up for speed_up in relative),
        efficiency=tuple(s / ratio for s, ratio in zip(relative, ratios, strict=True)),
        explained_fraction=fmean(start_s) / wall_of_first if wall_of_first > 0 else None,
        measured_fraction=fmean(measured) if measured else None,
    )


def scaling_lines(entry: Scaling, width: int) -> list[str]:
    """Return a scaling measurement as people read it on a terminal.

    Parameters
    ----------
    entry : Mapping
        An entry of ``scaling`` in the document.
    width : int
        Of the terminal.
    """
    unit, found = entry["unit"], scaling_figures(entry)
    lines = [f"{title_of(entry)}, by {unit}:"]
    if found.counts:
        rows = [
            (str(count), with_spread(wall_s, stdev_s), f"{start_s:.1f}", f"{speed_up:.2f}")
            for count, wall_s, stdev_s, start_s, speed_up in zip(
                found.counts,
                found.wall_s,
                found.stdev_s,
                found.start_s,
                found.speed_up,
                strict=True,
            )
        ]
        header = (unit, "wall time [s]", "of which start [s]", "speed-up")
        lines += [f"  {line}" for line in table(header, rows, width - 2, left=0)]
        lines += _where_it_went(entry["points"], unit, width)
    for point in entry["points"]:
        last = point["trials"][-1]
        if last["fits"] < last["workers"]:
            count = counted(point["count"], unit.removesuffix("s"))
            fits, workers = counted(last["fits"], "fit"), counted(last["workers"], "worker")
            lines.append(f"  {count}: {fits} for {workers}, so some had none")
    for refused in entry.get("refused", []):
        count = counted(refused["count"], unit.removesuffix("s"))
        lines.append(f"  {count}: not measured")
        lines += [f"    {line}" for line in refused["reason"].splitlines()]
    return lines


def _where_it_went(points: Sequence[ScalingPoint], unit: str, width: int) -> list[str]:
    """Say where the time of the workers went, for the largest number of them."""
    most = max(points, key=lambda point: int(point["count"]))
    found = wall_time(most["trials"])
    worked_s = fmean(trial.workers * trial.wall_s for trial in found.trials)
    if worked_s <= 0:
        return []
    shares = {part: found.mean_of(f"{part}_s") / worked_s for part in PARTS}
    listing = ", ".join(
        f"{PART_TITLES.get(part, part)} {shares[part]:.0%}"
        for part in sorted(PARTS, key=lambda part: -shares[part])
        if shares[part] >= _TOLD_SHARE
    )
    text = f"with {counted(most['count'], unit.removesuffix('s'))}: {listing}"
    return wrap(text, width, initial_indent="  ", subsequent_indent="    ")


def amdahl(fraction: float, ratio: float) -> float:
    """Return the speed-up by Amdahl's law on ``ratio`` times the workers.

    Parameters
    ----------
    fraction : float
        The serial fraction. A negative one stands for more than the ideal speed-up.
    ratio : float
        How many times the workers.

    Returns
    -------
    float
        NaN where a negative fraction leaves no time at all.
    """
    share = fraction + (1 - fraction) / ratio
    return 1 / share if share > 0 else math.nan
