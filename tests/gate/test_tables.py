"""tables.py: a gate that is written down."""

from __future__ import annotations

import pytest

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.gate.selection import Selection
from pytest_pyhf_faas.gate.tables import read, split
from tests.helpers.paths import REPOSITORY

WHOLE = """
pyhf = "0.7.0..0.7.6, main"
scipy = ["1.9", "1.10"]
design = "one-at-a-time"
exclude = [{ pyhf = "0.7.0", scipy = "1.1*" }]
pallets = [
    "synthetic",
    { name = "1Lbb", count = 25, optional = true },
    { name = "B", patches = "750,100" },
]

[versions]
iminuit = "2.24,2.30"

[suite]
timeout = 600
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "gate.toml").write_text(text)
        return tmp_path / "gate.toml"

    return write


def test_all_that_can_be_said(written):
    found = read(written(WHOLE))
    assert found.factors == {
        "pyhf": ("0.7.0..0.7.6", "main"),
        "scipy": ("1.9", "1.10"),
        "iminuit": ("2.24", "2.30"),
    }
    assert found.design == "one-at-a-time"
    assert found.exclude == ({"pyhf": "0.7.0", "scipy": "1.1*"},)
    assert found.selections == (
        Selection(("synthetic",)),
        Selection(("1Lbb",), count=25, optional=True),
        Selection(("B",), ("750,100",)),
    )
    assert found.suite == {"timeout": 600}


def test_nothing_need_be_said(written):
    found = read(written(""))
    assert (found.factors, found.design, found.selections) == ({}, None, ())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pyhf = ", "is not TOML"),
        ("pihf = '0.7'", "pihf: unknown in a gate"),
        ("scipy = 1.10", r"scipy is 1\.1: write a text"),
        ("scipy = [1.10]", r"scipy is 1\.1: write texts"),
        ("design = 'full'", "one-at-a-time"),
        ("exclude = 'x'", "exclude is 'x': write a list"),
        ("exclude = ['x']", "exclude is 'x': write a list of tables"),
        ("pallets = 'A'", "pallets is 'A': write a list"),
        ("pallets = [3]", "pallets is 3: write names or tables"),
        ("pallets = [{ count = 3 }]", "a pallet has no name"),
        ("pallets = [{ name = 'A', count = '3' }]", "count is '3': write a number"),
        ("pallets = [{ name = 'A', count = true }]", "count is True: write a number"),
        ("pallets = [{ name = 'A', count = 0 }]", "at least one patch"),
        ("pallets = [{ name = 'A', patch = 'B' }]", "patch: unknown in a pallet"),
        ("pallets = [{ name = 'A', optional = 1 }]", "optional is 1: write true"),
        ("versions = 3", "versions is 3: write a table"),
        ("suite = 3", "suite is 3: write a table"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(written, text, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        read(written(text))
    assert "gate.toml" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        read(tmp_path / "nowhere.toml")


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "docs/gates").iterdir()), ids=lambda p: p.stem
)
def test_the_gates_that_are_shown(path):
    found = read(path)
    assert {"pyhf", "scipy"} <= found.factors.keys()
    assert found.selections[0].specs == ("synthetic",)


def test_values_in_a_text():
    assert split("0.7.5, 0.7.6,,main") == ("0.7.5", "0.7.6", "main")
