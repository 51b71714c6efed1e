r"""Test hypotheses with minima that are proven.

Like `worker`, this runs on workers; it needs pyhf and JAX, and of this package only the modules
that run there with it.

The five fits behind CLs are those of `pyhf.infer.hypotest`, which is called as always: only its
optimizer is ours. So CLs comes from pyhf's own calculator: the test statistics of Equations (14)
and (16) of Cowan, Cranmer, Gross, Vitells, Eur. Phys. J. C 71 (2011) 1554 (arXiv:1007.1727), their
asymptotic distributions in Sections 3.6 and 3.7, the Asimov data set of Section 3.2, and CLs as the
ratio of the two p-values (A. L. Read, J. Phys. G 28 (2002) 2693).

A fit is certified when, at the lowest minimum that any starting point led to, the estimated
distance :math:`\frac12 g^T H^{-1} g` to it is below `CERTIFIED`, g and H being the exact gradient
and Hessian of twice the negative log-likelihood over the parameters that are free and not held by a
bound. It is the quantity that Minuit calls EDM (F. James, M. Roos, Comput. Phys. Commun. 10 (1975)
343), for the error definition 1 of twice the negative log-likelihood.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_pyhf_faas import newton, worker
from pytest_pyhf_faas.likelihood import Likelihood

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from pytest_pyhf_faas.newton import Minimum

    Vector = NDArray[np.float64]

#: A minimum is proven when its estimated distance is below this, in twice the NLL.
CERTIFIED = 1e-8
#: Two minima are one if they are as close as this in twice the NLL and near each other.
_SAME = 1e-6
#: A nuisance parameter whose up and down variations bend the rates by so many standard deviations
#: of the data may have a second minimum.
_BENT = 0.1
#: From here on the others do not follow when it is moved: their response is not the quadratic one.
_STRONGLY_BENT = 0.3
#: One that is nearer to 0 than this may have it on either side.
_CENTRAL = 0.3
#: A start is followed if the NLL can come this much closer to the lowest minimum there than the
#: curvature at that minimum foretells.
_SURPRISE = 0.6
#: Where it foretells more than this, by many standard deviations, no start is made.
_TOO_FAR = 30.0
#: How often a start where the likelihood is not defined is moved half way back.
_HALVINGS = 6
#: Higher minima are told of when they are as near as this in twice the NLL.
_NEARBY = 10.0
#: The order in which `pyhf.infer.hypotest` asks for its fits.
_ORDER = (
    "fixed_poi_fit_to_data",
    "free_fit_to_data",
    "background_fit_to_data",
    "fixed_poi_fit_to_asimov",
    "free_fit_to_asimov",
)
#: How many starts are drawn at random where one minimum is known, and how many more for each
#: further one: who has several may have more. At most so many; as many in a thorough search.
_DRAWS, _MORE_DRAWS, _MOST_DRAWS = 4, 10, 120
#: How far they are drawn, in standard deviations of the constraint terms. Wide enough to leave the
#: basin of the lowest minimum often, near enough for the rates to stay positive mostly.
_DRAWN = 2.0
#: Minima that are remembered as starts for the next patches.
_MAX_REMEMBERED = 12
#: Repetitions until no minimum of one fit is a better start for another.
_MAX_ROUNDS = 5


#: What a worker process remembers between patches: where those of one pallet had minima, by the
#: names of the parameters. Neighbours in the signal grid share them.
_remembered: dict[tuple[str, ...], deque[NDArray[np.float64]]] = {}


class CertificationError(Exception):
    """A minimum could not be proven."""


def certify_batch(batch: dict[str, Any]) -> dict[str, Any]:
    """Do what `worker.fit_batch` does, with proven minima.

    Parameters
    ----------
    batch : dict
        As for `worker.fit_batch`.

    Returns
    -------
    dict
        The same, and in each result a ``certificate``: for each of the five fits the
        ``distance`` to the minimum, how many ``starts`` were tried, how many of them ``reached``
        the lowest minimum and how many were ``dropped`` (see `CertifyingOptimizer`), and the
        ``others``: minima that lie higher by ``gap``, the ``parameter`` in which they differ most,
        where it is ``at`` and where it is in the lowest (``lowest_at``), and the CLs that one gets
        there. Also ``rounding``, see `Likelihood.rounding`.
    """
    return worker.fit_batch(batch, certified_test)


def certified_test(model: Any, observations: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Do what `worker.hypotest` does, with proven minima.

    Raises
    ------
    CertificationError
        If a minimum could not be proven.
    ImportError
        If there is no JAX.
    """
    import pyhf

    try:
        import jax  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "certified fits need JAX where the workers run: pip install jax"
        ) from error
    tensorlib, usual = pyhf.get_backend()
    observed = np.asarray(observations, dtype=float)
    optimizer = CertifyingOptimizer(model, observed, thorough=config["thorough"])
    pyhf.set_backend(tensorlib, optimizer)
    try:
        for _round in range(_MAX_ROUNDS):
            optimizer.begin()
            result = worker.hypotest(model, observations, config)
            if optimizer.settled():
                break
        else:
            raise CertificationError(
                f"the fits found lower minima for each other even after {_MAX_ROUNDS} rounds"
            )
        certificate = optimizer.certificate()
        for fit, minimum, other in optimizer.other_minima():
            optimizer.begin(instead={fit: minimum})
            with np.errstate(all="ignore"):  # CLs may not be defined there
                there = worker.hypotest(model, observations, config)
            other |= {"CLs_obs": there["CLs_obs"], "CLs_exp": there["CLs_exp"]}
            certificate[fit]["others"].append(other)
    finally:
        pyhf.set_backend(tensorlib, usual)
    worst = max(
        certificate, key=lambda fit: np.nan_to_num(certificate[fit]["distance"], nan=np.inf)
    )
    if not certificate[worst]["distance"] < CERTIFIED:
        raise CertificationError(
            f"the {worst.replace('_', ' ')} ended at an estimated distance of "
            f"{certificate[worst]['distance']:.1e} to its minimum"
        )
    return {**result, "certificate": certificate, "rounding": optimizer.likelihood.rounding}


@dataclass(slots=True, eq=False)
class _Fit:
    """One of the minimizations: of which data, with which parameters fixed where."""

    data: Vector
    start: Vector
    bounds: NDArray[np.float64]
    free: NDArray[np.bool_]
    minima: list[Minimum] = field(default_factory=list)
    reached: list[int] = field(default_factory=list)
    explored: Minimum | None = None
    dropped: int = 0
    tried: list[Vector] = field(default_factory=list)

    @property
    def lowest(self) -> Minimum:
        return min(self.minima, key=lambda minimum: minimum.value)

    def with_fixed(self, parameters: Vector) -> Vector:
        """Return a point with the fixed parameters where this fit has them."""
        return np.where(self.free, np.clip(parameters, *self.bounds.T), self.start)

    def add(self, minimum: Minimum) -> None:
        for number, known in enumerate(self.minima):
            if minimum is known or (
                abs(minimum.value - known.value) < _SAME
                and known.is_near(minimum.parameters, self.free)
            ):
                self.reached[number] += 1
                if minimum.distance < known.distance:
                    self.minima[number] = minimum
                return
        self.minima.append(minimum)
        self.reached.append(1)


class CertifyingOptimizer:
    """An optimizer for one pyhf model that proves its minima.

    Each fit is begun where pyhf begins it and at all minima of the other fits. Since published
    likelihoods do have second minima, it is then tried again around the lowest one, with each
    nuisance parameter that bends the expected rates one standard deviation away on the other side
    (in the fits to data at a fixed POI also those that bend them little), with all of them there
    together, and with each free normalization at its lower bound and doubled. Where the likelihood
    rises there as its curvature foretells, there is nothing to find and the start is dropped; the
    others are followed. Before that, the fit to the observed data at the tested POI is begun where
    earlier patches of this process had minima, and at points that are drawn at random around pyhf's
    start, each nuisance parameter of an interpolation with twice the width of its constraint: in
    stau_combined some ten of them together lead to a minimum that is lower by up to 6, which one
    in ten of such draws finds and no search along single parameters.

    Parameters
    ----------
    model : pyhf.Model
        What is fitted.
    observations : array, shape (n_data,)
        The observed data.
    thorough : bool
        Whether to draw as many starts as for a reference.
    """

    name = "certified"

    def __init__(self, model: Any, observations: Vector, *, thorough: bool = False) -> None:
        self.model = model
        self._thorough = thorough
        self.likelihood = Likelihood(model, observations)
        self._observations = observations
        self._fits: dict[bytes, _Fit] = {}
        self._order: list[_Fit] = []
        self._instead: Mapping[str, Minimum] = {}
        config = model.config
        self._constrained = np.zeros(config.npars, dtype=bool)
        for name in config.par_order:
            self._constrained[config.par_slice(name)] = config.param_set(name).constrained
        # Those of interpolations, whose constraint terms have the width 1.
        self._normal = self._constrained & (np.array(config.suggested_bounds())[:, 0] < 0)

    def begin(self, instead: Mapping[str, Minimum] | None = None) -> None:
        """Begin a test anew, perhaps with other minima than the lowest in some of its fits."""
        self._order = []
        self._instead = instead or {}

    def minimize(
        self,
        objective: Any,  # noqa: ARG002 - it is twice the NLL
        data: Any,
        pdf: Any,
        init_pars: Any,
        par_bounds: Any,
        fixed_vals: Any = None,
        *,
        return_fitted_val: bool = False,
        **_options: Any,
    ) -> Any:
        """Minimize as pyhf's optimizers do; see `pyhf.optimize.mixins.OptimizerMixin.minimize`."""
        if pdf is not self.model:
            raise ValueError("this optimizer was made for another model")
        fit = self._fit(data, init_pars, par_bounds, fixed_vals or [])
        best = self._instead.get(_ORDER[len(self._order)])
        self._order.append(fit)
        if best is None:
            # Asimov data that are made at another minimum are a side issue: near is good enough.
            self._explore(fit, thoroughly=not self._instead)
            best = fit.lowest
        return (best.parameters, best.value) if return_fitted_val else best.parameters

    def settled(self) -> bool:
        """Whether no minimum of one fit gives another a lower one; improve them if so."""
        before = [fit.lowest.value for fit in self._order]
        for fit in self._order:
            self._explore(fit)
        after = [fit.lowest.value for fit in self._order]
        return all(b - a < _SAME for b, a in zip(before, after, strict=True))

    def certificate(self) -> dict[str, Any]:
        """Return how sure each of the five fits of the last test is."""
        return {
            name: {
                "distance": fit.lowest.distance,
                "starts": len(fit.tried),
                "reached": fit.reached[fit.minima.index(fit.lowest)],
                "dropped": fit.dropped,
                "others": [],
            }
            for name, fit in zip(_ORDER, self._order, strict=True)
        }

    def other_minima(self) -> list[tuple[str, Minimum, dict[str, Any]]]:
        """Return the higher minima of the fits, nearest first, and what tells them apart."""
        found = []
        for name, fit in zip(_ORDER, self._order, strict=True):
            lowest = fit.lowest
            for minimum in sorted(fit.minima, key=lambda other: other.value):
                gap = minimum.value - lowest.value
                if minimum.distance < CERTIFIED and _SAME < gap < _NEARBY:
                    farthest = int(np.argmax(np.abs(minimum.parameters - lowest.parameters)))
                    what = {
                        "gap": gap,
                        "parameter": self.model.config.par_names[farthest],
                        "at": float(minimum.parameters[farthest]),
                        "lowest_at": float(lowest.parameters[farthest]),
                    }
                    found.append((name, minimum, what))
        return found

    def _fit(self, data: Any, init_pars: Any, par_bounds: Any, fixed_vals: Any) -> _Fit:
        data = np.asarray(data, dtype=float)
        start = np.array(init_pars, dtype=float)
        bounds = np.array(par_bounds, dtype=float)
        free = np.ones(len(start), dtype=bool)
        for index, value in fixed_vals:
            start[index], free[index] = value, False
        key = b"".join(part.tobytes() for part in (data, start, bounds, free))
        if key not in self._fits:
            self._fits[key] = _Fit(data, start, bounds, free)
        return self._fits[key]

    def _explore(self, fit: _Fit, *, thoroughly: bool = True) -> None:
        for other in list(self._fits.values()):
            if other is not fit:
                for minimum in list(other.minima):
                    self._descend(fit, minimum.parameters)
        self._descend(fit, fit.start)
        if not fit.minima:
            raise CertificationError(
                f"the {_ORDER[len(self._order) - 1].replace('_', ' ')} has no start: "
                "the likelihood is not defined there"
            )
        if thoroughly and fit.explored is None and self._is_first(fit):
            self._explore_at_random(fit)
        while thoroughly and fit.lowest is not fit.explored:  # around a new lowest minimum again
            fit.explored = fit.lowest
            self._explore_around(fit, fit.lowest)

    def _is_first(self, fit: _Fit) -> bool:
        """Whether it is a fit to the observed data at a fixed POI: others begin at its minima."""
        poi_is_free = fit.free[self.model.config.poi_index]
        return not poi_is_free and np.array_equal(fit.data, self._observations)

    def _explore_at_random(self, fit: _Fit) -> None:
        """Follow starts where other patches had minima, and such that are drawn at random.

        Several parameters together may lead to another minimum, in a pattern that no search along
        one of them finds. The draws are the same each time.
        """
        remembered = _remembered.setdefault(
            tuple(self.model.config.par_names), deque(maxlen=_MAX_REMEMBERED)
        )
        for parameters in list(remembered):
            self._descend(fit, parameters)
        random = np.random.default_rng(0)
        for number in range(_MOST_DRAWS):
            enough = _DRAWS + _MORE_DRAWS * (len(fit.minima) - 1)
            if number >= enough and not self._thorough:
                break
            drawn = fit.start + random.normal(scale=_DRAWN, size=len(fit.start))
            centre = fit.lowest.parameters
            step = np.where(self._normal, drawn - centre, 0.0)
            self._descend(fit, self._start_beside(fit, centre, step)[0])
        remembered.extend(minimum.parameters for minimum in fit.minima)

    def _explore_around(self, fit: _Fit, centre: Minimum) -> None:
        if np.array_equal(self.model.expected_data(centre.parameters), fit.data):
            return  # Asimov data at the parameters that they were built from
        inverse = newton.covariance(centre, fit.free & ~centre.held)
        if inverse is None:
            return
        for moved, values, follow in self._other_sides(fit, centre):
            shift = values - centre.parameters[moved]
            step, foretold = newton.conditional_step(inverse, moved, shift)
            if not follow:
                step = np.zeros_like(step)
                step[moved] = shift
            if foretold < _TOO_FAR:
                self._try(fit, centre.parameters, step, moved, foretold)

    def _descend(self, fit: _Fit, start: Vector) -> None:
        """Follow a start down."""
        start = fit.with_fixed(start)
        if any(np.array_equal(start, other) for other in fit.tried):
            return
        fit.tried.append(start)
        minimum = newton.minimize(
            lambda parameters: self.likelihood.derivatives(parameters, fit.data),
            start,
            fit.bounds,
            fit.free,
            fit.minima,
        )
        if np.isfinite(minimum.value):
            fit.add(minimum)
        else:
            fit.dropped += 1  # rates are negative there

    def _try(
        self, fit: _Fit, centre: Vector, step: Vector, moved: NDArray[np.intp], foretold: float
    ) -> None:
        """Follow a start beside a minimum, unless the likelihood rises there as foretold."""
        start, there = self._start_beside(fit, centre, step)
        rest = fit.free.copy()
        rest[moved] = False
        rise = newton.estimated_minimum(*there, rest) - fit.lowest.value
        if rise < _SURPRISE * foretold:
            self._descend(fit, start)
        else:
            fit.tried.append(start)
            fit.dropped += 1

    def _start_beside(
        self, fit: _Fit, centre: Vector, step: Vector
    ) -> tuple[Vector, tuple[float, Vector, NDArray[np.float64]]]:
        """Return where a step leads, less far where rates are negative, and the likelihood."""
        for _halving in range(_HALVINGS):
            start = fit.with_fixed(centre + step)
            there = self.likelihood.derivatives(start, fit.data)
            if np.isfinite(there[0]):
                break
            step = step / 2
        return start, there

    def _other_sides(
        self, fit: _Fit, minimum: Minimum
    ) -> Iterator[tuple[NDArray[np.intp], Vector, bool]]:
        """Give which parameters to move from a minimum, where to, and whether others follow."""
        here, (lower, upper) = minimum.parameters, fit.bounds.T
        movable = fit.free & ~minimum.held
        bends = np.where(movable & (lower < 0), self.likelihood.bends(here), 0.0)
        bent = np.flatnonzero(bends > (_BENT if self._is_first(fit) else _STRONGLY_BENT))
        scales = np.flatnonzero(movable & ~self._constrained)
        for index, values in (
            *((index, [s for s in (1.0, -1.0) if here[index] * s < _CENTRAL]) for index in bent),
            *((index, [lower[index], 2 * here[index]]) for index in scales),
        ):
            for value in values:
                if lower[index] <= value <= upper[index] and value != here[index]:
                    follow = 0 < bends[index] < _STRONGLY_BENT
                    yield np.array([index]), np.array([value]), follow
        if len(bent) > 1:
            for side in (1.0, -1.0):
                yield bent, np.full(len(bent), side), False
