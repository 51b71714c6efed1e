"""What becomes of pods, as the API of Kubernetes says it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from parsl.jobs.states import JobState, JobStatus

from pytest_pyhf_faas.engines import parsl_pods


class ApiError(Exception):
    def __init__(self, status):
        super().__init__(status)
        self.status = status


class Api:
    """Knows one pod, or answers with an error."""

    def __init__(self, pod=None, error=None):
        self.pod, self.error, self.deleted = pod, error, []

    def read_namespaced_pod(self, name, namespace):
        if self.error is not None:
            raise self.error
        return self.pod

    def read_namespaced_pod_log(self, name, namespace, tail_lines):
        return "no such module: pyhf\n"

    def delete_namespaced_pod(self, name, namespace):
        self.deleted.append(name)


def state(**what):
    empty = dict.fromkeys(("waiting", "running", "terminated"))
    return SimpleNamespace(**{**empty, **what})


def pod(phase, now=None, last=None, conditions=()):
    containers = [] if now is None else [SimpleNamespace(state=now, last_state=last)]
    return SimpleNamespace(
        status=SimpleNamespace(phase=phase, container_statuses=containers, conditions=conditions)
    )


def seen(api):
    """Return how a provider sees a pod that it took for a running one."""
    running = JobStatus(JobState.RUNNING)
    provider = SimpleNamespace(
        kube_client=api,
        namespace="default",
        resources={"1a": {"status": running, "pod_name": "block.1a"}},
    )
    parsl_pods.watch(provider)
    provider._status()
    return provider


FAILED = SimpleNamespace(exit_code=1)
BACK_OFF = state(waiting=SimpleNamespace(reason="CrashLoopBackOff", message="back-off 10s"))


@pytest.mark.parametrize(
    ("shown", "becomes"),
    [
        (pod("Pending"), JobState.PENDING),
        (pod("Running", state(running=object()), state()), JobState.RUNNING),
        (pod("Succeeded"), JobState.COMPLETED),
        (pod("Failed"), JobState.FAILED),  # evicted: no container any more
        (pod("Unknown"), JobState.UNKNOWN),
    ],
)
def test_a_pod_is_as_its_phase_says(shown, becomes):
    api = Api(shown)
    assert seen(api).resources["1a"]["status"].state == becomes
    assert api.deleted == []


@pytest.mark.parametrize("now", [BACK_OFF, state(running=object())])
def test_a_container_that_starts_again_failed_and_is_not_left_to_go_on(now):
    api = Api(pod("Running", now, state(terminated=FAILED)))
    status = seen(api).resources["1a"]["status"]
    assert status.state == JobState.FAILED
    assert (status.exit_code, status.message) == (1, "no such module: pyhf")
    assert api.deleted == ["block.1a"]


def test_a_pod_that_is_gone_has_ended():
    status = seen(Api(error=ApiError(404))).resources["1a"]["status"]
    assert status.state == JobState.CANCELLED
    assert "its pod was deleted" in status.message


@pytest.mark.parametrize("error", [ApiError(500), ConnectionError()])
def test_an_api_that_does_not_answer_is_no_news(error):
    assert seen(Api(error=error)).resources["1a"]["status"].state == JobState.RUNNING


UNSCHEDULABLE = SimpleNamespace(
    type="PodScheduled", status="False", reason="Unschedulable", message="0/3 nodes are available"
)


@pytest.mark.parametrize(
    ("shown", "says"),
    [
        (pod("Pending", BACK_OFF), "1 CrashLoopBackOff (back-off 10s) in Kubernetes"),
        (
            pod("Pending", conditions=[UNSCHEDULABLE]),
            "1 Unschedulable (0/3 nodes are available) in Kubernetes",
        ),
        (pod("Running", state(running=object())), ""),
    ],
)
def test_it_is_said_what_a_pod_waits_for(shown, says):
    assert parsl_pods.waiting(seen(Api(shown)), ["1a"]) == says
