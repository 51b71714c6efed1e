"""Correct the states of pods that Parsl's KubernetesProvider misreads.

It reads a deleted pod as running, and also one whose container fails
again and again: its pods name no restart policy, so Kubernetes restarts their container
forever. In both cases Parsl would wait for workers that never come.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Any

from parsl.jobs.states import JobState, JobStatus

_NOT_FOUND = 404
_PHASES = {
    "Pending": JobState.PENDING,
    "Running": JobState.RUNNING,
    "Succeeded": JobState.COMPLETED,
    "Failed": JobState.FAILED,
}
_LOG_LINES = 20
_GONE = "its pod was deleted or evicted, or its node died"


def watch(provider: Any) -> None:
    """Let a provider see the true states of its pods."""
    provider._status = lambda: _update(provider)  # noqa: SLF001


def waiting(provider: Any, jobs: list[str]) -> str:
    """Say why the pods of some jobs do not run."""
    reasons = Counter(filter(None, (_reason(_read(provider, job)) for job in jobs)))
    return ", ".join(f"{count} {reason} in Kubernetes" for reason, count in reasons.items())


def why_it_ended(provider: Any, job: str) -> str | None:
    """Return what Kubernetes knows about the end of a pod, or None if it has not ended."""
    pod = _read(provider, job)
    if pod is None:
        return _GONE
    said = [pod.status.reason, pod.status.message]  # of an eviction, or of a deadline
    ended = _ended(pod)
    if ended is not None:
        said += [ended.reason, f"exit status {ended.exit_code}"]
    return ", ".join(filter(None, said)) or None


def _update(provider: Any) -> None:
    for job, resource in list(provider.resources.items()):
        if not resource["status"].terminal:
            with contextlib.suppress(Exception):  # no answer from the API means no change
                resource["status"] = _status(provider, job)


def _status(provider: Any, job: str) -> JobStatus:
    pod = _read(provider, job)
    if pod is None:
        return JobStatus(JobState.CANCELLED, _GONE)
    ended = _ended(pod)
    if ended is not None:
        status = JobStatus(JobState.FAILED, _log(provider, job), exit_code=ended.exit_code)
        if pod.status.phase == "Running":  # it would restart forever
            _delete(provider, job)
        return status
    return JobStatus(_PHASES.get(pod.status.phase, JobState.UNKNOWN))


def _read(provider: Any, job: str) -> Any:
    """Return a pod, or None if there is no such pod any more."""
    name = provider.resources[job]["pod_name"]
    try:
        return provider.kube_client.read_namespaced_pod(name=name, namespace=provider.namespace)
    except Exception as error:
        if getattr(error, "status", None) == _NOT_FOUND:
            return None
        raise


def _ended(pod: Any) -> Any:
    """Return how the container of a pod ended, if it has, now or before it started again."""
    for container in pod.status.container_statuses or ():
        for state in (container.state, container.last_state):
            if state is not None and state.terminated is not None:
                return state.terminated
    return None


def _log(provider: Any, job: str) -> str | None:
    with contextlib.suppress(Exception):
        log = provider.kube_client.read_namespaced_pod_log(
            name=provider.resources[job]["pod_name"],
            namespace=provider.namespace,
            tail_lines=_LOG_LINES,
        )
        return str(log).strip() or None
    return None


def _delete(provider: Any, job: str) -> None:
    with contextlib.suppress(Exception):
        provider.kube_client.delete_namespaced_pod(
            name=provider.resources[job]["pod_name"], namespace=provider.namespace
        )


def _reason(pod: Any) -> str:
    if pod is None:
        return ""
    for container in pod.status.container_statuses or ():
        wait = container.state.waiting if container.state is not None else None
        if wait is not None:
            return f"{wait.reason} ({wait.message})" if wait.message else str(wait.reason)
    for condition in pod.status.conditions or ():
        if condition.type == "PodScheduled" and condition.status == "False":
            return f"{condition.reason} ({condition.message})"
    return ""
