"""The page of a history: one HTML file that needs nothing else and executes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from pytest_pyhf_faas import __version__
from pytest_pyhf_faas.report.budgets import size_of, within
from pytest_pyhf_faas.report.history import plot, words
from pytest_pyhf_faas.report.page import templates
from pytest_pyhf_faas.report.quantity import CLS, LIMITS
from pytest_pyhf_faas.wording import NOTHING, listed, relative_path

if TYPE_CHECKING:
    from collections.abc import Container, Sequence
    from pathlib import Path

    from pytest_pyhf_faas.report.comparison.changes import Moved
    from pytest_pyhf_faas.report.history.points import Point
    from pytest_pyhf_faas.report.history.read import History, Skipped
    from pytest_pyhf_faas.report.history.series import Change, Series, Shift

#: How many series are drawn, those with most runs first; the others are tables.
MOST_PLOTS = 30
#: Bytes of the page for the runs of all series, the changes, and what was left out.
ROW_BYTES, CHANGE_BYTES, SKIPPED_BYTES = 1_250_000, 500_000, 100_000
#: A longer table of runs is closed.
_OPEN_ROWS = 12
#: How many hypotheses that changed in the same way are named.
_PATCHES = 6
_COLUMNS = ("analysis", "runs", "last run", "hypotheses", "verdicts that changed", "wall time")


class _Row(NamedTuple):
    """A run; `changed` are the names of versions that changed."""

    point: Point
    versions: Sequence[tuple[str, str]]
    changed: frozenset[str]
    inputs: Sequence[Shift]


class _ChangeRow(NamedTuple):
    """Hypotheses that changed in the same way."""

    change: Change
    before: str
    after: str
    patches: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Part:
    """A series as the page shows it."""

    series: Series
    svg: str
    times: str
    pace: Sequence[str]
    changes: Sequence[_ChangeRow]
    all_changes: int
    rows: Sequence[_Row]


def render(history: History, directory: Path) -> str:
    """Return the page of a history.

    Parameters
    ----------
    history : History
        The runs.
    directory : Path
        Where the page will be: its links to the reports are relative to it.
    """
    pages = templates()
    pages.filters |= {
        "link": partial(words.link, directory=directory),
        "date": words.date_of,
        "verdicts": words.verdicts,
        "wall_time": words.wall_time,
        "fit_time": words.fit_time,
        "machine": words.machine,
        "state": words.state_of,
        "changed": words.changed,
        "said": words.said,
        "place": partial(_place, history),
    }
    return pages.get_template("history.html.j2").render(
        history=history,
        headline=words.headline(history),
        state=words.state(history),
        columns=_COLUMNS,
        parts=_parts(history, directory),
        skipped=within(
            history.skipped,
            SKIPPED_BYTES,
            lambda each: 20 + size_of(str(each.path)) + size_of(each.reason),
        ),
        most_runs=plot.MOST_RUNS,
        open_rows=_OPEN_ROWS,
        named_patches=_PATCHES,
        own_version=__version__,
    )


def _parts(history: History, directory: Path) -> list[_Part]:
    share = len(history.series)
    most_first = sorted(history.series, key=lambda each: -len(each.points))
    drawn = {id(each): number for number, each in enumerate(most_first[:MOST_PLOTS])}
    return [
        _part(
            series,
            plot.draw(series, directory, drawn[id(series)]) if _is_drawn(series, drawn) else "",
            ROW_BYTES // share,
            CHANGE_BYTES // share,
        )
        for series in history.series
    ]


def _is_drawn(series: Series, drawn: Container[int]) -> bool:
    """Whether there is room for a plot, and more than one run to draw."""
    return id(series) in drawn and len(series.points) > 1


def _part(series: Series, svg: str, row_bytes: int, change_bytes: int) -> _Part:
    rows = [
        _Row(
            point,
            words.versions(point),
            frozenset(each.name for each in shifts),
            [each for each in shifts if each.name not in point.versions],
        )
        for point, shifts in zip(series.points, series.shifts, strict=True)
    ]
    changes = [row for change in reversed(series.changes) for row in _change_rows(change)]
    return _Part(
        series=series,
        svg=svg,
        times=words.steps(series),
        pace=words.pace(series),
        changes=within(changes, change_bytes, _change_bytes),
        all_changes=len(changes),
        rows=within(reversed(rows), row_bytes, _row_bytes),
    )


def _change_rows(change: Change) -> list[_ChangeRow]:
    """Return a row for each change of a verdict, and for each value that moved."""
    alike: dict[tuple[str, str], list[str]] = {}
    for each in change.verdicts:
        alike.setdefault((each.before, each.after), []).append(each.patch)
    for moved in change.moved:
        said = f"{moved.verdict}, {moved.value} "
        values = (_value(moved, moved.before), _value(moved, moved.after))
        alike.setdefault((said + values[0], said + values[1]), []).append(moved.patch)
    return [_ChangeRow(change, *both, patches) for both, patches in alike.items()]


def _value(moved: Moved, values: Sequence[float] | None) -> str:
    """Return the value that moved most."""
    place = next(
        each.labels.index(moved.value) for each in (CLS, LIMITS) if moved.value in each.labels
    )
    return NOTHING if values is None else f"{values[place]:.6g}"


def _change_bytes(row: _ChangeRow) -> int:
    return 600 + size_of(listed(row.patches, _PATCHES)) + size_of(words.said(row.change.shifts))


def _row_bytes(row: _Row) -> int:
    facts = "".join(name + version for name, version in row.versions)
    return 900 + size_of(facts) + size_of(words.machine(row.point))


def _place(history: History, skipped: Skipped) -> str:
    return relative_path(skipped.path, history.directory)
