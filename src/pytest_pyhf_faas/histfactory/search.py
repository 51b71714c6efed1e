"""Search for the minima of the five fits behind a CLs value.

Two of them have a name. The *nominal* minimum is where a descent from pyhf's initial values ends;
the *lowest* is the lowest of all that were found. Published likelihoods have both, and not always
at the same place.

A search is a function of only the likelihood, the pool and the seed. Its starts come in two
phases: first pyhf's initial values, the points of the pool and the minima of the other fits; then
draws at random, and the lowest minimum with single parameters moved to their other side. A lowest
minimum that only the second phase finds is *new*: the pool of the pallet does not have it yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from pytest_pyhf_faas.histfactory import newton
from pytest_pyhf_faas.histfactory.asymptotics import asimov_poi, cls_values, tested_poi
from pytest_pyhf_faas.histfactory.errors import CertificationError, InvalidModel
from pytest_pyhf_faas.histfactory.minima import CERTIFIED, SAME, SHARED, Fit, Found, settle

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_pyhf_faas.histfactory.likelihood import Likelihood
    from pytest_pyhf_faas.histfactory.newton import Minimum

    Vector = NDArray[np.float64]

#: One of the two sets of minima.
Which = Literal["lowest", "nominal"]

FIXED, FREE, BACKGROUND = (
    "fixed_poi_fit_to_data",
    "free_fit_to_data",
    "background_fit_to_data",
)
FIXED_ASIMOV, FREE_ASIMOV = "fixed_poi_fit_to_asimov", "free_fit_to_asimov"

#: A nuisance parameter whose up and down variations bend the rates by this many standard deviations
#: of the data may have a second minimum.
_BENT = 0.1
#: One that is nearer to 0 than this may have it on either side.
_CENTRAL = 0.3
#: A start is followed if the NLL can come this much closer to the lowest minimum there than the
#: curvature at that minimum predicts.
_SURPRISE = 0.6
#: If it predicts more than this, no start is made.
_TOO_FAR = 30.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How long a search is.

    Attributes
    ----------
    draws : int
        Starts at random for the fit at the tested POI.
    background_draws : int
        The same for the background fit and for the fit to the Asimov data.
    sides : bool
        Whether single parameters are moved to their other side.
    """

    draws: int
    background_draws: int
    sides: bool


#: The effort of a reference.
THOROUGH = Effort(draws=24, background_draws=8, sides=True)
#: The effort of a certified result, when the starts of its pallet are already known.
BRIEF = Effort(draws=2, background_draws=1, sides=False)


@dataclass(frozen=True, slots=True, eq=False)
class MinimumSet:
    """One minimum for each of the five fits, and the CLs that follows from them.

    Attributes
    ----------
    minima : mapping
        By the name of the fit; the free fit to the Asimov data has its known minimum.
    twice_nll : mapping
        Twice the NLL of the five fits, as pyhf has it.
    cls : tuple of float, shape (6,)
        CLs_obs and the five CLs_exp.
    """

    minima: Mapping[str, Minimum]
    twice_nll: Mapping[str, float]
    cls: tuple[float, ...]

    @property
    def distance(self) -> float:
        """The largest of the estimated distances to the minima."""
        return max(float(minimum.distance) for minimum in self.minima.values())


class Search:
    """The minima of one hypothesis.

    Parameters
    ----------
    likelihood : Likelihood
        Of the background with a signal.
    test_poi, test_stat : float, str
        As for `pyhf.infer.hypotest`.
    pool : sequence of mapping
        Starts, each a value for some parameters by their names; the others are as pyhf has them.
    effort : Effort
        How long to search; ``None`` for only the nominal minima.
    seed : int
        Of the random draws.

    Attributes
    ----------
    nominal, lowest : MinimumSet
        The two sets of minima.
    fits : mapping of str to Fit
        The fits to the observed data, and the one to the Asimov data of the lowest minima.
    new : list of array
        Lowest minima that neither pyhf's initial values nor the pool lead to.
    helpful : mapping of str to list of int
        For each fit whose lowest minimum is not the one next to pyhf's initial values, which
        points of the pool lead there.

    Raises
    ------
    InvalidModel
        If the hypothesis cannot be tested.
    CertificationError
        If a minimum of either set is not certified.
    """

    def __init__(
        self,
        likelihood: Likelihood,
        test_poi: float = 1.0,
        test_stat: str = "qtilde",
        pool: Sequence[Mapping[str, float]] = (),
        effort: Effort | None = BRIEF,
        seed: int = 0,
    ) -> None:
        self.likelihood = likelihood
        self.test_stat = test_stat
        self.test_poi = test_poi
        tested, at_asimov = tested_poi(test_stat, test_poi), asimov_poi(test_stat)
        for defect in poi_defects(likelihood, test_poi, test_stat)[:1]:
            raise InvalidModel(defect)
        observed = likelihood.observed
        self._random = np.random.default_rng(seed)
        self.tested = tested
        fixed, background, free = (
            Fit(likelihood, observed, poi) for poi in (tested, at_asimov, None)
        )
        self.fits = {FIXED: fixed, BACKGROUND: background, FREE: free}
        nominal = {name: self._nominal(fit, name) for name, fit in self.fits.items()}
        self._improve_free(nominal)
        self.new: list[Vector] = []
        self.helpful: dict[str, list[int]] = {}
        starts = [_point(likelihood, start) for start in pool]
        if effort is not None:
            self._search(starts, effort, nominal)
        lowest = {name: fit.where(fit.lowest) for name, fit in self.fits.items()}
        asimov = self._asimov_fit(lowest[BACKGROUND].minimum)
        if nominal[BACKGROUND] is lowest[BACKGROUND]:
            nominal_asimov = asimov
        else:
            nominal_asimov = self._asimov_fit(nominal[BACKGROUND].minimum)
        nominal[FIXED_ASIMOV] = self._nominal(nominal_asimov, FIXED_ASIMOV)
        self.fits[FIXED_ASIMOV] = asimov
        if effort is None:
            lowest = nominal
        else:
            self._search_asimov(lowest[BACKGROUND].minimum, starts, effort)
            lowest[FIXED_ASIMOV] = asimov.where(asimov.lowest)
        self.nominal = self._set(nominal, nominal_asimov)
        self.lowest = self.nominal if lowest is nominal else self._set(lowest, asimov)

    # Descending

    def _nominal(self, fit: Fit, name: str) -> Found:
        minimum = fit.descend(fit.initial, "nominal")
        if minimum is None:
            why = self.likelihood.why_undefined(fit.initial, fit.data)
            raise InvalidModel(
                f"the likelihood is not defined where the {name.replace('_', ' ')} begins: {why}"
            )
        return fit.where(minimum)

    def _improve_free(self, nominal: dict[str, Found]) -> None:
        """Let the nominal free fit not end above the nominal fits with a fixed POI.

        Their points are starts for it, too.
        """
        free = self.fits[FREE]
        for name in (FIXED, BACKGROUND):
            fixed = nominal[name].minimum
            if fixed.value < nominal[FREE].minimum.value - SAME:
                minimum = free.descend(fixed.parameters, "other")
                if minimum is not None and minimum.value < nominal[FREE].minimum.value:
                    nominal[FREE] = free.where(minimum)

    def _search(self, pool: Sequence[Vector], effort: Effort, nominal: Mapping[str, Found]) -> None:
        fits = self.fits
        ends = {
            name: [fits[name].descend(start, "pool") for start in pool]
            for name in (FIXED, BACKGROUND)
        }
        settle(list(self.fits.values()))
        expected = {name: fit.lowest.value for name, fit in fits.items()}
        fits[FIXED].draw(self._random, effort.draws)
        fits[BACKGROUND].draw(self._random, effort.background_draws)
        if effort.sides:
            self._try_sides()
        settle(list(self.fits.values()))
        for name, fit in fits.items():
            if fit.lowest.value < expected[name] - SAME:
                self.new.append(fit.lowest.parameters)
        for name in fits:
            self._note_helpful(name, nominal[name].minimum, ends.get(name, ()))

    def _search_asimov(self, background: Minimum, pool: Sequence[Vector], effort: Effort) -> None:
        """Search for the minima of the fit with a fixed POI to the Asimov data."""
        fit = self.fits[FIXED_ASIMOV]
        fit.descend(fit.initial, "nominal")
        nominal = fit.found[0].minimum
        fit.descend_from_all([background, *self.fits[FIXED].certified[:SHARED]])
        ends = [fit.descend(start, "pool") for start in pool]
        expected = fit.lowest.value
        fit.draw(self._random, effort.background_draws)
        if fit.lowest.value < expected - SAME:
            self.new.append(fit.lowest.parameters)
        self._note_helpful(FIXED_ASIMOV, nominal, ends)

    def _note_helpful(self, name: str, nominal: Minimum, ends: Sequence[Minimum | None]) -> None:
        lowest = self.fits[name].lowest.value
        if nominal.value > lowest + SAME:
            self.helpful[name] = [
                index
                for index, end in enumerate(ends)
                if end is not None and end.value < lowest + SAME
            ]

    def _asimov_fit(self, background: Minimum) -> Fit:
        data = self.likelihood.asimov(background.parameters)
        return Fit(self.likelihood, data, self.tested)

    # The other side of single parameters

    def _try_sides(self) -> None:
        """Look around the lowest minimum at the tested POI, and around each lower one.

        Where the likelihood rises on the other side as its curvature predicts, there is nothing
        to find.
        """
        fit = self.fits[FIXED]
        explored = None
        while fit.lowest is not explored:
            explored = centre = fit.lowest
            inverse = newton.covariance(centre, fit.free & ~centre.held)
            if inverse is None:
                return
            for index, value in self._other_sides(fit, centre):
                moved = np.array([index])
                shift = np.array([value - centre.parameters[index]])
                step, foretold = newton.conditional_step(inverse, moved, shift)
                if foretold >= _TOO_FAR:
                    continue
                start = fit.within(centre.parameters + step)
                rest = fit.free.copy()
                rest[index] = False
                there = self.likelihood.evaluate(start, fit.data)
                rise = newton.estimated_minimum(*there, rest) - fit.lowest.value
                if rise < _SURPRISE * foretold:
                    fit.descend(start, "side")

    def _other_sides(self, fit: Fit, minimum: Minimum) -> Iterator[tuple[int, float]]:
        """Give which parameter to move from a minimum, and where to."""
        here, (lower, upper) = minimum.parameters, fit.bounds.T
        movable = fit.free & ~minimum.held
        bends = np.where(movable, self.likelihood.bends(here), 0.0)
        for index in np.flatnonzero(bends > _BENT):
            for side in (1.0, -1.0):
                if here[index] * side < _CENTRAL and lower[index] <= side <= upper[index]:
                    yield int(index), side
        for index in np.flatnonzero(movable & ~self.likelihood.constrained):
            for value in (lower[index], 2 * here[index]):
                if value != here[index] and value <= upper[index]:
                    yield int(index), float(value)

    # Answering

    def _set(self, found: Mapping[str, Found], asimov: Fit) -> MinimumSet:
        minima = {name: one.minimum for name, one in found.items()}
        for name, minimum in minima.items():
            if not minimum.distance < CERTIFIED:
                raise CertificationError(
                    f"the {name.replace('_', ' ')} ended at an estimated distance of "
                    f"{minimum.distance:.1e} to its minimum, in twice the NLL"
                )
        likelihood = self.likelihood
        offset = {"data": likelihood.saturated(likelihood.observed)}
        offset["asimov"] = likelihood.saturated(asimov.data)
        values = {name: minimum.value for name, minimum in minima.items()}
        values[FREE_ASIMOV] = 0.0  # the parameters that the data were built from
        cls = cls_values(
            self.test_stat,
            self.test_poi,
            values,
            float(minima[FREE].parameters[likelihood.poi]),
            asimov_poi(self.test_stat),
        )
        twice_nll = {
            name: value + offset["asimov" if "asimov" in name else "data"]
            for name, value in values.items()
        }
        return MinimumSet(minima, twice_nll, cls)


def poi_defects(likelihood: Likelihood, test_poi: float, test_stat: str) -> list[str]:
    """Return why the parameter of interest cannot be tested, a sentence for each reason."""
    poi = likelihood.poi
    name, lower, upper = likelihood.names[poi], likelihood.lower[poi], likelihood.upper[poi]
    found = []
    if likelihood.fixed[poi]:
        found.append(
            f"the measurement fixes the parameter of interest {name}: nothing can be tested"
        )
    found += [
        f"the test has fits with the parameter of interest {name} at {value:g}, which lies "
        f"outside of its bounds, {lower:g} and {upper:g}"
        for value in (tested_poi(test_stat, test_poi), asimov_poi(test_stat))
        if not lower <= value <= upper
    ]
    return found


def _point(likelihood: Likelihood, values: Mapping[str, float]) -> Vector:
    point: Vector = likelihood.initial.copy()
    for index, name in enumerate(likelihood.names):
        if name in values:
            point[index] = values[name]
    return point
