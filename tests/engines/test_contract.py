"""What `Engine` promises, held of each engine there is: the real ones and those of the tests.

A fake that does what no engine does makes tests pass that should not. What one of them leaves out
stands in its `leaves_out`, with the reason; there is nothing else that it may leave out.
"""

from __future__ import annotations

import contextlib
import json
import time
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from pytest_pyhf_faas.campaign.tasks import HypotestConfig, batch_payload, make_tasks
from pytest_pyhf_faas.engines import create_engine
from pytest_pyhf_faas.engines.base import Engine
from pytest_pyhf_faas.engines.session import SessionEngine
from pytest_pyhf_faas.errors import (
    EngineError,
    FaasError,
    RemoteCallError,
    TaskTimeoutError,
    WorkerLostError,
)
from pytest_pyhf_faas.pallets.pallet import Packed
from pytest_pyhf_faas.worker.fitting import BLOCK, fit_batch
from tests.helpers import fakes, remote_functions
from tests.helpers.scripted_engine import (
    PATIENCE_S,
    AutomaticEngine,
    ScriptedEngine,
    toy_pallet,
    toy_tasks,
    wait_until,
)

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="engines that read /proc"),
    pytest.mark.timeout(600),
]

#: Workers, and what is between them and this machine, need so long on a busy machine.
START_S = 90.0
VALUE = {"a": [1.5, None, "σ"], "b": {"c": True}}


class Real:
    """An engine with workers that are processes."""

    leaves_out: ClassVar = {}
    patience_s = START_S
    busy_s = 60.0

    def __init__(self, engine):
        self.engine = engine
        self.accepted = []
        engine.on_accepted = lambda future, reference: self.accepted.append((future, reference))

    def answered(self):
        return self.engine.submit(remote_functions.echo, VALUE)

    def lost(self):
        return self.engine.submit(remote_functions.die)

    def timed_out(self):
        return self.engine.submit(remote_functions.nap, 60.0, timeout_s=0.5)

    def failed(self):
        return self.engine.submit(remote_functions.fail, "of its own making")

    def busy(self):
        return self.engine.submit(remote_functions.nap, self.busy_s)

    def check(self, answer):
        assert answer == VALUE

    def result(self, future):
        return future.result(self.patience_s)

    def close(self):
        self.engine.stop()


class OfBatches(Real):
    """A fake, which knows batches of fits alone; see `Real`."""

    patience_s = PATIENCE_S

    def send(self, name="toy_000"):
        tasks = toy_tasks(1)
        patch = replace(tasks[0].patch, content=Packed.of([{"value": {"name": f"signal_{name}"}}]))
        pallet = replace(toy_pallet(1), patches=(patch,))
        return self.engine.submit(
            fit_batch, batch_payload(make_tasks(pallet, HypotestConfig())), timeout_s=3.0
        )

    def check(self, answer):
        (result,) = answer["results"]
        assert result["status"] == "ok"
        assert result["key"]


class Fake(OfBatches):
    leaves_out: ClassVar = {"failed": "its functions run here, and only fits may fail"}

    answered = OfBatches.send

    def lost(self):
        return self.send("lost")

    def timed_out(self):
        return self.send("slow")

    def busy(self):
        return self.send("busy")


BY_HAND = {
    "failed": "fits answer with data",
    "ready_at": "the test says when the first answer was",
    "in flight": "an answer may come after its engine's end, and tests of the campaign want that",
}


class Scripted(OfBatches):
    leaves_out = BY_HAND

    def answered(self):
        future = self.send()
        self.engine.submissions[-1].answer()
        return future

    def lost(self):
        future = self.send()
        self.engine.submissions[-1].fail()
        return future

    def timed_out(self):
        future = self.send()
        self.engine.submissions[-1].time_out()
        return future

    busy = OfBatches.send


class Automatic(OfBatches):
    leaves_out = BY_HAND

    def follow(self, word):
        self.engine.script.append(word)
        return self.send()

    def answered(self):
        return self.follow("ok")

    def lost(self):
        return self.follow("lost")

    def timed_out(self):
        return self.follow("timeout")

    def busy(self):
        return self.follow("silent")

    def close(self):
        self.engine.end()


class Simulated(OfBatches):
    leaves_out: ClassVar = {**BY_HAND, "no ping": "a campaign asks only where tasks may be lost"}

    def happen(self, word):
        future = self.send()
        self.engine.happen(word)
        return future

    def answered(self):
        return self.happen("ok")

    def lost(self):
        return self.happen("worker")

    def timed_out(self):
        return self.happen("timeout")

    busy = OfBatches.send


# Each of them, not started


def local(_request, _directory):
    return Real(create_engine("local:2", Path()))


def parsl(_request, directory):
    pytest.importorskip("parsl")
    from tests.helpers import parsl_here

    parsl_here.configuration(directory)
    return Real(create_engine(f"parsl:{directory / 'here.py'}", directory / "engine"))


def globus_compute(request, _directory):
    pytest.importorskip("globus_compute_sdk")
    service = request.getfixturevalue("globus_compute_service")
    patch = pytest.MonkeyPatch()
    request.addfinalizer(patch.undo)
    for name, value in service.env.items():
        patch.setenv(name, value)
    subject = Real(create_engine(str(service.agents["first"].id), Path()))
    subject.busy_s = 1.0  # what is with an endpoint runs on there
    return subject


def fake(_request, _directory, **plan):
    # So many fits never begin.
    plan |= {"lose": {"lost": -1}, "timeout": ["slow"], "wait_for_fits": {"busy": 999}}
    return Fake(fakes.FakeEngine("fake", fakes.Plan(**plan)))


def fake_that_loses_tasks(request, directory):
    return fake(request, directory, loses_tasks=True)


def scripted(_request, _directory):
    return Scripted(ScriptedEngine())


def automatic(_request, _directory):
    return Automatic(AutomaticEngine())


def simulated(_request, _directory, **how):
    from tests.campaign.test_properties import SimulatedEngine

    return Simulated(SimulatedEngine(**how))


def simulated_that_loses_tasks(request, directory):
    return simulated(request, directory, loses_tasks=True)


FAKES = [
    fake,
    fake_that_loses_tasks,
    scripted,
    automatic,
    simulated,
    simulated_that_loses_tasks,
]
#: The SDK leaves sockets behind when it connects again.
UNCLOSED = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
ENGINES = [
    *FAKES,
    local,
    pytest.param(parsl, marks=pytest.mark.services),
    pytest.param(globus_compute, marks=[UNCLOSED, pytest.mark.services]),
]


@pytest.fixture(scope="module", params=ENGINES, ids=lambda make: make.__name__)
def make(request):
    """Make a new engine for each test; of the real ones, which take long to start, there is one.

    The first test gets one that was not started yet.
    """
    made = []

    def make(directory):
        if request.param in FAKES or not made:
            made.append(request.param(request, directory))
        return made[-1]

    yield make
    for subject in made:
        subject.close()
    if request.param is globus_compute:
        from tests.services.globus_compute import close_clients

        close_clients()  # the SDK leaves sockets behind, which a later test would complain of


@pytest.fixture
def subject(make, tmp_path_factory, monkeypatch):
    directory = tmp_path_factory.mktemp("engine")
    monkeypatch.chdir(directory)
    return make(directory)


@pytest.fixture
def engine(subject):
    return subject.engine


def unless(subject, what):
    """Skip what a fake leaves out."""
    if what in subject.leaves_out:
        pytest.skip(subject.leaves_out[what])


def check_works(subject):
    """Hold a task to be answered."""
    subject.check(subject.result(subject.answered()))
    assert not subject.engine.broken
    assert subject.engine.failure is None


# The first of them needs an engine that is not started


def test_making_an_engine_starts_nothing(subject, engine):
    assert isinstance(engine, Engine)
    unless(subject, "ready_at")
    assert engine.ready_at is None
    assert not engine.broken
    assert engine.failure is None


def test_stopping_before_the_start_does_nothing(engine):
    engine.stop()
    assert not engine.broken


def test_starting_returns_at_once_and_twice_is_once(subject, engine):
    before = time.monotonic()
    engine.start()
    engine.start()
    # Parsl and the fork server are imported and launched in other threads.
    assert time.monotonic() - before < 5.0
    check_works(subject)


def test_the_engine_says_what_it_is(engine):
    assert engine.workers >= 1
    assert engine.in_flight >= engine.workers
    assert engine.batch_s >= 0.0
    description = engine.describe()
    assert description["endpoint"] == engine.spec
    assert all(isinstance(text, str) for text in description.values())


def test_an_answer_is_what_json_can_carry(subject):
    answer = subject.result(subject.answered())
    assert json.loads(json.dumps(answer)) == answer
    subject.check(answer)


@pytest.mark.services
def test_a_worker_knows_the_block_that_it_is_of(engine):
    if engine.fixed_workers or not isinstance(engine, SessionEngine):
        pytest.skip("its workers are in no blocks")
    told = engine.submit(remote_functions.environment_of, [BLOCK]).result(START_S)
    assert str(told[BLOCK]).isdigit()


def test_with_the_first_answer_it_is_ready_and_misses_no_worker(subject, engine):
    unless(subject, "ready_at")
    check_works(subject)
    assert engine.ready_at <= time.monotonic()
    assert engine.workers_known
    wait_until(lambda: engine.missing_since is None, "the worker is counted", START_S)
    assert engine.waits_for is None
    wait_until(lambda: engine.workers_there >= 1, "the worker is counted", START_S)


def test_a_task_that_was_submitted_cannot_be_cancelled(subject):
    """The campaign counts on its end."""
    future = subject.answered()
    assert not future.cancel()
    try:
        subject.check(subject.result(future))
    except CancelledError:
        pytest.fail("it was cancelled all the same")


def test_all_of_many_tasks_are_answered(subject, engine):
    futures = [subject.answered() for _ in range(2 * engine.workers + 1)]
    for future in futures:
        subject.check(subject.result(future))


def test_a_worker_that_dies_costs_its_task_alone(subject):
    with pytest.raises(WorkerLostError):
        subject.result(subject.lost())
    check_works(subject)


def test_a_time_limit_ends_its_task_alone(subject):
    with pytest.raises(TaskTimeoutError, match="time limit"):
        subject.result(subject.timed_out())
    check_works(subject)


def test_an_exception_of_a_function_names_itself_and_costs_its_task_alone(subject):
    unless(subject, "failed")
    with pytest.raises((EngineError, RemoteCallError), match="of its own making"):
        subject.result(subject.failed())
    check_works(subject)


def test_an_engine_answers_pings_if_and_only_if_it_loses_tasks(subject, engine):
    if engine.loses_tasks:
        result_of_ping = engine.ping()
        if hasattr(engine, "running"):  # of a simulation, in which only what is looked at happens
            engine.running()
        assert not subject.result(result_of_ping)
    else:
        unless(subject, "no ping")
        with pytest.raises(NotImplementedError, match="loses no tasks"):
            engine.ping()


def test_what_was_accepted_can_be_collected_after_a_restart(subject, engine):
    subject.accepted.clear()
    future = subject.answered()
    subject.check(subject.result(future))
    engine.settle()
    if not subject.accepted:
        with pytest.raises(NotImplementedError, match="nothing outlives"):
            engine.collect("group/1")
        return
    references = dict(subject.accepted)
    assert isinstance(references[future], str)
    engine.restart()
    subject.check(subject.result(engine.collect(references[future])))


@pytest.mark.parametrize("end", ["stop", "restart", "shutdown"])
def test_tasks_in_flight_end_with_their_engine(subject, engine, end):
    futures = [subject.busy() for _ in range(engine.workers + 1)]
    time.sleep(0.1)  # some of them run, others wait; either must end
    getattr(engine, end)()
    unless(subject, "in flight")
    for future in futures:
        with pytest.raises(EngineError):
            subject.result(future)


def test_after_its_end_a_task_starts_it_again(subject, engine):
    engine.stop()
    engine.stop()
    assert not engine.broken
    check_works(subject)


def test_a_restart_is_a_new_life(subject, engine):
    check_works(subject)
    before = engine.ready_at
    engine.restart()
    check_works(subject)
    if "ready_at" not in subject.leaves_out:
        assert engine.ready_at > before


def test_leaving_the_context_stops_it(subject, engine, monkeypatch):
    stopped = []
    stop = engine.stop
    monkeypatch.setattr(engine, "stop", lambda: stopped.append(stop()))
    with contextlib.suppress(FaasError), engine:
        subject.answered()
    assert stopped == [None]
