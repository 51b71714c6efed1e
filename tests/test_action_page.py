"""docs/how-to/action.md is true, and its workflows stand up to the linters of the field."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers.paths import REPOSITORY

TEXT = (REPOSITORY / "docs" / "how-to" / "action.md").read_text(encoding="utf-8")
ACTION = yaml.safe_load((REPOSITORY / "action.yml").read_text(encoding="utf-8"))
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
WORKFLOWS = {yaml.safe_load(block)["name"]: block for block in BLOCKS if "\non:" in block}
SELF = "OWNER/pytest-pyhf-faas@v1"
#: Of other actions a hash is asked for, as everywhere.
POLICY = """\
rules:
  unpinned-uses:
    config:
      policies:
        OWNER/*: ref-pin
        "*": hash-pin
"""


def rows(section):
    """Return the rows of the table of a section, without its header."""
    text = TEXT.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_each_input_and_output_is_documented():
    defaults = {row[0].strip("`"): row[1] for row in rows("Inputs")}
    assert list(defaults) == list(ACTION["inputs"])
    for name, each in ACTION["inputs"].items():
        if "default" in each:
            assert defaults[name] == f"`{each['default']}`"
    assert [row[0].strip("`") for row in rows("Outputs")] == list(ACTION["outputs"])


def test_the_workflows_are_there():
    assert list(WORKFLOWS) == ["Published physics", "Likelihood", "Endpoint"]
    assert all(block.count(SELF) == 1 for block in BLOCKS)


@pytest.fixture
def lint(tmp_path):
    """Write a workflow into a repository that has this action, and look what a linter says."""

    def lint(workflow, tool, *options):
        program = shutil.which(tool, path=f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}")
        if program is None:
            pytest.skip(f"not installed: {tool}")
        (tmp_path / ".git").mkdir()
        file = tmp_path / ".github" / "workflows" / "workflow.yml"
        file.parent.mkdir(parents=True)
        file.write_text(workflow)
        (tmp_path / "action.yml").write_text((REPOSITORY / "action.yml").read_text())
        (tmp_path / "zizmor.yml").write_text(POLICY)
        ended = subprocess.run(
            [program, *options, file], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return ended.returncode, ended.stdout + ended.stderr

    return lint


@pytest.mark.parametrize("name", WORKFLOWS)
def test_actionlint_finds_nothing(lint, name):
    # Of an action beside the workflow it knows the inputs.
    status, said = lint(WORKFLOWS[name].replace(SELF, "./"), "actionlint")
    assert (status, said) == (0, "")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_zizmor_finds_nothing(lint, name):
    options = ("--offline", "--no-progress", "--persona=pedantic", "--config=zizmor.yml")
    status, said = lint(WORKFLOWS[name], "zizmor", *options)
    assert status == 0, said


def test_actionlint_would_find_an_input_that_there_is_not(lint):
    workflow = WORKFLOWS["Likelihood"].replace(SELF, "./").replace("quantity:", "quantities:")
    status, said = lint(workflow, "actionlint")
    assert status == 1
    assert 'input "quantities" is not defined in action "Validate pyhf likelihoods"' in said


def test_zizmor_would_find_an_expression_in_a_script(lint):
    workflow = WORKFLOWS["Endpoint"].replace('"$GITHUB_WORKFLOW"', "${{ github.head_ref }}")
    status, said = lint(workflow, "zizmor", "--offline", "--no-progress", "--config=zizmor.yml")
    assert status != 0
    assert "template-injection" in said
