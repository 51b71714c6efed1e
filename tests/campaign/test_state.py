"""The state of a campaign, alone: events and moments in, instructions out."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pytest_pyhf_faas.campaign.estimates import FitTimes, Pace
from pytest_pyhf_faas.campaign.events import (
    Accepted,
    Answered,
    Collect,
    Count,
    EngineUnusable,
    Facts,
    Failed,
    Fit,
    FoundSent,
    GiveUp,
    Halt,
    Looked,
    Note,
    Outcome,
    Ping,
    PingEnded,
    Restart,
    Restarted,
    Send,
    Sent,
    Stopped,
    Submitted,
    Take,
    Ticked,
    WoundDown,
)
from pytest_pyhf_faas.campaign.log import replay
from pytest_pyhf_faas.campaign.policy import Policy
from pytest_pyhf_faas.campaign.results import TOO_LONG
from pytest_pyhf_faas.campaign.state import CampaignState

pytestmark = pytest.mark.timeout(300)

FACTS = Facts(spec="engine", workers=2, workers_there=2, in_flight=4)
#: An engine that does not notice when a worker hangs.
BLIND = replace(FACTS, watches_workers=False)
#: One that does not know either what it has lost.
LOSSY = replace(BLIND, loses_tasks=True, ready_at=0.0)
MANY_STEPS = 2000


def a_fit(number, expected_s=None):
    return Fit(f"key{number}", "group", "family", expected_s, f"toy/{number}")


def keys(*numbers):
    return tuple(f"key{number}" for number in numbers)


class Scene:
    """A state, what it has been told and what it has decided."""

    def __init__(self, policy=None, facts=FACTS):
        self.policy = policy or Policy()
        self.state = CampaignState(self.policy)
        self.now = 1000.0
        self.log = [(self.now, self.policy)]
        self.decided = []
        self.tell(Looked(facts))

    def tell(self, event, after_s=0.0):
        """Hand an event over; return what is to be done, notes and all."""
        self.now += after_s
        decided = self.state.handle(event, self.now)
        self.log += [(self.now, event), *((self.now, instruction) for instruction in decided)]
        self.decided += decided
        return decided

    def submit(self, *fits):
        """Submit fits and have the engine take all that is sent; return the sendings."""
        return self.all_sent(self.tell(Submitted(tuple(fits))))

    def all_sent(self, decided):
        """Have the engine take what is sent, and what is sent then; return the sendings."""
        sent = []
        while sends := [each for each in decided if isinstance(each, Send)]:
            sent += sends
            decided = self.tell(Sent(sends[0].batch))
        return sent

    def answer(self, send, *, after_s=0.0, fit_s=1.0, error=None):
        """Have a worker answer a batch, and the engine take what is then sent."""
        outcomes = tuple(Outcome(key, None if error else fit_s, error) for key in send.keys)
        decided = self.tell(Answered(send.batch, "toy:1", outcomes), after_s)
        return [*decided, *self.all_sent(decided)[1:]]

    def fail(self, send, trouble, *, after_s=0.0):
        return self.tell(Failed(send.batch, trouble, "it broke"), after_s)


def of(kind, decided):
    return [each for each in decided if isinstance(each, kind)]


# What is sent, one batch at a time


def test_the_next_batch_is_sent_when_the_engine_has_taken_the_one_before():
    scene = Scene()
    fits = tuple(a_fit(number) for number in range(3))
    assert scene.tell(Submitted(fits)) == [Send(1, keys(0), (1,), "first")]
    assert scene.tell(Ticked()) == []
    assert scene.tell(Sent(1)) == [Send(2, keys(1), (1,), "first")]
    assert scene.tell(Sent(2)) == [Send(3, keys(2), (1,), "first")]
    assert scene.tell(Sent(3)) == []


def test_an_engine_that_refuses_a_batch_is_restarted_before_anything_else_is_sent():
    scene = Scene()
    fits = tuple(a_fit(number) for number in range(3))
    scene.tell(Submitted(fits))
    assert scene.tell(Failed(1, "engine lost", "it takes no tasks")) == [
        Restart(),
        Note("key0", "engine lost", 1, "it takes no tasks"),
    ]
    assert scene.tell(Submitted((a_fit(3),))) == []
    assert of(Send, scene.tell(Restarted())) == [Send(2, keys(1), (1,), "first")]


def broken_down(scene, times):
    """Have the engine break down so often in a row; return what is decided the last time."""
    for _ in range(times):
        (send,) = of(Send, scene.decided)[-1:]
        decided = scene.tell(Failed(send.batch, "engine lost", "it died"))
        if of(Restart, decided):
            scene.tell(Restarted())
    return decided


def test_an_engine_that_breaks_down_again_and_again_is_given_up():
    scene = Scene(Policy(restarts=2, retries=99))
    scene.tell(Submitted((a_fit(0),)))
    assert of(Restart, broken_down(scene, 2)) == [Restart()]
    ended, halt = broken_down(scene, 1)[-2:]
    assert (ended.key, ended.status, halt) == ("key0", "broken", Halt())
    assert "the engine engine broke down 3 times in a row without any answer" in ended.text
    assert "it died" in ended.text


def test_an_answer_in_between_has_break_downs_counted_again():
    scene = Scene(Policy(restarts=2, retries=99), replace(FACTS, in_flight=1))
    scene.tell(Submitted((a_fit(0), a_fit(1))))
    assert of(Restart, broken_down(scene, 2)) == [Restart()]
    scene.answer(of(Send, scene.decided)[-1])
    assert of(Restart, broken_down(scene, 2)) == [Restart()]


def test_no_more_is_sent_than_the_engine_should_hold():
    scene = Scene()
    sent = scene.submit(*(a_fit(number) for number in range(9)))
    assert [send.batch for send in sent] == [1, 2, 3, 4]
    scene.tell(Looked(replace(FACTS, in_flight=6)))
    assert [send.batch for send in scene.all_sent(scene.decided[-1:])] == [5, 6]


def test_the_longest_goes_first_and_what_is_unknown_before_it():
    scene = Scene(facts=replace(FACTS, in_flight=9))
    sent = scene.submit(a_fit(0, 1.0), a_fit(1), a_fit(2, 3.0))
    assert [send.keys for send in sent] == [keys(1), keys(2), keys(0)]


def test_a_fit_that_is_under_way_is_not_begun_again():
    scene = Scene()
    (send,) = scene.submit(a_fit(0))
    assert scene.submit(a_fit(0)) == []
    assert of(Take, scene.answer(send)) == [Take("key0", 1, 1)]
    assert len(scene.submit(a_fit(0))) == 1  # measured again


# What is decided when something came back


def test_an_answer_ends_its_fits_and_its_time_counts_from_its_sending():
    scene = Scene()
    (send,) = scene.submit(a_fit(0))
    assert scene.answer(send, after_s=7.0) == [Count(1, 1000.0), Take("key0", 1, 1)]


def test_a_loss_of_a_worker_costs_an_attempt_and_the_last_one_ends_the_fit():
    scene = Scene(Policy(retries=1))
    (send,) = scene.submit(a_fit(0))
    (note, again) = scene.fail(send, "worker lost")
    assert note == Note("key0", "worker lost", 1, "it broke")
    assert again == Send(2, keys(0), (2,), "again")
    scene.tell(Sent(2))
    assert scene.fail(again, "worker lost") == [
        Note("key0", "worker lost", 2, "it broke"),
        GiveUp("key0", "broken", "broken", "it broke\nattempt 1: it broke", 2),
    ]


def test_a_loss_of_its_block_costs_a_fit_no_attempt_and_the_second_makes_it_a_suspect():
    scene = Scene(Policy(retries=0))
    (send,) = scene.submit(a_fit(0))
    for why in ("again", "alone", "alone"):
        (send,) = of(Send, scene.fail(send, "block lost"))
        assert (send.attempts, send.why) == ((1,), why)
        scene.tell(Sent(send.batch))
    (ended,) = of(GiveUp, scene.fail(send, "block lost"))
    assert (ended.status, ended.attempts) == ("broken", 1)
    assert "This fit was there 4 times when that happened" in ended.text


def test_while_a_suspect_runs_nothing_else_is_sent():
    scene = Scene()
    (send,) = scene.submit(a_fit(0))
    for _ in range(2):
        (send,) = of(Send, scene.fail(send, "block lost"))
        scene.tell(Sent(send.batch))
    assert send.why == "alone"
    assert scene.submit(a_fit(1), a_fit(2)) == []
    assert of(Send, scene.answer(send)) == [
        Send(4, keys(1), (1,), "first"),
        Send(5, keys(2), (1,), "first"),
    ]


def test_what_comes_from_an_engine_that_was_replaced_is_of_no_interest():
    scene = Scene()
    (send,) = scene.submit(a_fit(0))
    scene.tell(Looked(replace(FACTS, broken=True)))
    scene.tell(Looked(FACTS))
    (again,) = of(Send, scene.tell(Restarted()))
    assert scene.answer(send) == scene.fail(send, "engine lost") == scene.tell(Sent(1)) == []
    scene.tell(Sent(again.batch))
    assert of(Take, scene.answer(again)) == [Take("key0", 2, 1)]


def test_an_engine_that_is_unusable_ends_all_and_what_comes_later():
    scene = Scene()
    scene.submit(a_fit(0))
    assert scene.tell(EngineUnusable("no block ever started")) == [
        GiveUp("key0", "broken", "engine", "no block ever started", 0),
        Halt(),
    ]
    assert scene.tell(Submitted((a_fit(1),))) == [
        GiveUp("key1", "broken", "engine", "no block ever started", 0)
    ]
    assert scene.tell(EngineUnusable("again")) == scene.tell(Stopped("again")) == []


def test_what_is_accepted_changes_nothing():
    scene = Scene()
    scene.submit(a_fit(0))
    assert scene.tell(Accepted(1, "group/1")) == []


def test_what_an_earlier_session_has_sent_is_collected_and_its_time_does_not_count():
    scene = Scene()
    assert scene.tell(FoundSent("group/1", (a_fit(0),))) == [Collect(1, keys(0), "group/1")]
    assert scene.tell(Answered(1, "toy:1", (Outcome("key0", 1.0),))) == [Take("key0", 1, 1)]


# What no answer tells of


def known(facts, **policy):
    """A scene with one fit in flight, after another of its family has taken a second."""
    scene = Scene(Policy(**policy), facts)
    first, second = scene.submit(a_fit(0), a_fit(1))
    scene.answer(second)
    return scene, first


def test_a_straggler_is_copied_once_where_a_worker_is_idle():
    scene, first = known(BLIND)
    assert scene.tell(Ticked(), Policy().straggler_s) == []
    assert scene.tell(Ticked(), 1.0) == [Send(3, first.keys, (1,), "copy")]
    scene.tell(Sent(3))
    assert scene.tell(Ticked(), 1.0) == []
    assert of(Take, scene.answer(first)) == [Take("key0", 1, 1)]
    assert scene.answer(Send(3, first.keys, (1,), "copy")) == []


def test_while_a_batch_is_being_sent_no_straggler_is_copied():
    scene, first = known(replace(BLIND, workers=3, workers_there=3))
    (send,) = scene.tell(Submitted((a_fit(2),)))
    assert scene.tell(Ticked(), Policy().straggler_s + 1.0) == []
    scene.tell(Sent(send.batch))
    (copy,) = scene.tell(Ticked())
    assert (copy.keys, copy.why) == (first.keys, "copy")


def test_while_an_engine_is_restarted_it_may_be_silent():
    scene = Scene(Policy(timeout_s=10.0), BLIND)
    scene.submit(a_fit(0))
    assert of(Restart, scene.tell(Looked(replace(BLIND, broken=True)))) == [Restart()]
    scene.tell(FoundSent("group/1", (a_fit(1),)))
    assert scene.tell(Ticked(), 1000.0) == []


@pytest.mark.parametrize(
    ("missing", "why", "after_s"),
    [("worker", "lost", 5.0), ("word from the service", "copy", Policy().straggler_s)],
)
def test_what_the_engine_had_when_it_went_is_sent_soon_again(missing, why, after_s):
    scene, first = known(LOSSY)
    gone = replace(LOSSY, missing_since=scene.now, waits_for="it is offline", missing=missing)
    scene.tell(Looked(gone), 1.0)
    scene.tell(Looked(LOSSY), 30.0)
    assert of(Send, scene.tell(Ticked(), after_s - 0.1)) == []
    (copy,) = of(Send, scene.tell(Ticked(), 0.2))
    assert (copy.keys, copy.why) == (first.keys, why)


def test_while_a_suspect_waits_no_straggler_is_copied():
    scene, first = known(BLIND)
    (send,) = scene.submit(a_fit(2))
    (send,) = of(Send, scene.fail(send, "block lost"))
    scene.tell(Sent(send.batch))
    assert of(Send, scene.fail(send, "block lost")) == []  # it waits until the first has ended
    assert scene.tell(Ticked(), Policy().straggler_s + 1.0) == []
    assert of(Send, scene.answer(first)) == [Send(5, keys(2), (1,), "alone")]


def test_the_time_of_a_fit_is_the_mean_of_its_family_or_that_of_its_reference_here():
    times = FitTimes()
    assert times.measured([a_fit(0)]) == 0
    assert (times.of(a_fit(0)), times.of(a_fit(0, 3.0))) == (None, 3.0)
    for fit, fit_s in ((a_fit(1), 2.0), (a_fit(2), 3.0), (a_fit(3), 7.0)):
        times.learn(fit, fit_s)
    assert times.measured([a_fit(0)]) == 3
    assert times.measured([a_fit(0), replace(a_fit(0), family="another")]) == 0
    assert times.of(a_fit(4)) == pytest.approx(4.0)
    assert times.of(replace(a_fit(4), family="another")) is None
    times.learn(a_fit(5, 1.0), 4.0)
    times.learn(a_fit(6, 3.0), 4.0)
    assert times.of(a_fit(7, 10.0)) == pytest.approx(20.0)
    assert times.of_all([a_fit(7, 10.0), a_fit(4)]) == pytest.approx(20.0 + 4.0)
    assert times.of_all([a_fit(7, 10.0), replace(a_fit(4), family="another")]) is None


def test_the_time_left_is_that_of_the_fits_on_the_workers_until_enough_are_done():
    pace = Pace(0.0)
    for moment in (3.0, 6.0, 9.0):
        pace.did(2.0, moment)
        assert pace.left_s(40.0, 2, moment) == 20.0
    pace.did(2.0, 12.0)
    assert pace.left_s(40.0, 3, 12.0) == pytest.approx(40.0 / 3)  # each should have done some


def test_the_time_left_then_follows_how_fast_fits_are_done():
    pace = Pace(0.0)
    for moment in (3.6, 7.2, 10.9, 14.5):  # with what comes between them
        pace.did(2.0, moment)
    assert pace.left_s(30.0, 2, 14.5) == pytest.approx(14.5 / 8.0 * 30.0)
    # It falls between two answers, and says nothing that was not measured.
    assert pace.left_s(30.0, 2, 24.5) == pytest.approx(14.5 / 8.0 * 30.0 - 10.0)
    assert pace.left_s(2.0, 2, 24.5) == 0.0


def test_time_without_a_worker_is_no_time_of_fits():
    pace = Pace(100.0)
    pace.paused(50.0, 130.0)
    for moment in (133.0, 136.0, 139.0):
        pace.did(2.0, moment)
    pace.paused(140.0, 240.0)
    pace.did(2.0, 242.0)
    assert pace.left_s(8.0, 1, 242.0) == pytest.approx(12.0)


def test_times_of_another_way_to_fit_tell_nothing_but_ratios_within_a_family():
    times = FitTimes()
    short, long = (replace(a_fit(0, seconds), is_relative=True) for seconds in (1.0, 3.0))
    elsewhere = replace(long, family="another")
    assert times.of(long) is None
    assert times.of_all([long, a_fit(1, 5.0)]) is None
    times.learn(short, 20.0)
    assert times.of(long) == pytest.approx(60.0)
    assert times.of(elsewhere) is None
    assert times.of(a_fit(2, 5.0)) == pytest.approx(5.0)  # which says nothing of the machine


def test_fits_of_unknown_time_that_took_longest_elsewhere_go_first():
    scene = Scene()
    fits = [replace(a_fit(n, seconds), is_relative=True) for n, seconds in enumerate((1.0, 9.0))]
    sent = of(Send, scene.submit(*fits))
    assert [send.keys for send in sent] == [keys(1), keys(0)]  # each alone


def test_a_ping_that_overtakes_a_batch_has_it_copied_in_time():
    scene = Scene(facts=LOSSY)
    scene.submit(a_fit(0, 1.0))
    assert scene.tell(Ticked(), Policy().ping_s) == []
    assert scene.tell(Ticked(), 1.0) == [Ping(2)]
    assert scene.tell(PingEnded(2, answered=True)) == []
    (copy,) = of(Send, scene.tell(Ticked(), Policy().straggler_s + 1.0))
    assert (copy.keys, copy.why) == (keys(0), "copy")


@pytest.mark.parametrize("answered", [True, False])
def test_a_ping_that_has_ended_no_longer_delays_the_next(answered):
    scene = Scene(facts=LOSSY)
    scene.submit(a_fit(0, 1000.0))
    (ping,) = of(Ping, scene.tell(Ticked(), Policy().ping_s + 1.0))
    scene.tell(PingEnded(ping.ping, answered))
    assert of(Ping, scene.tell(Ticked(), Policy().ping_s + 1.0)) != []


def test_a_silent_engine_is_restarted_and_the_only_fit_on_it_ends_in_time():
    scene, _first = known(BLIND, retries=0, timeout_s=10.0)
    assert of(Restart, scene.tell(Ticked(), 200.0)) == []
    scene = Scene(Policy(retries=0, timeout_s=10.0), replace(BLIND, workers=1, workers_there=1))
    scene.submit(a_fit(0))
    assert scene.tell(Ticked(), 320.0) == []
    text = "no answer came for 321 s, where 320 s are enough for all that was sent"
    assert scene.tell(Ticked(), 1.0) == [
        Restart(),
        Note("key0", "timeout", 1, text),
        GiveUp("key0", "timeout", "timeout", text, 1),
    ]


@pytest.mark.parametrize(
    ("remedy", "told"),
    [
        ("check the queue", "1 pending. Check the queue, or wait longer with --faas-queue-"),
        (None, "1 pending. Wait longer with --faas-queue-timeout"),
    ],
)
def test_where_no_worker_comes_all_is_given_up(remedy, told):
    waits = replace(FACTS, missing_since=1000.0, waits_for="blocks: 1 pending", remedy=remedy)
    scene = Scene(Policy(queue_timeout_s=60.0), waits)
    scene.submit(a_fit(0))
    assert scene.tell(Ticked(), 60.0) == []
    (ended, halt) = scene.tell(Ticked(), 1.0)
    assert (ended.status, ended.error, halt) == ("broken", "engine", Halt())
    assert "no worker of engine was available for 61 s: blocks: 1 pending" in ended.text
    assert told in ended.text
    assert ended.attempts == 0


def test_a_tick_that_asks_for_nothing_changes_nothing():
    """So that it need not be in the log."""
    scene, _first = known(LOSSY, timeout_s=50.0)
    quiet = Scene(Policy(timeout_s=50.0), LOSSY)
    quiet.submit(a_fit(0), a_fit(1))
    quiet.answer(Send(2, keys(1), (1,), "first"))
    for _ in range(9):
        assert scene.tell(Ticked(), 1.0) == []
    quiet.now = scene.now
    assert scene.tell(Ticked(), 20.0) == quiet.tell(Ticked(), 20.0) != []


# The end


def test_winding_down_sends_nothing_more_and_stopping_ends_the_rest():
    scene = Scene(facts=replace(LOSSY, in_flight=1))
    (send,) = scene.submit(a_fit(0), a_fit(1))
    assert scene.tell(WoundDown("Ctrl-C")) == [
        GiveUp("key1", "cancelled", "cancelled", "Ctrl-C", 0)
    ]
    assert scene.tell(Ticked(), 25.0) == []
    assert scene.state.with_engine == {"key0"}
    (ended, halt) = scene.tell(Stopped("the session ended"))
    assert (ended.key, ended.status, halt) == ("key0", "cancelled", Halt())
    assert scene.state.with_engine == {"key0"}  # it runs on
    assert scene.answer(send) == []


def test_winding_down_where_no_worker_is_ends_all_at_once():
    """What is with the engine does not run, so that there is nothing to wait for."""
    scene = Scene(facts=replace(FACTS, in_flight=1))
    scene.submit(a_fit(0), a_fit(1))
    scene.tell(Looked(replace(FACTS, in_flight=1, missing_since=scene.now)))
    decided = scene.tell(WoundDown("Ctrl-C"))
    assert {(each.key, each.status, each.text) for each in of(GiveUp, decided)} == {
        ("key0", "cancelled", "Ctrl-C"),
        ("key1", "cancelled", "Ctrl-C"),
    }


# Whatever the order of events

TROUBLES = [
    "worker lost",
    "block lost",
    "engine lost",
    "timeout",
    "out of memory",
    "remote call failed",
]
facts_of_an_engine = st.builds(
    Facts,
    spec=st.just("engine"),
    workers=st.integers(1, 3),
    workers_there=st.integers(0, 3),
    in_flight=st.integers(1, 6),
    batch_s=st.sampled_from([0.0, 5.0]),
    watches_workers=st.booleans(),
    loses_tasks=st.booleans(),
    ready_at=st.sampled_from([None, 0.0]),
    missing_since=st.sampled_from([None, None, 1000.0]),
    broken=st.sampled_from([False, False, False, True]),
)


class StateMachine(RuleBasedStateMachine):
    """A state under any order of events, sensible or not."""

    @initialize(
        facts=facts_of_an_engine,
        retries=st.integers(0, 2),
        timeout_s=st.sampled_from([None, 30.0]),
        queue_timeout_s=st.sampled_from([None, 100.0]),
    )
    def begin(self, facts, retries, timeout_s, queue_timeout_s):
        self.scene = Scene(Policy(timeout_s, retries, queue_timeout_s), facts)
        self.submitted = 0
        self.ended_early = False

    def sends(self):
        return of((Send, Collect), self.scene.decided)

    def tell(self, event, after_s=0.0):
        decided = self.scene.tell(event, after_s)
        assert len(of(Send, decided)) <= 1
        assert len(of(Restart, decided)) <= 1

    @rule(count=st.integers(1, 4), expected_s=st.sampled_from([None, 0.1, 10.0]))
    def submit(self, count, expected_s):
        numbers = range(self.submitted, self.submitted + count)
        self.submitted += count
        self.tell(Submitted(tuple(a_fit(number, expected_s) for number in numbers)))

    @rule(count=st.integers(1, 2))
    def find_sent(self, count):
        numbers = range(self.submitted, self.submitted + count)
        self.submitted += count
        self.tell(FoundSent("group/1", tuple(a_fit(number) for number in numbers)))

    @precondition(lambda self: self.sends())
    @rule(pick=st.integers(0, 99), seconds=st.sampled_from([0.0, 1.0]))
    def take(self, pick, seconds):
        self.tell(Sent(self.sends()[-1 - pick % len(self.sends())].batch), seconds)

    @precondition(lambda self: self.sends())
    @rule(
        pick=st.integers(0, 99),
        error=st.sampled_from([None, None, None, "ValueError", "MemoryError"]),
        seconds=st.sampled_from([0.1, 30.0]),
    )
    def answer(self, pick, error, seconds):
        send = self.sends()[-1 - pick % len(self.sends())]
        fit_s = None if error else 1.0
        outcomes = tuple(Outcome(key, fit_s, error) for key in send.keys)
        self.tell(Answered(send.batch, "toy:1", outcomes), seconds)

    @precondition(lambda self: self.sends())
    @rule(pick=st.integers(0, 99), trouble=st.sampled_from(TROUBLES))
    def fail(self, pick, trouble):
        send = self.sends()[-1 - pick % len(self.sends())]
        self.tell(Failed(send.batch, trouble, "it broke"), 0.1)

    @rule(facts=facts_of_an_engine)
    def look(self, facts):
        self.tell(Looked(facts), 0.1)

    @rule(seconds=st.sampled_from([0.2, 15.0, 50.0, 400.0]))
    def tick(self, seconds):
        self.tell(Ticked(), seconds)

    @rule()
    def restart(self):
        self.tell(Restarted(), 1.0)

    @rule(number=st.integers(0, 40), answered=st.booleans())
    def end_ping(self, number, answered):
        self.tell(PingEnded(number, answered), 0.1)

    @precondition(lambda self: self.submitted > 10)
    @rule(event=st.sampled_from([WoundDown("Ctrl-C"), Stopped("over"), EngineUnusable("gone")]))
    def end_early(self, event):
        self.ended_early = True
        self.tell(event)

    @invariant()
    def no_fit_ends_twice(self):
        ended = Counter(each.key for each in of((Take, GiveUp), self.scene.decided))
        assert max(ended.values(), default=1) == 1

    @invariant()
    def each_fit_is_somewhere(self):
        state = self.scene.state
        ended = {each.key for each in of((Take, GiveUp), self.scene.decided)}
        queued = [entry.fit.key for entry in state.queue]
        assert len(queued) == len(set(queued))
        assert not set(queued) & (ended | state.flight.open_keys)
        assert set(keys(*range(self.submitted))) - ended == {*queued, *state.flight.open_keys}

    @invariant()
    def a_suspect_has_the_engine_for_itself(self):
        flight = self.scene.state.flight
        if any(batch.alone for batch in flight):
            assert len([batch for batch in flight if not batch.collected]) == 1

    def teardown(self):
        """Let all that can be answered be answered: then no fit is left."""
        scene = self.scene
        scene.tell(Looked(FACTS))
        for _ in range(MANY_STEPS):
            state = scene.state
            if not state.flight and not state.queue and not state.queue.has_suspects:
                break
            scene.tell(Restarted())
            for send in of(Send, scene.decided)[-1:]:
                scene.tell(Sent(send.batch))
            for number, batch in list(state.flight.batches.items())[:1]:
                outcomes = tuple(Outcome(entry.fit.key, 1.0) for entry in batch.entries)
                scene.tell(Answered(number, "toy:1", outcomes))
        else:
            raise AssertionError("it never ends")
        ended = Counter(each.key for each in of((Take, GiveUp), scene.decided))
        assert ended == dict.fromkeys(keys(*range(self.submitted)), 1)
        cancelled = [each for each in of(GiveUp, scene.decided) if each.status == "cancelled"]
        assert self.ended_early or not cancelled
        for event, logged, decided in replay(scene.log):
            assert logged == decided, event


StateMachine.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestStateMachine = StateMachine.TestCase


# --- fits that are longer than a block lives ----------------------------------------------------

#: A batch system ends its blocks after ten minutes.
SHORT_LIVED = replace(FACTS, workers=1, workers_there=1, ready_at=0.0, walltime_s=600.0)


def lose_after(scene, ran_s):
    """Let the block go that has a fit for so long; return what is sent, and who is given up."""
    send = of(Send, scene.decided)[-1]
    decided = scene.tell(Failed(send.batch, "block lost", "its block is gone"), ran_s)
    return of(Send, decided), of(GiveUp, decided)


def submitted(facts, *numbers):
    scene = Scene(facts=facts)
    send = scene.tell(Submitted(tuple(a_fit(number) for number in numbers)))[0]
    scene.tell(Sent(send.batch))
    return scene


def resend(scene):
    scene.tell(Sent(of(Send, scene.decided)[-1].batch))


def test_a_walltime_that_is_shorter_than_a_fit_is_reported_after_two_blocks():
    scene = submitted(SHORT_LIVED, 1)
    assert lose_after(scene, 580.0)[1] == []
    resend(scene)
    sent, (ended,) = lose_after(scene, 590.0)
    assert sent == []
    assert ended.status == "broken"
    assert "The walltime of a block, 10 min 00 s, is shorter than the fit" in ended.text
    assert "has run for all of it 2 times" in ended.text
    assert "set a longer walltime" in ended.text
    assert "the fit had run for 9 min 40 s, the walltime is 10 min 00 s" in ended.text
    # What a block ended with is one text for all fits that ran there.
    assert {note.text for note in of(Note, scene.decided)} == {"its block is gone"}


UNKNOWN = replace(SHORT_LIVED, walltime_s=None)


def test_a_block_that_is_missed_late_has_not_lived_longer():
    """Its end shows when no heartbeat has come for two minutes."""
    scene = submitted(replace(SHORT_LIVED, missed_after_s=120.0, workers=2), 1)
    for _ in range(2):
        assert lose_after(scene, 599.0)[1] == []
        resend(scene)
    while not (ended := lose_after(scene, 599.0)[1]):
        resend(scene)
    assert "the fit had run for 7 min 59 s, the walltime is 10 min 00 s" in ended[0].text


@pytest.mark.parametrize("facts", [SHORT_LIVED, UNKNOWN])
def test_blocks_that_end_at_one_age_are_likely_shorter_than_the_fit(facts):
    scene = submitted(facts, 1)
    assert lose_after(scene, 300.0)[1] == []
    resend(scene)
    sent, (ended,) = lose_after(scene, 310.0)
    assert (sent, ended.status, ended.error) == ([], "broken", TOO_LONG)
    assert "ended 2 times, 5 min 00 s to 5 min 10 s after such a fit could begin" in ended.text
    assert "likely the walltime of a block is shorter than the fit" in ended.text
    assert "or the fit brings its node down" in ended.text


@pytest.mark.parametrize(
    "ages", [(590.0, 300.0, 100.0, 40.0), (4.0, 4.0, 4.0, 4.0)], ids=["unlike", "at once"]
)
def test_blocks_that_end_by_accident_say_nothing_of_a_walltime(ages):
    scene = submitted(UNKNOWN, 1)
    for ran_s in ages[:-1]:
        assert lose_after(scene, ran_s)[1] == []
        resend(scene)
    _, (ended,) = lose_after(scene, ages[-1])
    assert "likely" not in ended.text
    assert "This fit was there 4 times" in ended.text


def lose_all(scene, ran_s):
    """Let the block go with all that it has; return what is sent then, and who is given up."""
    before = len(scene.decided)
    held = list(scene.state.flight.batches)
    for number, batch in enumerate(held):
        scene.tell(Failed(batch, "block lost", "its block is gone"), 0.0 if number else ran_s)
    send_all(scene)
    return of(Send, scene.decided[before:]), of(GiveUp, scene.decided[before:])


def send_all(scene):
    while (
        scene.state.with_engine
        and (last := of(Send, scene.decided)[-1])
        and of(Send, scene.tell(Sent(last.batch)))
    ):
        pass


WIDE = replace(UNKNOWN, workers=4, workers_there=4, in_flight=8)


def wide(facts=WIDE, count=4):
    scene = Scene(facts=facts)
    scene.tell(Submitted(tuple(a_fit(number) for number in range(count))))
    send_all(scene)
    return scene


def test_no_walltime_is_blamed_on_fits_that_were_there_with_others():
    """One of them may bring its node down: each has two blocks, then one of its own."""
    scene = wide()
    for _ in range(2):
        assert lose_all(scene, 300.0)[1] == []
    for name in (1, 2):
        (send,) = list(scene.state.flight.batches)
        _, ended = lose_all(scene, 300.0)
        assert ended, (name, send)
        if name == 1:
            assert len(ended) == 1
    # Two have ended so by themselves: of the others no more blocks are taken.
    assert len(of(GiveUp, scene.decided)) == 4
    assert len(of(Send, scene.decided)) == 2 * 4 + 2
    assert all("likely" in each.text for each in of(GiveUp, scene.decided))
    assert {each.error for each in of(GiveUp, scene.decided)} == {TOO_LONG}


def test_one_fit_that_brings_nodes_down_takes_no_other_along():
    scene = wide()
    for _ in range(2):
        lose_all(scene, 300.0)
    (ended,) = lose_all(scene, 300.0)[1]
    for _ in range(3):
        (batch,) = scene.state.flight.batches.items()
        outcome = Outcome(batch[1].entries[0].fit.key, 400.0)
        scene.tell(Answered(batch[0], "worker", (outcome,)), 400.0)
        if scene.state.with_engine:
            send_all(scene)
    assert len(of(Take, scene.decided)) == 3
    assert of(GiveUp, scene.decided) == [ended]


def test_a_known_walltime_is_reported_all_fits_of_a_block_at_once():
    scene = wide(replace(WIDE, walltime_s=600.0))
    assert lose_all(scene, 590.0)[1] == []
    sent, ended = lose_all(scene, 590.0)
    assert sent == []
    assert len(ended) == 4
    assert all("The walltime of a block, 10 min 00 s, is shorter" in each.text for each in ended)


def test_one_worker_takes_a_fit_after_the_other_and_two_blocks_are_enough():
    """What was lost goes behind what waits: no fit need be lost twice."""
    scene = submitted(replace(SHORT_LIVED, in_flight=1), 1, 2, 3)
    assert lose_all(scene, 590.0)[1] == []
    for number in (2, 3, 1):
        (ended,) = lose_all(scene, 590.0)[1]
        assert ended.key == f"key{number}"
    assert "for all of it 1 time, as others like it have: set" in of(GiveUp, scene.decided)[0].text


def test_one_worker_of_unknown_walltime_takes_three_blocks():
    scene = submitted(replace(UNKNOWN, in_flight=1), 1, 2, 3)
    assert lose_all(scene, 300.0)[1] == lose_all(scene, 310.0)[1] == []
    (ended,) = lose_all(scene, 305.0)[1]
    assert ended.key == "key3"
    assert "ended 3 times, 5 min 00 s to 5 min 10 s after such a fit could begin" in ended.text


def test_fits_that_one_block_took_along_are_no_proof_for_each_other():
    scene = wide(replace(WIDE, walltime_s=600.0))
    batches = list(scene.state.flight.batches)
    for number, batch in enumerate(batches):
        ended = scene.tell(Failed(batch, "block lost", "gone"), 1.0 if number else 590.0)
        assert of(GiveUp, ended) == []


@pytest.mark.parametrize("workers", [1, 4])
def test_on_an_engine_that_does_not_say_who_is_there_ages_tell_too(workers):
    """Its workers are known by their answers, and none once a block is lost."""
    there = replace(WIDE, workers=workers, workers_there=workers, loses_tasks=True, in_flight=256)
    gone = replace(there, workers=1, workers_there=0)
    scene = wide(there, count=workers)
    for _ in range(2):
        scene.tell(Looked(gone), 300.0)
        assert lose_all(scene, 1.0)[1] == []
    (ended,) = lose_all(scene, 290.0)[1]
    assert "likely the walltime" in ended.text
    assert len([each for each in of(Send, scene.decided) if ended.key in each.keys]) == 3


def test_that_no_worker_is_there_may_be_known_before_what_was_lost():
    scene = submitted(SHORT_LIVED, 1)
    for _ in range(2):
        scene.tell(Looked(replace(SHORT_LIVED, workers_there=0, missing_since=scene.now)), 590.0)
        sent, ended = lose_after(scene, 30.0)
        if sent:
            scene.tell(Looked(SHORT_LIVED), 100.0)
            resend(scene)
    assert "shorter than the fit" in ended[0].text


def test_a_fit_that_waited_at_a_worker_has_not_run():
    """Its block ended with its walltime, and the fit before it took most of that."""
    facts = replace(SHORT_LIVED, in_flight=2)
    scene = submitted(facts, 1, 2)
    second = of(Send, scene.decided)[-1]
    if second.keys == keys(1):
        second = scene.tell(Ticked())[0]
    scene.tell(Sent(second.batch))
    first = of(Send, scene.decided)[0]
    scene.tell(Answered(first.batch, "worker", (Outcome("key1", 400.0),)), 400.0)
    for _ in range(2):
        sent, ended = lose_after(scene, 200.0)
        assert (len(sent), ended) == (1, [])
        resend(scene)


def test_time_without_a_worker_does_not_count_as_run():
    scene = submitted(SHORT_LIVED, 1)
    for ran_s in (100.0, 200.0):
        scene.tell(Looked(replace(SHORT_LIVED, workers_there=0, missing_since=scene.now)), 1.0)
        scene.tell(Looked(SHORT_LIVED), 3000.0)
        assert lose_after(scene, ran_s)[1] == []
        resend(scene)


def test_a_fit_like_those_that_were_done_is_too_long_only_by_itself():
    facts = replace(SHORT_LIVED, in_flight=1)
    scene = submitted(facts, 1, 2, 3)
    scene.tell(Answered(of(Send, scene.decided)[0].batch, "w", (Outcome("key1", 300.0),)), 300.0)
    send_all(scene)
    assert lose_all(scene, 590.0)[1] == lose_all(scene, 590.0)[1] == []
    assert [each.key for each in lose_all(scene, 590.0)[1]] == ["key2"]


def test_of_fits_like_one_that_is_too_long_one_block_is_enough():
    scene = submitted(SHORT_LIVED, 1)
    lose_after(scene, 590.0)
    resend(scene)
    lose_after(scene, 590.0)
    send = of(Send, scene.tell(Submitted((a_fit(2),))))[0]
    scene.tell(Sent(send.batch))
    _, (ended,) = lose_after(scene, 590.0)
    assert "shorter than the fit" in ended.text


def test_the_time_left_counts_how_long_fits_have_run_already():
    facts = replace(FACTS, ready_at=0.0, in_flight=2)
    scene = Scene(facts=facts)
    first = of(Send, scene.tell(Submitted(tuple(a_fit(n, 600.0) for n in range(4)))))[0]
    scene.tell(Sent(first.batch))
    scene.tell(Sent(of(Send, scene.decided)[-1].batch))
    begun_at = scene.now
    assert scene.state.left_s(begun_at) == 4 * 600.0 / 2
    assert scene.state.left_s(begun_at + 300.0) == (4 * 600.0 - 2 * 300.0) / 2
    assert scene.state.running_s(begun_at + 300.0) == 300.0
    # They are longer than their like elsewhere: so will be the others.
    assert scene.state.left_s(begun_at + 900.0) == (1.5 * 4 * 600.0 - 2 * 900.0) / 2
