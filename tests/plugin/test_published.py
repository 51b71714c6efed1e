"""Published limits in a run: found, compared with those of the fits, kept with the references."""

import json

import pytest

from tests.helpers.fakes import canned

TESTS = ("--pyargs", "pytest_pyhf_faas.suite.test_published", "--faas-quantity=limit")
PATCHES = ("sig_100_0", "sig_100_50", "sig_200_0")
MIXTURE = "background_fit_to_data"


def published(patch, off=0.0):
    """The published limit, where theory has 0.1 pb, that is so far from what the fit gives."""
    return 0.1 * 11 * canned(patch)["CLs_obs"] * (1 + off)


def write_table(project, path="tiny/published.csv", **off):
    rows = [
        f"{','.join(patch.split('_')[1:])},{published(patch, off.get(patch, 0)):.8g},0.1"
        for patch in PATCHES
    ]
    file = project.path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text("\n".join(["m1,m2,observed_pb,cross_section_pb", *rows, ""]))


def run(project, *args, **options):
    return project.run(*TESTS, *args, suite=False, **options)


def stored(project):
    return {name: each.get("published") for name, each in project.reference()["patches"].items()}


@pytest.fixture
def compared(project):
    project.pallet(3)
    write_table(project)
    return project


def test_each_hypothesis_with_a_published_limit_is_compared(compared):
    compared.pallet(4)
    result = run(compared)
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines(
        [
            "*tiny: 3 published limits in published.csv",
            "*tiny: 3 of 3 published limits reproduced within 0.00%*: 3 either",
        ]
    )
    assert {how["method"] for how in compared.how_fitted()} == {"certified"}
    assert {how["quantity"] for how in compared.how_fitted() if how["effort"] == "brief"} >= {
        "limit"
    }


def test_without_a_table_there_is_no_item_and_nothing_is_said(project):
    project.pallet(2)
    result = run(project)
    assert "published limit" not in project.text(result)
    result.assert_outcomes()
    project.assert_no_internals(result)


def test_one_item_needs_the_limits_of_all(compared):
    write_table(compared, sig_100_50=0.2)
    result = run(compared, "--faas-patch=sig_200_0")
    result.assert_outcomes(passed=1)
    limits = [how for how in compared.how_fitted() if how["quantity"] == "limit"]
    assert len(limits) == 3
    result.stdout.fnmatch_lines(["*2 of 3 published limits reproduced*2 either, 1 none"])


def test_a_limit_that_is_not_reproduced_fails(compared):
    write_table(compared, sig_100_50=0.2)
    result = run(compared)
    result.assert_outcomes(passed=2, failed=1)
    compared.assert_told(
        result,
        "tiny / sig_100_50: the published upper limit is not reproduced",
        "rerun:  pytest --pyargs",
        "accept: --faas-update=changed",
        code=1,
    )
    result.stdout.fnmatch_lines(["*lowest * -1.7e-01*<--", "*nominal * -1.7e-01*<--"])


def test_where_it_is_reproduced_is_kept_and_compared(compared):
    write_table(compared, sig_100_50=0.2)
    result = run(compared, "--faas-update=new")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["*tiny.json: published of 3 hypotheses written"])
    assert stored(compared) == {
        "sig_100_0": {"place": "either", "off": 0.0},
        "sig_100_50": {"place": "none", "off": pytest.approx(0.2)},
        "sig_200_0": {"place": "either", "off": 0.0},
    }
    result = run(compared, "-rx")
    result.assert_outcomes(passed=2, xfailed=1)
    result.stdout.fnmatch_lines(["*as known, the published upper limit is not reproduced (20.00%*"])
    write_table(compared)
    result = run(compared)
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        ["*is reproduced at both sets of minima; the reference file says that it is not*"]
    )


def test_a_mixture_of_minima_is_named(compared):
    patch = "sig_100_0"
    observed = 11 * canned(patch)["CLs_obs"]
    six = {"observed": 1.1 * observed, "expected": [1.0] * 5}
    other = {"observed": 0.9 * observed, "expected": [1.0] * 5}
    limits = {**six, "nominal": other, "mixed": {MIXTURE: observed, "free_fit_to_data": "inf"}}
    compared.plan(answers={patch: {"limits": limits}})
    result = run(compared, "-k", patch)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*is reproduced with some fits at the lowest and some at the nominal*",
            "*mixture *",
            "*mixture: at the lowest minima are background fit to data; the others*",
        ]
    )


def test_the_report_has_them(compared):
    write_table(compared, sig_100_50=0.2)
    run(compared, "--faas-report=report", subprocess=True)
    (analysis,) = json.loads((compared.path / "report/report.json").read_text())["analyses"]
    assert analysis["quantity"] == "published"
    assert analysis["published"]["sentence"].startswith("2 of 3 published limits reproduced")
    by_patch = {each["patch"]: each for each in analysis["hypotheses"]}
    assert by_patch["sig_100_50"]["published"]["place"] == "none"
    assert by_patch["sig_100_50"]["published"]["off"] == pytest.approx(0.2)
    assert by_patch["sig_100_50"]["verdict"] == "wrong"
    page = (compared.path / "report/report.html").read_text()
    assert "<h2>Published limits</h2>" in page
    assert "+20.00%" in page
    assert list((compared.path / "report/plots").glob("published-0-tiny.svg"))


def test_workers_of_xdist_say_the_same_once(compared):
    result = run(compared, "-n2")
    result.assert_outcomes(passed=3)
    assert compared.text(result).count("3 of 3 published limits") == 1


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("nowhere", ["there is no table nowhere", "DOI of a table of HEPData"]),
        ("other.csv", ["no row is a hypothesis of tiny", "the first patch has 100, 0 (m1, m2)"]),
        ("bare.csv", ["no theory cross section", "add a column cross_section_pb"]),
    ],
)
def test_a_table_that_does_not_serve_is_a_usage_error(compared, option, words):
    (compared.path / "other.csv").write_text("m1,m2,observed_pb\n7,8,0.1\n")
    (compared.path / "bare.csv").write_text("m1,m2,observed_pb\n100,0,0.1\n")
    result = run(compared, f"--faas-published={option}")
    compared.assert_told(result, *words, code=pytest.ExitCode.USAGE_ERROR)


def test_a_table_that_is_given_counts_before_that_next_to_the_pallet(compared):
    write_table(compared, "own/limits.csv", sig_100_0=0.2)
    run(compared, "--faas-published=own").assert_outcomes(passed=2, failed=1)


def test_a_hypothesis_without_a_limit_fails_and_the_others_are_compared(compared):
    six = {"observed": "inf", "expected": [1.0] * 5}
    compared.plan(answers={"sig_100_0": {"limits": six}})
    result = run(compared)
    result.assert_outcomes(passed=2, errors=1)
    compared.assert_told(result, "there is no upper limit to compare", code=1)
