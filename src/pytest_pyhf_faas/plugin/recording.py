"""The hooks that make a report: they see how each item ends, and write the document of the run.

The process that runs an item takes notes on it (`notes`); the one that sees all items puts them
together (`book`).
"""

from __future__ import annotations

import secrets
import shlex
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_pyhf_faas.campaign.results import WorkerEnvironment
from pytest_pyhf_faas.campaign.tasks import worker_sha256
from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.plugin.book import Book, Ended
from pytest_pyhf_faas.plugin.context import existing_context
from pytest_pyhf_faas.plugin.options import without_secrets
from pytest_pyhf_faas.plugin.subjects import role_of, subject_of
from pytest_pyhf_faas.plugin.summaries import Summary, summaries_of
from pytest_pyhf_faas.redaction import redacted
from pytest_pyhf_faas.report.answer import added_up
from pytest_pyhf_faas.report.document import VERSION
from pytest_pyhf_faas.report.publish import main_file
from pytest_pyhf_faas.report.whole import part_notes
from pytest_pyhf_faas.wording import folded, relative_path, terminal_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pytest_pyhf_faas.plugin.context import Context
    from pytest_pyhf_faas.report.form import Document, Environment, TestFailure

PLUGIN = "pyhf-faas-report"


class Recording:
    """Sees how all items of a session end, and makes the document of it."""

    def __init__(self, config: pytest.Config, place: Path, plane: tuple[str, str] | None) -> None:
        self._config = config
        self._place = place
        self._plane = plane
        self._problems: list[str] = []
        self._written = False
        self._began = datetime.now(timezone.utc)
        self._items: dict[str, Ended] = {}
        self._planned: list[pytest.Item] = []
        self.run_id = f"{self._began:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Record the selected items, unless the session ends because of errors in them."""
        context = existing_context(session.config)
        if context is not None and context.problems:
            return
        self._planned = list(session.items)
        self._expect(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: Sequence[str]) -> None:
        """Record the selected items, on the controller of xdist."""
        del node
        self._expect(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the outcome of an item."""
        self._items.setdefault(report.nodeid, Ended()).add(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Name the run in what pytest-benchmark stores."""
        output_json["pyhf_faas"] = {"run": self.run_id}

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Any:
        """Write the report, when all processes have sent their notes."""
        outcome = yield
        if not self._items:
            return outcome
        from pytest_pyhf_faas.plugin.terminal import written_lines
        from pytest_pyhf_faas.report.markdown import summarize
        from pytest_pyhf_faas.report.publish import append_job_summary, publish

        facts = summaries_of(self._config)
        context = existing_context(self._config)
        notes = [note for fact in facts for note in fact["notes"]]
        notes += written_lines(facts)
        try:
            document = self._document(int(session.exitstatus), context, facts, notes)
            self._problems += publish(document, self._place)
            self._written = True
            self._problems += append_job_summary(summarize(document))
        except ReportError as error:
            self._problems.append(str(error))
        if self._problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return outcome

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print where the report is."""
        for problem in self._problems:
            terminalreporter.write_line(folded(problem, terminal_width()), red=True)
        if self._written and not self._problems:
            file = relative_path(main_file(self._place), self._config.invocation_params.dir)
            terminalreporter.write_line(f"report: {file}")

    def _document(
        self,
        exit_status: int,
        context: Context | None,
        facts: Sequence[Summary],
        notes: Sequence[str],
    ) -> Document:
        ended = datetime.now(timezone.utc)
        book = Book()
        hypotheses = {item.nodeid: item for item in self._planned if role_of(item) == "compare"}
        failures: list[TestFailure] = []
        for nodeid, item in self._items.items():
            covered = "hypothesis" in item.note or "whole" in item.note
            if item.note:
                book.add(item)
            elif context is not None and nodeid in hypotheses:
                subject = subject_of(hypotheses[nodeid], context.settings)
                covered = book.add_unfitted(subject, item)
            if not covered and item.outcome in ("failed", "error"):
                failures.append({"test": nodeid, "outcome": item.outcome, "text": item.text})
        for fact in facts:
            book.add_timelines(fact["timelines"])
        book.add_planes(self._plane)
        outcomes = [item.outcome for item in self._items.values()]
        notes = [*notes, *part_notes(list(book.analyses.values()))]
        words = ["pytest", *without_secrets(map(str, self._config.invocation_params.args))]
        return {
            "schema_version": VERSION,
            "run": {
                "id": self.run_id,
                "began_at": f"{self._began:%Y-%m-%dT%H:%M:%SZ}",
                "ended_at": f"{ended:%Y-%m-%dT%H:%M:%SZ}",
                "seconds": round((ended - self._began).total_seconds(), 3),
                "command": redacted(shlex.join(words)),
                "exit_status": int(exit_status),
                "interrupted": exit_status == pytest.ExitCode.INTERRUPTED
                or any(fact["interrupted"] for fact in facts),
                "package": _own_version(),
                "tests": {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)},
                "failures": failures,
                "benchmark_files": self._benchmark_files(),
                "worker_sha256": worker_sha256(),
                "fits": added_up([fact["fits"] for fact in facts]),
            },
            "client": _client(),
            "environments": book.environments,
            "endpoints": book.endpoints(facts),
            "analyses": list(book.analyses.values()),
            "scaling": list(book.scaling.values()),
            "notes": [redacted(note) for note in notes],
        }

    def _expect(self, nodeids: Iterable[str]) -> None:
        for nodeid in nodeids:
            self._items.setdefault(nodeid, Ended())

    def _benchmark_files(self) -> list[str]:
        """Return where pytest-benchmark has stored this run."""
        session: Any = getattr(self._config, "_benchmarksession", None)
        if session is None:
            return []
        files = [] if session.json is None else [Path(session.json)]
        if session.save or session.autosave:
            files += session.storage.path.rglob("*.json")
        ours = [file for file in files if file.is_file() and self._names_this_run(file)]
        return [relative_path(file, self._config.rootpath) for file in ours]

    def _names_this_run(self, file: Path) -> bool:
        newer = file.stat().st_mtime >= self._began.timestamp() - 1
        return newer and self.run_id in file.read_text(encoding="utf-8")


def _client() -> Environment:
    from pytest_pyhf_faas.worker.fitting import probe_environment

    return cast("Environment", WorkerEnvironment.from_json(probe_environment()).to_json())


def _own_version() -> str:
    from importlib import metadata

    return metadata.version("pytest-pyhf-faas")
