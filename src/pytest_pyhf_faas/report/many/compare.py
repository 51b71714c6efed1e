"""Find how many runs differ, and what explains it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from statistics import median
from typing import TYPE_CHECKING

from pytest_pyhf_faas.report.comparison.changes import ratio_of
from pytest_pyhf_faas.report.comparison.runs import compare_runs, run_of
from pytest_pyhf_faas.report.many.attribution import Attribution
from pytest_pyhf_faas.report.many.factors import place_of, varying
from pytest_pyhf_faas.report.many.matching import rows_of
from pytest_pyhf_faas.report.many.result import (
    Environment,
    Hypothesis,
    Many,
    Noise,
    Shift,
    VerdictShift,
)
from pytest_pyhf_faas.report.many.values import Values, verdict_of, verdicts_with_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pytest_pyhf_faas.report.comparison.changes import Changes, Moved
    from pytest_pyhf_faas.report.many.attribution import Step
    from pytest_pyhf_faas.report.many.cell import Cell
    from pytest_pyhf_faas.report.many.matching import Fitted, Row


def compare_many(
    cells: Sequence[Cell],
    *,
    rtol: float | None = None,
    atol: float | None = None,
    slower: float | None = None,
) -> Many:
    """Compare runs in many environments, from their reports only.

    Parameters
    ----------
    cells : sequence of Cell
        At least one, each with a name of its own. The first one is what the others are compared
        with; otherwise the order has no meaning.
    rtol, atol, slower : float, optional
        As in `compare_runs`, by which each run is compared with the first.

    Returns
    -------
    Many
        How they differ. Two values differ where a comparison of these two runs says so:
        beyond the larger tolerance of the two, or since they are at other minima.
    """
    environments = [cell.environment for cell in cells]
    rows = rows_of([cell.document for cell in cells])
    known = [cell.is_known for cell in cells]
    unfitted = [cell.unfitted for cell in cells]
    attribution = Attribution(environments, known)
    shifts: dict[Step | None, list[Moved]] = defaultdict(list)
    verdicts: dict[tuple[Step | None, str, str], list[Row]] = defaultdict(list)
    hypotheses = []
    for row in rows:
        values = Values(row, rtol, atol)
        for step, change in _shifts(values, attribution):
            shifts[step].append(change)
        for key in _verdict_shifts(row, unfitted, attribution):
            verdicts[key].append(row)
        hypotheses.append(
            Hypothesis(
                row.analysis,
                row.patch,
                None if row.quantity is None else row.quantity.name,
                tuple(map(verdict_of, row.fitted)),
                values.groups(),
                tuple(sorted(place for place, those in values.differs.items() if those & 1)),
            )
        )
    base = cells[0].document
    fitted = [[row.fitted[place] for row in rows] for place in range(len(cells))]
    return Many(
        environments=tuple(
            _environment(
                cell,
                environments[place],
                None
                if base is None or cell.document is None or not place
                else compare_runs(base, cell.document, rtol=rtol, atol=atol, slower=slower),
                fitted[place],
                fitted[0],
            )
            for place, cell in enumerate(cells)
        ),
        factors=tuple(varying(_as_others_have_it(cells, environments), known)),
        hypotheses=tuple(hypotheses),
        shifts=tuple(sorted((_shift(*each) for each in shifts.items()), key=_place)),
        verdicts=tuple(
            sorted((_verdict_shift(*key, those) for key, those in verdicts.items()), key=_place)
        ),
    )


def _as_others_have_it(
    cells: Sequence[Cell], environments: Sequence[Mapping[str, str]]
) -> list[Mapping[str, str]]:
    """Return what each has; "scipy 1.14" asked for without a run is the 1.14.1 of another."""
    ran = [has for cell, has in zip(cells, environments, strict=True) if cell.document is not None]

    def value(name: str, asked: str) -> str:
        had = (has[name] for has in ran if name in has)
        return next((each for each in had if each.startswith(f"{asked}.")), asked)

    return [
        has
        if cell.document is not None
        else {name: value(name, asked) for name, asked in has.items()}
        for cell, has in zip(cells, environments, strict=True)
    ]


def _shifts(values: Values, attribution: Attribution) -> Iterator[tuple[Step | None, Moved]]:
    """Return the steps that explain how the values of a hypothesis differ, and how far at each."""
    found = attribution.explain(values.differs)
    everywhere = sum(1 << place for place in values.differs)
    sides = (
        [(None, everywhere, everywhere)]
        if found is None
        else [(each.step, each.before, each.after) for each in found]
    )
    for step, before, after in sides:
        change = values.change(before, after)
        if change is not None:
            yield step, change


def _verdict_shifts(
    row: Row, unfitted: Sequence[str | None], attribution: Attribution
) -> Iterator[tuple[Step | None, str, str]]:
    """Return the steps that explain how the verdicts on a hypothesis differ."""
    verdicts = verdicts_with_errors(row, unfitted)
    everywhere = sum(verdicts.values())
    differs = {
        place: everywhere & ~places
        for places in verdicts.values()
        for place in range(len(row.fitted))
        if places >> place & 1
    }

    def words(cells: int) -> str:
        return " or ".join(sorted(word for word, places in verdicts.items() if places & cells))

    found = attribution.explain(differs, lambda before, after: (words(before), words(after)))
    if found is None:
        yield None, words(everywhere), ""
        return
    for each in found:
        yield each.step, words(each.before), words(each.after)


def _shift(step: Step | None, changes: Sequence[Moved]) -> Shift:
    finite = [each for each in changes if math.isfinite(each.relative)]
    return Shift(
        step,
        tuple((each.analysis, each.patch) for each in changes),
        max(finite or changes, key=lambda each: (abs(each.relative), each.analysis, each.patch)),
        len(changes) - len(finite),
    )


def _verdict_shift(step: Step | None, before: str, after: str, rows: Sequence[Row]) -> VerdictShift:
    return VerdictShift(step, before, after, tuple((row.analysis, row.patch) for row in rows))


def _place(shift: Shift | VerdictShift) -> tuple[object, ...]:
    """Return its rank: explained steps first, then those of most hypotheses."""
    words = (shift.before, shift.after) if isinstance(shift, VerdictShift) else ()
    factors = () if shift.step is None else tuple(map(place_of, shift.step.factors))
    return shift.step is None, -len(shift.hypotheses), factors, repr(shift.step), words


def _environment(
    cell: Cell,
    factors: Mapping[str, str],
    changes: Changes | None,
    fitted: Sequence[Fitted | None],
    base: Sequence[Fitted | None],
) -> Environment:
    """Return a cell as a whole, with its changes from the first one."""
    run = None if cell.document is None else run_of(cell.document)
    moved = () if changes is None else changes.moved
    seconds, before = [list(map(_fit_s, each)) for each in (fitted, base)]
    known = [each for each in seconds if each is not None]
    ratios = [
        ratio_of(first, second)
        for first, second in zip(before, seconds, strict=True)
        if first is not None and second is not None
    ]
    return Environment(
        name=cell.name,
        factors=factors,
        is_known=cell.is_known,
        reason=cell.shortfall,
        run=run,
        verdicts=dict(Counter(verdict_of(each) for each in fitted if each is not None)),
        # Values that came or went did so with the verdict, or the error that it is about.
        moved=sum(each.fails and None not in (each.before, each.after) for each in moved),
        noise=_noise([_noise_of(each) for each in moved if not each.fails]),
        fit_s=median(known) if known else None,
        fit_ratio=median(ratios) if ratios else None,
        status=0 if changes is None else changes.status,
    )


def _noise(sizes: Sequence[float]) -> Noise | None:
    known = [size for size in sizes if size]
    return Noise(len(known), median(known), max(known)) if known else None


def _noise_of(moved: Moved) -> float:
    """Return the largest relative change of values that differ by more than what never matters."""
    both = zip(moved.before or (), moved.after or (), strict=True)
    return max(
        (abs(after / before - 1) for before, after in both if abs(after - before) > moved.atol),
        default=0.0,
    )


def _fit_s(fitted: Fitted | None) -> float | None:
    """Return the seconds of a fit that gave an answer."""
    if fitted is None or fitted.hypothesis["status"] != "ok":
        return None
    return fitted.hypothesis["seconds"].get("fit")
