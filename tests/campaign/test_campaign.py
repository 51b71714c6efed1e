from __future__ import annotations

import math
import threading
import time
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign import loop
from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.policy import Policy
from pytest_pyhf_faas.campaign.times import PARTS
from pytest_pyhf_faas.engines.base import IN_FLIGHT
from pytest_pyhf_faas.errors import EngineError
from tests.helpers.scripted_engine import (
    ENVIRONMENT,
    PATIENCE_S,
    AutomaticEngine,
    ScriptedEngine,
    toy_result,
    toy_tasks,
    wait_for_results,
    wait_until,
)

pytestmark = pytest.mark.timeout(300)

POLICY = Policy()


@pytest.fixture(autouse=True)
def fast_ticks(monkeypatch):
    monkeypatch.setattr(loop, "TICK_S", 0.01)


@pytest.fixture
def begin():
    """Make campaigns that end with the test."""
    begun = []

    def make(engine, *, timeout_s=None, retries=0, **options):
        begun.append(Campaign(engine, Policy(timeout_s, retries), **options))
        return begun[-1]

    yield make
    for one in begun:
        one.cancel("the test is over")
        if isinstance(one.engine, AutomaticEngine):
            one.engine.end()


def statuses(results):
    return [result.status for result in results]


# What is sent, and when


def test_of_two_pallets_with_one_content_the_first_has_the_fits(begin):
    """As the plan says it, and a session that submits them one after the other."""
    tasks = toy_tasks(3)
    again = [replace(task, pallet=replace(task.pallet, name="again")) for task in tasks]
    engine = AutomaticEngine()
    campaign = begin(engine)
    campaign.submit([*tasks, *again])
    wait_for_results(campaign, [*tasks, *again])
    campaign.drain()
    config = tasks[0].config
    found = campaign.timeline(tasks[0].pallet.name, config)
    assert sum(task.fits for task in found.tasks) == 3
    assert campaign.timeline("again", config) is None


def test_each_task_is_sent_once_however_often_it_is_submitted(begin):
    tasks = toy_tasks(20)
    engine = AutomaticEngine()
    campaign = begin(engine)
    campaign.submit(tasks)
    campaign.submit(tasks[:7])
    campaign.submit(toy_tasks(20))
    results = wait_for_results(campaign, tasks)
    campaign.submit(tasks)
    campaign.drain()
    assert sorted(engine.sent) == sorted(task.key for task in tasks)
    assert statuses(results) == ["ok"] * 20
    assert [result.patch for result in results] == [task.patch.name for task in tasks]
    assert campaign.sendings.fits == 20


def test_a_result_is_complete(begin):
    (task,) = toy_tasks(1)
    engine = ScriptedEngine()
    campaign = begin(engine, timeout_s=12.5)
    campaign.submit([task])
    sent = engine.wait_for(1)
    assert sent.timeout_s == 12.5
    assert sent.payload["config"] == task.config.to_json()
    assert sent.payload["background"]["digest"] == task.pallet.digest
    sent.answer(worker="toy:7", environment=ENVIRONMENT)
    (result,) = wait_for_results(campaign, [task])
    assert (result.pallet, result.patch, result.worker) == ("toy", task.patch.name, "toy:7")
    assert result.CLs_obs == 0.05
    assert result.attempts == 1
    assert result.environment.versions["scipy"] == "1.15.3"


def test_the_environment_of_a_worker_is_sent_once_and_stays_known(begin):
    tasks = toy_tasks(3)
    engine = ScriptedEngine(workers=1)
    campaign = begin(engine)
    campaign.submit(tasks)
    engine.wait_for(1).answer(environment=ENVIRONMENT)
    engine.wait_for(2).answer()
    engine.wait_for(3).answer(worker="toy:2")
    first, second, stranger = wait_for_results(campaign, tasks)
    assert first.environment is not None
    assert second.environment == first.environment
    assert stranger.environment is None


def test_a_worker_that_serves_two_optimizers_is_known_with_each(begin):
    scipy, minuit = (toy_tasks(2, optimizer=name) for name in ("scipy", "minuit"))
    engine = ScriptedEngine(workers=1)
    campaign = begin(engine)
    tasks = [scipy[0], minuit[0], scipy[1], minuit[1]]
    for number, task in enumerate(tasks):
        campaign.submit([task])
        # A worker says what it is once for each backend and optimizer that it is asked to use.
        told = {**ENVIRONMENT, "optimizer": task.config.optimizer} if number < 2 else None
        engine.wait_for(number + 1).answer(environment=told)
        (result,) = wait_for_results(campaign, [task])
        assert result.environment.optimizer == task.config.optimizer


def test_the_longest_fits_are_sent_first_and_unknown_ones_before_them(begin):
    tasks = toy_tasks(8)
    seconds = [3.0, None, 9.0, 0.5, None, 7.0, 1.0, 2.0]
    expected = {task.key: known for task, known in zip(tasks, seconds, strict=True)}
    engine = AutomaticEngine(workers=1)
    campaign = begin(engine, expected_s=lambda task: expected[task.key])
    campaign.submit(tasks)
    wait_for_results(campaign, tasks)
    order = [1, 4, 2, 5, 0, 7, 6, 3]
    assert engine.sent == [tasks[number].key for number in order]


def test_the_longest_fits_come_first_across_pallets(begin):
    slow, fast = toy_tasks(3, "slow"), toy_tasks(3, "fast")
    engine = AutomaticEngine(workers=1, batch_s=100.0)
    campaign = begin(engine, expected_s=lambda task: 9.0 if task.pallet.name == "slow" else 1.0)
    campaign.submit([*fast, *slow])
    wait_for_results(campaign, [*fast, *slow])
    assert set(engine.sent[:3]) == {task.key for task in slow}


def test_a_batch_is_of_one_pallet_and_one_configuration(begin):
    tasks = [*toy_tasks(12, "a"), *toy_tasks(12, "b"), *toy_tasks(12, "a", optimizer="minuit")]
    kind = {task.key: (task.pallet.name, task.config.optimizer) for task in tasks}
    engine = AutomaticEngine(workers=1, batch_s=100.0)
    campaign = begin(engine, expected_s=lambda _task: 0.01)
    campaign.submit(tasks)
    wait_for_results(campaign, tasks)
    assert len(engine.submissions) < len(tasks)
    for sent in engine.submissions:
        assert len({kind[key] for key in sent.keys}) == 1
        optimizer = kind[sent.keys[0]][1]
        assert sent.payload["config"]["optimizer"] == optimizer


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_s", [0.25, 10.0])
def test_short_fits_share_a_batch_up_to_its_seconds_and_to_the_workers(begin, workers, batch_s):
    tasks = toy_tasks(60)
    each_s = 0.1
    engine = ScriptedEngine(workers, batch_s)
    campaign = begin(engine, expected_s=lambda _task: each_s)
    campaign.submit(tasks)
    sent = 0
    while sent < len(tasks):
        batch = engine.wait_for(1 + len([s for s in engine.submissions if s.future.done()]))
        waiting = len(tasks) - sent
        size = len(batch.keys)
        assert size == 1 or size * each_s <= batch_s + 1e-9
        assert size <= max(1, math.ceil(waiting / (workers * POLICY.tail_batches)))
        sent += size
        batch.answer(fit_s=each_s)
    first = len(engine.submissions[0].keys)
    assert first == min(int(batch_s / each_s), math.ceil(60 / (workers * POLICY.tail_batches)))
    assert len(engine.submissions[-1].keys) == 1
    assert statuses(wait_for_results(campaign, tasks)) == ["ok"] * 60


def test_long_and_unknown_fits_go_alone(begin):
    tasks = toy_tasks(16)
    expected = {task.key: None if number < 8 else 5.0 for number, task in enumerate(tasks)}
    engine = ScriptedEngine(workers=1, batch_s=1.0)
    campaign = begin(engine, expected_s=lambda task: expected[task.key])
    campaign.submit(tasks)
    for number in range(16):
        engine.wait_for(number + 1).answer(fit_s=5.0)
    wait_for_results(campaign, tasks)
    assert [len(sent.keys) for sent in engine.submissions] == [1] * 16


def test_fits_of_unknown_time_share_batches_once_their_time_is_known(begin):
    tasks = toy_tasks(40)
    engine = ScriptedEngine(workers=1, batch_s=0.25)
    campaign = begin(engine)
    campaign.submit(tasks)
    number = 0
    while sum(len(sent.keys) for sent in engine.submissions[:number]) < len(tasks):
        number += 1
        engine.wait_for(number).answer(fit_s=0.05)
    sizes = [len(sent.keys) for sent in engine.submissions]
    assert sizes[0] == 1
    assert max(sizes) == 5
    wait_for_results(campaign, tasks)


def test_a_machine_slower_than_the_references_gets_smaller_batches(begin):
    tasks = toy_tasks(80)
    engine = ScriptedEngine(workers=1, batch_s=0.25)
    campaign = begin(engine, expected_s=lambda _task: 0.05)
    campaign.submit(tasks)
    assert len(engine.wait_for(1).keys) == 5
    engine.wait_for(2)
    engine.submissions[0].answer(fit_s=0.12)
    assert len(engine.wait_for(3).keys) == 2
    campaign.cancel("enough seen")


def test_in_flight_is_bounded(begin):
    tasks = toy_tasks(30)
    engine = ScriptedEngine(workers=3)
    campaign = begin(engine)
    campaign.submit(tasks)
    engine.wait_for(IN_FLIGHT * 3)
    for number, _task in enumerate(tasks):
        engine.wait_for(min(IN_FLIGHT * 3 + number, 30))
        engine.submissions[number].answer()
    wait_for_results(campaign, tasks)
    assert engine.most_in_flight == IN_FLIGHT * 3


# What goes wrong


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_a_lost_fit_is_sent_again_exactly_so_often(begin, retries):
    (task,) = toy_tasks(1)
    engine = AutomaticEngine(["lost"] * 10)
    campaign = begin(engine, retries=retries)
    campaign.submit([task])
    (result,) = wait_for_results(campaign, [task])
    assert result.status == "broken"
    assert result.attempts == retries + 1
    assert engine.sent == [task.key] * (retries + 1)
    assert "its worker process was killed" in result.error.message
    assert result.error.message.count("attempt ") == retries


def test_a_fit_that_succeeds_at_its_last_attempt_is_ok(begin):
    (task,) = toy_tasks(1)
    engine = AutomaticEngine(["lost", "lost", "ok"])
    campaign = begin(engine, retries=2)
    campaign.submit([task])
    (result,) = wait_for_results(campaign, [task])
    assert (result.status, result.attempts) == ("ok", 3)


@pytest.mark.parametrize("trouble", ["lost", "timeout"])
def test_a_batch_that_comes_to_grief_is_split_and_its_members_pay_nothing(begin, trouble):
    tasks = toy_tasks(16)
    engine = ScriptedEngine(workers=1, batch_s=10.0)
    campaign = begin(engine, retries=0, expected_s=lambda _task: 0.01)
    campaign.submit(tasks)
    first = engine.wait_for(1)
    assert len(first.keys) == 4
    engine.wait_for(2)
    if trouble == "lost":
        first.fail()
    else:
        first.time_out()
    number = 1
    while sum(len(sent.keys) for sent in engine.submissions[1:number]) < len(tasks):
        number += 1
        engine.wait_for(number).answer()
    results = wait_for_results(campaign, tasks)
    assert statuses(results) == ["ok"] * 16
    assert {result.attempts for result in results} == {1}
    assert Counter(engine.sent) == {task.key: 2 if task.key in first.keys else 1 for task in tasks}
    again = [sent for sent in engine.submissions[1:] if set(sent.keys) & set(first.keys)]
    assert [len(sent.keys) for sent in again] == [1] * 4


def test_only_the_fit_that_kills_its_worker_is_lost(begin):
    tasks = toy_tasks(16)
    killer = tasks[2].key
    engine = ScriptedEngine(workers=1, batch_s=10.0)
    campaign = begin(engine, retries=1, expected_s=lambda _task: 0.01)
    campaign.submit(tasks)
    answered = []

    def all_done():
        return all(campaign.result(task).done() for task in tasks)

    while not all_done():
        sent = engine.wait_for(len(answered) + 1)
        answered.append(sent)
        if killer in sent.keys:
            sent.fail()
        else:
            sent.answer()
        wait_until(
            lambda: all_done() or len(engine.submissions) > len(answered), "the campaign goes on"
        )
    results = wait_for_results(campaign, tasks)
    assert [result.patch for result in results if result.status == "broken"] == ["toy_002"]
    assert statuses(results).count("ok") == 15
    assert engine.sent.count(killer) == 3  # in its batch, alone, and its one retry
    assert campaign.result(tasks[2]).result().attempts == 2


def test_a_single_fit_that_takes_too_long_is_not_sent_again(begin):
    (task,) = toy_tasks(1)
    engine = AutomaticEngine(["timeout"])
    campaign = begin(engine, retries=5, timeout_s=3.0)
    campaign.submit([task])
    (result,) = wait_for_results(campaign, [task])
    assert (result.status, result.attempts) == ("timeout", 1)
    assert "time limit of 3.0 s" in result.error.message
    assert len(engine.submissions) == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_a_fit_without_memory_is_sent_again(begin, retries):
    (task,) = toy_tasks(1)
    engine = AutomaticEngine(["memory"] * 10)
    campaign = begin(engine, retries=retries)
    campaign.submit([task])
    (result,) = wait_for_results(campaign, [task])
    assert (result.status, result.error.type) == ("error", "MemoryError")
    assert result.attempts == len(engine.submissions) == retries + 1


def test_after_a_lack_of_memory_the_value_counts(begin):
    (task,) = toy_tasks(1)
    engine = AutomaticEngine(["memory", "ok"])
    campaign = begin(engine, retries=1)
    campaign.submit([task])
    (result,) = wait_for_results(campaign, [task])
    assert (result.status, result.attempts) == ("ok", 2)


@pytest.mark.parametrize(
    "kind", ["pyhf.exceptions.InvalidModel", "pyhf.exceptions.FailedMinimization", "ValueError"]
)
def test_an_exception_of_pyhf_is_an_answer_and_never_tried_again(begin, kind):
    tasks = toy_tasks(2)
    engine = ScriptedEngine(workers=2)
    campaign = begin(engine, retries=5)
    campaign.submit(tasks)
    engine.wait_for(1).answer(errors={tasks[0].key: kind})
    engine.wait_for(2).answer()
    wrong, right = wait_for_results(campaign, tasks)
    assert (wrong.status, wrong.error.type, wrong.attempts) == ("error", kind, 1)
    assert right.status == "ok"
    assert len(engine.submissions) == 2
    assert campaign.progress().failed == 1


def test_an_exception_that_no_engine_should_give_is_a_lost_worker(begin):
    (task,) = toy_tasks(1)
    engine = AutomaticEngine(["strange", "strange"])
    campaign = begin(engine, retries=1)
    campaign.submit([task])
    (result,) = wait_for_results(campaign, [task])
    assert result.status == "broken"
    assert "ZeroDivisionError" in result.error.message
    assert len(engine.submissions) == 2


@pytest.mark.parametrize("how", ["broken", "unusable", "refused", "late"])
def test_a_broken_engine_is_replaced_and_what_it_held_is_sent_again(begin, how):
    tasks = toy_tasks(10)
    engine = AutomaticEngine(["ok", how])
    campaign = begin(engine, retries=0)
    campaign.submit(tasks)
    results = wait_for_results(campaign, tasks)
    assert statuses(results) == ["ok"] * 10
    assert {result.attempts for result in results} == {1}
    assert engine.restarts == 1
    assert set(engine.sent) == {task.key for task in tasks}


@pytest.mark.parametrize("how", ["broken", "unusable", "refused"])
def test_an_engine_that_breaks_again_and_again_is_given_up(begin, how):
    tasks = toy_tasks(6)
    engine = AutomaticEngine([how] * 1000)
    campaign = begin(engine, retries=5)
    campaign.submit(tasks)
    results = wait_for_results(campaign, tasks)
    assert statuses(results) == ["broken"] * 6
    assert engine.restarts == POLICY.restarts
    for result in results:
        assert result.error.message.startswith(
            f"the engine scripted broke down {POLICY.restarts + 1} times in a row without any "
            "answer"
        )
    sent = len(engine.submissions)
    (late,) = toy_tasks(1, "late")
    campaign.submit([late])
    (result,) = wait_for_results(campaign, [late])
    assert result.status == "broken"
    assert "broke down" in result.error.message
    assert len(engine.submissions) == sent


def test_an_engine_that_breaks_now_and_then_is_not_given_up(begin):
    tasks = toy_tasks(3 * POLICY.restarts)
    engine = AutomaticEngine(["unusable", "ok"] * (3 * POLICY.restarts), workers=1)
    campaign = begin(engine)
    for task in tasks:  # one at a time, so that a result lies between two failures
        campaign.submit([task])
        (result,) = wait_for_results(campaign, [task])
        assert result.status == "ok"
    assert engine.restarts == 3 * POLICY.restarts


def test_answers_of_a_replaced_engine_are_not_taken(begin):
    tasks = toy_tasks(2)
    taken = []
    engine = ScriptedEngine(workers=1)
    campaign = begin(engine, on_result=taken.append)
    campaign.submit(tasks)
    first, second = engine.wait_for(1), engine.wait_for(2)
    first.fail(EngineError("the pool broke down"))
    again = engine.wait_for(3), engine.wait_for(4)
    second.answer(worker="toy:gone")
    for sent in again:
        sent.answer(worker="toy:new")
    results = wait_for_results(campaign, tasks)
    campaign.drain()
    assert {result.worker for result in results} == {"toy:new"}
    assert len(taken) == 2


def test_a_future_that_the_engine_cancels_does_not_hang_its_fits(begin):
    (task,) = toy_tasks(1)
    engine = ScriptedEngine()
    campaign = begin(engine, retries=1)
    campaign.submit([task])
    sent = engine.wait_for(1)
    sent.future._state = "PENDING"  # an engine that never marks its futures as running
    assert sent.future.cancel()
    engine.wait_for(2).answer()
    assert statuses(wait_for_results(campaign, [task])) == ["ok"]


def test_an_engine_is_restarted_while_its_last_answers_still_arrive(begin):
    # Pebble joins the threads that run its callbacks when it is stopped.
    class JoiningEngine(ScriptedEngine):
        callbacks_ended = None

        def restart(self):
            stranded = [s for s in self.submissions if not s.future.done()]
            thread = threading.Thread(target=lambda: [s.answer() for s in stranded])
            thread.start()
            thread.join(3.0)
            self.callbacks_ended = not thread.is_alive()
            super().restart()

    tasks = toy_tasks(4)
    engine = JoiningEngine(workers=2)
    campaign = begin(engine)
    campaign.submit(tasks)
    engine.wait_for(4)
    engine.submissions[0].fail(EngineError("the pool broke down"))
    for number in range(4, 8):
        engine.wait_for(number + 1).answer()
    assert statuses(wait_for_results(campaign, tasks)) == ["ok"] * 4
    assert engine.callbacks_ended, "the campaign's lock was held while the engine was restarted"


@pytest.mark.parametrize("retries", [0, 1])
def test_an_answer_that_makes_no_sense_costs_its_batch_an_attempt_and_no_other(begin, retries):
    tasks = toy_tasks(5)
    engine = ScriptedEngine(workers=1)
    campaign = begin(engine, retries=retries)
    campaign.submit(tasks)
    engine.wait_for(1).future.set_result({"worker": "toy:1"})
    for number in range(2, 6 + retries):
        engine.wait_for(number).answer()
    first, *others = wait_for_results(campaign, tasks)
    assert statuses(others) == ["ok"] * 4
    assert {result.attempts for result in others} == {1}
    assert (first.status, first.attempts) == (("ok", 2) if retries else ("broken", 1))
    if not retries:
        assert "an answer that cannot be read ('environment' is missing)" in first.error.message
    campaign.drain()


@pytest.mark.parametrize("error", [ValueError("no number"), OSError(28, "No space left")])
@pytest.mark.parametrize("listener", ["on_result", "is_failure", "on_record"])
def test_a_listener_that_fails_ends_no_fit_and_is_reported(begin, listener, error):
    def fail(*_arguments):
        raise error

    tasks = toy_tasks(5)
    campaign = begin(AutomaticEngine(["error"]), **{listener: fail})
    campaign.submit(tasks)
    assert sorted(statuses(wait_for_results(campaign, tasks))) == ["error", *["ok"] * 4]
    assert campaign.progress().done == 5
    assert f"could not be recorded in full ({type(error).__name__}: {error})" in campaign.problem
    assert "--faas-resume" in campaign.problem


def test_a_result_is_noted_although_nobody_knows_whether_it_is_a_failure(begin):
    def fail(*_arguments):
        raise ValueError("the reference file cannot be used")

    taken = []
    tasks = toy_tasks(2)
    campaign = begin(AutomaticEngine(), is_failure=fail, on_result=taken.append)
    campaign.submit(tasks)
    wait_for_results(campaign, tasks)
    assert len(taken) == 2


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_campaign_that_fails_itself_leaves_no_fit_waiting(begin, monkeypatch):
    def fail(*_arguments, **_options):
        raise LookupError("there is no such payload")

    monkeypatch.setattr(loop, "batch_payload", fail)
    tasks, late = toy_tasks(5), toy_tasks(1, "late")
    engine = ScriptedEngine()
    campaign = begin(engine)
    campaign.submit(tasks)
    results = wait_for_results(campaign, tasks)
    assert statuses(results) == ["broken"] * 5
    assert (
        "the campaign failed: LookupError('there is no such payload')" in results[0].error.message
    )
    campaign.drain()
    campaign.submit(late)
    (result,) = wait_for_results(campaign, late)
    assert "the campaign failed: LookupError" in result.error.message
    wait_until(lambda: engine.stops, "the engine is stopped")


def test_unreadable_expected_times_leave_no_fit_waiting(begin):
    def expected_s(task):
        if task.patch.name == "toy_002":
            raise ValueError("the reference file cannot be used")

    tasks = toy_tasks(4)
    campaign = begin(AutomaticEngine(), expected_s=expected_s)
    with pytest.raises(ValueError, match="cannot be used"):
        campaign.submit(tasks)
    wait_for_results(campaign, [task for task in tasks if task in campaign])
    assert campaign.progress().done == campaign.progress().total


def test_a_caller_cannot_cancel_a_fit_that_others_wait_for(begin):
    tasks = toy_tasks(2)
    engine = ScriptedEngine()
    campaign = begin(engine)
    campaign.submit(tasks)
    assert not campaign.result(tasks[0]).cancel()
    for number in (1, 2):
        engine.wait_for(number).answer()
    assert statuses(wait_for_results(campaign, tasks)) == ["ok"] * 2
    campaign.drain()


# Stopping


def test_cancelling_ends_everything_at_once(begin):
    tasks = toy_tasks(10)
    taken = []
    engine = ScriptedEngine(workers=2)
    campaign = begin(engine, on_result=taken.append)
    campaign.submit(tasks)
    engine.wait_for(4)
    engine.submissions[0].answer()
    wait_for_results(campaign, tasks[:1])
    campaign.cancel("the user pressed Ctrl-C")
    assert all(campaign.result(task).done() for task in tasks)
    results = wait_for_results(campaign, tasks)
    assert statuses(results) == ["ok"] + ["cancelled"] * 9
    assert "the user pressed Ctrl-C" in results[1].error.message
    assert [result.status for result in taken] == ["ok"]
    assert not engine.started
    assert not [t for t in threading.enumerate() if t is campaign._loop._thread]
    campaign.drain()


def test_what_is_submitted_after_cancelling_is_cancelled(begin):
    tasks = toy_tasks(4)
    engine = ScriptedEngine()
    campaign = begin(engine)
    campaign.cancel("too late")
    campaign.submit(tasks)
    assert statuses(wait_for_results(campaign, tasks)) == ["cancelled"] * 4
    assert engine.submissions == []
    campaign.drain()


def test_answers_after_cancelling_change_nothing(begin):
    tasks = toy_tasks(2)
    engine = ScriptedEngine(workers=1)
    campaign = begin(engine)
    campaign.submit(tasks)
    engine.wait_for(2)
    campaign.cancel("enough")
    for sent in engine.submissions:
        sent.answer()
    assert statuses(wait_for_results(campaign, tasks)) == ["cancelled"] * 2


def test_cancelling_twice_keeps_the_first_reason(begin):
    tasks = toy_tasks(1)
    campaign = begin(ScriptedEngine())
    campaign.submit(tasks)
    campaign.cancel("first")
    campaign.cancel("second")
    (result,) = wait_for_results(campaign, tasks)
    assert result.error.message == "first"


def test_cancelling_while_a_batch_is_being_sent_leaves_the_engine_stopped(begin):
    class SlowToTake(ScriptedEngine):
        def __init__(self):
            super().__init__()
            self.reached, self.stopped = threading.Event(), threading.Event()

        def submit(self, function, /, *args, timeout_s=None):
            self.reached.set()
            assert self.stopped.wait(PATIENCE_S)
            return super().submit(function, *args, timeout_s=timeout_s)

        def stop(self):
            super().stop()
            self.stopped.set()

    (task,) = toy_tasks(1)
    engine = SlowToTake()
    campaign = begin(engine)
    campaign.submit([task])
    assert engine.reached.wait(PATIENCE_S)
    campaign.cancel("the user pressed Ctrl-C")
    assert not engine.started


def test_cancelling_during_a_restart_leaves_the_engine_stopped(begin):
    class SlowToRestart(ScriptedEngine):
        def __init__(self):
            super().__init__()
            self.reached, self.go_on = threading.Event(), threading.Event()

        def restart(self):
            self.reached.set()
            assert self.go_on.wait(PATIENCE_S)
            super().restart()

    (task,) = toy_tasks(1)
    engine = SlowToRestart()
    campaign = begin(engine)
    campaign.submit([task])
    engine.wait_for(1).fail(EngineError("the pool broke down"))
    assert engine.reached.wait(PATIENCE_S)
    threading.Timer(0.1, engine.go_on.set).start()
    campaign.cancel("the user pressed Ctrl-C")
    assert not engine.started
    assert statuses(wait_for_results(campaign, [task])) == ["cancelled"]


# Waiting, adopting, counting


def test_drain_waits_for_all_and_ticks_meanwhile(begin):
    tasks = toy_tasks(3)
    engine = ScriptedEngine(workers=3)
    campaign = begin(engine)
    campaign.submit(tasks)
    engine.wait_for(3)
    ticks = []

    def tick():
        ticks.append(campaign.progress().done)
        if len(ticks) <= 3:
            engine.submissions[len(ticks) - 1].answer()

    campaign.drain(tick)
    assert len(ticks) >= 3
    assert all(campaign.result(task).done() for task in tasks)


def test_drain_of_an_idle_campaign_returns(begin):
    begin(ScriptedEngine()).drain()


def test_an_adopted_result_is_not_fitted(begin):
    tasks = toy_tasks(3)
    engine = AutomaticEngine()
    campaign = begin(engine)
    old = toy_result(tasks[0], pallet="another name", patch="another patch", CLs_obs=0.5)
    campaign.adopt(tasks[0], old)
    assert tasks[0] in campaign
    assert tasks[1] not in campaign
    campaign.submit(tasks)
    results = wait_for_results(campaign, tasks)
    assert results[0].CLs_obs == 0.5
    assert (results[0].pallet, results[0].patch) == ("toy", "toy_000")
    assert sorted(engine.sent) == sorted(task.key for task in tasks[1:])
    assert campaign.progress().total == campaign.progress().done == 2


def test_one_fit_serves_tasks_of_equal_content_and_each_has_its_own_name(begin):
    (task,) = toy_tasks(1)
    other = replace(task, patch=replace(task.patch, name="other"))
    engine = AutomaticEngine()
    campaign = begin(engine)
    campaign.submit([task, other])
    results = wait_for_results(campaign, [task, other])
    assert [result.patch for result in results] == [task.patch.name, "other"]
    assert engine.sent == [task.key]


def test_progress_counts_fits(begin):
    tasks = toy_tasks(8)
    engine = ScriptedEngine(workers=2)
    campaign = begin(engine)
    nothing = campaign.progress()
    assert (nothing.total, nothing.done, nothing.running, nothing.failed) == (0, 0, 0, 0)
    assert (nothing.elapsed_s, nothing.rate, nothing.left_s) == (0.0, 0.0, None)
    campaign.submit(tasks)
    engine.wait_for(4)
    begun = campaign.progress()
    assert (begun.total, begun.done, begun.running, begun.left_s) == (8, 0, 2, None)
    engine.submissions[0].answer(fit_s=3.0)
    engine.submissions[1].answer(errors={engine.submissions[1].keys[0]: "ValueError"})
    engine.submissions[2].time_out()
    engine.wait_for(7)
    wait_until(lambda: campaign.progress().done == 3, "three fits are done")
    now = campaign.progress()
    assert (now.total, now.done, now.running, now.failed) == (8, 3, 2, 2)
    assert now.left_s == pytest.approx(5 * 3.0 / 2)
    assert now.rate == pytest.approx(3 / now.elapsed_s)


def test_progress_counts_as_failed_what_it_is_told_to(begin):
    tasks = toy_tasks(4)

    def is_failure(task, result):
        return result.status == "timeout" or task is tasks[0]

    engine = AutomaticEngine(["error", "error", "timeout", "ok"], workers=1)
    campaign = begin(engine, is_failure=is_failure)
    campaign.submit(tasks)
    statuses_found = statuses(wait_for_results(campaign, tasks))
    assert statuses_found == ["error", "error", "timeout", "ok"]
    assert campaign.progress().failed == 2  # the second exception was the right answer


def test_the_time_left_follows_the_references_scaled_to_this_machine(begin):
    tasks = toy_tasks(6)
    expected = {task.key: float(6 - number) for number, task in enumerate(tasks)}
    engine = ScriptedEngine(workers=1)
    campaign = begin(engine, expected_s=lambda task: expected[task.key])
    campaign.submit(tasks)
    engine.wait_for(1).answer(fit_s=12.0)  # expected 6 s
    engine.wait_for(3)
    assert campaign.progress().left_s == pytest.approx(2 * (5 + 4 + 3 + 2 + 1))


def test_progress_begins_again_with_the_next_fits(begin):
    first, second = toy_tasks(3, "first"), toy_tasks(2, "second")
    campaign = begin(AutomaticEngine(["error"]))
    campaign.submit(first)
    campaign.drain()
    assert (campaign.progress().total, campaign.progress().failed) == (3, 1)
    campaign.submit(second)
    campaign.drain()
    assert (campaign.progress().total, campaign.progress().done) == (2, 2)
    assert campaign.progress().failed == 0


# Measuring


class TimedEngine(AutomaticEngine):
    """Two workers that take turns and say where their time went."""

    startup_s = 0.0

    def start(self):
        if not self.started:
            self.first_answer_at = time.monotonic() + self.startup_s
        super().start()

    def _do(self, word, submission):
        assert word == "ok"
        time.sleep(max(0.0, self.first_answer_at - time.monotonic()) + 7e-3)
        number = len([s for s in self.submissions if s.future.done()])
        submission.answer(worker=f"toy:{number % 2}", unpack_s=0.5e-3, total_s=6e-3, fit_s=1e-3)


def parts_of(trial):
    return {name: getattr(trial, f"{name}_s") for name in PARTS}


@pytest.mark.parametrize("startup_s", [0.0, 0.05])
def test_the_parts_of_a_measured_time_add_up(begin, startup_s):
    tasks = toy_tasks(10)
    engine = TimedEngine()
    engine.startup_s = startup_s
    campaign = begin(engine)
    trial = campaign.measure(tasks)
    assert (trial.fits, trial.workers) == (10, 2)
    parts = parts_of(trial)
    assert sum(parts.values()) == pytest.approx(trial.workers * trial.wall_s, rel=1e-12)
    assert parts["fit"] == pytest.approx(10 * 1e-3)
    assert parts["build"] == pytest.approx(10 * 2e-3)
    assert parts["unpack"] == pytest.approx(10 * (1e-3 + 0.5e-3))
    assert parts["overhead"] == pytest.approx(10 * (6e-3 - 1e-3 - 2e-3 - 1.5e-3))
    # They take turns: what lies between two tasks of one is a task of the other, and more.
    assert parts["transfer"] >= 8 * (2 * 7e-3 - 6e-3)
    assert parts["startup"] == pytest.approx(2 * startup_s, abs=0.04)
    assert parts["idle"] >= 0
    assert parts["unattributed"] == pytest.approx(0, abs=0.02 * trial.wall_s)


def test_measuring_fits_again_each_time(begin):
    tasks = toy_tasks(6)
    engine = TimedEngine()
    campaign = begin(engine)
    campaign.submit(tasks)
    before = wait_for_results(campaign, tasks)
    trials = [campaign.measure(tasks) for _ in range(2)]
    assert Counter(engine.sent) == {task.key: 3 for task in tasks}
    after = wait_for_results(campaign, tasks)
    assert all(new is not old for new, old in zip(after, before, strict=True))
    for trial in trials:
        assert trial.startup_s == 0.0  # the engine was up
        assert trial.fit_s == pytest.approx(6 * 1e-3)
        assert sum(parts_of(trial).values()) == pytest.approx(2 * trial.wall_s, rel=1e-12)


def test_measuring_waits_for_what_is_under_way(begin):
    earlier, measured = toy_tasks(2, "earlier"), toy_tasks(2, "measured")
    engine = ScriptedEngine(workers=2)
    campaign = begin(engine)
    campaign.submit(earlier)
    engine.wait_for(2)
    trials = []
    thread = threading.Thread(target=lambda: trials.append(campaign.measure(measured)))
    thread.start()
    engine.submissions[0].answer()
    wait_for_results(campaign, earlier[:1])
    assert len(engine.submissions) == 2
    engine.submissions[1].answer()
    for number in (3, 4):
        engine.wait_for(number).answer(fit_s=1e-6)
    thread.join(PATIENCE_S)
    (trial,) = trials
    assert trial.fits == 2
    assert trial.fit_s == pytest.approx(2e-6)


def test_a_measured_time_counts_fits_that_broke_as_idle(begin):
    tasks = toy_tasks(4)
    campaign = begin(AutomaticEngine(["timeout", "lost"]))
    trial = campaign.measure(tasks)
    assert sum(parts_of(trial).values()) == pytest.approx(2 * trial.wall_s, rel=1e-12)
    assert trial.fit_s == pytest.approx(2 * 0.01)


def test_a_trial_says_what_was_lost_meanwhile(begin):
    tasks = toy_tasks(4)
    campaign = begin(AutomaticEngine(["ok", "block_lost"]))
    assert campaign.measure(tasks).lost == {"block lost": 1}
    assert campaign.measure(tasks).lost == {}


def test_an_engine_restarted_while_it_is_measured_gives_no_negative_times(begin):
    class RestartedEngine(ScriptedEngine):
        def restart(self):
            super().restart()
            self.first_answer_at = time.monotonic()

    tasks = toy_tasks(2)
    engine = RestartedEngine(workers=1)
    campaign = begin(engine)
    trials = []
    thread = threading.Thread(target=lambda: trials.append(campaign.measure(tasks)))
    engine.start()
    engine.first_answer_at = time.monotonic()
    thread.start()
    first = engine.wait_for(1)
    engine.wait_for(2)
    time.sleep(0.1)  # the worker fits
    first.answer(fit_s=0.09)
    engine.submissions[1].fail(EngineError("the pool broke down"))
    again = engine.wait_for(3)
    time.sleep(0.01)
    again.answer(fit_s=0.0, worker="toy:2")
    thread.join(PATIENCE_S)
    (trial,) = trials
    assert sum(parts_of(trial).values()) == pytest.approx(trial.wall_s, rel=1e-12)
    assert trial.fit_s == pytest.approx(0.09)
    assert min(parts_of(trial).values()) >= 0


# Whatever happens

WORDS = ["ok", "lost", "timeout", "memory", "error", "strange", "held"]
FATAL_WORDS = ["refused", "unusable", "broken", "late"]


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    script=st.lists(st.sampled_from(WORDS * 2 + FATAL_WORDS), max_size=40),
    count=st.integers(1, 24),
    workers=st.integers(1, 3),
    retries=st.integers(0, 2),
    expected=st.lists(st.sampled_from([None, 0.01, 0.1, 3.0]), min_size=24, max_size=24),
)
def test_whatever_the_engine_does_every_fit_ends_exactly_once(
    script, count, workers, retries, expected
):
    tasks = toy_tasks(count)
    times = {task.key: known for task, known in zip(tasks, expected, strict=False)}
    taken = []
    engine = AutomaticEngine(script, workers, batch_s=0.25)
    campaign = Campaign(
        engine,
        Policy(retries=retries),
        expected_s=lambda task: times[task.key],
        on_result=taken.append,
    )
    try:
        campaign.submit(tasks)
        results = wait_for_results(campaign, tasks)
        campaign.drain()
        progress = campaign.progress()
    finally:
        campaign.cancel("the example is over")
        engine.end()
    assert [result.key for result in results] == [task.key for task in tasks]
    assert Counter(result.key for result in taken) == {task.key: 1 for task in tasks}
    assert {result.status for result in results} <= {"ok", "error", "broken", "timeout"}
    assert (progress.total, progress.done) == (count, count)
    assert progress.failed == sum(result.status != "ok" for result in results)
    assert all(result.attempts <= retries + 1 for result in results)
    assert engine.most_in_flight <= IN_FLIGHT * workers * (engine.restarts + 1)
    harmless = set(script) <= {"ok", "held"}
    if harmless:
        assert statuses(results) == ["ok"] * count
        assert Counter(engine.sent) == {task.key: 1 for task in tasks}
    if "unusable" not in script and not set(script) & set(FATAL_WORDS):
        assert engine.restarts == 0
        # Once for each attempt that counts, and once more in a batch that was split.
        assert max(Counter(engine.sent).values()) <= retries + 2
