"""``pyhf-faas history DIR``: all runs of a directory on one page, in the order of time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyhf_faas.wording import terminal_width

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "history",
        help="make one page of many runs: verdicts and wall times over time and versions",
        description="Make one page of all reports in a directory and below it, with what "
        "pytest-benchmark stored next to them: for each pallet, endpoint and fit setup, how many "
        "hypotheses are right and how long that took from run to run, and which versions changed "
        "in between. Each point leads to the report of its run.",
        epilog="Exit status: 0 if the page is written, whatever it says; 2 if there is no run in "
        "the directory, or nothing can be written. A file that cannot be used is listed and "
        "skipped.",
    )
    parser.add_argument(
        "directory",
        type=Path,
        metavar="DIR",
        help="directory that contains the directories that --faas-report wrote",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="OUT",
        help="directory for history.html, history.csv and history.json (default: DIR)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Read the reports, write page and tables, and print their summary.

    Raises
    ------
    ReportError
        If there is no run, or nothing can be written.
    """
    from pytest_pyhf_faas.report.history.publish import PAGE, publish_history
    from pytest_pyhf_faas.report.history.read import read_history
    from pytest_pyhf_faas.report.history.text import text

    output = options.directory if options.output is None else options.output
    found = read_history(options.directory, _shown)
    publish_history(found, output)
    sys.stdout.write(f"{text(found, terminal_width())}\n\nhistory: {output / PAGE}\n")
    return 0


def _shown(paths: Sequence[Path]) -> Iterable[Path]:
    """Show progress on a terminal."""
    import tqdm

    shown: Iterable[Path] = tqdm.tqdm(paths, "reports", unit="", leave=False, disable=None)
    return shown
