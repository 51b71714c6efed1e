"""`pyhf-faas matrix`: the table, what is noted, and the exit status."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from pytest_pyhf_faas.commands import main
from pytest_pyhf_faas.references.cls_values import DEFAULT_RTOL
from pytest_pyhf_faas.session import campaigns
from tests.helpers.fakes import FakeEngine, Plan

pytestmark = pytest.mark.timeout(600)

pytestmark = pytest.mark.usefixtures("wide_terminal")


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


def test_the_right_and_the_wrong_are_reported_and_noted(project, matrix):
    patches = make_references(project, 3, same_content=(2, 0))
    status, shown, _ = matrix("--fit-setup", "numpy+scipy", "--fit-setup", "certified")
    assert status == 0
    header, _legend, columns, scipy, searched = shown.splitlines()
    assert header.startswith("tiny: 3 hypotheses")
    assert columns.split()[:4] == ["lowest", "nominal", "both", "CLs"]
    assert scipy.split()[:4] == ["numpy+scipy", *"003"]
    assert searched.split()[:4] == ["certified", *"003"]
    assert "checked" not in project.reference()["patches"][patches[0]]

    status, shown, _ = matrix("--fit-setup", "numpy+scipy", "--write")
    assert status == 0
    assert shown.endswith("reference_results/tiny.json: numpy+scipy: 3 hypotheses noted\n")
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
    *_, row, said = shown.splitlines()
    assert row.split()[:5] == ["numpy+scipy", *"0021"]
    assert said.endswith("numpy+scipy: 3 hypotheses noted, 1 as a known issue")
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


# --- with a fake engine ---------------------------------------------------------------------------


@pytest.fixture
def faked(project, monkeypatch, capsys):
    """Runs the command in this process, and returns its status and what it says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(project.path / "cache"))

    def run(*words):
        plan = Plan.read()
        monkeypatch.setattr(
            campaigns, "create_engine", lambda spec, _directory, **_: FakeEngine(spec, plan)
        )
        status = main(["matrix", "tiny", "--fit-setup=numpy+scipy", *words])
        return status, *capsys.readouterr()

    return run


def test_it_shows_how_far_it_is(project, faked):
    project.pallet(4)
    project.plan(workers=1, fit_takes_s=0.3)
    status, shown, progress = faked()
    assert status == 0
    assert "fits done" not in shown
    assert re.match(r"local, tiny numpy\+scipy: 1/4 fits done, 1 running, .*\n", progress)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl_c", "sigterm"])
def test_what_was_interrupted_is_resumed(project, faked, number):
    """The fit that runs is finished, and nothing is noted of a part of the fits."""
    patches = project.pallet(5)
    project.plan(workers=1, kill=patches[2], signal=int(number))
    status, shown, said = faked("--write")
    assert status == 130
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert shown == ""
    assert "1 running fit is finished first" in said
    assert "--faas-resume takes over finished ones" in said
    assert "checked" not in project.reference()["patches"][patches[0]]
    before = len(project.fits())
    assert before < 5
    status, shown, said = faked("--write", "--faas-resume")
    assert status == 0
    assert shown.startswith("tiny: 5 hypotheses\n")
    assert f"{before} fits taken over from earlier runs" in said
    assert sorted(project.fits()) == sorted(patches)
    assert "numpy+scipy" in project.reference()["patches"][patches[0]]["checked"]


def test_an_endpoint_of_which_nothing_comes_is_no_known_issue(project, faked):
    project.pallet(2)
    project.plan(no_workers=True)
    before = project.reference()
    status, shown, said = faked("--write", "--faas-queue-timeout=0.3")
    assert (status, shown) == (2, "")
    assert "error: no worker of local was available for" in said
    assert project.reference() == before


def test_a_fit_that_broke_is_no_known_issue(project, faked):
    patches = project.pallet(2)
    project.plan(lose={patches[0]: -1})
    before = project.reference()
    status, _shown, said = faked("--write")
    assert status == 1
    assert "tiny numpy+scipy: nothing is noted, because 1 fit of 2 broke" in said
    assert project.reference() == before


# --- what cannot be done --------------------------------------------------------------------------


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


def test_nothing_is_noted_of_workers_that_are_not_as_required(project, faked):
    project.pallet(2)
    before = project.reference()
    status, shown, said = faked("--write", "--faas-require=pyhf==0.7.5")
    assert status == 2
    assert "2 of 2 fits on local do not count: the worker has pyhf 0.7.6" in said
    assert shown == ""
    assert project.reference() == before
    status, _shown, _said = faked("--faas-require=pyhf==0.7.6")
    assert status == 0


def test_upper_limits_have_a_matrix_of_their_own(project, faked):
    patches = project.pallet(2)
    status, _, said = faked("--quantity=limit", "--write")
    assert status == 2
    assert "leave out one of --write and --quantity=limit" in said
    status, _, said = faked("--quantity=limit")
    assert status == 2
    assert "tiny has no references of upper limits" in said
    made = project.run(
        *("--pyargs", "pytest_pyhf_faas.suite", "--faas-quantity=limit", "-ktest_limit"),
        "--faas-update=new",
        suite=False,
    )
    made.assert_outcomes(skipped=2)
    status, shown, _ = faked("--quantity=limit")
    assert status == 0
    assert "limits off by" in shown
    limits = project.reference()["patches"][patches[0]]["limits"]
    project.change_reference(patches[0], limits={**limits, "observed": 1.5 * limits["observed"]})
    status, shown, _ = faked("--quantity=limit")
    assert status == 1
    assert "wrong" in shown
