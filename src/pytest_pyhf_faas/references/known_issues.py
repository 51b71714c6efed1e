"""What one fit setup gets wrong in a way that is understood, as reference files list it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from pytest_pyhf_faas.references.cls_values import close
from pytest_pyhf_faas.references.sameness import same_error

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.references.reference import Missing, PatchReference

#: How close a result must be to the value of a known issue: relative, absolute.
_SAME_ISSUE = (1e-2, 1e-6)
_NEWEST = Version("9999")


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
    pyhf : str
        The versions of pyhf that have it, such as ``<=0.7.6``; empty for all.
    """

    reason: str
    link: str
    cls_values: tuple[float, ...] = ()
    error: str | None = None
    pyhf: str = ""

    def text(self, fit_setup: str) -> str:
        """Return the text about it."""
        where = f" with pyhf {self.pyhf}" if self.pyhf else ""
        return f"known issue of {fit_setup}{where}: {self.reason} ({self.link})"


def concerns(pyhf: str, version: str | None) -> bool:
    """Whether a version of pyhf is one of those that have an issue; an unknown version may be.

    Parameters
    ----------
    pyhf : str
        The versions that have it, as pip specifies them; empty for all.
    version : str or None
        The version. One of development counts as newer than all releases, since pyhf's main branch
        calls itself 0.7.1.devN, after the last release that was made from it.
    """
    try:
        known = Version(version or "")
    except InvalidVersion:
        return True
    if known.is_devrelease:
        known = _NEWEST
    return SpecifierSet(pyhf).contains(known, prereleases=True)


def issues_of(
    result: HypotestResult, reference: PatchReference | Missing, fit_setup: str
) -> list[KnownIssue]:
    """Return what a fit setup is known to get wrong with the pyhf of a result."""
    if not reference:
        return []
    version = result.environment.versions.get("pyhf") if result.environment else None
    return [i for i in reference.known_issues.get(fit_setup, ()) if concerns(i.pyhf, version)]


def is_known_error(
    result: HypotestResult, reference: PatchReference | Missing, fit_setup: str
) -> KnownIssue | None:
    """Return the known issue with the exception of a result, if there is one."""
    if result.error is None:
        return None
    return same_issue(result, issues_of(result, reference, fit_setup))


def same_issue(result: HypotestResult, issues: Iterable[KnownIssue]) -> KnownIssue | None:
    """Return the known issue that a wrong result matches, if there is one."""
    return next((issue for issue in issues if _is_same(result, issue)), None)


def _is_same(result: HypotestResult, issue: KnownIssue) -> bool:
    """Whether a wrong result matches a known issue."""
    if issue.error is not None or result.error is not None:
        return result.error is not None and same_error(result.error.type, issue.error)
    return all(
        close(obtained, known, *_SAME_ISSUE)
        for obtained, known in zip(result.cls_values, issue.cls_values, strict=True)
    )
