"""The six values of the hypotheses as numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pytest_pyhf_faas.campaign.results import CLS_LABELS
from pytest_pyhf_faas.report.quantity import CLS

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats = npt.NDArray[np.float64]

#: Smaller CLs values are drawn as this one.
LOWEST_CLS = CLS.drawn[0]
#: Places of some among the six.
OBSERVED, MINUS, EXPECTED, PLUS = 0, 2, 3, 4


def six_columns(values: Sequence[Sequence[float | str]]) -> Floats:
    """Return the values of some hypotheses, one row each, observed first."""
    rows = [[float(value) for value in six] for six in values]
    return np.array(rows, dtype=np.float64).reshape(-1, len(CLS_LABELS))
