"""A Slurm cluster on one machine: a head and nodes that share nothing but what is exported.

Head and nodes are network, process and mount namespaces (see `machines.py`), each with its own
address, hostname, /tmp, /etc and slurmd, so that what leans on a shared /tmp, on loopback or on
the shell's PATH fails here as it does on a cluster. What they share: DIR/shared, writable; the home
directory, DIR/shared/home; and, only to be read, this project and the environment that this
program runs in, which is `~/pyhf-env`, too. As root only. From a shell::

    python tests/services/cluster.py start /tmp/cluster --nodes 2
    python tests/services/cluster.py run /tmp/cluster -- srun --nodes=2 hostname
    python tests/services/cluster.py run /tmp/cluster --on node1 -- ip address
    python tests/services/cluster.py slow /tmp/cluster node2 5
    python tests/services/cluster.py cut /tmp/cluster node2 --for 30
    python tests/services/cluster.py connect /tmp/cluster node2 --delay 100 --loss 1
    python tests/services/cluster.py kill-node /tmp/cluster node1
    python tests/services/cluster.py stop /tmp/cluster

Tried with the Slurm of Debian 12 (22.05).
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.services import machines
from tests.services.machines import Export, Line, Machine, Network
from tests.services.processes import SYSTEM_PATH, ServiceError, call, tails, wait_for
from tests.services.slurm_service import CONF as COMMON_CONF
from tests.services.slurm_service import (
    USABLE,
    Daemons,
    SlurmService,
    cgroup_conf,
    environment,
    make_munge_key,
    memory_mb,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT = Path(__file__).resolve().parents[2]
HEAD = "head"
CONF = """\
ClusterName=cluster
SlurmctldHost=head
SlurmUser=root
SlurmdUser=root
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
SlurmctldTimeout=10
SlurmdTimeout={slurmd_timeout_s}
MessageTimeout=10
TreeWidth={nodes}
NodeName=node[1-{nodes}] CPUs={cpus} RealMemory={memory}
PartitionName=debug Nodes=node[1-{nodes}] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""
MUNGE_SOCKET = Path("/run/munge/munge.socket.2")


class Cluster(SlurmService):
    """A head with slurmctld, and nodes with a slurmd each.

    Parameters
    ----------
    directory
        Where the machines' disks and logs go, and ``shared``, which all of them see at this path;
        made if missing. `stop` removes the disks, and leaves ``shared`` and the logs.
    nodes
        How many; they are called node1, node2, and so on. By default those of the last start,
        or 4.
    cpus
        What Slurm believes that each node has; this machine may have fewer.
    exports
        Directories and files that all machines may read, beside the project and this environment.
    slurmd_timeout_s
        After how many seconds of silence slurmctld gives a node up, and its jobs.
    line
        How nodes are connected.
    """

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int | None = None,
        cpus: int = 24,
        exports: Iterable[Path] = (),
        slurmd_timeout_s: int = 300,
        line: Line = Line(),  # noqa: B008 - frozen
    ) -> None:
        super().__init__(directory)
        known = len(list((self.directory / "machines").glob("node*"))) or 4
        self.cpus = cpus
        self.slurmd_timeout_s = slurmd_timeout_s
        self.line = line
        python = {
            Path(sys.prefix),
            Path(sys.base_prefix),
            Path(sys.executable).resolve().parents[1],
        }
        shared = [Export(path) for path in {PROJECT, *python, *map(Path.resolve, exports)}]
        shared += [
            Export(self.shared, writable=True),
            Export(self.shared / "home", machines.home(), writable=True),
            Export(self._etc, Path("/etc/slurm")),
        ]
        names = [HEAD, *(f"node{number + 1}" for number in range(nodes or known))]
        self.machines = {
            name: Machine(
                self.directory / "machines" / name, name, f"10.77.0.{number + 1}", tuple(shared)
            )
            for number, name in enumerate(names)
        }
        self.network = Network(self.head)
        self._daemons = {
            name: Daemons(machine.logs, machine.directory, machine.within)
            for name, machine in self.machines.items()
        }

    @property
    def shared(self) -> Path:
        """The shared file system: at this path on each machine."""
        return self.directory / "shared"

    @property
    def head(self) -> Machine:
        """The machine of slurmctld and of who uses the cluster."""
        return self.machines[HEAD]

    @property
    def nodes(self) -> dict[str, Machine]:
        """The others, by name."""
        return {name: it for name, it in self.machines.items() if name != HEAD}

    @classmethod
    def install(cls) -> None:
        """Install the Debian packages that are missing.

        Raises
        ------
        ServiceError
            If that cannot be done, with what apt-get said.
        """
        super().install()
        machines.install()

    @classmethod
    def missing(cls) -> str:
        """Tell why there can be none here, or nothing."""
        try:
            cls(Path("/nowhere"))._check()
        except ServiceError as error:
            return str(error)
        return ""

    def run(self, *command: str, timeout: float = 30, on: str = HEAD) -> str:
        """Run a program on a machine, in the shared directory.

        Parameters
        ----------
        *command
            The program and its arguments.
        timeout
            Seconds after which it is killed.
        on
            Where: the head, or a node.

        Returns
        -------
        str
            What it wrote to its standard output.

        Raises
        ------
        ServiceError
            If it is missing, fails, or does not end in time, or the machine is off.
        """
        return call(self.command(*command, on=on), timeout=timeout, env=self.env)

    def popen(self, *command: str, on: str = HEAD, **options: object) -> subprocess.Popen[str]:
        """Start a program on a machine; the options are those of `subprocess.Popen`."""
        return subprocess.Popen(self.command(*command, on=on), **{"env": self.env, **options})

    def command(self, *command: str, on: str = HEAD) -> list[str]:
        """Tell the command, for this machine, that runs one there, in the shared directory."""
        return [*self.machine(on).within(), "env", f"--chdir={self.shared}", *command]

    def machine(self, name: str) -> Machine:
        """Tell the one of this name.

        Raises
        ------
        ServiceError
            If there is none.
        """
        if name not in self.machines:
            known = ", ".join(self.machines)
            raise ServiceError(f"there is no machine {name!r}. Remedy: choose one of {known}")
        return self.machines[name]

    @property
    def env(self) -> dict[str, str]:
        """The environment of a shell on the head, which knows nothing of tox.

        pytest puts its cache where tox has its environment, which these machines only read.
        """
        here = {name: text for name, text in environment().items() if not name.startswith("TOX_")}
        return {**here, "HOME": str(machines.home())}

    @property
    def _plain(self) -> dict[str, str]:
        return {"PATH": SYSTEM_PATH, "HOME": str(machines.home())}

    def kill_node(self, name: str) -> None:
        """Let a node lose its power: nobody is told."""
        self.network.cut(self.machine(name))
        self.machine(name).power_off()
        self.network.disconnect(self.machine(name))

    def start_node(self, name: str) -> None:
        """Start a node that was killed, with an empty disk; return when Slurm has it back."""
        self._start_node(name)
        self._await_nodes([name])

    def cut(self, name: str, seconds: float | None = None) -> None:
        """Cut a machine off from all others: for some seconds, or until `mend`."""
        self.network.cut(self.machine(name))
        if seconds is not None:
            time.sleep(seconds)
            self.mend(name)

    def mend(self, name: str) -> None:
        """Undo `cut`."""
        self.network.mend(self.machine(name))

    def connect(self, name: str, line: Line = Line()) -> None:  # noqa: B008 - frozen
        """Connect a node by another line from now on; a perfect one by default."""
        self.network.connect(self.machine(name), line)

    def slow(self, name: str, factor: float) -> None:
        """Slow a node down, or let it be as fast as the others again: factor 1.

        Its processes together get its share of this machine's cores, divided by the factor.
        """
        share = os.cpu_count() / len(self.nodes)
        self.machine(name).limit(None if factor == 1 else share / factor)

    def restart_head(self, seconds: float = 0, *, kill: bool = False) -> None:
        """Stop slurmctld, and start it again after a while; it keeps what it knows.

        Parameters
        ----------
        seconds
            How long it is away.
        kill
            Whether it is killed, as by a crash: then it forgets what changed in the last seconds.
        """
        daemons = self._daemons[HEAD]
        if kill:
            daemons.processes.kill(lambda command: Path(command[0]).name == "slurmctld")
        daemons.end("slurmctld")
        time.sleep(seconds)
        self._start_slurmctld()

    @property
    def _hosts(self) -> str:
        lines = [
            "127.0.0.1 localhost",
            *(f"{it.address} {it.name}" for it in self.machines.values()),
        ]
        return "\n".join(lines) + "\n"

    @property
    def _etc(self) -> Path:
        return self.directory / "slurm"

    def _check(self) -> None:
        super()._check()
        machines.check_that_machines_can_be_made()

    def _start(self) -> None:
        self._configure()
        if self.head.pid is None:
            self.head.boot(self._hosts)
            self.network.begin()
            self._start_munged(HEAD)
        if "slurmctld" not in self._daemons[HEAD].running():
            self._start_slurmctld()
        for name in self.nodes:
            self._start_node(name)
        self._await_nodes(self.nodes)

    def _configure(self) -> None:
        (self.shared / "home").mkdir(parents=True, exist_ok=True)
        # Where the recipes of this project look for the workers' environment.
        (self.shared / "home" / "pyhf-env").unlink(missing_ok=True)
        (self.shared / "home" / "pyhf-env").symlink_to(sys.prefix)
        self._etc.mkdir(exist_ok=True)
        make_munge_key(self._etc / "munge.key")
        values = {"nodes": len(self.nodes), "cpus": self.cpus, "memory": memory_mb()}
        text = CONF.format(slurmd_timeout_s=self.slurmd_timeout_s, **values)
        (self._etc / "slurm.conf").write_text(text + COMMON_CONF, encoding="utf-8")
        (self._etc / "cgroup.conf").write_text(cgroup_conf(), encoding="utf-8")

    def _start_slurmctld(self) -> None:
        self._daemons[HEAD].launch("slurmctld", env=self._plain)
        self._daemons[HEAD].wait("slurmctld", 20, self._answers)

    def _start_node(self, name: str) -> None:
        if self.machines[name].pid is not None:
            return
        self.machines[name].boot(self._hosts)
        self.network.connect(self.machines[name], self.line)
        self._start_munged(name)
        self._daemons[name].launch("slurmd", env=self._plain)

    def _start_munged(self, name: str) -> None:
        machine = self.machines[name]
        (machine.root / "run/munge").mkdir(exist_ok=True)
        key = Path("/etc/slurm/munge.key")
        self._daemons[name].launch_munged(key, MUNGE_SOCKET, Path("/var/log"), env=self._plain)
        self._daemons[name].wait("munged", 10, (machine.root / str(MUNGE_SOCKET)[1:]).is_socket)

    def _await_nodes(self, names: Iterable[str]) -> None:
        def usable() -> bool:
            states = self.node_states()
            return all(states[name].rstrip("+") in USABLE for name in names)

        if wait_for(usable, 30):
            return
        states = self.run("sinfo", "--noheader", "--Node", "--format=%N is %T (reason: %E)")
        logs = [log for name in names for log in self._daemons[name].logs("slurmd")]
        raise ServiceError(
            f"nodes do not serve within 30 s:\n{states}{tails(logs)}\nRemedy: see their logs above"
        )

    def _stop(self) -> None:
        for machine in reversed(self.machines.values()):
            self.network.disconnect(machine)
            machine.power_off()
            shutil.rmtree(machine.root, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    """Start, stop and trouble a cluster from the command line.

    Returns
    -------
    int
        The exit status: 0 if all went well, 1 if not; for `run`, that of the command.
    """
    words = sys.argv[1:] if arguments is None else arguments
    end = words.index("--") if "--" in words else len(words)
    options = _parser().parse_args(words[:end])
    options.command = words[end + 1 :]
    cluster = Cluster(
        options.directory,
        **{
            name: getattr(options, name)
            for name in ("nodes", "cpus", "exports", "slurmd_timeout_s")
            if hasattr(options, name)
        },
        line=_line(options),
    )
    try:
        return options.do(cluster, options) or 0
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1


def _line(options: argparse.Namespace) -> Line:
    names = ("delay_ms", "loss_percent", "rate_mbit")
    return Line(**{name: getattr(options, name) for name in names if hasattr(options, name)})


def _start(cluster: Cluster, options: argparse.Namespace) -> None:
    cluster.start()
    program = shlex.join([sys.executable, __file__])
    print(f"{program} run {shlex.quote(str(options.directory))} -- sinfo")


def _run(cluster: Cluster, options: argparse.Namespace) -> int:
    if not options.command:
        raise ServiceError("no command. Remedy: write it after `--`")
    with cluster.popen(*options.command, on=options.on) as process:
        return process.wait()


def _status(cluster: Cluster, _options: argparse.Namespace) -> None:
    for machine in cluster.machines.values():
        print(f"{machine.name} {machine.address}: {'on' if machine.pid else 'off'}")
    if cluster.head.pid:
        print(cluster.run("sinfo", "--Node", "--long"), cluster.run("squeue"), sep="", end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="A Slurm cluster of namespaces on this machine.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, do: object, help_: str, *, node: bool = False) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help_, description=help_)
        command.add_argument("directory", type=Path, metavar="DIR")
        if node:
            command.add_argument("node", metavar="NODE")
        command.set_defaults(do=do)
        return command

    start = add("start", _start, "start it; print a command that runs there")
    start.add_argument("--nodes", type=int, default=4, metavar="N")
    start.add_argument("--cpus", type=int, default=24, metavar="N", help="each node's, for Slurm")
    start.add_argument(
        "--export", type=Path, action="append", default=[], dest="exports", metavar="PATH",
        help="what all machines may read, too",
    )  # fmt: skip
    start.add_argument(
        "--slurmd-timeout", type=int, default=300, dest="slurmd_timeout_s", metavar="SECONDS"
    )
    connect = add("connect", lambda cluster, options: cluster.connect(options.node, _line(options)),
        "connect a node by another line, from now on; a perfect one by default",
        node=True)  # fmt: skip
    for command in (start, connect):
        command.add_argument("--delay", type=float, default=0.0, dest="delay_ms", metavar="MS")
        command.add_argument("--loss", type=float, default=0.0, dest="loss_percent", metavar="%%")
        command.add_argument("--rate", type=float, dest="rate_mbit", metavar="MBIT/S")
    install = commands.add_parser("install", help="install the Debian packages")
    install.set_defaults(directory=Path(), do=lambda *_: Cluster.install())
    add("stop", lambda cluster, _: cluster.stop(), "end it, with all that runs there")
    add("status", _status, "show machines, nodes and jobs")
    run = add("run", _run, "run a command on the head, or on a node: after `--`")
    run.add_argument("--on", default=HEAD, metavar="NODE")
    add("kill-node", lambda cluster, options: cluster.kill_node(options.node),
        "let a node lose its power", node=True)  # fmt: skip
    add("start-node", lambda cluster, options: cluster.start_node(options.node),
        "start it again", node=True)  # fmt: skip
    cut = add("cut", lambda cluster, options: cluster.cut(options.node, options.seconds),
        "cut a machine off from all others", node=True)  # fmt: skip
    cut.add_argument("--for", type=float, dest="seconds", metavar="SECONDS")
    slow = add("slow", lambda cluster, options: cluster.slow(options.node, options.factor),
        "slow a node down; 1: as fast as the others again", node=True)  # fmt: skip
    slow.add_argument("factor", type=float, metavar="FACTOR")
    add("mend", lambda cluster, options: cluster.mend(options.node), "undo cut", node=True)
    restart = add("restart-head", lambda cluster, options: cluster.restart_head(options.seconds),
        "stop slurmctld, and start it again")  # fmt: skip
    restart.add_argument("--after", type=float, default=0, dest="seconds", metavar="SECONDS")
    return parser


if __name__ == "__main__":
    sys.exit(main())
