"""The texts of the plots: names cut to fit, and the sentences of what is shown."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import matplotlib as mpl
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.textpath import TextToPath

from pytest_pyhf_faas.report.plots.style import FONT
from pytest_pyhf_faas.wording import one_line, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

#: How long names may be, in points.
IN_TITLE, AT_ROW, AT_AXIS = 270, 150, 220
_LINE_CHARACTERS = 120
_SENTENCES = 12


# --- lines that fit -------------------------------------------------------------------------------


def drawable(text: str) -> str:
    """Return content as one line of characters that the font has, cut in the middle."""
    known = _characters()
    line = "".join(character if ord(character) in known else "�" for character in one_line(text))
    return shortened(line, _LINE_CHARACTERS, cut="middle")


def within_width(text: str, points: float) -> str:
    """Return content as one line that is no longer than some points, cut in the middle."""
    line = drawable(text)
    font = FontProperties(family=FONT, size=mpl.rcParams["figure.titlesize"])
    length, short = len(line), line
    while length > 1 and _width(short, font) > points:
        length -= 1
        short = shortened(line, length, cut="middle")
    return short


def _width(line: str, font: FontProperties) -> float:
    return TextToPath().get_text_width_height_descent(line, font, ismath=False)[0]


@cache
def _characters() -> frozenset[int]:
    """Return the characters that the font has; others would cause warnings."""
    return frozenset(get_font(findfont(FONT)).get_charmap())


# --- sentences ------------------------------------------------------------------------------------


def with_stdev(mean: float, stdev: float | None) -> str:
    """Return a mean and its standard deviation, if there is one."""
    return f"{mean:.4g}" if stdev is None else f"{mean:.4g} ± {stdev:.2g}"


def described(title: str, sentences: Sequence[str]) -> str:
    """Return a title and the first of some sentences below it."""
    more = len(sentences) - _SENTENCES
    rest = [f"and {more} more"] if more > 0 else []
    return f"{title}. {'; '.join([*sentences[:_SENTENCES], *rest])}."
