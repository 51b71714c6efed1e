"""Compare CLs from toys with its reference: the verdict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign.results import CLS_LABELS
from pytest_pyhf_faas.references.cls_values import Row
from pytest_pyhf_faas.references.compare import Comparison, compare_errors
from pytest_pyhf_faas.references.diagnosis import ACCEPT
from pytest_pyhf_faas.references.reference import MAKE
from pytest_pyhf_faas.references.toy_values import FAR, SAME_TOYS, ToyValues, allowed, measured
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.references.reference import Missing, PatchReference

#: The share of toys that may fail, wherever they fall.
MOST_FAILED = 1e-3
_REMEDY = (
    "more toys decide (--faas-toys); with as many toys as the reference, --faas-method=certified "
    "draws the same ones"
)
_FAILED_REMEDY = (
    "a likely cause is a bin whose rate may become negative: where a toy has no events in it, the "
    "likelihood may rise without limit; look for bins with few expected events and large histosys"
)


def compare_toys(
    result: HypotestResult, found: ToyValues | None, reference: PatchReference | Missing
) -> Comparison:
    """Compare CLs from toys with that of the reference.

    Certified toys have seeds that follow from the patch, so the same number of them are the same
    toys. Others are compared as two measurements.

    Parameters
    ----------
    result : HypotestResult
        With status "ok" or "error".
    found : ToyValues or None
        The values from its toys, if it has some.
    reference : PatchReference or Missing
        What it is compared with.
    """
    name = f"{result.pallet} / {result.patch}"
    if found is not None and sum(found.failed) > MOST_FAILED * 2 * found.count and found.open():
        return _too_many_failed(name, found)
    if not reference:
        return _missing(name, reference.reason, reference.remedy)
    if reference.error is not None or found is None:
        return compare_errors(name, result, reference)
    if reference.toys is None:
        return _missing(name, f"{reference.path} has no toys of this patch", MAKE)
    known = ToyValues.from_json(reference.toys)
    same = bool(result.certificate) and found.count == known.count
    rows = tuple(_row(index, found, known, same) for index in range(len(CLS_LABELS)))
    if all(row.within for row in rows):
        return Comparison(Verdict.RIGHT, f"{name}: CLs from toys agrees with the reference", rows)
    said = (
        f"as many certified toys as in the reference are the same toys and must agree within "
        f"{SAME_TOYS:g} standard errors"
        if same
        else f"{found.count:,} + {found.count:,} toys, {known.count:,} + {known.count:,} in the "
        f"reference: they agree within {FAR:g} combined standard errors"
    )
    lines = [
        f"{row.label} is {measured(row.obtained, found.errors[index])}, in the reference "
        f"{measured(row.reference, known.errors[index])}"
        for index, row in enumerate(rows)
        if not row.within
    ]
    title = f"{name}: CLs from toys differs from the reference"
    remedy = ACCEPT if result.certificate else _REMEDY
    return Comparison(Verdict.WRONG, title, rows, "\n".join((*lines, said)), remedy)


def _row(index: int, found: ToyValues, known: ToyValues, same: bool) -> Row:
    obtained, expected = found.values[index], known.values[index]
    both_nan = math.isnan(obtained) and math.isnan(expected)
    far = allowed(found, known, index, same=same)
    within = both_nan or math.isinf(far) or abs(obtained - expected) <= far
    return Row(CLS_LABELS[index], obtained, expected, within)


def _too_many_failed(name: str, found: ToyValues) -> Comparison:
    signal, background = found.failed
    title = f"{name}: {counted(signal + background, 'toy')} of {2 * found.count:,} failed"
    ended = (
        f"fits of {signal} toys with the tested signal and of {background} without one ended at no "
        "minimum: they may have any test statistic"
    )
    brackets = [
        f"{CLS_LABELS[index]} is {measured(found.values[index], found.errors[index])} without "
        f"them, and from {low:.3g} to {high:.3g} wherever they fall"
        for index in found.open()
        for low, high in [found.brackets[index]]
    ]
    explanation = "\n".join([ended, *brackets])
    return Comparison(Verdict.UNCONVERGED, title, (), explanation, _FAILED_REMEDY)


def _missing(name: str, why: str, remedy: str) -> Comparison:
    title = f"{name}: no reference"
    return Comparison(Verdict.NO_REFERENCE, title, explanation=why, remedy=remedy)
