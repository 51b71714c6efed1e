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
import fcntl
import os
import pwd
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

PACKAGES = ("munge", "slurmctld", "slurmd", "slurm-client")
CLIENTS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
DAEMONS = ("munged", "slurmctld", "slurmd")  # in the order of starting
PROGRAMS = (*DAEMONS, *CLIENTS, "munge", "prlimit")
INSTALL_REMEDY = f"run `python {__file__} install` (Debian: {' '.join(PACKAGES)})"

REMEDY = "see its log above; if that says nothing, delete the directory and start again"

# An unprivileged user's PATH lacks the places of the daemons.
SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")

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


class SlurmError(RuntimeError):
    """Slurm is missing, did not come up, did not go down, or refused a command."""


class LocalSlurm:
    """A Slurm cluster of one node, on this machine and on loopback.

    Everything but the packages lives in one directory. Several clusters may run at once, each in
    a directory of its own. Each start after a `stop` is a fresh one: no jobs, numbers from 1.

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
        self.directory = Path(directory).resolve()
        self.cpus = cpus
        # Slurm compares it with what gethostname() says, without the domain.
        self.host = socket.gethostname().partition(".")[0]
        self._slurmd_launched = ""
        self._old_log = dict.fromkeys(DAEMONS, 0)  # where a log ended before the last start
        # A limit on POSIX message queues, which nobody uses, marks daemons and jobs: it is
        # inherited by all they start, whatever becomes of parents, sessions, environments and
        # titles, and Slurm leaves it alone. A number per directory, below the kernel's default.
        self._mark = 400_000 + zlib.crc32(os.fsencode(self.directory)) % 400_000

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

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
        return not _missing()

    @staticmethod
    def install() -> None:
        """Install the Debian packages, unless all the programs are there.

        Raises
        ------
        SlurmError
            If that cannot be done, with what apt-get said.
        """
        if LocalSlurm.installed():
            return
        if shutil.which("apt-get") is None:
            raise SlurmError(f"cannot install Slurm: no apt-get; missing: {', '.join(_missing())}")
        sudo = ["sudo", "-n"] if os.geteuid() != 0 and shutil.which("sudo") else []
        # In "run level 1" the packages' scripts start no system-wide daemons.
        apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]
        apt += ["-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
        update = [*apt, "update"]
        install = [*apt, "install", "--yes", "--no-install-recommends", *PACKAGES]
        listed = any(Path("/var/lib/apt/lists").glob("*_Packages*"))
        try:
            if not listed:
                _call(update, timeout=300)
            try:
                _call(install, timeout=600)
            except SlurmError:
                # Old lists name versions that the mirrors no longer have.
                if not listed:
                    raise
                _call(update, timeout=300)
                _call(install, timeout=600)
        except SlurmError as error:
            raise SlurmError(f"cannot install {' '.join(PACKAGES)}: {error}") from error
        if missing := _missing():
            raise SlurmError(f"installed {' '.join(PACKAGES)}, but {', '.join(missing)} not found")

    def start(self) -> None:
        """Start what does not run yet, and return when the node takes jobs.

        What runs is left alone, and a node that was drained stays so. After a crash of the
        daemons the jobs that still run are taken over.

        Raises
        ------
        SlurmError
            If something does not come up in time: with the end of its log and a remedy. Nothing
            is left running then.
        """
        if missing := _missing():
            raise SlurmError(f"not found on PATH: {', '.join(missing)}. Remedy: {INSTALL_REMEDY}")
        self._check_directory()
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._lock():
            if set(DAEMONS) <= self._running().keys() and self._answers():
                return
            try:
                try:
                    self._start()
                except SlurmError as error:
                    # Somebody took a port after it was found free: try others, once.
                    if "Address already in use" not in str(error):
                        raise
                    self._stop()
                    self._start()
            except BaseException:
                self._stop()
                raise

    def stop(self) -> None:
        """Cancel all jobs and end the daemons, and with them all that jobs have left behind.

        Raises
        ------
        SlurmError
            If a process cannot be ended.
        """
        if self.directory.is_dir():
            with self._lock():
                self._stop()

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
        SlurmError
            If it is missing, fails, or does not end in time.
        """
        # Without it the tools would look for a controller by DNS, for half a minute.
        if not self.conf.is_file():
            raise SlurmError(f"{self.conf} is missing. Remedy: start() first")
        return _call(command, timeout=timeout, env=self._environment())

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

    def _check_directory(self) -> None:
        if not re.fullmatch(r"[\w./+-]+", str(self.directory)):
            raise SlurmError(
                f"{self.directory}: Slurm's configuration cannot hold this path. Remedy: choose a "
                "directory without spaces and special characters"
            )
        # slurmd makes a socket per job step; the number of a batch step has ten digits.
        longest = self.directory / "spool" / f"{self.host}_999999.4294967291"
        if (excess := len(os.fsencode(longest)) - MAX_SOCKET_PATH) > 0:
            raise SlurmError(
                f"{self.directory}: {excess} characters too long for the sockets in it. Remedy: "
                "choose a shorter one, such as tempfile.mkdtemp()"
            )

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
        return {**kept, **self.env}

    def _start(self) -> None:
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
        old = self.conf.read_text(encoding="utf-8") if self.conf.is_file() else ""
        controller_port, node_port = _ports(re.findall(r"^Slurm\w+Port=(\d+)$", old, re.MULTILINE))
        # Told not to listen on all addresses, daemons and srun do on the one that the host's name
        # stands for. Were it not 127.0.0.1 but Debian's 127.0.1.1, they would not find each other.
        bind = ""
        with contextlib.suppress(OSError):
            if socket.gethostbyname(self.host) == "127.0.0.1":
                bind = "CommunicationParameters=NoCtldInAddrAny,NoInAddrAny"
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        text = CONF.format(
            mark=self._mark,
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
        plugin = "disabled" if _version() >= (24, 5) else "cgroup/v1"
        (self.directory / "cgroup.conf").write_text(f"CgroupPlugin={plugin}\n", encoding="utf-8")

    def _start_munged(self) -> None:
        key = self.directory / "munge.key"
        if not key.is_file():
            # munged refuses a key that others may read.
            descriptor = os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(os.urandom(128))
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

    def _launch(self, daemon: str, *arguments: str) -> None:
        log = self._log(daemon)
        self._old_log[daemon] = log.stat().st_size if log.is_file() else 0
        # All of them put themselves into the background, and return when that is done.
        with self._output(daemon).open("wb") as output:
            try:
                status = subprocess.run(
                    [_which("prlimit"), f"--msgqueue={self._mark}:", _which(daemon), *arguments],
                    cwd=self.directory,
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    umask=0o022,
                    timeout=30,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                status = None
        if status != 0:
            how = "did not go into the background" if status is None else f"ended with {status}"
            raise self._failure(daemon, how, REMEDY)

    def _await(self, daemon: str, seconds: float, ready: Callable[[], bool], remedy: str) -> None:
        deadline = time.monotonic() + seconds
        missed = 0
        while True:
            # A process that forks and exits can slip through one look at /proc.
            missed = missed + 1 if self._ended(daemon) else 0
            if missed == 5:
                raise self._failure(daemon, "ended while starting", remedy)
            if not missed and ready():
                return
            if time.monotonic() > deadline:
                raise self._failure(daemon, f"not ready within {seconds:g} s", remedy)
            time.sleep(0.1)

    def _await_node(self, seconds: float) -> None:
        remedy = "see its log above; slurmd needs /sys, and room on the disk"
        try:
            self._await("slurmd", seconds, self._node_usable, remedy)
        except SlurmError as error:
            try:
                state = self.run("sinfo", "--noheader", "--format=%T (reason: %E)").strip()
            except SlurmError:
                state = "not known"
            raise SlurmError(f"the node is {state}; {error}") from error

    def _node_usable(self) -> bool:
        state = self.node_state().rstrip("+")
        if state.startswith(("drain", "down")) and not state.endswith("*"):
            with contextlib.suppress(SlurmError):
                self.run("scontrol", "update", f"NodeName={self.host}", "State=RESUME")
        if state not in USABLE:
            return False
        # The state may be from before a crash of slurmd; `scontrol show slurmd` would need a host
        # called localhost.
        shown = self.run("scontrol", "show", "node", self.host)
        registered = re.search(r"SlurmdStartTime=(\d\S+)", shown)
        return registered is not None and registered[1] >= self._slurmd_launched

    def _answers(self) -> bool:
        with contextlib.suppress(SlurmError):
            return "UP" in self.run("scontrol", "ping", timeout=10).split()
        return False

    def _munge_answers(self) -> bool:
        with contextlib.suppress(SlurmError):
            _call(["munge", "--no-input", f"--socket={self.directory}/munge.sock"], timeout=10)
            return True
        return False

    def _output(self, daemon: str) -> Path:
        return self.directory / f"{daemon}.out"

    def _log(self, daemon: str) -> Path:
        return self.directory / f"{daemon}.log"

    def _failure(self, daemon: str, how: str, remedy: str) -> SlurmError:
        lines = []
        for path, start in ((self._output(daemon), 0), (self._log(daemon), self._old_log[daemon])):
            with contextlib.suppress(OSError):
                text = path.read_bytes()[start:].decode(errors="replace")
                lines += [f"  {line}" for line in text.splitlines()[-10:]]
        return SlurmError("\n".join([f"{daemon} {how}:", *lines, f"Remedy: {remedy}"]))

    def _processes(self) -> dict[int, str]:
        """Tell the processes of this cluster, its jobs' too: their first arguments by id."""
        found = {}
        for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
            # It may end meanwhile, or be another user's and thus not of this cluster.
            with contextlib.suppress(OSError):
                if resource.prlimit(pid, resource.RLIMIT_MSGQUEUE)[0] != self._mark:
                    continue
                status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
                # The parent of a daemon is process 1, which in containers leaves zombies.
                if status.rpartition(")")[2].split()[0] in "ZX" or pid == os.getpid():
                    continue
                arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                found[pid] = os.fsdecode(arguments[0])
        return found

    def _running(self) -> dict[str, int]:
        """Tell the process ids of the daemons that run."""
        # Not by the files with their ids, which a crash leaves behind.
        names = {pid: Path(name).name for pid, name in self._processes().items()}
        return {name: pid for pid, name in names.items() if name in DAEMONS}

    def _ended(self, daemon: str) -> bool:
        return daemon not in self._running()

    def _stop(self) -> None:
        if "slurmctld" in self._running():
            self._cancel_jobs()
        for daemon in reversed(DAEMONS):
            if pid := self._running().get(daemon):
                _kill([pid], signal.SIGTERM)
                _await(partial(self._ended, daemon), 5)
        # Those that did not obey, slurmstepd, and what jobs have left behind.
        deadline = time.monotonic() + 10
        empty = 0
        while empty < 3:  # see _await()
            left = self._processes()
            _kill(left, signal.SIGKILL)
            empty = 0 if left else empty + 1
            if time.monotonic() > deadline:
                raise SlurmError(f"cannot kill {left}. Remedy: see whether they hang in the kernel")
            time.sleep(0.02)
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
            except SlurmError:
                return self._ended("slurmctld")
            # Slurm would give processes that ignore SIGTERM five seconds more.
            processes = self._processes().items()
            _kill([pid for pid, name in processes if not _of_slurm(name)], signal.SIGKILL)
            return not jobs

        _await(none_left, 10)


def _of_slurm(name: str) -> bool:
    # The processes that help rename themselves "slurmstepd: [1.batch]", "slurmctld: slurmscriptd".
    return Path(name).name.partition(":")[0] in {*DAEMONS, "slurmstepd"}


def _path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *SBIN])


def _missing() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]


def _which(program: str) -> str:
    if found := shutil.which(program, path=_path()):
        return found
    raise SlurmError(f"{program} not found on PATH. Remedy: {INSTALL_REMEDY}")


def _version() -> tuple[int, ...]:
    # "slurm-wlm 22.05.8"
    return tuple(int(part) for part in re.findall(r"\d+", _call(["slurmd", "-V"], timeout=10)))


def _call(
    command: list[str] | tuple[str, ...], *, timeout: float, env: dict[str, str] | None = None
) -> str:
    try:
        done = subprocess.run(
            [_which(command[0]), *command[1:]],
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise SlurmError(f"`{' '.join(command)}` did not end within {timeout:g} s") from error
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip()
        raise SlurmError(f"`{' '.join(command)}` ended with {done.returncode}: {said}")
    return done.stdout


def _ports(wanted: list[str]) -> list[int]:
    """Two free ports: those of the last start if possible, for jobs that outlived the daemons."""
    for ports in (wanted, ["0", "0"]):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            sockets = [stack.enter_context(socket.socket()) for _ in ports]
            for port, bound in zip(ports, sockets, strict=True):
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.bind(("", int(port)))
            if sockets:
                return [bound.getsockname()[1] for bound in sockets]
    raise SlurmError("no free ports. Remedy: see `ss --listening --tcp`")


def _await(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _kill(pids: Iterator[int] | list[int] | dict[int, str], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


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
    except SlurmError as error:
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
