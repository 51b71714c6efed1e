"""--faas-update: what is written, what is skipped, what stays."""

from __future__ import annotations

import datetime as dt
import json

import pytest

from pytest_pyhf_faas.campaign.results import FITS
from pytest_pyhf_faas.references.file import read
from tests.helpers.fakes import PYTHON, VERSIONS, canned, certificate, nominal_minima

RIGHT, WRONG, NEW = PATCHES = ("sig_100_0", "sig_100_50", "sig_200_0")
INVALID_MODEL = "pyhf.exceptions.InvalidModel"


@pytest.fixture
def mixed(project):
    """A project whose references are right, wrong and missing."""
    project.pallet(3)
    project.change_reference(WRONG, CLs_obs=0.9)
    project.forget_reference(NEW)
    project.own_test()
    return project


def of_schema_2(project):
    """Return the content of a reference file as it is written today."""
    return read(project.reference_file())


@pytest.mark.parametrize(
    ("distribution", "mode", "outcomes", "written"),
    [
        ([], "new", {"passed": 1, "failed": 1, "skipped": 1}, {NEW}),
        ([], "changed", {"passed": 1, "skipped": 2}, {WRONG, NEW}),
        (["-n2"], "changed", {"passed": 1, "skipped": 2}, {WRONG, NEW}),
        ([], "all", {"skipped": 3}, {RIGHT, WRONG, NEW}),
    ],
)
def test_each_mode_writes_its_own(mixed, distribution, mode, outcomes, written):
    before = of_schema_2(mixed)
    result = mixed.run("--faas-update", mode, "-rs", *distribution, suite=False)
    result.assert_outcomes(**outcomes)
    after = mixed.reference()
    for patch in PATCHES:
        if patch in written:
            assert after["patches"][patch]["CLs_obs"] == pytest.approx(canned(patch)["CLs_obs"])
            made = after["provenance"][after["patches"][patch]["provenance"]]
            assert made["date"] == dt.datetime.now(dt.timezone.utc).date().isoformat()
        else:
            assert after["patches"].get(patch) == before["patches"].get(patch)
    result.stdout.fnmatch_lines(["SKIPPED*not compared: reference written (tiny.json)"])
    assert result.ret == (1 if "failed" in outcomes else 0)


def test_what_was_written_is_right_in_the_next_run(mixed):
    mixed.run("--faas-update", "changed", suite=False)
    mixed.run(suite=False).assert_outcomes(passed=3)


def test_without_the_option_nothing_is_written(mixed):
    before = mixed.reference_file().read_bytes()
    mixed.run(suite=False).assert_outcomes(passed=1, failed=2)
    assert mixed.reference_file().read_bytes() == before


def test_a_first_reference_is_complete(project):
    project.pallet(2, references=False)
    project.run("--faas-update", "new").assert_outcomes(passed=1, skipped=2)
    data = project.reference()
    assert data["schema_version"] == 3
    assert data["pallet"] == "tiny"
    assert data["description"] == "a patchset for tests"
    assert data["synthetic"] is False
    assert data["hypotest"]["test_poi"] == 1.0
    (made,) = data["provenance"]
    assert made["method"] == "certified"
    assert (made["backend"], made["optimizer"]) == (None, "certified")
    assert made["versions"] == {"python": PYTHON, **VERSIONS}
    entry = data["patches"][RIGHT]
    assert entry["values"] == [100, 0]
    assert entry["CLs_exp"] == pytest.approx(canned(RIGHT)["CLs_exp"])
    assert entry["twice_nll"] == canned(RIGHT)["twice_nll"]
    assert entry["twice_nll_off_minimum"] == pytest.approx(canned(RIGHT)["twice_nll_off_minimum"])
    assert entry["mu_hat"] == pytest.approx(canned(RIGHT)["mu_hat"])
    assert (entry["distance"], entry["rounding"]) == (1e-12, 1e-9)
    assert entry["search"] == {fit: [4, 3, 2, 1] for fit in FITS if fit != "free_fit_to_asimov"}
    assert entry["unseen"] == 0.5
    assert {"nominal", "minima"} & entry.keys() == set()
    assert entry["fit_s"] > 0


@pytest.mark.parametrize("mode", ["new", "changed", "all"])
def test_a_second_update_changes_nothing(mixed, mode):
    mixed.run("--faas-update", "all", suite=False)
    before = mixed.reference_file().read_bytes()
    mixed.run("--faas-update", mode, suite=False)
    assert mixed.reference_file().read_bytes() == before


def test_only_selected_items_are_written(mixed):
    before = of_schema_2(mixed)["patches"]
    mixed.run("--faas-update", "all", "-k", NEW, suite=False).assert_outcomes(
        skipped=1, deselected=2
    )
    after = mixed.reference()["patches"]
    assert {patch: after[patch] for patch in (RIGHT, WRONG)} == before
    assert set(after) == set(PATCHES)


def test_provenance_is_kept_for_those_that_stay_and_goes_with_the_last(mixed):
    mixed.run("--faas-update", "changed", suite=False)
    dates = [made["date"] for made in mixed.reference()["provenance"]]
    assert len(dates) == 2
    assert "2026-01-01" in dates
    mixed.run("--faas-update", "all", suite=False)
    assert "2026-01-01" not in [made["date"] for made in mixed.reference()["provenance"]]


NOTES = {
    "tolerances": {"numpy+scipy": {"rtol": 0.5}, "certified": {"atol": 0.1}},
    "known_issues": [
        {
            "fit_setup": "numpy+minuit",
            "reason": "it gives up",
            "link": "https://somewhere/1",
            "patches": {RIGHT: {"error": "ValueError"}, "sig_gone": {"error": "ValueError"}},
        }
    ],
}
CHECKED = {"numpy+minuit": {"cls": 1e-4, "twice_nll": 1e-3, "fit_s": 0.5}}


@pytest.mark.parametrize("mode", ["new", "changed", "all"])
def test_what_was_noted_of_other_fit_setups_is_kept(mixed, mode):
    mixed.write_reference({**mixed.reference(), **NOTES})
    for patch in (RIGHT, WRONG):
        mixed.change_reference(patch, checked=CHECKED)
    mixed.run("--faas-update", mode, suite=False)
    after = mixed.reference()
    assert {name: after[name] for name in NOTES} == NOTES
    noted = {patch: entry.get("checked") for patch, entry in after["patches"].items()}
    assert noted == {RIGHT: CHECKED, WRONG: CHECKED, NEW: None}


def test_new_leaves_the_reference_of_another_patch_of_the_name(mixed):
    mixed.change_reference(WRONG, digest=16 * "0")
    before = mixed.reference()["patches"][WRONG]
    result = mixed.run("--faas-update=new", suite=False)
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    told = "make it: --faas-update=changed, which replaces what is there"
    mixed.assert_told(
        result, "was made from a patch of the same name with other content", told, code=1
    )
    assert mixed.reference()["patches"][WRONG] == before
    mixed.run("--faas-update=changed", suite=False).assert_outcomes(passed=2, skipped=1)
    assert mixed.reference()["patches"][WRONG]["digest"] != before["digest"]


def test_what_was_noted_of_another_patch_of_the_name_goes(mixed):
    mixed.change_reference(WRONG, digest=16 * "0", checked=CHECKED)
    mixed.run("--faas-update", "all", suite=False)
    assert "checked" not in mixed.reference()["patches"][WRONG]


def test_tolerances_of_the_file_decide(mixed):
    mixed.write_reference({**mixed.reference(), "tolerances": {"numpy+scipy": {"rtol": 10}}})
    mixed.run(suite=False).assert_outcomes(passed=2, failed=1)
    mixed.run("--faas-rtol", "1e-4", suite=False).assert_outcomes(passed=1, failed=2)
    # They are those of a fit setup, not of an optimizer.
    result = mixed.run("--faas-backend", "jax", suite=False)
    result.assert_outcomes(passed=1, failed=2)


# Only what is certified is written


def test_whatever_the_test_uses_what_is_written_is_certified(mixed):
    mixed.own_test(
        """\
import pytest

@pytest.mark.hypotest(optimizer="minuit", method="hypotest")
def test_cls(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)
"""
    )
    mixed.run("--faas-update", "all", suite=False).assert_outcomes(skipped=3)
    assert {how["method"] for how in mixed.how_fitted()} == {"certified"}
    assert {how["effort"] for how in mixed.how_fitted()} == {"brief", "thorough"}
    assert {how["checked"] for how in mixed.how_fitted()} == {False, True}
    assert {made["method"] for made in mixed.reference()["provenance"]} == {"certified"}
    mixed.run(suite=False).assert_outcomes(passed=3)
    assert {how["method"] for how in mixed.how_fitted()} == {"hypotest"}


def test_only_a_reference_is_searched_for_thoroughly(mixed):
    mixed.run("--faas-method", "certified")
    assert {how["method"] for how in mixed.how_fitted()} == {"certified"}
    assert {how["checked"] for how in mixed.how_fitted()} == {False}


def test_an_update_by_the_optimizer_under_test_is_a_usage_error(mixed):
    before = mixed.reference_file().read_bytes()
    result = mixed.run("--faas-update", "new", "--faas-method", "hypotest", suite=False)
    mixed.assert_told(
        result,
        "--faas-update writes certified references, and --faas-method is 'hypotest'",
        "leave one of them out",
        code=4,
    )
    assert mixed.fits() == []
    assert mixed.reference_file().read_bytes() == before
    mixed.run("--faas-update", "new", "--faas-method", "certified", suite=False)
    assert NEW in mixed.reference()["patches"]


def test_what_cannot_be_certified_gets_no_reference(mixed):
    kind = "pytest_pyhf_faas.histfactory.errors.CertificationError"
    why = "the free fit to data ended at an estimated distance of 1.0e-02 to its minimum"
    mixed.plan(errors={NEW: [kind, why]})
    result = mixed.run("--faas-update", "all", suite=False)
    result.assert_outcomes(skipped=2, errors=1)
    mixed.assert_told(
        result,
        f"tiny / {NEW}: the fit broke",
        f"{kind}: {why}",
        "what to do: this patch gets no reference: its likelihood is not smooth there, or has no "
        "minimum",
        code=1,
    )
    assert NEW not in mixed.reference()["patches"]


def test_both_sets_of_minima_are_written(mixed):
    fixed = FITS[1]
    values = canned(NEW)
    nominal = nominal_minima(NEW, CLs_obs="nan", **{fixed: 0.79})
    minima = {fixed: [0.79, 1 / 3]}
    made = certificate(distance=1.23456e-10, minima=minima, **nominal)
    mixed.plan(answers={NEW: made})
    result = mixed.run("--faas-update", "new", suite=False)
    entry = mixed.reference()["patches"][NEW]
    assert entry["distance"] == 1.2e-10
    assert entry["minima"] == {fixed: [0.79, 0.333333]}
    assert entry["CLs_obs"] == pytest.approx(values["CLs_obs"])
    assert entry["nominal"]["CLs_obs"] == "nan"
    assert entry["nominal"]["twice_nll"][fixed] == pytest.approx(11.79)
    assert entry["nominal"]["differences"] == nominal["differences"]
    result.stdout.fnmatch_lines(
        ["ambiguous: 1 hypothesis of tiny with two sets of minima; certified: 1 not compared"]
    )
    mixed.run("-k", NEW, suite=False).assert_outcomes(passed=1, deselected=2)


# No reference is made worse


def raised(gap, fit=FITS[1], **changes):
    """A certified answer that ends so much higher."""
    fits = {**canned(RIGHT)["twice_nll"]}
    return {"twice_nll": {**fits, fit: fits[fit] + gap}, **changes}


@pytest.mark.parametrize("mode", ["changed", "all"])
@pytest.mark.parametrize("distribution", [[], ["-n2"]], ids=["alone", "n2"])
def test_a_higher_minimum_is_refused_and_fails(mixed, mode, distribution):
    before = of_schema_2(mixed)["patches"][RIGHT]
    mixed.plan(answers={RIGHT: raised(3.0, CLs_obs=0.5)})
    result = mixed.run("--faas-update", mode, *distribution, suite=False)
    result.assert_outcomes(failed=1, skipped=2)
    mixed.assert_told(
        result,
        f"tiny / {RIGHT}: the reference has a lower minimum (gap 3 in the fixed poi fit to data): "
        "nothing written (tiny.json)",
        "verdict: the certified search failed: the fixed poi fit to data stopped 3 above the "
        "certified minimum 11",
        "reference_results/tiny.json: 2 references written (1 new, 1 changed); 1 refused: the "
        "file has a lower minimum",
        code=1,
    )
    assert of_schema_2(mixed)["patches"][RIGHT] == before


def test_a_lower_minimum_is_written(mixed):
    mixed.plan(answers={RIGHT: raised(-3.0, CLs_obs=0.5)})
    result = mixed.run("--faas-update", "changed", "-k", RIGHT, suite=False)
    result.assert_outcomes(skipped=1, deselected=2)
    assert mixed.reference()["patches"][RIGHT]["twice_nll"][FITS[1]] == 8.0


def test_a_shorter_search_is_not_written_and_nothing_is_wrong(mixed):
    mixed.run("--faas-update", "all", suite=False)
    longer = {fit: [90, 60, 80, 50] for fit in FITS[1:3]}
    mixed.change_reference(RIGHT, search=longer)
    before = mixed.reference_file().read_bytes()
    result = mixed.run("--faas-update", "all", "-k", RIGHT, "-rs", suite=False)
    result.assert_outcomes(skipped=1, deselected=2)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            (
                "reference_results/tiny.json: 0 references written; 1 kept: the file has the same "
                "from a longer search"
            ),
            (
                "SKIPPED*not compared: the reference has the same minima from a longer search (160 "
                "random starts, not 8): nothing written (tiny.json)"
            ),
        ]
    )
    assert json.loads(before)["patches"] == mixed.reference()["patches"]


def test_other_nominal_minima_alone_are_a_change(mixed):
    mixed.run("--faas-update", "all", suite=False)
    mixed.run("--faas-update", "changed", suite=False).assert_outcomes(passed=3)
    made = certificate(**nominal_minima(RIGHT, CLs_obs=0.0123, **{FITS[1]: 0.79}))
    mixed.plan(answers={RIGHT: made})
    result = mixed.run("--faas-update", "changed", suite=False)
    result.assert_outcomes(passed=2, skipped=1)
    assert mixed.reference()["patches"][RIGHT]["nominal"]["CLs_obs"] == 0.0123
    mixed.run("--faas-update", "changed", suite=False).assert_outcomes(passed=3)
    mixed.plan()
    mixed.run("--faas-method", "certified", suite=False).assert_outcomes(passed=2, failed=1)
    mixed.run("--faas-update", "changed", suite=False).assert_outcomes(passed=2, skipped=1)
    assert "nominal" not in mixed.reference()["patches"][RIGHT]


@pytest.mark.parametrize("distribution", [[], ["-n2"]], ids=["alone", "n2"])
def test_the_run_says_what_it_has_written(mixed, distribution):
    mixed.plan(errors={NEW: [INVALID_MODEL, "No POI"]})
    result = mixed.run("--faas-update", "all", *distribution, suite=False)
    told = (
        "reference_results/tiny.json: 3 references written (1 new, 1 changed, 1 confirmed), 1 of "
    )
    mixed.assert_told(
        result,
        "6 fits sent to workers, 3 of them searches for starts",
        f"{told}them InvalidModel",
        code=0,
    )
    assert mixed.text(result).count("references written") == 1


def test_what_was_written_is_in_the_report(mixed):
    mixed.run("--faas-update", "all", "--faas-report=rep", suite=False)
    report = json.loads((mixed.path / "rep" / "report.json").read_text())
    assert [note for note in report["notes"] if "3 references written" in note]


def test_starts_are_written_with_the_references(mixed):
    points = [{"alpha_jes": 1.5, "mu_W": 0.25}, {"alpha_jes": -0.75}]
    fit = "fixed_poi_fit_to_data"
    answers = {
        name: certificate(new=[point], helpful={fit: [number]})
        for number, (name, point) in enumerate(zip((NEW, RIGHT), points, strict=True))
    }
    mixed.plan(answers=answers)
    mixed.run("--faas-update", "all", suite=False).assert_outcomes(skipped=3)
    pool = mixed.reference()["pool"]
    named = [
        {name: value for name, value in zip(pool["parameters"], point, strict=True) if value}
        for point in pool["points"]
    ]
    assert sorted(named, key=len) == [points[1], points[0]]


@pytest.mark.parametrize("mode", ["new", "changed", "all"])
def test_entries_of_another_background_are_not_lost(mixed, mode):
    mixed.write_reference({**mixed.reference(), "background_sha256": 64 * "0"})
    before = mixed.reference()
    for selection in (["-k", NEW], [f"--faas-patch={NEW}"]):
        result = mixed.run("--faas-update", mode, *selection, suite=False)
        mixed.assert_told(
            result,
            "is not updated: 2 references of another background 000000000000... would be lost",
            "--faas-reference-dir or another pallet name",
            code=pytest.ExitCode.USAGE_ERROR,
        )
        assert mixed.fits() == []
    assert mixed.reference() == before


def test_a_part_of_xdist_replaces_nothing_and_fits_nothing(mixed):
    mixed.write_reference({**mixed.reference(), "background_sha256": 64 * "0"})
    before = mixed.reference()
    result = mixed.run("--faas-update", "all", "-n2", suite=False)
    result.assert_outcomes(errors=1, skipped=2)
    mixed.assert_told(
        result,
        "2 references of another background 000000000000... would be lost",
        "over all patches replaces them (without -n, -k and --faas-patch)",
        code=1,
    )
    assert mixed.fits() == []
    assert mixed.reference() == before


def test_two_tests_of_one_file_are_refused_before_any_fit(mixed):
    mixed.own_test(
        """\
import pytest

@pytest.mark.hypotest(test_poi=2.0)
def test_other(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)

def test_cls(hypotest_result, reference_result, assert_cls):
    assert_cls(hypotest_result, reference_result)
"""
    )
    result = mixed.run("--faas-update", "new", suite=False)
    mixed.assert_told(result, "cannot be updated for two tests at once", code=4)
    assert mixed.fits() == []


@pytest.mark.parametrize(
    ("mode", "distribution", "why"),
    [
        ("new", [], "1 hypothesis has a reference already (--faas-update=changed replaces what "),
        ("changed", [], "1 hypothesis agrees with its reference"),
        ("changed", ["-n2"], "2 hypotheses agree with their references"),
    ],
)
def test_an_update_that_writes_nothing_says_so(project, mode, distribution, why):
    project.pallet(2 if distribution else 1)
    project.own_test()
    result = project.run(f"--faas-update={mode}", *distribution, "--faas-report=rep", suite=False)
    told = f"--faas-update={mode} wrote nothing: {why}"
    project.assert_told(result, told, code=0)
    report = json.loads((project.path / "rep" / "report.json").read_text())
    assert [note for note in report["notes"] if told in note]


def test_an_update_that_comes_to_nothing_says_so(mixed):
    mixed.plan(lose=dict.fromkeys(PATCHES, -1))
    result = mixed.run("--faas-update=all", suite=False)
    told = "--faas-update=all wrote nothing: no fit gave a reference that could be written"
    mixed.assert_told(result, told, code=1)
    assert "wrote nothing" not in mixed.text(mixed.run(suite=False))


def test_entries_of_another_background_are_replaced_all_at_once(mixed):
    mixed.write_reference({**mixed.reference(), "background_sha256": 64 * "0"})
    result = mixed.run("--faas-update", "all", suite=False)
    result.assert_outcomes(skipped=3)
    assert set(mixed.reference()["patches"]) == set(PATCHES)
    result.stdout.fnmatch_lines(["*replaces 2 references of another background or test"])
    result.stdout.no_fnmatch_line("*until then nothing was compared*")


def test_right_exceptions_are_written(mixed):
    mixed.plan(errors={NEW: [INVALID_MODEL, "No POI"]})
    mixed.run("--faas-update", "new", suite=False).assert_outcomes(passed=1, failed=1, skipped=1)
    entry = mixed.reference()["patches"][NEW]
    assert entry["error"] == INVALID_MODEL
    assert "CLs_obs" not in entry
    mixed.run("-k", NEW, suite=False).assert_outcomes(passed=1, deselected=2)


def test_a_value_where_an_exception_was_right_is_a_change(mixed):
    mixed.expect_error(RIGHT)
    mixed.run("--faas-update", "changed", "-k", RIGHT, suite=False)
    assert "error" not in mixed.reference()["patches"][RIGHT]


@pytest.mark.parametrize(
    "trouble",
    [
        {"errors": {NEW: ["pyhf.exceptions.FailedMinimization", "no"]}},
        {"errors": {NEW: ["MemoryError", ""]}},
        {"errors": {NEW: ["pyhf.exceptions.ImportBackendError", "no jax"]}},
        {"lose": {NEW: -1}},
        {"timeout": [NEW]},
    ],
    ids=lambda trouble: "-".join(map(str, next(iter(trouble.values())))) or "x",
)
def test_what_broke_is_never_written(mixed, trouble):
    mixed.plan(**trouble)
    result = mixed.run("--faas-update", "all", suite=False)
    result.assert_outcomes(skipped=2, errors=1)
    assert NEW not in mixed.reference()["patches"]


def test_not_a_number_survives_the_round_trip(mixed):
    mixed.plan(answers={NEW: {"CLs_obs": "nan", "mu_hat": "inf"}})
    mixed.run("--faas-update", "new", suite=False)
    assert mixed.reference()["patches"][NEW]["CLs_obs"] == "nan"
    assert mixed.reference()["patches"][NEW]["mu_hat"] == "inf"
    mixed.run("-k", NEW, suite=False).assert_outcomes(passed=1, deselected=2)


def test_dry_run_writes_nothing(project):
    project.pallet(2, references=False)
    project.run("--faas-update", "all", "--faas-dry-run")
    assert not project.reference_file().exists()


@pytest.mark.parametrize("distribution", [[], ["-n2"]], ids=["alone", "n2"])
def test_what_cannot_be_written_fails_the_run(project, distribution):
    project.pallet(2, references=False)
    project.own_test()
    (project.path / "file").write_text("not a directory")
    where = ["--faas-reference-dir", "file/references", "--faas-update", "new"]
    result = project.run(*where, *distribution, suite=False)
    result.assert_outcomes(skipped=2)
    project.assert_told(
        result,
        f"{project.path}/file/references/tiny.json cannot be written: Not a directory",
        "repeat the run with --faas-resume",
        code=1,
    )
    # What the message promises.
    where[1] = "references"
    project.run(*where, "--faas-resume", suite=False).assert_outcomes(skipped=2)
    assert project.fits() == []
    assert (project.path / "references/tiny.json").is_file()


def test_references_are_written_into_the_directory_that_is_given(project):
    project.pallet(1)
    project.run("--faas-reference-dir", "elsewhere", "--faas-update", "new")
    assert (project.path / "elsewhere/tiny.json").is_file()
    project.run("--faas-reference-dir", "elsewhere").assert_outcomes(passed=2)


def test_an_interrupted_update_writes_what_was_done(project):
    project.pallet(4, references=False)
    project.own_test(
        """\
def test_cls(hypotest_result, reference_result, assert_cls):
    if hypotest_result.patch == "sig_200_0":
        raise KeyboardInterrupt
    assert_cls(hypotest_result, reference_result)
"""
    )
    result = project.run("--faas-update", "new", suite=False, subprocess=True)
    assert result.ret == 2
    assert list(project.reference()["patches"]) == ["sig_100_0", "sig_100_50"]


def test_real_update(project):
    project.pallet(2, references=False)
    project.real_engines()
    options = ("--funcx-endpoint", "local:2", "--benchmark-skip")
    project.run(*options, "--faas-update", "new").assert_outcomes(skipped=3)
    before = project.reference_file().read_bytes()
    result = project.run(*options, "--faas-update", "changed")
    result.assert_outcomes(passed=2, skipped=1)
    assert project.reference_file().read_bytes() == before
    for entry in json.loads(before)["patches"].values():
        assert 0 <= entry["distance"] < 1e-8
