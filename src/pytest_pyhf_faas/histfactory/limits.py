r"""Upper limits on the parameter of interest, observed and expected, by the asymptotic formulae.

CLs as a function of the POI needs two fits for each value of it: one to the observed data, one to
the Asimov data. The free fit and the background fit are done once. Each fit begins where the
nearest one ended, moved along the minimum as its Hessian predicts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from pytest_pyhf_faas.histfactory import newton
from pytest_pyhf_faas.histfactory.asymptotics import BAND, asimov_poi, cls_values
from pytest_pyhf_faas.histfactory.errors import CertificationError
from pytest_pyhf_faas.histfactory.minima import CERTIFIED, SAME, SHARED, Fit
from pytest_pyhf_faas.histfactory.search import (
    BACKGROUND,
    FIXED,
    FIXED_ASIMOV,
    FREE,
    FREE_ASIMOV,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_pyhf_faas.histfactory.likelihood import Data, Likelihood
    from pytest_pyhf_faas.histfactory.newton import Minimum
    from pytest_pyhf_faas.histfactory.search import Search, Which

    Vector = NDArray[np.float64]

#: The fits that a limit follows from; the free fit to the Asimov data has a known minimum.
MIXED = (FIXED, FREE, BACKGROUND, FIXED_ASIMOV)
#: Which of the six limits is the observed one.
_OBSERVED = 0
#: How exact a limit is, relative to it.
PRECISION = 1e-6
#: The largest limit is searched up to this many times the first estimate.
_FAR = 2.0**20
#: A test statistic of the Asimov data up to this gives the width of the POI.
_TELLING = 100.0
#: How many values of the POI are tried to find one that does.
_TRIES = 24
#: A smaller rise of CLs from one value of the POI to a larger one does not count.
_RISE = 1e-6
#: CLs jumps if it falls by this share of the level between values as close, relative to them.
_JUMP, _CLOSE = 1e-3, 1e-5
#: How often a limit is recalculated because a lower minimum turned up there.
_MAX_ROUNDS = 5
_BELOW = 1e-300
#: How many steps of inverse interpolation, each through how many values, before Brent's method.
_MAX_STEPS, _NEAREST = 6, 4
#: CLs is next to the level if it is off by no more than this share of it.
_NEAR = 1e-3


@dataclass(frozen=True, slots=True)
class UpperLimits:
    """The largest values of the POI that are not excluded.

    Attributes
    ----------
    observed : float or None
        The POI at which the observed CLs crosses the level; ``None`` if it does not.
    expected : tuple of (float or None), shape (5,)
        The same for the expected CLs, at -2, -1, 0, 1, 2 standard deviations.
    scan : tuple of tuple of float, shape (n, 7)
        Tested values of the POI in ascending order, each with its CLs_obs and CLs_exp: those
        for the observed limit, which needs fits to the observed data.
    distance : float
        The largest estimated distance to a minimum of all fits, in twice the NLL.
    remarks : tuple of str
        Remarks for the reader.
    """

    observed: float | None
    expected: tuple[float | None, ...]
    scan: tuple[tuple[float, ...], ...]
    distance: float
    remarks: tuple[str, ...]


def upper_limits(
    search: Search, which: Which | Mapping[str, Which] = "lowest", level: float = 0.05
) -> UpperLimits:
    r"""Return the upper limits of a hypothesis.

    Parameters
    ----------
    search : Search
        Its minima, with the test statistic "qtilde" or "q".
    which : "lowest" or "nominal", or mapping of these
        At which minima: the lowest of those that are known at each value of the POI, or where a
        descent from pyhf's initial values ends there. By the names of the fits in `MIXED`, each
        of them may have its own.
    level : float
        CLs at the limit: 0.05 for limits at 95 % confidence level.

    Raises
    ------
    CertificationError
        If a fit ended at no minimum.
    ValueError
        If the test is one of discovery, which has no upper limit, or the level is invalid.

    Notes
    -----
    As `pyhf.infer.intervals.upper_limits.upper_limit`: the Asimov data are built from the
    background fit, and CLs follows from Equations (14) to (16), (59), (65) and (89) of G. Cowan,
    K. Cranmer, E. Gross, O. Vitells, Eur. Phys. J. C 71 (2011) 1554 (arXiv:1007.1727). Where CLs
    crosses the level more than once the largest crossing that was seen is the limit.
    """
    return _limits_of(search, which, level).found()


def observed_limit(
    search: Search, which: Which | Mapping[str, Which] = "lowest", level: float = 0.05
) -> float | None:
    """Return only the observed limit, as `upper_limits` does, in less time."""
    return _limits_of(search, which, level, [_OBSERVED]).found().observed


def _limits_of(
    search: Search,
    which: Which | Mapping[str, Which],
    level: float,
    wanted: Sequence[int] = range(1 + len(BAND)),
) -> _Limits:
    if search.test_stat == "q0":
        raise ValueError("a test of discovery, q0, has no upper limit")
    if not 0 < level < 1:
        raise ValueError(
            f"the level of CLs at the limit is {level:g}: it must lie between 0 and 1, 0.05 for "
            "limits at 95 % confidence level"
        )
    choice = dict.fromkeys(MIXED, which) if isinstance(which, str) else which
    return _Limits(search, choice, level, wanted)


class _Profile:
    """Twice the NLL of some data as a function of the POI, all else at its minimum."""

    def __init__(self, likelihood: Likelihood, data: Data, known: Iterable[Minimum]) -> None:
        self._likelihood = likelihood
        self._data = data
        #: Minima along each branch that is followed; empty if each fit starts again.
        self._branches = [[minimum] for minimum in known]
        self._fits: dict[float, Fit] = {}

    def at(self, poi: float) -> Minimum | None:
        """Return the minimum; ``None`` if the likelihood is not defined there."""
        if poi not in self._fits:
            fit = self._fits[poi] = Fit(self._likelihood, self._data, poi)
            for branch in self._branches:
                end = fit.descend(self._foretold(branch, poi, fit), "other")
                if end is not None:
                    branch.append(end)
            if not self._branches:
                fit.descend(fit.initial, "nominal")
        fit = self._fits[poi]
        return fit.lowest if fit.found else None

    def check(self, poi: float) -> bool:
        """Start again; return whether a lower minimum was found, which is followed from now on."""
        if not self._branches:
            return False
        known, fit = self.at(poi), self._fits[poi]
        lower = fit.descend(fit.initial, "nominal")
        if known is None or lower is None or lower.value > known.value - SAME:
            return False
        self._branches.append([lower])
        self._fits.clear()
        return True

    def _foretold(self, branch: list[Minimum], poi: float, fit: Fit) -> Vector:
        """Return where the nearest minimum of a branch moves with the POI, to first order."""
        place = self._likelihood.poi
        nearest = min(branch, key=lambda minimum: abs(minimum.parameters[place] - poi))
        moved = nearest.parameters.copy()
        moved[place] = poi
        step = newton.followed(nearest, fit.free, place, poi)
        return moved if step is None else nearest.parameters + step


class _Limits:
    """The search for the six crossings of one set of minima, or for those that are wanted."""

    def __init__(
        self,
        search: Search,
        choice: Mapping[str, Which],
        level: float,
        wanted: Sequence[int],
    ) -> None:
        likelihood, fits = search.likelihood, search.fits
        free, background = (
            getattr(search, choice[name]).minima[name] for name in (FREE, BACKGROUND)
        )
        known: dict[str, list[Minimum]] = {FIXED: [], FIXED_ASIMOV: []}
        if choice[FIXED] == "lowest":
            known[FIXED] = [m for name in (FIXED, FREE) for m in fits[name].certified[:SHARED]]
        if choice[FIXED_ASIMOV] == "lowest":
            known[FIXED_ASIMOV] = [*fits[FIXED_ASIMOV].certified[:SHARED], background]
        asimov = likelihood.asimov(background.parameters)
        self._observed = _Profile(likelihood, likelihood.observed, known[FIXED])
        self._asimov = _Profile(likelihood, asimov, known[FIXED_ASIMOV])
        self._test_stat = search.test_stat
        self._level = level
        self._wanted = wanted
        self._poi = likelihood.poi
        self._remarks: list[str] = []
        self._scan: dict[float, tuple[float, ...]] = {}
        self._distance = 0.0
        self._undefined = np.inf
        self._free = self._widened(likelihood, free)
        self._name = likelihood.names[self._poi]
        self._bounds = likelihood.lower[self._poi], likelihood.upper[self._poi]
        self._width = self._first_width(abs(search.tested) or 1.0)

    def found(self) -> UpperLimits:
        """Return the limits, once no new start ends lower."""
        limits: list[float | None] = []
        for _round in range(_MAX_ROUNDS):
            self._scan.clear()
            self._undefined = np.inf
            limits = self._limits()
            lower = [
                profile.check(limit)
                for index, limit in enumerate(limits)
                if limit is not None
                for profile in self._profiles(index)
            ]
            if not any(lower):
                break
        self._note(limits)
        return UpperLimits(
            limits[0],
            tuple(limits[1:]),
            tuple((poi, *self._scan[poi]) for poi in self._tested(_OBSERVED)),
            self._distance,
            tuple(self._remarks),
        )

    def _first_width(self, poi: float) -> float:
        """Return the standard deviation of the POI, by a test of one suitable value.

        0 if the profile likelihood does not depend on the POI, as far as it is defined.
        """
        low, high, farthest = 0.0, np.inf, poi * _FAR**2
        for _try in range(_TRIES):
            asimov = self._asimov.at(poi)
            value = np.inf if asimov is None else asimov.value
            if SAME < value < _TELLING:
                return poi / float(np.sqrt(value))
            if value <= SAME:
                low = poi
                if poi >= farthest:
                    return 0.0
                poi = min(poi * 2**10, float(np.sqrt(poi * high)))
            else:
                high = poi
                poi = max(poi / min(float(np.sqrt(value)), 2**10), float(np.sqrt(low * poi)))
        return poi

    def _limits(self) -> list[float | None]:
        if not self._width:
            return [None] * (1 + len(BAND))
        # Where the expected limits would be by the curvature alone (Equations (73) and (89)).
        guesses = [self._width * (point + ndtri(1 - self._level * ndtr(point))) for point in BAND]
        for guess in guesses:
            self._cls(guess)
        self._enclose(min(guesses), max(guesses))
        return [
            self._crossing(index) if index in self._wanted else None
            for index in range(1 + len(BAND))
        ]

    def _enclose(self, low: float, high: float) -> None:
        """Test smaller and larger values until each CLs is above and below the level."""
        farthest = high * _FAR
        while max(self._cls(high)) > self._level and high < farthest:
            high *= 2
        nearest = low / _FAR
        while min(self._cls(low)) < self._level and low > nearest:
            low /= 2

    def _crossing(self, index: int) -> float | None:
        """Return where one of the six CLs crosses the level; 0 or ``None`` if it does not.

        Inverse interpolation finds it in two or three steps where CLs is smooth, and gives way to
        Brent's method where it is not.
        """
        low, high = self._around(index)
        if not low or high == np.inf:
            return None if low else 0.0
        guess = np.inf
        for _step in range(_MAX_STEPS):
            last, guess = guess, self._interpolated(index, low, high)
            if abs(guess - last) < PRECISION * low and self._is_near(last, index):
                return float(np.clip(guess, low, high))  # what is left is the square of that
            if not low < guess < high:
                break
            self._cls(guess, index)
            low, high = self._around(index)

        def excess(poi: float) -> float:
            return float(np.log(max(self._cls(poi, index)[index], _BELOW) / self._level))

        return float(brentq(excess, low, high, xtol=PRECISION * low / 4, rtol=PRECISION / 4))

    def _around(self, index: int) -> tuple[float, float]:
        """Return the largest tested value with a CLs above the level, and the next one.

        0 or infinity where there is none.
        """
        tested = self._tested(index)
        low = max((p for p in tested if self._scan[p][index] > self._level), default=0.0)
        return low, min((poi for poi in tested if poi > low), default=np.inf)

    def _tested(self, index: int) -> list[float]:
        """Return the values that one of the six CLs was calculated for, in their order."""
        return sorted(poi for poi, cls in self._scan.items() if not np.isnan(cls[index]))

    def _is_near(self, poi: float, index: int) -> bool:
        """Whether CLs of a tested value is next to the level."""
        return abs(self._scan[poi][index] - self._level) < _NEAR * self._level

    def _interpolated(self, index: int, low: float, high: float) -> float:
        """Return where the polynomial through two values and those nearest is at the level."""
        poi = np.array(list(self._scan))
        # Nearly straight, since CLs is nearly the tail of a normal distribution.
        values = ndtri([cls[index] for cls in self._scan.values()]) - ndtri(self._level)
        others = ~np.isin(poi, (low, high))
        nearest = np.lexsort((np.abs(values), others))[:_NEAREST]
        nearest = nearest[np.isfinite(values[nearest])]
        return _at_zero(values[nearest], poi[nearest])

    def _profiles(self, index: int) -> tuple[_Profile, ...]:
        """Return the inputs of one of the six CLs: for the expected ones, of the Asimov data."""
        return (self._asimov, self._observed) if index == _OBSERVED else (self._asimov,)

    def _cls(self, poi: float, index: int = _OBSERVED) -> tuple[float, ...]:
        """Return the six CLs; the observed one is not a number where only others are needed."""
        if poi not in self._scan or np.isnan(self._scan[poi][index]):
            fixed = [self._fixed(profile, poi) for profile in self._profiles(index)]
            if np.inf in fixed:
                self._undefined = min(self._undefined, poi)
            self._scan[poi] = self._cls_from(poi, *fixed)
        return self._scan[poi]

    def _cls_from(self, poi: float, asimov: float, observed: float = np.nan) -> tuple[float, ...]:
        """Return the six CLs from the fits with the POI fixed; 0 from those that are infinite."""
        if asimov == np.inf:
            return (0.0,) * (1 + len(BAND))
        values = {
            FIXED_ASIMOV: asimov,
            FIXED: observed if observed < np.inf else np.nan,
            FREE: self._free.value,
            FREE_ASIMOV: 0.0,  # the parameters that the data were built from
        }
        mu_hat = float(self._free.parameters[self._poi])
        cls = cls_values(self._test_stat, poi, values, mu_hat, asimov_poi(self._test_stat))
        return cls if observed < np.inf or np.isnan(observed) else (0.0, *cls[1:])

    def _fixed(self, profile: _Profile, poi: float) -> float:
        """Return twice the NLL of a certified fit with the POI fixed; infinite if it has none."""
        minimum = profile.at(poi)
        if minimum is None:
            return np.inf
        self._distance = max(self._distance, minimum.distance)
        if not self._distance < CERTIFIED:
            raise CertificationError(
                f"a fit with {self._name} at {poi:.6g} ended at an estimated distance of "
                f"{self._distance:.1e} to its minimum, in twice the NLL"
            )
        return minimum.value

    def _widened(self, likelihood: Likelihood, free: Minimum) -> Minimum:
        """Return the free fit with the upper bound of the POI far enough not to constrain it."""
        bounds = np.column_stack((likelihood.lower, likelihood.upper))
        upper = bounds[self._poi, 1]
        if free.parameters[self._poi] < upper:
            return free
        farthest = upper * _FAR**2
        while bounds[self._poi, 1] <= min(free.parameters[self._poi], farthest):
            bounds[self._poi, 1] *= 2
            fit = Fit(likelihood, likelihood.observed, None, bounds=bounds)
            end = fit.descend(free.parameters, "other")
            if end is None:
                break
            free = end
        remark = (
            f"the free fit has {likelihood.names[self._poi]} at its upper bound {upper:g}: the "
            f"bound was widened to {bounds[self._poi, 1]:g}"
        )
        if free.parameters[self._poi] >= farthest:
            remark += ", and still ends there: the observed limit may be too small"
        self._remarks.append(remark)
        return free

    def _note(self, limits: list[float | None]) -> None:
        names = [
            "observed",
            *(f"expected {point:+d} sigma" if point else "expected" for point in BAND),
        ]
        if not self._width:
            self._remarks.append(f"no upper limit: the likelihood does not depend on {self._name}")
            return
        if self._undefined < np.inf:
            self._remarks.append(
                f"with {self._name} at {self._undefined:.3g} the likelihood is not defined, as "
                "where a rate is negative: this value and larger ones count as excluded"
            )
        upper = self._bounds[1]
        beyond = [limit for limit in limits if limit is not None and limit > upper]
        if beyond:
            self._remarks.append(
                f"{len(beyond)} of 6 limits lie beyond the upper bound of {self._name}, {upper:g}"
            )
        for index, (name, limit) in enumerate(zip(names, limits, strict=True)):
            if limit is None:
                farthest = max(self._scan)
                self._remarks.append(
                    f"no {name} limit: CLs is above {self._level:g} up to {self._name} = "
                    f"{farthest:.3g}"
                )
            elif limit == 0:
                self._remarks.append(
                    f"the {name} limit is 0: CLs is below {self._level:g} down to {self._name} = "
                    f"{min(self._scan):.3g}"
                )
            else:
                low, high = self._around(index)
                before, after = (self._scan[poi][index] for poi in (low, high))
                jumps = before - after > _JUMP * self._level
                if jumps and high - low < _CLOSE * limit and high < self._undefined:
                    self._remarks.append(
                        f"the {name} limit is where CLs jumps from {before:.4g} to {after:.4g}: "
                        "from there on a fit ends at another minimum"
                    )
        for index, name in enumerate(names):
            points = self._tested(index)
            values = [self._scan[poi][index] for poi in points]
            rises = [
                (a, b)
                for a, b, before, after in zip(points, points[1:], values, values[1:], strict=False)
                if after > before + _RISE
            ]
            if rises:
                a, b = rises[-1]
                self._remarks.append(
                    f"the {name} CLs is not monotonic: it rises from {self._name} = {a:.4g} to "
                    f"{b:.4g}; the limit is the largest crossing that was seen"
                )


def _at_zero(places: Vector, values: Vector) -> float:
    """Return the polynomial through some values at their places, at 0 (Lagrange)."""
    with np.errstate(all="ignore"):
        shares = places / (places - places[:, None])
    np.fill_diagonal(shares, 1.0)
    return float(shares.prod(axis=1) @ values)
