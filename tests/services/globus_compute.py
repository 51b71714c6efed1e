"""A whole Globus Compute on loopback: for the tests and CI.

The SDK, the endpoint agent and the broker are the real ones; only the web and token service is a
small one of ours, `globus_web.py`. Run as a script it starts and stops one from a shell::

    eval "$(python tests/services/globus_compute.py start /tmp/globus)"; echo "$LOOPBACK_ENDPOINT"
    python tests/services/globus_compute.py stop /tmp/globus

It needs RabbitMQ (see `rabbitmq.py`), and globus-compute-sdk and globus-compute-endpoint in the
environment of the interpreter. Tried with 4.19.0 and Debian 12's RabbitMQ (3.10.8), as root.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import re
import secrets
import shlex
import signal
import sys
import textwrap
import threading
import uuid
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.services.globus_web import WebService
from tests.services.processes import (
    MarkedProcesses,
    Service,
    ServiceError,
    mentioning,
    tails,
    wait_for,
    wait_while_alive,
    write_private,
)
from tests.services.rabbitmq import LocalRabbitMQ

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PACKAGES = ("globus-compute-sdk", "globus-compute-endpoint")
AGENT = "globus-compute-endpoint"
IDENTITY = "endpoint.json"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

# The least that agents accept: they raise a smaller one.
HEARTBEAT = 5

# What stands under `engine:` by default.
ENGINE = """\
type: GlobusComputeEngine
label: loopback
address: 127.0.0.1
max_workers_per_node: {workers}
heartbeat_period: 1
heartbeat_threshold: 5
job_status_kwargs:
  strategy_period: 1
  max_idletime: 3600
provider:
  type: LocalProvider
  init_blocks: 1
  min_blocks: 1
  max_blocks: 1
"""

# How an agent calls itself; its user endpoints do without the star.
CORE = mentioning("Globus Compute Endpoint *(")


class Agent:
    """One endpoint: the real agent, what it starts, and what tests do with them.

    Made by `LoopbackGlobusCompute.endpoint`.
    """

    def __init__(
        self, name: str, directory: Path, web: WebService, env: Mapping[str, str], python: Path
    ) -> None:
        self.name = name
        self.directory = directory
        self.python = python
        self._web = web
        self._env = dict(env)
        self._processes = MarkedProcesses(directory)
        self._id: uuid.UUID | None = None

    @property
    def id(self) -> uuid.UUID:
        """What clients call it; the same for all starts."""
        known = self._known_id()
        if known is None:
            raise ServiceError(f"the agent {self.name} has no id before it was started once")
        return known

    @property
    def log(self) -> Path:
        """What the agent wrote to its standard output and error."""
        return self.directory / "agent.out"

    @property
    def online(self) -> bool:
        """Whether the service takes it for online; that lags behind a crash by heartbeats."""
        return self._known().get("status") == "online"

    def configure(self, engine: str, environment: Mapping[str, str]) -> bool:
        """Write the files that ``globus-compute-endpoint configure`` would.

        Parameters
        ----------
        engine
            YAML, and template of Jinja, of what stands under ``engine:``.
        environment
            Variables for the user endpoint and its workers: they inherit none.

        Returns
        -------
        bool
            Whether anything has changed.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        config = {
            "display_name": f"loopback {self.name}",
            "heartbeat_period": HEARTBEAT,
            "local_compute_services": True,
            "email": "root@localhost",  # else asked for when run as root
        }
        template = f"heartbeat_period: {HEARTBEAT}\nidle_heartbeats_soft: 0\nengine:\n"
        template += textwrap.indent(engine, "  ")
        files = {
            "config.yaml": json.dumps(config),
            "user_config_template.yaml.j2": template,
            "user_config_schema.json": "{}",
            "user_environment.yaml": json.dumps(dict(environment)),
        }
        changed = False
        for name, text in files.items():
            path = self.directory / name
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
                changed = True
        return changed

    def start(self) -> None:
        """Start it unless it runs, and return when it is online. Tasks that wait begin then.

        Raises
        ------
        ServiceError
            If it does not get there: with the ends of its logs and a remedy.
        """
        if self._processes.found(CORE) and self.online:
            return
        self.kill()  # what may be left of it
        self._mend_identity()
        before = self._known().get("registrations", 0)

        def ready() -> bool:
            # Not as the last one, of which the service may not know yet that it has ended.
            return self._known().get("registrations", 0) > before and self.online

        command = [self.python.parent / AGENT, "start", self.name]
        self._processes.launch(command, env=self._env, output=self.log, cwd=self.directory)
        problem = wait_while_alive(ready, self._processes.found, 90)
        if problem:
            logs = tails([self.log, *self.logs()])
            self.kill()
            raise ServiceError(
                f"the agent {problem}:\n{logs}\nRemedy: see its logs above; `pip check` in its "
                "environment; the log of the web service shows whether it registered"
            )

    def stop(self, seconds: float = 20) -> None:
        """End it as an administrator would; kill what does not end in time."""
        if self.ask_to_end():
            wait_for(lambda: not self._processes.found(), seconds)
        self.kill()

    def ask_to_end(self) -> bool:
        """Ask it to end, and do not wait; tell whether there was one to ask."""
        return bool(self._processes.send(signal.SIGTERM, CORE))

    def kill(self) -> None:
        """Kill it, its user endpoints and workers without a warning, as a power cut would."""
        self._processes.kill()
        self._remove_pid_files([self.directory, *self._user_endpoints()])

    def kill_core(self) -> None:
        """Kill only the agent itself; its user endpoints notice that, and end."""
        self._processes.kill(CORE)

    def kill_user_endpoint(self) -> None:
        """Kill the user endpoints and all of their workers, but not the agent.

        For the next second the agent believes that they run, and takes no order to start them:
        what is submitted meanwhile waits until something else is submitted.
        """
        self._processes.kill(lambda command: not CORE(command))
        self._remove_pid_files(self._user_endpoints())

    def restart(self, *, kill: bool = False) -> None:
        """End or kill it, and start it again."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def processes(self) -> dict[int, list[str]]:
        """Tell the arguments of all its processes, by id."""
        return self._processes.found()

    def logs(self) -> list[Path]:
        """Tell the log files of the agent and its user endpoints."""
        places = (self.directory, *self._user_endpoints())
        return [path for place in places for path in sorted(place.rglob("*.log"))]

    def _saved_id(self) -> uuid.UUID | None:
        """The id in the agent's file, which it empties and rewrites at each start."""
        with contextlib.suppress(FileNotFoundError, ValueError):
            text = (self.directory / IDENTITY).read_text(encoding="utf-8")
            return uuid.UUID(json.loads(text)["endpoint_id"])
        return None

    def _known_id(self) -> uuid.UUID | None:
        self._id = self._id or self._saved_id()
        return self._id

    def _mend_identity(self) -> None:
        """Write again what an agent that was killed while writing it has left empty."""
        known = self._known_id()
        if known is not None and self._saved_id() is None:
            text = json.dumps({"endpoint_id": str(known)})
            (self.directory / IDENTITY).write_text(text, encoding="utf-8")

    def _user_endpoints(self) -> list[Path]:
        known = self._known_id()
        return [] if known is None else sorted(self.directory.parent.glob(f"uep.{known}.*"))

    def _known(self) -> dict[str, Any]:
        """What the service knows of it."""
        return self._web.endpoints().get(str(self._known_id()), {})

    @staticmethod
    def _remove_pid_files(places: Iterable[Path]) -> None:
        # With one there, an agent waits to see whether its owner lives; and without, one that
        # lives ends.
        for place in places:
            (place / "daemon.pid").unlink(missing_ok=True)


class LoopbackGlobusCompute(Service):
    """Broker, web service and agents, on this machine and on loopback.

    `start` starts the broker and the web service, `endpoint` an agent.

    Everything lives in one directory. Several may run at once, each in a directory of its own.
    The ids of endpoints and the secrets of clients are those of the first start in a directory.
    What the web service knows (functions, tasks) is forgotten with `stop`.

    Parameters
    ----------
    directory
        Where configuration, state and logs go; made if missing, not removed.
    python
        The interpreter of the environment with SDK and agent; that which runs this by default.
    """

    def __init__(self, directory: Path, *, python: str | Path = sys.executable) -> None:
        super().__init__(directory)
        self.python = Path(python)  # not resolved: that would lead out of a virtual environment
        self.broker = LocalRabbitMQ(self.directory / "broker")
        self.service = WebService(self.directory / "web", self._clients(), str(python))
        self.agents: dict[str, Agent] = {}

    @staticmethod
    def missing(python: str | Path = sys.executable) -> list[str]:
        """Tell what is not installed: the broker, the agent of this environment, or nothing."""
        agent = (Path(python).parent / AGENT).is_file()
        return [
            name
            for name, there in (("RabbitMQ", LocalRabbitMQ.installed()), (AGENT, agent))
            if not there
        ]

    @property
    def endpoint_id(self) -> uuid.UUID:
        """The id of the endpoint that was started first."""
        return next(iter(self.agents.values())).id

    @property
    def env(self) -> dict[str, str]:
        """What a client process needs in its environment. Empty variables replace others."""
        return self.env_of("owner")

    @property
    def stranger_env(self) -> dict[str, str]:
        """The same for a client to whom none of the endpoints belongs."""
        return self.env_of("stranger")

    def env_of(self, role: str, *, secret: str | None = None) -> dict[str, str]:
        """Tell the environment of a client.

        Parameters
        ----------
        role
            owner or stranger. Each other name is somebody whom the service does not know.
        secret
            Another than the right one. Clients keep tokens in GLOBUS_COMPUTE_USER_DIR, so that
            a wrong secret has a directory of its own.

        Returns
        -------
        dict
            The variables.
        """
        known = dict(zip(("owner", "stranger"), self.service.clients.items(), strict=True))
        client, right = known.get(role) or (str(uuid.uuid4()), secrets.token_hex(8))
        home = self.directory / "clients" / (role if secret is None else f"{role}-wrong-secret")
        home.mkdir(parents=True, exist_ok=True)
        return {
            **self._network(),
            "GLOBUS_COMPUTE_CLIENT_ID": client,
            "GLOBUS_COMPUTE_CLIENT_SECRET": right if secret is None else secret,
            "GLOBUS_COMPUTE_USER_DIR": str(home),
        }

    def stop(self) -> None:
        """End it, with what clients in this process have left behind."""
        close_clients()
        super().stop()

    def endpoint(
        self,
        name: str = "endpoint",
        engine_yaml: str | None = None,
        *,
        workers: int = 2,
        environment: Mapping[str, str] | None = None,
        python: str | Path | None = None,
    ) -> Agent:
        """Configure an endpoint, start its agent, and return when it is online.

        One that runs with the same configuration is left alone. Its workers start with the first
        task, because only then its user endpoint does.

        Parameters
        ----------
        name
            Of letters, digits, - and _.
        engine_yaml
            What stands under ``engine:``, as text that is also a template of Jinja; `ENGINE` by
            default.
        workers
            Of the default engine.
        environment
            Variables for the workers, beside PATH, HOME and LANG.
        python
            The interpreter of another environment for the agent and its workers.

        Returns
        -------
        Agent
            The endpoint; also in `agents`.

        Raises
        ------
        ServiceError
            If it does not come up.
        """
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"{name!r} is no name of an endpoint")
        agent = self._agent(name, Path(python) if python else self.python)
        plain = {name: agent._env[name] for name in ("PATH", "HOME", "LANG")}
        plain["GLOBUS_COMPUTE_USER_DIR"] = str(agent.directory.parent)
        engine = engine_yaml or ENGINE.format(workers=workers)
        if agent.configure(engine, {**plain, **(environment or {})}):
            agent.stop()
        agent.start()
        self.agents[name] = agent
        return agent

    def _agent(self, name: str, python: Path) -> Agent:
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        env = {
            **self.env,
            "PATH": f"{python.parent}:{SYSTEM_PATH}",
            "LANG": "C.UTF-8",
            "HOME": str(home),
            "GLOBUS_COMPUTE_USER_DIR": str(self.directory / "agents"),
        }
        return Agent(name, self.directory / "agents" / name, self.service, env, python)

    def _clients(self) -> dict[str, str]:
        path = self.directory / "clients.json"
        with contextlib.suppress(OSError, ValueError):
            return json.loads(path.read_text(encoding="utf-8"))
        clients = {str(uuid.uuid4()): secrets.token_hex(16) for _ in ("owner", "stranger")}
        self.directory.mkdir(parents=True, exist_ok=True)
        write_private(path, json.dumps(clients))
        return clients

    def _network(self) -> dict[str, str]:
        # The SDK's "local" is http://localhost:5000. As a proxy, the service is wherever we like.
        return {
            "GLOBUS_SDK_ENVIRONMENT": "local",
            "GLOBUS_SDK_SERVICE_URL_AUTH": "http://auth.loopback.invalid/",
            "HTTP_PROXY": self.service.url,
            "http_proxy": self.service.url,
            "NO_PROXY": "",
            "no_proxy": "",
        }

    def _check(self) -> None:
        if missing := self.missing(self.python):
            raise ServiceError(
                f"not installed: {', '.join(missing)}. Remedy: python tests/services/rabbitmq.py "
                f"install; {self.python} -m pip install {' '.join(PACKAGES)}"
            )

    def _start(self) -> None:
        self.broker.start()
        # heartbeat=0: see ComputeService. Agents and clients are told the same address.
        self.service.start(self.broker.url(heartbeat=0))

    def _stop(self) -> None:
        # Those of the directory, too: another process may have started them.
        places = [path.parent for path in self.directory.glob("agents/*/config.yaml")]
        # Nothing of them is needed but their processes.
        agents = [Agent(place.name, place, self.service, {}, self.python) for place in places]
        for agent in agents:
            agent.ask_to_end()
        for agent in agents:
            agent.stop()
        self.service.stop()
        self.broker.stop()


def close_clients() -> None:
    """End what Executors of this process leave behind: threads, and a default task group."""
    _end_clients()
    with warnings.catch_warnings():
        # They leave sockets open, which pytest would complain of later.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _end_clients() -> None:
    name = "globus_compute_sdk.sdk.executor"
    if (module := sys.modules.get(name)) is None:
        return
    for executor in list(module._REGISTERED_EXECUTORS.values()):
        executor.shutdown(wait=False, cancel_futures=True)
    # As threads, because the SDK forgets a watcher as soon as that is asked to end.
    watchers = [thread for thread in threading.enumerate() if type(thread).__module__ == name]
    for watcher in watchers:
        watcher.shutdown(wait=False, cancel_futures=True)
    for watcher in watchers:
        watcher.join(30)
    module.Executor._default_task_group_id = None


def main(arguments: list[str] | None = None) -> int:
    """Start or stop a loopback Globus Compute from the command line.

    Parameters
    ----------
    arguments
        Those of the command line by default.

    Returns
    -------
    int
        The exit status: 0 if all went well, 1 if not; for `status`, 3 if it does not run.
    """
    parser = argparse.ArgumentParser(description="A whole Globus Compute on loopback.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_ in [
        ("start", "start it with one endpoint, print what a client needs to use it"),
        ("stop", "end it, and all tasks"),
        ("status", "show its endpoints and counters"),
    ]:
        command = commands.add_parser(name, help=help_)
        command.add_argument("directory", type=Path, metavar="DIR")
        if name == "start":
            command.add_argument("--endpoint", default="endpoint", metavar="NAME")
            command.add_argument("--workers", type=int, default=2, metavar="N")
            command.add_argument("--engine", type=Path, metavar="FILE", help="YAML under `engine:`")
    options = parser.parse_args(arguments)
    try:
        compute = LoopbackGlobusCompute(options.directory)
        if options.command == "start":
            compute.start()
            engine = options.engine.read_text(encoding="utf-8") if options.engine else None
            agent = compute.endpoint(options.endpoint, engine, workers=options.workers)
            for name, value in {**compute.env, "LOOPBACK_ENDPOINT": str(agent.id)}.items():
                print(f"export {name}={shlex.quote(value)}")
        elif options.command == "stop":
            compute.stop()
        elif not compute.service.running():
            print("does not run")
            return 3
        else:
            print(json.dumps(compute.service.endpoints(), indent=2))
            print(json.dumps(compute.service.counters(), indent=2))
    except (ServiceError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
