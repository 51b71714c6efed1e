"""``pyhf-faas gate``: the suite in many environments, and one page of all."""

from __future__ import annotations

import sys
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name, is_normalized_name

from pytest_pyhf_faas.commands.choosing import add_options, values_of
from pytest_pyhf_faas.commands.errors import write_error
from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.gate.tables import DESIGNS, FACTORS
from pytest_pyhf_faas.plugin.options import BY_NAME
from pytest_pyhf_faas.wording import (
    brief,
    counted,
    folded,
    listed,
    relative_path,
    terminal_width,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_pyhf_faas.gate.cells import CellDirectory
    from pytest_pyhf_faas.gate.gate import Outcome
    from pytest_pyhf_faas.gate.installer import Installer
    from pytest_pyhf_faas.gate.plan import Plan
    from pytest_pyhf_faas.gate.selection import Selected, Selection

_DIRECTORY = ".pyhf-faas-gate"
_CELLS = "cells"
_OPTIONS = (BY_NAME["pallet"], BY_NAME["patch"])
#: Options that the gate sets for each suite: what is fitted where, and where results are written.
_OWN = (
    *("pallet", "patch", "optimizer", "backend"),
    *("endpoint", "workers", "report", "resume", "update", "dry_run"),
)
#: Options of pytest by which a suite would find its configuration elsewhere, or fit nothing; those
#: of pytest-xdist, which the environments do not have.
_NOT_HERE = (
    *("-c", "--config-file", "--rootdir", "-n", "--numprocesses", "--dist"),
    *("-h", "--help", "-V", "--version", "--co", "--collect-only", "--setup-plan"),
)
_INTERRUPTED = 130


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "gate",
        help="run the validation suite with many versions of pyhf, SciPy and others, and compare",
        description="Run the validation suite in many environments, and make one page of all: "
        "which hypotheses moved with which version. Environments are made with uv, or venv and "
        "pip, and kept; an interrupted gate continues when it is started again.",
        usage="%(prog)s [FILE] [options] [-- OPTIONS]",
        epilog="OPTIONS are those of the suite, such as --faas-timeout. Values of a factor: "
        "0.7.6 is a version, 1.9 a series, 0.7.0..0.7.6 a range, latest and pre the newest ones "
        "of the package index; main (of pyhf), a directory, a wheel or git+URL is built; "
        "NAME=PATH gives it a name. The first value of each is the base that is compared with. "
        "Exit status: 0 if no environment differs from the base by more than its tolerance or is "
        "worse, 1 if one does, or has no run, 2 if nothing can be compared, 130 if it "
        "was interrupted.",
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="a gate as TOML")
    for name in FACTORS:
        parser.add_argument(f"--{name}", metavar="V,V,...", help=f"values of {name}")
    parser.add_argument(
        "--with",
        dest="versions",
        action="append",
        default=[],
        metavar="NAME=V,V",
        help="values of another distribution, such as iminuit=2.24,2.30; may be repeated",
    )
    parser.add_argument(
        "--design",
        choices=DESIGNS,
        help="combine all values, or vary each factor alone from the base (default: product)",
    )
    add_options(parser, _OPTIONS)
    parser.add_argument(
        "--directory",
        type=Path,
        metavar="DIR",
        default=Path(_DIRECTORY),
        help=f"where results and page are written (default: {_DIRECTORY})",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="how many environments run at once (default: one for each core); they share the cores",
    )
    parser.add_argument(
        "--resume", action="store_true", help="continue the gate in DIR, with the same options"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="make all environments and run all suites again"
    )
    parser.add_argument("--dry-run", action="store_true", help="only list the environments")
    parser.set_defaults(run=partial(run, parser))


def cut(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into our words and those for the suite."""
    if "--" not in words:
        return list(words), []
    place = words.index("--")
    return list(words[:place]), list(words[place + 1 :])


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Make environments, run the suite in each, compare, and write one page.

    Returns
    -------
    int
        The exit status: that of the comparison; 1 if one of the environments has no run;
        130 if it was interrupted, after the page of the finished runs was made.

    Raises
    ------
    FaasError
        If the gate makes no sense, a pallet cannot be read, or the page cannot be written.
    """
    from pytest_pyhf_faas.engines import usable_cores
    from pytest_pyhf_faas.gate import kept
    from pytest_pyhf_faas.gate.cells import CellDirectory
    from pytest_pyhf_faas.gate.environments import Environments
    from pytest_pyhf_faas.gate.gate import Gate
    from pytest_pyhf_faas.gate.installer import Installer
    from pytest_pyhf_faas.gate.processes import Interruption, check_system
    from pytest_pyhf_faas.pallets.download import cache_directory
    from pytest_pyhf_faas.report.publish import check_packages
    from pytest_pyhf_faas.session.display import StreamDisplay

    check_system()
    check_packages()
    if options.jobs is not None and options.jobs < 1:
        parser.error(f"--jobs {options.jobs}: at least one must run")
    installer = Installer.here()
    directory = options.directory.absolute()
    if options.resume:
        _check_that_nothing_else_is_asked(options)
        plan, selections = kept.read(directory)
    else:
        plan, selections = _asked(options, installer)
    combinations = plan.combinations()
    found = _selected(selections)
    cells = [CellDirectory(each, directory / _CELLS / each.directory) for each in combinations]
    _say(_announced(cells, found, installer.name))
    if options.dry_run:
        return 0
    kept.keep(plan, selections, directory)
    interruption = Interruption()
    cores = usable_cores()
    jobs = min(options.jobs or cores, len(cells))
    gate = Gate(
        cells,
        Environments(cache_directory() / "environments", installer, interruption, options.fresh),
        found,
        [*_references(plan.words), *plan.words],
        jobs=jobs,
        workers=max(cores // jobs, 1),
        display=StreamDisplay(sys.stderr),
        interruption=interruption,
        fresh=options.fresh,
    )
    with interruption.watch():
        outcomes = gate.run()
    status = _compared(cells, outcomes, directory)
    if interruption.asked:
        _say("interrupted: the same command, or pyhf-faas gate --resume, continues")
        return _INTERRUPTED
    return status


def _announced(cells: Sequence[CellDirectory], found: Selected, installer: str) -> str:
    made = len({cell.combination.wanted for cell in cells})
    what = (
        f"{counted(len(cells), 'environment')}, {counted(found.hypotheses, 'hypothesis')} in each"
    )
    shared = f"; {installer} makes {made}, which fit setups share" if made < len(cells) else ""
    base, *others = (f"  {cell.combination.name}" for cell in cells)
    notes = (f"left out: {brief(why)}" for why in found.left_out)
    return "\n".join([f"{what}{shared}", f"{base} (the base)", *others, *notes])


# --- the request --------------------------------------------------------------------------


def _check_that_nothing_else_is_asked(options: argparse.Namespace) -> None:
    """Refuse words that --resume would ignore.

    Raises
    ------
    ConfigurationError
        If there are any.
    """
    factors = [getattr(options, name) for name in FACTORS]
    pallets = [getattr(options, option.dest) for option in _OPTIONS]
    given = [*factors, *pallets, options.file, options.versions, options.design, options.for_pytest]
    if any(given):
        raise ConfigurationError(
            "--resume repeats the options of the last gate in --directory: leave out the others. "
            "Or leave out --resume: finished environments with the same options are reused"
        )


def _asked(options: argparse.Namespace, installer: Installer) -> tuple[Plan, list[Selection]]:
    """Return the plan of options and file, the options first; the index resolves ranges."""
    from pytest_pyhf_faas.gate import tables
    from pytest_pyhf_faas.gate.plan import FIT_SETUP, PRODUCT, Plan
    from pytest_pyhf_faas.gate.selection import Selection
    from pytest_pyhf_faas.gate.versions import anywhere, resolved

    def found(name: str, values: Sequence[str], here: Path) -> list[str]:
        """Return values of a factor, with absolute paths; a fit setup has none."""
        return [value if name in FIT_SETUP else anywhere(value, here) for value in values]

    written = tables.read(options.file) if options.file else tables.Written()
    here = options.file.absolute().parent if options.file else Path.cwd()
    given = {name: getattr(options, name) for name in FACTORS}
    for text in options.versions:
        name, equals, values = text.partition("=")
        if not equals:
            raise ConfigurationError(
                f"--with {text}: write NAME=V,V, such as --with iminuit=2.24,2.30"
            )
        given[name.strip()] = values
    factors = {
        **{name: found(name, values, here) for name, values in written.factors.items()},
        **{
            name: found(name, tables.split(text), Path.cwd())
            for name, text in given.items()
            if text is not None
        },
    }
    for name, texts in factors.items():
        if not texts:
            raise ConfigurationError(f"{name} has no value: give one, or leave {name} out")
        if not is_normalized_name(canonicalize_name(name)):
            raise ConfigurationError(f"{name!r} is not the name of a distribution")
    if not factors:
        raise ConfigurationError(
            "the gate varies nothing: name versions, for example --pyhf 0.7.5,0.7.6, or a file"
        )
    values = {
        name: tuple(texts)
        if name in FIT_SETUP
        else tuple(dict.fromkeys(v for t in texts for v in resolved(name, t, installer.available)))
        for name, texts in factors.items()
    }
    words = (*_suite_words(written.suite, here), *options.for_pytest)
    _check(words)
    pallets = values_of(options, _OPTIONS)
    chosen = list(written.selections)
    if options.faas_pallet or options.faas_patch or not chosen:
        chosen = [Selection(pallets["pallet"], pallets["patch"])]
    elif options.file:
        chosen = [_from(here, each) for each in chosen]
    return Plan(values, options.design or written.design or PRODUCT, written.exclude, words), chosen


def _from(here: Path, selection: Selection) -> Selection:
    """Return a selection whose paths start at the file that has it."""
    place = BY_NAME["pallet"].place
    assert place is not None
    specs = tuple(place(here, spec) for spec in selection.specs)
    return replace(selection, specs=specs)


def _suite_words(suite: Mapping[str, Any], here: Path) -> Iterable[str]:
    """Yield the options of the suite in a file as words of its command line."""
    for name, value in suite.items():
        option = BY_NAME.get(name)
        if option is None or name in _OWN:
            known = sorted(set(BY_NAME) - set(_OWN))
            raise ConfigurationError(
                f"[suite] has {name}, which is none of {listed(known, len(known))}"
            )
        texts = [str(each) for each in value] if isinstance(value, list) else [str(value)]
        if option.place is not None:
            texts = [option.place(here, text) for text in texts]
        if not option.switch:
            yield from option.words(texts if option.many else ",".join(texts))
        elif value:
            yield option.flags[0]


def _check(words: Sequence[str]) -> None:
    """Refuse what the gate sets itself, and what the suite does not know.

    Raises
    ------
    ConfigurationError
        With what to give instead.
    """
    own = {*_NOT_HERE, *(flag for name in _OWN for flag in BY_NAME[name].flags)}
    known = {flag for option in BY_NAME.values() for flag in option.flags}
    for word in words:
        flag = word.partition("=")[0]
        if flag in own or (word[1:2] != "-" and word[:2] in own):
            raise ConfigurationError(
                f"{word} cannot follow --, because the gate sets it: give pallets, "
                "patches, optimizers and backends before --, how many run at once with --jobs, and "
                "where results are written with --directory"
            )
        if flag.startswith("--faas-") and flag not in known:
            raise ConfigurationError(f"the suite has no option {flag}{_meant(flag, known)}")


def _meant(flag: str, known: Iterable[str]) -> str:
    near = get_close_matches(flag, sorted(known), 1)
    return f": do you mean {near[0]}?" if near else ""


def _selected(selections: Sequence[Selection]) -> Selected:
    from pytest_pyhf_faas.gate.selection import selected
    from pytest_pyhf_faas.pallets import catalogue

    search_path = catalogue.search_path_from_environment()
    return selected(selections, partial(catalogue.resolve, search_path=search_path))


def _references(words: Sequence[str]) -> list[str]:
    """Return the option for the references of this directory: the suite runs in another."""
    from pytest_pyhf_faas.references.store import DIRECTORY

    flag = BY_NAME["reference_dir"].flags[0]
    here = Path.cwd() / DIRECTORY
    given = any(word.startswith(flag) for word in words)
    return [f"{flag}={here}"] if here.is_dir() and not given else []


# --- the results ----------------------------------------------------------------------------


def _compared(cells: Sequence[CellDirectory], outcomes: Sequence[Outcome], directory: Path) -> int:
    """Compare the runs, print the result, write the page, and return the exit status."""
    from pytest_pyhf_faas.report import markdown
    from pytest_pyhf_faas.report.many.cell import Cell
    from pytest_pyhf_faas.report.many.compare import compare_many
    from pytest_pyhf_faas.report.many.publish import publish_many
    from pytest_pyhf_faas.report.many.text import text
    from pytest_pyhf_faas.report.publish import append_job_summary

    read = [
        # What an earlier gate left is not part of this one.
        cell.run(outcome.reason)
        if outcome.reason is None or outcome.begun
        else Cell(cell.combination.name, dict(cell.combination.factors), None, outcome.reason)
        for cell, outcome in zip(cells, outcomes, strict=True)
    ]
    found = compare_many(read)
    sys.stdout.write(f"{text(found, terminal_width())}\n")
    _say(f"page: {relative_path(publish_many(found, read, directory))}")
    problems = append_job_summary(markdown.comparison(partial(text, found)))
    for problem in problems:
        write_error(problem)
    without_a_run = any(outcome.reason is not None for outcome in outcomes)
    return found.status or int(without_a_run or bool(problems))


def _say(text: str) -> None:
    sys.stdout.write(f"{folded(text, terminal_width())}\n")
    sys.stdout.flush()
