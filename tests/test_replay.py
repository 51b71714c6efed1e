"""The replay of the published study: lengths of fits, the least time that they take, its parts."""

import sys
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.answers import parse_answer
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, batch_payload, make_tasks
from pytest_pyhf_faas.campaign.times import Trial
from tests.helpers import made_up_fits
from tests.helpers.paths import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import replay

LENGTHS = st.lists(st.floats(0.1, 100.0), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 200), st.floats(1.0, 1e4))
def test_lengths_have_the_sum_and_lie_between_the_measured_ones(times, count, total_s):
    lengths = replay.fit_lengths(times, count, total_s)
    assert len(lengths) == count
    assert sum(lengths) == pytest.approx(total_s)
    assert max(lengths) / min(lengths) <= max(times) / min(times) * (1 + 1e-9)


def test_as_many_lengths_as_times_are_the_times_in_another_order():
    times = [float(value) for value in range(1, 58)]
    lengths = replay.fit_lengths(times, 57, 2 * sum(times))
    assert sorted(lengths) == pytest.approx([2 * seconds for seconds in times])
    assert lengths != sorted(lengths)
    assert lengths == replay.fit_lengths(times, 57, 2 * sum(times))


@pytest.mark.parametrize("analysis", replay.TABLE_1, ids=lambda analysis: analysis.name)
def test_each_published_analysis_has_fit_times(analysis):
    times = replay.reference_times(analysis.shape)
    lengths = replay.fit_lengths(times, analysis.patches, analysis.serial_s)
    assert sum(lengths) == pytest.approx(analysis.serial_s)
    assert 1.1 < max(lengths) * analysis.patches / analysis.serial_s < 3.0


@given(LENGTHS, st.integers(1, 100))
def test_the_shortest_time_is_within_its_bounds(lengths, workers):
    seconds = replay.shortest_s(lengths, [0.0] * workers)
    share_s = sum(lengths) / workers
    assert max(*lengths, share_s) <= seconds * (1 + 1e-9)
    assert seconds <= (share_s + max(lengths)) * (1 + 1e-9)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(1, 3))
def test_the_shortest_time_is_at_most_a_third_above_the_best_of_all_ways(lengths, workers):
    best = min(
        max(sum(s for s, w in zip(lengths, who, strict=True) if w == n) for n in range(workers))
        for who in product(range(workers), repeat=len(lengths))
    )
    assert best <= replay.shortest_s(lengths, [0.0] * workers) <= (4 / 3) * best


def test_125_equal_fits_on_96_workers_take_two_of_them():
    assert replay.shortest_s([1.0] * 125, [0.0] * 96) == 2.0
    # 29 workers have a second one; if these are short, the longest decides.
    assert replay.shortest_s([1.0] * 67 + [0.5] * 58, [0.0] * 96) == 1.0


def test_who_comes_late_can_do_less():
    assert replay.shortest_s([1.0] * 4, [0.0, 0.0]) == 2.0
    assert replay.shortest_s([1.0] * 4, [0.0, 2.0]) == 3.0


def trial(workers, wall_s, fit_s, **seconds):
    names = ("startup", "waiting", "queue", "transfer", "unpack", "build", "overhead", "idle")
    names += ("unattributed",)
    times = {f"{name}_s": seconds.get(name, 0.0) for name in names}
    return Trial(fits=1, workers=workers, wall_s=wall_s, fit_s=fit_s, **times)


@given(LENGTHS, st.integers(2, 100), st.floats(0.0, 50.0), st.floats(0.0, 5.0))
def test_the_parts_add_up_and_so_do_their_serial_fractions(lengths, workers, late_s, between_s):
    wall_s = replay.shortest_s(lengths, [late_s] * workers) + between_s
    measured = trial(workers, wall_s, sum(lengths), transfer=workers * between_s)
    parts = replay.parts_of(measured, lengths, [late_s] * workers)
    assert tuple(parts) == replay.PARTS
    assert sum(parts.values()) == pytest.approx(wall_s)
    assert parts["other"] == pytest.approx(0.0, abs=1e-6 * wall_s)
    assert parts["blocks"] == pytest.approx(late_s, abs=1e-6 * wall_s)
    assert parts["transport"] == pytest.approx(between_s)
    speed_up = sum(lengths) / wall_s
    karp_flatt = (1 / speed_up - 1 / workers) / (1 - 1 / workers)
    fractions = replay.serial_fractions(parts, workers)
    assert sum(fractions.values()) == pytest.approx(karp_flatt)


def test_one_worker_has_no_serial_fraction():
    assert replay.serial_fractions({"fit": 2.0, "blocks": 1.0}, 1) == {}


def test_a_replayed_fit_takes_as_long_as_its_patch_says():
    analysis = replay.TABLE_1[0]
    pallet = replay.replayed(analysis, [0.02, 0.0], None)
    tasks = make_tasks(pallet, HypotestConfig())
    assert len({task.key for task in tasks}) == 2
    answer = parse_answer(made_up_fits.fit_batch(batch_payload(tasks)), tasks)
    longer, shorter = (answer.results[task.key] for task in tasks)
    assert longer.status == shorter.status == "ok"
    assert longer.seconds["fit"] >= 0.02 > shorter.seconds["fit"]


def test_as_many_bytes_travel_as_with_a_real_patch():
    analysis = replay.TABLE_1[0]
    pallet = replay.find_pallet("synthetic")
    tasks = make_tasks(replay.replayed(analysis, [1.0] * 60, pallet), HypotestConfig())
    assert tasks[0].pallet.background == pallet.background
    assert tasks[59].patch.operations[:-1] == pallet.patches[59 % len(pallet.patches)].operations
