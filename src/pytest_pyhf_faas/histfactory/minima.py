"""One fit and its minima: where descents from many starts end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from pytest_pyhf_faas.histfactory import newton

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from pytest_pyhf_faas.histfactory.likelihood import Data, Likelihood
    from pytest_pyhf_faas.histfactory.newton import Minimum

    Vector = NDArray[np.float64]

#: Where a start comes from: pyhf's initial values, the pool of the pallet, a minimum of another fit
#: of the same hypothesis, a parameter moved to its other side, a draw at random.
Origin = Literal["nominal", "pool", "other", "side", "random"]

#: A minimum is certified when its estimated distance is below this, in twice the NLL.
CERTIFIED = 1e-8
#: Two minima are the same if they are this close in twice the NLL, and near each other.
SAME = 1e-6
#: How often a start where the likelihood is not defined is moved half way back.
_HALVINGS = 8
#: How far starts are drawn, in standard deviations of the constraint terms. Wide enough to leave
#: the basin of the lowest minimum often, near enough for the rates to stay positive mostly.
_DRAWN = 2.0
#: How many minima of a fit are starts for the others.
SHARED = 4
#: Rounds until no minimum of one fit is a better start for another.
_MAX_ROUNDS = 6


@dataclass(slots=True, eq=False)
class Found:
    """A minimum, and how many starts of each origin ended there."""

    minimum: Minimum
    hits: Counter[Origin] = field(default_factory=Counter)


class Fit:
    """The minimization of twice the NLL of some data, with the POI free or fixed.

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood to minimize.
    data : Data
        The data to fit.
    poi : float or None
        Where the POI is fixed; ``None`` if it is free.
    initial : array, shape (n_parameters,), optional
        Where the fit begins, and fixed parameters are; as the likelihood has it by default.
    bounds : array, shape (n_parameters, 2), optional
        The same of the bounds.
    fixed : array of bool, shape (n_parameters,), optional
        The same of which parameters do not float.
    """

    def __init__(
        self,
        likelihood: Likelihood,
        data: Data,
        poi: float | None,
        *,
        initial: Vector | None = None,
        bounds: NDArray[np.float64] | None = None,
        fixed: NDArray[np.bool_] | None = None,
    ) -> None:
        self.likelihood = likelihood
        self.data = data
        self.free = ~((likelihood.fixed if fixed is None else fixed) | likelihood.idle)
        self.initial = (likelihood.initial if initial is None else initial).copy()
        if poi is not None:
            self.free[likelihood.poi] = False
            self.initial[likelihood.poi] = poi
        if bounds is None:
            bounds = np.column_stack((likelihood.lower, likelihood.upper))
        self.bounds = bounds
        self.found: list[Found] = []
        self.starts: Counter[Origin] = Counter()
        self._tried: set[bytes] = set()

    @property
    def lowest(self) -> Minimum:
        """The lowest minimum that was found."""
        return min((found.minimum for found in self.found), key=lambda minimum: minimum.value)

    @property
    def certified(self) -> list[Minimum]:
        """All minima that are certified, lowest first."""
        minima = (found.minimum for found in self.found)
        return sorted((m for m in minima if m.distance < CERTIFIED), key=lambda m: m.value)

    def descend(self, start: Vector, origin: Origin) -> Minimum | None:
        """Follow a start down; ``None`` if the likelihood is not defined there, or it was tried."""
        point = self.within(start)
        key = point.tobytes()
        if key in self._tried:
            return None
        self._tried.add(key)
        self.starts[origin] += 1
        known = [found.minimum for found in self.found]
        minimum = newton.minimize(
            lambda parameters: self.likelihood.evaluate(parameters, self.data),
            point,
            self.bounds,
            self.free,
            known,
        )
        if not np.isfinite(minimum.value):
            return None
        return self._add(minimum, origin)

    def descend_from_all(self, minima: Iterable[Minimum]) -> None:
        """Follow the minima of another fit down."""
        for minimum in list(minima):
            self.descend(minimum.parameters, "other")

    def draw(self, random: np.random.Generator, count: int) -> None:
        """Begin at points that are drawn at random around the initial values.

        Parameters of interpolations are drawn from normal distributions of twice the width of
        their constraints, those without a constraint from log-normal ones; the gammas follow.
        """
        likelihood = self.likelihood
        scaled = ~likelihood.constrained
        scaled[likelihood.poi] = False
        for _number in range(count):
            drawn = random.normal(size=len(likelihood))
            start = np.where(scaled, self.initial * np.exp(drawn), self.initial)
            start[: likelihood.interpolated] += _DRAWN * drawn[: likelihood.interpolated]
            self.descend(start, "random")

    def within(self, start: Vector) -> Vector:
        """Return a start within the bounds, with fixed parameters where this fit has them.

        It is moved towards the initial values until the likelihood is defined there.
        """
        for _halving in range(_HALVINGS):
            point: Vector = np.where(self.free, np.clip(start, *self.bounds.T), self.initial)
            if np.isfinite(self.likelihood.value(point, self.data)):
                break
            start = (start + self.initial) / 2
        return point

    def where(self, minimum: Minimum) -> Found:
        """Return the known minimum that this one is; its position may improve later."""
        return next(found for found in self.found if found.minimum is minimum)

    def _add(self, minimum: Minimum, origin: Origin) -> Minimum:
        for found in self.found:
            known = found.minimum
            if minimum is known or (
                abs(minimum.value - known.value) < SAME
                and known.is_near(minimum.parameters, self.free)
            ):
                found.hits[origin] += 1
                if minimum.distance < known.distance:
                    found.minimum = minimum
                return found.minimum
        self.found.append(Found(minimum, Counter({origin: 1})))
        return minimum


def settle(fits: Sequence[Fit]) -> None:
    """Begin each fit at the minima of the others, until none has a lower one for another."""
    for _round in range(_MAX_ROUNDS):
        before = [fit.lowest.value for fit in fits]
        for fit in fits:
            for other in fits:
                if other is not fit:
                    fit.descend_from_all(other.certified[:SHARED])
        if all(fit.lowest.value > b - SAME for fit, b in zip(fits, before, strict=True)):
            return
