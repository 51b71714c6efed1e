"""Whatever an engine and the fits on it do, no fit is lost, and none counts twice."""

from __future__ import annotations

import tempfile
from collections import Counter, deque
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from pytest_pyhf_faas.campaign.journal import Journal, JournalReader
from pytest_pyhf_faas.campaign.log import replay
from pytest_pyhf_faas.campaign.policy import Policy
from pytest_pyhf_faas.engines.base import IN_FLIGHT
from pytest_pyhf_faas.errors import BlockLostError, EngineError, RemoteCallError, WorkerLostError
from tests.helpers.scripted_engine import (
    ENVIRONMENT,
    ScriptedEngine,
    Submission,
    toy_answer,
    toy_tasks,
)
from tests.helpers.stepped import Clock, SteppedCampaign

pytestmark = pytest.mark.timeout(600)

ENDPOINT = "scripted"
TIMEOUT_S = 50.0
CLOCK = Clock()
#: Two pallets by turns.
TASKS = [task for pair in zip(toy_tasks(8, "a"), toy_tasks(8, "b"), strict=True) for task in pair]
INDEX = {task.key: number for number, task in enumerate(TASKS)}
#: No example needs as many steps.
MANY_STEPS = 3000
POLICY = Policy()


def value_of(key):
    """The right CLs of a task: anything, but always the same."""
    return int(key[:8], 16) / 2**32


LOSSES = ("lose", "lose once", "lose all")
ERRORS = {"error": "ValueError", "memory": "MemoryError"}
FAILURES = {
    "worker": WorkerLostError("its worker process was killed"),
    "remote": RemoteCallError("no pyhf"),
    "strange": ZeroDivisionError("of the engine"),
    "engine says": EngineError("the interchange died"),
}


class SimulatedEngine(ScriptedEngine):
    """Workers in blocks, first come first served; what happens next is said from outside.

    Parameters
    ----------
    workers, per_block, batch_s, watches_workers, loses_tasks
        So many workers, so many of them in each block; the rest as of any engine.
    fates : dict
        What fits do whenever they run, by their keys: one of `ERRORS`, which are answers, or one
        of the words of `happen`; all others do as they are told.
    """

    def __init__(
        self,
        workers=2,
        per_block=2,
        batch_s=0.0,
        *,
        watches_workers=False,
        loses_tasks=False,
        fates=None,
    ):
        super().__init__(workers, batch_s)
        self.per_block = per_block
        self.watches_workers = watches_workers and not loses_tasks
        self.loses_tasks = loses_tasks
        self.fates = fates or {}
        self.first_answer_at = 1000.0 if loses_tasks else None
        self.waiting = deque()
        self.slots = [None] * workers
        self.hanging = set()
        self.ghosts = []
        self.names = [f"toy:{number}" for number in range(workers)]
        self.introduced = set()
        self.lives = iter(range(workers, 2**31))
        self.refuses = False

    def took(self, submission):
        if self.refuses:
            self.refuses = False
            raise EngineError("it takes no tasks")
        self.waiting.append(submission)

    def ping(self):
        if self.refuses:
            self.refuses = False
            raise EngineError("it takes no tasks")
        self.waiting.append(Future())
        return self.waiting[-1]

    def restart(self):
        super().restart()
        self.ghosts += self.held
        self.waiting.clear()
        self.slots = [None] * self.workers
        self.hanging.clear()
        self.names = [f"toy:{next(self.lives)}" for _ in self.names]

    @property
    def held(self):
        """What it has not answered, but for what went with its earlier lives."""
        return [sent for sent in (*self.slots, *self.waiting) if isinstance(sent, Submission)]

    def running(self):
        """The slots in which something runs that may end."""
        for slot in range(self.workers):
            while self.slots[slot] is None and self.waiting:
                if isinstance(self.waiting[0], Submission):
                    self.slots[slot] = self.waiting.popleft()
                else:
                    self.waiting.popleft().set_result(False)
        return [slot for slot, sent in enumerate(self.slots) if sent and slot not in self.hanging]

    def happen(self, word="ok", pick=0):
        """Let something happen to one of those that run, or to all around it."""
        CLOCK.now += 0.5
        if word == "ghost":
            if self.ghosts:
                self.answer(self.ghosts.pop(pick % len(self.ghosts)), "toy:ghost")
            return
        if word in ("gone", "back"):
            self.missing_since = CLOCK.now if word == "gone" else None
            return
        if word == "refuse":
            self.refuses = True
            return
        if word == "lose all" and self.loses_tasks:
            self.ghosts += self.held
            self.waiting.clear()
            self.slots = [None] * self.workers
            self.hanging.clear()
        running = [] if self.missing_since is not None else self.running()
        if not running:
            CLOCK.now += 50.0
            return
        slot = running[pick % len(running)]
        own = [self.fates[key] for key in self.slots[slot].keys if key in self.fates]
        fate = next((fate for fate in own if fate not in ERRORS), word)
        if self.loses_tasks and fate in LOSSES:
            self.lose(slot, once=fate == "lose once")
        else:
            self.befall(slot, "worker" if fate in LOSSES else fate)

    def lose(self, slot, *, once):
        if once:
            for key in self.slots[slot].keys:
                self.fates.pop(key, None)
        self.ghosts.append(self.take(slot))

    def befall(self, slot, word):
        if word == "hang" and self.watches_workers:
            word = "timeout"
        if word == "hang":
            self.hanging.add(slot)
        elif word == "engine":
            self.is_broken = True
        elif word in FAILURES:
            self.fail(slot, FAILURES[word])
        elif word == "block":
            first = slot - slot % self.per_block
            for other in range(first, min(first + self.per_block, self.workers)):
                if self.slots[other] is not None:
                    self.fail(other, BlockLostError("its block is gone"))
        elif word == "timeout":
            self.take(slot).time_out()
        else:
            name = self.names[slot]
            self.answer(self.take(slot), name, "MemoryError" if word == "memory" else None)

    def take(self, slot):
        sent, self.slots[slot] = self.slots[slot], None
        self.hanging.discard(slot)
        return sent

    def fail(self, slot, error):
        self.names[slot] = f"toy:{next(self.lives)}"
        self.take(slot).fail(error)

    def answer(self, sent, worker, error=None):
        results = []
        for key in sent.keys:
            raised = error or ERRORS.get(self.fates.get(key))
            results.append(toy_answer(key, error=raised))
            if not raised:
                results[-1]["CLs_obs"] = value_of(key)
        environment = None if worker in self.introduced else ENVIRONMENT
        self.introduced.add(worker)
        timing = {"began_s": CLOCK.now, "gap_s": 0.0, "unpack_s": 0.0, "total_s": 0.02}
        sent.future.set_result(
            {"worker": worker, "environment": environment, "results": results, **timing}
        )


class Run:
    """A campaign on a simulated engine, with its journal."""

    def __init__(self, engine, directory, name="run.jsonl", **options):
        CLOCK.now = 1000.0
        self.engine = engine
        self.taken = []
        self.journal = Journal(Path(directory, name))
        self.campaign = SteppedCampaign(
            engine,
            CLOCK,
            timeout_s=TIMEOUT_S,
            on_result=self.take,
            on_record=partial(self.journal.note, ENDPOINT),
            **options,
        )

    def take(self, result):
        self.taken.append(result)
        self.journal.write(ENDPOINT, result)

    def finish(self, tasks, script=()):
        """Follow a script, then let all that can be answered be answered; return the results."""
        script = deque(script)
        self.campaign.submit(tasks)
        for _ in range(MANY_STEPS):
            self.campaign.go_on()
            progress = self.campaign.progress()
            ended = progress.done + progress.cancelled
            assert ended <= progress.total
            if ended == progress.total:
                break
            if script:
                self.engine.happen(*script.popleft())
            else:
                self.engine.missing_since = None
                self.engine.happen()
        else:
            raise AssertionError("it never ends")
        self.journal.close()
        return {task.key: self.campaign.result(task).result() for task in tasks}

    def read(self):
        return [result for _endpoint, result in JournalReader(self.journal.path).read()]

    def check_replay(self):
        """A state that is alone with the log decides the same."""
        turns = list(replay(JournalReader(self.journal.path).records(ENDPOINT)))
        assert turns
        for event, logged, decided in turns:
            assert logged == decided, event


def told(result):
    """A result in full; NaN is not equal to itself, but reads the same."""
    return repr(result)


def check_counted_once(run, results):
    assert Counter(result.key for result in run.taken) == dict.fromkeys(results, 1)
    assert all(results[result.key] is result for result in run.taken)
    assert {result.status for result in results.values()} <= {"ok", "error", "broken", "timeout"}
    for key, result in results.items():
        if result.status == "ok":
            assert result.CLs_obs == value_of(key)
    run.check_replay()
    progress = run.campaign.progress()
    assert progress.total == progress.done == len(results)
    assert progress.failed == sum(result.status != "ok" for result in results.values())


HARMFUL = ["worker", "block", "engine", "engine says", "refuse", "hang", "remote", "strange"]
WORDS = [*["ok"] * 6, *HARMFUL, "lose", "lose all", "memory", "timeout", "ghost", "gone", "back"]


def scripts(words, most=40):
    return st.lists(st.tuples(st.sampled_from(words), st.integers(0, 5)), max_size=most)


engines = st.fixed_dictionaries(
    {
        "workers": st.integers(1, 4),
        "per_block": st.integers(1, 4),
        "batch_s": st.sampled_from([0.0, 0.25]),
        "watches_workers": st.booleans(),
        "loses_tasks": st.booleans(),
    }
)
expectations = st.lists(st.sampled_from([None, 0.01, 0.1, 3.0]), min_size=16, max_size=16)
counts = st.integers(1, 12)
retries = st.integers(0, 3)
fates = st.dictionaries(
    st.integers(0, 11), st.sampled_from(["error", "worker", "block", "engine", "hang", "memory"])
)
relaxed = partial(settings, deadline=None, suppress_health_check=list(HealthCheck))


def expected_by(expected):
    return lambda task: expected[INDEX[task.key]]


def by_key(fates):
    return {TASKS[number].key: fate for number, fate in fates.items()}


@relaxed(max_examples=300)
@given(
    engine=engines,
    count=counts,
    retries=retries,
    expected=expectations,
    fates=fates,
    script=scripts(WORDS),
    queue_timeout_s=st.sampled_from([None, 200.0]),
)
def test_whatever_an_engine_does_every_fit_ends_once_and_the_journal_has_it(
    engine, count, retries, expected, fates, script, queue_timeout_s
):
    with tempfile.TemporaryDirectory() as directory:
        engine = SimulatedEngine(**engine, fates=by_key(fates))
        run = Run(
            engine,
            directory,
            retries=retries,
            expected_s=expected_by(expected),
            queue_timeout_s=queue_timeout_s,
        )
        results = run.finish(TASKS[:count], script)
        check_counted_once(run, results)
        assert {r.key: told(r) for r in run.read()} == {k: told(r) for k, r in results.items()}
        sent = Counter(engine.sent)
    most = (
        retries + 1 + POLICY.losses + POLICY.restarts + 1
    )  # and once more in a batch that was split
    assert max(sent.values(), default=0) <= 2 * (most + 1)
    for result in results.values():
        assert result.is_answer <= result.attempts <= retries + 1


@relaxed(max_examples=200)
@given(
    engine=engines,
    count=counts,
    retries=retries,
    expected=expectations,
    poison=st.dictionaries(st.integers(0, 11), st.sampled_from(["worker", "block", "memory"])),
    breaker=st.none() | st.tuples(st.integers(0, 11), st.sampled_from(["engine", "engine says"])),
    errors=st.sets(st.integers(0, 11), max_size=3),
    picks=scripts(["ok"]),
)
def test_what_is_answered_whenever_it_runs_is_fitted_whatever_the_others_do(
    engine, count, retries, expected, poison, breaker, errors, picks
):
    fates = {**dict.fromkeys(errors, "error"), **poison, **dict([breaker] if breaker else [])}
    check_innocents(engine, count, retries, expected, fates, picks)


HANGING = {
    "engine": {"workers": 1, "per_block": 1, "batch_s": 0.0, "watches_workers": False},
    "count": 2,
    "retries": 1,
    "expected": [3.0, 0.1] + [None] * 14,
    "hanging": 0,
    "poison": {},
    "picks": [],
}


@example(**HANGING)
@relaxed(max_examples=100)
@given(
    engine=engines,
    count=counts,
    retries=retries,
    expected=expectations,
    hanging=st.integers(0, 11),
    poison=st.dictionaries(st.integers(0, 11), st.sampled_from(["worker", "block"]), max_size=3),
    picks=scripts(["ok"]),
)
def test_what_is_answered_whenever_it_runs_is_fitted_though_another_is_never_answered(
    engine, count, retries, expected, hanging, poison, picks
):
    check_innocents(engine, count, retries, expected, {**poison, hanging: "hang"}, picks)


@relaxed(max_examples=200)
@given(
    engine=engines,
    count=counts,
    expected=expectations,
    lost=st.sets(st.integers(0, 11), min_size=1, max_size=6),
    picks=scripts(["ok"]),
)
def test_what_is_lost_once_without_a_word_is_fitted_and_the_engine_is_kept(
    engine, count, expected, lost, picks
):
    with tempfile.TemporaryDirectory() as directory:
        engine = SimulatedEngine(
            **{**engine, "loses_tasks": True}, fates=by_key(dict.fromkeys(lost, "lose once"))
        )
        run = Run(engine, directory, retries=0, expected_s=expected_by(expected))
        results = run.finish(TASKS[:count], picks)
        check_counted_once(run, results)
    assert {(result.status, result.attempts) for result in results.values()} == {("ok", 1)}
    assert engine.restarts == 0
    assert max(Counter(engine.sent).values()) <= 2


def check_innocents(engine, count, retries, expected, fates, picks):
    with tempfile.TemporaryDirectory() as directory:
        engine = SimulatedEngine(**engine, fates=by_key(fates))
        run = Run(engine, directory, retries=retries, expected_s=expected_by(expected))
        results = run.finish(TASKS[:count], picks)
        check_counted_once(run, results)
    found = {INDEX[key]: result for key, result in results.items()}
    assert {number for number, result in found.items() if result.status == "ok"} == {
        number for number in range(count) if number not in fates
    }
    wanted = {
        "error": ("error", "ValueError"),
        "memory": ("error", "MemoryError"),
        "hang": ("timeout", "timeout"),
    }
    for number, fate in fates.items():
        if number < count:
            ended = found[number].status, found[number].error.type
            assert ended == wanted.get(fate, ("broken", "broken")) or (
                fate.startswith("engine") and ended == ("broken", "engine")
            )


@relaxed(max_examples=100)
@given(
    engine=engines,
    count=counts,
    retries=retries,
    errors=st.sets(st.integers(0, 11), max_size=3),
    script=scripts([word for word in WORDS if word != "memory"], 20),
    data=st.data(),
)
def test_a_run_that_is_cut_off_anywhere_and_resumed_comes_to_the_same(
    engine, count, retries, errors, script, data
):
    tasks = TASKS[:count]
    fates = by_key(dict.fromkeys(errors, "error"))
    with tempfile.TemporaryDirectory() as directory:
        uninterrupted = Run(SimulatedEngine(fates=fates), directory, "1.jsonl").finish(tasks)
        interrupted = Run(
            SimulatedEngine(**engine, fates=fates), directory, "2.jsonl", retries=retries
        )
        interrupted.finish(tasks, script)
        path = interrupted.journal.path
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content)), label="cut")
        path.write_bytes(content[:cut])

        earlier = {r.key: r for r in interrupted.read() if r.is_answer and r.environment}
        resumed = Run(SimulatedEngine(fates=fates), directory, "2.jsonl")
        for task in tasks:
            if task.key in earlier:
                resumed.campaign.adopt(task, earlier[task.key])
        results = resumed.finish(tasks)
        again = resumed.read()
    assert sorted(resumed.engine.sent) == sorted(set(results) - set(earlier))
    assert list(map(values, results.values())) == list(map(values, uninterrupted.values()))
    # The journal was continued, so that a second resumption would find all.
    assert {result.key for result in again if result.is_answer} == set(results)


def values(result):
    return result.key, result.patch, result.status, result.CLs_obs, result.error


class CampaignMachine(RuleBasedStateMachine):
    """A campaign under any order of what callers and engines may do."""

    def __init__(self):
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.unused = deque(TASKS)
        self.submitted = []
        self.ended_early = False
        self.read = []

    @initialize(engine=engines, retries=retries, expected=expectations, queue=st.booleans())
    def begin(self, engine, retries, expected, queue):
        self.engine = SimulatedEngine(**engine)
        self.run = Run(
            self.engine,
            self.directory.name,
            retries=retries,
            expected_s=expected_by(expected),
            queue_timeout_s=100.0 if queue else None,
        )
        self.campaign = self.run.campaign
        self.reader = JournalReader(self.run.journal.path)

    @rule(count=st.integers(1, 6), again=st.booleans())
    def submit(self, count, again):
        new = [self.unused.popleft() for _ in range(min(count, len(self.unused)))]
        self.campaign.submit([*self.submitted, *new] if again else new)
        self.submitted += new
        self.campaign.go_on()

    @rule(pick=st.integers(0, 5))
    def answer(self, pick):
        self.engine.happen("ok", pick)
        self.campaign.go_on()

    @rule(word=st.sampled_from(WORDS), pick=st.integers(0, 5))
    def let_something_happen(self, word, pick):
        self.engine.happen(word, pick)
        self.campaign.go_on()

    @rule(words=scripts(WORDS, 4))
    def let_much_happen_at_once(self, words):
        for word, pick in words:
            self.engine.happen(word, pick)
        self.campaign.go_on()

    @rule(seconds=st.sampled_from([1.0, 25.0, 500.0]))
    def let_time_pass(self, seconds):
        CLOCK.now += seconds
        self.campaign.go_on()

    @precondition(lambda self: not self.ended_early and len(self.submitted) > 8)
    @rule(how=st.sampled_from(["wind down", "cancel"]))
    def end_early(self, how):
        self.ended_early = True
        if how == "wind down":
            self.campaign.wind_down("Ctrl-C")
        else:
            self.campaign.cancel("Ctrl-C")
        self.campaign.go_on()

    @rule()
    def read_the_journal(self):
        self.read += [result for _endpoint, result in self.reader.read()]
        assert list(map(told, self.read)) == list(map(told, self.run.taken))

    @invariant()
    def in_flight_is_bounded(self):
        in_flight = self.campaign.state.flight
        # What is lost keeps its place until its copy is answered.
        most = IN_FLIGHT * self.engine.workers * (1 + self.engine.loses_tasks)
        assert len(in_flight) <= most
        if any(batch.alone for batch in in_flight):
            assert len(in_flight) == 1

    @invariant()
    def counts_make_sense(self):
        progress = self.campaign.progress()
        assert 0 <= progress.failed <= progress.done <= progress.total - progress.cancelled
        assert 0 <= progress.running <= self.engine.workers
        assert progress.left_s is None or progress.left_s >= 0

    @invariant()
    def each_fit_ends_at_most_once(self):
        assert max(Counter(result.key for result in self.run.taken).values(), default=1) == 1
        for result in self.run.taken:
            assert self.campaign.result(TASKS[INDEX[result.key]]).result() is result
            assert result.status != "cancelled"

    @invariant()
    def each_fit_is_somewhere(self):
        queued = [entry.fit.key for entry in self.campaign.state.queue]
        batches = self.campaign.state.flight
        in_flight = {entry.fit.key for batch in batches for entry in batch.entries}
        waiting = {t.key for t in self.submitted if not self.campaign.result(t).done()}
        assert waiting <= {*queued, *in_flight}
        assert len(queued) == len(set(queued))
        assert set(queued) <= waiting
        assert not set(queued) & in_flight

    def teardown(self):
        if hasattr(self, "run"):
            results = self.run.finish(self.submitted)
            self.read_the_journal()
            self.run.check_replay()
            statuses = {result.status for result in results.values()}
            assert statuses <= {"ok", "error", "broken", "timeout", "cancelled"}
            assert self.ended_early or "cancelled" not in statuses
            counted = [r.key for r in results.values() if r.status != "cancelled"]
            assert sorted(counted) == sorted(result.key for result in self.run.taken)
        self.directory.cleanup()


CampaignMachine.TestCase.settings = relaxed(max_examples=100, stateful_step_count=40)
TestCampaignMachine = CampaignMachine.TestCase
