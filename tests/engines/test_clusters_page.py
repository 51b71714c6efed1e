"""The table of docs/how-to/clusters.md says what the tests do with each recipe."""

from __future__ import annotations

import re

from tests.engines.test_schedulers import SITES
from tests.helpers.paths import REPOSITORY

TESTS = REPOSITORY / "tests" / "engines"
#: Where Parsl meets the scheduler itself, and the agents that the tests start.
REAL = {"local", "slurm", "gridengine"}


def table():
    text = (REPOSITORY / "docs" / "how-to" / "clusters.md").read_text()
    rows = re.findall(r"^\| (\w+) \| ([\w -]+) \| ([\w -]+) \|$", text, re.MULTILINE)
    return {name: words for name, *words in rows if name != "scheduler"}


def how(name, *, runs):
    if name not in runs:
        return "loaded"
    return "run" if name in REAL else "run against a stand-in"


def test_the_table_names_what_is_run_and_against_what():
    recipes = REPOSITORY / "endpoints" / "globus_compute"
    names = {path.parent.name for path in recipes.glob("*/*.j2")}
    agents = set(re.findall(r'\bask\("(\w+)"', (TESTS / "test_recipes.py").read_text()))
    assert table() == {
        name: [how(name, runs={"local", "slurm", *SITES}), how(name, runs=agents)] for name in names
    }
