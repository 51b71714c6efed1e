"""What a run leaves in its report, as a user would meet it."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter

import contourpy  # noqa: F401 - see fastjsonschema in conftest.py
import jinja2  # noqa: F401
import matplotlib.figure  # noqa: F401
import pytest

from pytest_pyhf_faas import __main__ as commands
from pytest_pyhf_faas.plugin.book import plane_of
from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report import page, plots, publish
from tests.helpers.fakes import PYTHON, VERSIONS, canned, certificate, nominal_minima
from tests.helpers.project import operations, workspace

INVALID_MODEL = "pyhf.exceptions.InvalidModel"
FAILED_MINIMIZATION = "pyhf.exceptions.FailedMinimization"


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """Plots have tests of their own; runs with processes of their own draw them here too."""
    monkeypatch.setattr(plots, "draw", lambda _document: [])


def report(project, name="rep"):
    """Return the report that a run has written; reading checks it by its schema."""
    assert (project.path / name / "report.html").is_file()
    assert (project.path / name / "cls.csv").is_file()
    return documents.read(project.path / name)


def by_patch(analysis):
    return {one["patch"]: one for one in analysis["hypotheses"]}


def test_each_hypothesis_is_reported_whatever_became_of_it(project, distribution):
    names = project.pallet(10)
    right, wrong, lost, slow, invalid, refused, fitted, failed, nan, new = names
    project.own_test()
    project.plan(
        lose={lost: -1},
        timeout=[slow],
        errors={
            invalid: [INVALID_MODEL, "No POI"],
            refused: [INVALID_MODEL, "No POI"],
            failed: [FAILED_MINIMIZATION, "x" * 200_000],
        },
        answers={nan: {"CLs_obs": "nan"}},
    )
    project.change_reference(wrong, CLs_obs=0.95)
    project.expect_error(invalid)
    project.expect_error(fitted)
    project.forget_reference(new)
    result = project.run(*distribution, "--faas-report=rep", suite=False)
    assert result.ret == 1
    result.stdout.fnmatch_lines(["report: rep/report.html"])
    project.assert_no_internals(result)
    document = report(project)
    assert document["run"]["fits"] == {
        "sent": 11,
        "not_sent": 0,
        "searches": 0,
        "again": {"worker lost": 1},
        "taken_over": 0,
        "collected": 0,
    }
    result.stdout.fnmatch_lines(["11 fits sent to workers, 1 of them sent again (worker lost: 1)"])
    (analysis,) = document["analyses"]
    assert (analysis["pallet"], analysis["endpoint"]) == ("tiny", "local")
    assert analysis["fit_setup"] == "numpy+scipy"
    assert (analysis["labels"], analysis["plane"]) == (["m1", "m2"], ["m1", "m2"])
    assert analysis["reference"] == {
        "file": "tiny.json",
        "method": "certified",
        "date": "2026-01-01",
        "versions": {**VERSIONS, "scipy": "1.15.3", "python": PYTHON},
    }
    found = by_patch(analysis)
    assert {name: (one["outcome"], one["verdict"]) for name, one in found.items()} == {
        right: ("passed", "right"),
        wrong: ("failed", "wrong"),
        lost: ("error", "broken"),
        slow: ("error", "timeout"),
        invalid: ("passed", "right"),
        refused: ("error", "error"),
        fitted: ("failed", "wrong"),
        failed: ("error", "error"),
        nan: ("failed", "wrong"),
        new: ("failed", "no reference"),
    }
    values = canned(wrong)
    assert found[wrong]["CLs"] == [values["CLs_obs"], *values["CLs_exp"]]
    assert found[wrong]["reference"]["CLs"] == [0.95, *values["CLs_exp"]]
    assert found[wrong]["within"] == [False] + [True] * 5
    assert (found[wrong]["rtol"], found[wrong]["atol"]) == (1e-4, 1e-6)
    assert found[wrong]["values"] == [100, 50]
    assert found[wrong]["title"] == f"tiny / {wrong}: CLs differs from the reference"
    assert "rerun:  pytest" in found[wrong]["text"]
    assert found[nan]["CLs"][0] == "nan"
    assert found[invalid]["reference"] == {"CLs": None, "error": INVALID_MODEL}
    assert found[failed]["error"]["message"] == "x" * 200_000
    assert len(found[failed]["text"]) < 5_000
    assert found[lost]["attempts"] == 2
    environment = document["environments"][found[right]["environment"]]
    assert environment["versions"] == VERSIONS
    assert document["environments"] == [environment]
    assert document["run"]["tests"] == Counter(one["outcome"] for one in found.values())
    assert document["run"]["exit_status"] == 1
    assert not document["run"]["interrupted"]
    assert document["run"]["failures"] == []
    assert sum(task[3] for task in analysis["timeline"]["tasks"]) == len(names) - 2  # no answer


FIXED = "fixed_poi_fit_to_data"


def ambiguous(project, patch, at="nominal", **changes):
    """Let a hypothesis have two sets of minima, and say what a fit at one of them answers."""
    answer = canned(patch)
    raised = {**answer["twice_nll"], FIXED: answer["twice_nll"][FIXED] + 0.79}
    nominal = {"CLs_obs": 0.0435, "CLs_exp": answer["CLs_exp"], "mu_hat": answer["mu_hat"]}
    parameters = [{"name": "mu_W", "nominal": 1.02, "lowest": 0.0}]
    difference = {"fit": FIXED, "gap": 0.79, "parameters": parameters, "at_bound": ["mu_W"]}
    project.change_reference(
        patch, nominal={**nominal, "twice_nll": raised, "differences": [difference]}, **changes
    )
    if at == "lowest":
        return {}
    return {"CLs_obs": 0.0435, "twice_nll": raised, "twice_nll_nearby": {}}


def test_an_ambiguous_hypothesis_passes_and_is_reported(project, distribution):
    names = project.pallet(4)
    project.own_test()
    flips, lowest, mixed, other = names
    answers = {
        flips: ambiguous(project, flips, checked={"numpy+scipy": {"set": "lowest", "fit_s": 1.0}}),
        lowest: ambiguous(project, lowest, at="lowest", CLs_obs=canned(lowest)["CLs_obs"]),
        mixed: {**ambiguous(project, mixed), "CLs_obs": 0.3},
    }
    # Of the third the background fit is where the free fit is not.
    moved = {**answers[mixed]["twice_nll"], "background_fit_to_data": 12.5}
    project.change_reference(mixed, minima={"background_fit_to_data": [0.5]})
    answers[mixed]["twice_nll"] = moved
    project.plan(answers=answers)
    result = project.run(
        *distribution, "--faas-report=rep", "--junitxml=junit.xml", "-rs", suite=False
    )
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            f"tiny / {mixed}: CLs differs from the reference",
            "  verdict: mixed: the fits are at minima of no consistent set*",
            "  at the nominal minimum, 0.79 above the lowest: fixed poi fit to data",
            "  at another known minimum, 0.5 above the lowest: background fit to data",
            "  ambiguous: CLs_obs is * at the lowest and 0.0435 at the nominal minima; excluded*",
        ]
    )
    result.stdout.fnmatch_lines(
        [
            (
                "ambiguous: 3 hypotheses of tiny with two sets of minima; numpy+scipy: 1 at the "
                "lowest, 1 at the nominal, 1 at neither"
            ),
            "  an exclusion depends on it for *",
            f"  at other minima than when last checked: {flips} (was lowest)",
        ]
    )
    document = report(project)
    found = by_patch(document["analyses"][0])
    assert {name: found[name]["minimum_set"] for name in names} == {
        flips: "nominal",
        lowest: "lowest",
        mixed: "none",
        other: "both",
    }
    assert found[mixed]["verdict"] == "mixed"
    assert found[other]["ambiguous"] is None
    told = found[flips]["ambiguous"]
    assert told["nominal"][0] == 0.0435
    assert told["lowest"][0] == pytest.approx(canned(flips)["CLs_obs"])
    assert (told["fit"], told["gap"], told["flips"]) == (FIXED, 0.79, True)
    assert told["parameters"] == [{"name": "mu_W", "lowest": 0.0, "nominal": 1.02}]
    assert (told["at_bound"], told["was_at"]) == (["mu_W"], "lowest")
    # What was compared is the set that it is at.
    assert found[flips]["CLs"][0] == found[flips]["reference"]["CLs"][0] == 0.0435
    properties = {
        each.get("name"): each.get("value")
        for each in project.junit()[f"test_cls[tiny-{flips}]"].iter("property")
    }
    assert properties["minimum_set"] == "nominal"
    assert properties["ambiguous"].startswith("ambiguous: CLs_obs is ")
    page = (project.path / "rep" / "report.html").read_text()
    assert "Ambiguous hypotheses" in page
    assert "nominal (was lowest)" in page


def test_certified_values_are_those_of_the_minima_that_are_asked_for(project):
    (name,) = project.pallet(1)
    project.own_test()
    nominal = nominal_minima(name, CLs_obs=0.0435, **{FIXED: 0.79})
    ambiguous(project, name)
    project.plan(answers={name: certificate(**nominal)})
    for minimum, value in (("any", canned(name)["CLs_obs"]), ("nominal", 0.0435)):
        words = ("--faas-method=certified", f"--faas-minimum={minimum}")
        result = project.run(*words, "--faas-report=rep", "--junitxml=junit.xml", suite=False)
        result.assert_outcomes(passed=1)
        hypothesis = by_patch(report(project)["analyses"][0])[name]
        assert hypothesis["CLs"][0] == pytest.approx(value)
        assert hypothesis["reference"]["CLs"][0] == pytest.approx(value)
        assert hypothesis["minimum_set"] == ("both" if minimum == "any" else "nominal")
        (observed,) = [
            float(each.get("value"))
            for each in project.junit()[f"test_cls[tiny-{name}]"].iter("property")
            if each.get("name") == "CLs_obs"
        ]
        assert observed == pytest.approx(value)


def test_two_runs_at_different_minima_are_distinguished(project, capsys):
    (name,) = project.pallet(1)
    project.own_test()
    answer = ambiguous(project, name)
    for directory, answers in (("a", {}), ("b", {name: answer})):
        project.plan(answers=answers)
        result = project.run(f"--faas-report={directory}", suite=False)
        result.assert_outcomes(passed=1)
    assert commands.main(["report", "a", "b"]) == 1
    told = capsys.readouterr().out
    assert "1 of 1 hypothesis moved" in told
    assert "1 to other minima" in told
    assert "lowest -> nominal" in told
    assert "reference changed" not in told


def test_what_was_not_come_to_is_named(project):
    names = project.pallet(6)
    project.own_test()
    project.change_reference(names[1], CLs_obs=0.95)
    result = project.run("-x", "--faas-report=rep", suite=False)
    assert result.ret == 1
    (analysis,) = report(project)["analyses"]
    found = by_patch(analysis)
    assert [found[name]["verdict"] for name in names] == ["right", "wrong", *["not run"] * 4]
    assert found[names[5]]["values"] == [300, 50]
    assert found[names[5]]["CLs"] is None


def test_after_an_interrupt_the_report_says_what_is_missing(project):
    names = project.pallet(8)
    project.own_test()
    project.plan(workers=1, kill=names[3], kill_after=2, signal=int(signal.SIGINT))
    result = project.run("--faas-report=rep", suite=False, subprocess=True)
    assert result.ret == 2, project.text(result)
    document = report(project)
    assert document["run"]["interrupted"]
    assert document["run"]["exit_status"] == 2
    (analysis,) = document["analyses"]
    verdicts = Counter(one["verdict"] for one in analysis["hypotheses"])
    assert sum(verdicts.values()) == len(names)
    assert verdicts["right"] >= 2
    assert set(verdicts) == {"right", "cancelled"}
    shown = project.text(result)
    last = re.findall(r"local: (\d)/8 fits done, .*", shown)[-1]
    assert int(last) <= verdicts["right"]
    assert "failed" not in shown
    note = f"not done: {verdicts['cancelled']} of 8 fits on local; --faas-resume takes over"
    assert note in shown
    assert any(note in each for each in document["notes"])
    assert document["run"]["fits"]["sent"] == verdicts["right"]


def test_each_endpoint_has_its_analysis(project):
    names = project.pallet(2)
    endpoints = ["local:2", "local:3"]
    project.own_test()
    asked = [f"--funcx-endpoint={endpoint}" for endpoint in endpoints]
    project.run(*asked, "--faas-report=rep", suite=False)
    document = report(project)
    assert [one["endpoint"] for one in document["analyses"]] == endpoints
    assert [one["endpoint"] for one in document["endpoints"]] == endpoints
    assert all(list(by_patch(one)) == names for one in document["analyses"])


def test_wall_times_are_those_of_pytest_benchmark(project):
    project.pallet(3)
    stored = "--benchmark-json=times.json"
    result = project.run(stored, "--faas-trials=3", "--faas-report=rep", "--benchmark-autosave")
    assert result.ret == 0, project.text(result)
    document = report(project)
    benchmarks = json.loads((project.path / "times.json").read_text())
    assert benchmarks["pyhf_faas"] == {"run": document["run"]["id"]}
    files = document["run"]["benchmark_files"]
    assert files[0] == "times.json"
    assert len(files) == 2
    saved = json.loads((project.path / files[1]).read_text())
    assert saved["pyhf_faas"] == {"run": document["run"]["id"]}
    (benchmark,) = benchmarks["benchmarks"]
    (analysis,) = document["analyses"]
    assert analysis["wall_time"]["trials"] == benchmark["extra_info"]["trials"]
    assert analysis["wall_time"]["test"].endswith(benchmark["name"])
    walls = [trial["wall_s"] for trial in analysis["wall_time"]["trials"]]
    assert sum(walls) / 3 == pytest.approx(benchmark["stats"]["mean"], abs=0.05)
    # The timeline is that of the last trial.
    assert sum(task[3] for task in analysis["timeline"]["tasks"]) == 3
    assert analysis["timeline"]["seconds"] <= walls[-1]


def test_the_endpoint_is_reported_as_it_was_measured(project):
    project.real_engines()
    project.pallet(1)
    suite = ("--pyargs", "pytest_pyhf_faas.suite", "--funcx-endpoint=local:1")
    project.run(*suite, "-k", "endpoint", "--faas-report=rep", suite=False)
    document = report(project)
    assert document["analyses"] == []
    (endpoint,) = document["endpoints"]
    findings = {finding["name"]: finding["values"] for finding in endpoint["findings"]}
    assert findings["workers"]["workers"] == 1
    assert 0 < findings["round_trip"]["round_trip_median_s"] < 10
    assert endpoint["failures"] == []


def test_other_tests_that_fail_are_distinguished(project):
    project.pallet(1)
    project.own_test("def test_mine():\n    assert 1 == 2, 'mine is wrong'\n")
    project.run("--faas-report=rep", suite=False)
    document = report(project)
    assert document["analyses"] == []
    (failure,) = document["run"]["failures"]
    assert (failure["test"], failure["outcome"]) == ("test_own.py::test_mine", "failed")
    assert "mine is wrong" in failure["text"]


def test_a_hypothesis_whose_setup_fails_before_its_fit_is_reported_once(project):
    (name,) = project.pallet(1)
    project.own_test(
        """\
import pytest

@pytest.fixture
def mine():
    raise ValueError("mine is broken")

def test_cls(mine, hypotest_result):
    pass
"""
    )
    project.run("--faas-report=rep", suite=False)
    document = report(project)
    hypothesis = by_patch(document["analyses"][0])[name]
    assert (hypothesis["outcome"], hypothesis["verdict"]) == ("error", "broken")
    assert "mine is broken" in hypothesis["text"]
    assert document["run"]["failures"] == []


def test_written_references_are_not_compared(project):
    (name,) = project.pallet(1, references=False)
    project.own_test()
    project.run("--faas-report=rep", "--faas-update=new", suite=False)
    (analysis,) = report(project)["analyses"]
    assert analysis["fit_setup"] == "certified"
    hypothesis = by_patch(analysis)[name]
    assert (hypothesis["outcome"], hypothesis["verdict"]) == ("skipped", "not compared")
    assert hypothesis["text"] == "not compared: reference written (tiny.json)"


def test_scaling_is_measured_for_each_number_and_after_all_else(project):
    project.pallet(3)
    suite = ("--pyargs", "pytest_pyhf_faas.suite", "-k", "tiny", "--faas-trials=2")
    result = project.run(*suite, "--faas-scaling=2,1", "--faas-report=rep", "-v", suite=False)
    assert result.ret == 0, project.text(result)
    document = report(project)
    (entry,) = document["scaling"]
    assert (entry["pallet"], entry["endpoint"], entry["unit"]) == ("tiny", "local", "workers")
    assert [point["count"] for point in entry["points"]] == [1, 2]
    assert [len(point["trials"]) for point in entry["points"]] == [2, 2]
    assert project.starts()[-4:] == ["local:2", "local:2", "local:1", "local:1"]
    order = [line for line in result.stdout.lines if "PASSED" in line]
    assert ["test_scaling" in line for line in order] == [False] * 4 + [True] * 2
    assert len(project.fits()) == 3 * (2 + 4)
    result.stdout.fnmatch_lines(
        [
            "tiny on local, numpy+scipy, by workers:",
            "  workers  wall time *  of which start *  speed-up",
            "        1 * 1.00",
            "        2 *",
        ],
        consecutive=True,
    )


def test_scaling_comes_after_the_fits_of_all_endpoints(project):
    names = project.pallet(2)
    asked = ("--funcx-endpoint=local:2", "--funcx-endpoint=local:3", "--faas-scaling=1", "-v")
    suite = ("--pyargs", "pytest_pyhf_faas.suite", "-k", "test_cls or test_scaling")
    result = project.run(*suite, *asked, suite=False)
    assert result.ret == 0, project.text(result)
    order = [line for line in result.stdout.lines if "PASSED" in line]
    assert ["test_scaling" in line for line in order] == [False] * 4 + [True] * 2
    assert project.fits_at("local:2") == project.fits_at("local:3") == names


def test_scaling_is_left_out_unless_it_is_asked_for(project):
    project.pallet(1)
    suite = ("--pyargs", "pytest_pyhf_faas.suite", "--collect-only", "-q")
    assert "test_scaling" not in project.text(project.run(*suite, suite=False))
    shown = project.text(project.run(*suite, "--faas-scaling=1", suite=False))
    assert "test_scaling[tiny-1]" in shown
    assert "tiny: 1 fit on local with 1 worker\n" in shown


def test_a_scaling_point_whose_fits_break_fails_and_is_not_told(project):
    names = project.pallet(2)
    project.plan(lose={names[0]: -1})
    suite = ("--pyargs", "pytest_pyhf_faas.suite.test_scaling", "--faas-scaling=1")
    result = project.run(*suite, "--faas-report=rep", suite=False)
    assert result.ret == 1
    document = report(project)
    (entry,) = document["scaling"]
    assert entry["points"] == []
    (refused,) = entry["refused"]
    assert refused["count"] == 1
    assert refused["reason"].startswith("1 of 2 fits broke: its worker process was killed")
    (failure,) = document["run"]["failures"]
    assert "tiny: no wall time: 1 of 2 fits broke" in failure["text"]
    shown = project.text(result)
    assert "\n  1 worker: not measured\n    1 of 2 fits broke: its worker process was" in shown


def test_an_interrupt_ends_the_measurement_of_scaling(project):
    names = project.pallet(8)
    project.plan(workers=1, kill=names[2], kill_after=0, signal=int(signal.SIGINT))
    suite = ("--pyargs", "pytest_pyhf_faas.suite.test_scaling", "--faas-scaling=1,2,3")
    result = project.run(*suite, "--faas-report=rep", suite=False, subprocess=True)
    assert result.ret == 2, project.text(result)
    result.assert_outcomes(skipped=3)
    assert len(project.fits()) < len(names)
    document = report(project)
    assert document["run"]["interrupted"]
    (entry,) = document["scaling"]
    assert entry["points"] == []
    assert [each["count"] for each in entry["refused"]] == [1, 2, 3]


# The plane


def test_the_plane_is_the_one_that_is_chosen_or_varies():
    labels, points = ("a", "b", "c"), [(1, 60, 5), (2, 60, 6), (3, 60, 6)]
    assert plane_of(labels, points, None) == ("a", "c")
    assert plane_of(labels, points, ("b", "a")) == ("b", "a")
    assert plane_of(labels, points, ("a", "elsewhere")) == ("a", "c")
    assert plane_of(labels, points, ("a", "c-a")) == ("a", "c-a")
    assert plane_of(labels, [(1, 2, 3), (2, 3, 4)], None) == ("a", "b")  # the first of three
    assert plane_of(labels, [(1, 2, 3), (2, 3, 4)], ("a", "c")) == ("a", "c")
    assert plane_of(("a", "b"), [(1, 60), (2, 60)], None) is None
    assert plane_of(("a", "b"), [(1, "x"), (2, "y")], None) is None
    assert plane_of((), [], None) is None


@pytest.mark.parametrize("plane", ["m1", "m1,m1", "m1,", "m1,m2,m3"])
def test_a_plane_has_two_labels(project, plane):
    project.pallet(1)
    result = project.run(f"--faas-plane={plane}")
    project.assert_told(result, f"--faas-plane is {plane!r}: it must be two labels", code=4)


def test_a_plane_of_differences_is_kept_and_one_of_nothing_is_refused(project):
    project.pallet(4)
    assert project.run("--faas-report=rep", "--faas-plane=m1,m1-m2").ret == 0
    assert report(project)["analyses"][0]["plane"] == ["m1", "m1-m2"]
    result = project.run("--faas-plane=m1,m3")
    project.assert_told(
        result, "--faas-plane is 'm1,m3', which no pallet has:", "tiny has m1, m2", code=4
    )
    assert project.fits() == []


def test_under_xdist_a_plane_that_no_pallet_has_is_a_note(project):
    project.pallet(2)
    result = project.run("-n2", "--faas-plane", "m1,m3", "-ktest_cls")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        ["--faas-plane is 'm1,m3', which no pallet has:", "tiny has m1, m2"]
    )


@pytest.mark.parametrize("counts", ["0", "1,x", "1,,2", "-1"])
def test_scaling_takes_numbers(project, counts):
    project.pallet(1)
    result = project.run(f"--faas-scaling={counts}")
    project.assert_told(result, "--faas-scaling", "must be a whole number, 1 or more", code=4)


# Where it is written


def test_no_report_without_tests_that_run(project):
    project.pallet(1)
    project.run("--faas-report=rep", "--collect-only")
    assert not (project.path / "rep").exists()
    result = project.run("--faas-report=rep", pallet="nowhere")
    assert result.ret == 4
    assert list((project.path / "rep").iterdir()) == []


def test_a_place_that_cannot_be_written_to_is_refused_before_any_fit(project):
    project.pallet(1)
    (project.path / "rep").write_text("a file")
    result = project.run("--faas-report=rep")
    project.assert_told(result, "the report cannot be written to", "--faas-report", code=4)
    assert project.fits() == []


def test_without_its_packages_a_report_is_refused_before_any_fit(project, monkeypatch):
    project.pallet(1)
    monkeypatch.setattr("pytest_pyhf_faas.report.publish._PACKAGES", {"jinja2": "no_jinja2"})
    result = project.run("--faas-report=rep")
    remedy = "pip install 'pytest-pyhf-faas[report]'"
    project.assert_told(result, "a report needs jinja2, not installed here", remedy, code=4)
    assert project.fits() == []
    result = project.run("--faas-report=rep/report.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["report: rep/report.json"])
    assert [file.name for file in (project.path / "rep").iterdir()] == ["report.json"]
    assert documents.read(project.path / "rep")["run"]["exit_status"] == 0


def test_a_page_that_fails_loses_nothing(project, monkeypatch):
    project.pallet(1)

    def broken(_document, _plots):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(page, "render", broken)
    result = project.run("--faas-report=rep")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*the page of the report could not be made (ZeroDivisionError*"])
    assert "report: rep" not in project.text(result)
    document = documents.read(project.path / "rep")
    assert document["analyses"][0]["hypotheses"][0]["verdict"] == "right"
    monkeypatch.undo()
    assert publish.publish(document, project.path / "rep") == []
    assert (project.path / "rep" / "report.html").is_file()


def test_a_ci_job_gets_a_summary(project, monkeypatch):
    project.pallet(1)
    summary = project.path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert project.run("--faas-report=rep").ret == 0
    text = summary.read_text()
    assert text.startswith("before\n")
    assert "tiny" in text
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "no" / "directory"))
    result = project.run("--faas-report=rep")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["the summary of the job cannot be written to*"])


def test_secrets_stay_out_of_the_report(project, monkeypatch):
    project.pallet(1)
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "s3cr3t-s3cr3t")
    assert project.run("-k", "not s3cr3t-s3cr3t", "--faas-report=rep").ret == 0
    assert "-k 'not ***'" in report(project)["run"]["command"]
    for file in (project.path / "rep").rglob("*"):
        assert file.is_dir() or b"s3cr3t" not in file.read_bytes()


def test_names_and_errors_of_any_kind_break_nothing(project):
    """A patchset allows long names, and a directory any that are no path."""
    project.pallet(2, references=False)
    path = project.path / "tiny" / "patchset.json"
    patchset = json.loads(path.read_text())
    long, failed = "n" * 300, patchset["patches"][1]["metadata"]["name"]
    patchset["patches"][0]["metadata"]["name"] = long
    patchset["patches"][0]["patch"][0]["value"]["name"] = f"signal_{long}"
    path.write_text(json.dumps(patchset))
    project.references()
    hostile = project.path / "<script>alert('run')"
    hostile.mkdir()
    (hostile / "BkgOnly.json").write_text(json.dumps(workspace()))
    (hostile / "patch.sig_100_0.json").write_text(json.dumps(operations("sig", 100, 0)))
    project.plan(errors={failed: [FAILED_MINIMIZATION, "<script>" * 125_000]})
    result = project.run(f"--faas-pallet={hostile}", "--faas-report=rep", subprocess=True)
    assert result.ret == 1
    other, tiny = sorted(report(project)["analyses"], key=lambda one: one["pallet"])
    found = by_patch(tiny)
    assert {key: one["verdict"] for key, one in found.items()} == {long: "right", failed: "error"}
    assert len(found[failed]["error"]["message"]) == 1_000_000
    assert other["pallet"] == hostile.name
    assert by_patch(other)["sig_100_0"]["verdict"] == "no reference"
    assert "<script" not in (project.path / "rep" / "report.html").read_text()


@pytest.mark.parametrize("in_file", [False, True], ids=["json", "file"])
def test_what_is_asked_of_an_endpoint_stays_secret(project, in_file, monkeypatch):
    """In all that a run writes, also where a worker or an engine quotes it."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(project.path / "summary.md"))
    names = project.pallet(4)
    config = json.dumps({"worker_init": "export T=hunter2", "password": "swordfish"})
    file = project.path / "asked.json"
    said = "swordfish, or export T=hunter2, or hunter2"
    project.plan(
        lose={names[0]: -1},
        says=f"its shell said {said}",
        errors={names[1]: [FAILED_MINIMIZATION, said]},
        answers={names[2]: {"warnings": [said]}},
    )
    project.change_reference(names[2], CLs_obs=0.9)
    if in_file:
        file.write_text(config)
    words = ["-o", "junit_logging=all", "--junitxml=junit.xml"]
    given = f"--faas-endpoint-config={file if in_file else config}"
    result = project.run("-rA", "-k", "test_cls", *words, given, "--faas-report=report")
    result.assert_outcomes(passed=1, failed=1, errors=2)
    shown = project.text(result)
    assert shown.count("***, or ***, or ***") >= 2
    assert ("--faas-endpoint-config=..." in shown) is not in_file  # the rerun line
    written = [path for path in project.path.rglob("*") if path.is_file()]
    written = [path for path in written if path not in (file, project.path / "fake.json")]
    names = {path.name for path in written}
    assert {"report.json", "report.html", "junit.xml", "summary.md", "cls.csv"} <= names
    assert any(path.suffix == ".jsonl" for path in written)  # the journal
    for secret in ("hunter2", "swordfish"):
        assert secret not in shown
        assert not [path for path in written if secret.encode() in path.read_bytes()]
