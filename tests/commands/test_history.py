"""`pyhf-faas history`, as a user meets it: runs with reports, one page of them."""

from __future__ import annotations

import jinja2  # noqa: F401 - see fastjsonschema in conftest.py
import matplotlib.figure  # noqa: F401
import pytest

from pytest_pyhf_faas import commands
from pytest_pyhf_faas.plugin import notes  # noqa: F401 - one module for all runs in this process

pytestmark = pytest.mark.usefixtures("wide_terminal")

QUICK = ("-k", "test_cls or test_walltime")


def main(*arguments):
    return commands.main(["history", *map(str, arguments)])


def test_runs_with_and_without_a_report_become_one_page(project, capsys):
    patch = project.pallet(2)[0]
    project.run(*QUICK, "--faas-report=runs/first", "--faas-trials=2")
    project.plan(answers={patch: {"CLs_obs": 0.5}})
    project.run(*QUICK, "--faas-report=runs/second", "--benchmark-autosave")
    project.run(*QUICK, "--benchmark-autosave")  # leaves no report
    capsys.readouterr()
    assert main(project.path) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("3 runs of 1 analysis, ")
    assert "the last one is wrong" in out.partition("\n")[0]
    assert "1 verdict changed" in out
    assert out.endswith(f"history: {project.path}/history.html\n")
    page = (project.path / "history.html").read_text(encoding="utf-8")
    assert 'href="runs/first/report.html"' in page
    assert 'href="runs/second/report.html"' in page
    assert main(project.path, "--output", project.path / "out") == 0
    assert 'href="../runs/first/report.html"' in (project.path / "out/history.html").read_text()


def test_a_directory_without_runs(tmp_path, capsys):
    assert main(tmp_path) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: there is no report.json in ")
