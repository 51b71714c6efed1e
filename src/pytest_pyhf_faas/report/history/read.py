"""A directory of reports becomes a history. They are read one by one, in the order of time."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.report import document as documents
from pytest_pyhf_faas.report.history import benchmarks
from pytest_pyhf_faas.report.history.points import key_of, point_of
from pytest_pyhf_faas.report.history.series import Series
from pytest_pyhf_faas.wording import counted, relative_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_pyhf_faas.report.form import Analysis
    from pytest_pyhf_faas.report.history.points import Key, Point

    #: Shows progress over some paths, as `tqdm.tqdm` does.
    Progress = Callable[[Sequence[Path]], Iterable[Path]]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file that is not part of the history, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class History:
    """The runs of a directory.

    Attributes
    ----------
    directory : Path
        Where the search began.
    runs : int
        How many of them are in a series.
    series : tuple of Series
        One for each pallet, endpoint, fit setup, quantity and configuration.
    skipped : tuple of Skipped
        What could not be used.
    """

    directory: Path
    runs: int
    series: tuple[Series, ...]
    skipped: tuple[Skipped, ...]


def read_history(directory: Path, progress: Progress = iter) -> History:
    """Read all reports below a directory, and what pytest-benchmark stored next to them.

    Only the points of each report are kept, and for each series the hypotheses of the last run
    that fitted them, so memory does not grow with the size of all reports.

    Parameters
    ----------
    directory : Path
        All ``report.json`` in it and below count, and all ``.benchmarks/*/*.json``.
    progress : callable, optional
        Is given the files, which are read twice, and returns them one by one.

    Returns
    -------
    History
        What cannot be read, and what is there twice, is named in it.

    Raises
    ------
    ReportError
        If there is no such directory, or no run in it.
    """
    reports, stored, skipped = _files(directory)
    dated, stored_points = _dated(directory, [*reports, *stored], progress, skipped)
    series: dict[Key, Series] = {}
    runs = set()

    def add(key: Key, point: Point, analysis: Analysis | None = None) -> None:
        series.setdefault(key, Series(key)).add(point, analysis)
        runs.add(point.run)

    for path in progress([path for _began_at, path in sorted(dated)]):
        if path in stored_points:
            for key, point in stored_points[path]:
                add(key, point)
            continue
        try:
            document = documents.read(path)
        except ReportError as error:  # it was readable a moment ago
            skipped.append(_skipped(path, error))
            continue
        for analysis in document["analyses"]:
            add(key_of(analysis), point_of(document, analysis, path), analysis)
    if not series:
        raise ReportError(_nothing(directory, skipped))
    found = sorted(series.values(), key=lambda each: each.key)
    return History(directory, len(runs), tuple(found), tuple(skipped))


def _files(directory: Path) -> tuple[list[Path], list[Path], list[Skipped]]:
    """Return the reports, the files of pytest-benchmark, and what cannot be read."""
    reports: list[Path] = []
    stored: list[Path] = []
    errors: list[OSError] = []
    for place, _folders, names in os.walk(directory, onerror=errors.append):
        here = Path(place)
        reports += [here / name for name in names if name == documents.FILE]
        if here.parent.name == benchmarks.STORAGE:
            stored += [here / name for name in names if name.endswith(".json")]
    if not directory.is_dir() or any(Path(error.filename) == directory for error in errors):
        why = errors[0].strerror if errors else "it is not a directory"
        raise ReportError(
            f"cannot make a history of {directory}: {why}. Give a directory that contains "
            "the directories that --faas-report wrote"
        )
    unread = [
        Skipped(Path(error.filename), f"cannot be read: {error.strerror}") for error in errors
    ]
    return sorted(reports), sorted(stored), unread


def _dated(
    directory: Path, paths: Sequence[Path], progress: Progress, skipped: list[Skipped]
) -> tuple[list[tuple[str, Path]], dict[Path, list[tuple[Key, Point]]]]:
    """Return when each run began, and the points of runs that only pytest-benchmark stored.

    Reports come first, so that what pytest-benchmark has of the same run is not counted again.
    """
    known: dict[str, Path] = {}
    dated: list[tuple[str, Path]] = []
    stored: dict[Path, list[tuple[Key, Point]]] = {}
    for path in progress(paths):
        try:
            if path.name != documents.FILE or path.parent.parent.name == benchmarks.STORAGE:
                points = [each for each in benchmarks.points_in(path) if each[1].run not in known]
                if points:
                    stored[path] = points
                    dated.append((points[0][1].began_at, path))
                continue
            document = documents.read(path)
        except ReportError as error:
            skipped.append(_skipped(path, error))
            continue
        run = document["run"]
        first = known.setdefault(run["id"], path)
        if first is not path:
            skipped.append(Skipped(path, f"is the same run as {_relative(directory, first)}"))
        elif not document["analyses"]:
            skipped.append(Skipped(path, "has no analysis"))
        else:
            dated.append((run["began_at"], path))
    return dated, stored


def _skipped(path: Path, error: ReportError) -> Skipped:
    """Return the reason without the path, which is shown next to it."""
    return Skipped(path, str(error).replace(f"the report {path} ", "").replace(f"{path} ", ""))


def _relative(directory: Path, path: Path) -> str:
    return relative_path(path, directory)


def _nothing(directory: Path, skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return (
            f"there is no {documents.FILE} in {directory} or below it, and nothing that "
            "pytest-benchmark stored: give a directory that contains the directories that "
            "--faas-report wrote"
        )
    reasons = Counter(each.reason for each in skipped).most_common(1)
    first = next(each for each in skipped if each.reason == reasons[0][0])
    return (
        f"cannot make a history of {directory}: none of {counted(len(skipped), 'file')} can be "
        f"used. {_relative(directory, first.path)} {first.reason}"
    )
