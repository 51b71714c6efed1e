"""The wall time of an analysis, with the workers of its endpoint or with another number of them.

A trial counts only if each of its fits gave an answer that could be right: the speed of a crash
says nothing about an analysis.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.advice import advice_on
from pytest_pyhf_faas.campaign.times import NotMeasured, WallTime
from pytest_pyhf_faas.engines import usable_cores
from pytest_pyhf_faas.wording import counted, listed, one_line, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pytest

    from pytest_pyhf_faas.campaign.accounting import Crew
    from pytest_pyhf_faas.campaign.campaign import Campaign
    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.tasks import Task
    from pytest_pyhf_faas.campaign.times import Trial
    from pytest_pyhf_faas.plugin.schedule import Schedule
    from pytest_pyhf_faas.plugin.subjects import Subject

    Repeat = Callable[[Callable[[], Trial]], Any]

_NAMED = 5
#: Characters of an engine's message, including the remedy at its end.
_MESSAGE = 1000
#: Endings of fits without an answer, by their status.
_ENDED = {
    "error": "gave",
    "broken": "broke:",
    "timeout": "took too long:",
    "cancelled": "were not done:",
}


_UNTOLD = (
    "the workers of {endpoint} do not report their block: it is unknown whether there were as many "
    "blocks as --faas-scaling asked for"
)


_MORE_THAN_CORES = (
    "--faas-scaling: {count} workers shared the {cores} of this machine, and cannot be as fast as "
    "on cores of their own"
)


class _Refused(Exception):
    """A trial that is not a measurement."""


def as_benchmark(config: pytest.Config, benchmark: Any, group: str, rounds: int) -> Repeat:
    """Return a function that repeats a trial as a benchmark of pytest-benchmark.

    A benchmark with a trial that fails leaves nothing: no row, nothing in the storage, and
    nothing for ``--benchmark-compare-fail``.
    """

    def repeat(trial: Callable[[], Trial]) -> None:
        benchmark.group = group
        try:
            benchmark.pedantic(trial, rounds=rounds, iterations=1)
        except BaseException:
            # It is listed before its first trial. One without trials would be stored, too.
            recorded: list[Any] = config._benchmarksession.benchmarks  # type: ignore[attr-defined] # noqa: SLF001
            recorded[:] = [each for each in recorded if each is not benchmark.stats]
            raise

    return repeat


def save_no_empty_benchmarks(config: pytest.Config) -> str | None:
    """Stop pytest-benchmark from saving if nothing was measured; say so if it was to save.

    It would warn, which is an internal error of a session that takes warnings for errors.
    """
    session: Any = getattr(config, "_benchmarksession", None)
    if session is None or session.disabled or session.benchmarks:
        return None
    asked = session.save or session.autosave or session.json
    session.save = session.autosave = session.json = None
    return "nothing was measured: pytest-benchmark saves nothing" if asked else None


def measure(schedule: Schedule, subject: Subject, repeat: Repeat) -> WallTime | NotMeasured:
    """Measure the wall time of an analysis.

    Parameters
    ----------
    schedule : Schedule
        The schedule of the session's fits.
    subject : Subject
        The subject of the measuring item.
    repeat : callable
        Calls what it is given once for each trial.
    """
    assert subject.pallet is not None
    analysis = subject.pallet.name
    campaign = schedule.campaign(subject.endpoint)
    schedule.campaigns.watch_interrupts()
    tasks = schedule.with_pools(subject.endpoint, subject.tasks)
    trials: list[Trial] = []

    def trial() -> Trial:
        trials.append(_measure_once(schedule, campaign, tasks))
        return trials[-1]

    try:
        repeat(trial)
    except _Refused as refusal:
        return NotMeasured(str(refusal))
    finally:
        schedule.campaigns.clear()
    timeline = campaign.timeline(analysis, subject.config)
    wall_time = WallTime(analysis, subject.endpoint, tuple(trials), timeline)
    schedule.wall_times.append(wall_time)
    return wall_time


def environments_of(schedule: Schedule, subject: Subject) -> list[dict[str, Any]]:
    """Return the distinct environments of the workers of a measured analysis."""
    campaign = schedule.campaign(subject.endpoint)
    found: list[dict[str, Any]] = []
    for task in schedule.with_pools(subject.endpoint, subject.tasks):
        environment = campaign.result(task).result().environment
        each = None if environment is None else environment.to_json()
        if each is not None and each not in found:
            found.append(each)
    return found


def scaling_unit(endpoint: str) -> Literal["workers", "blocks"]:
    """Return the unit that `measure_with` counts on an endpoint."""
    return "workers" if endpoint.partition(":")[0] == "local" else "blocks"


def measure_with(
    schedule: Schedule, subject: Subject, repeat: Repeat
) -> Sequence[Trial] | NotMeasured:
    """Measure the wall time of an analysis with another number of workers or blocks.

    Parameters
    ----------
    schedule : Schedule
        The schedule of the session's fits.
    subject : Subject
        The subject of the measuring item. The endpoint's own workers are ended first.
    repeat : callable
        Calls what it is given once for each trial; each starts workers of its own.
    """
    endpoint, count = subject.endpoint, subject.count
    tasks = schedule.with_pools(endpoint, subject.tasks)
    unit = scaling_unit(endpoint)
    trials: list[Trial] = []

    def trial() -> Trial:
        engine = (
            schedule.campaigns.new_engine(f"local:{count}")
            if unit == "workers"
            else schedule.campaigns.new_engine(endpoint, blocks=count)
        )
        with schedule.campaigns.passing(engine) as campaign:
            trials.append(_measure_once(schedule, campaign, tasks))
            crew = campaign.crew()
            reason = _not_as_asked(count, unit, crew)
            if reason is not None:
                raise _Refused(reason)
            if unit == "blocks" and crew.blocks is None:
                schedule.notes.append(_UNTOLD.format(endpoint=endpoint))
        return trials[-1]

    cores = usable_cores()
    if unit == "workers" and count > cores:
        note = _MORE_THAN_CORES.format(count=count, cores=counted(cores, "core"))
        schedule.notes.append(note)
    schedule.campaigns.rest(endpoint)
    schedule.campaigns.watch_interrupts()
    try:
        repeat(trial)
    except _Refused as refusal:
        return NotMeasured(str(refusal))
    return trials


def _measure_once(schedule: Schedule, campaign: Campaign, tasks: Sequence[Task]) -> Trial:
    """Measure one trial.

    Raises
    ------
    _Refused
        If a fit gave no answer that could be right.
    """
    pallet = tasks[0].pallet.name
    trial = campaign.measure(tasks, partial(schedule.campaigns.show, campaign, pallet))
    if campaign.given_up is not None:  # it is not about the fits, and others refer to it
        raise _Refused(campaign.given_up)
    results = [(task, schedule.accepted(campaign.result(task).result())) for task in tasks]
    failed = [result for task, result in results if schedule.is_failure(task, result)]
    if failed:
        raise _Refused(_unanswered(failed, len(tasks), campaign.engine.worker_setup))
    return trial


def _not_as_asked(count: int, unit: Literal["workers", "blocks"], crew: Crew) -> str | None:
    """Say why a trial does not measure this many workers or blocks, if it does not.

    If workers do not report their block, there are no more blocks than workers.
    """
    used = crew.workers if unit == "workers" or crew.blocks is None else crew.blocks
    seen_unit = unit if used is crew.blocks else "workers"
    asked = f"{counted(count, unit.removesuffix('s'))} asked for"
    if used.most < count:
        asked += f", no more than {counted(used.most, seen_unit.removesuffix('s'))} seen at work"
        if crew.tasks < count:
            return f"{asked}\nthere were no more tasks: use a pallet with more fits"
        if unit == "workers":
            return f"{asked}\nthe fits were done before: use a pallet with more or longer fits"
        return (
            f"{asked}\nthe others were pending until the fits were done, or the endpoint starts no "
            "more:\ncheck max_blocks in its configuration, and the queue"
        )
    if used is crew.blocks and used.least > count:
        return (
            f"{asked}, {used.least} seen at work\nthe endpoint starts more than it is asked for: "
            "its configuration must take\nmax_blocks from user_endpoint_config"
        )
    return None


def _unanswered(failed: Sequence[HypotestResult], fits: int, worker_setup: str) -> str:
    """Say which fits gave no answer that could be right, what they gave, and what to do."""
    kinds: dict[tuple[str, str], list[HypotestResult]] = {}
    for result in failed:
        kind = result.status, result.error.type if result.error else ""
        kinds.setdefault(kind, []).append(result)
    most_first = sorted(kinds.values(), key=len, reverse=True)
    lines = [f"{len(those)} of {counted(fits, 'fit')} {_ending(those[0])}" for those in most_first]
    lines.append(listed([result.patch for those in most_first for result in those], _NAMED))
    first = most_first[0][0]
    if first.status == "error" and first.error is not None:
        advice = advice_on(first.error, first.environment)
        lines += [] if advice is None else advice.lines(worker_setup)
        lines.append("a time counts only if each fit gives CLs, or the exception of its reference")
    return "\n".join(lines)


def _ending(result: HypotestResult) -> str:
    error = result.error
    if error is None:
        return _ENDED[result.status].rstrip(":")
    said = shortened(one_line(error.message), _MESSAGE)
    if result.status == "error":
        said = f"{error.type}: {error.first_line}"
    return f"{_ENDED[result.status]} {said}"
