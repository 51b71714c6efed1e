"""The texts and tables of the terminal."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.advice import Advice, advice_in, advice_on
from pytest_pyhf_faas.campaign.results import ENGINE, TOO_LONG
from pytest_pyhf_faas.campaign.times import PARTS
from pytest_pyhf_faas.plugin.book import Book, Ended
from pytest_pyhf_faas.plugin.no_reference import unreferenced_lines
from pytest_pyhf_faas.plugin.notes import SCALING
from pytest_pyhf_faas.references.cls_values import cls_table
from pytest_pyhf_faas.references.diagnosis import ACCEPT, environment_line
from pytest_pyhf_faas.references.merging import BESIDE_CLS, Written
from pytest_pyhf_faas.references.toy_values import off_lines
from pytest_pyhf_faas.report.answer import added_up, sent
from pytest_pyhf_faas.report.scaling import scaling_lines
from pytest_pyhf_faas.report.wall_times import MEASURED_HEADER, measured_cells
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import counted, listed, short_uuid, shortened, table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.times import WallTime
    from pytest_pyhf_faas.pallets.check import Finding
    from pytest_pyhf_faas.plugin.context import Context
    from pytest_pyhf_faas.plugin.summaries import Summary
    from pytest_pyhf_faas.preflight.preflight import Preflight
    from pytest_pyhf_faas.references.compare import Comparison
    from pytest_pyhf_faas.references.reference import Missing, PatchReference

_INDENT = "  "
_TRACEBACK_LINES = 6
#: A start that takes less is not worth a line.
_SHORT_S = 0.1
#: Length of an endpoint's problem in a line.
_HEADLINE = 160
#: How many hypotheses are named in a line.
_NAMED = 5
#: Where a hypothesis with two sets of minima is.
_PLACES = {
    "lowest": "at the lowest",
    "nominal": "at the nominal",
    "both": "at both",
    "none": "at neither",
    None: "not compared",
}
#: Characters of a hypothesis with its remark.
_LONG = 100
#: Measurements of an endpoint that are shown, each group on its own line.
_ENDPOINT_GROUPS = (
    ("exists",),
    ("workers", "environment"),
    ("answers", "round_trip", "payload", "clock", "reference_fit"),
)

_NOT_RIGHT = (Verdict.WRONG, Verdict.MIXED, Verdict.UNCONVERGED)
_STATUS_TITLES = {
    "broken": "the fit broke: no worker finished it",
    "timeout": "the fit broke: it took too long",
    "cancelled": "the fit was not done",
    "error": "the fit broke",
}
_STATUS_REMEDIES = {
    "broken": "check the memory and the logs of the worker's machine; a rerun may work",
    "timeout": "raise --faas-timeout, or find out why this fit does not finish",
    "cancelled": "run again with --faas-resume: what was done is in the journal",
}


def failure_text(
    comparison: Comparison,
    result: HypotestResult,
    reference: PatchReference | Missing,
    rerun: str,
    findings: Sequence[Finding] = (),
) -> str:
    """Return the text for CLs that differs from the reference."""
    lines = cls_table(comparison.rows) if comparison.rows else []
    if comparison.explanation:
        lines += comparison.explanation.splitlines()
    environment = environment_line(result, reference)
    if environment and comparison.verdict in _NOT_RIGHT:
        lines.append(environment)
    lines += _in_the_file(findings)
    accepts = comparison.remedy == ACCEPT
    if comparison.remedy and not accepts:
        lines.append(f"what to do: {comparison.remedy}")
    lines.append(f"rerun:  {rerun}")
    if accepts:
        where = getattr(reference, "path", None)
        lines.append(f"accept: {ACCEPT}  ({_end_of(where)})")
    return "\n".join([comparison.title, *(f"{_INDENT}{line}" for line in lines)])


def broken_text(
    result: HypotestResult, rerun: str, worker_setup: str, findings: Sequence[Finding] = ()
) -> str:
    """Return the text for a fit that broke.

    Parameters
    ----------
    result : HypotestResult
        The result of the fit.
    rerun : str
        The command that fits it again.
    worker_setup : str
        Where things are installed, see `Engine`.
    findings : sequence of Finding
        Problems in the files of the pallet; if one is an error, no other advice can help.
    """
    error = result.error
    status = result.status if result.was_sent else "cancelled"
    title = f"{result.pallet} / {result.patch}: {_STATUS_TITLES[status]}"
    lines: list[str] = []
    advice = Advice(here=_STATUS_REMEDIES.get(result.status, ""))
    if error is not None:
        if result.status == "error":
            lines.append(f"{error.type}: {error.first_line}")
            known = advice_on(error, result.environment)
            if known is None and error.traceback and not findings:
                lines += error.traceback.strip().splitlines()[-_TRACEBACK_LINES:-1]
            advice = known or Advice()
        else:
            lines += error.message.splitlines()
            if error.type in (ENGINE, TOO_LONG):  # the message says what to do
                advice = Advice()
            elif result.status == "broken":
                advice = advice_in(error.message) or advice
    printed = " ".join(lines)
    lines += _in_the_file([each for each in findings if each.text not in printed])
    wrong = any(each.level == "error" for each in findings)
    if wrong and not advice.there and "InvalidModel" not in (error.type if error else ""):
        advice = Advice(here="correct the workspace or this patch (see 'pyhf-faas inspect')")
    if result.worker:
        lines.append(f"worker {result.worker}, attempt {result.attempts}")
    lines += advice.lines(worker_setup)
    lines.append(f"rerun:  {rerun}")
    return "\n".join([title, *(f"{_INDENT}{line}" for line in lines)])


def _in_the_file(findings: Sequence[Finding]) -> list[str]:
    return [f"in the file: {finding.text}" for finding in findings[:_NAMED]]


def summary_lines(
    summaries: Sequence[Summary], measured: Sequence[str], width: int
) -> list[tuple[str, bool]]:
    """Return the lines at the end of a session, and whether each is highlighted.

    Parameters
    ----------
    summaries : sequence of Summary
        Of each process.
    measured : sequence of str
        Measurements; see `measured_lines`.
    width : int
        Of the terminal.
    """
    fits = added_up([summary["fits"] for summary in summaries])
    some = any(fits.values())
    notes = list(dict.fromkeys(note for summary in summaries for note in summary["notes"]))
    if not (some or notes or measured):
        return []
    plain = list(measured)
    if some or not measured:
        plain.append(sent(fits))
    plain += dict.fromkeys(line for summary in summaries for line in summary["published"])
    known: Counter[str] = Counter()
    for summary in summaries:
        known.update(summary["known_issues"])
    marked = [
        f"known issues: {what} gets {counted(count, 'hypothesis')} wrong, as before (-rx says why)"
        for what, count in sorted(known.items())
    ]
    marked += ambiguous_lines([each for summary in summaries for each in summary["ambiguous"]])
    marked += off_lines([each for summary in summaries for each in summary["toys"]])
    written = written_lines(summaries)
    unreferenced = [each for summary in summaries for each in summary["unreferenced"]]
    made = any(
        Written(**counts).any for summary in summaries for counts in summary["written"].values()
    )
    return [
        *((line, False) for line in (*plain, *unreferenced_lines(unreferenced, width, made=made))),
        *((line, True) for line in (*marked, *notes)),
        *((line, False) for line in written),
    ]


def measured_lines(context: Context | None, width: int) -> list[str]:
    """Return the measurements of endpoints, and the wall times of analyses."""
    if context is None:
        return []
    lines = [line for each in context.preflights.values() for line in endpoint_lines(each)]
    wall_times = context.schedule.wall_times
    lines += wall_time_table(wall_times, width) if wall_times else []
    book = Book()
    for note in context.config.stash.get(SCALING, ()):
        book.add(Ended(note=note))
    return lines + [line for each in book.scaling.values() for line in scaling_lines(each, width)]


def wall_time_table(wall_times: Sequence[WallTime], width: int) -> list[str]:
    """Return the wall times in the shape of the published table, and where the time went."""
    header = ("analysis", "endpoint", "patches", *MEASURED_HEADER)
    rows = [
        (
            wall_time.analysis,
            f"{wall_time.endpoint} ({counted(wall_time.last.workers, 'worker')})",
            str(wall_time.last.fits),
            *measured_cells(wall_time),
        )
        for wall_time in wall_times
    ]
    lines = table(header, rows, width, left=2)
    for each in wall_times:
        lines += [f"{each.analysis}: {said}" for said in (_with_start(each),) if said]
        lines.append(f"{each.analysis}: {_where_the_time_went(each)}")
    return lines


def ambiguous_lines(hypotheses: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of a session's summary on hypotheses with two sets of minima.

    Parameters
    ----------
    hypotheses : sequence of mapping
        Each with ``pallet``, ``patch``, ``fit_setup``; ``at`` and ``was_at``, the set of minima
        that it is at and was at before; ``lowest`` and ``nominal``, CLs_obs at the two; and whether
        it ``flips``.
    """
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for each in hypotheses:
        groups.setdefault((each["pallet"], each["fit_setup"]), []).append(each)
    lines = []
    for (pallet, fit_setup), those in sorted(groups.items()):
        places = Counter(each["at"] for each in those)
        found = ", ".join(f"{places[at]} {said}" for at, said in _PLACES.items() if places[at])
        lines.append(
            f"ambiguous: {counted(len(those), 'hypothesis')} of {pallet} with two sets of minima; "
            f"{fit_setup}: {found}"
        )
        flipping = [
            f"{each['patch']} (CLs_obs {each['lowest']:.3g} lowest, {each['nominal']:.3g} nominal)"
            for each in those
            if each["flips"]
        ]
        if flipping:
            lines.append(
                f"{_INDENT}an exclusion depends on it for {listed(flipping, _NAMED, _LONG)}"
            )
        moved = [f"{each['patch']} (was {each['was_at']})" for each in those if each["was_at"]]
        if moved:
            lines.append(
                f"{_INDENT}at other minima than when last checked: {listed(moved, _NAMED, _LONG)}"
            )
    return lines


def written_lines(summaries: Sequence[Summary]) -> list[str]:
    """Return what was written into reference files, a line for each, or why nothing was."""
    files: dict[str, Written] = {}
    for summary in summaries:
        for path, counts in summary["written"].items():
            files.setdefault(path, Written()).add(Written(**counts))
    lines = []
    for path, found in files.items():
        kinds = {"new": found.new, "changed": found.changed, "confirmed": found.confirmed}
        parts = [f"{count} {kind}" for kind, count in kinds.items() if count]
        others = ", ".join(
            f"{part} of {counted(count, 'hypothesis')}"
            for part in BESIDE_CLS
            if (count := getattr(found, part))
        )
        if others and not found.total:
            lines.append(f"{_end_of(path)}: {others} written")
            continue
        line = f"{_end_of(path)}: {counted(found.total, 'reference')} written"
        line += f" ({', '.join(parts)})" if parts else ""
        line += f", {found.invalid} of them InvalidModel" if found.invalid else ""
        line += f", and {others}" if others else ""
        if found.replaced:
            replaced = counted(found.replaced, "reference")
            line += f"; replaces {replaced} of another background or test"
        if found.worse:
            line += f"; {found.worse} refused: the file has a lower minimum"
        if found.weaker:
            line += f"; {found.weaker} kept: the file has the same from a longer search"
        lines.append(line)
    return lines or _unwritten_lines(summaries)


def _unwritten_lines(summaries: Sequence[Summary]) -> list[str]:
    """Say why no reference was written, if that was asked for."""
    mode = next((summary["update"] for summary in summaries if summary["update"]), None)
    if mode is None:
        return []
    kept = sum(summary["kept"] for summary in summaries)
    if kept and mode == "new":
        has = "has a reference" if kept == 1 else "have references"
        why = f"{counted(kept, 'hypothesis')} {has} already ({ACCEPT} replaces what differs)"
    elif kept:
        agrees = "agrees with its reference" if kept == 1 else "agree with their references"
        why = f"{counted(kept, 'hypothesis')} {agrees}"
    else:
        why = "no fit gave a reference that could be written"
    return [f"--faas-update={mode} wrote nothing: {why}"]


def endpoint_lines(preflight: Preflight) -> list[str]:
    """Return what was measured of an endpoint, and what failed; nothing if nothing was tried."""
    spec = preflight.engine.spec
    lines = []
    for group in _ENDPOINT_GROUPS:
        texts = [preflight.findings[name].text for name in group if name in preflight.findings]
        lines.append(", ".join(filter(None, texts)))
    for error in dict.fromkeys(map(str, preflight.failures.values())):
        title = error.partition("\n")[0].removeprefix(f"endpoint {short_uuid(spec)}: ")
        # Its test has reported all of it.
        lines.append(f"not ready: {shortened(title.partition('. ')[0], _HEADLINE)}")
    shown = [f"{_INDENT}{line}" for line in lines if line]
    return [f"endpoint {spec}:", *shown] if shown else []


def _with_start(wall_time: WallTime) -> str:
    """Say how much of a wall time is the start of the workers, if they were not running before."""
    first = wall_time.trials[0]
    start_s = first.startup_s / first.workers
    if start_s < _SHORT_S:
        return ""
    of = "the wall time" if len(wall_time.trials) == 1 else "the wall time of the first trial"
    return f"{of} is {first.wall_s:.1f} s, of which start of the workers {start_s:.1f} s"


def _where_the_time_went(wall_time: WallTime) -> str:
    capacity = wall_time.mean_of("wall_s") * wall_time.last.workers
    shares = [(part, wall_time.mean_of(f"{part}_s") / capacity) for part in PARTS]
    # No minus before a zero.
    return "time of the workers: " + ", ".join(
        f"{part} {round(share, 3) + 0.0:.1%}" for part, share in shares
    )


def _end_of(path: object) -> str:
    text = str(path)
    return "/".join(text.split("/")[-2:]) if path else "no reference file"
