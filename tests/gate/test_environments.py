"""An environment has what was asked for, and the code of this package as it is here."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib import metadata
from pathlib import Path

import pytest

import pytest_pyhf_faas
from pytest_pyhf_faas.errors import FaasError
from pytest_pyhf_faas.gate import installer as module
from pytest_pyhf_faas.gate import own_code
from pytest_pyhf_faas.gate.environments import Environments
from pytest_pyhf_faas.gate.installer import Installer
from pytest_pyhf_faas.gate.plan import Wanted
from pytest_pyhf_faas.gate.processes import Interruption
from pytest_pyhf_faas.gate.versions import Value
from tests.gate.stand_ins import Place
from tests.helpers.paths import REPOSITORY

UV = shutil.which("uv")


def test_the_wheel_has_this_code_and_nothing_that_was_made_here(tmp_path):
    wheel = own_code.pack(tmp_path)
    with zipfile.ZipFile(wheel) as opened:
        held = {name: opened.read(name) for name in opened.namelist()}
    package = Path(pytest_pyhf_faas.__file__).parent
    sources = {f"pytest_pyhf_faas/{path.relative_to(package)}" for path in package.rglob("*.py")}
    assert sources <= held.keys()
    assert held["pytest_pyhf_faas/gate/own_code.py"] == Path(own_code.__file__).read_bytes()
    references = {path.name for path in (REPOSITORY / "reference_results").glob("*.json")}
    assert {f"pytest_pyhf_faas/reference_results/{name}" for name in references} <= held.keys()
    assert not [name for name in held if name.endswith(".pyc") or "/." in name]
    record = next(name for name in held if name.endswith(".dist-info/RECORD"))
    lines = list(csv.reader(io.StringIO(held[record].decode())))
    assert {line[0] for line in lines} == held.keys()
    told = Parser().parsestr(held[record.replace("RECORD", "METADATA")].decode())
    assert told["Version"] == metadata.version(own_code.DISTRIBUTION)
    assert b"pytest11" in held[record.replace("RECORD", "entry_points.txt")]


def test_a_wheel_is_known_by_its_content(tmp_path):
    first, second = own_code.pack(tmp_path / "a"), own_code.pack(tmp_path / "b")
    assert own_code.content_digest(first) == own_code.content_digest(second)
    with zipfile.ZipFile(second, "a") as opened:
        opened.writestr("more", "")
    assert own_code.content_digest(first) != own_code.content_digest(second)


def test_the_wheel_runs_where_it_is_laid(tmp_path):
    with zipfile.ZipFile(own_code.pack(tmp_path)) as opened:
        opened.extractall(tmp_path / "there")
    program = "import pytest_pyhf_faas.references.store as s; print(s.bundled_directory())"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "there",
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(done.stdout.strip(), "synthetic.json").is_file()
    assert done.stdout.startswith(str(tmp_path))


@pytest.mark.parametrize("uv", ["/bin/uv", None])
def test_nothing_is_compiled_and_every_command_names_its_environment(tmp_path, uv):
    installer = Installer(uv)
    assert installer.name == ("uv" if uv else "pip")
    install = installer.install(tmp_path, ["scipy==1.9.*"])
    assert install[-3:] == ["--only-binary", ":all:", "scipy==1.9.*"]
    assert ("--no-compile" in install) is (uv is None)  # uv leaves it to the first import anyway
    assert str(tmp_path / "bin" / "python") in install
    assert str(tmp_path) == installer.make(tmp_path, "/bin/python3")[-1]
    assert "/bin/python3" in installer.make(tmp_path, "/bin/python3")


def test_interpreters_are_looked_for(tmp_path):
    installer = Installer(None)
    assert installer.interpreter(None) == sys.executable
    assert installer.interpreter(sys.executable) == sys.executable
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nexit 127\n")  # as the shims of pyenv do
    broken.chmod(0o755)
    with pytest.raises(FaasError, match="there is no Python"):
        installer.interpreter(str(broken))


def test_neither_uv_nor_pip(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    for asks in (
        lambda: Installer(None).build(str(tmp_path), tmp_path),
        lambda: Installer(None).available("pyhf"),
    ):
        with pytest.raises(FaasError, match=r"has no pip, .*: install uv"):
            asks()


def test_the_versions_of_an_index(monkeypatch):
    said = {"stdout": "pyhf (0.7.6)\nAvailable versions: 0.7.6, 0.7.0\n", "stderr": ""}

    def index(command, **_keywords):
        return subprocess.CompletedProcess(command, 0 if said["stdout"] else 1, **said)

    monkeypatch.setattr(module, "find_spec", lambda _name: True)
    monkeypatch.setattr(module.subprocess, "run", index)
    assert Installer(None).available("pyhf") == ["0.7.6", "0.7.0"]
    said.update(stdout="", stderr="NewConnectionError: Connection refused\n")
    with pytest.raises(FaasError, match="the package index cannot be reached") as caught:
        Installer(None).available("pyhf")
    assert "--resume" in str(caught.value)


@pytest.fixture
def wheel(tmp_path):
    def made(name, content=None):
        place = tmp_path / name
        place.parent.mkdir(exist_ok=True)
        if content is None:
            place.write_text("no archive")
            return str(place)
        with zipfile.ZipFile(place, "w") as opened:
            opened.writestr("pyhf/__init__.py", content)
        return str(place)

    return made


def installed(environments, value, log):
    made = environments.make(Wanted(None, (("pyhf", value),)), log)
    requirements = json.loads((made.python.parents[1] / "installed.json").read_text())
    return next(each for each in map(Path, requirements) if each.name.startswith("pyhf-"))


def test_each_source_of_one_distribution_is_its_own_build(tmp_path, wheel):
    environments = Environments(
        tmp_path / "cache", Place(tmp_path / "place").installer(), Interruption()
    )
    sources = [wheel(f"{name}/pyhf-0.8-py3-none-any.whl", name) for name in ("main", "fix")]
    read = [
        zipfile.ZipFile(installed(environments, Value(str(place), source), tmp_path / "log")).read(
            "pyhf/__init__.py"
        )
        for place, source in enumerate(sources)
    ]
    assert read == [b"main", b"fix"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("pyhf-0.8-py3-none-any.whl", None, "pyhf-0.8-py3-none-any.whl is damaged: "),
        ("cabinetry-0.6-py3-none-any.whl", "", "whl has cabinetry, and not pyhf"),
    ],
)
def test_a_wheel_that_is_none_of_this_distribution(tmp_path, wheel, name, content, expected):
    environments = Environments(
        tmp_path / "cache", Place(tmp_path / "place").installer(), Interruption()
    )
    with pytest.raises(FaasError, match=expected):
        installed(environments, Value("0.8", wheel(name, content)), tmp_path / "log")


@pytest.mark.services
def test_an_environment_of_the_package_index(tmp_path):
    """With uv where it is there, and with pip in about half a minute."""
    environments = Environments(tmp_path / "cache", Installer(UV), Interruption())
    wanted = Wanted(None, (("pyhf", Value("0.7.5")),))
    made = environments.make(wanted, tmp_path / "log")
    program = (
        "import json, pyhf, pytest_pyhf_faas.gate as g\n"
        "print(json.dumps([pyhf.__version__, pyhf.__file__, g.__file__]))"
    )
    done = subprocess.run([made.python, "-c", program], capture_output=True, text=True, check=True)
    version, *files = json.loads(done.stdout)
    assert version == "0.7.5"
    assert all(file.startswith(str(tmp_path / "cache")) for file in files)
    log = (tmp_path / "log").read_text()
    assert environments.make(wanted, tmp_path / "log") == made
    assert (tmp_path / "log").read_text() == log
