"""Each code gives what pyhf's does, and its derivatives are right."""

from __future__ import annotations

import numpy as np
import pyhf
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.histfactory.interpolation import HISTOSYS, NORMSYS
from tests.histfactory.generated import code2_goes_through_minus_1

relaxed = settings(max_examples=100, deadline=None)
every_factor = pytest.mark.parametrize("code", NORMSYS)
every_shift = pytest.mark.parametrize("code", HISTOSYS)
every_code = pytest.mark.parametrize("code", [*NORMSYS, *HISTOSYS])

factors = st.floats(0.05, 20.0)
shifts = st.floats(-50.0, 50.0)
alphas = st.one_of(st.floats(-5.0, 5.0), st.sampled_from([-1.0, 0.0, 1.0, -1 - 2**-52, 1 + 2**-52]))


def several(sides):
    return st.lists(st.tuples(sides, sides, alphas), min_size=1, max_size=6)


def arrays(variations):
    return np.array(variations, dtype=float).T


def by_pyhf(code, down, nominal, up, alpha):
    """Return what pyhf's code has for each variation: a modifier of one bin."""
    histograms = [
        [[[low], [middle], [high]]] for low, middle, high in zip(down, nominal, up, strict=True)
    ]
    return getattr(pyhf.interpolators, code)(histograms)(alpha[:, None]).ravel()


def made(code, down, up):
    return (NORMSYS | HISTOSYS)[code](down, up)


def smooth_at(code, alpha):
    """Move what is close to where the value or a derivative jumps."""
    for kink in (-1.0, 0.0, 1.0):
        alpha = np.where(np.abs(alpha - kink) < 0.01, kink + 0.05, alpha)
    return alpha


@every_factor
@relaxed
@given(several(factors))
@example([(0.9, 1.1, 0.0), (0.9, 1.1, 1.0), (0.9, 1.1, -1.0), (1, 1, 0.3)])
def test_factors_are_those_of_pyhf(code, variations):
    down, up, alpha = arrays(variations)
    theirs = by_pyhf(code, down, np.ones(len(down)), up, alpha)
    assert made(code, down, up)(alpha).value == pytest.approx(theirs, rel=1e-11, abs=1e-11)


@every_shift
@relaxed
@given(several(shifts))
@example([(-2, 3, 0.0), (-2, 3, 1.0), (-2, 3, -1.0), (0, 0, 0.3), (1, 1, -4)])
def test_shifts_are_those_of_pyhf(code, variations):
    down, up, alpha = arrays(variations)
    nominal = np.full(len(down), 64.0)
    theirs = by_pyhf(code, nominal + down, nominal, nominal + up, alpha)
    ours = made(code, down, up)(alpha).value
    if code == "code2" and code2_goes_through_minus_1():
        # Since pyhf 0.8 the line below -1 is another one: (b - 2a) (alpha + 1).
        ours = ours + np.where(alpha < -1, (up - down) / 2 - (up + down), 0)
    assert ours == pytest.approx(theirs, rel=1e-12, abs=1e-11)


@every_code
@relaxed
@given(several(factors))
def test_derivatives_are_those_of_the_value(code, variations):
    down, up, alpha = arrays(variations)
    if code in HISTOSYS:
        down, up = down - 4, up - 2
    alpha, step = smooth_at(code, alpha), 1e-3
    function = made(code, down, up)
    value, slope, bend = function(alpha)
    beside = [function(alpha + steps * step) for steps in (-2, -1, 1, 2)]
    weights = np.array([1, -8, 8, -1]) / (12 * step)
    change = weights @ [one.value for one in beside]
    size = np.abs([one.value for one in beside]).max(axis=0) + np.abs(change)
    if code in HISTOSYS:
        assert slope == pytest.approx(change, rel=1e-8, abs=1e-9)
        assert bend == pytest.approx(weights @ [one.slope for one in beside], rel=1e-8, abs=1e-9)
    else:  # of the logarithm
        assert (np.abs(slope * value - change) < 1e-8 * size + 1e-10).all()
        second = weights @ [one.slope * one.value for one in beside]
        size += np.abs(second)
        assert (np.abs((bend + slope**2) * value - second) < 1e-7 * size + 1e-9).all()


@every_code
@pytest.mark.parametrize("alpha", [-7.5, -1.0, -0.3, 0.0, 0.8, 1.0, 3.0])
def test_one_call_gives_what_many_give(code, alpha):
    down, up = np.array([0.7, 1.2, 1.0]), np.array([1.4, 1.1, 1.0])
    together = made(code, down, up)(np.full(3, alpha))
    for index in range(3):
        alone = made(code, down[index : index + 1], up[index : index + 1])(np.array([alpha]))
        for all_, one in zip(together, alone, strict=True):
            assert all_[index] == pytest.approx(one[0], rel=1e-15)


@every_code
def test_nothing_to_interpolate_is_nothing(code):
    none = np.zeros(0)
    assert [part.shape for part in made(code, none, none)(none)] == [(0,)] * 3


@pytest.mark.parametrize("code", ["code1", "code4", "code0", "code2", "code4p"])
def test_the_variations_are_at_plus_and_minus_one(code):
    down, up = np.array([0.7, 1.2]), np.array([1.4, 1.1])
    function = made(code, down, up)
    assert function(np.full(2, 1.0)).value == pytest.approx(up)
    assert function(np.full(2, -1.0)).value == pytest.approx(down)
    assert function(np.zeros(2)).value == pytest.approx(1.0 if code in NORMSYS else 0.0)


@pytest.mark.parametrize("code", ["code4", "code4p"])
@pytest.mark.parametrize("end", [-1.0, 1.0])
def test_polynomials_end_smoothly(code, end):
    function = made(code, np.array([0.7, 1.2]), np.array([1.4, 1.1]))
    before, after = (function(np.full(2, end * (1 + shift))) for shift in (-1e-9, 1e-9))
    for one, other in zip(before, after, strict=True):
        assert one == pytest.approx(other, abs=1e-7)
