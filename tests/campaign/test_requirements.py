"""What workers must have so that their fits count."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.requirements import REFUSED, Requirement, accepted, unmet
from pytest_pyhf_faas.campaign.results import FitError, HypotestResult, WorkerEnvironment
from pytest_pyhf_faas.errors import ConfigurationError

VERSIONS = {"pyhf": "0.7.6", "numpy": "2.4.6", "iminuit": "2.33.0"}


def worker(python="3.11.7", **versions):
    return WorkerEnvironment.from_json({"python": python, "versions": {**VERSIONS, **versions}})


def answer(environment, status="ok"):
    return HypotestResult(
        key="k", pallet="p", patch="s", status=status, CLs_obs=0.1, environment=environment
    )


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("pyhf==0.7.6", True),
        ("pyhf == 0.7.*", True),
        ("PyHF>=0.7,<0.8", True),
        ("pyhf", True),
        ("pyhf==0.7.5", False),
        ("pyhf!=0.7.6", False),
        ("python>=3.11", True),
        ("Python<3.11", False),
        ("jax", False),
        ("jax>=0.4", False),
        ("iminuit~=2.30", True),
        ("tensorflow_probability>=1", False),
    ],
)
def test_a_requirement_is_read_as_pip_does(text, met):
    assert (Requirement.read(text).unmet_by(worker()) is None) == met


@pytest.mark.parametrize("version", ["0.8.0rc1", "0.7.7.dev12+g1234"])
def test_a_release_candidate_that_is_installed_was_chosen(version):
    assert Requirement.read("pyhf>=0.7.6").unmet_by(worker(pyhf=version)) is None


def test_what_a_worker_has_is_named_next_to_what_is_required():
    required = [Requirement.read(text) for text in ("pyhf==0.7.5", "jax", "python>=3.12", "numpy")]
    assert unmet(required, worker()) == [
        "pyhf 0.7.6, but pyhf==0.7.5 is required",
        "no jax, but jax is required",
        "python 3.11.7, but python>=3.12 is required",
    ]
    assert unmet(required[:1], worker(pyhf="mine")) == ["pyhf mine, but pyhf==0.7.5 is required"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pyhf=0.7.6", "write a pip requirement, such as pyhf==0.7.6"),
        ("", "write a pip requirement"),
        ("pandas>=2", "workers only report python, pyhf, numpy"),
        ("pyhf[jax]==0.7.6", "instead of pyhf"),
        ("pyhf==0.7.6; python_version>'3'", "no extras, markers"),
        ("pyhf @ https://example.org/pyhf.whl", "no extras, markers or URLs"),
    ],
)
def test_what_cannot_be_checked_is_refused(text, words):
    with pytest.raises(ConfigurationError) as caught:
        Requirement.read(text)
    assert words in str(caught.value)
    assert f"--faas-require is {text!r}" in str(caught.value)


@given(text=st.text(max_size=30))
def test_whatever_is_written_is_read_or_refused_in_words(text):
    with contextlib.suppress(ConfigurationError):
        found = Requirement.read(text)
        assert Requirement.read(found.text) == found


def test_a_fit_of_another_worker_is_refused_without_its_values():
    (required,) = [Requirement.read("pyhf==0.7.5")]
    refused = accepted(answer(worker()), [required])
    assert refused.status == "error"
    assert refused.error == FitError(
        REFUSED, "the worker has pyhf 0.7.6, but pyhf==0.7.5 is required (--faas-require)"
    )
    assert refused.cls_values == ()
    unknown = accepted(answer(None), [required])
    assert unknown.error.message == "the worker has not reported its versions (--faas-require)"


def test_other_results_stay_as_they_are():
    required = [Requirement.read("pyhf==0.7.5")]
    for result in (answer(worker(pyhf="0.7.5")), answer(None, status="broken")):
        assert accepted(result, required) is result
    assert accepted(answer(worker()), []) == replace(answer(worker()))
