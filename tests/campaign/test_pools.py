"""What one hypothesis finds is a start for all, and nothing else decides what is found."""

from __future__ import annotations

import itertools
import json
import random
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign import pools
from pytest_pyhf_faas.campaign.pools import MAX_POINTS, Pools, explore
from pytest_pyhf_faas.campaign.results import FITS, FitError, HypotestResult
from pytest_pyhf_faas.campaign.tasks import (
    HypotestConfig,
    Pool,
    batch_payload,
    make_task,
    make_tasks,
    worker_function,
)
from pytest_pyhf_faas.pallets import catalogue, packing, pallet
from pytest_pyhf_faas.worker.certified import certify_batch
from tests.histfactory.generated import MU, histosys, normsys, sample, workspace

CERTIFIED = HypotestConfig(method="certified")
relaxed = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
TO_DATA = ("fixed_poi_fit_to_data", "free_fit_to_data", "background_fit_to_data")


def signal_patch(name, rates=(0.0, 7.0)):
    value = sample("signal", list(rates), MU)
    operations = [{"op": "add", "path": "/channels/0/samples/0", "value": value}]
    return pallet.SignalPatch("tiny", name, (1,), pallet.Packed.of(operations))


def pallet_of(patches, specification=None):
    specification = specification or workspace({"bins": [sample("background", [50.0, 28.0])]})
    return pallet.Pallet(
        name="tiny",
        description="a pallet for tests",
        labels=("m1",),
        references={},
        doi=None,
        synthetic=True,
        digest=packing.digest(specification),
        background=packing.pack_small(specification),
        patches=tuple(patches),
        source="tests",
        sample=tuple(patches),
    )


#: Three hypotheses.
A, B, C = patches = [signal_patch(name, (0.0, 7.0 + n)) for n, name in enumerate("ABC")]
TINY = pallet_of(patches)


class Landscape:
    """Fits of hypotheses whose minima lie at points of one parameter, x; the nominal one at 0.

    A start leads to a minimum that is next to it, or else to the nominal one.

    Parameters
    ----------
    minima : mapping
        For each patch, the value of twice the NLL by where its minima are.
    random : mapping
        For each patch, the minima that a thorough search of its own finds at random.
    """

    def __init__(self, minima, random, errors=()):
        self.minima, self.random, self.errors = minima, random, set(errors)
        self.calls = []

    def __call__(self, tasks):
        self.calls.append(tasks)
        return [self.fit(task) for task in tasks]

    def fit(self, task):
        name = task.patch.name
        fields = {"key": task.key, "pallet": "tiny", "patch": name}
        if (name, len(self.calls)) in self.errors:
            error = FitError("pyhf.exceptions.InvalidModel", "no signal")
            return HypotestResult(status="error", error=error, **fields)
        there = self.minima[name]
        ends = [self.end(there, point["x"]) for point in task.pool.points]
        known = {0.0, *ends}
        expected = min(there[at] for at in known)
        if task.config.effort == "thorough":
            known |= set(self.random.get(name, ()))
        lowest = min(known, key=there.get)
        found = there[lowest]
        helpful = [index for index, end in enumerate(ends) if end == lowest]
        return HypotestResult(
            status="ok",
            twice_nll=dict.fromkeys(FITS, found),
            certificate={
                "new": [{"x": lowest}] if found < expected else [],
                "helpful": {"fixed_poi_fit_to_data": helpful} if found < there[0.0] else {},
                "search": {"of": name, "effort": task.config.effort},
            },
            **fields,
        )

    @staticmethod
    def end(there, start):
        nearest = min(there, key=lambda at: abs(at - start))
        return nearest if abs(nearest - start) < 0.5 else 0.0


def points(found):
    return [point["x"] for point in found.pool.points]


# --- rounds -------------------------------------------------------------------------------------


def test_what_is_new_for_one_is_a_start_for_all_until_nothing_is_new():
    """A finds one at 3, from where B and C get to theirs, which no search of their own finds."""
    landscape = Landscape(
        {
            "A": {0.0: 9.0, 3.0: 5.0},
            "B": {0.0: 9.0, 2.9: 7.0},
            "C": {0.0: 9.0, 3.4: 2.0},
        },
        {"A": [3.0]},
    )
    found = explore(TINY, patches, CERTIFIED, Pool(), landscape)
    assert points(found) == [3.0]
    assert found.rounds == len(landscape.calls) == 2
    first, second = landscape.calls
    assert [task.patch.name for task in first] == ["A", "B", "C"]
    assert {task.config.effort for task in first} == {"thorough"}
    assert {task.config.effort for task in second} == {"brief"}
    assert {len(task.pool.points) for task in first} == {0}
    assert all(task.pool is found.pool for task in second)
    assert [landscape.fit(task).twice_nll[FITS[0]] for task in first] == [5.0, 9.0, 9.0]
    assert [landscape.fit(task).twice_nll[FITS[0]] for task in second] == [5.0, 7.0, 2.0]
    assert found.evidence == {
        patch.digest: {"of": patch.name, "effort": "thorough"} for patch in patches
    }


def test_later_rounds_find_what_only_a_new_start_leads_to():
    """Each finds something that only what the one before it has found leads to."""

    class Chain(Landscape):
        """From x a fit of a patch gets one further, if it is the turn of that patch."""

        def fit(self, task):
            known = max((point["x"] for point in task.pool.points), default=0.0)
            turn = "ABC"[int(known) % 3] == task.patch.name
            found = min(known + turn, 4.0)
            result = super().fit(task)
            helpful = [i for i, point in enumerate(task.pool.points) if point["x"] == found]
            return replace(
                result,
                twice_nll=dict.fromkeys(FITS, 9.0 - found),
                certificate={
                    **result.certificate,
                    "new": [{"x": found}] if found > known else [],
                    "helpful": {"free_fit_to_data": helpful},
                },
            )

    chain = Chain({name: {0.0: 9.0} for name in "ABC"}, {})
    found = explore(TINY, patches, CERTIFIED, Pool(), chain)
    assert [len(tasks[0].pool.points) for tasks in chain.calls] == [0, 1, 2, 3, 4, 1]
    assert found.rounds == 6
    # What led there need not be kept.
    assert points(found) == [4.0]


def test_where_nothing_is_new_one_round_is_enough():
    landscape = Landscape({name: {0.0: 9.0} for name in "ABC"}, {})
    found = explore(TINY, patches, CERTIFIED, Pool(), landscape)
    assert (points(found), found.rounds, len(landscape.calls)) == ([], 1, 1)
    # A pool that was known stays, to its very digest.
    known = Pool(({"x": 7.0},))
    found = explore(TINY, patches, CERTIFIED, known, landscape)
    assert (found.pool, found.rounds) == (known, 1)


def test_what_the_known_pool_leads_to_is_not_new():
    landscape = Landscape({"A": {0.0: 9.0, 3.0: 5.0, 6.0: 4.0}}, {"A": [3.0, 6.0]})
    found = explore(TINY, [A], CERTIFIED, Pool(({"x": 6.1},)), landscape)
    assert (points(found), found.rounds) == ([6.1], 1)
    found = explore(TINY, [A], CERTIFIED, Pool(({"x": 3.1},)), landscape)
    assert (points(found), found.rounds) == ([3.1, 6.0], 2)  # who knows for whom that was


def test_new_starts_next_to_each_other_are_one():
    landscape = Landscape(
        {
            "A": {0.0: 9.0, 3.0: 5.0},
            "B": {0.0: 9.0, 3.2: 5.0},
            "C": {0.0: 9.0, 3.4: 5.0},
        },
        {"A": [3.0], "B": [3.2], "C": [3.4]},
    )
    found = explore(TINY, patches, CERTIFIED, Pool(), landscape)
    assert [point["x"] for point in landscape.calls[1][0].pool.points] == [3.0, 3.4]
    # Each leads to all three minima.
    assert points(found) == [3.0]
    assert found.rounds == 3


@settings(relaxed, max_examples=50)
@given(
    st.lists(
        st.dictionaries(st.sampled_from("xyz"), st.floats(-3, 3), min_size=1, max_size=3),
        max_size=12,
    )
)
def test_distinct_starts_cover_all(starts):
    kept = pools._distinct(starts)
    rest = iter(starts)
    assert all(any(one is start for start in rest) for one in kept)  # in their order

    def apart(one, other):
        return max((abs(one[name] - other[name]) for name in one if name in other), default=0.0)

    for number, one in enumerate(kept):
        assert all(apart(one, other) > 0.3 for other in kept[:number])
    for start in starts:
        assert any(apart(start, other) <= 0.3 for other in kept)


class OfAsimov(Landscape):
    """The same for the fit to the Asimov data, which are always the same; the others have one."""

    def fit(self, task):
        result = super().fit(task)
        found = result.twice_nll["fixed_poi_fit_to_asimov"]
        return replace(
            result, twice_nll={**dict.fromkeys(FITS, 1.0), "fixed_poi_fit_to_asimov": found}
        )


@pytest.mark.parametrize("kind", [Landscape, OfAsimov])
def test_a_minimum_that_is_missed_again_brings_back_its_own_start(kind):
    """The starts of A and B are next to each other, so that one is left out; B needs its own."""
    landscape = kind(
        {
            "A": {0.0: 9.0, 3.0: 5.0},
            "B": {0.0: 9.0, 3.1: 8.0, 3.25: 5.0},
        },
        {"A": [3.0], "B": [3.25]},
    )
    found = explore(TINY, [A, B], CERTIFIED, Pool(), landscape)
    assert [len(tasks[0].pool.points) for tasks in landscape.calls] == [0, 1, 2, 1]
    assert points(found) == [3.25]
    (result,) = landscape([make_task(TINY, B, CERTIFIED, found.pool)])
    assert result.twice_nll["fixed_poi_fit_to_asimov"] == 5.0


def test_fits_to_asimov_data_miss_nothing():
    """At another minimum of the background fit they are fits to other data."""

    class Rising(Landscape):
        def fit(self, task):
            result = super().fit(task)
            rise = {name: 10.0 * len(self.calls) for name in FITS if "asimov" in name}
            return replace(result, twice_nll={**result.twice_nll, **rise})

    landscape = Rising({"A": {0.0: 9.0, 3.0: 5.0}, "B": {0.0: 9.0, 3.1: 5.0}}, {"A": [3.0]})
    landscape.random["B"] = [3.1]
    found = explore(TINY, [A, B], CERTIFIED, Pool(), landscape)
    assert (points(found), found.rounds) == ([3.0], 2)


def test_only_who_needs_a_start_is_asked_whether_fewer_do():
    landscape = Landscape(
        {"A": {0.0: 9.0, 3.0: 5.0}, "B": {0.0: 4.0, 3.2: 5.0}, "C": {0.0: 9.0, 3.4: 5.0}},
        {"A": [3.0], "C": [3.4]},
    )
    found = explore(TINY, patches, CERTIFIED, Pool(), landscape)
    names = [[task.patch.name for task in tasks] for tasks in landscape.calls]
    assert names == [["A", "B", "C"], ["A", "B", "C"], ["A", "C"]]
    assert points(found) == [3.0]


def test_what_somebody_needs_is_kept_though_it_does_not_lead_there_by_itself():
    """B gets to its lowest minimum from those of two fits, each of which needs its own point."""

    class Together(Landscape):
        def fit(self, task):
            result = super().fit(task)
            if task.patch is not B or len(task.pool.points) < 2:
                return result
            certificate = {**result.certificate, "helpful": {"free_fit_to_data": []}}
            return replace(result, twice_nll=dict.fromkeys(FITS, 1.0), certificate=certificate)

    landscape = Together(
        {"A": {0.0: 9.0, 3.0: 5.0}, "B": {0.0: 9.0}, "C": {0.0: 9.0, 3.4: 5.0}},
        {"A": [3.0], "C": [3.4]},
    )
    found = explore(TINY, patches, CERTIFIED, Pool(), landscape)
    assert [len(tasks[0].pool.points) for tasks in landscape.calls] == [0, 2, 1]
    assert points(found) == [3.0, 3.4]


def test_a_pool_that_is_full_takes_no_more_and_is_not_searched_again():
    names = [f"p{number}" for number in range(MAX_POINTS + 5)]
    many = [signal_patch(name, (float(number), 1.0)) for number, name in enumerate(names)]
    landscape = Landscape(
        {name: {0.0: 9.0, 10.0 + number: 5.0} for number, name in enumerate(names)},
        {name: [10.0 + number] for number, name in enumerate(names)},
    )
    # There is no room for the last five, nor will there be.
    found = explore(pallet_of(many), many, CERTIFIED, Pool(), landscape)
    assert points(found) == [10.0 + number for number in range(MAX_POINTS)]
    assert found.rounds == len(landscape.calls) == 2


def test_a_start_that_leads_back_to_nothing_is_in_the_pool_once():
    """It has two digits, and no gammas."""

    class Forgetful(Landscape):
        def fit(self, task):
            brief = replace(task, pool=Pool()) if task.config.effort == "brief" else task
            return super().fit(brief)

    landscape = Forgetful({"A": {0.0: 9.0, 3.0: 5.0}}, {"A": [3.0]})
    explore(TINY, [A], CERTIFIED, Pool(), landscape)
    assert [len(tasks[0].pool.points) for tasks in landscape.calls if tasks] == [0, 1]


def test_rounds_end_though_there_is_always_something_new():
    class Endless(Landscape):
        def fit(self, task):
            result = super().fit(task)
            count = len(self.calls)
            certificate = {"new": [{"x": float(count)}], "helpful": {"free_fit_to_data": []}}
            return replace(
                result,
                twice_nll=dict.fromkeys(FITS, 9.0 - count),
                certificate={**result.certificate, **certificate},
            )

    endless = Endless({"A": {0.0: 9.0}}, {})
    found = explore(TINY, [A], CERTIFIED, Pool(), endless)
    assert found.rounds == len(endless.calls) == pools._MAX_ROUNDS + 1  # one without the rest
    assert points(found) == [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize("when", [(1,), (2,), (1, 2)], ids=str)
def test_what_cannot_be_tested_is_passed_over(when):
    landscape = Landscape(
        {"A": {0.0: 9.0, 3.0: 5.0}, "B": {0.0: 9.0, 3.0: 5.0}, "C": {0.0: 9.0, 6.0: 5.0}},
        {"A": [3.0], "C": [6.0]},
        errors=[("B", number) for number in when],
    )
    found = explore(TINY, patches, CERTIFIED, Pool(), landscape)
    assert points(found) == [3.0, 6.0]
    assert found.rounds == 2
    assert set(found.evidence) == {p.digest for p in patches if p is not B or 1 not in when}


def test_a_check_against_pyhf_is_left_to_the_test_itself():
    landscape = Landscape({"A": {0.0: 9.0, 3.0: 5.0}}, {"A": [3.0]})
    config = replace(CERTIFIED, checked=True, test_poi=0.5, test_stat="q")
    explore(TINY, [A], config, Pool(), landscape)
    for tasks in landscape.calls:
        for task in tasks:
            assert not task.config.checked
            assert task.config.physics == config.physics


@relaxed
@given(st.data())
def test_the_pool_does_not_depend_on_who_fits_nor_on_the_names(data):
    names = "ABC"
    places = st.sampled_from([round(0.25 * number, 2) for number in range(-20, 21) if number])
    minima = {
        name: {
            0.0: 9.0,
            **{at: float(data.draw(st.integers(0, 8))) for at in data.draw(st.sets(places))},
        }
        for name in names
    }
    chance = {
        name: [at for at in there if data.draw(st.booleans())] for name, there in minima.items()
    }

    def shuffled(landscape, seed):
        """Let the fits of a round be done in any order, as by several workers."""

        def fit(tasks):
            landscape.calls.append(tasks)
            order = list(range(len(tasks)))
            random.Random(seed).shuffle(order)
            answers = {number: landscape.fit(tasks[number]) for number in order}
            return [answers[number] for number in range(len(tasks))]

        return fit

    first = explore(TINY, patches, CERTIFIED, Pool(), Landscape(minima, chance))
    again = explore(
        TINY,
        patches,
        CERTIFIED,
        Pool(),
        shuffled(Landscape(minima, chance), data.draw(st.integers())),
    )
    assert again == replace(first, pool=again.pool)
    assert again.pool.points == first.pool.points
    assert again.pool.sha256 == first.pool.sha256
    # And what it leads to is what all of the rounds have found, as long as there is room.
    if first.rounds < pools._MAX_ROUNDS:
        landscape = Landscape(minima, chance)
        last = landscape([make_task(TINY, patch, CERTIFIED, first.pool) for patch in patches])
        for patch, result in zip(patches, last, strict=True):
            there = minima[patch.name]
            found = min(there[at] for at in {*chance[patch.name], 0.0})  # by itself
            assert result.twice_nll["fixed_poi_fit_to_data"] <= min(found, there[0.0])


# --- the pools of a session ---------------------------------------------------------------------


def nothing_stored(_pallet, _config):
    return None


def no_fit(_tasks):
    raise AssertionError("nothing is to be fitted")


def some_landscape():
    return Landscape(
        {"A": {0.0: 9.0, 3.0: 5.0}, "B": {0.0: 9.0, 6.0: 5.0}, "C": {0.0: 9.0, 9.0: 5.0}},
        {"A": [3.0], "B": [6.0], "C": [9.0]},
    )


def test_a_stored_pool_is_taken_as_it_is():
    stored = Pool(({"x": 3.0},))
    asked = []

    def of_reference(pallet, config):
        asked.append((pallet.name, config))
        return stored

    session = Pools(of_reference, for_references=False, shared=None)
    task = make_task(TINY, A, CERTIFIED)
    assert session.find(task, patches, no_fit).pool is stored
    assert session.known(task).pool is stored
    assert asked == [("tiny", CERTIFIED)]


def test_without_one_the_sample_of_the_pallet_is_searched_once():
    landscape = some_landscape()
    session = Pools(nothing_stored, for_references=False, shared=None)
    task = make_task(TINY.select(["B"]), B, CERTIFIED)
    assert session.known(task) is None
    found = session.find(task, [B], landscape)
    assert [task.patch.name for task in landscape.calls[0]] == ["A", "B", "C"]
    assert points(found) == [3.0, 6.0, 9.0]
    assert session.find(make_task(TINY, A, CERTIFIED), [A], no_fit) is found
    assert session.known(task) is found
    # Another way to test is another search; how long or checked it is does not matter.
    assert session.known(make_task(TINY, A, replace(CERTIFIED, test_poi=0.5))) is None
    assert session.known(make_task(TINY, A, replace(CERTIFIED, checked=True))) is found
    assert session.known(make_task(TINY, A, replace(CERTIFIED, effort="thorough"))) is found


@pytest.mark.parametrize("selected", [["A"], ["C"], ["C", "B"], []], ids=str)
def test_what_is_selected_has_no_part_in_it(selected):
    session = Pools(nothing_stored, for_references=False, shared=None)
    chosen = TINY.select(selected)
    task = make_task(chosen, chosen.patches[-1], CERTIFIED)
    assert points(session.find(task, chosen.patches, some_landscape())) == [3.0, 6.0, 9.0]


def test_for_references_all_that_become_one_are_searched_from_the_pool_that_was():
    landscape = some_landscape()
    session = Pools(lambda *_: Pool(({"x": -6.0},)), for_references=True, shared=None)
    task = make_task(TINY, A, CERTIFIED)
    assert session.known(task) is None
    found = session.find(task, [C, A], landscape)
    assert [task.patch.name for task in landscape.calls[0]] == ["A", "C"]
    assert points(found) == [-6.0, 3.0, 9.0]  # another hypothesis may need the first
    assert session.known(task) is found


def test_the_first_references_are_searched_with_the_sample():
    landscape = some_landscape()
    tiny = replace(TINY, sample=(A,))
    session = Pools(nothing_stored, for_references=True, shared=None)
    found = session.find(make_task(tiny, C, CERTIFIED), [C], landscape)
    assert [task.patch.name for task in landscape.calls[0]] == ["A", "C"]
    assert points(found) == [3.0, 9.0]


def test_the_order_of_the_tests_has_no_part_in_the_pool_of_references():
    found = [
        Pools(nothing_stored, for_references=True, shared=None)
        .find(make_task(TINY, order[0], CERTIFIED), order, some_landscape())
        .pool.sha256
        for order in ([A, B, C], [C, A, B], [B, C, A])
    ]
    assert len(set(found)) == 1


def test_processes_leave_each_other_what_they_found(tmp_path):
    shared = tmp_path / "run.pools"
    first, second, third = (
        Pools(nothing_stored, for_references=True, shared=shared) for _ in range(3)
    )
    task = make_task(TINY, A, CERTIFIED)
    other = make_task(TINY, A, replace(CERTIFIED, test_poi=0.5))
    assert second.known(other) is None
    found = first.find(task, patches, some_landscape())
    assert second.find(task, patches, no_fit) == replace(found, pool=second.known(task).pool)
    known = second.known(task).pool
    assert known.points == found.pool.points
    # Its tasks have the same keys, or nobody would find their results.
    for patch in patches:
        keys = {make_task(TINY, patch, CERTIFIED, pool).key for pool in (known, found.pool)}
        assert len(keys) == 1
    # What one adds does not remove what others have.
    third_one = make_task(TINY, A, replace(CERTIFIED, test_stat="q"))
    second.find(other, [A], some_landscape())
    first.find(third_one, [A], some_landscape())
    for each in (task, other, third_one):
        assert third.known(each) is not None
    assert [path.name for path in tmp_path.iterdir()] == ["run.pools"]
    # In another process, too.
    program = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from types import SimpleNamespace\n"
        "from pytest_pyhf_faas.campaign.pools import Pools\n"
        "from pytest_pyhf_faas.campaign.tasks import HypotestConfig\n"
        "there = Pools(None, for_references=True, shared=Path(sys.argv[1]))\n"
        "task = SimpleNamespace(pallet=SimpleNamespace(digest=sys.argv[2]),\n"
        "                       config=HypotestConfig(method='certified'))\n"
        "print(there.known(task).pool.sha256)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(shared), TINY.digest],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == found.pool.sha256


def test_what_another_process_finds_meanwhile_is_kept(tmp_path):
    shared = tmp_path / "run.pools"
    one, other = (Pools(nothing_stored, for_references=True, shared=shared) for _ in range(2))
    mine = make_task(TINY, A, CERTIFIED)
    theirs = make_task(TINY, A, replace(CERTIFIED, test_poi=0.5))
    landscape = some_landscape()

    def slowly(tasks):
        if not shared.exists():
            other.find(theirs, patches, some_landscape())
        return landscape(tasks)

    one.find(mine, patches, slowly)
    last = Pools(nothing_stored, for_references=True, shared=shared)
    assert last.known(mine) is not None
    assert last.known(theirs) is not None


# --- tasks and samples --------------------------------------------------------------------------

floats = st.floats(-5, 5).map(lambda value: round(value, 2))
starts = st.lists(st.dictionaries(st.text(max_size=5), floats, max_size=4), max_size=4)


@relaxed
@given(starts, starts)
def test_a_pool_is_part_of_what_a_task_is(one, other):
    keys = [make_task(TINY, A, CERTIFIED, Pool(tuple(some))).key for some in (one, other)]
    assert (keys[0] == keys[1]) == (
        json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    )
    plain = make_task(TINY, A, CERTIFIED)
    assert (plain.key == keys[0]) == (one == [])
    back = Pool(tuple(json.loads(json.dumps(one))))
    assert make_task(TINY, A, CERTIFIED, back).key == keys[0]
    (task,) = make_tasks(TINY, CERTIFIED, [A], Pool(tuple(one)))
    assert task.key == keys[0]
    assert batch_payload([task])["pool"] == one


def test_certified_tasks_know_neither_backend_nor_optimizer():
    one, other = (
        make_task(TINY, A, HypotestConfig(method="certified", backend=backend, optimizer=optimizer))
        for backend, optimizer in (("numpy", "scipy"), ("jax", "minuit"))
    )
    assert one.key == other.key
    assert one.config == other.config
    keys = {
        make_task(TINY, A, HypotestConfig(method="certified", **fields)).key
        for fields in ({}, {"effort": "thorough"}, {"checked": True}, {"test_poi": 2.0})
    }
    assert len(keys) == 4
    assert worker_function(one.config) is certify_batch


def test_the_sample_of_a_pallet_is_the_same_whatever_is_selected():
    (bundled,) = catalogue.resolve(catalogue.BUNDLED, search_path=[])
    sampled = [patch.name for patch in bundled.sample]
    names = [patch.name for patch in bundled.patches]
    assert sampled == [name for name in names if name in sampled]
    assert len(sampled) == 16
    places = [names.index(name) for name in sampled]
    gaps = {after - before for before, after in itertools.pairwise(places)}
    assert gaps <= {2, 3}  # of 40, from one end to the other
    assert places[0] <= 2
    assert places[-1] >= 37
    chosen = bundled.select(["synthetic_900_*"])
    assert chosen.sample == bundled.sample
    again = chosen.renamed("other")
    assert [patch.name for patch in again.sample] == sampled
    assert {patch.pallet for patch in again.sample} == {"other"}
    assert [patch.digest for patch in again.sample] == [patch.digest for patch in bundled.sample]


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 33])
def test_a_sample_has_all_of_a_small_pallet_and_some_of_a_large_one(count):
    some = tuple(range(count))
    sampled = pallet.evenly(some, 16)
    assert len(sampled) == len(set(sampled)) == min(count, 16)
    assert list(sampled) == sorted(sampled)
    if count <= 16:
        assert sampled == some


# --- with real fits -----------------------------------------------------------------------------


def test_the_minima_that_one_real_hypothesis_finds_are_found_for_all():
    """A control region has two minima; few draws alone find the lowest of all of them for none."""
    controls = {
        f"control{number}": [
            sample(
                "background", [25.0, 14.0], histosys(f"both{number}", [29.0, 16.5], [31.5, 22.5])
            )
        ]
        for number in range(8)
    }
    background = sample("background", [50.0, 28.0], normsys("scale", 0.9, 1.1))
    observed = {name: [34, 15] for name in controls}
    specification = workspace({"bins": [background], **controls}, {"bins": [51, 31], **observed})
    hypotheses = [signal_patch(f"s{number}", (0.0, 3.0 + 2 * number)) for number in range(3)]
    broken = [{"op": "add", "path": "/channels/0/name", "value": "bins"}]
    hypotheses.insert(1, pallet.SignalPatch("tiny", "none", (1,), pallet.Packed.of(broken)))
    where = pallet_of(hypotheses, specification)
    results = []

    def fit(tasks):
        answers = worker_function(tasks[0].config)(batch_payload(tasks))["results"]
        found = [
            HypotestResult.from_json({**a, "pallet": "tiny", "patch": ""}, None) for a in answers
        ]
        results.append(found)
        return found

    found = explore(where, hypotheses, CERTIFIED, Pool(), fit)
    assert found.rounds > 1
    assert len(found.evidence) == 3
    assert [result.status for result in results[0]] == ["ok", "error", "ok", "ok"]
    thorough, last = results[0], results[-1]
    alone = fit(make_tasks(where, CERTIFIED))
    gains = []
    for mine, one, of_all in zip(alone, thorough, last, strict=True):
        for name in TO_DATA if mine.status == "ok" else ():
            assert of_all.twice_nll[name] <= one.twice_nll[name] + 1e-9
            assert of_all.twice_nll[name] <= mine.twice_nll[name] + 1e-9
            gains.append(mine.twice_nll[name] - of_all.twice_nll[name])
    assert max(gains) > 0.1
    # Nothing is new from there on.
    again = explore(where, hypotheses, CERTIFIED, found.pool, fit)
    assert (again.rounds, again.pool) == (1, found.pool)
    # Nor does it matter what was found first.
    back = explore(where, hypotheses, CERTIFIED, Pool(), fit)
    assert back.pool.sha256 == found.pool.sha256
