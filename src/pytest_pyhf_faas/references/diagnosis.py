"""Why a result differs from its reference, and what to do about it, in one line each."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from pytest_pyhf_faas.campaign.results import FITS, environment_differences
from pytest_pyhf_faas.campaign.tasks import CERTIFIED
from pytest_pyhf_faas.references.cls_values import close
from pytest_pyhf_faas.references.places import (
    asimov_poi_differs,
    has_asimov_data,
    is_at_other_poi,
    sets_of,
    words,
)
from pytest_pyhf_faas.references.sameness import SAME_MODEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.campaign.results import HypotestResult, MinimumSet
    from pytest_pyhf_faas.references.places import Place
    from pytest_pyhf_faas.references.reference import Missing, PatchReference

#: How far CLs may be from what follows from the five fits: relative, absolute.
_SAME_FORMULAE = (1e-5, 1e-8)
#: Where twice the NLL is rounded less than this, CLs can be recalculated from it.
_PRECISE = 1e-6

#: The option that replaces a reference.
ACCEPT = "--faas-update=changed"
_OTHER_OPTIMIZER = {"scipy": "minuit", "minuit": "scipy"}


class Cause(NamedTuple):
    """Why, in lines, and what to do; `ACCEPT` where the result may be the better reference."""

    text: str
    remedy: str

    def with_lines(self, *lines: str) -> Cause:
        """Return it with details."""
        return self._replace(text="\n".join((self.text, *lines)))


def who(result: HypotestResult) -> str:
    """Return the name of the minimizer."""
    optimizer = result.environment.optimizer if result.environment else None
    if optimizer == CERTIFIED:
        return "the certified search"
    return f"the optimizer {optimizer}" if optimizer else "the optimizer"


def _failure(result: HypotestResult, what: str) -> Cause:
    """Return the cause where the fits are to blame, so that nothing is to be accepted."""
    return Cause(f"verdict: {who(result)} failed: {what}", _instead_of(result))


def _instead_of(result: HypotestResult) -> str:
    """Say what to use instead of this minimizer."""
    if result.certificate:
        return "keep the reference, which has the lower minimum"
    optimizer = result.environment.optimizer if result.environment else None
    other = _OTHER_OPTIMIZER.get(optimizer or "")
    option = f"--faas-optimizer={other}" if other else "another optimizer"
    return f"try {option} or other versions; 'pyhf-faas matrix --write' notes what stays wrong"


def mixed(result: HypotestResult) -> Cause:
    """Say that the fits are at minima that do not belong together."""
    return Cause(
        "verdict: mixed: the fits are at minima of no consistent set, so that the ratio of their "
        "likelihoods has no meaning",
        _instead_of(result),
    )


def contradiction(
    result: HypotestResult, threshold: float, places: Mapping[str, Place]
) -> Cause | None:
    """Say which fit ended above a value that another fit of the run reached, if one did.

    That needs no reference. With one, a fit at a minimum that it knows is not blamed for a lower
    one nearby.

    Parameters
    ----------
    result : HypotestResult
        With or without fits.
    threshold : float
        How far above a minimum a fit may end, in twice the NLL.
    places : mapping
        Where each fit ended, as far as that is known.
    """
    fits = result.twice_nll
    if result.status != "ok" or not fits:
        return None
    for fit in FITS:
        if math.isnan(fits[fit]):
            return _failure(result, f"the twice-NLL of the {words(fit)} is not a number")

    def above(fit: str, minimum: float | None, what: str) -> Cause | None:
        gap = fits[fit] - minimum if minimum is not None else 0.0
        if not gap > threshold:  # not a number, so not a minimum
            return None
        return _failure(result, f"the {words(fit)} stopped {gap:.3g} above {what}")

    proofs = [
        above("free_fit_to_asimov", result.twice_nll_asimov_truth, "a known minimum"),
        above("free_fit_to_data", fits["fixed_poi_fit_to_data"], "the fit with the POI fixed"),
        above("free_fit_to_data", fits["background_fit_to_data"], "the fit with the POI at 0"),
        above("free_fit_to_asimov", fits["fixed_poi_fit_to_asimov"], "the fit with the POI fixed"),
        *(
            above(fit, lowest, "a point that changing one parameter reaches")
            for fit, lowest in result.twice_nll_nearby.items()
            if not _explains(places.get(fit), fits[fit], lowest, threshold)
        ),
    ]
    return next((proof for proof in proofs if proof is not None), None)


def _explains(place: Place | None, value: float, nearby: float, threshold: float) -> bool:
    """Whether a fit is at a known minimum that is not the lowest, which explains a lower value."""
    if place is None or place.kind not in ("known", "other") or place.gap <= threshold:
        return False
    return nearby >= value - place.gap - threshold


def stopped_above(result: HypotestResult, places: Mapping[str, Place]) -> Cause:
    """Say how far the first fit above all known minima is above the lowest."""
    fit, place = next((f, p) for f, p in places.items() if p.kind == "above")
    return _failure(
        result,
        f"the {words(fit)} stopped {place.gap:.3g} above the certified minimum "
        f"{result.twice_nll[fit] - place.gap:.6g}",
    )


def missed(result: HypotestResult, places: Mapping[str, Place]) -> Cause:
    """Say how far above the lowest known minimum a search ended, at another one."""
    fit = max(places, key=lambda name: places[name].gap)
    return _failure(
        result,
        f"the {words(fit)} ended {places[fit].gap:.3g} above the lowest minimum, at another one",
    )


def ends_below(fit: str, gap: float) -> Cause:
    """Say that a fit is below the lowest minimum, by a negative gap."""
    return Cause(
        f"verdict: the {words(fit)} ends {-gap:.3g} below the reference's in twice-NLL: "
        "the reference is not the minimum",
        ACCEPT,
    )


def _of_the_software(result: HypotestResult, reference: PatchReference, what: str) -> Cause:
    """Return the cause where something else was computed than for the reference.

    A certified reference does not depend on pyhf: a change of pyhf leaves it as it is.
    """
    independent = reference.provenance["method"] == CERTIFIED and not result.certificate
    remedy = (
        "find out what changed in pyhf or what it uses, and report it there; the reference is "
        "computed without pyhf, so that an update leaves it as it is"
    )
    return Cause(f"verdict: {what}", remedy if independent else ACCEPT)


def model_change(result: HypotestResult, reference: PatchReference) -> Cause | None:
    """Say by how much the model differs from that of the reference, if it does."""
    ours, theirs = result.twice_nll_off_minimum, reference.twice_nll_off_minimum
    if ours is None or theirs is None:
        return None
    relative, absolute = SAME_MODEL
    if abs(ours - theirs) <= absolute + relative * abs(theirs) + reference.rounding:
        return None
    return _of_the_software(
        result,
        reference,
        f"the model changed: away from any minimum its twice-NLL is {ours:.8g} "
        f"(reference: {theirs:.8g})",
    )


def why(
    result: HypotestResult,
    reference: PatchReference,
    known: MinimumSet,
    threshold: float,
    usual: str = "",
) -> Cause:
    """Say why CLs differs from that of a set of minima that all fits are at.

    Parameters
    ----------
    result, reference : HypotestResult, PatchReference
        Both with values.
    known : MinimumSet
        One of the two of the reference.
    threshold : float
        How far from a minimum a fit may end, in twice the NLL.
    usual : str
        The tolerance of the fit setup, where CLs is within it, and not within the one asked for.
    """
    change = model_change(result, reference)
    if change is not None:
        return change
    gaps = {
        fit: result.twice_nll[fit] - known.twice_nll[fit]
        for fit in FITS
        if fit in known.twice_nll and fit in result.twice_nll
    }
    if not gaps:
        return Cause("verdict: the reference has no twice-NLL to compare the fits with", ACCEPT)
    other_data = {
        fit
        for fit in gaps
        if is_at_other_poi(result, reference, fit)
        or ("asimov" in fit and not has_asimov_data(result, known, threshold))
    }
    for fit, gap in gaps.items():
        if gap < -(threshold + reference.rounding) and fit not in other_data:
            return ends_below(fit, gap)
    if asimov_poi_differs(result, reference):
        return _of_the_software(
            result,
            reference,
            f"the Asimov data changed: they were built at POI {result.asimov_poi:g}, "
            f"not {reference.asimov_poi:g}",
        )
    if other_data:
        return _of_the_software(
            result,
            reference,
            "the Asimov data changed: the fits to the observed data agree with the reference's, "
            "those to the Asimov data do not",
        )
    return _formulae_or_fits(result, reference, max(map(abs, gaps.values())), usual)


def _formulae_or_fits(
    result: HypotestResult, reference: PatchReference, largest: float, usual: str
) -> Cause:
    """Distinguish changed formulae from fits that are a little off, which move CLs as well."""
    for name, minima in sets_of(reference).items():
        if reference.rounding < _PRECISE and _follows(minima, reference) is False:
            where = " at the nominal minima" if name == "nominal" else ""
            return Cause(
                f"verdict: the reference contradicts itself: its CLs{where} is not what follows "
                "from its own five fits, so it was changed by hand, or made with other formulae",
                ACCEPT,
            )
    follows = _follows(result.lowest, reference)
    if usual and follows is not False:
        return Cause(
            f"verdict: within what this backend and optimizer can do ({usual}), but beyond the "
            "tolerance asked for",
            "leave rtol and atol to the reference file, or take another backend or optimizer",
        )
    if follows:
        return _failure(
            result,
            f"its fits end up to {largest:.1e} from the reference's in twice-NLL, and CLs is what "
            "follows from them",
        )
    agree = (
        "the model and the five fits agree with the reference's (within "
        f"{largest:.1e} in twice-NLL)"
    )
    if follows is None:
        return _of_the_software(
            result,
            reference,
            f"the formulae changed, or the fits are a little off: {agree}; whether CLs follows "
            "from them cannot be checked for this test",
        )
    return _of_the_software(
        result,
        reference,
        f"the formulae changed: {agree}, what is computed from them does not",
    )


def _follows(found: MinimumSet, reference: PatchReference) -> bool | None:
    """Whether CLs is what follows from the five fits; ``None`` where that is unknown."""
    recomputed = _recomputed(found, reference)
    if recomputed is None:
        return None
    pairs = zip(found.cls_values, recomputed, strict=True)
    return all(close(given, expected, *_SAME_FORMULAE) for given, expected in pairs)


def _recomputed(found: MinimumSet, reference: PatchReference) -> tuple[float, ...] | None:
    """Return the six CLs values that follow from five fits.

    There are none for the discovery test, which has no CLs.
    """
    from pytest_pyhf_faas.histfactory.asymptotics import cls_values

    fits = found.twice_nll
    if reference.test_stat == "q0" or found.mu_hat is None or not fits.keys() >= set(FITS):
        return None
    test = reference.test_stat, reference.test_poi
    return cls_values(*test, fits, found.mu_hat, reference.asimov_poi)


def environment_line(result: HypotestResult, reference: PatchReference | Missing) -> str | None:
    """Say how the worker differs from the one that made the reference."""
    environment = result.environment
    if environment is None:
        return None
    line = f"worker {environment.host}"
    if not reference:
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
    return f"{line}: {', '.join(differences)}; everything else is equal"
