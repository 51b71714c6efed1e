"""A stand-in for HTCondor: condor_submit, condor_q and condor_rm, and jobs that run.

What they print follows HTCondor 23 (src/condor_tools, and the manual's list of the variables that
a starter sets). A job begins in a scratch directory with the files that were transferred to it and
without a HOME or a PATH; there is no walltime but what a job's own ``periodic_remove`` says.
"""

from __future__ import annotations

import getpass
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.services.batch import (
    CANCELLED,
    ENDED,
    FINISHED,
    QUEUED,
    RUNNING,
    WALLTIME,
    Queue,
    StandIn,
    settings,
)

IDLE_STATUS, RUNNING_STATUS, REMOVED_STATUS, COMPLETED_STATUS = 1, 2, 3, 4
#: By default a starter tells all of these how many cores a job has.
THREADS = (
    *("CUBACORES", "GOMAXPROCS", "JULIA_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"),
    *("OMP_NUM_THREADS", "OMP_THREAD_LIMIT", "OPENBLAS_NUM_THREADS", "ROOT_MAX_THREADS"),
    *("TF_LOOP_PARALLEL_ITERATIONS", "TF_NUM_THREADS"),
)
#: The one form of an expression that is understood.
OUT_OF_TIME = re.compile(
    r"\(JobStatus == 2\) && \(time\(\) - EnteredCurrentStatus > (\d+)\)", re.IGNORECASE
)


class HTCondor(StandIn):
    """A stand-in for an HTCondor pool with a shared file system."""

    module = __file__
    commands = ("condor_submit", "condor_q", "condor_rm")

    def name(self, number: int) -> str:
        return f"{number}.0"

    def cancel(self, job: str) -> None:
        self.run("condor_rm", job)


class Commands:
    """The commands, each of which returns its exit status."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.settings = settings(directory)
        self.queue = Queue(self.directory / "queue")

    def condor_submit(self, file: str) -> int:
        """Take a job."""
        asked: dict[str, str] = {}
        for line in Path(file).read_text(encoding="utf-8").splitlines():
            key, equals, value = line.partition("=")
            if equals and not line.lstrip().startswith("#"):
                asked[key.strip().lower()] = value.strip()
        number = self.queue.next_number()
        scratch = self.queue.place(number) / "scratch"
        scratch.mkdir()
        for path in asked.get("transfer_input_files", "").split(","):
            shutil.copy(path, scratch)
        limit = None
        if expression := asked.get("periodic_remove"):
            match = OUT_OF_TIME.fullmatch(expression)
            if match is None:
                print(f"ERROR: Parse error in expression: \n\t{expression}", file=sys.stderr)
                return 1
            limit = int(match[1])
        job = {
            "walltime_s": limit,
            "periodic_remove": expression,
            "stdout": asked["output"],
            "stderr": asked["error"],
            # Files come back when a job exits or is evicted, not when it is removed.
            "delivers_when": [FINISHED],
            "cwd": str(scratch),
            "command": [asked["executable"], *shlex.split(asked.get("arguments", ""))],
            "env": self._env(scratch, asked),
            "stays": asked.get("leave_in_queue", "").lower() == "true",
        }
        print("Submitting job(s).")
        print(f"1 job(s) submitted to cluster {number}.")
        self.queue.submit(number, job, self.settings["mark"])
        return 0

    def _env(self, scratch: Path, asked: dict[str, str]) -> dict[str, str]:
        place = str(scratch)
        cores = asked.get("requestcpus", "1")
        own = asked.get("environment", '""').strip('"').replace('""', '"')
        return {
            "BATCH_SYSTEM": "HTCondor",
            "_CONDOR_JOB_AD": f"{place}/.job.ad",
            "_CONDOR_JOB_IWD": place,
            "_CONDOR_MACHINE_AD": f"{place}/.machine.ad",
            "_CONDOR_SCRATCH_DIR": place,
            "_CONDOR_SLOT": "slot1_1",
            **dict.fromkeys(("TEMP", "TMP", "TMPDIR"), place),
            **dict.fromkeys(THREADS, cores),
            **dict(pair.partition("=")[::2] for pair in shlex.split(own)),
        }

    def condor_q(self, *words: str) -> int:
        """Show one attribute of jobs: ``JOBS -af:jr JobStatus``, ``JOBS -af RemoveReason``."""
        *jobs, form, attribute = words
        show = {"JobStatus": self._status, "RemoveReason": self._reason}[attribute]
        for number, job in self._named(jobs).items():
            if job["state"] != ENDED or job["stays"]:
                print(f"{number}.0 {show(job)}" if form == "-af:jr" else show(job))
        return 0

    def _status(self, job: dict[str, Any]) -> int:
        if job["state"] != ENDED:
            return {QUEUED: IDLE_STATUS, RUNNING: RUNNING_STATUS}[job["state"]]
        return COMPLETED_STATUS if job["why"] == FINISHED else REMOVED_STATUS

    def _reason(self, job: dict[str, Any]) -> str:
        if job.get("why") == WALLTIME:
            expression = job["periodic_remove"]
            return f"The job attribute PeriodicRemove expression '{expression}' evaluated to TRUE"
        if job.get("why") == CANCELLED:
            return f"via condor_rm (by user {getpass.getuser()})"
        return "undefined"

    def condor_rm(self, *words: str) -> int:
        """Remove jobs; with -forcex also those from the queue that only are shown there."""
        forced = "-forcex" in words
        asked = [word for word in words if word[0].isdigit()]
        found = self._named(asked)
        status = 0
        for word in asked:
            number = int(word.partition(".")[0])
            if number not in found:
                print(f"Job {word} not found", file=sys.stderr)
                status = 1
            elif not forced:
                if found[number]["state"] == ENDED:
                    self.queue.write(number, {**found[number], "why": "removed"})
                else:
                    self.queue.cancel(number)
                print(f"Job {word} marked for removal")
            else:
                if found[number]["state"] == ENDED:
                    self.queue.forget(number)
                else:  # its process writes that down yet
                    self.queue.write(number, {**found[number], "stays": False})
                print(f"Job {word} removed locally (remote state unknown)")
        return status

    def _named(self, words: Any) -> dict[int, dict[str, Any]]:
        numbers = [int(word.partition(".")[0]) for word in words]
        return {number: job for number in numbers if (job := self.queue.read(number)) is not None}


if __name__ == "__main__":
    sys.exit(getattr(Commands(sys.argv[1]), sys.argv[2])(*sys.argv[3:]))
