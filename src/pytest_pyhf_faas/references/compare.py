"""A result and its reference become a verdict, and the text that a person reads.

A reference has two sets of minima, the lowest and the nominal ones (see `reference`). A result is
right if all five of its fits are at those of one set and its CLs is the one that follows there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.campaign.results import CLS_LABELS, environment_differences
from pytest_pyhf_faas.campaign.tasks import CERTIFIED
from pytest_pyhf_faas.references import reasons
from pytest_pyhf_faas.references.file import same_error, same_minima
from pytest_pyhf_faas.references.places import NLL_TOLERANCE, listed, places_of, sets_of, words
from pytest_pyhf_faas.references.reference import DEFAULT_ATOL, EXCLUDED, Missing, close, flips
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult, MinimumSet
    from pytest_pyhf_faas.references.places import Place
    from pytest_pyhf_faas.references.reference import KnownIssue, PatchReference

#: The same of a certified result, which is stationary to 1e-8.
_NLL_TOLERANCE_CERTIFIED = 1e-4
#: How near the value of a known issue must be to the one that was found: relative, absolute.
_SAME_ISSUE = (1e-2, 1e-6)

#: At which set of minima all five fits are, and CLs as well: "both" where the two sets are one, or
#: cannot be told apart; "none" where they are at no consistent set.
At = Literal["lowest", "nominal", "both", "none"]
#: Which sets of minima a result may be at to be right, as ``--faas-minimum`` names them.
Minimum = Literal["any", "lowest", "nominal"]


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
class Ambiguity:
    """What the two sets of minima of a hypothesis differ in.

    Attributes
    ----------
    lowest, nominal : tuple of float, shape (6,)
        CLs_obs and the five CLs_exp at each of them.
    differences : tuple of mapping
        As in `PatchReference`; the largest gap first.
    flips : bool
        Whether the hypothesis is excluded at one of the two alone.
    """

    lowest: tuple[float, ...]
    nominal: tuple[float, ...]
    differences: tuple[Mapping[str, Any], ...]
    flips: bool

    @classmethod
    def of(cls, source: PatchReference | HypotestResult) -> Ambiguity | None:
        """Return the ambiguity of a reference, or of a certified result, if it has one."""
        nominal = source.nominal
        if not source.ambiguous:
            return None
        differences = sorted(source.differences, key=lambda each: -abs(each["gap"]))
        return cls(
            source.lowest.cls_values,
            nominal.cls_values,
            tuple(differences),
            flips(source.lowest, nominal),
        )

    @property
    def gap(self) -> float:
        """The largest gap between the two minima of a fit, in twice the NLL."""
        return float(self.differences[0]["gap"]) if self.differences else 0.0

    @property
    def fit(self) -> str:
        """The fit that has the largest gap."""
        return str(self.differences[0]["fit"]) if self.differences else ""

    @property
    def parameters(self) -> tuple[Mapping[str, Any], ...]:
        """The parameters of that fit that differ most."""
        return tuple(self.differences[0]["parameters"]) if self.differences else ()

    @property
    def at_bound(self) -> tuple[str, ...]:
        """Parameters that lie at a bound at either minimum of any fit."""
        names = (name for each in self.differences for name in each["at_bound"])
        return tuple(dict.fromkeys(names))

    @property
    def lines(self) -> list[str]:
        """What a person reads of it."""
        observed = {"lowest": self.lowest[0], "nominal": self.nominal[0]}
        values = " and ".join(f"{value:.4g} at the {name}" for name, value in observed.items())
        lines = [f"ambiguous: CLs_obs is {values} minima"]
        if self.flips:
            (excluded,) = (name for name, value in observed.items() if value < EXCLUDED)
            lines[0] += f"; excluded at the {excluded} ones alone"
        if self.differences:
            parameters = ", ".join(
                f"{each['name']} {each['lowest']:.3g} (nominal: {each['nominal']:.3g})"
                for each in self.parameters
            )
            lines.append(
                f"they differ most in the {words(self.fit)}, by {self.gap:.3g} in twice-NLL"
                + (f": {parameters}" if parameters else "")
            )
        if self.at_bound:
            lines.append(f"at a bound in one of them: {', '.join(self.at_bound)}")
        return lines


@dataclass(frozen=True, slots=True)
class Comparison:
    """A verdict with what it rests on.

    Attributes
    ----------
    rows : tuple of Row
        The six CLs values beside those of the set of minima that they were compared with.
    explanation : str
        Why, in lines.
    at : str or None
        The set of minima that the result is at; ``None`` where there is nothing to compare.
    was_at : str or None
        Where the same backend and optimizer was when it was last checked, if at the other set.
    ambiguous : Ambiguity or None
        What the two sets of the hypothesis differ in, if they do.
    places : mapping
        Where each fit ended.
    """

    verdict: Verdict
    title: str
    rows: tuple[Row, ...] = ()
    explanation: str = ""
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


@dataclass(frozen=True, slots=True)
class _Criteria:
    """When a result is right."""

    fit_setup: str
    rtol: float
    atol: float
    nll_tolerance: float
    minimum: Minimum

    @property
    def tolerance(self) -> str:
        return f"tolerance {self.rtol:g} relative, {self.atol:g} absolute"

    def rows(self, found: MinimumSet, reference: MinimumSet) -> tuple[Row, ...]:
        """Return the six values beside those of a set of minima."""
        return tuple(
            Row(label, obtained, expected, close(obtained, expected, self.rtol, self.atol))
            for label, obtained, expected in zip(
                CLS_LABELS, found.cls_values, reference.cls_values, strict=True
            )
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
    if isinstance(reference, Missing):
        return _without_reference(name, result, reference.reason, nll_tolerance)
    if reference.error is not None or result.error is not None:
        comparison = _compare_errors(name, result, reference)
    else:
        tolerance = reference.tolerance(fit_setup, rtol, atol)
        criteria = _Criteria(fit_setup, *tolerance, nll_tolerance, minimum)
        comparison = _with_minima(_compare(name, result, reference, criteria), result, reference)
        comparison = _with_history(comparison, reference, fit_setup)
    issue = reference.known_issues.get(fit_setup)
    if issue is None or ignore_known_issues:
        return comparison
    if comparison.verdict is Verdict.RIGHT:
        title = f"{name}: passes, but is listed as a known issue of {fit_setup}"
        explanation = (
            f"{issue.reason} ({issue.link})\nit appears to be fixed: remove it from known_issues"
        )
        return replace(comparison, verdict=Verdict.FIXED, title=title, explanation=explanation)
    if _is_same_issue(result, issue):
        title = f"known issue of {fit_setup}: {issue.reason} ({issue.link})"
        return replace(comparison, verdict=Verdict.KNOWN_ISSUE, title=title)
    return comparison


def error_matches(result: HypotestResult, reference: PatchReference | Missing) -> bool:
    """Whether a result is the very exception that its reference calls the right answer.

    It may be that of another program: the last part of its type counts.
    """
    return (
        not isinstance(reference, Missing)
        and result.error is not None
        and result.status == "error"
        and same_error(result.error.type, reference.error)
    )


def at_minima(result: HypotestResult, minima: MinimumSet) -> HypotestResult:
    """Return a certified result with the values of one of its sets of minima."""
    return replace(
        result,
        CLs_obs=minima.CLs_obs,
        CLs_exp=minima.CLs_exp,
        mu_hat=minima.mu_hat,
        twice_nll=minima.twice_nll,
        twice_nll_asimov_truth=minima.twice_nll.get("free_fit_to_asimov"),
    )


def is_known_error(
    result: HypotestResult, reference: PatchReference | Missing, fit_setup: str
) -> KnownIssue | None:
    """Return the known issue that is the exception of a result, if there is one."""
    if isinstance(reference, Missing) or result.error is None:
        return None
    issue = reference.known_issues.get(fit_setup)
    return issue if issue is not None and _is_same_issue(result, issue) else None


def moved(result: HypotestResult, reference: PatchReference | Missing) -> bool:
    """Whether a certified result has other sets of minima than its reference."""
    if isinstance(reference, Missing) or result.error is not None or reference.error is not None:
        return False
    if not reference.nominal_is_known and result.ambiguous:
        return True
    pairs = ((result.lowest, reference.lowest), (result.nominal, reference.nominal))
    return not all(same_minima(found, known, reference.rounding) for found, known in pairs)


# The verdict


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


def _without_reference(
    name: str, result: HypotestResult, reason: str, nll_tolerance: float
) -> Comparison:
    failed = reasons.contradiction(result, nll_tolerance, {})
    ambiguous = Ambiguity.of(result)
    if failed is not None:
        title = f"{name}: unconverged, and there is no reference"
        return Comparison(
            Verdict.UNCONVERGED, title, explanation=f"{failed}\n{reason}", ambiguous=ambiguous
        )
    return Comparison(
        Verdict.NO_REFERENCE, f"{name}: no reference", explanation=reason, ambiguous=ambiguous
    )


def _compare(
    name: str, result: HypotestResult, reference: PatchReference, criteria: _Criteria
) -> Comparison:
    """Compare a result with a reference, whatever issues are known."""
    if criteria.minimum == "nominal" and not reference.nominal_is_known:
        return Comparison(
            Verdict.NO_REFERENCE,
            f"{name}: no reference at the nominal minima",
            explanation=f"{reference.path} has the lowest minima alone: --faas-update=all adds the "
            "nominal ones",
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
    name: str, result: HypotestResult, reference: PatchReference, criteria: _Criteria
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
    if apart and reasons.model_change(result, reference) is None:
        changes = ", ".join(f"{words(fit)} {gap:+.3g}" for fit, gap in apart.items())
        reason = f"verdict: the nominal minima are others, in twice-NLL: {changes}"
    else:
        reason = reasons.why(at_minima(result, found), reference, known, criteria.nll_tolerance)
    return Comparison(Verdict.WRONG, title, rows, f"{reason}\n{criteria.tolerance}", at="none")


class _Match:
    """Five fits among the minima of a reference, and CLs beside that of each of its two sets."""

    def __init__(
        self,
        name: str,
        result: HypotestResult,
        reference: PatchReference,
        criteria: _Criteria,
    ) -> None:
        self.name = name
        self.result = result
        self.reference = reference
        self.criteria = criteria
        self.sets = sets_of(reference)
        self.rows = {n: criteria.rows(result.lowest, minima) for n, minima in self.sets.items()}
        changed = reasons.model_change(result, reference) is not None
        # Of another model nothing can be said but of its CLs.
        self.places = {} if changed else places_of(result, reference, criteria.nll_tolerance)
        #: The sets that all five fits are at.
        self.consistent = [
            n for n in self.sets if all(n in place.sets for place in self.places.values())
        ]

    def comparison(self) -> Comparison:
        """Return what is to be said."""
        failed = reasons.contradiction(self.result, self.criteria.nll_tolerance, self.places)
        if failed is None and self.consistent:
            return self._by_cls()
        kinds = {place.kind for place in self.places.values()}
        if failed is not None or "above" in kinds:
            verdict, what = Verdict.UNCONVERGED, "unconverged"
            reason = failed or reasons.stopped_above(self.result, self.places)
        elif "below" in kinds:
            verdict, what = Verdict.WRONG, "below the reference"
            fit, gap = next((f, p.gap) for f, p in self.places.items() if p.kind == "below")
            reason = reasons.ends_below(fit, gap)
        elif self.result.certificate:
            verdict, what = Verdict.UNCONVERGED, "unconverged"
            reason = reasons.missed(self.result, self.places)
        else:
            verdict, what = Verdict.MIXED, "at minima of no consistent set"
            reason = reasons.MIXED
        fits = listed(self.places) if self._worth_listing(verdict) else []
        return self._not_right(verdict, self._nearest(self.sets), [reason, *fits], what)

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
            reason = reasons.why(
                self.result, self.reference, self.sets[chosen], self.criteria.nll_tolerance
            )
            return self._not_right(Verdict.WRONG, chosen, [reason])
        which = "nominal" if chosen == "nominal" else "lowest"
        fits = ", ".join(map(words, elsewhere))
        lines = [f"nearest to another minimum than the {which} one: {fits}"]
        return self._not_right(Verdict.MIXED, chosen, [reasons.MIXED, *lines])

    def _at_the_other(self, at: str, wanted: str) -> Comparison:
        """Return what is said of a result that is right, but at the set that does not count."""
        if self.result.certificate:
            verdict = Verdict.UNCONVERGED
            title = f"{self.name}: the search ended at the {at} minima"
            reason = reasons.missed(self.result, self.places)
        else:
            verdict = Verdict.WRONG
            title = f"{self.name}: at the {at} minima, not at the {wanted} ones"
            reason = (
                f"verdict: all five fits are at the {at} minima and CLs agrees there, but "
                f"--faas-minimum={wanted} accepts the {wanted} ones alone"
            )
        return Comparison(verdict, title, self.rows[wanted], reason, at=_at(at), places=self.places)

    def _not_right(
        self, verdict: Verdict, beside: str, lines: list[str], what: str = ""
    ) -> Comparison:
        """Return what is said of a result that is at no set, with its CLs beside that of one."""
        rows = self.rows[beside]
        if all(row.within for row in rows):
            title = f"{self.name}: {what}, though CLs agrees"
        else:
            lines.append(self.criteria.tolerance)
            undefined = any(math.isnan(row.obtained) and not row.within for row in rows)
            differs = "is not a number" if undefined else "differs from the reference"
            title = f"{self.name}: CLs {differs}"
        return Comparison(verdict, title, rows, "\n".join(lines), at="none", places=self.places)

    def _worth_listing(self, verdict: Verdict) -> bool:
        """Whether where each fit is says more than that one is above the only minimum."""
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
    """Add what the two sets of minima differ in."""
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
    before: Any = reference.checked.get(fit_setup, {}).get("set")
    if {before, comparison.at} != {"lowest", "nominal"}:
        return comparison
    line = (
        f"{fit_setup} was at the {before} minima when it was last checked, and is at the "
        f"{comparison.at} ones now"
    )
    explanation = "\n".join(filter(None, (comparison.explanation, line)))
    return replace(comparison, was_at=before, explanation=explanation)


def _is_same_issue(result: HypotestResult, issue: KnownIssue) -> bool:
    if issue.error is not None or result.error is not None:
        return result.error is not None and same_error(result.error.type, issue.error)
    return all(
        close(obtained, known, *_SAME_ISSUE)
        for obtained, known in zip(result.cls_values, issue.cls_values, strict=True)
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
