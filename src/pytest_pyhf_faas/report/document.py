"""The report of a run as JSON: read, checked and written.

Its form is `data/report.schema.json`; `docs/reference/report-json.md` explains it.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.schemas import accepted_by_own_schema, own_schema
from pytest_pyhf_faas.wording import shortened

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_pyhf_faas.report.form import Document

SCHEMA = "report.schema.json"
VERSION = 3
FILE = "report.json"

_REMEDY = "Run again with --faas-report"
_MESSAGE = 300


def read(path: Path) -> Document:
    """Read a report.

    Parameters
    ----------
    path : Path
        A ``report.json``, or the directory that it lies in.

    Raises
    ------
    ReportError
        If there is none, or this version cannot read it.
    """
    try:
        path = path / FILE if path.is_dir() else path
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except OSError as error:
        raise ReportError(
            f"the report {path} cannot be read: {error.strerror or error}. Give the directory "
            f"that --faas-report wrote, or the {FILE} in it"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ReportError(
            f"the report {path} is not JSON ({error}): it is truncated, or not a report. {_REMEDY}"
        ) from error
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise ReportError(
            f"the report {path} has version {version}, this package reads only up to {VERSION}: "
            "upgrade pytest-pyhf-faas"
        )
    if version in (1, 2):
        document = _from_version_2(document)
    if not accepted_by_own_schema(document, SCHEMA):
        raise ReportError(f"the report {path} is not valid: {_why_not(document)}. {_REMEDY}")
    checked: Document = document
    return checked


def write(document: Document, directory: Path) -> Path:
    """Write a report as ``report.json`` into a directory, and return its path.

    Raises
    ------
    ReportError
        If the directory cannot be written to.
    """
    path = directory / FILE
    # So that no reader ever sees half a report.
    unfinished = path.with_suffix(".part")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(
            json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n",
            encoding="utf-8",
            errors="backslashreplace",
        )
        unfinished.replace(path)
    except OSError as error:
        raise ReportError(
            f"the report cannot be written to {directory}: {error.strerror or error}. Free some "
            "space, or give --faas-report another directory"
        ) from error
    return path


def _from_version_2(old: dict[str, Any]) -> dict[str, Any]:
    """Return a report of version 1 or 2 as one of version 3.

    A fit setup was called a combination, a fixed known issue `mended`, and version 1 did not know
    several minima. The schema refuses what does not fit.
    """
    with contextlib.suppress(AttributeError, KeyError, TypeError):
        return {
            **old,
            "schema_version": VERSION,
            "analyses": [
                {
                    **_with_fit_setup(analysis),
                    "hypotheses": [_hypothesis_from_version_2(h) for h in analysis["hypotheses"]],
                }
                for analysis in old["analyses"]
            ],
            "scaling": [_with_fit_setup(entry) for entry in old["scaling"]],
        }
    return {**old, "schema_version": VERSION}


def _with_fit_setup(old: Mapping[str, Any]) -> dict[str, Any]:
    return {"fit_setup" if name == "combination" else name: part for name, part in old.items()}


def _hypothesis_from_version_2(old: Mapping[str, Any]) -> dict[str, Any]:
    verdict = "fixed" if old["verdict"] == "mended" else old["verdict"]
    return {"minimum_set": None, "ambiguous": None, **old, "verdict": verdict}


def _why_not(document: Any) -> str:
    import jsonschema

    error = jsonschema.exceptions.best_match(
        jsonschema.Draft7Validator(own_schema(SCHEMA)).iter_errors(document)
    )
    if error is None:
        return "it violates the schema"
    where = "/".join(map(str, error.absolute_path)) or "the top level"
    # The message begins with the value, and ends with the problem.
    return f"{where}: {shortened(error.message, _MESSAGE, cut='middle')}"


def _refuse(word: str) -> None:
    """Refuse what Python reads, but JSON does not have."""
    raise ValueError(f"it contains the number {word}")
