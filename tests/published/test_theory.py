"""Limits on cross sections leave out the uncertainty of the theory cross section."""

import copy

import pyhf
import pytest

from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.workspace import Workspace
from pytest_pyhf_faas.inference import upper_limit
from pytest_pyhf_faas.published.theory import without_cross_section_uncertainty
from pytest_pyhf_faas.worker.patching import apply_patch


def background(*parameters):
    rates = {"name": "background", "data": [50.0, 60.0], "modifiers": []}
    config = {"poi": "mu", "parameters": list(parameters)}
    return {
        "channels": [{"name": "SR", "samples": [rates]}],
        "observations": [{"name": "SR", "data": [55.0, 58.0]}],
        "measurements": [{"name": "one", "config": config}, {"name": "two", "config": config}],
        "version": "1.0.0",
    }


def signal(*names):
    modifiers = [{"name": "mu", "type": "normfactor", "data": None}]
    modifiers += [
        {"name": name, "type": "normsys", "data": {"hi": 1.2, "lo": 0.8}} for name in names
    ]
    sample = {"name": "signal", "data": [12.0, 8.0], "modifiers": modifiers}
    return [{"op": "add", "path": "/channels/0/samples/-", "value": sample}]


@pytest.mark.parametrize(
    "parameters",
    [
        (),
        ({"name": "mu", "bounds": [[0.0, 5.0]]},),
        ({"name": "mu", "bounds": [[0.0, 5.0]]}, {"name": "SigXSec", "inits": [0.0]}),
        ({"name": "SigXSec", "fixed": False},),
    ],
)
def test_the_limit_is_that_of_a_signal_without_it(parameters):
    workspace = background(*parameters)
    before = copy.deepcopy(workspace)
    patch = without_cross_section_uncertainty(signal("SigXSec", "jets"), workspace)
    assert workspace == before
    plain = upper_limit(background(), signal("jets")).observed
    assert upper_limit(workspace, patch).observed == pytest.approx(plain, rel=1e-6)
    with_it = upper_limit(workspace, signal("SigXSec", "jets")).observed
    assert with_it > 1.01 * plain


def test_pyhf_has_the_parameter_fixed_in_each_measurement():
    workspace = background({"name": "mu", "bounds": [[0.0, 5.0]]})
    patch = without_cross_section_uncertainty(signal("SigXSec"), workspace)
    patched = apply_patch(patch, workspace)
    for name in ("one", "two"):
        model = pyhf.Workspace(patched).model(measurement_name=name)
        order = model.config.par_names
        assert model.config.suggested_fixed()[order.index("SigXSec")]
        assert model.config.suggested_init()[order.index("SigXSec")] == 0
        likelihood = Likelihood(Workspace.from_json(patched), name)
        assert likelihood.fixed[likelihood.names.index("SigXSec")]


def test_a_patch_without_it_stays_as_it_is():
    patch = signal("jets", "SigXSecond")
    assert without_cross_section_uncertainty(patch, background()) == patch
    removal = [{"op": "remove", "path": "/channels/0/samples/0"}]
    assert without_cross_section_uncertainty(removal, background()) == removal
