"""How pytest's own summaries show failures of ours: in lines that fit, and not many times the same.

What junitxml and the report say of a failure is not changed by that.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import folded, folded_command, terminal_width

if TYPE_CHECKING:
    from collections.abc import Iterable

#: So many failures for want of a reference are shown as pytest shows failures.
_MOST_ALIKE = 3
_RERUN = re.compile(r"(?P<indent> *)rerun: +(?P<command>pytest .*)")


class Failures:
    """Prepares what pytest's own summaries show."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Any:
        """Fold the texts of failures, and leave out those for want of a reference if they are many.

        These are in the table of `no_reference` then. They remain failures in all else: the count,
        the exit status, ``--lf``. With ``-v`` all are shown.
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
    """Fold the texts of failures of ours that are for people, and have no traceback.

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
