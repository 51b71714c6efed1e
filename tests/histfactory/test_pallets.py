"""What pallets hold is what pyhf makes of it."""

from __future__ import annotations

import json

import jsonpatch
import numpy as np
import pytest

from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.workspace import Workspace
from pytest_pyhf_faas.pallets.catalogue import search_path_from_environment
from tests.histfactory.generated import by_pyhf, older_numpy, twice_nll

FILES = ("BkgOnly.json", "patchset.json")
REAL = sorted(
    directory
    for shelf in search_path_from_environment()
    for directory in shelf.glob("*")
    if all((directory / name).is_file() for name in FILES)
)

pytestmark = [pytest.mark.timeout(300), older_numpy]


def assert_is_pyhfs(specification, measurement):
    """Compare the likelihood with pyhf's, and its derivatives with its values."""
    likelihood = Likelihood(Workspace.from_json(specification), measurement)
    model, data = by_pyhf(specification, measurement)
    order, config, observed = likelihood.pyhf_order, model.config, likelihood.observed
    assert [likelihood.names[index] for index in order] == config.par_names
    assert likelihood.initial[order].tolist() == config.suggested_init()
    bounds = np.column_stack((likelihood.lower, likelihood.upper))
    assert bounds[order].tolist() == [list(pair) for pair in config.suggested_bounds()]
    assert likelihood.fixed[order].tolist() == list(config.suggested_fixed())
    assert order[config.poi_index] == likelihood.poi
    random = np.random.default_rng(1)
    widths = np.where(likelihood.constrained, np.minimum(likelihood.width, 1.0), 0.3)
    for size in (0.0, 0.3, 1.0):
        moves = size * widths * random.normal(size=len(likelihood))
        point = np.clip(likelihood.initial + moves, likelihood.lower, likelihood.upper)
        assert_is_pyhfs_at(likelihood, model, data, point)
    point[likelihood.poi] = 0.0
    assert_is_pyhfs_at(likelihood, model, data, point)
    truth = likelihood.initial + 0.1 * moves
    ours = likelihood.asimov(truth)
    ours = np.concatenate((ours.main, ours.auxiliary[order[likelihood.constrained[order]]]))
    assert ours == pytest.approx(model.expected_data(truth[order]), rel=1e-12)
    assert_derivatives_along(likelihood, truth, observed, widths * random.normal(size=len(truth)))


def assert_is_pyhfs_at(likelihood, model, data, point):
    order, observed = likelihood.pyhf_order, likelihood.observed
    theirs, ours = twice_nll(model, point[order], data), likelihood.value(point, observed)
    assert np.isfinite(ours)
    assert ours == likelihood.evaluate(point, observed).value
    ours += likelihood.saturated(observed)
    assert ours == pytest.approx(theirs, rel=1e-12, abs=likelihood.rounding)
    size = np.abs(model.expected_actualdata(point[order])).max()
    assert likelihood.expected(point) == pytest.approx(
        model.expected_actualdata(point[order]), rel=1e-12, abs=1e-14 * size
    )


def assert_derivatives_along(likelihood, point, data, direction):
    _value, gradient, hessian = likelihood.evaluate(point, data)
    step = 1e-4
    beside = [
        likelihood.evaluate(point + steps * step * direction, data) for steps in (-2, -1, 1, 2)
    ]
    weights = np.array([1, -8, 8, -1]) / (12 * step)
    change = weights @ [one.value for one in beside]
    assert gradient @ direction == pytest.approx(change, rel=1e-7)
    change = weights @ np.array([one.gradient for one in beside])
    assert hessian @ direction == pytest.approx(change, rel=1e-6, abs=1e-8 * np.abs(change).max())


@pytest.mark.skipif(not REAL, reason="PYHF_PALLET_PATH is not set")
@pytest.mark.parametrize("directory", REAL, ids=lambda directory: directory.name)
def test_a_pallet_has_the_likelihoods_of_pyhf(directory):
    background, patchset = (json.loads((directory / name).read_text()) for name in FILES)
    patches = patchset["patches"]
    for index in sorted({0, len(patches) // 2, len(patches) - 1}):
        specification = jsonpatch.apply_patch(background, patches[index]["patch"])
        for measurement in specification["measurements"]:
            assert_is_pyhfs(specification, measurement["name"])
