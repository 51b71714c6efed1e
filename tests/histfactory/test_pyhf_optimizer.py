"""In pyhf's own functions the optimizer gives what a search gives, whatever was fitted before."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import jsonpatch
import numpy as np
import pyhf
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import pytest_pyhf_faas
from pytest_pyhf_faas.histfactory import pyhf_optimizer
from pytest_pyhf_faas.histfactory.errors import CertificationError, InvalidModel
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.minima import SAME
from pytest_pyhf_faas.histfactory.newton import Minimum
from pytest_pyhf_faas.histfactory.pyhf_optimizer import CertifiedOptimizer
from pytest_pyhf_faas.histfactory.search import (
    BACKGROUND,
    BRIEF,
    FIXED,
    FIXED_ASIMOV,
    FREE,
    FREE_ASIMOV,
    THOROUGH,
    Effort,
    Search,
)
from pytest_pyhf_faas.histfactory.workspace import Workspace
from tests.histfactory.generated import (
    LUMI,
    MU,
    by_pyhf,
    copied,
    factor,
    gammas,
    histosys,
    normsys,
    sample,
    workspace,
)

pytestmark = pytest.mark.timeout(300)

SOURCE = Path(pytest_pyhf_faas.__file__).parent
BUNDLED = SOURCE / "data" / "synthetic"
#: With one minimum; with two, and CLs on either side of 0.05; with two for the Asimov data alone.
NAMES = ("synthetic_500_400", "synthetic_250_50", "synthetic_300_50")
#: The interpreters of environments with other versions of pyhf, separated as in PATH.
PYTHONS = os.environ.get("PYHF_OTHER_PYTHONS", "")
MODES = ("lowest", "nominal")
TESTS = (("qtilde", 1.0), ("q", 1.0), ("q0", 0.0), ("qtilde", 0.4), ("qtilde", 2.5))


@pytest.fixture(autouse=True)
def pyhf_as_it_was():
    before = pyhf.get_backend()
    yield
    pyhf.set_backend(*before)


# --- workspaces ---------------------------------------------------------------------------------


def bundled(name):
    background = json.loads((BUNDLED / "BkgOnly.json").read_text(encoding="utf-8"))
    patchset = json.loads((BUNDLED / "patchset.json").read_text(encoding="utf-8"))
    (patch,) = (one["patch"] for one in patchset["patches"] if one["metadata"]["name"] == name)
    return jsonpatch.apply_patch(background, patch)


def one_channel(signal, background, observed, *modifiers, parameters=()):
    """A workspace; the modifiers are those of the background."""
    samples = [sample("signal", signal, MU), sample("background", background, *modifiers)]
    return workspace({"bins": samples}, {"bins": observed}, parameters)


def usual():
    scale = normsys("scale", 0.8, 1.1)
    shape = histosys("shape", [48.0, 55.0], [54.0, 51.0])
    bins = gammas("shapesys", "bins", [3.0, 7.0])
    return one_channel([12.0, 11.0], [50.0, 52.0], [57.0, 54.0], scale, shape, bins)


def two_sided():
    """Up and down raise the background where there is an excess."""
    both = histosys("both", [69.0, 52.0], [70.0, 52.0])
    return one_channel([2.0, 12.0], [50.0, 52.0], [75.0, 54.0], both)


def other_side_is_lower():
    """Where the descent begins to the one side, the other one is farther away, and lower."""
    both = histosys("both", [58.0, 33.0], [63.0, 45.0])
    return one_channel([0.0, 7.0], [50.0, 28.0], [67.0, 30.0], both)


@st.composite
def small(draw):
    """A workspace with parameters of all kinds, whose fits are all defined."""
    rates = st.floats(20.0, 90.0)
    share = st.floats(0.7, 1.3)
    channels, observed = {}, {}
    for name in draw(st.sampled_from([("SR",), ("SR", "CR")])):
        background = [draw(rates), draw(rates)]
        signal = [draw(st.floats(1.0, 15.0)), draw(st.floats(1.0, 15.0))]
        shifted = [[rate * draw(share) for rate in background] for _ in range(2)]
        widths = [rate * draw(st.floats(0.02, 0.2)) for rate in background]
        channels[name] = [
            sample("signal", signal, MU, normsys("theory", draw(share), draw(share))),
            sample(
                "background",
                background,
                normsys("scale", draw(share), draw(share)),
                histosys("shape", *shifted),
                gammas(draw(st.sampled_from(["shapesys", "staterror"])), f"bins_{name}", widths),
            ),
        ]
        channels[name][1]["modifiers"] += draw(
            st.sampled_from([[], [factor("lumi", "lumi")], [factor("normfactor", "free")]])
        )
        observed[name] = [round(rate * draw(st.floats(0.8, 1.4))) for rate in background]
    lumi = "lumi" in json.dumps(channels)
    return workspace(channels, observed, [LUMI] if lumi else [])


# --- what pyhf says -----------------------------------------------------------------------------


def use(specification, minimum="lowest", backend="numpy", **options):
    """Set the optimizer; return it, the model and the data."""
    optimizer = CertifiedOptimizer.from_workspace(specification, minimum=minimum, **options)
    pyhf.set_backend(backend, optimizer)
    model, data = by_pyhf(specification)
    return optimizer, model, data


def hypotest(model, data, test_stat="qtilde", test_poi=1.0):
    """Return the six values."""
    observed, expected = pyhf.infer.hypotest(
        test_poi, data, model, test_stat=test_stat, return_expected_set=True
    )
    return [float(np.asarray(value)) for value in (observed, *expected)]


def searched(specification, minimum, test_stat="qtilde", test_poi=1.0):
    likelihood = Likelihood(Workspace.from_json(specification))
    effort = THOROUGH if minimum == "lowest" else None
    search = Search(likelihood, test_poi, test_stat, effort=effort)
    return getattr(search, minimum)


@pytest.mark.parametrize("minimum", MODES)
@pytest.mark.parametrize(("test_stat", "test_poi"), TESTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_hypothesis_has_the_cls_of_a_search(name, test_stat, test_poi, minimum):
    specification = bundled(name)
    _, model, data = use(specification, minimum)
    expected = searched(specification, minimum, test_stat, test_poi).cls
    assert hypotest(model, data, test_stat, test_poi) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("minimum", MODES)
@pytest.mark.parametrize(("test_stat", "test_poi"), TESTS)
@pytest.mark.parametrize("make", [usual, two_sided, other_side_is_lower])
def test_a_small_workspace_has_the_cls_of_a_search(make, test_stat, test_poi, minimum):
    specification = make()
    _, model, data = use(specification, minimum)
    expected = searched(specification, minimum, test_stat, test_poi).cls
    assert hypotest(model, data, test_stat, test_poi) == pytest.approx(expected, rel=1e-7)


def turning():
    """The lowest fit to the Asimov data is where the observed data have theirs, at a large POI."""
    scale = normsys("scale", 1.25, 0.75)
    shape = histosys("shape", [36.3125, 70.0], [31.5, 49.0])
    bins = gammas("shapesys", "bins", [1.75, 3.5])
    return one_channel([1.0, 9.0], [28.0, 56.0], [39, 70], scale, shape, bins)


def test_a_fit_at_a_large_poi_begins_at_the_minima_of_the_observed_data_too():
    _, model, data = use(turning())
    expected = searched(turning(), "lowest", "qtilde", 2.5).cls
    assert searched(turning(), "nominal", "qtilde", 2.5).cls != pytest.approx(expected, rel=1e-3)
    assert hypotest(model, data, "qtilde", 2.5) == pytest.approx(expected, rel=1e-7)


def test_the_two_minima_are_two():
    for specification in (bundled("synthetic_250_50"), other_side_is_lower()):
        values = {}
        for minimum in MODES:
            _, model, data = use(specification, minimum)
            values[minimum] = hypotest(model, data)
        assert values["lowest"] != pytest.approx(values["nominal"], rel=1e-2)


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # to make an example smaller takes minutes
)
@given(small(), st.sampled_from(MODES), st.sampled_from(TESTS))
def test_a_generated_workspace_has_the_cls_of_a_search(specification, minimum, test):
    """Of all that have the same minima: two searches need not find the same lowest ones."""
    test_stat, test_poi = test
    try:
        expected = searched(specification, minimum, *test)
        nominal = searched(specification, "nominal", *test)
    except CertificationError:  # at a kink
        assume(False)
    before = pyhf.get_backend()
    try:
        _, model, data = use(specification, minimum)
        fits = twice_nll_of(model, data, test_stat, test_poi)
        found = hypotest(model, data, *test)
    finally:
        pyhf.set_backend(*before)
    for name in (FIXED, FREE, BACKGROUND):
        assert fits[name] <= nominal.twice_nll[name] + SAME
        assume(minimum == "nominal" or abs(fits[name] - expected.twice_nll[name]) < SAME)
    # The Asimov data are the same then.
    assume(
        minimum == "nominal" or abs(fits[FIXED_ASIMOV] - expected.twice_nll[FIXED_ASIMOV]) < SAME
    )
    assert found == pytest.approx(expected.cls, rel=1e-5, abs=1e-9)  # as `SAME` allows


def twice_nll_of(model, data, test_stat, test_poi):
    """Return twice the NLL of pyhf's fits."""
    _, calculator = pyhf.infer.hypotest(
        test_poi, data, model, test_stat=test_stat, return_calculator=True
    )
    fitted = calculator.fitted_pars
    asimov = model.expected_data(fitted.asimov_pars)
    return {
        name: float(np.asarray(-2 * model.logpdf(parameters, of)).reshape(-1)[0])
        for name, parameters, of in (
            (FIXED, fitted.fixed_poi_fit_to_data, data),
            (FREE, fitted.free_fit_to_data, data),
            (BACKGROUND, fitted.asimov_pars, data),
            (FIXED_ASIMOV, fitted.fixed_poi_fit_to_asimov, asimov),
        )
    }


@pytest.mark.parametrize("minimum", MODES)
def test_the_fits_are_those_of_a_search(minimum):
    specification = bundled("synthetic_250_50")
    optimizer, model, data = use(specification, minimum)
    found = searched(specification, minimum)
    order = optimizer.likelihood.pyhf_order
    _, calculator = pyhf.infer.hypotest(1.0, data, model, return_calculator=True)
    fitted = calculator.fitted_pars
    for name, ours in (
        (FIXED, fitted.fixed_poi_fit_to_data),
        (FREE, fitted.free_fit_to_data),
        (BACKGROUND, fitted.asimov_pars),
        (FIXED_ASIMOV, fitted.fixed_poi_fit_to_asimov),
    ):
        assert ours == pytest.approx(found.minima[name].parameters[order], abs=1e-6)
    # The data were built from these.
    assert fitted.free_fit_to_asimov == pytest.approx(fitted.asimov_pars, abs=1e-6)
    asimov = model.expected_data(fitted.asimov_pars)
    _, value = pyhf.infer.mle.fit(asimov, model, return_fitted_val=True)
    assert value.shape == ()
    assert float(value) == pytest.approx(found.twice_nll[FREE_ASIMOV], abs=1e-9)


@pytest.mark.parametrize("minimum", MODES)
def test_upper_limits(minimum):
    specification = bundled("synthetic_250_50")
    _, model, data = use(specification, minimum)
    observed, expected = pyhf.infer.intervals.upper_limits.upper_limit(data, model, rtol=1e-6)
    for limit, index in ((observed, 0), *zip(expected, range(1, 6), strict=True)):
        cls = searched(specification, minimum, "qtilde", float(limit)).cls[index]
        assert cls == pytest.approx(0.05, rel=1e-3)


def test_toys():
    _, model, data = use(usual())
    np.random.seed(1)
    calculator = pyhf.infer.calculators.ToyCalculator(data, model, ntoys=20, track_progress=False)
    distributions = calculator.distributions(1.0)
    p_values = calculator.pvalues(calculator.teststatistic(1.0), *distributions)
    assert all(0 <= float(value) <= 1 for value in p_values[:2])


@pytest.mark.parametrize(
    ("make", "minimum", "precision", "rel", "tests"),
    [
        # JAX compiles each of its operations for each shape, so that more tests would tell little.
        (other_side_is_lower, "lowest", "64b", 1e-7, TESTS[:1]),
        (other_side_is_lower, "nominal", "64b", 1e-7, TESTS[:2]),
        (other_side_is_lower, "lowest", "32b", 1e-3, TESTS[:1]),
    ],
)
def test_with_jax(make, minimum, precision, rel, tests):
    pytest.importorskip("jax")
    specification = make()
    optimizer = CertifiedOptimizer.from_workspace(specification, minimum=minimum)
    pyhf.set_backend("jax", optimizer, precision=precision)
    model, data = by_pyhf(specification)
    for test_stat, test_poi in tests:
        expected = searched(specification, minimum, test_stat, test_poi).cls
        assert hypotest(model, data, test_stat, test_poi) == pytest.approx(expected, rel=rel)


SCRIPT = """
import json, sys
import pyhf
from pytest_pyhf_faas.histfactory.pyhf_optimizer import CertifiedOptimizer

results = []
for specification, minimum, test_stat, test_poi in json.load(sys.stdin):
    workspace = pyhf.Workspace(specification)
    pyhf.set_backend("numpy", CertifiedOptimizer.from_workspace(workspace, minimum=minimum))
    model = workspace.model()
    observed, expected = pyhf.infer.hypotest(
        test_poi, workspace.data(model), model, test_stat=test_stat, return_expected_set=True
    )
    results.append([float(observed), *map(float, expected)])
json.dump(results, sys.stdout)
"""


@pytest.mark.parametrize("python", PYTHONS.split(os.pathsep))
def test_other_versions_of_pyhf(python, tmp_path):
    if not Path(python).is_file():
        pytest.skip("PYHF_OTHER_PYTHONS names no interpreter with another pyhf")
    tests = [
        (bundled(name), minimum, *test)
        for name in NAMES
        for minimum in MODES
        for test in (TESTS[0], TESTS[2])
    ]
    done = subprocess.run(
        [python, "-W", "ignore", "-c", SCRIPT],
        input=json.dumps(tests),
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE.parent)},
    )
    assert done.returncode == 0, done.stderr
    for (specification, *test), values in zip(tests, json.loads(done.stdout), strict=True):
        assert values == pytest.approx(searched(specification, *test).cls, rel=1e-7)


# --- a function of its input --------------------------------------------------------------------


def fits_of(model, data):
    """Calls of all kinds, each to be made with one optimizer; to observed data and to others."""
    mle = pyhf.infer.mle
    config = model.config
    poi, count = config.poi_index, config.npars
    changed = np.array(data)
    changed[0] += 7
    wide = [
        (-8.0, 20.0) if index == poi else pair
        for index, pair in enumerate(config.suggested_bounds())
    ]
    begun = config.suggested_init()
    begun[poi] = 2.0
    held = [index == (poi + 1) % count for index in range(count)]
    calls = [
        lambda d=d, options=options: mle.fit(d, model, return_fitted_val=True, **options)
        for d in (data, changed)
        for options in ({}, {"par_bounds": wide}, {"init_pars": begun}, {"fixed_params": held})
    ]
    calls += [
        lambda d=d, at=at: mle.fixed_poi_fit(at, d, model, return_fitted_val=True)
        for d in (data, changed)
        for at in (0.0, 1.0, 0.3, 4.0)
    ]
    return calls


@pytest.mark.parametrize("minimum", MODES)
@pytest.mark.parametrize(
    ("make", "remembered"), [(other_side_is_lower, 32), (lambda: bundled("synthetic_250_50"), 1)]
)
def test_the_order_of_fits_does_not_matter(make, minimum, remembered, monkeypatch):
    monkeypatch.setattr(pyhf_optimizer, "_REMEMBERED", remembered)
    specification = make()

    def results(order):
        _, model, data = use(specification, minimum)
        calls = fits_of(model, data)
        return {number: calls[number]() for number in order}

    numbers = list(range(16))
    expected = results(numbers)
    shuffled = random.Random(3).sample(numbers, 16)
    again = results([*shuffled, *shuffled[::-1]])
    alone = {number: results([number])[number] for number in (0, 5, 9, 10, 15)}
    for other in (again, alone):
        for number, (parameters, value) in other.items():
            assert value == expected[number][1]
            assert parameters.tolist() == expected[number][0].tolist()


@pytest.mark.parametrize("minimum", MODES)
@pytest.mark.parametrize(
    "make",
    [usual, two_sided, other_side_is_lower, *(lambda name=name: bundled(name) for name in NAMES)],
)
def test_a_free_fit_never_ends_above_one_with_a_fixed_poi(make, minimum):
    _, model, data = use(make(), minimum)
    mle = pyhf.infer.mle
    background = mle.fixed_poi_fit(0.0, data, model)
    for fitted in (data, model.expected_data(background), [*(data[:1] + 9), *data[1:]]):
        free, lowest = mle.fit(fitted, model, return_fitted_val=True)
        profile = []
        for at in (0.0, 0.2, 0.5, 1.0, 1.5, 3.0, 6.0, 10.0):
            parameters, value = mle.fixed_poi_fit(at, fitted, model, return_fitted_val=True)
            assert parameters[model.config.poi_index] == at
            assert value > lowest - 1e-6
            profile.append((at, float(value)))
        at = float(free[model.config.poi_index])
        above = [value for poi, value in profile if poi >= at]
        if minimum == "lowest":  # it rises on both sides
            assert all(b > a - 1e-6 for a, b in pairwise(above))


def test_what_is_returned_belongs_to_the_caller():
    _, model, data = use(usual())
    first, value = pyhf.infer.mle.fit(data, model, return_fitted_val=True)
    kept = first.copy()
    first[:] = 99.0
    value[...] = 0.0
    again, same = pyhf.infer.mle.fit(data, model, return_fitted_val=True)
    assert again.tolist() == kept.tolist()
    assert same != 0.0


def test_a_pool_is_followed():
    """Without draws a search does not find the other minimum."""
    specification = bundled("synthetic_250_50")
    lowest, nominal = (searched(specification, minimum).cls for minimum in MODES)
    none = Effort(draws=0, background_draws=0, sides=False)
    for pool, expected in (((), nominal), ([{"signal_ISR": 1.5}], lowest)):
        _, model, data = use(specification, effort=none, pool=pool)
        assert hypotest(model, data) == pytest.approx(expected, rel=1e-7)


# --- what is asked for --------------------------------------------------------------------------


def test_bounds_and_fixed_parameters_are_kept():
    optimizer, model, data = use(usual())
    config = model.config
    bounds = config.suggested_bounds()
    init = config.suggested_init()
    fixed = config.suggested_fixed()
    scale, shape = (config.par_names.index(name) for name in ("scale", "shape"))
    free = pyhf.infer.mle.fit(data, model)
    assert abs(free[scale]) > 1e-3
    bounds[scale] = (-5.0, float(free[scale]) - 0.2)
    init[scale] = -1.0
    fixed[shape], init[shape] = True, 0.7
    fitted, value = pyhf.infer.mle.fit(data, model, init, bounds, fixed, return_fitted_val=True)
    assert fitted[scale] == bounds[scale][1]
    assert fitted[shape] == 0.7
    assert value > pyhf.infer.mle.fit(data, model, return_fitted_val=True)[1]
    twice_nll = pyhf.infer.mle.twice_nll(fitted, data, model)
    assert float(value) == pytest.approx(float(twice_nll[0]), abs=1e-10)
    assert optimizer.name == "certified"


def test_uncertainties_and_correlations_are_those_of_minuit():
    pytest.importorskip("iminuit")
    fixed = {"name": "held", "fixed": True, "inits": [1.2]}
    specification = one_channel(
        [12.0, 11.0],
        [50.0, 52.0],
        [80.0, 76.0],
        normsys("scale", 0.8, 1.1),
        gammas("shapesys", "bins", [3.0, 7.0]),
        factor("normfactor", "held"),
        parameters=[fixed],
    )
    model, data = by_pyhf(specification)
    options = {"return_uncertainties": True, "return_correlations": True, "return_fitted_val": True}
    minuit = pyhf.optimize.minuit_optimizer(tolerance=1e-5, strategy=2)
    optimizer = CertifiedOptimizer.from_workspace(specification)
    results = []
    for one in (minuit, optimizer):
        pyhf.set_backend("numpy", one)
        results.append(pyhf.infer.mle.fit(data, model, return_result_obj=True, **options))
    for theirs, ours in zip(results[0][:3], results[1][:3], strict=True):
        assert ours.shape == theirs.shape
        assert ours == pytest.approx(theirs, rel=2e-2, abs=5e-3)
    held = model.config.par_names.index("held")
    parameters, correlations, value, result = results[1]
    assert parameters[held].tolist() == [1.2, 0.0]
    assert not correlations[held].any()
    assert result.success
    assert result.fun == value
    assert result.x.tolist() == parameters.tolist()
    assert result.unc.tolist() == parameters[:, 1].tolist()
    assert result.distance < 1e-8
    # And in the order of pyhf.
    assert isinstance(pyhf.infer.mle.fit(data, model), np.ndarray)
    two = pyhf.infer.mle.fit(data, model, return_correlations=True)
    assert [part.shape for part in two] == [(model.config.npars,), (model.config.npars,) * 2]


def test_a_parameter_at_a_bound_has_an_uncertainty():
    """The POI is held at 0, where the data have less than the background."""
    specification = one_channel([12.0], [50.0], [40.0], normsys("scale", 0.9, 1.1))
    _, model, data = use(specification)
    parameters = pyhf.infer.mle.fit(data, model, return_uncertainties=True)
    poi = model.config.poi_index
    assert parameters[poi, 0] == 0.0
    assert parameters[poi, 1] > 0.1


def test_options_of_other_optimizers_are_for_others():
    _, model, data = use(usual())
    plain = pyhf.infer.mle.fit(data, model)
    options = {"maxiter": 3, "do_grad": False, "do_stitch": True, "tolerance": 0.1}
    assert pyhf.infer.mle.fit(data, model, **options).tolist() == plain.tolist()


def test_a_workspace_of_pyhf_and_its_json_are_one():
    specification = usual()
    model, data = by_pyhf(specification)
    results = []
    for one in (specification, pyhf.Workspace(specification)):
        pyhf.set_backend("numpy", CertifiedOptimizer.from_workspace(one))
        results.append(hypotest(model, data))
    assert results[0] == results[1]


def test_another_measurement_and_other_interpolation_codes():
    specification = usual()
    second = copied(specification["measurements"][0])
    second |= {
        "name": "second",
        "config": {"poi": "mu", "parameters": [{"name": "mu", "bounds": [[0, 3]]}]},
    }
    specification["measurements"].append(second)
    codes = {"normsys": "code1", "histosys": "code2"}
    model, data = by_pyhf(specification, "second", **codes)
    optimizer = CertifiedOptimizer.from_workspace(specification, "second", **codes)
    pyhf.set_backend("numpy", optimizer)
    likelihood = Likelihood(Workspace.from_json(specification), "second", **codes)
    assert hypotest(model, data) == pytest.approx(
        Search(likelihood, effort=THOROUGH).lowest.cls, rel=1e-7
    )


# --- what is refused ----------------------------------------------------------------------------


def refused(specification, others_model, others_data):
    pyhf.set_backend("numpy", CertifiedOptimizer.from_workspace(specification))
    with pytest.raises(ValueError, match="made for another workspace: ") as caught:
        pyhf.infer.mle.fit(others_data, others_model)
    return str(caught.value).partition("workspace: ")[2]


def test_a_model_of_another_workspace_is_refused():
    mine = usual()
    assert refused(mine, *by_pyhf(two_sided())) == "there are 3 data, it has 6"
    other = copied(mine)
    other["channels"][0]["samples"][1]["modifiers"][0]["name"] = "stretch"
    assert refused(mine, *by_pyhf(other)) == "the model has no parameter scale"
    more = copied(mine)
    more["channels"][0]["samples"][0]["modifiers"].append(factor("normfactor", "more"))
    assert refused(mine, *by_pyhf(more)) == "the model has a parameter more"
    config = {"poi": "mu", "parameters": [{"name": "mu", "inits": [2.0]}]}
    other = {**mine, "measurements": [{"name": "m", "config": config}]}
    said = "the parameter mu of the model has the initial value 2.0, not 1.0"
    assert refused(mine, *by_pyhf(other)) == said
    config = {"poi": "mu", "parameters": [{"name": "mu", "bounds": [[0.0, 4.0]]}]}
    other = {**mine, "measurements": [{"name": "m", "config": config}]}
    said = "the parameter mu of the model has the bounds [0.0, 4.0], not [0.0, 10.0]"
    assert refused(mine, *by_pyhf(other)) == said
    other = {**mine, "measurements": [{"name": "m", "config": {"poi": "scale", "parameters": []}}]}
    said = "the parameter of interest of the model is scale, not mu"
    assert refused(mine, *by_pyhf(other)) == said
    other = {**mine, "measurements": [{"name": "m", "config": {"poi": "", "parameters": []}}]}
    said = "the parameter of interest of the model is none, not mu"
    assert refused(mine, *by_pyhf(other)) == said


@pytest.mark.parametrize(
    "change",
    [
        lambda samples: samples[0]["data"].__setitem__(0, 12.01),
        lambda samples: samples[1]["modifiers"][0]["data"].update(hi=1.11),
        lambda samples: samples[1]["modifiers"][1]["data"]["lo_data"].__setitem__(1, 55.2),
        lambda samples: samples[1]["modifiers"][2]["data"].__setitem__(1, 7.1),
    ],
)
def test_a_model_with_other_rates_or_uncertainties_is_refused(change):
    mine, other = usual(), usual()
    change(other["channels"][0]["samples"])
    assert refused(mine, *by_pyhf(other)).startswith("twice the NLL of the model is ")


@pytest.mark.parametrize("codes", [("code1", "code4p"), ("code4", "code0"), ("code4", "code2")])
def test_a_model_with_other_interpolation_codes_is_refused(codes):
    said = refused(usual(), *by_pyhf(usual(), None, *codes))
    assert said.endswith("; rates, uncertainties or interpolation codes differ")


def test_another_function_is_refused():
    optimizer, model, data = use(usual())
    config = model.config
    start = config.suggested_init(), config.suggested_bounds()

    def half(parameters, data, pdf):
        return -pdf.logpdf(parameters, data)

    with pytest.raises(ValueError, match="twice the NLL of the model is"):
        optimizer.minimize(half, data, model, *start)
    optimizer.minimize(pyhf.infer.mle.twice_nll, data, model, *start)
    with pytest.raises(ValueError, match="twice the NLL of the model is"):
        optimizer.minimize(half, data, model, *start)


def test_other_data_are_not_refused():
    """They are what pyhf makes of a workspace: Asimov data, toys."""
    _, model, data = use(usual())
    for events in (0.0, 3.5, 1e6):
        changed = np.array(data)
        changed[0] = events
        fitted, value = pyhf.infer.mle.fit(changed, model, return_fitted_val=True)
        there = float(pyhf.infer.mle.twice_nll(fitted, changed, model)[0])
        assert float(value) == pytest.approx(there, rel=1e-9)


def test_large_events_are_as_exact_as_pyhf_is():
    """Twice the NLL of pyhf is a small difference of large numbers here."""
    specification = one_channel(
        [12.0, 11.0], [5e9, 52.0], [5e9, 57.0], gammas("shapesys", "bins", [1e4, 5.0])
    )
    _, model, data = use(specification)
    assert 0 < hypotest(model, data)[0] < 1


def test_only_two_minima_have_a_name():
    with pytest.raises(ValueError, match="must be 'lowest' or 'nominal', not 'best'"):
        CertifiedOptimizer.from_workspace(usual(), minimum="best")


def test_a_workspace_without_a_likelihood_is_refused():
    specification = usual()
    specification["measurements"][0]["config"]["poi"] = "none"
    with pytest.raises(InvalidModel, match="the parameter of interest 'none' is not a parameter"):
        CertifiedOptimizer.from_workspace(specification)


def test_negative_events_are_refused():
    _, model, data = use(usual())
    changed = np.array(data)
    changed[1] = -2.5
    with pytest.raises(InvalidModel, match=r"^bin 1 of the channel bins has -2\.5 events$"):
        pyhf.infer.mle.fit(changed, model)


@pytest.mark.parametrize("minimum", MODES)
def test_a_fit_that_begins_where_nothing_is_defined_is_refused(minimum):
    """So much of a negative signal leaves less than nothing; less of it does not."""
    specification = one_channel(
        [-20.0, 3.0], [50.0, 52.0], [57.0, 52.0], normsys("scale", 0.9, 1.1)
    )
    _, model, data = use(specification, minimum)
    with pytest.raises(InvalidModel, match=r"the parameter of interest at 3 begins: bin 0 of the"):
        pyhf.infer.mle.fixed_poi_fit(3.0, data, model)
    assert np.isfinite(pyhf.infer.mle.fixed_poi_fit(2.0, data, model)).all()
    init = model.config.suggested_init()
    init[model.config.poi_index] = 3.0
    with pytest.raises(InvalidModel, match=r"the parameter of interest free begins: bin 0 of the"):
        pyhf.infer.mle.fit(data, model, init)


def test_a_poi_that_cannot_be_0_is_fitted():
    """Without the signal there are events where none are expected."""
    specification = one_channel([5.0, 2.0], [20.0, 0.0], [24.0, 3.0], normsys("scale", 0.9, 1.2))
    _, model, data = use(specification)
    free, lowest = pyhf.infer.mle.fit(data, model, return_fitted_val=True)
    assert free[model.config.poi_index] > 0.5
    assert pyhf.infer.mle.fixed_poi_fit(2.0, data, model, return_fitted_val=True)[1] > lowest
    with pytest.raises(InvalidModel, match="the parameter of interest at 0 begins"):
        pyhf.infer.mle.fixed_poi_fit(0.0, data, model)


def test_a_poi_whose_bounds_leave_0_out_is_fitted():
    parameters = [{"name": "mu", "inits": [2.0], "bounds": [[1.5, 9.0]]}]
    specification = one_channel(
        [5.0, 12.0], [20.0, 40.0], [34.0, 70.0], normsys("scale", 0.9, 1.2), parameters=parameters
    )
    _, model, data = use(specification)
    free, lowest = pyhf.infer.mle.fit(data, model, return_fitted_val=True)
    assert 1.5 <= free[model.config.poi_index] <= 9
    assert pyhf.infer.mle.fixed_poi_fit(5.0, data, model, return_fitted_val=True)[1] > lowest


@pytest.mark.parametrize("minimum", MODES)
def test_a_fixed_poi_is_fitted(minimum):
    parameters = [{"name": "mu", "fixed": True}]
    specification = one_channel(
        [5.0, 12.0], [20.0, 40.0], [34.0, 70.0], normsys("scale", 0.9, 1.2), parameters=parameters
    )
    _, model, data = use(specification, minimum)
    assert pyhf.infer.mle.fit(data, model)[model.config.poi_index] == 1.0


@pytest.mark.parametrize("minimum", MODES)
def test_a_kink_is_not_certified(minimum):
    specification = one_channel(
        [2.0, 12.0], [50.0, 52.0], [49.0, 54.0], histosys("kink", [60.0, 52.0], [60.0, 52.0])
    )
    optimizer = CertifiedOptimizer.from_workspace(
        specification, minimum=minimum, histosys="code0", effort=BRIEF
    )
    pyhf.set_backend("numpy", optimizer)
    model, data = by_pyhf(specification, histosys="code0")
    with pytest.raises(CertificationError, match="the free fit ended at an estimated distance of"):
        pyhf.infer.mle.fit(data, model)
    with pytest.raises(CertificationError, match="interest at 2 ended at an estimated distance of"):
        pyhf.infer.mle.fixed_poi_fit(2.0, data, model)


def test_fits_that_are_not_consistent_are_reported(monkeypatch):
    """A fit with a fixed POI that ends below the free one: no ratio of the two means anything."""
    family = CertifiedOptimizer._family

    def too_high(self, problem):
        found = family(self, problem)
        low = found[None].minimum
        high = Minimum(
            low.parameters, low.value + 50, low.distance, low.hessian, low.held, low.steps
        )
        found[None] = pyhf_optimizer._Solution(high, (high,), found[None].free)
        return found

    monkeypatch.setattr(CertifiedOptimizer, "_family", too_high)
    _, model, data = use(usual())
    with pytest.raises(
        CertificationError, match=r"of interest at 1 ended \d+\.?\d* below that with a free one"
    ):
        hypotest(model, data)


def test_nothing_of_pyhf_is_imported():
    check = (
        "import sys, pytest_pyhf_faas.histfactory.pyhf_optimizer as module\n"
        "module.CertifiedOptimizer\n"
        "sys.exit('pyhf' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", check], check=True)
    assert importlib.util.find_spec("pyhf") is not None
    text = Path(pyhf_optimizer.__file__).read_text(encoding="utf-8")
    assert "import pyhf" not in text
