"""Shape our failures in pytest's own summaries: lines that fit, and no repetition.

junitxml and the report of a failure do not change.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import folded, folded_command, terminal_width

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Up to this many failures for lack of a reference are shown as pytest shows failures.
_MOST_ALIKE = 3
_RERUN = re.compile(r"(?P<indent> *)rerun: +(?P<command>pytest .*)")


class Failures:
    """Prepares pytest's own summaries."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Any:
        """Fold the texts of failures, and leave out those for lack of a reference if many.

        These are in the table of `no_reference` then. They remain failures otherwise: in the count,
        the exit status and ``--lf``. With ``-v`` all are shown.
        """
        stats = terminalreporter.stats
        failed = stats.get("failed", [])
        _fold([*failed, *stats.get("error", [])], terminal_width())
        others = [report for report in failed if not _for_want_of_a_reference(report)]
        if len(failed) - len(others) <= _MOST_ALIKE or terminalreporter.verbosity > 0:
            return (yield)
        stats["failed"] = others
        try:
            return (yield)
        finally:
            stats["failed"] = failed


def _for_want_of_a_reference(report: pytest.TestReport) -> bool:
    return ("verdict", Verdict.NO_REFERENCE.value) in getattr(report, "user_properties", ())


def _fold(reports: Iterable[pytest.TestReport], width: int) -> None:
    """Fold the texts of our failures without a traceback, which are for people.

    Errors of collection are reports of another kind, without keywords.
    """
    for report in reports:
        ours = "faas" in getattr(report, "keywords", ())
        entries = getattr(getattr(report.longrepr, "reprtraceback", None), "reprentries", ())
        if not ours or any(entry.style != "value" for entry in entries):
            continue
        for entry in entries:
            entry.lines = fit("\n".join(entry.lines), width).split("\n")
        crash = getattr(report.longrepr, "reprcrash", None)
        if crash is not None and entries:  # a line of the short summary
            crash.message = crash.message.partition("\n")[0]


def fit(text: str, width: int) -> str:
    """Return the text of a failure in lines that fit; its rerun line remains a command."""
    return "\n".join(
        _rerun(found, width) if (found := _RERUN.fullmatch(line)) else folded(line, width)
        for line in text.split("\n")
    )


def _rerun(found: re.Match[str], width: int) -> str:
    line = found[0]
    if len(line) <= width:
        return line
    head = line[: found.start("command")]
    command = folded_command(found["command"], width - len(head))
    return head + command.replace("\n", "\n" + found["indent"] + 2 * " ")
