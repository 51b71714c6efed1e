"""The command ``pyhf-faas`` and its parts."""

from __future__ import annotations

import argparse
import io
import os
import sys
import textwrap
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_pyhf_faas import __version__
from pytest_pyhf_faas.commands import gate, history, inspect, matrix, report, validate
from pytest_pyhf_faas.commands.errors import error_text, write_error
from pytest_pyhf_faas.errors import FaasError
from pytest_pyhf_faas.plugin.command_line import check_words
from pytest_pyhf_faas.wording import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED, UNREAD = 130, 141  # as a shell has them


class _Help(argparse.HelpFormatter):
    """Does not break options at their hyphens."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(one_line(text), width, break_on_hyphens=False)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = self._split_lines(text, width - len(indent))
        return "\n".join(f"{indent}{line}" for line in lines)


class _Parser(argparse.ArgumentParser):
    """Says in a line what is wrong, and where help is."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(allow_abbrev=False, formatter_class=_Help, **keywords)

    def error(self, message: str) -> NoReturn:
        self.exit(2, error_text(f"{message}\n'{self.prog} --help' shows how to use it"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Parameters
    ----------
    arguments : sequence of str or None
        The words after ``pyhf-faas`` on the command line; ``None`` takes them from there.

    Returns
    -------
    int
        The exit status of the command; 2 if it cannot be done, 130 if it was interrupted.

    Raises
    ------
    SystemExit
        With 2 for wrong usage, with 0 after help.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # question marks for letters that a terminal lacks
    parser = _Parser(prog="pyhf-faas", description="Validate published pyhf likelihoods.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (validate, inspect, matrix, report, history, gate):
        command.add_to(commands)
    words, for_pytest = gate.cut(words) if words[:1] == ["gate"] else validate.cut(words)
    try:
        check_words(words)
    except FaasError as error:
        parser.error(str(error))
    options = parser.parse_args(words, argparse.Namespace(for_pytest=for_pytest))
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except FaasError as error:
        write_error(error)
        return 2
    except BrokenPipeError:
        if not _is_nobody_reading():
            raise
        return UNREAD
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return INTERRUPTED
    return status


def _is_nobody_reading() -> bool:
    """Whether the reader of the output has closed it, as ``head`` does; no more is written then."""
    try:
        os.write(sys.stdout.fileno(), b"\n")
    except BrokenPipeError:
        # Python writes the rest at its exit, and would complain as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
