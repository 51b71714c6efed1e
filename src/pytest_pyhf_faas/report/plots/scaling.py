"""Wall time, speed-up and efficiency by the number of workers or blocks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pytest_pyhf_faas.report.analyses import names_of
from pytest_pyhf_faas.report.plots.plot import Plot, plot_of
from pytest_pyhf_faas.report.plots.style import (
    BLACK,
    BLUE,
    DARK_GREY,
    RED,
    blank_figure,
    log_axis,
)
from pytest_pyhf_faas.report.plots.texts import (
    IN_TITLE,
    described,
    with_stdev,
    within_width,
)
from pytest_pyhf_faas.report.scaling import amdahl, scaling_figures
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from pytest_pyhf_faas.report.form import Scaling
    from pytest_pyhf_faas.report.scaling import ScalingFigures


_FEWEST_POINTS = 2


class _Panel(NamedTuple):
    title: str
    logarithmic: bool
    #: Of the speed-up and the ratio of counts, both relative to the first count.
    value: Callable[[Any, Any], Any]


def plot_scaling(place: int, entry: Scaling) -> Plot | None:
    """Draw a scaling measurement with Amdahl's law; ``None`` if there are too few points.

    It takes two points: one shows no law.
    """
    figures = scaling_figures(entry)
    if len(figures.counts) < _FEWEST_POINTS or not figures.wall_s[0] > 0:
        return None
    first, wall_of_first = figures.counts[0], figures.wall_s[0]
    unit = entry["unit"]
    of_first = "" if first == 1 else f" ({first} with {first} {unit})"
    panels = (
        _Panel("wall time [s]", True, lambda speed_up, _: wall_of_first / speed_up),
        _Panel(f"speed-up{of_first}", True, lambda speed_up, _: first * speed_up),
        _Panel("efficiency [%]", False, lambda speed_up, ratio: 100 * speed_up / ratio),
    )
    figure = blank_figure(3.9)
    for axes, panel in zip(figure.subplots(1, len(panels)), panels, strict=True):
        _draw_panel(axes, figures, panel)
        axes.set_xlabel(unit)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    name = ", ".join([*names_of([entry]), entry["endpoint"], entry["fit_setup"]])
    title = f"Scaling with the {unit}: {within_width(name, IN_TITLE)}"
    sentences = [
        f"{counted(count, unit.removesuffix('s'))}: {with_stdev(wall_s, stdev_s)} s, "
        f"speed-up {speed_up:.3g}, efficiency {efficiency:.0%}"
        for count, wall_s, stdev_s, speed_up, efficiency in zip(
            figures.counts,
            figures.wall_s,
            figures.stdev_s,
            figures.speed_up,
            figures.efficiency,
            strict=True,
        )
    ]
    sentences += [label for label, _, _ in _amdahl_curves(figures)]
    return plot_of(figure, f"scaling-{place}", title, described(title, sentences))


def _draw_panel(axes: Axes, figures: ScalingFigures, panel: _Panel) -> None:
    counts = np.array(figures.counts, dtype=np.float64)
    first, ratios = counts[0], counts / counts[0]
    measured = panel.value(np.array(figures.speed_up) / first, ratios)
    spread = [
        (stdev_s or 0.0) / wall_s if wall_s > 0 else math.nan
        for wall_s, stdev_s in zip(figures.wall_s, figures.stdev_s, strict=True)
    ]
    fine = np.geomspace(1, ratios[-1], 100)
    axes.plot(first * fine, panel.value(fine, fine), color=DARK_GREY, lw=1, label="ideal")
    for label, fraction, style in _amdahl_curves(figures):
        speed_ups = np.array([amdahl(fraction, ratio) for ratio in fine])
        axes.plot(first * fine, panel.value(speed_ups, fine), label=label, **style)
    axes.errorbar(
        counts,
        measured,
        yerr=np.abs(measured) * spread,
        ls="",
        marker="o",
        color=BLACK,
        capsize=3,
        zorder=4,
        label="measured ± standard deviation",
    )
    axes.set_title(panel.title)
    axes.set_xscale("log", base=2)
    axes.set_xlim(first / 1.25, counts[-1] * 1.25)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(figures.counts)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    if panel.logarithmic:
        log_axis(axes, "y")
    else:
        axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    axes.grid(alpha=0.4)


def _amdahl_curves(figures: ScalingFigures) -> list[tuple[str, float, dict[str, Any]]]:
    """Return label, serial fraction and line of each curve."""
    curves = (
        ("start-up", figures.explained_fraction, {"color": BLUE, "ls": "--"}),
        ("measured, Karp–Flatt", figures.measured_fraction, {"color": RED, "ls": "-."}),
    )
    return [
        (f"Amdahl with {fraction:.2%} serial ({origin})", fraction, style)
        for origin, fraction, style in curves
        if fraction is not None
    ]


def _ticks(counts: Sequence[int]) -> list[int]:
    """Return the counts whose labels do not overlap."""
    room = max(math.log(counts[-1] / counts[0]) / 7, math.log(1.1))
    ticks = [counts[0]]
    for count in counts:
        if math.log(count / ticks[-1]) >= room:
            ticks.append(count)
    return ticks
