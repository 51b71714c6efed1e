"""Each line of ours fits the terminal, whatever names there are."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from pytest_pyhf_faas.plugin.failures import fit
from tests.helpers.project import SUITE, operations

LONG = "C1N2_Wh_hbb_" + "and_a_name_that_" * 5 + "is_long"


def lines_of_ours(result):
    """Return what a run has written, without pytest's own header, node ids and benchmarks."""
    theirs = (
        *("platform ", "rootdir:", "benchmark:", "plugins:", "FAILED ", "ERROR ", "test_walltime["),
        "_",  # the titles of failures
    )
    return [line for line in result.outlines if not line.startswith(theirs)]


@pytest.fixture
def long_names(project):
    project.pallet(3, name="tiny")
    path = project.path / "tiny" / "patchset.json"
    patchset = json.loads(path.read_text())
    for number, patch in enumerate(patchset["patches"]):
        name = f"{LONG}_{number}"
        patch["metadata"]["name"] = name
        patch["patch"] = operations(name, *patch["metadata"]["values"])
    path.write_text(json.dumps(patchset))
    project.references()
    return [f"{LONG}_{number}" for number in range(3)]


@pytest.mark.parametrize("width", [60, 80])
def test_each_line_of_a_run_fits(project, long_names, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    wrong, lost, new = long_names
    project.plan(lose={lost: -1})
    project.change_reference(wrong, CLs_obs=0.95)
    project.forget_reference(new)
    result = project.run()
    result.assert_outcomes(failed=2, errors=2)
    lines = lines_of_ours(result)
    too_long = [line for line in lines if len(line) > width]
    # A path and a word of a command stay whole, so that they can be copied.
    whole = ("--faas-patch=", "rerun:", f"{project.path}/reference_results/")
    assert all(line.strip().startswith(whole) for line in too_long), too_long
    assert any(line.startswith("no reference for 1 hypothesis of tiny") for line in lines)
    shown = "\n".join(line.strip() for line in lines)
    commands = [
        shlex.split(command.replace("\\\n", " "))
        for command in re.findall(r"rerun:  ((?:.*\\\n)*.*)", shown)
    ]
    assert len(commands) == 2
    for command, patch in zip(commands, (lost, wrong), strict=True):
        assert command[: 1 + len(SUITE)] == ["pytest", *SUITE]
        assert f"--faas-patch={patch}" in command


def test_what_others_read_is_not_folded(project, long_names, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    project.change_reference(long_names[0], CLs_obs=0.95)
    project.run("--junitxml=junit.xml")
    text = project.junit()[f"test_cls[tiny-{long_names[0]}]"].find("failure").text
    (rerun,) = [line for line in text.splitlines() if line.strip().startswith("rerun:")]
    assert rerun.endswith(f"--faas-patch={long_names[0]}")


def test_a_usage_error_fits(project, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    result = project.run("--faas-rtol=much", pallet=None)
    project.assert_told(result, "ERROR: --faas-rtol is 'much'", code=4)
    assert all(len(line) <= 60 for line in result.errlines)


def test_a_test_that_cannot_be_collected_is_shown_as_always(project):
    project.own_test("import nothing_of_that_name\n")
    result = project.run(suite=False)
    assert result.ret == 2
    assert "INTERNALERROR" not in project.text(result)
    result.stdout.fnmatch_lines(["*No module named 'nothing_of_that_name'*"])


def test_a_rerun_line_that_fits_is_left_alone():
    text = "title\n  verdict: fine\n  rerun:  pytest --faas-pallet=a --faas-patch=b"
    assert fit(text, 80) == text
    assert fit(text, 40).splitlines()[2:] == [
        "  rerun:  pytest --faas-pallet=a \\",
        "      --faas-patch=b",
    ]
