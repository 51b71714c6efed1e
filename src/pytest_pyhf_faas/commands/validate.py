"""``pyhf-faas validate``: the validation suite, which pytest runs."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from pytest_pyhf_faas.plugin.command_line import SUITE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_HELP = (["-h"], ["--help"])


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "validate",
        help="fit the hypotheses of pallets and compare each CLs with its reference",
        description="Run the validation suite with pytest, as "
        f"'pytest --pyargs {SUITE} OPTIONS' does: check the endpoint, measure the wall time of "
        "each analysis, and compare each CLs value with its reference.",
        usage="%(prog)s [--] [OPTIONS]",
        epilog="OPTIONS are those of pytest, such as --faas-endpoint, --faas-pallet, "
        "--faas-patch, --faas-report, -k, -x; '%(prog)s -- --help' shows them all. Exit status: "
        "that of pytest, 0 if all is right, 1 if something is wrong or broken, 2 if it was "
        "interrupted, 4 for wrong usage, 5 if there was nothing to do.",
    )
    parser.set_defaults(run=run)


def cut(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split a command line into our words and those for pytest."""
    if words[:1] != ["validate"] or words[1:2] in _HELP:
        return list(words), []
    rest = list(words[1:])
    return ["validate"], rest[1:] if rest[:1] == ["--"] else rest


def run(options: argparse.Namespace) -> int:
    """Run the suite instead of this process, and return pytest's exit status."""
    # A process of its own: pytest must be imported before modules whose assertions it rewrites.
    command = [sys.executable, "-m", "pytest", "--pyargs", SUITE, *options.for_pytest]
    if hasattr(os, "fork"):  # Ctrl-C then reaches only pytest
        os.execv(command[0], command)  # noqa: S606 - the user's own words
    return subprocess.call(command)  # noqa: S603
