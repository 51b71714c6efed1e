"""What the terminal and the page say of many runs, and the files beside the page."""

from __future__ import annotations

import csv
import json
import re
import time
from dataclasses import replace
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report.many.cell import Cell, named, read_cell
from pytest_pyhf_faas.report.many.compare import compare_many
from pytest_pyhf_faas.report.many.page import MATRIX_BYTES, render
from pytest_pyhf_faas.report.many.publish import publish_many
from pytest_pyhf_faas.report.many.text import text
from pytest_pyhf_faas.report.many.words import answer, badge, groups_of, numbers, state
from tests.helpers.environments import FACTORS, cell, grid
from tests.helpers.paths import STORED
from tests.report.test_comparison import runs
from tests.report.test_page import HOSTILE, Page


def by_scipy(patch, factors):
    return {"scale": 1 + 0.01 * (factors["scipy"] == "1.14.1")}


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def page_of(found, links=()):
    source = render(found, dict(links), "cls.csv", "comparison.json")
    page = Page(source)
    assert (page.wrong, page.open) == ([], [])
    assert not {"script", "link", "iframe"} & {tag for tag, _attributes in page.elements}
    return page


def test_the_first_sentence_says_what_moved_with_what():
    found = compare_many(grid(by_scipy))
    assert answer(found) == (
        "24 environments, 3 hypotheses: 3 moved with scipy 1.9.3 → 1.14.1; no verdict changed"
    )
    assert badge(found) == "not alike"
    assert (
        answer(compare_many(grid()))
        == "24 environments, 3 hypotheses: no value moved by more than its tolerance; "
        "no verdict changed"
    )
    assert state(compare_many(grid())).css == "right"


def test_of_two_factors_together_the_sentence_has_one_and_the_table_both():
    def result(patch, factors):
        slsqp = factors["optimizer"] == "scipy" and factors["scipy"] == "1.14.1"
        return {"scale": 1 + 0.01 * slsqp}

    found = compare_many(grid(result))
    step = "scipy 1.9.3 → 1.14.1 where optimizer is scipy"
    assert answer(found).endswith(f": 3 moved with {step}; no verdict changed")
    rows = [line.split() for line in text(found, 200).splitlines()]
    assert [row[0] for row in rows if row[1:3] in (["1.9.3", "1.14.1"], ["scipy", "minuit"])] == [
        *("scipy", "optimizer")
    ]


def test_factors_that_changed_together_are_said_to():
    also = {"1.9.3": "old", "1.14.1": "new"}
    found = compare_many(grid(by_scipy, also=lambda factors: {"cpu": also[factors["scipy"]]}))
    assert "with scipy 1.9.3 → 1.14.1 or cpu old → new;" in answer(found)
    told = text(found, 200)
    assert "scipy or cpu" in told
    assert "changed together in these environments" in " ".join(told.split())
    assert "changed together in these environments" in page_of(found).text


def test_what_is_wrong_everywhere_is_not_called_right():
    found = compare_many(grid(lambda patch, factors: {"verdict": "wrong"}))
    assert (found.status, badge(found), state(found).css) == (0, "not right", "wrong")
    assert answer(found).endswith("3 hypotheses not right, the same in all environments")


def test_an_environment_without_a_run_shows_its_reason():
    missing = Cell("old one", {"pyhf": "0.6.0"}, None, "cannot be installed: no wheel\nof scipy")
    found = compare_many([*grid()[:2], missing])
    assert answer(found).endswith("; 1 environment without a result")
    assert "  old one: cannot be installed: no wheel of scipy" in text(found, 80).splitlines()
    assert "cannot be installed: no wheel of scipy" in page_of(found).text
    assert "pyhf: 0.6.0 (1), 0.7.0 (2)" in text(found, 80)
    base = compare_many([missing, *grid()[:2]])
    assert "the first one, old one, has no result" in answer(base)
    assert badge(base) == "nothing compared"
    alone = compare_many([grid()[0], missing])
    assert "only the first has a result" in answer(alone)
    assert "Nothing was compared." in page_of(alone).text
    assert "No value moved" not in page_of(alone).text


def test_a_series_that_was_asked_for_and_did_not_run_is_no_difference():
    first, second = (cell({"pyhf": v, "scipy": "1.14.1"}) for v in ("0.7.5", "0.7.6"))
    missing = Cell("c", {"pyhf": "0.8", "scipy": "1.14"}, None, "cannot be installed")
    assert compare_many([first, second, missing]).factors == ("pyhf",)
    other = Cell("c", {"pyhf": "0.8", "scipy": "1.1"}, None, "cannot be installed")
    assert compare_many([first, second, other]).factors == ("pyhf", "scipy")


def test_values_that_differ_have_the_digits_that_tell_them_apart():
    def result(patch, factors):
        return {"scale": 1 + 2e-5 * (factors["scipy"] == "1.14.1")}

    found = compare_many(grid(result, factors={"scipy": FACTORS["scipy"]}), rtol=1e-6, atol=0.0)
    shown = [groups_of(each) for each in found.hypotheses]
    pairs = [re.findall(r"([\d.e-]+) in", each) for each in shown]
    assert pairs
    assert all(len(set(pair)) == 2 for pair in pairs), shown


def test_environments_are_distinguished_in_a_narrow_terminal():
    factors = {"pyhf": ("0.7.5", "0.7.6"), "optimizer": ("scipy", "minuit")}
    cells = [
        replace(each, name=f"pyhf {each.name.replace(' ', ', scipy 1.14, ')}")
        for each in grid(factors=factors)
    ]
    told = text(compare_many(cells), 80)
    assert "environments with scipy 1.14, the first to compare with:" in told
    names = {f"  pyhf {pyhf}, {by}" for pyhf, by in product(*factors.values())}
    assert {line[:20].rstrip() for line in told.splitlines()} >= names


def test_a_run_that_did_not_come_to_its_end_says_so():
    first, second = grid()[:2]
    second.document["run"]["interrupted"] = True
    found = compare_many([first, second])
    assert f"  {second.name}: its run was interrupted" in text(found, 80).splitlines()
    assert "its run was interrupted" in page_of(found).text


def test_noise_and_seconds_are_a_line_of_each_environment():
    first = cell({"optimizer": "scipy", "scipy": "1.9.3"})
    second = cell(
        {"optimizer": "minuit", "scipy": "1.9.3"},
        lambda patch, factors: {"scale": 1 + 4e-5 * (patch == "a"), "seconds": {"fit": 10.0}},
    )
    told = text(compare_many([first, second]), 200)
    (header,) = (line for line in told.splitlines() if line.strip().startswith("environment  "))
    assert " ".join(header.split()) == (
        "environment right moved noise median largest fit [s] ratio against the first"
    )
    (line,) = (line for line in told.splitlines() if line.strip().startswith("minuit 1.9.3  "))
    assert " ".join(line.split()) == "minuit 1.9.3 3 0 1 4.0e-05 4.0e-05 10 4.00 passes"


def test_the_page_marks_each_hypothesis_in_each_environment():
    def result(patch, factors):
        if patch == "a":
            return {"verdict": "unconverged" if factors["scipy"] == "1.14.1" else "right"}
        return {"scale": 1 + 0.01 * (patch == "b" and factors["scipy"] == "1.14.1")}

    found = compare_many([*grid(result)[:8], Cell("none", {}, None)])
    page = page_of(found, {found.environments[1].name: "cells/2/report.html"})
    marks = [
        (one["class"], one.get("title", ""))
        for one in page.all("i")
        if one.get("class", "key") != "key"
    ]
    assert marks[:5] == [("right", "")] * 4 + [("wrong", "5: unconverged")]
    assert marks[8:14] == [("none", "9: no run"), *[("right", "")] * 4, ("right moved", "5: right")]
    assert len(marks) == 2 * 9  # that of c is all alike
    assert [one["href"] for one in page.all("a") if "report" in one["href"]] == [
        "cells/2/report.html"
    ]
    assert "1 hypothesis right and alike in all environments" in page.text
    assert re.search(r"0\.\d+ in 1–4; 0\.\d+ in 5–8", page.text)


@settings(max_examples=40, deadline=None)
@given(several=st.lists(st.none() | runs, min_size=1, max_size=4))
def test_any_runs_can_be_told_of(several):
    cells = named(
        Cell("" if run else "gone", {"pyhf": HOSTILE} if run is None else {}, run)
        for run in several
    )
    found = compare_many(cells)
    told = text(found, 80)
    assert max(map(len, told.split("\n"))) <= 80
    assert all(line.isprintable() for line in told.splitlines())
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["status"] == found.status
    page = page_of(found)
    assert not [name for name, attributes in page.elements if "onerror" in attributes]


def test_the_files_next_to_the_page_have_all_values(tmp_path):
    cells = [*grid(by_scipy)[:8], Cell("none", {"pyhf": "0.6"}, None, "no wheel")]
    documents.write(cells[0].document, tmp_path / "cells" / "one")
    (tmp_path / "cells" / "one" / "report.html").write_text("")
    cells[0] = Cell("one", {}, cells[0].document, directory=tmp_path / "cells" / "one")
    page = publish_many(compare_many(cells), cells, tmp_path / "out")
    assert page == tmp_path / "out" / "index.html"
    assert 'href="../cells/one/report.html"' in page.read_text()
    told = json.loads((page.parent / "comparison.json").read_text())
    assert told["shifts"][0]["step"]["factors"] == ["scipy"]
    rows = table(page.parent / "cls.csv")
    assert len(rows) == 8 * 3
    assert rows[0]["environment"] == "one"
    assert float(rows[0]["CLs_obs"]) == cells[0].document["analyses"][0]["hypotheses"][0]["CLs"][0]
    environments = table(page.parent / "environments.csv")
    assert environments[0]["scipy"] == "1.9.3"
    assert (environments[-1]["no_run"], environments[-1]["pyhf"]) == ("no wheel", "0.6")


def test_a_grid_of_a_hundred_environments_takes_seconds_and_a_few_megabytes(tmp_path):
    factors = {**FACTORS, "pyhf": [f"0.7.{patch}" for patch in range(16)]}
    patches = [f"C1N2_Wh_hbb_{place}" for place in range(100)]

    def result(patch, factors):
        error = patch.endswith("7") and factors["pyhf"] == "0.7.0"
        return {"verdict": "error"} if error else by_scipy(patch, factors)

    cells = grid(result, factors=factors, patches=patches)
    assert len(cells) == 128
    begin = time.process_time()
    page = publish_many(compare_many(cells), cells, tmp_path)
    assert time.process_time() - begin < 30
    assert page.stat().st_size < 1_000_000
    assert MATRIX_BYTES < 2_000_000


def test_places_in_a_row_are_a_range():
    assert numbers([0, 1, 2, 4, 6, 7]) == "1–3, 5, 7–8"
    assert numbers([3]) == "4"


def test_reports_of_earlier_versions_are_compared():
    stored = [read_cell(STORED / f"reports/version_{version}.json") for version in (1, 2)]
    found = compare_many(named(stored))
    assert (found.shifts, found.verdicts) == ((), ())
    assert sum(len(each.groups) for each in found.hypotheses) > 2
