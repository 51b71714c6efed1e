"""Correct the states of jobs that Parsl's GridEngineProvider misreads.

It reads a job that is being transferred (`t`) as failed, so that Parsl starts another
block and forgets this one. A job that Grid Engine cannot start (`Eqw`) stays in the queue forever,
without a reason.
"""

from __future__ import annotations

import re
from typing import Any

from parsl.jobs.states import JobState, JobStatus

_WHY = re.compile(r"^error reason +\d+: +(?:\S+ \S+ \[\S+\]: )?(.+)$", re.MULTILINE)
#: Job, priority, name, user and state; the rest depends on the state.
_COLUMNS = 5
#: The first of these that has a letter of a job's is its state: `dr` is one that is being deleted.
_STATES = (
    ("d", JobState.CANCELLED),
    ("E", JobState.FAILED),
    ("sST", JobState.HELD),
    ("qw", JobState.PENDING),
    ("rt", JobState.RUNNING),
)


def watch(provider: Any) -> None:
    """Let a provider see the true states of its jobs."""
    provider._status = lambda: _update(provider)  # noqa: SLF001


def state_of(letters: str) -> JobState:
    """Return the state that `qstat` writes so; several letters may stand together."""
    for marks, state in _STATES:
        if set(letters) & set(marks):
            return state
    return JobState.UNKNOWN


def _update(provider: Any) -> None:
    code, output, _errors = provider.execute_wait("qstat")
    if code != 0:
        return  # no news
    rows = (line.split() for line in output.splitlines()[2:])
    shown = {row[0]: row[_COLUMNS - 1] for row in rows if len(row) >= _COLUMNS}
    for job, resource in list(provider.resources.items()):
        if resource["status"].terminal:
            continue
        state = state_of(shown[job]) if job in shown else JobState.COMPLETED
        message = None
        if state == JobState.FAILED:  # it would stay so forever
            message = _why(provider, job)
            provider.execute_wait(f"qdel {job}")
        resource["status"] = JobStatus(state, message)


def _why(provider: Any, job: str) -> str | None:
    code, output, _errors = provider.execute_wait(f"qstat -j {job}")
    found = _WHY.search(output) if code == 0 else None
    return found[1].strip() if found is not None else None
