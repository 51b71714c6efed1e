"""`--faas-items analysis`: one item for a pallet of many hypotheses."""

from __future__ import annotations

import csv
import gzip
import json
import re
from pathlib import Path

# Loaded once: a second time in one process fails.
import matplotlib.figure  # noqa: F401
import pytest

from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report.answer import verdict
from pytest_pyhf_faas.report.whole import NOTABLE, SAMPLED, all_hypotheses
from tests.helpers.fakes import canned, certificate

#: More than a document has.
MANY = 1100
WHOLE = ("--pyargs", "pytest_pyhf_faas.suite", "--faas-items=analysis", "-ktest_cls")


@pytest.fixture
def whole(project):
    """Return what runs the suite on the pallet with one item."""
    return lambda *args: project.run(*WHOLE, *args, suite=False)


def rows(project):
    with (project.path / "rep" / "cls.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_many_hypotheses_are_one_item_and_one_bounded_report(project, whole):
    names = project.pallet(MANY)
    wrong, broken = names[7], names[-1]
    project.change_reference(wrong, CLs_obs=0.9)
    project.plan(lose={broken: -1}, batch_s=1.0)
    result = whole("--faas-report=rep", "--junitxml=junit.xml")
    result.assert_outcomes(failed=1)
    project.assert_told(
        result,
        f"pyhf-faas: tiny: {MANY} fits on local (2 workers), numpy+scipy, in one item",
        f"tiny: 2 of {MANY} hypotheses are not right",
        f"wrong: 1, broken: 1, right: {MANY - 2}",
        f"{wrong}: CLs differs from the reference",
        "reference 0.9, rel. diff",
        f"{broken}: the fit ended broken",
        code=1,
    )
    shown = re.sub(r"\s+", " ", project.text(result))
    assert re.search(rf"rerun: pytest .*--faas-patch={wrong}", shown)
    assert "--faas-items" not in shown.partition("rerun:")[2].partition("=====")[0]
    # All are counted, some are in the document, and all in the table, in the order of the pallet.
    document = documents.read(project.path / "rep")
    (analysis,) = document["analyses"]
    assert analysis["whole"]["verdicts"] == {"wrong": 1, "broken": 1, "right": MANY - 2}
    assert len(analysis["hypotheses"]) <= SAMPLED + NOTABLE
    assert {wrong, broken} <= {each["patch"] for each in analysis["hypotheses"]}
    assert [row["patch"] for row in rows(project)] == names
    assert sum(row["verdict"] == "right" for row in rows(project)) == MANY - 2
    everything = all_hypotheses(analysis, project.path / "rep")
    assert [each["patch"] for each in everything] == names
    page = (project.path / "rep" / "report.html").read_text()
    assert f"1 of {MANY} hypotheses of tiny is wrong" in page
    assert len(page) < 5e6
    properties = {
        each.get("name"): each.get("value")
        for each in project.junit()["test_cls[tiny]"].iter("property")
    }
    assert properties["hypotheses right"] == str(MANY - 2)


def test_an_analysis_that_is_right_passes(project, whole):
    project.pallet(40)
    result = whole("--faas-report=rep/report.json")
    result.assert_outcomes(passed=1)
    assert result.ret == 0
    assert not list((project.path / "rep").glob("*.gz"))
    assert json.loads((project.path / "rep/report.json").read_text())["run"]["exit_status"] == 0


def test_fits_that_broke_alone_are_an_error(project, whole):
    names = project.pallet(5)
    project.plan(lose={names[2]: -1})
    result = whole()
    result.assert_outcomes(errors=1)
    project.assert_told(result, f"{names[2]}: the fit ended broken", "right: 4", code=1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is full")
def test_on_a_full_disk_the_verdict_stands_and_the_run_fails(project, whole, monkeypatch):
    """Written in the middle of the fits, so that an error there would lose them."""
    project.pallet(MANY)
    full = gzip.open
    monkeypatch.setattr(gzip, "open", lambda _path, *args, **how: full("/dev/full", *args, **how))
    result = whole("--faas-report=rep")
    result.assert_outcomes(passed=1)
    project.assert_told(
        result,
        "tiny: all its hypotheses cannot be written to",
        "No space left on device",
        "run again with --faas-resume",
        code=1,
    )
    assert "Traceback" not in project.text(result)
    document = documents.read(project.path / "rep")
    assert document["analyses"][0]["whole"]["verdicts"] == {"right": MANY}
    assert document["analyses"][0]["whole"]["file"] is None


def test_failures_are_listed_up_to_a_number(project, whole):
    names = project.pallet(30)
    data = project.reference()
    for name in names:
        data["patches"][name]["CLs_obs"] = 0.95
    project.write_reference(data)
    result = whole()
    project.assert_told(
        result,
        "tiny: 30 of 30 hypotheses are not right",
        "... and 10 more; with all: --faas-report=DIR writes DIR/cls.csv",
        code=1,
    )
    assert project.text(result).count("CLs differs from the reference") == 20


def test_certified_without_references_is_skipped_with_what_is_known(project, whole):
    names = project.pallet(12, references=False)
    low = {name: {"CLs_obs": 0.01 if name in names[:3] else 0.5} for name in names}
    project.plan(answers={name: {**certificate(), **values} for name, values in low.items()})
    result = whole("--faas-method=certified", "-rs", "--faas-report=rep/report.json")
    result.assert_outcomes(skipped=1)
    assert result.ret == 0
    shown = project.text(result)
    assert "tiny: no reference: 12 hypotheses certified, 0 not, none compared; 3 of 12 are" in shown
    assert "not compared: there is no tiny.json in" in shown
    document = documents.read(project.path / "rep")
    assert document["analyses"][0]["whole"]["verdicts"] == {"not compared": 12}
    assert verdict(document) == "All 12 hypotheses of tiny were not compared."


def test_what_cannot_be_certified_is_an_error_without_references_too(project, whole):
    names = project.pallet(6, references=False)
    kind = "pytest_pyhf_faas.histfactory.errors.CertificationError"
    project.plan(
        answers={name: certificate() for name in names}, errors={names[1]: [kind, "it got stuck"]}
    )
    result = whole("--faas-method=certified")
    result.assert_outcomes(errors=1)
    project.assert_told(
        result, "error: 1, not compared: 5", f"{names[1]}: the fit ended error", code=1
    )


def test_without_references_hypotest_fails_and_names_the_remedy(project, whole):
    project.pallet(3, references=False)
    result = whole()
    result.assert_outcomes(failed=1)
    project.assert_told(
        result, "no reference: 3", "there is no tiny.json", "--faas-update=new", code=1
    )


def test_an_exception_that_is_right_is_right(project, whole):
    names = project.pallet(3)
    project.expect_error(names[1])
    project.plan(errors={names[1]: ["pyhf.exceptions.InvalidModel", "no signal"]})
    whole().assert_outcomes(passed=1)


def test_it_is_resumed_where_it_was_killed(project, whole):
    names = project.pallet(120)
    project.plan(kill=names[100], kill_after=60)
    project.run(*WHOLE, suite=False, subprocess=True)
    journaled = set(project.journaled())
    assert len(journaled) >= 60
    project.plan()
    result = whole("--faas-resume", "--faas-report=rep")
    result.assert_outcomes(passed=1)
    assert set(project.fits()) == set(names) - journaled
    assert f"{len(journaled)} taken over from earlier runs" in project.text(result)
    by_name = {row["patch"]: float(row["CLs_obs"]) for row in rows(project)}
    assert by_name == {name: canned(name)["CLs_obs"] for name in names}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("--faas-update=new",), "--faas-update"),
        (("--faas-scaling=1,2",), "--faas-scaling"),
        (("--faas-quantity=cls,limit",), "--faas-quantity"),
    ],
)
def test_what_one_item_cannot_do_is_refused(project, whole, words, named):
    project.pallet(2)
    result = whole(*words)
    project.assert_told(result, f"does not work with {named}", "--faas-items=analysis", code=4)


def test_under_xdist_it_is_refused(project):
    project.pallet(2)
    result = project.run(*WHOLE, "-n2", suite=False)
    project.assert_told(result, "pytest-xdist (-n)", code=4)


def test_the_ini_file_and_a_test_of_ones_own(project):
    project.pallet(4)
    project.pytester.makefile(".ini", pytest="[pytest]\nfaas_items = analysis\n")
    result = project.run("--pyargs", "pytest_pyhf_faas.suite", "--collect-only", suite=False)
    assert "test_cls[tiny]" in project.text(result)
    assert "test_walltime" not in project.text(result)
    project.own_test(
        """\
def test_most(analysis_result, assert_analysis):
    assert analysis_result.total == 4
    assert_analysis(analysis_result)
"""
    )
    project.run(suite=False).assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("words", "marker", "named"),
    [
        (("-n2",), "", "pytest-xdist (-n)"),
        (("--faas-update=new",), "", "--faas-update"),
        ((), "@pytest.mark.hypotest(quantity='limit')", "the quantity limit"),
    ],
)
def test_what_a_test_of_ones_own_cannot_do_is_reported(project, words, marker, named):
    project.pallet(2)
    project.own_test(
        f"import pytest\n{marker}\n"
        "def test_all(analysis_result, assert_analysis):\n    assert_analysis(analysis_result)\n"
    )
    result = project.run(*words, suite=False)
    result.assert_outcomes(errors=1)
    project.assert_told(result, f"does not work with {named}", code=1)
    assert not project.fits()
