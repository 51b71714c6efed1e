"""What a history says in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pyhf_faas.report.history import words
from pytest_pyhf_faas.wording import (
    NOTHING,
    counted,
    folded,
    printable,
    short_uuid,
    shortened,
    table,
    with_spread,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.report.history.points import Key, Point
    from pytest_pyhf_faas.report.history.read import History

_NAME_WIDTH = 60
_ROWS_SHOWN, _LINES_SHOWN, _SKIPPED_SHOWN = 30, 10, 5
_HEADER = ("analysis", "runs", "last run", "hypotheses", "wall time [s]")


def text(history: History, width: int) -> str:
    """Return the text of a history, the answer first, in lines that fit a width."""
    cells = [
        (
            _shown(each.key),
            str(len(each.points)),
            each.points[-1].began_at[:10],
            words.verdicts(each.judged) if each.judged else "no report",
            _wall_time(each.points[-1]),
        )
        for each in history.series
    ]
    said = [
        f"{_shown(each.key)}: {line}"
        for each in history.series
        for line in (
            *([words.changed(each)] if each.changes else []),
            *(f"wall time {words.step(step)}" for step in each.pace.steps),
        )
    ]
    rows = table(_HEADER, cells[:_ROWS_SHOWN], width, left=1) + _more(cells, _ROWS_SHOWN)
    said = said[:_LINES_SHOWN] + _more(said, _LINES_SHOWN)
    groups = ([words.headline(history)], rows, said, _skipped(history))
    return folded("\n\n".join("\n".join(group) for group in groups if group), width)


def _shown(key: Key) -> str:
    """Return a title for a terminal: without control codes, and not too long."""
    title = key._replace(endpoint=short_uuid(key.endpoint)).title
    return shortened(printable(title), _NAME_WIDTH, cut="middle")


def _skipped(history: History) -> list[str]:
    found = history.skipped
    if not found:
        return []
    lines = [f"  {printable(f'{each.path} {each.reason}')}" for each in found[:_SKIPPED_SHOWN]]
    verb = "is" if len(found) == 1 else "are"
    return [
        f"{counted(len(found), 'file')} {verb} not included:",
        *lines,
        *_more(found, _SKIPPED_SHOWN),
    ]


def _wall_time(point: Point) -> str:
    """Return the wall time with its spread and nothing else."""
    measured = point.wall_time
    return NOTHING if measured is None else with_spread(measured.mean_s, measured.stdev_s)


def _more(found: Sequence[object], shown: int) -> list[str]:
    more = len(found) - shown
    return [f"  ... and {more} more: see the page"] if more > 0 else []
