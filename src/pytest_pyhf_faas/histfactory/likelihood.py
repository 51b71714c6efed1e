r"""Twice the negative log-likelihood of a workspace, its gradient and its Hessian, exactly.

A *cell* is one bin of one sample, a *group* one sample of one channel. The rate of a cell is
:math:`P F A` (Equation (4) of the HistFactory paper, CERN-OPEN-2012-016): :math:`P` the product of
its linear parameters (normalizations, luminosity, gammas), :math:`F` the product of the normsys
factors of its group, and :math:`A` its nominal rate plus the histosys shifts.

With :math:`\ell = f'/f` for each factor, derivatives of :math:`F` are sums of :math:`\ell`, so that
dense matrices have the size groups x parameters and never cells x parameters; the shifts are sparse
and are added with `numpy.bincount`. Derivatives by a linear parameter leave that parameter out of
the product, so that one that is 0 is not a special case.
"""

from __future__ import annotations

import itertools
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import gammaln

from pytest_pyhf_faas.histfactory.errors import InvalidModel
from pytest_pyhf_faas.histfactory.interpolation import HISTOSYS, NORMSYS
from pytest_pyhf_faas.histfactory.parameters import parameter_sets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from pytest_pyhf_faas.histfactory.parameters import ParameterSet
    from pytest_pyhf_faas.histfactory.workspace import Sample, Workspace

    Vector = NDArray[np.float64]
    Matrix = NDArray[np.float64]
    Index = NDArray[np.intp]

_LOG_2PI = np.log(2 * np.pi)
#: From here on Stirling's series is as good as a double, and n log n no longer cancels.
_MANY = 64.0
#: Where a rate is smaller than the events by this share, the difference has lost digits.
_FEWER = -0.5
#: NumPy's type is that without weights.
_bincount: Any = np.bincount
#: How far from its initial value the parameters of `Likelihood.off_minimum` lie, in widths.
_OFF, _OFF_FREE = 0.9, 0.22
#: How many bins are named in a message.
_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Data:
    """Observed or Asimov data; made by `Likelihood.data`.

    Attributes
    ----------
    main : array, shape (n_bins,)
        Events.
    auxiliary : array, shape (n_parameters,)
        Auxiliary data of the constraint term of each parameter; 0 where there is none.
    counts : array, shape (n_bins + n_poisson,)
        All that has a Poisson term: events, then auxiliary data.
    """

    main: Vector
    auxiliary: Vector
    counts: Vector
    some: NDArray[np.bool_] = field(init=False)
    safe: Vector = field(init=False)

    def __post_init__(self) -> None:
        some = self.counts > 0
        object.__setattr__(self, "some", some)
        object.__setattr__(self, "safe", np.where(some, self.counts, 1.0))


class Evaluation(NamedTuple):
    """Twice the NLL at a point, its gradient, shape (n,), and its Hessian, shape (n, n)."""

    value: float
    gradient: Vector
    hessian: Matrix


class UndefinedBin(NamedTuple):
    """A bin that makes the likelihood undefined, and whether fits that start there must fail."""

    text: str
    hopeless: bool


class Likelihood:
    """The likelihood of one measurement of a workspace.

    Parameters come with those of a normsys first, then those with only a histosys, then the others,
    each in the order of pyhf; ``x[pyhf_order]`` is a point as pyhf has it.

    Parameters
    ----------
    workspace : Workspace
        Channels and measurements.
    measurement : str, optional
        Its name; the first by default.
    normsys, histosys : str
        Interpolation codes: "code1" or "code4"; "code0", "code2" or "code4p".

    Attributes
    ----------
    names : tuple of str
        Of the parameters.
    poi : int
        Index of the parameter of interest.
    initial, lower, upper : array, shape (n_parameters,)
        Initial values and bounds.
    fixed : array of bool, shape (n_parameters,)
        Which parameters do not float.
    interpolated : int
        How many parameters belong to interpolations.
    constrained : array of bool, shape (n_parameters,)
        Which parameters have a constraint term.
    width : array, shape (n_parameters,)
        Standard deviations of the constraint terms; infinite where there is none.
    idle : array of bool, shape (n_parameters,)
        Which parameters change nothing: without a constraint, on rates that are 0.
    observed : Data
        The observed data.
    pyhf_order : array of int, shape (n_parameters,)
        Where the parameters of pyhf are among these.
    bins : list of (channel, index)
        What the entries of `Data.main` are.

    Raises
    ------
    InvalidModel
        If there is no likelihood: the message names the parameter, sample, channel or bin.
    """

    def __init__(
        self,
        workspace: Workspace,
        measurement: str | None = None,
        *,
        normsys: str = "code4",
        histosys: str = "code4p",
    ) -> None:
        config = workspace.measurement(measurement)
        in_pyhf = parameter_sets(workspace.channels, config.get("parameters", []))
        self._samples = [sample for channel in workspace.channels for sample in channel.samples]
        scaling = {name for sample in self._samples for name in sample.normsys.names}
        sets = sorted(
            in_pyhf, key=lambda one: (one.kind != "interpolated", one.name not in scaling)
        )
        self._set_parameters(sets)
        self._scaling = len(scaling)
        ends = np.cumsum([len(one) for one in sets])
        first = {one.name: int(end) - len(one) for one, end in zip(sets, ends, strict=True)}
        self.pyhf_order: Index = np.concatenate(
            [np.arange(first[one.name], first[one.name] + len(one)) for one in in_pyhf]
        )
        self.poi = self._find_poi(config.get("poi", ""), sets)

        self.bins = [(c.name, index) for c in workspace.channels for index in range(c.bins)]
        observed = np.concatenate([channel.observed for channel in workspace.channels])
        self.observed = self.data(observed, self._auxiliary)
        self._set_cells(workspace)
        self._set_factors(first, normsys)
        self._set_shifts(first, histosys)
        self._set_products(workspace, first)
        self.idle = self._find_idle()

    def __len__(self) -> int:
        return len(self.names)

    # Making

    def _set_parameters(self, sets: Sequence[ParameterSet]) -> None:
        def joined(name: str) -> NDArray[np.float64]:
            return np.concatenate([getattr(one, name) for one in sets])

        self.names = tuple(name for one in sets for name in one.names)
        self.interpolated = sum(len(one) for one in sets if one.kind == "interpolated")
        self.initial, self.lower, self.upper = joined("initial"), joined("lower"), joined("upper")
        self.fixed = joined("fixed").astype(bool)
        kinds = np.concatenate([np.full(len(one), one.constraint) for one in sets])
        self.constrained = kinds != "none"
        normal, poisson = kinds == "normal", kinds == "poisson"
        sigma, factor = joined("width"), joined("factor")
        self.width = np.where(
            normal, sigma, np.where(poisson, 1 / np.sqrt(np.where(poisson, factor, 1.0)), np.inf)
        )
        self._auxiliary = joined("auxiliary")
        self._precision = np.where(normal, 1 / sigma**2, 0.0)
        self._log_widths = float(np.sum(np.log(sigma[normal] ** 2) + _LOG_2PI))
        self._poisson: Index = np.flatnonzero(poisson)
        self._factor = factor[self._poisson]

    def _find_poi(self, name: str, sets: Sequence[ParameterSet]) -> int:
        place = 0
        for one in sets:
            if one.name == name:
                if len(one) > 1:
                    raise InvalidModel(
                        f"the parameter of interest {name} has {len(one)} components"
                    )
                return place
            place += len(one)
        raise InvalidModel(
            f"the parameter of interest {name!r} is not a parameter of the model: no modifier of "
            "that name is there, as in a patch without a signal"
        )

    def _set_cells(self, workspace: Workspace) -> None:
        bins, group_of_cell, bin_of_cell, nominal, begin = 0, [], [], [], []
        cells = group = 0
        for channel in workspace.channels:
            for sample in channel.samples:
                begin.append(cells)
                nominal.append(sample.nominal)
                group_of_cell.append(np.full(channel.bins, group))
                bin_of_cell.append(np.arange(bins, bins + channel.bins))
                cells += channel.bins
                group += 1
            bins += channel.bins
        self._begin = begin
        self._nominal = np.concatenate(nominal)
        self._group = np.concatenate(group_of_cell)
        self._bin = np.concatenate(bin_of_cell)
        self._groups, self._cells = group, cells

    def _set_factors(self, first: dict[str, int], code: str) -> None:
        found = [(group, s.normsys) for group, s in enumerate(self._samples) if s.normsys.names]
        parameter = [first[name] for _, variations in found for name in variations.names]
        sizes = [len(variations.names) for _, variations in found]
        self._f_groups: Index = np.array([group for group, _ in found], dtype=np.intp)
        self._f_group: Index = np.repeat(np.arange(len(found)), sizes).astype(np.intp)
        self._f_parameter: Index = np.array(parameter, dtype=np.intp)
        self._f_begin: Index = np.cumsum([0, *sizes[:-1]], dtype=np.intp)[: len(sizes)]
        # Cells of groups that have a normsys at all, and which of these groups that is.
        self._scaled_group = np.full(self._groups, -1)
        self._scaled_group[self._f_groups] = np.arange(len(found))
        self._scaled: Index = np.flatnonzero(self._scaled_group[self._group] >= 0)
        own = self._scaled_group[self._group[self._scaled]]
        self._own_group = own
        self._group_in_bin = self._bin[self._scaled] * len(found) + own
        down, up = (
            np.concatenate([np.zeros(0), *(getattr(v, side) for _, v in found)])
            for side in ("down", "up")
        )
        self._factors = NORMSYS[code](down, up)
        self._f_in_group = self._f_group * self._scaling + self._f_parameter

    def _set_shifts(self, first: dict[str, int], code: str) -> None:
        cell, parameter, down, up = [], [], [], []
        for begin, sample in zip(self._begin, self._samples, strict=True):
            variations = sample.histosys
            if len(variations.which):
                places = np.array([first[name] for name in variations.names], dtype=np.intp)
                cell.append(variations.bins + begin)
                parameter.append(places[variations.which])
                down.append(variations.down)
                up.append(variations.up)
        none = np.zeros(0)
        self._s_cell: Index = np.concatenate([none, *cell]).astype(np.intp)
        self._s_parameter: Index = np.concatenate([none, *parameter]).astype(np.intp)
        self._shifts = HISTOSYS[code](np.concatenate([none, *down]), np.concatenate([none, *up]))
        self._s_in_bin = self._bin[self._s_cell] * len(self) + self._s_parameter
        group = self._scaled_group[self._group[self._s_cell]]
        self._s_scaled: Index = np.flatnonzero(group >= 0)
        self._s_in_group = (group * self.interpolated + self._s_parameter)[self._s_scaled]

    def _set_products(self, workspace: Workspace, first: dict[str, int]) -> None:
        """Set which linear parameters a cell has: one in each slot, and 1 in those left over."""
        count = len(self)
        cells: list[Index] = []
        parameters: list[Index] = []
        slots: list[Index] = []
        stat_begin: dict[tuple[str, str], int] = {}
        stat_next: dict[str, int] = {}
        group = 0
        for channel in workspace.channels:
            for sample in channel.samples:
                own = np.arange(channel.bins)
                for slot, (kind, name, _) in enumerate(sample.linear):
                    offset = np.zeros(channel.bins, dtype=np.intp)
                    if kind in ("shapesys", "shapefactor"):
                        offset = own
                    elif kind == "staterror":
                        if (name, channel.name) not in stat_begin:
                            stat_begin[name, channel.name] = stat_next.get(name, 0)
                            stat_next[name] = stat_next.get(name, 0) + channel.bins
                        offset = own + stat_begin[name, channel.name]
                    cells.append(own + self._begin[group])
                    parameters.append(first[name] + offset)
                    slots.append(np.full(channel.bins, slot))
                group += 1
        depth = max((len(sample.linear) for sample in self._samples), default=0)
        self._slots: Index = np.full((depth, self._cells), count)
        none = np.zeros(0, dtype=np.intp)
        there = np.concatenate([none, *slots]), np.concatenate([none, *cells])
        self._slots[there] = np.concatenate([none, *parameters])
        used = self._slots < count
        l_slot, self._l_cell = np.nonzero(used)
        self._l_other = np.flatnonzero(used)
        l_parameter = self._slots[l_slot, self._l_cell]
        self._l_in_bin = self._bin[self._l_cell] * count + l_parameter
        own = self._scaled_group[self._group[self._l_cell]]
        self._l_scaled: Index = np.flatnonzero(own >= 0)
        self._l_in_group = ((l_parameter - self.interpolated) * len(self._f_groups) + own)[
            self._l_scaled
        ]
        # Linear parameters with shifts of the same cell.
        x_slot, self._x_entry = np.nonzero(used[:, self._s_cell])
        self._x_other = x_slot * self._cells + self._s_cell[self._x_entry]
        x_linear = self._slots.reshape(-1)[self._x_other] - self.interpolated
        self._x_place = x_linear * self.interpolated + self._s_parameter[self._x_entry]
        # Pairs of linear parameters of the same cell.
        cells, places, rests = [none], [none], [np.zeros((max(depth - 2, 0), 0), dtype=np.intp)]
        for one, other in itertools.combinations(range(depth), 2):
            both = np.flatnonzero(used[one] & used[other])
            rest = [slot for slot in range(depth) if slot not in (one, other)]
            cells.append(both)
            places.append(self._slots[one, both] * count + self._slots[other, both])
            rests.append(self._slots[rest][:, both])
        self._p_cell = np.concatenate(cells)
        self._p_rest = np.concatenate(rests, axis=1)
        self._p_place, self._p_number = np.unique(np.concatenate(places), return_inverse=True)
        self._p_mirrored = self._p_place % count * count + self._p_place // count

    def _find_idle(self) -> NDArray[np.bool_]:
        count = len(self)
        acts = self._nominal != 0
        acts[self._s_cell] = True
        of_cell = self._slots.reshape(-1)[self._l_other]
        active = np.bincount(of_cell, acts[self._l_cell], count) > 0 if len(of_cell) else False
        idle: NDArray[np.bool_] = ~self.constrained & ~active
        return idle

    # Evaluating

    def value(self, parameters: Vector, data: Data) -> float:
        """Return twice the NLL relative to its largest possible value, as `evaluate` does."""
        with np.errstate(all="ignore"):
            off = parameters - data.auxiliary
            gammas = self._factor * parameters[self._poisson]
            total = float((self._precision * off) @ off) + _poisson(
                data, np.concatenate((self.expected(parameters), gammas))
            )
        return total if np.isfinite(total) else np.inf

    def evaluate(self, parameters: Vector, data: Data) -> Evaluation:
        r"""Return twice the NLL, its gradient and its Hessian.

        Each Poisson term is relative to its largest value, :math:`2 (\nu - n + n \log(n / \nu))`,
        and each normal one to that of its maximum, which depend on the data alone: see
        `saturated`. A bin without events has :math:`2 \nu` also where :math:`\nu` is negative, as
        in pyhf.

        Parameters
        ----------
        parameters : array, shape (n_parameters,)
            Where.
        data : Data
            The data to evaluate it for.

        Returns
        -------
        Evaluation
            Its value is infinite, and its derivatives not numbers, where a bin with events has no
            positive rate. Where a rate with events is below about 1e-154, the value is finite and
            the Hessian overflows.
        """
        with np.errstate(all="ignore"):
            return self._evaluate(parameters, data)

    def _evaluate(self, parameters: Vector, data: Data) -> Evaluation:  # noqa: PLR0915
        count, bins = len(self), len(self.bins)
        groups, scaling, alphas = len(self._f_groups), self._scaling, self.interpolated
        factors = self._factors(parameters[self._f_parameter])
        shifts = self._shifts(parameters[self._s_parameter])
        extended = np.append(parameters, 1.0)
        product, others = self._products(extended)
        factor = self._factor_of_cells(factors.value)
        sums = self._nominal + _add_up(self._s_cell, shifts.value, self._cells)
        interpolated = factor * sums
        rates = product * interpolated
        expected = _add_up(self._bin, rates, bins)

        off = parameters - data.auxiliary
        pull = self._precision * off
        poisson = self._poisson
        auxiliary, gamma = data.counts[bins:], parameters[poisson]
        all_rates = np.concatenate((expected, self._factor * gamma))
        gamma = np.where(data.some[bins:], gamma, 1.0)
        value = float(pull @ off) + _poisson(data, all_rates)
        if not np.isfinite(value):
            nothing = np.full(count, np.nan)
            return Evaluation(np.inf, nothing, np.full((count, count), np.nan))

        # First derivatives of the expected events of each bin.
        log_slopes = _add_up(self._f_in_group, factors.slope, groups * scaling)
        log_slopes = log_slopes.reshape(groups, scaling)
        shift_cell = self._s_cell
        shift_slope = factor[shift_cell] * shifts.slope
        linear_slope = others[self._l_other] * interpolated[self._l_cell]
        slopes = _add_up(self._l_in_bin, linear_slope, bins * count)
        slopes += _add_up(self._s_in_bin, product[shift_cell] * shift_slope, bins * count)
        slopes = slopes.reshape(bins, count)
        in_groups = _add_up(self._group_in_bin, rates[self._scaled], bins * groups)
        slopes[:, :scaling] += in_groups.reshape(bins, groups) @ log_slopes
        positive = np.where(data.some[:bins], expected, 1.0)
        ratio = data.main / positive
        weight = 2 * (1 - ratio)
        gradient = weight @ slopes + 2 * pull
        gradient[poisson] += 2 * (self._factor - auxiliary / gamma)

        # The Hessian: the logarithm's part, and the curvature of the rates.
        hessian: Matrix = (slopes.T * (2 * ratio / positive)) @ slopes
        w_cell = weight[self._bin]
        w_product = w_cell * product * factor
        bent = _add_up(self._own_group, (w_product * sums)[self._scaled], groups)
        mixed = _add_up(
            self._s_in_group,
            (w_product[shift_cell] * shifts.slope)[self._s_scaled],
            groups * alphas,
        ).reshape(groups, alphas)
        mixed[:, :scaling] += (bent / 2)[:, None] * log_slopes
        half = log_slopes.T @ mixed
        hessian[:scaling, :alphas] += half
        hessian[:alphas, :scaling] += half.T
        diagonal = _add_up(self._f_parameter, bent[self._f_group] * factors.bend, count) + (
            _add_up(self._s_parameter, w_product[shift_cell] * shifts.bend, count)
        )
        linear = count - alphas
        cross = _add_up(
            self._x_place,
            (w_cell[shift_cell] * shift_slope)[self._x_entry] * others[self._x_other],
            linear * alphas,
        ).reshape(linear, alphas)
        in_groups = _add_up(
            self._l_in_group,
            (w_cell[self._l_cell] * linear_slope)[self._l_scaled],
            linear * groups,
        )
        cross[:, :scaling] += in_groups.reshape(linear, groups) @ log_slopes
        hessian[alphas:, :alphas] += cross
        hessian[:alphas, alphas:] += cross.T
        pair = (w_cell * interpolated)[self._p_cell]
        for rest in extended[self._p_rest]:
            pair *= rest
        pair = _add_up(self._p_number, pair, len(self._p_place))
        flat = hessian.reshape(-1)
        flat[self._p_place] += pair
        flat[self._p_mirrored] += pair
        diagonal += 2 * self._precision
        diagonal[poisson] += 2 * auxiliary / gamma**2
        flat[:: count + 1] += diagonal
        return Evaluation(value, gradient, hessian)

    def _factor_of_cells(self, factors: Vector) -> Vector:
        """Return the product of the normsys factors of each cell."""
        product = np.ones(self._groups)
        if len(factors):
            product[self._f_groups] = np.multiply.reduceat(factors, self._f_begin)
        of_cells: Vector = product[self._group]
        return of_cells

    def _products(self, extended: Vector) -> tuple[Vector, Vector]:
        """Return the product of the linear parameters of each cell, and those without one slot.

        The latter for each slot and cell, shape (n_slots * n_cells,).
        """
        slots = extended[self._slots]
        depth = len(slots)
        if depth == 0:
            return np.ones(self._cells), slots.reshape(-1)
        others = np.ones_like(slots)
        product = slots[0]
        for slot in range(1, depth):
            others[slot] = product
            product = product * slots[slot]
        after = slots[-1]
        for slot in range(depth - 2, -1, -1):
            others[slot] *= after
            after = after * slots[slot]
        return product, others.reshape(-1)

    def rates(self, parameters: Vector) -> Vector:
        """Return the expected events of each cell, shape (n_cells,), in the order of `cells`."""
        factors = self._factors(parameters[self._f_parameter])
        shifts = self._shifts(parameters[self._s_parameter])
        sums = self._nominal + _add_up(self._s_cell, shifts.value, self._cells)
        product, _others = self._products(np.append(parameters, 1.0))
        return product * (self._factor_of_cells(factors.value) * sums)  # as `evaluate` has it

    def expected(self, parameters: Vector) -> Vector:
        """Return the expected events of each bin, shape (n_bins,)."""
        return _add_up(self._bin, self.rates(parameters), len(self.bins))

    def asimov(self, parameters: Vector) -> Data:
        """Return the data whose likelihood has its maximum at some parameters.

        Section 3.2 of arXiv:1007.1727.

        Raises
        ------
        InvalidModel
            If a bin expects a negative number of events there.
        """
        expected = self.expected(parameters)
        if not (expected >= 0).all():
            channel, index = self.bins[int(np.argmin(expected))]
            raise InvalidModel(
                f"the Asimov data have {expected.min():.3g} events in bin {index} of the channel "
                f"{channel}: its rate is negative at the background fit"
            )
        auxiliary = np.where(self.constrained, parameters, 0.0)
        auxiliary[self._poisson] *= self._factor
        return self.data(expected, auxiliary)

    def drawn_auxiliary(self, parameters: Vector, random: np.random.Generator) -> Vector:
        """Return auxiliary data drawn at random from the constraint terms at some parameters.

        Returns
        -------
        array, shape (n_parameters,)
            As in `Data`.
        """
        auxiliary = np.where(self.constrained, parameters, 0.0)
        normal = self._precision > 0
        auxiliary[normal] += random.normal(size=int(normal.sum())) * self.width[normal]
        auxiliary[self._poisson] = random.poisson(self._factor * parameters[self._poisson])
        return auxiliary

    def data(self, main: Vector, auxiliary: Vector) -> Data:
        """Return data of this likelihood; the arrays are as in `Data`."""
        return Data(main, auxiliary, np.concatenate((main, auxiliary[self._poisson])))

    def saturated(self, data: Data) -> float:
        """Return twice the NLL at its smallest, for `evaluate` is relative to that.

        Their sum is ``-2 * model.logpdf`` of pyhf.
        """
        return _saturated(data.counts) + self._log_widths

    @property
    def rounding(self) -> float:
        """How far pyhf's twice the NLL of the observed data may be rounded.

        Each Poisson term is a small difference of large numbers, n log n and n.
        """
        events = self.observed.counts
        return float(8 * np.finfo(float).eps * np.sum(events * np.log(np.maximum(events, 2.0))))

    @property
    def cells(self) -> list[tuple[str, str, int]]:
        """The channel, the sample and the bin of each cell."""
        return [(s.channel, s.name, b) for s in self._samples for b in range(len(s.nominal))]

    @property
    def samples(self) -> Sequence[Sample]:
        """The samples, by channel."""
        return self._samples

    def bends(self, parameters: Vector) -> Vector:
        """Return how much variations of the interpolated parameters bend the rates at a point.

        Returns
        -------
        array, shape (n_parameters,)
            Half the sum of the changes of all bins for the values 1 and -1 of a parameter, in
            standard deviations of the data; 0 where the two changes are opposite, and for
            parameters that are not interpolated.
        """
        alphas, bins = self.interpolated, len(self.bins)
        with np.errstate(all="ignore"):
            rates = self.rates(parameters)
            factors = self._factors(parameters[self._f_parameter]).value
            scale = self._products(np.append(parameters, 1.0))[0] * self._factor_of_cells(factors)
        ones_f, ones_s = np.ones(len(self._f_parameter)), np.ones(len(self._s_parameter))
        bent_f = (self._factors(ones_f).value + self._factors(-ones_f).value) / 2 - 1
        bent_s = (self._shifts(ones_s).value + self._shifts(-ones_s).value) / 2
        groups = len(self._f_groups)
        by_group = _add_up(self._f_in_group, bent_f, groups * self._scaling)
        by_group = by_group.reshape(groups, self._scaling)
        in_groups = _add_up(self._group_in_bin, rates[self._scaled], bins * groups)
        bent = np.zeros((bins, len(self)))
        bent[:, : self._scaling] = in_groups.reshape(bins, groups) @ by_group
        shifted = _add_up(self._s_in_bin, scale[self._s_cell] * bent_s, bins * len(self))
        bent += shifted.reshape(bins, -1)
        bent[:, alphas:] = 0.0
        variance = np.maximum(_add_up(self._bin, rates, bins), 1e-3)
        total: Vector = np.sqrt((bent**2 / variance[:, None]).sum(axis=0))
        return total

    def off_minimum(self) -> float:
        """Return twice the NLL of the observed data at a point that depends on the model alone.

        Parameters lie up to 0.9 of their widths (0.2 where they have none) away from their initial
        values, by a checksum of their names; closer where the likelihood is not defined there.
        """
        shares = np.array([2 * zlib.crc32(name.encode()) / 2**32 - 1 for name in self.names])
        moves = shares * np.where(self.constrained, self.width, _OFF_FREE)
        for scale in (_OFF, _OFF / 2, _OFF / 4, 0.0):
            point = np.clip(self.initial + scale * moves, self.lower, self.upper)
            value = self.value(point, self.observed)
            if np.isfinite(value):
                return value + self.saturated(self.observed)
        return np.nan

    def why_undefined(self, parameters: Vector, data: Data) -> str:
        """Say why the likelihood is not a number at a point."""
        bins = self.undefined_bins(parameters, data)
        return "; ".join(each.text for each in bins[:_NAMED]) or "it is not a number"

    def undefined_bins(self, parameters: Vector, data: Data) -> list[UndefinedBin]:
        """Return the bins that have events but no positive rate.

        One with a histosys may still work: some optimizers get past it.
        """
        with np.errstate(all="ignore"):
            rates = self.rates(parameters)
        expected = _add_up(self._bin, rates, len(self.bins))
        found = []
        for bad in np.flatnonzero((data.main > 0) & ~(expected > 0)).tolist():
            channel, index = self.bins[bad]
            samples = ", ".join(
                f"{self._samples[self._group[cell]].name} {rates[cell]:.3g}"
                for cell in np.flatnonzero(self._bin == bad)
            )
            text = (
                f"bin {index} of the channel {channel} has {data.main[bad]:g} events, where "
                f"{expected[bad]:.3g} are expected ({samples})"
            )
            found.append(UndefinedBin(text, hopeless=bad not in self._bin[self._s_cell]))
        return found


def _add_up(places: Index, values: Vector, size: int) -> Vector:
    """Return the sums of the values that belong to each place, shape (size,)."""
    if len(places) == 0:
        return np.zeros(size)  # `numpy.bincount` would give integers
    sums: Vector = _bincount(places, values, size)
    return sums


def _poisson(data: Data, rates: Vector) -> float:
    """Return twice the sum of the Poisson terms, each relative to its largest value."""
    excess = (rates - data.counts) / data.safe
    log = np.log1p(excess)
    if excess.min() < _FEWER:
        log = np.where(excess < _FEWER, np.log(rates / data.safe), log)
    terms = np.where(data.some, data.counts * (excess - log), rates)
    return 2 * float(terms.sum())


def _saturated(events: Vector) -> float:
    """Return twice the sum of the Poisson terms at rates that are equal to the events."""
    few, many = events[(events > 0) & (events < _MANY)], events[events >= _MANY]
    small = few - few * np.log(few) + gammaln(few + 1)
    square = many * many
    large = (np.log(2 * np.pi * many)) / 2 + (
        1 / 12 - (1 / 360 - (1 / 1260 - 1 / (1680 * square)) / square) / square
    ) / many
    return float(2 * (np.sum(small) + np.sum(large)))
