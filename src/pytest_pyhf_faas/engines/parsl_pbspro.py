"""Support PBS Pro without a history of jobs, which is its default.

Parsl's provider asks with ``qstat -x``, which knows of no job there. Then all that run seem to have
ended, and Parsl starts block after block.
"""

from __future__ import annotations

from typing import Any

_HISTORY = "qstat -x "
_NO_HISTORY = "not configured to maintain job history"
_UNKNOWN = "Unknown Job Id"


def watch(provider: Any) -> None:
    """Let a provider ask only for jobs that have not ended, if others are unknown."""
    ask = provider.execute_wait

    def execute_wait(command: str, timeout: int | None = None) -> tuple[int, str, str]:
        code, output, errors = ask(command, timeout)
        if command.startswith(_HISTORY) and _NO_HISTORY in errors:
            code, output, errors = ask(command.replace(_HISTORY, "qstat ", 1), timeout)
            if _UNKNOWN in errors:  # of those that have ended; the others are shown
                code, output = 0, output.strip() or "{}"
        return code, output, errors

    provider.execute_wait = execute_wait
