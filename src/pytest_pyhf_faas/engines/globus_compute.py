"""Workers of a funcX / Globus Compute endpoint, wherever that is."""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import globus_sdk

from pytest_pyhf_faas.engines import remote_worker
from pytest_pyhf_faas.engines.base import Engine
from pytest_pyhf_faas.engines.globus_client import GlobusClient
from pytest_pyhf_faas.engines.globus_errors import (
    CHECK_NETWORK,
    FORBIDDEN,
    REFUSED,
    TOO_LARGE,
    blocks_failed,
    explained,
    of_the_task,
    passes,
    text_of,
)
from pytest_pyhf_faas.engines.remote import pack_call, pack_ping, parse_answer, value_of
from pytest_pyhf_faas.errors import (
    BlockLostError,
    ConfigurationError,
    EndpointUnusableError,
    EngineError,
    FaasError,
    RemoteCallError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: The service takes 10 MB in one submission; some of it is not ours.
_SUBMISSION_BYTES = 9_500_000
#: It takes 20 requests in 10 s; the SDK may split a submission in two.
_REQUESTS_AT_ONCE = 6.0
_REQUESTS_PER_S = 0.8
#: Calls to keep with an endpoint whose number of workers is not known.
_IN_FLIGHT = 256
_LOOK_S = 0.1
_POLL_S = 3.0
_STATUS_S = 15.0
#: How long an endpoint may be offline at the start before it is given up.
_OFFLINE_S = 30.0
_BACKOFF_S = 60.0
#: So often is sent again what comes to an endpoint that starts anew, for its blocks have failed.
_TRIES_WITHOUT_BLOCKS = 5
_TRIES_AT_THE_START = 2
_SETTLE_S = 3.0


class GlobusComputeEngine(Engine):
    """An endpoint of Globus Compute, through its SDK.

    Functions travel as source and values as JSON; nothing that comes back is unpickled. The service
    takes all that is sent; what an endpoint has taken and then lost is never told, so that the
    campaign must notice.

    Parameters
    ----------
    spec : str
        The endpoint's UUID.
    config : mapping
        ``user_endpoint_config`` and ``resource_specification``, for endpoints that take them.
    blocks, workers : int or None
        Blocks at most, and workers for each node, to ask the endpoint for.
    """

    batch_s = 2.0
    watches_workers = False
    loses_tasks = True
    worker_setup = "worker_init of the endpoint (user_config_template.yaml.j2)"

    def __init__(
        self,
        spec: str,
        *,
        config: Mapping[str, Any],
        blocks: int | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        asked = dict(config.get("user_endpoint_config") or {})
        if blocks is not None:
            asked["max_blocks"] = blocks
        if workers is not None:
            asked["workers"] = workers
        self._config = asked, config.get("resource_specification")
        self._known_workers = _product(asked, "max_blocks", "nodes_per_block", "workers")
        self._heard: set[str] = set()
        self._lock = threading.RLock()
        self._session: _Session | None = None
        self._proven = False

    @property
    def workers(self) -> int:  # type: ignore[override]
        """As many as were asked for, or as have answered."""
        return self._known_workers or max(1, len(self._heard))

    @property
    def workers_known(self) -> bool:
        return bool(self._known_workers or self._heard)

    @property
    def in_flight(self) -> int:
        return max(_IN_FLIGHT if self._known_workers is None else 0, super().in_flight)

    def start(self) -> None:
        with self._lock:
            if self._session is None:
                self._session = _Session(self, *self._config, proven=self._proven)

    @property
    def ready_at(self) -> float | None:
        return self._session.ready_at if self._session is not None else None

    @property
    def broken(self) -> bool:
        session = self._session
        return session is not None and session.failure is not None and not session.hopeless

    @property
    def failure(self) -> str | None:
        return self._session.failure if self._session is not None else None

    @property
    def workers_there(self) -> int:
        return len(self._heard)

    @property
    def missing_since(self) -> float | None:
        return self._session.missing_since if self._session is not None else None

    @property
    def waits_for(self) -> str | None:
        return self._session.waits_for if self._session is not None else None

    def describe(self) -> dict[str, str]:
        return {"endpoint": self.spec, **self._started().describe()}

    def restart(self) -> None:
        self.stop()
        self.start()

    def submit(  # type: ignore[override]
        self, function: Callable[..., Any], /, *args: Any, timeout_s: float | None = None
    ) -> Future[Any]:
        return self._started().submit(pack_call(function, args, timeout_s))

    def ping(self) -> Future[Any]:
        return self._started().submit(pack_ping())

    def collect(self, reference: str) -> Future[Any]:
        return self._started().collect(reference.rpartition("/")[2])

    def settle(self) -> None:
        if self._session is not None:
            self._session.settle()

    def stop(self) -> None:
        with self._lock:
            session, self._session = self._session, None
            self._proven = self._proven or (session is not None and session.ready_at is not None)
        if session is not None:
            session.close()

    def heard_of(self, worker: str) -> None:
        """Take note of a worker that has answered."""
        self._heard.add(worker)

    def _started(self) -> _Session:
        with self._lock:
            self.start()
            assert self._session is not None  # it was just started
            return self._session


@dataclass(eq=False)
class _Call:
    """A call on its way; ``inner`` is the SDK's future of it."""

    text: str
    size: int
    outer: Future[Any] = field(default_factory=Future)
    not_before: float = 0.0
    sent_at: float = 0.0
    tries: int = 0
    inner: Future[Any] | None = None
    alone: bool = False  # in its submission
    task_id: str | None = None


class _Session:
    """One life of the engine: a connection to the service, and the calls that it holds.

    A call waits to be sent, then for the service to take it, then for its answer. Answers come
    through the SDK; where that has given up its connection, the service is asked for them.

    Attributes
    ----------
    failure : str or None
        Why nothing will come of it any more.
    hopeless : bool
        Whether the next life would end so, too.
    ready_at, missing_since, waits_for
        See `Engine`.
    """

    def __init__(
        self,
        engine: GlobusComputeEngine,
        user_endpoint_config: Mapping[str, Any],
        resource_specification: Mapping[str, Any] | None,
        *,
        proven: bool,
    ) -> None:
        self.failure: str | None = None
        self.hopeless = False
        self.ready_at: float | None = None
        self._engine = engine
        self._asked = user_endpoint_config, resource_specification
        self._proven = proven
        self._started_at = time.monotonic()
        self._pace = _Pace()
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._waiting: set[_Call] = set()  # all whose answer is awaited
        self._unsent: deque[_Call] = deque()
        self._submitted: set[_Call] = set()  # not yet known to be taken
        self._detached: dict[str, _Call] = {}
        self._largest = 1
        self._client: GlobusClient | None = None
        self._connected = threading.Event()
        self._closed = threading.Event()
        self._answered_at = self._started_at
        self._status = "unknown"
        self._offline_since: float | None = None
        self._without_blocks_since: float | None = None
        self._disturbed_since: float | None = None
        self._disturbance = ""
        self._start_ping()
        for work in (self._serve, self._watch):
            threading.Thread(target=work, daemon=True).start()

    # What the engine asks for

    @property
    def missing_since(self) -> float | None:
        if self.ready_at is None:
            return self._started_at
        return self._disturbed_since or self._offline_since

    @property
    def waits_for(self) -> str | None:
        """Say what is between us and the next answer."""
        if self.missing_since is None:
            return None
        if self._disturbed_since is not None:
            return f"the service cannot be used: {self._disturbance}"
        if not self._connected.is_set() and self._status == "unknown":
            return f"the service of Globus Compute has not answered yet: {CHECK_NETWORK}"
        if self._status not in ("online", "unknown"):
            return (
                f"the endpoint is {self._status}: `globus-compute-endpoint start` on its machine "
                "brings it back"
            )
        if self.ready_at is None:
            return (
                f"the endpoint is {self._status}, and no worker has answered yet: it waits for a "
                "block of its cluster, or its worker_init takes long or fails"
            )
        return None

    def describe(self) -> dict[str, str]:
        """Return what the service knows of the endpoint, when there is a connection."""
        while not self._connected.wait(_LOOK_S):
            if self.failure or self._disturbed_since is not None or self._closed.is_set():
                break
        if self.failure is not None or self._client is None:
            raise ConfigurationError(self.failure or self._disturbance or "the engine was stopped")
        self._pace.take()
        try:
            return {**self._client.describe(), "status": self._status}
        except Exception as error:
            if getattr(error, "http_status", None) == FORBIDDEN:  # it may still take tasks
                return {"status": self._status}
            raise ConfigurationError(explained(error, self._engine.spec)) from error

    def submit(self, text: str) -> Future[Any]:
        """Take a call that is to be sent."""
        # In the request it is text in text in JSON, and what is escaped there grows each time.
        size = len(text) + 4 * (text.count('"') + text.count("\\")) + 1000
        if size > _SUBMISSION_BYTES:
            raise RemoteCallError(
                f"its payload of {size / 1e6:.1f} MB is more than the 10 MB that Globus Compute "
                "takes in one submission: fit this pallet with parsl:CONFIG.py on the cluster "
                "itself, or with local"
            )
        call = _Call(text, size)
        self._begin(call)
        with self._changed:
            self._unsent.append(call)
            self._changed.notify_all()
        return call.outer

    def collect(self, task_id: str) -> Future[Any]:
        """Take over a task that an earlier session has submitted."""
        call = _Call("", 0, task_id=task_id)
        self._begin(call)
        with self._changed:
            self._detached[task_id] = call
        return call.outer

    def settle(self) -> None:
        """Wait shortly until all that was sent is known by its id, so that it can be collected."""
        limit = time.monotonic() + _SETTLE_S
        while self._submitted and not self.failure and time.monotonic() < limit:
            time.sleep(_LOOK_S)

    def close(self) -> None:
        """End it; what is with the endpoint runs on there."""
        with self._changed:
            if self._closed.is_set():
                return
            self._closed.set()
            self._changed.notify_all()
        self._end_waiting("the Globus Compute engine was stopped")
        with self._sending:
            if self._client is not None:
                self._client.close()

    # The life of a call

    def _begin(self, call: _Call) -> None:
        call.outer.set_running_or_notify_cancel()
        with self._changed:
            if self.failure is not None or self._closed.is_set():
                raise self._error(self.failure or "the Globus Compute engine was stopped")
            self._waiting.add(call)

    def _start_ping(self) -> None:
        """Let the endpoint start its workers, and learn when there is one."""
        text = pack_ping()
        call = _Call(text, len(text))
        call.outer.set_running_or_notify_cancel()
        self._waiting.add(call)
        self._unsent.append(call)

    def _end(self, call: _Call, *, value: Any = None, error: BaseException | None = None) -> None:
        with self._changed:
            if call not in self._waiting:
                return
            self._waiting.discard(call)
            self._submitted.discard(call)
            if call.task_id is not None:
                self._detached.pop(call.task_id, None)
        if error is not None:
            call.outer.set_exception(error)
        else:
            call.outer.set_result(value)

    def _end_waiting(self, reason: str) -> None:
        with self._changed:
            waiting = list(self._waiting)
            self._unsent.clear()
        for call in waiting:
            self._end(call, error=self._error(reason))
            if call.inner is not None:
                call.inner.cancel()

    def _error(self, reason: str) -> FaasError:
        return EndpointUnusableError(reason) if self.hopeless else EngineError(reason)

    def _fail(self, reason: str, *, hopeless: bool) -> None:
        with self._changed:
            if self.failure is not None or self._closed.is_set():
                return
            self.failure = reason
            self.hopeless = hopeless
            self._changed.notify_all()
        self._end_waiting(reason)

    def _send_again(self, call: _Call) -> None:
        delay_s = min(2.0**call.tries, _BACKOFF_S) * random.uniform(0.5, 1.0)  # noqa: S311
        with self._changed:
            if call not in self._waiting:
                return
            call.tries += 1
            call.inner = call.task_id = None
            call.not_before = time.monotonic() + delay_s
            self._submitted.discard(call)
            self._unsent.append(call)
            self._changed.notify_all()

    def _answered(self, call: _Call, answer: Any) -> None:
        self._answered_at = time.monotonic()
        self._disturbed_since = self._offline_since = None
        if isinstance(answer, BaseException):
            text = text_of(answer)
            reason = blocks_failed(text)
            if reason is None:
                self._end(call, error=of_the_task(text))
            else:
                self._lost_blocks(call, reason)
            return
        self._without_blocks_since = None
        try:
            data = parse_answer(answer)
            if call.text:  # what an earlier session has sent tells nothing of today
                self._engine.heard_of(":".join(map(str, data.get("worker", ()))))
                self.ready_at = self.ready_at or self._answered_at
            self._end(call, value=value_of(data))
        except FaasError as error:
            self._end(call, error=error)

    def _lost_blocks(self, call: _Call, reason: str) -> None:
        """End a call that was there when the blocks failed; send again what came right after.

        An endpoint whose blocks have failed refuses all tasks until it has started itself anew.
        """
        if self.ready_at is None and not self._proven:
            if call.tries < _TRIES_AT_THE_START:  # an earlier session may have left it like that
                self._send_again(call)
            else:
                self._fail(reason, hopeless=True)  # so it will be with all others
            return
        if self._without_blocks_since is None:
            self._without_blocks_since = time.monotonic()
        if call.sent_at > self._without_blocks_since and call.tries < _TRIES_WITHOUT_BLOCKS:
            self._send_again(call)
        else:
            self._end(call, error=BlockLostError(reason))

    def _hand_over(self, call: _Call, inner: Future[Any]) -> None:
        """Look at how the SDK's future of a call ended."""
        if call not in self._waiting or call.inner is not inner:
            return
        self._note(call, inner)
        error = None if inner.cancelled() else inner.exception()
        if error is None and not inner.cancelled():
            self._answered(call, inner.result())
        elif hasattr(error, "remote_data"):
            self._answered(call, error)
        elif call.task_id is not None:
            # The SDK has lost its connection, or cannot read the result.
            with self._changed:
                self._detached[call.task_id] = call
        elif error is None:  # its submission went down with another one
            self._send_again(call)
        else:
            self._refused(call, error)

    def _refused(self, call: _Call, error: BaseException) -> None:
        """Send again what the service may yet take."""
        if getattr(error, "http_status", None) == TOO_LARGE and not call.alone:
            self._largest = _SUBMISSION_BYTES  # it takes less than that: from now on, each alone
            self._send_again(call)
        elif getattr(error, "http_status", None) == TOO_LARGE:
            self._end(call, error=RemoteCallError(explained(error, self._engine.spec)))
        elif self._met(error):
            self._send_again(call)

    def _met(self, error: BaseException) -> bool:
        """Take note of an error of the service; say whether it may pass."""
        if not passes(error):
            started = self._proven or self.ready_at is not None
            refused_later = getattr(error, "http_status", None) == REFUSED and started
            self._fail(explained(error, self._engine.spec), hopeless=not refused_later)
            return False
        self._disturbance = explained(error, self._engine.spec)
        if self._disturbed_since is None:
            self._disturbed_since = time.monotonic()
        return True

    # The thread that sends

    def _serve(self) -> None:
        client = self._connect()
        while client is not None and not self._closed.is_set() and self.failure is None:
            with self._changed:
                self._note_accepted()
                group = self._next_group()
                if not group:
                    self._changed.wait(_LOOK_S if self._submitted or self._unsent else None)
                    continue
                self._submitted.update(group)
                self._largest = max(self._largest, *(call.size for call in group))
            self._pace.take()
            most = _SUBMISSION_BYTES // self._largest or 1
            with self._sending:
                for call in group:
                    self._hand_in(client, call, most)

    def _hand_in(self, client: GlobusClient, call: _Call, most: int) -> None:
        if self._closed.is_set():
            return
        call.alone = most == 1
        call.sent_at = time.monotonic()
        try:
            inner = client.submit(call.text, most=most)
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises
            self._refused(call, error)
            return
        call.inner = inner
        inner.add_done_callback(partial(self._hand_over, call))

    def _connect(self) -> GlobusClient | None:
        """Connect to the service, as soon as it lets us; hold the endpoint to be online."""
        client = None
        offline_since = None
        tries = 0
        while not self._closed.wait(min(2.0**tries - 1.0, _BACKOFF_S)) and self.failure is None:
            tries += 1
            self._pace.take()
            try:
                if client is None:
                    client = GlobusClient(self._engine.spec, *self._asked)
                if not self._connected.is_set():
                    self._look_at_status(client)
                    if self._status == "offline" and not self._proven:
                        offline_since = offline_since or time.monotonic()
                        if time.monotonic() - offline_since > _OFFLINE_S:
                            self._fail(self._offline(), hopeless=True)
                        tries = min(tries, 2)
                        continue
                self._pace.take()
                client.register(remote_worker.run_call)
            except ConfigurationError as error:
                self._fail(str(error), hopeless=True)
            except Exception as error:  # noqa: BLE001 - whatever the SDK raises
                self._met(error)
            else:
                self._disturbed_since = None
                self._client = client
                self._connected.set()
                return client
        if client is not None:
            client.close()
        return None

    def _next_group(self) -> list[_Call]:
        """Take the calls that are due, up to one submission; the SDK only counts them."""
        now = time.monotonic()
        due = [call for call in self._unsent if call.not_before <= now]
        group: list[_Call] = []
        largest = self._largest
        for call in due:
            largest = max(largest, call.size)
            if group and largest * (len(group) + 1) > _SUBMISSION_BYTES:
                break
            group.append(call)
            self._unsent.remove(call)
        return group

    def _note_accepted(self) -> None:
        for call in list(self._submitted):
            if call.inner is not None:
                self._note(call, call.inner)

    def _note(self, call: _Call, inner: Future[Any]) -> None:
        """Tell under which name the service has taken a call."""
        task_id = getattr(inner, "task_id", None)
        if task_id is None or call.task_id == task_id:
            return
        call.task_id = str(task_id)
        self._submitted.discard(call)
        self._disturbed_since = None
        group = self._client.task_group_id if self._client is not None else None
        self._engine.on_accepted(call.outer, f"{group}/{task_id}")

    # The thread that watches

    def _watch(self) -> None:
        """Ask the service for what the SDK does not tell: detached tasks, an offline endpoint."""
        polled_at = asked_at = time.monotonic()
        while not self._closed.wait(_LOOK_S) and self.failure is None:
            client = self._client
            if client is None:
                continue
            now = time.monotonic()
            if self._detached and now - polled_at > _POLL_S:
                self._safely(partial(self._poll, client))
                polled_at = time.monotonic()
            silent_s = now - max(self._answered_at, asked_at)
            if self._waiting and silent_s > _STATUS_S:
                self._safely(partial(self._look_at_status, client))
                asked_at = time.monotonic()

    def _safely(self, ask: Callable[[], None]) -> None:
        self._pace.take()
        try:
            ask()
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises
            if not self._closed.is_set():
                self._met(error)

    def _poll(self, client: GlobusClient) -> None:
        task_ids = list(self._detached)[:_IN_FLIGHT]
        for task_id, answer in client.answers(task_ids).items():
            call = self._detached.get(task_id)
            if call is None:
                continue
            if isinstance(answer, BaseException) and passes(answer):
                self._met(answer)  # it is not about the task
                continue
            with self._changed:
                # In turns, so that those that run long do not keep others from being asked for.
                self._detached.pop(task_id)
            self._answered(call, answer)
        with self._changed:
            for task_id in task_ids:
                if task_id in self._detached:
                    self._detached[task_id] = self._detached.pop(task_id)

    def _look_at_status(self, client: GlobusClient) -> None:
        try:
            self._status = client.status()
        except globus_sdk.GlobusAPIError as error:
            if error.http_status != FORBIDDEN:
                raise
            # Who may not see it may still be allowed to submit.
            self._status = "unknown"
        if self._status == "offline":
            self._offline_since = self._offline_since or time.monotonic()
        else:
            self._offline_since = None

    def _offline(self) -> str:
        return (
            f"the endpoint {self._engine.spec} is offline: start it on its machine with "
            "`globus-compute-endpoint start NAME`, and look at `globus-compute-endpoint list` there"
        )


class _Pace:
    """Keeps requests within what the service takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens = _REQUESTS_AT_ONCE
        self._at = time.monotonic()

    def take(self, requests: float = 1) -> None:
        """Wait until so many requests may be sent."""
        with self._lock:
            now = time.monotonic()
            earned = (now - self._at) * _REQUESTS_PER_S
            self._tokens = min(_REQUESTS_AT_ONCE, self._tokens + earned) - requests
            self._at = now
            wait_s = -self._tokens / _REQUESTS_PER_S
        if wait_s > 0:
            time.sleep(wait_s)


def _product(config: Mapping[str, Any], *names: str) -> int | None:
    """Return the number of workers that was asked for, where that is known."""
    counts: Iterable[Any] = [config.get(name, 1) for name in names]
    if "workers" not in config or not all(isinstance(count, int) for count in counts):
        return None
    product = 1
    for count in counts:
        product *= count
    return max(1, product)
