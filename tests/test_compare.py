from __future__ import annotations

import math
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
    table,
)
from pytest_pyhf_faas.reference import DEFAULT_ATOL, DEFAULT_RTOL, Missing, PatchReference
from pytest_pyhf_faas.report.terminal import failure_text
from pytest_pyhf_faas.results import CLS_LABELS, FITS, FitError, WorkerEnvironment

(TASK,) = toy_tasks(1)
VALUES = (0.05, 0.01, 0.02, 0.04, 0.08, 0.16)
PROVENANCE = {
    "method": "pyhf.infer.hypotest",
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
    }
    return PatchReference(**{**fields, **changes})


def at(position, value):
    """The six values with one of them replaced."""
    return tuple(value if number == position else old for number, old in enumerate(VALUES))


def error_of(kind, message="because"):
    error = FitError(kind, message)
    return toy_result(TASK, status="error", error=error, CLs_obs=None, CLs_exp=())


def check(result, reference, **options):
    return compare(result, reference, **{"optimizer": "scipy", **options})


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


@pytest.mark.parametrize("optimizer", ["scipy", "minuit"])
def test_the_tolerance_is_the_argument_else_the_files_else_the_default(optimizer):
    def within(relative, reference=None, **options):
        reference = reference or reference_of()
        result = result_of(at(5, 0.16 * (1 + relative)))
        return check(result, reference, optimizer=optimizer, **options).verdict is Verdict.RIGHT

    default = DEFAULT_RTOL[optimizer] + DEFAULT_ATOL / 0.16
    assert within(0.99 * default)
    assert not within(1.01 * default)
    own = reference_of(rtol={optimizer: 0.05}, atol={optimizer: 0.0})
    assert within(0.049, own)
    assert not within(0.051, own)
    others = reference_of(rtol={"other": 0.05}, atol={"other": 1.0})
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


@pytest.mark.parametrize("status", ["lost", "timeout", "cancelled"])
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


def explanation(result_nll=None, reference_nll=None, truth=100.0):
    nominal = dict.fromkeys(FITS, 100.0)
    result = result_of(
        at(0, 0.9),
        twice_nll={**nominal, **(result_nll or {})},
        twice_nll_asimov_truth=truth,
    )
    reference = reference_of(twice_nll=nominal if reference_nll is None else reference_nll)
    return check(result, reference).explanation.splitlines()[0]


def test_a_fit_to_asimov_data_above_their_truth_is_blamed_first():
    text = explanation({"free_fit_to_asimov": 108.82, "free_fit_to_data": 900.0})
    assert text == (
        "verdict: the optimizer stopped 8.82 above a known minimum (free fit to Asimov data)"
    )


def test_a_fit_to_asimov_data_that_is_not_a_number_is_blamed():
    assert "stopped nan above a known minimum" in explanation({"free_fit_to_asimov": math.nan})


@pytest.mark.parametrize("fit", FITS)
def test_the_fit_that_ends_above_the_references_is_named(fit):
    text = explanation({fit: 103.25}, truth=None)
    assert text == (
        f"verdict: the {fit.replace('_', ' ')} ends 3.25 above the reference's in twice-NLL"
    )


@pytest.mark.parametrize("fit", FITS)
def test_a_fit_below_the_references_says_so(fit):
    text = explanation({fit: 97.5, FITS[0]: 100.5 if fit != FITS[0] else 97.5}, truth=None)
    assert text == (
        f"verdict: the {fit.replace('_', ' ')} ends 2.5 below the reference's in twice-NLL: the "
        "model changed, or the reference is not the minimum"
    )


@pytest.mark.parametrize("fit", FITS)
def test_a_fit_whose_likelihood_is_not_a_number_is_named(fit):
    others = {other: 105.0 for other in FITS if other != fit}
    text = explanation({**others, fit: math.nan}, truth=None)
    assert fit.replace("_", " ") in text
    assert "not a number" in text


@given(st.lists(st.floats(-UNCONVERGED * 0.99, UNCONVERGED * 0.99), min_size=5, max_size=5))
def test_fits_that_agree_are_not_blamed(gaps):
    text = explanation({fit: 100 + gap for fit, gap in zip(FITS, gaps, strict=True)}, truth=None)
    assert "the five fits agree with the reference's" in text
    assert "what is computed from them differs" in text


def test_a_reference_without_likelihoods_cannot_blame_a_fit():
    text = explanation(reference_nll={}, truth=None)
    assert text == "verdict: the reference has no twice-NLL to compare the fits with"


def test_what_agrees_needs_no_explanation():
    comparison = check(result_of(), reference_of())
    assert comparison.verdict is Verdict.RIGHT
    assert comparison.explanation == ""
    assert len(comparison.rows) == 6


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


def test_a_failure_reads_like_the_design():
    result = result_of(
        at(1, 0.0123),
        twice_nll={**dict.fromkeys(FITS, 100.0), "free_fit_to_asimov": 108.82},
        environment=environment(versions={**ENVIRONMENT["versions"], "scipy": "1.16.0"}),
    )
    text = failure_text(check(result, reference_of()), result, reference_of(), "pytest --again")
    lines = text.splitlines()
    assert lines[0] == "toy / toy_000: CLs differs from the reference"
    assert lines[1].split() == ["obtained", "reference", "rel.", "diff"]
    assert lines[2].startswith("  CLs_obs ")
    assert lines[3].endswith("  <--")
    assert lines[8:] == [
        "  verdict: the optimizer stopped 8.82 above a known minimum (free fit to Asimov data)",
        "  tolerance 0.0001 relative, 1e-06 absolute",
        "  worker toy: scipy 1.16.0 (reference: 1.15.3); all else equal",
        "  rerun:  pytest --again",
        "  accept: --faas-update=changed  (reference_results/toy.json)",
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
