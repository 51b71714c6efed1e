"""Notes on an item while it runs: for the report, for junitxml, for the summary.

Notes for the report travel with pytest's own report of the item, which pytest-xdist sends on to
its controller. All notes are plain values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyhf_faas.campaign.quantities import Limits
from pytest_pyhf_faas.campaign.times import NotMeasured
from pytest_pyhf_faas.session import hypotheses
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.times import Trial, WallTime
    from pytest_pyhf_faas.plugin.no_reference import Unreferenced
    from pytest_pyhf_faas.plugin.subjects import Subject
    from pytest_pyhf_faas.references.compare import Comparison
    from pytest_pyhf_faas.references.published import PublishedResult
    from pytest_pyhf_faas.references.reference import Missing, PatchReference
    from pytest_pyhf_faas.report.form import Analysis, Hypothesis

#: Notes on a session's ambiguous hypotheses; see `terminal.ambiguous_lines`.
AMBIGUOUS = pytest.StashKey[list[dict[str, Any]]]()
#: Notes on those without a reference; see `no_reference.unreferenced_lines`.
UNREFERENCED = pytest.StashKey[list["Unreferenced"]]()
#: Notes on asymptotic values that toys disagree with; see `toy_values.off_lines`.
TOYS = pytest.StashKey[list[dict[str, Any]]]()
#: Notes on measurements with several numbers of workers or blocks, as `Book` takes them.
SCALING = pytest.StashKey[list[dict[str, Any]]]()
#: Notes on published limits, a sentence for each pallet.
PUBLISHED = pytest.StashKey[list[str]]()
CARRIER = "pyhf-faas-notes"
_ATTRIBUTE = "pyhf_faas"
_NOTE = pytest.StashKey[dict[str, Any]]()


def note_fit(
    item: pytest.Item,
    subject: Subject,
    result: HypotestResult,
    reference: PatchReference | Missing,
) -> None:
    """Record the fit of a hypothesis; `note_verdict` adds its verdict."""
    assert subject.task is not None
    item.user_properties += _properties(result)
    item.stash[_NOTE] = {
        "analysis": analysis_of(subject, reference),
        "environment": None if result.environment is None else result.environment.to_json(),
        "hypothesis": hypotheses.fitted(
            subject.task.patch, item.nodeid, subject.config.quantity, result, reference
        ),
    }


def note_comparison(
    item: pytest.Item,
    fit_setup: str,
    comparison: Comparison,
    result: HypotestResult,
    tolerance: tuple[float, float] | None,
) -> None:
    """Record the comparison of a hypothesis with its reference."""
    properties = item.user_properties
    properties.append(("verdict", comparison.verdict.value))
    differences = [row.relative for row in comparison.rows if not row.indifferent]
    if comparison.rows:
        properties.append(("largest_relative_difference", max(differences, key=abs, default=0.0)))
    if comparison.at is not None:
        properties.append(("minimum_set", comparison.at))
    if comparison.ambiguous is not None:
        properties.append(("ambiguous", "; ".join(comparison.ambiguous.lines)))
        _note_ambiguous(item.config, comparison, result, fit_setup)
    if _NOTE not in item.stash:
        return
    if comparison.verdict is Verdict.NO_REFERENCE:
        _note_unreferenced(item, comparison)
    hypotheses.compared(item.stash[_NOTE]["hypothesis"], comparison, tolerance)


def note_toys(item: pytest.Item) -> None:
    """Record CLs from toys for junitxml, and how far off the asymptotic one for the summary."""
    if _NOTE not in item.stash:
        return
    analysis, hypothesis = (item.stash[_NOTE][part] for part in ("analysis", "hypothesis"))
    found = hypothesis.get("toys")
    if found is None:
        return
    names = _named("CLs_toys")
    item.user_properties += [
        ("toys", found["count"]),
        ("toys_failed", sum(found["failed"])),
        *zip(names, found["CLs"], strict=True),
        *zip((f"{name}_error" for name in names), found["errors"], strict=True),
    ]
    if found["off"] is None:
        return
    item.user_properties.append(("toys_above_asymptotic_by_standard_errors", found["off"]))
    said = {
        "pallet": analysis["pallet"],
        "patch": hypothesis["patch"],
        "toys": found["CLs"][0],
        "error": found["errors"][0],
        "asymptotic": found["asymptotic"][0],
        "standard_errors": found["off"],
    }
    item.config.stash.setdefault(TOYS, []).append(said)


def note_published(item: pytest.Item, found: PublishedResult) -> None:
    """Record at which minima a published limit is reproduced, and the sentence on all."""
    agreement, among = found.agreement, found.among
    point = agreement.point
    sentence = among.sentence()
    item.user_properties += [("published", agreement.place), ("published_off", agreement.nearest)]
    item.config.stash.setdefault(PUBLISHED, []).append(f"{found.result.pallet}: {sentence}")
    note = item.stash[_NOTE]
    note["analysis"]["published"] = {
        "sentence": sentence,
        "line": list(among.line),
        "tolerance": among.tolerance,
    }
    # The limits of this model belong to another test.
    note["hypothesis"] |= {
        "limits": None,
        "published": {
            "limit": point.limit,
            "rounding": point.rounding,
            "cross_section": point.cross_section,
            "mass": point.mass,
            "mu": dict(point.mu),
            "place": agreement.place,
            "at": agreement.name,
            "off": agreement.nearest,
        },
    }


def note_verdict(item: pytest.Item, verdict: Verdict, title: str) -> None:
    """Record the verdict on a hypothesis."""
    if _NOTE in item.stash:
        item.stash[_NOTE]["hypothesis"] |= {"verdict": verdict.value, "title": title}


def note_wall_time(item: pytest.Item, subject: Subject, measured: WallTime | NotMeasured) -> None:
    """Record the wall time of an analysis, or why there is none."""
    analysis = analysis_of(subject)
    if isinstance(measured, NotMeasured):
        item.stash[_NOTE] = {"analysis": analysis, "not_measured": measured.reason}
        return
    item.stash[_NOTE] = {
        "analysis": analysis,
        "wall_time": {
            "test": item.nodeid,
            "trials": [trial.to_json() for trial in measured.trials],
        },
        "timeline": None if measured.timeline is None else measured.timeline.to_json(),
    }


def note_scaling(
    item: pytest.Item, subject: Subject, unit: str, trials: Sequence[Trial] | NotMeasured
) -> None:
    """Record the wall time of an analysis with some number of workers or blocks."""
    assert subject.pallet is not None
    if isinstance(trials, NotMeasured):
        place, point = "refused", {"count": subject.count, "reason": trials.reason}
    else:
        place, point = (
            "points",
            {
                "count": subject.count,
                "trials": [trial.to_json() for trial in trials],
            },
        )
    item.stash[_NOTE] = {
        "scaling": {
            "pallet": subject.pallet.name,
            "endpoint": subject.endpoint,
            "fit_setup": subject.config.fit_setup,
            "unit": unit,
        },
        place: point,
    }
    item.config.stash.setdefault(SCALING, []).append(item.stash[_NOTE])


def note_analysis(
    item: pytest.Item,
    analysis: Analysis,
    some: Sequence[Hypothesis],
    environments: Sequence[dict[str, Any]],
    whole: dict[str, Any],
) -> None:
    """Record an analysis that one item has checked: some hypotheses, and a summary of all.

    The ``environment`` of each is its place among the environments.
    """
    item.user_properties += [
        (f"hypotheses {verdict}", count) for verdict, count in whole["verdicts"].items()
    ]
    item.stash[_NOTE] = {
        "analysis": analysis,
        "hypotheses": list(some),
        "environments": list(environments),
        "whole": whole,
    }


class NoteCarrier:
    """Sends the notes on each item with pytest's report of its end; in each process."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        """Add the notes."""
        report = yield
        if call.when == "teardown" and _NOTE in item.stash:
            setattr(report, _ATTRIBUTE, item.stash[_NOTE])
        return report


def carried_by(report: pytest.TestReport) -> dict[str, Any] | None:
    """Return the notes in a report of pytest."""
    found: dict[str, Any] | None = getattr(report, _ATTRIBUTE, None)
    return found


def analysis_of(subject: Subject, reference: PatchReference | Missing | None = None) -> Analysis:
    """Return the part of a document that identifies an analysis."""
    pallet, config = subject.pallet, subject.config
    assert pallet is not None
    found = hypotheses.analysis_of(pallet, subject.endpoint, config, reference)
    return {**found, "quantity": subject.quantity}


def _note_ambiguous(
    config: pytest.Config, comparison: Comparison, result: HypotestResult, fit_setup: str
) -> None:
    """Record an ambiguous hypothesis, for the summary of the session."""
    ambiguous = comparison.ambiguous
    assert ambiguous is not None
    config.stash.setdefault(AMBIGUOUS, []).append(
        {
            "pallet": result.pallet,
            "patch": result.patch,
            "fit_setup": fit_setup,
            "at": comparison.at,
            "was_at": comparison.was_at,
            "flips": ambiguous.flips,
            "lowest": ambiguous.lowest[0],
            "nominal": ambiguous.nominal[0],
        }
    )


def _note_unreferenced(item: pytest.Item, comparison: Comparison) -> None:
    """Record a hypothesis without a reference, for the summary of the session."""
    note = item.stash[_NOTE]
    analysis, hypothesis = note["analysis"], note["hypothesis"]
    limits, toys = hypothesis.get("limits"), hypothesis.get("toys")
    values = limits["values"] if limits else toys["CLs"] if toys else hypothesis["CLs"]
    if values is None:
        return
    item.config.stash.setdefault(UNREFERENCED, []).append(
        {
            "pallet": analysis["pallet"],
            "fit_setup": f"toys, {analysis['fit_setup']}" if toys else analysis["fit_setup"],
            "test_stat": analysis["config"]["test_stat"],
            "is_limit": bool(limits),
            "reason": comparison.explanation,
            "remedy": comparison.remedy,
            "patch": hypothesis["patch"],
            "observed": values[0],
            "expected": values[3],
        }
    )


def _properties(result: HypotestResult) -> list[tuple[str, object]]:
    """Record a fit for junitxml and other reports."""
    properties: list[tuple[str, object]] = [("status", result.status)]
    if result.status == "ok":
        if result.cls_values:
            properties += zip(_named("CLs"), result.cls_values, strict=True)
            properties.append(("mu_hat", result.mu_hat))
        if result.limits:
            found = Limits.from_json(result.limits).lowest
            properties += zip(_named("limit"), found.values, strict=True)
        properties.append(("fit_s", result.seconds["fit"]))
    elif result.error is not None:
        properties.append(("error", result.error.type))
    properties.append(("worker", result.worker))
    return properties


def _named(quantity: str) -> list[str]:
    """Return the names of the observed value of a quantity, and of the five expected ones."""
    band = (f"{quantity}_exp_{n:+d}sigma" if n else f"{quantity}_exp" for n in range(-2, 3))
    return [f"{quantity}_obs", *band]
