"""CLs over the one value that varies, and where the model is excluded."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pytest_pyhf_faas.references.cls_values import EXCLUDED
from pytest_pyhf_faas.report.analyses import reference_of, stem_of
from pytest_pyhf_faas.report.axes import Axis
from pytest_pyhf_faas.report.plots.cls_values import EXPECTED, LOWEST_CLS, OBSERVED, six_columns
from pytest_pyhf_faas.report.plots.plot import Plot, plot_of
from pytest_pyhf_faas.report.plots.style import (
    BLACK,
    BLUE,
    GREEN,
    RED,
    YELLOW,
    log_axis,
    single_axes,
)
from pytest_pyhf_faas.report.plots.texts import AT_AXIS, IN_TITLE, drawable, within_width
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from pytest_pyhf_faas.report.form import Analysis, Hypothesis

#: Fewer make no line.
_FEWEST = 3
#: The label of patches from single files whose names have no values: it counts them.
_COUNTER = "index"
#: The edges of the bands among the six values, the wider one first.
_BANDS = {"± 2σ": (1, 5, YELLOW), "± 1σ": (2, 4, GREEN)}


def plot_band(place: int, analysis: Analysis, name: str) -> Plot | None:
    """Draw CLs over the value that varies; ``None`` if there is a plane, or hardly any CLs."""
    axis = _only_axis(analysis)
    if axis is None or "plane" in analysis:
        return None
    points = sorted(
        (
            (where, one)
            for one in analysis["hypotheses"]
            if (where := axis.value(one["values"])) is not None and _has_numbers(one)
        ),
        key=lambda point: point[0],
    )
    if len({where for where, _ in points}) < _FEWEST:
        return None
    at = [where for where, _ in points]
    cls = six_columns([one["CLs"] or () for _, one in points]).clip(LOWEST_CLS)
    figure, axes = single_axes(4.2)
    log_axis(axes, "y")
    for low, high, colour in _BANDS.values():
        axes.fill_between(at, cls[:, low], cls[:, high], color=colour, alpha=0.6, lw=0)
    axes.plot(at, cls[:, EXPECTED], color=BLUE, ls="--")
    axes.plot(at, cls[:, OBSERVED], color=BLACK, marker="o", ms=4)
    axes.axhline(EXCLUDED, color=RED, lw=1)
    compared = [
        (where, max(float(values[OBSERVED]), LOWEST_CLS))
        for where, one in points
        if (values := reference_of(one)) is not None
    ]
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=BLACK, marker="o", ms=4, label="observed"),
        Line2D([], [], color=BLUE, ls="--", label="expected"),
        *(Patch(facecolor=c, alpha=0.6, label=f"expected {n}") for n, (_, _, c) in _BANDS.items()),
        Line2D([], [], color=RED, lw=1, label=f"CLs = {EXCLUDED:g}: below is excluded"),
    ]
    if compared:
        axes.plot(*zip(*compared, strict=True), color=RED, marker="x", ls="", zorder=3)
        label = "observed, reference"
        handles.append(Line2D([], [], color=RED, marker="x", ls="", label=label))
    axes.set_xlabel(within_width(axis.title, AT_AXIS))
    axes.set_ylabel("CLs")
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    excluded = sum(cls[:, OBSERVED] < EXCLUDED)
    title = f"CLs over {within_width(axis.name, IN_TITLE)}: {within_width(name, IN_TITLE)}"
    alt = (
        f"CLs over {drawable(axis.name)}: {drawable(name)}. "
        f"{counted(len(points), 'hypothesis')}, {excluded} of them excluded at 95 % CL "
        f"(CLs below {EXCLUDED:g})."
    )
    return plot_of(figure, stem_of("band", place, analysis), title, alt, place)


def _only_axis(analysis: Analysis) -> Axis | None:
    """Return the one label whose values vary, if there is only one and they are numbers."""
    rows = [each["values"] for each in analysis["hypotheses"]]
    varying = [
        label
        for label, values in zip(analysis["labels"], zip(*rows, strict=False), strict=False)
        if len(set(values)) > 1 and label != _COUNTER
    ]
    return Axis.find(varying[0], analysis["labels"]) if len(varying) == 1 else None


def _has_numbers(hypothesis: Hypothesis) -> bool:
    values = hypothesis["CLs"]
    return values is not None and all(math.isfinite(float(value)) for value in values)
