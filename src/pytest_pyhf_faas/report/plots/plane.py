"""The hypotheses in the plane of two of their values, and where the model is excluded."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pytest_pyhf_faas.report.analyses import reference_of, stem_of
from pytest_pyhf_faas.report.plots.cls_values import EXPECTED, MINUS, OBSERVED, PLUS
from pytest_pyhf_faas.report.plots.contours import FEWEST_PLACES, Contours
from pytest_pyhf_faas.report.plots.plot import Plot, plot_of
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
    marker_scale,
    single_axes,
)
from pytest_pyhf_faas.report.plots.texts import AT_AXIS, IN_TITLE, drawable, within_width
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from pytest_pyhf_faas.report.form import Analysis, Hypothesis
    from pytest_pyhf_faas.report.plots.cls_values import Floats
    from pytest_pyhf_faas.report.plots.contours import Surface, Surfaces

_EXCLUDED = 0.05
#: An m with its index (not the signal strength), or the word.
_MASS = re.compile(r"[\W_]*(m(?!u([\W_\d]|$))([\W_\d]|[a-z]{0,3}\d*$)|.*\bmass)", re.IGNORECASE)
_LEVEL = math.log10(_EXCLUDED)
#: The values of which it is said where they exclude.
_TOLD = {OBSERVED: "observed", EXPECTED: "expected"}
#: The marker of a hypothesis.
_STATES: dict[str, dict[str, Any]] = {
    "right": {"marker": "o", "mfc": GREEN, "mec": "w", "mew": 0.4, "markersize": 4},
    "not compared": {"marker": "D", "mfc": PURPLE, "mec": "w", "mew": 0.4, "markersize": 5},
    "without CLs": {"marker": "s", "mfc": "none", "mec": DARK_GREY, "mew": 0.8, "markersize": 5},
    "not right": {"marker": "X", "mfc": RED, "mec": "w", "mew": 0.4, "markersize": 8},
}
_SMALLEST_IN_LEGEND = 6
_LINE_WIDTH = 1.8


def plot_plane(place: int, analysis: Analysis, name: str) -> Plot | None:
    """Draw the hypotheses and the contours; ``None`` without a plane or hypotheses in it."""
    labels, plane = analysis["labels"], analysis.get("plane", [])
    if not plane or not set(plane) <= set(labels):
        return None
    hypotheses, at = _at_places(analysis["hypotheses"], [labels.index(label) for label in plane])
    if not hypotheses:
        return None
    contours = Contours(at)
    obtained = contours.surfaces([one["CLs"] for one in hypotheses])
    reference = contours.surfaces([reference_of(one) for one in hypotheses])
    notes = _notes(obtained)
    left_out = len(analysis["hypotheses"]) - len(hypotheses)
    if left_out:
        notes.append(f"{counted(left_out, 'hypothesis')} left out: no place in the plane")
    states = [_state(one) for one in hypotheses]
    figure, axes = single_axes(5.2, notes)
    handles = [
        *_draw_contours(axes, contours, obtained),
        *_draw_reference(axes, contours, reference),
        *_draw_states(axes, at, states),
    ]
    _limit(axes, at)
    axes.set_xlabel(_axis_label(plane[0]))
    axes.set_ylabel(_axis_label(plane[1]))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    kind = "mass plane" if all(map(is_mass, plane)) else "plane"
    title = f"CLs = {_EXCLUDED:g} in the {kind}: {within_width(name, IN_TITLE)}"
    counts = ", ".join(f"{count} {state}" for state, count in Counter(states).items())
    alt = (
        f"Exclusion at 95 % CL (CLs = {_EXCLUDED:g}) in the plane of {drawable(plane[0])} and "
        f"{drawable(plane[1])}: {drawable(name)}. {counted(len(hypotheses), 'hypothesis')}: "
        f"{counts}. "
        + " ".join([*_reaches(contours, obtained, plane[0]), *(f"{note}." for note in notes)])
    )
    return plot_of(figure, stem_of("plane", place, analysis), title, alt.strip(), place)


def is_mass(label: str) -> bool:
    """Whether a label of a pallet is that of a mass, such as ``m1``, ``mst`` or ``$m_1$``."""
    return _MASS.match(label) is not None


def _axis_label(label: str) -> str:
    return within_width(label, AT_AXIS) + (" [GeV]" if is_mass(label) else "")


# --- contours -------------------------------------------------------------------------------------


def _draw_contours(
    axes: Axes, contours: Contours, surfaces: Surfaces | None
) -> list[Line2D | Patch]:
    if surfaces is None:
        return []
    # Within the band, -1 sigma is below the level and +1 sigma above.
    band = np.ma.maximum(surfaces[MINUS] - _LEVEL, _LEVEL - surfaces[PLUS])
    if band.min() < 0:
        axes.contourf(
            contours.x, contours.y, band, levels=[band.min(), 0], colors=[YELLOW], alpha=0.6
        )
    _draw_contour(axes, contours, surfaces[EXPECTED], BLUE, "--")
    _draw_contour(axes, contours, surfaces[OBSERVED], BLACK, "-")
    return [
        Line2D([], [], color=BLACK, lw=_LINE_WIDTH, label="observed"),
        Line2D([], [], color=BLUE, ls="--", lw=_LINE_WIDTH, label="expected"),
        Patch(facecolor=YELLOW, alpha=0.6, label="expected ± 1σ"),
    ]


def _draw_reference(axes: Axes, contours: Contours, surfaces: Surfaces | None) -> list[Line2D]:
    if surfaces is None:
        return []
    for surface in surfaces.values():
        _draw_contour(axes, contours, surface, RED, ":", 1.3)
    return [Line2D([], [], color=RED, ls=":", lw=1.3, label="the same of the reference")]


def _draw_contour(
    axes: Axes,
    contours: Contours,
    surface: Surface,
    colour: str,
    style: str,
    width: float = _LINE_WIDTH,
) -> None:
    if _crosses(surface):
        axes.contour(
            contours.x,
            contours.y,
            surface,
            levels=[_LEVEL],
            colors=colour,
            linestyles=style,
            linewidths=width,
            zorder=3,
        )


def _crosses(surface: Surface) -> bool:
    return bool(surface.min() < _LEVEL < surface.max())


def _notes(surfaces: Surfaces | None) -> list[str]:
    if surfaces is None:
        return [f"no contours: they need {FEWEST_PLACES} places with CLs that are not on a line"]
    return [
        f"{what} CLs does not cross {_EXCLUDED:g}: it is "
        f"{'above' if surfaces[column].min() >= _LEVEL else 'below'} everywhere"
        for column, what in _TOLD.items()
        if not _crosses(surfaces[column])
    ]


def _reaches(contours: Contours, surfaces: Surfaces | None, label: str) -> list[str]:
    """Say up to where the first axis is excluded."""
    return [
        f"{what.capitalize()} exclusion up to {drawable(label)} = {contours.x[excluded][-1]:.4g}"
        f"{' GeV' if is_mass(label) else ''}."
        for column, what in _TOLD.items()
        if surfaces is not None
        and (excluded := (surfaces[column] < _LEVEL).filled(False).any(axis=0)).any()
    ]


# --- hypotheses -----------------------------------------------------------------------------------


def _at_places(
    hypotheses: Sequence[Hypothesis], columns: Sequence[int]
) -> tuple[list[Hypothesis], Floats]:
    """Return the hypotheses that have a place in the plane, and the places."""
    found: list[Hypothesis] = []
    places = []
    for one in hypotheses:
        values = one["values"]
        if max(columns) < len(values) and all(_is_place(values[column]) for column in columns):
            found.append(one)
            places.append([float(values[column]) for column in columns])
    return found, np.array(places, dtype=np.float64).reshape(-1, 2)


def _is_place(value: object) -> bool:
    # Masses beyond that have no differences left, as floats.
    return isinstance(value, (int, float)) and abs(value) < 1e100  # noqa: PLR2004


def _state(hypothesis: Hypothesis) -> str:
    values = hypothesis["CLs"]
    if values is None or not all(math.isfinite(float(value)) for value in values):
        return "without CLs"
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
            # Where they are many, they fill the plane.
            **{**style, "markersize": size * marker_scale(len(states)) ** 2},
            ls="",
            zorder=2,  # below the contours
            rasterized=len(states) > MANY,
        )
        in_legend = {**style, "markersize": max(size, _SMALLEST_IN_LEGEND)}
        handles.append(legend_marker(f"{state}: {int(where.sum())}", **in_legend))
    return handles


def _limit(axes: Axes, at: Floats) -> None:
    """Leave room around the hypotheses; contours would leave none."""
    low, high = at.min(axis=0), at.max(axis=0)
    room = 0.04 * np.where(high > low, high - low, np.maximum(np.abs(low), 1))
    axes.set_xlim(low[0] - room[0], high[0] + room[0])
    axes.set_ylim(low[1] - room[1], high[1] + room[1])
