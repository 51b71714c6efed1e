"""Where the time of the workers went, compared with runs of which all is known."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.accounting import AtOnce, TaskCost, account, crew, timeline
from pytest_pyhf_faas.campaign.clocks import Clocks
from pytest_pyhf_faas.campaign.times import PARTS

ON_THE_WAY_S = 0.01


class SimulatedRun:
    """Workers with clocks of their own; what each does is told on the client's clock."""

    def __init__(self, started_at=100.0):
        self.started_at = started_at
        self.clocks = Clocks()
        self.costs = []
        self.seen = set()

    def probe(self, worker, ahead_s):
        self.clocks.observe(
            worker,
            sent_at=0.0,
            began_s=ON_THE_WAY_S + ahead_s,
            ended_s=ON_THE_WAY_S + ahead_s,
            received_at=2 * ON_THE_WAY_S,
        )

    def task(self, worker, begin_s, end_s, *, ahead_s=0.0, sent_s=0.0, first=None, block=None):
        """A task from one moment of the trial to another; a tenth of it is no fit."""
        total_s = end_s - begin_s
        cost = TaskCost(
            analysis="toy",
            fits=1,
            worker=worker,
            block=block,
            first=worker not in self.seen if first is None else first,
            sent_at=self.started_at + sent_s,
            received_at=self.started_at + end_s + ON_THE_WAY_S,
            began_s=self.started_at + begin_s + ahead_s,
            total_s=total_s,
            unpack_s=0.02 * total_s,
            build_s=0.05 * total_s,
            fit_s=0.9 * total_s,
        )
        self.seen.add(worker)
        self.clocks.observe(
            worker,
            sent_at=cost.sent_at,
            began_s=cost.began_s,
            ended_s=cost.ended_s,
            received_at=cost.received_at,
        )
        self.costs.append(cost)

    def account(self, workers, wall_s, ready_s=0.0):
        ready_at = None if ready_s is None else self.started_at + ready_s
        return account(
            self.costs,
            self.clocks,
            fits=len(self.costs),
            workers=workers,
            started_at=self.started_at,
            ready_at=ready_at,
            wall_s=wall_s,
        )


def parts_of(trial):
    return {name: getattr(trial, f"{name}_s") for name in PARTS}


def test_each_piece_of_each_worker_has_its_cause():
    run = SimulatedRun()
    for worker, ahead_s in (("a:1", 5000.0), ("b:1", -3.0)):
        run.probe(worker, ahead_s)
    run.task("a:1", 2.0, 12.0, ahead_s=5000.0)
    run.task("a:1", 12.5, 18.5, ahead_s=5000.0)
    run.task("b:1", 5.0, 15.0, ahead_s=-3.0)  # its block was granted 3 s after the other's
    trial = run.account(workers=2, wall_s=20.0, ready_s=2.0)
    close = pytest.approx
    assert parts_of(trial) == {
        "startup": close(2 * 2.0, abs=2 * ON_THE_WAY_S),
        "queue": close(3.0, abs=2 * ON_THE_WAY_S),
        "transfer": close(0.5),
        "fit": close(0.9 * 26),
        "build": close(0.05 * 26),
        "unpack": close(0.02 * 26),
        "overhead": close(0.03 * 26),
        "idle": close(1.5 + 5.0, abs=2 * ON_THE_WAY_S),
        "unattributed": close(0.0, abs=1e-9),
    }
    assert trial.speed_up == close(0.9 * 26 / 20)


def test_a_worker_that_was_there_before_has_not_been_queued():
    run = SimulatedRun()
    run.task("a:1", 0.5, 10.0, first=False)
    trial = run.account(workers=1, wall_s=10.0, ready_s=-50.0)
    assert trial.startup_s == trial.queue_s == 0.0
    # The task itself brackets the clock to what it was on its way.
    assert trial.transfer_s == pytest.approx(0.5, abs=0.5)
    assert trial.transfer_s + trial.idle_s == pytest.approx(0.5)


def test_what_each_worker_waits_for_its_first_task_adds_up():
    run = SimulatedRun()
    for worker, begin_s in (("a:1", 0.5), ("b:1", 1.5), ("c:1", 2.5)):
        run.probe(worker, 0.0)
        run.task(worker, begin_s, 10.0, first=False)
    trial = run.account(workers=3, wall_s=10.0)
    assert trial.transfer_s == pytest.approx(4.5, abs=6 * ON_THE_WAY_S)


def test_a_task_waits_from_when_it_is_sent_until_its_answer_but_for_its_own_time():
    run = SimulatedRun()
    run.task("a:1", 3.0, 5.0, sent_s=1.0)
    run.task("a:1", 5.0, 9.0, sent_s=1.5)
    trial = run.account(workers=1, wall_s=9.0)
    assert trial.fits == 2
    assert trial.waiting_s == pytest.approx((2.0 + 3.5) / 2 + ON_THE_WAY_S)


def test_what_was_lost_with_a_worker_is_not_attributed():
    run = SimulatedRun()
    run.probe("a:1", 0.0)
    run.task("a:1", 0.0, 4.0, first=False)
    # A second fit ran on a:1, which died at 9 s; a:2 takes its place.
    run.probe("a:2", 0.0)
    run.task("a:2", 10.0, 14.0)
    trial = run.account(workers=1, wall_s=14.0)
    assert trial.workers == 1
    assert trial.unattributed_s == pytest.approx(6.0, abs=4 * ON_THE_WAY_S)


@pytest.mark.parametrize(("tasks", "cause"), [(1, "idle"), (2, "queue")])
def test_a_worker_that_never_came(tasks, cause):
    run = SimulatedRun()
    for number in range(tasks):
        run.task("a:1", 4.0 * number, 4.0 * (number + 1), first=False)
    wall_s = 4.0 * tasks
    parts = parts_of(run.account(workers=2, wall_s=wall_s))
    assert parts.pop(cause) == pytest.approx(wall_s, abs=2 * ON_THE_WAY_S)
    assert parts["idle" if cause == "queue" else "queue"] == pytest.approx(0, abs=2 * ON_THE_WAY_S)


def test_a_worker_that_never_came_is_missed_from_the_end_of_the_start_up_on():
    run = SimulatedRun()
    run.probe("a:1", 0.0)
    for begin_s in (3.0, 7.0):
        run.task("a:1", begin_s, begin_s + 4.0)
    trial = run.account(workers=2, wall_s=11.0, ready_s=3.0)
    assert trial.startup_s == pytest.approx(6.0, abs=2 * ON_THE_WAY_S)
    assert trial.queue_s == pytest.approx(8.0, abs=2 * ON_THE_WAY_S)


def test_more_workers_than_were_asked_for():
    run = SimulatedRun()
    for name in "abc":
        run.probe(f"{name}:1", 0.0)
        run.task(f"{name}:1", 0.0, 10.0, first=False)
    trial = run.account(workers=1, wall_s=10.0)
    assert trial.workers == 3
    assert trial.efficiency == pytest.approx(0.9)


def test_a_trial_without_any_answer_was_start_up():
    trial = SimulatedRun().account(workers=2, wall_s=7.0, ready_s=None)
    assert trial.startup_s == 14.0
    assert sum(parts_of(trial).values()) == 14.0
    assert SimulatedRun().account(workers=2, wall_s=0.0, ready_s=None).waiting_s == 0.0


@st.composite
def runs(draw):
    """A run of some workers, each with a clock of its own, and what its parts truly are."""
    seconds = st.floats(0.0, 30.0)
    startup_s = draw(seconds)
    lanes = draw(
        st.lists(
            st.tuples(
                seconds,  # in a queue
                st.lists(
                    st.tuples(st.floats(0.0, 1.0), st.floats(0.1, 60.0)), min_size=1, max_size=5
                ),
                st.floats(-1e6, 1e6),  # its clock
            ),
            min_size=1,
            max_size=4,
        )
    )
    run = SimulatedRun()
    queue_s = transfer_s = work_s = 0.0
    ends = []
    first_s = min(startup_s + queued_s for queued_s, _tasks, _ahead_s in lanes)
    for number, (queued_s, tasks, ahead_s) in enumerate(lanes):
        run.probe(f"w:{number}", ahead_s)
        now = startup_s + queued_s
        queue_s += now - first_s
        for place, (gap_s, fit_s) in enumerate(tasks):
            if place:
                now += gap_s
                transfer_s += gap_s
            run.task(f"w:{number}", now, now + fit_s, ahead_s=ahead_s)
            now += fit_s
            work_s += fit_s
        ends.append(now)
    wall_s = max(ends)
    truth = {
        "startup": first_s * len(lanes),
        "queue": queue_s,
        "transfer": transfer_s,
        "work": work_s,
        "idle": sum(wall_s - end for end in ends),
    }
    return run, truth, len(lanes), wall_s, first_s


@settings(deadline=None)
@given(runs())
def test_parts_are_found_whatever_the_clocks_say(drawn):
    run, truth, workers, wall_s, first_s = drawn
    parts = parts_of(run.account(workers, wall_s, first_s))
    assert math.fsum(parts.values()) == pytest.approx(workers * wall_s, rel=1e-9)
    found = {name: parts[name] for name in ("startup", "queue", "transfer", "idle")}
    found["work"] = sum(parts[name] for name in ("fit", "build", "unpack", "overhead"))
    for name, value in truth.items():
        assert found[name] == pytest.approx(value, abs=3 * ON_THE_WAY_S * workers + 1e-6)
    assert abs(parts["unattributed"]) <= 0.05 * workers * wall_s + 3 * ON_THE_WAY_S * workers


@settings(deadline=None)
@given(runs())
def test_the_timeline_puts_each_task_where_it_was(drawn):
    run, _truth, workers, wall_s, _first_s = drawn
    found = timeline(run.costs, run.clocks)
    assert len(found.workers) == workers
    assert len(found.tasks) == len(run.costs)
    assert found.seconds == pytest.approx(wall_s + ON_THE_WAY_S)
    assert all(uncertainty_s <= ON_THE_WAY_S + 1e-6 for uncertainty_s in found.clock_uncertainty_s)
    for task in found.tasks:
        uncertainty_s = found.clock_uncertainty_s[task.worker] + 1e-6
        assert -uncertainty_s <= task.begin_s <= task.end_s <= wall_s + uncertainty_s
        assert task.fits == 1
    assert timeline([], Clocks()) is None


# What was at work


def at_work(*tasks, probed=True):
    """Return what was seen of tasks: worker, begin, end, block."""
    run = SimulatedRun()
    for worker, begin_s, end_s, block in tasks:
        if probed:
            run.probe(worker, 0.0)
        run.task(worker, begin_s, end_s, block=block)
    return crew(run.costs, run.clocks)


def test_workers_and_blocks_are_counted_where_they_were_at_work_at_once():
    seen = at_work(("a:1", 0, 5, "0"), ("a:2", 1, 6, "0"), ("b:1", 4, 9, "1"), ("b:1", 9, 12, "1"))
    assert seen.tasks == 4
    assert seen.workers == AtOnce(3, 3)
    assert seen.blocks == AtOnce(2, 2)


def test_a_block_that_takes_the_place_of_another_is_no_second_one():
    seen = at_work(("a:1", 0, 5, "0"), ("b:1", 8, 12, "1"))
    assert (seen.workers, seen.blocks) == (AtOnce(1, 1), AtOnce(1, 1))


def test_what_clocks_leave_open_is_reported():
    # Both were sent at 0 s, and nothing else is known of where they began.
    seen = at_work(("a:1", 0, 5, "0"), ("b:1", 8, 12, "1"), probed=False)
    assert seen.blocks == AtOnce(1, 2)


def test_blocks_are_not_known_unless_each_worker_says_its_own():
    assert at_work(("a:1", 0, 5, "0"), ("b:1", 1, 5, None)).blocks is None
    assert crew([], Clocks()).workers == AtOnce(0, 0)


@settings(deadline=None)
@given(runs())
def test_no_more_and_no_fewer_than_there_were(drawn):
    run, _truth, workers, _wall_s, _first_s = drawn
    spans = {}
    for cost in run.costs:
        begin, end = cost.received_at - ON_THE_WAY_S - cost.total_s, cost.received_at - ON_THE_WAY_S
        known = spans.get(cost.worker, (begin, end))
        spans[cost.worker] = min(known[0], begin), max(known[1], end)
    truth = max(
        sum(begin <= moment <= end for begin, end in spans.values()) for moment, _ in spans.values()
    )
    seen = crew(run.costs, run.clocks).workers
    assert seen.least <= truth <= seen.most <= workers


# Clocks


@settings(deadline=None)
@given(
    ahead_s=st.floats(-1e6, 1e6),
    ways=st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.floats(0, 5)), min_size=1),
)
def test_the_offset_of_a_clock_lies_within_its_uncertainty(ahead_s, ways):
    clocks = Clocks()
    shortest = math.inf
    for number, (there_s, work_s, back_s) in enumerate(ways):
        sent_at = 20.0 * number
        clocks.observe(
            "w:1",
            sent_at=sent_at,
            began_s=sent_at + there_s + ahead_s,
            ended_s=sent_at + there_s + work_s + ahead_s,
            received_at=sent_at + there_s + work_s + back_s,
        )
        shortest = min(shortest, there_s + back_s)
        offset = clocks.offset("w:1")
        assert abs(offset.seconds + ahead_s) <= offset.uncertainty_s + 1e-6
        assert offset.uncertainty_s <= shortest / 2 + 1e-6


def test_a_clock_that_runs_faster_gives_the_middle():
    clocks = Clocks()
    clocks.observe("w:1", sent_at=0.0, began_s=0.1, ended_s=0.1, received_at=0.2)
    clocks.observe("w:1", sent_at=1000.0, began_s=1001.1, ended_s=1001.1, received_at=1000.2)
    offset = clocks.offset("w:1")
    assert offset.seconds == pytest.approx(-0.5, abs=0.1)
    assert offset.uncertainty_s == pytest.approx(0.4, abs=0.1)
