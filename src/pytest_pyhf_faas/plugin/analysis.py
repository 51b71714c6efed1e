"""A whole pallet in one item: its fits are compared as they come, and none is kept."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign.tasks import CERTIFIED
from pytest_pyhf_faas.plugin import notes
from pytest_pyhf_faas.plugin.rerun import rerun_command
from pytest_pyhf_faas.plugin.terminal import broken_text, failure_text
from pytest_pyhf_faas.references.ambiguity import at_minima
from pytest_pyhf_faas.references.cls_values import EXCLUDED, count_of_excluded
from pytest_pyhf_faas.references.compare import Comparison, compare
from pytest_pyhf_faas.references.known_issues import is_known_error
from pytest_pyhf_faas.references.sameness import error_matches
from pytest_pyhf_faas.report.publish import is_json_alone
from pytest_pyhf_faas.report.whole import NOTABLE, SAMPLED, HypothesesFile
from pytest_pyhf_faas.session import hypotheses
from pytest_pyhf_faas.verdicts import State, Verdict
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from pytest_pyhf_faas.campaign.results import HypotestResult, WorkerEnvironment
    from pytest_pyhf_faas.campaign.tasks import Task
    from pytest_pyhf_faas.plugin.context import Context
    from pytest_pyhf_faas.plugin.subjects import Subject
    from pytest_pyhf_faas.references.reference import Missing, PatchReference
    from pytest_pyhf_faas.report.form import Analysis, Hypothesis

#: How many failing hypotheses are named.
SHOWN = 20
#: How a test of each hypothesis by itself would have ended.
_OUTCOMES = {Verdict.KNOWN_ISSUE: "xfailed", Verdict.NOT_COMPARED: "skipped"}


@dataclass(slots=True)
class AnalysisResult:
    """The results of all hypotheses of a pallet.

    Attributes
    ----------
    pallet : str
        Its name.
    total : int
        The number of its hypotheses.
    verdicts : Counter of Verdict
        The number of hypotheses by verdict; those that were not fitted are "not run".
    certified : int
        The number with CLs at certified minima.
    excluded : int
        The number with a CLs_obs below 0.05, compared or not.
    ambiguous, flips : int
        The number with two sets of minima, and with an exclusion that depends on them.
    failing : list of str
        The first `SHOWN` that are not right, a line for each.
    rerun : str
        The command that fits the first of them again.
    missing : Comparison or None
        Why the first hypothesis without a reference has none.
    """

    pallet: str
    total: int
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    certified: int = 0
    excluded: int = 0
    ambiguous: int = 0
    flips: int = 0
    failing: list[str] = field(default_factory=list)
    rerun: str = ""
    missing: Comparison | None = None

    @property
    def failed(self) -> int:
        """How many fail."""
        return sum(count for verdict, count in self.verdicts.items() if verdict.fails)

    @property
    def broken(self) -> int:
        """How many of these have a fit that broke."""
        return sum(
            count for verdict, count in self.verdicts.items() if verdict.state is State.BROKEN
        )

    @property
    def fitted(self) -> int:
        """How many have a fit that ended in some way."""
        return sum(count for verdict, count in self.verdicts.items() if verdict.is_fitted)

    def text(self, report: Path | None) -> str:
        """Return the text of a failure; `report` is the place of the report."""
        failed = self.failed
        are = "is" if failed == 1 else "are"
        counts = sorted(self.verdicts.items(), key=lambda each: each[0].severity)
        lines = [
            f"{self.pallet}: {failed} of {counted(self.total, 'hypothesis')} {are} not right",
            "  " + ", ".join(f"{verdict.value}: {count}" for verdict, count in counts),
            *(f"  {line}" for line in self.failing),
        ]
        if failed > len(self.failing):
            all_in = f"{report}/cls.csv" if report else "--faas-report=DIR writes DIR/cls.csv"
            lines.append(f"  ... and {failed - len(self.failing)} more; with all: {all_in}")
        if self.missing is not None and self.verdicts[Verdict.NO_REFERENCE]:
            lines += [f"  {line}" for line in self.missing.explanation.splitlines()]
            lines.append(f"  make references, without --faas-items: {self.missing.remedy}")
        if self.rerun:
            lines.append(f"  rerun:  {self.rerun}")
        return "\n".join(lines)

    @property
    def notes(self) -> list[str]:
        """Notes for the end of the session that are not failures."""
        notes = []
        if self.verdicts[Verdict.NOT_COMPARED]:
            excluded = count_of_excluded(self.excluded, self.fitted)
            notes.append(
                f"{self.pallet}: no reference: {counted(self.certified, 'hypothesis')} certified, "
                f"{self.fitted - self.certified} not, none compared; {excluded}"
            )
        if self.ambiguous:
            flips = f"; the exclusion depends on them for {self.flips}" if self.flips else ""
            notes.append(
                f"ambiguous: {counted(self.ambiguous, 'hypothesis')} of {self.pallet} with two "
                f"sets of minima{flips}"
            )
        return notes


def check_analysis(context: Context, item: pytest.Item, subject: Subject) -> AnalysisResult:
    """Have all hypotheses of a pallet fitted, and compare each as it comes.

    Without a reference file there is nothing to compare: certified results are counted as such,
    not as right.
    """
    schedule, pallet = context.schedule, subject.pallet
    assert pallet is not None
    judge = _Judge(context, subject)
    found = AnalysisResult(pallet.name, len(pallet.patches))
    record = _Record(context, item, subject)
    try:
        for place, (task, result) in enumerate(schedule.stream(subject)):
            reference = schedule.reference(task)
            verdict, comparison = judge(task, result, reference)
            _count(found, verdict, comparison, result)
            text = ""
            if verdict.fails and len(found.failing) < SHOWN:
                found.rerun = found.rerun or rerun_command(context, item, result)
                found.failing.append(_line(comparison, result))
                text = _text(context, item, task, comparison, result, reference)
            if record.wanted:
                record.add(place, task, verdict, comparison, text, result, reference)
    finally:
        found.verdicts[Verdict.NOT_RUN] += found.total - found.verdicts.total()
        found.verdicts = +found.verdicts
        record.close(found)
    return found


class _Judge:
    """Judges the hypotheses of an analysis."""

    def __init__(self, context: Context, subject: Subject) -> None:
        self._context = context
        self._config, self._criteria = subject.config, subject.criteria
        assert subject.pallet is not None
        is_certified = subject.config.method == CERTIFIED
        has_none = context.references.load(subject.pallet.name) is None
        self._nothing_to_compare = is_certified and has_none

    def __call__(
        self, task: Task, result: HypotestResult, reference: PatchReference | Missing
    ) -> tuple[Verdict, Comparison]:
        """Return the verdict on a hypothesis, with its evidence."""
        fit_setup = self._config.fit_setup
        if result.status == "ok" or error_matches(result, reference):
            criteria = self._criteria
            comparison = compare(
                result,
                reference,
                fit_setup=fit_setup,
                rtol=criteria.rtol,
                atol=criteria.atol,
                nll_tolerance=criteria.nll_tolerance,
                minimum=criteria.minimum,
            )
            verdict = comparison.verdict
            if verdict is Verdict.NO_REFERENCE and self._nothing_to_compare:
                verdict = Verdict.NOT_COMPARED
        else:
            issue = is_known_error(result, reference, fit_setup)
            verdict = Verdict.KNOWN_ISSUE if issue else Verdict.of_fit(result.status)
            if not (issue or result.was_sent):
                verdict = Verdict.CANCELLED
            error = result.error
            what = f": {error.type}: {error.first_line}" if error else ""
            title = f"{result.pallet} / {result.patch}: the fit ended {result.status}{what}"
            comparison = Comparison(verdict, issue.text(fit_setup) if issue else title)
        if verdict is Verdict.KNOWN_ISSUE:
            self._context.count_known_issue(task.pallet.name, self._config)
        return verdict, comparison


def _count(
    found: AnalysisResult, verdict: Verdict, comparison: Comparison, result: HypotestResult
) -> None:
    found.verdicts[verdict] += 1
    found.certified += result.status == "ok" and bool(result.certificate)
    found.excluded += result.CLs_obs is not None and result.CLs_obs < EXCLUDED
    if comparison.ambiguous is not None:
        found.ambiguous += 1
        found.flips += comparison.ambiguous.flips
    if comparison.verdict is Verdict.NO_REFERENCE and found.missing is None:
        found.missing = comparison


def _line(comparison: Comparison, result: HypotestResult) -> str:
    """Say what is wrong with a hypothesis in a line."""
    title = comparison.title.removeprefix(f"{result.pallet} / ")
    if not comparison.rows:
        return title
    # The value that is farthest off; nothing may be off where only twice-NLL is.
    wrong = [row for row in comparison.rows if not row.within] or comparison.rows[:1]
    worst = max(wrong, key=lambda row: abs(row.relative))
    return (
        f"{title} ({worst.label} {worst.obtained:.6g}, reference {worst.reference:.6g}, rel. diff "
        f"{worst.relative:.1e})"
    )


def _text(
    context: Context,
    item: pytest.Item,
    task: Task,
    comparison: Comparison,
    result: HypotestResult,
    reference: PatchReference | Missing,
) -> str:
    """Return the text about a single hypothesis."""
    rerun, findings = rerun_command(context, item, result), context.findings_of(task)
    if result.is_answer and comparison.rows:
        return failure_text(comparison, result, reference, rerun, findings)
    if comparison.verdict.state is State.BROKEN:
        return broken_text(result, rerun, "the environment of its workers", findings)
    return comparison.title


class _Record:
    """Records an analysis for the report: all of it in a file, a part in the document."""

    def __init__(self, context: Context, item: pytest.Item, subject: Subject) -> None:
        place = context.settings.report
        self.wanted = place is not None
        self._context, self._item, self._subject = context, item, subject
        self._analysis: Analysis = notes.analysis_of(subject)
        self._kept: list[Hypothesis] = []
        self._notable = 0
        self._environments: list[WorkerEnvironment] = []
        self._file: HypothesesFile | None = None
        assert subject.pallet is not None
        self._stride = -(-len(subject.pallet.patches) // SAMPLED)
        if place is not None and not is_json_alone(place):
            which = hashlib.sha256(item.nodeid.encode()).hexdigest()[:8]
            self._file = HypothesesFile(place / f"hypotheses-{which}.jsonl.gz")

    def add(
        self,
        place: int,
        task: Task,
        verdict: Verdict,
        comparison: Comparison,
        text: str,
        result: HypotestResult,
        reference: PatchReference | Missing,
    ) -> None:
        """Record a hypothesis."""
        criteria, config = self._subject.criteria, self._subject.config
        if reference and self._analysis["reference"] is None:
            self._analysis["reference"] = notes.analysis_of(self._subject, reference)["reference"]
        nominal = criteria.minimum == "nominal"
        shown = at_minima(result, result.nominal) if nominal else result
        hypothesis = hypotheses.fitted(
            task.patch, self._item.nodeid, config.quantity, shown, reference
        )
        tolerance = (
            reference.tolerance(config.fit_setup, criteria.rtol, criteria.atol)
            if reference
            else None
        )
        hypotheses.compared(hypothesis, comparison, tolerance)
        outcome = "failed" if verdict.fails else _OUTCOMES.get(verdict, "passed")
        if verdict.state is State.BROKEN:
            outcome = "error"
        elif not verdict.is_fitted:
            outcome = "not run"
        hypothesis |= {"verdict": verdict.value, "outcome": outcome, "text": text}
        if self._file is not None:
            self._file.write(hypothesis)
        needs_attention = verdict.fails or hypothesis["ambiguous"] is not None
        is_notable = needs_attention and self._notable < NOTABLE
        if is_notable or place % self._stride == 0:
            self._notable += is_notable
            hypothesis["environment"] = self._environment(result.environment)
            self._kept.append(hypothesis)

    def close(self, found: AnalysisResult) -> None:
        """Hand it to the report."""
        if self._file is not None:
            self._file.close()
            if self._file.problem is not None:
                self._context.unwritten.append(
                    f"{found.pallet}: all its hypotheses cannot be written to {self._file.path}: "
                    f"{self._file.problem}. The report has a part of them; free some space, and "
                    "run again with --faas-resume, which fits nothing twice"
                )
                self._file = None
        whole: dict[str, Any] = {
            "verdicts": {verdict.value: count for verdict, count in found.verdicts.items()},
            "ambiguous": found.ambiguous,
            "flips": found.flips,
            "file": None if self._file is None else self._file.path.name,
        }
        environments = [each.to_json() for each in self._environments]
        notes.note_analysis(self._item, self._analysis, self._kept, environments, whole)

    def _environment(self, environment: WorkerEnvironment | None) -> int | None:
        if environment is None:
            return None
        if environment not in self._environments:
            self._environments.append(environment)
        return self._environments.index(environment)
