"""Report why a batch system refuses a job.

Parsl's providers of Torque and Grid Engine write the reason to their log, which is off here, and
return no job. (The provider of LSF does the same, but cannot be corrected here.)
"""

from __future__ import annotations

from typing import Any

from parsl.providers.cluster_provider import ClusterProvider
from parsl.providers.errors import ScaleOutFailed


def watch(provider: Any) -> None:
    """Let a refused submission raise the reason, whatever the provider does with it."""
    submit = type(provider).submit
    refused: list[str] = []  # the last that was said

    def execute_wait(command: str, timeout: int | None = None) -> tuple[int, str, str]:
        done: tuple[int, str, str] = ClusterProvider.execute_wait(provider, command, timeout)
        code, output, errors = done
        if code != 0:
            said = errors.strip() or output.strip() or "nothing"
            refused[:] = [f"`{command}` ended with exit status {code}: {said}"]
        return done

    def telling(command: str, tasks_per_node: int, job_name: str = "parsl") -> Any:
        refused.clear()
        job = submit(provider, command, tasks_per_node, job_name)
        if job is None and refused:
            raise ScaleOutFailed(provider.label, refused[0])
        return job

    provider.execute_wait = execute_wait
    provider.submit = telling
