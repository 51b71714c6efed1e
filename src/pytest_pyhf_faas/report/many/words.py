"""The text about many runs: the answer in one sentence, and the words of its tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from pytest_pyhf_faas.report.many.result import NO_RUN, Shift, VerdictShift, plain
from pytest_pyhf_faas.report.quantity import CLS, LIMITS
from pytest_pyhf_faas.verdicts import State
from pytest_pyhf_faas.wording import NOTHING, brief, counted, listed, one_line, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.report.comparison.changes import Moved
    from pytest_pyhf_faas.report.many.attribution import Step
    from pytest_pyhf_faas.report.many.result import Environment, Group, Hypothesis, Many

_Shift = TypeVar("_Shift", Shift, VerdictShift)
#: How many shifts and how many changes of verdicts the answer names.
_MOST, _FEW = 3, 2
_SAID = 90
_DIGITS = 6
#: Digits of values that differ: as many as distinguish them.
_COARSE, _FINE = 4, 8
#: With more groups of values only the range is shown.
_GROUPS = 6
_LABELS = (*CLS.labels, *LIMITS.labels)

UNEXPLAINED = "not explained"
TOGETHER = (
    "Factors with an “or” changed together in these environments: each of them may be the cause."
)


def answer(many: Many) -> str:
    """Return one sentence that says what moved together with what."""
    results = len(many.with_results)
    head = f"{counted(len(many.environments), 'environment')}, {_hypotheses(many)}"
    if not many.environments[0].has_results:
        first = f"the first one, {shortened(many.environments[0].name)}, has no result"
        return f"{head}: {first}, so nothing is compared with it"
    if results == 1:
        return f"{head}: only the first has a result, so nothing was compared"
    clauses = [*_moved(many), *_changed(many)]
    if not many.shifts:
        clauses.insert(0, "no value moved by more than its tolerance")
    if not many.verdicts:
        clauses.append("no verdict changed")
    wrong = sum(any(map(_fails, each.verdicts)) for each in many.hypotheses if not each.differs)
    if wrong:
        clauses.append(f"{counted(wrong, 'hypothesis')} not right, the same in all environments")
    missing = len(many.environments) - results
    if missing:
        clauses.append(f"{counted(missing, 'environment')} without a result")
    partly = sum(_is_missing_somewhere(each, many) for each in many.hypotheses)
    if partly:
        clauses.append(f"{counted(partly, 'hypothesis')} not fitted in at least one of the others")
    return f"{head}: {'; '.join(clauses)}"


def state(many: Many) -> State:
    """Return the overall state of the environments."""
    if not many.environments[0].has_results or len(many.with_results) == 1:
        return State.BROKEN
    if many.status or many.shifts or any(_fails(v) for h in many.hypotheses for v in h.verdicts):
        return State.WRONG
    complete = len(many.with_results) == len(many.environments)
    complete &= not any(_is_missing_somewhere(each, many) for each in many.hypotheses)
    return State.RIGHT if complete else State.INCOMPLETE


def badge(many: Many) -> str:
    """Return that state in a word or two."""
    words = {
        State.RIGHT: "all alike",
        State.INCOMPLETE: "alike, not all of them ran",
        State.BROKEN: "nothing compared",
    }
    alike = "not right" if not many.status and not many.shifts else "not alike"
    return words.get(state(many), alike)


def verdict_state(verdict: str) -> State:
    """Return the state that a verdict is shown as, for any set of minima."""
    return State.INCOMPLETE if verdict == NO_RUN else plain(verdict).state


def _fails(verdict: str) -> bool:
    return verdict != NO_RUN and plain(verdict).fails


def _is_missing_somewhere(hypothesis: Hypothesis, many: Many) -> bool:
    """Whether it was not fitted in an environment in which others were."""
    return any(
        environment.has_results and (verdict == NO_RUN or not plain(verdict).is_fitted)
        for verdict, environment in zip(hypothesis.verdicts, many.environments, strict=True)
    )


def _hypotheses(many: Many) -> str:
    of_cls = all(each.quantity == CLS.name for each in many.hypotheses)
    return counted(len(many.hypotheses), "hypothesis" if of_cls else "result")


def _moved(many: Many) -> list[str]:
    explained = _each_once([each for each in many.shifts if each.step is not None])
    clauses = [f"{len(each.hypotheses)} moved with {said(each.step)}" for each in explained[:_MOST]]
    if explained[_MOST:]:
        clauses.append(f"{counted(len(explained) - _MOST, 'more shift')} explained")
    clauses += [
        f"{len(each.hypotheses)} moved, and no factor explains it"
        for each in many.shifts
        if each.step is None
    ]
    return clauses


def _changed(many: Many) -> list[str]:
    explained = _each_once([each for each in many.verdicts if each.step is not None])
    clauses = [
        f"{counted(len(each.hypotheses), 'verdict')} from {brief(each.before, _SAID)} to "
        f"{brief(each.after, _SAID)} with {said(each.step)}"
        for each in explained[:_FEW]
    ]
    if explained[_FEW:]:
        clauses.append(f"{counted(len(explained) - _FEW, 'more change')} of verdicts explained")
    unexplained = sum(len(each.hypotheses) for each in many.verdicts if each.step is None)
    if unexplained:
        clauses.append(f"{counted(unexplained, 'verdict')} changed, and no factor explains it")
    return clauses


def _each_once(shifts: Sequence[_Shift]) -> list[_Shift]:
    """Return the shifts, but of two factors together the steps of one alone."""
    said: set[tuple[object, ...]] = set()
    found = []
    for each in shifts:
        together = each.step is not None and bool(each.step.where)
        if not together or each.hypotheses not in said:
            found.append(each)
        if together:
            said.add(each.hypotheses)
    return found


# Steps


def said(step: Step | None) -> str:
    """Return a step in words: scipy 1.11.4 → 1.14.1, or numpy 1.26.4 → 2.0.2."""
    if step is None:
        return UNEXPLAINED
    steps = [
        f"{name} {shortened(before)} → {shortened(after)}"
        for name, before, after in zip(step.factors, step.before, step.after, strict=True)
    ]
    where = where_of(step)
    return listed(steps, _MOST, _SAID).replace(", ", " or ") + (f" where {where}" if where else "")


def factor_of(step: Step | None) -> str:
    """Return which factor it is; where several changed together, all of them."""
    return UNEXPLAINED if step is None else " or ".join(step.factors)


def sides_of(step: Step | None) -> tuple[str, str]:
    """Return the values of the factors before and after."""
    if step is None:
        return NOTHING, NOTHING
    if len(step.factors) == 1:
        return step.before[0], step.after[0]
    before, after = (
        ", ".join(f"{name} {value}" for name, value in zip(step.factors, side, strict=True))
        for side in (step.before, step.after)
    )
    return before, after


def where_of(step: Step | None) -> str:
    """Return the values of another factor that a step is limited to."""
    if step is None:
        return ""
    return " or ".join(f"{name} is {' or '.join(v.split(', '))}" for name, v in step.where)


def changed_together(many: Many) -> bool:
    """Whether factors changed together in a step."""
    steps = [shift.step for shift in many.shifts] + [shift.step for shift in many.verdicts]
    return any(step is not None and len(step.factors) > 1 for step in steps)


# Rows of tables


SHIFT_HEADER = (
    *("factor", "from", "to", "where", "hypotheses", "largest shift", "example"),
    *("value", "before", "after"),
)
VERDICT_HEADER = (
    *("factor", "from", "to", "where", "verdict before", "after", "hypotheses", "example"),
)


def columns_with_something(rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the places of the columns that have something in one of the rows."""
    nothing = {"", NOTHING}
    return [place for place, cells in enumerate(zip(*rows, strict=True)) if {*cells} - nothing]


def shift_cells(shift: Shift) -> tuple[str, ...]:
    """Return the cells below `SHIFT_HEADER`."""
    moved = shift.largest
    size = [f"{moved.relative:+.1e}"] if math.isfinite(moved.relative) else []
    size += [f"{moved.minima[0]} → {moved.minima[1]}"] if moved.minima else []
    size += [f"{shift.without_ratio} without a ratio"] if shift.without_ratio else []
    return (
        factor_of(shift.step),
        *sides_of(shift.step),
        where_of(shift.step),
        str(len(shift.hypotheses)),
        ", ".join(size),
        f"{moved.analysis}, {moved.patch}",
        moved.value,
        *(_value(moved, six) for six in (moved.before, moved.after)),
    )


def verdict_cells(shift: VerdictShift) -> tuple[str, ...]:
    """Return the cells below `VERDICT_HEADER`."""
    return (
        factor_of(shift.step),
        *sides_of(shift.step),
        where_of(shift.step),
        shift.before,
        shift.after,
        str(len(shift.hypotheses)),
        ", ".join(shift.hypotheses[0]),
    )


def _value(moved: Moved, six: tuple[float, ...] | None) -> str:
    if six is None:
        return NOTHING
    return f"{six[_LABELS.index(moved.value) % len(CLS.labels)]:.{_DIGITS}g}"


def environment_table(many: Many) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return a header and a row for each environment that has a run."""
    kinds = _kinds_of_verdict(many)
    header = (
        *("environment", *kinds, "moved", "noise", "median", "largest", "fit [s]", "ratio"),
        "against the first",
    )
    rows = [
        (
            each.name,
            *(str(each.verdicts.get(kind, 0)) for kind in kinds),
            *_moved_cells(each, is_base=place == 0),
            NOTHING if each.fit_s is None else f"{each.fit_s:.3g}",
            NOTHING if each.fit_ratio is None else f"{each.fit_ratio:.2f}",
            _against_the_first(many, place),
        )
        for place, each in enumerate(many.environments)
        if each.run is not None
    ]
    return header, rows


def without_what_all_share(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return names without the parts that all of them have, as "scipy 1.14", and these parts."""
    split = [name.split(", ") for name in names]
    shared = [part for part in split[0] if all(part in each for each in split)] if split else []
    rest = [", ".join(part for part in each if part not in shared) for each in split]
    return (rest, shared) if all(rest) and len(set(rest)) == len(set(names)) else (list(names), [])


def _against_the_first(many: Many, place: int) -> str:
    base, environment = many.environments[0], many.environments[place]
    if not base.has_results or not environment.has_results:
        return "no result"
    return "base" if place == 0 else "fails" if environment.status else "passes"


def reason_of(environment: Environment) -> str:
    """Return in a line why an environment has no run, or no finished one, if so."""
    return one_line(environment.reason or ("no report" if environment.run is None else ""))


def _moved_cells(environment: Environment, *, is_base: bool) -> tuple[str, str, str, str]:
    """Return how many hypotheses moved, and how many only within the tolerance, and how far."""
    if is_base:
        return (NOTHING,) * 4
    noise = environment.noise
    if noise is None:
        return str(environment.moved), "0", NOTHING, NOTHING
    sizes = (f"{noise.median:.1e}", f"{noise.largest:.1e}")
    return (str(environment.moved), str(noise.count), *sizes)


def _kinds_of_verdict(many: Many) -> list[str]:
    """Return the verdicts that there are, the right ones first."""
    found = {verdict for each in many.environments for verdict in each.verdicts}
    return sorted(found, key=lambda verdict: (-plain(verdict).severity, verdict))


def groups_of(hypothesis: Hypothesis) -> str:
    """Return the observed values of a hypothesis, and which environments have each."""
    groups = hypothesis.groups
    if len(groups) > _GROUPS:
        return f"{len(groups)} values, {_range(groups[0].lowest, groups[-1].highest)}"
    if len(groups) == 1:
        return _range(groups[0].lowest, groups[0].highest)
    digits = next((d for d in range(_COARSE, _FINE) if _tells_apart(groups, d)), _FINE)
    return "; ".join(
        f"{_range(each.lowest, each.highest, digits)} in {numbers(each.environments)}"
        for each in groups
    )


def _tells_apart(groups: Sequence[Group], digits: int) -> bool:
    return len({_range(each.lowest, each.highest, digits) for each in groups}) == len(groups)


def _range(lowest: float, highest: float, digits: int = _COARSE) -> str:
    least, most = f"{lowest:.{digits}g}", f"{highest:.{digits}g}"
    return least if least == most else f"{least} to {most}"


def numbers(places: Sequence[int]) -> str:
    """Return places as people count them, those in a row as a range: 1–3, 7."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return ", ".join(
        str(run[0] + 1) if len(run) == 1 else f"{run[0] + 1}–{run[-1] + 1}" for run in runs
    )
