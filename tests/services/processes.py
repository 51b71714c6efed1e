"""What all services here are made of: processes found by a mark, waiting, ports, private files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import signal
import socket
import subprocess
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

    Which = Callable[[list[str]], bool]  # whether a process is meant, told by its arguments

# An unprivileged user's PATH lacks the places of the daemons.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# A process that forks and exits can slip through one look at /proc.
LOOKS = 5


class ServiceError(RuntimeError):
    """A program of a service is missing, did not come up, did not go down, or failed."""


class Service:
    """Something that is started and stopped, and lives in one directory.

    Parameters
    ----------
    directory
        Where configuration, state, sockets and logs go; made if missing, not removed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory).resolve()

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

    def start(self) -> None:
        """Start what does not run yet, and return when all of it is ready.

        Raises
        ------
        ServiceError
            If something is missing or does not come up in time: with the ends of its logs and a
            remedy. Nothing is left running then.
        """
        self._check()
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._lock():
            try:
                self._start()
            except BaseException:
                self._stop()
                raise

    def stop(self) -> None:
        """End it, with all that it has started.

        Raises
        ------
        ServiceError
            If a process cannot be ended.
        """
        if self.directory.is_dir():
            with self._lock():
                self._stop()

    def _check(self) -> None:
        """Raise if it cannot be started here."""

    def _start(self) -> None:
        raise NotImplementedError

    def _stop(self) -> None:
        raise NotImplementedError

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class DebianService(Service):
    """A service whose programs come in Debian packages."""

    packages: ClassVar[tuple[str, ...]]

    @staticmethod
    def lacking() -> list[str]:
        """Return which of the programs are not there."""
        raise NotImplementedError

    @classmethod
    def installed(cls) -> bool:
        """Whether all the programs are there."""
        return not cls.lacking()

    @classmethod
    def install(cls) -> None:
        """Install the packages, unless all the programs are there; the system starts no daemon.

        Raises
        ------
        ServiceError
            If that cannot be done, with what apt-get said.
        """
        install_packages(cls.packages, cls.lacking)


class MarkedProcesses:
    """What was started with one mark, and all that these processes started in turn.

    The mark is a limit on POSIX message queues, which nobody uses: it is inherited whatever
    becomes of parents, sessions, environments and titles. A number per key, below the kernel's
    default.

    Parameters
    ----------
    key
        Anything that tells these processes from others, such as the path of their directory.
    """

    def __init__(self, key: object) -> None:
        self.mark = 400_000 + zlib.crc32(os.fsencode(str(key))) % 400_000

    def launch(
        self,
        command: Iterable[object],
        *,
        env: Mapping[str, str],
        output: Path,
        cwd: Path,
        daemon: bool = False,
        umask: int = -1,
    ) -> None:
        """Start a program in a session of its own, as nobody's child.

        Parameters
        ----------
        command
            The program and its arguments.
        env
            Its whole environment.
        output
            Where its standard output and error go, after what the file holds already.
        cwd
            Its working directory.
        daemon
            Whether it puts itself into the background, and returns when that is done.
        umask
            For the files that it makes; that of this process by default.

        Raises
        ------
        ServiceError
            If it cannot be started.
        """
        program, *arguments = map(str, command)
        found = shutil.which(program, path=env.get("PATH", SYSTEM_PATH))
        if found is None:
            raise ServiceError(f"{program} not found")
        session = ["setsid", *([] if daemon else ["--fork"])]
        with output.open("ab") as file:
            try:
                subprocess.run(
                    [*session, "prlimit", f"--msgqueue={self.mark}:", found, *arguments],
                    env={"PATH": SYSTEM_PATH, **env},
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    umask=umask,
                    timeout=30,
                    check=True,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise ServiceError(f"cannot start {program}: {error}") from error

    def found(self, which: Which | None = None) -> dict[int, list[str]]:
        """Tell those that live, all or some: their arguments by process id."""
        processes = {}
        for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
            # It may end meanwhile, or be another user's and thus none of ours.
            with contextlib.suppress(OSError):
                if pid == os.getpid() or self.mark != soft_limit(pid):
                    continue
                status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
                # The parent of all of them is process 1, which in containers leaves zombies.
                if status.rpartition(")")[2].split()[0] in "ZX":
                    continue
                line = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
                command = os.fsdecode(line).split("\0")
                if which is None or which(command):
                    processes[pid] = command
        return processes

    def send(self, number: signal.Signals, which: Which | None = None) -> dict[int, list[str]]:
        """Send a signal to all or some; tell to whom."""
        found = self.found(which)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return found

    def end(self, which: Which | None = None, *, seconds: float) -> None:
        """Ask all or some to end; kill what does not within the time.

        Raises
        ------
        ServiceError
            If that cannot be done.
        """
        self.send(signal.SIGTERM, which)
        if not wait_for(lambda: not self.found(which), seconds):
            self.kill(which)

    def kill(self, which: Which | None = None) -> None:
        """Kill all or some; return when they are gone.

        Raises
        ------
        ServiceError
            If they are still there after 10 s.
        """
        deadline = time.monotonic() + 10
        empty = 0
        while empty < LOOKS:
            left = self.send(signal.SIGKILL, which)
            empty = 0 if left else empty + 1
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"cannot kill {left}. Remedy: see whether they hang in the kernel"
                )
            time.sleep(0.02)


def soft_limit(pid: int) -> int:
    """Tell the mark of a process; raises an OSError if it is gone or another user's."""
    return resource.prlimit(pid, resource.RLIMIT_MSGQUEUE)[0]


def mentioning(word: str) -> Which:
    """Those with this word in their arguments."""
    return lambda command: word in " ".join(command)


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    """Wait until something holds; tell whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def wait_while_alive(
    ready: Callable[[], object], alive: Callable[[], object], seconds: float
) -> str:
    """Wait until a program is ready; tell what went wrong, or nothing.

    Parameters
    ----------
    ready
        Whether it is.
    alive
        Whether its process is there.
    seconds
        How long to wait at most.

    Returns
    -------
    str
        "ended while starting", "not ready within 5 s", or the empty string.
    """
    deadline = time.monotonic() + seconds
    missed = 0
    while True:
        missed = 0 if alive() else missed + 1
        if missed == LOOKS:
            return "ended while starting"
        if not missed and ready():
            return ""
        if time.monotonic() > deadline:
            return f"not ready within {seconds:g} s"
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, at none of this machine's addresses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("", 0))
        return [bound.getsockname()[1] for bound in sockets]


def is_free(port: int) -> bool:
    """Whether somebody could listen on this port, at all of this machine's addresses."""
    with socket.socket() as bound:
        # Connections of who was there last, on their way out, are no hindrance to the next.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            bound.bind(("", port))
            return True
    return False


def connects(port: int) -> bool:
    """Whether somebody listens on this port of loopback."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else may read, in one step."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    fresh.replace(path)


def set_aside(logs: Iterable[Path]) -> None:
    """Rename the logs of the last start, so that `tails` shows those of the next."""
    for log in logs:
        with contextlib.suppress(FileNotFoundError):
            log.replace(f"{log}.old")


def tails(logs: Iterable[Path], lines: int = 10) -> str:
    """The ends of some logs, indented, each under its name."""
    shown = []
    for log in logs:
        with contextlib.suppress(OSError):
            if last := log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]:
                shown += [f"{log}:", *(f"  {line}" for line in last)]
    return "\n".join(shown) or "(no logs)"


def missing(programs: Iterable[str], path: str = SYSTEM_PATH) -> list[str]:
    """Tell which of some programs are not there."""
    return [name for name in programs if shutil.which(name, path=path) is None]


def call(command: Iterable[str], *, timeout: float, env: Mapping[str, str] | None = None) -> str:
    """Run a program that ends, and return what it wrote to its standard output.

    Parameters
    ----------
    command
        The program and its arguments.
    timeout
        Seconds after which it is killed.
    env
        Its whole environment; that of this process by default.

    Raises
    ------
    ServiceError
        If it is missing, fails, or does not end in time: with what it said.
    """
    words = list(command)
    line = " ".join(words)
    try:
        done = subprocess.run(
            words,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as error:
        raise ServiceError(f"{words[0]} not found") from error
    except subprocess.TimeoutExpired as error:
        raise ServiceError(f"`{line}` did not end within {timeout:g} s") from error
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip()
        raise ServiceError(f"`{line}` ended with {done.returncode}: {said}")
    return done.stdout


def install_packages(names: Iterable[str], lacking: Callable[[], list[str]]) -> None:
    """Install Debian packages, unless all that is wanted of them is there; start no daemon.

    Parameters
    ----------
    names
        The packages.
    lacking
        Tells which of their programs are not there.

    Raises
    ------
    ServiceError
        If that cannot be done, with what apt-get said, or if something is still missing.
    """
    if lacking():
        _install(*names)
        if still := lacking():
            raise ServiceError(f"installed {' '.join(names)}, but {', '.join(still)} not found")


def _install(*names: str) -> None:
    if shutil.which("apt-get") is None:
        raise ServiceError(f"cannot install {' '.join(names)}: no apt-get")
    sudo = ["sudo", "-n"] if os.geteuid() != 0 and shutil.which("sudo") else []
    # In "run level 1" the packages' scripts start no system-wide daemons.
    apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]
    apt += ["-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
    install = [*apt, "install", "--yes", "--no-install-recommends", *names]
    try:
        if any(Path("/var/lib/apt/lists").glob("*_Packages*")):
            # Old lists name versions that the mirrors no longer have.
            with contextlib.suppress(ServiceError):
                call(install, timeout=600)
                return
        call([*apt, "update"], timeout=300)
        call(install, timeout=600)
    except ServiceError as error:
        raise ServiceError(f"cannot install {' '.join(names)}: {error}") from error
