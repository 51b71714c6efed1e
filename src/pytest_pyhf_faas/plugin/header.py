"""The header between collection and the first test: what will be fitted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_pyhf_faas.plugin.measuring import scaling_unit
from pytest_pyhf_faas.plugin.options import OPTIONS
from pytest_pyhf_faas.wording import counted, duration, listed

#: How many names are in a line.
_TABLES = 3
_USUAL_TIMEOUT_S = next(option for option in OPTIONS if option.name == "timeout").value(None)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.plugin.context import Context
    from pytest_pyhf_faas.plugin.plan import Need


def plan_lines(context: Context) -> list[str]:
    """Return what will be fitted, after collection."""
    settings, plan = context.settings, context.schedule.plan
    at_most = "at most " if settings.resume else ""
    lines = []
    for (endpoint, pallet, _), need in plan.needs().items():
        first = need.hypotheses[0]
        engine = context.schedule.engine(endpoint)
        workers = f" ({counted(engine.workers, 'worker')})" if engine.workers_known else ""
        label = " (synthetic, no physics)" if first.pallet.synthetic else ""
        expected = [context.schedule.expected_s(task) for task in need.fits]
        trials = settings.trials if need.measured else 1
        at_work = max(1, min(engine.workers, len(need.fits)))
        per_worker = trials / at_work if engine.workers_known else 0.0
        estimate = _estimate(expected, per_worker)
        lines.append(
            f"pyhf-faas: {pallet}{label}: {at_most}{needed(need, trials)} on {endpoint}{workers}, "
            f"{first.config.fit_setup}{f', {at_most}{estimate}' if estimate else ''}"
            + (": --faas-resume takes over earlier ones" if at_most else "")
        )
    for subject in plan.checked:
        whole, engine = subject.pallet, context.schedule.engine(subject.endpoint)
        assert whole is not None
        workers = f" ({counted(engine.workers, 'worker')})" if engine.workers_known else ""
        lines.append(
            f"pyhf-faas: {whole.name}: {at_most}{counted(len(whole.patches), 'fit')} on "
            f"{subject.endpoint}{workers}, {subject.config.fit_setup}, in one item"
            + (": --faas-resume takes over earlier ones" if at_most else "")
        )
    for (endpoint, pallet, patches), counts in plan.scaling.items():
        lines.append(
            f"pyhf-faas: {pallet}: {in_scaling(patches, settings.trials, counts, endpoint)}"
        )
    lines += _limit_lines(context)
    return lines + _publication_lines(context) + _finding_lines(context)


def _limit_lines(context: Context) -> list[str]:
    """Say which time limits will end fits early, as far as the length of fits is known."""
    timeout_s, schedule = context.settings.timeout_s, context.schedule
    longest = [
        (pallet, endpoint, max(filter(None, map(schedule.expected_s, need.fits)), default=None))
        for (endpoint, pallet, _), need in schedule.plan.needs().items()
    ]
    # Of pallets that are checked as a whole, references are read as they are compared.
    longest += [
        (subject.pallet.name, subject.endpoint, None)
        for subject in schedule.plan.checked
        if subject.pallet is not None
    ]
    lines: dict[str, None] = {}
    for pallet, endpoint, longest_s in longest:
        walltime_s = schedule.engine(endpoint).walltime_s
        for line in too_short(pallet, endpoint, longest_s, timeout_s, walltime_s):
            lines[f"pyhf-faas: {line}"] = None
    return list(lines)


def too_short(
    pallet: str,
    endpoint: str,
    longest_s: float | None,
    timeout_s: float | None,
    walltime_s: float | None,
) -> list[str]:
    """Say which time limits are too short for the longest fit of a pallet, or for each other.

    Parameters
    ----------
    pallet, endpoint : str
        What is fitted, and where.
    longest_s : float or None
        How long the longest fit took by its reference, in seconds.
    timeout_s, walltime_s : float or None
        The time limit of a fit, and how long a block lives.
    """
    lines = []
    took = f"{pallet}: warning: a fit took {duration(longest_s or 0.0)} by its reference"
    if longest_s is not None and walltime_s is not None and longest_s > walltime_s:
        lines.append(
            f"{took}, longer than the walltime of a block of {endpoint}, {duration(walltime_s)}: "
            "set a longer walltime in its configuration, and make sure that the queue allows it"
        )
    # The default is longer than many walltimes, and not the user's choice.
    chosen_s = None if timeout_s == _USUAL_TIMEOUT_S else timeout_s
    if chosen_s is not None and walltime_s is not None and chosen_s > walltime_s:
        lines.append(
            f"{endpoint}: warning: --faas-timeout, {duration(chosen_s)}, is longer than the "
            f"walltime of a block, {duration(walltime_s)}, which ends fits before"
        )
    if longest_s is not None and timeout_s is not None and longest_s > timeout_s:
        lines.append(f"{took}, longer than --faas-timeout, {duration(timeout_s)}")
    return lines


def needed(need: Need, trials: int) -> str:
    """Say how many hypotheses are fitted, by how many fits, in how many trials."""
    config = need.hypotheses[0].config
    if config.quantity == "toys":
        those = counted(len(need.hypotheses), "hypothesis")
        return f"{config.toys:,} + {config.toys:,} toys of {those}"
    fits = counted(len(need.fits), "upper limit" if config.quantity == "limit" else "fit")
    shared = len(need.hypotheses) - len(need.fits)
    if shared:
        have = f"{'has' if shared == 1 else 'have'} the same content as "
        have += "another" if shared == 1 else "others"
        fits = f"{counted(len(need.hypotheses), 'hypothesis')}, {fits} ({shared} {have})"
    if trials == 1:
        return fits
    return f"{fits} in each of {trials} trials, {trials * len(need.fits)} in all,"


def in_scaling(patches: int, trials: int, counts: Sequence[int], endpoint: str) -> str:
    """Say how many fits are done with each number of workers or blocks."""
    unit = scaling_unit(endpoint)
    fits = counted(patches, "fit")
    fits += f" in each of {trials} trials" if trials > 1 else ""
    if len(counts) == 1:
        return f"{fits} on {endpoint} with {counted(counts[0], unit.removesuffix('s'))}"
    return (
        f"{fits} on {endpoint} with each of {', '.join(map(str, counts))} {unit}, one after the "
        f"other, {patches * trials * len(counts)} in all"
    )


def _publication_lines(context: Context) -> list[str]:
    """Say what limits are compared with, and which tables are missing."""
    from pytest_pyhf_faas.pallets.catalogue import SEARCH_PATH_VARIABLE, tables_of

    lines = []
    for pallet, found in context.publications.items():
        if found is None:
            if tables_of(pallet) is not None:
                lines.append(
                    f"pyhf-faas: {pallet}: no table of published limits found: put it next to the "
                    f"pallet or in {SEARCH_PATH_VARIABLE} "
                    "(see docs/reference/options.md, --faas-published)"
                )
            continue
        where = listed([path.name for path in found.paths], _TABLES)
        line = f"pyhf-faas: {pallet}: {counted(len(found.expected), 'published limit')} in {where}"
        if found.left_out:
            line += f"; no theory cross section for {listed(found.left_out, _TABLES)}"
        lines.append(line)
    return lines


def _finding_lines(context: Context) -> list[str]:
    """Say which patches of a pallet that is fitted get no CLs, or unexpected ones.

    An error that is the reference of all its patches is as expected.
    """
    fitted = [task for need in context.schedule.plan.needs().values() for task in need.hypotheses]
    expected = {
        (task.pallet.name, task.patch.name)
        for task in fitted
        if (reference := context.schedule.reference(task)) and reference.error is not None
    }
    pallets = {task.pallet.name for task in fitted}
    lines = []
    for check in context.checks():
        pallet = check.pallet
        lines += [f"pyhf-faas: {pallet.name}: {remark}" for remark in pallet.remarks]
        if pallet.name not in pallets:
            continue
        for level, end in (("error", "; the others are fitted"), ("warning", "")):
            found = [
                each
                for each in check.findings
                if each.level == level
                and (level == "warning" or {(pallet.name, n) for n in each.patches} - expected)
            ]
            for first in found[:1]:
                more = f"; {len(found) - 1} more: 'pyhf-faas inspect'" if found[1:] else ""
                which = listed(first.patches, 2)
                lines.append(
                    f"pyhf-faas: {pallet.name}: {level}: {first.text} ({which}){end}{more}"
                )
    return lines


def _estimate(expected_s: Sequence[float | None], per_worker: float) -> str:
    """Say how long some fits will take, as far as it is known how long each took elsewhere."""
    known = [seconds for seconds in expected_s if seconds is not None]
    total_s = sum(known) * per_worker
    if not total_s:
        return ""
    of = "" if len(known) == len(expected_s) else f" for {len(known)} of them"
    return f"about {duration(total_s)}{of}"
