"""The command `pyhf-faas`, as it is installed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_pyhf_faas import commands
from tests.helpers.report_documents import document

SCRIPT = Path(sys.executable).with_name("pyhf-faas")
NAMES = ("validate", "inspect", "matrix", "report")


@pytest.fixture
def run(project):
    """Runs the installed command in a project."""

    def command(*words, start=(str(SCRIPT),)):
        return subprocess.run(
            [*start, *words],
            cwd=project.path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80"},
            capture_output=True,
            text=True,
            check=False,
        )

    return command


def test_it_is_installed():
    assert SCRIPT.exists(), "install the package again: pip install -e '.[test]'"


@pytest.mark.parametrize("start", [(str(SCRIPT),), (sys.executable, "-m", "pytest_pyhf_faas")])
def test_help_shows_the_commands(run, start):
    done = run("--help", start=start)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: pyhf-faas ")
    assert all(f"\n    {name}" in done.stdout for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_command_has_help_with_its_exit_statuses(run, name):
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: pyhf-faas {name} ")
    assert "Exit status: " in done.stdout
    assert [line for line in done.stdout.splitlines() if line.endswith("-")] == []


@pytest.mark.parametrize(
    ("words", "prog", "told"),
    [
        ([], "pyhf-faas", "COMMAND"),
        (["guess"], "pyhf-faas", "'guess'"),
        (["matrix"], "pyhf-faas matrix", "PALLET"),
        (["inspect"], "pyhf-faas inspect", "PALLET"),
        (["matrix", "tiny", "--faas-patch", "-1,2"], "pyhf-faas", "write --faas-patch=-1,2"),
        (["matrix", "tiny", "--faas-pallet=tiny"], "pyhf-faas", "--faas-pallet"),
        (["matrix", "tiny", "--faas-retr=1"], "pyhf-faas", "--faas-retr"),
        (["report"], "pyhf-faas report", "A"),
        (["report", "a", "--json", "-"], "pyhf-faas report", "name them"),
        (
            ["report", "a", "b", "--rtol", "x"],
            "pyhf-faas report",
            "'x' must be a number, 0 or more",
        ),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_a_line_and_where_help_is(run, words, prog, told):
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    *lines, hint = done.stderr.splitlines()
    error = " ".join(line.strip() for line in lines)
    assert error.startswith("error: ")
    assert told in error
    assert hint == f"'{prog} --help' shows how to use it"


def test_validate_gives_its_words_to_pytest(project, run):
    project.pallet(3)
    words = ["-q", "--faas-pallet", "tiny", "--faas-patch", "sig_100_*", "-k", "test_cls"]
    for separator in ([], ["--"]):
        done = run("validate", *separator, *words)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "2 passed, 9 deselected in " in done.stdout  # and no warning
        assert project.fits() == ["sig_100_0", "sig_100_50"]
        (project.path / "fits.log").unlink()


def test_the_exit_status_of_validate_is_that_of_pytest(project, run):
    (patch,) = project.pallet(1)
    project.change_reference(patch, CLs_obs=0.9)
    wrong = run("validate", "-q", "-k", "test_cls", "--faas-pallet=tiny")
    assert wrong.returncode == 1
    assert "rerun:  pytest --pyargs pytest_pyhf_faas.suite --faas-pallet=tiny" in wrong.stdout
    assert run("validate", "--faas-retries=-1").returncode == 4
    assert run("validate", "--", "--help").stdout.count("--faas-endpoint") > 0


def test_report_compares_two_runs(project, run):
    for name in ("a", "b"):
        (project.path / name).mkdir()
        (project.path / name / "report.json").write_text(json.dumps(document([])))
    assert run("report", "a", "b").returncode == 0
    absent = run("report", "a", "c")
    assert (absent.returncode, absent.stdout) == (2, "")
    assert absent.stderr.startswith("error: the ")


def test_the_front_imports_nothing_heavy():
    program = (
        "import sys\nfrom pytest_pyhf_faas.commands import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.splitlines()[-1].split())
    assert "pytest_pyhf_faas.commands.matrix" in modules
    assert not {"numpy", "scipy", "pyhf", "pytest", "matplotlib", "jinja2"} & modules


def test_an_interrupt_shows_no_traceback(monkeypatch, capsys):
    def interrupted(_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands.validate, "run", interrupted)
    assert commands.main(["validate"]) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


@pytest.mark.parametrize(("encoding", "name"), [("ascii", "b̃"), ("utf-8", "\udcff")])
def test_letters_that_a_terminal_does_not_have_are_marks(project, monkeypatch, encoding, name):
    project.pallet(1, name)
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    assert commands.main(["inspect", str(project.path / name)]) == 0
    out.flush()
    assert b"?" in out.buffer.getvalue().partition(b"\n")[0]
