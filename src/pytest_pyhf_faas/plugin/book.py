"""The parts of a run's document: analyses with their hypotheses, environments, endpoints."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.plugin import notes
from pytest_pyhf_faas.report.axes import Axis
from pytest_pyhf_faas.session.hypotheses import unfitted
from pytest_pyhf_faas.verdicts import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pytest

    from pytest_pyhf_faas.plugin.subjects import Subject
    from pytest_pyhf_faas.plugin.summaries import Summary, TimelineOf
    from pytest_pyhf_faas.report.form import Analysis, Endpoint, Environment, Hypothesis, Scaling

#: Longer texts of failures are cut; errors of workers are elsewhere, in full.
_MAX_TEXT = 100_000
_AXES = 2  # of a plane
_MOST_PALLETS = 12  # in a message


@dataclass
class Ended:
    """How an item ended."""

    outcome: str = "not run"
    text: str = ""
    note: dict[str, Any] = field(default_factory=dict)

    def add(self, report: pytest.TestReport) -> None:
        """Learn from the report of one of its phases."""
        self.note = notes.carried_by(report) or self.note
        expected = hasattr(report, "wasxfail")
        if report.failed:
            self.outcome = "failed" if report.when == "call" else "error"
            self.text = "\n".join(filter(None, [self.text, report.longreprtext[:_MAX_TEXT]]))
        elif report.skipped:
            self.outcome = "xfailed" if expected else "skipped"
            self.text = report.wasxfail if expected else _skip_reason(report)
        elif report.when == "call":
            self.outcome = "xpassed" if expected else "passed"


class Book:
    """The parts of a document that hypotheses share."""

    def __init__(self) -> None:
        self.analyses: dict[str, Analysis] = {}
        self.scaling: dict[str, Scaling] = {}
        self.environments: list[Environment] = []
        self._places: dict[str, int] = {}

    def add(self, item: Ended) -> None:
        """Add the notes on an item."""
        note = item.note
        if "scaling" in note:
            empty = cast("Scaling", {**note["scaling"], "points": [], "refused": []})
            entry = self.scaling.setdefault(_key(note["scaling"]), empty)
            for place in ("points", "refused"):
                entry[place] += [note[place]] if place in note else []
                entry[place].sort(key=lambda point: point["count"])
            return
        analysis = self._analysis(note["analysis"])
        if "not_measured" in note:
            analysis["not_measured"] = note["not_measured"]
            return
        if "wall_time" in note:
            analysis["wall_time"] = note["wall_time"]
            analysis["timeline"] = note["timeline"]
            return
        if "whole" in note:
            self._add_whole(analysis, note)
            return
        hypothesis = cast("Hypothesis", dict(note["hypothesis"]))
        hypothesis |= {"outcome": item.outcome, "text": item.text}
        if item.outcome == "skipped" and Verdict(hypothesis["verdict"]).is_fitted:
            hypothesis["verdict"] = Verdict.NOT_COMPARED.value
        hypothesis["title"] = hypothesis["title"] or item.text.partition("\n")[0]
        hypothesis["environment"] = self._environment(note["environment"])
        analysis["hypotheses"].append(hypothesis)

    def _add_whole(self, analysis: Analysis, note: dict[str, Any]) -> None:
        """Add the notes of one item on all hypotheses of an analysis."""
        places = [self._environment(environment) for environment in note["environments"]]
        for each in note["hypotheses"]:
            own = each["environment"]
            known = {**each, "environment": None if own is None else places[own]}
            analysis["hypotheses"].append(cast("Hypothesis", known))
        analysis["whole"] = note["whole"]

    def add_unfitted(self, subject: Subject, item: Ended) -> bool:
        """Add an item that was selected and not fitted; return whether it is a hypothesis."""
        if subject.task is None:
            return False
        hypothesis = unfitted(subject.task.patch, subject.test)
        hypothesis |= {"outcome": item.outcome, "text": item.text}
        hypothesis["title"] = item.text.partition("\n")[0]
        if item.outcome in ("failed", "error"):  # before its fit was done
            hypothesis["verdict"] = Verdict.BROKEN.value
        elif item.outcome in ("passed", "xpassed"):  # without the fit that it asked for
            hypothesis["verdict"] = Verdict.NOT_COMPARED.value
        self._analysis(notes.analysis_of(subject))["hypotheses"].append(hypothesis)
        return True

    def add_planes(self, chosen: tuple[str, str] | None) -> None:
        """Add the plane in which the hypotheses of each analysis are drawn, if there is one."""
        for analysis in self.analyses.values():
            points = [hypothesis["values"] for hypothesis in analysis["hypotheses"]]
            plane = plane_of(analysis["labels"], points, chosen)
            if plane is not None:
                analysis["plane"] = list(plane)

    def add_timelines(self, timelines: Iterable[TimelineOf]) -> None:
        """Add when fits ran, if no trial of a wall time says so."""
        for entry in timelines:
            for analysis in self.analyses.values():
                one = analysis["pallet"], analysis["endpoint"], analysis["config"]
                same = one == (entry["pallet"], entry["endpoint"], entry["config"])
                if same and analysis["timeline"] is None:
                    analysis["timeline"] = entry["timeline"]

    def endpoints(self, facts: Sequence[Summary]) -> list[Endpoint]:
        """Return what was measured of each endpoint, and of those that analyses name."""
        measured = {entry["endpoint"]: entry for fact in facts for entry in fact["endpoints"]}
        names = dict.fromkeys([*measured, *(one["endpoint"] for one in self.analyses.values())])
        return [
            measured.get(name, {"endpoint": name, "findings": [], "failures": []}) for name in names
        ]

    def _analysis(self, said: Analysis) -> Analysis:
        names = ("pallet", "digest", "endpoint", "quantity", "config")
        key = _key([said.get(name) for name in names])
        analysis = self.analyses.setdefault(key, {**said, "hypotheses": []})
        analysis["reference"] = analysis["reference"] or said["reference"]
        if "published" in said:  # unknown to items that were not fitted
            analysis["published"] = said["published"]
        return analysis

    def _environment(self, environment: Environment | None) -> int | None:
        if environment is None:
            return None
        key = _key(environment)
        if key not in self._places:
            self._places[key] = len(self.environments)
            self.environments.append(environment)
        return self._places[key]


def check_plane(chosen: tuple[str, str], labels: Mapping[str, Sequence[str]]) -> None:
    """Refuse a plane that no pallet has; `labels` are those of each.

    Raises
    ------
    ConfigurationError
        With all labels.
    """
    if not labels or any(all(Axis.find(text, each) for text in chosen) for each in labels.values()):
        return
    choices = [f"{pallet} has {', '.join(each)}" for pallet, each in labels.items()]
    known = "\n".join(choices[:_MOST_PALLETS])
    raise ConfigurationError(
        f"--faas-plane is {','.join(chosen)!r}, which no pallet has:\n{known}\n"
        "name two of these labels, or differences or ratios of them, as in m1,m1-m2"
    )


def plane_of(
    labels: Sequence[str], points: Sequence[Sequence[Any]], chosen: tuple[str, str] | None
) -> tuple[str, str] | None:
    """Return the axes of the plane that hypotheses are drawn in, if they make one.

    Those that were chosen, where the labels have them, or else the first two numbers that vary.
    """
    if chosen is not None and all(Axis.find(text, labels) for text in chosen):
        return chosen
    varying = [
        label
        for label, values in zip(labels, zip(*points, strict=False), strict=False)
        if len(set(values)) > 1 and all(isinstance(value, (int, float)) for value in values)
    ]
    return (varying[0], varying[1]) if len(varying) >= _AXES else None


def _skip_reason(report: pytest.TestReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
    return reason.removeprefix("Skipped: ")


def _key(data: object) -> str:
    return json.dumps(data, sort_keys=True)
