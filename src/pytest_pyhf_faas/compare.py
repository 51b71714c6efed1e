"""A result and its reference become a verdict, and the text that a person reads."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.reference import DEFAULT_ATOL, Missing
from pytest_pyhf_faas.results import CLS_LABELS, FITS, environment_differences
from pytest_pyhf_faas.tasks import CERTIFIED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_pyhf_faas.reference import KnownIssue, PatchReference
    from pytest_pyhf_faas.results import HypotestResult

#: A fit that ends so far above a known minimum, in twice the negative log-likelihood, has failed.
UNCONVERGED = 0.01
#: How far the twice NLL of one model may differ between backends and machines: relative, absolute.
_SAME_MODEL = (1e-9, 1e-7)
#: How far CLs may be from what follows from the five fits: relative, absolute.
_SAME_FORMULAE = (1e-5, 1e-8)
#: A fit sits in a local minimum if it ends as near to it as this, relative to its gap.
_SAME_GAP = 0.1
#: Where twice the NLL is rounded less than this, CLs can be calculated from it again.
_PRECISE = 1e-6
#: How near the value of a known issue must be to the one that was found: relative, absolute.
_SAME_ISSUE = (1e-2, 1e-6)
#: CLs from here on excludes nothing. Without any sensitivity pyhf divides 0 by 0 there, and whether
#: that gives 1 or NaN is decided by the rounding of the last digits.
NO_EXCLUSION = 1 - 1e-3


class Verdict(Enum):
    """What a comparison says; each asks for another reaction."""

    RIGHT = "right"
    WRONG = "wrong"
    UNCONVERGED = "unconverged"
    KNOWN_ISSUE = "known issue"
    MENDED = "known issue that is none any more"
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

    @property
    def indifferent(self) -> bool:
        """Whether the two values differ in nothing that could matter, whatever their ratio."""
        return self.within and (
            math.isnan(self.obtained)
            or math.isnan(self.reference)
            or abs(self.obtained - self.reference) <= DEFAULT_ATOL
        )


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
    combination: str,
    rtol: float | None = None,
    atol: float | None = None,
    unconverged: float = UNCONVERGED,
    ignore_known_issues: bool = False,
) -> Comparison:
    """Hold the six CLs values of a result against their reference, and its fits against theirs.

    Parameters
    ----------
    result : HypotestResult
        With status "ok" or "error".
    reference : PatchReference or Missing
        What it is held against.
    combination : str
        Backend and optimizer, as `HypotestConfig.combination`. It decides the tolerance where none
        is given, that of the reference file or else the default, and which issues are known.
    rtol, atol : float, optional
        A value is right within ``atol + rtol * abs(reference)``, as in `numpy.isclose`.
    unconverged : float
        How far above a minimum a fit may end, in twice the negative log-likelihood.
    ignore_known_issues : bool
        Call what is wrong wrong, known or not.
    """
    name = f"{result.pallet} / {result.patch}"
    failed = _unconverged(result, reference, unconverged)
    if isinstance(reference, Missing):
        if failed is not None:
            title = f"{name}: unconverged, and there is no reference"
            return Comparison(
                Verdict.UNCONVERGED, title, explanation=f"{failed}\n{reference.reason}"
            )
        return Comparison(Verdict.MISSING, f"{name}: no reference", explanation=reference.reason)
    comparison = _compare(name, result, reference, failed, combination, rtol, atol)
    issue = reference.known_issues.get(combination)
    if issue is None or ignore_known_issues:
        return comparison
    if comparison.verdict is Verdict.RIGHT:
        title = f"{name}: right, though it is a known issue that {combination} gets it wrong"
        explanation = f"{issue.reason} ({issue.link})\nit is mended: take it off the list"
        return Comparison(Verdict.MENDED, title, comparison.rows, explanation)
    if _is_same_issue(result, issue):
        title = f"known issue of {combination}: {issue.reason} ({issue.link})"
        return Comparison(Verdict.KNOWN_ISSUE, title, comparison.rows, comparison.explanation)
    return comparison


def error_matches(result: HypotestResult, reference: PatchReference | Missing) -> bool:
    """Whether a result is the very exception that its reference calls the right answer."""
    return (
        not isinstance(reference, Missing)
        and result.error is not None
        and result.status == "error"
        and result.error.type == reference.error
    )


def is_known_error(
    result: HypotestResult, reference: PatchReference | Missing, combination: str
) -> KnownIssue | None:
    """Return the known issue that is the exception of a result, if there is one."""
    if isinstance(reference, Missing) or result.error is None:
        return None
    issue = reference.known_issues.get(combination)
    return issue if issue is not None and _is_same_issue(result, issue) else None


def is_in_local_minimum(result: HypotestResult, reference: PatchReference) -> bool:
    """Whether one of the fits ended in a higher minimum that the reference knows."""
    return any(
        _local_minimum(result, reference, fit) is not None
        for fit in reference.twice_nll
        if fit in result.twice_nll and not _is_of_other_data(result, reference, fit)
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
    theirs = dict(reference.provenance["versions"])
    if reference.provenance["method"] != CERTIFIED:
        theirs |= {name: reference.provenance[name] for name in ("backend", "optimizer")}
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


def close(obtained: float, reference: float, rtol: float, atol: float) -> bool:
    """Whether two CLs values agree; those that exclude nothing do, even one that is no number."""
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


def _compare(
    name: str,
    result: HypotestResult,
    reference: PatchReference,
    failed: str | None,
    combination: str,
    rtol: float | None,
    atol: float | None,
) -> Comparison:
    """Compare a result with a reference, whatever issues are known."""
    if reference.error is not None or result.error is not None:
        return _compare_errors(name, result, reference)
    rtol, atol = reference.tolerance(combination, rtol, atol)
    rows = tuple(
        Row(label, obtained, expected, close(obtained, expected, rtol, atol))
        for label, obtained, expected in zip(
            CLS_LABELS, result.cls_values, reference.cls_values, strict=True
        )
    )
    agrees = all(row.within for row in rows)
    if agrees and failed is None:
        return Comparison(Verdict.RIGHT, f"{name}: CLs agrees with the reference", rows)
    if agrees:
        return Comparison(
            Verdict.UNCONVERGED, f"{name}: unconverged, though CLs agrees", rows, failed or ""
        )
    if any(math.isnan(row.obtained) and not row.within for row in rows):
        title = f"{name}: CLs is not a number"
    else:
        title = f"{name}: CLs differs from the reference"
    tolerance = f"tolerance {rtol:g} relative, {atol:g} absolute"
    explanation = f"{failed or _why(result, reference)}\n{tolerance}"
    verdict = Verdict.WRONG if failed is None else Verdict.UNCONVERGED
    return Comparison(verdict, title, rows, explanation)


def _is_same_issue(result: HypotestResult, issue: KnownIssue) -> bool:
    if issue.error is not None or result.error is not None:
        return result.error is not None and result.error.type == issue.error
    return all(
        close(obtained, known, *_SAME_ISSUE)
        for obtained, known in zip(result.cls_values, issue.cls_values, strict=True)
    )


def _unconverged(
    result: HypotestResult, reference: PatchReference | Missing, threshold: float
) -> str | None:
    """Say which fit ended above a minimum by more than a threshold, if one did.

    What the fits of one run prove about each other comes first, for it needs no reference.
    """
    fits = result.twice_nll
    if result.status != "ok" or not fits:
        return None
    optimizer = f"optimizer {result.environment.optimizer}" if result.environment else "optimizer"

    for fit in FITS:
        if math.isnan(fits[fit]):
            where = fit.replace("_", " ")
            return f"verdict: the {optimizer} failed: the twice-NLL of the {where} is not a number"

    def above(fit: str, minimum: float | None, what: str) -> str | None:
        gap = fits[fit] - minimum if minimum is not None else 0.0
        if not gap > threshold:  # what is not a number is no minimum
            return None
        where = fit.replace("_", " ")
        return f"verdict: the {optimizer} failed: the {where} stopped {gap:.3g} above {what}"

    proofs = [
        above("free_fit_to_asimov", result.twice_nll_asimov_truth, "a known minimum"),
        above("free_fit_to_data", fits["fixed_poi_fit_to_data"], "the fit with the POI fixed"),
        above("free_fit_to_data", fits["background_fit_to_data"], "the fit with the POI at 0"),
        above("free_fit_to_asimov", fits["fixed_poi_fit_to_asimov"], "the fit with the POI fixed"),
        *(
            above(fit, lowest, "where moving one parameter leads")
            for fit, lowest in result.twice_nll_nearby.items()
        ),
    ]
    if not isinstance(reference, Missing) and _model_change(result, reference) is None:
        proofs += [_above_reference(result, reference, fit, above) for fit in FITS]
    return next((proof for proof in proofs if proof is not None), None)


def _above_reference(
    result: HypotestResult,
    reference: PatchReference,
    fit: str,
    above: Callable[[str, float | None, str], str | None],
) -> str | None:
    minimum = reference.twice_nll.get(fit)
    if minimum is None or _is_of_other_data(result, reference, fit):
        return None
    proof = above(fit, minimum, f"the certified minimum {minimum:.6g}")
    if proof is None:
        return None
    other = _local_minimum(result, reference, fit)
    if other is None:
        return proof
    return (
        f"{proof}, in a local minimum: {other['parameter']} at {other['at']:.3g} "
        f"(lowest: {other['lowest_at']:.3g})"
    )


def _local_minimum(
    result: HypotestResult, reference: PatchReference, fit: str
) -> Mapping[str, Any] | None:
    """Return the higher minimum that a fit ended in, if it is a known one."""
    gap = result.twice_nll[fit] - reference.twice_nll[fit]
    for other in reference.local_minima:
        if other["fit"] == fit and abs(gap - other["gap"]) <= _SAME_GAP * other["gap"]:
            return other
    return None


def _is_of_other_data(result: HypotestResult, reference: PatchReference, fit: str) -> bool:
    """Whether a fit is one of Asimov data that are not those of the reference."""
    if _asimov_poi_differs(result, reference):
        return fit == "background_fit_to_data" or "asimov" in fit
    truth, expected = result.twice_nll_asimov_truth, reference.twice_nll.get("free_fit_to_asimov")
    if "asimov" not in fit or truth is None or expected is None:
        return False
    return not abs(truth - expected) <= UNCONVERGED


def _asimov_poi_differs(result: HypotestResult, reference: PatchReference) -> bool:
    poi = result.asimov_poi
    return poi is not None and not math.isclose(poi, reference.asimov_poi, abs_tol=1e-9)


def _model_change(result: HypotestResult, reference: PatchReference) -> str | None:
    """Say by how much the model differs from that of the reference, if it does."""
    ours, theirs = result.twice_nll_off_minimum, reference.twice_nll_off_minimum
    if ours is None or theirs is None:
        return None
    relative, absolute = _SAME_MODEL
    if abs(ours - theirs) <= absolute + relative * abs(theirs) + reference.rounding:
        return None
    return (
        f"verdict: the model changed: away from any minimum its twice-NLL is {ours:.8g} "
        f"(reference: {theirs:.8g})"
    )


def _why(result: HypotestResult, reference: PatchReference) -> str:
    """Say why CLs differs though all fits have converged, as far as this run can tell."""
    change = _model_change(result, reference)
    if change is not None:
        return change
    gaps = {
        fit: result.twice_nll[fit] - reference.twice_nll[fit]
        for fit in FITS
        if fit in reference.twice_nll and fit in result.twice_nll
    }
    if not gaps:
        return "verdict: the reference has no twice-NLL to compare the fits with"
    for fit, gap in gaps.items():
        if gap < -UNCONVERGED and not _is_of_other_data(result, reference, fit):
            return (
                f"verdict: the {fit.replace('_', ' ')} ends {-gap:.3g} below the reference's in "
                "twice-NLL: the reference is not the minimum"
            )
    if _asimov_poi_differs(result, reference):
        return (
            f"verdict: the Asimov data changed: they were built at POI {result.asimov_poi:g}, "
            f"not {reference.asimov_poi:g}"
        )
    if any(_is_of_other_data(result, reference, fit) for fit in gaps):
        return (
            "verdict: the Asimov data changed: the fits to the observed data agree with the "
            "reference's, those to the Asimov data do not"
        )
    return _formulae_or_fits(result, reference, gaps)


def _formulae_or_fits(
    result: HypotestResult, reference: PatchReference, gaps: Mapping[str, float]
) -> str:
    """Tell formulae that changed from fits that are a little off, which move CLs as well."""
    if reference.rounding < _PRECISE and _follows(reference, reference) is False:
        return (
            "verdict: the reference contradicts itself: its CLs is not what follows from its own "
            "five fits, so it was changed by hand, or made with other formulae"
        )
    if _follows(result, reference):
        name = f" {result.environment.optimizer}" if result.environment else ""
        return (
            f"verdict: the optimizer{name} failed: its fits end up to "
            f"{max(abs(gap) for gap in gaps.values()):.1e} from the reference's in twice-NLL, and "
            "CLs is what follows from them"
        )
    return (
        f"verdict: the formulae changed: the model and the five fits agree with the reference's "
        f"(within {max(abs(gap) for gap in gaps.values()):.1e} in twice-NLL), what is computed "
        "from them does not"
    )


def _follows(fitted: HypotestResult | PatchReference, reference: PatchReference) -> bool | None:
    """Whether CLs is what follows from the five fits; ``None`` where that cannot be told."""
    recomputed = _recomputed(fitted, reference)
    if recomputed is None:
        return None
    pairs = zip(fitted.cls_values, recomputed, strict=True)
    return all(close(told, expected, *_SAME_FORMULAE) for told, expected in pairs)


def _recomputed(
    fitted: HypotestResult | PatchReference, reference: PatchReference
) -> tuple[float, ...] | None:
    """Return the six CLs values that follow from the five fits of a result, or of a reference.

    Equations (14), (16), (62) and (66) of arXiv:1007.1727, and the band by its equation (89); there
    are none for the discovery test, which is no CLs.
    """
    fits = fitted.twice_nll
    if reference.test_stat == "q0" or fitted.mu_hat is None or not fits.keys() >= set(FITS):
        return None

    def below(value: float) -> float:
        return math.erfc(-value / math.sqrt(2)) / 2

    observed = max(fits["fixed_poi_fit_to_data"] - fits["free_fit_to_data"], 0.0)
    if fitted.mu_hat > reference.test_poi:
        observed = 0.0
    asimov = max(fits["fixed_poi_fit_to_asimov"] - fits["free_fit_to_asimov"], 0.0)
    sigma = math.sqrt(asimov)
    value = math.sqrt(observed) - sigma
    if reference.test_stat == "qtilde" and value > 0 and sigma > 0:
        value = (observed - asimov) / (2 * sigma)
    return tuple(
        below(-point - sigma) / below(-point) if below(-point) > 0 else math.nan
        for point in (value, 2.0, 1.0, 0.0, -1.0, -2.0)
    )
