"""What befalls real workers, and what becomes of the fits: here, through Parsl, and on Slurm.

``benchmarks/fault_table.py`` makes a table of what these tests note down.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import Counter
from pathlib import Path

import pytest

from pytest_pyhf_faas.engines import create_engine
from tests.helpers.parsl_here import configuration
from tests.helpers.paths import SERVICES
from tests.helpers.scripted_engine import wait_until
from tests.helpers.stage import MARK, START_S, Stage, fits, ok, parsl_processes

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc"),
    pytest.mark.timeout(600),
]

LOCAL, PARSL, SLURM = "local", "parsl", "slurm"
ON_PARSL, ON_SLURM = (pytest.param(kind, marks=pytest.mark.services) for kind in (PARSL, SLURM))
ENGINES = [LOCAL, ON_PARSL, ON_SLURM]


@pytest.fixture(scope="module", autouse=True)
def mark():
    name, _, value = MARK.partition("=")
    os.environ[name] = value
    yield
    del os.environ[name]


@pytest.fixture
def stage(request, tmp_path, monkeypatch):
    """A stage on one of the engines; a test may say how a block starts."""
    kind = request.param
    slurm = request.getfixturevalue("slurm") if kind == SLURM else None
    init = getattr(request.function, "block_init", "true")
    if kind == LOCAL:
        spec = "local:2"
    elif kind == PARSL:
        configuration(tmp_path, "parsl_here.py", init, blocks=2)
        config = tmp_path / "parsl_here.py"
        for old, new in getattr(request.function, "changes", {}).items():
            config.write_text(config.read_text().replace(old, new))
        spec = f"parsl:{config}"
    else:
        spec = f"parsl:{SERVICES / 'parsl_slurm.py'}"
    engine = create_engine(spec, tmp_path / "engine")
    stage = Stage(kind, engine, tmp_path, monkeypatch, slurm)
    yield stage
    if stage.campaign is not None:
        stage.campaign.cancel("the test is over")
    stage.engine.stop()


def on(*kinds):
    return pytest.mark.parametrize("stage", kinds, indirect=True)


@on(*ENGINES)
def test_a_worker_killed_in_mid_fit(stage, record_property):
    stage.begin(fits(8, 1.0))
    _name, worker, _manager = stage.wait_for_running(2)[-1]
    stage.strike(worker)
    assert ok(stage.finish())
    stage.note_down(record_property, "worker killed (-9)")


@on(*ENGINES)
def test_a_worker_that_exits_in_mid_fit(stage, record_property):
    orders = fits(6)
    orders[2] |= {"do": "exit", "times": 1}
    stage.begin(orders)
    assert ok(stage.finish())
    stage.note_down(record_property, "worker exits once")


@on(*ENGINES)
def test_a_fit_that_breaks_each_worker_is_given_up_and_harms_no_other(stage, record_property):
    orders = fits(8)
    orders[1] |= {"do": "kill worker"}
    stage.begin(orders)
    statuses = stage.finish()
    assert {name for name, status in statuses.items() if status != "ok"} == {"toy_001"}
    assert statuses["toy_001"] == "broken"
    assert Counter(name for name, *_ in stage.begun())["toy_001"] == 2
    stage.note_down(record_property, "fit kills each worker")


@on(*ENGINES)
def test_a_fit_that_breaks_each_manager_is_given_up_and_harms_no_other(stage, record_property):
    orders = fits(6)
    orders[1] |= {"do": "kill manager"}
    stage.begin(orders)
    statuses = stage.finish(150)
    assert {name for name, status in statuses.items() if status != "ok"} == {"toy_001"}
    assert statuses["toy_001"] == "broken"
    stage.note_down(record_property, "fit kills each manager")


@on(*ENGINES)
def test_a_manager_killed_in_mid_fit(stage, record_property):
    stage.begin(fits(8, 1.0))
    _name, _worker, manager = stage.wait_for_running(2)[-1]
    stage.strike(manager)
    assert ok(stage.finish())
    stage.note_down(record_property, "manager killed (-9)")


@on(ON_PARSL)
def test_blocks_that_outlive_their_managers_are_replaced(stage, record_property):
    """As Slurm's jobs on dead nodes do, for five minutes."""
    stage.begin(fits(6, 1.0))
    managers = {manager for *_, manager in stage.wait_for_running(2)}
    for manager in managers:
        stage.strike(manager)
    assert ok(stage.finish())
    stage.note_down(record_property, "managers killed, jobs run on")


test_blocks_that_outlive_their_managers_are_replaced.block_init = (
    "trap 'trap - EXIT; exit' TERM; trap 'sleep 600' EXIT"
)


@on(ON_PARSL, ON_SLURM)
def test_a_block_that_ends_in_mid_fit(stage, record_property):
    stage.begin(fits(8, 1.0))
    stage.wait_for_running(2)
    stage.struck()
    if stage.slurm:
        stage.slurm.run("scancel", next(iter(stage.slurm.jobs())))
    else:
        os.killpg(os.getpgid(stage.running()[-1][2]), signal.SIGTERM)
    assert ok(stage.finish())
    stage.note_down(record_property, "job cancelled")


@on(ON_SLURM)
def test_walltime_reached_in_mid_fit(stage, record_property):
    # Slurm looks at its limits every 30 s. No worker is idle meanwhile, which would take a copy.
    orders = [{"do": "never end", "times": 1, **order} for order in fits(2)]
    stage.begin(orders)
    stage.wait_for_running(2)
    stage.struck()
    for job, state in stage.slurm.jobs().items():
        if state == "RUNNING":
            stage.slurm.expire(job)
    assert ok(stage.finish(180))
    assert "block lost" in {event.kind for event in stage.told.events}
    stage.note_down(record_property, "walltime reached")


@on(ON_PARSL)
def test_a_walltime_that_is_shorter_than_the_fits(stage):
    stage.begin(fits(2, 3600.0), timeout_s=None)
    stage.wait_for_running()
    wait_until(lambda: "(heartbeats at most 1 s old)" in stage.engine.knows, "one was heard", 10)
    wait_until(lambda: stage.results, "one is given up", START_S)
    (ended,) = stage.results
    assert ended.status == "broken"
    assert "The walltime of a block, 2 s, is shorter than the fit" in ended.error.message
    assert [name for name, *_ in stage.begun()][:2] == ["toy_000", "toy_001"]


#: A block lives for 3 s more when its first fit has begun, however long it takes to start.
test_a_walltime_that_is_shorter_than_the_fits.block_init = (
    "( lines() { wc -l < begun.jsonl; }; before=$(lines); while [ $(lines) = $before ]; "
    "do sleep 0.2; done; sleep 3; kill -KILL 0 ) &"
)
test_a_walltime_that_is_shorter_than_the_fits.changes = {
    "blocks=2": "blocks=1",
    "heartbeat_threshold=4": "heartbeat_threshold=2",
    "status_polling_interval = 1": 'status_polling_interval = 1\n    walltime = "00:00:02"',
}


@on(ON_SLURM)
def test_a_node_is_drained_and_comes_back(stage, record_property):
    stage.begin(fits(8, 1.0))
    stage.wait_for_running(2)
    stage.struck()
    stage.slurm.drain("a test")
    try:
        for job in stage.slurm.jobs():
            stage.slurm.run("scancel", job)
        wait_until(lambda: stage.campaign.progress().waits_s is not None, "no worker is there", 30)
        wait_until(lambda: "PENDING" in (stage.engine.waits_for or ""), "Slurm says why", 30)
    finally:
        stage.slurm.resume()
    assert ok(stage.finish())
    stage.note_down(record_property, "node drained, jobs cancelled")


@on(ON_SLURM)
def test_a_queue_that_grants_no_block(stage, record_property):
    stage.slurm.drain("a test")
    stage.struck()
    try:
        stage.begin(fits(4), queue_timeout_s=8.0)
        statuses = stage.finish()
    finally:
        stage.slurm.resume()
    assert set(statuses.values()) == {"broken"}
    (message,) = {result.error.message for result in stage.results}
    assert "no worker of parsl:" in message
    assert "PENDING" in message
    assert "--faas-queue-timeout" in message
    stage.note_down(record_property, "no block granted")


@on(ON_PARSL)
def test_a_block_without_workers(stage, record_property):
    stage.struck()
    stage.begin(fits(4), queue_timeout_s=6.0)
    statuses = stage.finish()
    assert set(statuses.values()) == {"broken"}
    (message,) = {result.error.message for result in stage.results}
    assert "no worker of parsl:" in message
    stage.note_down(record_property, "no worker comes up")


test_a_block_without_workers.block_init = "sleep 3600"


@on(ON_PARSL)
def test_blocks_that_fail_to_start_say_why(stage, record_property):
    stage.struck()
    stage.begin(fits(4))
    statuses = stage.finish(120)
    assert set(statuses.values()) == {"broken"}
    (message,) = {result.error.message for result in stage.results}
    assert "no such environment" in message
    stage.note_down(record_property, "blocks fail to start")


test_blocks_that_fail_to_start_say_why.block_init = "echo no such environment >&2; exit 7"


@on(ON_PARSL, ON_SLURM)
def test_the_interchange_is_killed(stage, record_property):
    stage.begin(fits(8, 1.0))
    stage.wait_for_running(2)
    (interchange,) = (pid for pid, command in parsl_processes() if "interchange" in command)
    stage.strike(interchange)
    assert ok(stage.finish())
    stage.note_down(record_property, "interchange killed (-9)")


@on(*ENGINES)
def test_a_fit_that_never_ends(stage, record_property):
    orders = fits(6)
    orders[0] |= {"do": "never end"}
    stage.struck()
    stage.begin(orders, timeout_s=3.0)
    statuses = stage.finish()
    assert statuses.pop("toy_000") == "timeout"
    assert ok(statuses)
    stage.note_down(record_property, "fit never ends (limit 3 s)")


@on(*ENGINES)
def test_a_fit_that_finds_no_memory_once(stage, record_property):
    orders = fits(6)
    orders[3] |= {"do": "use all memory", "times": 1}
    stage.begin(orders)
    assert ok(stage.finish())
    assert "out of memory" in {event.kind for event in stage.told.events}
    stage.note_down(record_property, "out of memory once")


@on(ON_PARSL, ON_SLURM)
def test_a_manager_that_sleeps_and_wakes_after_its_fit_was_sent_again(stage, record_property):
    stage.begin(fits(6, 1.0))
    _name, _worker, manager = stage.wait_for_running(2)[-1]
    stage.strike(manager, signal.SIGSTOP)
    wake = threading.Timer(8.0, os.kill, (manager, signal.SIGCONT))
    wake.start()
    try:
        assert ok(stage.finish())
    finally:
        wake.cancel()
        with contextlib.suppress(OSError):
            os.kill(manager, signal.SIGCONT)
    stage.note_down(record_property, "manager frozen, late result")


@on(*ENGINES)
def test_an_idle_worker_is_killed(stage, record_property):
    stage.begin(fits(8, 0.1), late=True)
    _name, worker, *_ = stage.begun()[-1]
    stage.strike(worker)
    stage.campaign.submit(stage.tasks)
    assert ok(stage.finish(120))
    stage.note_down(record_property, "idle worker killed (-9)")
