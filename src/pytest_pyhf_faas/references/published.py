"""Compare upper limits with published ones: the verdict."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pytest_pyhf_faas.campaign.quantities import Limits
from pytest_pyhf_faas.published.agreement import Point
from pytest_pyhf_faas.references.cls_values import Row
from pytest_pyhf_faas.references.compare import Comparison
from pytest_pyhf_faas.references.diagnosis import ACCEPT
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.published.agreement import Agreement, Place, PublishedLimits
    from pytest_pyhf_faas.published.publication import Publication
    from pytest_pyhf_faas.references.compare import At
    from pytest_pyhf_faas.references.form import PublishedEntry
    from pytest_pyhf_faas.references.reference import Missing, PatchReference

#: Phrases for where a limit is reproduced, if it is.
WORDS: dict[Place, str] = {
    "nominal": "is reproduced at the nominal minima",
    "lowest": "is reproduced at the lowest minima",
    "either": "is reproduced at both sets of minima",
    "mixed": "is reproduced with some fits at the lowest and some at the nominal minima only",
    "none": "is not reproduced",
}
_AT: dict[Place, At] = {"nominal": "nominal", "lowest": "lowest", "either": "both"}
#: Places that are wrong, unless the reference says that they are known.
_WRONG: dict[Place, Verdict] = {"mixed": Verdict.MIXED, "none": Verdict.WRONG}


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """A fit, and the published limit of its hypothesis.

    Attributes
    ----------
    result : HypotestResult
        With the upper limits.
    agreement : Agreement
        The minima at which the limits agree with the published one.
    among : PublishedLimits
        The agreements of all hypotheses of the pallet.
    """

    result: HypotestResult
    agreement: Agreement
    among: PublishedLimits


def points_of(publication: Publication, results: Iterable[HypotestResult]) -> list[Point]:
    """Return the hypotheses of a publication whose fits gave limits, with these.

    Parameters
    ----------
    publication : Publication
        What was published.
    results : iterable of HypotestResult
        Of its patches, in their order.
    """
    points = []
    for patch, result in zip(publication.patches, results, strict=True):
        if result.status != "ok" or not result.limits:
            continue
        found, known = Limits.from_json(result.limits), publication.expected[patch.name]
        mu = {
            "lowest": found.lowest.observed,
            "nominal": found.nominal.observed,
            **{name: limit for name, limit in found.mixed.items() if _is_limit(limit)},
        }
        if _is_limit(mu["lowest"]) and _is_limit(mu["nominal"]):
            values = known.mass, known.limit, known.rounding, known.cross_section
            points.append(Point(patch.name, *values, mu))
    return points


def compare_published(found: PublishedResult, reference: PatchReference | Missing) -> Comparison:
    """Judge whether a published upper limit is reproduced, and whether that is as known.

    Parameters
    ----------
    found : PublishedResult
        At which minima it is reproduced.
    reference : PatchReference or Missing
        What is known of it.

    Returns
    -------
    Comparison
        Right at one set of minima, or at both. A mixture, or none, is wrong, or a known issue where
        the reference says the same. A place that is not that of the reference is wrong.
    """
    agreement, among = found.agreement, found.among
    name = f"{found.result.pallet} / {found.result.patch}"
    place, stored = agreement.place, reference.published if reference else None
    said = f"the published upper limit {WORDS[place]}"
    known = cast("Place", stored["place"]) if stored else None
    rows = tuple(_rows(agreement, among))
    at: At = _AT.get(place, "none")
    lines = _lines(agreement, among)
    if known is not None and known != place:
        title = f"{name}: {said}; the reference file says that it {WORDS[known]}"
        return Comparison(Verdict.WRONG, title, rows, "\n".join(lines), ACCEPT, at=at)
    if place not in _WRONG:
        title = f"{name}: {said} ({_percent(agreement.nearest)})"
        return Comparison(Verdict.RIGHT, title, at=at)
    if known is not None:
        title = f"{name}: as known, {said} ({_percent(agreement.nearest)})"
        return Comparison(Verdict.KNOWN_ISSUE, title, rows, "\n".join(lines), at=at)
    title = f"{name}: {said}"
    return Comparison(_WRONG[place], title, rows, "\n".join(lines), ACCEPT, at=at)


def published_entry(agreement: Agreement) -> PublishedEntry:
    """Return the entry of a reference file for a published limit."""
    return {"place": agreement.place, "off": round(agreement.nearest, 6)}


def _rows(agreement: Agreement, among: PublishedLimits) -> Iterable[Row]:
    """Yield the upper limits on the cross section, in pb, next to the published one.

    Those at the two sets of minima, and at the mixture that is nearest.
    """
    point = agreement.point
    per_mu = point.cross_section * among.at(point.mass)
    allowed = among.tolerance + point.rounding
    for label, name in _compared(agreement).items():
        within = abs(agreement.off[name]) <= allowed
        yield Row(label, point.mu[name] * per_mu, point.limit, within)


def _compared(agreement: Agreement) -> dict[str, str]:
    """Return the limits of a hypothesis that are shown, by their names."""
    mixtures = [name for name in agreement.point.mu if name not in _AT]
    nearest = min(mixtures, key=lambda name: abs(agreement.off[name]), default=None)
    found = {"lowest": "lowest", "nominal": "nominal"}
    return found if nearest is None else {**found, "mixture": nearest}


def _lines(agreement: Agreement, among: PublishedLimits) -> list[str]:
    point = agreement.point
    allowed = f"tolerance {among.tolerance + point.rounding:.2%}"
    lines = [f"upper limits on the cross section in pb; reference: the published one; {allowed}"]
    if among.line:
        lines.append(
            f"theory: {point.cross_section:.5g} pb {among.at(point.mass) - 1:+.2%}, where a smooth "
            "line through the ratios of the pallet is"
        )
    mixture = _compared(agreement).get("mixture")
    return [*lines, _mixture(mixture)] if mixture else lines


def _mixture(name: str) -> str:
    fits = ", ".join(fit.replace("_", " ") for fit in name.split("+"))
    return f"mixture: at the lowest minima are {fits}; the others at the nominal"


def _percent(off: float) -> str:
    return f"{abs(off):.2%} off"


def _is_limit(mu: float) -> bool:
    """Whether it can be the denominator of a ratio."""
    return math.isfinite(mu) and mu > 0
