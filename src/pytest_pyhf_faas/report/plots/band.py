"""CLs or upper limits over one value, and where the model is excluded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pytest_pyhf_faas.report.analyses import stem_of
from pytest_pyhf_faas.report.axes import Axis, with_unit
from pytest_pyhf_faas.report.plots.plot import Plot, plot_of
from pytest_pyhf_faas.report.plots.six_values import EXPECTED, OBSERVED, six_columns
from pytest_pyhf_faas.report.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    RED,
    YELLOW,
    log_axis,
    single_axes,
    spans_decades,
)
from pytest_pyhf_faas.report.plots.texts import AT_AXIS, IN_TITLE, drawable, within_width
from pytest_pyhf_faas.report.quantity import CLS, quantity_of
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from pytest_pyhf_faas.report.form import Analysis, Hypothesis
    from pytest_pyhf_faas.report.plots.six_values import Floats
    from pytest_pyhf_faas.report.quantity import Quantity

#: Fewer points are not a line.
_FEWEST = 3
#: How many lines through a plane are drawn, those with the most hypotheses.
_MOST_LINES = 3
#: The label, a count, of patches from single files whose names have no values.
_COUNTER = "index"
#: The edges of the bands among the six values, the wider one first.
_BANDS = {"± 2σ": (1, 5, YELLOW), "± 1σ": (2, 4, GREEN)}
#: Values with a larger ratio have a logarithmic axis.
_LINEAR = 10


class _Line(NamedTuple):
    """Hypotheses that differ in only one value."""

    axis: Axis
    #: The values of the other labels, as in "m2 = 100".
    others: str
    hypotheses: list[Hypothesis]

    @property
    def title(self) -> str:
        """What it runs over, and at which values of the other labels."""
        return self.axis.name + (f" at {self.others}" if self.others else "")


def plot_bands(place: int, analysis: Analysis, name: str) -> list[Plot]:
    """Draw the values with their bands over a label.

    CLs over the only one that varies: where two do, there is a plane. Upper limits at fixed values
    of the others, too, on the few lines that have most hypotheses.
    """
    quantity = quantity_of(analysis)
    if quantity is None:
        return []
    varying = _varying(analysis)
    if quantity is CLS and (len(varying) != 1 or "plane" in analysis):
        return []
    lines = max(
        (_lines(analysis, label, varying) for label in varying),
        key=lambda found: _places(found[0]) if found else 0,
        default=[],
    )
    stem = stem_of("band" if quantity is CLS else "limit_band", place, analysis)
    plots = [
        _plot_line(quantity, line, name, stem if count == 1 else f"{stem}-{count}", place)
        for count, line in enumerate(lines[:_MOST_LINES], 1)
    ]
    return [plot for plot in plots if plot is not None]


def _plot_line(quantity: Quantity, line: _Line, name: str, stem: str, place: int) -> Plot | None:
    points = sorted(
        (
            (where, one)
            for one in line.hypotheses
            if (where := line.axis.value(one["values"])) is not None and _is_finite(quantity, one)
        ),
        key=lambda point: point[0],
    )
    if len({where for where, _ in points}) < _FEWEST:
        return None
    at = [where for where, _ in points]
    values = six_columns([quantity.obtained(one) or () for _, one in points])
    values = values.clip(*quantity.drawn)
    left_out = len(line.hypotheses) - len(points)
    notes = [f"{counted(left_out, 'hypothesis')} without {quantity.one} left out"]
    figure, axes = single_axes(4.2, notes if left_out else [])
    if quantity is CLS or values.max() / values.min() > _LINEAR:
        log_axis(axes, "y")
    if spans_decades(at):
        log_axis(axes, "x")
    handles = _draw(axes, quantity, at, values)
    compared = [
        (where, min(max(float(known[OBSERVED]), quantity.drawn[0]), quantity.drawn[1]))
        for where, one in points
        if (known := quantity.reference(one)) is not None
    ]
    if compared:
        axes.plot(*zip(*compared, strict=True), color=RED, marker="x", ls="", zorder=3)
        label = "observed, reference"
        handles.append(Line2D([], [], color=RED, marker="x", ls="", label=label))
    axes.set_xlabel(within_width(line.axis.title, AT_AXIS))
    axes.set_ylabel(quantity.axis)
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    excluded = sum(values[:, OBSERVED] < quantity.exclusion)
    what = f"{quantity.one[0].upper()}{quantity.one[1:]} over"
    title = f"{what} {within_width(line.title, IN_TITLE)}: {within_width(name, IN_TITLE)}"
    alt = (
        f"{what} {drawable(line.title)}: {drawable(name)}. "
        f"{counted(len(points), 'hypothesis')}, {excluded} of them excluded at 95 % CL "
        f"({quantity.one} below {quantity.exclusion:g})."
    )
    return plot_of(figure, stem, title, alt, place)


def _draw(
    axes: Axes, quantity: Quantity, at: Sequence[float], values: Floats
) -> list[Line2D | Patch]:
    """Draw bands and lines, and return the entries of a legend."""
    for low, high, colour in _BANDS.values():
        axes.fill_between(at, values[:, low], values[:, high], color=colour, alpha=0.6, lw=0)
    axes.plot(at, values[:, EXPECTED], color=BLUE, ls="--")
    axes.plot(at, values[:, OBSERVED], color=BLACK, marker="o", ms=4)
    axes.axhline(quantity.exclusion, color=RED, lw=1)
    level = f"{quantity.one} = {quantity.exclusion:g}: below is excluded"
    return [
        Line2D([], [], color=BLACK, marker="o", ms=4, label="observed"),
        Line2D([], [], color=BLUE, ls="--", label="expected"),
        *(Patch(facecolor=c, alpha=0.6, label=f"expected {n}") for n, (_, _, c) in _BANDS.items()),
        Line2D([], [], color=RED, lw=1, label=level),
    ]


# --- lines ----------------------------------------------------------------------------------------


def _varying(analysis: Analysis) -> list[str]:
    """Return the labels whose values differ between the hypotheses."""
    rows = [each["values"] for each in analysis["hypotheses"]]
    return [
        label
        for label, values in zip(analysis["labels"], zip(*rows, strict=False), strict=False)
        if len(set(values)) > 1 and label != _COUNTER
    ]


def _lines(analysis: Analysis, label: str, varying: Sequence[str]) -> list[_Line]:
    """Return the lines along a label, those with the most places on them first."""
    labels = analysis["labels"]
    axis = Axis.find(label, labels)
    if axis is None:
        return []
    others = [labels.index(each) for each in varying if each != label]
    found: dict[tuple[float | str, ...], list[Hypothesis]] = {}
    for one in analysis["hypotheses"]:
        values = one["values"]
        if axis.value(values) is not None and len(values) >= len(labels):
            found.setdefault(tuple(values[place] for place in others), []).append(one)
    lines = [
        _Line(
            axis,
            ", ".join(
                f"{name} = {value}" + (f" {unit}" if unit else "")
                for place, value in zip(others, at, strict=True)
                for name, unit in [with_unit(labels[place])]
            ),
            those,
        )
        for at, those in found.items()
    ]
    return sorted(lines, key=_places, reverse=True)


def _places(line: _Line) -> int:
    return len({line.axis.value(one["values"]) for one in line.hypotheses})


def _is_finite(quantity: Quantity, hypothesis: Hypothesis) -> bool:
    values = quantity.obtained(hypothesis)
    return values is not None and all(math.isfinite(float(value)) for value in values)
