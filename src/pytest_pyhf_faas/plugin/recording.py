"""What a report is made of: taken down while tests run, put together at the end of the session.

The process that runs an item takes notes on it; they travel with pytest's own report of the item,
which pytest-xdist sends on to its controller. The process that sees all items puts the document
together.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_pyhf_faas.campaign.results import WorkerEnvironment, json_number
from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.plugin.context import existing_context
from pytest_pyhf_faas.plugin.options import without_secrets
from pytest_pyhf_faas.redaction import redacted
from pytest_pyhf_faas.report.document import VERSION, Document
from pytest_pyhf_faas.report.publish import PAGE
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_pyhf_faas.campaign.results import HypotestResult, Trial, WallTime
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig
    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch
    from pytest_pyhf_faas.plugin.context import Context
    from pytest_pyhf_faas.references.compare import Comparison
    from pytest_pyhf_faas.references.reference import Missing, PatchReference

PLUGIN = "pyhf-faas-report"
CARRIER = "pyhf-faas-notes"
_ATTRIBUTE = "pyhf_faas"
_NOTE = pytest.StashKey[dict[str, Any]]()
#: Longer texts of failures are cut; errors of workers stand apart, in whole.
_MAX_TEXT = 100_000
_AXES = 2  # of a plane
_ONE_ANALYSIS = ("pallet", "endpoint", "config")


# What items say of themselves


def note_fit(
    item: pytest.Item,
    context: Context,
    pallet: Pallet,
    patch: SignalPatch,
    config: HypotestConfig,
    endpoint: str,
    reference: PatchReference | Missing,
    result: HypotestResult,
) -> None:
    """Take down the fit of a hypothesis; `note_verdict` adds what is said of it."""
    if context.settings.report is None:
        return
    environment = result.environment
    item.stash[_NOTE] = {
        "analysis": _analysis(pallet, config, endpoint, reference),
        "environment": None if environment is None else environment.to_json(),
        "hypothesis": _not_run(patch, item.nodeid)
        | {
            "verdict": Verdict.of_fit(result.status).value,
            "status": result.status,
            "CLs": [json_number(value) for value in result.cls_values] or None,
            "reference": _reference_values(reference),
            "mu_hat": json_number(result.mu_hat),
            "error": None if result.error is None else _error(result),
            "worker": result.worker,
            "attempts": result.attempts,
            "seconds": dict(result.seconds),
            "warnings": list(result.warnings),
        },
    }


def note_comparison(
    item: pytest.Item, comparison: Comparison, tolerance: tuple[float, float] | None
) -> None:
    """Take down what the comparison of a hypothesis with its reference said."""
    if _NOTE not in item.stash:
        return
    note_verdict(item, comparison.verdict, comparison.title)
    hypothesis = item.stash[_NOTE]["hypothesis"]
    hypothesis |= {"minimum_set": comparison.at, "ambiguous": _ambiguous(comparison)}
    if comparison.rows and tolerance is not None:
        within = [row.within for row in comparison.rows]
        rtol, atol = tolerance
        # The values of the set of minima that was compared.
        values = {
            "CLs": [json_number(row.obtained) for row in comparison.rows],
            "reference": {
                "CLs": [json_number(row.reference) for row in comparison.rows],
                "error": None,
            },
        }
        hypothesis |= {**values, "within": within, "rtol": rtol, "atol": atol}


def note_verdict(item: pytest.Item, verdict: Verdict, title: str) -> None:
    """Take down what is said of a hypothesis."""
    if _NOTE in item.stash:
        item.stash[_NOTE]["hypothesis"] |= {
            "verdict": verdict.value,
            "title": title,
        }


def note_wall_time(
    item: pytest.Item,
    context: Context,
    pallet: Pallet,
    config: HypotestConfig,
    measured: WallTime,
) -> None:
    """Take down the wall time of an analysis."""
    if context.settings.report is None:
        return
    item.stash[_NOTE] = {
        "analysis": _analysis(pallet, config, measured.endpoint, None),
        "wall_time": {
            "test": item.nodeid,
            "trials": [trial.to_json() for trial in measured.trials],
        },
        "timeline": None if measured.timeline is None else measured.timeline.to_json(),
    }


def note_scaling(
    item: pytest.Item,
    context: Context,
    pallet: Pallet,
    config: HypotestConfig,
    endpoint: str,
    count: int,
    trials: Sequence[Trial],
) -> None:
    """Take down the wall time of an analysis with some number of workers or blocks."""
    if context.settings.report is None:
        return
    item.stash[_NOTE] = {
        "scaling": {
            "pallet": pallet.name,
            "endpoint": endpoint,
            "fit_setup": config.fit_setup,
            "unit": context.schedule.scaling_unit(endpoint),
        },
        "point": {"count": count, "trials": [trial.to_json() for trial in trials]},
    }


def session_facts(context: Context) -> dict[str, Any]:
    """Return what one process knows beside its items; plain values, for xdist sends them on."""
    return {
        "interrupted": context.schedule.interrupted,
        "written": {
            str(path): asdict(written) for path, written in context.references.written.items()
        },
        "endpoints": [
            {
                "endpoint": endpoint,
                "findings": [
                    {"name": name, "text": finding.text, "values": _finite(finding.values)}
                    for name, finding in preflight.findings.items()
                ],
                "failures": [
                    {"name": name, "text": str(error)} for name, error in preflight.failures.items()
                ],
            }
            for endpoint, preflight in context.preflights.items()
        ],
        "timelines": [
            {
                "pallet": pallet,
                "endpoint": endpoint,
                "config": config.to_json(),
                "timeline": timeline.to_json(),
            }
            for endpoint, pallet, config, timeline in context.schedule.timelines()
        ],
    }


class NoteCarrier:
    """Sends the notes on each item with pytest's report of its end; in each process."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        """Add the notes."""
        report = yield
        if call.when == "teardown" and _NOTE in item.stash:
            setattr(report, _ATTRIBUTE, item.stash[_NOTE])
        return report


@dataclass
class _Item:
    """How an item ended."""

    outcome: str = "not run"
    text: str = ""
    note: dict[str, Any] = field(default_factory=dict)

    def add(self, report: pytest.TestReport) -> None:
        """Learn from the report of one of its phases."""
        self.note = getattr(report, _ATTRIBUTE, self.note)
        expected = hasattr(report, "wasxfail")
        if report.failed:
            self.outcome = "failed" if report.when == "call" else "error"
            self.text = "\n".join(filter(None, [self.text, report.longreprtext[:_MAX_TEXT]]))
        elif report.skipped:
            self.outcome = "xfailed" if expected else "skipped"
            self.text = report.wasxfail if expected else _skip_reason(report)
        elif report.when == "call":
            self.outcome = "xpassed" if expected else "passed"


class Recording:
    """Sees how all items of a session end, and makes the document of it."""

    def __init__(
        self, config: pytest.Config, directory: Path, plane: tuple[str, str] | None
    ) -> None:
        self._config = config
        self._directory = directory
        self._plane = plane
        self._problems: list[str] = []
        self._written = False
        self._began = datetime.now(timezone.utc)
        self._items: dict[str, _Item] = {}
        self._planned: list[pytest.Item] = []
        self.run_id = f"{self._began:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Take note of the selected items, unless the session ends for what is wrong with them."""
        context = existing_context(session.config)
        if context is not None and context.problems:
            return
        self._planned = list(session.items)
        self._expect(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: object, ids: Sequence[str]) -> None:
        """Take note of the selected items, on the controller of xdist."""
        del node
        self._expect(ids)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of what became of an item."""
        self._items.setdefault(report.nodeid, _Item()).add(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_benchmark_update_json(self, output_json: dict[str, Any]) -> None:
        """Name the run in what pytest-benchmark stores."""
        output_json["pyhf_faas"] = {"run": self.run_id}

    @pytest.hookimpl(wrapper=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Any:
        """Write the report, when all processes have told what they know."""
        outcome = yield
        if not self._items:
            return outcome
        from pytest_pyhf_faas.plugin.terminal import written_lines
        from pytest_pyhf_faas.report.publish import append_job_summary, publish

        hooks: Any = self._config.pluginmanager.getplugin("pyhf-faas-xdist")
        facts = [*getattr(hooks, "summaries", ())]
        context = existing_context(self._config)
        notes = [note for fact in facts for note in fact["notes"]]
        if context is not None:
            facts.append(session_facts(context))
            notes += context.schedule.notes
        notes += written_lines(fact["written"] for fact in facts)
        try:
            document = self._document(int(session.exitstatus), context, facts, notes)
            self._problems += publish(document, self._directory)
            self._written = True
            job_summary = os.environ.get("GITHUB_STEP_SUMMARY")
            if job_summary:
                self._problems += append_job_summary(document, Path(job_summary))
        except ReportError as error:
            self._problems.append(str(error))
        if self._problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        return outcome

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say where the report is."""
        for problem in self._problems:
            terminalreporter.write_line(problem, red=True)
        if self._written and not self._problems:
            page = os.path.relpath(self._directory / PAGE, self._config.invocation_params.dir)
            terminalreporter.write_line(f"report: {page}")

    def _document(
        self,
        exit_status: int,
        context: Context | None,
        facts: Sequence[Mapping[str, Any]],
        notes: Sequence[str],
    ) -> Document:
        ended = datetime.now(timezone.utc)
        book = _Book()
        planned = {item.nodeid: item for item in self._planned}
        failures = []
        for nodeid, item in self._items.items():
            told = "hypothesis" in item.note
            if item.note:
                book.add(item)
            elif context is not None and nodeid in planned:
                told = book.add_unfitted(context, planned[nodeid], item)
            if not told and item.outcome in ("failed", "error"):
                failures.append({"test": nodeid, "outcome": item.outcome, "text": item.text})
        for fact in facts:
            book.add_timelines(fact["timelines"])
        book.add_planes(self._plane)
        outcomes = [item.outcome for item in self._items.values()]
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
            },
            "client": _client(),
            "environments": book.environments,
            "endpoints": _endpoints(book, facts),
            "analyses": list(book.analyses.values()),
            "scaling": list(book.scaling.values()),
            "notes": [redacted(note) for note in notes],
        }

    def _expect(self, nodeids: Iterable[str]) -> None:
        for nodeid in nodeids:
            self._items.setdefault(nodeid, _Item())

    def _benchmark_files(self) -> list[str]:
        """Return where pytest-benchmark has stored this run."""
        session: Any = getattr(self._config, "_benchmarksession", None)
        if session is None:
            return []
        files = [] if session.json is None else [Path(session.json)]
        if session.save or session.autosave:
            files += session.storage.path.rglob("*.json")
        ours = [file for file in files if file.is_file() and self._names_this_run(file)]
        return [os.path.relpath(file, self._config.rootpath) for file in ours]

    def _names_this_run(self, file: Path) -> bool:
        newer = file.stat().st_mtime >= self._began.timestamp() - 1
        return newer and self.run_id in file.read_text(encoding="utf-8")


class _Book:
    """The parts of a document that hypotheses share."""

    def __init__(self) -> None:
        self.analyses: dict[str, dict[str, Any]] = {}
        self.scaling: dict[str, dict[str, Any]] = {}
        self.environments: list[dict[str, Any]] = []
        self._places: dict[str, int] = {}

    def add(self, item: _Item) -> None:
        note = item.note
        if "scaling" in note:
            entry = self.scaling.setdefault(
                _key(note["scaling"]), {**note["scaling"], "points": []}
            )
            entry["points"].append(note["point"])
            entry["points"].sort(key=lambda point: point["count"])
            return
        analysis = self._analysis(note["analysis"])
        if "wall_time" in note:
            analysis["wall_time"] = note["wall_time"]
            analysis["timeline"] = note["timeline"]
            return
        hypothesis = {**note["hypothesis"], "outcome": item.outcome, "text": item.text}
        if item.outcome == "skipped":
            hypothesis["verdict"] = Verdict.NOT_COMPARED.value
        hypothesis["title"] = hypothesis["title"] or item.text.partition("\n")[0]
        hypothesis["environment"] = self._environment(note["environment"])
        analysis["hypotheses"].append(hypothesis)

    def add_unfitted(self, context: Context, planned: pytest.Item, item: _Item) -> bool:
        """Add an item that was selected and not fitted; say whether it is a hypothesis."""
        parameters = planned.callspec.params if hasattr(planned, "callspec") else {}
        names = getattr(planned, "fixturenames", ())
        if "hypotest_result" not in names or not {"pallet", "signal_patch"} <= parameters.keys():
            return False
        from pytest_pyhf_faas.plugin.markers import hypotest_config

        settings = context.settings
        config, _criteria = hypotest_config(settings, planned.get_closest_marker("hypotest"))
        endpoint = parameters.get("faas_endpoint", settings.endpoints[0])
        analysis = self._analysis(_analysis(parameters["pallet"], config, endpoint, None))
        hypothesis = _not_run(parameters["signal_patch"], planned.nodeid)
        hypothesis |= {"outcome": item.outcome, "text": item.text}
        hypothesis["title"] = item.text.partition("\n")[0]
        if item.outcome in ("failed", "error"):  # before its fit was there
            hypothesis["verdict"] = Verdict.BROKEN.value
        elif item.outcome != "not run":
            hypothesis["verdict"] = Verdict.NOT_COMPARED.value
        analysis["hypotheses"].append(hypothesis)
        return True

    def add_planes(self, chosen: tuple[str, str] | None) -> None:
        """Add in which plane the hypotheses of each analysis are drawn, if there is one."""
        for analysis in self.analyses.values():
            points = [hypothesis["values"] for hypothesis in analysis["hypotheses"]]
            plane = plane_of(analysis["labels"], points, chosen)
            if plane is not None:
                analysis["plane"] = list(plane)

    def add_timelines(self, timelines: Iterable[Mapping[str, Any]]) -> None:
        """Add when fits ran, where no trial of a wall time says so."""
        for entry in timelines:
            for analysis in self.analyses.values():
                same = all(analysis[each] == entry[each] for each in _ONE_ANALYSIS)
                if same and analysis["timeline"] is None:
                    analysis["timeline"] = entry["timeline"]

    def _analysis(self, said: dict[str, Any]) -> dict[str, Any]:
        key = _key({name: said[name] for name in ("pallet", "digest", "endpoint", "config")})
        empty: dict[str, Any] = {"wall_time": None, "timeline": None, "hypotheses": []}
        analysis = self.analyses.setdefault(key, {**said, **empty})
        analysis["reference"] = analysis["reference"] or said["reference"]
        return analysis

    def _environment(self, environment: dict[str, Any] | None) -> int | None:
        if environment is None:
            return None
        key = _key(environment)
        if key not in self._places:
            self._places[key] = len(self.environments)
            self.environments.append(environment)
        return self._places[key]


def _analysis(
    pallet: Pallet,
    config: HypotestConfig,
    endpoint: str,
    reference: PatchReference | Missing | None,
) -> dict[str, Any]:
    return {
        "pallet": pallet.name,
        "endpoint": endpoint,
        "fit_setup": config.fit_setup,
        "config": config.to_json(),
        "synthetic": pallet.synthetic,
        "doi": pallet.doi,
        "digest": pallet.digest,
        "labels": list(pallet.labels),
        "reference": _reference(reference),
    }


def plane_of(
    labels: Sequence[str], points: Sequence[Sequence[Any]], chosen: tuple[str, str] | None
) -> tuple[str, str] | None:
    """Return the labels of the plane that hypotheses are drawn in, if they make one.

    Those that were chosen, where there are such, or else the two numbers that vary: with more of
    them, hypotheses that differ would lie at one place.
    """
    if chosen is not None and set(chosen) <= set(labels):
        return chosen
    varying = [
        label
        for label, values in zip(labels, zip(*points, strict=False), strict=False)
        if len(set(values)) > 1 and all(isinstance(value, (int, float)) for value in values)
    ]
    return (varying[0], varying[1]) if len(varying) == _AXES else None


def _reference(reference: PatchReference | Missing | None) -> dict[str, Any] | None:
    if not reference:  # there is none, or none was looked for
        return None
    provenance = reference.provenance
    return {
        "file": reference.path.name,
        "method": provenance["method"],
        "date": provenance["date"],
        "versions": dict(provenance["versions"]),
    }


def _reference_values(reference: PatchReference | Missing) -> dict[str, Any] | None:
    if not reference:
        return None
    values = [json_number(value) for value in reference.cls_values]
    return {"CLs": values or None, "error": reference.error}


def _ambiguous(comparison: Comparison) -> dict[str, Any] | None:
    """Return what the two sets of minima of a hypothesis differ in, if it has two."""
    found = comparison.ambiguous
    if found is None:
        return None
    return {
        "lowest": [json_number(value) for value in found.lowest],
        "nominal": [json_number(value) for value in found.nominal],
        "flips": found.flips,
        "gap": found.gap,
        "fit": found.fit,
        "parameters": [
            {name: each[name] for name in ("name", "lowest", "nominal")}
            for each in found.parameters
        ],
        "at_bound": list(found.at_bound),
        "was_at": comparison.was_at,
    }


def _not_run(patch: SignalPatch, nodeid: str) -> dict[str, Any]:
    return {
        "patch": patch.name,
        "values": [_finite_number(value) for value in patch.values],
        "test": nodeid,
        "outcome": "not run",
        "verdict": Verdict.NOT_RUN.value,
        "title": "",
        "text": "",
        "status": None,
        "CLs": None,
        "reference": None,
        "minimum_set": None,
        "ambiguous": None,
        "within": None,
        "rtol": None,
        "atol": None,
        "mu_hat": None,
        "error": None,
        "environment": None,
        "worker": None,
        "attempts": 0,
        "seconds": {},
        "warnings": [],
    }


def _error(result: HypotestResult) -> dict[str, str]:
    assert result.error is not None
    return asdict(result.error)


def _endpoints(book: _Book, facts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    measured = {entry["endpoint"]: entry for fact in facts for entry in fact["endpoints"]}
    names = dict.fromkeys([*measured, *(one["endpoint"] for one in book.analyses.values())])
    return [
        measured.get(name, {"endpoint": name, "findings": [], "failures": []}) for name in names
    ]


def _skip_reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return reason.removeprefix("Skipped: ")


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _finite_number(value) for name, value in values.items()}


def _finite_number(value: Any) -> Any:
    return json_number(value) if isinstance(value, float) else value


def _client() -> dict[str, Any]:
    from pytest_pyhf_faas.worker.fitting import probe_environment

    return WorkerEnvironment.from_json(probe_environment()).to_json()


def _own_version() -> str:
    from importlib import metadata

    return metadata.version("pytest-pyhf-faas")


def _key(data: Mapping[str, Any]) -> str:
    return json.dumps(data, sort_keys=True)
