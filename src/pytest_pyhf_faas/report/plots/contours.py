"""CLs or upper limits between the hypotheses of a plane."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.tri import LinearTriInterpolator, Triangulation

from pytest_pyhf_faas.campaign.results import CLS_LABELS
from pytest_pyhf_faas.report.plots.six_values import (
    EXPECTED,
    MINUS,
    OBSERVED,
    PLUS,
    six_columns,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.report.plots.six_values import Floats

    Surface = np.ma.MaskedArray[Any, Any]
    Surfaces = dict[int, Surface]

#: Fewer places give no contours.
FEWEST_PLACES = 4
#: Which of the six values have contours.
SURFACES = (OBSERVED, MINUS, EXPECTED, PLUS)
_GRID = 240
#: Places closer than this, relative to their span, are one place, or on one line.
_DIGITS = 5
_LINE = 1e-4


class Contours:
    """Where contours are drawn.

    Parameters
    ----------
    places : array
        Those of the hypotheses, one row each.
    logarithmic : pair of bool
        Which of the two axes are; values there are positive.

    Attributes
    ----------
    x, y : array
        The grid.
    """

    def __init__(self, places: Floats, logarithmic: tuple[bool, bool] = (False, False)) -> None:
        places = np.array(places)
        for axis in (0, 1):
            if logarithmic[axis]:
                places[:, axis] = np.log10(places[:, axis])
        low, high = places.min(axis=0), places.max(axis=0)
        span = np.where(high > low, high - low, 1.0)
        self.x, self.y = (
            np.logspace(low[axis], high[axis], _GRID)
            if logarithmic[axis]
            else np.linspace(low[axis], high[axis], _GRID)
            for axis in (0, 1)
        )
        self._at = ((places - low) / span).round(_DIGITS)  # both axes run from 0 to 1
        self._first = np.unique(self._at, axis=0, return_index=True)[1]

    def surfaces(
        self, values: Sequence[Sequence[float | str] | None], drawn: tuple[float, float]
    ) -> Surfaces | None:
        """Return log10 of the values on the grid, linear between the hypotheses as they are drawn.

        If several hypotheses are at one place, the first counts.

        Parameters
        ----------
        values : sequence
            The six values of each hypothesis, in the order of the places.
        drawn : tuple of float
            Smaller and larger values are drawn as these.

        Returns
        -------
        dict or None
            By place among the six values; ``None`` with fewer than four hypotheses, or all of them
            on a line.
        """
        nothing = [math.nan] * len(CLS_LABELS)
        columns = six_columns([six or nothing for six in values])[:, SURFACES].clip(*drawn)
        chosen = self._first[np.isfinite(columns[self._first]).all(axis=1)]
        at = self._at[chosen]
        if len(at) < FEWEST_PLACES or _on_a_line(at):
            return None
        triangulation = Triangulation(at[:, 0], at[:, 1])
        line = np.linspace(0, 1, _GRID)
        grid = np.meshgrid(line, line)
        logarithms = np.log10(columns[chosen])
        return {
            surface: LinearTriInterpolator(triangulation, logarithms[:, column])(*grid)
            for column, surface in enumerate(SURFACES)
        }


def _on_a_line(at: Floats) -> bool:
    spread = np.linalg.svd(at - at.mean(axis=0), compute_uv=False)
    return bool(spread[-1] < _LINE)
