"""One life of an engine of Globus Compute: a connection to the service, and calls on their way."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.engines import globus_outbox
from pytest_pyhf_faas.engines.globus_connection import Connection
from pytest_pyhf_faas.engines.globus_errors import (
    REFUSED,
    TOO_LARGE,
    blocks_failed,
    explained,
    not_taken,
    of_the_task,
    passes,
    text_of,
)
from pytest_pyhf_faas.engines.globus_health import Health
from pytest_pyhf_faas.engines.globus_outbox import Call, Outbox, call_of
from pytest_pyhf_faas.engines.remote import pack_ping, parse_answer, value_of
from pytest_pyhf_faas.engines.session import Session
from pytest_pyhf_faas.errors import (
    BlockLostError,
    ConfigurationError,
    FaasError,
    RemoteCallError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Future

    from pytest_pyhf_faas.engines.globus_client import GlobusClient

_LOOK_S = 0.1
_POLL_S = 3.0
_STATUS_S = 12.0
#: If the service was not reached for this long since the start, there is no network.
UNREACHABLE_S = 40.0
#: How many tasks one request asks for.
_POLLED = 256
#: How often a call is resent that comes to an endpoint while it restarts after its blocks failed.
_TRIES_WITHOUT_BLOCKS = 5
#: An endpoint that an earlier session left without blocks refuses within this many seconds.
_TRIES_AT_THE_START, _LEFT_SO_S = 2, 10.0
_SETTLE_S = 3.0


class GlobusSession(Session):
    """One life of the engine.

    A call waits to be sent, then for the service to take it, then for its answer. Answers come
    through the SDK; where that has given up its connection, the service is asked for them.

    Parameters
    ----------
    endpoint_id : str
        The endpoint.
    user_endpoint_config, resource_specification : mapping or None
        The request to it.
    on_worker : callable
        Called with the name of a worker that has answered.
    on_workers_lost : callable
        Called when some of those that answered are lost; it is unknown which.
    on_accepted : callable
        See `Engine`.
    proven : bool
        Whether a worker has answered in an earlier life.
    """

    kind = "the Globus Compute engine"

    def __init__(
        self,
        endpoint_id: str,
        user_endpoint_config: Mapping[str, Any],
        resource_specification: Mapping[str, Any] | None,
        *,
        on_worker: Callable[[str], None],
        on_workers_lost: Callable[[], None],
        on_accepted: Callable[[Future[Any], str], None],
        proven: bool,
    ) -> None:
        super().__init__(proven=proven)
        self._endpoint_id = endpoint_id
        self._on_worker = on_worker
        self._on_workers_lost = on_workers_lost
        self._on_accepted = on_accepted
        self._health = Health(time.monotonic())
        self._connection = Connection(
            endpoint_id, user_endpoint_config, resource_specification, self._health
        )
        self._sending = threading.Lock()
        self._outbox = Outbox()
        self._submitted: set[Call] = set()  # not yet known to be taken
        self._detached: dict[str, Call] = {}  # the SDK will not report these
        self._without_blocks_since: float | None = None
        # So that the endpoint starts its workers, and we learn when there is one.
        self._take(call_of(pack_ping()))
        self._in_thread(self._serve)
        self._in_thread(self._watch)

    # Requests of the engine

    @property
    def ready_at(self) -> float | None:
        return self._health.ready_at

    @property
    def missing_since(self) -> float | None:
        return self._health.missing_since

    @property
    def waits_for(self) -> str | None:
        return self._health.waits_for

    @property
    def missing(self) -> str:
        return self._health.missing

    @property
    def remedy(self) -> str | None:
        return self._health.remedy

    @property
    def knows(self) -> str | None:
        return self._health.knows(time.monotonic())

    def describe(self) -> dict[str, str]:
        """Return what the service knows about the endpoint, once there is a connection."""
        while not self._connection.opened.wait(_LOOK_S):
            unusable_s = self._health.unusable_s(time.monotonic())
            if self.failure or self._closed.is_set() or unusable_s > UNREACHABLE_S:
                break
        if self.failure is not None:
            raise ConfigurationError(self.failure)
        return self._connection.describe()

    def submit(self, text: str) -> Future[Any]:
        """Take a call that is to be sent."""
        return self._take(call_of(text))

    def _take(self, call: Call) -> Call:
        self._begin(call)
        with self._changed:
            self._outbox.add(call)
            self._changed.notify_all()
        return call

    def collect(self, task_id: str) -> Future[Any]:
        """Take over a task that an earlier session has submitted."""
        call = Call("", task_id=task_id)
        self._begin(call)
        with self._changed:
            self._detached[task_id] = call
        return call

    def settle(self) -> None:
        """Wait briefly until all that was sent has an id, so that it can be collected."""
        limit = time.monotonic() + _SETTLE_S
        while self._submitted and not self.failure and time.monotonic() < limit:
            time.sleep(_LOOK_S)

    def _release(self) -> None:
        """Close the connection; what is with the endpoint runs on there."""
        with self._sending:
            if self._connection.opened.is_set():  # or else who connects closes it
                self._connection.close()

    # The life of a call

    def _finish(
        self, future: Future[Any], *, value: Any = None, error: BaseException | None = None
    ) -> None:
        assert isinstance(future, Call)  # there are no others here
        with self._changed:
            if future not in self._waiting:
                return
            self._submitted.discard(future)
            if future.task_id is not None:
                self._detached.pop(future.task_id, None)
        super()._finish(future, value=value, error=error)
        if future.inner is not None:
            _abandon(future.inner)

    def _send_again(self, call: Call) -> None:
        with self._changed:
            if call not in self._waiting:
                return
            self._submitted.discard(call)
            self._outbox.add_again(call, time.monotonic())
            self._changed.notify_all()

    def _answered(self, call: Call, answer: Any) -> None:
        self._health.answered(time.monotonic())
        if isinstance(answer, BaseException):
            text = text_of(answer)
            refusal = not_taken(text)
            if refusal is not None and call.text:  # not from an earlier session
                self._fail(refusal, hopeless=True)  # so it will be with all others
                return
            reason = blocks_failed(text)
            if reason is None:
                error = of_the_task(text)
                if isinstance(error, BlockLostError):
                    self._on_workers_lost()
                self._finish(call, error=error)
            else:
                self._on_workers_lost()
                self._lost_blocks(call, reason)
            return
        self._without_blocks_since = None
        try:
            data = parse_answer(answer)
            if call.text:  # calls of an earlier session show nothing about this one
                self._on_worker(":".join(map(str, data.get("worker", ()))))
                self._health.worker_answered()
            self._finish(call, value=value_of(data))
        except FaasError as failure:
            self._finish(call, error=failure)

    def _lost_blocks(self, call: Call, reason: str) -> None:
        """End a call that was there when the blocks failed; send again what came right after.

        An endpoint whose blocks have failed refuses all tasks until it has restarted itself.
        """
        if self.ready_at is None and not self._proven:
            at_once = time.monotonic() - call.sent_at < _LEFT_SO_S
            if at_once and call.tries < _TRIES_AT_THE_START:
                self._send_again(call)
            else:
                self._fail(reason, hopeless=True)  # so it will be with all others
            return
        if self._without_blocks_since is None:
            self._without_blocks_since = time.monotonic()
        if call.sent_at > self._without_blocks_since and call.tries < _TRIES_WITHOUT_BLOCKS:
            self._send_again(call)
        else:
            self._finish(call, error=BlockLostError(reason))

    def _hand_over(self, call: Call, inner: Future[Any]) -> None:
        """Handle the end of the SDK's future of a call."""
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

    def _refused(self, call: Call, error: BaseException) -> None:
        """Send again what the service may still accept."""
        too_large = getattr(error, "http_status", None) == TOO_LARGE
        if too_large and not call.alone:
            self._outbox.each_alone()
            self._send_again(call)
        elif too_large:
            self._finish(call, error=RemoteCallError(explained(error, self._endpoint_id)))
        elif self._met(error):
            self._send_again(call)

    def _met(self, error: BaseException, *, asked: bool = False) -> bool:
        """Record an error of the service; return whether it may pass."""
        explanation = explained(error, self._endpoint_id)
        if getattr(error, "http_status", None) is not None:
            self._health.reached = True
        if passes(error):
            self._health.disturbed(explanation, time.monotonic(), asked=asked)
            return True
        started = self._proven or self.ready_at is not None
        refused_later = getattr(error, "http_status", None) == REFUSED and started
        self._fail(explanation, hopeless=not refused_later)
        return False

    # The thread that sends

    def _serve(self) -> None:
        client = self._connect()
        while client is not None and not self._closed.is_set() and self.failure is None:
            with self._changed:
                self._note_accepted()
                group = self._outbox.take(time.monotonic())
                if not group:
                    self._changed.wait(_LOOK_S if self._submitted or self._outbox else None)
                    continue
                self._submitted.update(group)
            self._connection.wait_for_turn()
            most = self._outbox.most
            with self._sending:
                for call in group:
                    self._hand_in(client, call, most)
        with self._sending:
            if self._closed.is_set():  # perhaps just when it was opened
                self._connection.close()

    def _connect(self) -> GlobusClient | None:
        """Connect to the service, as soon as it accepts us and the endpoint is online."""
        tries = 0
        while self.failure is None:
            if self._closed.wait(min(2.0**tries - 1.0, globus_outbox.BACKOFF_S)):
                break
            tries += 1
            try:
                if self._connection.try_to_open(patient=self._proven):
                    return self._connection.client
                tries = min(tries, 2)
            except ConfigurationError as error:
                self._fail(str(error), hopeless=True)
            except Exception as error:  # noqa: BLE001 - whatever the SDK raises
                self._met(error)
        self._connection.close()
        return None

    def _hand_in(self, client: GlobusClient, call: Call, most: int) -> None:
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

    def _note_accepted(self) -> None:
        for call in list(self._submitted):
            if call.inner is not None:
                self._note(call, call.inner)

    def _note(self, call: Call, inner: Future[Any]) -> None:
        """Report the name under which the service accepted a call."""
        task_id = getattr(inner, "task_id", None)
        if task_id is None or call.task_id == task_id:
            return
        call.task_id = str(task_id)
        self._submitted.discard(call)
        self._health.undisturbed()
        client = self._connection.client
        group = client.task_group_id if client is not None else None
        self._on_accepted(call, f"{group}/{task_id}")

    # The thread that watches

    def _watch(self) -> None:
        """Ask the service for what the SDK does not report: detached tasks, an offline endpoint."""
        polled_at = asked_at = time.monotonic()
        while not self._closed.wait(_LOOK_S) and self.failure is None:
            client = self._connection.client
            now = time.monotonic()
            if client is None:
                self._give_up_without_network(now)
                continue
            if self._detached and now - polled_at > _POLL_S:
                self._safely(partial(self._poll, client))
                polled_at = time.monotonic()
            silent_s = now - max(self._health.answered_at, asked_at)
            if self._waiting and silent_s > _STATUS_S:
                self._safely(partial(self._look_at_status, client))
                asked_at = time.monotonic()

    def _give_up_without_network(self, now: float) -> None:
        """Fail soon if the service was never reached; a later loss may be temporary."""
        never_reached = not (self._health.reached or self._proven)
        if never_reached and self._health.unusable_s(now) > UNREACHABLE_S:
            self._fail(self._health.unreachable_text(), hopeless=True)

    def _safely(self, ask: Callable[[], None]) -> None:
        self._connection.wait_for_turn()
        try:
            ask()
        except Exception as error:  # noqa: BLE001 - whatever the SDK raises
            if not self._closed.is_set():
                self._met(error, asked=True)

    def _look_at_status(self, client: GlobusClient) -> None:
        self._health.asks(time.monotonic())  # not before its turn: a busy client is no dead service
        self._connection.look_at_status(client)
        if self._health.status == "offline":
            self._on_workers_lost()

    def _poll(self, client: GlobusClient) -> None:
        task_ids = list(self._detached)[:_POLLED]
        for task_id, answer in client.answers(task_ids).items():
            call = self._detached.get(task_id)
            if call is None:
                continue
            if isinstance(answer, BaseException) and passes(answer):
                self._met(answer, asked=True)  # it is not about the task
                continue
            with self._changed:
                self._detached.pop(task_id)
            self._answered(call, answer)
        with self._changed:
            # In turns, so that long tasks do not keep others from being asked for.
            for task_id in task_ids:
                if task_id in self._detached:
                    self._detached[task_id] = self._detached.pop(task_id)


def _abandon(inner: Future[Any]) -> None:
    """Release a future of the SDK, so that it no longer waits for it.

    Its threads may be about to end it, which a cancelled future takes for an error: those of a
    request that the service refuses are ended one after the other, and ours end with the first.
    """
    for name in ("set_result", "set_exception"):
        setattr(inner, name, lambda _: None)
    inner.cancel()  # unless it has ended
