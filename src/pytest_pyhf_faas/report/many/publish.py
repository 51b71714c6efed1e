"""Write how many runs differ: JSON and tables first, so that nothing is lost if the page fails."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.report import csv_tables
from pytest_pyhf_faas.report.many import words
from pytest_pyhf_faas.report.many.factors import ordered
from pytest_pyhf_faas.report.many.page import render
from pytest_pyhf_faas.report.publish import PAGE as PAGE_OF_RUN
from pytest_pyhf_faas.report.publish import link_to

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pytest_pyhf_faas.report.many.cell import Cell
    from pytest_pyhf_faas.report.many.result import Many

PAGE = "index.html"
JSON = "comparison.json"
TABLE = "environments.csv"


def publish_many(many: Many, cells: Sequence[Cell], directory: Path) -> Path:
    """Write how many runs differ.

    Parameters
    ----------
    many : Many
        What `compare_many` found.
    cells : sequence of Cell
        The runs that it was found in.
    directory : Path
        Created if it does not exist.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    ReportError
        If something cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        content = {"answer": words.answer(many), **many.to_json()}
        _write(directory / JSON, json.dumps(content, indent=1, allow_nan=False) + "\n")
        _write_environments(many, directory / TABLE)
        runs = [({"environment": c.name}, c.document) for c in cells if c.document is not None]
        tables = csv_tables.write_runs(runs, directory)
        links = {cell.name: _link(cell, directory) for cell in cells}
        page = render(
            many, {n: link for n, link in links.items() if link}, " and ".join(tables), JSON
        )
        _write(directory / PAGE, page)
    except OSError as error:
        raise ReportError(
            f"the page of these runs cannot be written to {directory}: "
            f"{error.strerror or error}. Free some space, or give another directory"
        ) from error
    return directory / PAGE


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _link(cell: Cell, directory: Path) -> str:
    """Return where the page of a run lies, from the directory of this page, if there is one."""
    if cell.directory is None or not (cell.directory / PAGE_OF_RUN).is_file():
        return ""
    return link_to(cell.directory / PAGE_OF_RUN, directory)


def _write_environments(many: Many, path: Path) -> None:
    """Write a row for each environment: its name, why it has no run, and all that it has."""
    names = ordered(name for each in many.environments for name in each.factors)
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["environment", "no_run", *names])
        for each in many.environments:
            values = (each.factors.get(name) for name in names)
            writer.writerow([each.name, "" if each.run else each.reason, *values])
