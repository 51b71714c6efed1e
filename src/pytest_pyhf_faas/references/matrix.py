"""How each backend and optimizer compares with the references of a pallet.

`table` shows it; `notes` is what reference files record: the minima that each fit setup is
at, how far it is from them, the tolerance that follows, and what it gets wrong: what is at no
consistent set of minima. ``pyhf-faas matrix`` is the command.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas import wording
from pytest_pyhf_faas.references.cls_values import default_rtol
from pytest_pyhf_faas.references.compare import compare
from pytest_pyhf_faas.references.limit_values import limit_tolerance
from pytest_pyhf_faas.references.limits import compare_limits
from pytest_pyhf_faas.references.reference import TOLERANCE_MARGIN
from pytest_pyhf_faas.references.sameness import last_part
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.references.compare import At
    from pytest_pyhf_faas.references.reference import Missing, PatchReference

ISSUES = "https://github.com/scikit-hep/pyhf/issues"
#: CLs that is off by less than this does not distinguish two minima.
_ONE_MINIMUM = 1e-3
_SMALLEST_RTOL = 1e-6
_LEGEND = (
    "(right: at the lowest minima, the nominal ones, or both, where they are the same; "
    "{what} off by: median / largest; fit: median)"
)
_NO_EXCEPTION = "no exception"
#: A converged fit that is farther off than this is wrong nonetheless.
_LARGEST_RTOL = 0.1


#: Verdicts of a hypothesis that is not right.
_NOT_RIGHT = (Verdict.MIXED, Verdict.UNCONVERGED, Verdict.WRONG, Verdict.ERROR)
#: How a right one is counted, by the set of minima that it is at.
_SETS: tuple[At, ...] = ("lowest", "nominal", "both")


@dataclass(frozen=True, slots=True)
class Finding:
    """How one fit setup did on one hypothesis.

    Attributes
    ----------
    verdict : Verdict
        Right, mixed, unconverged, wrong, or an exception.
    at : str
        The set of minima that it is at: "lowest", "nominal", "both" (the two are one) or "none".
    cls : float
        Largest relative difference of CLs, or of upper limits, from that set, or else from the
        nearest; infinite where there are no values.
    twice_nll : float
        Largest difference of the twice NLL of the fits, from the same.
    passes : bool
        Whether a run passes it, as it does a NaN where nothing is excluded.
    """

    patch: str
    verdict: Verdict
    at: At
    cls: float
    twice_nll: float
    fit_s: float
    result: HypotestResult
    passes: bool


def judge(
    result: HypotestResult, reference: PatchReference | Missing, setup: str
) -> Finding | None:
    """Return how a result compares with its certified reference; ``None`` without one.

    Known issues and tolerances do not count: they are what is to be found.

    Parameters
    ----------
    result, reference : HypotestResult, PatchReference or Missing
        As of `compare`.
    setup : str
        Backend and optimizer, as `HypotestConfig.fit_setup`.
    """
    if not reference:
        return None
    fit_s = result.seconds.get("fit", 0.0)
    comparison = compare(
        result, reference, fit_setup=setup, rtol=_LARGEST_RTOL, ignore_known_issues=True
    )
    verdict = comparison.verdict
    right = verdict is Verdict.RIGHT
    if reference.error is not None or result.error is not None:
        return _of_error(result, fit_s, right=right)
    relative = [abs(row.relative) for row in comparison.rows if not row.indifferent]
    largest = max(relative, default=0.0)
    if right and largest > _ONE_MINIMUM and comparison.elsewhere:
        verdict = Verdict.MIXED  # another minimum that is hardly higher
    passes = verdict is Verdict.RIGHT
    if passes and any(map(math.isnan, result.cls_values[:1])):
        verdict, largest = Verdict.WRONG, math.nan
    at: At = (comparison.at or "none") if verdict is Verdict.RIGHT else "none"
    minima = reference.nominal if at == "nominal" else reference.lowest
    gaps = [
        result.twice_nll[fit] - minimum
        for fit, minimum in minima.twice_nll.items()
        if fit in result.twice_nll
    ]
    gap = max(gaps, key=abs, default=0.0)
    return Finding(result.patch, verdict, at, largest, gap, fit_s, result, passes)


def judge_limits(
    result: HypotestResult, reference: PatchReference | Missing, setup: str
) -> Finding | None:
    """Return how upper limits compare with those of their reference; ``None`` without these.

    Fits say nothing about limits, so the tolerance of the fit setup decides.
    """
    if not reference or (reference.limits is None and reference.error is None):
        return None
    fit_s = result.seconds.get("fit", 0.0)
    comparison = compare_limits(result, reference, tolerance=limit_tolerance(setup))
    right = comparison.verdict is Verdict.RIGHT
    if reference.error is not None or result.error is not None:
        return _of_error(result, fit_s, right=right)
    largest = max(abs(row.relative) for row in comparison.rows)
    at: At = comparison.at or "none"
    return Finding(result.patch, comparison.verdict, at, largest, 0.0, fit_s, result, right)


def _of_error(result: HypotestResult, fit_s: float, *, right: bool) -> Finding:
    """Return the finding for an exception, which may be the right answer."""
    distance = 0.0 if right else math.inf
    at: At = "both" if right else "none"
    verdict = Verdict.RIGHT if right else Verdict.ERROR
    return Finding(result.patch, verdict, at, distance, distance, fit_s, result, right)


def table(
    pallet: str, findings: Mapping[str, Sequence[Finding]], width: int, what: str = "CLs"
) -> list[str]:
    """Return the lines of the table of one pallet, none of them longer than a width."""
    said = {each.verdict for found in findings.values() for each in found}
    not_right = [verdict for verdict in _NOT_RIGHT if verdict in said]
    header = ("", *_SETS, *(each.value for each in not_right), f"{what} off by", "fit [s]")
    rows = []
    for fit_setup, found in findings.items():
        right = [sum(f.verdict is Verdict.RIGHT and f.at == at for f in found) for at in _SETS]
        wrong = [sum(f.verdict is verdict for f in found) for verdict in not_right]
        distances = [finding.cls for finding in found if math.isfinite(finding.cls)]
        times = [finding.fit_s for finding in found if finding.fit_s]
        rows.append(
            (
                fit_setup,
                *(str(count) for count in (*right, *wrong)),
                f"{median(distances):.0e} / {max(distances):.0e}" if distances else "-",
                f"{median(times):.2f}" if times else "-",
            )
        )
    count = max((len(found) for found in findings.values()), default=0)
    lines = [
        f"{pallet}: {counted(count, 'hypothesis')}",
        _LEGEND.format(what=what),
    ]
    lines += [f"  {line}" for line in wording.table(header, rows, width - 2)]
    return wording.folded("\n".join(lines), width).split("\n")


def notes(fit_setup: str, findings: Sequence[Finding]) -> dict[str, Any]:
    """Return what a reference file notes of one fit setup; see `ReferenceStore.note`."""
    checked = {}
    issues: dict[tuple[Verdict, str], dict[str, Any]] = {}
    for finding in findings:
        checked[finding.patch] = _checked(finding)
        if not finding.passes:
            kind = finding.verdict, _error_type(finding.result)
            issues.setdefault(kind, {})[finding.patch] = _wrong_values(finding.result)
    return {
        "pyhf": _pyhf(findings),
        "checked": checked,
        "rtol": _tolerance(fit_setup, findings),
        "known_issues": [
            {"fit_setup": fit_setup, **_reason(*kind, fit_setup), "patches": patches}
            for kind, patches in issues.items()
        ],
    }


def _pyhf(findings: Sequence[Finding]) -> str | None:
    """Return the version of pyhf that did the fits, where it is one."""
    environments = (finding.result.environment for finding in findings)
    versions = {each.versions.get("pyhf") for each in environments if each is not None}
    return versions.pop() if len(versions) == 1 else None


def noted(fit_setup: str, findings: Sequence[Finding]) -> str:
    """Say what a reference file notes of one fit setup."""
    parts = [f"{fit_setup}: {counted(len(findings), 'hypothesis')} noted"]
    issues = sum(not finding.passes for finding in findings)
    if issues:
        parts.append(f"{issues} as {'a known issue' if issues == 1 else 'known issues'}")
    errors = Counter(
        last_part(finding.result.error.type) for finding in findings if finding.result.error
    )
    parts += [f"{count} with {error}" for error, count in sorted(errors.items())]
    return ", ".join(parts)


def _tolerance(fit_setup: str, findings: Sequence[Finding]) -> float:
    """Return the smallest relative tolerance, to one digit, that gives no false alarm.

    The default where nothing was right.
    """
    right = [finding.cls for finding in findings if finding.verdict is Verdict.RIGHT]
    if not right:
        return default_rtol(fit_setup)
    rtol = max(_SMALLEST_RTOL, TOLERANCE_MARGIN * max(right))
    digits = math.floor(math.log10(rtol))
    return float(f"{math.ceil(rtol / 10**digits - 1e-9)}e{digits}")


def _checked(finding: Finding) -> dict[str, Any]:
    entry: dict[str, Any] = {"set": finding.at, "fit_s": float(f"{finding.fit_s:.3g}")}
    if finding.result.error is not None:
        return {**entry, "error": finding.result.error.type}
    return {**entry, "cls": _rounded(finding.cls), "twice_nll": _rounded(finding.twice_nll)}


def _wrong_values(result: HypotestResult) -> dict[str, Any]:
    if result.error is not None:
        return {"error": result.error.type}
    return {
        "CLs_obs": _rounded(result.CLs_obs, 6),
        "CLs_exp": [_rounded(value, 6) for value in result.CLs_exp],
    }


def _error_type(result: HypotestResult) -> str:
    return result.error.type if result.error is not None else _NO_EXCEPTION


def _reason(verdict: Verdict, error: str, fit_setup: str) -> dict[str, str]:
    """Return reason and link of a known issue."""
    optimizer = fit_setup.rpartition("+")[2]
    if verdict is Verdict.MIXED:
        return {
            "reason": "the fits end at minima of no consistent set",
            "link": f"{ISSUES}/1032",
        }
    if verdict is Verdict.UNCONVERGED:
        return {
            "reason": f"{optimizer} stops above the minimum and says that it succeeded",
            "link": f"{ISSUES}/1320",
        }
    if verdict is Verdict.WRONG:
        return {"reason": "CLs is off although the fits have converged", "link": f"{ISSUES}/1320"}
    if error == _NO_EXCEPTION:
        return {"reason": "pyhf fits what has no model", "link": ISSUES}
    return {"reason": f"{optimizer} raises {error.rpartition('.')[2]}", "link": f"{ISSUES}/635"}


def _rounded(value: float | None, digits: int = 2) -> float | str:
    if value is None or not math.isfinite(value):
        return str(value)
    return float(f"{value:.{digits}g}")
