"""Upper limits of a batch, by pyhf and at certified minima, from the same payload."""

from __future__ import annotations

import json

import pytest

from pytest_pyhf_faas.campaign.answers import parse_answer
from pytest_pyhf_faas.campaign.quantities import Limits
from pytest_pyhf_faas.campaign.tasks import (
    HypotestConfig,
    batch_payload,
    make_tasks,
    worker_function,
)
from pytest_pyhf_faas.histfactory.limits import MIXED
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.references.limit_values import DEFAULT_RTOL
from tests.helpers.project import Project

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def tiny(pytester):
    """Two hypotheses with three parameters."""
    project = Project(pytester)
    project.pallet(4, references=False)
    (found,) = catalogue.resolve("tiny", search_path=[])
    return found


def limits(pallet, names=None, **fields):
    """Return the limits of some patches as a worker answers them, by their names."""
    tasks = [
        task
        for task in make_tasks(pallet, HypotestConfig(quantity="limit", **fields))
        if names is None or task.patch.name in names
    ]
    function = worker_function(tasks[0].config)
    answer = json.loads(json.dumps(function(json.loads(json.dumps(batch_payload(tasks))))))
    results = parse_answer(answer, tasks).results.values()
    assert [result.error for result in results] == [None] * len(tasks)
    return {result.patch: result for result in results}


@pytest.mark.parametrize("test_stat", ["qtilde", "q"])
@pytest.mark.parametrize("optimizer", ["scipy", "minuit"])
def test_pyhf_and_certified_minima_give_the_same_limits(tiny, test_stat, optimizer):
    names = ("sig_100_0", "sig_200_50")
    by_pyhf = limits(tiny, names, optimizer=optimizer, test_stat=test_stat)
    certified = limits(tiny, names, method="certified", test_stat=test_stat)
    for name in names:
        found = Limits.from_json(by_pyhf[name].limits).lowest.values
        known = Limits.from_json(certified[name].limits).lowest.values
        assert found == pytest.approx(known, rel=DEFAULT_RTOL[optimizer])
        assert by_pyhf[name].limits["tests"] > len(found)
        assert by_pyhf[name].seconds["fit"] > 0


def test_a_certified_answer_has_cls_as_well(tiny):
    (found,) = limits(tiny, ("sig_100_0",), method="certified").values()
    assert len(found.cls_values) == 6
    assert found.certificate["nominal"] is None
    assert not Limits.from_json(found.limits).ambiguous
    assert found.limits["mixed"] == {}


@pytest.fixture(scope="module")
def bundled():
    (found,) = catalogue.resolve(catalogue.BUNDLED, search_path=[])
    return found


def test_two_sets_of_minima_have_limits_of_their_own(bundled):
    """Two of its fits have a lowest minimum that is not the nominal one."""
    (found,) = limits(bundled, ("synthetic_250_50",), method="certified").values()
    both = Limits.from_json(found.limits)
    differing = [
        name
        for name in MIXED
        if found.nominal.twice_nll[name] - found.lowest.twice_nll[name] > 1e-6
    ]
    assert both.ambiguous
    assert len(both.mixed) == max(2 ** len(differing) - 2, 0)
