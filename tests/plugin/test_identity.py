"""Each item is about its own hypothesis, also where others have its content or its name."""

from __future__ import annotations

import jinja2  # noqa: F401 - see fastjsonschema in conftest.py
import matplotlib.figure  # noqa: F401
import pytest

from pytest_pyhf_faas.plugin import notes  # noqa: F401 - one module for all runs in this process
from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report import plots


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    monkeypatch.setattr(plots, "draw", lambda _document: [])


def test_two_patches_of_one_content(project, distribution):
    first, second, third = project.pallet(3, references=False)
    project.same_content(second, first)
    project.references()  # which differs from what the fit of the first gives
    result = project.run(
        *distribution, "-k", "test_cls", "--junitxml=junit.xml", "--faas-report=rep"
    )
    result.assert_outcomes(passed=2, failed=1)
    assert project.fits() == [first, third]
    assert project.outcomes() == {first: "passed", second: "failed", third: "passed"}
    shown = project.text(result)
    assert f"tiny / {second}: CLs differs from the reference" in shown
    assert f"--faas-patch={second}\n" in shown
    assert f"tiny / {first}" not in shown
    if "-n2" not in distribution:
        told = "3 hypotheses, 2 fits (1 has the same content as another) on local (2 workers)"
        assert f"pyhf-faas: tiny: {told}" in shown
    assert "2 fits sent to workers" in shown

    (analysis,) = documents.read(project.path / "rep")["analyses"]
    found = {each["patch"]: each for each in analysis["hypotheses"]}
    verdicts = {patch: each["verdict"] for patch, each in found.items()}
    assert verdicts == {first: "right", second: "wrong", third: "right"}
    assert found[second]["title"].startswith(f"tiny / {second}: ")
    assert found[first]["CLs"] == found[second]["CLs"]
    page = (project.path / "rep" / "report.html").read_text()
    assert f"tiny / {second}: " in page
    assert f"tiny / {first}: " not in page


def test_two_pallets_of_one_content(project):
    first, second = project.pallet(2)
    project.pallet(2, "again")
    project.change_reference(second, "again", CLs_obs=0.95)
    options = ["--faas-pallet=again", "--junitxml=junit.xml"]
    result = project.run("-k", "test_cls", *options)
    result.assert_outcomes(passed=3, failed=1)
    assert project.fits() == [first, second]
    shown = project.text(result)
    assert "tiny: 2 hypotheses, 0 fits (2 have the same content as others)" in shown
    assert f"again / {second}: CLs differs from the reference" in shown
    assert f"--faas-pallet=again --faas-patch={second}\n" in shown
    case = project.junit()[f"test_cls[again-{second}]"]
    assert f"again / {second}: CLs differs" in case.find("failure").text


def test_what_breaks_breaks_for_each_by_its_name(project):
    first, second = project.pallet(2)
    project.same_content(second, first)
    project.references()
    project.plan(lose={first: -1})
    shown = project.text(project.run("-k", "test_cls"))
    for patch in (first, second):
        assert f"tiny / {patch}: the fit broke: no worker finished it" in shown


@pytest.mark.parametrize("own", [False, True], ids=["options", "markers"])
def test_pallets_that_differ_need_names_that_differ(project, own):
    project.pallet(1, "SUSY-A/RegionA", references=False)
    project.pallet(2, "SUSY-B/RegionA", references=False)
    paths = "SUSY-A/RegionA", "SUSY-B/RegionA"
    tests = [
        f"""\
@pytest.mark.pallet({path!r})
def test_{number}(hypotest_result):
    pass
"""
        for number, path in enumerate(paths)
    ]
    project.own_test("\n".join(["import pytest", *tests]))
    options = [] if own else [f"--faas-pallet={path}" for path in paths]
    result = project.run(*options, suite=not own, pallet=None)
    project.assert_told(result, "two pallets have the name RegionA: ", *paths, code=4)


def test_the_directory_of_both_tells_them_apart(project):
    for name in ("SUSY-A", "SUSY-B"):
        project.pallet(1, f"both/{name}/RegionA", references=False)
    project.pallet(1)  # of the same content
    result = project.run("--faas-pallet=both", "--faas-dry-run", "-k", "test_cls")
    assert "both_SUSY-B_RegionA: 1 hypothesis, 0 fits" in project.text(result)


def test_a_pallet_that_is_given_twice_is_tested_once(project):
    project.pallet(2)
    result = project.run(f"--faas-pallet={project.path / 'tiny'}", "--faas-pallet=./tiny")
    result.assert_outcomes(passed=3)
