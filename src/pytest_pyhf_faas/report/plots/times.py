"""The times of all analyses: on the workers and on one, where they went, and of the fits."""

from __future__ import annotations

import math
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from pytest_pyhf_faas.report.plots.plot import Plot, plot_of
from pytest_pyhf_faas.report.plots.style import (
    BLACK,
    BLUE,
    DARK_GREY,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    SMALL,
    WHITE,
    YELLOW,
    legend_marker,
    log_axis,
    rows_of_analyses,
    single_axes,
)
from pytest_pyhf_faas.report.plots.texts import (
    AT_ROW,
    IN_TITLE,
    described,
    drawable,
    with_stdev,
    within_width,
)
from pytest_pyhf_faas.report.published import published_of
from pytest_pyhf_faas.report.wall_times import has_fit_times, wall_time_of
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pytest_pyhf_faas.campaign.times import WallTime
    from pytest_pyhf_faas.report.form import Analysis

    _Seconds = Sequence[tuple[str, npt.NDArray[np.float64]]]

#: Styles of the time on the workers, and on one worker.
_MARKERS: tuple[dict[str, Any], ...] = (
    {"marker": "o", "color": BLUE},
    {"marker": "s", "color": ORANGE},
)
_SIZE, _SIZE_PUBLISHED = 8, 6


class _Part(NamedTuple):
    label: str
    colour: str
    hatch: str

    @property
    def style(self) -> dict[str, Any]:
        return {
            "facecolor": self.colour,
            "hatch": self.hatch,
            "edgecolor": BLACK,
            "linewidth": 0.5,
        }


_PARTS = {
    "fit_s": _Part("fit", BLUE, ""),
    "build_s": _Part("build", SKY, "//"),
    "unpack_s": _Part("unpack", GREEN, "||"),
    "transfer_s": _Part("transfer", YELLOW, "\\\\"),
    "overhead_s": _Part("overhead", PURPLE, "xx"),
    "startup_s": _Part("start-up", ORANGE, "--"),
    "queue_s": _Part("queue", RED, "++"),
    "idle_s": _Part("idle", GREY, ""),
    "unattributed_s": _Part("unattributed", WHITE, "/"),
}
#: Shares that are large enough to have their number written into them.
_TOLD_SHARE = 0.07

#: Colours of histograms; one plot has no more.
_LINES = (("-", BLUE), ("--", RED), ("-.", GREEN), (":", BLACK))
_FEWEST_BINS, _MOST_BINS = 8, 40
#: Fewer fits are not a distribution.
_FEWEST_FITS = 8


# --- on the workers, and on one -------------------------------------------------------------------


def plot_wall_time(analyses: Sequence[Analysis], names: Sequence[str]) -> Plot | None:
    """Draw the wall times next to the sums of the fits' seconds.

    ``None`` without any, or for only one without a published one: a table says more.
    """
    measured = [
        (name, (one, found))
        for name, one in zip(names, analyses, strict=True)
        if (found := wall_time_of(one)) is not None and found.mean_s > 0
    ]
    compares = len(measured) > 1 or any(published_of(one) for _, (one, _) in measured)
    if not compares:
        return None
    figure, axes, shown = rows_of_analyses(measured)
    log_axis(axes, "x")
    sentences, labels, published_handles = [], [], []
    for row, (name, (analysis, found)) in enumerate(shown):
        wall_s, stdev_s, fit_s = found.mean_s, found.stdev_s, found.mean_of("fit_s")
        _draw_times(axes, row, (wall_s, fit_s), stdev_s, markersize=_SIZE)
        _draw_ratio(axes, row, wall_s, fit_s)
        workers = counted(found.last.workers, "worker")
        labels.append(f"{within_width(name, AT_ROW)}\n{workers}")
        sentences.append(
            f"{drawable(name)}: {with_stdev(wall_s, stdev_s)} s on {workers}, {fit_s:.4g} s on one"
        )
        published = published_of(analysis)
        if published is not None:
            _draw_times(
                axes,
                row + 0.28,
                (published.wall_time_s, published.single_node_s),
                published.stdev_s,
                markersize=_SIZE_PUBLISHED,
                mfc="w",
            )
            published_handles = _handles(
                "published (2021)", "published (2021): single node", mfc="w"
            )
            sentences[-1] += (
                f" (published in 2021: {published.wall_time_s:g} ± {published.stdev_s:g} s "
                f"distributed, {published.single_node_s:g} s on a single node)"
            )
    axes.set_yticks(range(len(shown)), labels)
    axes.grid(axis="x", alpha=0.4)
    axes.margins(x=0.12)
    axes.set_xlabel("time [s]")
    handles = _handles(
        "wall time, mean ± standard deviation", "one worker: sum of the fits' seconds"
    )
    figure.legend(handles=handles + published_handles, loc="outside lower center", ncols=2)
    title = "Wall time on the workers, and on one worker"
    return plot_of(figure, "wall_time", title, described(title, sentences))


def _handles(*labels: str, **style: Any) -> list[Line2D]:
    return [
        legend_marker(label, **marker, markersize=_SIZE, **style)
        for label, marker in zip(labels, _MARKERS, strict=True)
    ]


def _draw_times(
    axes: Axes, row: float, times_s: tuple[float, float], stdev_s: float | None, **style: Any
) -> None:
    """Draw the time on all workers, which has a deviation, and that on one."""
    for seconds, spread, marker in zip(times_s, (stdev_s, None), _MARKERS, strict=True):
        if seconds > 0:
            axes.errorbar(seconds, row, xerr=spread, **marker, **style, capsize=4, zorder=3)


def _draw_ratio(axes: Axes, row: float, wall_s: float, single_s: float) -> None:
    """Write how many times longer the time on one worker is."""
    if single_s > 0:
        axes.plot([wall_s, single_s], [row, row], color=DARK_GREY, lw=0.8, ls=":")
        axes.annotate(
            f"×{single_s / wall_s:.3g}",
            (math.sqrt(wall_s * single_s), row),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL,
        )


# --- where it went --------------------------------------------------------------------------------


def plot_where_the_time_went(analyses: Sequence[Analysis], names: Sequence[str]) -> Plot | None:
    """Draw the shares of the workers' time; ``None`` without any."""
    measured = [
        (name, shares)
        for name, one in zip(names, analyses, strict=True)
        if (found := wall_time_of(one)) is not None and (shares := _shares(found))
    ]
    if not measured:
        return None
    figure, axes, shown = rows_of_analyses(measured)
    whole = max(_draw_shares(axes, row, shares) for row, (_, shares) in enumerate(shown))
    axes.set_yticks(range(len(shown)), [within_width(name, AT_ROW) for name, _ in shown])
    axes.set_xlim(0, max(100.0, whole))
    axes.set_xlabel("share of workers × wall time [%]")
    handles = [Patch(**part.style, label=part.label) for part in _PARTS.values()]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    sentences = []
    for name, shares in shown:
        parts = sorted(shares, key=lambda part: -shares[part])
        words = [f"{_PARTS[part].label} {shares[part]:.1%}" for part in parts if shares[part]]
        sentences.append(f"{drawable(name)}: {', '.join(words)}")
    title = "Where the time of the workers went"
    return plot_of(figure, "where_the_time_went", title, described(title, sentences))


def _shares(found: WallTime) -> dict[str, float]:
    """Return the share of each part in the workers' time; nothing if there was no time."""
    capacity = fmean(trial.workers * trial.wall_s for trial in found.trials)
    return {part: found.mean_of(part) / capacity for part in _PARTS} if capacity > 0 else {}


def _draw_shares(axes: Axes, row: int, shares: Mapping[str, float]) -> float:
    """Draw the bars of one row, and return where they end."""
    left = 0.0
    for part, share in shares.items():
        width = 100 * max(share, 0)
        axes.barh(row, width, 0.6, left, **_PARTS[part].style)
        if share >= _TOLD_SHARE:
            axes.text(
                left + width / 2,
                row,
                f"{share:.0%}",
                ha="center",
                va="center",
                fontsize=SMALL,
                bbox={"facecolor": "w", "edgecolor": "none", "pad": 1.5},
            )
        left += width
    return left


# --- seconds of the fits --------------------------------------------------------------------------


def plot_fit_times(analyses: Sequence[Analysis], names: Sequence[str]) -> Plot | None:
    """Draw how long the fits took: few analyses as histograms.

    Analyses with a fit whose answer cannot be right are left out, and those with
    too few fits for a distribution; ``None`` if no others are left.
    """
    measured = []
    for name, analysis in zip(names, analyses, strict=True):
        if not has_fit_times(analysis):
            continue
        seconds = np.array([one["seconds"].get("fit", 0.0) for one in analysis["hypotheses"]])
        seconds = seconds[seconds > 0]
        if len(seconds) >= _FEWEST_FITS:
            measured.append((name, seconds))
    if not measured:
        return None
    figure = _histograms(measured) if len(measured) <= len(_LINES) else _strips(measured)
    sentences = [
        f"{drawable(name)}: {counted(len(seconds), 'fit')} of {seconds.min():.3g} s to "
        f"{seconds.max():.3g} s, median {np.median(seconds):.3g} s"
        for name, seconds in measured
    ]
    title = "Times of the fits"
    return plot_of(figure, "fit_times", title, described(title, sentences))


def _histograms(measured: _Seconds) -> Figure:
    figure, axes = single_axes(4.0)
    log_axis(axes, "x")
    everything = np.concatenate([seconds for _, seconds in measured])
    count = int(np.clip(math.sqrt(len(everything)), _FEWEST_BINS, _MOST_BINS))
    bins = np.geomspace(everything.min() / 1.05, everything.max() * 1.05, count + 1)
    for (name, seconds), (style, colour) in zip(measured, _LINES, strict=False):
        median = float(np.median(seconds))
        label = f"{within_width(name, IN_TITLE)}: median {median:.3g} s"
        fits, _ = np.histogram(seconds, bins)
        axes.stairs(fits, bins, color=colour, ls=style, lw=1.6, label=label)
        axes.plot(median, 0, marker="^", color=colour, markersize=9, clip_on=False, zorder=4)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("time of a fit [s]; triangles: medians")
    axes.set_ylabel("fits")
    figure.legend(loc="outside lower center", ncols=1)
    return figure


def _strips(measured: _Seconds) -> Figure:
    """Draw for each analysis its range, the middle half and the median."""
    figure, axes, shown = rows_of_analyses(measured)
    log_axis(axes, "x")
    for row, (_, seconds) in enumerate(shown):
        low, quarter, median, three_quarters, high = np.quantile(seconds, [0, 0.25, 0.5, 0.75, 1])
        axes.plot([low, high], [row, row], color=DARK_GREY, lw=1, marker="|", markersize=8)
        axes.plot([quarter, three_quarters], [row, row], color=SKY, lw=9, solid_capstyle="butt")
        axes.plot(median, row, ls="", marker="D", color=BLACK, markersize=5, zorder=3)
    axes.set_yticks(range(len(shown)), [within_width(name, AT_ROW) for name, _ in shown])
    axes.grid(axis="x", alpha=0.4)
    axes.set_xlabel("time of a fit [s]")
    handles = [
        Line2D([], [], color=DARK_GREY, lw=1, marker="|", label="all fits"),
        Line2D([], [], color=SKY, lw=9, label="middle half"),
        legend_marker("median", marker="D", color=BLACK, markersize=5),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure
