"""Parsl's interchange, which ends with its client, however that ends.

Parsl leaves the interchange, its blocks and their jobs alone when the client is killed. This one
watches its parent, takes the jobs back, and ends itself; then managers end because it is missing.
It is also found if the environment's bin directory is not on the PATH, does not receive the Ctrl-C
that is meant for pytest, and does not hold pytest's output open. It also reports how old the
heartbeats of its managers are, which Parsl does not.
"""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dill  # also pickles a provider whose class is in the configuration
from parsl.executors.high_throughput import interchange
from parsl.utils import setproctitle

_POLL_S = 0.5
#: How often it records when it heard from its managers.
_HEARD_S = 1.0


def launch_command(jobs: Path) -> list[str]:
    """Return the command that Parsl starts as its interchange."""
    return [sys.executable, "-m", __name__, str(jobs), str(os.getpid())]


def remember_jobs(path: Path, jobs: list[tuple[Any, list[str], list[int]]]) -> None:
    """Record what has to be ended: provider, its jobs, and process groups of this machine."""
    partial = path.with_suffix(".new")
    try:
        data = dill.dumps(jobs)
    except Exception:  # noqa: BLE001 - a provider that holds a connection cannot be written down
        data = dill.dumps([(None, [], groups) for _provider, _jobs, groups in jobs])
    partial.touch(mode=0o600)
    partial.write_bytes(data)
    partial.replace(path)


def heartbeat_path(jobs: Path, pid: int) -> Path:
    """Return the file in which an interchange records when it heard from its managers."""
    return jobs.with_suffix(f".{pid}.heard")


def heartbeat_age_s(jobs: Path, pid: int) -> float | None:
    """Return the age of the oldest last heartbeat of a manager, if there is one."""
    try:
        return max(0.0, time.time() - float(heartbeat_path(jobs, pid).read_text()))
    except (OSError, ValueError):
        return None


class Interchange(interchange.Interchange):
    """Parsl's interchange, which also records when it heard from its managers.

    Parameters
    ----------
    heard : Path
        Where to.
    config : dict
        As Parsl's takes it.
    """

    def __init__(self, heard: Path, **config: Any) -> None:
        super().__init__(**config)
        self._heard = heard
        self._noted_at = -math.inf

    def expire_bad_managers(self, *arguments: Any) -> None:
        """Drop managers without heartbeats; called in each turn."""
        super().expire_bad_managers(*arguments)
        now = time.monotonic()
        if now - self._noted_at < _HEARD_S:
            return
        self._noted_at = now
        last = [manager["last_heartbeat"] for manager in self._ready_managers.values()]
        with contextlib.suppress(OSError):  # only a text for people depends on it
            partial = self._heard.with_suffix(".part")
            partial.write_text(str(min(last)) if last else "")
            partial.replace(self._heard)


def end_groups(groups: list[int], grace_s: float = 2.0) -> None:
    """End process groups of this machine: asked first, then killed."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for group in groups:
            with contextlib.suppress(OSError):
                os.killpg(group, number)
        deadline = time.monotonic() + grace_s
        while time.monotonic() < deadline and any(_alive(group) for group in groups):
            time.sleep(0.05)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def _end_with(parent: int, jobs: Path) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    with contextlib.suppress(OSError):
        # Our own file, in a directory of this user, as Parsl's own certificates are.
        for provider, job_ids, groups in dill.loads(jobs.read_bytes()):  # noqa: S301
            if job_ids:
                with contextlib.suppress(Exception):
                    provider.cancel(job_ids)
            end_groups(groups)
    os._exit(1)


def main() -> None:
    """Run the interchange; its configuration comes on standard input."""
    jobs = Path(sys.argv[1])
    parent = int(sys.argv[2])  # it may have ended already
    with contextlib.suppress(OSError):
        os.setsid()
    log = os.open(jobs.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    threading.Thread(target=_end_with, args=(parent, jobs), daemon=True).start()
    setproctitle("parsl: HTEX interchange")
    # Parsl writes it to this pipe, and reads it so in its own interchange.
    config = pickle.load(sys.stdin.buffer)  # noqa: S301
    Interchange(heartbeat_path(jobs, os.getpid()), **config).start()


if __name__ == "__main__":
    main()
