"""gate.py: whatever becomes of an environment is a cell, and the rest goes on."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile

import pytest

from pytest_pyhf_faas.gate import environments as environments_module
from pytest_pyhf_faas.gate import own_code
from pytest_pyhf_faas.gate.cells import CellDirectory
from pytest_pyhf_faas.gate.environments import Environments
from pytest_pyhf_faas.gate.gate import Gate
from pytest_pyhf_faas.gate.plan import Plan
from pytest_pyhf_faas.gate.processes import Interruption, StoppedError, lock
from pytest_pyhf_faas.gate.selection import Selected
from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.session.display import StreamDisplay
from tests.gate.stand_ins import Place
from tests.helpers.fakes import wait_until
from tests.helpers.paths import REPOSITORY

TWO = {"pyhf": ("0.7.0", "0.7.6"), "optimizer": ("scipy", "minuit")}
NO_PYHF = "error: there is no version of pyhf==0.7.0 and you require pyhf==0.7.0"


class House:
    """A directory of results, a cache of environments, and gates that run there."""

    def __init__(self, path):
        self.path = path
        self.place = Place(path / "place")
        self.shown = io.StringIO()
        self.interruption = Interruption()

    def gate(self, factors=None, *, fails=None, selected="a", jobs=2, fresh=False, words=()):
        combinations = Plan(TWO if factors is None else factors).combinations(self.path)
        self.interruption = Interruption()
        installer = self.place.installer(**(fails or {}))
        return Gate(
            [CellDirectory(each, self.path / "cells" / each.directory) for each in combinations],
            Environments(self.path / "cache", installer, self.interruption, fresh),
            Selected(("--faas-pallet=tiny",), 1, selected),
            words,
            jobs=jobs,
            workers=1,
            display=StreamDisplay(self.shown),
            interruption=self.interruption,
            draws=False,
            fresh=fresh,
        )

    def run(self, *arguments, **options):
        """Run a gate, and return the reasons of its cells, ``None`` where there is a run."""
        return [outcome.reason for outcome in self.gate(*arguments, **options).run()]

    def told(self):
        return {
            path.parent.name: json.loads(path.read_text())["reason"]
            for path in sorted(self.path.glob("cells/*/cell.json"))
        }

    def environments(self):
        return [each for each in (self.path / "cache").iterdir() if len(each.name) == 16]


@pytest.fixture
def house(tmp_path, wide_terminal):
    return House(tmp_path)


def test_each_combination_is_run_in_its_environment(house):
    assert house.run() == [None] * 4
    assert len(house.environments()) == 2
    suites = house.place.suites()
    assert len(suites) == 4
    one = next(each["words"] for each in suites if each["cell"] == "pyhf-0.7.6-minuit")
    assert one[:4] == ["-m", "pytest_pyhf_faas", "validate", "--"]
    assert {"--faas-optimizer=minuit", "--faas-pallet=tiny", "--faas-workers=1"} <= set(one)
    assert "--faas-resume" not in one
    assert house.told() == dict.fromkeys(
        [f"pyhf-{v}-{o}" for v in TWO["pyhf"] for o in sorted(TWO["optimizer"])]
    )
    cell = house.path / "cells" / "pyhf-0.7.6-minuit"
    assert json.loads((cell / "cell.json").read_text()) == {
        "name": "pyhf 0.7.6, minuit",
        "factors": {"pyhf": "0.7.6", "optimizer": "minuit"},
        "reason": None,
    }
    assert documents.read(cell)["run"]["exit_status"] == 0
    lines = house.shown.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[-1].startswith("gate: 4 of 4: pyhf 0.7.")


def test_what_was_done_is_taken_over(house):
    house.run()
    assert house.run() == [None] * 4
    assert len(house.place.suites()) == 4
    assert house.shown.getvalue().count("taken over") == 4


def test_what_is_asked_for_again_is_run_again(house):
    house.run()
    assert house.run(selected="b") == [None] * 4
    assert house.run(selected="b", words=["--faas-timeout=5"]) == [None] * 4
    suites = house.place.suites()
    assert len(suites) == 12
    assert all("--faas-resume" in each["words"] for each in suites[4:])  # the same environment
    assert house.run(selected="b", words=["--faas-timeout=5"], fresh=True) == [None] * 4
    assert all("--faas-resume" not in each["words"] for each in house.place.suites()[12:])


def test_other_sources_of_the_same_version_take_nothing_over(house):
    """Which --faas-resume, that compares versions, would."""
    wheel = house.path / "pyhf-0.8.0-py3-none-any.whl"
    source = {"pyhf": (f"new={wheel}",)}

    def make(content):
        with zipfile.ZipFile(wheel, "w") as opened:
            opened.writestr("pyhf/__init__.py", content)

    make("one = 1")
    assert house.run(source) == [None]
    make("one = 1")  # at another time
    assert house.run(source) == [None]
    assert len(house.place.suites()) == 1
    make("two = 2")
    assert house.run(source) == [None]
    assert ["--faas-resume" in each["words"] for each in house.place.suites()] == [False, False]


def test_other_code_of_this_package_goes_on_with_the_fits(house, monkeypatch):
    """Which --faas-resume takes over as far as they were done by the same code."""
    house.run()
    pack = own_code.pack

    def changed(directory):
        wheel = pack(directory)
        with zipfile.ZipFile(wheel, "a") as opened:
            opened.writestr("pytest_pyhf_faas/more.py", "")
        return wheel

    monkeypatch.setattr(own_code, "pack", changed)
    assert house.run() == [None] * 4
    assert ["--faas-resume" in each["words"] for each in house.place.suites()[4:]] == [True] * 4
    assert len(house.environments()) == 4


def test_what_cannot_be_installed_has_its_reason_and_the_rest_goes_on(house):
    reason = "cannot be installed: there is no pyhf 0.7.0"
    assert house.run(fails={"pyhf==0.7.0": NO_PYHF}) == [reason, reason, None, None]
    assert house.told()["pyhf-0.7.0-scipy"] == reason
    assert NO_PYHF in (house.path / "cells/pyhf-0.7.0-scipy/install.log").read_text()
    assert len(house.environments()) == 1  # nothing half made is left
    assert house.run() == [None] * 4
    assert len(house.place.suites()) == 4


def test_what_cannot_be_installed_today_keeps_what_it_gave_before(house):
    house.run()
    house.run(fails={"pyhf==0.7.0": NO_PYHF}, fresh=True)
    assert (house.path / "cells/pyhf-0.7.0-scipy/report.json").exists()


def test_a_python_that_is_not_there(house):
    reasons = house.run({"python": ("3.99",), "pyhf": ("0.7.6",)})
    assert reasons == [
        "cannot be installed: there is no Python 3.99 on this machine: give its path"
    ]


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ({"signal": 9}, "the suite was ended by SIGKILL, out of memory?"),
        ({"signal": 11}, "the suite was ended by SIGSEGV"),
        ({"exit": 4, "says": ["ERROR: this", "usage"]}, "the suite ended with 4: ERROR: this"),
        (
            {
                "exit": 4,
                "says": ["ERROR: usage: x", "python -m pytest: error: unrecognized: -y", " z"],
            },
            "the suite ended with 4: error: unrecognized: -y",
        ),
        ({"exit": 0, "says": ["", "==== 3 tests ===="]}, "it wrote no report: 3 tests"),
        ({"exit": 3, "says": ["a", "the last"]}, "the suite ended with 3: the last"),
        ({"exit": 5}, "the suite ended with 5: it wrote nothing"),
        ({"exit": 0, "says": ["done"]}, "it wrote no report: done"),
        ({"exit": 1}, None),
    ],
)  # fmt: skip
def test_a_suite_that_ends_before_its_end(house, does, reason):
    house.place.suites_do(**{"pyhf-0.7.0-scipy": does})
    assert house.run() == [reason, None, None, None]
    assert house.told()["pyhf-0.7.0-scipy"] == reason
    house.place.suites_do()
    assert house.run() == [None] * 4
    assert len(house.place.suites()) == (4 if reason is None else 5)


def test_an_environment_in_which_no_fit_is_possible_is_reported(house):
    text = "the fit broke\n  AttributeError: product\n  cause: pyhf 0.7.0 is older than numpy 2\n"
    house.place.suites_do(**{"pyhf==0.7.0": {"exit": 1, "not_ready": text}})
    assert house.run() == [None] * 4
    assert house.run() == [None] * 4
    assert len(house.place.suites()) == 4
    assert house.shown.getvalue().count("AttributeError: product; cause: pyhf 0.7.0 is old") == 4


def test_a_full_disk_is_a_reason(house, monkeypatch):
    monkeypatch.setattr(
        environments_module.shutil, "copy", lambda *_: (_ for _ in ()).throw(full())
    )
    (house.path / "pyhf-1-py3-none-any.whl").touch()
    factors = {"pyhf": ("new=./pyhf-1-py3-none-any.whl", "0.7.6")}
    assert house.run(factors) == ["cannot be installed: No space left on device", None]


def full():
    return OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_while_running(house, monkeypatch):
    begin = CellDirectory.begin

    def broken(cell, *arguments):
        if "minuit" in cell.combination.name:
            raise full()
        return begin(cell, *arguments)

    monkeypatch.setattr(CellDirectory, "begin", broken)
    assert house.run() == [None, "No space left on device"] * 2


def interrupted(house, gate, times=1):
    """Run a gate, and interrupt it when two of its suites run; return the reasons."""

    def interrupt():
        wait_until(lambda: len(house.place.suites()) == 2)
        time.sleep(0.2)  # they come to wait
        for _ in range(times):
            house.interruption._interrupted()

    thread = threading.Thread(target=interrupt)
    thread.start()
    outcomes = gate.run()
    thread.join()
    return [outcome.reason for outcome in outcomes]


def test_an_interrupt_ends_the_suites_in_order_and_begins_no_other(house):
    house.place.suites_do(**{"pyhf==0.7.0": {"until": "let go"}})
    assert interrupted(house, house.gate()) == ["interrupted"] * 4
    assert len(house.place.suites()) == 2
    assert documents.read(house.path / "cells/pyhf-0.7.0-scipy")["run"]["interrupted"]
    assert "running fits finish" in house.shown.getvalue()
    house.place.suites_do()
    assert house.run() == [None] * 4
    suites = house.place.suites()
    resumed = {each["cell"] for each in suites if "--faas-resume" in each["words"]}
    assert resumed == {each["cell"] for each in suites[:2]}


def test_a_suite_that_outlives_its_gate_is_waited_for_and_taken_over(house, tmp_path):
    """As after SIGKILL: two suites in one place would disturb each other."""
    house.place.suites_do(**{"pyhf==0.7.6": {"until": "let go"}})
    program = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r})\n"
        "from pathlib import Path\n"
        "from tests.gate import test_gate\n"
        "test_gate.Place = lambda path: stand\n"
        "from tests.gate.stand_ins import Place\n"
        "stand = Place.__new__(Place)\n"
        f"stand.path = Path({str(house.place.path)!r})\n"
        f"test_gate.House(Path({str(tmp_path)!r})).run({{'pyhf': ('0.7.6',)}})\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY) as gate:
        assert wait_until(lambda: len(house.place.suites()) == 1)
        gate.send_signal(signal.SIGKILL)
    (suite,) = house.place.suites()
    os.kill(suite["pid"], 0)  # it lives
    second = threading.Thread(target=house.run, args=({"pyhf": ("0.7.6",)},))
    second.start()
    time.sleep(0.3)
    assert second.is_alive()
    house.place.let_go("let go")
    second.join(20)
    assert house.told() == {"pyhf-0.7.6": None}
    assert len(house.place.suites()) == 1
    assert "taken over" in house.shown.getvalue()


def test_a_lock_has_one_holder(tmp_path):
    with lock(tmp_path / "lock", Interruption()) as held:
        assert os.fstat(held)
        stopped = Interruption()
        stopped._interrupted()
        with pytest.raises(StoppedError), lock(tmp_path / "lock", stopped):
            pytest.fail("two hold it")
