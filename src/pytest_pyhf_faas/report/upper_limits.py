"""The upper limits of a run, as its page shows them: a table of each analysis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_pyhf_faas.references.cls_values import count_of_excluded
from pytest_pyhf_faas.report.analyses import title_of
from pytest_pyhf_faas.report.budgets import size_of, within
from pytest_pyhf_faas.report.quantity import LIMITS, OBSERVED, quantity_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.report.form import Analysis, Document, Hypothesis, Number

_SIX = len(LIMITS.labels)
#: Bytes of a row, without its names and remarks.
_ROW_BYTES = 200


@dataclass(frozen=True, slots=True)
class LimitTable:
    """The upper limits of an analysis, as many as there is room for."""

    analysis: Analysis
    shown: Sequence[Hypothesis]

    @property
    def title(self) -> str:
        """Which analysis it is."""
        return title_of(self.analysis)

    @property
    def count(self) -> int:
        """How many hypotheses there are."""
        return len(self.analysis["hypotheses"])

    @property
    def summary(self) -> str:
        """How many of those with limits are excluded."""
        known = [each for each in self.analysis["hypotheses"] if LIMITS.has_numbers(each)]
        excluded = sum(map(LIMITS.excluded, known))
        return count_of_excluded(excluded, len(known), f"limit_obs < {LIMITS.exclusion:g}")


def limit_tables(document: Document, most: int) -> list[LimitTable]:
    """Return the tables of upper limits, which share some bytes of a page."""
    analyses = [each for each in document["analyses"] if quantity_of(each) is LIMITS]
    share = most // max(1, len(analyses))
    return [LimitTable(each, within(each["hypotheses"], share, _bytes)) for each in analyses]


def cells(hypothesis: Hypothesis) -> list[Number | None]:
    """Return the six limits of a hypothesis and the observed one of its reference, as known."""
    obtained, reference = LIMITS.obtained(hypothesis), LIMITS.reference(hypothesis)
    six: Sequence[Number | None] = obtained or [None] * _SIX
    return [*six, None if reference is None else reference[OBSERVED]]


def remarks(hypothesis: Hypothesis) -> str:
    """Return what a reader should know about the limits of a hypothesis."""
    found = hypothesis.get("limits")
    both = LIMITS.at_minima(hypothesis)
    parts = [f"{float(values[OBSERVED]):.4g} at the {name} minima" for name, values in both.items()]
    return "; ".join([*parts, *(found["remarks"] if found else ())])


def _bytes(hypothesis: Hypothesis) -> int:
    names = hypothesis["patch"], ", ".join(map(str, hypothesis["values"])), remarks(hypothesis)
    return _ROW_BYTES + 2 * sum(map(size_of, names))
