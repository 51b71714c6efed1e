"""Where the fits of a result ended among the minima that its reference knows.

A reference has the five fits at two sets of minima, the lowest and the nominal ones, and the gaps
of other minima that were found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pytest_pyhf_faas.campaign.results import FITS
from pytest_pyhf_faas.references.sameness import SAME_ASIMOV_DATA

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult, MinimumSet
    from pytest_pyhf_faas.references.reference import PatchReference

#: A fit that ends this far above a known minimum, in twice the negative log-likelihood, failed.
NLL_TOLERANCE = 0.01
#: A fit within that of two minima is clearly at one of them if it is this many times nearer
#: to it, and this far from the other.
_CLEARLY = 10.0
_APART = 1e-3


_BOTH = "lowest minimum, which is the nominal one"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a fit ended among the known minima of its data.

    Attributes
    ----------
    sets : frozenset of str
        The sets of minima that it is at: all of them where it cannot be compared.
    kind : str
        "known": at the minimum of one of the sets; "other": at another known minimum; "above": at
        none; "below": below all of them; "not comparable": there is none to the same data.
    gap : float
        How far above the lowest known minimum of its data, in twice the NLL.
    away : frozenset of str
        The sets whose minimum is clearly not the nearest.
    """

    sets: frozenset[str]
    kind: Literal["known", "other", "above", "below", "not comparable"]
    gap: float = 0.0
    away: frozenset[str] = frozenset()


def sets_of(reference: PatchReference) -> dict[str, MinimumSet]:
    """Return the sets of minima of a reference by name; the two are "both" where they are one."""
    if reference.ambiguous:
        return {"lowest": reference.lowest, "nominal": reference.nominal}
    return {"both" if reference.nominal_is_known else "lowest": reference.lowest}


def places_of(
    result: HypotestResult, reference: PatchReference, nll_tolerance: float
) -> dict[str, Place]:
    """Return where each fit ended.

    Fits to Asimov data are compared with those of a set of minima where the data are the same, and
    "not comparable" if they match those of no set.

    Parameters
    ----------
    result, reference : HypotestResult, PatchReference
        Of one model.
    nll_tolerance : float
        How far from a minimum a fit may end, in twice the NLL.
    """
    sets = sets_of(reference)
    threshold = nll_tolerance + reference.rounding
    same_data = {
        name for name, known in sets.items() if has_asimov_data(result, known, nll_tolerance)
    }
    places = {}
    for fit in FITS:
        known = {
            name: minima.twice_nll[fit]
            for name, minima in sets.items()
            if not math.isnan(minima.twice_nll.get(fit, math.nan))
            and ("asimov" not in fit or name in same_data)
        }
        if fit not in result.twice_nll or not known or is_at_other_poi(result, reference, fit):
            places[fit] = Place(frozenset(sets), "not comparable")
            continue
        gaps = reference.minima.get(fit, ()) if known.keys() - {"nominal"} else ()
        others = [min(known.values()) + gap for gap in gaps]
        places[fit] = _place(result.twice_nll[fit], known, others, threshold)
    background = places["background_fit_to_data"]
    if result.twice_nll_asimov_truth is not None and background.sets & same_data:
        # Minima that are too near to each other are distinguished by the Asimov data made there.
        at = background.sets & same_data
        places["background_fit_to_data"] = replace(background, sets=at)
    return places


def _place(
    value: float, known: Mapping[str, float], others: Sequence[float], threshold: float
) -> Place:
    """Return where a fit ended.

    Parameters
    ----------
    value : float
        Twice its NLL.
    known : mapping
        The minima of the sets, by their names.
    others : sequence of float
        Minima that belong to no set.
    threshold : float
        How far from a minimum a fit may end.
    """
    lowest = min(known.values())
    gap = value - lowest
    if gap < -threshold:
        # It is no longer the lowest minimum; a nominal one never claimed to be.
        below = frozenset(n for n, m in known.items() if m == lowest and n != "nominal")
        return Place(below, "below" if below else "other", gap)
    distances = {name: abs(value - minimum) for name, minimum in known.items()}
    at = frozenset(name for name, distance in distances.items() if distance <= threshold)
    elsewhere = [abs(value - minimum) for minimum in others]
    nearest = min((*distances.values(), *elsewhere))
    limit = max(_CLEARLY * nearest, _APART)
    away = frozenset(name for name, distance in distances.items() if distance > limit)
    if at:
        return Place(at, "known", gap, away)
    kind: Literal["other", "above"] = "other" if nearest <= threshold else "above"
    return Place(at, kind, gap, away)


def has_asimov_data(result: HypotestResult, known: MinimumSet, nll_tolerance: float) -> bool:
    """Whether the Asimov data of a result are those of a set of minima, as far as is known."""
    truth, expected = result.twice_nll_asimov_truth, known.twice_nll.get("free_fit_to_asimov")
    if truth is None or expected is None:
        return True
    # It depends on where exactly the minimum is, not only on how high.
    return abs(truth - expected) <= max(nll_tolerance, SAME_ASIMOV_DATA)


def is_at_other_poi(result: HypotestResult, reference: PatchReference, fit: str) -> bool:
    """Whether the POI of the Asimov data changed, and a fit depends on these data."""
    concerned = fit == "background_fit_to_data" or "asimov" in fit
    return concerned and asimov_poi_differs(result, reference)


def asimov_poi_differs(result: HypotestResult, reference: PatchReference) -> bool:
    """Whether the Asimov data were built at another POI than expected."""
    poi = result.asimov_poi
    return poi is not None and not math.isclose(poi, reference.asimov_poi, abs_tol=1e-9)


def words(fit: str) -> str:
    """Return the name of a fit for people."""
    return fit.replace("_", " ")


def place_lines(places: Mapping[str, Place], nll_tolerance: float) -> list[str]:
    """Return where the fits are, one line for those at the same place."""
    groups: dict[str, list[str]] = {}
    for fit, place in places.items():
        groups.setdefault(_where(fit, place, nll_tolerance), []).append(words(fit))
    return [f"{where}: {', '.join(fits)}" for where, fits in groups.items()]


def _where(fit: str, place: Place, nll_tolerance: float) -> str:
    above = f", {place.gap:.3g} above the lowest" if place.gap > nll_tolerance else ""
    if place.kind == "known":
        (name, *more) = place.sets
        return f"at the {_BOTH if more or name == 'both' else f'{name} minimum'}{above}"
    return {
        "other": f"at another known minimum{above}" if above else "below the nominal minimum",
        "above": f"at no known minimum, {place.gap:.3g} above the lowest",
        "below": f"{-place.gap:.3g} below the lowest known minimum",
        "not comparable": "to other Asimov data" if "asimov" in fit else "not comparable",
    }[place.kind]
