"""The test statistic of toys with the signal and without one, with its asymptotic distributions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.lines import Line2D

from pytest_pyhf_faas.references.toy_values import is_off, measured
from pytest_pyhf_faas.report.analyses import stem_of
from pytest_pyhf_faas.report.plots.plot import Plot, plot_of
from pytest_pyhf_faas.report.plots.style import (
    BLACK,
    BLUE,
    RED,
    blank_figure,
    legend_marker,
    log_axis,
)
from pytest_pyhf_faas.report.plots.texts import IN_TITLE, described, drawable, within_width
from pytest_pyhf_faas.report.toys import asymptotic_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from pytest_pyhf_faas.report.form import Analysis, ToyHistogram, ToyResult

#: How many hypotheses of an analysis are drawn, those whose asymptotic CLs is most off first.
_SHOWN = 4
#: The two kinds of toys: what they are drawn with and without, and how.
_KINDS = (
    ("signal", "toys with the tested signal", RED, "o"),
    ("background", "toys without a signal", BLUE, "s"),
)
#: Where the axis of the counts begins.
_LOWEST = 0.5


def plot_toys(place: int, analysis: Analysis, name: str) -> Plot | None:
    """Draw the distributions of a few hypotheses; ``None`` if there are no toys."""
    found = [(each["patch"], toys) for each in analysis["hypotheses"] if (toys := each.get("toys"))]
    shown = sorted(found, key=lambda pair: -_off(pair[1]))[:_SHOWN]
    if not shown:
        return None
    figure = blank_figure(2.4 * len(shown) + 1.1)
    rows = figure.subplots(len(shown), 1, squeeze=False)[:, 0]
    config = analysis["config"]
    for axes, (patch, toys) in zip(rows, shown, strict=True):
        _draw(axes, toys, config["test_stat"])
        axes.set_title(f"{within_width(patch, IN_TITLE)}: {_values(toys)}")
        axes.set_ylabel("toys")
    rows[-1].set_xlabel(f"test statistic {config['test_stat']} at μ = {config['test_poi']:g}")
    figure.legend(handles=_handles(), loc="outside lower center", ncols=3)
    title = f"Test statistic of toys: {within_width(name, IN_TITLE)}"
    if len(found) > len(shown):
        title += f" ({len(shown)} of {len(found)} hypotheses)"
    sentences = [f"{drawable(patch)}: {_values(toys)}" for patch, toys in shown]
    alt = described(f"Test statistic of toys with the signal and without: {name}", sentences)
    return plot_of(figure, stem_of("toys", place, analysis), title, alt, place)


def _draw(axes: Axes, toys: ToyResult, test_stat: str) -> None:
    histogram = toys["histogram"]
    edges = np.array(histogram["edges"])
    middle = (edges[:-1] + edges[1:]) / 2
    expected = _expected(toys, test_stat)
    highest = 1.0
    for place, (kind, _label, colour, marker) in enumerate(_KINDS):
        counts = np.array(_counts(histogram, kind), dtype=float)
        filled = counts > 0
        axes.errorbar(
            middle[filled],
            counts[filled],
            yerr=np.sqrt(counts[filled]),
            color=colour,
            marker=marker,
            mfc="white" if place else colour,
            ms=3.5,
            lw=0,
            elinewidth=0.8,
        )
        highest = max(highest, counts.max())
        if expected is not None:
            style = "--" if place else "-"
            axes.stairs(expected[place], edges, color=colour, ls=style, lw=1, baseline=None)
    observed = float(toys["observed"])
    if math.isfinite(observed):
        axes.axvline(observed, color=BLACK, lw=1.2, ls="-.")
    log_axis(axes, "y")
    axes.set_ylim(_LOWEST, 3 * highest)
    axes.set_xlim(edges[0] - 0.01 * edges[-1], edges[-1])


def _counts(histogram: ToyHistogram, kind: str) -> Sequence[int]:
    return histogram["signal"] if kind == "signal" else histogram["background"]


def _expected(toys: ToyResult, test_stat: str) -> list[np.ndarray] | None:
    """Return how many toys of each kind the asymptotic formulae expect in each bin."""
    asimov = toys["asimov"]
    if asimov is None or not float(asimov) > 0:
        return None
    histogram = toys["histogram"]
    shares = asymptotic_shares(test_stat, float(asimov), np.array(histogram["edges"]))
    return [
        share * sum(_counts(histogram, kind))
        for share, (kind, *_how) in zip(shares, _KINDS, strict=True)
    ]


def _values(toys: ToyResult) -> str:
    said = f"CLs_obs {measured(float(toys['CLs'][0]), float(toys['errors'][0]))}"
    asymptotic = toys["asymptotic"]
    if asymptotic is not None:
        said += f", asymptotic {float(asymptotic[0]):.3g}"
        said += " (off)" if is_off(_off(toys)) else ""
    failed = sum(toys["failed"])
    return said + (f", {failed} failed" if failed else "")


def _off(toys: ToyResult) -> float:
    off = toys["off"]
    return abs(float(off)) if off is not None and not math.isnan(float(off)) else 0.0


def _handles() -> list[Line2D]:
    lines = [
        Line2D([], [], color=colour, ls="--" if place else "-", lw=1, label=f"asymptotic, {kind}")
        for place, (kind, _label, colour, _marker) in enumerate(_KINDS)
    ]
    points = [
        legend_marker(label, color=colour, marker=marker, mfc="white" if place else colour, ms=3.5)
        for place, (_kind, label, colour, marker) in enumerate(_KINDS)
    ]
    observed = Line2D([], [], color=BLACK, lw=1.2, ls="-.", label="observed")
    return [points[0], points[1], lines[0], lines[1], observed]
