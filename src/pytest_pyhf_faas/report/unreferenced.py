"""The hypotheses of a run that have no reference: their values, a table for each reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_pyhf_faas.references.cls_values import count_of_excluded, exclusion
from pytest_pyhf_faas.report.analyses import title_of
from pytest_pyhf_faas.report.quantity import CLS, EXPECTED, LIMITS, OBSERVED, quantity_in
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import counted, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.report.form import Analysis, Document, Hypothesis
    from pytest_pyhf_faas.report.quantity import Quantity

_DISCOVERY = "q0"  # whose values are no CLs, and exclude nothing
#: The line of what pytest showed that differs from hypothesis to hypothesis.
_OWN_LINES = tuple(f"  {each.stem}_obs = " for each in (CLS, LIMITS))


@dataclass(frozen=True, slots=True)
class Unreferenced:
    """Hypotheses of one analysis that have no reference for one reason.

    Attributes
    ----------
    analysis : Analysis
        What they are of.
    reason : str
        What pytest showed of each: why there is no reference, and what makes one.
    hypotheses : list of Hypothesis
        In the order of the analysis.
    """

    analysis: Analysis
    reason: str
    hypotheses: list[Hypothesis] = field(default_factory=list)

    @property
    def title(self) -> str:
        """How many of which analysis they are."""
        return f"{counted(len(self.hypotheses), 'hypothesis')} of {title_of(self.analysis)}"

    @property
    def header(self) -> list[str]:
        """The columns, after the name and the values of a patch."""
        stem = self.quantity.stem
        return [f"{stem}_obs", f"{stem}_exp", *(["excluded"] if self._excludes else [])]

    def cells(self, hypothesis: Hypothesis) -> list[str]:
        """Return the cells of these columns."""
        values = self.quantity.obtained(hypothesis)
        assert values is not None  # see `is_unreferenced`
        observed, expected = float(values[OBSERVED]), float(values[EXPECTED])
        word = exclusion(observed, self.quantity.exclusion)
        return [f"{observed:.4g}", f"{expected:.4g}", *([word] if self._excludes else [])]

    @property
    def summary(self) -> str:
        """How many of them are excluded; empty where the test does not say."""
        if not self._excludes:
            return ""
        count = sum(map(self.quantity.excluded, self.hypotheses))
        what = f"{self.quantity.stem}_obs < {self.quantity.exclusion:g}"
        return count_of_excluded(count, len(self.hypotheses), what)

    @property
    def quantity(self) -> Quantity:
        """The quantity that they have no reference for."""
        return quantity_in(self.hypotheses[0])

    @property
    def _excludes(self) -> bool:
        return self.analysis["config"].get("test_stat") != _DISCOVERY

    def text(self, most: int, width: int) -> str:
        """Return reason, table and summary as lines of text, with the first rows."""
        shown = [(each["patch"], *self.cells(each)) for each in self.hypotheses[:most]]
        lines = [self.reason, *table(("patch", *self.header), shown, width)]
        more, file = len(self.hypotheses) - len(shown), self.quantity.file
        lines += [f"... and {more} more: {file} has all of them"] if more else []
        return "\n".join(filter(None, [*lines, self.summary]))


def is_unreferenced(hypothesis: Hypothesis) -> bool:
    """Whether a hypothesis has six values, and no reference to compare them with."""
    found = quantity_in(hypothesis).obtained(hypothesis)
    return hypothesis["verdict"] == Verdict.NO_REFERENCE.value and found is not None


def unreferenced(document: Document) -> Sequence[Unreferenced]:
    """Return the hypotheses without a reference, those with one reason together."""
    found: dict[tuple[int, str], Unreferenced] = {}
    for place, analysis in enumerate(document["analyses"]):
        for each in filter(is_unreferenced, analysis["hypotheses"]):
            reason = _reason(each)
            group = found.setdefault((place, reason), Unreferenced(analysis, reason))
            group.hypotheses.append(each)
    return list(found.values())


def _reason(hypothesis: Hypothesis) -> str:
    lines = hypothesis["text"].removeprefix(hypothesis["title"]).splitlines()
    return "\n".join(
        line.removeprefix("  ") for line in lines if line and not line.startswith(_OWN_LINES)
    )
