"""Write a report: the JSON first, so that no later failure can lose it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.report import csv_tables, hepdata
from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report.whole import remove_others
from pytest_pyhf_faas.wording import relative_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pyhf_faas.report.form import Document


PAGE = "report.html"
PLOTS = "plots"
#: The packages of the extra `report`, with the names to import them by.
_PACKAGES = {"jinja2": "jinja2", "matplotlib": "matplotlib", "PyYAML": "yaml"}


def check_packages() -> None:
    """Check that a page can be made here.

    Raises
    ------
    ReportError
        If a package that it needs is not installed.
    """
    from importlib.util import find_spec

    missing = [name for name, module in _PACKAGES.items() if find_spec(module) is None]
    if missing:
        raise ReportError(
            f"a report needs {' and '.join(missing)}, not installed here: "
            "pip install 'pytest-pyhf-faas[report]'"
        )


def check_place(place: Path) -> None:
    """Check that a report can be written to a place, before hours are spent on it.

    Parameters
    ----------
    place : Path
        As for `publish`.

    Raises
    ------
    ReportError
        If not.
    """
    if not is_json_alone(place):
        check_packages()
    directory = _directory(place)
    probe = directory / f"{documents.FILE}.probe"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ReportError(
            f"the report cannot be written to {directory}: {error.strerror or error}. Give "
            "--faas-report a directory of your own"
        ) from error


def is_json_alone(place: Path) -> bool:
    """Whether only the JSON is to be written to a place."""
    return place.name == documents.FILE


def _directory(place: Path) -> Path:
    return place.parent if is_json_alone(place) else place


def main_file(place: Path) -> Path:
    """Return the file of a report that a person opens."""
    return place if is_json_alone(place) else place / PAGE


def publish(document: Document, place: Path) -> list[str]:
    """Write a report's JSON, its tables, its plots and its page.

    Parameters
    ----------
    document : Document
        The report.
    place : Path
        A directory, or the ``report.json`` in it, where only that is to be written.

    Returns
    -------
    list of str
        What went wrong with parts made from the JSON, which itself is complete.

    Raises
    ------
    ReportError
        If the JSON cannot be written.
    """
    directory = _directory(place)
    written = documents.write(document, directory)
    remove_others(document, directory)
    problems: list[str] = []
    if is_json_alone(place):
        return problems
    for what, write_part in _PARTS.items():
        try:
            write_part(document, directory)
        except Exception as error:  # noqa: BLE001 - a part that fails must not hide the results
            cause = str(error) if isinstance(error, ReportError) else repr(error)
            problems.append(
                f"{what} of the report could not be made ({cause}); {written} is complete: "
                f"`pyhf-faas report {directory}`"
            )
    return problems


def _write_page(document: Document, directory: Path) -> None:
    """Write the page and its plots."""
    check_packages()
    from pytest_pyhf_faas.report.page import render
    from pytest_pyhf_faas.report.plots import KINDS, draw

    plots = draw(document)
    page = render(document, plots)
    (directory / PLOTS).mkdir(exist_ok=True)
    for earlier in (directory / PLOTS).iterdir():
        if earlier.stem.startswith(KINDS):  # of a run that had other analyses
            earlier.unlink()
    for plot in plots:
        (directory / PLOTS / f"{plot.name}.svg").write_bytes(plot.svg)
        (directory / PLOTS / f"{plot.name}.png").write_bytes(plot.png)
    (directory / PAGE).write_text(page, encoding="utf-8", errors="backslashreplace")


_PARTS: dict[str, Callable[[Document, Path], None]] = {
    "a table": csv_tables.write,
    "the HEPData submission": hepdata.write,
    "the page": _write_page,
}


def link_to(file: Path, directory: Path) -> str:
    """Return where a file is for a page in a directory, as a relative URL."""
    path = relative_path(file.resolve(), directory.resolve())
    return quote(path.replace(os.sep, "/"), errors="surrogateescape")


def append_job_summary(text: str) -> list[str]:
    """Append Markdown to the summary of the CI job, if this runs in one; return problems."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        return []
    try:
        with Path(path).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError as error:
        return [f"the summary of the job cannot be written to {path}: {error.strerror or error}"]
    return []
