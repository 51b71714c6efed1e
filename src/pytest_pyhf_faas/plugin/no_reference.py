"""What the terminal shows of hypotheses that have no reference: their CLs values, in one table.

Each fails for itself; where many do, `failures` leaves them to this table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from pytest_pyhf_faas.campaign.quantities import Limits
from pytest_pyhf_faas.references.cls_values import EXCLUDED, count_of_excluded, exclusion
from pytest_pyhf_faas.references.toy_values import ToyValues, toy_cls_of
from pytest_pyhf_faas.wording import counted, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.references.compare import Comparison

_ROWS = 40
_MEDIAN = 2  # of CLs_exp
_DISCOVERY = "q0"  # whose values are no CLs, and exclude nothing


class Unreferenced(TypedDict):
    """A fitted hypothesis that was compared with nothing; why, and what makes a reference."""

    pallet: str
    fit_setup: str
    test_stat: str
    reason: str
    remedy: str
    patch: str
    CLs_obs: float | str
    CLs_exp: float | str


def no_reference_text(comparison: Comparison, result: HypotestResult) -> str:
    """Return what a person reads of one hypothesis that was compared with nothing."""
    lines = []
    if result.toys:
        lines.append(ToyValues.of(toy_cls_of(result.toys)).text)
    if result.cls_values:
        how = "asymptotic " if result.toys else ""
        lines.append(
            f"{how}CLs_obs = {result.CLs_obs:.4g}, CLs_exp = {result.CLs_exp[_MEDIAN]:.4g}"
        )
    lines += comparison.explanation.splitlines()
    if result.limits:
        found = Limits.from_json(result.limits).lowest.values
        lines.append(f"limit_obs = {found[0]:.4g}, limit_exp = {found[1 + _MEDIAN]:.4g}")
    lines.append(f"make it: {comparison.remedy}")
    return "\n".join([comparison.title, *(f"  {line}" for line in lines)])


def unreferenced_lines(
    hypotheses: Iterable[Unreferenced], width: int, *, made: bool = False
) -> list[str]:
    """Return the CLs values of hypotheses without a reference, a table for each reason.

    Parameters
    ----------
    hypotheses : iterable of Unreferenced
        Of a session.
    width : int
        Names are shortened so that no row is longer.
    made : bool
        Whether the session has written references.
    """
    groups: dict[tuple[str, ...], list[Unreferenced]] = {}
    for each in hypotheses:
        key = each["pallet"], each["fit_setup"], each["test_stat"], each["reason"], each["remedy"]
        groups.setdefault(key, []).append(each)
    lines = []
    for (pallet, fit_setup, test_stat, reason, remedy), those in groups.items():
        many = f"{counted(len(those), 'hypothesis')} of {pallet}"
        if made:
            lines.append(f"CLs of {many} that had no reference when the run began:")
        else:
            lines.append(f"no reference for {many}: {reason}")
            lines.append(f"  nothing was compared; make references: {remedy}")
        lines += [f"  {line}" for line in _table(those, fit_setup, test_stat, width - 2)]
    return lines


def _table(those: Sequence[Unreferenced], fit_setup: str, test_stat: str, width: int) -> list[str]:
    excludes = test_stat != _DISCOVERY
    header = (fit_setup, "CLs_obs", "CLs_exp", *(["excluded"] if excludes else []))
    rows = []
    for each in those[:_ROWS]:
        observed, expected = float(each["CLs_obs"]), float(each["CLs_exp"])
        word = [exclusion(observed)] if excludes else []
        rows.append((each["patch"], f"{observed:.4g}", f"{expected:.4g}", *word))
    lines = table(header, rows, width)
    if len(those) > _ROWS:
        lines.append(
            f"... and {len(those) - _ROWS} more: --faas-report=DIR writes them all to DIR/cls.csv"
        )
    if excludes:
        excluded = sum(float(each["CLs_obs"]) < EXCLUDED for each in those)
        lines.append(count_of_excluded(excluded, len(those)))
    return lines
