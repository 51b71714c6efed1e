"""How CLs from toys of one hypothesis changed, within the standard errors of both."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign.results import CLS_LABELS
from pytest_pyhf_faas.references.toy_values import ToyValues, allowed
from pytest_pyhf_faas.report.comparison.changes import MOVED, Moved, relative_change

if TYPE_CHECKING:
    from pytest_pyhf_faas.report.form import Hypothesis, ToyResult

_NAME = "toys"
#: Its toys have seeds that follow from the patch.
_CERTIFIED = "certified"


def moved_toys(
    name: str,
    setups: tuple[str, str],
    first: Hypothesis,
    second: Hypothesis,
    rtol: float | None,
    atol: float | None,
) -> Moved | None:
    """Return how the toys of a hypothesis moved, by the value that did so most; or ``None``.

    Other toys always differ: values that moved are listed, and those that moved by more than both
    standard errors allow fails, as in a comparison with a reference.

    Parameters
    ----------
    name : str
        Of the analysis.
    setups : tuple of str
        Its fit setup before and after.
    first, second : Hypothesis
        Before and after.
    rtol, atol : float or None
        A tolerance instead of that of the standard errors.
    """
    before, after = _values(first.get("toys")), _values(second.get("toys"))
    moved = partial(
        Moved,
        quantity=_NAME,
        analysis=name,
        patch=second["patch"],
        before=None if before is None else before.values,
        after=None if after is None else after.values,
        verdict=second["verdict"],
    )
    if before is None or after is None:
        vanished = before is not after and first["verdict"] == second["verdict"]
        gone = moved(value=CLS_LABELS[0], relative=math.inf, rtol=0.0, atol=0.0, fails=True)
        return gone if vanished else None
    same = _same_toys(setups, first, second)
    changes = []
    for index, label in enumerate(CLS_LABELS):
        old, new = before.values[index], after.values[index]
        relative = relative_change(old, new)
        if not relative or abs(new - old) <= MOVED[0] * abs(old) + MOVED[1]:
            continue
        tolerance = rtol or 0.0, atol or 0.0
        if rtol is None and atol is None:
            tolerance = 0.0, allowed(after, before, index, same=same)
        most = tolerance[1] + tolerance[0] * abs(old)
        if math.isfinite(most):  # else there are too few toys for it
            changes.append((_share(abs(new - old), most), label, relative, *tolerance))
    if not changes:
        return None
    share, label, relative, used_rtol, used_atol = max(changes)
    return moved(value=label, relative=relative, rtol=used_rtol, atol=used_atol, fails=share > 1)


def _share(distance: float, most: float) -> float:
    """Return a distance in units of the largest that is allowed."""
    return distance / most if most and math.isfinite(distance) else math.inf


def _values(toys: ToyResult | None) -> ToyValues | None:
    if toys is None:
        return None
    signal, background = toys["failed"]
    return ToyValues(
        toys["count"],
        (signal, background),
        tuple(map(float, toys["CLs"])),
        tuple(map(float, toys["errors"])),
    )


def _same_toys(setups: tuple[str, str], first: Hypothesis, second: Hypothesis) -> bool:
    """Whether both runs drew the same toys: as many certified ones of the same patch."""
    counts = {each["toys"]["count"] for each in (first, second) if each["toys"]}
    return (
        set(setups) == {_CERTIFIED}
        and len(counts) == 1
        and first.get("digest") == second.get("digest")
    )
