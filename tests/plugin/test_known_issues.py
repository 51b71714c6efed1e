"""What is known to be got wrong is neither green nor red: it is counted, until it is fixed."""

from __future__ import annotations

import pytest

from tests.helpers.fakes import canned

PATCHES = KNOWN, OTHER, LAST = ("sig_100_0", "sig_100_50", "sig_200_0")
FAILED_MINIMIZATION = "pyhf.exceptions.FailedMinimization"
REASON = "scipy stops where it started"
LINK = "https://github.com/scikit-hep/pyhf/issues/1320"
WRONG = {"CLs_obs": 0.9988, "CLs_exp": [0.95, 0.96, 0.97, 0.98, 0.99]}
#: Of a fit that has not moved.
ASTRAY = {"fixed_poi_fit_to_data": 500.0}


@pytest.fixture
def known(project):
    """A project with an own test and issues of two patches of three."""
    project.pallet(3)
    project.own_test()
    issues(project, {KNOWN: WRONG, LAST: {"error": FAILED_MINIMIZATION}})
    return project


def issues(project, patches, name="tiny", fit_setup="numpy+scipy", **more):
    issue = {"fit_setup": fit_setup, "reason": REASON, "link": LINK, "patches": patches, **more}
    project.write_reference({**project.reference(name), "known_issues": [issue]}, name)


def answers(project, **changes):
    """Let the fake engine get wrong what is known, but for the changes."""
    twice_nll = {**canned(KNOWN)["twice_nll"], **ASTRAY}
    plan = {
        "answers": {KNOWN: {**WRONG, "twice_nll": twice_nll}},
        "errors": {LAST: [FAILED_MINIMIZATION, "Inequality constraints incompatible"]},
    }
    project.plan(**{**plan, **changes})


def test_what_is_known_to_be_wrong_is_xfailed_and_counted(known, distribution):
    answers(known)
    result = known.run(*distribution, "-rx", suite=False)
    assert result.parseoutcomes() == {"passed": 1, "xfailed": 2}
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "known issues: numpy+scipy on tiny gets 2 hypotheses wrong, as before (-rx says why)",
            f"XFAIL *{REASON} ({LINK})*",
            f"XFAIL *{REASON} ({LINK})*",
        ]
    )
    known.assert_no_internals(result)


def test_each_fit_setup_is_counted_on_each_pallet(project):
    project.pallet(3)
    project.pallet(2, "other")
    project.own_test()
    issues(project, {KNOWN: WRONG, OTHER: WRONG})
    issues(project, {KNOWN: WRONG}, "other")
    project.plan(answers={KNOWN: WRONG, OTHER: WRONG})
    result = project.run("-n2", "--faas-pallet", "other", suite=False)
    assert result.parseoutcomes() == {"passed": 1, "failed": 1, "xfailed": 3}
    result.stdout.fnmatch_lines(
        [
            "known issues: numpy+scipy on other gets 1 hypothesis wrong, as before *",
            "known issues: numpy+scipy on tiny gets 2 hypotheses wrong, as before *",
        ]
    )


def test_what_is_fixed_fails_and_says_so(known):
    result = known.run("--junitxml=junit.xml", suite=False)
    result.assert_outcomes(passed=1, failed=2)
    assert known.outcomes() == {KNOWN: "failed", OTHER: "passed", LAST: "failed"}
    for patch in (KNOWN, LAST):
        result.stdout.fnmatch_lines(
            [
                f"tiny / {patch}: passes, but is listed as a known issue of numpy+scipy",
                f"  {REASON} ({LINK})",
                "  it appears to be fixed: remove it from known_issues, or say there which *",
            ]
        )
    assert "known issues:" not in known.text(result)
    # An update does not take it off the list.
    assert "--faas-update" not in known.text(result)
    known.assert_no_internals(result)


@pytest.mark.parametrize(
    ("changes", "outcomes"),
    [
        ({"answers": {KNOWN: {"CLs_obs": 0.5}}}, {"passed": 1, "failed": 1, "xfailed": 1}),
        ({"answers": {KNOWN: {"CLs_obs": "nan"}}}, {"passed": 1, "failed": 1, "xfailed": 1}),
        (
            {"answers": {}, "errors": {KNOWN: [FAILED_MINIMIZATION, "no"]}},
            {"passed": 1, "failed": 1, "errors": 1},
        ),
        ({"errors": {LAST: ["ValueError", "no"]}}, {"passed": 1, "xfailed": 1, "errors": 1}),
        ({"errors": {}, "lose": {LAST: -1}}, {"passed": 1, "xfailed": 1, "errors": 1}),
        ({"errors": {}, "timeout": [LAST]}, {"passed": 1, "xfailed": 1, "errors": 1}),
        ({"errors": {}, "answers": {LAST: WRONG}}, {"passed": 1, "failed": 2}),
    ],
    ids=[
        "another value",
        "not a number",
        "an exception",
        "another exception",
        "broken",
        "timeout",
        "values",
    ],
)
def test_anything_else_is_not_excused(known, changes, outcomes):
    answers(known, **changes)
    result = known.run(suite=False)
    assert result.parseoutcomes() == outcomes
    assert result.ret == 1
    known.assert_no_internals(result)


@pytest.mark.parametrize(
    "options", [["--faas-optimizer", "minuit"], ["--faas-method", "certified"]]
)
def test_another_fit_setup_is_not_excused(known, options):
    answers(known)
    result = known.run(*options, suite=False)
    result.assert_outcomes(passed=1, failed=1, errors=1)


def test_stopping_at_the_first_failure_goes_on_after_a_known_one(known):
    answers(known)
    result = known.run("-x", suite=False)
    assert result.parseoutcomes() == {"passed": 1, "xfailed": 2}
    assert known.fits() == list(PATCHES)


def test_the_wall_time_counts_what_is_known_to_fail(known):
    answers(known)
    result = known.run()
    assert result.parseoutcomes() == {"passed": 2, "xfailed": 2}


def test_runxfail_shows_a_known_issue_as_what_it_is(known):
    answers(known)
    result = known.run("--runxfail", suite=False)
    result.assert_outcomes(passed=1, failed=1, errors=1)
    result.stdout.fnmatch_lines([f"known issue of numpy+scipy: {REASON} ({LINK})", "*<--"])
    result.stdout.fnmatch_lines([f"*{FAILED_MINIMIZATION}: Inequality constraints incompatible"])


def test_the_exception_of_another_module_is_the_same_issue(known):
    answers(known, errors={LAST: ["pyhf.somewhere.FailedMinimization", "no"]})
    result = known.run(suite=False)
    assert result.parseoutcomes() == {"passed": 1, "xfailed": 2}


@pytest.mark.parametrize(
    ("pyhf", "outcomes"),
    [("0.7.6", {"passed": 1, "xfailed": 2}), ("0.8.0.dev1", {"passed": 3})],
)
def test_what_a_version_of_pyhf_changes_is_red_with_neither(project, pyhf, outcomes):
    """The older one gives other values, and fits what the newer one refuses."""
    project.pallet(3)
    project.own_test()
    project.expect_error(LAST)
    answered = {part: canned(LAST)[part] for part in ("CLs_obs", "CLs_exp")}
    issues(project, {KNOWN: WRONG, LAST: answered}, pyhf="<=0.7.6")
    versions = {"versions": {"pyhf": pyhf}}
    if pyhf == "0.7.6":
        answers(project, errors={}, **versions)
    else:
        project.plan(
            errors={LAST: ["pyhf.exceptions.InvalidModel", "Duplicate samples"]}, **versions
        )
    result = project.run("-rx", suite=False)
    assert result.parseoutcomes() == outcomes
    assert ("with pyhf <=0.7.6: scipy stops" in project.text(result)) is (pyhf == "0.7.6")
