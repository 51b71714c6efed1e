"""Write a history: the tables first, so that nothing that comes after can lose them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.report.history import tables
from pytest_pyhf_faas.report.publish import check_packages

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_pyhf_faas.report.history.read import History

PAGE = "history.html"


def publish_history(history: History, directory: Path) -> None:
    """Write ``history.json``, ``history.csv`` and ``history.html``.

    Raises
    ------
    ReportError
        If the directory cannot be written to, or the packages that draw the page are not installed.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tables.write_json(history, directory)
        tables.write_csv(history, directory)
        try:
            check_packages()
        except ReportError as error:
            raise ReportError(f"{error}; {tables.JSON} and {tables.CSV} are written") from error
        from pytest_pyhf_faas.report.history.page import render

        page = render(history, directory)
        (directory / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise ReportError(
            f"the history cannot be written to {directory}: {error.strerror or error}. Free some "
            "space, or give --output another directory"
        ) from error
