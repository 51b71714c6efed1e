"""The compiled likelihood is pyhf's, and so are its derivatives."""

import json
from functools import cache
from pathlib import Path

import jsonpatch
import numpy as np
import pyhf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pytest_pyhf_faas
from pytest_pyhf_faas import likelihood
from pytest_pyhf_faas.likelihood import Likelihood, LikelihoodError

jax = pytest.importorskip("jax")

BUNDLED = Path(pytest_pyhf_faas.__file__).parent / "data" / "synthetic"
#: Compiled once for a few points.
QUICKLY = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
MU = {"name": "mu", "type": "normfactor", "data": None}

pytestmark = pytest.mark.timeout(600)
relaxed = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(autouse=True)
def pyhf_as_it_was():
    pyhf.set_backend("numpy", "scipy")
    yield
    pyhf.set_backend("numpy", "scipy")


@pytest.fixture
def nothing_compiled(monkeypatch):
    compiled = {}
    monkeypatch.setattr(likelihood, "_compiled", compiled)
    return compiled


def normsys(name, low, high):
    return {"name": name, "type": "normsys", "data": {"lo": low, "hi": high}}


def histosys(name, low, high):
    return {"name": name, "type": "histosys", "data": {"lo_data": low, "hi_data": high}}


def sample(name, rates, *modifiers):
    return {"name": name, "data": rates, "modifiers": list(modifiers)}


def build(channels, observed, parameters=()):
    """Return a model and its data; channels and observations by name."""
    workspace = pyhf.Workspace(
        {
            "channels": [{"name": name, "samples": samples} for name, samples in channels.items()],
            "observations": [{"name": name, "data": data} for name, data in observed.items()],
            "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": [*parameters]}}],
            "version": "1.0.0",
        },
        validate=False,
    )
    model = workspace.model(
        validate=False,
        modifier_settings={
            "normsys": {"interpcode": "code4"},
            "histosys": {"interpcode": "code4p"},
        },
    )
    return model, np.array(workspace.data(model))


def every_modifier():
    """All types of modifiers, one name with two of them, and a bin where nothing was seen."""
    lumi = {"name": "lumi", "type": "lumi", "data": None}
    scale = {"name": "k", "type": "normfactor", "data": None}
    stat = {"name": "stat", "type": "staterror"}
    signal = sample(
        "signal",
        [5.0, 8.0, 1.0],
        MU,
        lumi,
        normsys("both", 0.8, 1.3),
        histosys("both", [4.0, 8.5, 1.1], [6.5, 7.0, 0.8]),
        {**stat, "data": [0.5, 0.4, 0.2]},
    )
    top = sample(
        "top",
        [50.0, 30.0, 2.0],
        scale,
        lumi,
        normsys("norm", 0.9, 1.2),
        normsys("both", 1.1, 0.95),
        histosys("shape", [45.0, 33.0, 2.2], [52.0, 29.0, 2.5]),
        {**stat, "data": [3.0, 2.0, 0.5]},
    )
    shape = {"name": "free", "type": "shapefactor", "data": None}
    fakes = sample(
        "fakes", [9.0, 4.0], shape, {"name": "gamma", "type": "shapesys", "data": [2.0, 0.0]}
    )
    control = sample("control", [60.0, 40.0], scale, histosys("both", [50.0, 41.0], [63.0, 44.0]))
    return build(
        {"SR": [signal, top], "CR": [fakes, control]},
        {"SR": [52.0, 41.0, 0.0], "CR": [71.0, 40.0]},
        [
            {
                "name": "lumi",
                "auxdata": [1.0],
                "sigmas": [0.02],
                "bounds": [[0.8, 1.2]],
                "inits": [1.0],
            }
        ],
    )


def without_constraints():
    signal = sample("signal", [5.0, 8.0], MU)
    return build({"SR": [signal, sample("b", [20.0, 30.0])]}, {"SR": [24.0, 33.0]})


def with_poisson_constraints():
    model = pyhf.simplemodels.uncorrelated_background([12.0, 11.0], [50.0, 52.0], [3.0, 7.0])
    return model, np.array([57.0, 54.0, *model.config.auxdata])


def with_products_of_free_factors():
    """Two factors of one sample, each of which may be 0."""
    scale = {"name": "k", "type": "normfactor", "data": None}
    signal = sample("signal", [5.0, 8.0], MU, scale, normsys("norm", 0.8, 1.1))
    return build(
        {"SR": [signal, sample("b", [20.0, 30.0], scale), sample("c", [9.0, 9.0])]},
        {"SR": [24.0, 33.0]},
    )


CASES = [
    every_modifier,
    without_constraints,
    with_poisson_constraints,
    with_products_of_free_factors,
]


@cache
def prepared(case):
    pyhf.set_backend("numpy", "scipy")
    model, data = case()
    return model, data, Likelihood(model, data)


@cache
def by_jax(case):
    """Return pyhf's own twice the NLL, and the derivatives that JAX finds of it."""
    pyhf.set_backend("jax", "scipy")
    model, data = case()

    def function(parameters):
        return -2 * model.logpdf(parameters, data)[0]

    def slope(parameters):
        value, gradient = jax.value_and_grad(function)(parameters)
        return gradient, (value, gradient)

    def everything(parameters):
        hessian, (value, gradient) = jax.jacfwd(slope, has_aux=True)(parameters)
        return value, gradient, hessian

    compiled = jax.jit(everything).lower(np.ones(model.config.npars)).compile(QUICKLY)
    pyhf.set_backend("numpy", "scipy")
    return lambda parameters: [np.asarray(value) for value in compiled(parameters)]


def points(model, shares):
    """Return a point for numbers between -1 and 1, where all rates are positive."""
    initial = np.array(model.config.suggested_init())
    widths = np.where(initial == 0, 2.5, 0.15)
    return initial + widths * np.resize(shares, len(initial))


@relaxed
@given(st.sampled_from(CASES), st.lists(st.floats(-1, 1), min_size=17, max_size=17))
def test_value_and_derivatives_are_those_of_pyhf(case, shares):
    model, data, compiled = prepared(case)
    at, reference = points(model, np.array(shares)), points(model, np.zeros(1))
    value, gradient, hessian = compiled.derivatives(at, data)
    assert value == pytest.approx(compiled.value(at, data), rel=1e-12)
    # The plain one differs by what depends on the data alone.
    plain, exact_gradient, exact_hessian = by_jax(case)(at)
    constant = by_jax(case)(reference)[0] - compiled.derivatives(reference, data)[0]
    assert value + constant == pytest.approx(plain, rel=1e-11)
    assert plain == pytest.approx(float(-2 * model.logpdf(at, data)[0]), rel=1e-11)
    size = np.abs(exact_hessian).max()
    assert gradient == pytest.approx(exact_gradient, rel=1e-9, abs=1e-11 * size)
    assert hessian == pytest.approx(exact_hessian, rel=1e-9, abs=1e-11 * size)
    assert hessian == pytest.approx(hessian.T, abs=1e-12 * size)


@pytest.mark.parametrize(
    ("case", "zeros"),
    [
        (every_modifier, ["mu"]),
        (every_modifier, ["k"]),
        (with_products_of_free_factors, ["mu"]),
        (with_products_of_free_factors, ["k"]),
        (with_products_of_free_factors, ["mu", "k"]),
    ],
)
def test_factors_may_be_zero(case, zeros):
    model, data, compiled = prepared(case)
    at = points(model, np.array([0.3, -0.2]))
    for name in zeros:
        at[model.config.poi_index if name == "mu" else model.config.par_names.index(name)] = 0.0
    value, gradient, hessian = compiled.derivatives(at, data)
    _plain, exact_gradient, exact_hessian = by_jax(case)(at)
    assert value == pytest.approx(compiled.value(at, data), rel=1e-12)
    assert gradient == pytest.approx(exact_gradient, rel=1e-10)
    assert hessian == pytest.approx(exact_hessian, rel=1e-10, abs=1e-9)


@pytest.mark.parametrize("signal", [2.0, 0.0], ids=["signal alone", "nothing"])
def test_a_bin_without_events_may_have_no_background(signal):
    background = sample("b", [20.0, 0.0], normsys("norm", 0.9, 1.2))
    model, data = build({"SR": [sample("s", [5.0, signal], MU), background]}, {"SR": [24.0, 0.0]})
    compiled = Likelihood(model, data)
    at = np.zeros(2)
    at[1 - model.config.poi_index] = 0.4
    _value, gradient, hessian = compiled.derivatives(at, data)
    rate = model.expected_data(at)[0]
    slope = 2 * (5 * (1 - 24 / rate) + signal)
    assert gradient[model.config.poi_index] == pytest.approx(slope)
    bend = 2 * 25 * 24 / rate**2
    assert hessian[model.config.poi_index, model.config.poi_index] == pytest.approx(bend)
    assert np.isfinite(hessian).all()


def test_a_factor_that_the_interpolation_makes_negative_has_derivatives():
    """The polynomial of code4 overshoots; a power of what is negative has no derivative in JAX."""

    def case():
        samples = [sample("s", [5.0], MU, normsys("steep", 0.3, 90.0)), sample("b", [90.0])]
        return build({"SR": samples}, {"SR": [80.0]})

    model, data = case()
    compiled = Likelihood(model, data)
    at = np.empty(2)
    alpha = 1 - model.config.poi_index
    at[1 - alpha], at[alpha] = 1.0, -0.35
    assert model.expected_data(at)[0] < 90  # the signal is negative
    value, gradient, hessian = compiled.derivatives(at, data)
    assert np.isfinite(value)
    assert np.isfinite(hessian).all()
    assert np.isnan(by_jax(case)(at)[2]).any()
    for index, step in enumerate(1e-5 * np.eye(2)):
        above, below = (compiled.derivatives(at + side * step, data) for side in (1, -1))
        assert gradient[index] == pytest.approx((above[0] - below[0]) / 2e-5, rel=1e-6)
        assert hessian[index] == pytest.approx((above[1] - below[1]) / 2e-5, rel=1e-6)


def test_a_tiny_uncertainty_is_not_drowned_in_rounding():
    """A shapesys of 2e-6 is a Poisson term of 2.5e11 events."""
    tiny = {"name": "tiny", "type": "shapesys", "data": [1e-4]}
    samples = [sample("s", [5.0], MU), sample("b", [50.0], tiny)]
    model, data = build({"SR": samples}, {"SR": [52.0]})
    compiled = Likelihood(model, data)
    gamma = 1 - model.config.poi_index

    def at(pull):
        """Return the parameters so many standard deviations away."""
        parameters = np.ones(2)
        parameters[gamma] += 2e-6 * pull
        return parameters

    centre, slope, bend = compiled.derivatives(at(0.0), data)
    assert bend[gamma, gamma] == pytest.approx(2 * data[-1], rel=1e-6)
    pulls = np.array([0.001, 0.003, 0.01, 0.1, 0.5, 1.0])
    for pull in np.concatenate([pulls, -pulls]):
        moved = at(pull)[gamma] - 1  # as it is rounded
        foretold = slope[gamma] * moved + bend[gamma, gamma] * moved**2 / 2
        value, gradient, _hessian = compiled.derivatives(at(pull), data)
        assert value - centre == pytest.approx(foretold, rel=1e-4, abs=1e-13)
        assert compiled.value(at(pull), data) == pytest.approx(value, rel=1e-12)
        change = gradient[gamma] - slope[gamma]
        assert change == pytest.approx(bend[gamma, gamma] * moved, rel=1e-4, abs=1e-3)
    assert 1e-4 < compiled.rounding < 1
    constant = float(-2 * model.logpdf(at(0.0), data)[0]) - centre
    for pull in pulls:
        plain = float(-2 * model.logpdf(at(pull), data)[0]) - constant
        assert plain == pytest.approx(
            compiled.derivatives(at(pull), data)[0], abs=compiled.rounding
        )


# One function for many patches


def bundled(*names):
    """Return the models and data of patches of the bundled pallet."""
    background = json.loads((BUNDLED / "BkgOnly.json").read_text())
    patches = {
        patch["metadata"]["name"]: patch["patch"]
        for patch in json.loads((BUNDLED / "patchset.json").read_text())["patches"]
    }
    for name in names or patches:
        workspace = pyhf.Workspace(jsonpatch.apply_patch(background, patches[name]), validate=False)
        model = workspace.model(
            validate=False,
            modifier_settings={
                "normsys": {"interpcode": "code4"},
                "histosys": {"interpcode": "code4p"},
            },
        )
        yield model, np.array(workspace.data(model))


def test_one_function_serves_the_patches_of_a_pallet():
    values = set()
    first = None
    for model, data in bundled("synthetic_300_0", "synthetic_500_100", "synthetic_800_0"):
        compiled = Likelihood(model, data)
        at = points(model, np.array([0.5, -0.3, 0.2]))
        value, gradient, hessian = compiled.derivatives(at, data)
        values.add(value)
        assert value == pytest.approx(compiled.value(at, data), rel=1e-12)
        step = 1e-5 * np.cos(np.arange(len(at)))
        above, below = (compiled.derivatives(at + side * step, data) for side in (1, -1))
        assert gradient @ step == pytest.approx((above[0] - below[0]) / 2, rel=1e-6)
        assert hessian @ step == pytest.approx((above[1] - below[1]) / 2, rel=1e-5, abs=1e-9)
        first = first or compiled._function
        assert compiled._function is first
    assert len(values) == 3


def test_models_of_other_shapes_have_their_own_functions_and_not_too_many(
    nothing_compiled, monkeypatch
):
    monkeypatch.setattr(likelihood, "MAX_COMPILED", 1)
    first, second = without_constraints(), with_poisson_constraints()
    Likelihood(*first)
    (kept,) = nothing_compiled
    Likelihood(*second)
    assert len(nothing_compiled) == 1
    assert kept not in nothing_compiled
    assert pyhf.get_backend()[0].name == "numpy"


def test_models_compute_as_before_when_they_have_lent_their_tensors():
    model, data = with_poisson_constraints()
    before = model.logpdf(np.ones(3), data)
    compiled = Likelihood(model, data)
    compiled.derivatives(np.ones(3), data)
    compiled.value(np.ones(3), data)
    assert isinstance(model.main_model.nominal_rates, np.ndarray)
    assert model.logpdf(np.ones(3), data) == before


def twins():
    """Models of equal shapes, with a modifier on one or the other of their samples."""
    scale = normsys("norm", 0.8, 1.3)
    for first, second in (([MU, scale], []), ([MU], [scale])):
        samples = [sample("s", [5.0, 8.0], *first), sample("b", [20.0, 30.0], *second)]
        yield build({"SR": samples}, {"SR": [24.0, 33.0]})


def elsewhere():
    """Models of equal shapes, with parameters for the bins of one or the other channel."""
    stat = {"name": "stat", "type": "staterror", "data": [2.0, 3.0]}
    for first, second in (([stat], []), ([], [stat])):
        channels = {
            name: [sample("s", [5.0, 8.0], MU), sample("b", [20.0, 30.0], *modifiers)]
            for name, modifiers in (("A", first), ("B", second))
        }
        yield build(channels, {"A": [24.0, 33.0], "B": [22.0, 31.0]})


@pytest.mark.parametrize("models", [twins, elsewhere])
def test_masks_and_indices_differ_between_patches(models, nothing_compiled):
    for model, data in models():
        Likelihood(model, data)
    assert len(nothing_compiled) == 1


@pytest.mark.parametrize(("models", "kind"), [(twins, "b"), (elsewhere, "i"), (twins, "f")])
def test_a_forgotten_tensor_is_found_out(models, kind, nothing_compiled, monkeypatch):
    places = likelihood._places
    monkeypatch.setattr(
        likelihood,
        "_places",
        lambda model: (
            place for place in places(model) if np.asarray(place[1]()).dtype.kind != kind
        ),
    )
    first, second = models()
    if kind == "f":  # what differs are rates
        samples = [sample("s", [5.0, 8.5], MU, normsys("norm", 0.8, 1.3))]
        second = build({"SR": [*samples, sample("b", [20.0, 30.0])]}, {"SR": [24.0, 33.0]})
    Likelihood(*first)
    with pytest.raises(LikelihoodError, match=r"^the compiled likelihood gives .* where pyhf"):
        Likelihood(*second)
    assert len(nothing_compiled) == 1


def test_wrong_derivatives_are_found_out(nothing_compiled, monkeypatch):
    add = likelihood._add_main_model
    monkeypatch.setattr(
        likelihood, "_add_main_model", lambda *args: (add(*args)[0], 1.01 * add(*args)[1])
    )
    with pytest.raises(LikelihoodError, match="differ from finite differences"):
        Likelihood(*without_constraints())
    assert pyhf.get_backend()[0].name == "numpy"


def test_bends_are_what_up_and_down_have_in_common():
    one_way, opposite = normsys("one_way", 1.2, 1.2), normsys("opposite", 0.8, 1.2)
    shape = histosys("shape", [55.0, 60.0], [55.0, 40.0])
    samples = [sample("s", [5.0, 8.0], MU), sample("b", [50.0, 50.0], one_way, opposite, shape)]
    model, data = build({"SR": samples}, {"SR": [50.0, 50.0]})
    at = np.zeros(4)
    bends = dict(zip(model.config.par_names, Likelihood(model, data).bends(at), strict=True))
    assert bends["one_way"] == pytest.approx(np.sqrt(2 * 10**2 / 50))
    assert bends["opposite"] == pytest.approx(0, abs=1e-9)
    assert bends["shape"] == pytest.approx(5 / np.sqrt(50))
