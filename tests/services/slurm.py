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
import shutil
import signal
import socket
import sys
from datetime import datetime
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.services.processes import ServiceError, call, free_ports, is_free, wait_for
from tests.services.slurm_service import CONF as COMMON_CONF
from tests.services.slurm_service import (
    DAEMONS,
    USABLE,
    Daemons,
    SlurmService,
    cgroup_conf,
    environment,
    make_munge_key,
    memory_mb,
    of_a_job,
)

# From the length of `sun_path`, less the final null byte.
MAX_SOCKET_PATH = 107

CONF = """\
ClusterName=local{mark}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
{bind}
SlurmUser={user}
SlurmdUser={user}
AuthInfo=socket={directory}/munge.sock
StateSaveLocation={directory}/state
SlurmdSpoolDir={directory}/spool
SlurmctldPidFile={directory}/slurmctld.pid
SlurmdPidFile={directory}/slurmd.pid
SlurmctldLogFile={directory}/slurmctld.log
SlurmdLogFile={directory}/slurmd.log
SlurmctldTimeout=10
SlurmdTimeout=10
MessageTimeout=10
NodeName={host} NodeHostname={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory}
PartitionName=debug Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


class LocalSlurm(SlurmService):
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
        self._daemons = Daemons(self.directory, key=self.directory)
        self._processes = self._daemons.processes

    @property
    def conf(self) -> Path:
        """The configuration file."""
        return self.directory / "slurm.conf"

    @property
    def env(self) -> dict[str, str]:
        """What Slurm's client tools need in their environment."""
        return {"SLURM_CONF": str(self.conf)}

    def run(self, *command: str, timeout: float = 30) -> str:
        # Without it the tools would look for a controller by DNS, for half a minute.
        if not self.conf.is_file():
            raise ServiceError(f"{self.conf} is missing. Remedy: start() first")
        return call(command, timeout=timeout, env=self._environment())

    def node_state(self) -> str:
        """Tell the node's state as `sinfo` does, such as idle, mixed, drained or down*."""
        return self.node_states()[self.host]

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

    def _check(self) -> None:
        super()._check()
        # slurmd makes a socket per job step; the number of a batch step has ten digits.
        longest = self.directory / "spool" / f"{self.host}_999999.4294967291"
        if (excess := len(os.fsencode(longest)) - MAX_SOCKET_PATH) > 0:
            raise ServiceError(
                f"{self.directory}: {excess} characters too long for the sockets in it. Remedy: "
                "choose a shorter one, such as tempfile.mkdtemp()"
            )

    def _environment(self) -> dict[str, str]:
        return {**environment(), **self.env}

    def _start(self) -> None:
        if set(DAEMONS) <= self._daemons.running().keys() and self._answers():
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
        daemons = self._daemons
        running = daemons.running()
        env = self._environment()
        if not {"slurmctld", "slurmd"} & running.keys():
            self._configure()
        if "munged" not in running:
            key = self.directory / "munge.key"
            make_munge_key(key)
            daemons.launch_munged(key, self._munge_socket, self.directory, env=env)
        daemons.wait("munged", 10, self._munge_answers)
        if "slurmctld" not in running:
            daemons.launch("slurmctld", "-f", self.conf, env=env)
        daemons.wait("slurmctld", 20, self._answers)
        if "slurmd" not in running:
            self._slurmd_launched = f"{datetime.now():%Y-%m-%dT%H:%M:%S}"
            daemons.launch("slurmd", "-f", self.conf, "-N", self.host, env=env)
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
        text = CONF.format(
            mark=self._processes.mark,
            host=self.host,
            controller_port=controller_port,
            node_port=node_port,
            bind=bind,
            user=pwd.getpwuid(os.geteuid()).pw_name,
            directory=self.directory,
            cpus=self.cpus,
            memory=memory_mb(),
        )
        self.conf.write_text(text + COMMON_CONF, encoding="utf-8")
        (self.directory / "cgroup.conf").write_text(cgroup_conf(), encoding="utf-8")

    def _ports(self) -> list[int]:
        """Those of the last start if they are free, for jobs that outlived the daemons."""
        old = self.conf.read_text(encoding="utf-8") if self.conf.is_file() else ""
        ports = [int(port) for port in re.findall(r"^Slurm\w+Port=(\d+)$", old, re.MULTILINE)]
        return ports if ports and all(map(is_free, ports)) else free_ports(2)

    def _await_node(self, seconds: float) -> None:
        remedy = "see its log above; slurmd needs /sys, and room on the disk"
        try:
            self._daemons.wait("slurmd", seconds, self._node_usable, remedy)
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

    @property
    def _munge_socket(self) -> Path:
        return self.directory / "munge.sock"

    def _munge_answers(self) -> bool:
        with contextlib.suppress(ServiceError):
            command = ["munge", "--no-input", f"--socket={self._munge_socket}"]
            call(command, timeout=10, env=self._environment())
            return True
        return False

    def _stop(self) -> None:
        if "slurmctld" in self._daemons.running():
            self._cancel_jobs()
        for daemon in reversed(DAEMONS):
            self._daemons.end(daemon)
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
                return "slurmctld" not in self._daemons.running()
            # Slurm would give processes that ignore SIGTERM five seconds more.
            self._processes.send(signal.SIGKILL, of_a_job)
            return not jobs

        wait_for(none_left, 10)


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
    running = slurm._daemons.running()
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
