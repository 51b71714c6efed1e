"""Minimize a smooth function within bounds by its exact Hessian, and estimate its distance."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import lapack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Vector = NDArray[np.float64]
    Matrix = NDArray[np.float64]
    Mask = NDArray[np.bool_]
    #: Gives value, gradient and Hessian.
    Function = Callable[[Vector], tuple[float, Vector, Matrix]]

#: Steps end at this estimated distance, in units of the function; one more gains nothing.
GOAL = 1e-12
MAX_STEPS = 200
#: Values closer than this, relative to the function, cannot be distinguished.
_NOISE = 1e-13
_MAX_DAMPING = 1e15
_FIRST_DAMPING = 1e-3
#: Where steps without damping fail more often than this, less of it comes first: a rate near 0 next
#: to large ones, where the least damping is too much for the rest, would take hundreds of steps.
_PATIENCE = 3
_LESS = 8.0
#: Damping scales with the curvature, which may be tiny, as for the POI of a tiny signal.
_FLAT = 1e-12
#: A start is given up when it comes this near to a known minimum (squared, in its own metric).
_NEAR = 1e-2


@dataclass(frozen=True, slots=True, eq=False)
class Minimum:
    r"""Where a descent ended.

    Attributes
    ----------
    parameters : array, shape (n,)
        The point.
    value : float
        The function there.
    distance : float
        Estimated vertical distance to the minimum, as Minuit's EDM:
        :math:`\frac12 g^T H^{-1} g` over the parameters that are free and not held by a bound;
        infinite where the Hessian over them is not positive definite.
    hessian : array, shape (n, n)
        Second derivatives there.
    held : array of bool, shape (n,)
        Which parameters a bound holds.
    steps : int
        Steps that led there.
    """

    parameters: Vector
    value: float
    distance: float
    hessian: Matrix
    held: Mask
    steps: int

    def is_near(self, parameters: Vector, free: Mask) -> bool:
        """Whether a point is so near that a descent from it would end here.

        Where the Hessian is not positive definite, as it may be along parameters held by a bound,
        it says nothing about that.
        """
        difference = parameters - self.parameters
        if not np.isfinite(self.distance) or difference[free & self.held].any():
            return False
        free = free & ~self.held
        difference = difference[free]
        return bool(difference @ self.hessian[np.ix_(free, free)] @ difference < _NEAR)


def minimize(
    function: Function,
    start: Vector,
    bounds: Matrix,
    free: Mask,
    known: Sequence[Minimum] = (),
) -> Minimum:
    """Descend to a local minimum by damped Newton steps, projected on the bounds.

    Each step minimizes the quadratic model within the bounds, its Hessian damped along the scaled
    diagonal as in Levenberg's and Marquardt's method where that is needed to descend (J. Nocedal
    and S. Wright, Numerical Optimization, 2nd ed., chapters 4 and 16.7).

    Parameters
    ----------
    function : callable
        Gives value, gradient and Hessian.
    start : array, shape (n,)
        Where to begin; moved into the bounds.
    bounds : array, shape (n, 2)
        Lower and upper bounds.
    free : array of bool, shape (n,)
        Which parameters may move.
    known : sequence of Minimum
        The descent ends early, and one of these is returned, when it comes near to it.

    Returns
    -------
    Minimum
        With ``distance`` above `GOAL` if the descent got stuck or took too many steps.
    """
    lower, upper = bounds.T
    point = np.where(free, np.clip(start, lower, upper), start)
    value, gradient, hessian = function(point)
    damping, failed = 0.0, 0
    for steps in range(MAX_STEPS + 1):
        held = ((point <= lower) & (gradient > 0)) | ((point >= upper) & (gradient < 0))
        movable = free & ~held
        flat = (gradient == 0) & (np.diagonal(hessian) == 0) & movable
        if flat.any():  # as the POI without a signal: every value is a minimum
            movable = movable & (~flat | hessian[:, movable].any(axis=1))
        # With damping the minimum is still far, so the distance is not needed.
        newton = None if damping else _newton_step(gradient, hessian, movable)
        distance = _distance(gradient, newton, movable)
        here = Minimum(point, value, distance, hessian, held, steps)
        if distance < GOAL or not (np.isfinite(value) and np.isfinite(hessian.diagonal()).all()):
            return here
        if distance < _NEAR:  # as near to a minimum that may be known
            for minimum in known:
                if minimum.is_near(point, free):
                    return minimum
        if steps == MAX_STEPS:
            break
        first = _FIRST_DAMPING / _LESS ** max(failed - _PATIENCE, 0)
        found = _descend(function, here, gradient, bounds, movable, newton, damping, first)
        if found is None:
            break
        point, (value, gradient, hessian), damping, ratio = found
        failed += newton is not None and damping > 0
        damping = _next_damping(damping, ratio, first)
    if damping:
        distance = _distance(gradient, _newton_step(gradient, hessian, movable), movable)
        here = replace(here, distance=distance)
    return here


def _descend(
    function: Function,
    here: Minimum,
    gradient: Vector,
    bounds: Matrix,
    free: Mask,
    newton: Vector | None,
    damping: float,
    first: float,
) -> tuple[Vector, tuple[float, Vector, Matrix], float, float] | None:
    """Return a lower point, the function there, the damping, and the gain over the predicted one.

    ``None`` if there is none.
    """
    point, value, hessian = here.parameters, here.value, here.hessian
    lower, upper = bounds.T
    scale = np.maximum(np.abs(np.diag(hessian)), _FLAT)
    if newton is None and not damping:  # no undamped step exists
        damping = first
    while damping < _MAX_DAMPING:
        step = _bounded_step(
            gradient,
            _with_damping(hessian, damping * scale),
            lower - point,
            upper - point,
            free,
            None if damping else newton,
        )
        if step is not None:
            gain = -float(gradient @ step + step @ hessian @ step / 2)
            after = np.where(free, np.clip(point + step, lower, upper), point)
            there = function(after)
            if all(np.isfinite(part).all() for part in there):
                noise = _NOISE * abs(value)
                ratio = (value - there[0]) / gain if gain > 0 else -1.0
                if ratio > _FIRST_DAMPING or (0 < gain < noise > there[0] - value):
                    return after, there, damping, ratio
        damping = max(4 * damping, first)
    return None


def _with_damping(hessian: Matrix, diagonal: Vector) -> Matrix:
    damped: Matrix = hessian.copy()
    damped.reshape(-1)[:: len(damped) + 1] += diagonal
    return damped


def _next_damping(damping: float, ratio: float, first: float) -> float:
    """Trust a model more if it predicted well, else less."""
    if ratio > 0.75:  # noqa: PLR2004 - as in the book
        return damping / _LESS if damping > first else 0.0
    return max(2 * damping, first) if ratio < 0.25 else damping  # noqa: PLR2004


def estimated_minimum(value: float, gradient: Vector, hessian: Matrix, free: Mask) -> float:
    """Return the minimum of the quadratic model over the free parameters; -inf if it has none."""
    return value - _distance(gradient, _newton_step(gradient, hessian, free), free)


def covariance(minimum: Minimum, free: Mask) -> Matrix | None:
    """Return the inverse Hessian at a minimum, with zeros for fixed parameters.

    ``None`` if the Hessian over the free parameters is not positive definite.
    """
    inner = minimum.hessian[np.ix_(free, free)]
    inverse = _solve(inner, np.eye(len(inner)))
    if inverse is None:
        return None
    full = np.zeros_like(minimum.hessian)
    full[np.ix_(free, free)] = inverse
    return full


def conditional_step(
    inverse: Matrix, moved: NDArray[np.intp], shift: Vector
) -> tuple[Vector, float]:
    """Return the step that the quadratic model takes when some parameters are shifted.

    Parameters
    ----------
    inverse : array, shape (n, n)
        From `covariance`.
    moved : array of int, shape (k,)
        Which parameters are shifted; the other free ones follow.
    shift : array, shape (k,)
        By how much.

    Returns
    -------
    tuple
        The step, shape (n,), and how much the model rises.
    """
    pull = np.linalg.solve(inverse[np.ix_(moved, moved)], shift)
    return inverse[:, moved] @ pull, float(shift @ pull / 2)


def followed(minimum: Minimum, free: Mask, place: int, value: float) -> Vector | None:
    """Return how a minimum moves when a fixed parameter gets another value, to first order.

    Parameters
    ----------
    minimum : Minimum
        At the parameter's value there.
    free : array of bool, shape (n,)
        Which parameters follow; bounds go on holding those that they hold.
    place, value : int, float
        Which parameter gets which value.

    Returns
    -------
    array or None
        The step, shape (n,); ``None`` if the Hessian is not positive definite.
    """
    moves = free & ~minimum.held
    shift = value - minimum.parameters[place]
    step = np.zeros_like(minimum.parameters)
    followed = _newton_step(minimum.hessian[:, place] * shift, minimum.hessian, moves)
    if followed is None:
        return None
    step[moves] = followed
    step[place] = shift
    return step


def _newton_step(gradient: Vector, hessian: Matrix, free: Mask) -> Vector | None:
    """Return the step of the free parameters; ``None`` if the Hessian is not positive definite."""
    index = np.flatnonzero(free)
    # Indexing one axis after the other takes a quarter of the time of both at once.
    inner = hessian if len(index) == len(free) else hessian.take(index, 0).take(index, 1)
    return _solve(inner, -gradient[index])


def _distance(gradient: Vector, newton: Vector | None, free: Mask) -> float:
    return float("inf") if newton is None else float(-gradient[free] @ newton / 2)


def _bounded_step(
    gradient: Vector,
    hessian: Matrix,
    lower: Vector,
    upper: Vector,
    free: Mask,
    newton: Vector | None,
) -> Vector | None:
    """Return the step to the minimum of a quadratic model within bounds, nearly.

    Parameters that would leave their bounds are put there, and the rest is solved again. The first
    step is that of `_newton_step`, where it is known.
    """
    step = np.zeros_like(gradient)
    solution = _newton_step(gradient, hessian, free) if newton is None else newton
    while solution is not None:
        step[free] = solution
        outside = free & ((step < lower) | (step > upper))
        if not outside.any():
            return step
        step[outside] = np.clip(step, lower, upper)[outside]
        free = free & ~outside
        solution = _newton_step(gradient + hessian @ np.where(free, 0.0, step), hessian, free)
    return None


def _solve(matrix: Matrix, vector: Vector) -> Vector | None:
    """Solve by Cholesky's decomposition; ``None`` if the matrix is not positive definite.

    A matrix that overflows is not: it would be solved by a step of 0, as at a minimum.
    """
    if not len(vector):
        return vector
    factor, failed = lapack.dpotrf(matrix, lower=1)
    if failed or not np.isfinite(factor.diagonal()).all():
        return None
    solution: Vector = lapack.dpotrs(factor, vector, lower=1)[0]
    return solution
