"""Compare upper limits on the POI with their reference: the verdict."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign.quantities import LIMIT_LABELS, Limits
from pytest_pyhf_faas.references.cls_values import Row
from pytest_pyhf_faas.references.compare import Comparison, compare_errors
from pytest_pyhf_faas.references.diagnosis import ACCEPT
from pytest_pyhf_faas.references.limit_values import close_limits
from pytest_pyhf_faas.references.reference import MAKE
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from pytest_pyhf_faas.campaign.quantities import LimitSet
    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.references.compare import At
    from pytest_pyhf_faas.references.criteria import Minimum
    from pytest_pyhf_faas.references.reference import Missing, PatchReference

_REMEDY = (
    "a limit follows from dozens of tests of CLs, and --faas-quantity=cls says where the fits of "
    "one of them are; try --faas-optimizer=minuit or --faas-method=certified"
)


def compare_limits(
    result: HypotestResult,
    reference: PatchReference | Missing,
    *,
    tolerance: tuple[float, float],
    minimum: Minimum = "any",
) -> Comparison:
    """Compare the six upper limits of a result with those of its reference.

    Parameters
    ----------
    result : HypotestResult
        With status "ok" or "error". Of a certified one both sets of minima are compared.
    reference : PatchReference or Missing
        What it is compared with.
    tolerance : tuple of float
        Relative and absolute.
    minimum : str
        At which set of minima a limit is right: "any", "lowest" or "nominal".
    """
    name = f"{result.pallet} / {result.patch}"
    if not reference:
        return _missing(name, reference.reason, reference.remedy)
    if reference.error is not None or result.error is not None:
        return compare_errors(name, result, reference)
    if reference.limits is None:
        return _missing(name, f"{reference.path} has no upper limits of this patch", MAKE)
    found, known = Limits.from_json(result.limits), reference.limits
    rows = {
        at: _rows(getattr(found, at), getattr(known, at), tolerance) for at in ("lowest", "nominal")
    }
    good = {at for at, those in rows.items() if all(row.within for row in those)}
    said = f"tolerance {tolerance[0]:g} relative, {tolerance[1]:g} absolute"
    if result.certificate:
        wanted = {"lowest", "nominal"} if minimum == "any" else {minimum}
        return _certified(name, rows, good, wanted, said)
    allowed = good if minimum == "any" else good & {minimum}
    if allowed:
        at: At = "both" if len(good) > 1 else "lowest" if "lowest" in good else "nominal"
        ends = "" if at == "both" else f" at the {at} minima"
        chosen = rows["lowest" if at == "both" else at]
        return Comparison(
            Verdict.RIGHT, f"{name}: the limits agree with the reference{ends}", chosen, at=at
        )
    return _wrong(name, rows, good, minimum, said)


def _certified(
    name: str,
    rows: dict[str, tuple[Row, ...]],
    good: set[str],
    wanted: AbstractSet[str],
    said: str,
) -> Comparison:
    bad = sorted(wanted - good)
    if bad:
        title = f"{name}: the limits at the {bad[0]} minima differ from the reference"
        return Comparison(Verdict.WRONG, title, rows[bad[0]], said, ACCEPT, at="none")
    at: At = "both" if len(wanted) > 1 else "lowest" if "lowest" in wanted else "nominal"
    where = "both sets of minima" if at == "both" else f"the {at} minima"
    shown = rows["nominal" if at == "nominal" else "lowest"]
    title = f"{name}: the limits agree with the reference at {where}"
    return Comparison(Verdict.RIGHT, title, shown, at=at)


def _wrong(
    name: str, rows: dict[str, tuple[Row, ...]], good: set[str], minimum: Minimum, said: str
) -> Comparison:
    if good:  # at the minima that do not count
        (at,) = good
        title = f"{name}: the limits are those at the {at} minima, not at the {minimum} ones"
        return Comparison(Verdict.WRONG, title, rows[minimum], said, _REMEDY, at=_at(at))
    pairs = zip(rows["lowest"], rows["nominal"], strict=True)
    if all(low.within or nominal.within for low, nominal in pairs):
        title = f"{name}: the limits are at mixed minima"
        lines = [
            f"{row.label} is at the {'lowest' if row.within else 'nominal'} minima"
            for row in rows["lowest"]
        ]
        explanation = "\n".join((*lines, said))
        return Comparison(Verdict.MIXED, title, rows["lowest"], explanation, _REMEDY, at="none")
    nearest = min(rows, key=lambda at: _distance(rows[at]))
    title = f"{name}: the limits differ from the reference"
    if any(math.isnan(row.obtained) for row in rows[nearest]):
        title = f"{name}: a limit is not a number"
    return Comparison(Verdict.WRONG, title, rows[nearest], said, _REMEDY, at="none")


def _missing(name: str, why: str, remedy: str) -> Comparison:
    title = f"{name}: no reference"
    return Comparison(Verdict.NO_REFERENCE, title, explanation=why, remedy=remedy)


def _at(name: str) -> At:
    return "lowest" if name == "lowest" else "nominal"


def _rows(found: LimitSet, known: LimitSet, tolerance: tuple[float, float]) -> tuple[Row, ...]:
    rtol, atol = tolerance
    return tuple(
        Row(label, obtained, expected, close_limits(obtained, expected, rtol, atol))
        for label, obtained, expected in zip(LIMIT_LABELS, found.values, known.values, strict=True)
    )


def _distance(rows: Sequence[Row]) -> float:
    distances = [abs(row.relative) for row in rows]
    return math.inf if any(map(math.isnan, distances)) else max(distances, default=0.0)
