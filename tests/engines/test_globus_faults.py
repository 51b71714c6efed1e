"""What befalls fits on a real endpoint of Globus Compute, and what becomes of them."""

from __future__ import annotations

import time
from collections import Counter

import pytest

from tests.helpers.scripted_engine import wait_until
from tests.helpers.stage import START_S, Stage, fits, ok
from tests.services.processes import ServiceError

engines = pytest.importorskip("pytest_pyhf_faas.engines.globus_compute")
sessions = pytest.importorskip("pytest_pyhf_faas.engines.globus_session")
outbox = pytest.importorskip("pytest_pyhf_faas.engines.globus_outbox")
pytestmark = [pytest.mark.timeout(600)]


@pytest.fixture
def stage(globus_compute, tmp_path, monkeypatch):
    """A stage on the loopback endpoint; what is lost without a word is missed in seconds."""
    monkeypatch.setattr(sessions, "_STATUS_S", 2.0)
    engine = engines.GlobusComputeEngine(str(globus_compute.agents["first"].id), config={})
    stage = Stage("globus", engine, tmp_path, monkeypatch)
    stage.policy = {"ping_s": 2.0, "straggler_s": 3.0}
    stage.compute = globus_compute
    yield stage
    if stage.campaign is not None:
        stage.campaign.cancel("the test is over")
    engine.stop()


def accepted(stage):
    names = {task.key: task.patch.name for task in stage.tasks}
    return {names[event.key] for event in stage.told.events if event.kind == "accepted"}


def wait_until_accepted(stage):
    names = {task.patch.name for task in stage.tasks}
    wait_until(lambda: accepted(stage) == names, "all fits are accepted", START_S)


def test_nothing_befalls_them(stage, record_property):
    before = stage.compute.service.counters().get("tasks", 0)
    stage.begin(fits(8))
    assert ok(stage.finish())
    assert accepted(stage) == {task.patch.name for task in stage.tasks}
    stage.note_down(record_property, "none")
    assert len(stage.begun()) == 8
    assert stage.engine.workers == 2
    assert stage.compute.service.counters()["tasks"] <= before + 9  # one says that it is there


def test_a_worker_killed_in_mid_fit(stage, record_property):
    stage.begin(fits(8, 1.0))
    _name, worker, _manager = stage.wait_for_running(2)[-1]
    stage.strike(worker)
    assert ok(stage.finish())
    stage.note_down(record_property, "worker killed (-9)")


def test_a_fit_that_breaks_each_worker_is_given_up_and_harms_no_other(stage, record_property):
    orders = fits(8)
    orders[1] |= {"do": "kill worker"}
    stage.begin(orders)
    statuses = stage.finish()
    assert {name for name, status in statuses.items() if status != "ok"} == {"toy_001"}
    assert statuses["toy_001"] == "broken"
    # Once it may have been with others, which must not pay for it.
    assert Counter(name for name, *_ in stage.begun())["toy_001"] in (2, 3)
    stage.note_down(record_property, "fit kills each worker")


def test_a_manager_killed_in_mid_fit(stage, record_property):
    stage.begin(fits(8, 1.0))
    _name, _worker, manager = stage.wait_for_running(2)[-1]
    stage.strike(manager)
    # The endpoint asks for another block when its provider has looked at the first one again.
    assert ok(stage.finish(240))
    stage.note_down(record_property, "manager killed (-9)")


def test_an_agent_killed_and_restarted_in_mid_fit(stage, record_property):
    stage.begin(fits(8, 1.0), late=True)
    stage.campaign.submit(stage.tasks)
    wait_until_accepted(stage)
    time.sleep(1.0)  # until then the endpoint has acknowledged, and the service forgotten them
    stage.struck()
    agent = stage.compute.agents["first"]
    try:
        agent.restart(kill=True)
    except ServiceError:  # it was just starting something
        agent.start()
    assert ok(stage.finish(150))
    stage.note_down(record_property, "agent killed (-9) and restarted")


def test_a_broker_restarted_in_mid_fit(stage, record_property):
    stage.begin(fits(6, 3.0))
    stage.wait_for_running(2)
    wait_until_accepted(stage)
    time.sleep(1.0)  # see above
    stage.struck()
    stage.compute.broker.restart()
    assert ok(stage.finish(180))
    stage.note_down(record_property, "broker restarted")


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ({"status": 503, "seconds": 10.0}, "service answers 503 for 10 s"),
        ({"status": 429, "count": 3}, "service answers 429"),
        ({"lose": True}, "reply to a submission lost"),
        ({"drop": True}, "submission dropped"),
    ],
)
def test_a_service_in_trouble(stage, record_property, fault, name):
    stage.begin(fits(4), late=True)
    stage.struck()
    stage.compute.service.fault("submit", **fault)
    stage.campaign.submit(stage.tasks)
    assert ok(stage.finish(120))
    # What is executed twice begins before what is behind it ends.
    for ping in [stage.engine.ping() for _ in range(stage.engine.workers)]:
        ping.result(START_S)
    stage.note_down(record_property, name)


def test_an_outage_that_outlasts_the_sdk_is_waited_for(stage, record_property, monkeypatch):
    monkeypatch.setattr(outbox, "BACKOFF_S", 3.0)
    stage.begin(fits(4), late=True)
    stage.struck()
    stage.compute.service.fault("submit", status=503, retry_after=1, count=20)
    stage.campaign.submit(stage.tasks)
    wait_until(lambda: stage.campaign.progress().waits_for is not None, "it is told", 60)
    assert "503" in stage.campaign.progress().waits_for
    assert ok(stage.finish(120))
    stage.note_down(record_property, "service answers 503 twenty times")


def test_a_fit_that_never_ends(stage, record_property):
    orders = fits(6)
    orders[2] |= {"do": "never end"}
    stage.begin(orders, timeout_s=3.0)
    statuses = stage.finish()
    assert statuses.pop("toy_002") == "timeout"
    assert ok(statuses)
    stage.note_down(record_property, "fit never ends")


def test_an_endpoint_that_goes_offline_is_said_to_be(stage, record_property):
    agent = stage.compute.agents["first"]
    stage.begin(fits(4, 2.0), late=True, queue_timeout_s=12.0)
    agent.stop()
    stage.struck()
    stage.campaign.submit(stage.tasks)
    statuses = stage.finish(60)
    assert set(list(statuses.values())[2:]) == {"broken"}
    text = stage.results[-1].error.message
    assert "the endpoint is offline" in text
    assert "globus-compute-endpoint start" in text
    stage.note_down(record_property, "endpoint goes offline, for good")
