"""Two sets of CLs values side by side: when they agree, and the table of them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign.results import CLS_LABELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Absolute tolerance on CLs: smaller differences change no limit.
DEFAULT_ATOL = 1e-6
#: Relative tolerance on CLs of each optimizer, and of certified results, where a reference file
#: does not set its own.
DEFAULT_RTOL = {"scipy": 1e-4, "minuit": 1e-3, "certified": 1e-6}
#: A hypothesis whose CLs_obs is below this is excluded at 95 % CL.
EXCLUDED = 0.05
#: CLs from here on excludes nothing. Without any sensitivity 1e-6 in twice the NLL is 1e-4 in CLs,
#: through the square root of the test statistic; pyhf may divide 0 by 0 there, and whether that
#: gives 1 or NaN is decided by the rounding of the last digits.
NO_EXCLUSION = 1 - 1e-3


def count_of_excluded(excluded: int, of: int, why: str = f"CLs_obs < {EXCLUDED:g}") -> str:
    """Say how many hypotheses are excluded, and by which criterion."""
    are = "is" if 1 in (excluded, of) else "are"
    return f"{excluded} of {of} {are} excluded at 95 % CL: {why}"


def exclusion(observed: float, below: float = EXCLUDED) -> str:
    """Say whether a hypothesis with this observed value is excluded: below a threshold."""
    if math.isnan(observed):
        return "not a number"
    return "yes" if observed < below else "no"


@dataclass(frozen=True, slots=True)
class Row:
    """One compared value."""

    label: str
    obtained: float
    reference: float
    within: bool

    @property
    def relative(self) -> float:
        """Relative difference; relative to the reference."""
        if self.obtained == self.reference or (
            math.isnan(self.obtained) and math.isnan(self.reference)
        ):
            return 0.0
        difference = self.obtained - self.reference
        if math.isinf(self.reference):
            return difference
        return difference / abs(self.reference) if self.reference else math.inf

    @property
    def indifferent(self) -> bool:
        """Whether the difference of the two values is too small to matter, for any ratio."""
        is_cls = self.label in CLS_LABELS  # an upper limit of 1 is not such a value
        return self.within and (
            (is_cls and _exclude_nothing(self.obtained, self.reference))
            or abs(self.obtained - self.reference) <= DEFAULT_ATOL
        )


def default_rtol(fit_setup: str, of: Mapping[str, float] = DEFAULT_RTOL) -> float:
    """Return the relative tolerance of a fit setup; an unknown optimizer has the smallest."""
    return of.get(fit_setup.rpartition("+")[2], min(of.values()))


def close(obtained: float, reference: float, rtol: float, atol: float) -> bool:
    """Whether two CLs values agree; those that exclude nothing do, NaN included."""
    if _exclude_nothing(obtained, reference):
        return True
    if math.isinf(obtained) or math.isinf(reference):
        return obtained == reference
    return abs(obtained - reference) <= atol + rtol * abs(reference)


def _exclude_nothing(*values: float) -> bool:
    most = math.inf if any(map(math.isnan, values)) else 2 - NO_EXCLUSION
    return all(math.isnan(v) or NO_EXCLUSION <= v <= most for v in values)


def cls_table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of the obtained/reference table."""
    lines = [f"{'':14}{'obtained':>14}{'reference':>15}{'rel. diff':>12}"]
    for row in rows:
        mark = "" if row.within else "  <--"
        lines.append(
            f"{row.label:14}{row.obtained:>14.8g}{row.reference:>15.8g}{row.relative:>12.1e}{mark}"
        )
    return lines
