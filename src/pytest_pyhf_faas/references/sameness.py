"""When two answers are the same: the same model, minima or exception."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.results import HypotestResult, MinimumSet
    from pytest_pyhf_faas.references.reference import Missing, PatchReference

#: How far the twice NLL of one model may differ between backends and machines: relative, absolute.
SAME_MODEL = (1e-9, 1e-7)
#: A minimum that lies this much higher than before, in twice the NLL, is another one.
HIGHER = 1e-5
#: Two sets of Asimov data are one if twice the NLL of their known minima is as close as this.
SAME_ASIMOV_DATA = 1e-3
#: The same of CLs, where the minima are the same: relative, absolute.
_SAME_CLS = (1e-6, 1e-9)


def same_minima(one: MinimumSet, other: MinimumSet, rounding: float) -> bool:
    """Whether two sets are of the same minima, and CLs as well.

    Parameters
    ----------
    one, other : MinimumSet
        Of one model.
    rounding : float
        How far twice the NLL may be rounded.
    """
    relative, absolute = _SAME_CLS
    return (
        one.twice_nll.keys() == other.twice_nll.keys()
        and all(
            is_near(value, other.twice_nll[fit], HIGHER + rounding)
            for fit, value in one.twice_nll.items()
        )
        and len(one.cls_values) == len(other.cls_values)
        and all(
            is_near(a, b, absolute + relative * abs(b))
            for a, b in zip(one.cls_values, other.cls_values, strict=True)
        )
    )


def same_error(one: str | None, other: str | None) -> bool:
    """Whether two names of exceptions are the same, independent of the program that raised them."""
    return one is not None and other is not None and last_part(one) == last_part(other)


def is_near(one: float, other: float, distance: float) -> bool:
    """Whether two numbers are no farther apart than that; NaN equals NaN."""
    if math.isfinite(one) and math.isfinite(other):
        return abs(one - other) <= distance
    return repr(one) == repr(other)


def last_part(error: str) -> str:
    """Return the name of an exception without its module."""
    return error.rpartition(".")[2]


def error_matches(result: HypotestResult, reference: PatchReference | Missing) -> bool:
    """Whether a result is the exception that its reference calls the right answer.

    It may come from another program: the last part of its type counts.
    """
    if not reference or result.error is None or result.status != "error":
        return False
    return same_error(result.error.type, reference.error)


def moved(result: HypotestResult, reference: PatchReference | Missing) -> bool:
    """Whether a certified result has other sets of minima than its reference."""
    if not reference or result.error is not None or reference.error is not None:
        return False
    if not reference.nominal_is_known and result.ambiguous:
        return True
    pairs = ((result.lowest, reference.lowest), (result.nominal, reference.nominal))
    return not all(same_minima(found, known, reference.rounding) for found, known in pairs)
