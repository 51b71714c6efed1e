"""`pyhf-faas matrix`: the table, what is noted, and the exit status."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pytest_pyhf_faas.references.reference import DEFAULT_RTOL

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def matrix(project):
    """Runs the command in a project, and returns its status and what it says."""

    def run(*words):
        command = [sys.executable, "-m", "pytest_pyhf_faas", "matrix", "tiny"]
        done = subprocess.run(
            [*command, "--faas-endpoint=local:1", *words],
            cwd=project.path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


def make_references(project, count=2, *, same_content=None):
    """Write certified references of real fits."""
    patches = project.pallet(count, references=False)
    if same_content is not None:
        project.same_content(*(patches[place] for place in same_content))
    project.real_engines()
    result = project.run("--funcx-endpoint", "local:1", "--faas-update", "new")
    result.assert_outcomes(passed=1, skipped=count)
    return patches


def test_the_right_and_the_wrong_are_told_and_noted(project, matrix):
    patches = make_references(project, 3, same_content=(2, 0))
    status, shown, _ = matrix("--fit-setup", "numpy+scipy", "--fit-setup", "certified")
    assert status == 0
    header, _legend, columns, scipy, searched = shown.splitlines()
    assert header.startswith("tiny: 3 hypotheses")
    kinds = ["lowest", "nominal", "both", "mixed", "unconverged", "wrong", "error"]
    assert columns.split()[:7] == kinds
    assert scipy.split()[:8] == ["numpy+scipy", *"0030000"]
    assert searched.split()[:8] == ["certified", *"0030000"]
    assert "checked" not in project.reference()["patches"][patches[0]]

    status, _, _ = matrix("--fit-setup", "numpy+scipy", "--write")
    assert status == 0
    reference = project.reference()
    assert 0 < reference["tolerances"]["numpy+scipy"]["rtol"] < 1e-2
    for patch in patches:
        checked = reference["patches"][patch]["checked"]["numpy+scipy"]
        assert checked["set"] == "both"
        assert 0 <= checked["cls"] < 1e-3
        assert checked["fit_s"] > 0

    right = reference["patches"][patches[1]]["CLs_obs"]
    project.change_reference(patches[1], CLs_obs=right / 2)
    status, shown, _ = matrix("--fit-setup", "numpy+scipy", "--write")
    assert status == 1
    assert shown.splitlines()[-1].split()[:8] == ["numpy+scipy", *"0020010"]
    (issue,) = project.reference()["known_issues"]
    assert list(issue["patches"]) == [patches[1]]
    assert issue["patches"][patches[1]]["CLs_obs"] == pytest.approx(right, rel=1e-3)
    checked = project.reference()["patches"][patches[1]]["checked"]["numpy+scipy"]
    assert checked["set"] == "none"


def test_where_nothing_is_right_the_tolerance_is_the_default(project, matrix):
    (patch,) = make_references(project, 1)
    project.change_reference(patch, CLs_obs=0.9)
    status, _, _ = matrix("--fit-setup", "numpy+scipy", "--write")
    assert status == 1
    tolerances = project.reference()["tolerances"]
    assert tolerances == {"numpy+scipy": {"rtol": DEFAULT_RTOL["scipy"]}}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--fit-setup", "scipy"], "write BACKEND+OPTIMIZER"),
        (["--fit-setup", "numpy+scipy"], "--faas-update=new"),
        (["--faas-patch=nothing"], "no patch of the pallet tiny matches"),
        (["--faas-retries=-1"], "--faas-retries is '-1'"),
        (["--faas-endpoint=nowhere"], "'nowhere' is not known"),
    ],
    ids=["fit_setup", "references", "patch", "retries", "endpoint"],
)
def test_what_cannot_be_done_says_what_to_do(project, matrix, words, told):
    project.pallet(1, references=False)
    project.reference_file().parent.mkdir(exist_ok=True)
    status, shown, error = matrix(*words)
    assert status == 2
    assert shown == ""
    assert error.startswith("error: ")
    assert told in error
    assert not list(project.reference_file().parent.iterdir())
