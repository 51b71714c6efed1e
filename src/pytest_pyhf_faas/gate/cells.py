"""The directory of one run of a gate: what was asked for, its progress, and its results."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report.many.cell import FILE as CELL
from pytest_pyhf_faas.report.many.cell import Cell
from pytest_pyhf_faas.report.publish import PAGE

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_pyhf_faas.gate.plan import Combination

#: For the next gate.
_STATE = "gate.json"
_CACHE = ".pytest_cache"
#: Exit statuses of a finished suite: all is right, or something is wrong.
ENDED = (0, 1)


@dataclass(frozen=True, slots=True)
class CellDirectory:
    """One run of a gate, on disk.

    Attributes
    ----------
    combination : Combination
        The environment and the fit setup of the run.
    path : Path
        Where it is.
    """

    combination: Combination
    path: Path

    @property
    def install_log(self) -> Path:
        """What the installer wrote."""
        return self.path / "install.log"

    @property
    def suite_log(self) -> Path:
        """What the suite wrote."""
        return self.path / "suite.log"

    @property
    def lock(self) -> Path:
        """The lock of the process that runs the suite here."""
        return self.path / ".lock"

    @property
    def words(self) -> list[str]:
        """Options that make the suite write everything here, and read no ini file."""
        return [
            f"--config-file={self.path / 'pytest.ini'}",
            f"--faas-report={self.report}",
        ]

    @property
    def report(self) -> Path:
        """The report of the run."""
        return self.path / documents.FILE

    @property
    def page(self) -> Path:
        """The page of only this run."""
        return self.path / PAGE

    def is_finished(self, digest: str) -> bool:
        """Whether a run of the same content has finished, whether or not its gate has."""
        if self._state().get("digest") != digest:
            return False
        try:
            run = documents.read(self.path)["run"]
        except ReportError:
            return False
        return run["exit_status"] in ENDED and not run["interrupted"]

    def run(self, reason: str | None = None) -> Cell:
        """Return the run, with its report if there is one, for a comparison."""
        document = documents.read(self.path) if self.report.exists() else None
        factors = dict(self.combination.factors)
        return Cell(self.combination.name, factors, document, reason, self.path)

    def begin(self, digest: str, sources: str) -> bool:
        """Prepare a run, and return whether an earlier one left results to reuse.

        By --faas-resume, which looks at versions; sources may change while their version stays.
        """
        same = self._state().get("sources") == sources
        if not same:
            shutil.rmtree(self.path / _CACHE, ignore_errors=True)
        self.forget()
        self._write(_STATE, {"digest": digest, "sources": sources})
        (self.path / "pytest.ini").write_text("[pytest]\n")
        return same and any((self.path / _CACHE / "d" / "pyhf-faas").glob("*.jsonl"))

    def record(self, reason: str | None) -> None:
        """Write what this is a run of, and why it has no result."""
        fields = {
            "name": self.combination.name,
            "factors": dict(self.combination.factors),
            "reason": reason,
        }
        self._write(CELL, fields)

    def forget(self) -> None:
        """Remove the report of an earlier run with another content."""
        for name in (documents.FILE, PAGE, _STATE):
            (self.path / name).unlink(missing_ok=True)

    def _state(self) -> dict[str, Any]:
        try:
            state = json.loads((self.path / _STATE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def _write(self, name: str, fields: dict[str, Any]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        unfinished = self.path / f"{name}.part"
        unfinished.write_text(json.dumps(fields, indent=1) + "\n", encoding="utf-8")
        unfinished.replace(self.path / name)
