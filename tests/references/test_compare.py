from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.results import (
    CLS_LABELS,
    FITS,
    FitError,
)
from pytest_pyhf_faas.histfactory import asymptotics
from pytest_pyhf_faas.plugin.no_reference import no_reference_text
from pytest_pyhf_faas.plugin.terminal import ambiguous_lines, failure_text
from pytest_pyhf_faas.references.cls_values import (
    DEFAULT_ATOL,
    DEFAULT_RTOL,
    NO_EXCLUSION,
    Row,
    cls_table,
)
from pytest_pyhf_faas.references.compare import compare
from pytest_pyhf_faas.references.diagnosis import environment_line
from pytest_pyhf_faas.references.known_issues import KnownIssue, is_known_error
from pytest_pyhf_faas.references.places import NLL_TOLERANCE
from pytest_pyhf_faas.references.reference import Missing
from pytest_pyhf_faas.references.sameness import error_matches, moved
from pytest_pyhf_faas.references.store import bundled_directory
from pytest_pyhf_faas.verdicts import Verdict
from tests.helpers.made_minima import (
    AT_LOWEST,
    AT_NOMINAL,
    BACKGROUND,
    BOTH,
    FIXED,
    FIXED_ASIMOV,
    FREE,
    FREE_ASIMOV,
    LOWEST_VALUES,
    MINIMA,
    NOMINAL,
    NOMINAL_VALUES,
    PROVENANCE,
    TASK,
    VALUES,
    WRONG_VALUES,
    at,
    certified,
    environment,
    error_of,
    fitted,
    minima_of,
    reference_of,
    result_of,
    right_error,
    run,
    searched,
    two,
)
from tests.helpers.scripted_engine import ENVIRONMENT, toy_result

values = st.floats(-10, 10)
positions = st.integers(0, 5)


def check(result, reference, **options):
    return compare(result, reference, **{"fit_setup": "numpy+scipy", **options})


def excludes_nothing(value):
    return NO_EXCLUSION <= abs(value) <= 2 - NO_EXCLUSION


# The tolerance


@given(values, positions, st.floats(0, 0.1), st.floats(1e-9, 0.1), st.floats(-0.999, 0.999))
def test_what_lies_within_the_tolerance_is_right(reference, position, rtol, atol, part):
    obtained = reference + part * (atol + rtol * abs(reference))
    verdict = check(
        result_of(at(position, obtained)),
        reference_of(at(position, reference)),
        rtol=rtol,
        atol=atol,
    ).verdict
    assert verdict is Verdict.RIGHT


@given(
    values,
    positions,
    st.floats(0, 0.1),
    st.floats(1e-9, 0.1),
    st.floats(1.001, 1e6) | st.floats(-1e6, -1.001),
)
def test_what_lies_outside_of_the_tolerance_is_wrong(reference, position, rtol, atol, part):
    obtained = reference + part * (atol + rtol * abs(reference))
    assume(not (excludes_nothing(obtained) and excludes_nothing(reference)))
    comparison = check(
        result_of(at(position, obtained)),
        reference_of(at(position, reference)),
        rtol=rtol,
        atol=atol,
    )
    assert comparison.verdict is Verdict.WRONG
    assert [row.within for row in comparison.rows] == [n != position for n in range(6)]
    row = comparison.rows[position]
    assert (row.label, row.obtained, row.reference) == (CLS_LABELS[position], obtained, reference)
    assert math.copysign(1, row.relative) == math.copysign(1, part) or reference == 0
    assert f"tolerance {rtol:g} relative, {atol:g} absolute" in comparison.explanation


@given(values, values, st.floats(0, 0.1), st.floats(0, 0.1))
def test_the_sign_does_not_matter(obtained, reference, rtol, atol):
    assume(not any(map(excludes_nothing, (obtained, reference))))
    verdicts = {
        check(
            result_of(at(2, sign * obtained)),
            reference_of(at(2, sign * reference)),
            rtol=rtol,
            atol=atol,
        ).verdict
        for sign in (1, -1)
    }
    assert len(verdicts) == 1


@given(st.floats(allow_nan=True, allow_infinity=True), positions)
def test_the_reference_itself_is_right(value, position):
    cls_values = at(position, value)
    comparison = check(result_of(cls_values), reference_of(cls_values), rtol=0.0, atol=0.0)
    assert comparison.verdict is Verdict.RIGHT


@given(values, st.sampled_from([math.inf, -math.inf]))
def test_an_infinite_value_is_right_for_itself_only(value, infinite):
    for obtained, reference in ((value, infinite), (infinite, value), (-infinite, infinite)):
        verdict = check(result_of(at(0, obtained)), reference_of(at(0, reference))).verdict
        assert verdict is Verdict.WRONG


@pytest.mark.parametrize("fit_setup", ["numpy+scipy", "jax+minuit", "certified"])
def test_the_tolerance_is_the_argument_else_the_files_else_the_default(fit_setup):
    def within(relative, reference=None, **options):
        reference = reference or reference_of()
        result = result_of(at(5, 0.16 * (1 + relative)))
        return check(result, reference, fit_setup=fit_setup, **options).verdict is Verdict.RIGHT

    default = DEFAULT_RTOL[fit_setup.rpartition("+")[2]] + DEFAULT_ATOL / 0.16
    assert within(0.99 * default)
    assert not within(1.01 * default)
    own = reference_of(tolerances={fit_setup: {"rtol": 0.05, "atol": 0.0}})
    assert within(0.049, own)
    assert not within(0.051, own)
    others = reference_of(tolerances={"other+scipy": {"rtol": 0.05, "atol": 1.0}})
    assert not within(0.049, others)
    assert not within(0.049, own, rtol=0.01)
    assert within(0.049, own, rtol=0.0, atol=0.01)


# What is not a number


@pytest.mark.parametrize("value", [math.nan, NO_EXCLUSION, 0.9999, 1.0])
def test_without_sensitivity_not_a_number_is_as_good_as_one(value):
    for obtained, reference in ((value, math.nan), (math.nan, value)):
        verdict = check(result_of(at(0, obtained)), reference_of(at(0, reference))).verdict
        assert verdict is Verdict.RIGHT


@given(st.floats(NO_EXCLUSION, 1.0), st.floats(NO_EXCLUSION, 1.0), positions)
def test_values_that_exclude_nothing_agree(obtained, reference, position):
    """With 3e-6 in twice the NLL SciPy has 0.9997574 for 1 where the signal is 0."""
    comparison = check(
        result_of(at(position, obtained)), reference_of(at(position, reference)), rtol=0.0
    )
    assert comparison.verdict is Verdict.RIGHT
    assert comparison.rows[position].indifferent


@given(st.floats(-1, NO_EXCLUSION, exclude_max=True), positions)
def test_with_sensitivity_not_a_number_is_wrong(value, position):
    comparison = check(result_of(at(position, math.nan)), reference_of(at(position, value)))
    assert comparison.verdict is Verdict.WRONG
    assert "CLs is not a number" in comparison.title
    comparison = check(result_of(at(position, value)), reference_of(at(position, math.nan)))
    assert comparison.verdict is Verdict.WRONG
    assert "CLs differs" in comparison.title


# Exceptions as answers


def test_the_expected_exception_is_right():
    reference = right_error()
    result = error_of("pyhf.exceptions.InvalidModel")
    assert error_matches(result, reference)
    comparison = check(result, reference)
    assert comparison.verdict is Verdict.RIGHT
    assert comparison.title.startswith("toy / toy_000: pyhf.exceptions.InvalidModel was raised")


@pytest.mark.parametrize(
    "raised", ["InvalidModel", "pytest_pyhf_faas.histfactory.errors.InvalidModel"]
)
def test_the_exception_of_another_program_is_the_same(raised):
    assert error_matches(error_of(raised), right_error())
    assert check(error_of(raised), right_error()).verdict is Verdict.RIGHT
    assert not error_matches(error_of("pyhf.exceptions.InvalidModelOfMine"), right_error())


def test_another_exception_is_wrong():
    reference = right_error()
    result = error_of("ValueError", "first line\nsecond line")
    assert not error_matches(result, reference)
    comparison = check(result, reference)
    assert comparison.verdict is Verdict.WRONG
    assert comparison.title.endswith("ValueError instead of pyhf.exceptions.InvalidModel")
    assert comparison.explanation == "first line"


def test_an_exception_instead_of_values_is_wrong():
    comparison = check(error_of("ValueError"), reference_of())
    assert comparison.verdict is Verdict.WRONG
    assert comparison.title.endswith("ValueError instead of CLs values")


def test_values_instead_of_the_right_exception_are_wrong():
    reference = right_error()
    assert not error_matches(result_of(), reference)
    comparison = check(result_of(), reference)
    assert comparison.verdict is Verdict.WRONG
    assert "fitted, though the right answer is pyhf.exceptions.InvalidModel" in comparison.title
    assert comparison.explanation == "obtained CLs_obs = 0.05"


@pytest.mark.parametrize("status", ["broken", "timeout", "cancelled"])
def test_a_fit_that_broke_never_matches_an_expected_exception(status):
    result = toy_result(TASK, status=status, error=FitError(status, "killed"))
    assert not error_matches(result, right_error(status))


def test_without_a_reference_nothing_is_compared():
    missing = Missing("there is no toy.json")
    assert not error_matches(error_of("ValueError"), missing)
    comparison = check(result_of(), missing)
    assert (comparison.verdict, comparison.rows) == (Verdict.NO_REFERENCE, ())
    assert comparison.title == "toy / toy_000: no reference"
    assert comparison.explanation == "there is no toy.json"
    assert comparison.ambiguous is None


def test_without_a_reference_an_ambiguous_result_is_reported_all_the_same():
    missing = Missing("there is no toy.json")
    comparison = check_certified(BOTH, missing)
    assert comparison.verdict is Verdict.NO_REFERENCE
    assert comparison.ambiguous.nominal == NOMINAL_VALUES
    astray = {**MINIMA, FREE: MINIMA[FIXED] + 1.0}
    comparison = check_certified(searched(LOWEST_VALUES, astray, NOMINAL), missing)
    assert comparison.verdict is Verdict.UNCONVERGED
    assert comparison.ambiguous.nominal == NOMINAL_VALUES


# What is known of a hypothesis


@pytest.mark.parametrize(
    ("fit_setup", "checked", "expected_s", "relative_s"),
    [
        ("numpy+minuit", {"numpy+scipy": 8.0, "numpy+minuit": 5.0}, 5.0, 8.0),
        ("jax+scipy", {"numpy+scipy": 8.0, "numpy+minuit": 5.0}, None, 8.0),
        ("jax+scipy", {"numpy+scipy": None, "numpy+minuit": 5.0}, None, 5.0),
        ("numpy+scipy", {"numpy+scipy": None}, None, 0.25),
        ("numpy+scipy", {}, None, 0.25),
        ("certified", {"numpy+scipy": 8.0}, 0.25, 8.0),
    ],
)
def test_a_fit_is_expected_to_take_what_its_own_fit_setup_took(
    fit_setup, checked, expected_s, relative_s
):
    notes = {
        name: {"set": "lowest"} | ({} if seconds is None else {"fit_s": seconds})
        for name, seconds in checked.items()
    }
    reference = replace(certified(), checked=notes, fit_s=0.25)
    assert reference.expected_s(fit_setup) == expected_s
    assert reference.relative_s() == relative_s


# The verdict

gaps = st.floats(-NLL_TOLERANCE * 0.99, NLL_TOLERANCE * 0.99)


def verdict_line(result, reference=None):
    """Return the verdict and the line that gives the reason."""
    comparison = check(result, certified() if reference is None else reference)
    return comparison.verdict, comparison.explanation.partition("\n")[0]


def words(fit):
    return fit.replace("_", " ")


def failed(fit, gap, above):
    text = f"verdict: the optimizer scipy failed: the {words(fit)} stopped {gap:g} above {above}"
    return Verdict.UNCONVERGED, text


PROOFS = {
    "a known minimum": (FREE_ASIMOV, {FREE_ASIMOV: 133.25}, {}),
    "the fit with the POI fixed": (FREE, {FREE: 113.25}, {}),
    "the fit with the POI at 0": (FREE, {FREE: 123.25, FIXED: 125.0}, {}),
    "the fit with the POI fixed.": (FREE_ASIMOV, {FREE_ASIMOV: 143.25}, {"truth": None}),
    **{
        f"a point that changing one parameter reaches{number * '.'}": (
            fit,
            {fit: MINIMA[fit] + 3.25},
            {"truth": None, "nearby": {fit: MINIMA[fit]}},
        )
        for number, fit in enumerate(FITS)
    },
}


@pytest.mark.parametrize("above", PROOFS)
def test_fits_that_contradict_each_other_need_no_reference(above):
    fit, twice_nll, options = PROOFS[above]
    expected = failed(fit, 3.25, above.rstrip("."))
    for cls_values in (WRONG_VALUES, VALUES):
        result = fitted(cls_values, twice_nll=twice_nll, **options)
        assert verdict_line(result) == expected
        assert verdict_line(result, Missing("there is no toy.json")) == expected
        # Nor does it help that the model changed.
        assert verdict_line(result, certified(twice_nll_off_minimum=149.0)) == expected
    comparison = check(result, Missing("there is no toy.json"))
    assert comparison.title == "toy / toy_000: unconverged, and there is no reference"
    assert comparison.explanation.endswith("\nthere is no toy.json")


@pytest.mark.parametrize("fit", FITS)
def test_a_fit_above_the_certified_minimum_has_failed(fit):
    result = fitted(twice_nll={fit: MINIMA[fit] + 3.25}, truth=None)
    assert verdict_line(result) == failed(fit, 3.25, f"the certified minimum {MINIMA[fit]:g}")
    comparison = check(replace(result, CLs_obs=VALUES[0]), certified())
    assert comparison.verdict is Verdict.UNCONVERGED
    assert comparison.title == "toy / toy_000: unconverged, though CLs agrees"


@given(
    st.sampled_from(FITS),
    st.floats(1e-3, 10),
    st.floats(1.001, 1e6),
    st.booleans(),
    st.booleans(),
    st.lists(gaps, min_size=5, max_size=5),
)
def test_a_fit_above_a_known_minimum_is_never_right(fit, threshold, times, agrees, nearby, others):
    others = [min(gap, 0.9 * threshold) for gap in others]
    fits = {name: MINIMA[name] + gap for name, gap in zip(FITS, others, strict=True)}
    raised = {**fits, fit: MINIMA[fit] + threshold * times}
    result = fitted(
        VALUES if agrees else WRONG_VALUES,
        twice_nll=raised,
        nearby={**raised, fit: MINIMA[fit]} if nearby else {},
    )
    references = [certified()]
    if nearby or fit == FREE_ASIMOV:  # what needs no reference
        references += [Missing("none"), certified(twice_nll_off_minimum=149.0)]
    for reference in references:
        comparison = check(result, reference, nll_tolerance=threshold)
        assert comparison.verdict is Verdict.UNCONVERGED
        assert "the optimizer scipy failed" in comparison.explanation


@given(st.lists(gaps, min_size=5, max_size=5), positions, st.floats(-1e-3, 1e-3), st.booleans())
def test_below_the_threshold_cls_alone_decides(changes, position, difference, changed):
    fits = {fit: MINIMA[fit] + gap for fit, gap in zip(FITS, changes, strict=True)}
    obtained = at(position, VALUES[position] + difference)
    reference = certified(twice_nll_off_minimum=149.0 if changed else 150.0)
    comparison = check(fitted(obtained, twice_nll=fits), reference)
    right = all(row.within for row in comparison.rows)
    assert right == math.isclose(
        obtained[position], VALUES[position], rel_tol=0, abs_tol=1e-6 + 1e-4 * VALUES[position]
    )
    assert comparison.verdict is (Verdict.RIGHT if right else Verdict.WRONG)


def test_the_threshold_is_an_option():
    result = fitted(VALUES, twice_nll={FIXED: 110.5})
    assert check(result, certified()).verdict is Verdict.UNCONVERGED
    assert check(result, certified(), nll_tolerance=0.6).verdict is Verdict.RIGHT


@pytest.mark.parametrize("cls_values", [VALUES, WRONG_VALUES], ids=["right", "wrong"])
@pytest.mark.parametrize("reference", [certified(), Missing("none")], ids=["reference", "missing"])
@pytest.mark.parametrize("fit", FITS)
def test_a_fit_whose_likelihood_is_not_a_number_is_named(fit, reference, cls_values):
    assert verdict_line(fitted(cls_values, twice_nll={fit: math.nan}), reference) == (
        Verdict.UNCONVERGED,
        f"verdict: the optimizer scipy failed: the twice-NLL of the {words(fit)} is not a number",
    )


@given(st.sampled_from(FITS), st.floats(-1e3, 1e3))
def test_a_changed_model_says_more_than_the_references_minima(fit, gap):
    fits = {**MINIMA, fit: MINIMA[fit] + gap}
    assume(fits[FREE] <= min(fits[FIXED], fits[BACKGROUND]) + NLL_TOLERANCE)
    assume(fits[FREE_ASIMOV] <= fits[FIXED_ASIMOV] + NLL_TOLERANCE)
    result = fitted(twice_nll=fits, truth=fits[FREE_ASIMOV], twice_nll_off_minimum=151.25)
    assert verdict_line(result) == (
        Verdict.WRONG,
        (
            "verdict: the model changed: away from any minimum its twice-NLL is 151.25 "
            "(reference: 150)"
        ),
    )


@pytest.mark.parametrize("rounding", [0.0, 1e-4])
def test_the_rounding_of_a_pallet_widens_the_check_of_the_model(rounding):
    for change in (1e-5, -1e-5, 1e-3):
        changed = (
            "the model changed"
            in verdict_line(
                fitted(twice_nll_off_minimum=150.0 + change), certified(rounding=rounding)
            )[1]
        )
        assert changed == (abs(change) > max(rounding, 1e-6))


def test_changed_asimov_data_are_reported_from_a_changed_model():
    changed = {FREE_ASIMOV: 135.0, FIXED_ASIMOV: 146.0}
    assert verdict_line(fitted(twice_nll=changed, truth=135.0)) == (
        Verdict.WRONG,
        (
            "verdict: the Asimov data changed: the fits to the observed data agree with the "
            "reference's, those to the Asimov data do not"
        ),
    )


def test_asimov_data_that_change_because_of_a_failed_fit_are_no_change():
    changed = {BACKGROUND: 123.0, FREE_ASIMOV: 135.0, FIXED_ASIMOV: 146.0}
    expected = failed(BACKGROUND, 3, "the certified minimum 120")
    assert verdict_line(fitted(twice_nll=changed, truth=135.0)) == expected


@given(st.lists(gaps, min_size=5, max_size=5))
def test_fits_that_agree_are_not_blamed(changes):
    fits = {fit: MINIMA[fit] + gap for fit, gap in zip(FITS, changes, strict=True)}
    verdict, line = verdict_line(fitted(twice_nll=fits))
    assert verdict is Verdict.WRONG
    worst = max(abs(fits[fit] - MINIMA[fit]) for fit in FITS)
    assert line == (
        "verdict: the formulae changed: the model and the five fits agree with the reference's "
        f"(within {worst:.1e} in twice-NLL), what is computed from them does not"
    )


def shipped():
    """The references of this repository, but for those that are exceptions."""
    for path in sorted(bundled_directory().glob("*.json")):
        for name, entry in json.loads(path.read_text())["patches"].items():
            if "error" not in entry:
                numbers = {key: float(entry[key]) for key in ("mu_hat", "rounding")}
                for minima in filter(None, (entry, entry.get("nominal"))):
                    cls_values = [float(value) for value in (minima["CLs_obs"], *minima["CLs_exp"])]
                    fits = {**numbers, "twice_nll": minima["twice_nll"]}
                    fits["mu_hat"] = float(minima["mu_hat"])
                    yield path.stem, name, cls_values, fits


def test_no_reference_here_contradicts_itself_and_a_changed_one_does():
    """But for 3L_eRJR, whose twice-NLL is rounded too coarsely to tell."""
    told = Counter()
    for pallet, name, (observed, *expected), fields in shipped():
        right, changed = (observed, *expected), (observed * 1.003 + 1e-5, *expected)
        for obtained, referred in ((changed, right), (right, changed)):
            result = result_of(
                obtained,
                mu_hat=fields["mu_hat"],
                twice_nll=fields["twice_nll"],
                twice_nll_nearby={},
                twice_nll_asimov_truth=fields["twice_nll"][FREE_ASIMOV],
            )
            verdict, line = verdict_line(result, reference_of(referred, **fields))
            assert verdict is Verdict.WRONG
            contradicts = line.startswith("verdict: the reference contradicts itself: its CLs is")
            assert not (contradicts and referred is right), (pallet, name)
            told[pallet] += contradicts
    assert told.pop("3L_eRJR") == 0
    assert min(told.values()) >= 1
    assert sum(told.values()) > 700


@pytest.mark.parametrize("fit", FITS)
def test_a_fit_below_the_references_says_so(fit):
    assert verdict_line(fitted(twice_nll={fit: MINIMA[fit] - 2.5})) == (
        Verdict.WRONG,
        (
            f"verdict: the {words(fit)} ends 2.5 below the reference's in twice-NLL: "
            "the reference is not the minimum"
        ),
    )


@pytest.mark.parametrize("tolerance", [0.001, 0.01, 0.5])
@pytest.mark.parametrize("fit", FITS)
def test_how_far_below_the_reference_is_what_the_run_tolerates(fit, tolerance):
    for share, below in ((1.1, True), (0.9, False)):
        result = fitted(twice_nll={fit: MINIMA[fit] - share * tolerance}, nearby={})
        comparison = check(result, certified(), nll_tolerance=tolerance)
        assert comparison.verdict is Verdict.WRONG
        assert ("the reference is not the minimum" in comparison.explanation) == below


@pytest.mark.parametrize("tolerance", [0.01, 0.5])
def test_which_asimov_data_are_the_same_is_what_the_run_tolerates(tolerance):
    for share, same in ((0.9, True), (1.1, False)):
        truth = MINIMA[FREE_ASIMOV] + share * tolerance
        fits = {FREE_ASIMOV: truth, FIXED_ASIMOV: MINIMA[FIXED_ASIMOV] + share * tolerance}
        comparison = check(
            fitted(twice_nll=fits, truth=truth, nearby={}), certified(), nll_tolerance=tolerance
        )
        assert ("the Asimov data changed" in comparison.explanation) != same
        kind = "known" if same else "not comparable"
        assert [comparison.places[fit].kind for fit in (FREE_ASIMOV, FIXED_ASIMOV)] == [kind] * 2


def test_a_reference_without_likelihoods_cannot_blame_a_fit():
    line = verdict_line(fitted(), certified(twice_nll={}, twice_nll_off_minimum=None))[1]
    assert line == "verdict: the reference has no twice-NLL to compare the fits with"


def test_what_agrees_needs_no_explanation():
    comparison = check(result_of(), reference_of())
    assert comparison.verdict is Verdict.RIGHT
    assert comparison.explanation == ""
    assert len(comparison.rows) == 6


# Known issues

ISSUE = KnownIssue("it stops where it started", "https://somewhere/1", cls_values=WRONG_VALUES)
ERROR_ISSUE = KnownIssue("it gives up", "https://somewhere/2", error="ValueError")


@pytest.mark.parametrize(
    ("issue", "result", "verdict"),
    [
        (ISSUE, fitted(), Verdict.KNOWN_ISSUE),
        (ISSUE, fitted(at(0, 0.9 * 1.009)), Verdict.KNOWN_ISSUE),
        (ISSUE, fitted(twice_nll={FIXED: 119.0}), Verdict.KNOWN_ISSUE),
        (ISSUE, fitted(VALUES), Verdict.FIXED),
        (ISSUE, fitted(at(0, 0.9 * 1.02)), Verdict.WRONG),
        (ISSUE, fitted(at(1, 0.02)), Verdict.WRONG),
        (ISSUE, fitted(at(0, math.nan)), Verdict.WRONG),
        (ISSUE, fitted(VALUES, twice_nll={FIXED: 119.0}), Verdict.UNCONVERGED),
        (ISSUE, error_of("ValueError"), Verdict.WRONG),
        (ERROR_ISSUE, error_of("ValueError"), Verdict.KNOWN_ISSUE),
        (ERROR_ISSUE, error_of("elsewhere.ValueError"), Verdict.KNOWN_ISSUE),
        (ERROR_ISSUE, error_of("MemoryError"), Verdict.WRONG),
        (ERROR_ISSUE, fitted(), Verdict.WRONG),
        (ERROR_ISSUE, fitted(VALUES), Verdict.FIXED),
    ],
)
def test_a_known_issue_is_reported_from_its_end_and_from_others(issue, result, verdict):
    known = certified(known_issues={"numpy+scipy": [issue]})
    comparison = check(result, known)
    assert comparison.verdict is verdict
    if verdict in (Verdict.KNOWN_ISSUE, Verdict.FIXED):
        assert issue.reason in comparison.title + comparison.explanation
        assert issue.link in comparison.title + comparison.explanation
    # It says nothing about other fit setups, nor about what asks for the plain truth.
    plain = repr(check(result, certified()))  # in which a nan is what it is
    assert repr(check(result, known, ignore_known_issues=True)) == plain
    assert repr(check(result, known, fit_setup="jax+scipy")) == plain


def test_a_known_issue_lends_no_tolerance():
    """A known issue is far off; what it was off by must not make any value right."""
    checked = {"numpy+scipy": {"set": "lowest", "cls": 0.87, "fit_s": 1.0}}
    known = certified(checked=checked, known_issues={"numpy+scipy": [ISSUE]})
    assert known.tolerance("numpy+scipy") == (DEFAULT_RTOL["scipy"], DEFAULT_ATOL)
    assert known.tolerance("jax+scipy") == (DEFAULT_RTOL["scipy"], DEFAULT_ATOL)
    assert check(fitted(at(0, 0.07)), known).verdict is Verdict.WRONG
    unknown = replace(known, known_issues={})
    assert unknown.tolerance("numpy+scipy") == (pytest.approx(2.61), DEFAULT_ATOL)


def test_a_known_exception_is_one_of_that_fit_setup_and_type():
    known = certified(known_issues={"numpy+scipy": [ERROR_ISSUE]})
    assert is_known_error(error_of("ValueError"), known, "numpy+scipy") is ERROR_ISSUE
    assert is_known_error(error_of("ValueError"), known, "numpy+minuit") is None
    assert is_known_error(error_of("KeyError"), known, "numpy+scipy") is None
    assert is_known_error(fitted(), known, "numpy+scipy") is None
    assert is_known_error(error_of("ValueError"), Missing("none"), "numpy+scipy") is None
    lost = toy_result(TASK, status="broken", error=FitError("broken", "killed"))
    assert is_known_error(lost, known, "numpy+scipy") is None


@pytest.mark.parametrize(
    ("pyhf", "has_it"),
    [
        ("0.7.0", True),
        ("0.7.6", True),
        ("0.7.1.dev398", False),  # pyhf's main branch in 2026
        ("0.8.0.dev1", False),
        ("0.8.0rc1", False),
        ("1.0", False),
        ("of somebody", True),  # it may have
        (None, True),
    ],
)
def test_a_known_issue_of_some_versions_of_pyhf(pyhf, has_it):
    """What is wrong with them is right with the others, and red where it is not."""
    issue = replace(ISSUE, pyhf="<=0.7.6")
    known = certified(known_issues={"numpy+scipy": [issue]})
    there = environment(versions={} if pyhf is None else {"pyhf": pyhf})
    wrong, right = (replace(fitted(*how), environment=there) for how in ((), (VALUES,)))
    verdicts = [check(result, known).verdict for result in (wrong, right)]
    expected = [Verdict.KNOWN_ISSUE, Verdict.FIXED] if has_it else [Verdict.WRONG, Verdict.RIGHT]
    assert verdicts == expected
    if has_it:
        assert "numpy+scipy with pyhf <=0.7.6" in check(wrong, known).title


def test_each_version_of_pyhf_may_have_its_own_issue():
    old, new = replace(ISSUE, pyhf="<=0.7.6"), replace(ERROR_ISSUE, pyhf=">0.7.6")
    known = certified(known_issues={"numpy+scipy": [old, new]})
    for pyhf, verdicts in (("0.7.6", "known issue/wrong"), ("0.8.0", "wrong/known issue")):
        there = environment(versions={"pyhf": pyhf})
        results = [replace(each, environment=there) for each in (fitted(), error_of("ValueError"))]
        assert "/".join(check(each, known).verdict.value for each in results) == verdicts


# The environment


def test_the_same_versions_are_said_to_be_the_same():
    line = environment_line(result_of(environment=environment()), reference_of())
    assert line == "worker toy: the versions are those of the reference"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"versions": {**ENVIRONMENT["versions"], "scipy": "1.16.0"}},
            "scipy 1.16.0 (reference: 1.15.3)",
        ),
        ({"python": "3.13.1"}, "python 3.13.1 (reference: 3.11.7)"),
        ({"optimizer": "minuit"}, "optimizer minuit (reference: scipy)"),
        ({"backend": "jax"}, "backend jax (reference: numpy)"),
    ],
)
def test_what_differs_on_the_worker_is_named(changes, text):
    line = environment_line(result_of(environment=environment(**changes)), reference_of())
    assert line == f"worker toy: {text}; everything else is equal"


def test_against_certified_minima_backend_and_optimizer_are_no_difference():
    how = {"method": "certified", "backend": "jax", "optimizer": "certified"}
    reference = reference_of(provenance={**PROVENANCE, **how})
    line = environment_line(result_of(environment=environment()), reference)
    assert line == "worker toy: the versions are those of the reference"


def test_several_differences_stand_in_one_line():
    versions = {**ENVIRONMENT["versions"], "scipy": "1.16.0", "numpy": "2.1.0", "jax": "0.4"}
    line = environment_line(result_of(environment=environment(versions=versions)), reference_of())
    # What plays no part in this fit is not mentioned.
    assert line == (
        "worker toy: numpy 2.1.0 (reference: 2.0.0), scipy 1.16.0 (reference: 1.15.3); "
        "everything else is equal"
    )


def test_without_an_environment_nothing_is_said():
    assert environment_line(result_of(environment=None), reference_of()) is None


def test_without_a_reference_only_the_worker_is_named():
    assert environment_line(result_of(), Missing("none")) == "worker toy"


# What a person reads


def test_the_table_has_the_shape_of_the_design():
    obtained = (0.04712345678, 0.001, math.nan, 0.04, 1e-12, 1.0)
    reference = (0.04712345677, 0.001024, 0.02, 0.04, 1e-12, 1.0)
    rows = check(result_of(obtained), reference_of(reference)).rows
    assert cls_table(rows) == [
        "                    obtained      reference   rel. diff",
        "CLs_obs          0.047123457    0.047123457     2.1e-10",
        "CLs_exp -2σ            0.001       0.001024    -2.3e-02  <--",
        "CLs_exp -1σ              nan           0.02         nan  <--",
        "CLs_exp                 0.04           0.04     0.0e+00",
        "CLs_exp +1σ            1e-12          1e-12     0.0e+00",
        "CLs_exp +2σ                1              1     0.0e+00",
    ]


OTHER_OPTIMIZER = (
    "try --faas-optimizer=minuit or other versions; 'pyhf-faas matrix --write' notes what stays "
    "wrong"
)
_BY_PROOF = {"provenance": {**PROVENANCE, "method": "certified"}}
_FOLLOWING = (
    {FREE: 100.0, FIXED: 103.0, BACKGROUND: 100.5, FREE_ASIMOV: 100.0, FIXED_ASIMOV: 104.0},
    0.4,
)


def following(shift=0.0):
    """Five fits, the POI of the free one, and the CLs values that follow from them."""
    fits, mu_hat = _FOLLOWING
    fits = {**fits, FIXED: fits[FIXED] + shift}
    return fits, mu_hat, asymptotics.cls_values("qtilde", 1.0, fits, mu_hat, 0.0)


def consistent(shift=0.0, **changes):
    fits, mu_hat, cls = following(shift)
    return run(cls, fits, mu_hat=mu_hat, **changes)


def consistent_reference(**changes):
    fits, mu_hat, cls = following()
    return reference_of(cls, twice_nll=fits, mu_hat=mu_hat, **{**_BY_PROOF, **changes})


@pytest.mark.parametrize(
    ("result", "reference", "said", "accepts"),
    [
        (fitted(twice_nll={FIXED: 109.0}, nearby={}), certified(**_BY_PROOF), "is not the", True),
        (fitted(), certified(twice_nll={}, **_BY_PROOF), "has no twice-NLL", True),
        (result_of(), right_error(), "obtained CLs_obs", True),
        (fitted(twice_nll_off_minimum=151.0), certified(), "model changed", True),
        (fitted(twice_nll_off_minimum=151.0), certified(**_BY_PROOF), "model changed", False),
        (fitted(), certified(**_BY_PROOF), "formulae changed", False),
        (fitted(asimov_poi=0.5), certified(**_BY_PROOF), "Asimov data changed", False),
        (consistent(1e-3), consistent_reference(), "optimizer scipy failed: its fits", False),
        (
            consistent(),
            consistent_reference(
                lowest=(wrong := replace(consistent_reference().lowest, CLs_obs=0.5)),
                nominal=wrong,
            ),
            "contradicts itself",
            True,
        ),
        (fitted(twice_nll={FIXED: 113.0}), certified(**_BY_PROOF), "stopped 3 above", False),
        (run(at(0, 0.03), {FIXED: 110.79}), two(**_BY_PROOF), "verdict: mixed", False),
        (AT_NOMINAL, two(**_BY_PROOF), "--faas-minimum=lowest accepts", False),
        (searched(LOWEST_VALUES, MINIMA), two(**_BY_PROOF), "the nominal minima changed", True),
    ],
)
def test_an_update_is_offered_where_it_may_be_right(result, reference, said, accepts):
    minimum = "lowest" if "faas-minimum" in said else "any"
    comparison = check(result, reference, minimum=minimum)
    assert said in comparison.explanation
    shown = failure_text(comparison, result, reference, "pytest --again")
    assert ("accept: --faas-update=changed" in shown) is accepts
    assert ("what to do: " in shown) is not accepts


@pytest.mark.parametrize("of_file", [{}, {"numpy+scipy": {"rtol": 1e-2}}])
def test_what_a_tight_tolerance_alone_refuses_is_no_failure_of_the_optimizer(of_file):
    shift = 1e-3 if of_file else 3e-5
    result, reference = consistent(shift), consistent_reference(tolerances=of_file)
    assert check(result, reference).verdict is Verdict.RIGHT
    comparison = check(result, reference, rtol=1e-9, atol=0.0)
    assert comparison.verdict is Verdict.WRONG
    usual = "0.01" if of_file else "0.0001"
    assert comparison.explanation.splitlines() == [
        (
            f"verdict: within what this backend and optimizer can do (tolerance {usual} relative, "
            "1e-06 absolute), but beyond the tolerance asked for"
        ),
        "tolerance 1e-09 relative, 0 absolute",
    ]
    assert "failed" not in failure_text(comparison, result, reference, "pytest --again")


@given(st.lists(st.floats(1e-300, 1), min_size=6, max_size=6), st.floats(-0.5, 0.5))
def test_the_columns_of_the_table_stay_in_line(cls_values, relative):
    obtained = tuple(value * (1 + relative) for value in cls_values)
    header, *lines = cls_table(check(result_of(obtained), reference_of(tuple(cls_values))).rows)
    ends = [header.index(title) + len(title) for title in ("obtained", "reference", "rel. diff")]
    for line in lines:
        body = line.removesuffix("  <--")
        assert len(body) == ends[-1]
        assert all(body[end - 1] != " " and body[end : end + 1] in ("", " ") for end in ends)


@pytest.mark.parametrize(
    ("raised", "verdict", "remedy", "accept"),
    [
        (
            8.82,
            "verdict: the optimizer scipy failed: the free fit to asimov stopped 8.82 above",
            [f"  what to do: {OTHER_OPTIMIZER}"],
            [],
        ),
        (
            0.0,
            "verdict: the formulae changed: ",
            [],
            ["  accept: --faas-update=changed  (reference_results/toy.json)"],
        ),
    ],
    ids=["unconverged", "wrong"],
)
def test_a_failure_reads_like_the_design(raised, verdict, remedy, accept):
    result = fitted(
        at(1, 0.0123),
        twice_nll={FREE_ASIMOV: MINIMA[FREE_ASIMOV] + raised},
        environment=environment(versions={**ENVIRONMENT["versions"], "scipy": "1.16.0"}),
    )
    reference = certified()
    text = failure_text(check(result, reference), result, reference, "pytest --again")
    lines = text.splitlines()
    assert lines[0] == "toy / toy_000: CLs differs from the reference"
    assert lines[1].split() == ["obtained", "reference", "rel.", "diff"]
    assert lines[2].startswith("  CLs_obs ")
    assert lines[3].endswith("  <--")
    assert lines[8].startswith(f"  {verdict}")
    assert lines[9:] == [
        "  tolerance 0.0001 relative, 1e-06 absolute",
        "  worker toy: scipy 1.16.0 (reference: 1.15.3); everything else is equal",
        *remedy,  # what has not converged must not be accepted
        "  rerun:  pytest --again",
        *accept,
    ]


@given(values, values)
def test_the_relative_difference_is_of_the_reference(obtained, reference):
    assume(reference)
    row = check(result_of(at(3, obtained)), reference_of(at(3, reference))).rows[3]
    assert row.relative == pytest.approx((obtained - reference) / abs(reference))


def test_a_difference_from_zero_is_infinite_and_of_nothing_is_nothing():
    rows = check(result_of(at(3, 0.5)), reference_of(at(3, 0.0))).rows
    assert rows[3].relative == math.inf
    assert replace(rows[3], obtained=0.0).relative == 0.0
    assert replace(rows[3], obtained=math.nan, reference=math.nan).relative == 0.0


# Two sets of minima

MIXED = (
    "verdict: mixed: the fits are at minima of no consistent set, so that the ratio of their "
    "likelihoods has no meaning"
)


@pytest.mark.parametrize(
    ("result", "at", "values"),
    [(AT_LOWEST, "lowest", LOWEST_VALUES), (AT_NOMINAL, "nominal", NOMINAL_VALUES)],
    ids=["lowest", "nominal"],
)
def test_either_set_of_minima_is_right_and_the_other_is_reported(result, at, values):
    comparison = check(result, two())
    assert (comparison.verdict, comparison.at) == (Verdict.RIGHT, at)
    assert comparison.title == f"toy / toy_000: CLs agrees with the reference at the {at} minima"
    assert tuple(row.reference for row in comparison.rows) == values
    assert comparison.explanation.splitlines() == [
        (
            "ambiguous: CLs_obs is 0.0684 at the lowest and 0.0435 at the nominal minima; excluded "
            "only at the nominal ones"
        ),
        (
            "they differ most in the fixed poi fit to data, by 0.79 in twice-NLL: mu_W 0 (nominal: "
            "1.02), alpha_jes 0.25 (nominal: 0.1)"
        ),
        "at a bound in one of them: mu_W",
    ]
    ambiguous = comparison.ambiguous
    assert (ambiguous.lowest, ambiguous.nominal) == (LOWEST_VALUES, NOMINAL_VALUES)
    assert (ambiguous.gap, ambiguous.fit, ambiguous.flips) == (0.79, FIXED, True)
    assert [each["name"] for each in ambiguous.parameters] == ["mu_W", "alpha_jes"]
    assert ambiguous.at_bound == ("mu_W",)


def test_where_the_two_are_one_nothing_is_ambiguous():
    comparison = check(fitted(VALUES), certified())
    assert (comparison.at, comparison.ambiguous, comparison.explanation) == ("both", None, "")


@pytest.mark.parametrize(
    ("lowest", "nominal", "flips"),
    [
        (0.0684, 0.0435, True),
        (0.0435, 0.0684, True),
        (0.04, 0.03, False),
        (0.06, 0.07, False),
        (0.05, 0.0499, True),
        (math.nan, 0.01, True),
        (math.nan, 0.2, False),
    ],
)
def test_an_exclusion_flips_where_one_of_the_two_excludes(lowest, nominal, flips):
    reference = two((lowest, *LOWEST_VALUES[1:]), (nominal, *NOMINAL_VALUES[1:]))
    assert reference.flips is flips
    ambiguous = check(AT_LOWEST, reference).ambiguous
    assert ambiguous.flips is flips
    assert ("only" in ambiguous.lines[0]) is flips


@given(st.lists(st.booleans(), min_size=3, max_size=3), st.lists(gaps, min_size=5, max_size=5))
def test_only_five_fits_of_one_set_are_right(nominal, offsets):
    fits = {
        fit: (NOMINAL if there else MINIMA)[fit] + offset
        for fit, there, offset in zip((FREE, FIXED, BACKGROUND), nominal, offsets, strict=False)
    }
    asimov = NOMINAL if nominal[2] else MINIMA
    fits |= {FREE_ASIMOV: asimov[FREE_ASIMOV], FIXED_ASIMOV: asimov[FIXED_ASIMOV] + offsets[4]}
    _free, fixed, background = nominal  # whose free fits are one
    for cls_values, name in ((LOWEST_VALUES, "lowest"), (NOMINAL_VALUES, "nominal")):
        comparison = check(run(cls_values, fits), two())
        if fixed != background:
            assert (comparison.verdict, comparison.at) == (Verdict.MIXED, "none")
        elif fixed == (name == "nominal"):
            assert (comparison.verdict, comparison.at) == (Verdict.RIGHT, name)
        else:
            assert (comparison.verdict, comparison.at) == (Verdict.WRONG, "none")


def test_mixed_minima_are_reported_fit_by_fit():
    comparison = check(run(at(0, 0.03), {FIXED: NOMINAL[FIXED]}), two())
    assert comparison.verdict is Verdict.MIXED
    assert comparison.title == "toy / toy_000: CLs differs from the reference"
    assert comparison.explanation.splitlines()[:5] == [
        MIXED,
        "at the lowest minimum, which is the nominal one: free fit to data",
        "at the nominal minimum, 0.79 above the lowest: fixed poi fit to data",
        (
            "at the lowest minimum: background fit to data, free fit to asimov, fixed poi fit to "
            "asimov"
        ),
        "tolerance 0.0001 relative, 1e-06 absolute",
    ]
    agreeing = check(run(LOWEST_VALUES, {FIXED: NOMINAL[FIXED]}), two())
    assert agreeing.verdict is Verdict.MIXED
    assert agreeing.title.endswith("at minima of no consistent set, though CLs agrees")


def test_a_known_minimum_of_no_set_is_named():
    comparison = check(run(at(0, 0.03), {FIXED: MINIMA[FIXED] + 0.895}), two())
    assert comparison.verdict is Verdict.MIXED
    assert (
        "at another known minimum, 0.895 above the lowest: fixed poi fit to data"
        in comparison.explanation
    )
    # Where the nominal minima are the lowest as well.
    other = check(fitted(twice_nll={FIXED: MINIMA[FIXED] + 3.2}), certified(minima={FIXED: (3.2,)}))
    assert other.verdict is Verdict.MIXED
    assert other.explanation.splitlines()[1:3] == [
        (
            "at the lowest minimum, which is the nominal one: free fit to data, background fit to "
            "data, free fit to asimov, fixed poi fit to asimov"
        ),
        "at another known minimum, 3.2 above the lowest: fixed poi fit to data",
    ]
    assert other.places[FIXED].kind == "other"


def test_asimov_data_of_no_set_cannot_be_compared():
    """The background fit made them, at a minimum that is known, but of no set."""
    fits = {BACKGROUND: MINIMA[BACKGROUND] + 0.9, FREE_ASIMOV: 133.0, FIXED_ASIMOV: 149.0}
    comparison = check(run(at(0, 0.03), fits), two())
    assert comparison.verdict is Verdict.MIXED
    lines = comparison.explanation.splitlines()
    assert "at another known minimum, 0.9 above the lowest: background fit to data" in lines
    assert "to other Asimov data: free fit to asimov, fixed poi fit to asimov" in lines


def test_a_fit_above_every_known_minimum_is_reported_with_the_others():
    comparison = check(run(at(0, 0.03), {**NOMINAL, FIXED: 110.4}), two())
    assert comparison.verdict is Verdict.UNCONVERGED
    assert comparison.explanation.splitlines()[:4] == [
        (
            "verdict: the optimizer scipy failed: the fixed poi fit to data stopped 0.4 above the "
            "certified minimum 110"
        ),
        "at the lowest minimum, which is the nominal one: free fit to data",
        "at no known minimum, 0.4 above the lowest: fixed poi fit to data",
        "at the nominal minimum, 0.3 above the lowest: background fit to data",
    ]
    assert "at the nominal minimum: free fit to asimov, fixed poi" in comparison.explanation


def test_fits_astray_are_listed_where_there_are_several():
    one = check(fitted(twice_nll={FIXED: 111.0}), certified())
    several = check(fitted(twice_nll={FIXED: 111.0, BACKGROUND: 121.0}), certified())
    assert "at no known" not in one.explanation
    assert "at no known minimum, 1 above the lowest: fixed" in several.explanation
    assert "which is the nominal one: free fit to data, free fit to asim" in several.explanation


def test_a_fit_below_a_nominal_minimum_is_of_no_set():
    """The lowest one of these Asimov data is not known."""
    comparison = check(run(at(0, 0.03), {**NOMINAL, FIXED_ASIMOV: 141.0}), two())
    assert comparison.verdict is Verdict.MIXED
    assert "below the nominal minimum: fixed poi fit to asimov" in comparison.explanation


def test_a_fit_below_the_lowest_minimum_refutes_the_reference():
    comparison = check(run(at(0, 0.03), {**NOMINAL, FIXED: 109.0}), two())
    assert comparison.verdict is Verdict.WRONG
    assert comparison.explanation.startswith(
        "verdict: the fixed poi fit to data ends 1 below the reference's in twice-NLL: the "
        "reference is not the minimum"
    )


def test_minima_of_the_background_that_are_close_are_distinguished_by_the_asimov_data():
    close_by = {**NOMINAL, BACKGROUND: MINIMA[BACKGROUND] + 0.004}
    reference = two(at_nominal=close_by, minima={})
    assert check(run(NOMINAL_VALUES, close_by), reference).at == "nominal"
    assert check(run(LOWEST_VALUES, MINIMA), reference).at == "lowest"
    mixed = {**close_by, FIXED: MINIMA[FIXED], BACKGROUND: MINIMA[BACKGROUND] + 0.002}
    assert check(run(at(0, 0.03), mixed), reference).verdict is Verdict.MIXED
    # Of Asimov data that are those of neither nothing is said.
    other = {BACKGROUND: MINIMA[BACKGROUND] + 0.002, FREE_ASIMOV: 130.5, FIXED_ASIMOV: 140.5}
    assert check(run(LOWEST_VALUES, other), reference).at == "lowest"


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_of_two_sets_that_fit_the_one_with_the_nearer_cls_counts(share):
    """Their minima are closer to each other than the threshold."""
    near = {**MINIMA, FIXED: MINIMA[FIXED] + 0.008}
    reference = two(at_nominal=near, minima={})
    values = [a + share * (b - a) for a, b in zip(LOWEST_VALUES, NOMINAL_VALUES, strict=True)]
    result = run(values, {FIXED: MINIMA[FIXED] + 0.004})
    comparison = check(result, reference, rtol=0.2)
    assert comparison.verdict is Verdict.RIGHT
    assert comparison.at == ("lowest" if share < 0.5 else "nominal")
    assert check(result, reference, rtol=1.0).at == "both"  # nothing tells which
    assert check(result, reference).verdict is Verdict.WRONG


def test_a_fit_that_is_clearly_at_a_close_minimum_of_no_set_is_named():
    reference = certified(minima={BACKGROUND: (0.005,)})
    result = fitted(twice_nll={BACKGROUND: MINIMA[BACKGROUND] + 0.005}, truth=130.5)
    comparison = check(result, reference)
    assert comparison.verdict is Verdict.MIXED
    assert "nearest to another minimum than the lowest one: background" in comparison.explanation
    assert comparison.elsewhere == (BACKGROUND,)
    # CLs comes first: a fit may end a little off.
    assert check(replace(result, CLs_obs=VALUES[0]), reference).verdict is Verdict.RIGHT
    assert check(fitted(twice_nll={BACKGROUND: 120.004}), reference).elsewhere == ()


def test_what_moving_one_parameter_finds_blames_no_fit_at_a_nominal_minimum():
    nearby = {FIXED: MINIMA[FIXED]}
    assert check(run(NOMINAL_VALUES, NOMINAL, nearby=nearby), two()).at == "nominal"
    below = run(NOMINAL_VALUES, NOMINAL, nearby={FIXED: MINIMA[FIXED] - 1})
    assert check(below, two()).verdict is Verdict.UNCONVERGED
    assert check(run(LOWEST_VALUES, MINIMA, nearby={FIXED: 109.0}), two()).verdict is (
        Verdict.UNCONVERGED
    )


def test_a_changed_model_is_right_where_cls_is_that_of_a_set():
    """The minima of another model say nothing."""
    changes = {"twice_nll_off_minimum": 151.0}
    for values, at_set in ((LOWEST_VALUES, "lowest"), (NOMINAL_VALUES, "nominal")):
        comparison = check(run(values, {FIXED: 111.3}, **changes), two())
        assert (comparison.verdict, comparison.at) == (Verdict.RIGHT, at_set)
    comparison = check(run(at(0, 0.03), {}, **changes), two())
    assert comparison.explanation.startswith("verdict: the model changed: ")


# --faas-minimum


@pytest.mark.parametrize(
    ("result", "minimum", "right"),
    [
        (AT_LOWEST, "any", True),
        (AT_NOMINAL, "any", True),
        (AT_LOWEST, "lowest", True),
        (AT_NOMINAL, "nominal", True),
        (AT_LOWEST, "nominal", False),
        (AT_NOMINAL, "lowest", False),
    ],
)
def test_one_set_may_be_asked_for(result, minimum, right):
    comparison = check(result, two(), minimum=minimum)
    at_set = "lowest" if result is AT_LOWEST else "nominal"
    assert comparison.at == at_set
    assert comparison.verdict is (Verdict.RIGHT if right else Verdict.WRONG)
    if not right:
        assert (
            comparison.title == f"toy / toy_000: at the {at_set} minima, not at the {minimum} ones"
        )
        assert comparison.explanation.startswith(
            f"verdict: all five fits are at the {at_set} minima and CLs agrees there, but "
            f"--faas-minimum={minimum} accepts only the {minimum} ones\nambiguous: "
        )
        expected = LOWEST_VALUES if minimum == "lowest" else NOMINAL_VALUES
        assert tuple(row.reference for row in comparison.rows) == expected
        # An update makes no other minimum of it.
        assert "accept:" not in failure_text(comparison, result, two(), "pytest --again")


@pytest.mark.parametrize("minimum", ["any", "lowest", "nominal"])
def test_where_the_two_are_one_it_is_all_the_same(minimum):
    assert check(fitted(VALUES), certified(), minimum=minimum).verdict is Verdict.RIGHT
    assert check(fitted(), certified(), minimum=minimum).verdict is Verdict.WRONG


def test_a_reference_that_has_the_lowest_minima_alone():
    reference = certified(nominal_is_known=False, minima={FIXED: (0.79,)})
    for minimum in ("any", "lowest"):
        comparison = check(fitted(VALUES), reference, minimum=minimum)
        assert (comparison.verdict, comparison.at) == (Verdict.RIGHT, "lowest")
    comparison = check(fitted(VALUES), reference, minimum="nominal")
    assert comparison.verdict is Verdict.NO_REFERENCE
    assert comparison.title == "toy / toy_000: no reference at the nominal minima"
    shown = no_reference_text(comparison, fitted(VALUES))
    assert shown.splitlines()[-1] == "  make it: --faas-update=all, which adds the nominal ones"
    missing = Missing("there is no toy.json")
    shown = no_reference_text(check(fitted(VALUES), missing), fitted(VALUES))
    assert shown.splitlines()[-1] == "  make it: --faas-update=new"
    assert check(fitted(twice_nll={FIXED: 110.79}), reference).verdict is Verdict.MIXED


# Certified results


def check_certified(result, reference, **options):
    return check(result, reference, fit_setup="certified", **options)


def test_a_certified_result_is_compared_at_both_sets():
    comparison = check_certified(BOTH, two())
    assert (comparison.verdict, comparison.at) == (Verdict.RIGHT, "both")
    assert comparison.title == "toy / toy_000: CLs agrees with the reference at both sets of minima"
    assert tuple(row.obtained for row in comparison.rows) == LOWEST_VALUES
    comparison = check_certified(BOTH, two(), minimum="nominal")
    assert (comparison.verdict, comparison.at) == (Verdict.RIGHT, "nominal")
    assert tuple(row.obtained for row in comparison.rows) == NOMINAL_VALUES
    assert tuple(row.reference for row in comparison.rows) == NOMINAL_VALUES
    assert check_certified(BOTH, two(), minimum="lowest").at == "lowest"
    one = check_certified(searched(VALUES, MINIMA), certified())
    assert (one.verdict, one.at, one.ambiguous) == (Verdict.RIGHT, "both", None)


def test_other_nominal_minima_are_wrong_unless_the_lowest_are_asked_for():
    other = {**NOMINAL, FIXED: 110.895}
    for result, reference in (
        (searched(LOWEST_VALUES, MINIMA, other), two()),
        (searched(LOWEST_VALUES, MINIMA), two()),
        (searched(VALUES, MINIMA, NOMINAL), certified()),
    ):
        comparison = check_certified(result, reference)
        assert comparison.verdict is Verdict.WRONG
        assert comparison.title.endswith("CLs at the nominal minima differs from the reference")
        assert "the nominal minima changed, in twice-NLL: " in comparison.explanation
        gap = result.nominal.twice_nll[FIXED] - reference.nominal.twice_nll[FIXED]
        assert f"fixed poi fit to data {gap:+.3g}" in comparison.explanation
        assert comparison.at == "none"
        assert len(comparison.rows) == 6
        assert comparison.ambiguous is not None
        assert check_certified(result, reference, minimum="lowest").verdict is Verdict.RIGHT
        assert check_certified(result, reference, minimum="nominal").verdict is Verdict.WRONG


def test_where_cls_cannot_be_recomputed_no_formulae_are_blamed():
    result = replace(fitted(at(1, 0.0123)), mu_hat=None)
    text = check(
        result, replace(certified(), lowest=replace(certified().lowest, mu_hat=None))
    ).explanation
    assert "the formulae changed, or the fits are a little off" in text
    assert "cannot be checked" in text


def test_nominal_minima_whose_cls_does_not_follow_are_explained():
    result = searched(LOWEST_VALUES, MINIMA, NOMINAL, nominal_values=at(0, 0.03))
    comparison = check_certified(result, two())
    assert comparison.verdict is Verdict.WRONG
    assert "verdict: the formulae changed: " in comparison.explanation


def test_a_search_that_misses_the_lowest_minima_has_failed():
    comparison = check_certified(searched(NOMINAL_VALUES, NOMINAL), two())
    assert comparison.verdict is Verdict.UNCONVERGED
    assert comparison.title == "toy / toy_000: the search ended at the nominal minima"
    failed = "verdict: the certified search failed: the fixed poi fit to data "
    assert comparison.explanation.startswith(
        f"{failed}ended 0.79 above the lowest minimum, at another one"
    )
    # Nor is another known one right, however little higher.
    for gap in (0.895, 0.005):
        result = searched(at(0, 0.03), {FIXED: MINIMA[FIXED] + gap})
        comparison = check_certified(result, certified(minima={FIXED: (0.005, 0.895)}))
        assert comparison.verdict is Verdict.UNCONVERGED
        assert comparison.explanation.startswith(f"{failed}ended {gap} above the lowest minimum")
    comparison = check_certified(searched(at(0, 0.03), {FIXED: 110.5}), certified())
    assert comparison.explanation.startswith(f"{failed}stopped 0.5 above the certified minimum 110")


def test_a_search_that_finds_a_lower_minimum_refutes_the_reference():
    comparison = check_certified(searched(at(0, 0.03), {FIXED: 109.995}), certified())
    assert comparison.verdict is Verdict.WRONG
    assert comparison.explanation.startswith(
        "verdict: the fixed poi fit to data ends 0.005 below the reference's in twice-NLL: the "
        "reference is not the minimum"
    )
    coarse = certified(rounding=0.0087)
    comparison = check_certified(searched(at(0, 0.03), {FIXED: 109.995}), coarse)
    assert "the reference is not the minimum" not in comparison.explanation


def test_of_a_reference_without_nominal_minima_the_lowest_are_compared():
    reference = certified(lowest=minima_of(LOWEST_VALUES, MINIMA), nominal_is_known=False)
    reference = replace(reference, nominal=reference.lowest)
    comparison = check_certified(BOTH, reference)
    assert (comparison.verdict, comparison.at) == (Verdict.RIGHT, "lowest")
    assert comparison.ambiguous.nominal == NOMINAL_VALUES
    assert check_certified(BOTH, reference, minimum="nominal").verdict is Verdict.NO_REFERENCE


@pytest.mark.parametrize(
    ("result", "reference", "changed"),
    [
        (BOTH, two(), False),
        (searched(VALUES, MINIMA), certified(), False),
        (searched(VALUES, MINIMA), certified(nominal_is_known=False), False),
        (searched(VALUES, MINIMA, NOMINAL), certified(nominal_is_known=False), True),
        (searched(VALUES, MINIMA, NOMINAL), certified(), True),
        (searched(LOWEST_VALUES, MINIMA), two(), True),
        (searched(VALUES, {FIXED: 109.999}), certified(), True),
        (searched(LOWEST_VALUES, MINIMA, {**NOMINAL, FIXED: 110.8}), two(), True),
        (searched(at(0, 0.050001), MINIMA), certified(), True),
        (searched(VALUES, MINIMA), Missing("none"), False),
        (error_of("InvalidModel"), certified(), False),
    ],
)
def test_sets_that_moved_are_reported_from_those_that_did_not(result, reference, changed):
    assert moved(result, reference) is changed


# Where a fit setup was before


@pytest.mark.parametrize(
    ("before", "result", "was_at"),
    [
        ("lowest", AT_NOMINAL, "lowest"),
        ("nominal", AT_LOWEST, "nominal"),
        ("nominal", AT_NOMINAL, None),
        ("both", AT_NOMINAL, None),
        ("none", AT_NOMINAL, None),
        ("lowest", run(at(0, 0.03), {FIXED: NOMINAL[FIXED]}), None),
        (None, AT_NOMINAL, None),
    ],
)
def test_another_set_than_before_is_reported_and_no_failure(before, result, was_at):
    found = {"fit_s": 1.0, "cls": 1e-6} | ({} if before is None else {"set": before})
    comparison = check(result, two(checked={"numpy+scipy": found}))
    assert comparison.was_at == was_at
    line = (
        f"numpy+scipy was at the {before} minima when it was last checked, and is at the "
        f"{comparison.at} ones now"
    )
    assert (line in comparison.explanation.splitlines()) is (was_at is not None)
    if was_at:
        assert comparison.verdict is Verdict.RIGHT
        other = check(result, two(checked={"jax+scipy": found}))
        assert other.was_at is None


def test_what_was_far_off_widens_no_tolerance():
    for found in ({"set": "none", "cls": 0.9}, {"set": "lowest", "cls": 1e-6}):
        assert two(checked={"numpy+scipy": found}).tolerance("numpy+scipy") == (1e-4, 1e-6)
    found = {"set": "nominal", "cls": 0.01}
    assert two(checked={"numpy+scipy": found}).tolerance("numpy+scipy") == (0.03, 1e-6)


def test_a_known_issue_is_what_is_at_no_consistent_set():
    issue = KnownIssue("mixed minima", "https://somewhere/3", cls_values=NOMINAL_VALUES)
    reference = two(known_issues={"numpy+scipy": [issue]})
    mixed = run(NOMINAL_VALUES, {FIXED: NOMINAL[FIXED]})
    comparison = check(mixed, reference)
    assert (comparison.verdict, comparison.at) == (Verdict.KNOWN_ISSUE, "none")
    assert comparison.ambiguous is not None
    assert check(AT_NOMINAL, reference).verdict is Verdict.FIXED
    assert check(AT_LOWEST, reference).verdict is Verdict.FIXED


def test_a_set_that_contradicts_itself_is_reported():
    """Each CLs here is made up, and follows from no fits."""
    nominal = minima_of(NOMINAL_VALUES, NOMINAL, mu_hat=0.1)
    comparison = check(run(at(0, 0.03), NOMINAL), replace(two(), nominal=nominal))
    assert comparison.explanation.startswith(
        "verdict: the reference contradicts itself: its CLs at the nominal minima is not what "
        "follows from its own five fits"
    )


def test_the_summary_counts_ambiguous_hypotheses():
    def one(patch, at_set, **changes):
        names = {"pallet": "toy", "fit_setup": "numpy+scipy", "patch": patch, "at": at_set}
        values = {"lowest": 0.0684, "nominal": 0.0435, "flips": False, "was_at": None}
        return {**names, **values, **changes}

    made = [one(f"p{number}", "nominal", flips=True) for number in range(7)]
    made += [one("q", "lowest", was_at="nominal"), one("r", "none"), one("s", None)]
    assert ambiguous_lines(made) == [
        (
            "ambiguous: 10 hypotheses of toy with two sets of minima; numpy+scipy: 1 at the "
            "lowest, 7 at the nominal, 1 at neither, 1 not compared"
        ),
        "  an exclusion depends on it for "
        + ", ".join(f"p{n} (CLs_obs 0.0684 lowest, 0.0435 nominal)" for n in range(5))
        + ", and 2 more",
        "  at other minima than when last checked: q (was nominal)",
    ]
    assert ambiguous_lines([]) == []
    assert len(ambiguous_lines([one("a", "lowest"), one("b", "lowest", fit_setup="jax")])) == 2


@pytest.mark.parametrize(
    ("obtained", "reference", "relative"),
    [
        (math.inf, math.inf, 0),
        (math.nan, math.nan, 0),
        (2.0, math.inf, -math.inf),
        (math.inf, 2.0, math.inf),
        (2.0, 0.0, math.inf),
        (1.0, 2.0, -0.5),
    ],
)
def test_the_relative_difference_is_a_number_where_a_limit_is_none(obtained, reference, relative):
    assert Row("limit_obs", obtained, reference, True).relative == relative
