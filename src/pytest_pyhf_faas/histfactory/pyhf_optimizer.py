"""An optimizer for pyhf that gives certified minima, for any script.

::

    optimizer = CertifiedOptimizer.from_workspace(workspace)
    pyhf.set_backend("numpy", optimizer)
    pyhf.infer.hypotest(1.0, data, model)

It minimizes the likelihood of this package, read from the workspace. It checks through public
names of pyhf's model that the two are the same; pyhf itself is not imported.

Each minimum is a function of the fit's inputs: data, initial values, bounds and fixed parameters.
Nothing depends on earlier fits; only values of that function are cached. A fit
with the POI free also starts at the minima of those with the POI at 0 and 1, so that it does not
end above them; one with another POI starts at the minima of the three.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from pytest_pyhf_faas.histfactory import newton
from pytest_pyhf_faas.histfactory.errors import (
    CertificationError,
    HistFactoryError,
    InvalidModel,
)
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.minima import CERTIFIED, SAME, SHARED, Fit, settle
from pytest_pyhf_faas.histfactory.search import BRIEF, THOROUGH, Search
from pytest_pyhf_faas.histfactory.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_pyhf_faas.histfactory.likelihood import Data
    from pytest_pyhf_faas.histfactory.newton import Minimum
    from pytest_pyhf_faas.histfactory.search import Effort, Which

    Vector = NDArray[np.float64]
    Mask = NDArray[np.bool_]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

#: The POI of the fits that always belong to one with a free POI.
_AT = (1.0, 0.0)
#: How far from its initial values the model is compared, in widths of the constraint terms; where
#: there is none, in units of the parameter.
_BESIDE, _BESIDE_FREE = 0.4, 0.1
#: How many fits, and families of fits, are cached.
_REMEMBERED = 32


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """Fits that share everything but the POI.

    Attributes
    ----------
    likelihood : Likelihood
        The likelihood; all arrays have the order of its parameters.
    data : Data
        The data to fit.
    initial : array, shape (n_parameters,)
        Where the fit with a free POI begins, and fixed parameters are.
    bounds : array, shape (n_parameters, 2)
        The bounds.
    fixed : array of bool, shape (n_parameters,)
        Which parameters are fixed, except the POI.
    """

    likelihood: Likelihood
    data: Data
    initial: Vector
    bounds: NDArray[np.float64]
    fixed: Mask

    @property
    def key(self) -> bytes:
        arrays = self.data.main, self.data.auxiliary, self.initial, self.bounds, self.fixed
        return b"".join(array.tobytes() for array in arrays)

    def allows(self, poi: float | None) -> bool:
        """Whether the POI may be there."""
        lower, upper = self.bounds[self.likelihood.poi]
        return poi is None or bool(lower <= poi <= upper)

    def fit(self, poi: float | None) -> Fit:
        """Return the fit that has the POI there."""
        return Fit(
            self.likelihood,
            self.data,
            poi,
            initial=self.initial,
            bounds=self.bounds,
            fixed=self.fixed,
        )

    def begun(self, poi: float | None) -> tuple[Fit, Minimum] | None:
        """Return the fit and its nominal minimum, if the likelihood is defined where it begins."""
        fit = self.fit(poi)
        minimum = fit.descend(fit.initial, "nominal")
        return None if minimum is None else (fit, minimum)


@dataclass(frozen=True, slots=True, eq=False)
class _Solution:
    """The minimum that a fit ends in, what may be starts for others, and what was free."""

    minimum: Minimum
    starts: tuple[Minimum, ...]
    free: Mask


class CertifiedOptimizer:
    """An optimizer for the models of one workspace.

    Parameters
    ----------
    likelihood : Likelihood
        The likelihood to minimize.
    pool : sequence of mapping
        Starts, each a value for some parameters by their names; the others are as pyhf has them.
    minimum : str
        The minimum at which fits end: the "lowest" that is found, or the "nominal" one, where a
        descent from the initial values ends. Both are certified.
    effort : Effort
        How long to search for minima of the observed data, which are starts for all fits.

    Attributes
    ----------
    name : str
        Name of the optimizer, as pyhf expects it.

    Notes
    -----
    Asimov data are recognized by their auxiliary data, which give most of the parameters that
    generated them. A fit to them ends at these parameters, whatever ``minimum`` is, if the data
    are exactly what is expected there.
    """

    name = "certified"

    def __init__(
        self,
        likelihood: Likelihood,
        pool: Sequence[Mapping[str, float]] = (),
        minimum: Which = "lowest",
        effort: Effort = THOROUGH,
    ) -> None:
        if minimum not in ("lowest", "nominal"):
            raise ValueError(f"the minimum must be 'lowest' or 'nominal', not {minimum!r}")
        self.likelihood = likelihood
        self._pool = tuple(pool)
        self._minimum = minimum
        self._effort = effort
        self._families: dict[bytes, Mapping[float | None, _Solution]] = {}
        self._solutions: dict[tuple[bytes, float | None], _Solution] = {}
        self._compared: tuple[Callable[[], Any], Any] = (lambda: None), None

    @classmethod
    def from_workspace(
        cls,
        workspace: Mapping[str, Any],
        measurement: str | None = None,
        pool: Sequence[Mapping[str, float]] = (),
        minimum: Which = "lowest",
        normsys: str = "code4",
        histosys: str = "code4p",
        effort: Effort = THOROUGH,
    ) -> CertifiedOptimizer:
        """Return an optimizer for the models of a workspace.

        Parameters
        ----------
        workspace : mapping
            JSON that follows pyhf's schema, or a `pyhf.Workspace`.
        measurement : str, optional
            Its name; the first by default.
        pool : sequence of mapping
            As for the class.
        minimum : str
            As for the class.
        normsys : str
            Interpolation code, as in ``modifier_settings`` of pyhf: "code1" or "code4".
        histosys : str
            Interpolation code: "code0", "code2" or "code4p".
        effort : Effort
            As for the class.

        Raises
        ------
        InvalidModel
            If the workspace defines no likelihood; the message says why.
        """
        read = Workspace.from_json(workspace)
        likelihood = Likelihood(read, measurement, normsys=normsys, histosys=histosys)
        return cls(likelihood, pool, minimum, effort)

    def minimize(
        self,
        objective: Any,
        data: Any,
        pdf: Any,
        init_pars: Any,
        par_bounds: Any,
        fixed_vals: Any = None,
        *,
        return_fitted_val: bool = False,
        return_result_obj: bool = False,
        return_uncertainties: bool = False,
        return_correlations: bool = False,
        **_options: Any,
    ) -> Any:
        """Minimize, as `pyhf.optimize.mixins.OptimizerMixin.minimize` does.

        Parameters
        ----------
        objective : callable
            `pyhf.infer.mle.twice_nll`.
        data : array, shape (n_data,)
            Main and auxiliary data.
        pdf : pyhf.Model
            A model of the workspace that this optimizer was made from.
        init_pars : sequence of float, shape (n_parameters,)
            Initial values.
        par_bounds : sequence of pairs, shape (n_parameters, 2)
            Bounds.
        fixed_vals : sequence of (int, float), optional
            Which parameters are fixed, and where.
        return_fitted_val : bool
            As in pyhf.
        return_result_obj : bool
            As in pyhf.
        return_uncertainties : bool
            As in pyhf; those of the inverse Hessian.
        return_correlations : bool
            As in pyhf; those of the inverse Hessian.
        **_options
            Options of other optimizers, such as ``maxiter`` or ``do_grad``.

        Returns
        -------
        array, shape (n_parameters,), or tuple
            The parameters, then what was asked for: correlations, shape (n_parameters,
            n_parameters); twice the NLL, shape (); a `scipy.optimize.OptimizeResult`. With
            uncertainties the parameters have the shape (n_parameters, 2).

        Raises
        ------
        ValueError
            If the model is another one.
        InvalidModel
            If the likelihood is not defined where the fit begins.
        CertificationError
            If the minimum is not certified.
        """
        likelihood, order = self.likelihood, self.likelihood.pyhf_order
        read = self._read(data)
        of, minimized = self._compared
        if of() is not pdf or minimized is not objective:
            self._compare(objective, data, read, pdf)
            self._compared = weakref.ref(pdf), objective
        initial = np.empty(len(likelihood))
        initial[order] = np.asarray(init_pars, dtype=float)
        bounds = np.empty((len(likelihood), 2))
        bounds[order] = np.asarray(par_bounds, dtype=float)
        fixed = np.zeros(len(likelihood), dtype=bool)
        for index, value in fixed_vals or ():
            fixed[order[index]], initial[order[index]] = True, float(value)
        poi = None
        if fixed[likelihood.poi]:
            poi, fixed[likelihood.poi] = float(initial[likelihood.poi]), False
            initial[likelihood.poi] = np.clip(
                likelihood.initial[likelihood.poi], *bounds[likelihood.poi]
            )
        solution = self._solution(_Problem(likelihood, read, initial, bounds, fixed), poi)

        minimum = solution.minimum
        parameters = minimum.parameters[order]
        value = np.array(minimum.value + likelihood.saturated(read))
        uncertainties = correlations = None
        if return_uncertainties or return_correlations or return_result_obj:
            uncertainties, correlations = _uncertainties(minimum, solution.free, order)
        if return_uncertainties and uncertainties is not None:
            parameters = np.stack([parameters, uncertainties], axis=1)
        returned: list[Any] = [parameters]
        if return_correlations:
            returned.append(correlations)
        if return_fitted_val:
            returned.append(value)
        if return_result_obj:
            from scipy.optimize import OptimizeResult

            result = OptimizeResult(
                x=parameters,
                fun=value,
                success=True,
                message=f"the estimated distance to the minimum is {minimum.distance:.1e}",
                nit=minimum.steps,
                unc=uncertainties,
                corr=correlations,
                distance=minimum.distance,
            )
            returned.append(result)
        return tuple(returned) if len(returned) > 1 else returned[0]

    # The model

    def _read(self, data: Any) -> Data:
        """Return data that pyhf has in one array, in its order."""
        likelihood = self.likelihood
        values = np.asarray(data, dtype=float).reshape(-1)
        bins, order = len(likelihood.bins), likelihood.pyhf_order
        constrained = order[likelihood.constrained[order]]
        expected = bins + len(constrained)
        if len(values) != expected:
            raise _another(f"there are {len(values)} data, it has {expected}")
        negative = np.flatnonzero(values[:bins] < 0)
        if len(negative):
            channel, index = likelihood.bins[negative[0]]
            raise InvalidModel(
                f"bin {index} of the channel {channel} has {values[negative[0]]:g} events"
            )
        auxiliary = np.zeros(len(likelihood))
        auxiliary[constrained] = values[bins:]
        return likelihood.data(values[:bins].copy(), auxiliary)

    def _compare(self, objective: Any, data: Any, read: Data, pdf: Any) -> None:
        """Compare the objective with the likelihood."""
        likelihood, order = self.likelihood, self.likelihood.pyhf_order
        config = pdf.config
        ours, theirs = [likelihood.names[index] for index in order], list(config.par_names)
        if ours != theirs:
            for what, one, other in (("no", ours, theirs), ("a", theirs, ours)):
                for name in one:
                    if name not in other:
                        raise _another(f"the model has {what} parameter {name}")
            raise _another("the parameters of the model have another order")
        poi = config.poi_index
        if poi is None or order[poi] != likelihood.poi:
            name = "none" if poi is None else theirs[poi]
            raise _another(
                f"the parameter of interest of the model is {name}, not "
                f"{likelihood.names[likelihood.poi]}"
            )
        bounds = np.column_stack((likelihood.lower, likelihood.upper))[order]
        for what, mine, other in (
            ("initial value", likelihood.initial[order], config.suggested_init()),
            ("bounds", bounds, config.suggested_bounds()),
        ):
            there = np.asarray(other, dtype=float)
            differ = np.flatnonzero((mine != there).reshape(len(order), -1).any(axis=1))
            if len(differ):
                index = differ[0]
                raise _another(
                    f"the parameter {ours[index]} of the model has the {what} "
                    f"{there[index].tolist()}, not {mine[index].tolist()}"
                )
        point = self._beside(read)
        value = likelihood.value(point, read)
        if not np.isfinite(value):
            return
        twice_nll = np.asarray(objective(point[order].tolist(), data, pdf)).reshape(-1)
        value += likelihood.saturated(read)
        # Each Poisson term of pyhf is a small difference of large numbers, n log n and n.
        size = float(np.sum(read.counts * np.log(np.maximum(read.counts, 2.0))))
        resolution = float(np.finfo(twice_nll.dtype).eps)
        noise = np.sqrt(resolution) * max(1.0, abs(value)) + 8 * resolution * size
        if not abs(twice_nll[0] - value) <= noise:
            raise _another(
                f"twice the NLL of the model is {twice_nll[0]:.9g} where it must be {value:.9g}; "
                "rates, uncertainties or interpolation codes differ"
            )

    def _beside(self, data: Data) -> Vector:
        """Return a point near the initial values, where all modifiers act, if there is one."""
        likelihood = self.likelihood
        step = _BESIDE * np.where(likelihood.constrained, likelihood.width, _BESIDE_FREE / _BESIDE)
        for scale in (1.0, -1.0, 0.3, -0.3, 0.0):
            point: Vector = np.clip(
                likelihood.initial + scale * step, likelihood.lower, likelihood.upper
            )
            if np.isfinite(likelihood.value(point, data)):
                break
        return point

    # The fits

    def _solution(self, problem: _Problem, poi: float | None) -> _Solution:
        return _recall(self._solutions, (problem.key, poi), lambda: self._certified(problem, poi))

    def _certified(self, problem: _Problem, poi: float | None) -> _Solution:
        """Return where a fit ends; with a fixed POI not below the fit with a free one."""
        family = _recall(self._families, problem.key, lambda: self._family(problem))
        free = family.get(None)
        solution = family[poi] if poi in family else self._elsewhere(problem, poi, family)
        minimum = solution.minimum
        name = "free fit" if poi is None else f"fit with the parameter of interest at {poi:g}"
        if not minimum.distance < CERTIFIED:
            raise CertificationError(
                f"the {name} ended at an estimated distance of {minimum.distance:.1e} to its "
                "minimum, in twice the NLL"
            )
        if free is not None and minimum.value < free.minimum.value - SAME:
            raise CertificationError(
                f"the {name} ended {free.minimum.value - minimum.value:.3g} below that with a free "
                "one, in twice the NLL: search longer (effort), or give it the "
                "parameters of a low minimum (pool)"
            )
        return solution

    def _family(self, problem: _Problem) -> dict[float | None, _Solution]:
        """Return where the fits end that have the POI at 0 and 1, and that with a free one.

        Those without a start are left out.
        """
        begun = {
            poi: there
            for poi in (*_AT, None)
            if problem.allows(poi) and (there := problem.begun(poi)) is not None
        }
        fits = {poi: fit for poi, (fit, _minimum) in begun.items()}
        exact = {}
        for poi, fit in fits.items():
            minimum = _exact(problem, fit, poi)
            if minimum is not None:
                exact[poi] = minimum
        if self._minimum == "lowest":
            self._search([fit for poi, fit in fits.items() if poi not in exact], exact.values())
            return {
                poi: _Solution(fit.lowest, tuple(fit.certified[:SHARED]), fit.free)
                for poi, fit in fits.items()
            }
        nominal = {poi: minimum for poi, (_fit, minimum) in begun.items()} | exact
        for other in list(nominal.values()):
            if None in nominal and other.value < nominal[None].value - SAME:
                minimum = fits[None].descend(other.parameters, "other")
                if minimum is not None and minimum.value < nominal[None].value:
                    nominal[None] = minimum
        return {
            poi: _Solution(minimum, (minimum,), fits[poi].free) for poi, minimum in nominal.items()
        }

    def _search(self, fits: Sequence[Fit], others: Collection[Minimum]) -> None:
        """Look for lower minima of fits to the same data; the others are of more such fits."""
        for fit in fits:
            fit.descend_from_all(others)
            for start in self._pool:
                fit.descend(self._point(start), "pool")
            for point in self._known:
                fit.descend(point, "other")
        random = np.random.default_rng(0)
        effort = self._effort
        draws = [effort.draws, effort.background_draws]
        if self._known:  # so much was done for the observed data already
            draws = np.minimum(draws, [BRIEF.draws, BRIEF.background_draws]).tolist()
        for fit, count in zip(fits, draws, strict=False):
            fit.draw(random, count)
        settle(fits)

    def _elsewhere(
        self, problem: _Problem, poi: float | None, family: Mapping[float | None, _Solution]
    ) -> _Solution:
        """Return where a fit ends that has the POI neither at 0 nor at 1."""
        begun = problem.begun(poi)
        if begun is None:
            likelihood, fit = problem.likelihood, problem.fit(poi)
            why = likelihood.why_undefined(fit.initial, problem.data)
            raise InvalidModel(
                f"the likelihood is not defined where the fit with the parameter of interest "
                f"{'free' if poi is None else f'at {poi:g}'} begins: {why}"
            )
        fit, minimum = begun
        exact = _exact(problem, fit, poi)
        if exact is not None:
            minimum = exact
        elif self._minimum == "lowest":
            for other in family.values():
                fit.descend_from_all(other.starts)
            for point in self._known:
                fit.descend(point, "other")
            minimum = fit.lowest
        elif None in family and minimum.value < family[None].minimum.value - SAME:
            # The nominal minimum is that next to the nominal one of the free fit.
            near = fit.descend(family[None].minimum.parameters, "other")
            minimum = minimum if near is None else near
        return _Solution(minimum, (), fit.free)

    @cached_property
    def _known(self) -> list[Vector]:
        """Minima of the observed data: starts for fits to any data."""
        try:
            search = Search(self.likelihood, pool=self._pool, effort=self._effort)
        except HistFactoryError:
            return []  # nothing is to be tested perhaps, but to be fitted
        return [
            minimum.parameters for fit in search.fits.values() for minimum in fit.certified[:SHARED]
        ]

    def _point(self, values: Mapping[str, float]) -> Vector:
        likelihood = self.likelihood
        pairs = zip(likelihood.names, likelihood.initial, strict=True)
        return np.array([values.get(name, initial) for name, initial in pairs])


def _another(what: str) -> ValueError:
    return ValueError(f"this optimizer was made for another workspace: {what}")


def _recall(memory: dict[_Key, _Value], key: _Key, make: Callable[[], _Value]) -> _Value:
    """Return a value that was made for a key, or make it, and forget the oldest one."""
    if key not in memory:
        made = make()
        if len(memory) >= _REMEMBERED:
            memory.pop(next(iter(memory)))
        memory[key] = made
    return memory[key]


def _exact(problem: _Problem, fit: Fit, poi: float | None) -> Minimum | None:
    """Return the minimum of a fit to what is expected there, as Asimov data have it.

    The auxiliary data are those that a parameter gives: with all of these where they belong, those
    without a constraint are fitted first.
    """
    likelihood, data = problem.likelihood, problem.data
    # The entries of the Poisson terms are those that come after the bins.
    numbered = likelihood.data(data.main, np.arange(len(likelihood), dtype=float))
    poisson = numbered.counts[len(data.main) :].astype(int)
    implied = data.auxiliary.copy()
    implied[poisson] *= likelihood.width[poisson] ** 2
    start = fit.within(np.where(likelihood.constrained, implied, fit.initial))
    first = replace(problem, initial=start, fixed=problem.fixed | likelihood.constrained).fit(poi)
    there = first.descend(start, "other")
    if there is not None:
        fit.descend(there.parameters, "other")
    return fit.lowest if fit.lowest.value < CERTIFIED else None


def _uncertainties(
    minimum: Minimum, free: Mask, order: NDArray[np.intp]
) -> tuple[Vector | None, NDArray[np.float64] | None]:
    """Return standard deviations and correlations in the order of pyhf; 0 where nothing is free.

    Where the Hessian is not positive definite, parameters at a bound count as fixed.
    """
    covariance = newton.covariance(minimum, free)
    if covariance is None:
        covariance = newton.covariance(minimum, free & ~minimum.held)
    if covariance is None:
        return None, None
    covariance = 2 * covariance[np.ix_(order, order)]  # the Hessian is that of twice the NLL
    widths = np.sqrt(np.diag(covariance))
    scale = np.where(widths > 0, widths, 1.0)
    return widths, covariance / np.outer(scale, scale)
