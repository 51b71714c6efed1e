"""The page of many runs: one HTML file that needs nothing else and executes nothing."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pytest_pyhf_faas.report.budgets import size_of, within
from pytest_pyhf_faas.report.many import words
from pytest_pyhf_faas.report.many.factors import ordered
from pytest_pyhf_faas.report.many.result import NO_RUN, Shift, VerdictShift
from pytest_pyhf_faas.report.page import templates
from pytest_pyhf_faas.verdicts import State, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pytest_pyhf_faas.report.many.result import Hypothesis, Many

_Shift = TypeVar("_Shift", Shift, VerdictShift)
#: Bytes for each part that may have any size, and the number of names at a shift.
MATRIX_BYTES = 1_800_000
LIST_BYTES = 100_000
_MOST_NAMES = 100
_SHIFTS = 200
_SQUARE_BYTES = 32
#: Signs that distinguish verdicts of one colour.
_SIGNS = {
    "right": "",
    "right at lowest": "L",
    "right at nominal": "N",
    Verdict.MIXED.value: "M",
    Verdict.UNCONVERGED.value: "U",
    NO_RUN: "–",
}


class _Square(NamedTuple):
    css: str
    sign: str
    title: str


class _Row(NamedTuple):
    name: str
    squares: list[_Square]
    groups: str


def render(many: Many, links: Mapping[str, str], tables: str, json_file: str) -> str:
    """Return the page of many runs.

    Parameters
    ----------
    many : Many
        How they differ.
    links : mapping of str to str
        For environments with a page of their own, by name, where it is.
    tables, json_file : str
        The names of the files that have all values, and all that the page says.

    Returns
    -------
    str
        An HTML file without scripts; of 128 runs with hundreds of hypotheses a few MB.
    """
    header, cells = words.environment_table(many)
    by_name = {row[0]: row for row in cells}
    differing = [each for each in many.hypotheses if each.differs or not _is_right(each)]
    alike = [_name(each) for each in many.hypotheses if not each.differs and _is_right(each)]
    rows = [_row(each) for each in differing]
    return (
        templates()
        .get_template("many.html.j2")
        .render(
            many=many,
            answer=words.answer(many),
            badge=words.badge(many),
            state=words.state(many),
            began=_began(many),
            shifts=_table(words.SHIFT_HEADER, many.shifts, words.shift_cells),
            verdicts=_table(words.VERDICT_HEADER, many.verdicts, words.verdict_cells),
            together=words.TOGETHER if words.changed_together(many) else "",
            most_names=_MOST_NAMES,
            header=header,
            environments=[
                (
                    place + 1,
                    by_name.get(each.name, (each.name,)),
                    links.get(each.name),
                    words.reason_of(each),
                )
                for place, each in enumerate(many.environments)
            ],
            factors=_factors(many),
            same=_same(many),
            matrix=within(rows, MATRIX_BYTES, _bytes),
            differing=len(differing),
            legend=_legend(many),
            alike=alike,
            alike_shown=within(alike, LIST_BYTES, lambda name: 30 + 2 * size_of(name)),
            tables=tables,
            json_file=json_file,
        )
    )


def _table(
    header: Sequence[str], shifts: Sequence[_Shift], cells: Callable[[_Shift], Sequence[str]]
) -> tuple[list[str], list[tuple[list[str], Any]]] | None:
    """Return the columns of a table in which there is something, and the hypotheses of each row."""
    rows = [cells(each) for each in shifts[:_SHIFTS]]
    kept = words.columns_with_something(rows)
    names = [each.hypotheses for each in shifts]
    picked = [
        ([row[place] for place in kept], those) for row, those in zip(rows, names, strict=False)
    ]
    return ([header[place] for place in kept], picked) if rows else None


def _began(many: Many) -> str:
    days = sorted({each.run.began_at[:10] for each in many.environments if each.run is not None})
    return " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""


def _is_right(hypothesis: Hypothesis) -> bool:
    """Whether each environment that has a run says so."""
    return all(
        verdict == NO_RUN or words.verdict_state(verdict) is State.RIGHT
        for verdict in hypothesis.verdicts
    )


def _name(hypothesis: Hypothesis) -> str:
    return f"{hypothesis.analysis}, {hypothesis.patch}"


def _row(hypothesis: Hypothesis) -> _Row:
    moved = set(hypothesis.moved)
    squares = [
        _square(place, verdict, place in moved) for place, verdict in enumerate(hypothesis.verdicts)
    ]
    return _Row(_name(hypothesis), squares, words.groups_of(hypothesis))


def _square(place: int, verdict: str, moved: bool) -> _Square:
    state = words.verdict_state(verdict)
    css = "none" if verdict == NO_RUN else state.css
    title = "" if verdict == "right" and not moved else f"{place + 1}: {verdict}"
    return _Square(f"{css} moved" if moved else css, _sign(verdict), title)


def _sign(verdict: str) -> str:
    return _SIGNS.get(verdict, words.verdict_state(verdict).sign)


def _bytes(row: _Row) -> int:
    squares = sum(_SQUARE_BYTES + len(each.title) for each in row.squares)
    return 150 + size_of(row.name) * 2 + size_of(row.groups[:400]) + squares


def _legend(many: Many) -> list[tuple[str, str]]:
    """Return the legend of the squares that occur."""
    found = {verdict for each in many.hypotheses for verdict in each.verdicts} - {"right"}
    return [("", "right"), *sorted((_sign(verdict), verdict) for verdict in found)]


def _factors(many: Many) -> list[tuple[str, list[tuple[str, int, bool]]]]:
    """Return how environments differ; neighbours with the same value share a cell."""
    found = []
    for name in many.factors:
        values = [each.value(name) for each in many.environments]
        runs = [(value, len(list(those))) for value, those in groupby(values)]
        found.append((name, [(value, count, value != values[0]) for value, count in runs]))
    return found


def _same(many: Many) -> str:
    first = many.environments[0].factors
    return ", ".join(f"{name} {first[name]}" for name in ordered(set(first) - set(many.factors)))
