"""A real RabbitMQ on loopback, private to one directory: for the tests of Globus Compute.

Run as a script it starts and stops one from a shell::

    eval "$(python tests/services/rabbitmq.py start /tmp/rabbit)"; echo "$AMQP_URL"
    python tests/services/rabbitmq.py stop /tmp/rabbit

Tried with the RabbitMQ of Debian 12 (3.10.8), as root.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import resource
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import TracebackType

    from typing_extensions import Self

PACKAGE = "rabbitmq-server"
INSTALL_REMEDY = f"run `python {__file__} install` (Debian: {PACKAGE})"

# The script of the package itself: the one in /usr/sbin changes to a user and to directories of
# the system's broker.
SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

# An unprivileged user's PATH lacks the places of the daemons.
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CONF = """\
listeners.tcp.local = 127.0.0.1:{amqp}
default_user = {user}
default_pass = {password}
log.console = false
"""

# One scheduler, which sleeps when there is nothing to do; the port for other nodes on loopback.
ERLANG = (
    "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
)

# With it a broker answers by saying which versions and mechanisms it knows.
AMQP_HEADER = b"AMQP\x00\x00\x09\x01"
AMQP_METHOD_FRAME = 1


class ServiceError(RuntimeError):
    """A program of a service is missing, did not come up, or did not go down."""


class RabbitMQError(ServiceError):
    """RabbitMQ is missing, did not come up, or did not go down."""


class MarkedProcesses:
    """What was started with one mark, and all that these processes started in turn.

    The mark is a limit on POSIX message queues, which nobody uses: it is inherited whatever
    becomes of parents, sessions, environments and titles. A number per key, below the kernel's
    default. `slurm.py` does the same.

    Parameters
    ----------
    key
        Anything that tells these processes from others, such as the path of their directory.
    """

    def __init__(self, key: object) -> None:
        self.mark = 400_000 + zlib.crc32(os.fsencode(str(key))) % 400_000

    def launch(
        self, command: Iterable[object], *, env: Mapping[str, str], output: Path, cwd: Path
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

        Raises
        ------
        ServiceError
            If it cannot be started.
        """
        command = [str(word) for word in command]
        if shutil.which(command[0], path=env.get("PATH", PATH)) is None:
            raise ServiceError(f"{command[0]} not found")
        wrapped = ["setsid", "--fork", "prlimit", f"--msgqueue={self.mark}:", *command]
        with output.open("ab") as file:
            try:
                subprocess.run(
                    wrapped,
                    env={"PATH": PATH, **env},
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    timeout=10,
                    check=True,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise ServiceError(f"cannot start `{' '.join(command)}`: {error}") from error

    def found(self) -> dict[int, list[str]]:
        """Tell those that live: their arguments by process id."""
        processes = {}
        for pid in (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()):
            # It may end meanwhile, or be another user's and thus none of ours.
            with contextlib.suppress(OSError):
                if pid == os.getpid() or self.mark != soft_limit(pid):
                    continue
                status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
                # The parent of all of them is process 1, which in containers leaves zombies.
                if status.rpartition(")")[2].split()[0] not in "ZX":
                    line = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0")
                    processes[pid] = os.fsdecode(line).split("\0")
        return processes

    def ids(self, word: str = "", *, spared: str = "") -> list[int]:
        """Tell the ids of those with this word in their arguments, and without the other."""
        lines = {pid: " ".join(arguments) for pid, arguments in self.found().items()}
        return [
            pid for pid, line in lines.items() if word in line and not (spared and spared in line)
        ]

    def send(self, number: signal.Signals, word: str = "") -> None:
        """Send a signal to those with this word, or to all."""
        for pid in self.ids(word):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def end(self, word: str = "", *, seconds: float) -> None:
        """Ask those with this word, or all, to end; kill what does not within the time.

        Raises
        ------
        ServiceError
            If that cannot be done.
        """
        self.send(signal.SIGTERM, word)
        if not self.gone(word, seconds=seconds):
            self.kill(word)

    def kill(self, word: str = "", *, spared: str = "") -> None:
        """Kill those with this word and without the other; return when they are gone.

        Raises
        ------
        ServiceError
            If they are still there after 10 s.
        """
        deadline = time.monotonic() + 10
        empty = 0
        # A process that forks and exits can slip through one look at /proc.
        while empty < 3:
            left = self.ids(word, spared=spared)
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            empty = 0 if left else empty + 1
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"cannot kill {left}. Remedy: see whether they hang in the kernel"
                )
            time.sleep(0.02)

    def gone(self, word: str = "", *, seconds: float) -> bool:
        """Wait until none with this word is left; tell whether that came true in time."""
        return wait_for(lambda: not self.ids(word), seconds)


class LocalRabbitMQ:
    """A RabbitMQ of one node, on this machine and on loopback, with an epmd of its own.

    Everything but the package lives in one directory: several may run at once, each in a
    directory of its own. Ports, password, durable queues and persistent messages outlive `stop`,
    `kill` and `restart`.

    Parameters
    ----------
    directory
        Where configuration, state and logs go; made if missing, not removed.
    """

    user = "loopback"

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory).resolve()
        self._processes = MarkedProcesses(self.directory)

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

    @staticmethod
    def installed() -> bool:
        """Whether all the programs are there."""
        return SCRIPT.exists() and all(shutil.which(name, path=PATH) for name in ("erl", "epmd"))

    @staticmethod
    def install() -> None:
        """Install the Debian package, unless it is there; the system's broker does not start.

        Raises
        ------
        RabbitMQError
            If that cannot be done, with what apt-get said.
        """
        if LocalRabbitMQ.installed():
            return
        if shutil.which("apt-get") is None:
            raise RabbitMQError("cannot install RabbitMQ: no apt-get")
        sudo = ["sudo", "-n"] if os.geteuid() != 0 and shutil.which("sudo") else []
        # In "run level 1" the package's scripts start no system-wide broker.
        apt = [*sudo, "env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get", "-qq"]
        apt += ["-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
        install = [*apt, "install", "--yes", "--no-install-recommends", PACKAGE]
        # Old lists name versions that the mirrors no longer have.
        if not any(Path("/var/lib/apt/lists").glob("*_Packages*")) or not _succeeds(install):
            for command in ([*apt, "update"], install):
                if not _succeeds(command, last := []):
                    raise RabbitMQError(f"`{' '.join(command)}` failed: {''.join(last)}")
        if not LocalRabbitMQ.installed():
            raise RabbitMQError(f"installed {PACKAGE}, but {SCRIPT}, erl or epmd is missing")

    def url(self, **options: object) -> str:
        """Tell the address for AMQP clients, with user and password.

        Parameters
        ----------
        **options
            What pika's `URLParameters` knows, such as ``heartbeat=0``.

        Raises
        ------
        RabbitMQError
            If it was never started, and thus has no port.
        """
        try:
            known = json.loads(self._choices.read_text(encoding="utf-8"))
        except OSError as error:
            raise RabbitMQError(f"{self._choices} is missing. Remedy: start() first") from error
        query = "&".join(f"{name}={value}" for name, value in options.items())
        place = f"127.0.0.1:{known['amqp']}/%2F"
        return f"amqp://{self.user}:{known['password']}@{place}{'?' if query else ''}{query}"

    def running(self) -> bool:
        """Whether it runs and answers."""
        return bool(self._processes.ids("beam")) and self._answers()

    def start(self) -> None:
        """Start it unless it runs, and return when it takes connections.

        Raises
        ------
        RabbitMQError
            If it does not come up in time: with the end of its log and a remedy. Nothing is left
            running then.
        """
        if not self.installed():
            raise RabbitMQError(f"RabbitMQ is not installed. Remedy: {INSTALL_REMEDY}")
        self.directory.mkdir(parents=True, exist_ok=True)
        with self._lock():
            if self.running():
                return
            try:
                self._stop()
                try:
                    self._start()
                except RabbitMQError:
                    # Somebody may have taken a port after it was found free.
                    if not self._ports_taken():
                        raise
                    self._stop()
                    self._start()
            except BaseException:
                self._stop()
                raise

    def stop(self) -> None:
        """End it and its epmd. Durable queues and persistent messages are kept.

        Raises
        ------
        ServiceError
            If a process cannot be ended.
        """
        if self.directory.is_dir():
            with self._lock():
                self._stop()

    def kill(self) -> None:
        """Kill it without a warning, as a crash would."""
        self._processes.kill()

    def restart(self) -> None:
        """Stop and start it, on the same port. Clients lose their connections.

        Raises
        ------
        RabbitMQError
            As `start` does.
        """
        self.stop()
        self.start()

    @property
    def _choices(self) -> Path:
        return self.directory / "choices.json"

    @property
    def _logs(self) -> list[Path]:
        return [self.directory / name for name in ("epmd.out", "server.out", "rabbitmq.log")]

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _known(self) -> dict[str, str]:
        """Ports and secrets: those of the last start, unless a port was taken meanwhile."""
        known: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(self._choices.read_text(encoding="utf-8"))
        if not known or self._ports_taken():
            names = ("amqp", "epmd", "distribution")
            ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
            # The state holds the password, so it stays; the node's name must stay for the state.
            fresh = {name: secrets.token_hex(12) for name in ("password", "cookie", "node")}
            known = {**fresh, **known, **ports}
            write_private(self._choices, json.dumps(known))
        return known

    def _ports_taken(self) -> bool:
        try:
            known = json.loads(self._choices.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return not all(is_free(int(known[name])) for name in ("amqp", "epmd", "distribution"))

    def _start(self) -> None:
        known = self._known()
        home = self.directory / "home"
        home.mkdir(mode=0o700, exist_ok=True)
        (self.directory / "state").mkdir(mode=0o700, exist_ok=True)
        cookie = home / ".erlang.cookie"
        if not cookie.is_file():
            write_private(cookie, known["cookie"])
            cookie.chmod(0o400)
        conf = CONF.format(amqp=known["amqp"], user=self.user, password=known["password"])
        write_private(self.directory / "rabbitmq.conf", conf)
        (self.directory / "enabled_plugins").write_text("[].\n", encoding="utf-8")
        for log in self._logs:
            log.unlink(missing_ok=True)
        env = self._environment(known)
        self._launch("epmd", ["epmd", "-address", "127.0.0.1", "-port", known["epmd"]], env)
        self._await("epmd", 10, lambda: connects(int(known["epmd"])))
        self._launch("server", [SCRIPT], env)
        self._await("server", 90, self._answers)

    def _environment(self, known: dict[str, str]) -> dict[str, str]:
        at = self.directory
        # Nothing of the caller's: RABBITMQ_ and ERL_ variables would change what starts.
        return {
            "PATH": PATH,
            "HOME": f"{at}/home",
            "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": known["epmd"],
            "RABBITMQ_NODENAME": f"rabbit-{known['node']}@localhost",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": f"{at}/rabbitmq.conf",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{at}/advanced.config",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{at}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{at}/state",
            "RABBITMQ_LOG_BASE": str(at),
            "RABBITMQ_LOGS": f"{at}/rabbitmq.log",
            "RABBITMQ_PID_FILE": f"{at}/pid",
            "RABBITMQ_DIST_PORT": known["distribution"],
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
            # Else a shell stays in front of the node, to turn signals into commands.
            "RUNNING_UNDER_SYSTEMD": "true",
        }

    def _launch(self, name: str, command: list[object], env: dict[str, str]) -> None:
        output = self.directory / f"{name}.out"
        self._processes.launch(command, env=env, output=output, cwd=self.directory)

    def _await(self, name: str, seconds: float, ready: Callable[[], bool]) -> None:
        word = "epmd" if name == "epmd" else "rabbit"
        problem = wait_while_alive(ready, lambda: bool(self._processes.ids(word)), seconds)
        if problem:
            raise RabbitMQError(
                f"RabbitMQ's {name} {problem}:\n{tails(self._logs)}\nRemedy: see its logs above; "
                f"if they say nothing, delete {self.directory} and start again"
            )

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            port = int(json.loads(self._choices.read_text(encoding="utf-8"))["amqp"])
            with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                connection.sendall(AMQP_HEADER)
                return connection.recv(1) == bytes([AMQP_METHOD_FRAME])
        return False

    def _stop(self) -> None:
        self._processes.end("beam", seconds=20)
        # epmd, and helpers that a kill of the node has left behind.
        self._processes.end(seconds=3)


def soft_limit(pid: int) -> int:
    """Tell the mark of a process; raises an OSError if it is gone or another user's."""
    return resource.prlimit(pid, resource.RLIMIT_MSGQUEUE)[0]


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    """Wait until something holds; tell whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def wait_while_alive(ready: Callable[[], object], alive: Callable[[], bool], seconds: float) -> str:
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
        # A process that forks and exits can slip through one look at /proc.
        missed = 0 if alive() else missed + 1
        if missed == 5:
            return "ended while starting"
        if not missed and ready():
            return ""
        if time.monotonic() > deadline:
            return f"not ready within {seconds:g} s"
        time.sleep(0.1)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [bound.getsockname()[1] for bound in sockets]


def is_free(port: int) -> bool:
    """Whether somebody could listen on this port of loopback."""
    with socket.socket() as bound:
        # Connections of the last broker, on their way out, are no hindrance to the next.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            bound.bind(("127.0.0.1", port))
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


def tails(logs: Iterable[Path], lines: int = 10) -> str:
    """The ends of some logs, indented, each under its name."""
    shown = []
    for log in logs:
        with contextlib.suppress(OSError):
            if last := log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:]:
                shown += [f"{log}:", *(f"  {line}" for line in last)]
    return "\n".join(shown) or "(no logs)"


def _succeeds(command: list[str], said: list[str] | None = None) -> bool:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False
    )
    if said is not None:
        said.append(done.stderr.strip() or done.stdout.strip())
    return done.returncode == 0


def main(arguments: list[str] | None = None) -> int:
    """Start, stop or restart a broker from the command line.

    Parameters
    ----------
    arguments
        Those of the command line by default.

    Returns
    -------
    int
        The exit status: 0 if all went well, 1 if not.
    """
    parser = argparse.ArgumentParser(description="A real RabbitMQ on loopback.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("install", help="install the Debian package")
    for name, help_ in [
        ("start", "start it, print the shell command that tells its address"),
        ("stop", "end it, keep its state"),
        ("restart", "end and start it"),
    ]:
        commands.add_parser(name, help=help_).add_argument("directory", type=Path, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        if options.command == "install":
            LocalRabbitMQ.install()
            return 0
        broker = LocalRabbitMQ(options.directory)
        getattr(broker, options.command)()
        if options.command == "start":
            print(f"export AMQP_URL='{broker.url()}'")
    except (ServiceError, subprocess.TimeoutExpired) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
