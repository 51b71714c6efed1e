"""The hypotheses in the plane of two of their values, and where the model is excluded."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pytest_pyhf_faas.report.analyses import stem_of
from pytest_pyhf_faas.report.axes import Axis
from pytest_pyhf_faas.report.plots.contours import FEWEST_PLACES, SURFACES, Contours
from pytest_pyhf_faas.report.plots.plot import Plot, plot_of
from pytest_pyhf_faas.report.plots.six_values import EXPECTED, MINUS, OBSERVED, PLUS
from pytest_pyhf_faas.report.plots.style import (
    BLACK,
    BLUE,
    DARK_GREY,
    GREEN,
    MANY,
    PURPLE,
    RED,
    YELLOW,
    legend_marker,
    log_axis,
    marker_scale,
    single_axes,
    spans_decades,
)
from pytest_pyhf_faas.report.plots.texts import AT_AXIS, IN_TITLE, drawable, within_width
from pytest_pyhf_faas.report.quantity import CLS, quantity_of
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from pytest_pyhf_faas.report.form import Analysis, Hypothesis
    from pytest_pyhf_faas.report.plots.contours import Surface, Surfaces
    from pytest_pyhf_faas.report.plots.six_values import Floats
    from pytest_pyhf_faas.report.quantity import Quantity

#: Fewer places are not a plane.
_FEWEST = 3
_AXES = 2
#: The values whose exclusion the text describes.
_TOLD = {OBSERVED: "observed", EXPECTED: "expected"}
_WITHOUT = "without values"
#: The marker of a hypothesis.
_STATES: dict[str, dict[str, Any]] = {
    "right": {"marker": "o", "mfc": GREEN, "mec": "w", "mew": 0.4, "markersize": 4},
    "not compared": {"marker": "D", "mfc": PURPLE, "mec": "w", "mew": 0.4, "markersize": 5},
    _WITHOUT: {"marker": "s", "mfc": "none", "mec": DARK_GREY, "mew": 0.8, "markersize": 5},
    "not right": {"marker": "X", "mfc": RED, "mec": "w", "mew": 0.4, "markersize": 8},
}
_SMALLEST_IN_LEGEND = 6
_LINE_WIDTH = 1.8
_ROOM = 0.04
_HATCH = "//"


def plot_plane(place: int, analysis: Analysis, name: str) -> Plot | None:
    """Draw the hypotheses and the contours; ``None`` without a plane and places in it."""
    quantity = quantity_of(analysis)
    if quantity is None:
        return None
    found = [Axis.find(text, analysis["labels"]) for text in analysis.get("plane", [])]
    plane = [axis for axis in found if axis is not None]
    if len(plane) != _AXES:
        return None
    hypotheses, at = _at_places(analysis["hypotheses"], plane)
    placed = len(hypotheses)
    chosen, sliced = _slice(hypotheses, at, analysis["labels"])
    hypotheses, at = [hypotheses[place] for place in chosen], at[chosen]
    if len(hypotheses) < _FEWEST:
        return None
    logarithmic = spans_decades(at[:, 0]), spans_decades(at[:, 1])
    contours = Contours(at, logarithmic)
    obtained = contours.surfaces([quantity.obtained(one) for one in hypotheses], quantity.drawn)
    reference = contours.surfaces([quantity.reference(one) for one in hypotheses], quantity.drawn)
    level = math.log10(quantity.exclusion)
    notes = _notes(quantity, obtained)
    beyond = sum(_is_beyond(quantity, one) for one in hypotheses)
    if beyond:
        notes.append(
            f"{counted(beyond, 'hypothesis')} without a limit, drawn at {quantity.drawn[1]:g}"
        )
    if sliced:
        notes.insert(0, sliced)
    left_out = len(analysis["hypotheses"]) - placed
    if left_out:
        notes.append(f"{counted(left_out, 'hypothesis')} left out: no place in the plane")
    states = [_state(quantity, one) for one in hypotheses]
    figure, axes = single_axes(5.2, notes)
    for which, is_logarithmic in zip("xy", logarithmic, strict=True):
        if is_logarithmic:
            log_axis(axes, cast("Literal['x', 'y']", which))
    handles = [
        *_draw_contours(axes, contours, obtained, level),
        *_draw_reference(axes, contours, reference, level),
        *_draw_states(axes, at, states),
    ]
    axes.set_xlim(_with_room(at[:, 0], logarithmic[0]))
    axes.set_ylim(_with_room(at[:, 1], logarithmic[1]))
    axes.set_xlabel(within_width(plane[0].title, AT_AXIS))
    axes.set_ylabel(within_width(plane[1].title, AT_AXIS))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    contour = f"{quantity.one} = {quantity.exclusion:g}"
    title = f"{contour[0].upper()}{contour[1:]} in the plane: {within_width(name, IN_TITLE)}"
    counts = ", ".join(f"{count} {state}" for state, count in Counter(states).items())
    alt = (
        f"Exclusion at 95 % CL ({contour}) in the plane of {drawable(plane[0].name)} and "
        f"{drawable(plane[1].name)}: {drawable(name)}. {counted(len(hypotheses), 'hypothesis')}: "
        f"{counts}. "
        + " ".join(
            [*_reaches(contours, obtained, plane[0], level), *(f"{note}." for note in notes)]
        )
    )
    stem = stem_of("plane" if quantity is CLS else "limit_plane", place, analysis)
    return plot_of(figure, stem, title, alt.strip(), place)


# --- contours -------------------------------------------------------------------------------------


def _draw_contours(
    axes: Axes, contours: Contours, surfaces: Surfaces | None, level: float
) -> list[Line2D | Patch]:
    if surfaces is None:
        return []
    # Within the band, -1 sigma is below the level and +1 sigma above.
    band = np.ma.maximum(surfaces[MINUS] - level, level - surfaces[PLUS])
    if band.min() < 0:
        axes.contourf(
            contours.x, contours.y, band, levels=[band.min(), 0], colors=[YELLOW], alpha=0.6
        )
    _draw_contour(axes, contours, surfaces[EXPECTED], level, BLUE, "--")
    _draw_contour(axes, contours, surfaces[OBSERVED], level, BLACK, "-")
    _hatch_excluded(axes, contours, surfaces[OBSERVED], level)
    return [
        Line2D([], [], color=BLACK, lw=_LINE_WIDTH, label="observed"),
        Line2D([], [], color=BLUE, ls="--", lw=_LINE_WIDTH, label="expected"),
        Patch(facecolor=YELLOW, alpha=0.6, label="expected ± 1σ"),
        Patch(
            facecolor="none", edgecolor=DARK_GREY, lw=0, hatch=_HATCH, label="excluded (observed)"
        ),
    ]


def _hatch_excluded(axes: Axes, contours: Contours, surface: Surface, level: float) -> None:
    """Mark the side of the observed contour on which the values are below the level."""
    lowest = surface.min()
    if lowest < level:
        region = axes.contourf(
            contours.x,
            contours.y,
            surface,
            levels=[lowest, level],
            colors="none",
            hatches=[_HATCH],
            zorder=1,
        )
        region.set_edgecolor(DARK_GREY)
        region.set_linewidth(0)


def _draw_reference(
    axes: Axes, contours: Contours, surfaces: Surfaces | None, level: float
) -> list[Line2D]:
    if surfaces is None:
        return []
    for surface in surfaces.values():
        _draw_contour(axes, contours, surface, level, RED, ":", 1.3)
    return [Line2D([], [], color=RED, ls=":", lw=1.3, label="the same for the reference")]


def _draw_contour(
    axes: Axes,
    contours: Contours,
    surface: Surface,
    level: float,
    colour: str,
    style: str,
    width: float = _LINE_WIDTH,
) -> None:
    if _crosses(surface, level):
        axes.contour(
            contours.x,
            contours.y,
            surface,
            levels=[level],
            colors=colour,
            linestyles=style,
            linewidths=width,
            zorder=3,
        )


def _crosses(surface: Surface, level: float) -> bool:
    return bool(surface.min() < level < surface.max())


def _notes(quantity: Quantity, surfaces: Surfaces | None) -> list[str]:
    if surfaces is None:
        places = f"{FEWEST_PLACES} places with {quantity.name}"
        return [f"no contours: they need {places} that are not on a line"]
    level = math.log10(quantity.exclusion)
    return [
        f"{what} {quantity.one} does not cross {quantity.exclusion:g}: it is "
        f"{'above' if surfaces[column].min() >= level else 'below'} everywhere"
        for column, what in _TOLD.items()
        if not _crosses(surfaces[column], level)
    ]


def _is_beyond(quantity: Quantity, hypothesis: Hypothesis) -> bool:
    """Whether one of the values that contours are drawn of is infinite."""
    values = quantity.obtained(hypothesis) or ()
    return any(math.isinf(float(values[place])) for place in SURFACES if values)


def _reaches(contours: Contours, surfaces: Surfaces | None, axis: Axis, level: float) -> list[str]:
    """Say up to where the first axis is excluded."""
    return [
        f"{what.capitalize()} exclusion up to {drawable(axis.name)} = "
        f"{contours.x[excluded][-1]:.4g}{f' {axis.unit}' if axis.unit else ''}."
        for column, what in _TOLD.items()
        if surfaces is not None
        and (excluded := (surfaces[column] < level).filled(False).any(axis=0)).any()
    ]


# --- hypotheses -----------------------------------------------------------------------------------


def _at_places(
    hypotheses: Sequence[Hypothesis], plane: Sequence[Axis]
) -> tuple[list[Hypothesis], Floats]:
    """Return the hypotheses that have a place in the plane, and the places."""
    found: list[Hypothesis] = []
    places = []
    for one in hypotheses:
        place = [axis.value(one["values"]) for axis in plane]
        if None not in place:
            found.append(one)
            places.append(place)
    return found, np.array(places, dtype=np.float64).reshape(-1, _AXES)


def _slice(
    hypotheses: Sequence[Hypothesis], at: Floats, labels: Sequence[str]
) -> tuple[list[int], str]:
    """Return the hypotheses that are drawn, and the slice that they are from.

    All of them, unless several are at one place: then those with the most common values of the
    labels that distinguish these.
    """
    everything = list(range(len(hypotheses)))
    places = [tuple(place) for place in at.tolist()]
    if len(set(places)) == len(places):
        return everything, ""
    columns = [
        [one["values"][column] if column < len(one["values"]) else None for one in hypotheses]
        for column in range(len(labels))
    ]
    others = [
        column
        for column, values in enumerate(columns)
        if len({*zip(places, values, strict=True)}) > len(set(places))
    ]
    of = list(zip(*(columns[column] for column in others), strict=True))
    if not of:
        return everything, ""
    common, count = Counter(of).most_common(1)[0]
    same = ", ".join(
        f"{drawable(labels[column])} = {drawable(str(value))}"
        for column, value in zip(others, common, strict=True)
    )
    return (
        [place for place in everything if of[place] == common],
        f"a slice: the {counted(count, 'hypothesis')} of {len(hypotheses)} with {same}",
    )


def _state(quantity: Quantity, hypothesis: Hypothesis) -> str:
    if not quantity.has_numbers(hypothesis):
        return _WITHOUT
    verdict = Verdict(hypothesis["verdict"])
    if not verdict.is_compared:
        return "not compared"
    return "right" if verdict.agrees else "not right"


def _draw_states(axes: Axes, at: Floats, states: Sequence[str]) -> list[Line2D]:
    handles = []
    for state, style in _STATES.items():
        where = np.array(states) == state
        if not where.any():
            continue
        size = style["markersize"]
        axes.plot(
            *at[where].T,
            # Many of them fill the plane.
            **{**style, "markersize": size * marker_scale(len(states)) ** 2},
            ls="",
            zorder=2,  # below the contours
            rasterized=len(states) > MANY,
        )
        in_legend = {**style, "markersize": max(size, _SMALLEST_IN_LEGEND)}
        handles.append(legend_marker(f"{state}: {int(where.sum())}", **in_legend))
    return handles


def _with_room(values: Floats, is_logarithmic: bool) -> tuple[float, float]:
    """Return limits that leave room around the hypotheses; contours would leave none."""
    low, high = float(values.min()), float(values.max())
    if is_logarithmic:
        factor = (high / low) ** _ROOM
        return low / factor, high * factor
    room = _ROOM * (high - low if high > low else max(abs(low), 1))
    return low - room, high + room
