"""Under pytest-xdist the number of fits stays the same, and so does what comes out."""

from __future__ import annotations

import re
from importlib.util import find_spec

import pytest

INVALID_MODEL = "pyhf.exceptions.InvalidModel"
FAILED_MINIMIZATION = "pyhf.exceptions.FailedMinimization"


def locks(project):
    journals = project.path / ".pytest_cache/d/pyhf-faas"
    names = [path.name for path in journals.iterdir()]
    return [name for name in names if ".leader" in name or ".running" in name]


def test_outcomes_do_not_depend_on_the_distribution(project, distribution):
    """One of each: whatever can come out of a fit."""
    names = project.pallet(11)
    right, wrong, lost, lost_once, slow, invalid, refused, fitted, failed, nan, new = names
    project.own_test()
    project.plan(
        lose={lost: -1, lost_once: 1},
        timeout=[slow],
        errors={
            invalid: [INVALID_MODEL, "No POI"],
            refused: [INVALID_MODEL, "No POI"],
            failed: [FAILED_MINIMIZATION, "x" * 200_000],
        },
        answers={nan: {"CLs_obs": "nan"}},
    )
    project.change_reference(wrong, CLs_obs=0.95)
    project.expect_error(invalid)
    project.expect_error(fitted)
    project.forget_reference(new)
    result = project.run(*distribution, "--junitxml=junit.xml", suite=False)
    assert project.outcomes() == {
        right: "passed",
        wrong: "failed",
        lost: "error",
        lost_once: "passed",
        slow: "error",
        invalid: "passed",
        refused: "error",
        fitted: "failed",
        failed: "error",
        nan: "failed",
        new: "failed",
    }
    assert project.fits() == sorted([*names, lost, lost_once])
    assert result.ret == 1
    result.stdout.fnmatch_lines(["13 fits sent to workers, 2 of them sent again (worker lost: 2)"])
    project.assert_no_internals(result)
    assert locks(project) == []


def test_the_suite_runs_but_for_the_wall_time(project):
    patches = project.pallet(3)
    project.pallet(1, "other")
    result = project.run("-n2", "-rs", "--faas-pallet", "other")
    result.assert_outcomes(passed=4, skipped=2)
    # The other pallet has a background and a patch of the first.
    assert project.fits() == patches
    result.stdout.fnmatch_lines(["SKIPPED*not measured under pytest-xdist*"])


def test_exit_first_ends_with_fits_under_way(project):
    patches = project.pallet(20)
    project.own_test(
        f"""\
import time
from pathlib import Path

def test_cls(hypotest_result):
    while {patches[10]!r} not in Path("fits.log").read_text():
        time.sleep(0.01)
    assert False
"""
    )
    # This fit lasts until somebody stops it; no item comes to need it.
    project.plan(workers=1, wait_for_fits={patches[10]: 99})
    result = project.run("-n2", "-x", suite=False, subprocess=True)
    assert result.ret in {1, 2}
    assert result.parseoutcomes()["failed"] >= 1
    assert project.stopped() == [patches[10]]
    assert locks(project) == []


def test_when_the_leader_dies_another_one_goes_on(project):
    patches = project.pallet(8)
    project.own_test()
    project.plan(workers=1, kill="sig_200_50", kill_after=3)
    result = project.run("-n2", "-rA", suite=False, subprocess=True)
    shown = result.stdout.str()
    (died_in,) = set(re.findall(r"worker 'gw\d' crashed while running '.*\[tiny-(\w+)\]'", shown))
    passed = re.findall(r"^PASSED .*\[tiny-(\w+)\]", shown, re.MULTILINE)
    # The item in which it died has failed, perhaps after it had passed; each other one passed once.
    assert result.parseoutcomes()["failed"] == 1
    assert sorted({*passed, died_in}) == patches
    assert len(passed) == len(set(passed))
    fits = project.fits()
    assert sorted(set(fits)) == patches
    # What the journal holds is not fitted again.
    assert [fits.count(patch) for patch in patches[:3]] == [1, 1, 1]
    assert locks(project) == []


def test_resuming_fits_only_the_rest(project):
    patches = project.pallet(5)
    project.own_test()
    project.run("-k", "sig_100", suite=False).assert_outcomes(passed=2, deselected=3)
    result = project.run("-n2", "--faas-resume", suite=False)
    result.assert_outcomes(passed=5)
    assert project.fits() == patches[2:]
    result.stdout.fnmatch_lines(["3 fits sent to workers, 2 taken over from earlier runs"])


def test_a_full_disk_does_not_stop_the_run(project):
    project.pallet(4)
    project.own_test()
    project.plan(journal_full=True)
    result = project.run("-n2", suite=False, subprocess=True)
    assert result.ret == 0
    assert result.parseoutcomes()["passed"] == 4
    result.stdout.fnmatch_lines(["the journal * cannot be written (No space left on device)*"])
    project.assert_no_internals(result)


@pytest.mark.parametrize("endpoints", [("local:1", "local:2")])
def test_several_endpoints(project, endpoints):
    patches = project.pallet(2)
    project.own_test()
    words = [word for endpoint in endpoints for word in ("--funcx-endpoint", endpoint)]
    project.run("-n2", *words, suite=False).assert_outcomes(passed=4)
    for endpoint in endpoints:
        assert project.fits_at(endpoint) == patches


@pytest.mark.skipif(find_spec("jax") is None, reason="certified fits need JAX")
def test_real_fits(project):
    project.pallet(3, references=False)
    project.real_engines()
    project.own_test()
    words = ["-n2", "--funcx-endpoint", "local:2"]
    result = project.run(*words, "--faas-update", "new", suite=False)
    assert result.parseoutcomes() == {"skipped": 3}
    # Each searched thoroughly first, and then with the starts of all.
    result.stdout.fnmatch_lines(["6 fits sent to workers, 3 of them searches for starts"])
    assert len(project.reference()["patches"]) == 3
    assert locks(project) == []
