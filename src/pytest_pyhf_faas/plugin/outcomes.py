"""The outcome of an item in pytest: an error, a failure, a skip, or an expected failure.

A fit that broke is an ERROR, since it is refused in the setup of its item; a CLs value that
differs is a FAILED.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NoReturn

import pytest

from pytest_pyhf_faas.campaign.quantities import Limits
from pytest_pyhf_faas.plugin import notes
from pytest_pyhf_faas.plugin.no_reference import no_reference_text
from pytest_pyhf_faas.plugin.rerun import rerun_command
from pytest_pyhf_faas.plugin.terminal import broken_text, failure_text
from pytest_pyhf_faas.plugin.update import becomes_reference, update_part, update_reference
from pytest_pyhf_faas.references.entries import limits_entry
from pytest_pyhf_faas.references.known_issues import is_known_error
from pytest_pyhf_faas.references.published import published_entry
from pytest_pyhf_faas.references.sameness import error_matches
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.times import NotMeasured
    from pytest_pyhf_faas.plugin.analysis import AnalysisResult
    from pytest_pyhf_faas.plugin.context import Context
    from pytest_pyhf_faas.plugin.subjects import Subject
    from pytest_pyhf_faas.references.compare import Comparison
    from pytest_pyhf_faas.references.published import PublishedResult
    from pytest_pyhf_faas.references.reference import Missing, PatchReference
    from pytest_pyhf_faas.references.toy_values import ToyValues


def refuse_broken_fit(
    context: Context,
    item: pytest.Item,
    subject: Subject,
    result: HypotestResult,
    reference: PatchReference | Missing,
) -> None:
    """End an item whose fit has neither values nor an exception that is the right answer.

    It is skipped where the run was interrupted, and an expected failure where this is a known
    issue.
    """
    updates = context.settings.update is not None
    if (
        result.status == "ok"
        or error_matches(result, reference)
        or (updates and becomes_reference(context, subject.task, result))
    ):
        return
    if result.status == "cancelled" and context.schedule.interrupted:
        pytest.skip("interrupted before this fit was done; --faas-resume goes on from there")
    fit_setup = subject.config.fit_setup
    issue = is_known_error(result, reference, fit_setup)
    if issue is not None:
        context.count_known_issue(result.pallet, subject.config)
        title = issue.text(fit_setup)
        notes.note_verdict(item, Verdict.KNOWN_ISSUE, title)
        pytest.xfail(title)
    obstacle = context.obstacles.after(subject.endpoint, result)
    if obstacle is not None:
        pytest.skip(obstacle)
    setup = context.schedule.engine(subject.endpoint).worker_setup
    rerun = rerun_command(context, item, result)
    findings = context.findings_of(subject.task) if result.status == "error" else []
    pytest.fail(broken_text(result, rerun, setup, findings), pytrace=False)


def refuse_measurement(context: Context, analysis: str, refused: NotMeasured) -> NoReturn:
    """End an item that measured no time; it is skipped where the run was interrupted."""
    if context.schedule.interrupted:
        pytest.skip("interrupted before all fits were done")
    reason = refused.reason.replace("\n", "\n  ")
    pytest.fail(f"{analysis}: no wall time: {reason}", pytrace=False)


def decide(
    context: Context,
    item: pytest.Item,
    subject: Subject,
    comparison: Comparison,
    result: HypotestResult,
    reference: PatchReference | Missing,
) -> None:
    """End an item whose result is not right; skip it where the result becomes the reference."""
    if subject.task is not None:
        update_reference(context, subject.task, result, reference, comparison)
    _end(context, item, subject, comparison, result, reference)


def decide_limits(
    context: Context,
    item: pytest.Item,
    subject: Subject,
    comparison: Comparison,
    result: HypotestResult,
    reference: PatchReference | Missing,
) -> None:
    """Do the same with upper limits."""
    if subject.task is not None and result.limits:
        entry = limits_entry(Limits.from_json(result.limits))
        update_part(context, subject.task, result, "limits", entry, comparison)
    _end(context, item, subject, comparison, result, reference)


def decide_toys(
    context: Context,
    item: pytest.Item,
    subject: Subject,
    comparison: Comparison,
    result: HypotestResult,
    found: ToyValues | None,
    reference: PatchReference | Missing,
) -> None:
    """Do the same with toys; if too many failed, they do not become a reference."""
    failed = comparison.verdict is Verdict.UNCONVERGED
    if subject.task is not None and found is not None and not failed:
        update_part(context, subject.task, result, "toys", found.to_json(), comparison)
    _end(context, item, subject, comparison, result, reference)


def refuse_no_limit(result: HypotestResult) -> NoReturn:
    """End an item whose hypothesis has no upper limit to be compared with the published one."""
    error = result.error
    why = f"{error.type}: {error.first_line}" if error else "all signal strengths are allowed"
    pytest.fail(
        f"{result.pallet} / {result.patch}: there is no upper limit to compare with the published "
        f"one\n  {why}",
        pytrace=False,
    )


def decide_published(
    context: Context,
    item: pytest.Item,
    subject: Subject,
    comparison: Comparison,
    found: PublishedResult,
    reference: PatchReference | Missing,
) -> None:
    """Do the same with upper limits that were published; the reference records where they agree."""
    if subject.task is not None:
        entry = published_entry(found.agreement)
        known = reference.published if reference else None
        if known is None:
            kept = Verdict.NO_REFERENCE
        else:
            kept = Verdict.RIGHT if known["place"] == entry["place"] else Verdict.WRONG
        as_kept = replace(comparison, verdict=kept)
        # Its minima are those of a model without the uncertainty of the cross section.
        update_part(context, subject.task, None, "published", entry, as_kept)
    _end(context, item, subject, comparison, found.result, reference)


def refuse_broken_analysis(context: Context, subject: Subject, found: AnalysisResult) -> None:
    """End an item whose fits broke, or were not all done, if nothing else is wrong with it."""
    others = found.failed - found.broken
    if others:
        return
    if found.fitted < found.total and context.schedule.interrupted:
        pytest.skip(
            f"interrupted after {found.fitted} of {counted(found.total, 'fit')}; --faas-resume "
            "goes on from there"
        )
    given_up = context.schedule.campaigns.given_up(subject.endpoint)
    if found.broken or found.fitted < found.total:
        text = found.text(context.settings.report)
        pytest.fail(f"{text}\n  {given_up}" if given_up else text, pytrace=False)


def decide_analysis(context: Context, found: AnalysisResult) -> None:
    """End an item whose hypotheses are not all right; skip it where none was compared."""
    context.schedule.notes.extend(found.notes)
    if found.failed:
        pytest.fail(found.text(context.settings.report), pytrace=False)
    missing = found.missing
    if missing is not None:
        pytest.skip(
            f"not compared: {missing.explanation.partition(chr(10))[0]}; "
            f"{counted(found.certified, 'hypothesis')} certified"
        )


def _end(
    context: Context,
    item: pytest.Item,
    subject: Subject,
    comparison: Comparison,
    result: HypotestResult,
    reference: PatchReference | Missing,
) -> None:
    """End an item whose result is not right."""
    if comparison.verdict is Verdict.KNOWN_ISSUE:
        context.count_known_issue(result.pallet, subject.config)
        pytest.xfail(comparison.title)
    if comparison.verdict is Verdict.NO_REFERENCE:
        pytest.fail(no_reference_text(comparison, result), pytrace=False)
    if comparison.verdict is not Verdict.RIGHT:
        rerun = rerun_command(context, item, result)
        text = failure_text(comparison, result, reference, rerun, context.findings_of(subject.task))
        pytest.fail(text, pytrace=False)
