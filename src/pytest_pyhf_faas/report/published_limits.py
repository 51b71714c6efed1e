"""The upper limits of a run next to the published ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pytest_pyhf_faas.report.analyses import title_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.report.form import (
        Analysis,
        Document,
        Hypothesis,
        PublishedAnalysis,
        PublishedValues,
    )

#: Places that need no remark.
_USUAL = ("nominal", "either")


class PublishedRow(NamedTuple):
    """A hypothesis that is not at the nominal minima, and how far off it is at both sets."""

    hypothesis: Hypothesis
    published: PublishedValues
    nominal: float
    lowest: float


class PublishedTable(NamedTuple):
    """The published limits of an analysis: a sentence about all, and the unusual ones."""

    title: str
    sentence: str
    rows: Sequence[PublishedRow]


def published_tables(document: Document) -> list[PublishedTable]:
    """Return the published limits as a page shows them."""
    tables = []
    for analysis in document["analyses"]:
        said = analysis.get("published")
        if said is None:
            continue
        rows = [
            PublishedRow(one, found, off(found, said, "nominal"), off(found, said, "lowest"))
            for one, found in published_of(analysis)
            if found["place"] not in _USUAL
        ]
        tables.append(PublishedTable(title_of(analysis), said["sentence"], rows))
    return tables


def published_of(analysis: Analysis) -> list[tuple[Hypothesis, PublishedValues]]:
    """Return the hypotheses of an analysis that were compared with published limits."""
    pairs = ((one, one.get("published")) for one in analysis["hypotheses"])
    return [(one, found) for one, found in pairs if found is not None]


def ratio(found: PublishedValues, name: str) -> float:
    """Return the published limit over the one from a limit on the POI and theory."""
    return found["limit"] / found["mu"][name] / found["cross_section"]


def off(found: PublishedValues, said: PublishedAnalysis, name: str) -> float:
    """Return how far that ratio is from the one that is expected."""
    return ratio(found, name) / expected_at(said, found["mass"]) - 1


def expected_at(said: PublishedAnalysis, mass: float) -> float:
    """Return the expected ratio at a mass: 1, or that of a smooth line."""
    logarithm = 0.0
    for coefficient in said["line"]:
        logarithm = logarithm * math.log(mass) + coefficient
    return math.exp(logarithm)
