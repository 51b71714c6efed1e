"""What of earlier runs stands, by the versions of the workers; journals: tests/campaign."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_pyhf_faas.campaign.results import FitError, HypotestResult, WorkerEnvironment
from pytest_pyhf_faas.plugin.resume import _stands, of_the_same_workers
from tests.helpers.fakes import PYTHON, VERSIONS, environment

THEN = WorkerEnvironment.from_json(
    environment(VERSIONS, {"backend": "numpy", "optimizer": "scipy"})
)
RESULT = HypotestResult("key", "tiny", "sig", "ok", CLs_obs=0.1, environment=THEN)
TODAY = {"python": PYTHON, "versions": VERSIONS}


def test_results_of_the_same_versions_are_taken_over():
    assert of_the_same_workers({"key": RESULT}, TODAY) == ({"key": RESULT}, None)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"python": "3.13.0"}, f"python {PYTHON} -> 3.13.0"),
        ({"versions": {**VERSIONS, "pyhf": "0.8"}}, "pyhf 0.7.6 -> 0.8"),
        ({"versions": {k: v for k, v in VERSIONS.items() if k != "scipy"}}, "scipy 1.16.0 -> None"),
    ],
)
def test_those_of_others_are_left_out_with_a_note(change, told):
    both = {"key": RESULT, "other": replace(RESULT, key="other")}
    usable, note = of_the_same_workers(both, {**TODAY, **change})
    assert usable == {}
    assert note.startswith("--faas-resume left 2 earlier results out, because the workers changed:")
    assert told in note


def test_a_version_that_is_not_in_use_may_change():
    with_jax = replace(THEN, versions={**VERSIONS, "jax": "0.4"})
    result = replace(RESULT, environment=with_jax)
    assert of_the_same_workers({"key": result}, TODAY) == ({"key": result}, None)


@pytest.mark.parametrize(
    ("result", "stands"),
    [
        (RESULT, True),
        (replace(RESULT, status="error", error=FitError("pyhf.exceptions.InvalidModel", "")), True),
        (replace(RESULT, status="error", error=FitError("ModuleNotFoundError", "")), False),
        (replace(RESULT, status="broken"), False),
        (replace(RESULT, status="timeout"), False),
    ],
)
def test_what_a_worker_would_answer_again_stands(result, stands):
    assert _stands(result) is stands
