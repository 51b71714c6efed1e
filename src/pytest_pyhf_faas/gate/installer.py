"""Make environments with uv if it is available, else with venv and pip."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyhf_faas.errors import FaasError
from pytest_pyhf_faas.gate.processes import environment
from pytest_pyhf_faas.gate.reasons import reason

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Only named sources are compiled: SciPy would take half an hour, and mostly fail.
_WHEELS_ALONE = ("--only-binary", ":all:")
_ANSWERS_S = 120.0


class NotInstalledError(FaasError):
    """Something cannot be installed; the message is the reason, in a line."""


@dataclass(frozen=True, slots=True)
class Installer:
    """The commands of uv, or of venv and pip.

    Attributes
    ----------
    uv : str or None
        Path of uv; ``None`` if it is not installed.
    """

    uv: str | None

    @classmethod
    def here(cls) -> Installer:
        """Return the installer of this machine."""
        return cls(shutil.which("uv"))

    @property
    def name(self) -> str:
        """Its name."""
        return "uv" if self.uv else "pip"

    def interpreter(self, python: str | None) -> str:
        """Return the path of an interpreter.

        Raises
        ------
        NotInstalledError
            If there is none.
        """
        if python is None:
            return sys.executable
        on_path = shutil.which(f"python{python}")
        for path in (python if "/" in python else None, on_path, self._of_uv(python)):
            # What pyenv puts on PATH exists, but does not run unless it is selected.
            if path and _answer([path, "-c", "import sys; print(sys.version_info[0])"]) == "3":
                return path
        raise NotInstalledError(f"there is no Python {python} on this machine: give its path")

    def _of_uv(self, python: str) -> str | None:
        return _answer([self.uv, "python", "find", python]) if self.uv else None

    def make(self, directory: Path, interpreter: str) -> list[str]:
        """Return the command that makes an empty environment."""
        if self.uv:
            return [self.uv, "venv", "--python", interpreter, "--no-project", str(directory)]
        return [interpreter, "-m", "venv", "--clear", str(directory)]

    def install(self, directory: Path, requirements: Sequence[str]) -> list[str]:
        """Return the command that installs into an environment."""
        python = str(python_of(directory))
        words = (
            [self.uv, "pip", "install", "--python", python]
            if self.uv
            # As uv, it leaves bytecode to what is imported: all of SciPy's takes half of the time.
            else [python, "-m", "pip", "install", "--no-input", "--no-compile"]
        )
        return [*words, *_WHEELS_ALONE, *requirements]

    def build(self, source: str, directory: Path) -> list[str]:
        """Return the command that makes a wheel of a source.

        Raises
        ------
        NotInstalledError
            If neither uv nor pip is there.
        """
        if self.uv and Path(source).is_dir():
            python = ("--python", sys.executable)
            return [self.uv, "build", "--wheel", *python, "--out-dir", str(directory), source]
        return [*self._pip(), "wheel", "--no-deps", "--wheel-dir", str(directory), source]

    def available(self, distribution: str) -> list[str]:
        """Return all versions that an index has, with pre-releases.

        Raises
        ------
        FaasError
            If they cannot be listed.
        """
        command = [*self._pip(), "index", "versions", "--pre", distribution]
        try:
            done = subprocess.run(  # noqa: S603 - the user's own words
                command,
                capture_output=True,
                text=True,
                timeout=_ANSWERS_S,
                env=environment(),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FaasError(_unknown(distribution, str(error))) from error
        found = re.search(r"^Available versions: (.*)$", done.stdout, re.MULTILINE)
        if done.returncode or not found:
            why = reason(done.stdout + done.stderr, "")
            raise FaasError(_unknown(distribution, why))
        return [version.strip() for version in found[1].split(",")]

    def _pip(self) -> list[str]:
        if find_spec("pip") is not None:
            return [sys.executable, "-m", "pip"]
        if self.uv:
            return [self.uv, "run", "--no-project", "--with", "pip", "python", "-m", "pip"]
        raise NotInstalledError(
            f"{sys.executable} has no pip, and uv is not on PATH: install uv, or pip by "
            f"{sys.executable} -m ensurepip"
        )


def python_of(directory: Path) -> Path:
    """Return the interpreter of an environment."""
    return directory / "bin" / "python"


def _unknown(distribution: str, why: str) -> str:
    return (
        f"the versions of {distribution} cannot be listed: {why}. A range, latest and pre "
        "need a package index; name the versions (--pyhf 0.7.5,0.7.6), or continue a gate whose "
        "versions are already known: pyhf-faas gate --resume"
    )


def _answer(command: Sequence[str]) -> str | None:
    """Return what a short command prints; ``None`` where it fails."""
    try:
        done = subprocess.run(  # noqa: S603 - the user's own words
            command, capture_output=True, text=True, timeout=_ANSWERS_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
