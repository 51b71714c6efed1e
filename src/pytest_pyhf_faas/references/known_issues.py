"""What one fit setup gets wrong in a way that is understood, as reference files list it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_pyhf_faas.references.cls_values import close
from pytest_pyhf_faas.references.sameness import same_error

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.references.reference import Missing, PatchReference

#: How near the value of a known issue must be to the one that was found: relative, absolute.
_SAME_ISSUE = (1e-2, 1e-6)


@dataclass(frozen=True, slots=True)
class KnownIssue:
    """What one backend and optimizer get wrong in a way that is understood.

    Attributes
    ----------
    reason, link : str
        Why, and where that is explained.
    cls_values : tuple of float
        The wrong CLs_obs and CLs_exp; empty where `error` comes instead.
    error : str or None
        Type of the exception.
    """

    reason: str
    link: str
    cls_values: tuple[float, ...] = ()
    error: str | None = None


def is_known_error(
    result: HypotestResult, reference: PatchReference | Missing, fit_setup: str
) -> KnownIssue | None:
    """Return the known issue that is the exception of a result, if there is one."""
    if not reference or result.error is None:
        return None
    issue = reference.known_issues.get(fit_setup)
    return issue if issue is not None and is_same_issue(result, issue) else None


def is_same_issue(result: HypotestResult, issue: KnownIssue) -> bool:
    """Whether a result is wrong in the way that an issue says."""
    if issue.error is not None or result.error is not None:
        return result.error is not None and same_error(result.error.type, issue.error)
    return all(
        close(obtained, known, *_SAME_ISSUE)
        for obtained, known in zip(result.cls_values, issue.cls_values, strict=True)
    )
