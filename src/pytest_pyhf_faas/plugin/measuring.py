"""The wall time of an analysis, with the workers of its endpoint or with another number of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.campaign.times import WallTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.times import Trial
    from pytest_pyhf_faas.plugin.schedule import Schedule
    from pytest_pyhf_faas.plugin.subjects import Subject

    Repeat = Callable[[Callable[[], Trial]], Any]


def measure(
    schedule: Schedule, subject: Subject, repeat: Repeat
) -> tuple[WallTime, list[HypotestResult]]:
    """Measure the wall time of an analysis.

    Parameters
    ----------
    schedule : Schedule
        What does the fits of the session.
    subject : Subject
        What the item that measures is about.
    repeat : callable
        Calls what it is given once for each trial.

    Returns
    -------
    tuple
        The wall time, and the results of the last trial.
    """
    assert subject.pallet is not None
    analysis = subject.pallet.name
    campaign = schedule.campaign(subject.endpoint)
    schedule.campaigns.watch_interrupts()
    tasks = schedule.with_pools(subject.endpoint, subject.tasks)
    trials: list[Trial] = []

    def trial() -> Trial:
        trials.append(campaign.measure(tasks, partial(schedule.campaigns.show, campaign)))
        return trials[-1]

    try:
        repeat(trial)
    finally:
        schedule.campaigns.clear()
    timeline = campaign.timeline(analysis, subject.config)
    wall_time = WallTime(analysis, subject.endpoint, tuple(trials), timeline)
    schedule.wall_times.append(wall_time)
    return wall_time, [campaign.result(task).result() for task in tasks]


def scaling_unit(endpoint: str) -> Literal["workers", "blocks"]:
    """Return what `measure_with` has some number of on an endpoint."""
    return "workers" if endpoint.partition(":")[0] == "local" else "blocks"


def measure_with(
    schedule: Schedule, subject: Subject, repeat: Repeat
) -> tuple[list[Trial], list[HypotestResult]]:
    """Measure the wall time of an analysis with another number of workers or blocks.

    Parameters
    ----------
    schedule : Schedule
        What does the fits of the session.
    subject : Subject
        What the item that measures is about. The endpoint's own workers are ended first.
    repeat : callable
        Calls what it is given once for each trial; each starts workers of its own.

    Returns
    -------
    tuple
        The trials, and the results of the last.
    """
    endpoint, count = subject.endpoint, subject.count
    tasks = schedule.with_pools(endpoint, subject.tasks)
    in_workers = scaling_unit(endpoint) == "workers"
    trials: list[Trial] = []
    results: list[HypotestResult] = []

    def trial() -> Trial:
        engine = (
            schedule.campaigns.new_engine(f"local:{count}")
            if in_workers
            else schedule.campaigns.new_engine(endpoint, blocks=count)
        )
        with schedule.campaigns.passing(engine) as campaign:
            trials.append(campaign.measure(tasks, partial(schedule.campaigns.show, campaign)))
            results[:] = [campaign.result(task).result() for task in tasks]
        return trials[-1]

    schedule.campaigns.rest(endpoint)
    schedule.campaigns.watch_interrupts()
    repeat(trial)
    return trials, results
