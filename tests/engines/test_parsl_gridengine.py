"""What becomes of jobs of Grid Engine, as its `qstat` writes it."""

from __future__ import annotations

import pytest
from parsl.jobs.states import JobState, JobStatus

from pytest_pyhf_faas.engines import parsl_gridengine

HEAD = "job-ID  prior   name       user   state submit/start at     queue   slots ja-task-ID\n---\n"
ROW = "      {} 0.50000 parsl.grid root   {}    11/27/2026 13:54:36 all.q@node3   16\n"
ERROR = """\
error reason          1:      11/27/2026 13:54:36 [0:19048]: error: can't chdir to /no/such: \
No such file or directory
scheduling info:            Job is in error state
"""


class Provider:
    """Has submitted jobs, of which `qstat` shows some."""

    def __init__(self, *jobs, state=JobState.PENDING, **shown):
        self.resources = {job: {"status": JobStatus(state)} for job in jobs}
        self.rows = "".join(ROW.format(job.strip("j"), letters) for job, letters in shown.items())
        self.commands, self.code = [], 0

    def execute_wait(self, command):
        self.commands.append(command)
        if command == "qstat":
            return self.code, HEAD + self.rows if self.rows else "", ""
        return 0, ERROR, ""

    def seen(self, job):
        """Return how it sees a job now."""
        parsl_gridengine.watch(self)
        self._status()
        return self.resources[job]["status"]


@pytest.mark.parametrize(
    ("letters", "state"),
    [
        ("qw", JobState.PENDING),
        ("hqw", JobState.PENDING),
        ("Rq", JobState.PENDING),
        ("t", JobState.RUNNING),  # handed to its host: Parsl takes it for one that failed
        ("r", JobState.RUNNING),
        ("hr", JobState.RUNNING),
        ("Rr", JobState.RUNNING),
        ("s", JobState.HELD),
        ("T", JobState.HELD),
        ("tS", JobState.HELD),
        ("dr", JobState.CANCELLED),
        ("dt", JobState.CANCELLED),
        ("Eqw", JobState.FAILED),
        ("z", JobState.UNKNOWN),
    ],
)
def test_a_job_is_as_its_letters_say(letters, state):
    provider = Provider("7", "8", j7=letters, j8="r")
    assert provider.seen("7").state == state
    assert provider.seen("8").state == JobState.RUNNING


def test_a_job_that_cannot_be_started_says_why_and_leaves_the_queue():
    provider = Provider("7", j7="Eqw")
    assert provider.seen("7").message == "error: can't chdir to /no/such: No such file or directory"
    assert "qdel 7" in provider.commands


def test_a_job_that_is_not_shown_has_ended():
    assert Provider("7", j8="r").seen("7").state == JobState.COMPLETED
    assert Provider("7").seen("7").state == JobState.COMPLETED  # nothing is shown at all


def test_a_master_that_does_not_answer_is_no_news():
    provider = Provider("7", state=JobState.RUNNING)
    provider.code = 1
    assert provider.seen("7").state == JobState.RUNNING


def test_what_has_ended_stays_so():
    provider = Provider("7", state=JobState.CANCELLED, j7="r")
    assert provider.seen("7").state == JobState.CANCELLED
