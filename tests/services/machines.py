"""Machines made of namespaces: own address, hostname, processes, /tmp and /etc, on this machine.

A machine sees the system's programs, what is exported to it, and nothing else of this machine. The
first one has the bridge that the others are connected to: nothing of it is in this machine's own
network.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.services.processes import (
    SYSTEM_PATH,
    MarkedProcesses,
    ServiceError,
    call,
    install_packages,
    missing,
    tails,
    wait_while_alive,
)

PACKAGES = ("iproute2", "util-linux")
PROGRAMS = ("ip", "bridge", "unshare", "nsenter", "mount", "umount", "pivot_root", "prlimit")

# The programs of the system, which all machines have the same of.
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt")

# What a machine has of its own.
OWN = ("dev", "proc", "sys", "run", "tmp", "var/tmp", "var/log", "var/spool", "var/lib", "root")

# $1: the new root, $2: the hostname; then for each mount "ro" or "rw", and its path outside and
# inside. Process 1 ignores that children end, and so the kernel buries orphans at once.
BOOT = """\
set -eu
root=$1
echo "$2" > /proc/sys/kernel/hostname
shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
while [ $# -gt 0 ]; do
    if [ -d "$2" ]; then mkdir -p "$root$3"; else : > "$root$3"; fi
    mount --bind "$2" "$root$3"
    [ "$1" = rw ] || mount -o remount,bind,ro "$root$3"
    shift 3
done
mount --rbind /dev "$root/dev"
mount -t tmpfs shm "$root/dev/shm"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
cd "$root"
mkdir -p .old
pivot_root . .old
cd /
umount -l .old
rmdir .old
ip link set lo up
exec env --ignore-signal=CHLD sleep infinity
"""
INIT = ["sleep", "infinity"]

WIRE = Path(__file__).with_name("wire.py")

NAMESPACES = ("mount", "uts", "ipc", "net", "pid")

# Where control groups for the processors are made: of version 1 or, where that is not, of 2.
HIERARCHIES = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup"))
PERIOD_US = 100_000


@dataclass(frozen=True)
class Export:
    """A directory or file that machines see.

    Parameters
    ----------
    source
        Where it is on this machine.
    target
        Where it is on theirs: at the same place by default.
    writable
        Whether they may write to it.
    """

    source: Path
    target: Path | None = None
    writable: bool = False

    @property
    def words(self) -> list[str]:
        """As `BOOT` reads it."""
        return ["rw" if self.writable else "ro", str(self.source), str(self.target or self.source)]


class Machine:
    """One machine.

    Parameters
    ----------
    directory
        Where its disk is, ``root``, and its logs, which it has as ``/var/log``.
    name
        Its hostname.
    address
        Its address in the network of the cluster, of 16 bits.
    exports
        What it sees besides the system's programs.
    """

    def __init__(
        self, directory: Path, name: str, address: str, exports: tuple[Export, ...]
    ) -> None:
        self.directory = directory
        self.name = name
        self.address = address
        self.exports = exports
        self.processes = MarkedProcesses(directory)

    @property
    def root(self) -> Path:
        """Its disk; what is mounted there is seen from inside only."""
        return self.directory / "root"

    @property
    def logs(self) -> Path:
        """Its /var/log."""
        return self.directory / "log"

    @property
    def pid(self) -> int | None:
        """Its first process, as this machine counts; nothing if it is off."""
        return next(iter(self.processes.found(lambda command: command == INIT)), None)

    def within(self, namespaces: tuple[str, ...] = NAMESPACES) -> list[str]:
        """Tell what stands before a command that is to run there.

        Raises
        ------
        ServiceError
            If the machine is off.
        """
        if (pid := self.pid) is None:
            raise ServiceError(f"{self.name} is off. Remedy: start it")
        return ["nsenter", f"--target={pid}", *(f"--{name}" for name in namespaces), "--"]

    def boot(self, hosts: str) -> None:
        """Start it, unless it runs.

        Parameters
        ----------
        hosts
            What stands in its /etc/hosts.

        Raises
        ------
        ServiceError
            If that cannot be done here.
        """
        if self.pid is not None:
            return
        self._make_disk(hosts)
        output = self.directory / "boot.out"
        output.unlink(missing_ok=True)
        mounts = [Export(Path(path)) for path in SYSTEM if _is_plain_directory(path)]
        mounts += [Export(self.logs, Path("/var/log"), writable=True)]
        # Outer directories before what lies in them.
        mounts += sorted(
            self.exports, key=lambda export: len((export.target or export.source).parts)
        )
        words = [word for export in mounts for word in export.words]
        # The namespaces live as long as their first process, which `unshare` kills when it ends.
        unshare = ["unshare", *(f"--{name}" for name in NAMESPACES), "--fork", "--kill-child"]
        self.processes.launch(
            [*unshare, "sh", "-c", BOOT, "sh", self.root, self.name, *words],
            env={"PATH": SYSTEM_PATH},
            output=output,
            cwd=self.directory,
        )
        problem = wait_while_alive(lambda: self.pid, self.processes.found, 20)
        if problem:
            raise ServiceError(
                f"{self.name} {problem}:\n{tails([output])}\nRemedy: namespaces and mounts need "
                "root, and a machine (or a container with --privileged) that allows them"
            )

    def power_off(self) -> None:
        """End it at once, with all that runs there."""
        self.processes.kill()
        self._unlimit()

    def limit(self, cores: float | None) -> None:
        """Let all that runs there together use so many of this machine's cores, or all again.

        Raises
        ------
        ServiceError
            If no control group can be made here.
        """
        if cores is None:
            self._unlimit()
            return
        quota = max(1000, round(cores * PERIOD_US))
        try:
            self._group.mkdir(exist_ok=True)
            if (old := self._group / "cpu.cfs_quota_us").exists():
                (self._group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
                old.write_text(str(quota))
            else:
                (self._group.parent / "cgroup.subtree_control").write_text("+cpu")
                (self._group / "cpu.max").write_text(f"{quota} {PERIOD_US}")
            self._move_all(self._group)
        except OSError as error:
            self._unlimit()
            raise ServiceError(
                f"{self.name} cannot be slowed down: {error}. Remedy: root of this machine's "
                "control groups (in a container: --privileged --cgroupns=host)"
            ) from error

    @property
    def _group(self) -> Path:
        hierarchy = next((at for at in HIERARCHIES if at.is_dir()), HIERARCHIES[0])
        return hierarchy / f"faas-{self.processes.mark}"

    def _unlimit(self) -> None:
        if self._group.is_dir():
            self._move_all(self._group.parent)
            self._group.rmdir()

    def _move_all(self, group: Path) -> None:
        """Move all that runs there, and what it starts meanwhile."""
        moved: set[int] = set()
        while new := self.processes.found().keys() - moved:
            for pid in new:
                with contextlib.suppress(ProcessLookupError):
                    (group / "cgroup.procs").write_text(str(pid))
            moved |= new

    def _make_disk(self, hosts: str) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        for name in OWN:
            (self.root / name).mkdir(parents=True)
        for name in ("tmp", "var/tmp"):
            (self.root / name).chmod(0o1777)
        for path in map(Path, SYSTEM):
            if path.is_symlink():
                (self.root / path.name).symlink_to(path.readlink())
        etc = self.root / "etc"
        call(["cp", "--archive", "/etc", str(etc)], timeout=60)
        own = {"hosts": hosts, "hostname": f"{self.name}\n", "resolv.conf": ""}
        for name, text in own.items():
            (etc / name).unlink(missing_ok=True)
            (etc / name).write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Line:
    """What becomes of the frames between a machine and the bridge, in each of the two directions.

    Parameters
    ----------
    delay_ms
        How long each is under way.
    loss_percent
        How many are lost.
    rate_mbit
        How many million bits in a second there is room for; as many as there are by default.
    """

    delay_ms: float = 0.0
    loss_percent: float = 0.0
    rate_mbit: float | None = None

    @property
    def words(self) -> list[str]:
        """The options of `wire.py`."""
        words = [f"--delay-s={self.delay_ms / 1e3}", f"--loss={self.loss_percent / 1e2}"]
        return words if self.rate_mbit is None else [*words, f"--bits-per-s={self.rate_mbit * 1e6}"]


class Network:
    """The machines' network: a bridge in the first one, a link to each of the others."""

    def __init__(self, head: Machine) -> None:
        self.head = head

    def begin(self) -> None:
        """Make the bridge."""
        self._ip(self.head, "link", "add", "eth0", "type", "bridge", "forward_delay", "0")
        self._set_address(self.head)

    def connect(self, machine: Machine, line: Line = Line()) -> None:
        """Plug a machine in, or into another line."""
        self.disconnect(machine)
        if line == Line():
            peer = ["peer", "name", "eth0", "netns", str(machine.pid)]
            self._ip(self.head, "link", "add", machine.name, "type", "veth", *peer)
        else:
            self._lay_wire(machine, line)
        self._ip(self.head, "link", "set", machine.name, "master", "eth0", "up")
        self._set_address(machine)

    def _lay_wire(self, machine: Machine, line: Line) -> None:
        far = f"{machine.name}-far"
        output = machine.directory / "wire.out"
        wire = _wire_of(machine)
        wire.launch(
            [*self.head.within(("net",)), sys.executable, WIRE, machine.name, far, *line.words],
            env={"PATH": SYSTEM_PATH},
            output=output,
            cwd=machine.directory,
        )
        move = ["link", "set", far, "netns", str(machine.pid), "name", "eth0"]

        def moved() -> bool:
            with contextlib.suppress(ServiceError):
                self._ip(self.head, *move)
                return True
            return False

        if problem := wait_while_alive(moved, wire.found, 10):
            raise ServiceError(
                f"the wire to {machine.name} {problem}:\n{tails([output])}\nRemedy: it needs the "
                "kernel's TUN/TAP driver, /dev/net/tun"
            )

    def cut(self, machine: Machine) -> None:
        """Let nothing through to a machine or from it: neither side is told."""
        self._set_port(machine, "disabled")

    def mend(self, machine: Machine) -> None:
        """Undo `cut`."""
        self._set_port(machine, "forwarding")

    def disconnect(self, machine: Machine) -> None:
        """Unplug a machine."""
        _wire_of(machine).kill()
        with contextlib.suppress(ServiceError):
            self._ip(self.head, "link", "delete", machine.name)

    def _set_port(self, machine: Machine, state: str) -> None:
        states = {"disabled": "0", "forwarding": "3"}
        command = ["bridge", "link", "set", "dev", machine.name, "state", states[state]]
        call([*self.head.within(("net",)), *command], timeout=10)

    def _set_address(self, machine: Machine) -> None:
        self._ip(machine, "address", "add", f"{machine.address}/16", "dev", "eth0")
        self._ip(machine, "link", "set", "eth0", "up")

    def _ip(self, machine: Machine, *words: str) -> None:
        # Not in the machine's own processes: the one that it names is numbered as here.
        call([*machine.within(("net",)), "ip", *words], timeout=10)


def install() -> None:
    """Install the Debian packages, unless all the programs are there."""
    install_packages(PACKAGES, lambda: missing(PROGRAMS))


def check_that_machines_can_be_made() -> None:
    """Raise a `ServiceError` if they cannot be here."""
    if os.geteuid() != 0:
        raise ServiceError("machines of namespaces need root. Remedy: run this as root (sudo)")
    if lacking := missing(PROGRAMS):
        raise ServiceError(
            f"not found: {', '.join(lacking)}. Remedy: install them (Debian: {' '.join(PACKAGES)})"
        )


def home() -> Path:
    """Tell this user's home, as programs that have no HOME find it."""
    return Path(pwd.getpwuid(os.geteuid()).pw_dir)


def _wire_of(machine: Machine) -> MarkedProcesses:
    return MarkedProcesses(machine.directory / "wire")


def _is_plain_directory(path: str) -> bool:
    return Path(path).is_dir() and not Path(path).is_symlink()
