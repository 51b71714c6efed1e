"""CLs from toys in a run: compared within its errors, beside the asymptotic one."""

from __future__ import annotations

import json

import pytest

from pytest_pyhf_faas.plugin import notes  # noqa: F401 - one module for all runs in this process

SUITE = ("--pyargs", "pytest_pyhf_faas.suite.test_toys", "--faas-quantity=toys")


@pytest.fixture
def toys(project):
    """Run the suite for toys, by the fake engine."""
    project.pallet(2)

    def run(*words, count=1000):
        return project.run(*SUITE, f"--faas-toys={count}", *words, suite=False)

    return run


def values_of(project, patch="sig_100_0"):
    return project.reference()["patches"][patch]["toys"]


def test_toys_become_a_reference_and_are_compared_with_it(project, toys):
    missing = toys()
    project.assert_told(
        missing,
        "has no toys of this patch",
        "CLs_obs = 0.938 ± 0.021, CLs_exp = ",
        "by 1,000 + 1,000 toys",
        "make it: --faas-update=new",
        code=1,
    )
    written = toys("--faas-update=new")
    assert "tiny.json: toys of 2 hypotheses written" in project.text(written)
    found = values_of(project)
    assert found["count"] == 1000
    assert found["failed"] == [0, 0]
    assert found["CLs_obs"] == pytest.approx(0.938, abs=0.001)
    again = toys()
    again.assert_outcomes(passed=2)
    assert "has its reference" not in project.text(again)
    kept = toys("--faas-update=new")
    kept.assert_outcomes(passed=2)
    assert values_of(project) == found


@pytest.mark.parametrize(
    ("method", "shift", "outcome"),
    [("certified", 0.05, "passed"), ("certified", 0.2, "failed"), ("hypotest", 1, "passed")],
)
def test_the_same_toys_agree_better_than_others(project, toys, method, shift, outcome):
    toys("--faas-update=new")
    found = values_of(project)
    moved = found["CLs_obs"] + shift * found["CLs_obs_error"]
    project.change_reference("sig_100_0", toys={**found, "CLs_obs": moved})
    result = toys(f"--faas-method={method}", "-k", "sig_100_0")
    result.assert_outcomes(**{outcome: 1}, deselected=1)
    if outcome == "failed":
        shown = project.text(result)
        assert "the same toys and must agree within 0.1 standard errors" in shown
        assert "accept: --faas-update=changed" in shown


def test_other_toys_agree_within_their_errors(project, toys):
    toys("--faas-update=new")
    found = values_of(project)
    toys("--faas-method=hypotest", count=300).assert_outcomes(passed=2)
    far = found["CLs_obs"] - 7 * found["CLs_obs_error"]
    project.change_reference("sig_100_0", toys={**found, "CLs_obs": far})
    project.assert_told(
        toys("--faas-method=hypotest", count=1500),
        "CLs from toys differs from the reference",
        "1,500 + 1,500 toys, 1,000 + 1,000 in the reference: they agree within 4 combined "
        "standard errors",
        "CLs_obs is 0.935 ± 0.017, in the reference 0.788 ± 0.021",
        code=1,
    )


def test_an_asymptotic_value_that_is_off_is_a_finding(project, toys):
    toys("--faas-update=new")
    result = toys("--faas-report=out", "--junitxml=junit.xml")
    result.assert_outcomes(passed=2)
    asymptotic = project.reference()["patches"]["sig_100_0"]["CLs_obs"]
    said = f"sig_100_0 ({asymptotic:.3g}, toys 0.938 ± 0.021)"
    shown = " ".join(project.text(result).split())
    assert "asymptotic CLs_obs of 2 of 2 hypotheses of tiny is off by more than 3" in shown
    assert said in shown
    (analysis,) = json.loads((project.path / "out" / "report.json").read_text())["analyses"]
    told = analysis["hypotheses"][0]["toys"]
    assert told["off"] > 3
    assert told["asymptotic"][0] == asymptotic
    assert told["reference"]["CLs"] == pytest.approx(told["CLs"], rel=1e-5)
    assert sum(told["histogram"]["signal"]) == told["count"] == 1000
    names = {p.get("name") for p in project.junit()["test_toys[tiny-sig_100_0]"].iter("property")}
    assert {"CLs_toys_obs", "CLs_toys_obs_error", "toys_failed"} <= names


@pytest.mark.parametrize(("failed", "outcome"), [(2, "passed"), (3, "failed")])
def test_failed_toys_are_counted(project, toys, failed, outcome):
    toys("--faas-update=new")
    project.plan(failed_toys=failed)
    result = toys("--faas-method=hypotest", "--faas-report=out")
    result.assert_outcomes(**{outcome: 2})
    (analysis,) = json.loads((project.path / "out" / "report.json").read_text())["analyses"]
    assert [each["toys"]["failed"] for each in analysis["hypotheses"]] == [[failed, 0]] * 2
    if outcome == "failed":
        assert "3 toys of 2,000 failed" in project.text(result)
        assert {each["verdict"] for each in analysis["hypotheses"]} == {"unconverged"}


def test_toys_of_which_many_failed_become_no_reference(project, toys):
    project.plan(failed_toys=3)
    toys("--faas-update=changed").assert_outcomes(failed=2)
    assert "toys" not in project.reference()["patches"]["sig_100_0"]


def test_toys_go_on_where_an_interrupted_run_ended(project, toys):
    """Whatever was done of a hypothesis is taken over, in whatever tasks it was sent."""
    toys("--faas-update=new", count=1500)
    toys(count=1000)
    assert len(project.fits()) == 4  # two tasks of 500 toys for each of two hypotheses
    resumed = toys("--faas-resume", count=1500)
    resumed.assert_outcomes(passed=2)
    assert len(project.fits()) == 2
    assert "4 taken over" in project.text(resumed)


def test_many_without_a_reference_are_one_table(project, toys):
    project.pallet(5)
    shown = project.text(toys())
    assert "no reference for 5 hypotheses of tiny" in shown
    (row,) = [line for line in shown.splitlines() if line.strip().startswith("sig_200_0 ")]
    assert row.split() == ["sig_200_0", "0.9378", "0.7115", "no"]
    assert "toys, numpy+scipy" in shown
