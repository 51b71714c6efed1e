"""The engine of Globus Compute, with a service that does what a test tells it."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections import deque
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.engines.remote import pack_ping
from pytest_pyhf_faas.errors import (
    BlockLostError,
    ConfigurationError,
    EndpointUnusableError,
    EngineError,
    FaasError,
    RemoteCallError,
    TaskTimeoutError,
    WorkerLostError,
)
from tests.helpers import remote_functions
from tests.helpers.scripted_engine import PATIENCE_S, wait_until

globus_sdk = pytest.importorskip("globus_sdk")
requests = pytest.importorskip("requests")
errors = pytest.importorskip("pytest_pyhf_faas.engines.globus_errors")
globus = pytest.importorskip("pytest_pyhf_faas.engines.globus_session")
connections = pytest.importorskip("pytest_pyhf_faas.engines.globus_connection")
outbox = pytest.importorskip("pytest_pyhf_faas.engines.globus_outbox")
engines = pytest.importorskip("pytest_pyhf_faas.engines.globus_compute")
pytestmark = pytest.mark.timeout(300)

UUID = "0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f"
SECRET = "s3cr3t/of+the=client"
LIMIT = 20_000
relaxed = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def api_error(status, message="because", kind=None):
    """What the SDK raises when the service answers so."""
    response = requests.Response()
    response.status_code = status
    response.headers["Content-Type"] = "application/json"
    body = {"status": "Failed", "code": 1, "reason": message, "message": message}
    response._content = json.dumps(body).encode()
    response.request = requests.Request("POST", "https://compute.api.globus.org").prepare()
    return (kind or globus_sdk.GlobusAPIError)(response)


def network_error():
    return globus_sdk.NetworkError("no route to host", OSError("no route to host"))


PASSING = {
    "429": partial(api_error, 429),
    "500": partial(api_error, 500),
    "503": partial(api_error, 503),
    "network": network_error,
    "os": partial(ConnectionResetError, "reset by peer"),
}


class TaskExecutionFailed(Exception):
    """As that of the SDK."""

    def __init__(self, remote_data):
        super().__init__(remote_data)
        self.remote_data = remote_data


class Sent(Future):
    """The SDK's future of a call."""

    def __init__(self, text):
        super().__init__()
        self.text = text
        self.task_id = None

    def answer(self, value=None, worker=("toy", 1)):
        self.set_result(json.dumps({"worker": worker, "value": value}))


KINDS = ("connect", "register", "status", "answers", "describe")


class Service:
    """Stands in for the class `GlobusClient` and for each of its clients.

    Attributes
    ----------
    script
        What becomes of each submission: "take" it, "hold" it without an id, or an exception that
        submitting raises.
    troubles
        Exceptions that the next requests of a kind meet: connect, register, status, answers.
    stored
        Answers by task id.
    """

    task_group_id = "group"

    def __init__(self):
        self.sent = []
        self.sent_at = []
        self.most = []
        self.script = deque()
        self.troubles = {name: deque() for name in KINDS}
        self.state = "online"
        self.stored = {}
        self.asked = []
        self.polls = []
        self.connects = self.closes = 0
        self.on_submit = lambda sent: None

    def __call__(self, endpoint_id, user_endpoint_config, resource_specification):
        self.connects += 1
        self._meet("connect")
        self.asked.append((endpoint_id, user_endpoint_config, resource_specification))
        return self

    def _meet(self, kind):
        if self.troubles[kind]:
            raise self.troubles[kind].popleft()

    def register(self, function):
        self._meet("register")

    def status(self):
        self._meet("status")
        return self.state

    def describe(self):
        self._meet("describe")
        return {"display_name": "toy"}

    def submit(self, text, *, most):
        what = self.script.popleft() if self.script else "take"
        self.sent_at.append(globus.time.monotonic())
        if isinstance(what, Exception):
            raise what
        sent = Sent(text)
        self.sent.append(sent)
        self.most.append(most)
        if what == "take":
            sent.task_id = f"id-{len(self.sent)}"
        self.on_submit(sent)
        return sent

    def answers(self, task_ids):
        self.polls.append(list(task_ids))
        self._meet("answers")
        return {name: self.stored[name] for name in task_ids if name in self.stored}

    def close(self):
        self.closes += 1

    def wait_for(self, count):
        """Wait until so many calls were submitted, and return the last of them."""
        wait_until(lambda: len(self.sent) >= count, f"{count} calls are sent")
        return self.sent[count - 1]


@pytest.fixture
def service(monkeypatch):
    service = Service()
    monkeypatch.setattr(connections, "GlobusClient", service)
    return service


# In the thread of the test, on a clock that the test sets


class Clock:
    """Stands in for the module `time`."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def set_time(patch, clock):
    for module in (globus, connections):
        patch.setattr(module, "time", clock)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    set_time(monkeypatch, clock)
    return clock


class _Paused(BaseException):
    """The session would wait now."""


class _Changed:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def notify_all(self):
        return None

    def wait(self, _timeout_s):
        raise _Paused


class _Closed:
    """Lets time pass until it is over."""

    def __init__(self):
        self.until = 0.0
        self.closed = False

    def is_set(self):
        return self.closed

    def set(self):
        self.closed = True

    def wait(self, seconds):
        if seconds and globus.time.now >= self.until:
            raise _Paused
        globus.time.now += seconds
        return self.closed


class Stepped(globus.GlobusSession):
    """A session that does nothing until it is told to go on."""

    def __init__(self, engine, client, *, proven=False):
        super().__init__(
            engine.spec,
            {},
            None,
            on_worker=engine._hear,
            on_workers_lost=engine._heard.clear,
            on_accepted=engine._accepted,
            proven=proven,
        )
        self._changed, self._closed = _Changed(), _Closed()
        self._connection._client = client
        self._connection.opened.set()
        self._health.connected = True

    def _connect(self):
        return self._connection.client

    def _serve(self):
        """Do nothing in the thread."""

    def _watch(self):
        """Do nothing in the thread."""

    def go_on(self, seconds=0.0):
        """Send what is due after so long."""
        globus.time.now += seconds
        with contextlib.suppress(_Paused):
            super()._serve()

    def connect(self):
        """Connect to the service, but once."""
        self._connection._client = None
        self._connection.opened.clear()
        with contextlib.suppress(_Paused):
            super()._connect()

    def watch(self, seconds):
        """Look after the service for so long."""
        self._closed.until = globus.time.now + seconds
        with contextlib.suppress(_Paused):
            super()._watch()


@pytest.fixture
def engine():
    """An engine that is never started by itself, and what it tells of accepted calls."""
    engine = engines.GlobusComputeEngine(UUID, config={})
    engine.accepted = []
    engine.on_accepted = lambda future, reference: engine.accepted.append((future, reference))
    return engine


@pytest.fixture
def session(engine, service, clock):
    session = engine._session = Stepped(engine, service)
    session.go_on()  # it asks whether there is a worker
    return session


def ready(session, service):
    """Have a worker answer."""
    service.sent[0].answer(value=False)
    assert session.ready_at is not None
    return session


def text_of(number):
    return json.dumps({"number": number})


def ended(future):
    """The kind of a future's end, which must have come."""
    assert future.done()
    return type(future.exception()) if future.exception() else future.result()


texts = st.builds(
    lambda piece, times: json.dumps(piece * times),
    st.text('ab"\\\n\u00e9{', min_size=1, max_size=8),
    st.integers(1, 300),
)


def request_bytes(batch):
    """What a request weighs: each call is text, in the JSON of its arguments, in JSON."""
    return len(json.dumps([json.dumps([text]) for text in batch]))


@relaxed
@given(rounds=st.lists(st.lists(texts, max_size=30), max_size=4))
def test_no_request_is_too_large_or_too_soon_and_nothing_is_lost(rounds):
    clock, service = Clock(), Service()
    with pytest.MonkeyPatch.context() as patch:
        set_time(patch, clock)
        patch.setattr(outbox, "SUBMISSION_BYTES", LIMIT)
        session = Stepped(engines.GlobusComputeEngine(UUID, config={}), service)
        session.go_on()
        wanted = [pack_ping()]
        for texts in rounds:
            for text in texts:
                try:
                    session.submit(text)
                except RemoteCallError:
                    assert request_bytes([text]) > LIMIT / 2
                else:
                    wanted.append(text)
            session.go_on()
    assert [sent.text for sent in service.sent] == wanted
    # As the SDK does: what comes in one go is cut into batches of that size.
    batches = []
    for sent, most, at in zip(service.sent, service.most, service.sent_at, strict=True):
        if not batches or batches[-1][0] != at or len(batches[-1][1]) >= most:
            batches.append((at, []))
        batches[-1][1].append(sent.text)
    assert all(request_bytes(batch) <= LIMIT for _at, batch in batches)
    times = [at for at, _batch in batches]
    assert all(later - earlier > 10.0 for earlier, later in zip(times, times[20:], strict=False))


def test_what_fits_goes_in_one_request(session, service, clock):
    futures = [session.submit(text_of(number)) for number in range(50)]
    at = clock.now
    session.go_on()
    assert len(service.sent) == 1 + len(futures)
    assert set(service.sent_at[1:]) == {at}
    assert min(service.most[1:]) >= 50


def test_a_call_that_no_submission_holds_is_refused_with_a_remedy(engine, session):
    with pytest.raises(RemoteCallError, match=r"9\.\d MB is more than .* parsl:CONFIG\.py"):
        engine.submit(remote_functions.echo, "x" * 9_600_000)
    assert engine.failure is None


@relaxed
@given(takes=st.lists(st.tuples(st.floats(0.0, 3.0), st.booleans()), max_size=80))
def test_no_more_requests_are_let_through_than_the_service_takes(takes):
    """Even where threads wait side by side."""
    now = 1000.0
    released = []
    pace = outbox.Pace(now)
    for pause_s, waits in takes:
        released.append(now + pace.take(now))
        now = (released[-1] if waits else now) + pause_s
    released.sort()
    assert all(later - first > 10.0 for first, later in zip(released, released[20:], strict=False))


def test_the_first_requests_do_not_wait():
    pace = outbox.Pace(1000.0)
    assert [pace.take(1000.0) for _ in range(5)] == [0.0] * 5


# Trouble that passes


@pytest.mark.parametrize("kind", [*PASSING, "cancelled"])
def test_what_the_service_may_yet_take_is_sent_again_after_growing_delays(
    session, service, clock, monkeypatch, kind
):
    monkeypatch.setattr(outbox.random, "uniform", lambda _low, high: high)
    service.script.extend(["hold"] * 8)
    future = session.submit(text_of(1))
    session.go_on()
    delays = []
    for _ in range(8):
        count = len(service.sent)
        if kind == "cancelled":
            service.sent[-1].cancel()
        else:
            service.sent[-1].set_exception(PASSING[kind]())
        began_at = clock.now
        while len(service.sent) == count:
            session.go_on(0.25)
        delays.append(clock.now - began_at)
    assert delays == sorted(delays)
    assert delays[:4] == pytest.approx([1.0, 2.0, 4.0, 8.0], abs=0.3)
    assert delays[-1] == pytest.approx(60.0, abs=0.3)
    service.sent[-1].answer(7)
    assert future.result(0) == 7
    assert [sent.text for sent in service.sent[1:]] == [text_of(1)] * 9


def test_calls_that_failed_together_come_again_apart(session, service):
    futures = [session.submit(text_of(number)) for number in range(30)]
    service.script.extend([api_error(503)] * 30)
    session.go_on()
    dues = {call.not_before for call in session._outbox}
    assert len(dues) == len(futures)


@pytest.mark.parametrize("kind", PASSING)
def test_while_the_service_is_in_trouble_it_is_reported(engine, session, service, clock, kind):
    ready(session, service)
    assert engine.missing_since is engine.waits_for is None
    service.script.append(PASSING[kind]())
    since = clock.now
    session.submit(text_of(1))
    session.go_on()
    assert engine.missing_since == since
    assert engine.missing == "word from the service"
    assert engine.waits_for.count("the service") == 1
    if kind.isdigit():
        assert kind in engine.waits_for
    else:
        assert "HTTPS_PROXY" in engine.waits_for
    service.script.append(PASSING[kind]())
    session.go_on(5.0)
    assert engine.missing_since == since  # of the first of them
    session.go_on(5.0)
    session.go_on()  # it is known to be taken
    assert engine.missing_since is engine.waits_for is None
    assert not engine.broken


@pytest.mark.parametrize("raised", [True, False])
def test_of_a_request_that_is_too_large_each_call_is_sent_again_alone(session, service, raised):
    """Whoever is the largest of them, and where they are of one size."""
    futures = [session.submit(text_of(number)) for number in (1, 2, 3)]
    service.script.extend([api_error(413) if raised else "hold"] * 3)
    session.go_on()
    for sent in service.sent[1:]:
        sent.set_exception(api_error(413))
    count = len(service.sent)
    session.go_on(5.0)
    session.go_on(5.0)
    assert service.most[count:] == [1, 1, 1]
    for sent in service.sent[count:]:
        sent.answer("done")
    assert [ended(future) for future in futures] == ["done"] * 3


def test_a_call_that_is_too_large_alone_ends_with_a_remedy(engine, session, service):
    futures = [session.submit(text_of(number)) for number in (1, 2)]
    service.script.extend([api_error(413)] * 2)
    session.go_on()
    service.script.extend([api_error(413), "take"])
    session.go_on(5.0)
    session.go_on(5.0)
    (refused,) = [future for future in futures if future.done()]
    with pytest.raises(RemoteCallError, match=r"no submission that large.*parsl:CONFIG.*413"):
        refused.result(0)
    assert engine.failure is None
    service.sent[-1].answer("done")
    assert sorted(map(str, map(ended, futures))) == [str(RemoteCallError), "done"]


# Trouble that does not

REFUSALS = {
    401: "log in again",
    403: "ask its owner to add it to the endpoint's policy",
    404: "check the UUID with `globus-compute-endpoint list`",
    422: "worker_init",
}


@pytest.mark.parametrize("status", REFUSALS)
@pytest.mark.parametrize("when", ["submitting", "later", "registering"])
def test_what_a_user_must_put_right_ends_all(engine, service, clock, monkeypatch, status, when):
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", SECRET)
    session = engine._session = Stepped(engine, service)
    error = api_error(status, f"not with {SECRET} at https://me:{SECRET}@proxy")
    futures = [session.submit(text_of(number)) for number in (1, 2)]
    if when == "registering":
        service.troubles["register"].append(error)
        session.connect()
    else:
        service.script.extend(["take", error] if when == "submitting" else ["take", "hold"])
        session.go_on()
        if when == "later":
            service.sent[1].set_exception(error)
    for future in futures:
        with pytest.raises(EndpointUnusableError) as caught:
            future.result(0)
        assert REFUSALS[status] in str(caught.value)
        assert "not with" in str(caught.value)
        assert SECRET not in str(caught.value)
    assert SECRET not in engine.failure
    assert not engine.broken  # for a restart would not help
    with pytest.raises(EndpointUnusableError):
        engine.submit(remote_functions.echo, 1)
    with pytest.raises(EndpointUnusableError):
        engine.ping()
    with pytest.raises(EndpointUnusableError):
        engine.collect("group/id-9")


def test_refused_credentials_are_reported(engine, service, clock, monkeypatch):
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", SECRET)
    session = Stepped(engine, service)
    future = session.submit(text_of(1))
    error = api_error(400, f"invalid_client {SECRET}", globus_sdk.AuthAPIError)
    service.troubles["connect"].append(error)
    session.connect()
    with pytest.raises(EndpointUnusableError, match="GLOBUS_COMPUTE_CLIENT_ID and") as caught:
        future.result(0)
    assert SECRET not in str(caught.value)


def test_what_was_started_before_may_be_started_again(engine, session, service):
    """A 422 after an answer is the end of this life only."""
    ready(session, service)
    future = session.submit(text_of(1))
    service.script.append(api_error(422))
    session.go_on()
    assert ended(future) is EngineError
    assert engine.broken
    assert "worker_init" in engine.failure
    engine.stop()
    again = engine._session = Stepped(engine, service, proven=engine._proven)
    future = again.submit(text_of(2))
    service.script.append(api_error(422))
    again.go_on()
    assert ended(future) is EngineError
    assert engine.broken


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_was_taken_away_later_ends_all(engine, session, service, status):
    ready(session, service)
    future = session.submit(text_of(1))
    service.script.append(api_error(status))
    session.go_on()
    assert ended(future) is EndpointUnusableError
    assert not engine.broken


# Answers


def test_values_come_back(engine, session, service):
    future = engine.submit(remote_functions.echo, {"a": [1]}, timeout_s=3.0)
    session.go_on()
    call = json.loads(service.sent[1].text)
    assert call["function"].endswith(".echo")
    assert call["args"] == [{"a": [1]}]
    assert call["timeout_s"] == 3.0
    assert not future.done()
    service.sent[1].answer({"a": [1]})
    assert future.result(0) == {"a": [1]}


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ({"worker": ["h", 1], "timeout": 3.0}, TaskTimeoutError, "3.0 s"),
        (
            {"worker": ["h", 1], "error": {"type": "ImportError", "message": "no pyhf"}},
            RemoteCallError,
            "ImportError: no pyhf",
        ),
        ({"worker": ["h", 1]}, RemoteCallError, "invalid answer"),
        ([1], RemoteCallError, "invalid answer"),
        ("", RemoteCallError, "invalid answer"),
        (None, RemoteCallError, "invalid answer"),
    ],
)
def test_what_a_worker_says_is_what_a_call_ends_with(session, service, answer, kind, text):
    future = session.submit(text_of(1))
    session.go_on()
    service.sent[1].set_result(json.dumps(answer) if answer else answer)
    with pytest.raises(kind, match=text):
        future.result(0)
    assert session.failure is None


PARSL = "Traceback (most recent call last):\n  File x\nparsl.executors.high_throughput.errors."
VERSIONS = "Manager version info parsl.v=1 does not match interchange version info parsl.v=2"
TOO_MUCH = "globus_compute_sdk.errors.error_types.MaxResultSizeExceeded: Task result of 11000000B"


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        (f"{PARSL}WorkerLost: Task failure due to loss of worker 1", WorkerLostError, "worker"),
        (f"{PARSL}ManagerLost: Task failure due to loss of manager", BlockLostError, "block"),
        ("BrokenProcessPool: A process was terminated", BlockLostError, "all worker processes"),
        (f"{PARSL}VersionMismatch: {VERSIONS}", RemoteCallError, VERSIONS),
        (f"{TOO_MUCH} exceeded current limit", RemoteCallError, "10 MiB"),
        ("RuntimeError: a WorkerLost\nValueError: bad", RemoteCallError, "ValueError: bad"),
        ("", RemoteCallError, "the endpoint failed"),
        (f"no {SECRET} //u:{SECRET}@h", RemoteCallError, "the endpoint failed"),
    ],
)
@pytest.mark.parametrize("polled", [False, True])
def test_how_a_task_failed_is_what_its_call_ends_with(
    session, service, monkeypatch, text, kind, says, polled
):
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", SECRET)
    future = session.submit(text_of(1))
    session.go_on()
    error = TaskExecutionFailed(text)
    if polled:
        service.sent[1].set_exception(ConnectionResetError("lost"))
        service.stored["id-2"] = error
        session.watch(4.0)
    else:
        service.sent[1].set_exception(error)
    with pytest.raises(FaasError, match=says) as caught:
        future.result(0)
    assert type(caught.value) is kind
    assert SECRET not in str(caught.value)
    assert session.failure is None


@pytest.mark.parametrize("error", [ConnectionResetError("lost"), ValueError("unreadable")])
def test_what_the_sdk_lost_after_it_was_taken_is_asked_for(session, service, error):
    future = session.submit(text_of(1))
    session.go_on()
    sent = service.sent[1]
    sent.set_exception(error)
    session.watch(10.0)
    assert not future.done()
    assert len(service.polls) >= 3
    service.stored["id-2"] = json.dumps({"worker": ["toy", 2], "value": 7})
    session.watch(4.0)
    assert future.result(0) == 7
    # Nobody asks for it any more.
    polls = len(service.polls)
    session.watch(10.0)
    assert len(service.polls) == polls
    assert future.result(0) == 7
    assert len(service.sent) == 2  # it was never sent twice


def test_of_a_call_that_was_sent_again_the_first_future_counts_no_more(session, service):
    future = session.submit(text_of(1))
    service.script.extend(["hold", "hold"])
    session.go_on()
    service.sent[1].cancel()
    session.go_on(5.0)
    session._hand_over(future, service.sent[1])
    assert len(session._outbox) == 0
    service.sent[2].answer(7)
    session._hand_over(future, service.sent[2])
    assert future.result(0) == 7


@pytest.mark.parametrize("kind", PASSING)
def test_a_service_that_cannot_be_asked_is_asked_again(engine, session, service, kind):
    ready(session, service)
    future = session.submit(text_of(1))
    session.go_on()
    service.sent[1].set_exception(ConnectionResetError("lost"))
    service.troubles["answers"].append(PASSING[kind]())
    session.watch(4.0)
    assert len(service.polls) == 1
    assert engine.missing_since is not None
    service.stored["id-2"] = json.dumps({"worker": ["toy", 2], "value": 7})
    session.watch(4.0)
    assert future.result(0) == 7
    assert engine.missing_since is None


@pytest.mark.parametrize("kind", PASSING)
def test_trouble_in_asking_for_one_task_is_no_answer_of_it(engine, session, service, kind):
    ready(session, service)
    future = session.submit(text_of(1))
    session.go_on()
    service.sent[1].set_exception(ConnectionResetError("lost"))
    service.stored["id-2"] = PASSING[kind]()
    session.watch(4.0)
    assert not future.done()
    assert engine.missing_since is not None
    service.stored["id-2"] = json.dumps({"worker": ["toy", 2], "value": 7})
    session.watch(4.0)
    assert future.result(0) == 7


def test_a_task_that_the_service_no_longer_knows_is_lost(session, service):
    future = session.collect("forgotten")
    service.stored["forgotten"] = api_error(404, "Task not found")
    session.watch(4.0)
    assert ended(future) is RemoteCallError
    assert session.failure is None


def test_of_many_lost_tasks_all_are_asked_for_in_turns(session, service, monkeypatch):
    monkeypatch.setattr(globus, "_POLLED", 64)
    futures = [session.submit(text_of(number)) for number in range(200)]
    while len(service.sent) < 201:
        session.go_on(1.0)
    for sent in service.sent[1:]:
        sent.set_exception(ConnectionResetError("lost"))
    session.watch(20.0)
    assert {name for poll in service.polls for name in poll} == {f"id-{n}" for n in range(2, 202)}
    assert max(map(len, service.polls)) <= 64
    service.stored = {f"id-{n}": json.dumps({"worker": [], "value": n}) for n in range(2, 202)}
    session.watch(20.0)
    assert sorted(map(ended, futures)) == list(range(2, 202))


# What outlives a session


def test_each_call_is_reported_once_under_what_it_can_be_collected(engine, session, service):
    futures = [session.submit(text_of(number)) for number in range(3)]
    service.script.extend(["take", "hold", "take"])
    session.go_on()
    service.sent[2].task_id = "late"
    for _ in range(3):
        session.go_on(1.0)
    for sent in service.sent[1:]:
        sent.answer()
    wanted = ["group/id-2", "group/late", "group/id-4"]
    told = {id(future): reference for future, reference in engine.accepted}
    assert [told[id(future)] for future in futures] == wanted
    assert len(engine.accepted) == 4  # with that of the first ping


def test_what_ends_at_once_is_told_to_be_accepted_as_well(engine, session, service):
    """It may have ended before anyone looked at its id."""
    future = session.submit(text_of(1))
    service.on_submit = lambda sent: sent.answer(7)
    session.go_on()
    session.go_on(1.0)
    assert [f for f, _reference in engine.accepted].count(future) == 1
    assert future.result(0) == 7


def test_what_an_earlier_session_has_sent_is_collected(engine, session, service):
    done, running, failed = (engine.collect(f"other/{name}") for name in ("d", "r", "f"))
    service.stored["d"] = json.dumps({"worker": ["toy", 1], "value": 7})
    service.stored["f"] = TaskExecutionFailed(f"{PARSL}WorkerLost: of worker 1")
    session.watch(4.0)
    assert done.result(0) == 7
    assert ended(failed) is WorkerLostError
    assert not running.done()
    service.stored["r"] = json.dumps({"worker": ["toy", 1], "value": 8})
    session.watch(4.0)
    assert running.result(0) == 8
    assert len(service.sent) == 1
    assert len(engine.accepted) == 1  # nothing but the ping was accepted by this session


def failed_blocks(name="BadStateException"):
    return TaskExecutionFailed(f"Traceback ...\nparsl.{name}: Executor failed: EXIT CODE: 137\n---")


def test_what_a_failing_block_wrote_comes_first():
    text = (
        "Traceback ...\nparsl.executors.errors.BadStateException: Executor x failed: Error 1:\n"
        "\tEXIT CODE: 1\n\tSTDERR: activating\nbash: line 2: conda: command not found\n\nError 2:\n"
        "\tEXIT CODE: 1\n\tSTDERR: another\n"
    )
    told = errors.blocks_failed(text)
    assert told.startswith(
        "the endpoint's blocks of workers end before they have done anything: "
        "bash: line 2: conda: command not found. Check worker_init"
    )


def test_blocks_that_fail_before_any_worker_was_there_end_it(begin, service):
    engine = begin()
    future = engine.submit(remote_functions.echo, 7)
    service.wait_for(2)
    for number in range(1, 7):
        with contextlib.suppress(AssertionError):
            service.wait_for(number).set_exception(failed_blocks())
        if future.done():
            break
    error = future.exception(PATIENCE_S)
    assert isinstance(error, EndpointUnusableError)
    assert len(service.sent) > 2  # each was sent again at least once
    assert "Check worker_init" in str(error)
    assert str(error).endswith("EXIT CODE: 137")


def test_blocks_that_were_started_for_this_session_and_failed_are_believed_at_once(
    session, service, clock
):
    """Only what is refused at once may be the end of an earlier session's blocks."""
    clock.now += 60.0  # as long as it takes until an endpoint on Slurm looks after its blocks
    service.sent[0].set_exception(failed_blocks())
    assert "end before they have done anything" in session.failure
    assert session.hopeless
    session.go_on()
    assert len(service.sent) == 1


def test_a_resource_specification_that_is_not_taken_ends_it_at_once(begin, service):
    engine = begin()
    future = engine.submit(remote_functions.echo, 7)
    service.wait_for(2)
    said = "Invalid Resource Specification Supplied: {'num_nodes'}. Only priority"
    service.sent[0].set_exception(
        TaskExecutionFailed(f"Traceback ...\nparsl.InvalidResourceSpecification: {said}\n---")
    )
    error = future.exception(PATIENCE_S)
    assert isinstance(error, EndpointUnusableError)
    assert "leave it out of --faas-endpoint-config" in str(error)
    assert str(error).endswith(said)
    assert len(service.sent) == 2


@pytest.mark.parametrize("name", ["BadStateException", "TooManyJobFailuresError"])
def test_an_endpoint_that_starts_again_gets_again_what_it_refuses_meanwhile(begin, service, name):
    engine = begin()
    service.wait_for(1).answer()
    there = engine.submit(remote_functions.echo, 1)
    service.wait_for(2).set_exception(failed_blocks(name))
    assert isinstance(there.exception(PATIENCE_S), BlockLostError)
    later = engine.submit(remote_functions.echo, 2)
    for number in (3, 4):
        service.wait_for(number).set_exception(failed_blocks(name))
    service.wait_for(5).answer(2)
    assert later.result(PATIENCE_S) == 2
    # From then on it is another failure.
    there = engine.submit(remote_functions.echo, 3)
    service.wait_for(6).set_exception(failed_blocks(name))
    assert isinstance(there.exception(PATIENCE_S), BlockLostError)


def test_an_endpoint_that_does_not_come_back_is_reported_in_the_end(begin, service):
    engine = begin()
    service.wait_for(1).answer()
    there = engine.submit(remote_functions.echo, 1)
    service.wait_for(2).set_exception(failed_blocks())
    assert isinstance(there.exception(PATIENCE_S), BlockLostError)
    later = engine.submit(remote_functions.echo, 2)
    for number in range(3, 9):
        service.wait_for(number).set_exception(failed_blocks())
    assert isinstance(later.exception(PATIENCE_S), BlockLostError)
    assert len(service.sent) == 8


def test_what_an_earlier_session_has_sent_shows_nothing_of_today(begin, service):
    service.script.append("hold")  # so that nothing of this session is answered
    engine = begin()
    future = engine.collect("other/d")
    service.stored["d"] = json.dumps({"worker": ["toy", 1], "value": 7})
    assert future.result(PATIENCE_S) == 7
    assert engine.ready_at is None
    assert not engine.workers_known


def test_an_endpoint_whose_metadata_nobody_may_see_is_described_by_its_status(begin, service):
    service.troubles["describe"].append(api_error(403))
    assert begin().describe() == {"endpoint": UUID, "status": "online"}


def test_a_client_that_connects_too_late_is_closed(begin, service):
    connecting, go_on = threading.Event(), threading.Event()

    def register(function):
        connecting.set()
        assert go_on.wait(PATIENCE_S)
        raise network_error()

    service.register = register
    engine = begin()
    engine.start()
    assert connecting.wait(PATIENCE_S)
    engine.stop()
    go_on.set()
    wait_until(lambda: service.closes == 1, "the client is closed")


def test_a_call_that_was_accepted_before_the_sdk_gave_it_up_is_asked_for(begin, service):
    engine = begin()
    future = engine.submit(remote_functions.echo, 7)
    sent = service.wait_for(2)
    service.stored[sent.task_id] = json.dumps({"worker": ["toy", 1], "value": 7})
    sent.cancel()
    sent.set_running_or_notify_cancel()
    assert future.result(PATIENCE_S) == 7
    assert len(service.sent) == 2


def test_settling_waits_until_all_is_accepted_and_not_for_long(engine, session, service, clock):
    began_at = clock.now
    session.settle()
    session._submitted.clear()
    session.submit(text_of(1))
    service.script.append("hold")
    session.go_on()
    began_at = clock.now
    session.settle()
    assert 3.0 <= clock.now - began_at < 3.5
    service.sent[1].task_id = "id"
    session.go_on()
    began_at = clock.now
    engine.settle()
    assert clock.now == began_at


def test_settling_does_not_wait_for_an_engine_that_has_failed(session, service, clock):
    session.submit(text_of(1))
    service.script.append("hold")
    session.go_on()
    session._fail("it broke", hopeless=False)
    began_at = clock.now
    session.settle()
    assert clock.now == began_at


# What is known of the workers


@pytest.mark.parametrize(
    ("config", "options", "workers", "in_flight"),
    [
        ({}, {}, None, 40),
        ({"workers": 8}, {}, 8, 16),
        ({"workers": 8, "max_blocks": 2, "nodes_per_block": 3}, {}, 48, 96),
        ({"workers": 8}, {"workers": 3, "blocks": 2}, 6, 12),
        ({"max_blocks": 2}, {}, None, 40),
        ({"workers": "auto"}, {}, None, 40),
        ({}, {"blocks": 4}, None, 40),
    ],
)
def test_workers_are_those_that_were_asked_for(monkeypatch, config, options, workers, in_flight):
    monkeypatch.setattr(engines, "_IN_FLIGHT", 40)
    engine = engines.GlobusComputeEngine(UUID, config={"user_endpoint_config": config}, **options)
    assert engine.workers_known == (workers is not None)
    assert engine.workers == (workers or 1)
    assert engine.in_flight == in_flight
    assert engine.workers_there == 0


def test_workers_that_nobody_asked_for_are_those_that_answer(engine, monkeypatch):
    monkeypatch.setattr(engines, "_IN_FLIGHT", 40)
    assert not engine.workers_known
    for number in range(40):
        engine._heard.add(f"host:{number % 35}")
    assert engine.workers_known
    assert engine.workers == engine.workers_there == 35
    assert engine.in_flight == 70


def test_as_much_is_on_its_way_as_workers_answer_meanwhile(monkeypatch):
    """Requests are more than a second apart, so that short fits need more of them at once."""
    now = 1000.0
    monkeypatch.setattr(engines.time, "monotonic", lambda: now)
    engine = engines.GlobusComputeEngine(UUID, config={}, workers=8, blocks=1)
    for _ in range(1000):
        now += 0.01
        engine._hear("host:1")
    assert engine.in_flight == pytest.approx(16 + 500, abs=1)
    now += 2.5
    assert engine.in_flight == pytest.approx(16 + 250, abs=1)
    now += 2.6
    assert engine.in_flight == 16


def test_it_is_ready_with_the_first_answer(engine, session, service, clock):
    assert engine.ready_at is None
    assert engine.missing_since == 1000.0
    assert "no worker has answered yet" in engine.waits_for
    assert "check the queue" in engine.remedy
    clock.now += 5.0
    service.sent[0].answer(value=False, worker=["node", 7])
    clock.now += 5.0
    assert engine.ready_at == 1005.0
    assert engine.missing_since is engine.waits_for is engine.remedy is None
    assert engine.workers_there == 1


def test_an_endpoint_that_goes_offline_is_said_to_be(engine, session, service, clock):
    ready(session, service)
    session.submit(text_of(1))
    session.go_on()
    seen_at = clock.now
    service.state = "offline"
    session.watch(10.0)
    assert engine.missing_since is None  # nobody has asked yet
    session.watch(20.0)
    assert engine.missing_since == seen_at  # not when the service was asked
    assert "the endpoint is offline: `globus-compute-endpoint start`" in engine.waits_for
    assert engine.remedy is None  # which that says
    assert engine.workers_there == 0  # others come with its next start
    service.state = "online"
    session.watch(20.0)
    assert engine.missing_since is engine.waits_for is None


def test_an_answer_says_that_the_endpoint_is_back(engine, session, service):
    ready(session, service)
    session.submit(text_of(1))
    session.go_on()
    service.state = "offline"
    session.watch(20.0)
    assert engine.waits_for is not None
    service.sent[1].answer()
    assert engine.missing_since is engine.waits_for is None


def test_it_knows_what_the_service_said_last(engine, session, service):
    assert engine.knows is None
    session.submit(text_of(1))
    session.go_on()
    session.watch(14.0)
    assert engine.knows == "the service said 2 s ago that the endpoint is online"


def test_it_knows_that_the_service_does_not_answer(engine, session, service, clock, monkeypatch):
    """A network that swallows all makes the SDK wait for minutes."""
    session.submit(text_of(1))
    session.go_on()
    heard = []

    def swallowed():
        for _ in range(3):
            clock.now += 4.0
            heard.append(engine.knows)
        return "online"

    monkeypatch.setattr(service, "status", swallowed)
    session.watch(13.0)
    assert heard[0] is None
    assert heard[2].startswith("the service has not answered for 12 s: check the network")
    assert engine.knows == "the service said 0 s ago that the endpoint is online"


def test_a_busy_client_is_no_dead_service(engine, session, service, clock, monkeypatch):
    """What is asked waits for its turn behind many submissions, for longer than the service may."""
    session.submit(text_of(1))
    session.go_on()
    for _ in range(30):
        session._connection._pace.take(clock.now)
    heard, sleep = [], clock.sleep

    def slept(seconds):
        sleep(seconds)
        heard.append(engine.knows)

    monkeypatch.setattr(clock, "sleep", slept)
    session.watch(13.0)
    assert clock.slept[-1] > 15.0
    assert heard[-1] is None  # not that the service does not answer
    assert engine.knows == "the service said 0 s ago that the endpoint is online"


@pytest.mark.parametrize("kind", PASSING)
def test_a_question_that_the_service_refused_once_is_forgotten_with_the_next(
    engine, session, service, kind
):
    ready(session, service)
    session.submit(text_of(1))
    session.go_on()
    service.troubles["status"].append(PASSING[kind]())
    session.watch(13.0)
    assert engine.missing_since is not None
    session.watch(13.0)
    assert engine.missing_since is engine.waits_for is None


@pytest.mark.parametrize(
    ("meets", "proven", "given_up"),
    [
        ([], False, True),  # the SDK does not come back
        ([network_error()], False, True),
        ([api_error(503)], False, False),  # it is there, and may recover
        ([network_error()], True, False),  # it was there
    ],
    ids=["silence", "network", "503", "proven"],
)
def test_who_never_reaches_the_service_is_reported_within_a_minute(
    engine, service, clock, meets, proven, given_up
):
    session = engine._session = Stepped(engine, service, proven=proven)
    session._connection.opened.clear()
    session._health.connected = False
    for error in meets:
        session._met(error)
    session.watch(30.0)
    assert session.failure is None
    session.watch(25.0)
    assert (session.failure is not None) == session.hopeless == given_up
    if given_up:
        assert "HTTPS_PROXY" in session.failure
        with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
            session.describe()


def test_nobody_asks_after_an_endpoint_with_which_nothing_is(session, service):
    ready(session, service)
    service.troubles["status"].append(AssertionError("asked"))
    session.watch(100.0)
    assert session.failure is None


def test_who_may_not_see_whether_an_endpoint_is_online_may_still_use_it(engine, session, service):
    ready(session, service)
    session.submit(text_of(1))
    session.go_on()
    service.troubles["status"].append(api_error(403))
    session.watch(20.0)
    assert not service.troubles["status"]
    assert engine.failure is None
    assert engine.missing_since is None


# In threads of its own


@pytest.fixture
def begin(service, monkeypatch):
    """Make engines whose seconds take a hundredth; whatever they start has to end."""
    before = set(threading.enumerate())
    quick = SimpleNamespace(
        monotonic=lambda: 100 * time.monotonic(), sleep=lambda seconds: time.sleep(seconds / 100)
    )
    set_time(monkeypatch, quick)
    monkeypatch.setattr(globus, "_LOOK_S", 0.002)
    monkeypatch.setattr(
        connections, "_OFFLINE_S", math.inf
    )  # a busy machine must not decide a test
    monkeypatch.setattr(globus, "UNREACHABLE_S", math.inf)
    monkeypatch.setattr(outbox, "BACKOFF_S", 0.01)
    begun = []

    def make(**options):
        engine = engines.GlobusComputeEngine(UUID, **{"config": {}, **options})
        engine.on_accepted = lambda *_: None
        begun.append(engine)
        engine.start()
        return engine

    yield make
    for engine in begun:
        engine.stop()
    wait_until(lambda: not set(threading.enumerate()) - before, "its threads have ended")


def test_it_connects_with_what_was_asked_for(begin, service):
    specification = {"num_nodes": 1}
    config = {"user_endpoint_config": {"a": 1}, "resource_specification": specification}
    engine = begin(config=config, workers=3, blocks=2)
    engine.start()
    assert service.wait_for(1).text == pack_ping()
    asked = {"a": 1, "workers": 3, "max_blocks": 2}
    assert service.asked == [(UUID, asked, specification)]
    assert config["user_endpoint_config"] == {"a": 1}
    assert engine.describe() == {"endpoint": UUID, "display_name": "toy", "status": "online"}


def test_calls_are_sent_and_answered(begin, service):
    engine = begin()
    future = engine.submit(remote_functions.echo, 7)
    service.wait_for(2).answer(7)
    assert future.result(PATIENCE_S) == 7
    ping = engine.ping()
    service.wait_for(3).answer(value=False)
    assert ping.result(PATIENCE_S) is False


@pytest.mark.parametrize("kind", PASSING)
@pytest.mark.parametrize("request_", ["connect", "register", "status"])
def test_a_service_that_does_not_let_it_in_is_asked_again(begin, service, kind, request_):
    service.troubles[request_].extend(PASSING[kind]() for _ in range(3))
    engine = begin()
    future = engine.submit(remote_functions.echo, 7)
    service.wait_for(2).answer(7)
    assert future.result(PATIENCE_S) == 7
    assert engine.missing_since is None


def test_while_the_service_does_not_let_it_in_it_is_reported(begin, service, monkeypatch):
    monkeypatch.setattr(outbox, "BACKOFF_S", 100.0)
    service.troubles["connect"].extend(api_error(503) for _ in range(10))
    engine = begin()
    wait_until(lambda: "503" in (engine.waits_for or ""), "it is told")
    assert engine.missing_since is not None
    engine.stop()  # does not wait for the next try


def test_without_credentials_it_ends_as_the_client_says(begin, service):
    service.troubles["connect"].append(ConfigurationError("log in once"))
    engine = begin()
    wait_until(lambda: engine.failure is not None, "it has failed")
    with pytest.raises(EndpointUnusableError, match="log in once"):
        engine.submit(remote_functions.echo, 7)
    with pytest.raises(ConfigurationError, match="log in once"):
        engine.describe()


def test_an_endpoint_that_is_offline_at_the_start_is_given_up_in_the_end(
    begin, service, monkeypatch
):
    service.state = "offline"
    engine = begin()
    future = engine.submit(remote_functions.echo, 7)
    wait_until(lambda: "offline" in (engine.waits_for or ""), "it is told meanwhile")
    assert not future.done()
    monkeypatch.setattr(connections, "_OFFLINE_S", 0.0)
    told = r"offline.*`globus-compute-endpoint start NAME`"
    with pytest.raises(EndpointUnusableError, match=told):
        future.result(PATIENCE_S)
    assert service.sent == []


def test_an_endpoint_that_comes_online_in_time_is_used(begin, service):
    service.state = "offline"
    engine = begin()
    future = engine.submit(remote_functions.echo, 7)
    wait_until(lambda: "offline" in (engine.waits_for or ""), "it is told meanwhile")
    service.state = "online"
    service.wait_for(2).answer(7)
    assert future.result(PATIENCE_S) == 7


def test_an_endpoint_that_has_answered_once_is_not_given_up_for_being_offline(begin, service):
    engine = begin()
    service.wait_for(1).answer(value=False)
    wait_until(lambda: engine.ready_at is not None, "it is ready")
    service.state = "offline"
    engine.restart()
    future = engine.submit(remote_functions.echo, 7)
    service.wait_for(3).answer(7)
    assert future.result(PATIENCE_S) == 7


def test_a_restart_ends_what_is_in_flight_and_begins_again(begin, service):
    engine = begin()
    future = engine.submit(remote_functions.echo, 7)
    sent = service.wait_for(2)
    engine.restart()
    assert ended(future) is EngineError
    assert engine.ready_at is None
    assert not engine.broken
    again = engine.submit(remote_functions.echo, 8)
    service.wait_for(4).answer(8)
    assert again.result(PATIENCE_S) == 8
    assert (service.connects, service.closes) == (2, 1)
    assert sent.cancelled() or not sent.done()


def begin_calls(engine, service):
    """Have a call in each state in which it can be."""
    calls = {"accepted": engine.submit(remote_functions.echo, 1)}
    service.wait_for(2)
    service.script.append("hold")
    calls["submitted"] = engine.submit(remote_functions.echo, 2)
    service.wait_for(3)
    calls["detached"] = engine.submit(remote_functions.echo, 3)
    service.wait_for(4).set_exception(ConnectionResetError("lost"))
    calls["collected"] = engine.collect("other/id")
    service.script.append(api_error(503))
    calls["delayed"] = engine.submit(remote_functions.echo, 4)
    wait_until(lambda: not service.script, "it was refused")
    return calls


@pytest.mark.parametrize("end", ["stop", "restart", "fail"])
def test_whatever_a_call_waits_for_it_ends_with_the_engine(begin, service, monkeypatch, end):
    engine = begin()
    monkeypatch.setattr(outbox, "BACKOFF_S", 1000.0)
    calls = begin_calls(engine, service)
    assert not any(future.done() for future in calls.values())
    if end == "fail":
        monkeypatch.setattr(outbox, "BACKOFF_S", 0.0)
        service.script.append(api_error(404))
        engine.submit(remote_functions.echo, 5)
        wait_until(lambda: engine.failure is not None, "it has failed")
    else:
        getattr(engine, end)()
    kind = EndpointUnusableError if end == "fail" else EngineError
    assert {name: type(f.exception(PATIENCE_S)) for name, f in calls.items()} == dict.fromkeys(
        calls, kind
    )
    # What comes too late is of no interest, and breaks nothing.
    for sent in service.sent:
        if not sent.done():
            sent.answer(9)
    assert {type(f.exception(0)) for f in calls.values()} == {kind}


def test_a_stop_while_it_connects_ends_all(begin, service, monkeypatch):
    monkeypatch.setattr(outbox, "BACKOFF_S", 100.0)
    service.troubles["connect"].extend(network_error() for _ in range(100))
    engine = begin()
    future = engine.submit(remote_functions.echo, 1)
    wait_until(lambda: service.connects, "it has tried")
    engine.stop()
    assert ended(future) is EngineError


def test_what_is_submitted_after_a_stop_starts_it_again(begin, service):
    engine = begin()
    service.wait_for(1)
    engine.stop()
    engine.stop()
    future = engine.submit(remote_functions.echo, 1)
    service.wait_for(3).answer(1)
    assert future.result(PATIENCE_S) == 1


def test_many_threads_may_submit(begin, service):
    engine = begin()
    service.on_submit = lambda sent: sent.answer(json.loads(sent.text)["args"])
    futures = []

    def submit(number):
        futures.append((number, engine.submit(remote_functions.echo, number)))

    threads = [threading.Thread(target=submit, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(future.result(PATIENCE_S) == [number] for number, future in futures)


def test_what_the_service_refuses_together_ends_without_an_error_in_the_sdk(begin, service):
    """The SDK ends the futures of a request one after the other; ours all end with the first."""
    service.script.extend(["hold"] * 4)
    engine = begin()
    futures = [engine.submit(remote_functions.echo, number) for number in range(3)]
    service.wait_for(4)
    for sent in service.sent:
        sent.set_exception(api_error(422))
    for future in futures:
        with pytest.raises(EndpointUnusableError):
            future.result(PATIENCE_S)


def test_what_comes_after_the_end_is_no_error_in_the_sdk(begin, service):
    engine = begin()
    engine.submit(remote_functions.echo, 7)
    service.wait_for(2)
    engine.stop()
    for sent in service.sent:
        sent.answer(7)
        assert sent.cancelled()
