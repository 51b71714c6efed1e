"""`python -m pytest_pyhf_faas matrix`: who is right, who is wrong, and what is noted of it."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from pytest_pyhf_faas.reference import DEFAULT_RTOL

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def matrix(project):
    """Runs the command in a project, and returns its status and what it says."""

    def run(*words):
        command = [sys.executable, "-m", "pytest_pyhf_faas", "matrix", "tiny", *words]
        done = subprocess.run(
            [*command, "--endpoint", "local:1"],
            cwd=project.path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    return run


def certified(project, count=2):
    """Write certified references of real fits."""
    patches = project.pallet(count, references=False)
    project.real_engines()
    result = project.run("--funcx-endpoint", "local:1", "--faas-update", "new")
    result.assert_outcomes(passed=1, skipped=count)
    return patches


@pytest.mark.skipif(find_spec("jax") is None, reason="references need JAX")
def test_the_right_and_the_wrong_are_told_and_noted(project, matrix):
    patches = certified(project)
    status, shown, _ = matrix("--combination", "numpy+scipy", "--combination", "certified")
    assert status == 0
    header, columns, scipy, proven = shown.splitlines()
    assert header.startswith("tiny: 2 hypotheses")
    assert columns.split()[:2] == ["right", "stopped"]
    assert scipy.split()[:6] == ["numpy+scipy", "2", "0", "0", "0", "0"]
    assert proven.split()[:6] == ["certified", "2", "0", "0", "0", "0"]
    assert "checked" not in project.reference()["patches"][patches[0]]

    status, _, _ = matrix("--combination", "numpy+scipy", "--write")
    assert status == 0
    reference = project.reference()
    assert 0 < reference["tolerances"]["numpy+scipy"]["rtol"] < 1e-2
    for patch in patches:
        checked = reference["patches"][patch]["checked"]["numpy+scipy"]
        assert 0 <= checked["cls"] < 1e-3
        assert checked["fit_s"] > 0

    right = reference["patches"][patches[1]]["CLs_obs"]
    project.change_reference(patches[1], CLs_obs=right / 2)
    status, shown, _ = matrix("--combination", "numpy+scipy", "--write")
    assert status == 1
    assert shown.splitlines()[-1].split()[1] == "1"
    (issue,) = project.reference()["known_issues"]
    assert list(issue["patches"]) == [patches[1]]
    assert issue["patches"][patches[1]]["CLs_obs"] == pytest.approx(right, rel=1e-3)


@pytest.mark.skipif(find_spec("jax") is None, reason="references need JAX")
def test_where_nothing_is_right_the_tolerance_is_the_default(project, matrix):
    (patch,) = certified(project, 1)
    project.change_reference(patch, CLs_obs=0.9)
    status, _, _ = matrix("--combination", "numpy+scipy", "--write")
    assert status == 1
    tolerances = project.reference()["tolerances"]
    assert tolerances == {"numpy+scipy": {"rtol": DEFAULT_RTOL["scipy"]}}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--combination", "scipy"], "write BACKEND+OPTIMIZER"),
        (["--combination", "numpy+scipy"], "--faas-update=new"),
        (["--patch", "nothing"], "no patch of the pallet tiny matches"),
    ],
    ids=["combination", "references", "patch"],
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
