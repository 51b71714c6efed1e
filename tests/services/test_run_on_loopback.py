"""The command of the README that validates on a loopback Globus Compute."""

from __future__ import annotations

import sys

import pytest

from tests.services import run_on_loopback


class Started(Exception):
    """The services would be started now."""


@pytest.fixture
def service(monkeypatch):
    def start(_directory):
        raise Started

    monkeypatch.setattr(run_on_loopback, "LoopbackGlobusCompute", start)
    monkeypatch.delenv("PYHF_PALLET_PATH", raising=False)


@pytest.mark.usefixtures("service")
def test_a_pallet_that_is_not_found_is_refused_before_anything_starts(capfd):
    assert run_on_loopback.main(["--", "--faas-pallet=no_such_pallet"]) == 4
    assert "there is no pallet 'no_such_pallet'" in capfd.readouterr().err


@pytest.mark.usefixtures("service")
def test_the_command_of_the_readme_needs_no_pallets_of_its_own(capfd):
    with pytest.raises(Started):
        run_on_loopback.main(["--"])
    assert "starting a Globus Compute on this machine" in capfd.readouterr().err


def test_what_is_collected_is_not_run(tmp_path, capfd):
    (tmp_path / "test_it.py").write_text("def test_it():\n    raise SystemExit('it ran')\n")
    command = [sys.executable, "-m", "pytest", str(tmp_path), "-p", "no:cacheprovider"]
    assert run_on_loopback.refusal(command) is None
    assert run_on_loopback.refusal([*command, "-k", "other"]) == 5
    assert "it ran" not in capfd.readouterr().err
