"""No wall time, and nothing made of it, unless each fit gave an answer that could be right."""

from __future__ import annotations

import json

import pytest

from pytest_pyhf_faas.campaign.accounting import AtOnce, Crew
from pytest_pyhf_faas.plugin import book  # noqa: F401 - see fastjsonschema in conftest.py
from pytest_pyhf_faas.plugin.measuring import _not_as_asked
from pytest_pyhf_faas.report import document as documents

ATTRIBUTE_ERROR = ["AttributeError", "module 'numpy' has no attribute 'product'"]
INVALID_MODEL = "pyhf.exceptions.InvalidModel"
PLUGIN = ("--benchmark-json=times.json", "--faas-report=rep", "--junitxml=junit.xml")


def crash(project, count=8):
    names = project.pallet(count)
    project.plan(errors=dict.fromkeys(names, ATTRIBUTE_ERROR))
    return names


def stored(project):
    """Return what pytest-benchmark has stored, in whole."""
    return [*project.path.glob("times.json"), *project.path.glob(".benchmarks/**/*.json")]


@pytest.mark.parametrize("first", ["pyhf-faas", "benchmark"])
def test_a_run_in_which_each_fit_crashes_has_no_wall_time(project, first):
    # Which of the two plugins comes first is a matter of what the file system lists first.
    crash(project)
    result = project.run("-p", first, *PLUGIN, "--benchmark-autosave", "--faas-trials=3")
    assert result.ret == 1
    reason = f"8 of 8 fits gave AttributeError: {ATTRIBUTE_ERROR[1]}"
    result.stdout.fnmatch_lines(
        ["*ERROR at setup of test_walltime*", f"tiny: no wall time: {reason}"]
    )
    assert "speed-up" not in project.text(result)
    assert "OPS" not in project.text(result)
    assert "nothing was measured: pytest-benchmark saves nothing" in project.text(result)
    assert stored(project) == []
    assert len(project.fits()) == 8  # the other trials would be like the first
    project.assert_no_internals(result)
    document = documents.read(project.path / "rep")
    (analysis,) = document["analyses"]
    assert analysis["wall_time"] is None
    assert analysis["not_measured"].partition("\n")[0] == reason
    page = (project.path / "rep" / "report.html").read_text()
    assert "wall time not measured: 8 of 8 fits gave AttributeError" in page


def test_a_crash_is_not_compared_with_earlier_wall_times(project):
    project.pallet(2)
    assert project.run("--benchmark-save=first").ret == 0
    before = stored(project)
    crash(project, 2)
    compare = ("--benchmark-compare", "--benchmark-compare-fail=mean:0.001%")
    result = project.run(*compare, "--benchmark-autosave")
    assert "regressed" not in project.text(result)
    assert stored(project) == before


def test_what_an_endpoint_refuses_is_said_once(project):
    project.pallet(3)
    project.plan(breakdowns=-1)
    result = project.run(*PLUGIN)
    assert "no wall time: the engine local broke down" in project.text(result)
    assert stored(project) == []


def test_several_reasons_are_distinguished_the_most_frequent_first(project):
    names = project.pallet(5)
    project.plan(
        errors=dict.fromkeys(names[:2], ATTRIBUTE_ERROR), timeout=[names[3]], lose={names[4]: -1}
    )
    result = project.run("--faas-timeout=10")
    result.stdout.fnmatch_lines(
        [
            "tiny: no wall time: 2 of 5 fits gave AttributeError: *",
            "  1 of 5 fits took too long: it was ended after its time limit of 10.0 s*",
            f"  {', '.join(names[:2])}, {names[3]}, {names[4]}",
        ]
    )


def test_an_exception_is_an_answer_where_it_is_the_reference(project):
    names = project.pallet(3)
    project.plan(errors={names[0]: [INVALID_MODEL, "no POI"]})
    assert project.run("-k", "walltime").ret == 1
    project.expect_error(names[1])  # of another hypothesis
    assert project.run("-k", "walltime").ret == 1
    project.expect_error(names[0])
    result = project.run("-k", "walltime", *PLUGIN)
    assert result.ret == 0, project.text(result)
    (benchmark,) = json.loads((project.path / "times.json").read_text())["benchmarks"]
    assert benchmark["group"] == "wall time"


@pytest.mark.parametrize(
    "error", ["ValueError('no')", "KeyboardInterrupt", "pytest.skip.Exception"]
)
def test_a_benchmark_with_a_trial_that_failed_leaves_nothing(project, error):
    project.own_test(
        f"""\
import pytest
from pytest_pyhf_faas.plugin.measuring import as_benchmark

def test_failed(request, benchmark):
    trials = iter(range(2))
    def trial():
        if next(trials):
            raise {error}
    with pytest.raises(BaseException):
        as_benchmark(request.config, benchmark, "mine", 3)(trial)
    assert list(trials) == []

def test_good(request, benchmark):
    as_benchmark(request.config, benchmark, "mine", 3)(lambda: None)
"""
    )
    result = project.run("--benchmark-json=times.json", suite=False, pallet=None)
    assert result.ret == 0, project.text(result)
    (benchmark,) = json.loads((project.path / "times.json").read_text())["benchmarks"]
    assert benchmark["name"] == "test_good"
    result.stdout.fnmatch_lines(["*benchmark 'mine': 1 tests*"])


# Scaling

BLOCKS = "5f2a1c3e-0000-4000-8000-000000000001"  # an endpoint of Globus Compute


def scale(project, counts, *words, endpoint="local"):
    suite = ("--pyargs", "pytest_pyhf_faas.suite.test_scaling", f"--faas-scaling={counts}")
    result = project.run(*suite, f"--funcx-endpoint={endpoint}", *PLUGIN, *words, suite=False)
    (entry,) = documents.read(project.path / "rep")["scaling"]
    return result, [point["count"] for point in entry["points"]], entry["refused"]


def test_what_was_asked_for_is_what_was_seen(project, monkeypatch):
    monkeypatch.setattr("pytest_pyhf_faas.plugin.measuring.usable_cores", lambda: 2)
    project.pallet(9)
    result, measured, refused = scale(project, "1,2,3")
    assert result.ret == 0, project.text(result)
    assert (measured, refused) == ([1, 2, 3], [])
    result.stdout.fnmatch_lines(["--faas-scaling: 3 workers shared the 2 cores of this machine*"])
    assert "2 workers shared" not in project.text(result)
    assert len(json.loads((project.path / "times.json").read_text())["benchmarks"]) == 3


def test_workers_that_are_not_seen_make_no_point(project):
    project.pallet(6)
    project.plan(seen=1)
    result, measured, refused = scale(project, "1,2")
    result.assert_outcomes(passed=1, errors=1)
    assert measured == [1]
    (point,) = refused
    assert point["count"] == 2
    reason = "2 workers asked for, no more than 1 worker seen at work"
    assert point["reason"].startswith(reason)
    result.stdout.fnmatch_lines([f"tiny: no wall time: {reason}*"])
    (benchmark,) = json.loads((project.path / "times.json").read_text())["benchmarks"]
    assert benchmark["name"] == "test_scaling[tiny-1]"
    page = (project.path / "rep" / "report.html").read_text()
    assert f"2 workers, not measured: {reason}" in page
    assert "Amdahl" not in page
    project.assert_no_internals(result)


def test_blocks_that_are_not_seen_make_no_point(project):
    project.pallet(6)
    project.plan(seen=2, blocks=1)
    _result, measured, (point,) = scale(project, "1,2", endpoint=BLOCKS)
    assert measured == [1]
    assert point["reason"].startswith("2 blocks asked for, no more than 1 block seen at work")


def test_where_workers_do_not_name_their_block_the_run_says_so(project):
    project.pallet(8)
    project.plan(seen=2)
    result, measured, (point,) = scale(project, "1,2,3", endpoint=BLOCKS)
    assert measured == [1, 2]
    assert point["reason"].startswith("3 blocks asked for, no more than 2 workers seen at work")
    told = f"the workers of {BLOCKS} do not report their block"
    assert project.text(result).count(told) == 1


@pytest.mark.parametrize(
    ("blocks", "unit", "said"),
    [
        (AtOnce(3, 3), "blocks", "2 blocks asked for, 3 seen at work"),
        (AtOnce(2, 3), "blocks", None),
        (AtOnce(1, 2), "blocks", None),
        (AtOnce(1, 1), "blocks", "2 blocks asked for, no more than 1 block seen at work"),
        (None, "blocks", None),
        (AtOnce(1, 1), "workers", None),
    ],
)
def test_a_trial_is_one_of_as_many_as_were_asked_for(blocks, unit, said):
    reason = _not_as_asked(2, unit, Crew(9, AtOnce(2, 4), blocks))
    assert (reason is None) if said is None else reason.startswith(said)


def test_more_workers_than_tasks_are_said_so():
    reason = _not_as_asked(4, "workers", Crew(2, AtOnce(1, 2), None))
    assert reason.startswith("4 workers asked for, no more than 2 workers seen at work\n")
    assert "use a pallet with more fits" in reason
