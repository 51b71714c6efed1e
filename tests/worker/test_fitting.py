from __future__ import annotations

import base64
import contextlib
import copy
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import warnings
import zlib

import numpy as np
import pyhf
import pytest
import scipy.optimize
from pyhf.optimize.opt_scipy import scipy_optimizer

from pytest_pyhf_faas.advice import advice_on
from pytest_pyhf_faas.campaign.results import FITS, FitError, HypotestResult, WorkerEnvironment
from pytest_pyhf_faas.campaign.tasks import HypotestConfig
from pytest_pyhf_faas.references.compare import NLL_TOLERANCE, compare
from pytest_pyhf_faas.references.known_issues import concerns
from pytest_pyhf_faas.references.reference import Missing
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.worker import fitting

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]

SIGNAL = [12.0, 11.0]


def background():
    """Two bins, one of each kind of uncertainty, and no signal."""
    sample = {
        "name": "background",
        "data": [50.0, 52.0],
        "modifiers": [
            {"name": "uncorrelated", "type": "shapesys", "data": [3.0, 7.0]},
            {"name": "scale", "type": "normsys", "data": {"hi": 1.1, "lo": 0.8}},
            {
                "name": "shape",
                "type": "histosys",
                "data": {"hi_data": [54.0, 51.0], "lo_data": [48.0, 55.0]},
            },
        ],
    }
    return {
        "channels": [{"name": "bins", "samples": [sample]}],
        "observations": [{"name": "bins", "data": [57.0, 54.0]}],
        "measurements": [
            {"name": "first", "config": {"poi": "mu", "parameters": []}},
            {"name": "second", "config": {"poi": "nu", "parameters": []}},
        ],
        "version": "1.0.0",
    }


def signal(data=SIGNAL, poi="mu"):
    """The patch that adds a signal."""
    modifiers = [
        {"name": poi, "type": "normfactor", "data": None},
        {"name": "scale", "type": "normsys", "data": {"hi": 1.2, "lo": 0.7}},
        {
            "name": "shape",
            "type": "histosys",
            "data": {"hi_data": [1.3 * x for x in data], "lo_data": [0.6 * x for x in data]},
        },
    ]
    sample = {"name": "signal", "data": list(data), "modifiers": modifiers}
    return [{"op": "add", "path": "/channels/0/samples/0", "value": sample}]


def packed(obj):
    return base64.b64encode(zlib.compress(json.dumps(obj).encode())).decode()


def batch(*patches, digest="of the background", spec=None, **config):
    return {
        "background": {"digest": digest, "data": packed(background() if spec is None else spec)},
        "config": HypotestConfig(**config).to_json(),
        "patches": [
            {"key": f"key{number}", "data": patch if isinstance(patch, str) else packed(patch)}
            for number, patch in enumerate(patches)
        ],
    }


def fit(*patches, **options):
    """Fit, and check what holds for each answer."""
    answer = fitting.fit_batch(batch(*patches, **options))
    json.dumps(answer, allow_nan=False)
    assert [result["key"] for result in answer["results"]] == [
        f"key{number}" for number in range(len(patches))
    ]
    return answer


def fit_one(patch, **options):
    (result,) = fit(patch, **options)["results"]
    return result


def plain(patch, **config):
    """The same by plain pyhf: the model, the data, and what hypotest says."""
    config = HypotestConfig(**config)
    specification = background()
    for operation in patch:
        assert operation["path"] == "/channels/0/samples/0"
        specification["channels"][0]["samples"].insert(0, copy.deepcopy(operation["value"]))
    workspace = pyhf.Workspace(specification)
    model = workspace.model(
        measurement_name=config.measurement,
        modifier_settings={
            "normsys": {"interpcode": config.normsys_interpcode},
            "histosys": {"interpcode": config.histosys_interpcode},
        },
    )
    data = workspace.data(model)
    observed, expected = pyhf.infer.hypotest(
        config.test_poi, data, model, test_stat=config.test_stat, return_expected_set=True
    )
    return model, data, float(observed), [float(value) for value in expected]


@pytest.fixture(autouse=True)
def fresh_worker(monkeypatch):
    """A worker that has done nothing yet, and pyhf as it was."""
    monkeypatch.setattr(fitting, "_backgrounds", {})
    monkeypatch.setattr(fitting, "_environments", {})
    monkeypatch.setattr(fitting, "_idle_since", None)
    pyhf.set_backend("numpy", "scipy")
    yield
    pyhf.set_backend("numpy", "scipy")


# The fit


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"test_poi": 0.5},
        {"test_stat": "q"},
        {"test_stat": "q0"},
        {"normsys_interpcode": "code1", "histosys_interpcode": "code0"},
        {"histosys_interpcode": "code2"},
    ],
    ids=str,
)
def test_values_are_those_of_plain_pyhf(config):
    if config.get("test_stat") == "q0":
        config = {**config, "test_poi": 0.0}
    result = fit_one(signal(), **config)
    _model, _data, observed, expected = plain(signal(), **config)
    assert result["status"] == "ok"
    assert result["CLs_obs"] == pytest.approx(observed, rel=1e-12)
    assert result["CLs_exp"] == pytest.approx(expected, rel=1e-12)
    assert result["warnings"] == []


def test_the_interpolation_codes_matter():
    values = {
        (normsys, histosys): fit_one(
            signal(), normsys_interpcode=normsys, histosys_interpcode=histosys
        )["CLs_obs"]
        for normsys in ("code1", "code4")
        for histosys in ("code0", "code2", "code4p")
    }
    assert len(set(values.values())) == 6


def test_minuit_is_used_when_asked_for_and_scipy_again_after_it():
    pytest.importorskip("iminuit")
    scipy = fit_one(signal())
    minuit = fit_one(signal(), optimizer="minuit")
    assert pyhf.get_backend()[1].name == "minuit"
    again = fit_one(signal())
    assert pyhf.get_backend()[1].name == "scipy"
    assert minuit["CLs_obs"] != scipy["CLs_obs"]
    assert minuit["CLs_obs"] == pytest.approx(scipy["CLs_obs"], rel=1e-2)
    assert again["CLs_obs"] == scipy["CLs_obs"]


def test_a_measurement_is_chosen_by_its_name():
    first = fit_one(signal(), measurement="first")
    assert first["CLs_obs"] == fit_one(signal())["CLs_obs"]
    assert fit_one(signal(poi="nu"), measurement="second")["status"] == "ok"
    assert fit_one(signal(poi="nu"))["error"]["type"] == "pyhf.exceptions.InvalidModel"


def test_twice_the_nll_is_that_of_the_five_fits():
    result = fit_one(signal())
    model, data, *_ = plain(signal())
    fixed = pyhf.infer.mle.fixed_poi_fit
    free = pyhf.infer.mle.fit
    parameters, background_nll = fixed(0.0, data, model, return_fitted_val=True)
    asimov = model.expected_data(parameters)
    recomputed = {
        "free_fit_to_data": free(data, model, return_fitted_val=True)[1],
        "fixed_poi_fit_to_data": fixed(1.0, data, model, return_fitted_val=True)[1],
        "background_fit_to_data": background_nll,
        "free_fit_to_asimov": free(asimov, model, return_fitted_val=True)[1],
        "fixed_poi_fit_to_asimov": fixed(1.0, asimov, model, return_fitted_val=True)[1],
    }
    assert tuple(result["twice_nll"]) == FITS
    for name in FITS:
        assert result["twice_nll"][name] == pytest.approx(float(recomputed[name]), abs=1e-9), name
    truth = float(-2 * model.logpdf(parameters, asimov)[0])
    assert result["twice_nll_asimov_truth"] == pytest.approx(truth, abs=1e-9)
    assert result["twice_nll"]["free_fit_to_asimov"] <= truth + 1e-4
    best = free(data, model)[model.config.poi_index]
    assert result["mu_hat"] == pytest.approx(float(best), rel=1e-9)


def test_each_patch_is_applied_to_an_untouched_background():
    patches = [signal(), signal([1.0, 2.0]), signal()]
    first, other, again = fit(*patches)["results"]
    assert first["CLs_obs"] == again["CLs_obs"] != other["CLs_obs"]
    assert fit_one(signal([1.0, 2.0]))["CLs_obs"] == other["CLs_obs"]


def test_what_is_not_finite_is_a_word(monkeypatch):
    hypotest = pyhf.infer.hypotest

    def broken(*args, **options):
        _observed, expected, calculator = hypotest(*args, **options)
        ends = np.asarray(np.inf), np.asarray(-np.inf)
        return np.asarray(np.nan), [ends[0], *expected[1:4], ends[1]], calculator

    monkeypatch.setattr(pyhf.infer, "hypotest", broken)
    result = fit_one(signal())
    assert result["CLs_obs"] == "nan"
    assert (result["CLs_exp"][0], result["CLs_exp"][4]) == ("inf", "-inf")
    read = HypotestResult.from_json({**result, "pallet": "p", "patch": "s"}, None)
    assert [repr(read.CLs_obs), repr(read.CLs_exp[0])] == ["nan", "inf"]


def test_warnings_are_kept_once_and_those_for_developers_are_not(monkeypatch):
    hypotest = pyhf.infer.hypotest

    def loud(*args, **options):
        for _ in range(3):
            warnings.warn("Values in x were\noutside bounds", RuntimeWarning, stacklevel=1)
        warnings.warn("use something else", DeprecationWarning, stacklevel=1)
        for number in range(100):
            warnings.warn(f"number {number}", UserWarning, stacklevel=1)
        return hypotest(*args, **options)

    monkeypatch.setattr(pyhf.infer, "hypotest", loud)
    result = fit_one(signal())
    assert result["status"] == "ok"
    assert result["warnings"][0] == "RuntimeWarning: Values in x were"
    assert result["warnings"][1] == "UserWarning: number 0"
    assert len(result["warnings"]) == fitting.MAX_WARNINGS


# What the fits of one run say about each other


def with_free_norm(observed=(80.0, 86.0)):
    """A background whose normalization is left to the data, which lie far from its start."""
    specification = background()
    sample = specification["channels"][0]["samples"][0]
    sample["modifiers"].append({"name": "norm", "type": "normfactor", "data": None})
    specification["observations"][0]["data"] = list(observed)
    return specification


@pytest.fixture
def lazy_scipy(monkeypatch):
    """SciPy as it is at its worst: it stops where it started, and says that it succeeded."""

    def stay(_self, _minimizer, func, x0, do_grad=False, fixed_vals=None, **_options):
        start = np.array(x0, dtype=float)
        for index, value in fixed_vals or []:
            start[index] = value
        value = func(start)
        value = float(np.ravel(value[0] if do_grad else value)[0])
        return scipy.optimize.OptimizeResult(x=start, fun=value, success=True, message="")

    monkeypatch.setattr(scipy_optimizer, "_minimize", stay)


@pytest.mark.parametrize("optimizer", ["scipy", "minuit"])
@pytest.mark.parametrize("spec", [background(), with_free_norm()], ids=["constrained", "free"])
def test_nothing_nearby_is_above_a_fit_nor_below_its_minimum(spec, optimizer):
    if optimizer == "minuit":
        pytest.importorskip("iminuit")
    result = fit_one(signal(), spec=spec, digest=str(spec), optimizer=optimizer)
    assert tuple(result["twice_nll_nearby"]) == FITS
    for name in FITS:
        fitted, nearby = result["twice_nll"][name], result["twice_nll_nearby"][name]
        assert fitted - NLL_TOLERANCE < nearby <= fitted
        if spec == background() and "free" not in name:
            assert nearby == fitted  # no parameter may move


def test_a_fit_that_did_not_move_is_revealed_nearby(lazy_scipy):
    result = fit_one(signal(), spec=with_free_norm())
    assert result["status"] == "ok"
    for name in FITS:
        assert result["twice_nll_nearby"][name] < result["twice_nll"][name] - NLL_TOLERANCE, name
        # Each of them alone is proof enough.
        nearby = {name: result["twice_nll_nearby"][name]}
        data = {**result, "twice_nll_nearby": nearby, "twice_nll_asimov_truth": None}
        read = HypotestResult.from_json({**data, "pallet": "p", "patch": "s"}, None)
        comparison = compare(read, Missing("none"), fit_setup="numpy+scipy")
        assert comparison.verdict is Verdict.UNCONVERGED


def test_nearby_leaves_fixed_parameters_and_bounds_alone():
    spec = with_free_norm()
    parameters = [{"name": "norm", "fixed": True}, {"name": "mu", "bounds": [[0.0, 1.5]]}]
    spec["measurements"][0]["config"]["parameters"] = parameters
    result = fit_one(signal(), spec=spec)
    # The data ask for much more signal than the bound allows.
    assert result["mu_hat"] == pytest.approx(1.5)
    for name in FITS:
        assert result["twice_nll_nearby"][name] == pytest.approx(
            result["twice_nll"][name], abs=NLL_TOLERANCE
        )


# What tells a model that changed from a fit that did


def off_minimum(patch=None, **options):
    options = {"digest": json.dumps(options.get("spec"), default=str), **options}
    result = fit_one(signal() if patch is None else patch, **options)
    assert result["status"] == "ok", result["error"]
    return result["twice_nll_off_minimum"]


def test_off_the_minimum_backend_and_optimizer_have_no_part():
    expected = off_minimum()
    assert off_minimum() == expected
    if importlib.util.find_spec("iminuit"):
        assert off_minimum(optimizer="minuit") == expected
    if importlib.util.find_spec("jax") is None:
        pytest.skip("without JAX there is one backend")
    for optimizer in ("scipy", "minuit")[: 1 + bool(importlib.util.find_spec("iminuit"))]:
        there = off_minimum(backend="jax", optimizer=optimizer)
        assert there == pytest.approx(expected, rel=1e-9, abs=0)


def test_off_the_minimum_the_fit_has_no_part(request):
    expected = off_minimum()
    request.getfixturevalue("lazy_scipy")
    assert off_minimum() == expected


def changed(change):
    specification = background()
    change(specification["channels"][0]["samples"][0], specification)
    return specification


@pytest.mark.parametrize(
    "options",
    [
        {"patch": signal([12.0, 11.001])},
        {"spec": changed(lambda sample, _: sample.update(data=[50.0, 52.001]))},
        {"spec": changed(lambda _, all_: all_["observations"][0].update(data=[57.0, 54.1]))},
        {"spec": changed(lambda sample, _: sample["modifiers"][0].update(data=[3.0, 7.01]))},
        {"spec": changed(lambda sample, _: sample["modifiers"][1]["data"].update(hi=1.101))},
        {
            "spec": changed(
                lambda sample, _: sample["modifiers"][2]["data"].update(lo_data=[48, 56])
            )
        },
        {"spec": changed(lambda sample, _: sample["modifiers"][1].update(name="renamed"))},
        {"normsys_interpcode": "code1"},
        {"histosys_interpcode": "code0"},
        {"histosys_interpcode": "code2"},
    ],
    ids=[
        *("signal", "background", "data", "uncorrelated", "norm", "shape", "name"),
        *("code1", "code0", "code2"),
    ],
)
def test_off_the_minimum_the_model_shows(options):
    assert off_minimum(**options) != pytest.approx(off_minimum(), rel=0, abs=1e-5)


def test_off_the_minimum_is_nearer_where_rates_would_be_negative():
    # A name by whose checksum the shape would be moved far down.
    name = next(
        name
        for name in map("steep{}".format, range(1000))
        if 2 * zlib.crc32(name.encode()) / 2**32 - 1 < -0.9
    )
    steep = {"hi_data": [150.0, 150.0], "lo_data": [-50.0, -50.0]}

    def steepen(sample, _):
        sample["modifiers"].append({"name": name, "type": "histosys", "data": steep})

    spec = changed(steepen)
    assert isinstance(off_minimum(spec=spec), float)


# What goes wrong is data


def test_a_patch_that_does_not_apply_spares_the_others():
    nowhere = [{"op": "replace", "path": "/channels/7/name", "value": "x"}]
    good, bad, also_good = fit(signal(), nowhere, signal())["results"]
    assert good["CLs_obs"] == also_good["CLs_obs"]
    assert bad["status"] == "error"
    assert bad["error"]["type"] == "ValueError"
    assert bad["error"]["message"].startswith("the patch does not apply to the background: ")
    assert "fit" not in bad["seconds"]
    assert bad["seconds"]["unpack"] > 0
    assert "in apply\n" in bad["error"]["traceback"]


def test_a_malformed_patched_workspace_gets_the_message_of_the_schema():
    patch = signal()
    patch[0]["value"]["data"] = ["twelve", "eleven"]
    result = fit_one(patch)
    assert result["error"]["type"] == "pyhf.exceptions.InvalidSpecification"
    assert "'twelve' is not of type 'number'" in result["error"]["message"]


def test_a_patched_workspace_without_its_signal_is_no_valid_model():
    result = fit_one([])
    assert result["error"]["type"] == "pyhf.exceptions.InvalidModel"
    assert set(result["seconds"]) == {"unpack"}


@pytest.mark.parametrize("patch", [{"op": "add"}, 3, None, "text", [3], [{}], [{"op": "dance"}]])
def test_what_is_no_patch_is_an_error(patch):
    result = fit_one(packed(patch))
    assert result["status"] == "error"
    assert result["error"]["message"]


@pytest.mark.parametrize(
    "data",
    ["", "%%%", "abc", base64.b64encode(b"not compressed").decode(), packed(signal())[:-8]],
    ids=["empty", "no base64", "bad padding", "not compressed", "truncated"],
)
def test_a_patch_that_cannot_be_unpacked_is_an_error(data):
    assert fit_one(data)["status"] == "error"


@pytest.mark.parametrize("data", ["abc", base64.b64encode(b"not compressed").decode()])
def test_a_background_that_cannot_be_unpacked_is_an_error_for_each_patch(data):
    broken = batch(signal(), signal())
    broken["background"]["data"] = data
    answer = fitting.fit_batch(broken)
    json.dumps(answer, allow_nan=False)
    assert [result["key"] for result in answer["results"]] == ["key0", "key1"]
    assert {result["status"] for result in answer["results"]} == {"error"}
    assert fit_one(signal())["status"] == "ok"  # it is not remembered


def test_a_background_that_is_no_json_is_an_error():
    broken = batch(signal())
    broken["background"]["data"] = base64.b64encode(zlib.compress(b"{")).decode()
    (result,) = fitting.fit_batch(broken)["results"]
    assert result["error"]["type"] == "json.decoder.JSONDecodeError"


def test_a_backend_that_is_not_installed_is_an_error_for_each_patch(monkeypatch):
    assert fit_one(signal())["status"] == "ok"
    monkeypatch.setitem(sys.modules, "pyhf.tensor.jax_backend", None)
    manager = sys.modules["pyhf.tensor.manager"]
    nothing_imported = type(manager.BackendRetriever)()
    monkeypatch.setattr(manager, "BackendRetriever", nothing_imported)
    answer = fit(signal(), signal(), backend="jax")
    kinds = [result["error"]["type"] for result in answer["results"]]
    assert kinds == ["pyhf.exceptions.ImportBackendError"] * 2
    assert answer["environment"]["backend"] == "jax"
    assert fit_one(signal())["status"] == "ok"


@pytest.mark.parametrize(
    ("what", "kind"), [("backend", "InvalidBackend"), ("optimizer", "InvalidOptimizer")]
)
def test_what_no_pyhf_has_is_an_error_that_says_what_it_has(what, kind):
    answer = fit(signal(), signal(), **{what: "abacus"})
    errors = [result["error"] for result in answer["results"]]
    assert [error["type"] for error in errors] == [f"pyhf.exceptions.{kind}"] * 2
    environment = WorkerEnvironment.from_json(answer["environment"])
    advice = advice_on(FitError(**errors[0]), environment)
    assert advice.cause == f"pyhf {pyhf.__version__} has no such {what}"
    names = advice.here.rpartition(": ")[2].split(", ")
    assert {"backend": "numpy", "optimizer": "scipy"}[what] in names
    for name in names:  # each is one that this very pyhf knows
        with contextlib.suppress(pyhf.exceptions.ImportBackendError):
            fitting.set_backend({"backend": "numpy", "optimizer": "scipy", what: name})
    assert fit_one(signal())["status"] == "ok"


@pytest.mark.parametrize("what", ["sample", "modifier"])
def test_names_that_are_there_twice_are_refused_after_pyhf_0_7_6(what):
    """Until then one of the two counts without a word: a known issue of these versions."""
    (operation,) = signal()
    twice = copy.deepcopy(operation)
    if what == "modifier":
        twice["value"]["modifiers"] *= 2
        answer = fit_one([twice])
    else:
        answer = fit_one([twice, operation])
    if concerns("<=0.7.6", pyhf.__version__):
        assert answer["CLs_obs"] == fit_one([operation])["CLs_obs"]
    else:
        assert answer["error"]["type"] == "pyhf.exceptions.InvalidModel"
        assert "Duplicate" in answer["error"]["message"]


@pytest.mark.parametrize("error", [SystemExit(3), MemoryError("much")])
def test_whatever_a_fit_raises_is_its_answer(monkeypatch, error):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr(pyhf.infer, "hypotest", fail)
    result = fit_one(signal())
    assert result["error"]["type"] == type(error).__name__
    assert {"unpack", "build"} == set(result["seconds"])


def test_an_interrupt_is_no_answer(monkeypatch):
    def fail(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(pyhf.infer, "hypotest", fail)
    with pytest.raises(KeyboardInterrupt):
        fit_one(signal())


def test_a_huge_message_is_cut_and_an_unreadable_one_is_said_to_be(monkeypatch):
    class UnreadableError(Exception):
        def __str__(self):
            raise ValueError("no text")

    errors = iter([ValueError("x" * 3_000_000), UnreadableError()])

    def fail(*_args, **_options):
        raise next(errors)

    monkeypatch.setattr(pyhf.infer, "hypotest", fail)
    huge, unreadable = fit(signal(), signal())["results"]
    assert len(huge["error"]["message"]) == fitting.MAX_ERROR_CHARACTERS == 50_000
    # Which says where it was, and does not repeat what was said.
    assert "in fail\n" in huge["error"]["traceback"]
    assert huge["error"]["traceback"].endswith("x...\n")
    assert len(huge["error"]["traceback"]) < 5_000
    assert len(json.dumps(huge)) < 60_000
    assert "cannot be read" in unreadable["error"]["message"]


# Other ways to test


def test_whatever_tests_the_patches_of_a_batch_is_answered_alike():
    """With values or an exception of one, and with what all share."""
    seen = []

    def test(shared, patch, seconds):
        seen.append((shared, patch["key"]))
        seconds["fit"] = 1.5
        if patch["key"] == "key1":
            raise ArithmeticError("odd")
        warnings.warn("slow", UserWarning, stacklevel=1)
        return {"CLs_obs": 0.25}

    answer = fitting.answer_batch(batch(signal(), signal(), signal()), lambda: "shared", test)
    assert answer.keys() == fit(signal()).keys()
    assert seen == [("shared", "key0"), ("shared", "key1"), ("shared", "key2")]
    first, second, third = answer["results"]
    assert {**first, "key": "key2"} == third
    assert (first["status"], first["CLs_obs"]) == ("ok", 0.25)
    assert first["warnings"] == ["UserWarning: slow"]
    assert (second["status"], second["error"]["type"]) == ("error", "ArithmeticError")
    assert first["seconds"] == second["seconds"] == {"fit": 1.5}


def test_what_the_patches_share_may_fail_for_all_of_them():
    def begin():
        raise LookupError("nothing there")

    answer = fitting.answer_batch(
        batch(signal(), signal()), begin, lambda *_: pytest.fail("called")
    )
    assert [result["key"] for result in answer["results"]] == ["key0", "key1"]
    for result in answer["results"]:
        assert result["error"]["message"] == "nothing there"
    assert answer["unpack_s"] == 0.0


# What a worker remembers


def test_each_answer_tells_the_environment_with_its_backend_and_optimizer():
    pytest.importorskip("iminuit")
    first = fit(signal())["environment"]
    assert (first["backend"], first["optimizer"]) == ("numpy", "scipy")
    assert fit(signal())["environment"] is first
    assert fit(signal(), optimizer="minuit")["environment"]["optimizer"] == "minuit"
    assert fit(signal())["environment"] is first
    certified = batch(signal(), method="certified")
    answer = fitting.answer_batch(certified, lambda: None, lambda *_: {})
    assert (answer["environment"]["backend"], answer["environment"]["optimizer"]) == (
        None,
        "certified",
    )
    assert fit(signal())["environment"] is first


def test_the_environment_is_what_the_client_reads():
    read = WorkerEnvironment.from_json(fit(signal())["environment"])
    assert read.python == sys.version.split()[0]
    assert read.host == socket.gethostname()
    assert read.versions["pyhf"] == pyhf.__version__
    assert read.cpu
    assert set(read.threads) == set(fitting.THREAD_VARIABLES)
    assert read.computing["scipy"] == read.versions["scipy"]
    probed = fitting.probe_environment()
    assert probed["pid"] == os.getpid()
    assert (probed["backend"], probed["optimizer"]) == (None, None)


def test_a_worker_names_itself():
    assert fit(signal())["worker"] == f"{socket.gethostname()}:{os.getpid()}"


def test_a_background_is_unpacked_once():
    first = fit_one(signal(), digest="one")
    again = batch(signal(), digest="one")
    again["background"]["data"] = "garbage"
    (second,) = fitting.fit_batch(again)["results"]
    assert second["CLs_obs"] == first["CLs_obs"]


def test_backgrounds_are_distinguished_by_their_digests():
    other = background()
    other["observations"][0]["data"] = [40.0, 40.0]
    results = [
        fit_one(signal(), digest="one"),
        fit_one(signal(), digest="other", spec=other),
        fit_one(signal(), digest="one"),
    ]
    values = [result["CLs_obs"] for result in results]
    assert values[0] == values[2] != values[1]


def test_a_worker_keeps_a_bounded_number_of_backgrounds():
    for number in range(fitting.MAX_BACKGROUNDS + 3):
        fit([], digest=f"number {number}")
    assert len(fitting._backgrounds) == fitting.MAX_BACKGROUNDS
    assert f"number {fitting.MAX_BACKGROUNDS + 2}" in fitting._backgrounds
    assert "number 0" not in fitting._backgrounds
    assert fit_one(signal(), digest="number 0")["status"] == "ok"


# Where the time goes


def test_durations_fit_into_each_other():
    before = time.perf_counter()
    answer = fit(signal(), signal())
    took_s = time.perf_counter() - before
    assert answer["gap_s"] is None
    parts = [sum(result["seconds"].values()) for result in answer["results"]]
    assert all(set(result["seconds"]) == {"unpack", "build", "fit"} for result in answer["results"])
    assert min(parts) > 0
    assert answer["unpack_s"] >= 0
    assert answer["unpack_s"] + sum(parts) <= answer["total_s"] <= took_s


def test_the_gap_is_what_passes_between_two_batches():
    fit(signal())
    ended = time.perf_counter()
    time.sleep(0.05)
    waited = time.perf_counter() - ended
    answer = fit(signal())
    assert waited <= answer["gap_s"] <= time.perf_counter() - ended


def test_importing_the_worker_imports_neither_pyhf_nor_this_package():
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('w', {fitting.__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print({'pyhf', 'numpy', 'pytest_pyhf_faas'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
