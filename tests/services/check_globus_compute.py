"""Whether the loopback Globus Compute does what the real one does, as far as is known.

Not collected by default, because it takes minutes, and needs RabbitMQ and an environment with
globus-compute-sdk, globus-compute-endpoint and pytest-timeout::

    pytest --noconftest tests/services/check_globus_compute.py

What is quick is in ``tests/test_loopback_service.py``.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import uuid
from concurrent.futures import wait
from pathlib import Path

import pytest

from tests.services.clients import make_executor, note_and_wait, since, square
from tests.services.globus_compute import LoopbackGlobusCompute, close_clients
from tests.services.processes import MarkedProcesses, connects, wait_for

pytestmark = [
    pytest.mark.timeout(240),
    # Of the SDK, each time that it connects to the broker again.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.skipif(bool(LoopbackGlobusCompute.missing()), reason="see the first lines"),
]

SERVICE = Path(__file__).with_name("globus_compute.py")

# User endpoints acknowledge tasks twice in a second; the broker keeps the others for them.
UNTIL_ACKNOWLEDGED = 2


@pytest.fixture(scope="module")
def compute(tmp_path_factory):
    directory = tmp_path_factory.mktemp("globus")
    with pytest.MonkeyPatch.context() as patch, LoopbackGlobusCompute(directory) as service:
        for name, value in service.env.items():
            patch.setenv(name, value)
        service.endpoint("first")
        yield service
        service.stop()
        left = [service.broker._processes, service.service._processes]
        left += [agent._processes for agent in service.agents.values()]
        assert [processes.found() for processes in left] == [{}, {}, {}]


@pytest.fixture
def agent(compute):
    """An endpoint that is online, whatever the last test has done to it."""
    compute.service.clear()
    compute.agents["first"].start()
    return compute.agents["first"]


@pytest.fixture
def client(compute, agent):
    from globus_compute_sdk import Client

    return Client()


@pytest.fixture
def new_executor():
    """Makes executors, and ends them without waiting for tasks that never end."""
    made = []

    def make(endpoint, client, **options):
        made.append(make_executor(endpoint, client, **options))
        return made[-1]

    yield make
    for executor in made:
        executor.shutdown(wait=False, cancel_futures=True)
    close_clients()


@pytest.fixture
def executor(new_executor, agent, client):
    return new_executor(agent.id, client)


@pytest.fixture
def warm(executor):
    """Workers run already."""
    assert executor.submit(square, 3).result(90) == [9]
    return executor


def test_twenty_tasks_come_back(warm, compute):
    before = compute.service.counters()
    futures = [warm.submit(square, value) for value in range(20)]
    assert [future.result(60) for future in futures] == [[value * value] for value in range(20)]
    after = compute.service.counters()
    assert since(after, before, "tasks") == since(after, before, "results") == 20
    assert since(after["requests"], before["requests"], "submit") < 20
    assert after["largest_submission"] > 20 * len("square")


def test_a_wrong_secret_is_refused(compute, agent, monkeypatch):
    import globus_sdk
    from globus_compute_sdk import Client

    for name, value in compute.env_of("owner", secret="wrong").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(globus_sdk.AuthAPIError) as caught:
        Client().get_endpoint_status(agent.id)
    assert caught.value.http_status == 401
    assert caught.value.code == "invalid_client"


def test_an_unknown_endpoint_is_not_found(new_executor, client):
    unknown = uuid.uuid4()
    with pytest.raises(Exception, match="ENDPOINT_NOT_FOUND") as caught:
        client.get_endpoint_status(unknown)
    assert caught.value.http_status == 404
    error = new_executor(unknown, client).submit(square, 3).exception(30)
    assert (error.http_status, error.code) == (404, "ENDPOINT_NOT_FOUND")
    assert str(unknown) in error.message


def test_an_endpoint_of_somebody_else_is_forbidden(compute, agent, new_executor, monkeypatch):
    from globus_compute_sdk import Client

    for name, value in compute.stranger_env.items():
        monkeypatch.setenv(name, value)
    stranger = Client()
    assert stranger.get_endpoints() == []
    error = new_executor(agent.id, stranger).submit(square, 3).exception(30)
    assert (error.http_status, error.code) == (403, "ENDPOINT_ACCESS_FORBIDDEN")


@pytest.mark.parametrize("status", [503, 429])
def test_two_bad_seconds_are_retried(warm, compute, status):
    before = compute.service.counters()
    compute.service.fault("submit", status=status, seconds=2)
    start = time.monotonic()
    assert warm.submit(square, 3).result(60) == [9]
    assert time.monotonic() - start > 1.5
    after = compute.service.counters()
    assert since(after["requests"], before["requests"], "submit") > 1
    assert since(after, before, "tasks") == 1


def test_an_outage_that_lasts_ends_in_an_error(warm, compute):
    compute.service.fault("submit", status=503, retry_after=1, count=20)
    error = warm.submit(square, 3).exception(60)
    assert error.http_status == 503
    assert compute.service.counters()["faults"] >= 6


@pytest.mark.parametrize("fault", [{"drop": True}, {"delay": 3.0}])
def test_a_dropped_or_slow_submit_is_one_task(warm, compute, fault):
    before = compute.service.counters()
    compute.service.fault("submit", **fault)
    assert warm.submit(square, 3).result(60) == [9]
    assert since(compute.service.counters(), before, "tasks") == 1


def test_a_lost_reply_makes_two_executions_for_one_future(warm, compute, tmp_path):
    before = compute.service.counters()
    compute.service.fault("submit", lose=True)
    note = tmp_path / "executions"
    assert warm.submit(note_and_wait, str(note), 0).result(60) == "done"
    assert wait_for(lambda: len(note.read_text().split()) == 2, 20)
    assert since(compute.service.counters(), before, "tasks") == 2


def test_a_token_that_expired_is_renewed(warm, compute):
    before = compute.service.requests("token")
    compute.service.expire_tokens()
    assert warm.submit(square, 3).result(60) == [9]
    assert compute.service.requests("token") > before


def test_the_rate_of_requests_is_limited(client, compute, agent):
    compute.service.limit(requests=3, seconds=2)
    for _ in range(6):
        client.get_endpoint_status(agent.id)  # retried by the SDK
    assert compute.service.counters()["over_limit"] > 0


def test_too_large_a_submission_is_refused(warm):
    error = warm.submit(square, "x" * 11_000_000).exception(60)
    assert error.http_status == 413


def test_an_exception_is_reported(warm):
    from globus_compute_sdk.errors import TaskExecutionFailed

    error = warm.submit(square, None).exception(60)
    assert isinstance(error, TaskExecutionFailed)
    assert "TypeError" in error.remote_data


def test_a_user_endpoint_that_cannot_start_is_reported(compute, new_executor, client):
    # Another one for these tests only, with an engine that does not exist.
    bad = compute.endpoint("bad", "type: NoSuchEngine\n")
    try:
        error = new_executor(bad.id, client).submit(square, 3).exception(90)
        assert (error.http_status, error.code) == (422, "SEMANTICALLY_INVALID")
    finally:
        bad.stop()
        del compute.agents["bad"]


def test_a_restart_of_the_broker_in_mid_task_is_survived(warm, compute, tmp_path):
    from globus_compute_sdk.sdk import executor as executor_module

    note = tmp_path / "executions"
    future = warm.submit(note_and_wait, str(note), 15)
    assert wait_for(note.is_file, 30)
    time.sleep(UNTIL_ACKNOWLEDGED)
    # The SDK tries five times to reach the broker again, each time after 0.5 to 10 s, at random;
    # then all its open futures fail. On a busy machine a restart takes longer.
    for watcher in executor_module._RESULT_WATCHERS.values():
        watcher.connect_attempt_limit = 100
    compute.broker.restart()
    assert future.result(120) == "done"
    assert len(note.read_text().split()) == 1
    assert warm.submit(square, 3).result(90) == [9]


def test_a_killed_agent_finds_what_was_queued_meanwhile(warm, compute, agent):
    user_endpoints = [
        name for name, it in compute.service.endpoints().items() if it["parent"] == str(agent.id)
    ]
    agent.kill()
    assert wait_for(lambda: not agent.online, 30)
    assert wait_for(
        lambda: (
            {compute.service.endpoints()[name]["status"] for name in user_endpoints} == {"offline"}
        ),
        30,
    )
    futures = [warm.submit(square, value) for value in range(5)]
    assert not wait(futures, timeout=3).done
    agent.start()
    assert [future.result(120) for future in futures] == [[value * value] for value in range(5)]


def test_a_killed_agent_loses_what_it_had_acknowledged(warm, compute, agent, tmp_path):
    note = tmp_path / "executions"
    # More than there are workers: an agent takes all that it is sent.
    lost = [warm.submit(note_and_wait, str(note), 5) for _ in range(4)]
    assert wait_for(note.is_file, 30)
    time.sleep(UNTIL_ACKNOWLEDGED)
    agent.restart(kill=True)
    assert warm.submit(square, 3).result(120) == [9]
    assert not wait(lost, timeout=10).done
    assert len(note.read_text().split()) == 2
    states = {compute.service.tasks()[future.task_id]["status"] for future in lost}
    assert not states & {"success", "failed"}


def test_a_killed_user_endpoint_is_started_again(warm, agent):
    agent.kill_user_endpoint()
    time.sleep(2)  # see there
    assert warm.submit(square, 3).result(120) == [9]


def test_user_endpoints_end_when_their_agent_was_killed(warm, agent):
    agent.kill_core()
    assert wait_for(lambda: not agent.processes(), 30)
    agent.start()
    assert warm.submit(square, 3).result(120) == [9]


def test_the_status_of_an_endpoint(compute, agent, client):
    assert client.get_endpoint_status(agent.id)["status"] == "online"
    agent.stop()
    assert client.get_endpoint_status(agent.id)["status"] == "offline"
    agent.start()
    assert client.get_endpoint_status(agent.id)["status"] == "online"


def test_a_client_that_was_killed_finds_its_tasks_again(warm, client, new_executor):
    future = warm.submit(square, 5)
    assert future.result(60) == [25]
    again = new_executor(warm.endpoint_id, client, task_group_id=warm.task_group_id)
    assert {future.result(60)[0] for future in again.reload_tasks()} == {9, 25}


CLIENT = """\
import os
from globus_compute_sdk import Client
print(Client().get_endpoint_status(os.environ["LOOPBACK_ENDPOINT"])["status"])
"""


def test_the_command_line_starts_and_stops_all_of_it(tmp_path):
    def call(*command, **options):
        line = [sys.executable, *map(str, command)]
        done = subprocess.run(
            line, capture_output=True, text=True, timeout=120, check=False, **options
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    try:
        lines = shlex.split(call(SERVICE, "start", tmp_path))
        env = dict(word.split("=", 1) for word in lines if word != "export")
        assert call("-c", CLIENT, env={**os.environ, **env}) == "online\n"
        port = int(env["HTTP_PROXY"].rpartition(":")[2])
        assert connects(port)
    finally:
        call(SERVICE, "stop", tmp_path)
    assert not connects(port)
    for name in ("broker", "web", "agents/endpoint"):
        assert MarkedProcesses(tmp_path / name).found() == {}
