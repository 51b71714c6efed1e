"""What a campaign does where tasks may be lost without a word, and outlive a session."""

from __future__ import annotations

import itertools
from concurrent.futures import Future
from functools import partial

import pytest

from pytest_pyhf_faas.campaign.policy import Policy
from pytest_pyhf_faas.campaign.tasks import batch_payload
from pytest_pyhf_faas.engines.base import IN_FLIGHT
from pytest_pyhf_faas.errors import (
    BlockLostError,
    EngineError,
    RemoteCallError,
    TaskTimeoutError,
    WorkerLostError,
)
from tests.helpers.scripted_engine import ScriptedEngine, Submission, toy_tasks
from tests.helpers.stepped import Clock, NotedCampaign

pytestmark = pytest.mark.timeout(300)

POLICY = Policy()


class LossyEngine(ScriptedEngine):
    """An engine that never says what it has lost; what is not answered here is."""

    watches_workers = False
    loses_tasks = True

    def __init__(self, workers=1, batch_s=0.0):
        super().__init__(workers, batch_s)
        self.first_answer_at = 1000.0
        self.pings = []
        self.collected = {}
        self.settled = 0

    def ping(self):
        self.pings.append(Future())
        self.pings[-1].set_running_or_notify_cancel()
        return self.pings[-1]

    def collect(self, reference):
        return self.collected[reference].future

    def settle(self):
        self.settled += 1
        self.accept()

    def accept(self):
        """Accept all that was submitted."""
        for number, sent in enumerate(self.submissions):
            self.on_accepted(sent.future, f"group/{number}")

    def sent_before(self, reference, tasks):
        """Hold what an earlier session has sent."""
        self.collected[reference] = Submission(batch_payload(tasks), None)
        return self.collected[reference]


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def begin(clock):
    """Make campaigns that take steps, and take note of what they tell."""
    return partial(NotedCampaign, clock=clock)


def short(_task):
    return 0.01


def submit(campaign, tasks):
    campaign.submit(tasks)
    campaign.go_on()


def answer(campaign, sent, **how):
    sent.answer(**how)
    campaign.go_on()


def wait_s(campaign, clock, seconds):
    clock.now += seconds
    campaign.go_on()


def keys(tasks):
    return [task.key for task in tasks]


def statuses(campaign, tasks):
    return [campaign.result(task).result(0).status for task in tasks]


def copies(engine, tasks):
    """The numbers of the tasks that were sent once more."""
    numbers = {task.key: number for number, task in enumerate(tasks)}
    sent = [numbers[key] for key in engine.sent]
    return [number for place, number in enumerate(sent) if number in sent[:place]]


# How a loss is noticed


def test_what_a_later_answer_has_overtaken_is_sent_once_more(begin, clock):
    tasks = toy_tasks(2)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short)
    submit(campaign, tasks)
    _lost, second = engine.submissions
    answer(campaign, second)
    wait_s(campaign, clock, POLICY.straggler_s - 1.0)
    assert copies(engine, tasks) == []
    wait_s(campaign, clock, 2.0)
    assert copies(engine, tasks) == [0]
    answer(campaign, engine.submissions[2])
    assert statuses(campaign, tasks) == ["ok"] * 2
    wait_s(campaign, clock, 1000.0)
    assert len(engine.submissions) == 3
    assert engine.restarts == 0


def test_what_nothing_has_overtaken_may_still_wait_and_is_not_sent_again(begin, clock):
    tasks = toy_tasks(2)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short)
    submit(campaign, tasks)
    answer(campaign, engine.submissions[0])
    wait_s(campaign, clock, POLICY.silence_s - 10.0)
    assert copies(engine, tasks) == []


def test_a_long_fit_that_was_overtaken_is_given_its_time(begin, clock):
    tasks = toy_tasks(2)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=lambda task: 100.0 if task is tasks[0] else 10.0)
    submit(campaign, tasks)
    answer(campaign, engine.submissions[1], fit_s=10.0)
    wait_s(campaign, clock, POLICY.straggler_factor * 100.0 - 1.0)
    assert copies(engine, tasks) == []
    wait_s(campaign, clock, 2.0)
    assert copies(engine, tasks) == [0]


def test_an_answered_ping_shows_what_is_lost_when_nothing_else_is_there(begin, clock):
    tasks = toy_tasks(1)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short)
    submit(campaign, tasks)
    wait_s(campaign, clock, POLICY.ping_s + 1.0)
    engine.pings[0].set_result(False)
    campaign.go_on()
    wait_s(campaign, clock, POLICY.straggler_s - 1.0)
    assert copies(engine, tasks) == []
    wait_s(campaign, clock, 2.0)
    assert copies(engine, tasks) == [0]
    answer(campaign, engine.submissions[1])
    assert statuses(campaign, tasks) == ["ok"]


def test_a_ping_that_is_not_answered_shows_nothing(begin, clock):
    tasks = toy_tasks(1)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short)
    submit(campaign, tasks)
    for _ in range(10):
        wait_s(campaign, clock, 20.0)
    assert copies(engine, tasks) == []
    engine.pings[0].set_exception(RemoteCallError("strange"))
    campaign.go_on()
    wait_s(campaign, clock, 30.0)
    assert copies(engine, tasks) == []


def test_what_was_sent_after_a_ping_is_not_overtaken_by_it(begin, clock):
    tasks = toy_tasks(2)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short)
    submit(campaign, tasks[:1])
    wait_s(campaign, clock, POLICY.ping_s + 1.0)
    submit(campaign, tasks[1:])
    engine.pings[0].set_result(False)
    campaign.go_on()
    wait_s(campaign, clock, POLICY.straggler_s + 1.0)
    assert copies(engine, tasks) == [0]


def test_a_fit_of_unknown_time_is_lost_when_its_worker_would_have_ended_it(begin, clock):
    tasks = toy_tasks(2)
    engine = LossyEngine()
    campaign = begin(engine, timeout_s=50.0)
    submit(campaign, tasks)
    answer(campaign, engine.submissions[1], errors={tasks[1].key: "ValueError"})
    wait_s(campaign, clock, POLICY.straggler_s + 49.0)
    assert copies(engine, tasks) == []
    wait_s(campaign, clock, 2.0)
    assert copies(engine, tasks) == [0]


def test_where_neither_time_nor_limit_is_known_nothing_is_sent_again(begin, clock):
    tasks = toy_tasks(2)
    engine = LossyEngine()
    campaign = begin(engine)
    submit(campaign, tasks)
    answer(campaign, engine.submissions[1], errors={tasks[1].key: "ValueError"})
    wait_s(campaign, clock, 10_000.0)
    assert copies(engine, tasks) == []


def test_while_the_endpoint_is_away_nothing_is_taken_for_lost(begin, clock):
    tasks = toy_tasks(2)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short)
    submit(campaign, tasks)
    answer(campaign, engine.submissions[1])
    engine.missing_since = clock.now
    wait_s(campaign, clock, 1000.0)
    assert (copies(engine, tasks), engine.pings) == ([], [])
    engine.missing_since = None
    campaign.go_on()
    wait_s(campaign, clock, 4.0)  # it may have it still
    assert copies(engine, tasks) == []
    wait_s(campaign, clock, 2.0)
    assert copies(engine, tasks) == [0]


def test_an_engine_that_loses_nothing_is_believed(begin, clock):
    tasks = toy_tasks(2)
    engine = LossyEngine()
    engine.loses_tasks = False
    campaign = begin(engine, expected_s=short)
    submit(campaign, tasks)
    answer(campaign, engine.submissions[1])
    wait_s(campaign, clock, POLICY.silence_s - 10.0)
    assert (copies(engine, tasks), engine.pings) == ([], [])


# When it is sent again, and what becomes of it


def full(begin, **options):
    """A campaign with places for two: one holds what is lost, and a third fit waits."""
    tasks = toy_tasks(5)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short, **options)
    submit(campaign, tasks)
    answer(campaign, engine.submissions[1])
    assert engine.sent == keys(tasks[:3])
    return campaign, engine, tasks


def test_while_others_go_on_the_place_of_a_loss_is_taken_back_when_its_time_is_over(begin, clock):
    campaign, engine, tasks = full(begin)
    wait_s(campaign, clock, POLICY.straggler_s + 1.0)
    assert engine.sent == keys([*tasks[:3], tasks[0]])
    answer(campaign, engine.submissions[3])
    # Both its places are free, of which one was none.
    assert engine.sent[4:] == keys([tasks[3]])
    for number in (2, 4):
        answer(campaign, engine.submissions[number])
    answer(campaign, engine.submissions[5])
    assert statuses(campaign, tasks) == ["ok"] * 5


def test_what_was_never_sent_goes_first_where_there_is_a_place(begin, clock):
    tasks = toy_tasks(4)
    engine = LossyEngine(workers=2)
    campaign = begin(engine, expected_s=short)
    submit(campaign, tasks[:2])
    answer(campaign, engine.submissions[1])
    clock.now += POLICY.straggler_s + 1.0
    submit(campaign, tasks[2:])
    assert engine.sent == keys([*tasks[:2], *tasks[2:], tasks[0]])


@pytest.mark.parametrize("first", [0, 3])
def test_the_answer_that_comes_first_counts_and_the_other_is_of_no_interest(begin, clock, first):
    campaign, engine, tasks = full(begin)
    wait_s(campaign, clock, POLICY.straggler_s + 1.0)
    answer(campaign, engine.submissions[first], worker="toy:first")
    taken = len(campaign.taken)
    answer(campaign, engine.submissions[3 - first], worker="toy:second")
    assert campaign.result(tasks[0]).result(0).worker == "toy:first"
    assert len(campaign.taken) == taken
    for sent in engine.submissions:
        if not sent.future.done():
            answer(campaign, sent)
    while not all(sent.future.done() for sent in engine.submissions):
        answer(campaign, next(sent for sent in engine.submissions if not sent.future.done()))
    assert sorted(result.key for result in campaign.taken) == sorted(keys(tasks))
    assert campaign.progress().done == campaign.progress().total == 5
    assert not campaign.busy


def test_the_failure_of_a_copy_waits_for_the_other(begin, clock):
    campaign, engine, tasks = full(begin, retries=0)
    wait_s(campaign, clock, POLICY.straggler_s + 1.0)
    engine.submissions[3].fail()
    campaign.go_on()
    assert not campaign.result(tasks[0]).done()
    answer(campaign, engine.submissions[0])
    assert campaign.result(tasks[0]).result(0).status == "ok"


def test_a_lost_copy_is_not_copied_but_the_silence_ends_it(begin, clock):
    tasks = toy_tasks(2)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short, retries=1)
    submit(campaign, tasks)
    answer(campaign, engine.submissions[1])
    wait_s(campaign, clock, POLICY.straggler_s + 1.0)
    wait_s(campaign, clock, POLICY.silence_s - POLICY.straggler_s - 10.0)
    assert copies(engine, tasks) == [0]
    wait_s(campaign, clock, 20.0)
    assert engine.restarts == 1
    answer(campaign, engine.submissions[-1])
    assert statuses(campaign, tasks) == ["ok"] * 2


def test_a_batch_that_is_half_done_is_completed_alone(begin, clock):
    tasks = toy_tasks(9)
    engine = LossyEngine(batch_s=0.02)
    campaign = begin(engine, expected_s=short, retries=1)
    submit(campaign, tasks)
    lost, second = engine.submissions
    assert len(lost.keys) == 2
    answer(campaign, second)
    wait_s(campaign, clock, POLICY.straggler_s + 1.0)
    copy = next(sent for sent in engine.submissions[2:] if set(sent.keys) & set(lost.keys))
    assert copy.keys == lost.keys
    # One of its fits is sent again, the other is not.
    answer(campaign, copy, errors={copy.keys[0]: "MemoryError"})
    answer(campaign, lost)
    by_key = {task.key: campaign.result(task) for task in tasks}
    assert [by_key[key].result(0).status for key in lost.keys] == ["ok"] * 2


# Pings


def pinged(begin, clock, **options):
    tasks = toy_tasks(3)
    engine = LossyEngine(workers=1)
    campaign = begin(engine, expected_s=short, **options)
    submit(campaign, tasks)
    wait_s(campaign, clock, POLICY.ping_s + 1.0)
    assert len(engine.pings) == 1
    return campaign, engine, tasks


def test_what_does_not_answer_is_pinged_less_and_less_often(begin, clock):
    """A ping may be lost as well."""
    campaign, engine, _tasks = pinged(begin, clock)
    began_at = clock.now
    times = []
    while clock.now < began_at + 250.0:
        count = len(engine.pings)
        wait_s(campaign, clock, 1.0)
        if len(engine.pings) > count:
            times.append(clock.now - began_at)
    assert times[:2] == [2 * POLICY.ping_s + 1, 6 * POLICY.ping_s + 2]
    assert {later - earlier for earlier, later in itertools.pairwise(times[1:])} == {
        4 * POLICY.ping_s + 1
    }


def test_where_pings_are_answered_they_are_as_frequent_as_before(begin, clock):
    campaign, engine, _tasks = pinged(begin, clock)
    for count in range(1, 6):
        assert len(engine.pings) == count
        engine.pings[-1].set_result(False)
        campaign.go_on()
        wait_s(campaign, clock, POLICY.ping_s + 1.0)


def test_a_ping_is_as_good_as_lost_when_another_was_answered(begin, clock):
    campaign, engine, _tasks = pinged(begin, clock)
    wait_s(campaign, clock, 2 * POLICY.ping_s + 1.0)
    engine.pings[1].set_result(False)
    campaign.go_on()
    wait_s(campaign, clock, POLICY.ping_s + 1.0)
    assert len(engine.pings) == 3


def test_where_answers_come_nobody_pings(begin, clock):
    tasks = toy_tasks(20)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short)
    submit(campaign, tasks)
    for number in range(19):
        wait_s(campaign, clock, POLICY.ping_s - 1.0)
        answer(campaign, engine.submissions[number])
    assert engine.pings == []


def test_before_there_is_a_worker_nobody_pings(begin, clock):
    engine = LossyEngine()
    engine.first_answer_at = None
    campaign = begin(engine, expected_s=short)
    submit(campaign, toy_tasks(1))
    wait_s(campaign, clock, 100.0)
    assert engine.pings == []
    engine.first_answer_at = clock.now
    wait_s(campaign, clock, POLICY.ping_s + 1.0)
    assert len(engine.pings) == 1


def test_with_nothing_in_flight_nobody_pings(begin, clock):
    tasks = toy_tasks(1)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short)
    submit(campaign, tasks)
    answer(campaign, engine.submissions[0])
    wait_s(campaign, clock, 100.0)
    assert engine.pings == []


def test_while_winding_down_nobody_pings_and_nothing_is_sent_again(begin, clock):
    tasks = toy_tasks(2)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short)
    submit(campaign, tasks)
    answer(campaign, engine.submissions[1])
    campaign.wind_down("Ctrl-C")
    wait_s(campaign, clock, 100.0)
    assert (copies(engine, tasks), engine.pings) == ([], [])


def test_a_ping_of_before_a_restart_shows_nothing_of_what_was_sent_after_it(begin, clock):
    campaign, engine, tasks = pinged(begin, clock)
    engine.is_broken = True
    campaign.go_on()
    assert engine.restarts == 1
    engine.pings[0].set_result(False)
    campaign.go_on()
    assert not any(batch.overtaken_at for batch in campaign.state.flight)
    wait_s(campaign, clock, POLICY.ping_s + 1.0)
    assert len(engine.pings) == 2
    engine.pings[1].set_result(False)
    campaign.go_on()
    assert all(batch.overtaken_at for batch in campaign.state.flight)
    assert len(campaign.state.flight) == IN_FLIGHT
    assert not any(campaign.result(task).done() for task in tasks)


def test_a_ping_that_cannot_be_sent_is_tried_again_later(begin, clock, monkeypatch):
    tasks = toy_tasks(1)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short)
    tries = []

    def ping():
        tries.append(clock.now)
        raise EngineError("it is being started")

    monkeypatch.setattr(engine, "ping", ping)
    submit(campaign, tasks)
    for _ in range(3):
        wait_s(campaign, clock, POLICY.ping_s + 1.0)
    assert len(tries) == 3
    answer(campaign, engine.submissions[0])
    assert statuses(campaign, tasks) == ["ok"]


# What an earlier session has sent


def test_what_an_earlier_session_has_sent_is_awaited_and_not_sent(begin, clock):
    tasks = toy_tasks(4)
    engine = LossyEngine()
    before = engine.sent_before("group/a", tasks[:2]), engine.sent_before("group/b", tasks[2:3])
    campaign = begin(engine)
    campaign.collect("group/a", tasks[:2])
    campaign.collect("group/b", tasks[2:3])
    submit(campaign, tasks)
    for sent in before:
        answer(campaign, sent)
    assert engine.sent == [tasks[3].key]
    answer(campaign, engine.submissions[0])
    assert statuses(campaign, tasks) == ["ok"] * 4
    assert [campaign.result(task).result(0).attempts for task in tasks] == [1] * 4
    assert campaign.sendings.fits == 1
    assert [event.kind for event in campaign.events] == ["sent"]
    assert campaign.progress().total == campaign.progress().done == 4


def test_what_is_collected_while_something_is_sent_does_not_hold_that_up(begin):
    tasks = toy_tasks(8)
    engine = LossyEngine(workers=3)
    engine.sent_before("group/a", tasks[:1])
    campaign = begin(engine)
    campaign.submit(tasks[1:])
    campaign.collect("group/a", tasks[:1])
    campaign.go_on()
    assert len(engine.submissions) == 3 * IN_FLIGHT - 1


def test_of_what_was_sent_together_only_what_is_asked_for_is_taken(begin, clock):
    tasks = toy_tasks(3)
    engine = LossyEngine()
    before = engine.sent_before("group/a", tasks)
    campaign = begin(engine)
    campaign.collect("group/a", tasks[1:2])
    campaign.go_on()
    answer(campaign, before)
    assert [result.key for result in campaign.taken] == [tasks[1].key]
    assert tasks[0] not in campaign


def test_what_is_known_is_not_collected(begin, clock):
    tasks = toy_tasks(1)
    engine = LossyEngine()
    campaign = begin(engine)
    submit(campaign, tasks)
    campaign.collect("group/nowhere", tasks)
    answer(campaign, engine.submissions[0])
    assert statuses(campaign, tasks) == ["ok"]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "error",
    [
        WorkerLostError("died"),
        BlockLostError("gone"),
        RemoteCallError("the service knows no such task"),
        EngineError("it cannot be asked"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_be_collected_is_sent_again_as_if_for_the_first_time(
    begin, clock, count, error
):
    tasks = toy_tasks(count)
    engine = LossyEngine()
    before = engine.sent_before("group/a", tasks)
    campaign = begin(engine, retries=1)
    campaign.collect("group/a", tasks)
    campaign.go_on()
    before.fail(error)
    campaign.go_on()
    # It breaks down each time, as often as any other may.
    for number in range(2 * count):
        engine.submissions[number].fail()
        campaign.go_on()
    assert statuses(campaign, tasks) == ["broken"] * count
    assert sorted(engine.sent) == sorted(2 * keys(tasks))
    attempts = [(event.attempt) for event in campaign.events if event.kind == "sent"]
    assert sorted(attempts) == [1] * count + [2] * count


def test_a_reference_that_the_engine_refuses_is_sent_again(begin, clock, monkeypatch):
    tasks = toy_tasks(1)
    engine = LossyEngine()
    campaign = begin(engine)

    def collect(reference):
        raise RemoteCallError(f"{reference} is no reference")

    monkeypatch.setattr(engine, "collect", collect)
    campaign.collect("nonsense", tasks)
    campaign.go_on()
    answer(campaign, engine.submissions[0])
    assert statuses(campaign, tasks) == ["ok"]


def test_what_ran_out_of_time_in_an_earlier_session_is_a_timeout(begin, clock):
    tasks = toy_tasks(1)
    engine = LossyEngine()
    before = engine.sent_before("group/a", tasks)
    campaign = begin(engine)
    campaign.collect("group/a", tasks)
    campaign.go_on()
    before.fail(TaskTimeoutError("it was ended after its time limit of 3 s"))
    campaign.go_on()
    assert statuses(campaign, tasks) == ["timeout"]
    assert engine.sent == []


def test_what_was_sent_before_and_is_lost_is_noticed_like_any_other(begin, clock):
    tasks = toy_tasks(2)
    engine = LossyEngine()
    engine.sent_before("group/a", tasks[:1])
    campaign = begin(engine, expected_s=short)
    campaign.collect("group/a", tasks[:1])
    submit(campaign, tasks[1:])
    answer(campaign, engine.submissions[0])
    wait_s(campaign, clock, POLICY.straggler_s + 1.0)
    assert engine.sent == keys([tasks[1], tasks[0]])
    answer(campaign, engine.submissions[1])
    assert statuses(campaign, tasks) == ["ok"] * 2


def test_what_is_collected_after_the_end_of_all_ends_with_it(begin, clock):
    tasks = toy_tasks(1)
    engine = LossyEngine()
    campaign = begin(engine)
    campaign.cancel("the session ended")
    campaign.collect("group/a", tasks)
    assert statuses(campaign, tasks) == ["cancelled"]


# What a later session can collect


def test_under_what_each_fit_can_be_collected_is_reported(begin, clock):
    tasks = toy_tasks(9)
    engine = LossyEngine(batch_s=0.02)
    campaign = begin(engine, expected_s=short)
    submit(campaign, tasks)
    first, second = engine.submissions
    engine.on_accepted(second.future, "group/2")
    engine.on_accepted(Future(), "group/of a ping")
    campaign.go_on()
    engine.on_accepted(first.future, "group/1")
    campaign.go_on()
    told = [(event.key, event.text) for event in campaign.events if event.kind == "accepted"]
    assert told == [(key, "group/2") for key in second.keys] + [
        (key, "group/1") for key in first.keys
    ]
    assert len(first.keys) == len(second.keys) == 2


def test_the_reference_of_a_copy_is_reported_as_well(begin, clock):
    campaign, engine, tasks = full(begin)
    wait_s(campaign, clock, POLICY.straggler_s + 1.0)
    engine.on_accepted(engine.submissions[3].future, "group/copy")
    campaign.go_on()
    told = [(event.key, event.text) for event in campaign.events if event.kind == "accepted"]
    assert told == [(tasks[0].key, "group/copy")]


def test_what_was_answered_before_it_was_accepted_is_not_to_be_collected(begin, clock):
    campaign, engine, _tasks = full(begin)
    engine.on_accepted(engine.submissions[1].future, "group/1")
    campaign.go_on()
    assert "accepted" not in {event.kind for event in campaign.events}


def test_what_is_accepted_at_the_last_moment_is_reported(begin, clock):
    tasks = toy_tasks(2)
    engine = LossyEngine()
    campaign = begin(engine)
    submit(campaign, tasks)
    campaign.cancel("the session ended")
    assert engine.settled == 1
    told = [(event.key, event.text) for event in campaign.events if event.kind == "accepted"]
    assert told == [(tasks[0].key, "group/0"), (tasks[1].key, "group/1")]
    assert campaign.taken == []


def test_what_remains_is_what_runs_on_and_no_more(begin, clock):
    campaign, engine, tasks = full(begin)
    assert campaign.remaining == 2  # one was answered, and two never sent
    wait_s(campaign, clock, POLICY.straggler_s + 1.0)
    assert campaign.remaining == 2  # one of them twice
    campaign.wind_down("Ctrl-C")
    assert campaign.remaining == 2
    answer(campaign, engine.submissions[0])
    assert campaign.remaining == 1
    assert len(tasks) == 5


def test_where_no_worker_has_come_yet_what_was_sent_remains(begin, clock):
    tasks = toy_tasks(5)
    engine = LossyEngine()
    engine.missing_since = clock.now
    campaign = begin(engine)
    submit(campaign, tasks)
    campaign.wind_down("Ctrl-C")
    assert statuses(campaign, tasks) == ["cancelled"] * 5
    assert campaign.remaining == IN_FLIGHT
    campaign.cancel("the session ended")
    assert campaign.remaining == IN_FLIGHT


def test_of_an_engine_whose_tasks_end_with_it_nothing_remains(begin, clock):
    engine = LossyEngine()
    engine.loses_tasks = False
    campaign = begin(engine)
    submit(campaign, toy_tasks(2))
    assert campaign.remaining == 0


def test_an_engine_that_breaks_down_ends_its_pings_and_all_is_given_up_in_the_end(begin, clock):
    """However often it is started, nothing of it is answered."""
    tasks = toy_tasks(1)
    engine = LossyEngine()
    campaign = begin(engine, expected_s=short, retries=10)
    submit(campaign, tasks)
    for _ in range(POLICY.restarts + 1):
        wait_s(campaign, clock, POLICY.ping_s + 1.0)
        engine.pings[-1].set_exception(EngineError("it was stopped"))
        engine.is_broken = True
        campaign.go_on()
    assert statuses(campaign, tasks) == ["broken"]
    assert len(engine.pings) == POLICY.restarts + 1
