"""What a run has sent to a service outlives it, and the next one collects it."""

from __future__ import annotations

import json

import pytest


def names_in(project, name):
    path = project.path / name
    lines = path.read_text().splitlines() if path.exists() else []
    return sorted(line.split()[1] for line in lines)


@pytest.fixture
def killed(project):
    """As after a run that was killed with two fits done, two sent, and two not sent."""
    patches = project.pallet(6)
    project.own_test()
    project.plan(workers=1, loses_tasks=True)
    project.run(suite=False).assert_outcomes(passed=6)
    (journal,) = project.path.glob(".pytest_cache/d/pyhf-faas/*.jsonl")
    lines = [(json.loads(line), line) for line in journal.read_text().splitlines() if line]
    numbers = {}  # of the patches, by key and by batch
    for line, _text in lines:
        if line.get("event") == "submitted":
            for fit in line["fits"]:
                key, _group, _family, _expected_s, name = fit[:5]
                numbers[key] = patches.index(name.partition("/")[2])
        elif line.get("do") == "send":
            (key,) = line["keys"]
            numbers[line["batch"]] = numbers[key]
    kept = {"send": 4, "sent": 4, "accepted": 4, "answered": 2, "count": 2, "take": 2, "result": 2}

    def is_kept(line):
        what = line.get("result", line)
        number = numbers.get(what.get("batch", what.get("key")), 0)
        return number < kept.get(line.get("do") or line["event"], len(patches))

    journal.write_text("".join(f"{text}\n" for line, text in lines if is_kept(line)))
    assert project.journaled() == patches[:2]
    project.plan(loses_tasks=True)
    return patches


def test_what_a_killed_run_has_sent_is_collected(project, killed):
    result = project.run("--faas-resume", suite=False)
    result.assert_outcomes(passed=6)
    assert project.fits() == killed[4:]
    assert names_in(project, "collected.log") == killed[2:4]
    result.stdout.fnmatch_lines(
        ["2 fits sent to workers, 2 taken over from earlier runs, 2 collected from an earlier*"]
    )
    assert project.journaled().count(killed[2]) == 1


def test_what_was_collected_is_taken_over_the_next_time(project, killed):
    project.run("--faas-resume", suite=False)
    (project.path / "collected.log").unlink()
    result = project.run("--faas-resume", suite=False)
    result.assert_outcomes(passed=6)
    assert project.fits() == names_in(project, "collected.log") == []
    result.stdout.fnmatch_lines(["0 fits sent to workers, 6 taken over from earlier runs"])


def test_only_what_is_selected_is_collected(project, killed):
    result = project.run("--faas-resume", "--faas-patch", killed[3], suite=False)
    result.assert_outcomes(passed=1)
    assert project.fits() == []
    assert names_in(project, "collected.log") == killed[3:4]
    project.run("--faas-resume", suite=False).assert_outcomes(passed=6)
    assert names_in(project, "collected.log") == sorted(killed[2:4])


def test_what_can_no_longer_be_collected_is_fitted_again(project, killed):
    for path in project.path.glob("sent-*.json"):
        path.unlink()
    project.run("--faas-resume", suite=False).assert_outcomes(passed=6)
    assert project.fits() == killed[2:]


def test_without_resume_nothing_is_collected(project, killed):
    project.run(suite=False).assert_outcomes(passed=6)
    assert project.fits() == killed
    assert names_in(project, "collected.log") == []


def test_another_endpoint_has_nothing_to_collect(project, killed):
    project.run("--faas-resume", "--funcx-endpoint", "local:2", suite=False)
    assert project.fits() == killed
    assert names_in(project, "collected.log") == []


def test_what_was_sent_before_anything_was_done_is_collected(project):
    patches = project.pallet(4)
    project.own_test()
    project.plan(workers=1, loses_tasks=True, kill=patches[0], kill_after_accepted=2)
    assert project.run(suite=False, subprocess=True).ret == -9
    assert project.journaled() == []
    project.plan(loses_tasks=True)
    result = project.run("--faas-resume", suite=False)
    result.assert_outcomes(passed=4)
    assert project.fits() == patches[2:]
    assert "found no earlier results" not in project.text(result)


def test_a_run_that_ends_early_says_what_runs_on(project):
    patches = project.pallet(5)
    project.own_test(
        """\
import time
from pathlib import Path

def test_cls(hypotest_result, reference_result, assert_cls):
    limit = time.monotonic() + 30
    while len(list(Path().glob("sent-*.json"))) < 3:  # the first, and two more in its place
        assert time.monotonic() < limit
        time.sleep(0.01)
    assert_cls(hypotest_result, reference_result)
"""
    )
    project.change_reference(patches[0], CLs_obs=0.9)
    project.plan(workers=1, loses_tasks=True, wait_for_fits={patches[1]: 99})
    result = project.run("-x", suite=False)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        ["2 fits left with local to run on there; --faas-resume collects the results"]
    )
    project.plan(loses_tasks=True)
    result = project.run("--faas-resume", suite=False)
    result.assert_outcomes(passed=4, failed=1)
    assert project.fits() == patches[3:]
    assert names_in(project, "collected.log") == patches[1:3]


def test_a_run_that_is_done_says_nothing_of_it(project):
    project.pallet(3)
    project.own_test()
    project.plan(loses_tasks=True)
    result = project.run(suite=False)
    result.assert_outcomes(passed=3)
    shown = project.text(result)
    assert "still with" not in shown
    assert "collected that" not in shown
