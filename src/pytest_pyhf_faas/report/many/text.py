"""How many runs differ, as the terminal shows it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pytest_pyhf_faas.report.comparison.text import section
from pytest_pyhf_faas.report.many import words
from pytest_pyhf_faas.report.many.factors import order_of
from pytest_pyhf_faas.wording import folded, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.report.many.result import Many

_SHOWN = 30


def text(many: Many, width: int) -> str:
    """Return the text about many runs, the answer first, in lines that fit a width."""
    shifts = [words.shift_cells(each) for each in many.shifts]
    verdicts = [words.verdict_cells(each) for each in many.verdicts]
    header, environments = words.environment_table(many)
    names, shared = words.without_what_all_share([row[0] for row in environments])
    environments = [(name, *row[1:]) for name, row in zip(names, environments, strict=True)]
    having = f" with {', '.join(shared)}" if shared else ""
    groups = (
        [printable(words.answer(many))],
        _table("moved by more than the tolerance", words.SHIFT_HEADER, shifts, width),
        _table("verdicts that changed", words.VERDICT_HEADER, verdicts, width),
        [words.TOGETHER] if words.changed_together(many) else [],
        _table(f"environments{having}, the first to compare with", header, environments, width),
        _without_run(many),
        _factor_lines(many),
    )
    return folded("\n\n".join("\n".join(group) for group in groups if group), width)


def _table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> list[str]:
    """Return a table without its empty columns."""
    kept = words.columns_with_something(rows)
    shown = [[row[place] for place in kept] for row in rows]
    named = [header[place] for place in kept]
    return section(title, shown, _SHOWN, named, width=width, left=1)


def _without_run(many: Many) -> list[str]:
    lines = [
        f"  {printable(each.name)}: {printable(words.reason_of(each))}"
        for each in many.environments
        if words.reason_of(each)
    ]
    return ["not run, or not finished:", *lines] if lines else []


def _factor_lines(many: Many) -> list[str]:
    """Return how the environments differ: the values of each factor, and how many have them."""
    lines = []
    for name in many.factors:
        counts = Counter(each.value(name) for each in many.environments)
        values = (f"{value} ({counts[value]})" for value in sorted(counts, key=order_of))
        lines.append(printable(f"  {name}: {', '.join(values)}"))
    return ["differences, and how many environments have each value:", *lines] if lines else []
