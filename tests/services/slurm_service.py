"""What a Slurm of one node and one of many have in common: see `slurm.py` and `cluster.py`."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.processes import (
    SYSTEM_PATH,
    DebianService,
    MarkedProcesses,
    ServiceError,
    call,
    missing,
    set_aside,
    tails,
    wait_while_alive,
    write_private,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
CLIENTS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
DAEMONS = ("munged", "slurmctld", "slurmd")  # in the order of starting
PROGRAMS = (*DAEMONS, *CLIENTS, "munge", "prlimit")

REMEDY = "see its log above; if that says nothing, delete the directory and start again"

# Left by a surrounding allocation or a user's profile, these would change what the clients do.
FOREIGN = re.compile(r"(SLURM|SLURMD|SBATCH|SALLOC|SRUN|SCANCEL|SQUEUE|SINFO|SCONTROL|MUNGE)_")

USABLE = {"idle", "mixed", "allocated", "completing", "planned"}

CONF = """\
AuthType=auth/munge
CredType=cred/munge
MailProg=/bin/true
# The defaults of some versions are the cgroup plugins, which containers cannot have.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
# Jobs inherit slurmd's limits, and so the mark by which stop() finds them.
PropagateResourceLimits=NONE
# Only CPUs are handed out, and the node has as many as this file says, not as the machine has.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
# Look at the queue every second, instead of 3 s after a job came and 60 s after `resume`. Slurm
# reads this at its first look, so that the first job after a start still waits for 3 s.
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1
# Refuse jobs that can never run, as most clusters do, instead of leaving them pending.
EnforcePartLimits=ALL
# A lost job stays lost: a test wants to see it fail, not run again.
JobRequeue=0
# A node that was down serves again as soon as its slurmd is back.
ReturnToService=2
# Time limits are whole minutes, rounded up, and slurmctld looks for jobs past theirs every 30 s, a
# constant compiled into it (PERIODIC_TIMEOUT). Measured with 22.05 and 24.11: jobs with a limit of
# one minute were killed 62 to 86 s after they began, always at a multiple of 30 s after slurmctld.
# Those that ignore SIGTERM had 5 s more, the least that slurmd gives whatever KillWait says.
OverTimeLimit=0
KillWait=1
"""


class Daemons:
    """Daemons that share a mark, a directory for their logs, and a machine.

    Parameters
    ----------
    directory
        Where their logs and output are.
    key
        What tells their processes from others: see `MarkedProcesses`.
    within
        What stands before each command: nothing on this machine itself.
    """

    def __init__(
        self, directory: Path, key: object, within: Callable[[], Iterable[str]] = tuple
    ) -> None:
        self.directory = directory
        self.processes = MarkedProcesses(key)
        self._within = within

    def launch(self, daemon: str, *arguments: object, env: Mapping[str, str]) -> None:
        """Start one that puts itself into the background."""
        set_aside(self.logs(daemon))
        try:
            self.processes.launch(
                [*self._within(), daemon, *arguments],
                env=env,
                output=self.output(daemon),
                cwd=self.directory,
                daemon=True,
                umask=0o022,
            )
        except ServiceError as error:
            logs = tails(self.logs(daemon))
            raise ServiceError(f"{error}\n{logs}\nRemedy: {REMEDY}") from error

    def launch_munged(
        self, key: Path, socket: Path, state: Path, *, env: Mapping[str, str]
    ) -> None:
        """Start a munged of its own: one of the system may be missing, or another user's.

        Parameters
        ----------
        key, socket
            Where they are.
        state
            Where its other files go: `directory`, as the machine calls it.
        env
            Its environment.
        """
        options = {
            "key-file": key,
            "socket": socket,
            "pid-file": state / "munged.pid",
            "log-file": state / "munged.log",
            "seed-file": state / "munged.seed",
            "num-threads": 2,
        }
        # --force: a socket left by a crash, and directories that others may write or not enter.
        words = [f"--{name}={at}" for name, at in options.items()]
        self.launch("munged", "--force", *words, env=env)

    def wait(
        self, daemon: str, seconds: float, ready: Callable[[], bool], remedy: str = REMEDY
    ) -> None:
        """Wait until one is ready; raises a `ServiceError` with the ends of its logs."""
        problem = wait_while_alive(ready, lambda: daemon in self.running(), seconds)
        if problem:
            logs = tails(self.logs(daemon))
            raise ServiceError(f"{daemon} {problem}:\n{logs}\nRemedy: {remedy}")

    def running(self) -> dict[str, int]:
        """Tell the process ids of those that run."""
        # Not by the files with their ids, which a crash leaves behind.
        names = {pid: program(command) for pid, command in self.processes.found().items()}
        return {name: pid for pid, name in names.items() if name in DAEMONS}

    def end(self, daemon: str, *, seconds: float = 5) -> None:
        """Ask one to end; kill it if it does not."""
        self.processes.end(lambda command: program(command) == daemon, seconds=seconds)

    def output(self, daemon: str) -> Path:
        """Where what it prints goes."""
        return self.directory / f"{daemon}.out"

    def log(self, daemon: str) -> Path:
        """Where it writes its log."""
        return self.directory / f"{daemon}.log"

    def logs(self, daemon: str) -> list[Path]:
        """All that it writes."""
        return [self.output(daemon), self.log(daemon)]


class SlurmService(DebianService):
    """A Slurm that is started and stopped, and what its client tools can do and tell."""

    packages = PACKAGES

    @staticmethod
    def lacking() -> list[str]:
        """Return which of the programs are not there."""
        return missing(PROGRAMS, search_path())

    def run(self, *command: str, timeout: float = 30) -> str:
        """Run one of Slurm's client tools.

        Parameters
        ----------
        *command
            The tool and its arguments.
        timeout
            Seconds after which the tool is killed.

        Returns
        -------
        str
            What it wrote to its standard output.

        Raises
        ------
        ServiceError
            If it is missing, fails, or does not end in time.
        """
        raise NotImplementedError

    def jobs(self) -> dict[str, str]:
        """Tell the jobs that have not ended, and their states.

        Returns
        -------
        dict of str to str
            State, such as PENDING, RUNNING or COMPLETING, by job id, as `squeue` writes them. The
            elements of an array are listed one by one.
        """
        words = self.run("squeue", "--noheader", "--array", "--format=%i %T").split()
        return dict(zip(words[::2], words[1::2], strict=True))

    def node_states(self) -> dict[str, str]:
        """Tell the nodes' states as `sinfo` does, such as idle, mixed, drained or down*."""
        words = self.run("sinfo", "--noheader", "--Node", "--format=%N %T").split()
        return dict(zip(words[::2], words[1::2], strict=True))

    def expire(self, job: str) -> None:
        """Move the end of a running job's time limit to the next second.

        A limit cannot be less than a minute, so this saves a test that minute. The job is killed
        at slurmctld's next look, within 30 s; it ends in state TIMEOUT.

        Parameters
        ----------
        job
            The job's id.
        """
        # slurmctld refuses a time in the past.
        end = datetime.now() + timedelta(seconds=1)
        self.run("scontrol", "update", f"JobId={job}", f"EndTime={end:%Y-%m-%dT%H:%M:%S}")

    def _check(self) -> None:
        if lacking := self.lacking():
            remedy = f"run `python tests/services/slurm.py install` (Debian: {' '.join(PACKAGES)})"
            raise ServiceError(f"not found on PATH: {', '.join(lacking)}. Remedy: {remedy}")
        if not re.fullmatch(r"[\w./+-]+", str(self.directory)):
            raise ServiceError(
                f"{self.directory}: Slurm's configuration cannot hold this path. Remedy: choose a "
                "directory without spaces and special characters"
            )

    def _answers(self) -> bool:
        with contextlib.suppress(ServiceError):
            return "UP" in self.run("scontrol", "ping", timeout=10).split()
        return False


def cgroup_conf() -> str:
    """Tell what stands in cgroup.conf where there are no cgroups to be had."""
    # Even with no cgroup plugin in use slurmd loads one. Its own choice fails without
    # /sys/fs/cgroup or, for v2, without systemd's bus; v1 does nothing until it is used.
    # "disabled" is documented since 24.05.
    said = call(["slurmd", "-V"], timeout=10, env=environment())  # "slurm-wlm 22.05.8"
    version = tuple(int(part) for part in re.findall(r"\d+", said))
    plugin = "disabled" if version >= (24, 5) else "cgroup/v1"
    return f"CgroupPlugin={plugin}\n"


def make_munge_key(path: Path) -> None:
    """Make a key, unless it is there."""
    if not path.is_file():
        # munged refuses a key that others may read.
        write_private(path, secrets.token_hex(64))


def memory_mb() -> int:
    """Tell this machine's memory: for jobs with --mem, without it a node has 1 MB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def environment() -> dict[str, str]:
    """Tell this process's environment, less what would change what Slurm does."""
    kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    return {**kept, "PATH": search_path()}


def search_path() -> str:
    """Where the programs are looked for."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), SYSTEM_PATH])


def program(command: list[str]) -> str:
    """Tell the name of a process's program."""
    return Path(command[0]).name


def of_a_job(command: list[str]) -> bool:
    """Whether a process is none of Slurm itself."""
    # The processes that help rename themselves "slurmstepd: [1.batch]", "slurmctld: slurmscriptd".
    return program(command).partition(":")[0] not in {*DAEMONS, "slurmstepd"}
