"""The answer of a run: one sentence, its overall state, and what needs attention."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_pyhf_faas.report.ambiguous import ambiguous
from pytest_pyhf_faas.report.analyses import title_of
from pytest_pyhf_faas.report.quantity import CLS, name_of_quantity
from pytest_pyhf_faas.report.whole import verdicts_of
from pytest_pyhf_faas.verdicts import State, Verdict
from pytest_pyhf_faas.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.report.form import Analysis, Document, Fits, Hypothesis, TestFailure


_NAMES = 3
_FAILED = frozenset({"failed", "error"})


def verdict(document: Document) -> str:
    """Return the answer of a run as one sentence."""
    parts = [_of_hypotheses(document), *_counted_extras(document)]
    prefix = "Interrupted: " if document["run"]["interrupted"] else ""
    sentence = prefix + "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def state(document: Document) -> State:
    """Return the overall state of a run: the worst decides."""
    verdicts = set(_verdicts(document))
    present = {verdict.state for verdict in verdicts}
    if State.WRONG in present:
        return State.WRONG
    if State.BROKEN in present or _failing_checks(document) or other_failures(document):
        return State.BROKEN
    if any(failed_though_not_wrong(each) for each in _hypotheses(document)):
        return State.BROKEN
    run = document["run"]
    if run["interrupted"] or run["exit_status"] or not verdicts or State.INCOMPLETE in present:
        return State.INCOMPLETE
    return State.KNOWN if State.KNOWN in present else State.RIGHT


def failures(analysis: Analysis) -> list[Hypothesis]:
    """Return the hypotheses of an analysis that need attention.

    Returns
    -------
    list of dict
        In the order of `Verdict`, the worst first; at the end those whose test failed for a reason
        of its own.
    """
    failing = [
        each
        for each in analysis["hypotheses"]
        if Verdict(each["verdict"]).fails or failed_though_not_wrong(each)
    ]
    return sorted(failing, key=_severity)


def all_failures(document: Document) -> list[Hypothesis]:
    """Return the `failures` of all analyses, in the same order."""
    found = [each for analysis in document["analyses"] for each in failures(analysis)]
    return sorted(found, key=_severity)


def failed_though_not_wrong(hypothesis: Hypothesis) -> bool:
    """Whether a test failed for another reason than its verdict."""
    verdict = Verdict(hypothesis["verdict"])
    return hypothesis["outcome"] in _FAILED and verdict.is_fitted and not verdict.fails


def other_failures(document: Document) -> list[TestFailure]:
    """Return failed tests that test no hypothesis, except those already shown for endpoints."""
    reported = [each["text"] for one in document["endpoints"] for each in one["failures"]]
    return [
        each
        for each in document["run"]["failures"]
        if not any(text and text in each["text"] for text in reported)
    ]


def added_up(parts: Sequence[Fits]) -> Fits:
    """Add up the fits of several processes."""
    again: Counter[str] = Counter()
    for part in parts:
        again.update(part["again"])
    return {
        "sent": sum(part["sent"] for part in parts),
        "not_sent": sum(part.get("not_sent", 0) for part in parts),
        "searches": sum(part.get("searches", 0) for part in parts),
        "again": dict(again),
        "taken_over": sum(part["taken_over"] for part in parts),
        "collected": sum(part["collected"] for part in parts),
    }


def sent(fits: Fits) -> str:
    """Return how many fits were sent to workers, and how many of them again, and why."""
    parts = [f"{counted(fits['sent'], 'fit')} sent to workers"]
    if fits.get("searches"):
        parts.append(f"{fits['searches']} of them searches for starts")
    again = sum(fits["again"].values())
    if again:
        reasons = ", ".join(f"{why}: {count}" for why, count in sorted(fits["again"].items()))
        parts.append(f"{again} of them sent again ({reasons})")
    if fits.get("not_sent"):
        parts.append(f"{fits['not_sent']} not sent because no worker answered")
    if fits["taken_over"]:
        parts.append(f"{fits['taken_over']} taken over from earlier runs")
    if fits["collected"]:
        parts.append(f"{fits['collected']} collected from an earlier run")
    return ", ".join(parts)


def missing(document: Document) -> list[str]:
    """Return what a run left undone, a line for each analysis."""
    lines = []
    for analysis in document["analyses"]:
        verdicts = verdicts_of(analysis)
        counts = {
            "fitted": sum(n for verdict, n in verdicts.items() if not verdict.is_fitted),
            "compared": verdicts[Verdict.NOT_COMPARED],
        }
        if "not_measured" in analysis:
            why = analysis["not_measured"].partition("\n")[0]
            lines.append(f"{title_of(analysis)}: wall time not measured: {why}")
        lines += [
            f"{title_of(analysis)}: {count} of {counted(verdicts.total(), 'hypothesis')} not {what}"
            for what, count in counts.items()
            if count
        ]
    return lines


def _severity(hypothesis: Hypothesis) -> int:
    verdict = Verdict(hypothesis["verdict"])
    return verdict.severity if verdict.fails else len(Verdict)


def _hypotheses(document: Document) -> list[Hypothesis]:
    return [each for analysis in document["analyses"] for each in analysis["hypotheses"]]


def _verdicts(document: Document) -> list[Verdict]:
    """Return the verdicts of all hypotheses, the worst first."""
    return _sorted_verdicts(document["analyses"])


def _sorted_verdicts(analyses: Sequence[Analysis]) -> list[Verdict]:
    found = (verdict for one in analyses for verdict in verdicts_of(one).elements())
    return sorted(found, key=lambda verdict: verdict.severity)


def _of_hypotheses(document: Document) -> str:
    """Return the part of the answer about the hypotheses.

    The quantities are named unless the only one is CLs, the worst first.
    """
    groups: dict[str, list[Analysis]] = {}
    for analysis in document["analyses"]:
        groups.setdefault(name_of_quantity(analysis), []).append(analysis)
    verdicts = {name: found for name in groups if (found := _sorted_verdicts(groups[name]))}
    if not verdicts:
        timed = document["scaling"] or any(each["wall_time"] for each in document["analyses"])
        return "times were measured, no CLs were compared" if timed else "nothing was fitted"
    names = sorted(verdicts, key=lambda name: verdicts[name][0].severity)
    answers = [_of_one_quantity(groups[name], verdicts[name]) for name in names]
    if names == [CLS.name]:
        return answers[0]
    if len(set(answers)) == len(set(_verdicts(document))) == 1:  # the same for all
        return f"{answers[0]}: {' and '.join(names)}"
    return "; ".join(f"{name}: {said}" for name, said in zip(names, answers, strict=True))


def _of_one_quantity(analyses: Sequence[Analysis], verdicts: Sequence[Verdict]) -> str:
    counts = Counter(verdict.clause for verdict in verdicts)
    others = counts.pop(Verdict.RIGHT.clause, 0)
    total = len(verdicts)
    pallets = list(dict.fromkeys(analysis["pallet"] for analysis in analyses))
    of = f"of {listed(pallets)}" if len(pallets) <= _NAMES else f"of {len(pallets)} pallets"
    if len(analyses) > len(pallets):
        of += f" in {len(analyses)} analyses"
    if others == total:
        return f"{_all(total, 'hypothesis')} {of} {'is' if total == 1 else 'are'} right"
    first = next(iter(counts))
    clauses = []
    for place, (clause, count) in enumerate(counts.items()):
        noun, said = clause.noun, clause.one if count == 1 else clause.several
        if count == total:
            clauses.append(f"{_all(total, noun)} {of} {said}")
        elif place == 0:
            clauses.append(f"{count} of {counted(total, noun)} {of} {said}")
        elif noun == first.noun == "hypothesis":
            clauses.append(f"{count} {said}")
        else:
            clauses.append(f"{counted(count, noun)} {said}")
    if others:
        rest = "the other one is right" if others == 1 else f"the other {others} are right"
        return f"{', '.join(clauses)}; {rest}"
    compared = any(each.is_compared and each.state is not State.BROKEN for each in verdicts)
    return ", ".join(clauses) + ("; none is right" if compared and len(clauses) > 1 else "")


def _counted_extras(document: Document) -> list[str]:
    """Return the parts of the answer that come after the verdicts of the hypotheses."""
    extras = []
    nonetheless = sum(map(failed_though_not_wrong, _hypotheses(document)))
    if nonetheless:
        reason = "another reason" if nonetheless == 1 else "other reasons"
        extras.append(f"{counted(nonetheless, 'test')} failed for {reason}")
    checks = _failing_checks(document)
    if checks:
        extras.append(f"{counted(checks, 'check')} of an endpoint failed")
    others = len(other_failures(document))
    if others:
        extras.append(f"{counted(others, 'other test')} failed")
    run = document["run"]
    # Under xdist nobody knows which hypotheses they are.
    unrun = run["tests"].get("not run", 0)
    unrun -= sum(each["outcome"] == "not run" for each in _hypotheses(document))
    if unrun > 0:
        extras.append(f"{counted(unrun, 'other test')} {'was' if unrun == 1 else 'were'} not run")
    explained = extras or run["interrupted"] or all_failures(document)
    if run["exit_status"] and not explained:
        extras.append(f"pytest ended with status {run['exit_status']}")
    return [*filter(None, [ambiguous(document)]), *extras]


def _failing_checks(document: Document) -> int:
    return sum(len(endpoint["failures"]) for endpoint in document["endpoints"])


def _all(count: int, noun: str) -> str:
    words = {1: "the one", 2: "both"}
    several = counted(count, noun)
    return f"{words[count]} {several.partition(' ')[2]}" if count in words else f"all {several}"
