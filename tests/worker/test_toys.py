"""Toys on workers: the same whoever draws them, and those of pyhf mean the same."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pyhf
import pytest

from pytest_pyhf_faas.campaign.tasks import HypotestConfig
from pytest_pyhf_faas.inference import toys as by_inference
from pytest_pyhf_faas.references.toy_values import toy_cls_of
from pytest_pyhf_faas.worker.certified_toys import toys_batch as certified_batch
from pytest_pyhf_faas.worker.toys import toys_batch as pyhf_batch
from tests.helpers.project import operations, workspace

KINDS = ("signal", "background")
PATCH = operations("one", 300, 50)


def packed(content):
    text = json.dumps(content, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode())).decode()


def answer(run, *orders, method="certified"):
    """Return what a worker answers to orders of toys of one patch."""
    config = HypotestConfig(quantity="toys", toys=100, method=method)
    batch = {
        "background": {"digest": "of the test", "data": packed(workspace())},
        "config": config.to_json(),
        "patches": [
            {"key": str(number), "data": packed(PATCH), "toys": order}
            for number, order in enumerate(orders)
        ],
    }
    return [each["toys"] for each in run(json.loads(json.dumps(batch)))["results"]]


def test_some_toys_each_are_all_toys_to_the_last_bit():
    (whole,) = answer(certified_batch, (0, 120))
    # In another order, and of another batch.
    (end, begin), (middle,) = (
        answer(certified_batch, (100, 20), (0, 50)),
        answer(certified_batch, (50, 50)),
    )
    for kind in KINDS:
        assert begin[kind] + middle[kind] + end[kind] == whole[kind]
        assert answer(certified_batch, (0, 60))[0][kind] == whole[kind][:60]


def test_without_workers_the_toys_of_a_patch_are_the_same():
    (found,) = answer(certified_batch, (0, 70))
    alone = by_inference(workspace(), PATCH, count=70, thorough=False)
    assert alone.observed == found["observed"]
    for kind in KINDS:
        assert alone.statistics[kind].tolist() == sorted(found[kind])


def test_a_certified_result_has_the_asymptotic_values_next_to_the_toys():
    config = HypotestConfig(quantity="toys", toys=1, method="certified").to_json()
    background = {"digest": "of the test", "data": packed(workspace())}
    patch = {"key": "one", "data": packed(PATCH), "toys": (0, 1)}
    (result,) = certified_batch({"background": background, "config": config, "patches": [patch]})[
        "results"
    ]
    assert 0 < result["CLs_obs"] < 1
    assert set(result["twice_nll"]) >= {"free_fit_to_asimov", "fixed_poi_fit_to_asimov"}


@pytest.mark.timeout(300)
def test_pyhf_calculates_the_same_from_the_same_toys():
    before = pyhf.get_backend()
    try:
        (found,) = answer(pyhf_batch, (0, 40), method="hypotest")
        cls = toy_cls_of(found)
        signal, background = (
            pyhf.infer.calculators.EmpiricalDistribution(np.array(found[kind])) for kind in KINDS
        )
        any_model = pyhf.simplemodels.uncorrelated_background([1.0], [1.0], [1.0])
        calculator = pyhf.infer.calculators.ToyCalculator([], any_model)
        clsb, clb, ratio = calculator.pvalues(found["observed"], signal, background)
    finally:
        pyhf.set_backend(*before)
    assert [cls.CLsb, cls.CLb, cls.CLs_obs] == pytest.approx(
        [float(value) for value in (clsb, clb, ratio)], abs=1e-12
    )
    # A few toys of either program are of one distribution.
    (ours,) = answer(certified_batch, (0, 400))
    certified = toy_cls_of(ours)
    error = np.hypot(cls.CLs_obs_error, certified.CLs_obs_error)
    assert abs(cls.CLs_obs - certified.CLs_obs) < 4 * error
