"""A real Slurm of one node on loopback, without systemd: for the tests and CI.

Run as a script it starts and stops one from a shell::

    eval "$(python tests/services/slurm.py start /tmp/slurm)"; squeue
    python tests/services/slurm.py stop /tmp/slurm

Tried with the Slurm of Debian 12 (22.05) and 13 (24.11), as root and as an ordinary user. That of
Ubuntu 24.04 (23.11.4) starts, but leaves batch jobs pending as InvalidAccount.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.services.processes import (
    SYSTEM_PATH,
    MarkedProcesses,
    Service,
    ServiceError,
    call,
    free_ports,
    install_packages,
    is_free,
    missing,
    set_aside,
    tails,
    wait_for,
    wait_while_alive,
    write_private,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
CLIENTS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
DAEMONS = ("munged", "slurmctld", "slurmd")  # in the order of starting
PROGRAMS = (*DAEMONS, *CLIENTS, "munge", "prlimit")
INSTALL_REMEDY = f"run `python {__file__} install` (Debian: {' '.join(PACKAGES)})"

REMEDY = "see its log above; if that says nothing, delete the directory and start again"

# Left by a surrounding allocation or a user's profile, these would change what the clients do.
FOREIGN = re.compile(r"(SLURM|SLURMD|SBATCH|SALLOC|SRUN|SCANCEL|SQUEUE|SINFO|SCONTROL|MUNGE)_")

# From the length of `sun_path`, less the final null byte.
MAX_SOCKET_PATH = 107

USABLE = {"idle", "mixed", "allocated", "completing", "planned"}

CONF = """\
ClusterName=local{mark}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
{bind}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={directory}/munge.sock
CredType=cred/munge
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
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
SlurmctldTimeout=10
SlurmdTimeout=10
MessageTimeout=10
# RealMemory serves jobs with --mem: without it the node has 1 MB.
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory}
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


class LocalSlurm(Service):
    """A Slurm cluster of one node, on this machine and on loopback.

    Everything but the packages lives in one directory. Several clusters may run at once, each in
    a directory of its own. Each start after a `stop` is a fresh one: no jobs, numbers from 1. A
    start while it runs leaves alone what does, and a node that was drained stays so. After a crash
    of the daemons the jobs that still run are taken over.

    Processes that leave the tree of their job's processes outlive the job, until `stop`: without
    cgroups Slurm loses them. slurmctld saves its state some seconds after a change: one that is
    killed meanwhile forgets jobs.

    Parameters
    ----------
    directory
        Where configuration, state, logs and sockets go; made if missing, not removed.
        Its path must be short, because sockets lie in it.
    cpus
        The node's number of CPUs, which may exceed the machine's.
    """

    def __init__(self, directory: Path, *, cpus: int = 2) -> None:
        super().__init__(directory)
        self.cpus = cpus
        # Slurm compares it with what gethostname() says, without the domain.
        self.host = socket.gethostname().partition(".")[0]
        self._slurmd_launched = ""
        # Slurm leaves their mark alone: see PropagateResourceLimits.
        self._processes = MarkedProcesses(self.directory)

    @property
    def conf(self) -> Path:
        """The configuration file."""
        return self.directory / "slurm.conf"

    @property
    def env(self) -> dict[str, str]:
        """What Slurm's client tools need in their environment."""
        return {"SLURM_CONF": str(self.conf)}

    @staticmethod
    def installed() -> bool:
        """Whether all the programs are there."""
        return not missing(PROGRAMS, search_path())

    @staticmethod
    def install() -> None:
        """Install the Debian packages, unless all the programs are there.

        Raises
        ------
        ServiceError
            If that cannot be done, with what apt-get said.
        """
        if LocalSlurm.installed():
            return
        install_packages(*PACKAGES)
        if lacking := missing(PROGRAMS, search_path()):
            raise ServiceError(f"installed Slurm, but {', '.join(lacking)} not found")

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
        # Without it the tools would look for a controller by DNS, for half a minute.
        if not self.conf.is_file():
            raise ServiceError(f"{self.conf} is missing. Remedy: start() first")
        return call(command, timeout=timeout, env=self._environment())

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

    def node_state(self) -> str:
        """Tell the node's state as `sinfo` does, such as idle, mixed, drained or down*."""
        return self.run("sinfo", "--noheader", "--format=%T").strip()

    def drain(self, reason: str) -> None:
        """Let the node take no further jobs; those that run go on.

        Parameters
        ----------
        reason
            Shown by ``sinfo --list-reasons``.
        """
        self.run("scontrol", "update", f"NodeName={self.host}", "State=DRAIN", f"Reason={reason}")

    def resume(self) -> None:
        """Let the node take jobs again, after `drain` or after it was down."""
        if self.node_state().rstrip("*+") not in USABLE:
            self.run("scontrol", "update", f"NodeName={self.host}", "State=RESUME")
            self._await_node(15)

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
        if lacking := missing(PROGRAMS, search_path()):
            raise ServiceError(f"not found on PATH: {', '.join(lacking)}. Remedy: {INSTALL_REMEDY}")
        if not re.fullmatch(r"[\w./+-]+", str(self.directory)):
            raise ServiceError(
                f"{self.directory}: Slurm's configuration cannot hold this path. Remedy: choose a "
                "directory without spaces and special characters"
            )
        # slurmd makes a socket per job step; the number of a batch step has ten digits.
        longest = self.directory / "spool" / f"{self.host}_999999.4294967291"
        if (excess := len(os.fsencode(longest)) - MAX_SOCKET_PATH) > 0:
            raise ServiceError(
                f"{self.directory}: {excess} characters too long for the sockets in it. Remedy: "
                "choose a shorter one, such as tempfile.mkdtemp()"
            )

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        return {**kept, "PATH": search_path(), **self.env}

    def _start(self) -> None:
        if set(DAEMONS) <= self._running().keys() and self._answers():
            return
        try:
            self._start_daemons()
        except ServiceError as error:
            # Somebody took a port after it was found free: try others, once.
            if "Address already in use" not in str(error):
                raise
            self._stop()
            self._start_daemons()

    def _start_daemons(self) -> None:
        running = self._running()
        if not {"slurmctld", "slurmd"} & running.keys():
            self._configure()
        if "munged" not in running:
            self._start_munged()
        self._await("munged", 10, self._munge_answers, REMEDY)
        if "slurmctld" not in running:
            self._launch("slurmctld", "-f", str(self.conf))
        self._await("slurmctld", 20, self._answers, REMEDY)
        if "slurmd" not in running:
            self._slurmd_launched = f"{datetime.now():%Y-%m-%dT%H:%M:%S}"
            self._launch("slurmd", "-f", str(self.conf), "-N", self.host)
        self._await_node(20)

    def _configure(self) -> None:
        for name in ("state", "spool"):
            (self.directory / name).mkdir(mode=0o755, exist_ok=True)
        controller_port, node_port = self._ports()
        # Told not to listen on all addresses, daemons and srun do on the one that the host's name
        # stands for. Were it not 127.0.0.1 but Debian's 127.0.1.1, they would not find each other.
        bind = ""
        with contextlib.suppress(OSError):
            if socket.gethostbyname(self.host) == "127.0.0.1":
                bind = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        text = CONF.format(
            mark=self._processes.mark,
            host=self.host,
            controller_port=controller_port,
            node_port=node_port,
            bind=bind,
            user=pwd.getpwuid(os.geteuid()).pw_name,
            directory=self.directory,
            cpus=self.cpus,
            memory=memory,
        )
        self.conf.write_text(text, encoding="utf-8")
        # Even with no cgroup plugin in use slurmd loads one. Its own choice fails without
        # /sys/fs/cgroup or, for v2, without systemd's bus; v1 does nothing until it is used.
        # "disabled" is documented since 24.05.
        plugin = "disabled" if self._version() >= (24, 5) else "cgroup/v1"
        (self.directory / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n", encoding="utf-8")

    def _start_munged(self) -> None:
        key = self.directory / "munge.key"
        if not key.is_file():
            # munged refuses a key that others may read.
            write_private(key, secrets.token_hex(64))
        # A munged of its own, because one of the system may be missing, or another user's.
        options = {
            "key-file": key,
            "socket": self.directory / "munge.sock",
            "pid-file": self.directory / "munged.pid",
            "log-file": self._log("munged"),
            "seed-file": self.directory / "munged.seed",
            "num-threads": 2,
        }
        # --force: a socket left by a crash, and directories that others may write or not enter.
        self._launch("munged", "--force", *(f"--{name}={at}" for name, at in options.items()))

    def _ports(self) -> list[int]:
        """Those of the last start if they are free, for jobs that outlived the daemons."""
        old = self.conf.read_text(encoding="utf-8") if self.conf.is_file() else ""
        ports = [int(port) for port in re.findall(r"^Slurm\w+Port=(\d+)$", old, re.MULTILINE)]
        return ports if ports and all(map(is_free, ports)) else free_ports(2)

    def _version(self) -> tuple[int, ...]:
        # "slurm-wlm 22.05.8"
        said = call(["slurmd", "-V"], timeout=10, env=self._environment())
        return tuple(int(part) for part in re.findall(r"\d+", said))

    def _launch(self, daemon: str, *arguments: str) -> None:
        set_aside(self._logs(daemon))
        try:
            self._processes.launch(
                [daemon, *arguments],
                env=self._environment(),
                output=self._output(daemon),
                cwd=self.directory,
                daemon=True,
                umask=0o022,
            )
        except ServiceError as error:
            logs = tails(self._logs(daemon))
            raise ServiceError(f"{error}\n{logs}\nRemedy: {REMEDY}") from error

    def _await(self, daemon: str, seconds: float, ready: Callable[[], bool], remedy: str) -> None:
        problem = wait_while_alive(ready, lambda: daemon in self._running(), seconds)
        if problem:
            logs = tails(self._logs(daemon))
            raise ServiceError(f"{daemon} {problem}:\n{logs}\nRemedy: {remedy}")

    def _await_node(self, seconds: float) -> None:
        remedy = "see its log above; slurmd needs /sys, and room on the disk"
        try:
            self._await("slurmd", seconds, self._node_usable, remedy)
        except ServiceError as error:
            try:
                state = self.run("sinfo", "--noheader", "--format=%T (reason: %E)").strip()
            except ServiceError:
                state = "not known"
            raise ServiceError(f"the node is {state}; {error}") from error

    def _node_usable(self) -> bool:
        state = self.node_state().rstrip("+")
        if state.startswith(("drain", "down")) and not state.endswith("*"):
            with contextlib.suppress(ServiceError):
                self.run("scontrol", "update", f"NodeName={self.host}", "State=RESUME")
        if state not in USABLE:
            return False
        # The state may be from before a crash of slurmd; `scontrol show slurmd` would need a host
        # called localhost.
        shown = self.run("scontrol", "show", "node", self.host)
        registered = re.search(r"SlurmdStartTime=(\d\S+)", shown)
        return registered is not None and registered[1] >= self._slurmd_launched

    def _answers(self) -> bool:
        with contextlib.suppress(ServiceError):
            return "UP" in self.run("scontrol", "ping", timeout=10).split()
        return False

    def _munge_answers(self) -> bool:
        with contextlib.suppress(ServiceError):
            socket_ = f"--socket={self.directory}/munge.sock"
            call(["munge", "--no-input", socket_], timeout=10, env=self._environment())
            return True
        return False

    def _output(self, daemon: str) -> Path:
        return self.directory / f"{daemon}.out"

    def _log(self, daemon: str) -> Path:
        return self.directory / f"{daemon}.log"

    def _logs(self, daemon: str) -> list[Path]:
        return [self._output(daemon), self._log(daemon)]

    def _running(self) -> dict[str, int]:
        """Tell the process ids of the daemons that run."""
        # Not by the files with their ids, which a crash leaves behind.
        names = {pid: program(command) for pid, command in self._processes.found().items()}
        return {name: pid for pid, name in names.items() if name in DAEMONS}

    def _stop(self) -> None:
        if "slurmctld" in self._running():
            self._cancel_jobs()
        for daemon in reversed(DAEMONS):
            self._processes.end(lambda command, name=daemon: program(command) == name, seconds=5)
        # slurmstepd, and what jobs have left behind.
        self._processes.kill()
        for name in ("state", "spool"):
            # Else jobs that were not cancelled in time would start again with the next start.
            shutil.rmtree(self.directory / name, ignore_errors=True)
        for pattern in ("*.pid", "munge.sock*"):
            for path in self.directory.glob(pattern):
                path.unlink(missing_ok=True)

    def _cancel_jobs(self) -> None:
        """Cancel all jobs, so that waiting clients are told; does not raise."""

        def none_left() -> bool:
            try:
                jobs = self.run("squeue", "--noheader", "--format=%A", timeout=5).split()
                if jobs:
                    self.run("scancel", *jobs, timeout=5)
            except ServiceError:
                return "slurmctld" not in self._running()
            # Slurm would give processes that ignore SIGTERM five seconds more.
            self._processes.send(signal.SIGKILL, of_a_job)
            return not jobs

        wait_for(none_left, 10)


def program(command: list[str]) -> str:
    """Tell the name of a process's program."""
    return Path(command[0]).name


def of_a_job(command: list[str]) -> bool:
    """Whether a process is none of Slurm itself."""
    # The processes that help rename themselves "slurmstepd: [1.batch]", "slurmctld: slurmscriptd".
    return program(command).partition(":")[0] not in {*DAEMONS, "slurmstepd"}


def search_path() -> str:
    """Where the programs are looked for."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), SYSTEM_PATH])


def main(arguments: list[str] | None = None) -> int:
    """Start, stop or show a cluster from the command line.

    Parameters
    ----------
    arguments
        Those of the command line by default.

    Returns
    -------
    int
        The exit status: 0 if all went well, 1 if not; for `status`, 3 if it does not run.
    """
    parser = argparse.ArgumentParser(description="A real Slurm of one node on loopback.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="install the Debian packages")
    for name, help_ in [
        ("start", "start it, print the shell commands that select it"),
        ("stop", "cancel its jobs, end it"),
        ("status", "show its daemons, its node and its jobs"),
    ]:
        command = commands.add_parser(name, help=help_)
        command.add_argument("directory", type=Path, metavar="DIR")
        if name == "start":
            command.add_argument("--cpus", type=int, default=2, metavar="N")
    options = parser.parse_args(arguments)
    try:
        if options.command == "install":
            LocalSlurm.install()
            return 0
        slurm = LocalSlurm(options.directory, cpus=getattr(options, "cpus", 2))
        if options.command == "start":
            slurm.start()
            print(f"export SLURM_CONF={slurm.conf}")
        elif options.command == "stop":
            slurm.stop()
        else:
            return _show(slurm)
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _show(slurm: LocalSlurm) -> int:
    running = slurm._running()
    for daemon in DAEMONS:
        print(f"{daemon}: {running.get(daemon, 'does not run')}")
    if set(DAEMONS) - running.keys():
        return 3
    print(f"node {slurm.host}: {slurm.node_state()}")
    for job, state in slurm.jobs().items():
        print(f"job {job}: {state}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
