"""The analyses of a run next to their published figures, and the values of their hypotheses."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from pytest_pyhf_faas.references.cls_values import Row
from pytest_pyhf_faas.report.published import patches_of, published_of
from pytest_pyhf_faas.report.quantity import CLS, name_of_quantity, quantity_in
from pytest_pyhf_faas.report.wall_times import MEASURED_HEADER, measured_cells, wall_time_of
from pytest_pyhf_faas.wording import NOTHING, counted, with_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.campaign.times import WallTime
    from pytest_pyhf_faas.report.form import Analysis, Document, Hypothesis, Scaling
    from pytest_pyhf_faas.report.published import Published

ROW_HEADER = (
    "pallet",
    "endpoint",
    "patches",
    *MEASURED_HEADER,
    "published wall time [s]",
    "published single node [s]",
)
#: The columns after these are published values.
_MEASURED_COLUMNS = 7
_STEM_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class AnalysisRow:
    """An analysis in the shape of the published table; times in seconds."""

    pallet: str
    endpoint: str
    setup: str
    synthetic: bool
    patches: int
    wall_time: WallTime | None
    published: Published | None

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells below `ROW_HEADER`."""
        workers = f" ({counted(self.wall_time.last.workers, 'worker')})" if self.wall_time else ""
        return (
            f"{self.pallet} (synthetic, no physics)" if self.synthetic else self.pallet,
            f"{self.endpoint}{workers}, {self.setup}",
            str(self.patches),
            *measured_cells(self.wall_time),
            *self._published(),
        )

    def _published(self) -> tuple[str, ...]:
        if self.published is None:
            return (NOTHING,) * 2
        return (
            with_spread(self.published.wall_time_s, self.published.stdev_s),
            f"{self.published.single_node_s:.0f}",
        )


def rows(document: Document) -> list[AnalysisRow]:
    """Return each analysis with its wall time, next to the published figures."""
    return [
        AnalysisRow(
            pallet=analysis["pallet"],
            endpoint=analysis["endpoint"],
            setup=_setup(analysis),
            synthetic=analysis["synthetic"],
            patches=patches_of(analysis),
            wall_time=wall_time_of(analysis),
            published=published_of(analysis),
        )
        for analysis in document["analyses"]
    ]


def wall_time_table(document: Document) -> list[tuple[str, ...]]:
    """Return the header and the cells of all `rows`; without published figures if none has any."""
    found = rows(document)
    columns = len(ROW_HEADER) if any(row.published for row in found) else _MEASURED_COLUMNS
    return [ROW_HEADER[:columns], *(row.cells[:columns] for row in found)]


def title_of(analysis: Analysis | Scaling) -> str:
    """Return the name that distinguishes an analysis from the others of its run."""
    return f"{analysis['pallet']} on {analysis['endpoint']}, {_setup(analysis)}"


def _setup(analysis: Analysis | Scaling) -> str:
    """Return the fit setup, with the quantity if that is not CLs."""
    return ", ".join([analysis["fit_setup"], *_of_what(analysis)])


def _of_what(analysis: Analysis | Scaling) -> list[str]:
    """Return the quantity that was calculated, if it is not CLs."""
    name = name_of_quantity(cast("Analysis", analysis))  # of scaling it is CLs
    return [] if name == CLS.name else [name]


def names_of(analyses: Sequence[Analysis | Scaling], *, with_quantity: bool = True) -> list[str]:
    """Return what distinguishes the analyses: the pallet, and what else differs."""
    fields: tuple[Literal["endpoint", "fit_setup"], ...] = ("endpoint", "fit_setup")
    differing = [field for field in fields if len({analysis[field] for analysis in analyses}) > 1]
    return [
        ", ".join(
            [
                analysis["pallet"] + (" (synthetic)" if analysis.get("synthetic") else ""),
                *(analysis[field] for field in differing),
                *(_of_what(analysis) if with_quantity else []),
            ]
        )
        for analysis in analyses
    ]


def stem_of(kind: str, place: int, analysis: Analysis) -> str:
    """Return the stem of a file that is about one analysis."""
    pallet = re.sub("[^a-z0-9_]+", "-", analysis["pallet"].lower())[:_STEM_CHARACTERS].strip("-")
    return f"{kind}-{place}-{pallet}".rstrip("-")


def compared(hypothesis: Hypothesis) -> list[Row]:
    """Return the six values of a hypothesis next to their references; nothing if there are none."""
    quantity = quantity_in(hypothesis)
    obtained, reference = quantity.obtained(hypothesis), quantity.reference(hypothesis)
    if obtained is None or reference is None:
        return []
    # Values that were not compared are not called outside the tolerance.
    within = hypothesis["within"] or (True,) * len(quantity.labels)
    return [
        Row(label, float(mine), float(theirs), good)
        for label, mine, theirs, good in zip(
            quantity.labels, obtained, reference, within, strict=True
        )
    ]


def largest_difference(hypothesis: Hypothesis) -> float | None:
    """Return the largest relative difference that could matter; ``None`` without two values."""
    rows = compared(hypothesis)
    if not rows:
        return None
    differences = [abs(row.relative) for row in rows if not row.indifferent]
    return math.nan if any(map(math.isnan, differences)) else max(differences, default=0.0)
