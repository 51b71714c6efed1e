"""The GitHub Action: its steps are run as they stand, with a fake engine and with pyhf."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest
import yaml

from pytest_pyhf_faas.report import document as documents
from tests.helpers.composite_action import Expressions, Runner, fake_gate, fake_pip
from tests.helpers.paths import REPOSITORY

ACTION = yaml.safe_load((REPOSITORY / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
#: The inputs of other actions that it uses, at the commits that it names.
THEIR_INPUTS = {
    "actions/setup-python@5fda3b95a4ea91299a34e894583c3862153e4b97": {"python-version"},
    "actions/cache/restore@55cc8345863c7cc4c66a329aec7e433d2d1c52a9": {
        "path",
        "key",
        "restore-keys",
    },
    "actions/cache/save@55cc8345863c7cc4c66a329aec7e433d2d1c52a9": {"path", "key"},
    "actions/upload-artifact@043fb46d1a93c77aae656e7c1c64a875d1fc6a0a": {"name", "path"},
}
#: The steps that restore and save each of its two caches.
CACHES = [
    ("Restore downloaded pallets", "Save downloaded pallets"),
    ("Restore wheels", "Save wheels"),
]
HOSTILE = "$(touch planted)`touch planted`'; touch planted; \"${{ github.token }}"


@pytest.fixture
def pip_log(tmp_path):
    return tmp_path / "pip.log"


@pytest.fixture
def runner(project, tmp_path, pip_log):
    """A runner whose workspace is the project; what pip would install is there already."""
    machine = tmp_path / "machine"
    machine.mkdir()
    packages = tmp_path / "packages"
    fake_pip(packages, pip_log)
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(packages),
        "HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
        "PYTEST_ADDOPTS": "-p no:hypothesispytest -k 'not endpoint'",
    }
    return Runner(machine, project.path, env)


def planned(runner, **inputs):
    """Return what the action plans, and run none of it."""
    runner.env["PIP_STATUS"] = "1"
    job = runner.run(**inputs)
    assert job["Install"].outcome == "failure", job.log
    return json.loads(Path(job["Install"].given["PLAN"]).read_text())


# What it does


def test_a_right_pallet(runner, project, pip_log):
    names = project.pallet(4)
    (project.path / "published").mkdir()
    (project.path / "tiny").rename(project.path / "published" / "tiny")
    runner.env["PYHF_PALLET_PATH"] = str(project.path / "published")
    job = runner.run(pallets="tiny", patches=f"{names[0]}\n{names[1]}\n")
    assert not job.failed, job.log
    assert project.fits() == names[:2]
    report = project.path / "pyhf-faas-report"
    verdict = "Both hypotheses of tiny are right."
    assert job.outputs == {"report": str(report), "status": "0", "verdict": verdict}
    assert verdict in job.summary
    assert (report / "report.html").is_file()
    assert job["Upload the report"].given == {"name": "pyhf-faas-report", "path": str(report)}
    assert pip_log.read_text().splitlines()[-2:] == ["--", f"{REPOSITORY}[minuit,report]"]
    assert job["Set up Python"].outcome == "skipped"
    for restored, saved in CACHES:
        assert job[restored].given.items() >= job[saved].given.items()


def test_a_wrong_one_fails_after_its_report_is_uploaded(runner, project):
    names = project.pallet(2)
    project.change_reference(names[0], CLs_obs=0.95)
    runner.has_all_cached = True
    job = runner.run(pallets="tiny")
    failed = [name for name, outcome in job.outcomes().items() if outcome == "failure"]
    assert failed == ["Exit status"] == list(STEPS)[-1:]
    assert job["Upload the report"].outcome == "success"
    assert job.outputs["status"] == "1"
    assert job.outputs["verdict"].startswith("1 of 2 hypotheses of tiny is wrong")
    assert f"tiny / {names[0]}" in job.log
    assert f"::error title=pytest-pyhf-faas::{job.outputs['verdict']}" in job.log
    assert "is wrong" in job.summary
    # A directory needs no download, and the wheels are there.
    assert [job[name].outcome for pair in CACHES for name in pair] == [
        "skipped",
        "skipped",
        "success",
        "skipped",
    ]


def test_the_bundled_pallet_with_pyhf(runner, project):
    project.real_engines()
    job = runner.run(patches="synthetic_100_0\nsynthetic_200_0", endpoint="local:1")
    assert not job.failed, job.log
    assert job.outputs["verdict"] == "Both hypotheses of synthetic are right."
    (analysis,) = documents.read(project.path / "pyhf-faas-report")["analyses"]
    assert {each["verdict"] for each in analysis["hypotheses"]} == {"right"}


def test_a_comparison_with_an_earlier_report(runner, project):
    names = project.pallet(2)
    assert project.run("--faas-report=earlier").ret == 0
    project.plan(answers={names[0]: {"CLs_obs": 0.95}})
    project.change_reference(names[0], CLs_obs=0.95)
    job = runner.run(pallets="tiny", compare_with="earlier")
    assert job["Validate"].outputs["status"] == "0", job.log
    assert job.outputs["status"] == "1"
    assert job["Upload the report"].outcome == "success"
    assert job["Exit status"].outcome == "failure"
    run, comparison = job.summary.split("## ")[1:]
    assert run.startswith("✅ right: Both hypotheses of tiny")
    assert comparison.startswith("Comparison\n")
    assert f"{names[0]}" in comparison


def test_several_environments(runner, project, tmp_path):
    answer = "2 environments, 3 hypotheses in each: no value moved by more than its tolerance"
    fake_gate(tmp_path / "packages", answer, status=1)
    job = runner.run(pyhf="0.7.5,0.7.6")
    report = str(project.path / "pyhf-faas-report")
    assert job.outputs == {"report": report, "status": "1", "verdict": answer}
    assert job["Upload the report"].given["path"] == report
    assert [name for name, outcome in job.outcomes().items() if outcome == "failure"] == [
        "Exit status"
    ]


def test_a_cancelled_job_has_the_report_of_what_was_done(runner, project):
    names = project.pallet(4)
    project.plan(wait_for_fits={names[3]: 99})
    job = runner.run(
        pallets="tiny", compare_with="", cancel_when=lambda: len(project.journaled()) == 3
    )
    assert job["Validate"].outcome == "cancelled"
    assert job["Upload the report"].outcome == "success"
    assert job.outputs["verdict"].startswith(
        "Interrupted: 1 of 4 hypotheses of tiny was not fitted"
    )
    assert job.outputs["status"] == "2"
    document = documents.read(project.path / "pyhf-faas-report")
    assert document["run"]["interrupted"]


# What it asks pip and pyhf-faas for


@pytest.mark.parametrize(
    ("pyhf", "required"),
    [
        ("", []),
        ("0.7.6", ["pyhf==0.7.6"]),
        ("0.7", ["pyhf==0.7.*"]),
        ("0.8.0rc1", ["pyhf==0.8.0rc1"]),
        ("pyhf>=0.7,<0.8", ["pyhf>=0.7,<0.8"]),
        ("pyhf[jax] @ git+https://example.org/pyhf", ["pyhf[jax] @ git+https://example.org/pyhf"]),
        ("candidate", ["{here}/candidate"]),
        ("./candidate", ["{here}/candidate"]),
    ],
)
def test_a_version_a_path_or_a_requirement_of_pyhf(runner, project, pyhf, required):
    (project.path / "candidate").mkdir()
    plan = planned(runner, pyhf=pyhf)
    assert plan["requirements"][1:] == [each.format(here=project.path) for each in required]
    assert plan["command"][0] == "validate"


@pytest.mark.parametrize(
    ("endpoint", "extras"),
    [
        ("local:2", "minuit,report"),
        ("parsl:slurm.py", "minuit,parsl,report"),
        ("01234567-89ab-cdef-0123-456789abcdef", "globus-compute,minuit,report"),
        ("local\nmy-site", "globus-compute,minuit,report"),
    ],
)
def test_what_an_endpoint_needs_is_installed(runner, endpoint, extras):
    plan = planned(runner, endpoint=endpoint, requirements="jax\nscipy==1.14.*\n")
    assert plan["requirements"] == [f"{REPOSITORY}[{extras}]", "jax", "scipy==1.14.*"]
    asked = [f"--faas-endpoint={each}" for each in endpoint.splitlines()]
    assert [word for word in plan["command"] if word.startswith("--faas-endpoint")] == asked


def test_each_input_becomes_an_option(runner, project):
    plan = planned(
        runner,
        pallets=" 1Lbb \n\n10.17182/hepdata.90607",
        patches="750,100\nC1N2_*",
        method="certified",
        quantity="cls,limit",
        options="-k 'not endpoint' --faas-trials=3",
    )
    assert plan["command"] == [
        "validate",
        f"--faas-report={project.path}/pyhf-faas-report",
        "--faas-pallet=1Lbb",
        "--faas-pallet=10.17182/hepdata.90607",
        "--faas-patch=750,100",
        "--faas-patch=C1N2_*",
        "--faas-method=certified",
        "--faas-quantity=cls,limit",
        "-k",
        "not endpoint",
        "--faas-trials=3",
    ]
    assert plan["downloads"] == ["10.17182/hepdata.90607", "1Lbb"]


@pytest.mark.parametrize("pyhf", ["0.7.5,0.7.6", "0.7.0..0.7.6,main"])
def test_several_versions_of_pyhf_are_for_the_gate(runner, project, pyhf):
    plan = planned(runner, pyhf=pyhf, pallets="1Lbb", patches="750,100", options="--faas-rtol=1")
    assert plan["command"] == [
        "gate",
        f"--pyhf={pyhf}",
        f"--directory={project.path}/pyhf-faas-report",
        "--faas-pallet=1Lbb",
        "--faas-patch=750,100",
        "--",
        "--faas-rtol=1",
    ]
    assert plan["requirements"] == [f"{REPOSITORY}[report]", "uv"]


@pytest.mark.parametrize("as_text", [False, True], ids=["file", "text"])
def test_versions_that_are_written_down(runner, project, as_text):
    written = 'pyhf = ["0.7.6", "./candidate"]\npallets = ["1Lbb"]'
    (project.path / "gate.toml").write_text(written)
    plan = planned(runner, versions=written if as_text else "gate.toml")
    command, file, *rest = plan["command"]
    assert command == "gate"
    assert Path(file).read_text().strip() == written
    assert Path(file).parent == project.path  # where its paths begin
    assert rest == [f"--directory={project.path}/pyhf-faas-report", "--"]


# What it cannot use


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"pallets": ""}, "pallets is empty"),
        ({"pallets": " \n "}, "pallets is empty"),
        ({"report": ""}, "report is empty"),
        ({"artifact": ""}, "artifact is empty"),
        ({"options": "-k 'wrong"}, "options cannot be read: No closing quotation"),
        ({"pyhf": "latest"}, "pyhf: 'latest' is no version, no file or directory"),
        ({"pyhf": "pyhfx"}, "pyhf: 'pyhfx' is no version, no file or directory"),
        ({"pyhf": "--pre"}, "pyhf: '--pre' is no version, no file or directory"),
        ({"requirements": "jax\n--pre"}, "requirements: '--pre' is an option of pip"),
        ({"versions": "gate.toml"}, "versions: there is no file gate.toml"),
        ({"compare-with": "earlier"}, "compare-with: there is no report in earlier"),
        (
            {"compare-with": "old", "report": "old"},
            "compare-with: the report of this run would replace",
        ),
        ({"compare-with": "old", "versions": "a = 1"}, "compare-with is for one environment"),
        ({"endpoint": "local:1", "pyhf": "0.7.0..0.7.6"}, "endpoint is for one environment"),
    ],
)
def test_an_input_that_cannot_be_used(runner, project, inputs, said):
    (project.path / "old").mkdir()
    (project.path / "old" / "report.json").write_text("{}")
    job = runner.run(**inputs)
    (line,) = job.log.splitlines()
    assert line.startswith(f"::error title=pytest-pyhf-faas::{said}")
    assert [name for name, outcome in job.outcomes().items() if outcome != "skipped"] == [
        "Read the inputs",
        "Exit status",
    ]
    assert job.outputs == {"report": "", "status": "2", "verdict": ""}


def test_a_pallet_that_is_not_there(runner, project):
    job = runner.run(pallets="absent/pallet")
    assert job.outputs["status"] == "4"
    assert job.outputs["report"] == ""
    assert "absent/pallet" in job.log
    assert job.outputs["verdict"] in job.log
    assert job.outputs["verdict"] in job.summary
    assert job["Upload the report"].outcome == "skipped"
    assert job["Exit status"].outcome == "failure"
    project.assert_no_internals(Shown(job))


def test_a_report_of_an_earlier_run_is_not_taken_for_one_of_this(runner, project):
    project.pallet(1)
    (project.path / "earlier").mkdir()
    (project.path / "earlier" / "report.json").write_text("{}")
    job = runner.run(pallets="tiny", patches="absent", report="earlier")
    assert job.outputs["report"] == ""
    assert job["Upload the report"].outcome == "skipped"


def test_what_pip_cannot_install(runner):
    runner.env["PIP_STATUS"] = "1"
    job = runner.run()
    assert job["Validate"].outcome == "skipped"
    assert job.outputs["status"] == "2"
    assert "::error title=pytest-pyhf-faas::pip could not install" in job.log


class Shown:
    """The log of a job in the place of a run of pytester."""

    def __init__(self, job):
        self.stdout = self.stderr = self
        self.str = lambda: job.log


# What it must not do


@pytest.mark.parametrize("name", sorted(ACTION["inputs"].keys() - {"working-directory"}))
def test_no_input_is_run(runner, project, name):
    project.pallet(1)
    runner.env["PIP_STATUS"] = "1"
    job = runner.run(**{"pallets": "tiny", name: HOSTILE})
    assert job["Read the inputs"].outcome in ("success", "failure")
    assert not list(project.path.rglob("planted"))


def test_no_name_of_a_patch_is_run(runner, project):
    project.pallet(1)
    job = runner.run(pallets="tiny", patches=HOSTILE)
    assert job.outputs["status"] == "4"
    assert "$(touch planted)" in job.log
    assert not list(project.path.rglob("planted"))


def test_what_a_run_prints_is_no_command_of_github(runner, project):
    project.pallet(1)
    with (project.path / "conftest.py").open("a") as file:
        file.write("\n\ndef pytest_report_header():\n    return '::set-output name=status::0'\n")
    job = runner.run(pallets="tiny", options="--collect-only")
    assert job.outputs["status"] == "5"  # though pytest says 0
    lines = job.log.splitlines()
    printed = lines.index("::set-output name=status::0")
    stops = [at for at, line in enumerate(lines) if line.startswith("::stop-commands::")]
    token = lines[stops[-1]].removeprefix("::stop-commands::")
    assert stops[-1] < printed < lines.index(f"::{token}::")


def test_no_expression_is_in_a_script():
    scripts = [step["run"] for step in STEPS.values() if "run" in step]
    assert len(scripts) == 5
    assert not any("${{" in script for script in scripts)


def test_the_actions_it_uses_are_pinned_and_have_these_inputs():
    used = [step for step in STEPS.values() if "uses" in step]
    for step in used:
        assert step["with"].keys() <= THEIR_INPUTS[step["uses"]]
    assert {step["uses"] for step in used} == THEIR_INPUTS.keys()
    text = (REPOSITORY / "action.yml").read_text()
    assert len(re.findall(r"uses: \S+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", text, re.MULTILINE)) == len(
        used
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inputs.a == 'X'", True),
        ("inputs.a != 'x' || inputs.empty", ""),
        ("!inputs.empty && 'it''s'", "it's"),
        ("(inputs.empty || inputs.a) && steps.one.outputs.none == ''", True),
        ("toJSON(inputs)", '{\n  "a": "x",\n  "empty": ""\n}'),
    ],
)
def test_the_expressions_of_the_runner(text, value):
    contexts = {"inputs": {"a": "x", "empty": ""}, "steps": {"one": {"outputs": {}}}}
    assert Expressions(contexts).value(text) == value


@pytest.mark.parametrize("text", ["inputs.b", "steps.two.outputs.a", "inputs.a +", "nothing()"])
def test_an_expression_that_github_would_not_know(text):
    contexts = {"inputs": {"a": "x"}, "steps": {"one": {"outputs": {}}}}
    with pytest.raises((AssertionError, KeyError, IndexError)):
        Expressions(contexts).value(text)
