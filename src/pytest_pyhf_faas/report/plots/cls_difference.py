"""CLs obtained minus CLs of the reference, with the tolerance."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator, SymmetricalLogLocator

from pytest_pyhf_faas.campaign.results import CLS_LABELS
from pytest_pyhf_faas.report.analyses import stem_of
from pytest_pyhf_faas.report.plots.plot import Plot, plot_of
from pytest_pyhf_faas.report.plots.six_values import LOWEST_CLS, OBSERVED, six_columns
from pytest_pyhf_faas.report.plots.style import (
    BLACK,
    BLUE,
    DARK_GREY,
    GREEN,
    MANY,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    YELLOW,
    LogLabels,
    legend_marker,
    log_axis,
    marker_scale,
    power,
    single_axes,
)
from pytest_pyhf_faas.report.plots.texts import IN_TITLE, drawable, within_width
from pytest_pyhf_faas.report.quantity import CLS, quantity_of
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

    from pytest_pyhf_faas.report.form import Analysis, Hypothesis
    from pytest_pyhf_faas.report.plots.six_values import Floats

#: Markers of the six values. That of the observed one is filled.
_MARKERS: tuple[dict[str, Any], ...] = (
    {"marker": "o", "color": BLACK, "mfc": BLACK},
    {"marker": "v", "color": SKY, "mfc": "none"},
    {"marker": "<", "color": GREEN, "mfc": "none"},
    {"marker": "D", "color": BLUE, "mfc": "none"},
    {"marker": ">", "color": ORANGE, "mfc": "none"},
    {"marker": "^", "color": PURPLE, "mfc": "none"},
)
_RING: dict[str, Any] = {"marker": "o", "color": RED, "mfc": "none"}
_FINEST_DIFFERENCE = 1e-12


class _Points(NamedTuple):
    """CLs values of the hypotheses that have both; one row each, six columns."""

    reference: Floats
    difference: Floats
    #: Where there are numbers.
    drawable: npt.NDArray[np.bool_]
    #: Which of these are outside the tolerance.
    outside: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, hypotheses: Sequence[Hypothesis]) -> _Points:
        obtained = six_columns([one["CLs"] or () for one in hypotheses])
        reference = six_columns([CLS.reference(one) or () for one in hypotheses])
        within = [one["within"] or [True] * len(CLS_LABELS) for one in hypotheses]
        with np.errstate(all="ignore"):  # neither inf - inf nor what overflows is drawn
            difference = obtained - reference
        drawable = np.isfinite(difference)
        outside = drawable & ~np.array(within, dtype=bool).reshape(obtained.shape)
        return cls(reference, difference, drawable, outside)

    def clipped(self) -> _Points:
        """Return them with what is far away at the edge."""
        return self._replace(
            reference=np.clip(self.reference, LOWEST_CLS, 1),
            difference=np.clip(self.difference, -1, 1),
        )


def plot_cls_difference(place: int, analysis: Analysis, name: str) -> Plot | None:
    """Draw the differences of all hypotheses; ``None`` if there are none of CLs."""
    if quantity_of(analysis) is not CLS:
        return None
    hypotheses = [one for one in analysis["hypotheses"] if one["CLs"] and CLS.reference(one)]
    points = _Points.of(hypotheses)
    if not points.drawable.any():
        return None
    clipped = points.clipped()
    differences = points.difference[points.drawable]
    references = np.geomspace(clipped.reference[points.drawable].min() / 1.5, 1.5, 200)
    widths = _tolerance(hypotheses, references)
    threshold = _threshold(widths, differences)
    left_out = len(analysis["hypotheses"]) - len(hypotheses)
    figure, axes = single_axes(4.9, _notes(left_out, points, clipped))
    log_axis(axes, "x")
    axes.set_yscale("symlog", linthresh=threshold)
    axes.fill_between(references, -widths, widths, color=YELLOW, alpha=0.35, lw=0)
    for sign in (-1, 1):
        axes.plot(references, sign * widths, color=DARK_GREY, lw=0.8)
    _draw_points(axes, clipped)
    axes.axhline(0, color=BLACK, lw=0.6)
    largest = max(np.abs(clipped.difference[points.drawable]).max(), widths.max(), threshold)
    axes.set_ylim(-3 * largest, 3 * largest)
    axes.set_xlim(references[0], references[-1])
    axes.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=threshold))
    axes.yaxis.get_major_locator().set_params(numticks=11)  # type: ignore[call-arg]
    axes.yaxis.set_major_formatter(LogLabels(linthresh=threshold))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("CLs of the reference")
    axes.set_ylabel("CLs obtained − reference")
    outside = int(points.outside.sum())
    figure.legend(handles=_handles(outside), loc="outside lower center", ncols=4)
    title = f"CLs against the reference: {within_width(name, IN_TITLE)}"
    alt = (
        f"CLs obtained minus reference against the reference: {drawable(name)}. "
        f"{len(differences)} values of {counted(len(hypotheses), 'hypothesis')}, {outside} of them "
        f"outside the tolerance; the largest difference is {np.abs(differences).max():.2g}."
    )
    return plot_of(figure, stem_of("cls_difference", place, analysis), title, alt, place)


def _tolerance(hypotheses: Sequence[Hypothesis], references: Floats) -> Floats:
    """Return the tolerance that most hypotheses have, for some values of the reference."""
    pairs = Counter((one["atol"] or 0.0, one["rtol"] or 0.0) for one in hypotheses)
    ((atol, rtol), _count) = pairs.most_common(1)[0]
    return np.asarray(np.minimum(atol + rtol * references, 1.0))


def _threshold(widths: Floats, differences: Floats) -> float:
    """Return up to where the axis of the differences is linear: a power of 10."""
    finest = widths.min()
    if not finest > 0:
        moved = np.abs(differences[differences != 0])
        finest = moved.min() if moved.size else _FINEST_DIFFERENCE
    return 10.0 ** math.floor(math.log10(min(max(finest, _FINEST_DIFFERENCE), 1)))


def _notes(left_out: int, points: _Points, clipped: _Points) -> list[str]:
    without_number = int((~points.drawable).sum())
    moved = (clipped.reference != points.reference) | (clipped.difference != points.difference)
    at_edge = int((moved & points.drawable).sum())
    notes = []
    if left_out:
        notes.append(f"{counted(left_out, 'hypothesis')} without CLs or reference left out")
    if without_number:
        notes.append(f"{counted(without_number, 'value')} left out that are no numbers")
    if at_edge:
        notes.append(
            f"{counted(at_edge, 'value')} with CLs below {power(LOWEST_CLS)}, or with a "
            "difference above 1, drawn at the edge"
        )
    return notes


def _draw_points(axes: Axes, points: _Points) -> None:
    count = int(points.drawable.sum())
    rasterized, scale = count > MANY, marker_scale(count)
    x, y = points.reference, points.difference
    # The observed values come last, on top.
    for column in reversed(range(len(CLS_LABELS))):
        where = points.drawable[:, column]
        axes.plot(
            x[where, column],
            y[where, column],
            **_MARKERS[column],
            ls="",
            markersize=scale * (5 if column == OBSERVED else 4),
            mew=scale,
            rasterized=rasterized,
        )
    axes.plot(
        x[points.outside],
        y[points.outside],
        **_RING,
        ls="",
        markersize=11 * scale,
        mew=1.2 * scale,
        rasterized=rasterized,
    )


def _handles(outside: int) -> list[Line2D | Patch]:
    return [
        *(legend_marker(label, **style) for label, style in zip(CLS_LABELS, _MARKERS, strict=True)),
        Patch(facecolor=YELLOW, alpha=0.35, edgecolor=DARK_GREY, label="tolerance"),
        legend_marker(f"outside: {outside}", **_RING, markersize=10),
    ]
