"""Jobs of a PBS Pro with and without a history, as its `qstat` shows them."""

from __future__ import annotations

import json

import pytest
from parsl.jobs.states import JobState, JobStatus
from parsl.providers import PBSProProvider

from pytest_pyhf_faas.engines import parsl_pbspro

NO_HISTORY = "qstat: PBS is not configured to maintain job history"
UNKNOWN = "qstat: Unknown Job Id 8.head"
RUNS = json.dumps({"Jobs": {"7.head": {"job_state": "R"}}})
BOTH = json.dumps({"Jobs": {"7.head": {"job_state": "R"}, "8.head": {"job_state": "F"}}})


def states(*answers):
    """Return how a provider sees jobs 7, which runs, and 8, which has ended."""
    provider = PBSProProvider()
    paths = {"job_stdout_path": None, "job_stderr_path": None}
    for job in ("7.head", "8.head"):
        provider.resources[job] = {"status": JobStatus(JobState.PENDING), **paths}
    left = list(answers)
    provider.execute_wait = lambda command, timeout=None: left.pop(0)
    parsl_pbspro.watch(provider)
    provider._status()
    assert left == []
    return [resource["status"].state for resource in provider.resources.values()]


@pytest.mark.parametrize("code", [0, 1, 153])
def test_without_a_history_those_that_are_not_shown_have_ended(code):
    """Whatever the exit status is by which it says so: versions differ."""
    told = (code, "", NO_HISTORY)
    assert states(told, (153, RUNS, UNKNOWN)) == [JobState.RUNNING, JobState.COMPLETED]
    assert states(told, (153, "", UNKNOWN)) == [JobState.COMPLETED, JobState.COMPLETED]


def test_a_history_is_taken_as_it_is():
    assert states((0, BOTH, "")) == [JobState.RUNNING, JobState.COMPLETED]


def test_a_server_that_does_not_answer_is_no_news():
    silent = (1, "", "qstat: cannot connect to server head (errno=15010)")
    assert states(silent) == 2 * [JobState.PENDING]
    assert states((0, "", NO_HISTORY), silent) == 2 * [JobState.PENDING]
