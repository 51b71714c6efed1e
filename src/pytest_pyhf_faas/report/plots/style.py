"""What the plots look like: colours, fonts, empty figures, and the numbers at logarithmic axes.

The colours are those of Okabe and Ito, which people with any colour vision can distinguish.
Markers, line styles and hatches repeat the distinction, for print in black and white.
"""

from __future__ import annotations

import math
import textwrap
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from matplotlib.axes import Axes

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, RED, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
WHITE, GREY, LIGHT_GREY, DARK_GREY = "#FFFFFF", "#DDDDDD", "#A8A8A8", "#666666"

FONT = "DejaVu Sans"  # comes with Matplotlib
SMALL = 9  # points
#: Nothing is read as mathematics or LaTeX: names come from outside. The salt makes the same
#: document give the same bytes.
_SETTINGS: dict[Any, Any] = {
    "font.family": FONT,
    "font.size": 10,
    "axes.axisbelow": True,
    "axes.titlesize": SMALL,
    "legend.fontsize": SMALL,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "figure.titlesize": 11,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,
    "svg.hashsalt": "pytest-pyhf-faas",
}
_DPI = 150
_WIDTH = 7.0  # inches
_NOTE_CHARACTERS = 92
#: Rows in a figure: images have a largest size, and readers limited patience.
_ROWS = 60
#: From here on points are pixels in the SVG, too.
MANY = 1000

#: An axis with a larger ratio of its values is logarithmic.
_DECADES = 100
_LOWEST_PLAIN, _HIGHEST_PLAIN = 1e-3, 1e5
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_T = TypeVar("_T")


@contextmanager
def styled() -> Iterator[None]:
    """Draw with the settings of the reports, not with those of the user."""
    with mpl.rc_context():
        mpl.rcdefaults()  # the user's may ask for LaTeX, say
        mpl.rcParams.update(_SETTINGS)
        yield


# --- empty figures --------------------------------------------------------------------------------


def blank_figure(height: float) -> Figure:
    """Return a figure without axes; the height is in inches."""
    return Figure(figsize=(_WIDTH, height), dpi=_DPI, layout="constrained")


def single_axes(height: float, notes: Sequence[str] = ()) -> tuple[Figure, Axes]:
    """Return a figure with axes that are empty; the notes are below its title."""
    figure = blank_figure(height)
    axes = figure.subplots()
    axes.set_title("\n".join(textwrap.wrap("; ".join(notes), _NOTE_CHARACTERS)))
    return figure, axes


def rows_of_analyses(measured: Sequence[_T]) -> tuple[Figure, Axes, Sequence[_T]]:
    """Return an empty figure with a row for each analysis, the first on top.

    Parameters
    ----------
    measured : sequence
        What to draw, one entry for each analysis.

    Returns
    -------
    tuple
        Figure, axes, and the entries that have rows: the first if there are very many.
    """
    shown = measured[:_ROWS]
    more = len(measured) > len(shown)
    notes = [f"the first {len(shown)} of {len(measured)} analyses"] if more else []
    figure, axes = single_axes(0.55 * len(shown) + 1.7, notes)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    return figure, axes, shown


# --- markers --------------------------------------------------------------------------------------


def marker_scale(points: int) -> float:
    """Return the factor by which many markers are smaller."""
    return min(1.0, math.sqrt(math.sqrt(MANY / points)))


def legend_marker(label: str, **style: Any) -> Line2D:
    """Return an entry of a legend: a marker without a line."""
    return Line2D([], [], ls="", label=label, **style)


# --- logarithmic axes -----------------------------------------------------------------------------


def log_axis(axes: Axes, which: Literal["x", "y"]) -> None:
    """Make an axis logarithmic, with the powers of 10 as the plots write them."""
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(LogLabels())
    axis.set_minor_formatter(LogLabels(minor_thresholds=(1.2, 0.5)))


def spans_decades(values: Collection[float]) -> bool:
    """Whether values need a logarithmic axis."""
    low, high = min(values), max(values)
    return bool(low > 0 and high / low > _DECADES)


class LogLabels(LogFormatter):
    """Powers of 10 without mathematics, at the ticks that Matplotlib labels."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Return the text at a tick; nothing where there is none."""
        return power(x) if super().__call__(x, pos) else ""


def power(value: float) -> str:
    """Return a number at an axis: as it is, or with a power of 10 if it is large or small."""
    if value == 0 or _LOWEST_PLAIN <= abs(value) < _HIGHEST_PLAIN:
        return f"{value:g}".replace("-", "−")
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    factor = {"1": "", "-1": "−"}.get(mantissa, f"{mantissa}×")
    return f"{factor}10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
