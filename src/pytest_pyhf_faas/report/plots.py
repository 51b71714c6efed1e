"""The plots of a run report, drawn with Matplotlib from the document alone.

The colours are those of Okabe and Ito, which people with any colour vision tell apart. Markers,
line styles and hatches say the same once more, for print in black and white.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
from collections import Counter
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.textpath import TextToPath
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogFormatter,
    MaxNLocator,
    NullLocator,
    SymmetricalLogLocator,
)
from matplotlib.tri import LinearTriInterpolator, Triangulation

from pytest_pyhf_faas.report.published import published_of
from pytest_pyhf_faas.report.scaling import amdahl, scaling_figures, wall_time
from pytest_pyhf_faas.results import CLS_LABELS
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from pytest_pyhf_faas.report.document import Document
    from pytest_pyhf_faas.report.scaling import ScalingFigures

    Floats = npt.NDArray[np.float64]
    _Surface = np.ma.MaskedArray[Any, Any]
    _Surfaces = dict[int, _Surface]
    Analysis = Mapping[str, Any]

_BLACK, _ORANGE, _SKY, _GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
_YELLOW, _BLUE, _RED, _PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
_GREY, _DARK_GREY = "#DDDDDD", "#666666"

_FONT = "DejaVu Sans"  # comes with Matplotlib
_SMALL = 9
#: Nothing is taken for mathematics or LaTeX, for names come from elsewhere. The salt makes the same
#: document give the same bytes.
_STYLE: dict[Any, Any] = {
    "font.family": _FONT,
    "font.size": 10,
    "axes.axisbelow": True,
    "axes.titlesize": _SMALL,
    "legend.fontsize": _SMALL,
    "xtick.labelsize": _SMALL,
    "ytick.labelsize": _SMALL,
    "figure.titlesize": 11,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,
    "svg.hashsalt": "pytest-pyhf-faas",
}
#: The image comes first: its layout, in which texts are largest, is taken for both.
_METADATA: Mapping[str, dict[str, Any]] = {"png": {}, "svg": {"Date": None}}
_DPI = 150
_WIDTH = 7.0  # inches; all lengths of texts are in points
_NAME_IN_TITLE, _NAME_AT_ROW, _NAME_AT_AXIS = 270, 150, 220
_NOTE_CHARACTERS = 92
#: From here on points are pixels in the SVG, too.
_MANY = 1000
#: An image has a largest size, and a person a patience.
_ROWS = 60

_PARTS = {
    "fit_s": ("fit", _BLUE, ""),
    "build_s": ("build", _SKY, "//"),
    "unpack_s": ("unpack", _GREEN, "||"),
    "transfer_s": ("transfer", _YELLOW, "\\\\"),
    "overhead_s": ("overhead", _PURPLE, "xx"),
    "startup_s": ("start-up", _ORANGE, "--"),
    "queue_s": ("queue", _RED, "++"),
    "idle_s": ("idle", _GREY, ""),
    "unattributed_s": ("unattributed", "#FFFFFF", "/"),
}
#: Shares that are large enough to have their number written into them.
_TOLD_SHARE = 0.07
_DISTRIBUTED = (("o", _BLUE), ("s", _ORANGE))  # on the workers, on one worker

_VALUE_MARKERS = (
    ("o", _BLACK),
    ("v", _SKY),
    ("<", _GREEN),
    ("D", _BLUE),
    (">", _ORANGE),
    ("^", _PURPLE),
)
#: Smaller CLs values are drawn as this one: nobody needs to tell them apart.
_LOWEST_CLS = 1e-6
_FINEST_DIFFERENCE = 1e-12

_EXCLUDED = 0.05
_GRID = 240
_FEWEST_PLACES = 4
#: What is nearer, relative to what all places span, is one place, or on one line.
_DIGITS = 5
_LINE = 1e-4
#: What the contours are made of, by its place among the six values.
_SURFACES = _OBSERVED, _MINUS, _EXPECTED, _PLUS = 0, 2, 3, 4
_LEVEL = math.log10(_EXCLUDED)
#: Marker, colour and size of a hypothesis.
_STATES = {
    "right": ("o", _GREEN, 4),
    "not compared": ("D", _PURPLE, 5),
    "without CLs": ("s", "none", 5),
    "not right": ("X", _RED, 8),
}

_HISTOGRAMS = 4
_LINES = (("-", _BLUE), ("--", _RED), ("-.", _GREEN), (":", _BLACK))
_FEWEST_BINS, _MOST_BINS = 8, 40

_LOWEST_PLAIN, _HIGHEST_PLAIN = 1e-3, 1e5
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Plot:
    """One plot of a report.

    Attributes
    ----------
    name : str
        File stem, of ``a-z0-9_-``; no two plots of a report have the same.
    title : str
        What stands above it.
    alt : str
        What it shows, with its main figures, for people who do not see it.
    analysis : int or None
        Place in ``analyses`` of the document; ``None`` if it is of the whole run.
    svg, png : bytes
        The images.
    """

    name: str
    title: str
    alt: str
    analysis: int | None
    svg: bytes
    png: bytes


def draw(document: Document) -> list[Plot]:
    """Draw all plots of a run report; one that would show nothing is left out.

    Parameters
    ----------
    document : Document
        The report of the run.

    Returns
    -------
    list[Plot]
        First the wall times, then by kind those of each analysis, the seconds of the fits, and at
        last the scaling measurements. The same document gives the same bytes.
    """
    with mpl.rc_context():
        mpl.rcdefaults()  # the user's may ask for LaTeX, say
        mpl.rcParams.update(_STYLE)
        return [plot for plot in _plots(document) if plot is not None]


def _plots(document: Document) -> Iterator[Plot | None]:
    analyses = document["analyses"]
    names = _names(analyses)
    yield _wall_time(analyses, names)
    yield _where_the_time_went(analyses, names)
    for of_analysis in (_timeline, _cls_difference, _plane):
        for place, analysis in enumerate(analyses):
            yield of_analysis(place, analysis, names[place])
    yield _fit_times(analyses, names)
    for place, entry in enumerate(document["scaling"]):
        yield _scaling(place, entry)


# --- wall times -----------------------------------------------------------------------------------


def _wall_time(analyses: Sequence[Analysis], names: Sequence[str]) -> Plot | None:
    measured = [
        (name, one)
        for name, one in zip(names, analyses, strict=True)
        if one["wall_time"] and wall_time(one["wall_time"]["trials"])[0] > 0
    ]
    if not measured:
        return None
    shown = measured[:_ROWS]
    figure, axes = _rows(len(shown), _only_first(shown, measured))
    axes.set_xscale("log", nonpositive="clip")
    told, labels, any_published = [], [], False
    for row, (name, analysis) in enumerate(shown):
        trials = analysis["wall_time"]["trials"]
        (wall_s, stdev_s), fit_s = wall_time(trials), _mean(trials, "fit_s")
        _both_times(axes, row, wall_s, stdev_s, fit_s)
        workers = counted(trials[-1]["workers"], "worker")
        labels.append(f"{_fit(name, _NAME_AT_ROW)}\n{workers}")
        told.append(
            f"{_line(name)}: {_measured(wall_s, stdev_s)} s on {workers}, {fit_s:.4g} s on one"
        )
        published = published_of(analysis)
        if published is not None:
            any_published = True
            _both_times(
                axes,
                row + 0.28,
                published.wall_time_s,
                published.stdev_s,
                published.single_node_s,
                published=True,
            )
            told[-1] += (
                f" (published in 2021: {published.wall_time_s:g} ± {published.stdev_s:g} s "
                f"distributed, {published.single_node_s:g} s on a single node)"
            )
    axes.set_yticks(range(len(shown)), labels)
    axes.grid(axis="x", alpha=0.4)
    _log_axis(axes.xaxis)
    axes.margins(x=0.12)
    axes.set_xlabel("time [s]")
    handles = [
        Line2D([], [], ls="", marker=marker, color=colour, markersize=8, label=label)
        for (marker, colour), label in zip(
            _DISTRIBUTED,
            ("wall time, mean ± standard deviation", "one worker: sum of the fits' seconds"),
            strict=True,
        )
    ]
    if any_published:
        handles += [
            Line2D([], [], ls="", marker=marker, color=colour, mfc="w", markersize=8, label=label)
            for (marker, colour), label in zip(
                _DISTRIBUTED, ("published (2021)", "published (2021): single node"), strict=True
            )
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    title = "Wall time on the workers, and on one worker"
    return _plot(figure, "wall_time", title, f"{title}. {_first_of(told)}")


def _both_times(
    axes: Axes,
    row: float,
    wall_s: float,
    stdev_s: float | None,
    single_s: float,
    *,
    published: bool = False,
) -> None:
    """Draw the time on all workers and on one, and how many times longer the latter is."""
    for (marker, colour), seconds, spread in zip(
        _DISTRIBUTED, (wall_s, single_s), (stdev_s, None), strict=True
    ):
        if seconds > 0:
            axes.errorbar(
                seconds,
                row,
                xerr=spread,
                marker=marker,
                markersize=6 if published else 8,
                color=colour,
                mfc="w" if published else colour,
                capsize=4,
                zorder=3,
            )
    if single_s > 0 and not published:
        axes.plot([wall_s, single_s], [row, row], color=_DARK_GREY, lw=0.8, ls=":")
        axes.annotate(
            f"×{single_s / wall_s:.3g}",
            (math.sqrt(wall_s * single_s), row),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=_SMALL,
        )


def _where_the_time_went(analyses: Sequence[Analysis], names: Sequence[str]) -> Plot | None:
    measured = [
        (name, shares)
        for name, one in zip(names, analyses, strict=True)
        if one["wall_time"] and (shares := _shares(one["wall_time"]["trials"]))
    ]
    if not measured:
        return None
    shown = measured[:_ROWS]
    figure, axes = _rows(len(shown), _only_first(shown, measured))
    told, whole = [], []
    for row, (name, shares) in enumerate(shown):
        left = 0.0
        for part, share in shares.items():
            _, colour, hatch = _PARTS[part]
            width = 100 * max(share, 0)
            axes.barh(
                row, width, 0.6, left, color=colour, hatch=hatch, edgecolor=_BLACK, linewidth=0.5
            )
            if share >= _TOLD_SHARE:
                axes.text(
                    left + width / 2,
                    row,
                    f"{share:.0%}",
                    ha="center",
                    va="center",
                    fontsize=_SMALL,
                    bbox={"facecolor": "w", "edgecolor": "none", "pad": 1.5},
                )
            left += width
        whole.append(left)
        parts = sorted(shares, key=lambda part: -shares[part])
        told.append(
            f"{_line(name)}: "
            + ", ".join(f"{_PARTS[part][0]} {shares[part]:.1%}" for part in parts if shares[part])
        )
    axes.set_yticks(range(len(shown)), [_fit(name, _NAME_AT_ROW) for name, _ in shown])
    axes.set_xlim(0, max(100.0, *whole))
    axes.set_xlabel("share of workers × wall time [%]")
    handles = [
        Patch(facecolor=colour, hatch=hatch, edgecolor=_BLACK, linewidth=0.5, label=label)
        for label, colour, hatch in _PARTS.values()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5)
    title = "Where the time of the workers went"
    return _plot(figure, "where_the_time_went", title, f"{title}. {_first_of(told)}")


def _shares(trials: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the share of each part in the workers' time; nothing if there was none."""
    capacity = fmean(trial["workers"] * trial["wall_s"] for trial in trials)
    return {part: _mean(trials, part) / capacity for part in _PARTS} if capacity > 0 else {}


def _timeline(place: int, analysis: Analysis, name: str) -> Plot | None:
    timeline = analysis["timeline"]
    workers = timeline["workers"] if timeline else []
    tasks = sorted(task for task in (timeline or {"tasks": []})["tasks"] if task[0] < len(workers))
    if not tasks:
        return None
    height = min(max(0.17 * len(workers), 0.8), 5.0) + 1.3
    uncertainty = max(worker["clock_uncertainty_s"] for worker in workers)
    notes = [f"one bar for each task; positions known to ± {uncertainty:.2g} s"]
    figure, axes = _figure(height, notes)
    of_worker: Counter[int] = Counter()
    boxes, colours = [], []
    for worker, begin, end, _ in tasks:
        low, high = worker - 0.42, worker + 0.42
        boxes.append([(begin, low), (end, low), (end, high), (begin, high)])
        colours.append((_BLUE, _SKY)[of_worker[worker] % 2])  # so that neighbours can be told apart
        of_worker[worker] += 1
    axes.add_collection(
        PolyCollection(boxes, facecolors=colours, edgecolors="none", rasterized=len(boxes) > _MANY)
    )
    seconds = timeline["seconds"]
    first, last = min(task[1] for task in tasks), max(task[2] for task in tasks)
    axes.set_xlim(min(0.0, first), max(seconds, last, 1e-3))
    axes.set_ylim(len(workers) - 0.4, -0.6)
    step = math.ceil(len(workers) / (height * 4.5))
    rows = range(0, len(workers), step)
    axes.set_yticks(rows, [_fit(workers[row]["worker"], _NAME_AT_ROW) for row in rows])
    axes.set_xlabel("time since the start [s]")
    axes.set_ylabel(counted(len(workers), "worker"))
    axes.grid(axis="x", alpha=0.4)
    busy = sum(end - begin for _, begin, end, _ in tasks)
    share = f"{busy / (seconds * len(workers)):.0%} of the workers' time, " if seconds > 0 else ""
    title = f"What the workers did: {_fit(name, _NAME_IN_TITLE)}"
    alt = (
        f"What each worker did: {_line(name)}. {counted(len(tasks), 'task')} on "
        f"{counted(len(workers), 'worker')} within {seconds:.4g} s; tasks fill {share}"
        f"the first began after {first:.3g} s, the last ended after {last:.4g} s. Positions are "
        f"known to ± {uncertainty:.2g} s."
    )
    return _plot(figure, _stem("timeline", place, analysis), title, alt, place)


# --- CLs values -----------------------------------------------------------------------------------


class _Points(NamedTuple):
    """CLs values of the hypotheses that have both; one row each, six columns."""

    reference: Floats
    difference: Floats
    outside: npt.NDArray[np.bool_]

    @property
    def drawable(self) -> npt.NDArray[np.bool_]:
        """Where there are numbers."""
        return np.isfinite(self.difference)


def _cls_difference(place: int, analysis: Analysis, name: str) -> Plot | None:
    hypotheses = [
        one for one in analysis["hypotheses"] if one["CLs"] and (one["reference"] or {}).get("CLs")
    ]
    points = _points(hypotheses)
    drawable = points.drawable
    if not drawable.any():
        return None
    lowest = np.clip(points.reference[drawable].min(), _LOWEST_CLS, 1)
    references = np.geomspace(lowest / 1.5, 1.5, 200)
    widths = _tolerance(hypotheses, references)
    threshold = _threshold(widths, points.difference[drawable])
    x = np.clip(points.reference, _LOWEST_CLS, 1)
    y = np.clip(points.difference, -1, 1)
    outside = points.outside & drawable
    at_edge = int(((x != points.reference) | (y != points.difference))[drawable].sum())
    figure, axes = _figure(
        4.9,
        _difference_notes(len(analysis["hypotheses"]) - len(hypotheses), drawable, at_edge),
    )
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=threshold)
    axes.fill_between(references, -widths, widths, color=_YELLOW, alpha=0.35, lw=0)
    for sign in (-1, 1):
        axes.plot(references, sign * widths, color=_DARK_GREY, lw=0.8)
    _draw_differences(axes, x, y, drawable, outside)
    axes.axhline(0, color=_BLACK, lw=0.6)
    largest = max(np.abs(y[drawable]).max(), widths.max(), threshold)
    axes.set_ylim(-3 * largest, 3 * largest)
    axes.set_xlim(references[0], references[-1])
    axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=threshold))
    axes.yaxis.get_major_locator().set_params(numticks=11)  # type: ignore[call-arg]
    axes.yaxis.set_major_formatter(_LogLabels(linthresh=threshold))
    axes.yaxis.set_minor_locator(NullLocator())
    _log_axis(axes.xaxis)
    axes.set_xlabel("CLs of the reference")
    axes.set_ylabel("CLs obtained − reference")
    figure.legend(
        handles=_difference_handles(int(outside.sum())), loc="outside lower center", ncols=4
    )
    title = f"CLs against the reference: {_fit(name, _NAME_IN_TITLE)}"
    alt = (
        f"CLs obtained minus reference against the reference: {_line(name)}. "
        f"{int(drawable.sum())} values of {counted(len(hypotheses), 'hypothesis')}, "
        f"{int(outside.sum())} of them outside of the tolerance; the largest difference is "
        f"{np.abs(points.difference[drawable]).max():.2g}."
    )
    return _plot(figure, _stem("cls_difference", place, analysis), title, alt, place)


def _draw_differences(
    axes: Axes,
    x: Floats,
    y: Floats,
    drawable: npt.NDArray[np.bool_],
    outside: npt.NDArray[np.bool_],
) -> None:
    rasterized = drawable.sum() > _MANY
    scale = _scale(int(drawable.sum()))
    # The observed values come last, on top.
    for column in reversed(range(len(CLS_LABELS))):
        marker, colour = _VALUE_MARKERS[column]
        where = drawable[:, column]
        axes.plot(
            x[where, column],
            y[where, column],
            ls="",
            marker=marker,
            markersize=scale * (5 if column == _OBSERVED else 4),
            color=colour,
            mfc=colour if column == _OBSERVED else "none",
            mew=scale,
            rasterized=rasterized,
        )
    axes.plot(
        x[outside],
        y[outside],
        ls="",
        marker="o",
        markersize=11 * scale,
        mfc="none",
        mew=1.2 * scale,
        color=_RED,
        rasterized=rasterized,
    )


def _points(hypotheses: Sequence[Mapping[str, Any]]) -> _Points:
    obtained = _six([one["CLs"] for one in hypotheses])
    reference = _six([one["reference"]["CLs"] for one in hypotheses])
    within = [one["within"] or [True] * len(CLS_LABELS) for one in hypotheses]
    with np.errstate(all="ignore"):  # neither inf - inf nor what overflows is drawn
        difference = obtained - reference
    outside = ~np.array(within, dtype=bool).reshape(obtained.shape)
    return _Points(reference, difference, outside)


def _six(values: Sequence[Sequence[float | str]]) -> Floats:
    rows = [[float(value) for value in six] for six in values]
    return np.array(rows, dtype=np.float64).reshape(-1, len(CLS_LABELS))


def _tolerance(hypotheses: Sequence[Mapping[str, Any]], references: Floats) -> Floats:
    """Return the largest tolerance of all hypotheses for some values of the reference."""
    pairs = {(one["atol"] or 0.0, one["rtol"] or 0.0) for one in hypotheses}
    widths = [np.minimum(atol + rtol * references, 1.0) for atol, rtol in pairs]
    return np.asarray(np.max(widths, axis=0))


def _threshold(widths: Floats, differences: Floats) -> float:
    """Return up to where the axis of the differences is linear: a power of 10."""
    finest = widths.min()
    if not finest > 0:
        moved = np.abs(differences[differences != 0])
        finest = moved.min() if moved.size else _FINEST_DIFFERENCE
    return 10.0 ** math.floor(math.log10(min(max(finest, _FINEST_DIFFERENCE), 1)))


def _difference_notes(left_out: int, drawable: npt.NDArray[np.bool_], at_edge: int) -> list[str]:
    notes = []
    if left_out:
        notes.append(f"{counted(left_out, 'hypothesis')} without CLs or reference left out")
    without_number = int((~drawable).sum())
    if without_number:
        notes.append(f"{counted(without_number, 'value')} left out that are no numbers")
    if at_edge:
        notes.append(
            f"{counted(at_edge, 'value')} with CLs below {_power(_LOWEST_CLS)}, or with a "
            "difference above 1, drawn at the edge"
        )
    return notes


def _difference_handles(outside: int) -> list[Line2D | Patch]:
    values = [
        Line2D(
            [],
            [],
            ls="",
            marker=marker,
            color=colour,
            mfc=colour if column == _OBSERVED else "none",
            label=CLS_LABELS[column],
        )
        for column, (marker, colour) in enumerate(_VALUE_MARKERS)
    ]
    band = Patch(facecolor=_YELLOW, alpha=0.35, edgecolor=_DARK_GREY, label="tolerance")
    ring = Line2D(
        [],
        [],
        ls="",
        marker="o",
        markersize=10,
        mfc="none",
        color=_RED,
        label=f"outside: {outside}",
    )
    return [*values, band, ring]


# --- mass plane -----------------------------------------------------------------------------------


def _plane(place: int, analysis: Analysis, name: str) -> Plot | None:
    labels, plane = analysis["labels"], analysis.get("plane", [])
    if not plane or not set(plane) <= set(labels):
        return None
    columns = [labels.index(label) for label in plane]
    hypotheses, at = _at_places(analysis["hypotheses"], columns)
    if not hypotheses:
        return None
    contours = _Contours.of(at)
    obtained = contours.surfaces([one["CLs"] for one in hypotheses])
    reference = contours.surfaces([(one["reference"] or {}).get("CLs") for one in hypotheses])
    notes = _plane_notes(obtained)
    left_out = len(analysis["hypotheses"]) - len(hypotheses)
    if left_out:
        notes.append(f"{counted(left_out, 'hypothesis')} left out: no place in the plane")
    figure, axes = _figure(5.2, notes)
    handles: list[Line2D | Patch] = []
    if obtained is not None:
        handles += _draw_contours(axes, contours, obtained)
    if reference is not None:
        handles += _draw_reference(axes, contours, reference)
    states = [_state(one) for one in hypotheses]
    handles += _draw_states(axes, at, states)
    _limit(axes, at)
    axes.set_xlabel(f"{_fit(plane[0], _NAME_AT_AXIS)} [GeV]")
    axes.set_ylabel(f"{_fit(plane[1], _NAME_AT_AXIS)} [GeV]")
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    title = f"CLs = {_EXCLUDED:g} in the mass plane: {_fit(name, _NAME_IN_TITLE)}"
    counts = ", ".join(f"{count} {state}" for state, count in Counter(states).items())
    alt = (
        f"Exclusion at 95 % CL (CLs = {_EXCLUDED:g}) in the plane of {_line(plane[0])} and "
        f"{_line(plane[1])}: {_line(name)}. {counted(len(hypotheses), 'hypothesis')}: {counts}. "
        + " ".join([*_reaches(contours, obtained, plane[0]), *(f"{note}." for note in notes)])
    )
    return _plot(figure, _stem("plane", place, analysis), title, alt.strip(), place)


def _at_places(
    hypotheses: Sequence[Mapping[str, Any]], columns: Sequence[int]
) -> tuple[list[Mapping[str, Any]], Floats]:
    """Return the hypotheses that have a place in the plane, and the places."""
    found, places = [], []
    for one in hypotheses:
        values = one["values"]
        if max(columns) < len(values) and all(_is_place(values[column]) for column in columns):
            found.append(one)
            places.append([float(values[column]) for column in columns])
    return found, np.array(places, dtype=np.float64).reshape(-1, 2)


def _is_place(value: object) -> bool:
    # Masses beyond that have no differences left, as floats.
    return isinstance(value, (int, float)) and abs(value) < 1e100  # noqa: PLR2004


@dataclass(frozen=True)
class _Contours:
    """Where contours are drawn: hypotheses in a plane of which both axes run from 0 to 1."""

    at: Floats
    first: npt.NDArray[np.intp]
    x: Floats
    y: Floats

    @classmethod
    def of(cls, places: Floats) -> _Contours:
        low, high = places.min(axis=0), places.max(axis=0)
        span = np.where(high > low, high - low, 1.0)
        at = ((places - low) / span).round(_DIGITS)
        first = np.unique(at, axis=0, return_index=True)[1]
        x, y = (np.linspace(low[axis], high[axis], _GRID) for axis in (0, 1))
        return cls(at, first, x, y)

    def surfaces(self, cls_values: Sequence[Sequence[float | str] | None]) -> _Surfaces | None:
        """Return log10 of CLs on the grid, linear between the hypotheses.

        Of several hypotheses at one place the first is taken.

        Returns
        -------
        dict or None
            By place among the six values; ``None`` with fewer than four hypotheses, or all of them
            on a line.
        """
        nothing = [math.nan] * len(CLS_LABELS)
        cls = _six([values or nothing for values in cls_values])[:, _SURFACES]
        chosen = self.first[np.isfinite(cls[self.first]).all(axis=1)]
        at = self.at[chosen]
        if len(at) < _FEWEST_PLACES or _on_a_line(at):
            return None
        triangulation = Triangulation(at[:, 0], at[:, 1])
        grid = np.meshgrid(np.linspace(0, 1, _GRID), np.linspace(0, 1, _GRID))
        logarithms = np.log10(np.maximum(cls[chosen], _LOWEST_CLS))
        return {
            surface: LinearTriInterpolator(triangulation, logarithms[:, column])(*grid)
            for column, surface in enumerate(_SURFACES)
        }


def _on_a_line(at: Floats) -> bool:
    spread = np.linalg.svd(at - at.mean(axis=0), compute_uv=False)
    return bool(spread[-1] < _LINE)


def _draw_contours(axes: Axes, contours: _Contours, surfaces: _Surfaces) -> list[Line2D | Patch]:
    # Within the band, -1 sigma is below the level and +1 sigma above.
    band = np.ma.maximum(surfaces[_MINUS] - _LEVEL, _LEVEL - surfaces[_PLUS])
    if band.min() < 0:
        axes.contourf(
            contours.x, contours.y, band, levels=[band.min(), 0], colors=[_YELLOW], alpha=0.6
        )
    _draw_contour(axes, contours, surfaces[_EXPECTED], colors=_BLUE, linestyles="--")
    _draw_contour(axes, contours, surfaces[_OBSERVED], colors=_BLACK, linestyles="-")
    return [
        Line2D([], [], color=_BLACK, lw=1.8, label="observed"),
        Line2D([], [], color=_BLUE, ls="--", lw=1.8, label="expected"),
        Patch(facecolor=_YELLOW, alpha=0.6, label="expected ± 1σ"),
    ]


def _draw_reference(axes: Axes, contours: _Contours, surfaces: _Surfaces) -> list[Line2D | Patch]:
    for surface in surfaces.values():
        _draw_contour(axes, contours, surface, colors=_RED, linestyles=":", linewidths=1.3)
    return [Line2D([], [], color=_RED, ls=":", lw=1.3, label="the same of the reference")]


def _draw_contour(axes: Axes, contours: _Contours, surface: _Surface, **style: Any) -> None:
    if surface.min() < _LEVEL < surface.max():
        style = {"linewidths": 1.8, "zorder": 3, **style}
        axes.contour(contours.x, contours.y, surface, levels=[_LEVEL], **style)


def _plane_notes(surfaces: _Surfaces | None) -> list[str]:
    if surfaces is None:
        return [f"no contours: they need {_FEWEST_PLACES} places with CLs that are not on a line"]
    return [
        f"{what} CLs does not cross {_EXCLUDED:g}: it is "
        f"{'above' if surfaces[column].min() >= _LEVEL else 'below'} everywhere"
        for column, what in ((_OBSERVED, "observed"), (_EXPECTED, "expected"))
        if not surfaces[column].min() < _LEVEL < surfaces[column].max()
    ]


def _reaches(contours: _Contours, surfaces: _Surfaces | None, label: str) -> list[str]:
    """Say up to where the first axis is excluded."""
    return [
        f"{what} exclusion up to {_line(label)} = {contours.x[excluded][-1]:.4g} GeV."
        for column, what in ((_OBSERVED, "Observed"), (_EXPECTED, "Expected"))
        if surfaces is not None
        and (excluded := (surfaces[column] < _LEVEL).filled(False).any(axis=0)).any()
    ]


def _state(hypothesis: Mapping[str, Any]) -> str:
    values = hypothesis["CLs"]
    if values is None or not all(math.isfinite(float(value)) for value in values):
        return "without CLs"
    if hypothesis["verdict"] in {"right", "mended"}:
        return "right"
    if hypothesis["verdict"] in {"no reference", "not compared", "not run"}:
        return "not compared"
    return "not right"


def _draw_states(axes: Axes, at: Floats, states: Sequence[str]) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = []
    for state, (marker, colour, size) in _STATES.items():
        where = np.array(states) == state
        if not where.any():
            continue
        style: dict[str, Any] = {
            "ls": "",
            "marker": marker,
            "mfc": colour,
            "mec": _DARK_GREY if colour == "none" else "w",
            "mew": 0.8 if colour == "none" else 0.4,
        }
        axes.plot(
            *at[where].T,
            **style,
            markersize=size * _scale(len(states)) ** 2,  # where they are many, they fill the plane
            zorder=2,  # below the contours
            rasterized=len(states) > _MANY,
        )
        label = f"{state}: {int(where.sum())}"
        handles.append(Line2D([], [], **style, markersize=max(size, 6), label=label))
    return handles


def _limit(axes: Axes, at: Floats) -> None:
    """Leave room around the hypotheses; contours would leave none."""
    low, high = at.min(axis=0), at.max(axis=0)
    room = 0.04 * np.where(high > low, high - low, np.maximum(np.abs(low), 1))
    axes.set_xlim(low[0] - room[0], high[0] + room[0])
    axes.set_ylim(low[1] - room[1], high[1] + room[1])


# --- seconds of the fits --------------------------------------------------------------------------


def _fit_times(analyses: Sequence[Analysis], names: Sequence[str]) -> Plot | None:
    seconds = [
        np.array([one["seconds"].get("fit", 0.0) for one in analysis["hypotheses"]])
        for analysis in analyses
    ]
    measured = [
        (name, values[values > 0])
        for name, values in zip(names, seconds, strict=True)
        if (values > 0).any()
    ]
    if not measured:
        return None
    shown = measured[:_ROWS]
    notes = _only_first(shown, measured)
    figure = _histograms(shown) if len(shown) <= _HISTOGRAMS else _strips(shown, notes)
    title = "Times of the fits"
    told = [
        f"{_line(name)}: {counted(len(values), 'fit')} of {values.min():.3g} s to "
        f"{values.max():.3g} s, median {np.median(values):.3g} s"
        for name, values in measured
    ]
    return _plot(figure, "fit_times", title, f"{title}. {_first_of(told)}")


def _histograms(measured: Sequence[tuple[str, Floats]]) -> Figure:
    figure, axes = _figure(4.0)
    everything = np.concatenate([values for _, values in measured])
    count = int(np.clip(math.sqrt(len(everything)), _FEWEST_BINS, _MOST_BINS))
    bins = np.geomspace(everything.min() / 1.05, everything.max() * 1.05, count + 1)
    for (name, values), (style, colour) in zip(measured, _LINES, strict=False):
        median = float(np.median(values))
        label = f"{_fit(name, _NAME_IN_TITLE)}: median {median:.3g} s"
        axes.stairs(
            np.histogram(values, bins)[0], bins, color=colour, ls=style, lw=1.6, label=label
        )
        axes.plot(median, 0, marker="^", color=colour, markersize=9, clip_on=False, zorder=4)
    axes.set_xscale("log")
    _log_axis(axes.xaxis)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("time of a fit [s]; triangles: medians")
    axes.set_ylabel("fits")
    figure.legend(loc="outside lower center", ncols=1)
    return figure


def _strips(measured: Sequence[tuple[str, Floats]], notes: Sequence[str]) -> Figure:
    """Draw for each analysis its range, the middle half and the median."""
    figure, axes = _rows(len(measured), notes)
    axes.set_xscale("log")
    for row, (_, values) in enumerate(measured):
        low, quarter, median, three_quarters, high = np.quantile(values, [0, 0.25, 0.5, 0.75, 1])
        axes.plot([low, high], [row, row], color=_DARK_GREY, lw=1, marker="|", markersize=8)
        axes.plot([quarter, three_quarters], [row, row], color=_SKY, lw=9, solid_capstyle="butt")
        axes.plot(median, row, ls="", marker="D", color=_BLACK, markersize=5, zorder=3)
    axes.set_yticks(range(len(measured)), [_fit(name, _NAME_AT_ROW) for name, _ in measured])
    axes.grid(axis="x", alpha=0.4)
    _log_axis(axes.xaxis)
    axes.set_xlabel("time of a fit [s]")
    handles = [
        Line2D([], [], color=_DARK_GREY, lw=1, marker="|", label="all fits"),
        Line2D([], [], color=_SKY, lw=9, label="middle half"),
        Line2D([], [], ls="", marker="D", color=_BLACK, markersize=5, label="median"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


# --- scaling --------------------------------------------------------------------------------------


def _scaling(place: int, entry: Mapping[str, Any]) -> Plot | None:
    figures = scaling_figures(entry)
    first, wall_of_first = figures.counts[0], figures.wall_s[0]
    if not wall_of_first > 0:
        return None
    unit = entry["unit"]
    of_first = "" if first == 1 else f" ({first} with {first} {unit})"
    # Each as a function of the speed-up and the ratio of counts, both relative to the first count.
    panels: dict[str, Callable[[Any, Any], Any]] = {
        "wall time [s]": lambda speed_up, _: wall_of_first / speed_up,
        f"speed-up{of_first}": lambda speed_up, _: first * speed_up,
        "efficiency [%]": lambda speed_up, ratio: 100 * speed_up / ratio,
    }
    name = ", ".join([*_names([entry]), entry["endpoint"], entry["combination"]])
    figure = _sheet(3.9)
    for axes, (label, panel) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        _draw_scaling(axes, figures, panel)
        axes.set_title(label)
        axes.set_xlabel(unit)
        if not label.startswith("efficiency"):
            axes.set_yscale("log")
            _log_axis(axes.yaxis)
        else:
            axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    title = f"Scaling with the {unit}: {_fit(name, _NAME_IN_TITLE)}"
    told = [
        f"{counted(count, unit.removesuffix('s'))}: {_measured(wall_s, stdev_s)} s, "
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
    told += [label for label, _, _ in _amdahl_curves(figures)]
    return _plot(figure, f"scaling-{place}", title, f"{title}. {_first_of(told)}")


def _draw_scaling(axes: Axes, figures: ScalingFigures, panel: Callable[[Any, Any], Any]) -> None:
    counts = np.array(figures.counts, dtype=np.float64)
    first, ratios = counts[0], counts / counts[0]
    measured = panel(np.array(figures.speed_up) / first, ratios)
    spread = [
        (stdev_s or 0.0) / wall_s if wall_s > 0 else math.nan
        for wall_s, stdev_s in zip(figures.wall_s, figures.stdev_s, strict=True)
    ]
    fine = np.geomspace(1, ratios[-1], 100)
    axes.plot(first * fine, panel(fine, fine), color=_DARK_GREY, lw=1, label="ideal")
    for label, fraction, style in _amdahl_curves(figures):
        speed_ups = np.array([amdahl(fraction, ratio) for ratio in fine])
        axes.plot(first * fine, panel(speed_ups, fine), label=label, **style)
    axes.errorbar(
        counts,
        measured,
        yerr=np.abs(measured) * spread,
        ls="",
        marker="o",
        color=_BLACK,
        capsize=3,
        zorder=4,
        label="measured ± standard deviation",
    )
    axes.set_xscale("log", base=2)
    axes.set_xlim(first / 1.25, counts[-1] * 1.25)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(figures.counts)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.4)


def _amdahl_curves(figures: ScalingFigures) -> list[tuple[str, float, dict[str, Any]]]:
    curves = (
        ("start-up", figures.explained_fraction, {"color": _BLUE, "ls": "--"}),
        ("measured, Karp–Flatt", figures.measured_fraction, {"color": _RED, "ls": "-."}),
    )
    return [
        (f"Amdahl with {fraction:.2%} serial ({origin})", fraction, style)
        for origin, fraction, style in curves
        if fraction is not None
    ]


def _ticks(counts: Sequence[int]) -> list[int]:
    """Return the counts of which the numbers do not run into each other."""
    room = max(math.log(counts[-1] / counts[0]) / 7, math.log(1.1))
    ticks = [counts[0]]
    for count in counts:
        if math.log(count / ticks[-1]) >= room:
            ticks.append(count)
    return ticks


# --- what all plots need --------------------------------------------------------------------------


def _sheet(height: float) -> Figure:
    return Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")


def _figure(height: float, notes: Sequence[str] = ()) -> tuple[Figure, Axes]:
    """Return an empty figure; the notes stand below its title."""
    figure = _sheet(height)
    axes = figure.subplots()
    axes.set_title("\n".join(textwrap.wrap("; ".join(notes), _NOTE_CHARACTERS)))
    return figure, axes


def _scale(points: int) -> float:
    """Return by how much markers are smaller where there are many."""
    return min(1.0, math.sqrt(math.sqrt(_MANY / points)))


def _rows(count: int, notes: Sequence[str] = ()) -> tuple[Figure, Axes]:
    """Return an empty figure with a row for each analysis, the first on top."""
    figure, axes = _figure(0.55 * count + 1.7, notes)
    axes.set_ylim(count - 0.4, -0.6)
    return figure, axes


def _plot(figure: Figure, name: str, title: str, alt: str, analysis: int | None = None) -> Plot:
    figure.suptitle(title)
    images = {}
    for form, metadata in _METADATA.items():
        image = io.BytesIO()
        figure.savefig(image, format=form, dpi=_DPI, metadata=metadata)
        images[form] = image.getvalue()
        figure.set_layout_engine(None)  # laying out takes long
    return Plot(name, title, alt, analysis, **images)


def _stem(kind: str, place: int, analysis: Analysis) -> str:
    pallet = re.sub("[^a-z0-9_]+", "-", analysis["pallet"].lower())[:40].strip("-")
    return f"{kind}-{place}-{pallet}".rstrip("-")


def _names(analyses: Sequence[Analysis]) -> list[str]:
    """Return what tells the analyses apart: the pallet, and what else differs."""
    differing = [
        field
        for field in ("endpoint", "combination")
        if len({analysis[field] for analysis in analyses}) > 1
    ]
    return [
        ", ".join(
            [
                analysis["pallet"] + (" (synthetic)" if analysis.get("synthetic") else ""),
                *(analysis[field] for field in differing),
            ]
        )
        for analysis in analyses
    ]


def _only_first(shown: Sequence[object], measured: Sequence[object]) -> list[str]:
    more = len(measured) - len(shown)
    return [f"the first {len(shown)} of {len(measured)} analyses"] if more else []


def _mean(trials: Sequence[Mapping[str, Any]], part: str) -> float:
    return fmean(trial[part] for trial in trials)


def _measured(mean: float, stdev: float | None) -> str:
    return f"{mean:.4g}" if stdev is None else f"{mean:.4g} ± {stdev:.2g}"


def _first_of(sentences: Sequence[str], most: int = 12) -> str:
    more = len(sentences) - most
    rest = [f"and {more} more"] if more > 0 else []
    return "; ".join([*sentences[:most], *rest]) + "."


def _line(text: str, most: int = 120) -> str:
    """Return content as one line of characters that the font has, shortened in its middle."""
    known = _characters()
    line = "".join(
        character if ord(character) in known else "�" for character in " ".join(text.split())
    )
    return line if len(line) <= most else _shortened(line, most)


def _shortened(line: str, length: int) -> str:
    behind = (length - 1) // 2
    return f"{line[: length - 1 - behind]}…{line[-behind:] if behind else ''}"


def _fit(text: str, points: float) -> str:
    """Return content as one line that is no longer than some points, shortened in its middle."""
    line = _line(text)
    font = FontProperties(family=_FONT, size=mpl.rcParams["figure.titlesize"])
    length, shortened = len(line), line
    while length > 1 and _text_width(shortened, font) > points:
        length -= 1
        shortened = _shortened(line, length)
    return shortened


def _text_width(line: str, font: FontProperties) -> float:
    return TextToPath().get_text_width_height_descent(line, font, ismath=False)[0]


@cache
def _characters() -> frozenset[int]:
    """Return the characters of the font; others would be warned of."""
    return frozenset(get_font(findfont(_FONT)).get_charmap())


class _LogLabels(LogFormatter):
    """Powers of 10 without mathematics, at the ticks that Matplotlib labels."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return _power(x) if super().__call__(x, pos) else ""


def _power(value: float) -> str:
    if value == 0 or _LOWEST_PLAIN <= abs(value) < _HIGHEST_PLAIN:
        return f"{value:g}".replace("-", "−")
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    factor = {"1": "", "-1": "−"}.get(mantissa, f"{mantissa}×")
    return f"{factor}10{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def _log_axis(axis: Axis) -> None:
    axis.set_major_formatter(_LogLabels())
    axis.set_minor_formatter(_LogLabels(minor_thresholds=(1.2, 0.5)))
