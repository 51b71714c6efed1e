"""A result and its reference become a verdict, and the text that a person reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from pytest_pyhf_faas.reference import DEFAULT_ATOL, DEFAULT_RTOL, Missing
from pytest_pyhf_faas.results import CLS_LABELS, FITS, environment_differences

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.reference import PatchReference
    from pytest_pyhf_faas.results import HypotestResult

#: A fit that ends so far above a known minimum, in twice the negative log-likelihood, has failed.
UNCONVERGED = 0.01
#: CLs from here on excludes nothing. Without any sensitivity pyhf divides 0 by 0 there, and whether
#: that gives 1 or NaN is decided by the rounding of the last digits.
NO_EXCLUSION = 1 - 1e-3


class Verdict(Enum):
    """What a comparison says; each asks for another reaction."""

    RIGHT = "right"
    WRONG = "wrong"
    MISSING = "no reference"


@dataclass(frozen=True, slots=True)
class Row:
    """One compared value."""

    label: str
    obtained: float
    reference: float
    within: bool

    @property
    def relative(self) -> float:
        """Relative difference; the reference is the denominator."""
        difference = self.obtained - self.reference
        if difference == 0 or (math.isnan(self.obtained) and math.isnan(self.reference)):
            return 0.0
        return difference / abs(self.reference) if self.reference else math.inf


@dataclass(frozen=True, slots=True)
class Comparison:
    """A verdict with what it rests on."""

    verdict: Verdict
    title: str
    rows: tuple[Row, ...] = ()
    explanation: str = ""


def compare(
    result: HypotestResult,
    reference: PatchReference | Missing,
    *,
    optimizer: str,
    rtol: float | None = None,
    atol: float | None = None,
) -> Comparison:
    """Hold the six CLs values of a result against their reference.

    Parameters
    ----------
    result : HypotestResult
        With status "ok" or "error".
    reference : PatchReference or Missing
        What it is held against.
    optimizer : str
        Decides the tolerance where none is given: that of the reference file, else the default.
    rtol, atol : float, optional
        A value is right within ``atol + rtol * abs(reference)``, as in `numpy.isclose`.
    """
    name = f"{result.pallet} / {result.patch}"
    if isinstance(reference, Missing):
        return Comparison(Verdict.MISSING, f"{name}: no reference", explanation=reference.reason)
    if reference.error is not None or result.error is not None:
        return _compare_errors(name, result, reference)
    rtol = reference.rtol.get(optimizer, DEFAULT_RTOL[optimizer]) if rtol is None else rtol
    atol = reference.atol.get(optimizer, DEFAULT_ATOL) if atol is None else atol
    rows = tuple(
        Row(label, obtained, expected, _close(obtained, expected, rtol, atol))
        for label, obtained, expected in zip(
            CLS_LABELS, result.cls_values, reference.cls_values, strict=True
        )
    )
    if all(row.within for row in rows):
        return Comparison(Verdict.RIGHT, f"{name}: CLs agrees with the reference", rows)
    if any(math.isnan(row.obtained) and not row.within for row in rows):
        title = f"{name}: CLs is not a number"
    else:
        title = f"{name}: CLs differs from the reference"
    tolerance = f"tolerance {rtol:g} relative, {atol:g} absolute"
    return Comparison(Verdict.WRONG, title, rows, f"{_why(result, reference)}\n{tolerance}")


def error_matches(result: HypotestResult, reference: PatchReference | Missing) -> bool:
    """Whether a result is the very exception that its reference calls the right answer."""
    return (
        not isinstance(reference, Missing)
        and result.error is not None
        and result.status == "error"
        and result.error.type == reference.error
    )


def environment_line(result: HypotestResult, reference: PatchReference | Missing) -> str | None:
    """Say how the worker differs from what made the reference."""
    environment = result.environment
    if environment is None:
        return None
    line = f"worker {environment.host}"
    if isinstance(reference, Missing):
        return line
    ours = {
        "backend": str(environment.backend),
        "optimizer": str(environment.optimizer),
        **environment.computing,
    }
    theirs = {
        "backend": reference.provenance["backend"],
        "optimizer": reference.provenance["optimizer"],
        **reference.provenance["versions"],
    }
    differences = [
        f"{name} {mine} (reference: {other})"
        for name, mine, other in environment_differences(ours, theirs)
    ]
    if not differences:
        return f"{line}: the versions are those of the reference"
    return f"{line}: {', '.join(differences)}; all else equal"


def table(rows: Sequence[Row]) -> list[str]:
    """Return the lines of the obtained/reference table."""
    lines = [f"{'':14}{'obtained':>14}{'reference':>15}{'rel. diff':>12}"]
    for row in rows:
        mark = "" if row.within else "  <--"
        lines.append(
            f"{row.label:14}{row.obtained:>14.8g}{row.reference:>15.8g}{row.relative:>12.1e}{mark}"
        )
    return lines


def _close(obtained: float, reference: float, rtol: float, atol: float) -> bool:
    if math.isnan(obtained) or math.isnan(reference):
        return all(math.isnan(v) or v >= NO_EXCLUSION for v in (obtained, reference))
    if math.isinf(obtained) or math.isinf(reference):
        return obtained == reference
    return abs(obtained - reference) <= atol + rtol * abs(reference)


def _compare_errors(name: str, result: HypotestResult, reference: PatchReference) -> Comparison:
    if error_matches(result, reference):
        return Comparison(
            Verdict.RIGHT, f"{name}: {reference.error} is the right answer, and it was given"
        )
    if result.error is None:
        title = f"{name}: fitted, though the right answer is {reference.error}"
        explanation = f"obtained CLs_obs = {result.CLs_obs:.8g}"
    else:
        title = f"{name}: {result.error.type} instead of {reference.error or 'CLs values'}"
        explanation = result.error.first_line
    return Comparison(Verdict.WRONG, title, explanation=explanation)


def _why(result: HypotestResult, reference: PatchReference) -> str:
    """Which of the five fits explains the difference; twice the NLL tells."""
    truth = result.twice_nll_asimov_truth
    if truth is not None:
        gap = result.twice_nll["free_fit_to_asimov"] - truth
        if not gap <= UNCONVERGED:
            return (
                f"verdict: the optimizer stopped {gap:.3g} above a known minimum "
                "(free fit to Asimov data)"
            )
    gaps = {
        fit: result.twice_nll[fit] - reference.twice_nll[fit]
        for fit in FITS
        if fit in reference.twice_nll
    }
    if not gaps:
        return "verdict: the reference has no twice-NLL to compare the fits with"
    # What is not a number comes first: nothing is larger.
    fit, gap = max(gaps.items(), key=lambda item: (math.isnan(item[1]), abs(item[1])))
    name = fit.replace("_", " ")
    if math.isnan(gap):
        return f"verdict: the twice-NLL of the {name} is not a number"
    if abs(gap) <= UNCONVERGED:
        return (
            f"verdict: the five fits agree with the reference's (within {abs(gap):.1e} in "
            "twice-NLL); what is computed from them differs"
        )
    if gap > 0:
        return f"verdict: the {name} ends {gap:.3g} above the reference's in twice-NLL"
    return (
        f"verdict: the {name} ends {-gap:.3g} below the reference's in twice-NLL: the model "
        "changed, or the reference is not the minimum"
    )
