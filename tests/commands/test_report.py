"""`pyhf-faas report`: a rebuilt page of a run, two runs compared, and the exit status of both."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from pytest_pyhf_faas import commands
from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report.comparison import text
from pytest_pyhf_faas.report.whole import HypothesesFile
from tests.helpers import report_documents as make
from tests.helpers.environments import FACTORS, grid

pytestmark = pytest.mark.usefixtures("wide_terminal")


def one(*found, **changes):
    """A run of one analysis with these hypotheses."""
    return make.document([make.analysis(list(found), **changes)])


def timed(*walls):
    trials = [make.trial(fits=25, wall_s=wall) for wall in walls]
    return one(make.hypothesis(), wall_time={"test": "test_walltime", "trials": trials})


def main(arguments):
    return commands.main(["report", *arguments])


@pytest.fixture
def two(tmp_path):
    """Two runs on disk: one moved and got slower."""
    before, after = timed(40, 41), timed(60, 61)
    after["analyses"][0]["hypotheses"][0]["CLs"][0] *= 1.1
    return [
        str(documents.write(run, tmp_path / name).parent)
        for name, run in (("a", before), ("b", after))
    ]


def test_the_command_compares_two_runs(two, capsys):
    assert main(two) == 1
    out, err = capsys.readouterr()
    assert out.startswith("1 of 1 hypothesis moved (at most 1.0e-01 relative)")
    assert err == ""
    assert main([f"{two[0]}/report.json", two[0]]) == 0


@pytest.fixture
def two_in_part(tmp_path):
    """Two runs of which the report has the first hypothesis alone; the third has moved."""
    for name, third in (("a", 0.5), ("b", 0.6)):
        hypotheses = [make.hypothesis(f"p_{number}") for number in range(3)]
        hypotheses[2]["CLs"][0] = third
        run = one(hypotheses[0])
        file = HypothesesFile(tmp_path / name / "hypotheses-0.jsonl.gz")
        for each in hypotheses:
            file.write({**each, "environment": None})
        file.close()
        run["analyses"][0]["whole"] = {
            "verdicts": {"right": 3},
            "ambiguous": 0,
            "flips": 0,
            "file": file.path.name,
        }
        documents.write(run, tmp_path / name)
    return [str(tmp_path / name) for name in "ab"]


def test_all_hypotheses_are_compared_though_a_report_has_a_part(two_in_part, tmp_path, capsys):
    assert main(two_in_part) == 1
    assert capsys.readouterr().out.startswith("1 of 3 hypotheses moved")
    assert main([*two_in_part, two_in_part[0]]) == 1
    assert "p_2" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["removed", "cut", "no gzip"])
def test_a_file_of_all_hypotheses_that_cannot_be_read_is_named(
    two_in_part, tmp_path, capsys, damage
):
    file = tmp_path / "b" / "hypotheses-0.jsonl.gz"
    content = file.read_bytes()
    file.write_bytes(content[:-20] if damage == "cut" else b"{}")
    if damage == "removed":
        file.unlink()
    assert main(two_in_part) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert f"{file}, which has all hypotheses of" in told
    assert "Copy it whole from where the run wrote it" in told


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ((), 1),
        (("--rtol", "0.2"), 0),
        (("--atol", "0.2"), 0),
        (("--rtol", "0.2", "--fail-slower", "1.2"), 1),
        (("--rtol", "0.2", "--fail-slower", "1.6"), 0),
    ],
)
def test_the_exit_status_follows_the_options(two, options, status):
    assert main([*two, *options]) == status


def test_the_changes_as_json(two, tmp_path, capsys):
    assert main([*two, "--json", "-"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["status"] == 1
    assert shown["answer"].startswith("1 of 1 hypothesis moved (at most 1.0e-01 relative)")
    assert shown["moved"][0]["relative"] == pytest.approx(0.1)
    assert main([*two, "--json", str(tmp_path / "changes.json")]) == 1
    assert json.loads((tmp_path / "changes.json").read_text()) == shown
    assert capsys.readouterr().out.startswith("1 of 1 hypothesis moved")


def test_a_ci_job_gets_the_comparison(two, tmp_path, monkeypatch, capsys):
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert main(two) == 1
    assert main([two[0], two[0]]) == 0
    first, second = summary.read_text().split("## ")[1:]
    assert "```text\n1 of 1 hypothesis moved" in first
    assert "no verdict got worse" in second
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "directory"))
    capsys.readouterr()
    assert main([two[0], two[0]]) == 1
    out, err = capsys.readouterr()
    assert "no verdict got worse" in out
    assert err.startswith("error: the summary of the job cannot be written to")


def test_no_name_takes_effect_in_the_summary_of_a_job(tmp_path, monkeypatch):
    hostile = "```\n<b>x"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    for name, factor in (("a", 1), ("b", 1.1)):
        found = make.hypothesis(patch=hostile)
        found["CLs"][0] *= factor
        documents.write(one(found), tmp_path / name)
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    lines = (tmp_path / "summary.md").read_text().splitlines()
    assert any("```" in line and "<b>" in line for line in lines)
    assert [line for line in lines if line.startswith("````")] == ["````text", "````"]


def test_what_cannot_be_read_or_written(two, tmp_path, capsys):
    for arguments in (
        [two[0], str(tmp_path / "absent")],
        [str(tmp_path)],
        [*two, "--json", str(tmp_path)],
    ):
        assert main(arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: the ")
        assert err.count("\n") == 1


def test_an_interrupted_command_shows_no_traceback(two, monkeypatch, capsys):
    def interrupted(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(documents, "read", interrupted)
    assert main(two) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_reader_that_has_seen_enough_is_no_error(two, size, monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(text, "text", lambda *_arguments: "x" * size)
    with os.fdopen(writing, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(two) == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("a", "--page", "out"),
        ("a", "--json", "-"),
        ("a", "--fail-slower", "1.2"),
        ("a", "b", "--rtol", "nan"),
        ("a", "b", "--atol", "-1"),
        ("a", "b", "--fail-slower", "0.9"),
        ("a", "b", "--fail-slower", "much"),
    ],
)
def test_wrong_usage(options, capsys):
    with pytest.raises(SystemExit) as raised:
        main(list(options))
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert " --help' shows how to use it" in error


@pytest.mark.parametrize("problems", [[], ["no plots: Matplotlib is not installed"]])
def test_one_run_is_drawn_again_next_to_its_report(two, monkeypatch, capsys, problems):
    drawn = []
    publisher = ModuleType("publish")
    publisher.publish = lambda *arguments: drawn.append(arguments) or problems
    monkeypatch.setitem(sys.modules, "pytest_pyhf_faas.report.publish", publisher)
    assert main([f"{two[0]}/report.json"]) == len(problems)
    ((document, directory),) = drawn
    assert document == documents.read(directory)
    out, err = capsys.readouterr()
    assert err == "".join(f"error: {problem}\n" for problem in problems)
    assert (two[0] in out) is not problems


def test_page_and_plots_are_written_next_to_the_report(two, capsys):
    directory = Path(two[0])
    before = documents.read(directory)
    assert main([two[0]]) == 0
    assert documents.read(directory) == before
    assert (directory / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert (directory / "plots" / "where_the_time_went.svg").stat().st_size > 1000
    assert capsys.readouterr() == (f"page, plots, cls.csv and hepdata/ are in {directory}\n", "")


def test_a_terminal_without_the_letters_gets_marks(tmp_path, monkeypatch, capsysbinary):
    run = one(make.hypothesis("Ωμέγα", verdict="wrong"))
    other = one(make.hypothesis("Ωμέγα"))
    places = [
        str(documents.write(each, tmp_path / n).parent) for n, each in (("a", other), ("b", run))
    ]
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert main(places) == 1
    out.flush()
    assert b"  ?????  right   wrong" in out.buffer.getvalue()


@pytest.fixture
def many(tmp_path):
    """Four runs on disk, of which the new SciPy moved those in which it is."""
    places = []
    for place, each in enumerate(
        grid(by_scipy, factors={n: FACTORS[n] for n in ("scipy", "numpy")})
    ):
        documents.write(each.document, tmp_path / f"run{place}")
        places.append(str(tmp_path / f"run{place}"))
    return places


def by_scipy(patch, factors):
    return {"scale": 1 + 0.01 * (factors["scipy"] == "1.14.1")}


def test_many_runs_are_compared_with_the_first(many, capsys):
    assert main(many) == 1
    out, err = capsys.readouterr()
    assert out.startswith(
        "4 environments, 3 hypotheses: 3 moved with scipy 1.9.3 → 1.14.1; no verdict changed\n"
    )
    assert "  scipy 1.14.1, numpy 2.4.6 " in out
    assert err == ""
    assert main(many[:2] * 2) == 0


@pytest.mark.parametrize(
    ("options", "status"), [((), 1), (("--rtol", "0.1"), 0), (("--atol", "1"), 0)]
)
def test_the_options_of_two_runs_are_those_of_many(many, options, status):
    assert main([*many, *options]) == status


def test_the_page_of_many_runs(many, tmp_path, capsys):
    page = tmp_path / "out" / "index.html"
    assert main([*many, "--page", str(page.parent), "--json", "-"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert shown["shifts"][0]["step"]["factors"] == ["scipy"]
    assert shown == json.loads((page.parent / "comparison.json").read_text())
    assert main([*many[:2], "--page", str(page.parent)]) == 0
    assert capsys.readouterr().out.endswith(f"page: {page}\n")
    assert "2 environments" in page.read_text(encoding="utf-8")
    assert main([*many, "--page", many[0] + "/report.json"]) == 2
    assert "cannot be written to" in capsys.readouterr().err


def test_an_environment_that_has_no_run_is_one_of_many(many, tmp_path, capsys):
    (tmp_path / "old").mkdir()
    told = {"name": "old", "factors": {"pyhf": "0.6"}, "reason": "no wheel for this Python"}
    (tmp_path / "old" / "cell.json").write_text(json.dumps(told))
    assert main([*many[:2], str(tmp_path / "old")]) == 0
    assert "  old: no wheel for this Python" in capsys.readouterr().out.splitlines()
    (tmp_path / "old" / "cell.json").write_text("{")
    assert main([*many[:2], str(tmp_path / "old")]) == 2
    assert main([*many[:2], str(tmp_path / "absent")]) == 2
