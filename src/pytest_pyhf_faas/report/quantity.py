"""The quantities that a report shows for the hypotheses of an analysis."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign.quantities import LIMIT_LABELS
from pytest_pyhf_faas.campaign.results import CLS_LABELS
from pytest_pyhf_faas.references import cls_values, limit_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_pyhf_faas.report.form import Analysis, Hypothesis, Number

    _Six = Callable[[Hypothesis], Sequence[Number] | None]

#: Of the six values.
OBSERVED, EXPECTED = 0, 3


@dataclass(frozen=True, slots=True)
class Quantity:
    """Six values of a hypothesis: one that was observed, and those expected with their bands.

    Attributes
    ----------
    name, one : str
        What people call the values of many hypotheses, and those of one.
    stem : str
        Prefix of the names of values.
    file : str
        The table that has all of them.
    labels : tuple of str
        Those of the six.
    exclusion : float
        A hypothesis with an observed value below this is excluded at 95 % CL.
    axis : str
        The label of an axis of the values.
    drawn : tuple of float
        Smaller and larger values are drawn as these: the differences do not matter.
    obtained, reference : callable
        Return the six values of a hypothesis, or ``None`` where it has none.
    at_minima : callable
        Returns the six values at the two sets of minima, by their names; nothing where they are
        one.
    tolerance : callable
        Returns the relative and the absolute tolerance of a fit setup.
    close : callable
        Whether a value agrees with another one, within a relative and an absolute tolerance.
    """

    name: str
    one: str
    stem: str
    file: str
    labels: tuple[str, ...]
    exclusion: float
    axis: str
    drawn: tuple[float, float]
    obtained: _Six
    reference: _Six
    at_minima: Callable[[Hypothesis], Mapping[str, Sequence[Number]]]
    tolerance: Callable[[str], tuple[float, float]]
    close: Callable[[float, float, float, float], bool]

    def excluded(self, hypothesis: Hypothesis) -> bool:
        """Whether a hypothesis is excluded."""
        values = self.obtained(hypothesis)
        return values is not None and float(values[OBSERVED]) < self.exclusion

    def has_numbers(self, hypothesis: Hypothesis) -> bool:
        """Whether a hypothesis has all six values; an infinite limit is one."""
        values = self.obtained(hypothesis)
        return values is not None and not any(math.isnan(float(value)) for value in values)


def _cls(hypothesis: Hypothesis) -> Sequence[Number] | None:
    return hypothesis["CLs"]


def _cls_of_reference(hypothesis: Hypothesis) -> Sequence[Number] | None:
    reference = hypothesis["reference"]
    return None if reference is None else reference["CLs"]


def _cls_at_minima(hypothesis: Hypothesis) -> Mapping[str, Sequence[Number]]:
    found = hypothesis["ambiguous"]
    return {} if found is None else {"lowest": found["lowest"], "nominal": found["nominal"]}


def _limits(hypothesis: Hypothesis) -> Sequence[Number] | None:
    found = hypothesis.get("limits")
    return None if found is None else found["values"]


def _limits_of_reference(hypothesis: Hypothesis) -> Sequence[Number] | None:
    found = hypothesis.get("limits")
    return None if found is None else found["reference"]


def _limits_at_minima(hypothesis: Hypothesis) -> Mapping[str, Sequence[Number]]:
    found = hypothesis.get("limits")
    if not found:
        return {}
    both = {"lowest": found.get("lowest"), "nominal": found["nominal"]}
    return {name: values for name, values in both.items() if values is not None}


def _tolerance_of_cls(fit_setup: str) -> tuple[float, float]:
    return cls_values.default_rtol(fit_setup), cls_values.DEFAULT_ATOL


CLS = Quantity(
    name="CLs",
    one="CLs",
    stem="CLs",
    file="cls.csv",
    labels=tuple(CLS_LABELS),
    exclusion=cls_values.EXCLUDED,
    axis="CLs",
    drawn=(1e-6, math.inf),
    obtained=_cls,
    reference=_cls_of_reference,
    at_minima=_cls_at_minima,
    tolerance=_tolerance_of_cls,
    close=cls_values.close,
)
LIMITS = Quantity(
    name="upper limits",
    one="upper limit",
    stem="limit",
    file="limits.csv",
    labels=LIMIT_LABELS,
    exclusion=limit_values.EXCLUDED,
    axis="upper limit on μ at 95 % CL",
    drawn=(1e-6, 1e3),
    obtained=_limits,
    reference=_limits_of_reference,
    at_minima=_limits_at_minima,
    tolerance=limit_values.limit_tolerance,
    close=limit_values.close_limits,
)
#: What an analysis may calculate; for toys a report has more than six values.
_OF_ANALYSES: Mapping[str, Quantity] = {"cls": CLS, "limit": LIMITS}
_NAMES = {
    **{key: each.name for key, each in _OF_ANALYSES.items()},
    "toys": "toys",
    "published": "published limits",
}


def quantity_of(analysis: Analysis) -> Quantity | None:
    """Return the quantity of an analysis, if its hypotheses have six values."""
    return _OF_ANALYSES.get(analysis.get("quantity", "cls"))


def name_of_quantity(analysis: Analysis) -> str:
    """Return what people call the quantity of an analysis."""
    return _NAMES[analysis.get("quantity", "cls")]


def quantity_in(hypothesis: Hypothesis) -> Quantity:
    """Return which six values a hypothesis has."""
    return LIMITS if hypothesis.get("limits") else CLS
