"""``pyhf-faas report A [B ...]``: rebuild a report, or compare two runs or many."""

from __future__ import annotations

import argparse
import json
import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyhf_faas.commands.errors import write_error
from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.wording import terminal_width

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_pyhf_faas.report.comparison.changes import Changes
    from pytest_pyhf_faas.report.many.result import Many


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "report",
        help="rebuild the report of a run, or compare two runs or many",
        description="Rebuild page, plots and tables of a run, or compare two runs: which CLs "
        "values and upper limits moved, which verdicts got worse, and what got slower; or many "
        "runs in as many environments: what moved together with which version.",
        epilog="Exit status: 0 if all is well; 1 if a value moved by more than "
        "its backend and optimizer may differ, a verdict got worse, an analysis got slower than "
        "allowed, or a part of a report could not be drawn; 2 if a report cannot be read or "
        "written.",
    )
    parser.add_argument(
        "run_directory",
        type=Path,
        metavar="A",
        help="directory that --faas-report wrote, or its report.json",
    )
    parser.add_argument(
        "others",
        type=Path,
        metavar="B",
        nargs="*",
        help="a later run to compare with A; or several, each in its own environment",
    )
    parser.add_argument(
        "--rtol",
        type=_at_least(0),
        help="fail if a value moved beyond ATOL + RTOL * |value of A| (default: the tolerance "
        "of each hypothesis, by its reference file, or else 1e-4 for SciPy and 1e-3 for Minuit); "
        "what moved beyond 1e-6 is listed",
    )
    parser.add_argument("--atol", type=_at_least(0), help="(default: as for RTOL, or else 1e-6)")
    parser.add_argument(
        "--fail-slower",
        type=_at_least(1),
        metavar="FACTOR",
        help="fail if a mean wall time is more than FACTOR times that of A, and differs by more "
        "than two standard errors where both have several trials, such as 1.2 (default: never)",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the changes as JSON; - writes them, and no text"
    )
    parser.add_argument(
        "--page",
        type=Path,
        metavar="DIR",
        help="write a page of all runs to a directory, with tables of all values",
    )
    parser.set_defaults(run=partial(run, parser))


def run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    """Draw, or compare.

    Returns
    -------
    int
        The exit status: 0 if all is well; 1 if a CLs value moved too far, a verdict changed and did
        not get better, or an analysis got slower than allowed (see `Changes.status`), or if a part
        of a report could not be drawn.

    Raises
    ------
    ReportError
        If a report cannot be read or written.
    """
    if not options.others and (options.json or options.fail_slower or options.page):
        parser.error("--json, --fail-slower and --page compare two runs or more: name them")
    if not options.others:
        return _draw(options.run_directory)
    several = len(options.others) > 1 or options.page is not None
    return _compare_many(options) if several else _compare(options)


def _draw(path: Path) -> int:
    """Rebuild the page, plots and tables of a report next to it."""
    from pytest_pyhf_faas.report import csv_tables, document, hepdata
    from pytest_pyhf_faas.report.publish import publish

    report = document.read(path)
    directory = path if path.is_dir() else path.parent
    problems = publish(report, directory)
    for problem in problems:
        write_error(problem)
    if problems:
        return 1
    tables = [each.file for each in csv_tables.QUANTITIES if (directory / each.file).is_file()]
    _say(f"page, plots, {', '.join(tables)} and {hepdata.DIRECTORY}/ are in {directory}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from pytest_pyhf_faas.report.comparison import runs, text
    from pytest_pyhf_faas.report.whole import read_all

    found = runs.compare_runs(
        read_all(options.run_directory),
        read_all(options.others[0]),
        rtol=options.rtol,
        atol=options.atol,
        slower=options.fail_slower,
    )
    return _print(options, found, text.answer(found), partial(text.text, found))


def _compare_many(options: argparse.Namespace) -> int:
    from pytest_pyhf_faas.report.many import text, words
    from pytest_pyhf_faas.report.many.cell import named, read_cell
    from pytest_pyhf_faas.report.many.compare import compare_many
    from pytest_pyhf_faas.report.publish import check_packages

    if options.page is not None:
        check_packages()
    cells = named(map(read_cell, [options.run_directory, *options.others]))
    found = compare_many(cells, rtol=options.rtol, atol=options.atol, slower=options.fail_slower)
    status = _print(options, found, words.answer(found), partial(text.text, found))
    if options.page is not None:
        from pytest_pyhf_faas.report.many.publish import publish_many

        page = publish_many(found, cells, options.page)
        if options.json != "-":
            _say(f"page: {page}")
    return status


def _print(
    options: argparse.Namespace, found: Changes | Many, answer: str, text: Callable[[int], str]
) -> int:
    """Write what changed, as text or as JSON, and in the summary of a CI job."""
    from pytest_pyhf_faas.report import markdown
    from pytest_pyhf_faas.report.publish import append_job_summary

    problems = append_job_summary(markdown.comparison(text))
    for problem in problems:
        write_error(problem)
    as_json = json.dumps({"answer": answer, **found.to_json()}, indent=1, allow_nan=False)
    if options.json == "-":
        _say(as_json)
    elif options.json:
        try:
            Path(options.json).write_text(f"{as_json}\n", encoding="utf-8")
        except OSError as error:
            raise ReportError(
                f"the changes cannot be written to {options.json}: {error.strerror or error}. "
                "Give --json another file"
            ) from error
    if options.json != "-":
        _say(text(terminal_width()))
    return found.status or int(bool(problems))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _at_least(minimum: float) -> Callable[[str], float]:
    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not minimum <= value < math.inf:
            raise argparse.ArgumentTypeError(f"{text!r} must be a number, {minimum:g} or more")
        return value

    return number
