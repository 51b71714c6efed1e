"""Descents end at minima, and say so only where it is true."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear

from pytest_pyhf_faas.histfactory import newton

relaxed = settings(deadline=None, suppress_health_check=list(HealthCheck))
WIDE = np.array([[-10.0, 10.0]])


@st.composite
def quadratics(draw, smallest=1):
    """Return the matrix and centre of a quadratic function, bounds and a start."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    size = draw(st.integers(smallest, 6))
    root = random.normal(size=(size, size))
    scales = 10.0 ** random.uniform(-1.5, 1.5, size)
    matrix = (root @ root.T + 0.1 * np.eye(size)) * np.outer(scales, scales)
    centre = random.normal(size=size)
    ends = random.normal(size=(size, 2)) * draw(st.sampled_from([0.5, 2.0, 20.0]))
    bounds = np.sort(ends, axis=1)
    return matrix, centre, bounds, random.uniform(-30, 30, size)


def quadratic(matrix, centre, offset=1.0):
    def function(x):
        pull = matrix @ (x - centre)
        return offset + (x - centre) @ pull / 2, pull, matrix

    return function


def wells(slope, depth=1.0):
    """Two wells, at about -1 and 1; the higher one is where the slope points up."""

    def function(x):
        (x,) = x
        value = depth * (x**2 - 1) ** 2 + slope * x
        gradient = depth * 4 * x * (x**2 - 1) + slope
        return value, np.array([gradient]), np.array([[depth * (12 * x**2 - 4)]])

    return function


def logarithm(x):
    """A Poisson term, defined above 0 only, and a bend in a second parameter."""
    with np.errstate(invalid="ignore", divide="ignore"):
        value = x[0] - 3 * np.log(x[0]) + (x[1] - x[0]) ** 2
        slope = 1 - 3 / x[0]
    gradient = np.array([slope - 2 * (x[1] - x[0]), 2 * (x[1] - x[0])])
    return value, gradient, np.array([[3 / x[0] ** 2 + 2, -2.0], [-2.0, 2.0]])


def every(count):
    return np.ones(count, dtype=bool)


@relaxed
@given(quadratics(), st.data())
def test_a_convex_quadratic_ends_at_its_bounded_minimum(case, data):
    matrix, centre, bounds, start = case
    free = np.array(data.draw(st.lists(st.booleans(), min_size=len(centre), max_size=len(centre))))
    function = quadratic(matrix, centre)
    end = newton.minimize(function, start, bounds, free)
    assert end.distance < newton.GOAL
    assert np.array_equal(end.parameters[~free], start[~free])
    inside = end.parameters[free]
    assert np.all((bounds[free, 0] <= inside) & (inside <= bounds[free, 1]))
    if not free.any():
        return
    # Where the fixed ones are put into the target, it is a bounded problem of least squares.
    root = np.linalg.cholesky(matrix).T
    target = root @ centre - root[:, ~free] @ start[~free]
    exact = lsq_linear(root[:, free], target, bounds[free].T, method="bvls", tol=1e-14)
    assert end.value - 1.0 == pytest.approx(exact.cost, rel=1e-8, abs=1e-9)
    gradient = function(end.parameters)[1][free]
    size = np.abs(np.diag(matrix)[free]) ** 0.5
    low, high = inside <= bounds[free, 0], inside >= bounds[free, 1]
    assert np.all(gradient[~high] > -1e-4 * size[~high])
    assert np.all(gradient[~low] < 1e-4 * size[~low])


@relaxed
@given(quadratics(), st.integers(0, 2**32 - 1))
def test_the_start_does_not_matter_where_a_function_is_convex(case, seed):
    matrix, centre, bounds, start = case

    def function(x):
        """The same with growing curvature."""
        value, gradient, hessian = quadratic(matrix, centre)(x)
        return (
            value + np.sum(np.cosh(x / 10)),
            gradient + np.sinh(x / 10) / 10,
            hessian + np.diag(np.cosh(x / 10)) / 100,
        )

    free = every(len(start))
    other = np.random.default_rng(seed).uniform(-30, 30, len(start))
    first, second = (newton.minimize(function, point, bounds, free) for point in (start, other))
    assert max(first.distance, second.distance) < newton.GOAL
    assert first.value == pytest.approx(second.value, rel=1e-12)
    difference = first.parameters - second.parameters
    assert difference @ function(first.parameters)[2] @ difference < 1e-9


@relaxed
@given(st.floats(-1.2, 1.2), st.floats(1e-3, 3.0), st.sampled_from([-1.0, 1.0]))
def test_a_descent_ends_in_the_well_where_it_began(slope, offset, side):
    function = wells(slope)
    top = min(np.roots([4, 0, -4, slope]).real, key=abs)
    end = newton.minimize(function, np.array([top + side * offset]), WIDE, every(1))
    assert end.distance < newton.GOAL
    assert (end.parameters[0] - top) * side > 0
    start_value = function(np.array([top + side * offset]))[0]
    assert end.value <= start_value


def test_a_descent_ends_early_at_a_known_minimum_and_only_there():
    function = wells(0.3)
    calls = []

    def counted(x):
        calls.append(x)
        return function(x)

    left, right = (newton.minimize(function, np.array([x]), WIDE, every(1)) for x in (-2.0, 2.0))
    assert left.value < right.value
    for start, minimum in ((-1.5, left), (1.5, right)):
        calls.clear()
        found = newton.minimize(counted, np.array([start]), WIDE, every(1), (right, left))
        assert found is minimum
        early = len(calls)
        calls.clear()
        again = newton.minimize(counted, np.array([start]), WIDE, every(1))
        assert again is not minimum
        assert early < len(calls)
    assert newton.minimize(function, np.array([1.5]), WIDE, every(1), (left,)) is not left


@pytest.mark.parametrize(("deviations", "near"), [(0.09, True), (0.11, False), (-0.11, False)])
@pytest.mark.parametrize("curvature", [1e-4, 1.0, 1e6])
def test_near_to_a_minimum_is_within_a_tenth_of_a_standard_deviation(curvature, deviations, near):
    """One standard deviation, as of twice an NLL: where the quadratic model has risen by 1/2."""
    function = quadratic(np.array([[curvature]]), np.array([0.5]))
    minimum = newton.minimize(function, np.array([3.0]), WIDE, every(1))
    point = minimum.parameters + deviations / np.sqrt(curvature)
    assert minimum.is_near(point, every(1)) is near


@pytest.mark.parametrize(
    ("shift", "free", "near"),
    [
        ((0.04, 0.0, 0.0), (1, 1, 1), True),  # 4 * 0.04**2 = 0.0064
        ((0.06, 0.0, 0.0), (1, 1, 1), False),
        ((0.06, -0.03, 0.0), (1, 1, 1), False),  # 0.0126
        ((0.04, -0.05, 0.0), (1, 1, 1), True),  # 0.0074, of which -0.004 is mixed
        ((0.0, 0.0, 1e-6), (1, 1, 1), False),  # off the bound that held it
        ((9.0, 0.06, 0.0), (0, 1, 1), True),  # fixed there
        ((9.0, 0.08, 0.0), (0, 1, 1), False),
    ],
)
def test_what_is_near_is_measured_over_what_is_free_and_not_held(shift, free, near):
    hessian = np.array([[4.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, -5.0]])
    held = np.array([False, False, True])
    minimum = newton.Minimum(np.array([1.0, 2.0, 0.0]), 3.0, 0.0, hessian, held, 4)
    free = np.array(free, dtype=bool)
    point = minimum.parameters + np.array(shift)
    assert minimum.is_near(point, free) is near
    stuck = replace(minimum, distance=np.inf)
    assert not stuck.is_near(point, free)


def test_the_step_within_bounds_lets_the_others_follow_what_a_bound_holds():
    hessian = np.array([[2.0, 1.0, 0.5], [1.0, 3.0, 0.0], [0.5, 0.0, 1.0]])
    gradient = np.array([-8.0, 1.0, -1.0])
    lower, upper = np.full(3, -10.0), np.array([1.5, 10.0, 10.0])
    step = newton._bounded_step(gradient, hessian, lower, upper, every(3), None)
    assert step[0] == 1.5  # it would go to 5.1
    slope = gradient + hessian @ step
    assert slope[1:] == pytest.approx([0.0, 0.0], abs=1e-12)
    lower, upper = -upper, -lower
    mirrored = newton._bounded_step(-gradient, hessian, lower, upper, every(3), None)
    assert mirrored == pytest.approx(-step)
    fixed = newton._bounded_step(
        gradient, hessian, -upper, upper, np.array([True, False, True]), None
    )
    assert fixed[1] == 0.0


def test_a_step_on_a_quadratic_is_the_last():
    function = quadratic(np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([0.3, -0.4]))
    end = newton.minimize(function, np.array([8.0, -9.0]), np.array([[-10.0, 10.0]] * 2), every(2))
    assert end.steps == 1


@pytest.mark.parametrize(
    ("damping", "ratio", "first", "after"),
    [
        (8.0, 0.9, 1e-3, 1.0),
        (0.004, 0.9, 1e-3, 0.0005),
        (1e-3, 0.9, 1e-3, 0.0),
        (1e-3, 0.9, 1e-4, 1.25e-4),
        (0.0, 0.9, 1e-3, 0.0),
        (8.0, 0.75, 1e-3, 8.0),
        (8.0, 0.5, 1e-3, 8.0),
        (8.0, 0.25, 1e-3, 8.0),
        (8.0, 0.2, 1e-3, 16.0),
        (0.0, 0.2, 1e-3, 1e-3),
        (0.0, 0.2, 1e-4, 1e-4),
        (0.0, 0.5, 1e-3, 0.0),
    ],
)
def test_a_model_that_foretold_the_gain_is_damped_less_and_one_that_did_not_more(
    damping, ratio, first, after
):
    assert newton._next_damping(damping, ratio, first) == pytest.approx(after)


@pytest.mark.parametrize("start", [(-1.0, 1.1), (0.0, 1.0)])
def test_a_narrow_valley_with_a_bend_is_followed_to_its_end(start):
    """Rosenbrock's: without damping a step leaves it, and a little too much of it gets nowhere."""

    def valley(x):
        off = x[1] - x[0] ** 2
        value = 1e4 * off**2 + (x[0] - 1) ** 2
        gradient = 1e4 * off * np.array([-4 * x[0], 2.0]) + np.array([2 * (x[0] - 1), 0.0])
        along = -4e4 * off + 8e4 * x[0] ** 2 + 2
        return value, gradient, np.array([[along, -4e4 * x[0]], [-4e4 * x[0], 2e4]])

    bounds = np.array([[-10.0, 10.0]] * 2)
    end = newton.minimize(valley, np.array(start), bounds, every(2))
    assert end.distance < newton.GOAL
    assert end.parameters == pytest.approx([1.0, 1.0], abs=1e-5)


def test_damping_is_added_to_the_diagonal():
    hessian = np.array([[2.0, 1.0], [1.0, 3.0]])
    damped = newton._with_damping(hessian, np.array([0.5, 0.25]))
    assert damped.tolist() == [[2.5, 1.0], [1.0, 3.25]]
    assert hessian.tolist() == [[2.0, 1.0], [1.0, 3.0]]


def test_two_shallow_wells_side_by_side_are_distinguished():
    """0.4 standard deviations of either lie between them, and a barrier of 0.005."""
    function = wells(0.0, depth=0.005)
    left, right = (newton.minimize(function, np.array([x]), WIDE, every(1)) for x in (-1.5, 1.5))
    between = right.parameters - left.parameters
    assert between @ right.hessian @ between == pytest.approx(0.16, rel=1e-3)
    for start, other, own in ((-1.5, right, left), (1.5, left, right)):
        end = newton.minimize(function, np.array([start]), WIDE, every(1), (other,))
        assert end.parameters == pytest.approx(own.parameters, rel=1e-3)


def test_a_known_minimum_held_by_a_bound_is_not_near_to_where_the_function_falls_away():
    """Beyond a bound the Hessian may be negative: its metric measures no distance there."""
    function = quadratic(np.array([[-2.0]]), np.array([0.4]))
    bounds = np.array([[0.0, 1.0]])
    low = newton.minimize(function, np.array([0.1]), bounds, every(1))
    assert (low.parameters[0], low.distance) == (0.0, 0.0)
    high = newton.minimize(function, np.array([0.7]), bounds, every(1), (low,))
    assert (high.parameters[0], high.distance) == (1.0, 0.0)
    assert high.value < low.value


def test_a_descent_that_got_stuck_is_near_to_nothing():
    function = wells(0.0)
    stuck = newton.minimize(function, np.array([0.0]), WIDE, every(1))
    assert stuck.distance == np.inf
    end = newton.minimize(function, np.array([0.2]), WIDE, every(1), (stuck,))
    assert end.parameters == pytest.approx([1.0])


@relaxed
@given(st.floats(0.01, 100), st.floats(-50, 50))
def test_a_function_that_is_not_defined_everywhere_is_minimized_where_it_is(x, y):
    bounds = np.array([[-100.0, 100.0], [-100.0, 100.0]])
    end = newton.minimize(logarithm, np.array([x, y]), bounds, every(2))
    assert end.distance < newton.GOAL
    assert end.parameters == pytest.approx([3.0, 3.0], abs=1e-5)


def test_a_start_where_the_function_is_not_defined_claims_nothing():
    bounds = np.array([[-100.0, 100.0], [-100.0, 100.0]])
    end = newton.minimize(logarithm, np.array([-1.0, 0.0]), bounds, every(2))
    assert not np.isfinite(end.value)
    assert end.steps == 0


def linear(x):
    return float(x.sum()), np.ones(len(x)), np.zeros((len(x), len(x)))


def kink(x):
    """Steeper on one side of 0 than on the other."""
    slope = 1.0 if x[0] > 0 else -2.0
    return 1 + slope * x[0] + x[0] ** 2, np.array([slope + 2 * x[0]]), np.array([[2.0]])


def hill(x):
    """Ever flatter, and never convex."""
    root = np.sqrt(1 + x[0] ** 2)
    return -root, -x / root, np.array([[-1 / root**3]])


def wrong_slope(x):
    return 1 + x[0] ** 2, np.array([-2 * x[0] - 1]), np.array([[2.0]])


def no_slope(x):
    return 1 + x[0] ** 2, np.array([np.nan]), np.array([[2.0]])


@pytest.mark.parametrize(
    "function",
    [linear, hill, kink, wrong_slope, no_slope],
    ids=["linear", "hill", "kink", "wrong slope", "no slope"],
)
def test_what_has_no_minimum_is_not_said_to_have_one(function):
    nowhere = np.array([[-np.inf, np.inf]])
    end = newton.minimize(function, np.array([0.7]), nowhere, every(1))
    assert not end.distance < 1e-3
    assert end.steps <= newton.MAX_STEPS


@relaxed
@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_a_linear_function_ends_in_the_corner_of_its_bounds(size, seed):
    bounds = np.sort(np.random.default_rng(seed).uniform(-5, 5, (size, 2)), axis=1)
    end = newton.minimize(linear, np.full(size, 7.0), bounds, every(size))
    assert np.array_equal(end.parameters, bounds[:, 0])
    assert end.distance == 0


@relaxed
@given(quadratics(smallest=2), st.data())
def test_estimates_are_exact_for_quadratics(case, data):
    matrix, centre, _bounds, point = case
    size = len(centre)
    free = np.ones(size, dtype=bool)
    free[data.draw(st.integers(0, size - 1))] = False
    function = quadratic(matrix, centre)
    unbounded = np.array([[-1e6, 1e6]] * size)
    minimum = newton.minimize(function, point, unbounded, free)
    foretold = newton.estimated_minimum(*function(point), free)
    scale = abs(function(point)[0])
    assert foretold == pytest.approx(minimum.value, rel=1e-9, abs=1e-12 * scale)
    inverse = newton.covariance(minimum, free)
    assert inverse[np.ix_(free, free)] @ matrix[np.ix_(free, free)] == pytest.approx(
        np.eye(size - 1), abs=1e-6
    )
    assert not inverse[~free].any()
    assert not inverse[:, ~free].any()
    # Shift one or all of them, and let the others follow.
    count = data.draw(st.integers(1, size - 1))
    moved = np.flatnonzero(free)[:count]
    shift = np.random.default_rng(0).normal(size=count)
    step, rise = newton.conditional_step(inverse, moved, shift)
    assert step[moved] == pytest.approx(shift)
    assert not step[~free].any()
    others = free.copy()
    others[moved] = False
    start = minimum.parameters.copy()
    start[moved] += shift
    followed = newton.minimize(function, start, unbounded, others)
    assert rise == pytest.approx(followed.value - minimum.value, rel=1e-6, abs=1e-9 * scale)
    there = function(minimum.parameters + step)[0]
    assert there == pytest.approx(followed.value, rel=1e-6, abs=1e-9 * scale)
    assert newton.estimated_minimum(0.0, np.ones(size), -matrix, free) == -np.inf
    assert newton.covariance(replace(minimum, hessian=-matrix), free) is None


@relaxed
@given(quadratics(), st.integers(0, 5))
def test_a_descent_that_is_cut_short_speaks_of_where_it_ended(case, most):
    matrix, centre, bounds, start = case

    def function(x):
        """Bent downwards here and there, so that it is damped."""
        value, gradient, hessian = quadratic(matrix, centre)(x)
        return (
            value - 30 * np.sum(np.cos(x)),
            gradient + 30 * np.sin(x),
            hessian + 30 * np.diag(np.cos(x)),
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(newton, "MAX_STEPS", most)
        end = newton.minimize(function, start, bounds, every(len(start)))
    assert end.steps <= most
    value, gradient, hessian = function(end.parameters)
    assert (end.value, end.hessian.tolist()) == (value, hessian.tolist())
    low, high = end.parameters <= bounds[:, 0], end.parameters >= bounds[:, 1]
    free = ~((low & (gradient > 0)) | (high & (gradient < 0)))
    assert np.array_equal(end.held, ~free)
    inner, slope = hessian[np.ix_(free, free)], gradient[free]
    if (np.linalg.eigvalsh(inner) > 0).all():
        assert end.distance == pytest.approx(slope @ np.linalg.solve(inner, slope) / 2, rel=1e-6)
    else:
        assert end.distance == np.inf


def test_a_direction_that_is_nearly_flat_is_followed_to_its_end():
    """As of a POI with next to no signal: its curvature is tiny, and negative."""

    def function(x):
        value = 1 + (x[0] - 1) ** 2 - 1e-8 * x[1] - 1e-15 * x[1] ** 2
        gradient = np.array([2 * (x[0] - 1), -1e-8 - 2e-15 * x[1]])
        return value, gradient, np.diag([2.0, -2e-15])

    bounds = np.array([[-5.0, 5.0], [0.0, 10.0]])
    end = newton.minimize(function, np.array([3.0, 1.0]), bounds, every(2))
    assert end.parameters == pytest.approx([1.0, 10.0])
    assert end.held.tolist() == [False, True]
    assert end.distance < newton.GOAL
