"""What changed between two runs, as the terminal shows it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.report.comparison.changes import MOVED, SLOW_FIT
from pytest_pyhf_faas.report.quantity import CLS, LIMITS
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import folded, listed, printable, shortened, table, with_spread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.report.comparison.changes import (
        Changes,
        Moved,
        OnlyIn,
        ReferenceChange,
        WallTimeChange,
    )

#: CLs from toys, whose tolerance follows from their standard errors.
_TOYS = "toys"
_TITLES = {_TOYS: "CLs from toys"}
_MOVED_SHOWN = 30
_OTHERS_SHOWN = 10
_NAMES_SHOWN = 5
_NAME_WIDTH = 44
#: Labels of all values, six of each quantity.
_LABELS = (*CLS.labels, *LIMITS.labels)
#: Digits of a value, if more are not needed to see the change; and all digits of a number.
_DIGITS, _ALL_DIGITS = 6, 17


def text(changes: Changes, width: int) -> str:
    """Return the text of the changes, the answer first, in lines that fit a width."""
    groups = (
        [answer(changes)],
        _run_lines(changes, width),
        _moved_lines(changes, width),
        *(
            _verdict_lines(changes, kind, title, width)
            for kind, title in (
                ("worse", "verdicts that got worse"),
                ("other", "verdicts that changed, and are not right"),
                ("improved", "verdicts that got better"),
            )
        ),
        _reference_lines(changes, width),
        _only_lines("only in the run before", changes.only_before),
        _only_lines("only in the run after", changes.only_after),
        _wall_time_lines(changes, width),
        _fit_time_lines(changes),
    )
    return folded("\n\n".join("\n".join(group) for group in groups if group), width)


def answer(changes: Changes) -> str:
    """Return one sentence that says what changed."""
    kinds = [change.kind for change in changes.verdicts]
    fails = sum(each.fails for each in changes.moved)
    beyond = f"{fails} beyond the tolerance" if fails else "all within the tolerance"
    ends = [
        _largest(changes),
        beyond if changes.moved else "",
        f"{changes.one_sided} with values in one run alone" if changes.one_sided else "",
        *(
            _counted(len(those), f"reference {what}", f"references {what}")
            for what, those in _reference_kinds(changes).items()
        ),
        _counted(kinds.count("worse"), "verdict got worse", "verdicts got worse")
        or "no verdict got worse",
        _counted(kinds.count("improved"), "got better", "got better"),
        _counted(kinds.count("other"), "changed otherwise", "changed otherwise"),
    ]
    if not changes.compared:
        ends = ["no hypothesis is in both runs"]
    for only, word in ((changes.only_before, "before"), (changes.only_after, "after")):
        count = sum(len(each.patches) for each in only)
        ends.append(_counted(count, f"hypothesis only {word}", f"hypotheses only {word}"))
    if changes.wall_time_ratio is not None:
        ends.append(f"wall time {changes.wall_time_ratio:.2f} x")
    slow = sum(change.slower for change in changes.wall_times)
    ends.append(_counted(slow, "analysis slower than allowed", "analyses slower than allowed"))
    return ", ".join(filter(None, ends))


def _counted(count: int, one: str, several: str) -> str:
    """Return a count in words, and nothing for none."""
    return f"{count} {one if count == 1 else several}" if count else ""


def _largest(changes: Changes) -> str:
    hypotheses = _compared(changes)
    if not changes.moved:
        return f"none of {hypotheses} moved"
    sizes = [abs(each.relative) for each in changes.moved]
    finite = [size for size in sizes if math.isfinite(size)]
    words = [f"at most {max(finite):.1e} relative"] if finite else []
    if len(finite) < len(sizes):
        words.append(f"{len(sizes) - len(finite)} without a ratio")
    others = sum(each.minima is not None for each in changes.moved)
    words += [f"{others} to other minima"] if others else []
    return f"{len(sizes)} of {hypotheses} moved ({', '.join(words)})"


def _compared(changes: Changes) -> str:
    """Return how many hypotheses both runs have; and by quantity, unless the only one is CLs."""
    if set(changes.quantities) == {CLS.name}:
        return _counted(changes.compared, "hypothesis", "hypotheses")
    parts = [f"{name} of {count}" for name, count in changes.quantities.items()]
    return f"{_counted(changes.compared, 'result', 'results')} ({', '.join(parts)})"


def cell_of(name: str) -> str:
    """Return a name for a terminal: without control codes, and not too long."""
    return shortened(printable(name), _NAME_WIDTH, cut="middle")


def _aligned(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int, left: int
) -> list[str]:
    """Return rows as indented lines of columns."""
    shown = [list(map(cell_of, row)) for row in rows]
    return [f"  {line}" for line in table(header, shown, width - 2, left)]


def section(
    title: str,
    rows: Sequence[Sequence[str]],
    shown: int,
    header: Sequence[str],
    *,
    width: int,
    left: int,
) -> list[str]:
    """Return a table with its title, and how many rows it does not show; nothing without rows."""
    if not rows:
        return []
    rest = len(rows) - shown
    more = [f"  ... and {rest} more"] if rest > 0 else []
    return [f"{title}:", *_aligned(header, rows[:shown], width, left), *more]


def _run_lines(changes: Changes, width: int) -> list[str]:
    """Return the two runs, and how they differ."""
    lines = [
        f"{word:7} {run.id}, began {run.began_at}{', interrupted' if run.interrupted else ''}"
        for word, run in (("before:", changes.before), ("after:", changes.after))
    ]
    rows = [(each.where, each.name, each.before, each.after) for each in changes.differences]
    if not rows:
        same = "environments, configurations and backgrounds are the same"
        return [*lines, same] if changes.compared else lines
    header = ("what differs", "", "before", "after")
    return [*lines, *_aligned(header, rows, width, left=4)]


def _moved_lines(changes: Changes, width: int) -> list[str]:
    minima = any(each.minima for each in changes.moved)
    fails = "moved by more than the tolerance" + (", or to other minima" if minima else "")
    least = min([MOVED[0], *(each.rtol for each in changes.moved if each.quantity != _TOYS)])
    moved = f"moved by more than {least:g} relative, within the tolerance"
    groups = [
        _moved_section(
            title,
            [one for one in changes.moved if (one.fails, one.quantity) == (failing, quantity)],
            minima,
            width,
        )
        for title, failing in ((fails, True), (moved, False))
        for quantity in (CLS.name, LIMITS.name, _TOYS)
    ]
    return "\n\n".join("\n".join(group) for group in groups if group).splitlines()


def _moved_section(title: str, moved: Sequence[Moved], minima: bool, width: int) -> list[str]:
    """Return a table of hypotheses that moved, each by the value that did so most.

    Values that are the same for all have no column: one pallet, the absolute tolerance (in the
    title), and the verdict where all are right.
    """
    names = {each.analysis for each in moved}
    atols = {each.atol for each in moved}
    of_toys = {each.quantity for each in moved} == {_TOYS}
    all_right = {each.verdict for each in moved} == {Verdict.RIGHT.value}
    columns = [
        ("pallet", [] if len(names) == 1 else [each.analysis for each in moved]),
        ("patch", [each.patch for each in moved]),
        ("value", [each.value for each in moved]),
        ("before", [_moved_value(each, each.before) for each in moved]),
        ("after", [_moved_value(each, each.after) for each in moved]),
        ("rel. diff", [f"{each.relative:+.1e}" for each in moved]),
        ("rtol", [] if of_toys else [f"{each.rtol:.1e}" for each in moved]),
        ("atol", [] if len(atols) == 1 else [f"{each.atol:.1e}" for each in moved]),
        ("verdict", [] if all_right else [each.verdict for each in moved]),
        ("minima", [" -> ".join(each.minima or ()) for each in moved] if minima else []),
    ]
    kept = [(name, cells) for name, cells in columns if cells]
    rows = list(zip(*(cells for _name, cells in kept), strict=True))
    of, left = (f" of {cell_of(min(names))}", 2) if len(names) == 1 else ("", 3)
    header = [name for name, _cells in kept]
    if len(atols) == 1:
        title += f" (atol {min(atols):g})"
    what = next((_TITLES.get(each.quantity, each.quantity) for each in moved), "")
    return section(f"{what}{of} {title}", rows, _MOVED_SHOWN, header, width=width, left=left)


def _moved_value(moved: Moved, values: tuple[float, ...] | None) -> str:
    """Return the value that moved most, with enough digits to show that."""
    if values is None:
        return "-"
    exponent = math.floor(math.log10(abs(moved.relative))) if 0 < abs(moved.relative) < 1 else 0
    digits = min(max(_DIGITS, 2 - exponent), _ALL_DIGITS)
    return f"{values[_LABELS.index(moved.value) % len(CLS.labels)]:.{digits}g}"


def _verdict_lines(changes: Changes, kind: str, title: str, width: int) -> list[str]:
    rows = [
        (each.analysis, each.patch, each.before, each.after)
        for each in changes.verdicts
        if each.kind == kind
    ]
    header = ("pallet", "patch", "before", "after")
    return section(title, rows, _MOVED_SHOWN, header, width=width, left=4)


def _reference_kinds(changes: Changes) -> dict[str, list[ReferenceChange]]:
    """Return the changed references, by their kind."""
    kinds: dict[str, list[ReferenceChange]] = {}
    for each in changes.references:
        what = "of another background" if each.background else "changed"
        kinds.setdefault(what, []).append(each)
    return kinds


def _reference_lines(changes: Changes, width: int) -> list[str]:
    header = ("pallet", "patch", "before", "after", "largest rel. diff")
    lines = []
    for what, those in _reference_kinds(changes).items():
        rows = [
            (
                each.analysis,
                each.patch,
                _reference_word(each.before),
                _reference_word(each.after),
                f"{each.relative:+.1e}" if math.isfinite(each.relative) else "",
            )
            for each in those
        ]
        title = f"references {'that ' if what == 'changed' else ''}{what} (observed values)"
        lines += section(title, rows, _OTHERS_SHOWN, header, width=width, left=2)
    return lines


def _reference_word(reference: Mapping[str, Any] | None) -> str:
    if reference is None:
        return "none"
    values = reference.get(CLS.stem) or reference.get(LIMITS.stem)
    return reference["error"] or "-" if values is None else f"{float(values[0]):.8g}"


def _only_lines(title: str, only: Sequence[OnlyIn]) -> list[str]:
    rows = []
    for each in only:
        names = _names(each.patches)
        count = _counted(len(each.patches), "hypothesis", "hypotheses") or "no hypotheses"
        whole = "the whole analysis, " if each.whole else ""
        rows.append(f"  {cell_of(each.analysis)}: {whole}{count}{': ' if names else ''}{names}")
    return [f"{title}:", *rows] if rows else []


def _names(names: Sequence[str]) -> str:
    return listed(list(map(printable, names)), _NAMES_SHOWN, 2 * _NAME_WIDTH)


def _wall_time_lines(changes: Changes, width: int) -> list[str]:
    rows = [
        (
            each.analysis,
            _pair(each.before.fits, each.after.fits),
            _pair(each.before.workers, each.after.workers),
            _pair(each.before.trials, each.after.trials),
            with_spread(each.before.mean_s, each.before.stdev_s),
            with_spread(each.after.mean_s, each.after.stdev_s),
            "-" if each.ratio is None else f"{each.ratio:.2f}",
            "-" if each.fit_ratio is None else f"{each.fit_ratio:.2f}",
            _wall_time_word(each),
        )
        for each in changes.wall_times
    ]
    header = (
        *("pallet", "fits", "workers", "trials", "before [s]", "after [s]", "ratio", "of fits"),
        "change",
    )
    return section("wall time", rows, len(rows), header, width=width, left=1)


def _pair(before: int, after: int) -> str:
    return str(before) if before == after else f"{before} -> {after}"


def _wall_time_word(change: WallTimeChange) -> str:
    if change.ratio is None:
        return "not the same fits"
    if change.slower:
        return "slower than allowed"
    if change.beyond_spread is None:
        return "spread unknown"
    if not change.beyond_spread:
        return "within the spread"
    return "slower" if change.ratio > 1 else "faster"


def _fit_time_lines(changes: Changes) -> list[str]:
    lines = []
    for each in changes.fit_times:
        if not each.slow:
            continue
        fits = _names(
            [f"{cell_of(fit.patch)} ({fit.before_s:.1f} -> {fit.after_s:.1f})" for fit in each.slow]
        )
        lines.append(
            f"  {cell_of(each.analysis)}: {len(each.slow)} of {each.fits} (median ratio of all "
            f"{each.median_ratio:.2f}): {fits}"
        )
    times, seconds = SLOW_FIT
    title = f"fits that took more than {times:g} times as long, and {seconds:g} s longer [s]:"
    return [title, *lines] if lines else []
