"""--faas-update: what is written, what is skipped, what stays."""

from __future__ import annotations

import datetime as dt

import pytest
from fakes import PYTHON, VERSIONS, canned

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
    before = mixed.reference()
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
    assert data["schema_version"] == 1
    assert data["pallet"] == "tiny"
    assert data["description"] == "a patchset for tests"
    assert data["synthetic"] is False
    assert data["hypotest"]["test_poi"] == 1.0
    (made,) = data["provenance"]
    assert made["method"] == "pyhf.infer.hypotest"
    assert (made["backend"], made["optimizer"]) == ("numpy", "scipy")
    assert made["versions"] == {"python": PYTHON, **VERSIONS}
    entry = data["patches"][RIGHT]
    assert entry["values"] == [100, 0]
    assert entry["CLs_exp"] == pytest.approx(canned(RIGHT)["CLs_exp"])
    assert entry["twice_nll"] == canned(RIGHT)["twice_nll"]
    assert entry["mu_hat"] == pytest.approx(canned(RIGHT)["mu_hat"])
    assert entry["fit_s"] > 0


@pytest.mark.parametrize("mode", ["new", "changed", "all"])
def test_a_second_update_changes_nothing(mixed, mode):
    mixed.run("--faas-update", "all", suite=False)
    before = mixed.reference_file().read_bytes()
    mixed.run("--faas-update", mode, suite=False)
    assert mixed.reference_file().read_bytes() == before


def test_only_selected_items_are_written(mixed):
    before = mixed.reference()["patches"]
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


def test_tolerances_of_the_file_are_kept(mixed):
    tolerances = {"scipy": {"rtol": 0.5}, "minuit": {"atol": 0.1}}
    mixed.write_reference({**mixed.reference(), "tolerances": tolerances})
    mixed.run("--faas-update", "all", suite=False)
    assert mixed.reference()["tolerances"] == tolerances


def test_tolerances_of_the_file_decide(mixed):
    mixed.write_reference({**mixed.reference(), "tolerances": {"scipy": {"rtol": 10}}})
    mixed.run(suite=False).assert_outcomes(passed=2, failed=1)
    mixed.run("--faas-rtol", "1e-4", suite=False).assert_outcomes(passed=1, failed=2)


def test_entries_of_another_background_go(mixed):
    mixed.write_reference({**mixed.reference(), "background_sha256": 64 * "0"})
    result = mixed.run("--faas-update", "new", "-k", NEW, suite=False)
    result.assert_outcomes(skipped=1, deselected=2)
    assert list(mixed.reference()["patches"]) == [NEW]


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
