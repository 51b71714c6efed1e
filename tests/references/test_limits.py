"""Upper limits and their reference become a verdict."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.quantities import LIMIT_LABELS, Limits, LimitSet
from pytest_pyhf_faas.campaign.results import FitError
from pytest_pyhf_faas.references.cls_values import Row
from pytest_pyhf_faas.references.entries import limits_entry
from pytest_pyhf_faas.references.limit_values import DEFAULT_RTOL, limit_tolerance
from pytest_pyhf_faas.references.limits import compare_limits
from pytest_pyhf_faas.references.reference import Missing
from pytest_pyhf_faas.verdicts import Verdict
from tests.helpers.made_minima import reference_of, result_of

LOWEST = (1.1, 0.5, 0.7, 1.0, 1.4, 1.9)
NOMINAL = (0.9, 0.5, 0.6, 0.8, 1.1, 1.5)
TOLERANCE = (1e-3, 1e-9)


def limits(lowest, nominal=None):
    found = LimitSet(tuple(lowest))
    return Limits(found, found if nominal is None else LimitSet(tuple(nominal)), {})


def as_json(values, nominal=None):
    """Return limits as a worker says them."""
    data = {"observed": str(values[0]), "expected": list(map(str, values[1:])), "tests": 30}
    return {**data, "nominal": as_json(nominal)} if nominal else data


REFERENCE = replace(reference_of(), limits=limits(LOWEST, NOMINAL))


def check(obtained, nominal=None, *, certified=False, reference=REFERENCE, minimum="any"):
    result = replace(
        result_of(),
        limits=as_json(obtained, nominal),
        certificate={"distance": 0.0} if certified else {},
    )
    return compare_limits(result, reference, tolerance=TOLERANCE, minimum=minimum)


def moved(values, place, factor):
    return tuple(v * factor if n == place else v for n, v in enumerate(values))


@pytest.mark.parametrize(
    ("obtained", "minimum", "verdict", "at"),
    [
        (LOWEST, "any", Verdict.RIGHT, "lowest"),
        (NOMINAL, "any", Verdict.RIGHT, "nominal"),
        (NOMINAL, "lowest", Verdict.WRONG, "nominal"),
        (LOWEST, "nominal", Verdict.WRONG, "lowest"),
        ((NOMINAL[0], *LOWEST[1:]), "any", Verdict.MIXED, "none"),
        (moved(LOWEST, 3, 1.01), "any", Verdict.WRONG, "none"),
        (moved(LOWEST, 3, 1.0005), "any", Verdict.RIGHT, "lowest"),
    ],
)
def test_limits_of_pyhf_are_right_at_one_set_of_minima(obtained, minimum, verdict, at):
    comparison = check(obtained, minimum=minimum)
    assert (comparison.verdict, comparison.at) == (verdict, at)
    assert [row.label for row in comparison.rows] == list(LIMIT_LABELS)
    assert bool(comparison.remedy) is (verdict is not Verdict.RIGHT)


@given(st.integers(0, 5), st.sampled_from([0.9, 0.99, 1.01, 1.1]), st.booleans())
def test_certified_limits_are_compared_at_both_sets(place, factor, at_lowest):
    assert check(LOWEST, NOMINAL, certified=True).verdict is Verdict.RIGHT
    wrong = moved(LOWEST if at_lowest else NOMINAL, place, factor)
    found = (wrong, NOMINAL) if at_lowest else (LOWEST, wrong)
    comparison = check(*found, certified=True)
    assert comparison.verdict is Verdict.WRONG
    assert [row.within for row in comparison.rows] == [n != place for n in range(6)]
    other = "nominal" if at_lowest else "lowest"
    assert check(*found, certified=True, minimum=other).verdict is Verdict.RIGHT


def test_no_limit_agrees_with_no_limit_alone():
    none = (math.inf, *LOWEST[1:])
    reference = replace(REFERENCE, limits=limits(none))
    assert check(none, reference=reference).verdict is Verdict.RIGHT
    assert check(LOWEST, reference=reference).verdict is Verdict.WRONG
    assert check(none).verdict is Verdict.WRONG


def test_a_limit_that_is_not_a_number_is_wrong():
    comparison = check((math.nan, *LOWEST[1:]))
    assert comparison.verdict is Verdict.WRONG
    assert "not a number" in comparison.title


def test_without_limits_in_the_reference_it_says_how_to_make_them():
    comparison = check(LOWEST, reference=replace(REFERENCE, limits=None))
    assert comparison.verdict is Verdict.NO_REFERENCE
    assert "has no upper limits of this patch" in comparison.explanation
    assert comparison.remedy == "--faas-update=new"
    assert check(LOWEST, reference=Missing("why", "do this")).remedy == "do this"


def test_an_exception_is_right_where_the_reference_is_that():
    error = FitError("pyhf.exceptions.InvalidModel", "no")
    result = replace(result_of(), status="error", error=error, limits={})
    invalid = replace(REFERENCE, error="pyhf.exceptions.InvalidModel")
    right = compare_limits(result, invalid, tolerance=TOLERANCE)
    assert right.verdict is Verdict.RIGHT
    assert compare_limits(result, REFERENCE, tolerance=TOLERANCE).verdict is Verdict.WRONG


@pytest.mark.parametrize(
    ("fit_setup", "given_rtol", "rtol"),
    [
        ("numpy+scipy", None, DEFAULT_RTOL["scipy"]),
        ("certified", None, DEFAULT_RTOL["certified"]),
        ("jax+unknown", None, min(DEFAULT_RTOL.values())),
        ("numpy+scipy", 0.5, 0.5),
    ],
)
def test_the_tolerance_is_that_of_the_optimizer(fit_setup, given_rtol, rtol):
    assert limit_tolerance(fit_setup, given_rtol)[0] == rtol


@given(
    st.lists(st.floats(0, 1e6) | st.just(math.inf), min_size=6, max_size=6),
    st.none() | st.lists(st.floats(0, 1e6), min_size=6, max_size=6),
)
def test_what_a_file_keeps_is_read_back(lowest, nominal):
    read = Limits.from_json(limits_entry(limits(lowest, nominal)))
    assert read.lowest.values == pytest.approx(lowest, rel=1e-8)
    assert read.ambiguous is (nominal is not None)
    if nominal is not None:
        assert read.nominal.values == pytest.approx(nominal, rel=1e-8)


def test_a_difference_of_limits_near_one_counts():
    assert not Row("limit_obs", 0.9995, 1.0005, within=True).indifferent
    assert Row("CLs_obs", 0.9995, 1.0005, within=True).indifferent
