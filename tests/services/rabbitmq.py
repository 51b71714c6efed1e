"""A real RabbitMQ on loopback, private to one directory: for the tests of Globus Compute.

Run as a script it starts and stops one from a shell::

    eval "$(python tests/services/rabbitmq.py start /tmp/rabbit)"; echo "$AMQP_URL"
    python tests/services/rabbitmq.py stop /tmp/rabbit

Tried with the RabbitMQ of Debian 12 (3.10.8), as root.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import secrets
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.services.processes import (
    SYSTEM_PATH,
    DebianService,
    MarkedProcesses,
    ServiceError,
    connects,
    free_ports,
    is_free,
    mentioning,
    missing,
    set_aside,
    tails,
    wait_while_alive,
    write_private,
)

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "rabbitmq-server"
INSTALL_REMEDY = f"run `python {__file__} install` (Debian: {PACKAGE})"

# The script of the package itself: the one in /usr/sbin changes to a user and to directories of
# the system's broker.
SCRIPT = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")

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

NODE = mentioning("beam")


class LocalRabbitMQ(DebianService):
    """A RabbitMQ of one node, on this machine and on loopback, with an epmd of its own.

    Everything but the package lives in one directory: several may run at once, each in a
    directory of its own. Ports, password, durable queues and persistent messages outlive `stop`,
    `kill` and `restart`.

    Parameters
    ----------
    directory
        Where configuration, state and logs go; made if missing, not removed.
    """

    packages = (PACKAGE,)
    user = "loopback"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._processes = MarkedProcesses(self.directory)

    @staticmethod
    def lacking() -> list[str]:
        """Return which of the programs are not there."""
        return missing((str(SCRIPT), "erl", "epmd"))

    def url(self, **options: object) -> str:
        """Tell the address for AMQP clients, with user and password.

        Parameters
        ----------
        **options
            What pika's `URLParameters` knows, such as ``heartbeat=0``.

        Raises
        ------
        ServiceError
            If it was never started, and thus has no port.
        """
        try:
            known = json.loads(self._choices.read_text(encoding="utf-8"))
        except OSError as error:
            raise ServiceError(f"{self._choices} is missing. Remedy: start() first") from error
        query = "&".join(f"{name}={value}" for name, value in options.items())
        place = f"127.0.0.1:{known['amqp']}/%2F"
        return f"amqp://{self.user}:{known['password']}@{place}{'?' if query else ''}{query}"

    def running(self) -> bool:
        """Whether it runs and answers."""
        return bool(self._processes.found(NODE)) and self._answers()

    def kill(self) -> None:
        """Kill it without a warning, as a crash would."""
        self._processes.kill()

    def restart(self) -> None:
        """Stop and start it, on the same port. Clients lose their connections.

        Raises
        ------
        ServiceError
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

    def _check(self) -> None:
        if not self.installed():
            raise ServiceError(f"RabbitMQ is not installed. Remedy: {INSTALL_REMEDY}")

    def _start(self) -> None:
        if self.running():
            return
        self._stop()
        try:
            self._start_node()
        except ServiceError:
            # Somebody may have taken a port after it was found free.
            if not self._ports_taken():
                raise
            self._stop()
            self._start_node()

    def _start_node(self) -> None:
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
        set_aside(self._logs)
        env = self._environment(known)
        self._launch("epmd", ["epmd", "-address", "127.0.0.1", "-port", known["epmd"]], env)
        self._await("epmd", 10, lambda: connects(int(known["epmd"])))
        self._launch("server", [SCRIPT], env)
        self._await("server", 90, self._answers)

    def _environment(self, known: dict[str, str]) -> dict[str, str]:
        at = self.directory
        # Nothing of the caller's: RABBITMQ_ and ERL_ variables would change what starts.
        return {
            "PATH": SYSTEM_PATH,
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
        which = mentioning("epmd" if name == "epmd" else "rabbit")
        problem = wait_while_alive(ready, lambda: self._processes.found(which), seconds)
        if problem:
            raise ServiceError(
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
        self._processes.end(NODE, seconds=20)
        # epmd, and helpers that a kill of the node has left behind.
        self._processes.end(seconds=3)


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
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
