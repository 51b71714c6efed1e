"""Compare two runs: match their analyses and hypotheses."""

from __future__ import annotations

import json
from collections import Counter, defaultdict, deque
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Literal, cast

from pytest_pyhf_faas.report.comparison.changes import Changes, Difference, OnlyIn, Run
from pytest_pyhf_faas.report.comparison.hypotheses import (
    is_one_sided,
    moved,
    reference_changes,
    verdict_changes,
)
from pytest_pyhf_faas.report.comparison.inputs import (
    CALCULATION,
    environment_differences,
    input_differences,
)
from pytest_pyhf_faas.report.comparison.wall_times import fit_times, wall_time_change
from pytest_pyhf_faas.report.quantity import CLS, name_of_quantity, quantity_of
from pytest_pyhf_faas.report.wall_times import has_fit_times, wall_time_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from pytest_pyhf_faas.report.comparison.changes import FitTimes, Moved, WallTimeChange
    from pytest_pyhf_faas.report.comparison.hypotheses import Pair
    from pytest_pyhf_faas.report.form import Analysis, Document

_Name = Literal["endpoint", "fit_setup"]
#: What may differ between the two runs, if each run has only one.
_NAMES: tuple[_Name, ...] = ("endpoint", "fit_setup")


def compare_runs(
    before: Document,
    after: Document,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    slower: float | None = None,
) -> Changes:
    """Compare two runs, from their reports only.

    Analyses of one quantity belong together that have the same pallet, endpoint and fit setup
    (backend and optimizer). Where each of the runs has exactly one endpoint, it may have any name,
    so that two endpoints can be compared; the same holds for the fit setup. Of several such
    analyses those with the same configuration belong together first. Hypotheses belong together by
    their patch,
    and by their test where several tests look at one patch.

    Parameters
    ----------
    before, after : Document
        The reports.
    rtol, atol : float, optional
        A value that has moved beyond ``atol + rtol * abs(before)`` fails; by default each
        hypothesis has its own, see `tolerance_of`. Values that moved beyond `MOVED` are listed. Two
        that are not a number are equal; so are, as in `compare`, one that is not and one that
        excludes nothing. Values that only one run has fail, unless the verdict changed with them
        and says so.
    slower : float, optional
        An analysis is slower than allowed if its mean wall time is more than this many times the
        earlier one, and, where both runs have two trials or more, if the means differ by more than
        two standard errors; with a single trial there is no spread, and only the ratio decides.
        At least 1; ``None`` allows all.

    Returns
    -------
    Changes
        What changed.
    """
    runs = (before, after)
    free = tuple(name for name in _NAMES if all(len(_all(run, name)) == 1 for run in runs))

    def who(analysis: Analysis) -> tuple[str, ...]:
        return (
            name_of_quantity(analysis),
            analysis["pallet"],
            *(analysis[name] for name in _NAMES if name not in free),
        )

    def named(analysis: Analysis, *, with_quantity: bool = True) -> str:
        """Return the shortest name that distinguishes an analysis from the others."""
        name = str(analysis["pallet"])
        words: dict[_Name, str] = {"fit_setup": "", "endpoint": "on "}
        for part, word in words.items():
            if any(len(_all(run, part)) > 1 for run in runs):
                name += f" {word}{analysis[part]}"
        quantity = name_of_quantity(analysis)
        return f"{name}, {quantity}" if with_quantity and quantity != CLS.name else name

    analyses, gone, new = _matched(
        before["analyses"], after["analyses"], lambda each: (*who(each), _physics(each)), who
    )
    differences = [
        Difference("run", name.replace("_", " "), *(next(iter(_all(run, name))) for run in runs))
        for name in free
        if _all(before, name) != _all(after, name)
    ]
    differences += environment_differences(before, after, analyses)
    only_before = [_whole(named(each), each) for each in gone]
    only_after = [_whole(named(each), each) for each in new]
    pairs: list[Pair] = []
    compared: Counter[str] = Counter()
    other: list[Moved] = []
    wall_times: list[WallTimeChange] = []
    times_of_fits: list[FitTimes] = []
    for first, second in analyses:
        name = named(first)
        differences += input_differences(name, first, second)
        both, *rests = _matched(
            first["hypotheses"],
            second["hypotheses"],
            lambda each: (each["patch"], each["test"]),
            lambda each: each["patch"],
        )
        quantity = quantity_of(first)
        pairs += [(name, quantity, *pair) for pair in both]
        compared[name_of_quantity(first)] += len(both)
        setups = first["fit_setup"], second["fit_setup"]
        other += moved(quantity, named(first, with_quantity=False), setups, both, rtol, atol)
        for rest, only in zip(rests, (only_before, only_after), strict=True):
            if rest:
                only.append(OnlyIn(name, False, tuple(each["patch"] for each in rest)))
        measured = wall_time_of(first), wall_time_of(second)
        if measured[0] is not None and measured[1] is not None:
            wall_times.append(wall_time_change(name, measured[0], measured[1], slower))
        if has_fit_times(first) and has_fit_times(second):
            times_of_fits += fit_times(name, both)
    others = {named(one) for one, two in analyses if one["digest"] != two["digest"]}
    return Changes(
        before=run_of(before),
        after=run_of(after),
        rtol=rtol,
        atol=atol,
        compared=compared.total(),
        quantities=dict(+compared),
        one_sided=sum(map(is_one_sided, pairs)),
        differences=tuple(dict.fromkeys(differences)),
        moved=tuple(sorted(other, key=lambda each: (not each.fails, -abs(each.relative)))),
        verdicts=tuple(verdict_changes(pairs)),
        references=tuple(reference_changes(pairs, others)),
        only_before=tuple(only_before),
        only_after=tuple(only_after),
        wall_times=tuple(wall_times),
        fit_times=tuple(times_of_fits),
    )


def _matched(
    before: Sequence[Any], after: Sequence[Any], *keys: Callable[[Any], Hashable]
) -> tuple[list[tuple[Any, Any]], list[Any], list[Any]]:
    """Return pairs with equal keys, and what is left of both.

    Items without a pair by the first key are tried with the next one; of those with equal keys
    the first belong together, then the second, and so on.
    """
    pairs: list[tuple[int, int]] = []
    gone, new = list(range(len(before))), list(range(len(after)))
    for key in keys:
        places: dict[Hashable, deque[int]] = defaultdict(deque)
        for place in new:
            places[key(after[place])].append(place)
        same = [(place, places[key(before[place])]) for place in gone]
        pairs += [(place, queue.popleft()) for place, queue in same if queue]
        gone = sorted(set(gone) - {place for place, _ in pairs})
        new = sorted(set(new) - {place for _, place in pairs})
    return (
        [(before[first], after[second]) for first, second in sorted(pairs)],
        [before[place] for place in gone],
        [after[place] for place in new],
    )


def _all(run: Document, name: _Name) -> set[str]:
    """Return the endpoints or the fit setups of a run."""
    return {analysis[name] for analysis in run["analyses"]}


def _physics(analysis: Analysis) -> str:
    config = {name: value for name, value in analysis["config"].items() if name not in CALCULATION}
    return json.dumps(config, sort_keys=True)


def run_of(run: Document) -> Run:
    """Return the run of a report."""
    session = cast("dict[str, Any]", run["run"])
    return Run(**{each.name: session[each.name] for each in fields(Run)})


def _whole(name: str, analysis: Analysis) -> OnlyIn:
    return OnlyIn(name, True, tuple(each["patch"] for each in analysis["hypotheses"]))
