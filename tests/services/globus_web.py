"""The web and token service of Globus Compute, as far as its SDK and its agent need it.

It speaks HTTP with clients and agents, and AMQP with agents, over a broker of ours: see
`globus_compute.py`, which starts all of it. `ComputeService` and what it is made of run in a
process of their own; `WebService` is what a test holds of it, to inject faults and to read what
was asked for.

What Globus does not publish is chosen here: an endpoint that is offline queues what is submitted;
the codes of errors; the names of exchanges and queues; who is whose child.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
import logging
import re
import secrets
import socket
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.services.processes import (
    MarkedProcesses,
    ServiceError,
    free_ports,
    is_free,
    tails,
    wait_while_alive,
    write_private,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pika.adapters.blocking_connection import BlockingChannel

Json = dict[str, Any]

API_VERSION = "1.40.0"
COMPUTE = "funcx_service"  # what Globus Auth calls the web service
COMPUTE_SCOPE = "facd7ccc-c5f4-42aa-916b-a0e270e2c2a9/all"
TOKEN_LIFETIME = 172_800
PAYLOAD_LIMIT = 10 * 1024 * 1024
FINISHED = {"success", "failed"}

# Missing so many heartbeats, an endpoint counts as offline.
PATIENCE = 2.5

# How long a submit waits for the first heartbeat of the user endpoint that it has started.
CHILD_START = 45.0

# Names, by which tests speak of them; what is in braces is an id.
ROUTES = {
    "token": "POST /v2/oauth2/token",
    "revoke": "POST /v2/oauth2/token/revoke",
    "userinfo": "GET /v2/oauth2/userinfo",
    "version": "GET /v2/version",
    "register_endpoint": "POST /v3/endpoints",
    "update_endpoint": "PUT /v3/endpoints/{}",
    "endpoints": "GET /v2/endpoints",
    "endpoint": "GET /v2/endpoints/{}",
    "endpoint_status": "GET /v2/endpoints/{}/status",
    "delete_endpoint": "DELETE /v2/endpoints/{}",
    "allowed_functions": "GET /v3/endpoints/{}/allowed_functions",
    "register_function": "POST /v3/functions",
    "register_legacy_function": "POST /v2/functions",
    "function": "GET /v2/functions/{}",
    "delete_function": "DELETE /v2/functions/{}",
    "submit": "POST /v3/endpoints/{}/submit",
    "amqp_url": "GET /v2/get_amqp_result_connection_url",
    "task": "GET /v2/tasks/{}",
    "batch_status": "POST /v2/batch_status",
    "task_group": "GET /v2/taskgroup/{}",
}
PATTERNS = {
    name: re.compile(re.escape(route).replace(re.escape("{}"), "([^/]+)"))
    for name, route in ROUTES.items()
}
OPEN_ROUTES = {"token", "revoke", "version"}  # those that need no token

log = logging.getLogger("globus_web")


class ApiError(Exception):
    """An answer with a status other than 200."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"code": code, "message": message}
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass(frozen=True)
class Request:
    """What a route is asked."""

    ids: tuple[str, ...]
    query: Mapping[str, str]
    data: Any
    authorization: str = ""
    caller: str = ""


@dataclass
class Endpoint:
    """An agent, or a user endpoint that one has started: then with its parent's id."""

    id: str
    owner: str
    registration: Json = field(default_factory=dict)
    parent: str = ""
    options: Json = field(default_factory=dict)
    runtime: Json = field(default_factory=dict)
    state: Json = field(default_factory=dict)
    last_heartbeat: float = 0.0
    error: str = ""
    registrations: int = 0
    submits: int = 0  # that wait for it to start

    @property
    def name(self) -> str:
        """As agents know it, and write into their logs."""
        return f"uep.{self.parent}.{self.id}" if self.parent else self.metadata("endpoint_name")

    @property
    def online(self) -> bool:
        """Whether it still gives signs of life."""
        period = self.state.get("heartbeat_period") or 0
        if not period or self.error or not self.state.get("active", True):
            return False
        return time.monotonic() - self.last_heartbeat < PATIENCE * max(period, 1)

    @property
    def starts_children(self) -> bool:
        """Whether it runs no tasks itself, but starts user endpoints from a template."""
        return bool(self.metadata("user_config_template"))

    def metadata(self, name: str, default: Any = "") -> Any:
        """Tell something that the agent has said of itself."""
        metadata = self.registration.get("metadata") or {}
        value = self.registration.get(name, metadata.get(name))
        return default if value is None else value


@dataclass
class Task:
    """One call of one function."""

    id: str
    group: str
    owner: str
    endpoint: str
    queue: str
    created: str
    status: str = "waiting-for-ep"
    result: str | None = None
    exception: str | None = None
    completed: str | None = None
    details: Json = field(default_factory=dict)

    def view(self) -> Json:
        """As clients see it."""
        answer = {
            "task_id": self.id,
            "status": self.status,
            "result": self.result,
            "exception": self.exception,
            "completion_t": self.completed,
            "details": self.details,
        }
        return {name: value for name, value in answer.items() if value is not None}


@dataclass
class Fault:
    """Something that goes wrong with the next requests: so many, or for so long."""

    route: str = "*"
    status: int = 0
    drop: bool = False
    lose: bool = False
    delay: float = 0.0
    retry_after: int | None = None
    count: int | None = None
    seconds: float | None = None
    began: float = field(default_factory=time.monotonic)

    def applies(self, route: str) -> bool:
        """Whether it concerns this request; counts it if so."""
        if self.route not in {"*", route} or self.over:
            return False
        if self.count is not None:
            self.count -= 1
        return True

    def refuse(self) -> None:
        """Raise the error that the client shall get, if any."""
        if self.status:
            after = {} if self.retry_after is None else {"Retry_After": str(self.retry_after)}
            raise ApiError(self.status, "INJECTED", "A fault that a test asked for", **after)

    @property
    def over(self) -> bool:
        """Whether it concerns no further requests."""
        late = self.seconds is not None and time.monotonic() - self.began > self.seconds
        return late or (self.count is not None and self.count <= 0)


class Tokens:
    """Who may have a token, and whose token it is."""

    def __init__(self, clients: Mapping[str, str]) -> None:
        self._clients = dict(clients)
        self._owners: dict[str, str] = {}

    def issue(self, request: Request) -> Json:
        """Answer a client that shows its secret: one token per resource server."""
        client = self._client(request)
        wanted = request.data.get("scope", COMPUTE_SCOPE).split()
        servers: dict[str, list[str]] = {}
        for scope in wanted:
            server = COMPUTE if COMPUTE_SCOPE in scope else "auth.globus.org"
            servers.setdefault(server, []).append(scope)
        answers = [self._token(client, server, scopes) for server, scopes in servers.items()]
        return {**answers[0], "other_tokens": answers[1:]}

    def owner(self, authorization: str) -> str:
        """Tell whose token this is."""
        scheme, _, token = authorization.partition(" ")
        if scheme != "Bearer" or token not in self._owners:
            raise ApiError(401, "USER_UNAUTHENTICATED", "The token is missing, unknown or expired")
        return self._owners[token]

    def expire(self) -> None:
        """Let all tokens become worthless."""
        self._owners.clear()

    def _client(self, request: Request) -> str:
        scheme, _, encoded = request.authorization.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            given = ""
        client, _, secret = given.partition(":")
        expected = self._clients.get(client)
        known = expected is not None and secrets.compare_digest(expected, secret)
        if scheme != "Basic" or not known:
            raise ApiError(401, "invalid_client", "The client id or its secret is wrong")
        if request.data.get("grant_type") != "client_credentials":
            raise ApiError(400, "unsupported_grant_type", "Only client_credentials is known here")
        return client

    def _token(self, client: str, server: str, scopes: list[str]) -> Json:
        token = secrets.token_urlsafe(24)
        self._owners[token] = client
        return {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": TOKEN_LIFETIME,
            "resource_server": server,
            "scope": " ".join(scopes),
        }


class Publisher:
    """A connection to the broker, for one message or declaration after the other."""

    def __init__(self, url: str) -> None:
        import pika

        self._parameters = pika.URLParameters(url)
        self._connection: pika.BlockingConnection | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """A channel on which publishing raises when a message did not arrive."""
        with self._lock:
            channel = self._open()
            try:
                yield channel
            finally:
                if channel.is_open:
                    with contextlib.suppress(Exception):
                        channel.close()

    def send(
        self,
        queue: str,
        body: bytes,
        *,
        headers: Json | None = None,
        exchange: str = "",
        **more: Any,
    ) -> None:
        """Publish one persistent message."""
        with self.channel() as channel:
            publish(channel, queue, body, headers=headers, exchange=exchange, **more)

    def _open(self) -> BlockingChannel:
        import pika
        from pika.exceptions import AMQPError

        # An idle connection notices only when it is used that the broker has left it.
        if self._connection is not None and self._connection.is_open:
            with contextlib.suppress(AMQPError):
                return self._confirming(self._connection)
        self._connection = pika.BlockingConnection(self._parameters)
        return self._confirming(self._connection)

    @staticmethod
    def _confirming(connection: Any) -> BlockingChannel:
        channel = connection.channel()
        channel.confirm_delivery()
        return channel


def publish(
    channel: BlockingChannel,
    queue: str,
    body: bytes,
    *,
    headers: Json | None = None,
    exchange: str = "",
    content_type: str | None = None,
) -> None:
    """Publish one persistent message on a channel that is there already."""
    import pika

    properties = pika.BasicProperties(
        headers=headers, content_type=content_type, delivery_mode=2, timestamp=int(time.time())
    )
    channel.basic_publish(exchange, queue, body, properties=properties, mandatory=True)


class Names:
    """Exchanges and queues of one service: others may use the same broker."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.results = f"{prefix}results"
        self.heartbeats = f"{prefix}heartbeats"

    def tasks(self, endpoint: str) -> str:
        """Where an endpoint finds its tasks."""
        return f"{self.prefix}{endpoint}.tasks"

    def commands(self, endpoint: str) -> str:
        """Where an agent is told what to start."""
        return f"{self.prefix}{endpoint}.commands"

    def groups(self, identity: str) -> str:
        """What the queues of an identity's task groups begin with."""
        return f"{self.prefix}groups.{identity}."


class ComputeService:
    """What the service knows, and what it answers.

    Parameters
    ----------
    url
        Of the broker.
    prefix
        Of all names in the broker.
    clients
        Secrets by client id. A client's id is its identity, too.
    """

    def __init__(self, url: str, prefix: str, clients: Mapping[str, str]) -> None:
        # Without heartbeats: a blocking connection answers them only while it is used.
        self.url = url
        self.names = Names(prefix)
        self.tokens = Tokens(clients)
        self.counts: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.largest_submission = 0
        self._faults: list[Fault] = []
        self._limit: tuple[int, float] | None = None
        self._recent: deque[float] = deque()
        self._functions: dict[str, Json] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._children: dict[tuple[str, str], str] = {}
        self._tasks: dict[str, Task] = {}
        self._groups: dict[str, list[str]] = {}
        self._changed = threading.Condition(threading.RLock())  # guards what is above
        self._publisher = Publisher(url)  # for what requests send
        self._forwarder = Publisher(url)  # for what messages of agents lead to
        self._declare()

    # Faults and limits, of which the HTTP server asks before each request.

    def admit(self, route: str, size: int) -> Fault:
        """Count a request, and tell what shall go wrong with it; a fault of nothing by default."""
        with self._changed:
            self.requests[route] += 1
            if route == "submit":
                self.largest_submission = max(self.largest_submission, size)
            self._faults = [fault for fault in self._faults if not fault.over]
            for fault in self._faults:
                if fault.applies(route):
                    self.counts["faults"] += 1
                    return fault
            if self._limit is not None and route not in OPEN_ROUTES:
                self._check_rate(*self._limit)
        return Fault()

    def _check_rate(self, requests: int, seconds: float) -> None:
        now = time.monotonic()
        while self._recent and now - self._recent[0] > seconds:
            self._recent.popleft()
        if len(self._recent) >= requests:
            self.counts["over_limit"] += 1
            raise ApiError(429, "TOO_MANY_REQUESTS", f"More than {requests} in {seconds:g} s")
        self._recent.append(now)

    # What tests ask of it, with paths that the real service does not have.

    def control(self, action: str, data: Json) -> Json:
        """Do what a test wants."""
        with self._changed:
            if action == "fault":
                self._faults.append(Fault(**data))
            elif action == "clear":
                self._faults.clear()
                self._limit = None
            elif action == "limit":
                self._limit = (data["requests"], data["seconds"])
                self._recent.clear()
            elif action == "expire_tokens":
                self.tokens.expire()
            elif action == "tasks":
                return {task.id: task.view() for task in self._tasks.values()}
            elif action == "endpoints":
                return {
                    endpoint.id: {
                        "parent": endpoint.parent,
                        "registrations": endpoint.registrations,
                        **self._status(endpoint),
                    }
                    for endpoint in self._endpoints.values()
                }
            elif action != "counters":
                raise ApiError(404, "NO_SUCH_ACTION", action)
            return {
                **self.counts,
                "requests": dict(self.requests),
                "largest_submission": self.largest_submission,
            }

    # Routes: one method for each name in ROUTES.

    def token(self, request: Request) -> Json:
        return self.tokens.issue(request)

    def revoke(self, request: Request) -> Json:
        return {"active": False}

    def userinfo(self, request: Request) -> Json:
        identity = identity_of(request.caller)
        return {**identity, "preferred_username": identity["username"], "identity_set": [identity]}

    def version(self, request: Request) -> Json | str:
        if request.query.get("service") != "all":
            return API_VERSION
        return {
            "api": API_VERSION,
            "min_sdk_version": "1.0.0",
            "min_ep_version": "1.0.0",
            "min_endpoint_version": "1.0.0",
            "git_sha": "0" * 40,
        }

    def register_endpoint(self, request: Request) -> Json:
        return self._register(request.data.get("endpoint_uuid") or str(uuid.uuid4()), request)

    def update_endpoint(self, request: Request) -> Json:
        return self._register(request.ids[0], request)

    def endpoints(self, request: Request) -> list[Json]:
        everybody = request.query.get("role") == "any"
        with self._changed:
            return [
                {
                    "uuid": endpoint.id,
                    "name": endpoint.name,
                    "display_name": endpoint.metadata("display_name"),
                    "owner": endpoint.owner,
                }
                for endpoint in self._endpoints.values()
                if not endpoint.parent and (everybody or endpoint.owner == request.caller)
            ]

    def endpoint(self, request: Request) -> Json:
        found = self._permitted(request)
        return {
            "uuid": found.id,
            "name": found.name,
            "display_name": found.metadata("display_name"),
            "multi_user": found.metadata("multi_user", False),
            "public": found.metadata("public", False),
            "endpoint_config": found.metadata("endpoint_config"),
            "user_config_template": found.metadata("user_config_template"),
            "user_config_schema": found.metadata("user_config_schema", {}),
            "description": found.metadata("description"),
            "hostname": found.metadata("hostname"),
            "local_user": found.metadata("local_user"),
            "ip_address": "127.0.0.1",
            "endpoint_version": found.metadata("endpoint_version"),
            "sdk_version": found.metadata("sdk_version"),
            "subscription_uuid": found.metadata("subscription_uuid"),
        }

    def endpoint_status(self, request: Request) -> Json:
        return self._status(self._permitted(request))

    def delete_endpoint(self, request: Request) -> Json:
        with self._changed:
            del self._endpoints[self._permitted(request).id]
        return {"result": 302}

    def allowed_functions(self, request: Request) -> Json:
        allowed = self._permitted(request).metadata("allowed_functions", None)
        return {
            "endpoint_id": request.ids[0],
            "restricted": allowed is not None,
            "functions": allowed or [],
        }

    def register_function(self, request: Request) -> Json:
        code = request.data["function_code"]
        name = request.data.get("function_name", "")
        packed = code
        if request.data.get("serialized") is False:  # the text of a module
            text = f"st\n{name}:{code}"
            packed = f"{len(text)}\n{text}"
        function = {
            "function_uuid": str(uuid.uuid4()),
            "function_name": name,
            "function_code": code,
            "description": request.data.get("description") or "",
            "metadata": request.data.get("meta") or {},
            "packed": packed,
        }
        with self._changed:
            self._functions[function["function_uuid"]] = function
        return {"function_uuid": function["function_uuid"]}

    register_legacy_function = register_function  # of SDKs before 3

    def function(self, request: Request) -> Json:
        function = self._function(request.ids[0])
        return {name: value for name, value in function.items() if name != "packed"}

    def delete_function(self, request: Request) -> Json:
        with self._changed:
            del self._functions[self._function(request.ids[0])["function_uuid"]]
        return {"result": 302}

    def submit(self, request: Request) -> Json:
        endpoint = self._permitted(request)
        allowed = endpoint.metadata("allowed_functions", None)
        functions = {name: self._function(name) for name in request.data["tasks"]}
        for name in functions:
            if allowed is not None and name not in allowed:
                raise ApiError(
                    403,
                    "FUNCTION_NOT_PERMITTED",
                    f"Function {name} not permitted on endpoint {endpoint.id}",
                )
        group = request.data.get("task_group_id") or str(uuid.uuid4())
        if endpoint.starts_children:
            endpoint = self._child(endpoint, request)
        queue = ""
        answer: dict[str, list[str]] = {}
        with self._publisher.channel() as channel:
            if request.data.get("create_queue"):
                queue = self.names.groups(request.caller) + group
                channel.queue_declare(queue, durable=True)
            for name, payloads in request.data["tasks"].items():
                for payload in payloads:
                    task = self._new_task(group, endpoint, queue, request.caller)
                    self._send_task(channel, task, functions[name], payload, request.data)
                    answer.setdefault(name, []).append(task.id)
        return {
            "request_id": str(uuid.uuid4()),
            "task_group_id": group,
            "endpoint_id": endpoint.id,
            "tasks": answer,
        }

    def amqp_url(self, request: Request) -> Json:
        return {"queue_prefix": self.names.groups(request.caller), "connection_url": self.url}

    def task(self, request: Request) -> Json:
        return self._task(request.ids[0], request.caller).view()

    def batch_status(self, request: Request) -> Json:
        answer = {}
        for name in request.data["task_ids"]:
            try:
                answer[name] = self._task(name, request.caller).view()
            except ApiError as error:
                reason = error.body["message"]
                answer[name] = {"task_id": name, "status": "failed", "reason": reason}
        return {"response": "batch", "results": answer}

    def task_group(self, request: Request) -> Json:
        name = request.ids[0]
        with self._changed:
            tasks = [self._task(task, request.caller) for task in self._groups.get(name, ())]
        if not tasks:
            raise ApiError(404, "TASK_GROUP_NOT_FOUND", f"Task group {name} could not be resolved")
        return {
            "taskgroup_id": name,
            "create_websockets_queue": bool(tasks[0].queue),
            "tasks": [{"id": task.id, "created_at": task.created} for task in tasks],
        }

    # What the routes are made of.

    def _endpoint(self, name: str) -> Endpoint:
        with self._changed:
            if name not in self._endpoints:
                raise ApiError(404, "ENDPOINT_NOT_FOUND", f"Endpoint {name} could not be resolved")
            return self._endpoints[name]

    def _permitted(self, request: Request) -> Endpoint:
        endpoint = self._endpoint(request.ids[0])
        if endpoint.owner != request.caller and not endpoint.metadata("public", False):
            raise ApiError(
                403,
                "ENDPOINT_ACCESS_FORBIDDEN",
                f"Unauthorized access to endpoint {endpoint.id}",
            )
        return endpoint

    def _function(self, name: str) -> Json:
        with self._changed:
            if name not in self._functions:
                raise ApiError(404, "FUNCTION_NOT_FOUND", f"Function {name} could not be resolved")
            return self._functions[name]

    def _task(self, name: str, caller: str) -> Task:
        with self._changed:
            task = self._tasks.get(name)
            if task is None or task.owner != caller:
                raise ApiError(404, "TASK_NOT_FOUND", f"Task {name} could not be resolved")
            return task

    @staticmethod
    def _status(endpoint: Endpoint) -> Json:
        return {"status": "online" if endpoint.online else "offline", "details": endpoint.state}

    def _register(self, name: str, request: Request) -> Json:
        with self._changed:
            known = self._endpoints.get(name)
            if known is None:
                known = self._endpoints[name] = Endpoint(name, request.caller)
            elif known.owner != request.caller:
                raise ApiError(
                    403, "ENDPOINT_ACCESS_FORBIDDEN", f"Endpoint {name} is somebody else's"
                )
            known.registration = request.data
            known.registrations += 1
            known.state = {}  # offline until its first heartbeat
            known.error = ""
        with self._publisher.channel() as channel:
            # Old commands: agents refuse them after some minutes, which would fail the tasks that
            # wait. What is still needed is ordered again with that heartbeat.
            channel.queue_declare(self.names.commands(name), durable=True)
            channel.queue_purge(self.names.commands(name))
        return {**self._credentials(name), "warnings": []}

    def _credentials(self, endpoint: str) -> Json:
        """Declare an endpoint's queues, and tell it where they are."""
        with self._publisher.channel() as channel:
            for queue in (self.names.tasks(endpoint), self.names.commands(endpoint)):
                channel.queue_declare(queue, durable=True)

        def outgoing(name: str, kind: str) -> Json:
            publish_kwargs = {
                "exchange": name,
                "routing_key": f"{endpoint}.{kind}",
                "mandatory": True,
                "properties": {"delivery_mode": 2},
            }
            return {
                "connection_url": self.url,
                "exchange": name,
                "queue": name,
                "queue_publish_kwargs": publish_kwargs,
            }

        def incoming(queue: str) -> Json:
            # Bound to no exchange but the nameless one, to which every queue is.
            return {"connection_url": self.url, "exchange": "", "queue": queue}

        return {
            "endpoint_id": endpoint,
            "command_queue_info": incoming(self.names.commands(endpoint)),
            "task_queue_info": incoming(self.names.tasks(endpoint)),
            "result_queue_info": outgoing(self.names.results, "results"),
            "heartbeat_queue_info": outgoing(self.names.heartbeats, "heartbeats"),
        }

    def _child(self, parent: Endpoint, request: Request) -> Endpoint:
        """Let an agent start the user endpoint for these options; wait for its first heartbeat."""
        options = request.data.get("user_endpoint_config") or {}
        text = json.dumps([request.caller, options], sort_keys=True)
        key = (parent.id, hashlib.sha256(text.encode()).hexdigest())
        with self._changed:
            name = self._children.setdefault(key, str(uuid.uuid4()))
            child = self._endpoints.setdefault(name, Endpoint(name, request.caller))
            child.parent, child.options = parent.id, options
            child.runtime = request.data.get("user_runtime") or {}
            child.error = ""
            child.submits += 1
        try:
            # Even if it runs: an agent remembers it, in case the child is about to end.
            self._order_start(child, self._publisher)
            with self._changed:
                self._changed.wait_for(
                    lambda: child.online or child.error or not parent.online, timeout=CHILD_START
                )
        finally:
            with self._changed:
                child.submits -= 1
        with self._changed:
            if child.error:
                raise ApiError(422, "SEMANTICALLY_INVALID", f"Endpoint refuses: {child.error}")
        return child

    def _order_start(self, child: Endpoint, publisher: Publisher) -> None:
        identity = identity_of(child.owner)
        command = {
            "command": "cmd_start_endpoint",
            "args": [],
            "kwargs": {
                "name": child.name,
                "user_opts": child.options,
                "user_runtime": child.runtime,
                "amqp_creds": self._credentials(child.id),
            },
            "globus_effective_identity": identity["sub"],
            "globus_username": identity["username"],
            "globus_identity_set": [identity],
        }
        body = json.dumps(command).encode()
        queue = self.names.commands(child.parent)
        publisher.send(queue, body, content_type="application/json")
        log.info("ordered %s to start %s", child.parent, child.id)

    def _new_task(self, group: str, endpoint: Endpoint, queue: str, owner: str) -> Task:
        created = datetime.now(timezone.utc).replace(tzinfo=None).isoformat()
        task = Task(str(uuid.uuid4()), group, owner, endpoint.id, queue, created)
        with self._changed:
            # Before it is sent, because its result may be here before the next line runs.
            self._tasks[task.id] = task
            self._groups.setdefault(group, []).append(task.id)
            self.counts["tasks"] += 1
        return task

    def _send_task(
        self, channel: BlockingChannel, task: Task, function: Json, payload: str, data: Json
    ) -> None:
        from globus_compute_common import messagepack

        headers = {"function_uuid": function["function_uuid"], "task_uuid": task.id}
        if specification := data.get("resource_specification"):
            headers["resource_specification"] = json.dumps(specification)
        if serializers := data.get("result_serializers"):
            headers["result_serializers"] = serializers
        message = messagepack.message_types.Task(
            task_id=task.id, task_buffer=function["packed"] + payload
        )
        body = messagepack.pack(message)
        publish(channel, self.names.tasks(task.endpoint), body, headers=headers)

    # What agents send.

    def listen(self) -> None:
        """Take what agents send, forever; connect again when the broker was away."""
        import pika

        away = False
        while True:
            try:
                connection = pika.BlockingConnection(pika.URLParameters(self.url))
                channel = connection.channel()
                channel.basic_qos(prefetch_count=50)
                channel.basic_consume(self.names.results, self._on_message)
                channel.basic_consume(self.names.heartbeats, self._on_message)
                log.info("listening to agents")
                away = False
                channel.start_consuming()
            except Exception as error:  # noqa: BLE001 -- pika's, the system's, its bugs
                if not away:
                    log.warning("lost the broker: %r", error)
                away = True
                time.sleep(0.5)

    def _on_message(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        from globus_compute_common import messagepack
        from pika.exceptions import AMQPError

        try:
            message = messagepack.unpack(body)
            if isinstance(message, messagepack.message_types.Result):
                self._on_result(message, body)
            else:
                self._on_heartbeat(message)
        except AMQPError:
            # What it led to could not be sent: let it come again.
            channel.basic_nack(method.delivery_tag, requeue=True)
            raise
        except Exception:
            log.exception("cannot understand %r", body[:200])
        channel.basic_ack(method.delivery_tag)

    def _on_result(self, message: Any, body: bytes) -> None:
        with self._changed:
            task = self._tasks.get(str(message.task_id))
            if task is None or task.status in FINISHED:
                # Of a task that was delivered twice.
                self.counts["results_ignored"] += 1
                return
        # First to the client: if that fails the broker hands the message out again.
        if task.queue:
            self._forwarder.send(task.queue, body)
        transitions = {
            step.state.value: step.timestamp / 1e9 for step in message.task_statuses or ()
        }
        with self._changed:
            self.counts["results"] += 1
            task.status = "failed" if message.is_error else "success"
            task.completed = str(time.time())
            task.details = {**(message.details or {}), "task_transitions": transitions}
            if message.is_error:
                task.exception = message.data
            else:
                task.result = message.data
            self._changed.notify_all()
        log.info("task %s: %s", task.id, task.status)

    def _on_heartbeat(self, message: Any) -> None:
        state = message.global_state
        error = str(state.get("error") or "")
        with self._changed:
            endpoint = self._endpoints.get(str(message.endpoint_id))
            # A child that dies young speaks once more in its parent's name.
            if endpoint is None or (error and endpoint.starts_children):
                return
            returned = not endpoint.online
            endpoint.state, endpoint.error = state, error
            endpoint.last_heartbeat = time.monotonic()
            for name, steps in message.task_statuses.items():
                task = self._tasks.get(name)
                if steps and task is not None and task.status not in FINISHED:
                    task.status = steps[-1].state.value
            waiting = self._waiting_children(endpoint) if returned and endpoint.online else []
            failed = [
                task.id
                for task in self._tasks.values()
                if error and task.endpoint == endpoint.id and task.status not in FINISHED
            ]
            self._changed.notify_all()
        for child in waiting:
            self._order_start(child, self._forwarder)
        for name in failed:
            self._fail(name, error)

    def _waiting_children(self, agent: Endpoint) -> list[Endpoint]:
        """Those of an agent's children that are needed, after it was away."""
        awaited = {task.endpoint for task in self._tasks.values() if task.status not in FINISHED}
        return [
            child
            for child in self._endpoints.values()
            if child.parent == agent.id and (child.submits or child.id in awaited)
        ]

    def _fail(self, task: str, reason: str) -> None:
        from globus_compute_common import messagepack

        details = {"code": "ENDPOINT_FAILURE", "user_message": reason}
        result = messagepack.message_types.Result(
            task_id=task, data=reason, error_details=details, task_statuses=[]
        )
        self._forwarder.send(
            f"{task}.results", messagepack.pack(result), exchange=self.names.results
        )

    def _declare(self) -> None:
        with self._publisher.channel() as channel:
            for name, kind in (
                (self.names.results, "results"),
                (self.names.heartbeats, "heartbeats"),
            ):
                channel.exchange_declare(name, exchange_type="topic", durable=True)
                channel.queue_declare(name, durable=True)
                channel.queue_bind(name, name, routing_key=f"*.{kind}")


def identity_of(client: str) -> Json:
    """Tell who a client is to Globus Auth."""
    username = f"{client}@clients.auth.globus.org"
    return {
        "sub": client,
        "username": username,
        "name": "a client of the loopback service",
        "email": username,
        "identity_provider": client,
        "identity_provider_display_name": "Globus Client",
        "organization": "",
        "status": "used",
    }


class Handler(BaseHTTPRequestHandler):
    """HTTP in front of a `ComputeService`."""

    protocol_version = "HTTP/1.1"
    service: ComputeService

    def handle_any(self) -> None:
        """Answer, or do what a fault wants instead."""
        # Clients send it to a proxy, so that it may be a whole address.
        url = urllib.parse.urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if url.path.startswith("/loopback/"):
            self._answer(200, self.service.control(url.path[10:], json.loads(raw or b"{}")))
            return
        route, ids = route_of(f"{self.command} {url.path}")
        try:
            fault = self.service.admit(route, len(raw))
            time.sleep(fault.delay)
            if fault.drop:
                self._hang_up(route)
                return
            fault.refuse()
            status, body, headers = 200, self._route(route, ids, url, raw), {}
            if fault.lose:
                self._hang_up(route)
                return
        except ApiError as error:
            status, body, headers = error.status, error.body, error.headers
        except Exception as error:  # noqa: BLE001 -- the client must be answered
            status, body, headers = self._unexpected(error)
        log.info("%s %s: %s", route, " ".join(ids), status)
        self._answer(status, body, headers)

    do_GET = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
        """Leave the log to ourselves."""

    def _route(
        self, route: str, ids: tuple[str, ...], url: urllib.parse.SplitResult, raw: bytes
    ) -> Any:
        if route not in ROUTES:
            raise ApiError(404, "ROUTE_NOT_FOUND", f"{route} is not a route of this service")
        authorization = self.headers.get("Authorization") or ""
        caller = "" if route in OPEN_ROUTES else self.service.tokens.owner(authorization)
        if len(raw) > PAYLOAD_LIMIT:
            message = f"{len(raw)} bytes are more than {PAYLOAD_LIMIT}"
            raise ApiError(413, "TASK_PAYLOAD_TOO_LARGE", message)
        try:
            form = "x-www-form-urlencoded" in (self.headers.get("Content-Type") or "")
            data = dict(urllib.parse.parse_qsl(raw.decode())) if form else json.loads(raw or b"{}")
        except ValueError as error:
            raise ApiError(400, "INVALID_JSON", str(error)) from error
        query = dict(urllib.parse.parse_qsl(url.query))
        return getattr(self.service, route)(Request(ids, query, data, authorization, caller))

    def _unexpected(self, error: Exception) -> tuple[int, Json, dict[str, str]]:
        from pika.exceptions import AMQPError

        if isinstance(error, (AMQPError, OSError)):  # the broker is away
            log.warning("no broker: %r", error)
            return 503, {"code": "SERVICE_UNAVAILABLE", "message": repr(error)}, {}
        log.error("unexpected", exc_info=error)
        if isinstance(error, (KeyError, TypeError, AttributeError)):
            return 422, {"code": "SEMANTICALLY_INVALID", "message": repr(error)}, {}
        return 500, {"code": "INTERNAL", "message": repr(error)}, {}

    def _hang_up(self, route: str) -> None:
        log.info("%s: hung up", route)
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        with contextlib.suppress(ConnectionError):  # the client may have lost patience
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """Enough room for many clients that come at once."""

    request_queue_size = 128
    daemon_threads = True


def route_of(key: str) -> tuple[str, tuple[str, ...]]:
    """Tell a route's name and the ids in its path; the key itself if there is no such route."""
    for name, pattern in PATTERNS.items():
        if found := pattern.fullmatch(key):
            return name, found.groups()
    return key, ()


class WebService:
    """The service in a process of its own, and what tests do with it.

    Parameters
    ----------
    directory
        Where configuration and log go; made if missing.
    clients
        Secrets by client id: who is given tokens.
    python
        The interpreter, with globus-compute-sdk.
    """

    def __init__(self, directory: Path, clients: Mapping[str, str], python: str) -> None:
        self.directory = Path(directory).resolve()
        self.clients = dict(clients)
        self.python = python
        self._processes = MarkedProcesses(self.directory)

    @property
    def port(self) -> int:
        """Of 127.0.0.1, on which it listens."""
        return json.loads(self._conf.read_text(encoding="utf-8"))["port"]

    @property
    def url(self) -> str:
        """Of the service, also as a proxy for its clients."""
        return f"http://127.0.0.1:{self.port}"

    def running(self) -> bool:
        """Whether it answers."""
        try:
            self.counters()
        except (OSError, ServiceError):
            return False
        return True

    def start(self, broker_url: str) -> None:
        """Start it unless it runs. It remembers nothing of an earlier run but its port.

        Parameters
        ----------
        broker_url
            Where the broker is.

        Raises
        ------
        ServiceError
            If it does not come up: with the end of its log.
        """
        if self.running():
            return
        self.stop()
        self.directory.mkdir(parents=True, exist_ok=True)
        port = 0
        with contextlib.suppress(OSError):
            port = self.port
        if not port or not is_free(port):
            (port,) = free_ports(1)
        conf = {
            "port": port,
            "broker": broker_url,
            # Queues of an earlier run hold what this one knows nothing of.
            "prefix": f"web-{secrets.token_hex(4)}.",
            "clients": self.clients,
        }
        write_private(self._conf, json.dumps(conf))
        self._processes.launch(
            [self.python, __file__, self._conf],
            env={"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"},
            output=self.log,
            cwd=self.directory,
        )
        problem = wait_while_alive(self.running, self._processes.found, 20)
        if problem:
            self.stop()
            raise ServiceError(
                f"the web service {problem}:\n{tails([self.log])}\nRemedy: see its log above; it "
                f"needs globus-compute-sdk in {self.python}"
            )

    def stop(self) -> None:
        """End it."""
        if self.directory.is_dir():
            self._processes.kill()

    def fault(
        self,
        route: str = "*",
        *,
        status: int = 0,
        drop: bool = False,
        lose: bool = False,
        delay: float = 0.0,
        retry_after: int | None = None,
        count: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Let something go wrong with the next requests.

        Parameters
        ----------
        route
            One of `ROUTES`, such as submit or token; all by default.
        status
            Answer with this HTTP status, such as 503 or 429, and do nothing.
        drop
            Close the connection and do nothing.
        lose
            Do what is asked, such as to accept tasks, then close the connection.
        delay
            Seconds to wait first.
        retry_after
            The answer's Retry-After, in seconds.
        count
            For so many requests; for one by default, if `seconds` is not given.
        seconds
            For so long from now.

        Raises
        ------
        ValueError
            If there is no such route.
        """
        if route not in {"*", *ROUTES}:
            raise ValueError(f"{route} is none of {', '.join(ROUTES)}")
        data = {
            "route": route,
            "status": status,
            "drop": drop,
            "lose": lose,
            "delay": delay,
            "retry_after": retry_after,
            "count": 1 if count is None and seconds is None else count,
            "seconds": seconds,
        }
        self._control("fault", data)

    def limit(self, requests: int = 20, seconds: float = 10) -> None:
        """Answer with 429 above a rate, from now on; by default that of Globus."""
        self._control("limit", {"requests": requests, "seconds": seconds})

    def clear(self) -> None:
        """Let nothing go wrong any more, and lift the limit."""
        self._control("clear")

    def expire_tokens(self) -> None:
        """Refuse all tokens issued so far."""
        self._control("expire_tokens")

    def counters(self) -> Json:
        """Tell what was asked for so far.

        Returns
        -------
        dict
            ``requests`` by route, ``largest_submission`` in bytes, and as far as they occurred:
            ``tasks``, ``results``, ``results_ignored`` (of tasks that had one already),
            ``faults`` (injected) and ``over_limit``.
        """
        return self._control("counters")

    def requests(self, route: str) -> int:
        """Tell how many requests a route got so far, those that a fault hit among them."""
        return self.counters()["requests"].get(route, 0)

    def tasks(self) -> dict[str, Json]:
        """Tell all tasks by id, as clients would be told."""
        return self._control("tasks")

    def endpoints(self) -> dict[str, Json]:
        """Tell status, details, parent and number of registrations of all endpoints by id."""
        return self._control("endpoints")

    @property
    def log(self) -> Path:
        """Of all requests."""
        return self.directory / "web.log"

    @property
    def _conf(self) -> Path:
        return self.directory / "web.json"

    def _control(self, action: str, data: Json | None = None) -> Json:
        url = f"{self.url}/loopback/{action}"
        request = urllib.request.Request(url, json.dumps(data or {}).encode(), method="POST")
        # Whatever proxy the environment names.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=10) as answer:
            return json.load(answer)


def main(arguments: list[str] | None = None) -> int:
    """Serve until killed.

    Parameters
    ----------
    arguments
        The path of a file as `WebService.start` writes it.

    Returns
    -------
    int
        The exit status.
    """
    (path,) = sys.argv[1:] if arguments is None else arguments
    conf = json.loads(Path(path).read_text(encoding="utf-8"))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    service = ComputeService(conf["broker"], conf["prefix"], conf["clients"])
    threading.Thread(target=service.listen, daemon=True).start()
    Handler.service = service
    with Server(("127.0.0.1", conf["port"]), Handler) as server:
        server.serve_forever(poll_interval=5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
