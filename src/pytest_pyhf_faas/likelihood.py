"""The likelihood of a pyhf model with its exact first and second derivatives, compiled by JAX.

Like `worker`, this runs on workers and imports nothing of this package.

One compiled function serves all patches of a pallet whose tensors have equal shapes: the tensors
are arguments of it, all of them, whatever their type, for boolean masks and indices differ between
patches as the rates do. That nothing was forgotten is shown anew for every patch, by holding the
compiled function against ``model.logpdf``.

Notes
-----
The expected rate of a sample in a bin is a product of factors times a sum of a nominal rate and
shifts, and each factor and each shift depends on one parameter: Equation (4) of the HistFactory
paper (CERN-OPEN-2012-016). Forward differentiation along a vector of ones therefore gives the
derivatives of all factors and shifts at once, and the Hessian follows by the product rule in a few
matrix products, where general differentiation would repeat the whole calculation for each
parameter.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Vector = NDArray[np.float64]
    Matrix = NDArray[np.float64]
    #: Of each tensor: where it is, its kind and its shape.
    _Layout = tuple[tuple[str, str, tuple[int, ...]], ...]

#: How far the compiled function may be from ``model.logpdf``, relative to its value.
VALUE_RTOL = 1e-12
#: The same for derivatives against finite differences, which are this good at best.
DERIVATIVE_RTOL = 1e-4
_PROBES = 3
_STEP = 1e-5
#: Stands for a second factor that is 0: its reciprocal squared is finite.
_TINY = 1e-100
#: Functions kept for later patches; a pallet has one or a few shapes.
MAX_COMPILED = 64

#: No tensors of the likelihood lie below these: names, slices, initial values.
_NOT_WALKED = frozenset({"config", "parsets", "modifiers_appliers"})

#: Kinds of tensors: rates and the like, indices, masks.
_KINDS = {"f": np.float64, "i": np.int64, "b": np.bool_}

_compiled: dict[Any, Callable[..., Any]] = {}


class LikelihoodError(Exception):
    """The compiled function is not the likelihood of the model."""


class Likelihood:
    """Twice the negative log-likelihood of a model, as a function of parameters and data.

    Parameters
    ----------
    model : pyhf.Model
        Built with pyhf's NumPy backend.
    observations : array, shape (n_data,)
        Data, auxiliary data included, for which the function is held against ``model.logpdf``.

    Raises
    ------
    LikelihoodError
        If the compiled function differs from ``model.logpdf``.
    ImportError
        If there is no JAX.
    """

    def __init__(self, model: Any, observations: Vector) -> None:
        self.model = model
        self._layout, self._tensors = _pack(model)
        self._of_factor, self._of_shift = _which_parameter(model)
        self._observed = data = np.asarray(observations, dtype=float)
        self._function = self._compile(data)
        self._latest: tuple[bytes, tuple[float, Vector, Matrix]] | None = None
        self._verify(data)

    @property
    def rounding(self) -> float:
        """How far pyhf's plain twice the NLL may be rounded: a few units in the last place.

        Each Poisson term is a small difference of large numbers, n log n and n.
        """
        config = self.model.config
        events = np.array(self._observed[: config.nmaindata])
        for name in config.auxdata_order:
            parameters = config.param_set(name)
            if parameters.pdf_type == "poisson":
                events = np.append(events, parameters.auxdata)
        terms = events * np.log(np.maximum(events, 2.0))
        return float(8 * np.finfo(float).eps * terms.sum())

    def value(self, parameters: Vector, data: Vector) -> float:
        """Return the same value as `derivatives`, calculated by ``model.logpdf``."""
        import pyhf

        tensorlib, optimizer = pyhf.get_backend()
        pyhf.set_backend(_accurate_backend(), optimizer)
        try:
            return float(-2 * self.model.logpdf(parameters, data)[0])
        finally:
            pyhf.set_backend(tensorlib, optimizer)

    def derivatives(self, parameters: Vector, data: Vector) -> tuple[float, Vector, Matrix]:
        """Return twice the negative log-likelihood, its gradient and its Hessian.

        The Poisson terms are relative to their largest values, which depend on the data alone.

        Parameters
        ----------
        parameters : array, shape (n_parameters,)
            Where.
        data : array, shape (n_data,)
            Data, auxiliary data included.

        Returns
        -------
        tuple
            A float, and arrays of shape (n_parameters,) and (n_parameters, n_parameters).
        """
        where = np.concatenate((parameters, data)).tobytes()
        if self._latest is None or self._latest[0] != where:  # a start is tried, then followed
            value, gradient, hessian = self._function(
                self._tensors, self._of_factor, self._of_shift, parameters, data
            )
            self._latest = where, (float(value), np.asarray(gradient), np.asarray(hessian))
        return self._latest[1]

    def bends(self, parameters: Vector) -> Vector:
        """Return how much variations of the parameters bend the rates around a point.

        Returns
        -------
        array, shape (n_parameters,)
            Half the sum of the changes of all bins for the values 1 and -1 of a parameter, in
            standard deviations of the data; 0 where the two changes are opposite. Only for
            parameters whose interpolations have their centre at 0 is that of use.
        """
        main = self.model.main_model
        cells = main.nominal_rates.size
        rates = main.expected_data(parameters, return_by_sample=True).reshape(cells)
        product = _modifications(self.model, parameters, np.concatenate)[0].prod(axis=0)
        bends = np.zeros((len(parameters), cells))
        for side in (1.0, -1.0):
            factors, shifts = _modifications(
                self.model, np.full_like(parameters, side), np.concatenate
            )
            np.add.at(bends, (self._of_factor, np.arange(cells)), rates * (factors - 1) / 2)
            np.add.at(bends, (self._of_shift, np.arange(cells)), product * shifts / 2)
        bins = main.nominal_rates.shape[-1]
        over_samples = bends.reshape(len(parameters), -1, bins).sum(axis=1)
        variance = np.maximum(rates.reshape(-1, bins).sum(axis=0), 1e-3)
        total: Vector = np.sqrt((over_samples**2 / variance).sum(axis=1))
        return total

    def _compile(self, data: Vector) -> Callable[..., Any]:
        key = (self.model.config.npars, self._layout)
        if key not in _compiled:
            while len(_compiled) >= MAX_COMPILED:
                del _compiled[next(iter(_compiled))]
            example = (
                self._tensors,
                self._of_factor,
                self._of_shift,
                np.asarray(self.model.config.suggested_init(), dtype=float),
                data,
            )
            _compiled[key] = _compile(self.model, self._layout, example)
        return _compiled[key]

    def _verify(self, data: Vector) -> None:
        """Hold the compiled function and its derivatives against pyhf's own values."""
        config = self.model.config
        lower, upper = np.array(config.suggested_bounds(), dtype=float).T
        start = np.clip(np.array(config.suggested_init(), dtype=float), lower + 0.1, upper - 0.1)
        random = np.random.default_rng(0)
        for number in range(_PROBES):
            point = start + random.uniform(-0.05, 0.05, len(start)) * number
            value, gradient, hessian = self.derivatives(point, data)
            expected = self.value(point, data)
            if not abs(value - expected) <= VALUE_RTOL * max(abs(expected), 1.0):
                raise LikelihoodError(
                    f"the compiled likelihood gives {value!r} where pyhf gives {expected!r}"
                )
        direction = random.normal(size=len(start))
        step = _STEP * direction
        above, below = point + step, point - step
        slope = (self.value(above, data) - self.value(below, data)) / (2 * _STEP)
        bend = (self.derivatives(above, data)[1] - self.derivatives(below, data)[1]) / (2 * _STEP)
        wrong_slope = abs(gradient @ direction - slope)
        wrong_bend = np.linalg.norm(hessian @ direction - bend)
        if not (
            wrong_slope <= DERIVATIVE_RTOL * np.linalg.norm(gradient) * np.linalg.norm(direction)
            and wrong_bend <= DERIVATIVE_RTOL * np.linalg.norm(bend)
        ):
            raise LikelihoodError(
                "the derivatives of the compiled likelihood differ from finite differences of "
                f"pyhf's (gradient by {wrong_slope:.1e}, Hessian by {wrong_bend:.1e})"
            )


def _modifications(model: Any, parameters: Any, concatenate: Any) -> tuple[Any, Any]:
    """Return factors and shifts, each of shape (n_modifiers + 1, n_cells); the first is neutral.

    A cell is one sample in one bin.
    """
    shifts, factors = model.main_model._modifications(parameters)  # noqa: SLF001 - no public way
    cells = model.main_model.nominal_rates.size
    all_factors = [np.ones((1, cells)), *(part.reshape(-1, cells) for part in factors)]
    all_shifts = [np.zeros((1, cells)), *(part.reshape(-1, cells) for part in shifts)]
    return concatenate(all_factors), concatenate(all_shifts)


def _which_parameter(model: Any) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the index of the parameter that each factor and each shift depends on.

    Parameters are moved in the pattern of the binary digits of their number: the patterns that
    change a factor spell the number of its parameter. What no parameter changes gets 0.
    """
    config = model.config
    count = config.npars
    lower, upper = np.array(config.suggested_bounds(), dtype=float).T
    # Away from 0, where interpolations are flat.
    start = np.clip(np.array(config.suggested_init(), dtype=float) + 0.3, lower, upper - 0.1)
    numbers = np.arange(1, count + 1)
    reference = _modifications(model, start, np.concatenate)
    found = [np.zeros(part.shape, dtype=np.int32) for part in reference]
    for digit in range(count.bit_length()):
        moved = start + 0.05 * (numbers >> digit & 1)
        changed = _modifications(model, moved, np.concatenate)
        for part in range(len(found)):
            found[part] |= (reference[part] != changed[part]).astype(np.int32) << digit
    factors, shifts = (np.maximum(number - 1, 0) for number in found)
    return factors, shifts


def _compile(model: Any, layout: _Layout, example: tuple[Any, ...]) -> Callable[..., Any]:
    """Return the compiled function of (tensors, of_factor, of_shift, parameters, data)."""
    import jax
    import jax.numpy as jnp
    import pyhf

    def function(
        tensors: tuple[Any, ...], of_factor: Any, of_shift: Any, parameters: Any, data: Any
    ) -> tuple[Any, Any, Any]:
        ones = jnp.ones(len(parameters))

        def modifications(at: Any) -> Any:
            return _modifications(model, at, jnp.concatenate)

        def with_slopes(at: Any) -> Any:
            return jax.jvp(modifications, (at,), (ones,))

        def constraint(at: Any) -> Any:
            return jnp.sum(-2 * model.constraint_model.logpdf(data[bins:], at))

        with _replaced(model, _unpack(layout, tensors)):
            bins = model.main_model.nominal_rates.shape[-1]
            nominal = model.main_model.nominal_rates.reshape(-1)
            value = -2 * model.make_pdf(parameters).log_prob(data)
            ((f, s), (f1, s1)), (_, (f2, s2)) = jax.jvp(with_slopes, (parameters,), (ones,))
            # Each constraint term depends on one parameter: their Hessian is diagonal.
            gradient, bends = jnp.zeros(len(parameters)), jnp.zeros(len(parameters))
            if model.constraint_model.has_pdf():
                gradient, bends = jax.jvp(jax.grad(constraint), (parameters,), (ones,))
        gradient, hessian = _add_main_model(
            (gradient, jnp.diag(bends)),
            nominal,
            (f, f1, f2, of_factor),
            (s, s1, s2, of_shift),
            data[:bins],
        )
        return jnp.reshape(value, ()), gradient, hessian

    tensorlib, optimizer = pyhf.get_backend()
    pyhf.set_backend(_differentiable_backend())
    try:
        compiled: Callable[..., Any] = jax.jit(function).lower(*example).compile()
    finally:
        pyhf.set_backend(tensorlib, optimizer)
    return compiled


class _Poisson:
    """A Poisson distribution whose log-probability is relative to its largest value.

    A shapesys with a small uncertainty becomes a Poisson term of 1e11 events (in 3L_eRJR), whose
    plain log-probability is rounded at 1e-3. This one is accurate near its maximum, and differs
    from the plain one by what depends on the data alone.
    """

    def __init__(self, numpy: Any, rate: Any) -> None:
        self._numpy = numpy
        self._rate = rate

    def log_prob(self, value: Any) -> Any:
        np, rate = self._numpy, self._rate
        some = np.where(value > 0, value, 1.0)
        excess = np.where(value > 0, (rate - some) / some, 0.0)
        return np.where(value > 0, some * (np.log1p(excess) - excess), -rate)


def _accurate_backend() -> Any:
    """Return pyhf's NumPy backend with `_Poisson`."""
    from pyhf.tensor.numpy_backend import numpy_backend

    class AccurateBackend(numpy_backend):  # type: ignore[misc]
        def poisson_dist(self, rate: Any) -> _Poisson:
            return _Poisson(np, rate)

    return AccurateBackend(precision="64b")


def _differentiable_backend() -> Any:
    """Return pyhf's JAX backend with `_Poisson`, and with powers that can be differentiated.

    pyhf raises the polynomial of code4 to the power of 1, and the derivative of a power by its
    exponent is not a number where the base is negative.
    """
    import jax.numpy as jnp
    from pyhf.tensor.jax_backend import jax_backend

    class DifferentiableBackend(jax_backend):  # type: ignore[misc]
        def poisson_dist(self, rate: Any) -> _Poisson:
            return _Poisson(jnp, rate)

        def power(self, base: Any, exponent: Any) -> Any:
            plain = exponent == 1
            return jnp.where(plain, base, jnp.power(jnp.where(plain, 1.0, base), exponent))

    return DifferentiableBackend(precision="64b")


def _add_main_model(
    constraints: tuple[Any, Any],
    nominal: Any,
    factors: tuple[Any, Any, Any, Any],
    shifts: tuple[Any, Any, Any, Any],
    observed: Any,
) -> tuple[Any, Any]:
    """Return gradient and Hessian of the whole from those of the constraint terms.

    Factors and shifts come with their first and second derivatives and the index of their
    parameter, each of shape (n_modifiers + 1, n_cells).

    The rate of a cell is f R with one factor f set apart and R = F a, the product F of the other
    factors times the sum a of the nominal rate and the shifts. F is differentiated by its
    logarithm; the smallest factor is set apart because it may be 0, as that of all signal is at
    POI 0.
    """
    import jax.numpy as jnp

    gradient, hessian = constraints
    f, f1, f2, of_factor = factors
    s, s1, s2, of_shift = shifts
    cells = jnp.arange(len(nominal))
    bins = len(observed)

    def over_samples(values: Any) -> Any:
        return values.reshape(*values.shape[:-1], -1, bins).sum(axis=-2)

    smallest = jnp.argmin(jnp.abs(f), axis=0)
    apart = jnp.arange(len(f))[:, None] == smallest
    g, g1, g2, of_apart = (values[smallest, cells] for values in factors)
    f = jnp.where(apart, 1.0, jnp.where(f == 0, _TINY, f))
    log_slopes = jnp.where(apart, 0.0, f1 / f)
    log_bends = jnp.where(apart, 0.0, f2 / f - log_slopes**2)
    product, total = jnp.prod(f, axis=0), nominal + s.sum(axis=0)

    # Rows are parameters, columns cells; first and second derivatives side by side.
    empty = jnp.zeros((len(gradient), len(nominal), 2))
    of_factors = empty.at[of_factor, cells].add(jnp.stack((log_slopes, log_bends), axis=-1))
    of_shifts = empty.at[of_shift, cells].add(jnp.stack((s1, s2), axis=-1))
    of_product, bends = of_factors[..., 0], of_factors[..., 1]
    of_total, total_bends = of_shifts[..., 0], of_shifts[..., 1]
    rest = product * total
    rest_slopes = product * (total * of_product + of_total)
    rates = over_samples(g * rest)
    slopes_of_rates = (g * rest_slopes).at[of_apart, cells].add(g1 * rest)
    jacobian = over_samples(slopes_of_rates)

    # The rate of a bin without events may be 0.
    slopes = 1 - jnp.where(observed > 0, observed / rates, 0.0)
    curvatures = jnp.where(observed > 0, observed / rates**2, 0.0)
    # The second derivatives of the rates, summed over bins with these weights.
    weights = jnp.tile(slopes, len(nominal) // bins)
    scale = weights * g * product
    half = of_product @ (scale * (total * of_product / 2 + of_total)).T
    half = half.at[of_apart].add((weights * g1 * rest_slopes).T)
    diagonal = (scale * total * bends + scale * total_bends).sum(axis=1)
    diagonal = diagonal.at[of_apart].add(weights * g2 * rest)
    second = half + half.T + jnp.diag(diagonal)
    gradient += 2 * jacobian @ slopes
    hessian += 2 * (second + (jacobian * curvatures) @ jacobian.T)
    return gradient, hessian


def _pack(model: Any) -> tuple[_Layout, tuple[NDArray[Any], ...]]:
    """Return all tensors that pyhf computes with, in one array of each kind, and where they lie.

    A call with three arrays takes a fraction of one with all tensors.
    """
    parts: dict[str, list[NDArray[Any]]] = {kind: [] for kind in _KINDS}
    layout = []
    for path, read, _write in _places(model):
        tensor = np.asarray(read())
        layout.append((path, tensor.dtype.kind, tensor.shape))
        parts[tensor.dtype.kind].append(tensor.ravel())
    empty = np.zeros(0)
    return tuple(layout), tuple(
        np.concatenate([empty, *parts[kind]]).astype(dtype) for kind, dtype in _KINDS.items()
    )


def _unpack(layout: _Layout, packed: tuple[Any, ...]) -> dict[str, Any]:
    """Return the tensors by where they are."""
    tensors = {}
    used = dict.fromkeys(_KINDS, 0)
    arrays = dict(zip(_KINDS, packed, strict=True))
    for path, kind, shape in layout:
        size = int(np.prod(shape))
        tensors[path] = arrays[kind][used[kind] : used[kind] + size].reshape(shape)
        used[kind] += size
    return tensors


@contextlib.contextmanager
def _replaced(model: Any, tensors: dict[str, Any]) -> Iterator[None]:
    """Let a model compute with other tensors for a while."""
    places = list(_places(model))
    before = [read() for _path, read, _write in places]
    try:
        for path, _read, write in places:
            write(tensors[path])
        yield
    finally:
        for (_path, _read, write), tensor in zip(places, before, strict=True):
            write(tensor)


def _places(model: Any) -> Iterator[tuple[str, Callable[[], Any], Callable[[Any], None]]]:
    """Give each tensor's path, and how to read and to write it."""
    main, constraint = model.main_model, model.constraint_model
    parts = {
        "main": main,
        "data": model.fullpdf_tv,
        "constraint": constraint,
        **main.modifiers_appliers,
    }
    for name, part in parts.items():
        yield from _places_below(part, name)


def _places_below(
    node: Any, path: str
) -> Iterator[tuple[str, Callable[[], Any], Callable[[Any], None]]]:
    """Walk through what pyhf has put into an object: tensors, lists of them, further objects.

    Attributes with an underscore are what pyhf makes the tensors of the present backend from.
    """
    inside: Iterator[tuple[Any, Any]] | Any
    if isinstance(node, list):
        container, inside = node, enumerate(node)
    else:
        container = vars(node)
        inside = [item for item in container.items() if not item[0].startswith("_")]
    for name, value in inside:
        if hasattr(value, "dtype") and hasattr(value, "shape"):
            yield (
                f"{path}.{name}",
                partial(container.__getitem__, name),
                partial(container.__setitem__, name),
            )
        elif name not in _NOT_WALKED and (
            isinstance(value, list) or type(value).__module__.startswith("pyhf.")
        ):
            yield from _places_below(value, f"{path}.{name}")
