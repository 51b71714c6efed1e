"""Certified tests are pyhf's, at minima that are proven, or they say that they are not."""

import base64
import json
import os
import sys
import zlib
from pathlib import Path

import jsonpatch
import numpy as np
import pyhf
import pytest

import pytest_pyhf_faas
from pytest_pyhf_faas import catalogue, certify, newton, worker
from pytest_pyhf_faas.certify import CERTIFIED, CertificationError, certified_test, certify_batch
from pytest_pyhf_faas.results import FITS
from pytest_pyhf_faas.tasks import HypotestConfig, batch_payload, make_tasks

pytest.importorskip("jax")

BUNDLED = Path(pytest_pyhf_faas.__file__).parent / "data" / "synthetic"
BACKGROUND = json.loads((BUNDLED / "BkgOnly.json").read_text())
PATCHES = {
    patch["metadata"]["name"]: patch["patch"]
    for patch in json.loads((BUNDLED / "patchset.json").read_text())["patches"]
}
#: Three of one shape, and one that has no parameter of interest.
NAMES = ("synthetic_300_0", "synthetic_500_100", "synthetic_800_0")
BROKEN = "synthetic_900_890"
MU = {"name": "mu", "type": "normfactor", "data": None}

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(autouse=True)
def fresh_worker(monkeypatch):
    """A worker that has done nothing yet; pyhf is left as it was found."""
    monkeypatch.setattr(worker, "_backgrounds", {})
    monkeypatch.setattr(worker, "_environments", {})
    monkeypatch.setattr(certify, "_remembered", {})
    pyhf.set_backend("numpy", "scipy")
    before = pyhf.get_backend()
    yield
    after = pyhf.get_backend()
    pyhf.set_backend("numpy", "scipy")
    assert after[0] is before[0]
    assert after[1] is before[1]


def config(**fields):
    return HypotestConfig(method="certified", **fields).to_json()


def normsys(name, low, high):
    return {"name": name, "type": "normsys", "data": {"lo": low, "hi": high}}


def histosys(name, low, high):
    return {"name": name, "type": "histosys", "data": {"lo_data": low, "hi_data": high}}


def build(signal, background, observed, *modifiers, histosys_interpcode="code4p"):
    """Return a model of one channel and its data; the modifiers are those of the background."""
    samples = [
        {"name": "signal", "data": signal, "modifiers": [MU]},
        {"name": "background", "data": background, "modifiers": list(modifiers)},
    ]
    workspace = pyhf.Workspace(
        {
            "channels": [{"name": "bins", "samples": samples}],
            "observations": [{"name": "bins", "data": observed}],
            "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
            "version": "1.0.0",
        }
    )
    model = workspace.model(
        modifier_settings={
            "normsys": {"interpcode": "code4"},
            "histosys": {"interpcode": histosys_interpcode},
        }
    )
    return model, np.array(workspace.data(model))


def usual():
    scale = normsys("scale", 0.8, 1.1)
    shape = histosys("shape", [48.0, 55.0], [54.0, 51.0])
    bins = {"name": "bins", "type": "shapesys", "data": [3.0, 7.0]}
    return build([12.0, 11.0], [50.0, 52.0], [57.0, 54.0], scale, shape, bins)


def two_sided():
    """Up and down raise the background in the bin where there is an excess."""
    both = histosys("both", [69.0, 52.0], [70.0, 52.0])
    return build([2.0, 12.0], [50.0, 52.0], [75.0, 54.0], both)


def check(result):
    """What holds for each certified result."""
    json.dumps(result, allow_nan=False)
    assert set(result["certificate"]) == set(FITS)
    for fit in result["certificate"].values():
        assert 0 <= fit["distance"] < CERTIFIED
        assert 1 <= fit["reached"] <= fit["starts"]
        assert 0 <= fit["dropped"] <= fit["starts"]
    nll = result["twice_nll"]
    noise = result["rounding"] + 1e-8
    assert 0 < result["rounding"] < 1e-9
    assert nll["free_fit_to_asimov"] == pytest.approx(result["twice_nll_asimov_truth"], abs=noise)
    for kind in ("data", "asimov"):
        assert nll[f"free_fit_to_{kind}"] <= nll[f"fixed_poi_fit_to_{kind}"] + noise
    assert nll["free_fit_to_data"] <= nll["background_fit_to_data"] + noise


def packed(value):
    return base64.b64encode(zlib.compress(json.dumps(value).encode())).decode()


def batch(*patches, **fields):
    return {
        "background": {"digest": "of the bundled background", "data": packed(BACKGROUND)},
        "config": HypotestConfig(**fields).to_json(),
        "patches": [
            {"key": f"key{number}", "data": packed(patch)} for number, patch in enumerate(patches)
        ],
    }


# The test


@pytest.mark.parametrize(
    ("test_stat", "test_poi"), [("qtilde", 1.0), ("q", 1.0), ("q", 0.3), ("q0", 0.0)]
)
def test_values_are_those_of_pyhf_but_for_its_accuracy(test_stat, test_poi):
    model, data = usual()
    fields = {"test_stat": test_stat, "test_poi": test_poi}
    certified = certified_test(model, data, config(**fields))
    plain = worker.hypotest(model, data, config(**fields))
    check(certified)
    assert not any(fit["others"] for fit in certified["certificate"].values())
    # SLSQP of SciPy ends some 1e-6 above the minimum.
    assert certified["CLs_obs"] == pytest.approx(plain["CLs_obs"], rel=2e-3)
    assert certified["CLs_exp"] == pytest.approx(plain["CLs_exp"], rel=2e-3)
    assert certified["mu_hat"] == pytest.approx(plain["mu_hat"], abs=2e-3)
    assert certified["twice_nll_off_minimum"] == plain["twice_nll_off_minimum"]
    assert set(certified) == {*plain, "certificate", "rounding"}
    for name in ("fixed_poi_fit_to_data", "free_fit_to_data", "background_fit_to_data"):
        assert certified["twice_nll"][name] <= plain["twice_nll"][name] + 1e-9
        assert certified["twice_nll"][name] == pytest.approx(plain["twice_nll"][name], abs=1e-3)
    certify._remembered.clear()  # a worker that has seen this patch knows where to start
    assert certified_test(model, data, config(**fields)) == certified


def test_minuit_agrees():
    pytest.importorskip("iminuit")
    model, data = usual()
    certified = certified_test(model, data, config())
    before = pyhf.get_backend()[1]
    minuit = pyhf.optimize.minuit_optimizer(tolerance=1e-3, strategy=2)
    pyhf.set_backend(pyhf.get_backend()[0], minuit)
    result = worker.hypotest(model, data, config())
    pyhf.set_backend(pyhf.get_backend()[0], before)
    assert certified["CLs_obs"] == pytest.approx(result["CLs_obs"], rel=1e-3)
    assert certified["CLs_exp"] == pytest.approx(result["CLs_exp"], rel=1e-3)


def test_a_signal_may_be_alone_in_a_bin_without_events():
    model, data = build([5.0, 2.0], [20.0, 0.0], [24.0, 0.0], normsys("scale", 0.9, 1.2))
    certified = certified_test(model, data, config())
    check(certified)
    plain = worker.hypotest(model, data, config())
    assert certified["CLs_obs"] == pytest.approx(plain["CLs_obs"], rel=2e-3)


# Second minima


def test_the_lower_of_two_minima_is_found_and_the_other_is_told_of():
    model, data = two_sided()
    result = certified_test(model, data, config())
    check(result)
    both = model.config.par_names.index("both")
    for name, fixed in (("fixed_poi_fit_to_data", 1.0), ("background_fit_to_data", 0.0)):
        # Whatever begins on either side ends in one of these.
        ends = []
        for side in (-1.0, 1.0):
            start = np.array(model.config.suggested_init())
            start[both] = side
            parameters, value = pyhf.infer.mle.fixed_poi_fit(
                fixed, data, model, init_pars=start.tolist(), return_fitted_val=True
            )
            ends.append((float(value), float(parameters[both])))
        (low, lowest_at), (high, at) = sorted(ends)
        assert result["twice_nll"][name] == pytest.approx(low, abs=1e-4)
        (other,) = result["certificate"][name]["others"]
        assert other["parameter"] == "both"
        assert other["gap"] == pytest.approx(high - low, abs=1e-3)
        assert other["gap"] > 0.01
        assert other["at"] == pytest.approx(at, abs=1e-2)
        assert other["lowest_at"] == pytest.approx(lowest_at, abs=1e-2)
        assert other["at"] * other["lowest_at"] < 0
        assert 0 < other["CLs_obs"] < 1
        assert sorted(other["CLs_exp"]) == other["CLs_exp"]
        assert other["CLs_obs"] != result["CLs_obs"]
    # At another minimum of one fit to the data, the test statistic changes by its gap.
    free = result["certificate"]["fixed_poi_fit_to_data"]["others"][0]
    assert free["CLs_obs"] < result["CLs_obs"]
    assert free["CLs_exp"] == pytest.approx(result["CLs_exp"], rel=1e-9)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_which_minimum_is_lower_does_not_depend_on_the_side_that_it_is_on(sign):
    low, high = ([70.0, 52.0], [66.0, 52.0])[:: int(sign)]
    model, data = build([2.0, 12.0], [50.0, 52.0], [75.0, 54.0], histosys("both", low, high))
    result = certified_test(model, data, config())
    (other,) = result["certificate"]["background_fit_to_data"]["others"]
    assert other["lowest_at"] * sign < 0 < other["at"] * sign
    assert other["gap"] > 0.1


# What cannot be certified


def test_a_kink_is_not_certified():
    model, data = build(
        [2.0, 12.0],
        [50.0, 52.0],
        [49.0, 54.0],
        histosys("kink", [60.0, 52.0], [60.0, 52.0]),
        histosys_interpcode="code0",
    )
    with pytest.raises(
        CertificationError,
        match=r"^the \w+ (poi )?fit to \w+ ended at an estimated distance of \d\.\de[+-]\d+ to",
    ):
        certified_test(model, data, config())


@pytest.mark.parametrize("name", certify._ORDER)
def test_the_fit_that_ended_too_far_away_is_named(name, monkeypatch):
    model, data = usual()
    minimize = certify.CertifyingOptimizer.certificate

    def certificate(self):
        fits = minimize(self)
        fits[name]["distance"] = 2e-3
        return fits

    monkeypatch.setattr(certify.CertifyingOptimizer, "certificate", certificate)
    with pytest.raises(CertificationError) as caught:
        certified_test(model, data, config())
    assert str(caught.value) == (
        f"the {name.replace('_', ' ')} ended at an estimated distance of 2.0e-03 to its minimum"
    )


@pytest.mark.parametrize("distance", [np.inf, np.nan])
def test_a_distance_that_is_no_number_certifies_nothing(distance, monkeypatch):
    certificate = certify.CertifyingOptimizer.certificate

    def broken(self):
        fits = certificate(self)
        fits["free_fit_to_asimov"]["distance"] = distance
        return fits

    monkeypatch.setattr(certify.CertifyingOptimizer, "certificate", broken)
    with pytest.raises(CertificationError, match="the free fit to asimov ended"):
        certified_test(*usual(), config())


def test_descents_that_end_too_early_are_not_certified(monkeypatch):
    monkeypatch.setattr(newton, "MAX_STEPS", 1)
    # Each such end would be one more minimum to explore around: thousands.
    monkeypatch.setattr(certify, "_TOO_FAR", 0.0)
    with pytest.raises(CertificationError, match="ended at an estimated distance of"):
        certified_test(*usual(), config())


def test_a_likelihood_that_is_not_defined_where_pyhf_begins_is_said_to_be_so():
    """So much of a negative signal leaves less than nothing."""
    model, data = build([-20.0, 3.0], [50.0, 52.0], [57.0, 52.0], normsys("scale", 0.9, 1.1))
    with pytest.raises(CertificationError, match=r"the fixed poi fit to data .* not defined"):
        certified_test(model, data, config(test_poi=3.0))


def test_an_optimizer_serves_one_model():
    model, data = usual()
    optimizer = certify.CertifyingOptimizer(model, data)
    other, _ = two_sided()
    with pytest.raises(ValueError, match="made for another model"):
        optimizer.minimize(None, data, other, [1.0, 0.0], [(0, 10), (-5, 5)])


def test_an_error_of_pyhf_goes_through_and_leaves_pyhf_as_it_was(monkeypatch):
    def broken(*_args, **_options):
        raise RuntimeError("broken")

    monkeypatch.setattr(pyhf.infer, "hypotest", broken)
    with pytest.raises(RuntimeError, match=r"^broken$"):
        certified_test(*usual(), config())


def test_without_jax_the_message_says_what_to_do(monkeypatch):
    model, data = usual()
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ImportError, match=r"where the workers run: pip install jax$"):
        certified_test(model, data, config())


# Batches


def test_a_batch_is_answered_as_by_the_worker():
    patches = [PATCHES[name] for name in NAMES]
    broken = [{"op": "remove", "path": "/channels/99"}]
    certified = certify_batch(batch(*patches, PATCHES[BROKEN], broken, method="certified"))
    plain = worker.fit_batch(batch(*patches, PATCHES[BROKEN], broken))
    json.dumps(certified, allow_nan=False)
    assert certified.keys() == plain.keys()
    for ours, theirs in zip(certified["results"], plain["results"], strict=True):
        assert (ours["key"], ours["status"]) == (theirs["key"], theirs["status"])
        assert ours["seconds"].keys() == theirs["seconds"].keys()
        if ours["status"] == "ok":
            check(ours)
            assert ours["warnings"] == []
            assert ours["CLs_obs"] == pytest.approx(theirs["CLs_obs"], rel=5e-3)
            assert ours["CLs_exp"] == pytest.approx(theirs["CLs_exp"], rel=5e-3)
        else:
            assert ours["error"]["type"] == theirs["error"]["type"]
            assert ours["error"]["message"] == theirs["error"]["message"]
    assert [result["status"] for result in certified["results"]] == ["ok"] * 3 + ["error"] * 2
    assert certified["environment"]["optimizer"] == "certified"
    assert certified["environment"]["backend"] == "jax"


def test_what_cannot_be_certified_in_a_batch_spares_the_others(monkeypatch):
    tests = iter([True, False, True])
    certificate = certify.CertifyingOptimizer.certificate

    def broken(self):
        fits = certificate(self)
        if not next(tests):
            fits["free_fit_to_data"]["distance"] = 1.0
        return fits

    monkeypatch.setattr(certify.CertifyingOptimizer, "certificate", broken)
    answer = certify_batch(batch(*(PATCHES[name] for name in NAMES), method="certified"))
    first, second, third = answer["results"]
    assert (first["status"], second["status"], third["status"]) == ("ok", "error", "ok")
    assert second["error"]["type"] == "pytest_pyhf_faas.certify.CertificationError"
    assert second["error"]["message"].startswith("the free fit to data ended at")
    assert "CLs_obs" not in second


def test_the_first_fit_of_a_worker_does_not_matter():
    """What was compiled for one patch gives the values of another to the last digit but few."""
    workspace = pyhf.Workspace(jsonpatch.apply_patch(BACKGROUND, PATCHES[NAMES[1]]), validate=False)
    model = workspace.model(
        validate=False,
        modifier_settings={
            "normsys": {"interpcode": "code4"},
            "histosys": {"interpcode": "code4p"},
        },
    )
    alone = certified_test(model, workspace.data(model), config())
    answer = certify_batch(batch(PATCHES[NAMES[0]], PATCHES[NAMES[1]], method="certified"))
    together = answer["results"][1]
    assert together["CLs_obs"] == pytest.approx(alone["CLs_obs"], rel=1e-9)
    assert together["CLs_exp"] == pytest.approx(alone["CLs_exp"], rel=1e-9)


# A published pallet with minima that no search along single parameters finds


def stau(name, **fields):
    """The certified result of one patch of stau_combined."""
    (pallet,) = catalogue.resolve(
        "stau_combined", search_path=catalogue.search_path_from_environment()
    )
    tasks = make_tasks(pallet, HypotestConfig(method="certified", **fields))
    (task,) = (task for task in tasks if task.patch.name == name)
    (result,) = certify_batch(batch_payload([task]))["results"]
    return result


@pytest.mark.skipif(not os.environ.get("PYHF_PALLET_PATH"), reason="PYHF_PALLET_PATH is not set")
def test_minima_that_several_parameters_lead_to_together_are_found_and_remembered():
    """The values are from a search of its own, with hundreds of random starts."""
    fit = "fixed_poi_fit_to_data"
    result = stau("DS_320_80_Staus", thorough=True)
    assert result["twice_nll"][fit] == pytest.approx(222.2488, abs=1e-3)
    gaps = [other["gap"] for other in result["certificate"][fit]["others"]]
    assert [gap for gap in gaps if abs(gap - 2.4803) < 1e-3]  # where SciPy and Minuit end
    # Its neighbour finds its own with few draws.
    assert stau("DS_280_40_Staus")["twice_nll"][fit] == pytest.approx(222.1316, abs=1e-3)
    assert HypotestConfig(thorough=True).physics == HypotestConfig().physics
