"""The runs that are compared: one in each environment, or the reason why there is none."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report.many.factors import factors_of, telling_apart, with_asked
from pytest_pyhf_faas.report.whole import read_all
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import brief, counted, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pytest_pyhf_faas.report.form import Document

FILE = "cell.json"
_REASON = 300


@dataclass(frozen=True, slots=True)
class Cell:
    """One environment of several, and its run.

    Attributes
    ----------
    name : str
        Short and unique, as "pyhf 0.7.6, scipy 1.14.1, minuit".
    factors : mapping of str to str
        What was asked for, as ``{"pyhf": "0.7.6", "scipy": "1.14", "optimizer": "minuit"}``;
        `factors.with_asked` adds what the run really had.
    document : Document or None
        Its report; ``None`` where there is none.
    reason : str or None
        Why there is none, in one line.
    directory : Path or None
        Where its report and its page are.
    """

    name: str
    factors: Mapping[str, str]
    document: Document | None
    reason: str | None = None
    directory: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What it computed with, or what was asked for where that is unknown or says more."""
        real = {} if self.document is None else factors_of(self.document)
        return with_asked(real, self.factors)

    @property
    def is_known(self) -> bool:
        """Whether `environment` is complete: its workers reported it with their fits."""
        return self.document is not None and bool(self.document["environments"])

    @property
    def shortfall(self) -> str | None:
        """Why it has no run, no finished run, or no result."""
        if self.reason or self.document is None:
            return self.reason
        return "its run was interrupted" if self.document["run"]["interrupted"] else self.unfitted

    @property
    def unfitted(self) -> str | None:
        """Why a finished run has no result at all, if so."""
        if self.document is None or self.document["run"]["interrupted"] or self.reason:
            return None
        return None if _has_results(self.document) else _why_nothing_was_fitted(self.document)


def read_cell(path: Path) -> Cell:
    """Read a run and, from ``cell.json`` next to it, what was asked for.

    Parameters
    ----------
    path : Path
        A directory with ``report.json``, ``cell.json`` or both, or a ``report.json`` itself.

    Returns
    -------
    Cell
        Without a ``cell.json`` it has no name yet: `named` gives it one. With one, a report that
        is missing or cannot be read is a reason, not an error.

    Raises
    ------
    ReportError
        If there is neither, or what there is cannot be read.
    """
    directory, report = (path, path / documents.FILE) if path.is_dir() else (path.parent, path)
    if not (directory / FILE).is_file():
        return Cell("", {}, read_all(path), directory=directory)
    fields = _read_file(directory / FILE)
    cell = Cell(fields["name"], fields["factors"], None, fields["reason"], directory)
    if not report.is_file():
        return replace(cell, reason=cell.reason or "it has no report")
    try:
        return replace(cell, document=read_all(report))
    except ReportError as error:
        return replace(cell, reason=cell.reason or one_line(error))


def named(cells: Iterable[Cell]) -> list[Cell]:
    """Return the cells, each with a name that no other has.

    A cell without a name is named after what distinguishes it, such as its versions; where
    nothing does, by its directory.
    """
    cells = list(cells)
    apart = telling_apart([cell.environment for cell in cells])
    found = [replace(cell, name=cell.name or own) for cell, own in zip(cells, apart, strict=True)]
    taken = Counter(cell.name for cell in found)
    found = [_with_directory(cell) if taken[cell.name] > 1 else cell for cell in found]
    return _numbered(found)


def _has_results(document: Document) -> bool:
    return any(
        Verdict(hypothesis["verdict"]).is_fitted
        for analysis in document["analyses"]
        for hypothesis in analysis["hypotheses"]
    )


def _why_nothing_was_fitted(document: Document) -> str:
    """Return what failed before the fits: the exception, where there is one, and its cause."""
    failures = [each["text"] for endpoint in document["endpoints"] for each in endpoint["failures"]]
    failures += [each["text"] for each in document["run"]["failures"]]
    if not failures:
        return "no hypothesis was fitted"
    lines = failures[0].strip().splitlines()
    return brief("; ".join(map(one_line, lines[1:3] or lines)), _REASON)


def _with_directory(cell: Cell) -> Cell:
    where = "" if cell.directory is None else cell.directory.name or str(cell.directory)
    return replace(cell, name=", ".join(filter(None, [cell.name, where])))


def _numbered(cells: Sequence[Cell]) -> list[Cell]:
    """Return the cells; those that still have one name with a number behind it."""
    seen: Counter[str] = Counter()
    found = []
    for cell in cells:
        seen[cell.name] += 1
        again = seen[cell.name]
        found.append(cell if again == 1 else replace(cell, name=f"{cell.name} ({again})"))
    return found


def _read_file(path: Path) -> dict[str, Any]:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ReportError(
            f"{path} is not JSON ({error}): it is truncated, or another kind of file. Run the "
            "gate again"
        ) from error
    expected = {"name": str, "factors": dict, "reason": str | None}
    fields = {"reason": None, **fields} if isinstance(fields, dict) else {}
    wrong = [name for name, kind in expected.items() if not isinstance(fields.get(name), kind)]
    wrong = wrong or [
        f"factors/{n}" for n, v in fields["factors"].items() if not isinstance(v, str)
    ]
    if wrong:
        raise ReportError(
            f"{path} is not the {FILE} of an environment: {counted(len(wrong), 'field')} missing "
            f"or of the wrong type ({', '.join(wrong)}). Run the gate again"
        )
    return fields
