"""The hypotheses of a run that have two sets of minima."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.references.cls_values import EXCLUDED
from pytest_pyhf_faas.report.analyses import title_of
from pytest_pyhf_faas.wording import NOTHING, counted, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.report.form import Document, Hypothesis


@dataclass(frozen=True, slots=True)
class AmbiguousRow:
    """A hypothesis with two sets of minima, and how these differ.

    Attributes
    ----------
    title : str
        Title of its analysis.
    at : str
        At which of the two this run is, in words.
    lowest, nominal : float
        CLs_obs at the two.
    flips : str
        The only one of them at which it is excluded; empty where both or neither exclude it.
    gap : float
        The largest of the fits, nominal minus lowest, in twice the NLL.
    fit : str
        The fit with that gap.
    parameters : str
        Those that differ most, with both values.
    at_bound : str
        Those that are at a bound in one of the two.
    """

    title: str
    patch: str
    at: str
    lowest: float
    nominal: float
    flips: str
    gap: float
    fit: str
    parameters: str
    at_bound: str


def ambiguous_rows(document: Document) -> list[AmbiguousRow]:
    """Return the hypotheses that have two sets of minima, those whose exclusion flips first."""
    rows = []
    for analysis in document["analyses"]:
        for hypothesis in analysis["hypotheses"]:
            found = hypothesis.get("ambiguous")
            if found is not None:
                rows.append(_ambiguous_row(title_of(analysis), hypothesis, found))
    return sorted(rows, key=lambda row: not row.flips)


def ambiguous(document: Document) -> str:
    """Return how many hypotheses have two sets of minima, and how many exclusions flip."""
    ambiguous = flips = 0
    for analysis in document["analyses"]:
        if "whole" in analysis:
            ambiguous += analysis["whole"]["ambiguous"]
            flips += analysis["whole"]["flips"]
        else:
            found = [each.get("ambiguous") for each in analysis["hypotheses"]]
            ambiguous += sum(each is not None for each in found)
            flips += sum(each is not None and each["flips"] for each in found)
    if not ambiguous:
        return ""
    said = f"{counted(ambiguous, 'hypothesis')} {'is' if ambiguous == 1 else 'are'} ambiguous"
    if flips:
        said += f" (the exclusion depends on the minimum for {flips})"
    return said


def _ambiguous_row(title: str, hypothesis: Hypothesis, found: Mapping[str, Any]) -> AmbiguousRow:
    lowest, nominal = float(found["lowest"][0]), float(found["nominal"][0])
    excluded = "lowest" if lowest < EXCLUDED else "nominal"
    at = hypothesis["minimum_set"] or NOTHING
    return AmbiguousRow(
        title=title,
        patch=hypothesis["patch"],
        at=f"{at} (was {found['was_at']})" if found["was_at"] else at,
        lowest=lowest,
        nominal=nominal,
        flips=f"excluded only at the {excluded}" if found["flips"] else "",
        gap=found["gap"],
        fit=found["fit"].replace("_", " "),
        parameters=", ".join(
            f"{shortened(each['name'])} {each['lowest']:.3g} (nominal: {each['nominal']:.3g})"
            for each in found["parameters"]
        ),
        at_bound=", ".join(map(shortened, found["at_bound"])),
    )
