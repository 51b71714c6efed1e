"""A batch system that refuses a job says why, whichever provider asked it."""

from __future__ import annotations

import dill
import pytest
from parsl.providers import GridEngineProvider, PBSProProvider, TorqueProvider

from pytest_pyhf_faas.engines import parsl_refusals

SAID = "qsub: Unknown queue MSG=requested queue not found"


def refused(kind, tmp_path, monkeypatch, said=SAID):
    """Return a provider whose batch system takes no job."""
    path = tmp_path / "qsub"
    path.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit 170\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    provider = kind()
    provider.script_dir = str(tmp_path)
    parsl_refusals.watch(provider)
    return provider


@pytest.mark.parametrize("kind", [TorqueProvider, GridEngineProvider, PBSProProvider])
def test_what_it_says_is_raised(kind, tmp_path, monkeypatch):
    with pytest.raises(Exception, match=SAID):
        refused(kind, tmp_path, monkeypatch).submit("true", 1, "block-0")


def test_what_it_said_of_something_else_is_not(tmp_path, monkeypatch):
    provider = refused(TorqueProvider, tmp_path, monkeypatch)
    provider.execute_wait("qsub of another one")
    (tmp_path / "qsub").write_text("#!/bin/sh\necho 7.head\n")
    assert provider.submit("true", 1, "block-0") == "7.head"


def test_its_provider_can_still_be_written_down(tmp_path, monkeypatch):
    """Else the jobs of a run that is killed would stay."""
    provider = refused(TorqueProvider, tmp_path, monkeypatch, said="no")
    assert dill.loads(dill.dumps(provider)).execute_wait("qsub")[2] == "no\n"
