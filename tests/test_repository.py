"""What the repository says of itself in several places is the same in all of them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zlib
from collections import defaultdict
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import pytest_pyhf_faas
from pytest_pyhf_faas.errors import FaasError
from pytest_pyhf_faas.toml_files import read_toml
from tests.helpers.paths import REPOSITORY

PYPROJECT = read_toml(REPOSITORY / "pyproject.toml", FaasError)
PROJECT = PYPROJECT["project"]
RECIPE = yaml.safe_load((REPOSITORY / "recipe" / "recipe.yaml").read_text(encoding="utf-8"))
CITATION = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
ZENODO = json.loads((REPOSITORY / ".zenodo.json").read_text(encoding="utf-8"))
WORKFLOWS = [*sorted((REPOSITORY / ".github/workflows").glob("*.yml")), REPOSITORY / "action.yml"]
#: What conda-forge calls otherwise.
ON_CONDA = {"fastjsonschema": "python-fastjsonschema", "matplotlib": "matplotlib-base"}
#: The hooks of pre-commit by the tool of the group `lint` that each runs.
HOOKS = {
    "codespell": "https://github.com/codespell-project/codespell",
    "mypy": "https://github.com/pre-commit/mirrors-mypy",
    "ruff": "https://github.com/astral-sh/ruff-pre-commit",
    "zizmor": "https://github.com/zizmorcore/zizmor-pre-commit",
}
#: A wheel may have 1.5 MB; this is what is in it, compressed.
MOST_BYTES = 1_300_000


def specifiers(requirements):
    """Return name and specifier of requirements, whatever they are for."""
    parsed = (Requirement(each) for each in requirements)
    return {canonicalize_name(each.name): str(each.specifier) for each in parsed}


def on_conda(requirements):
    return {ON_CONDA.get(name, name): text for name, text in specifiers(requirements).items()}


def test_the_recipe_has_the_dependencies_of_the_package():
    run, host = (specifiers(RECIPE["requirements"][part][1:]) for part in ("run", "host"))
    assert run == on_conda(PROJECT["dependencies"])
    assert host == {"pip": "", **specifiers(PYPROJECT["build-system"]["requires"])}
    assert PROJECT["requires-python"] == f">={RECIPE['context']['python_min']}"


def test_the_recipe_constrains_what_the_extras_bring():
    extras = [
        each
        for name, requirements in PROJECT["optional-dependencies"].items()
        if name != "test"
        for each in requirements
        if not each.startswith(PROJECT["name"])
    ]
    assert specifiers(RECIPE["requirements"]["run_constraints"]) == on_conda(extras)


def test_the_recipe_makes_the_command():
    scripts = [f"{name} = {place}" for name, place in PROJECT["scripts"].items()]
    assert RECIPE["build"]["python"]["entry_points"] == scripts


def test_the_project_is_described_alike_everywhere():
    assert " ".join(RECIPE["about"]["summary"].split()) == PROJECT["description"]
    assert {CITATION["title"], ZENODO["title"], RECIPE["package"]["name"]} == {PROJECT["name"]}
    licenses = {CITATION["license"], ZENODO["license"], RECIPE["about"]["license"]}
    assert licenses == {PROJECT["license"]}
    assert set(CITATION["keywords"]) <= set(PROJECT["keywords"]) == set(ZENODO["keywords"])
    assert RECIPE["context"]["version"] == CITATION["version"]
    home = PROJECT["urls"]["Homepage"]
    assert {CITATION["repository-code"], RECIPE["about"]["homepage"]} == {home}
    assert all(url.startswith(home) for url in PROJECT["urls"].values())


def test_pre_commit_runs_the_versions_of_tox():
    config = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    revisions = {each["repo"]: each["rev"] for each in config["repos"]}
    pinned = specifiers(PYPROJECT["dependency-groups"]["lint"])
    found = {name: revisions[place].removeprefix("v") for name, place in HOOKS.items()}
    assert found == {name: pinned[name].removeprefix("==") for name in HOOKS}


def test_actions_are_pinned_by_hash_and_each_by_one():
    pins = defaultdict(set)
    for path in WORKFLOWS:
        for action, pin in re.findall(r"uses: ([\w./-]+)(.*)", path.read_text(encoding="utf-8")):
            if action.startswith("./"):
                continue
            assert re.fullmatch(r"@[0-9a-f]{40} # v\d+\.\d+\.\d+", pin), (path, action, pin)
            pins["/".join(action.split("/")[:2])].add(pin)
    assert {"actions/checkout", "pypa/gh-action-pypi-publish"} <= pins.keys()
    assert {action: found for action, found in pins.items() if len(found) > 1} == {}


def test_each_python_of_the_classifiers_runs_in_ci():
    workflow = yaml.safe_load(WORKFLOWS[0].read_text(encoding="utf-8"))
    minors = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if " :: Python :: 3." in c]
    assert workflow["jobs"]["run"]["strategy"]["matrix"]["python"] == minors


def test_the_suite_runs_in_a_checkout_without_what_its_tests_need(tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    command = ["-m", "pytest_pyhf_faas", "validate", "-q", "-k", "test_cls"]
    fit = ["--faas-patch", "synthetic_300_100", f"--faas-report={tmp_path}"]
    lacking = ["-p", "no:timeout", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *command, *fit, *lacking],
        cwd=REPOSITORY,
        check=False,
        capture_output=True,
        text=True,
    )
    assert "1 passed, 9 deselected" in done.stdout, done.stdout + done.stderr
    assert "synthetic" in summary.read_text(encoding="utf-8")


def test_the_wheel_is_small():
    """By what it carries: building one here would need an index."""
    package = Path(pytest_pyhf_faas.__file__).parent
    files = [p for p in package.rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    files += (REPOSITORY / "reference_results").glob("*.json")
    assert sum(len(zlib.compress(file.read_bytes())) for file in files) < MOST_BYTES


@pytest.mark.parametrize(
    ("coverage", "colour"), [("100", "brightgreen"), ("89", "green"), ("3", "red")]
)
def test_the_badge_of_the_coverage(tmp_path, coverage, colour):
    report = {"totals": {"percent_covered_display": coverage}}
    (tmp_path / "coverage.json").write_text(json.dumps(report))
    script = REPOSITORY / "scripts" / "coverage_badge.py"
    subprocess.run([sys.executable, script, "coverage.json"], cwd=tmp_path, check=True)
    badge = json.loads((tmp_path / "coverage-badge.json").read_text())
    assert (badge["message"], badge["color"]) == (f"{coverage} %", colour)
    assert badge["schemaVersion"] == 1


def test_the_changelog_keeps_its_form():
    lines = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    versions = [line for line in lines if line.startswith("## ")]
    assert versions[0] == "## Unreleased" or re.fullmatch(r"## [\d.]+ \([\d-]{10}\)", versions[0])
    parts = {line for line in lines if line.startswith("### ")}
    known = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
    assert parts <= {f"### {name}" for name in known}
    assert [line for line in lines if len(line) > 120] == []


def test_the_oldest_versions_are_those_that_are_tested():
    tox = ConfigParser(interpolation=None)
    tox.read(REPOSITORY / "tox.ini", encoding="utf-8")
    minimum = tox["testenv:minimum"]
    # Else what an extra asks for replaces a pin.
    assert minimum.getboolean("constrain_package_deps")
    pins = specifiers(line for line in minimum["deps"].split() if "==" in line)
    bounds = specifiers(each for each in PROJECT["dependencies"] if "python_version" not in each)
    tested = {name: pins[name].removeprefix("==") for name in bounds}
    asked = {name: text.removeprefix(">=") for name, text in bounds.items()}
    assert {n: v for n, v in tested.items() if not f"{v}.".startswith(f"{asked[n]}.")} == {}
