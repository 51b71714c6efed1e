"""Upper limits in a run: asked for, compared, written beside the CLs references."""

from __future__ import annotations

SUITE = ("--pyargs", "pytest_pyhf_faas.suite")
LIMIT = (*SUITE, "--faas-quantity=limit", "-ktest_limit")


def run(project, *words):
    return project.run(*words, suite=False)


def limits_of(project):
    patches = project.reference()["patches"]
    return {name: entry["limits"] for name, entry in patches.items() if "limits" in entry}


def test_only_what_is_asked_for_is_collected(project):
    project.pallet(2)
    words = ["--collect-only", "-q"]
    tests = {"cls": "test_cls[", "limit": "test_limit["}
    for asked in (("cls",), ("limit",), ("cls", "limit")):
        text = run(project, *SUITE, *words, f"--faas-quantity={','.join(asked)}").stdout.str()
        assert {name for name, test in tests.items() if test in text} == set(asked)
        assert ("test_walltime" in text) is ("cls" in asked)


def test_limits_are_added_to_the_references_and_compared(project):
    project.pallet(2)
    result = run(project, *LIMIT)
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        ["*has no upper limits of this patch*", "*make it: --faas-update=new*"]
    )
    before = project.reference()["patches"]

    result = run(project, *LIMIT, "--faas-update=new")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        ["upper limits of 2 hypotheses*when the run began:", "*tiny.json: limits of 2*written*"]
    )
    after = project.reference()["patches"]
    assert len(limits_of(project)) == 2
    for name, entry in after.items():
        assert {part: v for part, v in entry.items() if part != "limits"} == before[name]

    run(project, *LIMIT).assert_outcomes(passed=2)
    result = run(project, *LIMIT, "--faas-update=new")
    result.stdout.fnmatch_lines(["*wrote nothing*"])


def test_a_wrong_limit_fails_with_the_six_values_and_a_rerun_line(project):
    project.pallet(1)
    run(project, *LIMIT, "--faas-update=new")
    (name,) = limits_of(project)
    entry = limits_of(project)[name]
    project.change_reference(name, limits={**entry, "observed": 2 * entry["observed"]})
    result = run(project, *LIMIT, "--faas-quantity=cls,limit")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"*tiny / {name}: the limits differ from the reference*",
            "*limit_obs*-5.0e-01*<--*",
            "*what to do: a limit follows from dozens of tests*",
            "*rerun:*--faas-quantity=limit*",
        ]
    )


def test_limits_need_the_cls_reference_at_the_same_minima(project):
    project.pallet(1, references=False)
    result = run(project, *LIMIT, "--faas-update=new")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*no CLs reference*--faas-quantity=cls,limit*"])

    result = run(
        project,
        *SUITE,
        "-ktest_cls or test_limit",
        "--faas-quantity=cls,limit",
        "--faas-update=new",
    )
    result.assert_outcomes(skipped=2)
    assert len(limits_of(project)) == 1

    (name,) = limits_of(project)
    entry = project.reference()["patches"][name]
    lower = {fit: value - 1 for fit, value in entry["twice_nll"].items()}
    project.change_reference(name, twice_nll=lower)
    result = run(project, *LIMIT, "--faas-update=all")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*other minima*compare CLs first*"])


def test_an_own_test_takes_the_fixture_or_the_marker(project):
    project.pallet(1)
    project.own_test(
        """\
import pytest

def test_fixture(limit_result):
    assert limit_result.limits["observed"] > 0

@pytest.mark.hypotest(quantity="limit")
def test_marker(hypotest_result):
    assert len(hypotest_result.limits["expected"]) == 5

@pytest.mark.hypotest(toys=60)
def test_toys(toys_result):
    assert len(toys_result.toys["signal"]) == 60
"""
    )
    project.run(suite=False).assert_outcomes(passed=3)
    assert [how["quantity"] for how in project.how_fitted()].count("limit") == 1


def test_a_test_of_discovery_has_no_limit(project):
    project.pallet(1)
    project.own_test(
        """\
import pytest

@pytest.mark.hypotest(test_stat="q0")
def test_limit(limit_result):
    pass
"""
    )
    result = project.run(suite=False)
    project.assert_told(result, "q0", "test of discovery", code=4)


def test_toys_come_in_parts_that_make_one_result(project, monkeypatch):
    from pytest_pyhf_faas.campaign import tasks

    monkeypatch.setattr(tasks, "TOYS_OF_A_TASK", 100)
    project.pallet(1)
    project.own_test(
        """\
def test_toys(toys_result):
    assert toys_result.toys["signal"] == [7.0 * (n % 97) / 97 for n in range(250)]
    assert len(toys_result.toys["background"]) == 250
"""
    )
    project.run("--faas-toys=250", suite=False).assert_outcomes(passed=1)
    assert len(project.fits()) == 3
