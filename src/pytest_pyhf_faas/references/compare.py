"""Compare a result with its reference: the verdict.

A reference has two sets of minima, the lowest and the nominal ones (see `reference`). A result is
right if all five of its fits are at those of one set and its CLs is the one that follows there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.references import diagnosis
from pytest_pyhf_faas.references.ambiguity import Ambiguity, at_minima
from pytest_pyhf_faas.references.criteria import Criteria
from pytest_pyhf_faas.references.diagnosis import ACCEPT
from pytest_pyhf_faas.references.known_issues import issues_of, same_issue
from pytest_pyhf_faas.references.places import (
    NLL_TOLERANCE,
    place_lines,
    places_of,
    sets_of,
    words,
)
from pytest_pyhf_faas.references.sameness import error_matches
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.references.cls_values import Row
    from pytest_pyhf_faas.references.criteria import Minimum
    from pytest_pyhf_faas.references.places import Place
    from pytest_pyhf_faas.references.reference import Missing, PatchReference

#: `NLL_TOLERANCE` of a certified result, which is stationary to 1e-8.
_NLL_TOLERANCE_CERTIFIED = 1e-4
#: The set of minima of all five fits and of CLs: "both" where the two sets are one, or
#: cannot be distinguished; "none" where they are at no consistent set.
At = Literal["lowest", "nominal", "both", "none"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A verdict and the reasons for it.

    Attributes
    ----------
    rows : tuple of Row
        The six CLs values next to those of the set of minima that they were compared with.
    explanation : str
        Why, in lines.
    remedy : str
        What to do about it; `ACCEPT` if the result may be the better reference.
    at : str or None
        The set of minima that the result is at; ``None`` if there is nothing to compare.
    was_at : str or None
        Where the same backend and optimizer was when it was last checked, if at the other set.
    ambiguous : Ambiguity or None
        How the two sets of the hypothesis differ, if they do.
    places : mapping
        Where each fit ended.
    """

    verdict: Verdict
    title: str
    rows: tuple[Row, ...] = ()
    explanation: str = ""
    remedy: str = ""
    at: At | None = None
    was_at: At | None = None
    ambiguous: Ambiguity | None = None
    places: Mapping[str, Place] = field(default_factory=dict)

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """The fits that are clearly nearest to another minimum than that of the set."""
        named = {self.at} if self.at in ("lowest", "nominal") else None
        return tuple(
            fit
            for fit, place in self.places.items()
            if (sets := named or place.sets) and sets <= place.away
        )


def compare(
    result: HypotestResult,
    reference: PatchReference | Missing,
    *,
    fit_setup: str,
    rtol: float | None = None,
    atol: float | None = None,
    nll_tolerance: float = NLL_TOLERANCE,
    minimum: Minimum = "any",
    ignore_known_issues: bool = False,
) -> Comparison:
    """Compare the six CLs values and the five fits of a result with those of its reference.

    Parameters
    ----------
    result : HypotestResult
        With status "ok" or "error". Of a certified one both sets of minima are compared.
    reference : PatchReference or Missing
        What it is compared with.
    fit_setup : str
        Backend and optimizer, as `HypotestConfig.fit_setup`. It decides the tolerance where none
        is given, that of the reference file or else the default, and which issues are known.
    rtol, atol : float, optional
        A value is right within ``atol + rtol * abs(reference)``, as in `numpy.isclose`.
    nll_tolerance : float
        How far from a minimum a fit may end, in twice the negative log-likelihood.
    minimum : str
        At which set of minima a result is right: "any", "lowest" or "nominal".
    ignore_known_issues : bool
        Call what is wrong wrong, known or not.
    """
    name = f"{result.pallet} / {result.patch}"
    if not reference:
        return _without_reference(name, result, reference, nll_tolerance)
    if reference.error is not None or result.error is not None:
        comparison = compare_errors(name, result, reference)
    else:
        tolerance = reference.tolerance(fit_setup, rtol, atol)
        usual = reference.tolerance(fit_setup)
        criteria = Criteria(
            *(fit_setup, *tolerance, nll_tolerance, minimum),
            usual=None if tolerance == usual else usual,
        )
        comparison = _with_minima(_compare(name, result, reference, criteria), result, reference)
        comparison = _with_history(comparison, reference, fit_setup)
    issues = [] if ignore_known_issues else issues_of(result, reference, fit_setup)
    if issues and comparison.verdict is Verdict.RIGHT:
        title = f"{name}: passes, but is listed as a known issue of {fit_setup}"
        explanation = (
            f"{issues[0].reason} ({issues[0].link})\n"
            "it appears to be fixed: remove it from known_issues, or say there which versions of "
            'pyhf have it ("pyhf": "<=VERSION")'
        )
        return replace(comparison, verdict=Verdict.FIXED, title=title, explanation=explanation)
    issue = same_issue(result, issues)
    if issue is None:
        return comparison
    return replace(comparison, verdict=Verdict.KNOWN_ISSUE, title=issue.text(fit_setup))


# The verdict


def compare_errors(name: str, result: HypotestResult, reference: PatchReference) -> Comparison:
    """Compare where either of the two is an exception."""
    if error_matches(result, reference):
        return Comparison(
            Verdict.RIGHT, f"{name}: {reference.error} was raised, which is the right answer"
        )
    if result.error is None:
        title = f"{name}: fitted, though the right answer is {reference.error}"
        values = result.cls_values
        explanation = f"obtained CLs_obs = {values[0]:.8g}" if values else ""
    else:
        title = f"{name}: {result.error.type} instead of {reference.error or 'CLs values'}"
        explanation = result.error.first_line
    return Comparison(Verdict.WRONG, title, explanation=explanation, remedy=ACCEPT)


def _without_reference(
    name: str, result: HypotestResult, missing: Missing, nll_tolerance: float
) -> Comparison:
    failed = diagnosis.contradiction(result, nll_tolerance, {})
    ambiguous = Ambiguity.of(result)
    if failed is not None:
        title = f"{name}: unconverged, and there is no reference"
        return Comparison(
            Verdict.UNCONVERGED,
            title,
            explanation=f"{failed.text}\n{missing.reason}",
            remedy=failed.remedy,
            ambiguous=ambiguous,
        )
    return Comparison(
        Verdict.NO_REFERENCE,
        f"{name}: no reference",
        explanation=missing.reason,
        remedy=missing.remedy,
        ambiguous=ambiguous,
    )


def _compare(
    name: str, result: HypotestResult, reference: PatchReference, criteria: Criteria
) -> Comparison:
    """Compare a result with a reference, without regard to known issues."""
    if criteria.minimum == "nominal" and not reference.nominal_is_known:
        return Comparison(
            Verdict.NO_REFERENCE,
            f"{name}: no reference at the nominal minima",
            explanation=f"{reference.path} has only the lowest minima",
            remedy="--faas-update=all, which adds the nominal ones",
        )
    if not result.certificate:
        return _Match(name, result, reference, criteria).comparison()
    tight = min(criteria.nll_tolerance, _NLL_TOLERANCE_CERTIFIED)
    criteria = replace(criteria, nll_tolerance=tight)
    several = reference.nominal_is_known and (result.ambiguous or reference.ambiguous)
    if several and criteria.minimum == "nominal":
        return _compare_nominal(name, result, reference, criteria)
    lowest = _Match(name, result, reference, replace(criteria, minimum="lowest")).comparison()
    if not several or criteria.minimum == "lowest" or lowest.verdict is not Verdict.RIGHT:
        return lowest
    nominal = _compare_nominal(name, result, reference, criteria)
    if nominal.verdict is not Verdict.RIGHT:
        return nominal
    title = f"{name}: CLs agrees with the reference at both sets of minima"
    return replace(lowest, title=title, at="both")


def _compare_nominal(
    name: str, result: HypotestResult, reference: PatchReference, criteria: Criteria
) -> Comparison:
    """Compare the nominal minima of a certified result with those of the reference."""
    found, known = result.nominal, reference.nominal
    rows = criteria.rows(found, known)
    apart = {
        fit: found.twice_nll[fit] - minimum
        for fit, minimum in known.twice_nll.items()
        if fit in found.twice_nll
        and abs(found.twice_nll[fit] - minimum) > criteria.nll_tolerance + reference.rounding
    }
    if not apart and all(row.within for row in rows):
        title = f"{name}: CLs agrees with the reference at the nominal minima"
        return Comparison(Verdict.RIGHT, title, rows, at="nominal")
    title = f"{name}: CLs at the nominal minima differs from the reference"
    if apart and diagnosis.model_change(result, reference) is None:
        changes = ", ".join(f"{words(fit)} {gap:+.3g}" for fit, gap in apart.items())
        cause = diagnosis.Cause(
            f"verdict: the nominal minima changed, in twice-NLL: {changes}", ACCEPT
        )
    else:
        cause = diagnosis.why(
            *(at_minima(result, found), reference, known, criteria.nll_tolerance),
            criteria.if_usual(rows),
        )
    return Comparison(Verdict.WRONG, title, rows, *cause.with_lines(criteria.tolerance), at="none")


class _Match:
    """Five fits among the minima of a reference, and CLs next to that of each of its two sets."""

    def __init__(
        self,
        name: str,
        result: HypotestResult,
        reference: PatchReference,
        criteria: Criteria,
    ) -> None:
        self.name = name
        self.result = result
        self.reference = reference
        self.criteria = criteria
        self.sets = sets_of(reference)
        self.rows = {n: criteria.rows(result.lowest, minima) for n, minima in self.sets.items()}
        changed = diagnosis.model_change(result, reference) is not None
        # For another model, only CLs can be compared.
        self.places = {} if changed else places_of(result, reference, criteria.nll_tolerance)
        #: The sets that all five fits are at.
        self.consistent = [
            n for n in self.sets if all(n in place.sets for place in self.places.values())
        ]

    def comparison(self) -> Comparison:
        """Return the comparison."""
        failed = diagnosis.contradiction(self.result, self.criteria.nll_tolerance, self.places)
        if failed is None and self.consistent:
            return self._by_cls()
        kinds = {place.kind for place in self.places.values()}
        if failed is not None or "above" in kinds:
            verdict, what = Verdict.UNCONVERGED, "unconverged"
            cause = failed or diagnosis.stopped_above(self.result, self.places)
        elif "below" in kinds:
            verdict, what = Verdict.WRONG, "below the reference"
            fit, gap = next((f, p.gap) for f, p in self.places.items() if p.kind == "below")
            cause = diagnosis.ends_below(fit, gap)
        elif self.result.certificate:
            verdict, what = Verdict.UNCONVERGED, "unconverged"
            cause = diagnosis.missed(self.result, self.places)
        else:
            verdict, what = Verdict.MIXED, "at minima of no consistent set"
            cause = diagnosis.mixed(self.result)
        if self._worth_listing(verdict):
            cause = cause.with_lines(*place_lines(self.places, self.criteria.nll_tolerance))
        return self._not_right(verdict, self._nearest(self.sets), cause, what)

    def _by_cls(self) -> Comparison:
        """Judge CLs, where the fits are at a consistent set or at both."""
        wanted = [n for n in self.sets if self.criteria.minimum in ("any", n) or n == "both"]
        right = [n for n in self.consistent if all(row.within for row in self.rows[n])]
        accepted = [n for n in right if n in wanted]
        if accepted:
            chosen = self._nearest(accepted)
            where = f" at the {chosen} minima" if self.reference.ambiguous else ""
            return Comparison(
                Verdict.RIGHT,
                f"{self.name}: CLs agrees with the reference{where}",
                self.rows[chosen],
                at=_at("both" if len(right) > 1 else chosen),
                places=self.places,
            )
        if right:
            return self._at_the_other(right[0], wanted[0])
        chosen = self._nearest([n for n in self.consistent if n in wanted] or self.consistent)
        elsewhere = [fit for fit, place in self.places.items() if chosen in place.away]
        if not elsewhere:
            cause = diagnosis.why(
                *(self.result, self.reference, self.sets[chosen], self.criteria.nll_tolerance),
                self.criteria.if_usual(self.rows[chosen]),
            )
            return self._not_right(Verdict.WRONG, chosen, cause)
        which = "nominal" if chosen == "nominal" else "lowest"
        fits = ", ".join(map(words, elsewhere))
        detail = f"nearest to another minimum than the {which} one: {fits}"
        cause = diagnosis.mixed(self.result).with_lines(detail)
        return self._not_right(Verdict.MIXED, chosen, cause)

    def _at_the_other(self, at: str, wanted: str) -> Comparison:
        """Return the comparison of a result that is right, but at the set that does not count."""
        if self.result.certificate:
            verdict = Verdict.UNCONVERGED
            title = f"{self.name}: the search ended at the {at} minima"
            cause = diagnosis.missed(self.result, self.places)
        else:
            verdict = Verdict.WRONG
            title = f"{self.name}: at the {at} minima, not at the {wanted} ones"
            cause = diagnosis.Cause(
                f"verdict: all five fits are at the {at} minima and CLs agrees there, but "
                f"--faas-minimum={wanted} accepts only the {wanted} ones",
                "--faas-minimum=any accepts either",
            )
        rows = self.rows[wanted]
        return Comparison(verdict, title, rows, *cause, at=_at(at), places=self.places)

    def _not_right(
        self, verdict: Verdict, which: str, cause: diagnosis.Cause, what: str = ""
    ) -> Comparison:
        """Return the comparison of a result that is at no set, with its CLs next to that of one."""
        rows = self.rows[which]
        if all(row.within for row in rows):
            title = f"{self.name}: {what}, though CLs agrees"
        else:
            cause = cause.with_lines(self.criteria.tolerance)
            undefined = any(math.isnan(row.obtained) and not row.within for row in rows)
            differs = "is not a number" if undefined else "differs from the reference"
            title = f"{self.name}: CLs {differs}"
        return Comparison(verdict, title, rows, *cause, at="none", places=self.places)

    def _worth_listing(self, verdict: Verdict) -> bool:
        """Whether the places of the fits say more than that one is above the only minimum."""
        astray = [p for p in self.places.values() if p.kind not in ("known", "not comparable")]
        return verdict is Verdict.MIXED or self.reference.ambiguous or len(astray) > 1

    def _nearest(self, names: Iterable[str]) -> str:
        """Return the set of minima whose CLs values are the nearest."""

        def distance(name: str) -> float:
            relative = [abs(row.relative) for row in self.rows[name] if not row.indifferent]
            return math.inf if any(map(math.isnan, relative)) else max(relative, default=0.0)

        return min(names, key=distance)


def _at(name: str) -> At:
    return "lowest" if name == "lowest" else "nominal" if name == "nominal" else "both"


def _with_minima(
    comparison: Comparison, result: HypotestResult, reference: PatchReference
) -> Comparison:
    """Add how the two sets of minima differ."""
    ambiguous = Ambiguity.of(reference) or Ambiguity.of(result)
    if ambiguous is None:
        return comparison
    return replace(
        comparison,
        ambiguous=ambiguous,
        explanation="\n".join(filter(None, (comparison.explanation, *ambiguous.lines))),
    )


def _with_history(comparison: Comparison, reference: PatchReference, fit_setup: str) -> Comparison:
    """Add at which set of minima the same backend and optimizer was before, if at the other."""
    checked = reference.checked.get(fit_setup)
    before: Any = checked and checked.get("set")
    if {before, comparison.at} != {"lowest", "nominal"}:
        return comparison
    line = (
        f"{fit_setup} was at the {before} minima when it was last checked, and is at the "
        f"{comparison.at} ones now"
    )
    explanation = "\n".join(filter(None, (comparison.explanation, line)))
    return replace(comparison, was_at=before, explanation=explanation)
