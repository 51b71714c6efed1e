"""Environments on disk: made once for each request, and reused."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import threading
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from pytest_pyhf_faas.gate import own_code
from pytest_pyhf_faas.gate.digests import digest
from pytest_pyhf_faas.gate.installer import Installer, NotInstalledError, python_of
from pytest_pyhf_faas.gate.processes import StoppedError, lock, run
from pytest_pyhf_faas.gate.reasons import reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.gate.plan import Wanted
    from pytest_pyhf_faas.gate.processes import Interruption

#: A file that marks an environment as complete.
_WHOLE = "pyhf-faas.json"


@dataclass(frozen=True, slots=True)
class Made:
    """An environment on disk.

    Attributes
    ----------
    python : Path
        Its interpreter.
    digest : str
        Of what was asked for, and of what was built for it.
    sources : str
        Of what was built only, except this package: sources may change while the version stays.
    """

    python: Path
    digest: str
    sources: str


@dataclass(slots=True)
class Environments:
    """Makes environments, or finds them.

    Attributes
    ----------
    directory : Path
        Where they are.
    installer : Installer
        The commands that make them.
    interruption : Interruption
        Of the gate.
    fresh : bool
        Whether each is made again, with the present content of an index.
    """

    directory: Path
    installer: Installer
    interruption: Interruption
    fresh: bool = False
    _wheels: dict[tuple[str, str | None], Path | NotInstalledError] = field(default_factory=dict)
    _building: threading.Lock = field(default_factory=threading.Lock)

    def make(self, wanted: Wanted, log: Path) -> Made:
        """Return an environment with what is wanted, and this package.

        Parameters
        ----------
        wanted : Wanted
            What it must have.
        log : Path
            What the installer writes is appended there.

        Raises
        ------
        NotInstalledError
            If it cannot be made; the message is the reason.
        StoppedError
            If the gate was interrupted.
        OSError
            If the disk is full.
        """
        interpreter = self.installer.interpreter(wanted.python)
        own = self._wheel(own_code.DISTRIBUTION, None, log)
        wheels = [self._wheel(name, source, log) for name, source in wanted.sources.items()]
        requirements = [str(own), *map(str, wheels), *wanted.requirements]
        sources = digest([wheel.parent.name for wheel in wheels])
        key = digest(
            interpreter if wanted.python else [sys.base_prefix, sys.version],
            platform.machine(),
            self.installer.name,
            sorted(wanted.requirements),
            own.parent.name,
            sources,
        )
        directory = self.directory / key
        made = Made(python_of(directory), key, sources)
        whole = directory / _WHOLE
        with lock(self.directory / f"{key}.lock", self.interruption):
            if whole.is_file() and not self.fresh:
                return made
            shutil.rmtree(directory, ignore_errors=True)  # an unfinished one
            try:
                for command in (
                    self.installer.make(directory, interpreter),
                    self.installer.install(directory, requirements),
                ):
                    self._run(command, log, wanted.python)
            except BaseException:
                shutil.rmtree(directory, ignore_errors=True)
                raise
            whole.write_text(json.dumps({"python": interpreter, "requirements": requirements}))
        return made

    def _wheel(self, name: str, source: str | None, log: Path) -> Path:
        """Return a wheel of a source, made once for each gate: sources may change."""
        with self._building:
            key = name, source
            if key not in self._wheels:
                try:
                    self._wheels[key] = self._built(name, source, log)
                except NotInstalledError as error:
                    self._wheels[key] = error
            found = self._wheels[key]
        if isinstance(found, NotInstalledError):
            raise NotInstalledError(str(found))
        return found

    def _built(self, name: str, source: str | None, log: Path) -> Path:
        wheels = self.directory / "wheels"
        where = wheels / f"{os.getpid()}"
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        if source is None:
            wheel = own_code.pack(where)
        elif source.endswith(".whl"):
            wheel = Path(shutil.copy(source, where))
        else:
            self._run(self.installer.build(source, where), log, None, building=name)
            (wheel,) = where.glob("*.whl")
        found = wheel.name.partition("-")[0]
        if canonicalize_name(found) != canonicalize_name(name):
            raise NotInstalledError(f"{source} has {found}, and not {name}")
        # By its content, so that making it again finds it.
        try:
            content = own_code.content_digest(wheel)
        except zipfile.BadZipFile as error:
            raise NotInstalledError(f"{source} is damaged: {error}") from error
        kept = wheels / content / wheel.name
        kept.parent.mkdir(exist_ok=True)
        wheel.replace(kept)
        shutil.rmtree(where, ignore_errors=True)
        return kept

    def _run(
        self,
        command: Sequence[str],
        log: Path,
        python: str | None,
        building: str = "",
    ) -> None:
        begin = log.stat().st_size if log.exists() else 0
        status = run(command, log, self.interruption)
        if status == 0:
            return
        if self.interruption.asked:
            raise StoppedError
        with log.open("rb") as written:
            written.seek(begin)
            output = written.read().decode("utf-8", "replace")
        why = reason(output, python or platform.python_version())
        raise NotInstalledError(f"{building} cannot be built: {why}" if building else why)
