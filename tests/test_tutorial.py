"""The tutorials: each command that they show works, and prints what they show."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY
from tests.helpers.shown import blocks_of, missing, pieces

PAGES = sorted((REPOSITORY / "docs" / "tutorial").glob("*.md"))
LANGUAGES = {"console", "json", "text"}


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A directory of somebody who follows the page, with the recipes of the repository."""
    for variable in ("PYHF_PALLET_PATH", "CI", "BUILD_NUMBER", "PYTEST_ADDOPTS", "FORCE_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    shutil.copytree(REPOSITORY / "endpoints" / "parsl", tmp_path / "endpoints" / "parsl")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_command_prints_what_is_shown(page, desk):
    for block in blocks_of(page.read_text(encoding="utf-8")):
        assert block.language in LANGUAGES
        if block.title:
            (desk / block.title).parent.mkdir(exist_ok=True)
            (desk / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "console":
            assert block.commands
            for command, shown in block.commands:
                follow(command, shown)


def follow(command, shown):
    """Do what a line says, and compare what comes of it."""
    if command.startswith("pip install "):  # needs the network
        return is_installable(shlex.split(command)[2])
    done = subprocess.run(
        command, shell=True, check=False, capture_output=True, text=True, timeout=240
    )
    assert missing(shown, done.stdout) is None, done.stdout + done.stderr
    assert (done.returncode != 0) == (" failed, " in shown), done.stdout + done.stderr
    return None


def is_installable(requirement):
    name, _, extras = requirement.rstrip("]").partition("[")
    assert name == "pytest-pyhf-faas"
    assert set(filter(None, extras.split(","))) <= set(metadata(name).get_all("Provides-Extra"))


def test_there_is_a_path_for_each_use():
    assert [page.stem for page in PAGES] == ["analyst", "release-manager", "site-admin"]


@pytest.mark.parametrize(
    ("shown", "printed", "is_there"),
    [
        ("a b\n", "a\nb\n", True),
        ("a b\n", "a b c\n", False),
        ("b\n", "a b\n", False),
        ("...\nb\n", "a b\n", True),
        ("a\n...\n", "a b\n", True),
        ("a\n...\nc\n", "a b c\n", True),
        ("a\n...\nc\n", "a b\n", False),
        ("2 passed in 2.89s\n", "2 passed in 12.1s\n", True),
        ("2 passed in 2.89s\n", "3 passed in 2.89s\n", False),
        ("CLs 0.0532629\n", "CLs 0.0532611\n", True),
        ("CLs 0.0532629\n", "CLs 0.0632629\n", False),
        ("CLs 1.723e-05\n", "CLs 1.9e-05\n", False),
        ("ratio 1.09\n", "ratio 0.29\n", True),
        ("ratio 1.09\n", "ratio -\n", False),
        ("pyhf 0.7.6 (/opt/venv/bin/python)\n", "pyhf 0.8.0 (/usr/bin/python3.11)\n", True),
        ("each, 2\n  cores\n", "each,\n  4 cores\n", True),
        ("=== pyhf ===\n", "===== pyhf =====\n", True),
    ],
)
def test_what_counts_as_shown(shown, printed, is_there):
    assert (missing(shown, printed) is None) == is_there


def test_a_line_of_dots_stands_for_any_output():
    assert pieces("...\na b\n...\nc\n") == [["a", "b"], ["c"]]
