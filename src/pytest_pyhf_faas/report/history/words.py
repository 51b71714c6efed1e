"""What a history says, in the words of the page, the terminal and the tables."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report.publish import PAGE, link_to
from pytest_pyhf_faas.verdicts import State, Verdict
from pytest_pyhf_faas.wording import NOTHING, counted, listed, shortened, with_spread

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from pytest_pyhf_faas.report.history.points import Point
    from pytest_pyhf_faas.report.history.read import History
    from pytest_pyhf_faas.report.history.series import Series, Shift, TimeChange

#: How many changed facts are named, and how many characters of each.
_SHIFTS, _SHIFT = 4, 60
#: How many changes of a wall time are named where space is short, the last ones.
_STEPS = 2
#: States of the analyses of a history, by the last run of each; the worst comes first.
_STATES = (
    (State.WRONG, "wrong"),
    (State.BROKEN, "broken"),
    (State.INCOMPLETE, "incomplete"),
    (State.KNOWN, "right except for known issues"),
    (State.RIGHT, "right"),
)


def date_of(point: Point) -> str:
    """Return when a run began, as people read it."""
    return point.began_at[:16].replace("T", " ")


def headline(history: History) -> str:
    """Return one sentence: how many runs, and how the last ones are."""
    judged = [series for series in history.series if series.judged is not None]
    dates = sorted(point.began_at[:10] for each in history.series for point in each.points)
    when = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    whole = f"{counted(history.runs, 'run')} of {counted(len(history.series), 'analysis')}, {when}"
    if not judged:
        return f"{whole}: no report says whether they are right"
    counts = Counter(state_of(series) for series in judged)
    parts = [f"{counts[state]} {word}" for state, word in _STATES if counts[state]]
    if len(parts) > 1:
        return f"{whole}: the last of each: {', '.join(parts)}"
    last = "the last one is" if len(judged) == 1 else "the last of each is"
    return f"{whole}: {last} {parts[0].partition(' ')[2]}"


def state(history: History) -> State:
    """Return the overall state of the last runs: the worst decides."""
    states = {state_of(series) for series in history.series}
    return next(state for state, _word in _STATES if state in states)


def state_of(series: Series) -> State:
    """Return the result of the last run with verdicts."""
    point = series.judged
    states = set() if point is None else {Verdict(name).state for name in point.verdicts or {}}
    if point is None or (point.interrupted and states <= {State.RIGHT, State.KNOWN}):
        return State.INCOMPLETE
    return next(state for state, _word in _STATES if state in states)


def verdicts(point: Point) -> str:
    """Return how many hypotheses have which verdict."""
    if point.verdicts is None:
        return "no report"
    said = ", ".join(f"{count} {name}" for name, count in point.verdicts.items()) or "none"
    return f"{said} (interrupted)" if point.interrupted else said


def wall_time(point: Point) -> str:
    """Return the wall time with its spread, its trials, and what was lost."""
    measured = point.wall_time
    if measured is None:
        return NOTHING
    trials = counted(len(measured.trials), "trial")
    lost = "".join(f", {each}" for each in measured.lost)
    return f"{with_spread(measured.mean_s, measured.stdev_s)} ({trials}{lost})"


def fit_time(point: Point) -> str:
    """Return the median seconds of a fit."""
    return NOTHING if point.fit_s is None else f"{point.fit_s:.3g}"


def machine(point: Point) -> str:
    """Return on how many workers of which processors the hypotheses were fitted."""
    workers = [] if point.wall_time is None else [counted(point.wall_time.last.workers, "worker")]
    cpus = listed(point.workers.cpus) or "processor not known"
    hosts = [f"on {listed(point.workers.hosts)}"] if point.workers.hosts else []
    return " ".join([", ".join([*workers, cpus]), *hosts])


def versions(point: Point) -> list[tuple[str, str]]:
    """Return the versions of a run, by name, those of pyhf and its dependencies first."""
    known = point.versions
    first = [name for name in ("pyhf", "numpy", "scipy", "python") if name in known]
    return [(name, known[name]) for name in (*first, *(n for n in known if n not in first))]


def said(shifts: Iterable[Shift]) -> str:
    """Return what changed, the first few of it."""
    words = [shortened(str(each), _SHIFT, cut="middle") for each in shifts]
    return listed(words, _SHIFTS, _SHIFT) or "nothing that the reports record"


def step(change: TimeChange) -> str:
    """Return how a wall time changed, since when, and with what."""
    ratio = change.times.ratio or 1.0
    word, factor = ("slower", ratio) if ratio > 1 else ("faster", 1 / ratio)
    before, after = change.times.before, change.times.after
    same_hosts = change.before.workers.hosts == change.after.workers.hosts
    return (
        f"{word} by {factor:.2f} x since {change.after.began_at[:10]} ({said(change.shifts)}): "
        f"{with_spread(before.mean_s, before.stdev_s)} s became "
        f"{with_spread(after.mean_s, after.stdev_s)} s on {counted(after.workers, 'worker')} "
        f"({listed(change.after.workers.cpus)}), "
        f"{before.trials} and {counted(after.trials, 'trial')}"
        f"{'' if same_hosts else '; not on the same hosts'}"
    )


def steps(series: Series) -> str:
    """Return how the wall time changed, the last changes of it."""
    measured = [each.wall_time for each in series.points if each.wall_time]
    if not measured:
        return "not measured"
    if len(measured) == 1:
        return f"{with_spread(measured[0].mean_s, measured[0].stdev_s)} s, measured once"
    found = [step(each) for each in series.pace.steps[-_STEPS:]]
    return "; ".join(found) or "no change is shown to be larger than its spread"


def pace(series: Series) -> list[str]:
    """Return what can and cannot be concluded about the wall times."""
    found = series.pace
    lines = [f"wall time: {step(each)}" for each in found.steps]
    if found.scatter is not None:
        pairs = counted(found.quiet, "pair")
        lines.append(
            f"wall time: between neighbouring runs with nothing changed it differs by up to "
            f"{found.scatter:.2f} x ({pairs} of runs)"
        )
    if found.changed and not found.steps:
        lines.append(
            f"wall time: {counted(found.changed, 'change')} of versions or inputs, none with a "
            "difference beyond what chance and other runs explain"
        )
    if found.unknown:
        lines.append(
            f"wall time: {counted(found.unknown, 'change')} of versions or inputs with one trial "
            "before or after: the spread is unknown, so no conclusion; use --faas-trials"
        )
    return lines


def changed(series: Series) -> str:
    """Return how often verdicts changed, and when for the last time."""
    count = sum(len(each.verdicts) for each in series.changes)
    moved = sum(len(each.moved) for each in series.changes)
    parts = [
        *([counted(count, "verdict") + " changed"] if count else []),
        *([f"{moved} under the same verdict moved beyond the tolerance"] if moved else []),
    ]
    if not parts:
        return "no verdict changed"
    return f"{', '.join(parts)}, last on {series.changes[-1].after.began_at[:10]}"


def link(point: Point, directory: Path) -> str | None:
    """Return where the report of a run is, from a directory: its page, or else its JSON."""
    if point.source.name != documents.FILE:
        return None
    page = point.source.with_name(PAGE)
    return link_to(page if page.is_file() else point.source, directory)
