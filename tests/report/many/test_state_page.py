"""scripts/state_of_pyhf.py: runs of gates become the tables of docs/state-of-pyhf.md."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest

from tests.helpers import report_documents as make
from tests.helpers.paths import REPOSITORY


@pytest.fixture(scope="module")
def state():
    path = REPOSITORY / "scripts" / "state_of_pyhf.py"
    spec = importlib.util.spec_from_file_location("state_of_pyhf", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def gate(directory, **runs):
    """A directory as `pyhf-faas gate` leaves it; the first run is the base."""
    names = []
    for optimizer, hypotheses in runs.items():
        names.append(f"pyhf 0.7.6, {optimizer}")
        cell = directory / "cells" / optimizer
        cell.mkdir(parents=True)
        told = {
            "name": names[-1],
            "factors": {"pyhf": "0.7.6", "optimizer": optimizer},
            "reason": None if hypotheses else "interrupted",
        }
        (cell / "cell.json").write_text(json.dumps(told))
        if hypotheses:
            document = make.document([make.analysis(hypotheses)])
            (cell / "report.json").write_text(json.dumps(document))
    found = {"environments": [{"name": name} for name in names]}
    (directory / "comparison.json").write_text(json.dumps(found))
    return directory


def table_below(page, title):
    rows = page.partition(f"### {title}\n")[2].lstrip().partition("\n\n")[0].splitlines()
    header, _line, *rows = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {row[0]: dict(zip(header[1:], row[1:], strict=True)) for row in rows}


def test_the_page_has_what_was_measured_between_its_marks(tmp_path, state, monkeypatch):
    runs = {
        "scipy": [make.hypothesis(), make.ambiguous("wino_200_1", (200, 1))],
        "minuit": [make.wrong(), make.broken("wino_200_1", (200, 1))],
        "newton": [],
    }
    page = tmp_path / "page.md"
    page.write_text(f"# Before\n{state.BEGIN}old\n{state.END}after\n")
    words = ["x", str(gate(tmp_path / "gate", **runs)), "--page", str(page)]
    monkeypatch.setattr(sys, "argv", [*words, "--machine", "2 cores", "--command", "pyhf-faas g"])
    state.main()
    text = page.read_text()
    assert text.startswith(f"# Before\n{state.BEGIN}")
    assert text.endswith(f"{state.END}after\n")
    assert "old" not in text
    assert "Measured on 2026-11-22, on 2 cores, by\n\n```console\npyhf-faas g\n```" in text
    rows = table_below(text, "By environment")
    assert rows["scipy"] | {"ratio": "1.00"} == rows["scipy"]
    assert [rows[name]["right"] for name in rows] == ["2", "0"]
    assert [rows[name]["error"] for name in rows] == ["0", "1"]
    assert [rows[name]["off by > 0.001"] for name in rows] == ["0", "1"]
    assert table_below(text, "By pallet: how many are right")["minuit"] == {"wino": "0/2"}
    assert "- pyhf 0.7.6, newton: interrupted" in text


def test_how_far_a_result_is_off(state):
    right = make.hypothesis()
    assert state.distance(right) < 1e-5
    off = make.hypothesis(CLs=[right["CLs"][0] + 0.1, *right["CLs"][1:]])
    assert state.distance(off) == pytest.approx(0.1, abs=1e-5)
    assert state.distance(make.hypothesis(CLs=["nan", *right["CLs"][1:]])) == float("inf")
    at_lowest = make.ambiguous(at="lowest")
    assert state.distance(at_lowest) == 0
    assert not state.flips(at_lowest)


@pytest.mark.parametrize(("observed", "flips"), [(0.3, True), (0.05, True), (0.049, False)])
def test_an_exclusion_flips_only_if_no_right_set_of_minima_has_it(state, observed, flips):
    both = make.ambiguous(ambiguous={"lowest": [0.04] * 6, "nominal": [0.01] * 6})
    assert state.flips(both | {"CLs": [observed] * 6}) is flips
    assert not state.flips(make.ambiguous(CLs=[observed] * 6))  # one of the two is excluded
