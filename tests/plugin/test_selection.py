"""What is collected, what is selected, and that no more and no less is fitted, each once."""

from __future__ import annotations

import math
import resource
from importlib.util import find_spec

import pytest

OWN_AND_OTHER = """\
def test_cls(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)

def test_of_the_pallet(pallet, signal_patch):
    assert signal_patch in pallet.patches

def test_of_nothing():
    pass
"""


def ids_that_passed(result):
    return [line.partition("::")[2].split()[0] for line in result.outlines if "] PASSED" in line]


@pytest.mark.parametrize("option", ["--collect-only", "--setup-plan", "--faas-dry-run"])
def test_looking_at_the_plan_starts_nothing(project, option):
    project.pallet(4)
    result = project.run(option)
    assert result.ret == 0
    assert project.fits() == []
    assert project.starts() == []
    result.stdout.fnmatch_lines(["pyhf-faas: tiny: 4 fits on local (2 workers), numpy+scipy*"])


def test_ids_name_the_pallet_and_the_patch(project):
    project.pallet(2)
    result = project.run("--collect-only", "-q")
    ids = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert ids == [
        "test_walltime[tiny]",
        "test_cls[tiny-sig_100_0]",
        "test_cls[tiny-sig_100_50]",
    ]


def test_dry_run_skips_every_item_and_says_why(project):
    project.pallet(2)
    result = project.run("--faas-dry-run", "-rs")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["*dry run: nothing was fitted*"])


def test_dry_run_runs_what_needs_no_endpoint(project):
    project.pallet(2)
    project.own_test(OWN_AND_OTHER)
    result = project.run("--faas-dry-run", suite=False)
    result.assert_outcomes(passed=3, skipped=2)
    assert project.fits() == []


@pytest.mark.parametrize(
    ("selection", "fitted"),
    [
        (["-k", "sig_200"], ["sig_200_0", "sig_200_50"]),
        (["-k", "test_cls and sig_100_50"], ["sig_100_50"]),
        (["--faas-patch", "sig_*_50"], ["sig_100_50", "sig_200_50"]),
        (["--faas-patch", "100,0"], ["sig_100_0"]),
        (["--faas-patch", "100.0, 50"], ["sig_100_50"]),
        (["--faas-patch", "100,0", "--faas-patch", "sig_200_50"], ["sig_100_0", "sig_200_50"]),
        (["-m", "not faas"], []),
        (["-m", "faas", "-k", "200_0"], ["sig_200_0"]),
    ],
    ids=" ".join,
)
def test_only_what_is_selected_is_fitted(project, selection, fitted):
    project.pallet(4)
    result = project.run(*selection)
    assert result.ret == (0 if fitted else 5)
    assert project.fits() == fitted


def test_a_node_id_fits_one_patch(project):
    project.pallet(4)
    project.own_test()
    result = project.run("test_own.py::test_cls[tiny-sig_200_0]", suite=False)
    result.assert_outcomes(passed=1)
    assert project.fits() == ["sig_200_0"]


def test_tests_without_endpoint_run_alone(project):
    project.pallet(2)
    project.own_test(OWN_AND_OTHER)
    result = project.run("-m", "not faas", suite=False)
    result.assert_outcomes(passed=3, deselected=2)
    assert project.fits() == []


def test_no_workers_start_where_no_endpoint_is_wanted(project):
    project.pallet(2)
    project.run("-m", "not faas")
    assert project.starts() == []


def test_tests_of_other_people_start_nothing(project):
    project.own_test("def test_of_nothing(): pass")
    result = project.run(suite=False, pallet=None)
    result.assert_outcomes(passed=1)
    assert project.starts() == []
    assert "pyhf-faas:" not in result.stdout.str()
    assert not (project.path / ".pytest_cache/d/pyhf-faas").exists()


def test_each_selected_patch_is_fitted_once(project, distribution):
    patches = project.pallet(6)
    project.own_test()
    result = project.run(*distribution, "-k", "not 300_50", suite=False)
    result.assert_outcomes(passed=5, deselected=0 if "-n2" in distribution else 1)
    assert project.fits() == patches[:5]
    result.stdout.fnmatch_lines(["5 fits sent to workers"])


def test_all_fits_are_submitted_at_the_first_need(project):
    patches = project.pallet(5)
    project.plan(workers=5, wait_for_fits={patches[0]: 5})
    project.own_test()
    result = project.run(suite=False)
    result.assert_outcomes(passed=5)
    assert project.fits() == patches


def test_no_fit_begins_before_an_item_needs_it(project):
    project.pallet(2)
    project.own_test(
        """\
from pathlib import Path

def test_a_of_nothing():
    assert not Path("fits.log").exists()

def test_b_cls(hypotest_result):
    assert hypotest_result.CLs_obs > 0
"""
    )
    result = project.run(suite=False)
    result.assert_outcomes(passed=3)
    assert len(project.fits()) == 2


def test_the_last_trial_of_the_wall_time_feeds_the_comparison(project):
    patches = project.pallet(3)
    result = project.run()
    result.assert_outcomes(passed=4)
    assert project.fits() == patches


def test_each_trial_fits_each_patch_once(project):
    patches = project.pallet(3)
    result = project.run("--faas-trials", "3")
    result.assert_outcomes(passed=4)
    assert project.fits() == sorted(3 * patches)


def test_one_configuration_is_fitted_once_for_all_tests(project):
    patches = project.pallet(2)
    project.own_test(
        """\
import time

import pytest

def test_one(hypotest_result):
    pass

def test_two(hypotest_result):
    pass

@pytest.mark.hypotest(test_poi=1.0)
def test_same(hypotest_result):
    pass

@pytest.mark.hypotest(test_poi=2.0)
def test_other(hypotest_result):
    pass
"""
    )
    result = project.run(suite=False)
    result.assert_outcomes(passed=8)
    assert project.fits() == sorted(2 * patches)


def test_the_suite_runs_once_per_endpoint(project):
    patches = project.pallet(2)
    result = project.run("--funcx-endpoint", "local:1", "--faas-endpoint", "local:2", "-v")
    result.assert_outcomes(passed=6)
    assert project.fits_at("local:1") == patches
    assert project.fits_at("local:2") == patches
    assert [name.partition("[")[2] for name in ids_that_passed(result)] == [
        "local:1-tiny]",
        "local:1-tiny-sig_100_0]",
        "local:1-tiny-sig_100_50]",
        "local:2-tiny]",
        "local:2-tiny-sig_100_0]",
        "local:2-tiny-sig_100_50]",
    ]


def test_one_endpoint_given_twice_is_one(project):
    patches = project.pallet(2)
    project.run("--funcx-endpoint", "local:2", "--funcx-endpoint", "local:2")
    assert project.fits() == patches


def test_several_pallets_are_done_one_after_the_other(project):
    project.pallet(2, "tiny")
    project.pallet(1, "other")
    result = project.run("--faas-pallet", "tiny", "-v", pallet="other")
    result.assert_outcomes(passed=5)
    assert ids_that_passed(result) == [
        "test_walltime[tiny]",
        "test_cls[tiny-sig_100_0]",
        "test_cls[tiny-sig_100_50]",
        "test_walltime[other]",
        "test_cls[other-sig_100_0]",
    ]


def test_skipped_items_are_not_fitted(project):
    project.pallet(2)
    project.own_test(
        """\
import time

import pytest

@pytest.mark.skip(reason="not today")
def test_skipped(hypotest_result):
    pass

@pytest.mark.hypotest(test_poi=2.0)
def test_run(hypotest_result):
    pass
"""
    )
    result = project.run(suite=False)
    result.assert_outcomes(passed=2, skipped=2)
    assert {how["test_poi"] for how in project.how_fitted()} == {2.0}


def test_last_failed_fits_only_what_failed(project):
    project.pallet(4)
    project.own_test()
    project.change_reference("sig_200_0", CLs_obs=0.5)
    project.run(suite=False)
    assert len(project.fits()) == 4
    result = project.run("--lf", suite=False)
    result.assert_outcomes(failed=1)
    assert project.fits() == ["sig_200_0"]


def test_exit_first_ends_with_fits_under_way(project):
    patches = project.pallet(8)
    project.own_test()
    project.change_reference(patches[0], CLs_obs=0.5)
    # The second fit has begun when the first ends, and lasts until somebody stops it.
    project.plan(workers=2, wait_for_fits={patches[0]: 2, patches[1]: 99})
    result = project.run("-x", suite=False)
    result.assert_outcomes(failed=1)
    assert project.fits()[:2] == patches[:2]
    assert project.stopped() == [patches[1]]


@pytest.mark.skipif(find_spec("jax") is None, reason="certified fits need JAX")
def test_real_fits(project):
    patches = project.pallet(3, references=False)
    project.real_engines()
    result = project.run("--funcx-endpoint", "local:2", "-k", "200_0", "--faas-update", "new")
    result.assert_outcomes(skipped=1, deselected=3)
    (entry,) = project.reference()["patches"].values()
    assert entry["values"] == [200, 0]
    assert 0 < entry["CLs_obs"] < 1
    assert patches[2] in project.reference()["patches"]


def cpu_of(run):
    """Return the seconds of CPU of a pytest of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cpu_of_collecting(project, count):
    """Return the seconds of CPU that it takes to collect so many patches."""
    project.pallet(count, references=False)

    def run():
        result = project.run("--collect-only", "-q", subprocess=True)
        assert f"{count + 1} tests collected" in result.stdout.str()

    return cpu_of(run)


def cpu_of_plain_tests(pytester, count):
    """Return the seconds of CPU that it takes pytest alone to collect so many tests."""
    pytester.makepyfile(
        test_plain=f"""\
import pytest


@pytest.mark.parametrize("number", range({count}))
def test_plain(number):
    pass
"""
    )

    def run():
        result = pytester.runpytest_subprocess("--collect-only", "-q", "-p", "no:pyhf-faas")
        assert f"{count} tests collected" in result.stdout.str()

    return cpu_of(run)


@pytest.mark.timeout(600)
def test_collecting_thousands_of_patches_is_quick_and_linear(project, pytester):
    least = [math.inf] * 4
    for _repetition in range(3):
        seconds = (
            *(cpu_of_collecting(project, count) for count in (10, 500, 2_000)),
            cpu_of_plain_tests(pytester, 2_000),
        )
        # Others on the machine can only make it slower.
        least = list(map(min, least, seconds))
        few, some, many, plain = least
        # Twice as much is usual; and four times as many, where by the square it would be sixteen.
        if many < 4 * plain and many - few < 10 * (some - few):
            return
    pytest.fail(f"10, 500, 2,000 patches and as many plain tests: {least}")
