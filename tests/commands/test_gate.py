"""`pyhf-faas gate`: from the words of a command line to a page and an exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from pytest_pyhf_faas import commands
from pytest_pyhf_faas.commands import gate as command
from pytest_pyhf_faas.gate import processes
from pytest_pyhf_faas.gate.installer import Installer
from tests.gate.stand_ins import Place
from tests.helpers.fakes import wait_until
from tests.helpers.paths import REPOSITORY

TWO = ("--pyhf", "0.7.0,0.7.6")
#: In a process of its own, as the page of each run is drawn by one.
PROGRAM = """
import json, sys
from pathlib import Path
sys.path.insert(0, {repository!r})
from pytest_pyhf_faas import commands
from pytest_pyhf_faas.gate import processes
from pytest_pyhf_faas.gate.gate import Gate
from pytest_pyhf_faas.gate.installer import Installer
from tests.gate.stand_ins import StandIn
processes._GRACE_S = 0.3
Installer.here = classmethod(lambda _: StandIn(None, Path({place!r})))
Gate._draw = lambda *_: None
sys.exit(commands.main(["gate", *{words!r}]))
"""


class Desk:
    """Where somebody types the command."""

    def __init__(self, path, capsys, monkeypatch):
        self.path = path
        self.place = Place(path / "place")
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def type(self, *words, fails=None):
        """Run the command, and return its exit status and what it wrote."""
        installer = self.place.installer(**(fails or {}))
        self._monkeypatch.setattr(Installer, "here", classmethod(lambda _: installer))
        try:
            status = commands.main(["gate", *words])
        except SystemExit as error:
            status = error.code
        return status, *self._capsys.readouterr()

    def process(self, *words):
        program = PROGRAM.format(
            repository=str(REPOSITORY), place=str(self.place.path), words=words
        )
        return subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


@pytest.fixture
def desk(tmp_path, capsys, monkeypatch, wide_terminal):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTEST_PYHF_FAAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PYHF_PALLET_PATH", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    monkeypatch.setattr("pytest_pyhf_faas.gate.gate.Gate._draw", lambda *_: None)
    return Desk(tmp_path, capsys, monkeypatch)


def test_two_versions_and_one_page(desk):
    status, out, err = desk.type(*TWO, "--", "--faas-timeout=5")
    assert status == 0, out + err
    assert out.startswith("2 environments, 43 hypotheses in each\n  pyhf 0.7.0 (the base)\n")
    assert "no value moved" in out
    assert out.endswith("page: .pyhf-faas-gate/index.html\n")
    assert "gate: 2 of 2: pyhf 0.7." in err
    assert (desk.path / ".pyhf-faas-gate/index.html").is_file()
    assert [each["words"][-1] for each in desk.place.suites()] == ["--faas-timeout=5"] * 2


def test_a_ci_job_gets_the_comparison_alone(desk, monkeypatch):
    summary = desk.path / "summary.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    assert desk.type(*TWO)[0] == 0
    text = summary.read_text()
    assert text.startswith("## Comparison\n\n```text\n2 environments, 1 hypothesis")
    assert text.count("## ") == 1  # no suite wrote there


def test_what_has_no_run_is_reported_and_is_no_success(desk):
    fails = {"pyhf==0.7.6": "error: there is no version of pyhf==0.7.6 and you require it"}
    status, out, _ = desk.type("--pyhf", "0.7.0,0.7.1,0.7.6", fails=fails)
    assert status == 1
    assert "pyhf 0.7.6: cannot be installed: there is no pyhf 0.7.6" in out
    page = (desk.path / ".pyhf-faas-gate/index.html").read_text()
    assert "cannot be installed: there is no pyhf 0.7.6" in page
    status, _, _ = desk.type("--pyhf", "0.7.0,0.7.1,0.7.6")
    assert status == 0
    assert len(desk.place.suites()) == 3


def test_a_file_says_the_same(desk):
    (desk.path / "deep").mkdir()
    (desk.path / "deep/pyhf-src").mkdir()
    (desk.path / "deep/minuit").mkdir()  # which is no version of an optimizer
    (desk.path / "deep/gate.toml").write_text(
        'pyhf = "0.7.0..0.7.6, main=./pyhf-src"\n'
        'optimizer = ["scipy", "minuit"]\nexclude = [{ pyhf = "0.7.1" }]\n'
        'pallets = [{ name = "synthetic", count = 3 }]\n'
        "[suite]\ntimeout = 60\nreference_dir = 'refs'\nquantity = ['cls', 'limit']\n"
    )
    status, out, err = desk.type("deep/gate.toml", "--dry-run")
    assert status == 0, err
    assert out.splitlines() == [
        "6 environments, 3 hypotheses in each; pip makes 3, which fit setups share",
        "  pyhf 0.7.0, scipy (the base)",
        "  pyhf 0.7.0, minuit",
        "  pyhf 0.7.6, scipy",
        "  pyhf 0.7.6, minuit",
        "  pyhf main, scipy",
        "  pyhf main, minuit",
    ]
    assert not (desk.path / ".pyhf-faas-gate").exists()
    status, out, err = desk.type("deep/gate.toml", "--pyhf", "0.7.6", "--directory", "there")
    assert status == 0, err
    words = desk.place.suites()[0]["words"]
    assert f"--faas-reference-dir={desk.path}/deep/refs" in words
    assert {"--faas-timeout=60", "--faas-quantity=cls,limit"} <= set(words)
    assert len([word for word in words if word.startswith("--faas-patch=synthetic::")]) == 3
    assert (desk.path / "there/index.html").is_file()


def test_what_was_begun_goes_on_without_its_words(desk, monkeypatch):
    desk.type("--pyhf", "0.7.0..0.7.6", "--faas-patch", "synthetic_300_*")
    (before,) = {len(desk.place.suites())}
    assert before == 3
    monkeypatch.setattr(
        "tests.gate.stand_ins.StandIn.available", lambda *_: pytest.fail("the index was asked")
    )
    status, out, err = desk.type("--resume")
    assert status == 0, err
    assert out.startswith("3 environments, 4 hypotheses in each")
    assert len(desk.place.suites()) == before
    status, _, err = desk.type("--resume", "--pyhf", "0.7.6")
    assert (status, "leave out the others" in err) == (2, True)
    status, _, err = desk.type("--resume", "--directory", "elsewhere")
    assert (status, "there is no gate to continue" in err) == (2, True)


def test_references_of_this_directory_count(desk):
    (desk.path / "reference_results").mkdir()
    desk.type("--pyhf", "0.7.6")
    assert f"--faas-reference-dir={desk.path}/reference_results" in desk.place.suites()[0]["words"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "the gate varies nothing: name versions"),
        (("--pyhf", "newest"), "pyhf 'newest' is no version and no path"),
        (("--pyhf", "0.9.0..1.0.0"), "the package index has no pyhf from 0.9.0 to 1.0.0"),
        (("--with", "iminuit"), "write NAME=V,V"),
        ((*TWO, "--jobs", "0"), "at least one must run"),
        ((*TWO, "--faas-pallet", "nowhere"), "nowhere"),
        ((*TWO, "--faas-patch", "nothing"), "no patch of the pallet synthetic matches"),
        ((*TWO, "--", "--faas-report=x"), "--faas-report=x cannot follow --"),
        ((*TWO, "--", "--funcx-endpoint", "x"), "--funcx-endpoint cannot follow --"),
        ((*TWO, "--", "-n2"), "-n2 cannot follow --"),
        ((*TWO, "--", "--collect-only"), "--collect-only cannot follow --"),
        ((*TWO, "--", "--faas-timout=5"), "no option --faas-timout: do you mean --faas-timeout?"),
        (("--pyhf", ","), "pyhf has no value"),
        (("--pyhf", "0.7.6", "--scipy", ""), "scipy has no value"),
        ((*TWO, "--with", "foo bar=1"), "'foo bar' is not the name of a distribution"),
        (("empty.toml",), "pyhf has no value"),
        (("nowhere.toml",), "nowhere.toml cannot be read"),
        ((*TWO, "--directory", "file/x"), "file/x cannot be written to"),
    ],
)
def test_what_makes_no_sense_is_reported_before_anything_is_made(desk, words, told):
    (desk.path / "file").touch()
    (desk.path / "empty.toml").write_text("pyhf = []")
    status, out, err = desk.type(*words)
    assert status == 2
    assert told in err
    assert "Traceback" not in out + err
    assert not (desk.path / "cache" / "environments").exists()


def test_windows_has_no_gate_and_says_what_to_do(desk, monkeypatch):
    monkeypatch.setattr(processes, "sys", SimpleNamespace(platform="win32"))
    status, out, error = desk.type("--pyhf", "0.7.5,0.7.6")
    assert (status, out) == (2, "")
    assert error.startswith("error: pyhf-faas gate needs Linux or macOS. On Windows use WSL")
    assert not (desk.path / ".pyhf-faas-gate").exists()


def test_an_option_of_the_suite_that_is_none(desk):
    (desk.path / "gate.toml").write_text('pyhf = "0.7.6"\n[suite]\nendpoint = "local:4"\n')
    status, _, err = desk.type("gate.toml")
    assert (status, "[suite] has endpoint, which is none of atol" in err) == (2, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_makes_the_page_of_what_is_there(desk, number):
    desk.place.suites_do(**{"pyhf-0.7.6": {"until": "let go"}})
    with desk.process("--pyhf", "0.7.0,0.7.6,0.7.1", "--jobs", "1") as gate:
        assert wait_until(lambda: len(desk.place.suites()) == 2)
        threading.Event().wait(0.3)  # it comes to wait
        gate.send_signal(number)
        out, _ = gate.communicate(timeout=60)
    assert gate.returncode == 130, out
    assert "the same command, or pyhf-faas gate --resume, continues" in out
    assert "Traceback" not in out
    page = (desk.path / ".pyhf-faas-gate/index.html").read_text()
    assert "interrupted" in page
    desk.place.suites_do()
    status, out, err = desk.type("--resume")
    assert status == 0, out + err
    first, second, *others = desk.place.suites()
    assert (first["cell"], second["cell"]) == ("pyhf-0.7.0", "pyhf-0.7.6")
    resumed = {each["cell"]: "--faas-resume" in each["words"] for each in others}
    assert resumed == {"pyhf-0.7.6": True, "pyhf-0.7.1": False}


def test_two_interrupts_end_it_at_once(desk):
    """A suite that hears none of them is killed."""
    desk.place.suites_do(**{"pyhf-0.7.6": {"until": "never", "deaf": 1}})
    with desk.process("--pyhf", "0.7.6") as gate:
        assert wait_until(lambda: len(desk.place.suites()) == 1)
        threading.Event().wait(0.3)
        gate.send_signal(signal.SIGINT)
        threading.Event().wait(0.5)
        assert gate.poll() is None
        gate.send_signal(signal.SIGINT)
        out, _ = gate.communicate(timeout=60)
    assert gate.returncode == 130, out
    (suite,) = desk.place.suites()
    with pytest.raises(ProcessLookupError):
        os.kill(suite["pid"], 0)


def test_the_plan_that_is_kept_is_json(desk):
    desk.type(*TWO, "--with", "iminuit=2.24", "--design", "one-at-a-time")
    told = json.loads((desk.path / ".pyhf-faas-gate/plan.json").read_text())
    assert told["plan"]["factors"] == {"pyhf": ["0.7.0", "0.7.6"], "iminuit": ["2.24"]}
    assert told["selections"][0]["specs"] == ["synthetic"]


def test_words_after_the_dashes_are_for_the_suite():
    assert command.cut(["gate", "--pyhf", "1", "--", "-k", "x", "--"]) == (
        ["gate", "--pyhf", "1"],
        ["-k", "x", "--"],
    )
