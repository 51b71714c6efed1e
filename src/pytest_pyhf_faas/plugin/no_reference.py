"""The table of hypotheses without a reference that the terminal shows.

Each fails as its own test; if there are many, `failures` leaves them to this table.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from pytest_pyhf_faas.campaign.quantities import Limits
from pytest_pyhf_faas.references.cls_values import EXCLUDED, count_of_excluded, exclusion
from pytest_pyhf_faas.references.limit_values import EXCLUDED as EXCLUDED_LIMIT
from pytest_pyhf_faas.references.toy_values import ToyValues, toy_cls_of
from pytest_pyhf_faas.wording import counted, table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.references.compare import Comparison

_ROWS = 40
_MEDIAN = 2  # of CLs_exp
_DISCOVERY = "q0"  # whose values are not CLs, and exclude nothing
#: Prefix of the names of the values, the table of a report with all of them, and the value below
#: which a hypothesis is excluded.
_CLS = ("CLs", "cls.csv", EXCLUDED)
_LIMITS = ("limit", "limits.csv", EXCLUDED_LIMIT)


class Unreferenced(TypedDict):
    """A fitted hypothesis without a reference: why, and how to make one."""

    pallet: str
    fit_setup: str
    test_stat: str
    is_limit: bool
    reason: str
    remedy: str
    patch: str
    observed: float | str
    expected: float | str


def no_reference_text(comparison: Comparison, result: HypotestResult) -> str:
    """Return the text about one hypothesis without a reference."""
    lines = []
    if result.toys:
        lines.append(ToyValues.of(toy_cls_of(result.toys)).text)
    if result.cls_values:
        how = "asymptotic " if result.toys else ""
        lines.append(
            f"{how}CLs_obs = {result.CLs_obs:.4g}, CLs_exp = {result.CLs_exp[_MEDIAN]:.4g}"
        )
    if result.limits:
        found = Limits.from_json(result.limits).lowest.values
        lines.append(f"limit_obs = {found[0]:.4g}, limit_exp = {found[1 + _MEDIAN]:.4g}")
    lines += comparison.explanation.splitlines()
    lines.append(f"make it: {comparison.remedy}")
    return "\n".join([comparison.title, *(f"  {line}" for line in lines)])


def unreferenced_lines(
    hypotheses: Iterable[Unreferenced], width: int, *, made: bool = False
) -> list[str]:
    """Return the values of hypotheses without a reference, a table for each reason.

    Parameters
    ----------
    hypotheses : iterable of Unreferenced
        Of a session.
    width : int
        Names are shortened so that no row is longer.
    made : bool
        Whether the session has written references.
    """
    groups: dict[tuple[str | bool, ...], list[Unreferenced]] = {}
    for each in hypotheses:
        key = (each["pallet"], each["fit_setup"], each["test_stat"], each["is_limit"])
        groups.setdefault((*key, each["reason"], each["remedy"]), []).append(each)
    lines = []
    for those in groups.values():
        first = those[0]
        many = f"{counted(len(those), 'hypothesis')} of {first['pallet']}"
        if made:
            what = "upper limits" if first["is_limit"] else "CLs"
            lines.append(f"{what} of {many} that had no reference when the run began:")
        else:
            lines.append(f"no reference for {many}: {first['reason']}")
            lines.append(f"  nothing was compared; make references: {first['remedy']}")
        lines += [f"  {line}" for line in _table(those, width - 2)]
    return lines


def _table(those: Sequence[Unreferenced], width: int) -> list[str]:
    first = those[0]
    stem, file, below = _LIMITS if first["is_limit"] else _CLS
    excludes = first["test_stat"] != _DISCOVERY
    header = (
        *(first["fit_setup"], f"{stem}_obs", f"{stem}_exp"),
        *(["excluded"] if excludes else []),
    )
    rows = []
    for each in those[:_ROWS]:
        observed, expected = float(each["observed"]), float(each["expected"])
        word = [exclusion(observed, below)] if excludes else []
        rows.append((each["patch"], f"{observed:.4g}", f"{expected:.4g}", *word))
    lines = table(header, rows, width)
    if len(those) > _ROWS:
        lines.append(
            f"... and {len(those) - _ROWS} more: --faas-report=DIR writes them all to DIR/{file}"
        )
    if excludes:
        excluded = sum(float(each["observed"]) < below for each in those)
        lines.append(count_of_excluded(excluded, len(those), f"{stem}_obs < {below:g}"))
    return lines
