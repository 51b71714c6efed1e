"""The functions for notebooks give what certified references have."""

import json

import numpy as np
import pyhf
import pytest

import pytest_pyhf_faas
from pytest_pyhf_faas import hypotest, toys, upper_limit
from pytest_pyhf_faas.campaign.quantities import Limits
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, batch_payload, make_tasks
from pytest_pyhf_faas.histfactory.errors import InvalidModel
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.pallets.packing import unpack
from pytest_pyhf_faas.worker.certified_limits import limit_batch
from tests.helpers.paths import REPOSITORY

NAME = "synthetic_250_50"


@pytest.fixture(scope="module")
def pallet():
    (found,) = catalogue.resolve(catalogue.BUNDLED, search_path=())
    return found


@pytest.fixture(scope="module")
def background(pallet):
    return unpack(pallet.background)


@pytest.fixture(scope="module")
def patch(pallet):
    return next(patch for patch in pallet.patches if patch.name == NAME).operations


@pytest.fixture(scope="module")
def reference():
    text = (REPOSITORY / "reference_results" / "synthetic.json").read_text(encoding="utf-8")
    return json.loads(text)["patches"][NAME]


def test_cls_is_that_of_the_reference(background, patch, reference):
    found = hypotest(background, patch)
    assert found.ambiguous
    assert found.CLs_obs == pytest.approx(reference["CLs_obs"], rel=1e-6)
    assert found.CLs_exp == pytest.approx(reference["CLs_exp"], rel=1e-6)
    assert found.nominal.cls[0] == pytest.approx(reference["nominal"]["CLs_obs"], rel=1e-6)
    assert found.mu_hat == pytest.approx(reference["mu_hat"], abs=1e-5)


def test_workspaces_may_be_those_of_pyhf(background, patch):
    plain = hypotest(background, patch, thorough=False)
    workspace = pyhf.Workspace(background)
    assert hypotest(workspace, patch, thorough=False).CLs_obs == plain.CLs_obs
    assert background == dict(workspace)  # which has not changed


@pytest.mark.parametrize("minimum", ["lowest", "nominal"])
def test_at_the_limit_cls_is_at_the_level(background, patch, minimum):
    limits = upper_limit(background, patch, minimum=minimum)
    found = hypotest(background, patch, test_poi=limits.observed)
    assert getattr(found, minimum).cls[0] == pytest.approx(0.05, rel=1e-4)


def test_limits_are_those_of_workers(pallet, background, patch):
    selected = pallet.select([NAME])
    config = HypotestConfig(method="certified", quantity="limit")
    answer = limit_batch(json.loads(json.dumps(batch_payload(make_tasks(selected, config)))))
    found = Limits.from_json(json.loads(json.dumps(answer))["results"][0]["limits"])
    assert found.ambiguous
    for minimum in ("lowest", "nominal"):
        limits = upper_limit(background, patch, minimum=minimum)
        values = getattr(found, minimum).values
        assert (limits.observed, *limits.expected) == pytest.approx(values, rel=1e-6)


def test_the_same_hypothesis_has_the_same_toys(background, patch):
    one, other = (toys(background, patch, count=20, thorough=False) for _ in range(2))
    for name in ("signal", "background"):
        assert np.array_equal(one.statistics[name], other.statistics[name])
        assert len(one.statistics[name]) == 20
    seeded = toys(background, patch, count=20, thorough=False, seed=1)
    assert not np.array_equal(one.statistics["signal"], seeded.statistics["signal"])


def test_what_cannot_be_tested_says_why(background):
    with pytest.raises(InvalidModel, match="parameter of interest"):
        hypotest(background)  # without a signal there is none


def test_they_are_found_at_the_front_door():
    assert {"hypotest", "upper_limit", "toys"} <= set(pytest_pyhf_faas.__all__)
