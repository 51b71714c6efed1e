r"""How a rate depends on the parameter of a systematic uncertainty.

A parameter :math:`\alpha` is 1 where the upper variation is given and -1 where the lower one is.
The codes are those of HistFactory (CERN-OPEN-2012-016, Section 4.1) with pyhf's names: ``code1``
and ``code4`` give factors, ``code0``, ``code2`` and ``code4p`` give shifts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Vector = NDArray[np.float64]

#: The coefficients of code4's polynomial, from its values and its first and second derivatives at
#: 1 and -1, in the order up, down, up', down', up'', down''.
_CODE4 = (
    np.array(
        [
            [15, -15, -7, -7, 1, -1],
            [24, 24, -9, 9, 1, 1],
            [-10, 10, 10, 10, -2, 2],
            [-24, -24, 14, -14, -2, -2],
            [3, -3, -3, -3, 1, -1],
            [8, 8, -5, 5, 1, 1],
        ]
    )
    / 16
)


class Factors(NamedTuple):
    """Factors f, the derivatives f'/f of their logarithms, and the derivatives of these."""

    value: Vector
    slope: Vector
    bend: Vector


class Shifts(NamedTuple):
    """Shifts and their first and second derivatives."""

    value: Vector
    slope: Vector
    bend: Vector


class Interpolation(Protocol):
    """Values and derivatives at one parameter value for each variation."""

    def __call__(self, alpha: Vector) -> Factors | Shifts:
        """Return arrays of the shape of ``alpha``, (n_variations,)."""


class Code1:
    """Exponential: ``up**alpha`` above 0 and ``down**-alpha`` below.

    Parameters
    ----------
    down, up : array, shape (n_variations,)
        Positive factors at -1 and 1.
    """

    def __init__(self, down: Vector, up: Vector) -> None:
        self._log_down, self._log_up = np.log(down), np.log(up)

    def __call__(self, alpha: Vector) -> Factors:
        """Return the factors."""
        slope = np.where(alpha > 0, self._log_up, -self._log_down)
        return Factors(np.exp(alpha * slope), slope, np.zeros_like(alpha))


class Code4:
    """A polynomial of degree 6 between -1 and 1, which continues `Code1` smoothly.

    Parameters
    ----------
    down, up : array, shape (n_variations,)
        Positive factors at -1 and 1.
    """

    def __init__(self, down: Vector, up: Vector) -> None:
        self._log_down, self._log_up = np.log(down), np.log(up)
        log_down, log_up = self._log_down, self._log_up
        conditions = np.array(
            [up - 1, down - 1, log_up * up, -log_down * down, log_up**2 * up, log_down**2 * down]
        )
        powers = np.arange(7.0)[:, None]
        self._value = np.concatenate([np.ones((1, len(up))), _CODE4 @ conditions])
        self._slope = (self._value * powers)[1:]
        self._bend = (self._value * powers * (powers - 1))[2:]

    def __call__(self, alpha: Vector) -> Factors:
        """Return the factors."""
        value = _polynomial(self._value, alpha)
        slope = _polynomial(self._slope, alpha)
        slope /= value
        bend = _polynomial(self._bend, alpha)
        bend /= value
        bend -= slope * slope
        outside = np.flatnonzero(np.abs(alpha) >= 1)
        if len(outside):
            far = alpha[outside]
            log_slope = np.where(far > 0, self._log_up[outside], -self._log_down[outside])
            value[outside] = np.exp(far * log_slope)
            slope[outside] = log_slope
            bend[outside] = 0.0
        return Factors(value, slope, bend)


class Code0:
    """Linear, with one slope above 0 and another below.

    Parameters
    ----------
    down, up : array, shape (n_variations,)
        Differences to the nominal rate at -1 and 1.
    """

    def __init__(self, down: Vector, up: Vector) -> None:
        self._above, self._below = up, -down

    def __call__(self, alpha: Vector) -> Shifts:
        """Return the shifts."""
        slope = np.where(alpha > 0, self._above, self._below)
        return Shifts(alpha * slope, slope, np.zeros_like(alpha))


class Code2:
    """Quadratic between -1 and 1, linear outside.

    As pyhf has it, which jumps at 1 and -1: its lines there go through 1 and through 0.

    Parameters
    ----------
    down, up : array, shape (n_variations,)
        Differences to the nominal rate at -1 and 1.
    """

    def __init__(self, down: Vector, up: Vector) -> None:
        self._bend, self._slope = (up + down) / 2, (up - down) / 2

    def __call__(self, alpha: Vector) -> Shifts:
        """Return the shifts."""
        above, below = self._slope + 2 * self._bend, self._slope - 2 * self._bend
        inside = alpha * (self._bend * alpha + self._slope)
        high, low = alpha > 1, alpha < -1
        value = np.where(high, above * (alpha - 1), np.where(low, below * alpha, inside))
        slope = np.where(high, above, np.where(low, below, 2 * self._bend * alpha + self._slope))
        return Shifts(value, slope, np.where(high | low, 0.0, 2 * self._bend))


class Code4p:
    """A polynomial of degree 6 between -1 and 1, which continues `Code0` smoothly.

    Parameters
    ----------
    down, up : array, shape (n_variations,)
        Differences to the nominal rate at -1 and 1.
    """

    def __init__(self, down: Vector, up: Vector) -> None:
        self._above, self._below = up, -down
        even = (up + down) / 16
        # Polynomials of the square: the even part of the value, and so on.
        self._odd = (up - down) / 2
        self._value = np.array([15 * even, -10 * even, 3 * even])
        self._slope = np.array([30 * even, -40 * even, 18 * even])
        self._bend = np.array([30 * even, -120 * even, 90 * even])

    def __call__(self, alpha: Vector) -> Shifts:
        """Return the shifts."""
        square = alpha * alpha
        value = _polynomial(self._value, square)
        value *= square
        value += alpha * self._odd
        slope = _polynomial(self._slope, square)
        slope *= alpha
        slope += self._odd
        bend = _polynomial(self._bend, square)
        outside = np.flatnonzero(square > 1)
        if len(outside):
            far = alpha[outside]
            straight = np.where(far > 0, self._above[outside], self._below[outside])
            value[outside] = far * straight
            slope[outside] = straight
            bend[outside] = 0.0
        return Shifts(value, slope, bend)


#: Interpolations of a normsys.
NORMSYS: dict[str, Callable[[Vector, Vector], Interpolation]] = {"code1": Code1, "code4": Code4}
#: Interpolations of a histosys.
HISTOSYS: dict[str, Callable[[Vector, Vector], Interpolation]] = {
    "code0": Code0,
    "code2": Code2,
    "code4p": Code4p,
}


def _polynomial(coefficients: NDArray[np.float64], at: Vector) -> Vector:
    """Return polynomials of one variable each, the constant term first, by Horner's method."""
    value: Vector = coefficients[-1] * at
    for coefficient in coefficients[-2:0:-1]:
        value += coefficient
        value *= at
    value += coefficients[0]
    return value
