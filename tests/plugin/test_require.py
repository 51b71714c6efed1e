"""``--faas-require``: fits of workers that have something else are not taken for right."""

from __future__ import annotations

import json

import pytest

from tests.helpers.fakes import HOST, VERSIONS

ASKED = "--faas-require=pyhf==0.7.5"


def test_fits_of_other_workers_are_errors_and_no_wall_time(project, distribution):
    project.pallet(2)
    result = project.run(ASKED, *distribution)
    if "-n2" in distribution:  # where no wall time is measured
        result.assert_outcomes(errors=1, skipped=2)
    else:
        result.assert_outcomes(errors=2, skipped=1)
    project.assert_told(
        result,
        ": the fit broke",
        "RequirementError: the worker has pyhf 0.7.6, but pyhf==0.7.5 is required (--faas-require)",
        f"on {HOST} is not the environment that --faas-require asks for",
        "what to do: start the workers in the environment that you mean",
        "or: leave --faas-require out",
        f"0 {ASKED}",  # --faas-patch of one of the two is before it
        code=1,
    )
    project.assert_no_internals(result)


def test_the_report_shows_no_values_of_other_workers(project):
    project.pallet(2)
    project.run(ASKED, "--faas-report=report", "-k", "test_cls", subprocess=True)
    report = json.loads((project.path / "report" / "report.json").read_text())
    (analysis,) = report["analyses"]
    assert [each["verdict"] for each in analysis["hypotheses"]] == ["error", "not compared"]
    assert [each["CLs"] for each in analysis["hypotheses"]] == [None, None]


def test_workers_that_are_as_required_pass(project):
    project.pallet(1)
    words = [f"--faas-require={name}=={version}" for name, version in VERSIONS.items()]
    project.run(*words, "--faas-require=python>=3").assert_outcomes(passed=2)


def test_nothing_is_written_of_other_workers(project):
    project.pallet(1, references=False)
    result = project.run(ASKED, "--faas-update=new", "-k", "test_cls")
    result.assert_outcomes(errors=1)
    assert not list(project.path.rglob("reference_results/tiny.json"))


def test_results_that_were_refused_stand_in_the_journal(project):
    """Nothing that was computed is lost: without the requirement they are taken over."""
    project.pallet(2)
    project.run(ASKED, "-k", "test_cls").assert_outcomes(errors=1, skipped=1)
    assert len(project.fits()) == 2
    project.run("--faas-resume", "-k", "test_cls").assert_outcomes(passed=2)
    assert project.fits() == []
    project.run(ASKED, "--faas-resume", "-k", "test_cls").assert_outcomes(errors=1, skipped=1)
    assert project.fits() == []


@pytest.mark.parametrize("where", ["line", "ini"])
def test_what_cannot_be_checked_is_a_usage_error(project, where):
    project.pallet(1)
    if where == "ini":
        project.pytester.makefile(".ini", pytest="[pytest]\nfaas_require = pandas>=2")
    result = project.run(*(["--faas-require=pandas>=2"] if where == "line" else []))
    project.assert_told(result, "--faas-require is 'pandas>=2': workers only report", code=4)
    assert project.starts() == []
