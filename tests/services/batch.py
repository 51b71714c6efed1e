"""What the stand-ins for batch systems share: a queue in a directory, and jobs that really run.

Each command of a stand-in (`qsub`, `condor_q`, ...) is a small script on the PATH of clients that
calls the module of the stand-in. There is no daemon: each job has a process that waits for its
turn, runs it in a session and an environment of its own, and writes down what becomes of it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.services.processes import MarkedProcesses, Service, call, wait_for

QUEUED, RUNNING, ENDED = "queued", "running", "ended"
CANCELLED, WALLTIME, FINISHED = "cancelled", "walltime", "finished"

LOOK_S = 0.1
#: What a job has of time between SIGTERM and SIGKILL.
GRACE_S = 2.0
#: The PATH of a compute node; nothing of the client's.
NODE_PATH = "/usr/local/bin:/usr/bin:/bin"

COMMAND = """\
#!/bin/sh
exec {python} -S -E {module} {directory} {name} "$@"
"""


class Queue:
    """The jobs of a stand-in, by their numbers, as files in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.closed = directory / "closed"

    def place(self, number: int) -> Path:
        """Return the directory of a job."""
        return self.directory / str(number)

    def read(self, number: int) -> dict[str, Any] | None:
        """Return what is known of a job, or None if there is none of this number."""
        try:
            return json.loads((self.place(number) / "job.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def write(self, number: int, job: dict[str, Any]) -> None:
        """Replace what is known of a job."""
        path = self.place(number) / "job.json"
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(job), encoding="utf-8")
        fresh.replace(path)

    def forget(self, number: int) -> None:
        """Drop a job that has ended."""
        shutil.rmtree(self.place(number), ignore_errors=True)

    def all(self) -> dict[int, dict[str, Any]]:
        """Return the jobs, the oldest first."""
        numbers = sorted(int(path.name) for path in self.directory.glob("[0-9]*"))
        return {number: job for number in numbers if (job := self.read(number)) is not None}

    def next_number(self) -> int:
        """Return the number of a new job, for which there is a directory now."""
        with (self.directory / "lock").open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            number = int(file.read() or 0) + 1
            file.truncate(0)
            file.write(str(number))
        self.place(number).mkdir()
        return number

    def submit(self, number: int, job: dict[str, Any], mark: int) -> None:
        """Take a job; see `Supervisor` for what is in it."""
        self.write(number, {**job, "state": QUEUED, "submitted_at": time.time()})
        Supervisor(self, number, mark).detach()

    def cancel(self, number: int) -> None:
        """Ask for the end of a job."""
        (self.place(number) / CANCELLED).touch()

    def expire(self, number: int) -> None:
        """Let the walltime of a job be over."""
        (self.place(number) / WALLTIME).touch()


class Supervisor:
    """What runs one job: waits for its turn, starts it, ends it, and writes down how it went.

    The description of a job has ``command``, ``env``, ``cwd``, ``stdout``, ``stderr`` (paths that
    the output is delivered to) and ``walltime_s`` (None: no limit).
    """

    def __init__(self, queue: Queue, number: int, mark: int) -> None:
        self.queue = queue
        self.number = number
        self.mark = mark
        self.place = queue.place(number)
        self.spool = {name: self.place / name for name in ("stdout", "stderr")}

    def detach(self) -> None:
        """Go on in a process that is nobody's child; the caller returns at once."""
        sys.stdout.flush()
        if os.fork():
            os.wait()
            return
        os.setsid()
        if os.fork():
            os._exit(0)
        try:
            log = os.open(self.place / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            null = os.open(os.devnull, os.O_RDONLY)
            for descriptor, target in ((null, 0), (log, 1), (log, 2)):
                os.dup2(descriptor, target)
            os.closerange(3, 256)
            hard = resource.getrlimit(resource.RLIMIT_MSGQUEUE)[1]
            resource.setrlimit(resource.RLIMIT_MSGQUEUE, (self.mark, hard))
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self.run()
        finally:
            os._exit(0)

    def run(self) -> None:
        """Run the job to its end."""
        job = self.queue.read(self.number)
        assert job is not None
        while not self._cancelled() and self.queue.closed.exists():
            time.sleep(LOOK_S)
        if self._cancelled():
            self._note(job, state=ENDED, why=CANCELLED, exit_status=None)
            return
        why, status = self._execute(job)
        if why == WALLTIME and job.get("walltime_text"):
            with self.spool["stderr"].open("a", encoding="utf-8") as file:
                file.write(job["walltime_text"] + "\n")
        if why in job.get("delivers_when", (FINISHED, CANCELLED, WALLTIME)):
            for name, spooled in self.spool.items():
                with contextlib.suppress(OSError):
                    shutil.copy(spooled, job[name])
        self._note(job, state=ENDED, why=why, exit_status=status)

    def _execute(self, job: dict[str, Any]) -> tuple[str, int]:
        with contextlib.ExitStack() as stack:
            files = {
                name: stack.enter_context(path.open("wb")) for name, path in self.spool.items()
            }
            process = subprocess.Popen(
                job["command"],
                env=job["env"],
                cwd=job["cwd"],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **files,
            )
        began = time.monotonic()
        self._note(job, state=RUNNING, began_at=time.time())
        limit_s = job["walltime_s"]
        why = FINISHED
        while process.poll() is None:
            if self._cancelled():
                why = CANCELLED
            elif self._asked(WALLTIME) or (limit_s and time.monotonic() - began > limit_s):
                why = WALLTIME
            if why != FINISHED:
                _signal(process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_S)
                _signal(process.pid, signal.SIGKILL)
            time.sleep(LOOK_S)
        _signal(process.pid, signal.SIGKILL)  # what it has left behind
        return why, process.returncode

    def _note(self, job: dict[str, Any], **news: object) -> None:
        job.update(news)
        self.queue.write(self.number, job)

    def _cancelled(self) -> bool:
        return self._asked(CANCELLED)

    def _asked(self, what: str) -> bool:
        return (self.place / what).exists()


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


class StandIn(Service):
    """A stand-in for a batch system, as tests use it.

    Parameters
    ----------
    directory
        Where its commands and its queue are.
    home
        The home directory of whoever submits, on the nodes; by default one in ``directory``.
    """

    #: The file that serves the commands, and their names.
    module: str
    commands: tuple[str, ...]

    def __init__(self, directory: Path, *, home: Path | None = None) -> None:
        super().__init__(directory)
        self.home = home or self.directory / "home"
        self.queue = Queue(self.directory / "queue")
        self._processes = MarkedProcesses(self.directory)

    @property
    def bin(self) -> Path:
        """Where its commands are."""
        return self.directory / "bin"

    @property
    def env(self) -> dict[str, str]:
        """What a client needs in its environment."""
        return {"PATH": f"{self.bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}

    def settings(self) -> dict[str, Any]:
        """What the commands have to know."""
        return {"home": str(self.home), "mark": self._processes.mark}

    def _start(self) -> None:
        for place in (self.bin, self.queue.directory, self.home):
            place.mkdir(exist_ok=True)
        (self.directory / "settings.json").write_text(json.dumps(self.settings()))
        for name in self.commands:
            path = self.bin / name
            text = COMMAND.format(
                python=sys.executable, module=self.module, directory=self.directory, name=name
            )
            path.write_text(text)
            path.chmod(0o755)

    def _stop(self) -> None:
        for number, job in self.queue.all().items():
            if job["state"] != ENDED:
                self.queue.cancel(number)
        wait_for(lambda: not self.jobs(), 2 * GRACE_S)
        self._processes.kill()
        shutil.rmtree(self.queue.directory, ignore_errors=True)

    def run(self, *command: str) -> str:
        """Run one of its commands as a user would."""
        return call([str(self.bin / command[0]), *command[1:]], timeout=30)

    def jobs(self) -> dict[str, str]:
        """Tell the states of the jobs that have not ended, by what clients call them."""
        jobs = self.queue.all().items()
        return {self.name(n): job["state"] for n, job in jobs if job["state"] != ENDED}

    def name(self, number: int) -> str:
        """Tell what clients call a job."""
        raise NotImplementedError

    def cancel(self, job: str) -> None:
        """End a job, as its owner or an administrator would from another shell."""
        raise NotImplementedError

    def expire(self, job: str) -> None:
        """Let the walltime of a running job be over, so that a test need not wait for it."""
        self.queue.expire(int(job.partition(".")[0]))

    def drain(self) -> None:
        """Start no jobs until `resume`."""
        self.queue.closed.touch()

    def resume(self) -> None:
        """Start jobs again."""
        self.queue.closed.unlink(missing_ok=True)


def settings(directory: str) -> dict[str, Any]:
    """Read what `StandIn.settings` has written for a command."""
    return json.loads((Path(directory) / "settings.json").read_text())


def seconds_of(text: str) -> int:
    """Read [[HH:]MM:]SS."""
    total = 0
    for part in text.split(":"):
        total = 60 * total + int(part)
    return total
