"""CLs from toys against its reference: the same toys, other toys, and toys that failed."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.histfactory.toys import toy_cls
from pytest_pyhf_faas.references.reference import Missing
from pytest_pyhf_faas.references.toy_values import ToyValues, measured, off_lines, toy_cls_of
from pytest_pyhf_faas.references.toys import compare_toys
from pytest_pyhf_faas.verdicts import Verdict


def result(*, certified):
    certificate = {"distance": 0.0} if certified else {}
    return SimpleNamespace(pallet="p", patch="s", error=None, certificate=certificate)


def reference(values):
    return SimpleNamespace(error=None, toys=values.to_json(), path="p.json")


def drawn(seed, count, *, shift=2.0, observed=1.0):
    """Toys with the asymptotic distributions, where q is (x - shift)^2."""
    random = np.random.default_rng(seed)
    signal = random.normal(0, 1, count).clip(0) ** 2
    background = (random.normal(0, 1, count) + shift).clip(0) ** 2
    return ToyValues.of(toy_cls(observed, signal, background))


def verdict(found, known, *, certified):
    return compare_toys(result(certified=certified), found, reference(known)).verdict


@pytest.mark.parametrize("certified", [True, False])
def test_a_result_is_right_next_to_itself(certified):
    found = drawn(1, 500)
    assert verdict(found, found, certified=certified) is Verdict.RIGHT


def test_the_same_toys_must_agree_and_others_within_their_errors():
    one, other = drawn(1, 500), drawn(2, 500)
    assert verdict(one, other, certified=True) is Verdict.WRONG
    assert verdict(one, other, certified=False) is Verdict.RIGHT


@pytest.mark.parametrize(("few", "many"), [(40, 4000), (300, 300), (1000, 100)])
def test_toys_of_one_distribution_agree_however_many_there_are(few, many):
    """In 200 pairs of them, six values each: 0 to 1 are farther apart by chance."""
    for observed in (1.0, 30.0):  # as large as that is hardly any toy with the signal
        pairs = [
            (drawn(2 * n, few, observed=observed), drawn(2 * n + 1, many, observed=observed))
            for n in range(100)
        ]
        wrong = [verdict(*pair, certified=False) is Verdict.WRONG for pair in pairs]
        assert sum(wrong) <= 1


def test_another_distribution_is_reported():
    assert verdict(drawn(1, 2000), drawn(2, 2000, shift=1.5), certified=False) is Verdict.WRONG


def test_what_toys_do_not_know_is_not_compared():
    """No toy without a signal is as far out as the data."""
    nothing, known = drawn(1, 100, observed=1e3), drawn(2, 4000, observed=1.0)
    assert math.isinf(nothing.errors[0])
    assert verdict(nothing, known, certified=False) is Verdict.RIGHT
    assert ToyValues.from_json(nothing.to_json()).errors == pytest.approx(nothing.errors, rel=1e-5)


def test_too_many_failed_toys_are_worse_than_no_reference():
    toys = {"observed": 1.0, "signal": ["nan"] * 3 + [1.0] * 997, "background": [2.0] * 1000}
    found = ToyValues.of(toy_cls_of(toys))
    compared = compare_toys(result(certified=True), found, Missing("there is no file"))
    assert compared.verdict is Verdict.UNCONVERGED
    assert compared.title == "p / s: 3 toys of 2,000 failed"
    assert "CLs_obs is 1.0000 ± 0.0014 without them, and from 0.997 to 1 wherever they fall" in (
        compared.explanation
    )


@pytest.mark.parametrize(("shift", "counts"), [(1.0, True), (2.0, False)])
def test_failed_toys_that_could_move_nothing_do_not_fail(shift, counts):
    """One of 200 is more than 1 in 1,000; where CLs is small it matters which one it is."""
    random = np.random.default_rng(1)
    signal = random.normal(0, 1, 100).clip(0) ** 2
    background = (random.normal(0, 1, 100) + shift).clip(0) ** 2
    signal[0] = np.nan
    found = ToyValues.of(toy_cls(1.0, signal, background))
    assert found.failed == (1, 0)
    right = verdict(found, found, certified=True) is Verdict.RIGHT
    assert right is counts is not bool(found.open())


def test_all_toys_of_a_hypothesis_may_fail():
    toys = {"observed": 1.0, "signal": ["nan"] * 5, "background": [2.0] * 5}
    found = ToyValues.of(toy_cls_of(toys))
    assert found.failed == (5, 0)
    assert math.isnan(found.values[0])
    assert "not known" in found.text


@given(st.floats(1e-12, 1), st.floats(1e-9, 0.5))
def test_a_value_has_the_digits_that_its_error_leaves_it(value, error):
    shown, shown_error = measured(value, error).split(" ± ")
    assert float(shown) == pytest.approx(value, abs=0.05 * error, rel=0.06 if value < 1e-4 else 0)
    assert float(shown_error) == pytest.approx(error, rel=0.5)


def test_what_is_off_is_named_and_counted():
    def each(patch, standard_errors):
        said = {"pallet": "p", "patch": patch, "toys": 0.7, "error": 0.04, "asymptotic": 0.498}
        return {**said, "standard_errors": standard_errors}

    near = [each("a", 2.9), each("b", "nan")]
    assert off_lines(near) == []
    (line,) = off_lines([*near, each("c", -3.1)])
    assert line == (
        "toys: asymptotic CLs_obs of 1 of 3 hypotheses of p is off by more than 3 standard "
        "errors: c (0.498, toys 0.700 ± 0.040)"
    )
