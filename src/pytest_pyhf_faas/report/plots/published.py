"""Published upper limits over those of the fits, over the mass."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_pyhf_faas.report.analyses import stem_of
from pytest_pyhf_faas.report.plots.plot import Plot, plot_of
from pytest_pyhf_faas.report.plots.style import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    RED,
    SMALL,
    legend_marker,
    single_axes,
)
from pytest_pyhf_faas.report.plots.texts import AT_ROW, IN_TITLE, drawable, within_width
from pytest_pyhf_faas.report.published_limits import expected_at, published_of, ratio
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from pytest_pyhf_faas.report.form import Analysis, PublishedAnalysis, PublishedValues

#: How many outliers are named, those that are farthest off.
_NAMED = 8
#: Places that are wrong.
_WRONG = ("mixed", "none")
_AT_NONE = "at no set of minima, nearest"
_MARKERS: dict[str, dict[str, Any]] = {
    "at the nominal minima": {"marker": "o", "color": BLUE, "mfc": "none", "ms": 6},
    "at the lowest minima": {"marker": "s", "color": ORANGE, "mfc": "none", "ms": 6},
    "the nearest of all": {"marker": ".", "color": BLACK},
    _AT_NONE: {"marker": "x", "color": RED, "ms": 7, "mew": 1.5},
}
#: The upper limit on the POI that a marker is about, where it is the same one of all hypotheses.
_NAMES = {"at the nominal minima": "nominal", "at the lowest minima": "lowest"}
_POINTS = 200
#: The vertical range has at least this many tolerances on each side, and at most this many.
_RANGE = (3, 12)


def plot_published(place: int, analysis: Analysis, name: str) -> Plot | None:
    """Draw the ratios of published limits; ``None`` if none was compared."""
    said, found = analysis.get("published"), published_of(analysis)
    if said is None or not found:
        return None
    span = _span([values for _, values in found], said)
    farther = any(abs(ratio(v, each) - 1) > span for _, v in found for each in v["mu"])
    figure, axes = single_axes(4.2, ["values farther off are drawn at the edge"] if farther else ())
    _draw_expected(axes, [values["mass"] for _, values in found], said)
    wrong = [(one, values) for one, values in found if values["place"] in _WRONG]
    for label, style in _MARKERS.items():
        those = [v for _, v in (wrong if label == _AT_NONE else found)]
        axes.plot(
            [values["mass"] for values in those],
            [_within(ratio(values, _NAMES.get(label, values["at"])), span) for values in those],
            ls="",
            **style,
        )
    for one, values in sorted(wrong, key=lambda pair: -abs(pair[1]["off"]))[:_NAMED]:
        axes.annotate(
            within_width(one["patch"], AT_ROW),
            (values["mass"], _within(ratio(values, values["at"]), span)),
            xytext=(4, 8),
            textcoords="offset points",
            fontsize=SMALL - 1,
            color=RED,
        )
    axes.set_ylim(1 - 1.08 * span, 1 + 1.08 * span)
    axes.margins(x=0.12)
    axes.set_xlabel("mass [GeV]")
    axes.set_ylabel("published limit / (μ₉₅ × cross section)")
    handles = [legend_marker(label, **style) for label, style in _MARKERS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    title = f"Published limits: {within_width(name, IN_TITLE)}"
    places = Counter(values["place"] for _, values in found)
    shown = ", ".join(f"{count} {each}" for each, count in sorted(places.items()))
    alt = (
        f"Published upper limits over those of the fits, over the mass: {drawable(name)}. "
        f"{counted(len(found), 'hypothesis')}: {shown}. Of all: {said['sentence']}."
    )
    return plot_of(figure, stem_of("published", place, analysis), title, alt, place)


def _draw_expected(axes: Axes, masses: list[float], said: PublishedAnalysis) -> None:
    """Draw the ratio that is expected, and the tolerance on it."""
    along = np.linspace(min(masses), max(masses), _POINTS)
    line = np.array([expected_at(said, mass) for mass in along])
    tolerance = said["tolerance"]
    axes.fill_between(along, line * (1 - tolerance), line * (1 + tolerance), color=GREY, lw=0)
    axes.plot(along, line, color=BLACK, lw=1)


def _span(found: list[PublishedValues], said: PublishedAnalysis) -> float:
    """Return the largest distance from 1 at which ratios are drawn."""
    lines = max(abs(expected_at(said, values["mass"]) - 1) for values in found)
    farthest = max(abs(ratio(v, each) - 1) for v in found for each in ("nominal", "lowest"))
    low, high = (lines + times * said["tolerance"] for times in _RANGE)
    return min(max(farthest, low), high)


def _within(value: float, span: float) -> float:
    return min(max(value, 1 - span), 1 + span)
