from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scripted_engine import ENVIRONMENT, toy_result, toy_tasks

from pytest_pyhf_faas.compare import (
    NO_EXCLUSION,
    UNCONVERGED,
    Verdict,
    compare,
    environment_line,
    error_matches,
    is_known_error,
    table,
)
from pytest_pyhf_faas.reference import (
    DEFAULT_ATOL,
    DEFAULT_RTOL,
    KnownIssue,
    Missing,
    PatchReference,
    bundled_directory,
)
from pytest_pyhf_faas.report.terminal import failure_text
from pytest_pyhf_faas.results import CLS_LABELS, FITS, FitError, WorkerEnvironment

(TASK,) = toy_tasks(1)
VALUES = (0.05, 0.01, 0.02, 0.04, 0.08, 0.16)
PROVENANCE = {
    "method": "hypotest",
    "backend": "numpy",
    "optimizer": "scipy",
    "date": "2026-11-22",
    "versions": {"python": "3.11.7", **ENVIRONMENT["versions"]},
}

values = st.floats(-10, 10)
positions = st.integers(0, 5)


def result_of(cls_values=VALUES, **changes):
    return toy_result(TASK, CLs_obs=cls_values[0], CLs_exp=tuple(cls_values[1:]), **changes)


def reference_of(cls_values=VALUES, **changes):
    fields = {
        "pallet": "toy",
        "patch": TASK.patch.name,
        "path": Path("somewhere/reference_results/toy.json"),
        "provenance": PROVENANCE,
        "CLs_obs": cls_values[0],
        "CLs_exp": tuple(cls_values[1:]),
        "twice_nll": dict.fromkeys(FITS, 100.0),
        "twice_nll_off_minimum": 150.0,
    }
    return PatchReference(**{**fields, **changes})


def at(position, value):
    """The six values with one of them replaced."""
    return tuple(value if number == position else old for number, old in enumerate(VALUES))


def error_of(kind, message="because"):
    error = FitError(kind, message)
    return toy_result(TASK, status="error", error=error, CLs_obs=None, CLs_exp=())


def check(result, reference, **options):
    return compare(result, reference, **{"combination": "numpy+scipy", **options})


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


@pytest.mark.parametrize("combination", ["numpy+scipy", "jax+minuit", "certified"])
def test_the_tolerance_is_the_argument_else_the_files_else_the_default(combination):
    def within(relative, reference=None, **options):
        reference = reference or reference_of()
        result = result_of(at(5, 0.16 * (1 + relative)))
        return check(result, reference, combination=combination, **options).verdict is Verdict.RIGHT

    default = DEFAULT_RTOL[combination.rpartition("+")[2]] + DEFAULT_ATOL / 0.16
    assert within(0.99 * default)
    assert not within(1.01 * default)
    own = reference_of(tolerances={combination: {"rtol": 0.05, "atol": 0.0}})
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
    reference = reference_of(CLs_obs=None, CLs_exp=(), error="pyhf.exceptions.InvalidModel")
    result = error_of("pyhf.exceptions.InvalidModel")
    assert error_matches(result, reference)
    comparison = check(result, reference)
    assert comparison.verdict is Verdict.RIGHT
    assert comparison.title.startswith("toy / toy_000: pyhf.exceptions.InvalidModel is the right")


def test_another_exception_is_wrong():
    reference = reference_of(CLs_obs=None, CLs_exp=(), error="pyhf.exceptions.InvalidModel")
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
    reference = reference_of(CLs_obs=None, CLs_exp=(), error="pyhf.exceptions.InvalidModel")
    assert not error_matches(result_of(), reference)
    comparison = check(result_of(), reference)
    assert comparison.verdict is Verdict.WRONG
    assert "fitted, though the right answer is pyhf.exceptions.InvalidModel" in comparison.title
    assert comparison.explanation == "obtained CLs_obs = 0.05"


@pytest.mark.parametrize("status", ["broken", "timeout", "cancelled"])
def test_a_fit_that_broke_never_matches_an_expected_exception(status):
    result = toy_result(TASK, status=status, error=FitError(status, "killed"))
    assert not error_matches(result, reference_of(CLs_obs=None, CLs_exp=(), error=status))


def test_without_a_reference_nothing_is_compared():
    missing = Missing("there is no toy.json")
    assert not error_matches(error_of("ValueError"), missing)
    comparison = check(result_of(), missing)
    assert (comparison.verdict, comparison.rows) == (Verdict.MISSING, ())
    assert comparison.title == "toy / toy_000: no reference"
    assert comparison.explanation == "there is no toy.json"


# The verdict

#: Of converged fits: none of them says anything about another.
MINIMA = dict(zip(FITS, (100.0, 110.0, 120.0, 130.0, 140.0), strict=True))
FREE, FIXED, BACKGROUND, FREE_ASIMOV, FIXED_ASIMOV = FITS
WRONG_VALUES = at(0, 0.9)
gaps = st.floats(-UNCONVERGED * 0.99, UNCONVERGED * 0.99)


def fitted(cls_values=WRONG_VALUES, *, nearby=None, truth=MINIMA[FREE_ASIMOV], **changes):
    """A result whose fits end at their minima, but for what ``twice_nll`` changes."""
    fits = {**MINIMA, **changes.pop("twice_nll", {})}
    nearby = fits if nearby is None else nearby
    return result_of(
        cls_values,
        twice_nll=fits,
        twice_nll_nearby=nearby,
        twice_nll_asimov_truth=truth,
        **changes,
    )


def certified(**changes):
    return reference_of(**{"twice_nll": MINIMA, **changes})


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
        f"where moving one parameter leads{number * '.'}": (
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
        comparison = check(result, reference, unconverged=threshold)
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
    assert check(result, certified(), unconverged=0.6).verdict is Verdict.RIGHT


@pytest.mark.parametrize("cls_values", [VALUES, WRONG_VALUES], ids=["right", "wrong"])
@pytest.mark.parametrize("reference", [certified(), Missing("none")], ids=["reference", "missing"])
@pytest.mark.parametrize("fit", FITS)
def test_a_fit_whose_likelihood_is_not_a_number_is_named(fit, reference, cls_values):
    assert verdict_line(fitted(cls_values, twice_nll={fit: math.nan}), reference) == (
        Verdict.UNCONVERGED,
        f"verdict: the optimizer scipy failed: the twice-NLL of the {words(fit)} is not a number",
    )


LOCAL_MINIMUM = {"fit": FIXED, "gap": 3.2, "parameter": "alpha_jes", "at": 1.53, "lowest_at": -0.5}


@pytest.mark.parametrize(
    ("fit", "gap", "named"), [(FIXED, 3.25, True), (FIXED, 4.0, False), (BACKGROUND, 3.25, False)]
)
def test_a_local_minimum_is_named(fit, gap, named):
    result = fitted(twice_nll={fit: MINIMA[fit] + gap})
    verdict, line = failed(fit, gap, f"the certified minimum {MINIMA[fit]:g}")
    if named:
        line += ", in a local minimum: alpha_jes at 1.53 (lowest: -0.5)"
    assert verdict_line(result, certified(local_minima=(LOCAL_MINIMUM,))) == (verdict, line)


@given(st.sampled_from(FITS), st.floats(-1e3, 1e3))
def test_a_changed_model_says_more_than_the_references_minima(fit, gap):
    fits = {**MINIMA, fit: MINIMA[fit] + gap}
    assume(fits[FREE] <= min(fits[FIXED], fits[BACKGROUND]) + UNCONVERGED)
    assume(fits[FREE_ASIMOV] <= fits[FIXED_ASIMOV] + UNCONVERGED)
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


def test_changed_asimov_data_are_told_from_a_changed_model():
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
                cls_values = [float(value) for value in (entry["CLs_obs"], *entry["CLs_exp"])]
                yield path.stem, name, cls_values, {**numbers, "twice_nll": entry["twice_nll"]}


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
    assert min(told.values()) > 20
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
        (ISSUE, fitted(VALUES), Verdict.MENDED),
        (ISSUE, fitted(at(0, 0.9 * 1.02)), Verdict.WRONG),
        (ISSUE, fitted(at(1, 0.02)), Verdict.WRONG),
        (ISSUE, fitted(at(0, math.nan)), Verdict.WRONG),
        (ISSUE, fitted(VALUES, twice_nll={FIXED: 119.0}), Verdict.UNCONVERGED),
        (ISSUE, error_of("ValueError"), Verdict.WRONG),
        (ERROR_ISSUE, error_of("ValueError"), Verdict.KNOWN_ISSUE),
        (ERROR_ISSUE, error_of("MemoryError"), Verdict.WRONG),
        (ERROR_ISSUE, fitted(), Verdict.WRONG),
        (ERROR_ISSUE, fitted(VALUES), Verdict.MENDED),
    ],
)
def test_a_known_issue_is_told_from_its_end_and_from_others(issue, result, verdict):
    known = certified(known_issues={"numpy+scipy": issue})
    comparison = check(result, known)
    assert comparison.verdict is verdict
    if verdict in (Verdict.KNOWN_ISSUE, Verdict.MENDED):
        assert issue.reason in comparison.title + comparison.explanation
        assert issue.link in comparison.title + comparison.explanation
    # It says nothing about other combinations, nor about what asks for the plain truth.
    plain = check(result, certified())
    assert check(result, known, ignore_known_issues=True) == plain
    assert check(result, known, combination="jax+scipy") == plain


def test_a_known_exception_is_one_of_that_combination_and_type():
    known = certified(known_issues={"numpy+scipy": ERROR_ISSUE})
    assert is_known_error(error_of("ValueError"), known, "numpy+scipy") is ERROR_ISSUE
    assert is_known_error(error_of("ValueError"), known, "numpy+minuit") is None
    assert is_known_error(error_of("KeyError"), known, "numpy+scipy") is None
    assert is_known_error(fitted(), known, "numpy+scipy") is None
    assert is_known_error(error_of("ValueError"), Missing("none"), "numpy+scipy") is None
    lost = toy_result(TASK, status="broken", error=FitError("broken", "killed"))
    assert is_known_error(lost, known, "numpy+scipy") is None


# The environment


def environment(**changes):
    return WorkerEnvironment.from_json({**ENVIRONMENT, **changes})


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
    assert line == f"worker toy: {text}; all else equal"


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
        "all else equal"
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
    assert table(rows) == [
        "                    obtained      reference   rel. diff",
        "CLs_obs          0.047123457    0.047123457     2.1e-10",
        "CLs_exp -2σ            0.001       0.001024    -2.3e-02  <--",
        "CLs_exp -1σ              nan           0.02         nan  <--",
        "CLs_exp                 0.04           0.04     0.0e+00",
        "CLs_exp +1σ            1e-12          1e-12     0.0e+00",
        "CLs_exp +2σ                1              1     0.0e+00",
    ]


@given(st.lists(st.floats(1e-300, 1), min_size=6, max_size=6), st.floats(-0.5, 0.5))
def test_the_columns_of_the_table_stay_in_line(cls_values, relative):
    obtained = tuple(value * (1 + relative) for value in cls_values)
    header, *lines = table(check(result_of(obtained), reference_of(tuple(cls_values))).rows)
    ends = [header.index(title) + len(title) for title in ("obtained", "reference", "rel. diff")]
    for line in lines:
        body = line.removesuffix("  <--")
        assert len(body) == ends[-1]
        assert all(body[end - 1] != " " and body[end : end + 1] in ("", " ") for end in ends)


@pytest.mark.parametrize(
    ("raised", "verdict", "accept"),
    [
        (
            8.82,
            "verdict: the optimizer scipy failed: the free fit to asimov stopped 8.82 above",
            [],
        ),
        (
            0.0,
            "verdict: the formulae changed: ",
            ["  accept: --faas-update=changed  (reference_results/toy.json)"],
        ),
    ],
    ids=["unconverged", "wrong"],
)
def test_a_failure_reads_like_the_design(raised, verdict, accept):
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
        "  worker toy: scipy 1.16.0 (reference: 1.15.3); all else equal",
        "  rerun:  pytest --again",
        *accept,  # what has not converged must not be accepted
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
