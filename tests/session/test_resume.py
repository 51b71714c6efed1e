"""What of earlier runs stands, by the versions of the workers; journals: tests/campaign."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_pyhf_faas.campaign import journal as journals
from pytest_pyhf_faas.campaign.events import Accepted, Send
from pytest_pyhf_faas.campaign.results import FitError, HypotestResult, WorkerEnvironment
from pytest_pyhf_faas.session.resume import (
    _stands,
    left_out_notes,
    of_the_same_workers,
    read_earlier,
)
from tests.helpers.fakes import PYTHON, VERSIONS, environment

THEN = WorkerEnvironment.from_json(
    environment(VERSIONS, {"backend": "numpy", "optimizer": "scipy"})
)
RESULT = HypotestResult("key", "tiny", "sig", "ok", CLs_obs=0.1, environment=THEN)
TODAY = {"python": PYTHON, "versions": VERSIONS}


STORED = Path(__file__).parents[1] / "stored" / "journals"


def write(directory, name, key, *, code=None):
    """Write the journal of a run that has one result, and one fit that was sent."""
    with pytest.MonkeyPatch.context() as patch:
        if code is not None:
            patch.setattr(journals, "worker_sha256", lambda: code)
        journal = journals.Journal(directory / f"{name}.jsonl")
    journal.write("local", replace(RESULT, key=key, worker="host:1"))
    journal.note("local", 0.0, Send(1, (f"{key}, sent",), (1,), "first"))
    journal.note("local", 0.0, Accepted(1, "group/1"))
    journal.close()


def test_what_other_code_has_fitted_or_sent_is_left_out(tmp_path):
    write(tmp_path, "1", "same")
    write(tmp_path, "2", "other", code="0" * 64)
    found = read_earlier(tmp_path, "local")
    assert list(found.results) == ["same"]
    assert list(found.accepted) == ["same, sent"]
    assert found.left_out.keys() == {"other", "other, sent"}
    (note,) = left_out_notes(found.left_out.values())
    assert note.startswith("--faas-resume left 2 earlier fits out: another version of pytest-")
    assert read_earlier(tmp_path, "local:2").left_out == {}


def test_what_the_same_code_has_fitted_as_well_is_not_missed(tmp_path):
    write(tmp_path, "1", "same")
    write(tmp_path, "2", "same", code="0" * 64)
    found = read_earlier(tmp_path, "local")
    assert (list(found.results), found.left_out) == (["same"], {})


@pytest.mark.parametrize(("version", "fits"), [(1, 6), (2, 24)])
def test_journals_that_do_not_name_the_code_are_left_out(tmp_path, version, fits):
    shutil.copy(STORED / f"version-{version}.jsonl", tmp_path)
    found = read_earlier(tmp_path, "scripted")
    assert (found.results, found.accepted) == ({}, {})
    assert len(found.left_out) == fits
    assert found.problems == []


def test_results_of_the_same_versions_are_taken_over():
    assert of_the_same_workers({"key": RESULT}, TODAY) == ({"key": RESULT}, {})


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
    usable, left_out = of_the_same_workers(both, {**TODAY, **change})
    assert usable == {}
    (note,) = left_out_notes(left_out.values())
    assert note == f"--faas-resume left 2 earlier fits out: the workers changed: {told}"


def test_a_version_that_is_not_in_use_may_change():
    with_jax = replace(THEN, versions={**VERSIONS, "jax": "0.4"})
    result = replace(RESULT, environment=with_jax)
    assert of_the_same_workers({"key": result}, TODAY) == ({"key": result}, {})


@pytest.mark.parametrize(
    ("result", "stands"),
    [
        (RESULT, True),
        (replace(RESULT, status="error", error=FitError("pyhf.exceptions.InvalidModel", "")), True),
        (replace(RESULT, status="error", error=FitError("ModuleNotFoundError", "")), False),
        (replace(RESULT, status="error", error=FitError("OSError", "[Errno 28] full")), False),
        (replace(RESULT, status="error", error=FitError("PermissionError", "")), False),
        (replace(RESULT, status="error", error=FitError("x.ImportBackendError", "")), False),
        (replace(RESULT, status="error", error=FitError("ValueError", "")), True),
        (replace(RESULT, status="broken"), False),
        (replace(RESULT, status="timeout"), False),
    ],
)
def test_what_a_worker_would_answer_again_stands(result, stands):
    assert _stands(result) is stands


def test_a_result_is_read_when_it_is_used_even_if_its_journal_is_gone_by_then(tmp_path):
    write(tmp_path, "1", "same")
    (known,) = read_earlier(tmp_path, "local").results.values()
    (tmp_path / "1.jsonl").unlink()
    assert known.read() == replace(RESULT, key="same", worker="host:1")
