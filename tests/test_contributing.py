"""What CONTRIBUTING.md says of the code is true."""

import re
from pathlib import Path

import pytest_pyhf_faas
from tests.helpers.paths import REPOSITORY

SOURCE = Path(pytest_pyhf_faas.__file__).parent
TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
WAY = TEXT.partition("### The way of a hypothesis")[2].partition("\n## ")[0]
#: What a hypothesis does not come through.
BESIDE = {"commands", "preflight", "data", "gate", "published"}


def test_the_way_of_a_hypothesis_leads_through_rooms_that_there_are():
    assert len(re.findall(r"^\d+\. ", WAY, re.MULTILINE)) == 20
    named = re.findall(r"`([\w/]+\.py)`", WAY)
    assert [name for name in named if not (SOURCE / name).is_file()] == []
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir()} - {"__pycache__"}
    assert rooms - {Path(name).parts[0] for name in named} == BESIDE & rooms


def test_the_paths_it_names_are_there():
    named = re.findall(r"(?<![\w/])((?:tests|benchmarks|docs|\.ci)/[\w/.]*\w)", TEXT)
    assert "tests/services/slurm.py" in named
    assert [name for name in named if not (REPOSITORY / name).exists()] == []
