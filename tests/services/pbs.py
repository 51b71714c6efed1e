"""Stand-ins for PBS Pro and Torque: qsub, qstat and qdel in both dialects, and jobs that run.

What they print, and with which exit status, follows the sources of OpenPBS (src/cmds, and
src/resmom for a job's environment) and of Torque 6. Jobs begin in their home directory, in a login
shell, without the variables of the client; their output arrives when they have ended.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.services.batch import (
    CANCELLED,
    ENDED,
    NODE_PATH,
    QUEUED,
    RUNNING,
    WALLTIME,
    Queue,
    StandIn,
    seconds_of,
    settings,
)

#: Exit statuses are PBS's error numbers, of which a shell sees the last byte.
UNKNOWN_JOB, UNKNOWN_QUEUE = 15001 % 256, 15018 % 256
#: 256 and the signal for one that was deleted; those of a walltime are each server's own.
DELETED, OUT_OF_WALLTIME, OUT_OF_TORQUES_WALLTIME = 256 + 15, -29, -11
DEFAULT_WALLTIME_S = 3600
#: Name and owner have so many columns.
NAME_COLUMNS, OWNER_COLUMNS = 16, 15


class Pbs(StandIn):
    """A stand-in for PBS Pro.

    Parameters
    ----------
    history
        Whether ``job_history_enable`` is set, without which PBS Pro knows only what has not ended.
        PBS Pro's default is that it is not.
    queues
        The names of its queues; the first is the default.
    """

    module = __file__
    commands = ("qsub", "qstat", "qdel")
    dialect = "pbspro"

    def __init__(
        self,
        directory: Path,
        *,
        history: bool = True,
        queues: tuple[str, ...] = ("workq",),
        **options: Any,
    ) -> None:
        super().__init__(directory, **options)
        self.history = history
        self.queues = queues

    def settings(self) -> dict[str, Any]:
        own = {"dialect": self.dialect, "history": self.history, "queues": self.queues}
        return {**super().settings(), **own}

    def name(self, number: int) -> str:
        return job_id(number)

    def cancel(self, job: str) -> None:
        self.run("qdel", job)


class Torque(Pbs):
    """A stand-in for Torque, which shows jobs for a while after their end."""

    dialect = "torque"

    def __init__(self, directory: Path, **options: Any) -> None:
        super().__init__(directory, **{"queues": ("batch",), **options})


def server() -> str:
    """Tell the name of the PBS server."""
    return socket.gethostname()


def job_id(number: int) -> str:
    """Tell what clients call a job."""
    return f"{number}.{server()}"


class Commands:
    """The commands, each of which returns its exit status."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.settings = settings(directory)
        self.pro = self.settings["dialect"] == "pbspro"
        self.queue = Queue(self.directory / "queue")

    def qsub(self, *words: str) -> int:
        """Take a job."""
        script, options = _options(words)
        directives = []
        for line in Path(script).read_text(encoding="utf-8").splitlines():
            if line.startswith("#PBS "):
                directives += line.split()[1:]
            elif line.strip() and not line.startswith("#"):
                break  # what comes later is no directive
        options = {**_options(directives)[1], **options}
        queue = options.get("-q", self.settings["queues"][0])
        if queue not in self.settings["queues"]:
            said = "Unknown queue" if self.pro else "Unknown queue MSG=requested queue not found"
            print(f"qsub: {said}", file=sys.stderr)
            return UNKNOWN_QUEUE
        limits = dict(re.findall(r"(\w+)=([^,\s]+)", options.get("-l", "")))
        walltime_s = seconds_of(limits.get("walltime", str(DEFAULT_WALLTIME_S)))
        name = options.get("-N", Path(script).name)
        text = f"=>> PBS: job killed: walltime {walltime_s + 1} exceeded limit {walltime_s}"
        number = self.queue.next_number()
        copy = self.queue.place(number) / "script"
        copy.write_bytes(Path(script).read_bytes())
        job = {
            "name": name,
            "pbs_queue": queue,
            "account": options.get("-A"),
            "walltime_s": walltime_s,
            "walltime_text": text,
            "stdout": options.get("-o", f"{Path.cwd()}/{name}.o{number}"),
            "stderr": options.get("-e", f"{Path.cwd()}/{name}.e{number}"),
            "cwd": self.settings["home"],
            "command": ["bash", "--login", str(copy)],
        }
        job["env"] = self._env(number, job, limits)
        print(job_id(number))
        self.queue.submit(number, job, self.settings["mark"])
        return 0

    def _env(self, number: int, job: dict[str, Any], limits: dict[str, str]) -> dict[str, str]:
        place = self.queue.place(number)
        cores = re.search(r"ncpus=(\d+)", limits.get("select", "")) or re.search(
            r"ppn=(\d+)", limits.get("nodes", "")
        )
        count = int(cores[1]) if cores else 1
        nodes = place / "nodes"
        # PBS Pro names a node once for each MPI process of it, Torque once for each core.
        nodes.write_text(f"{server()}\n" * (1 if self.pro else count))
        temporary = place / "tmp"
        temporary.mkdir()
        user = getpass.getuser()
        env = {
            "HOME": self.settings["home"],
            "LOGNAME": user,
            "USER": user,
            "SHELL": "/bin/bash",
            "PATH": NODE_PATH,
            "TMPDIR": str(temporary),
            "PBS_ENVIRONMENT": "PBS_BATCH",
            "PBS_JOBID": job_id(number),
            "PBS_JOBNAME": job["name"],
            "PBS_QUEUE": job["pbs_queue"],
            "PBS_NODEFILE": str(nodes),
            "PBS_NODENUM": "0",
            "PBS_TASKNUM": "1",
            "PBS_O_HOST": server(),
            "PBS_O_WORKDIR": str(Path.cwd()),
            "PBS_O_PATH": os.environ.get("PATH", ""),
            "PBS_O_HOME": os.environ.get("HOME", ""),
            "PBS_O_LOGNAME": user,
            "PBS_O_SHELL": os.environ.get("SHELL", ""),
            "PBS_O_QUEUE": job["pbs_queue"],
        }
        if self.pro:
            threads = {"NCPUS": str(count), "OMP_NUM_THREADS": str(count)}
            return {**env, **threads, "ENVIRONMENT": "BATCH", "PBS_JOBDIR": env["HOME"]}
        shares = {"PBS_NP": str(count), "PBS_NUM_PPN": str(count), "PBS_NUM_NODES": "1"}
        return {**env, **shares, "PBS_WALLTIME": str(job["walltime_s"])}

    def qstat(self, *words: str) -> int:
        """Show jobs, by default all that have not ended."""
        flags = [word for word in words if word.startswith("-")]
        asked = [word for word in words if word[0].isdigit()]
        old = not self.pro or "-x" in flags
        if self.pro and old and not self.settings["history"]:
            print("qstat: PBS is not configured to maintain job history", file=sys.stderr)
            found, status = {}, 0  # and succeeds, as PBS Pro does
        else:
            found, status = self._find(asked, old=old)
        if "-f" in flags and not self.pro:
            for number, job in found.items():
                self._print_full(number, job)
        elif "json" in words:
            head = {"timestamp": int(time.time()), "pbs_version": "23.06.06"}
            shown = {job_id(number): self._full(job) for number, job in found.items()}
            print(
                json.dumps({**head, "pbs_server": server(), **({"Jobs": shown} if shown else {})})
            )
        elif found:
            self._print_table(found)
        return status

    def _find(self, asked: list[str], *, old: bool) -> tuple[dict[int, dict[str, Any]], int]:
        if not asked:
            jobs = self.queue.all().items()
            return {n: job for n, job in jobs if job["state"] != ENDED or not self.pro or old}, 0
        found, status = {}, 0
        for word in asked:
            number = int(word.partition(".")[0])
            job = self.queue.read(number)
            gone = job is None or (
                job["state"] == ENDED and self.pro and not self.settings["history"]
            )
            if job is None or gone:
                said = "Unknown Job Id" if self.pro else "Unknown Job Id Error"
                print(f"qstat: {said} {word}", file=sys.stderr)
                status = UNKNOWN_JOB
            elif job["state"] == ENDED and not old:
                print(
                    f"qstat: {word} Job has finished, use -x or -H to obtain historical job "
                    "information",
                    file=sys.stderr,
                )
                status = 35
            else:
                found[number] = job
        return found, status

    def _letter(self, job: dict[str, Any]) -> str:
        return {QUEUED: "Q", RUNNING: "R", ENDED: "F" if self.pro else "C"}[job["state"]]

    def _full(self, job: dict[str, Any]) -> dict[str, Any]:
        full = {
            "Job_Name": job["name"],
            "Job_Owner": f"{getpass.getuser()}@{server()}",
            "job_state": self._letter(job),
            "queue": job["pbs_queue"],
            "server": server(),
            "ctime": time.ctime(job["submitted_at"]),
            "Error_Path": f"{server()}:{job['stderr']}",
            "Output_Path": f"{server()}:{job['stdout']}",
            "Resource_List": {"walltime": time.strftime("%T", time.gmtime(job["walltime_s"]))},
        }
        if job["state"] == QUEUED:
            full["comment"] = "Not Running: Not enough free nodes available"
        if job["state"] == ENDED and job["exit_status"] is not None:
            limit = OUT_OF_WALLTIME if self.pro else OUT_OF_TORQUES_WALLTIME
            ended = {CANCELLED: DELETED, WALLTIME: limit}
            status = job["exit_status"]
            full["Exit_status"] = ended.get(job["why"], status if status >= 0 else 256 - status)
        return full

    def _print_full(self, number: int, job: dict[str, Any]) -> None:
        full = self._full(job)
        full["exit_status"] = full.pop("Exit_status", None)
        limits = full.pop("Resource_List")
        print(f"Job Id: {job_id(number)}")
        for key, value in {**full, "Resource_List.walltime": limits["walltime"]}.items():
            if value is not None:
                print(f"    {key} = {value}")
        print()

    def _print_table(self, jobs: dict[int, dict[str, Any]]) -> None:
        form = "{:<25} {:<16} {:<15} {:>8} {} {}"
        print("Job ID                    Name             User            Time Use S Queue")
        print("------------------------- ---------------- --------------- -------- - -----")
        for number, job in jobs.items():
            name = job["name"]
            if len(name) > NAME_COLUMNS:
                name = "..." + name[3 - NAME_COLUMNS :]
            used = "00:00:00" if job["state"] != QUEUED else "0"
            owner = getpass.getuser()[:OWNER_COLUMNS]
            letter, queue = self._letter(job), job["pbs_queue"]
            print(form.format(job_id(number)[:25], name, owner, used, letter, queue))

    def qdel(self, *words: str) -> int:
        """End jobs."""
        status = 0
        for word in words:
            number = int(word.partition(".")[0])
            job = self.queue.read(number)
            if job is None or (job["state"] == ENDED and self.pro and not self.settings["history"]):
                said = "Unknown Job Id" if self.pro else "Unknown Job Id Error"
                print(f"qdel: {said} {word}", file=sys.stderr)
                status = UNKNOWN_JOB
            elif job["state"] == ENDED:
                said = "Job has finished" if self.pro else "Request invalid for state of job"
                print(f"qdel: {said} {word}", file=sys.stderr)
                status = 15014 % 256
            else:
                self.queue.cancel(number)
        return status


def _options(words: Any) -> tuple[str, dict[str, str]]:
    """Return the script and the options; values of one option that may stand twice are joined."""
    rest, options = list(words), {}
    script = ""
    while rest:
        word = rest.pop(0)
        if word.startswith("-") and rest:
            value = rest.pop(0)
            options[word] = f"{options[word]},{value}" if word in options else value
        else:
            script = word
    return script, options


if __name__ == "__main__":
    sys.exit(getattr(Commands(sys.argv[1]), sys.argv[2])(*sys.argv[3:]))
