"""What a campaign does about each trouble, rule by rule."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from functools import partial

import pytest

from pytest_pyhf_faas.campaign import loop
from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.policy import Policy
from pytest_pyhf_faas.engines.base import IN_FLIGHT
from pytest_pyhf_faas.errors import (
    BlockLostError,
    ConfigurationError,
    EndpointUnusableError,
    EngineError,
    RemoteCallError,
    TaskTimeoutError,
    WorkerLostError,
)
from tests.helpers.scripted_engine import (
    AutomaticEngine,
    ScriptedEngine,
    toy_tasks,
    wait_for_results,
    wait_until,
)
from tests.helpers.stepped import Clock, NotedCampaign

pytestmark = pytest.mark.timeout(300)

POLICY = Policy()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def begin(clock):
    """Make campaigns that take steps, and take note of what they tell."""
    return partial(NotedCampaign, clock=clock)


def remote_engine(workers=1, **attributes):
    """An engine that does not notice when a worker hangs."""
    engine = ScriptedEngine(workers, attributes.pop("batch_s", 0.0))
    engine.watches_workers = False
    for name, value in attributes.items():
        setattr(engine, name, value)
    return engine


def submit(campaign, tasks):
    campaign.submit(tasks)
    campaign.go_on()


def held(engine):
    """What the engine has not answered yet, oldest first."""
    return [sent for sent in engine.submissions if not sent.future.done()]


def holds(engine, task):
    return any(task.key in sent.keys for sent in held(engine))


def answer_all(campaign, engine, since=0, **timing):
    """Answer all that is sent, until nothing is."""
    while waiting := [s for s in engine.submissions[since:] if not s.future.done()]:
        for sent in waiting:
            sent.answer(**timing)
        campaign.go_on()


def results_of(campaign, tasks):
    futures = [campaign.result(task) for task in tasks]
    assert all(future.done() for future in futures)
    return [future.result() for future in futures]


def statuses(campaign, tasks):
    return [result.status for result in results_of(campaign, tasks)]


def keys(tasks):
    return [task.key for task in tasks]


def told(campaign, tasks):
    """The events as (kind, number of the task, attempt)."""
    numbers = {task.key: number for number, task in enumerate(tasks)}
    return [(event.kind, numbers[event.key], event.attempt) for event in campaign.events]


def after(engine, count):
    """The keys that were sent after the first so many batches."""
    return [sent.keys for sent in engine.submissions[count:]]


# Blocks that are lost


@pytest.mark.parametrize("losses", [1, 2, POLICY.losses])
def test_the_loss_of_its_block_costs_a_fit_no_attempt(begin, losses):
    (task,) = toy_tasks(1)
    engine = ScriptedEngine()
    campaign = begin(engine, retries=0)
    submit(campaign, [task])
    for number in range(losses):
        engine.submissions[number].lose_block()
        campaign.go_on()
    engine.submissions[losses].answer()
    campaign.go_on()
    (result,) = results_of(campaign, [task])
    assert (result.status, result.attempts) == ("ok", 1)
    assert engine.restarts == 0


def test_a_fit_that_loses_its_block_too_often_is_broken(begin):
    (task,) = toy_tasks(1)
    engine = ScriptedEngine()
    campaign = begin(engine, retries=5)
    submit(campaign, [task])
    for number in range(POLICY.losses + 1):
        engine.submissions[number].lose_block()
        campaign.go_on()
    (result,) = results_of(campaign, [task])
    assert result.status == "broken"
    assert len(engine.submissions) == POLICY.losses + 1
    message = result.error.message
    assert "its block is gone. This fit was there 4 times when that happened" in message
    assert "with nothing else on the engine" in message
    assert message.count("\nattempt ") == POLICY.losses
    assert engine.restarts == 0


def test_what_lost_its_block_once_goes_on_among_the_others_but_in_a_batch_of_its_own(begin):
    tasks = toy_tasks(20)
    engine = ScriptedEngine(workers=1, batch_s=10.0)
    campaign = begin(engine, expected_s=lambda _task: 0.01)
    submit(campaign, tasks)
    first, second = held(engine)
    assert len(first.keys) == 5
    first.lose_block()
    campaign.go_on()
    assert len(held(engine)) == IN_FLIGHT
    assert second in held(engine)
    answer_all(campaign, engine)
    assert statuses(campaign, tasks) == ["ok"] * 20
    again = [sent for sent in engine.submissions[1:] if set(sent.keys) & set(first.keys)]
    assert [len(sent.keys) for sent in again] == [1] * 5
    assert any(len(sent.keys) > 1 for sent in engine.submissions[2:])


def with_suspects(begin, others=0, **options):
    """A campaign whose engine holds, of two suspects, the first alone; and the others are done."""
    tasks = toy_tasks(2 + others)
    engine = ScriptedEngine(workers=2)
    campaign = begin(engine, **options)
    submit(campaign, tasks[:2])
    for _ in range(2):
        for sent in held(engine):
            sent.lose_block()
        campaign.go_on()
    return campaign, engine, tasks


def test_a_suspect_is_alone_on_the_engine_and_nothing_is_sent_meanwhile(begin):
    campaign, engine, tasks = with_suspects(begin, others=6)
    (quarantined,) = held(engine)
    assert quarantined.keys == [tasks[0].key]
    submit(campaign, tasks[2:])
    campaign.go_on()
    assert held(engine) == [quarantined]
    quarantined.answer()
    campaign.go_on()
    # What is no suspect goes first, and the other suspect waits until all of it is done.
    while campaign.progress().done < 7:
        assert not holds(engine, tasks[1])
        held(engine)[-1].answer()
        campaign.go_on()
    assert [sent.keys for sent in held(engine)] == [[tasks[1].key]]
    answer_all(campaign, engine)
    assert statuses(campaign, tasks) == ["ok"] * 8


def test_a_suspect_waits_for_what_is_still_in_flight(begin):
    tasks = toy_tasks(3)
    engine = ScriptedEngine(workers=2)
    campaign = begin(engine)
    submit(campaign, tasks)
    for _ in range(2):
        (suspect,) = [sent for sent in held(engine) if sent.keys == [tasks[2].key]]
        suspect.lose_block()
        campaign.go_on()
    for remaining in (2, 1):
        assert len(held(engine)) == remaining
        assert not holds(engine, tasks[2])
        held(engine)[0].answer()
        campaign.go_on()
    assert [sent.keys for sent in held(engine)] == [[tasks[2].key]]


def test_of_the_suspects_those_with_fewer_losses_come_first(begin):
    campaign, engine, tasks = with_suspects(begin)
    assert [sent.keys for sent in held(engine)] == [[tasks[0].key]]
    held(engine)[0].lose_block()
    campaign.go_on()
    assert [sent.keys for sent in held(engine)] == [[tasks[1].key]]
    (later,) = toy_tasks(1, "later")
    submit(campaign, [later])
    held(engine)[0].answer()
    campaign.go_on()
    for _ in range(2):
        assert [sent.keys for sent in held(engine)] == [[later.key]]
        held(engine)[0].lose_block()
        campaign.go_on()
    # By now both are suspects; the first has more losses, though it has waited longer.
    assert [sent.keys for sent in held(engine)] == [[later.key]]
    held(engine)[0].answer()
    campaign.go_on()
    assert [sent.keys for sent in held(engine)] == [[tasks[0].key]]


@pytest.mark.parametrize("error", [WorkerLostError, RemoteCallError])
def test_a_suspect_stays_one_when_something_else_befalls_it(begin, error):
    campaign, engine, tasks = with_suspects(begin, others=3, retries=1)
    submit(campaign, tasks[2:])
    held(engine)[0].fail(error("something else"))
    campaign.go_on()
    while campaign.progress().done < 3:
        assert not holds(engine, tasks[0])
        held(engine)[0].answer()
        campaign.go_on()


class Poisoned:
    """An engine of one block, in which some fits bring down more than themselves."""

    def __init__(self, campaign, engine, poison, how):
        self.campaign, self.engine, self.poison, self.how = campaign, engine, poison, how
        self.dead = set()

    def run(self):
        """Go on until nothing is left."""
        for _ in range(1000):
            self.campaign.go_on()
            alive = [sent for sent in held(self.engine) if id(sent) not in self.dead]
            if not alive:
                return
            running = alive[: self.engine.workers]
            if not any(set(sent.keys) & self.poison for sent in running):
                running[-1].answer()  # the last one first: any order is as good
            elif self.how == "block":
                for sent in running:
                    sent.lose_block()
            elif self.how == "future":
                self.dead.update(map(id, alive))
                running[0].fail(EngineError("the interchange died"))
            else:
                self.dead.update(map(id, alive))
                self.engine.failure = "the interchange died"
                self.engine.is_broken = True
        raise AssertionError("it never ends")


@pytest.mark.parametrize("how", ["block", "future", "broken"])
@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("place", [0, 5, 11])
def test_innocents_of_lost_blocks_and_engines_are_fitted_and_only_the_poison_is_broken(
    begin, how, workers, place
):
    tasks = toy_tasks(12)
    engine = ScriptedEngine(workers)
    # Known times make the poison's neighbours the same again and again.
    expected = {task.key: 20.0 - number for number, task in enumerate(tasks)}
    campaign = begin(engine, retries=0, expected_s=lambda task: expected[task.key])
    campaign.submit(tasks)
    Poisoned(campaign, engine, {tasks[place].key}, how).run()
    found = statuses(campaign, tasks)
    assert found.pop(place) == "broken"
    assert found == ["ok"] * 11
    assert engine.sent.count(tasks[place].key) == POLICY.losses + 1
    assert max(Counter(engine.sent).values()) == POLICY.losses + 1
    assert all(result.attempts == 1 for result in results_of(campaign, tasks))
    alone = [sent.keys for sent in engine.submissions if sent.keys == [tasks[place].key]]
    assert len(alone) >= POLICY.losses - 1


@pytest.mark.parametrize("poisoned", [{0, 1}, {0, 11}, {3, 4, 5}, {0, 2, 4, 6, 8, 10}])
def test_several_that_take_their_blocks_down_are_all_found(begin, poisoned):
    tasks = toy_tasks(12)
    engine = ScriptedEngine(workers=4)
    campaign = begin(engine, expected_s=lambda _task: 1.0)
    campaign.submit(tasks)
    Poisoned(campaign, engine, {tasks[number].key for number in poisoned}, "block").run()
    found = statuses(campaign, tasks)
    assert {number for number, status in enumerate(found) if status == "broken"} == poisoned
    assert found.count("ok") == 12 - len(poisoned)
    assert max(Counter(engine.sent).values()) == POLICY.losses + 1


def test_a_batch_with_a_poison_in_it_is_split_and_the_rest_of_it_is_fitted(begin):
    tasks = toy_tasks(16)
    engine = ScriptedEngine(workers=1, batch_s=10.0)
    campaign = begin(engine, expected_s=lambda _task: 0.01)
    campaign.submit(tasks)
    Poisoned(campaign, engine, {tasks[1].key}, "block").run()
    found = statuses(campaign, tasks)
    assert found.pop(1) == "broken"
    assert found == ["ok"] * 15


# Engines that break down


def test_why_an_engine_broke_down_is_reported(begin):
    (task,) = toy_tasks(1)
    engine = ScriptedEngine()
    campaign = begin(engine)
    submit(campaign, [task])
    engine.failure = "the interchange of htex died (-9)"
    engine.is_broken = True
    campaign.go_on()
    assert [(event.kind, event.text) for event in campaign.events[1:2]] == [
        ("engine lost", "the interchange of htex died (-9)")
    ]
    assert engine.restarts == 1


def test_the_second_breakdown_of_its_engine_makes_a_fit_a_suspect(begin):
    tasks = toy_tasks(6)
    engine = ScriptedEngine(workers=2)
    campaign = begin(engine)
    submit(campaign, tasks)
    for _ in range(2):
        count = len(engine.submissions)
        engine.is_broken = True
        campaign.go_on()
    # The first two were there both times.
    assert after(engine, count) == [[task.key] for task in tasks[2:]]
    for number in range(4):
        assert len(engine.submissions) == count + 4
        engine.submissions[count + number].answer()
        campaign.go_on()
    assert after(engine, count + 4) == [[tasks[0].key]]
    answer_all(campaign, engine, since=count)
    assert statuses(campaign, tasks) == ["ok"] * 6


def test_an_answer_between_its_breakdowns_keeps_an_engine(begin):
    tasks = toy_tasks(2 * POLICY.restarts + 2)
    engine = ScriptedEngine(workers=1)
    campaign = begin(engine)
    for task in tasks:
        submit(campaign, [task])
        engine.submissions[-1].fail(EngineError("it broke"))
        campaign.go_on()
        engine.submissions[-1].answer()
        campaign.go_on()
    assert statuses(campaign, tasks) == ["ok"] * len(tasks)
    assert engine.restarts == len(tasks)


def test_an_engine_that_cannot_be_restarted_ends_all_with_its_text(begin):
    class Gone(ScriptedEngine):
        def restart(self):
            raise ConfigurationError("the Parsl configuration is gone")

    tasks = toy_tasks(4)
    engine = Gone(workers=1)
    campaign = begin(engine)
    submit(campaign, tasks)
    engine.is_broken = True
    campaign.go_on()
    results = results_of(campaign, tasks)
    assert {(r.status, r.error.first_line) for r in results} == {
        ("broken", "the Parsl configuration is gone")
    }


# Silence


def silence_limit(timeout_s):
    return POLICY.silence_s + IN_FLIGHT * timeout_s


def test_a_silent_engine_is_replaced(begin, clock):
    (task,) = toy_tasks(1)
    engine = remote_engine()
    campaign = begin(engine, timeout_s=50.0, retries=1)
    submit(campaign, [task])
    clock.now += silence_limit(50.0)
    campaign.go_on()
    assert engine.restarts == 0
    clock.now += 1.0
    campaign.go_on()
    assert engine.restarts == 1
    assert told(campaign, [task]) == [("sent", 0, 1), ("silence", 0, 1), ("sent", 0, 1)]
    assert campaign.events[1].text == (
        "no answer came for 401 s, where 400 s are enough for all that was sent"
    )
    held(engine)[-1].answer()
    campaign.go_on()
    (result,) = results_of(campaign, [task])
    assert (result.status, result.attempts) == ("ok", 1)


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_a_fit_that_is_never_answered_ends_as_a_timeout_after_its_retries(begin, clock, retries):
    (task,) = toy_tasks(1)
    engine = remote_engine()
    campaign = begin(engine, timeout_s=50.0, retries=retries)
    submit(campaign, [task])
    for number in range(retries + 1):
        assert len(engine.submissions) == number + 1
        clock.now += silence_limit(50.0) + 1.0
        campaign.go_on()
    (result,) = results_of(campaign, [task])
    assert result.status == "timeout"
    assert "no answer came for 401 s" in result.error.message
    assert result.error.message.count("\nattempt ") == retries
    assert len(engine.submissions) == retries + 1
    assert engine.restarts == retries + 1  # also after the last: its worker still hangs


def test_a_fit_that_is_never_answered_is_a_timeout_whatever_the_retries(begin, clock):
    task, other = toy_tasks(2)
    engine = remote_engine()
    campaign = begin(engine, timeout_s=50.0, retries=5)
    submit(campaign, [task])
    for _ in range(6):
        clock.now += silence_limit(50.0) + 1.0
        campaign.go_on()
    assert statuses(campaign, [task]) == ["timeout"]
    # Before its engine would be given up, and the others with it.
    assert len(engine.submissions) == engine.restarts == POLICY.restarts
    submit(campaign, [other])
    answer_all(campaign, engine, since=len(engine.submissions) - 1)
    assert statuses(campaign, [other]) == ["ok"]


@pytest.mark.parametrize("retries", [0, 1])
def test_what_waits_behind_a_fit_that_is_never_answered_is_fitted(begin, clock, retries):
    tasks = toy_tasks(2)
    engine = remote_engine()
    campaign = begin(engine, timeout_s=50.0, retries=retries)
    submit(campaign, tasks)
    stranded = 0
    for _ in range(2 * POLICY.losses):
        waiting = [sent for sent in engine.submissions[stranded:] if not sent.future.done()]
        if not waiting:
            break
        if waiting[0].keys == [tasks[0].key]:  # the one worker hangs
            stranded = len(engine.submissions)
            clock.now += silence_limit(50.0) + 1.0
        else:
            waiting[0].answer()
        campaign.go_on()
    assert statuses(campaign, tasks) == ["timeout", "ok"]


def test_silence_is_measured_by_the_longest_fit_once_fits_are_known(begin, clock):
    tasks = toy_tasks(3)
    engine = remote_engine(workers=1)
    campaign = begin(engine, retries=1)
    submit(campaign, tasks)
    clock.now += 1e6
    campaign.go_on()  # nobody knows how long these take
    assert engine.restarts == 0
    engine.submissions[0].answer(fit_s=40.0)
    campaign.go_on()
    clock.now += POLICY.silence_factor * 40.0
    campaign.go_on()
    assert engine.restarts == 0
    clock.now += 1.0
    campaign.go_on()
    assert engine.restarts == 1
    texts = {event.text for event in campaign.events if event.kind == "silence"}
    assert texts == {"no answer came for 801 s, where 800 s are enough for all that was sent"}


@pytest.mark.parametrize(
    ("fit_s", "timeout_s", "limit_s"),
    [
        (0.1, 1000.0, POLICY.silence_s),
        (40.0, 50.0, POLICY.silence_s + 100.0),
        (40.0, 1000.0, 800.0),
    ],
)
def test_the_shorter_limit_of_silence_counts(begin, clock, fit_s, timeout_s, limit_s):
    tasks = toy_tasks(2)
    engine = remote_engine(workers=1)
    campaign = begin(engine, timeout_s=timeout_s, retries=1)
    submit(campaign, tasks)
    engine.submissions[0].answer(fit_s=fit_s)
    campaign.go_on()
    clock.now += limit_s
    campaign.go_on()
    assert engine.restarts == 0
    clock.now += 1.0
    campaign.go_on()
    assert engine.restarts == 1


@pytest.mark.parametrize("trouble", [None, "worker", "block"])
def test_an_engine_from_which_something_comes_now_and_then_is_not_silent(begin, clock, trouble):
    tasks = toy_tasks(12)
    engine = remote_engine(workers=2)
    campaign = begin(engine, timeout_s=50.0, retries=12)
    submit(campaign, tasks)
    hanging, *_others = held(engine)
    for _ in range(9):
        clock.now += silence_limit(50.0) - 1.0
        campaign.go_on()
        sent = held(engine)[1]
        if trouble == "worker":
            sent.fail()
        elif trouble == "block":
            sent.lose_block()
        else:
            sent.answer(fit_s=1e4)
        campaign.go_on()
    assert engine.restarts == 0
    assert not hanging.future.done()


def test_the_first_answer_of_a_fresh_engine_is_no_silence(begin, clock):
    (task,) = toy_tasks(1)
    engine = remote_engine()
    campaign = begin(engine, timeout_s=50.0)
    submit(campaign, [task])
    clock.now += silence_limit(50.0)
    engine.first_answer_at = clock.now  # of the call that asks whether anybody is there
    clock.now += silence_limit(50.0)
    campaign.go_on()
    assert engine.restarts == 0
    clock.now += 1.0
    campaign.go_on()
    assert engine.restarts == 1


def test_an_engine_without_workers_is_waited_for_not_replaced(begin, clock):
    (task,) = toy_tasks(1)
    engine = remote_engine(missing_since=clock.now)
    campaign = begin(engine, timeout_s=50.0)
    submit(campaign, [task])
    clock.now += 100 * silence_limit(50.0)
    campaign.go_on()
    assert engine.restarts == 0
    assert len(engine.submissions) == 1


def test_silence_is_counted_from_when_a_worker_came(begin, clock):
    (task,) = toy_tasks(1)
    engine = remote_engine(missing_since=clock.now)
    campaign = begin(engine, timeout_s=50.0, retries=1)
    submit(campaign, [task])
    for _ in range(100):
        clock.now += 100.0
        campaign.go_on()
    engine.missing_since = None
    clock.now += 5.0
    campaign.go_on()
    assert engine.restarts == 0
    clock.now += silence_limit(50.0)
    campaign.go_on()
    assert engine.restarts == 0
    clock.now += 1.0
    campaign.go_on()
    assert engine.restarts == 1


def test_an_engine_that_watches_its_workers_is_never_silent(begin, clock):
    tasks = toy_tasks(2)
    engine = ScriptedEngine(workers=1)
    campaign = begin(engine, timeout_s=50.0)
    submit(campaign, tasks)
    engine.submissions[0].answer(fit_s=1.0)
    campaign.go_on()
    clock.now += 1e6
    campaign.go_on()
    assert engine.restarts == 0
    assert len(engine.submissions) == 2


def test_answers_from_before_the_silence_are_not_taken(begin, clock):
    (task,) = toy_tasks(1)
    engine = remote_engine()
    campaign = begin(engine, timeout_s=50.0, retries=1)
    submit(campaign, [task])
    clock.now += silence_limit(50.0) + 1.0
    campaign.go_on()
    late, again = engine.submissions
    late.answer(worker="toy:gone")
    campaign.go_on()
    assert not campaign.result(task).done()
    again.answer(worker="toy:new")
    campaign.go_on()
    assert [result.worker for result in campaign.taken] == ["toy:new"]


# Stragglers


def with_straggler(begin, clock, workers=2, **options):
    """A campaign with one fit that takes too long, and one idle worker."""
    tasks = toy_tasks(2)
    engine = remote_engine(workers)
    campaign = begin(engine, **options)
    submit(campaign, tasks)
    engine.submissions[1].answer(fit_s=1.0)
    campaign.go_on()
    clock.now += POLICY.straggler_s + 1.0
    return campaign, engine, tasks


def test_a_straggler_is_copied_once(begin, clock):
    campaign, engine, tasks = with_straggler(begin, clock)
    for _ in range(3):
        campaign.go_on()
        clock.now += 10.0
    assert engine.sent == [tasks[0].key, tasks[1].key, tasks[0].key]
    assert told(campaign, tasks) == [("sent", 0, 1), ("sent", 1, 1), ("copied", 0, 1)]


@pytest.mark.parametrize(
    ("fit_s", "after_s"), [(0.1, POLICY.straggler_s), (9.0, POLICY.straggler_factor * 9)]
)
def test_a_straggler_takes_long_and_longer_than_it_should(begin, clock, fit_s, after_s):
    tasks = toy_tasks(2)
    engine = remote_engine(workers=2)
    campaign = begin(engine)
    submit(campaign, tasks)
    clock.now += after_s
    engine.submissions[1].answer(fit_s=fit_s)
    campaign.go_on()
    assert len(engine.submissions) == 2
    clock.now += 1.0
    campaign.go_on()
    assert engine.sent[2:] == [tasks[0].key]


LATE = {
    "answer": lambda sent: sent.answer(worker="toy:late"),
    "error": lambda sent: sent.answer(errors=dict.fromkeys(sent.keys, "ValueError")),
    "memory": lambda sent: sent.answer(errors=dict.fromkeys(sent.keys, "MemoryError")),
    "worker lost": lambda sent: sent.fail(),
    "block lost": lambda sent: sent.lose_block(),
    "timeout": lambda sent: sent.time_out(),
    "remote": lambda sent: sent.fail(RemoteCallError("strange")),
    "never": lambda sent: None,
}


@pytest.mark.parametrize("late", LATE)
@pytest.mark.parametrize("first", ["the copy", "the original"])
def test_of_a_straggler_and_its_copy_the_first_answer_counts(begin, clock, first, late):
    campaign, engine, tasks = with_straggler(begin, clock, retries=3)
    campaign.go_on()
    original, _other, copy = engine.submissions
    quick, slow = (copy, original) if first == "the copy" else (original, copy)
    quick.answer(worker="toy:first")
    campaign.go_on()
    (result,) = results_of(campaign, tasks[:1])
    LATE[late](slow)
    campaign.go_on()
    assert campaign.result(tasks[0]).result() is result
    assert (result.worker, result.attempts) == ("toy:first", 1)
    assert [r.key for r in campaign.taken] == [tasks[1].key, tasks[0].key]
    progress = campaign.progress()
    assert (progress.total, progress.done, progress.failed) == (2, 2, 0)
    assert len(engine.submissions) == 3
    assert engine.restarts == 0


@pytest.mark.parametrize("trouble", sorted(set(LATE) - {"answer", "error", "never"}))
@pytest.mark.parametrize("first", ["the copy", "the original"])
def test_while_its_copy_may_answer_a_fit_is_not_sent_again(begin, clock, first, trouble):
    campaign, engine, tasks = with_straggler(begin, clock, retries=3)
    campaign.go_on()
    original, _other, copy = engine.submissions
    quick, slow = (copy, original) if first == "the copy" else (original, copy)
    LATE[trouble](quick)
    campaign.go_on()
    assert len(engine.submissions) == 3
    assert not campaign.result(tasks[0]).done()
    slow.answer(worker="toy:slow")
    campaign.go_on()
    (result,) = results_of(campaign, tasks[:1])
    assert (result.status, result.worker, result.attempts) == ("ok", "toy:slow", 1)


@pytest.mark.parametrize("trouble", ["worker lost", "block lost", "memory"])
def test_where_both_copies_come_to_grief_the_fit_is_sent_once_more(begin, clock, trouble):
    campaign, engine, tasks = with_straggler(begin, clock, retries=1)
    campaign.go_on()
    for sent in held(engine):
        LATE[trouble](sent)
        campaign.go_on()
    assert engine.sent.count(tasks[0].key) == 3
    answer_all(campaign, engine)
    assert statuses(campaign, tasks) == ["ok", "ok"]
    attempts = 1 if trouble == "block lost" else 2
    assert campaign.result(tasks[0]).result().attempts == attempts


def test_a_straggler_and_its_copy_in_one_lost_block_lose_it_once(begin, clock):
    campaign, engine, tasks = with_straggler(begin, clock)
    campaign.go_on()
    for sent in held(engine):
        sent.lose_block()
    campaign.go_on()
    assert told(campaign, tasks)[-1] == ("sent", 0, 1)
    # It was there once, so that it is no suspect yet, and others may be beside it.
    others = toy_tasks(1, "others")
    submit(campaign, others)
    assert len(held(engine)) == 2


def test_a_batch_is_copied_as_a_whole_and_each_of_its_fits_counts_once(begin, clock):
    tasks = toy_tasks(8)
    engine = remote_engine(workers=1, batch_s=10.0)
    campaign = begin(engine, expected_s=lambda _task: 1.0)
    submit(campaign, tasks)
    original = engine.submissions[0]
    assert len(original.keys) == 2
    while len(held(engine)) > 1:
        held(engine)[-1].answer(fit_s=1.0)
        campaign.go_on()
    engine.workers = 2
    clock.now += POLICY.straggler_s + 1.0
    campaign.go_on()
    copy = engine.submissions[-1]
    assert copy.keys == original.keys
    original.answer()
    campaign.go_on()
    copy.answer()
    campaign.go_on()
    assert Counter(result.key for result in campaign.taken) == dict.fromkeys(keys(tasks), 1)


def test_each_of_several_stragglers_is_copied_once(begin, clock):
    tasks = toy_tasks(5)
    engine = remote_engine(workers=5)
    campaign = begin(engine)
    submit(campaign, tasks)
    for sent in engine.submissions[2:]:
        sent.answer(fit_s=1.0)
    campaign.go_on()
    clock.now += POLICY.straggler_s + 1.0
    campaign.go_on()
    campaign.go_on()
    assert engine.sent[5:] == keys(tasks[:2])
    answer_all(campaign, engine)
    assert len(campaign.taken) == 5


def test_no_copies_are_made_of_what_an_engine_watches(begin, clock):
    campaign, engine, _tasks = with_straggler(begin, clock)
    engine.watches_workers = True
    clock.now += 1e6
    campaign.go_on()
    assert len(engine.submissions) == 2


def test_no_copies_are_made_where_no_worker_is_idle(begin, clock):
    campaign, engine, _tasks = with_straggler(begin, clock, workers=1)
    campaign.go_on()
    assert len(engine.submissions) == 2


def test_no_copies_are_made_while_no_worker_is_there(begin, clock):
    tasks = toy_tasks(3)
    engine = remote_engine(workers=3)
    campaign = begin(engine)
    submit(campaign, tasks)
    engine.submissions[2].answer(fit_s=1.0)
    campaign.go_on()
    clock.now += POLICY.straggler_s + 1.0
    engine.missing_since = clock.now
    campaign.go_on()
    engine.submissions[1].answer()  # on its way while the last worker went
    campaign.go_on()
    assert len(engine.submissions) == 3


def test_what_waited_for_a_worker_is_no_straggler(begin, clock):
    campaign, engine, tasks = with_straggler(begin, clock, timeout_s=50.0)
    engine.missing_since = clock.now
    for _ in range(10):
        clock.now += 20.0
        campaign.go_on()
    engine.missing_since = None
    clock.now += 5.0
    campaign.go_on()
    assert len(engine.submissions) == 2
    clock.now += POLICY.straggler_s
    campaign.go_on()
    assert len(engine.submissions) == 2
    clock.now += 1.0
    campaign.go_on()
    assert engine.sent[2:] == [tasks[0].key]


def test_no_copies_are_made_of_what_nobody_knows_the_time_of(begin, clock):
    tasks = toy_tasks(1, "known") + toy_tasks(1, "unknown")
    engine = remote_engine(workers=2)
    campaign = begin(engine)
    submit(campaign, tasks)
    engine.submissions[0].answer(fit_s=1.0)
    campaign.go_on()
    clock.now += 1e6
    campaign.go_on()
    assert len(engine.submissions) == 2


def test_no_copies_are_made_before_one_fit_was_measured_here(begin, clock):
    known, unknown = toy_tasks(1, "known"), toy_tasks(1, "unknown")
    engine = remote_engine(workers=3)
    campaign = begin(engine, expected_s=lambda task: 1.0 if task.pallet.name == "known" else None)
    submit(campaign, known + unknown)
    clock.now += POLICY.straggler_s + 1.0
    campaign.go_on()
    assert len(engine.submissions) == 2  # this machine may be a slow one


def test_no_copies_are_made_of_a_suspect(begin, clock):
    tasks = toy_tasks(2)
    engine = remote_engine(workers=2)
    campaign = begin(engine)
    submit(campaign, tasks)
    engine.submissions[1].answer(fit_s=1.0)
    campaign.go_on()
    for _ in range(2):
        held(engine)[0].lose_block()
        campaign.go_on()
    count = len(engine.submissions)
    clock.now += POLICY.straggler_s + 1.0
    campaign.go_on()
    assert len(engine.submissions) == count
    submit(campaign, toy_tasks(1, "others"))
    assert len(engine.submissions) == count


def test_a_suspect_waits_for_a_straggler_and_comes_after_the_silence_at_the_latest(begin, clock):
    campaign, engine, tasks = with_straggler(begin, clock, workers=3)
    campaign.go_on()
    (suspect,) = toy_tasks(1, "suspect")
    submit(campaign, [suspect])
    for _ in range(2):
        held(engine)[-1].lose_block()
        campaign.go_on()
    engine.submissions[2].answer(fit_s=1.0)  # the copy: the original hangs
    campaign.go_on()
    assert statuses(campaign, tasks) == ["ok", "ok"]
    count = len(engine.submissions)
    clock.now += POLICY.silence_s + 1.0
    campaign.go_on()
    assert engine.restarts == 1
    assert after(engine, count) == [[suspect.key]]
    assert not [event for event in campaign.events if event.kind == "silence"]


def test_the_time_left_counts_a_fit_that_runs_twice_once(begin, clock):
    campaign, engine, _tasks = with_straggler(begin, clock)
    before = campaign.progress().left_s
    campaign.go_on()
    assert len(held(engine)) == 2
    assert campaign.progress().left_s == before


def test_the_late_answer_of_a_straggler_is_no_part_of_a_later_measurement(begin, clock):
    campaign, engine, tasks = with_straggler(begin, clock)
    campaign.go_on()
    original, _other, copy = engine.submissions
    copy.answer()
    campaign.go_on()

    def tick():
        for sent in held(engine):
            clock.now += 1.0
            sent.answer(fit_s=1000.0 if sent is original else 1.0)

    trial = campaign.measure(tasks, tick)
    assert trial.fit_s == pytest.approx(2.0)
    assert trial.idle_s >= 0


# No worker


def test_while_no_worker_is_there_progress_says_for_how_long_and_what_for(begin, clock):
    tasks = toy_tasks(3)
    engine = remote_engine(missing_since=clock.now - 7.0, waits_for="blocks: 1 pending (Priority)")
    campaign = begin(engine)
    nothing = campaign.progress()
    assert (nothing.waits_s, nothing.waits_for) == (None, None)
    submit(campaign, tasks)
    clock.now += 5.0
    waiting = campaign.progress()
    assert (waiting.waits_s, waiting.waits_for) == (12.0, "blocks: 1 pending (Priority)")
    assert (waiting.running, waiting.done, waiting.total) == (0, 0, 3)
    engine.missing_since = None
    now = campaign.progress()
    assert (now.waits_s, now.waits_for, now.running) == (None, None, 1)


def test_where_no_worker_comes_in_time_all_ends_with_a_reason(begin, clock):
    tasks = toy_tasks(5)
    engine = remote_engine(missing_since=clock.now, waits_for="blocks: 2 pending (Resources)")
    campaign = begin(engine, queue_timeout_s=60.0, retries=3)
    submit(campaign, tasks)
    clock.now += 60.0
    campaign.go_on()
    assert not any(campaign.result(task).done() for task in tasks)
    clock.now += 1.0
    campaign.go_on()
    results = results_of(campaign, tasks)
    assert {result.status for result in results} == {"broken"}
    message = results[0].error.message
    assert "no worker of scripted was available for 61 s: blocks: 2 pending (Resources)" in message
    assert "--faas-queue-timeout" in message
    assert engine.stops == 1
    assert engine.restarts == 0
    (late,) = toy_tasks(1, "late")
    campaign.submit([late])
    assert statuses(campaign, [late]) == ["broken"]
    assert campaign.result(late).result().error.message == message


def test_the_wait_for_a_worker_begins_with_the_first_fit_that_needs_one(begin, clock):
    (task,) = toy_tasks(1)
    engine = remote_engine(missing_since=clock.now)
    campaign = begin(engine, queue_timeout_s=60.0)
    clock.now += 1000.0  # pytest collected meanwhile
    submit(campaign, [task])
    clock.now += 59.0
    campaign.go_on()
    assert not campaign.result(task).done()
    clock.now += 2.0
    campaign.go_on()
    assert statuses(campaign, [task]) == ["broken"]


def test_when_the_last_worker_goes_the_wait_begins_again(begin, clock):
    (task,) = toy_tasks(1)
    engine = remote_engine()
    campaign = begin(engine, queue_timeout_s=60.0)
    submit(campaign, [task])
    clock.now += 1000.0  # it runs
    engine.missing_since = clock.now
    clock.now += 59.0
    campaign.go_on()
    assert not campaign.result(task).done()
    clock.now += 2.0
    campaign.go_on()
    assert statuses(campaign, [task]) == ["broken"]


@pytest.mark.parametrize("there", [True, False])
def test_there_is_no_queue_timeout_with_a_worker_there_or_with_none_asked_for(begin, clock, there):
    (task,) = toy_tasks(1)
    engine = remote_engine(missing_since=None if there else clock.now)
    campaign = begin(engine, queue_timeout_s=60.0 if there else None)
    submit(campaign, [task])
    clock.now += 1e6
    campaign.go_on()
    engine.submissions[0].answer()
    campaign.go_on()
    assert statuses(campaign, [task]) == ["ok"]
    assert engine.stops == 0


# Winding down


def test_winding_down_lets_what_runs_finish_and_cancels_the_rest(begin):
    tasks, late = toy_tasks(6), toy_tasks(1, "late")
    engine = ScriptedEngine(workers=1)
    campaign = begin(engine)
    submit(campaign, tasks)
    assert campaign.busy
    campaign.wind_down("Ctrl-C")
    campaign.go_on()
    assert [campaign.result(task).done() for task in tasks] == [False, False, *[True] * 4]
    submit(campaign, late)
    answer_all(campaign, engine)
    assert not campaign.busy
    assert statuses(campaign, tasks) == ["ok"] * 2 + ["cancelled"] * 4
    assert statuses(campaign, late) == ["cancelled"]
    assert {r.error.message for r in results_of(campaign, [*tasks[2:], *late])} == {"Ctrl-C"}
    assert len(engine.submissions) == 2
    assert [result.status for result in campaign.taken] == ["ok", "ok"]
    progress = campaign.progress()
    assert (progress.total, progress.done, progress.cancelled, progress.failed) == (7, 2, 5, 0)
    assert progress.left_s is None
    campaign.drain()


@pytest.mark.parametrize("trouble", sorted(set(LATE) - {"answer", "error", "never", "timeout"}))
def test_what_meets_trouble_while_winding_down_is_not_sent_again(begin, trouble):
    tasks = toy_tasks(2)
    engine = ScriptedEngine(workers=1)
    campaign = begin(engine, retries=3)
    submit(campaign, tasks)
    campaign.wind_down("Ctrl-C")
    LATE[trouble](engine.submissions[0])
    campaign.go_on()
    engine.submissions[1].answer()
    campaign.go_on()
    assert statuses(campaign, tasks) == ["cancelled", "ok"]
    assert len(engine.submissions) == 2
    assert "Ctrl-C" in campaign.result(tasks[0]).result().error.message


def test_suspects_are_cancelled_by_winding_down(begin):
    campaign, engine, tasks = with_suspects(begin)
    count = len(engine.submissions)
    campaign.wind_down("Ctrl-C")
    answer_all(campaign, engine)
    assert len(engine.submissions) == count
    assert statuses(campaign, tasks) == ["ok", "cancelled"]


def test_a_batch_that_is_split_while_winding_down_is_not_sent_again(begin):
    tasks = toy_tasks(8)
    engine = ScriptedEngine(workers=1, batch_s=10.0)
    campaign = begin(engine, expected_s=lambda _task: 1.0)
    submit(campaign, tasks)
    count = len(engine.submissions)
    campaign.wind_down("Ctrl-C")
    held(engine)[0].time_out()
    answer_all(campaign, engine)
    assert len(engine.submissions) == count
    assert set(statuses(campaign, tasks)) == {"ok", "cancelled"}


@pytest.mark.parametrize("how", ["broken", "silent"])
def test_an_engine_that_breaks_while_winding_down_ends_all(begin, clock, how):
    tasks = toy_tasks(5)
    engine = remote_engine(workers=1)
    campaign = begin(engine, retries=3, timeout_s=50.0)
    submit(campaign, tasks)
    campaign.wind_down("Ctrl-C")
    if how == "broken":
        engine.is_broken = True
    else:
        clock.now += silence_limit(50.0) + 1.0
    campaign.go_on()
    assert statuses(campaign, tasks) == ["cancelled"] * 5
    assert len(engine.submissions) == 2


def test_winding_down_does_not_wait_for_a_worker(begin, clock):
    tasks = toy_tasks(3)
    engine = remote_engine(missing_since=clock.now)
    campaign = begin(engine)
    campaign.submit(tasks)
    campaign.go_on()
    campaign.wind_down("Ctrl-C")
    assert {campaign.result(task).result(0).status for task in tasks} == {"cancelled"}


def test_an_engine_that_breaks_while_winding_down_is_not_started_again(begin):
    engine = ScriptedEngine()
    campaign = begin(engine)
    submit(campaign, toy_tasks(1))
    campaign.wind_down("Ctrl-C")
    engine.is_broken = True
    campaign.go_on()
    assert engine.restarts == 0


def test_no_copies_are_made_while_winding_down(begin, clock):
    campaign, engine, _tasks = with_straggler(begin, clock)
    campaign.wind_down("Ctrl-C")
    campaign.go_on()
    assert len(engine.submissions) == 2


# What no other worker could do either


@pytest.mark.parametrize("retries", [0, 2])
def test_what_a_worker_cannot_do_is_sent_again_and_broken_in_the_end(begin, retries):
    (task,) = toy_tasks(1)
    engine = ScriptedEngine()
    campaign = begin(engine, retries=retries)
    submit(campaign, [task])
    for number in range(retries + 1):
        engine.submissions[number].fail(RemoteCallError("a worker failed: no pyhf"))
        campaign.go_on()
    (result,) = results_of(campaign, [task])
    assert (result.status, result.attempts) == ("broken", retries + 1)
    assert result.error.message.startswith("a worker failed: no pyhf")
    assert len(engine.submissions) == retries + 1
    assert engine.restarts == 0
    trouble = [event.kind for event in campaign.events if event.kind != "sent"]
    assert trouble == ["remote call failed"] * (retries + 1)


def test_what_another_worker_can_do_is_fine(begin):
    (task,) = toy_tasks(1)
    engine = ScriptedEngine()
    campaign = begin(engine, retries=1)
    submit(campaign, [task])
    engine.submissions[0].fail(RemoteCallError("a worker failed: no pyhf"))
    campaign.go_on()
    answer_all(campaign, engine)
    (result,) = results_of(campaign, [task])
    assert (result.status, result.attempts) == ("ok", 2)


@pytest.mark.parametrize("kind", [ConfigurationError, EndpointUnusableError])
@pytest.mark.parametrize("how", ["raised", "in the future"])
def test_an_engine_that_can_never_be_used_ends_all_with_its_text(begin, how, kind):
    class Misconfigured(ScriptedEngine):
        def submit(self, function, /, *args, timeout_s=None):
            error = kind("the Parsl configuration cannot be run: try it")
            if how == "raised":
                raise error
            future = Future()
            future.set_exception(error)
            return future

    tasks, late = toy_tasks(5), toy_tasks(1, "late")
    engine = Misconfigured()
    campaign = begin(engine, retries=3)
    submit(campaign, tasks)
    results = results_of(campaign, tasks)
    assert {(r.status, r.error.message) for r in results} == {
        ("broken", "the Parsl configuration cannot be run: try it")
    }
    assert (engine.restarts, engine.stops) == (0, 1)
    campaign.submit(late)
    assert statuses(campaign, late) == ["broken"]


# What is told


def test_each_sending_and_each_trouble_is_reported_in_order(begin):
    tasks = toy_tasks(3)
    engine = ScriptedEngine(workers=2)
    campaign = begin(engine, retries=2)
    submit(campaign, tasks)
    one, two, three = engine.submissions
    one.fail(WorkerLostError("killed"))
    campaign.go_on()
    two.lose_block()
    campaign.go_on()
    three.answer()
    campaign.go_on()
    four, five = held(engine)
    four.answer(errors=dict.fromkeys(four.keys, "MemoryError"))
    five.fail(EngineError("broke down"))
    campaign.go_on()
    assert told(campaign, tasks) == [
        ("sent", 0, 1),
        ("sent", 1, 1),
        ("sent", 2, 1),
        ("worker lost", 0, 1),
        ("sent", 0, 2),
        ("block lost", 1, 1),
        ("sent", 1, 1),
        ("out of memory", 0, 2),
        ("sent", 0, 3),
        ("engine lost", 1, 1),
        ("engine lost", 0, 3),
        ("sent", 0, 3),
    ]
    texts = [event.text for event in campaign.events if event.text]
    assert texts == ["killed", "its block is gone", "MemoryError on toy:1", *["broke down"] * 2]
    assert {event.key for event in campaign.events} == set(keys(tasks))
    engine.submissions[-1].time_out()
    campaign.go_on()
    answer_all(campaign, engine, since=len(engine.submissions) - 1)
    assert told(campaign, tasks)[12:] == [("timeout", 0, 3), ("sent", 1, 1)]
    assert statuses(campaign, tasks) == ["timeout", "ok", "ok"]


def test_an_answer_is_no_event(begin):
    tasks = toy_tasks(2)
    engine = ScriptedEngine(workers=2)
    campaign = begin(engine, retries=1)
    submit(campaign, tasks)
    engine.submissions[0].answer(errors={tasks[0].key: "pyhf.exceptions.InvalidModel"})
    engine.submissions[1].answer()
    campaign.go_on()
    assert [event.kind for event in campaign.events] == ["sent", "sent"]


@pytest.mark.parametrize("retries", [0, 2])
def test_the_last_trouble_is_reported_as_well(begin, retries):
    (task,) = toy_tasks(1)
    engine = ScriptedEngine()
    campaign = begin(engine, retries=retries)
    submit(campaign, [task])
    for number in range(retries + 1):
        engine.submissions[number].fail()
        campaign.go_on()
    expected = []
    for number in range(retries + 1):
        expected += [("sent", 0, number + 1), ("worker lost", 0, number + 1)]
    assert told(campaign, [task]) == expected


@pytest.mark.parametrize("error", [WorkerLostError, TaskTimeoutError, RemoteCallError])
def test_the_trouble_of_a_batch_is_that_of_the_attempt_that_was_sent(begin, error):
    tasks = toy_tasks(8)
    engine = ScriptedEngine(workers=1, batch_s=10.0)
    campaign = begin(engine, expected_s=lambda _task: 1.0)
    submit(campaign, tasks)
    held(engine)[0].fail(error("came to grief"))
    campaign.go_on()
    attempts = {event.attempt for event in campaign.events}
    assert len({event.kind for event in campaign.events}) == 2
    assert attempts == {1}


@pytest.mark.parametrize("error", [WorkerLostError, BlockLostError])
def test_what_befalls_a_copy_is_reported_as_well(begin, clock, error):
    campaign, engine, _tasks = with_straggler(begin, clock, retries=1)
    campaign.go_on()
    engine.submissions[-1].fail(error("gone"))
    campaign.go_on()
    assert campaign.events[-1].text == "gone"


# With a thread


@pytest.fixture
def begin_thread(monkeypatch):
    """Make campaigns in threads of their own, which are quick to make copies."""
    monkeypatch.setattr(loop, "TICK_S", 0.01)
    begun = []

    def make(engine, **policy):
        begun.append(Campaign(engine, Policy(**{"retries": 0, "straggler_s": 0.05, **policy})))
        return begun[-1]

    yield make
    for campaign in begun:
        campaign.cancel("the test is over")
        if isinstance(campaign.engine, AutomaticEngine):
            campaign.engine.end()


@pytest.mark.parametrize(
    ("word", "status"),
    [("block_lost", "broken"), ("remote_error", "broken"), ("silent", "timeout")],
)
def test_a_thread_gives_up_what_never_succeeds(begin_thread, word, status):
    (task,) = toy_tasks(1)
    engine = AutomaticEngine([word] * 10)
    engine.watches_workers = False
    campaign = begin_thread(engine, retries=2, timeout_s=0.01, silence_s=0.1)
    campaign.submit([task])
    (result,) = wait_for_results(campaign, [task])
    assert result.status == status
    assert len(engine.submissions) == (POLICY.losses + 1 if word == "block_lost" else 3)


def test_a_thread_copies_a_straggler(begin_thread):
    tasks = toy_tasks(2)
    engine = AutomaticEngine(["silent", "ok"], workers=2)
    engine.watches_workers = False
    campaign = begin_thread(engine)
    campaign.submit(tasks)
    assert {result.status for result in wait_for_results(campaign, tasks)} == {"ok"}
    assert engine.sent == [*keys(tasks), tasks[0].key]
    assert engine.restarts == 0


def test_a_thread_ends_when_no_worker_comes_and_stops_the_engine(begin_thread):
    tasks = toy_tasks(3)
    engine = ScriptedEngine()
    engine.missing_since = 0.0
    engine.waits_for = "blocks: 1 pending"
    campaign = begin_thread(engine, queue_timeout_s=0.05)
    campaign.submit(tasks)
    assert {result.status for result in wait_for_results(campaign, tasks)} == {"broken"}
    wait_until(lambda: engine.stops, "the engine is stopped")
    campaign.drain()


def test_a_thread_winds_down_while_callers_wait(begin_thread):
    tasks = toy_tasks(8)
    engine = ScriptedEngine(workers=2)
    campaign = begin_thread(engine)
    campaign.submit(tasks)
    engine.wait_for(4)
    campaign.wind_down("Ctrl-C")
    for sent in list(engine.submissions):
        sent.answer()
    found = [result.status for result in wait_for_results(campaign, tasks)]
    assert found == ["ok"] * 4 + ["cancelled"] * 4
    campaign.drain()
    assert len(engine.submissions) == 4


def test_a_thread_ends_all_that_a_misconfigured_engine_was_sent(begin_thread):
    tasks = toy_tasks(6)
    engine = AutomaticEngine(["misconfigured"])
    campaign = begin_thread(engine, retries=3)
    campaign.submit(tasks)
    results = wait_for_results(campaign, tasks)
    assert {result.error.message for result in results if result.status == "broken"} == {
        "the Parsl configuration cannot be run"
    }
    wait_until(lambda: engine.stops, "the engine is stopped")
