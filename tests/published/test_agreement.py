"""Where published limits agree with fits, and where they do not, whatever the cross sections."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.published.agreement import TOLERANCE, Point, compare_limits


def point(nominal=1.0, lowest=1.0, *, mass=200.0, off=0.0, rounding=0.0, **mixed):
    """A hypothesis whose published limit is that of a signal strength of 1."""
    mu = {"nominal": nominal, "lowest": lowest, **mixed}
    return Point(f"m{mass:g}", mass, 0.1 * (1 + off), rounding, 0.1, mu)


def places(points, **options):
    return [one.place for one in compare_limits(points, **options).agreements]


def test_the_place_is_where_the_ratio_is_that_of_theory():
    points = [
        point(1.0, 1.1),
        point(1.1, 1.0),
        point(1.0, 1.001),
        point(1.1, 0.9, some=1.0),
        point(1.1, 0.9, some=0.8),
        point(0.5, 0.5, rounding=2.0),
    ]
    assert places(points) == ["nominal", "lowest", "either", "mixed", "none", "either"]


@given(st.floats(0.5, 2), st.floats(0.5, 2), st.floats(0, 0.1))
def test_rounding_is_allowed_for_and_no_more(nominal, lowest, rounding):
    (one,) = compare_limits([point(nominal, lowest, rounding=rounding)]).agreements
    allowed = TOLERANCE + rounding
    at = [abs(1 / mu - 1) <= allowed for mu in (nominal, lowest)]
    assert (
        one.place
        == {
            (False, False): "none",
            (True, False): "nominal",
            (False, True): "lowest",
            (True, True): "either",
        }[tuple(at)]
    )


MASSES = np.linspace(150, 1000, 40)


def drifting(random, scatter=0.002):
    """Cross sections that have changed since: -3.5 % at the heavy end."""
    for mass in MASSES:
        off = 0.001 - 0.036 * (mass - 150) / 850 + random.normal() * scatter
        yield point(mass=mass, off=off)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sets(st.integers(0, 39), min_size=1, max_size=4))
def test_outliers_of_a_smooth_line_are_found(seed, wrong):
    points = list(drifting(np.random.default_rng(seed)))
    for place in wrong:
        points[place] = point(mass=MASSES[place], off=0.06)
    found = compare_limits(points)
    assert found.line
    assert wrong <= {n for n, one in enumerate(found.agreements) if one.place == "none"}
    assert len(found.outside) <= len(wrong) + 3
    assert found.at(1000) == pytest.approx(0.965, abs=0.005)


def test_the_line_has_the_minima_that_are_near_it():
    points = list(drifting(np.random.default_rng(1), scatter=5e-4))
    heights = {p.mass: p.limit / 0.1 for p in points}
    for place in (3, 17, 30):
        mass = MASSES[place]
        limit = heights[mass]
        points[place] = Point("two", mass, 0.1 * limit, 0.0, 0.1, {"nominal": 1.1, "lowest": 1.0})
    found = compare_limits(points)
    assert [found.agreements[place].place for place in (3, 17, 30)] == ["lowest"] * 3


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_limits_of_few_digits_do_not_widen_what_is_allowed(seed):
    """Half of the limits of 3L_eRJR have two digits; an outlier of the others is still seen."""
    random = np.random.default_rng(seed)
    points = list(drifting(random))
    for place in range(0, len(points), 2):
        exact, rounding = points[place].limit, 0.03
        limit = exact * (1 + random.uniform(-rounding, rounding))
        points[place] = Point("few", points[place].mass, limit, rounding, 0.1, points[place].mu)
    points[21] = point(mass=MASSES[21], off=0.03)
    points = [replace(one, cross_section=0.11) for one in points]  # theory is 10 % off
    found = compare_limits(points)
    assert found.line
    assert found.tolerance < 0.02
    assert found.agreements[21].place == "none"


def test_without_need_there_is_no_line():
    """A wrong cross section for a few does not bend what the others are compared with."""
    points = [point(mass=mass, off=0.04 if mass > 800 else 0.0) for mass in MASSES]
    found = compare_limits(points)
    assert not found.line
    assert {one.point.mass for one in found.outside} == {m for m in MASSES if m > 800}


def test_few_points_make_no_line():
    found = compare_limits([point(mass=mass, off=0.05) for mass in MASSES[:7]])
    assert not found.line
    assert len(found.outside) == 7


def test_the_sentence():
    points = [
        point(1.0, 1.1),
        point(1.0, 1.0, off=0.011, rounding=0.01),
        point(1.1, 1.002),
        point(0.9, 1.2, x=1.0),
    ]
    assert compare_limits(points).sentence() == (
        "4 of 4 published limits reproduced within 0.20% of the theory cross section, "
        "beyond rounding: 1 nominal, 1 lowest, 1 either, 1 mixed"
    )
    assert compare_limits([]).sentence() == "no published limit was compared"
    assert compare_limits([point(2.0, 3.0)]).sentence() == ("none of 1 published limit reproduced")
