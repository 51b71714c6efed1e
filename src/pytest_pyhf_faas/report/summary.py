"""What a report says in a few words and small tables, for all that show it to people."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.campaign.results import (
    CLS_LABELS,
    Trial,
    WallTime,
    WorkerEnvironment,
    environment_differences,
)
from pytest_pyhf_faas.references.cls_values import EXCLUDED, Row
from pytest_pyhf_faas.report.published import patches_of, published_of
from pytest_pyhf_faas.verdicts import State, Verdict
from pytest_pyhf_faas.wording import counted, listed, shortened, with_spread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.report.document import Document
    from pytest_pyhf_faas.report.published import Published

NOTHING = "–"
_NAMES = 3

_FAILED = frozenset({"failed", "error"})

MEASURED_HEADER = ("wall time [s]", "single worker [s]", "speed-up", "efficiency")
ROW_HEADER = (
    "pallet",
    "endpoint",
    "patches",
    *MEASURED_HEADER,
    "published patches",
    "published wall time [s]",
    "published single node [s]",
)

#: What comes after these is published.
_MEASURED_COLUMNS = 7


def verdict(document: Document) -> str:
    """Return the answer of a run as one sentence."""
    parts = [_of_hypotheses(document), *_counted_extras(document)]
    prefix = "Interrupted: " if document["run"]["interrupted"] else ""
    sentence = prefix + "; ".join(parts)
    return f"{sentence[0].upper()}{sentence[1:]}."


def state(document: Document) -> State:
    """Return what a run is as a whole; what is worst decides."""
    verdicts = set(_verdicts(document))
    present = {verdict.state for verdict in verdicts - {Verdict.KNOWN_ISSUE}}
    if State.WRONG in present:
        return State.WRONG
    if State.BROKEN in present or _failing_checks(document) or other_failures(document):
        return State.BROKEN
    if any(failed_though_not_wrong(each) for each in _hypotheses(document)):
        return State.BROKEN
    run = document["run"]
    if run["interrupted"] or run["exit_status"] or not verdicts or State.INCOMPLETE in present:
        return State.INCOMPLETE
    return State.RIGHT


def failures(analysis: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the hypotheses of an analysis that need attention.

    Returns
    -------
    list of dict
        In the order of `Verdict`, the worst first; at the end those whose test failed for a reason
        of its own.
    """
    failing = [
        each
        for each in analysis["hypotheses"]
        if Verdict(each["verdict"]).fails or failed_though_not_wrong(each)
    ]
    return sorted(failing, key=_severity)


def all_failures(document: Document) -> list[dict[str, Any]]:
    """Return the `failures` of all analyses, in the same order."""
    found = [each for analysis in document["analyses"] for each in failures(analysis)]
    return sorted(found, key=_severity)


def failed_though_not_wrong(hypothesis: Mapping[str, Any]) -> bool:
    """Whether a test failed though its verdict is no failure: for a reason of its own."""
    verdict = Verdict(hypothesis["verdict"])
    return hypothesis["outcome"] in _FAILED and verdict.is_fitted and not verdict.fails


def other_failures(document: Document) -> list[dict[str, str]]:
    """Return the failed tests that are no hypothesis, without those that endpoints tell of."""
    told = [each["text"] for one in document["endpoints"] for each in one["failures"]]
    return [
        each
        for each in document["run"]["failures"]
        if not any(text and text in each["text"] for text in told)
    ]


def missing(document: Document) -> list[str]:
    """Return what a run did not do, a line for each analysis."""
    lines = []
    for analysis in document["analyses"]:
        verdicts = [Verdict(each["verdict"]) for each in analysis["hypotheses"]]
        counts = {
            "fitted": sum(not verdict.is_fitted for verdict in verdicts),
            "compared": verdicts.count(Verdict.NOT_COMPARED),
        }
        lines += [
            f"{title_of(analysis)}: {count} of {counted(len(verdicts), 'hypothesis')} not {what}"
            for what, count in counts.items()
            if count
        ]
    return lines


@dataclass(frozen=True, slots=True)
class AmbiguousRow:
    """A hypothesis with two sets of minima, and what these differ in.

    Attributes
    ----------
    title : str
        Of its analysis.
    at : str
        At which of the two this run is, in words.
    lowest, nominal : float
        CLs_obs at the two.
    flips : str
        At which of them alone it is excluded; empty where both or neither exclude it.
    gap : float
        The largest of the fits, nominal minus lowest, in twice the NLL.
    fit : str
        Which has it.
    parameters : str
        Those that differ most, with both values.
    at_bound : str
        Those that are at a bound in one of the two.
    """

    title: str
    patch: str
    at: str
    lowest: float
    nominal: float
    flips: str
    gap: float
    fit: str
    parameters: str
    at_bound: str


def ambiguous_rows(document: Document) -> list[AmbiguousRow]:
    """Return the hypotheses that have two sets of minima, those whose exclusion flips first."""
    rows = []
    for analysis in document["analyses"]:
        for hypothesis in analysis["hypotheses"]:
            found = hypothesis.get("ambiguous")
            if found is not None:
                rows.append(_ambiguous_row(title_of(analysis), hypothesis, found))
    return sorted(rows, key=lambda row: not row.flips)


def _ambiguous_row(
    title: str, hypothesis: Mapping[str, Any], found: Mapping[str, Any]
) -> AmbiguousRow:
    lowest, nominal = float(found["lowest"][0]), float(found["nominal"][0])
    excluded = "lowest" if lowest < EXCLUDED else "nominal"
    at = hypothesis["minimum_set"] or NOTHING
    return AmbiguousRow(
        title=title,
        patch=hypothesis["patch"],
        at=f"{at} (was {found['was_at']})" if found["was_at"] else at,
        lowest=lowest,
        nominal=nominal,
        flips=f"excluded at the {excluded} alone" if found["flips"] else "",
        gap=found["gap"],
        fit=found["fit"].replace("_", " "),
        parameters=", ".join(
            f"{shortened(each['name'])} {each['lowest']:.3g} (nominal: {each['nominal']:.3g})"
            for each in found["parameters"]
        ),
        at_bound=", ".join(map(shortened, found["at_bound"])),
    )


def ambiguous(document: Document) -> str:
    """Return how many hypotheses have two sets of minima, and how many exclusions flip."""
    rows = ambiguous_rows(document)
    if not rows:
        return ""
    said = f"{counted(len(rows), 'hypothesis')} {'is' if len(rows) == 1 else 'are'} ambiguous"
    flips = sum(bool(row.flips) for row in rows)
    if flips:
        said += f" (the exclusion depends on the minimum for {flips})"
    return said


def title_of(analysis: Mapping[str, Any]) -> str:
    """Return what tells an analysis from the others of its run."""
    return f"{analysis['pallet']} on {analysis['endpoint']}, {analysis['fit_setup']}"


def compared(hypothesis: Mapping[str, Any]) -> list[Row]:
    """Return the six values of a hypothesis beside their references; nothing if there are none."""
    obtained, reference = hypothesis["CLs"], hypothesis["reference"]
    if obtained is None or reference is None or reference["CLs"] is None:
        return []
    # What was not compared is not called outside of the tolerance.
    within = hypothesis["within"] or (True,) * len(CLS_LABELS)
    return [
        Row(label, float(mine), float(theirs), good)
        for label, mine, theirs, good in zip(
            CLS_LABELS, obtained, reference["CLs"], within, strict=True
        )
    ]


def largest_difference(hypothesis: Mapping[str, Any]) -> float | None:
    """Return the largest relative difference that could matter; ``None`` without two values."""
    rows = compared(hypothesis)
    if not rows:
        return None
    differences = [abs(row.relative) for row in rows if not row.indifferent]
    return math.nan if any(map(math.isnan, differences)) else max(differences, default=0.0)


@dataclass(frozen=True, slots=True)
class AnalysisRow:
    """An analysis in the shape of the published table; times in seconds."""

    pallet: str
    endpoint: str
    fit_setup: str
    synthetic: bool
    patches: int
    wall_time: WallTime | None
    published: Published | None

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands below `ROW_HEADER`."""
        workers = f" ({counted(self.wall_time.last.workers, 'worker')})" if self.wall_time else ""
        return (
            f"{self.pallet} (synthetic, no physics)" if self.synthetic else self.pallet,
            f"{self.endpoint}{workers}, {self.fit_setup}",
            str(self.patches),
            *measured_cells(self.wall_time),
            *self._published(),
        )

    def _published(self) -> tuple[str, ...]:
        if self.published is None:
            return (NOTHING,) * 3
        return (
            str(self.published.patches),
            with_spread(self.published.wall_time_s, self.published.stdev_s),
            f"{self.published.single_node_s:.0f}",
        )


def measured_cells(wall_time: WallTime | None) -> tuple[str, ...]:
    """Return what stands below `MEASURED_HEADER`."""
    if wall_time is None:
        return (NOTHING,) * len(MEASURED_HEADER)
    return (
        with_spread(wall_time.mean_s, wall_time.stdev_s),
        f"{wall_time.mean_of('fit_s'):.1f}",
        figure(wall_time.mean_of("speed_up"), ".2f"),
        figure(wall_time.mean_of("efficiency"), ".0%"),
    )


def rows(document: Document) -> list[AnalysisRow]:
    """Return each analysis with its wall time, beside the published figures."""
    return [
        AnalysisRow(
            pallet=analysis["pallet"],
            endpoint=analysis["endpoint"],
            fit_setup=analysis["fit_setup"],
            synthetic=analysis["synthetic"],
            patches=patches_of(analysis),
            wall_time=wall_time_of(analysis),
            published=published_of(analysis),
        )
        for analysis in document["analyses"]
    ]


def wall_time_table(document: Document) -> list[tuple[str, ...]]:
    """Return the header and the cells of all `rows`; without published figures, where none is."""
    found = rows(document)
    columns = len(ROW_HEADER) if any(row.published for row in found) else _MEASURED_COLUMNS
    return [ROW_HEADER[:columns], *(row.cells[:columns] for row in found)]


def wall_time_of(analysis: Mapping[str, Any]) -> WallTime | None:
    """Return the measured wall time of an analysis."""
    measured = analysis["wall_time"]
    if measured is None:
        return None
    names = [each.name for each in fields(Trial)]
    trials = (Trial(**{name: trial[name] for name in names}) for trial in measured["trials"])
    return WallTime(analysis["pallet"], analysis["endpoint"], tuple(trials))


@dataclass(slots=True)
class EnvironmentRow:
    """An environment, and in what it differs from the references that it was compared with.

    Attributes
    ----------
    kind : str
        "client", "worker" or "reference".
    title : str
        Which one.
    values : dict
        What it is, by name.
    differs : dict
        For what differs from a reference, what the reference has.
    pallets : set
        The analyses that it has to do with.
    hosts, cpus : set
        Of all the workers that are alike in all else.
    """

    kind: Literal["client", "worker", "reference"]
    title: str
    values: dict[str, str]
    differs: dict[str, str] = field(default_factory=dict)
    pallets: set[str] = field(default_factory=set)
    hosts: set[str] = field(default_factory=set)
    cpus: set[str] = field(default_factory=set)


def environment_rows(document: Document) -> list[EnvironmentRow]:
    """Return the client, each kind of worker, and what each reference was made with.

    Workers that differ in nothing but their host and processor are one kind.
    """
    references = _references(document)
    client = document["client"]
    everywhere = {analysis["pallet"] for analysis in document["analyses"]}
    found = [_environment_row("client", client["host"], client, everywhere, references)]
    used = _pallets_by_environment(document)
    alike: dict[tuple[tuple[str, str], ...], EnvironmentRow] = {}
    for place, environment in enumerate(document["environments"]):
        row = _environment_row("worker", "", environment, used.get(place, everywhere), references)
        first = alike.setdefault(tuple(row.values.items()), row)
        first.differs |= row.differs
        first.pallets |= row.pallets
        first.hosts |= row.hosts
        first.cpus |= row.cpus
    for row in alike.values():
        row.title = f"{counted(len(row.hosts), 'host')}: {listed(sorted(row.hosts))}"
    found += alike.values()
    for (method, date, versions), pallets in references.items():
        title = f"{listed(sorted(pallets))}: {method}, {date}"
        found.append(EnvironmentRow("reference", title, dict(versions), pallets=pallets))
    return found


def differences(document: Document) -> list[str]:
    """Return in what the workers differ from the references, a line for each kind of worker."""
    return [
        f"workers on {row.title}: "
        + ", ".join(
            f"{name} {row.values[name]} (reference: {theirs})"
            for name, theirs in row.differs.items()
        )
        for row in environment_rows(document)
        if row.kind == "worker" and row.differs
    ]


def figure(value: float, form: str) -> str:
    """Return a number, or a dash for what is none."""
    return format(value, form) if math.isfinite(value) else NOTHING


def _severity(hypothesis: Mapping[str, Any]) -> int:
    verdict = Verdict(hypothesis["verdict"])
    return verdict.severity if verdict.fails else len(Verdict)


def _hypotheses(document: Document) -> list[dict[str, Any]]:
    return [each for analysis in document["analyses"] for each in analysis["hypotheses"]]


def _verdicts(document: Document) -> list[Verdict]:
    """Return the verdicts of all hypotheses, the worst first."""
    found = (Verdict(each["verdict"]) for each in _hypotheses(document))
    return sorted(found, key=lambda verdict: verdict.severity)


def _of_hypotheses(document: Document) -> str:
    """Return the part of the answer that tells of the hypotheses."""
    counts = Counter(verdict.clause for verdict in _verdicts(document))
    others = counts.pop(Verdict.RIGHT.clause, 0)
    total = counts.total() + others
    if not total:
        return "nothing was fitted"
    pallets = list(dict.fromkeys(analysis["pallet"] for analysis in document["analyses"]))
    of = f"of {listed(pallets)}" if len(pallets) <= _NAMES else f"of {len(pallets)} pallets"
    if len(document["analyses"]) > len(pallets):
        of += f" in {len(document['analyses'])} analyses"
    if others == total:
        return f"{_all(total, 'hypothesis')} {of} {'is' if total == 1 else 'are'} right"
    first = next(iter(counts))
    clauses = []
    for place, (clause, count) in enumerate(counts.items()):
        noun, said = clause.noun, clause.one if count == 1 else clause.several
        if count == total:
            clauses.append(f"{_all(total, noun)} {of} {said}")
        elif place == 0:
            clauses.append(f"{count} of {counted(total, noun)} {of} {said}")
        elif noun == first.noun == "hypothesis":
            clauses.append(f"{count} {said}")
        else:
            clauses.append(f"{counted(count, noun)} {said}")
    if others:
        rest = "the other one is right" if others == 1 else f"the other {others} are right"
        return f"{', '.join(clauses)}; {rest}"
    return ", ".join(clauses) + ("" if len(clauses) == 1 else "; none is right")


def _counted_extras(document: Document) -> list[str]:
    """Return the parts of the answer that come after the verdicts of the hypotheses."""
    extras = []
    nonetheless = sum(map(failed_though_not_wrong, _hypotheses(document)))
    if nonetheless:
        extras.append(f"{counted(nonetheless, 'test')} failed though CLs did not")
    checks = _failing_checks(document)
    if checks:
        extras.append(f"{counted(checks, 'check')} of an endpoint failed")
    others = len(other_failures(document))
    if others:
        extras.append(f"{counted(others, 'other test')} failed")
    run = document["run"]
    # Under xdist nobody knows which hypotheses they are.
    unrun = run["tests"].get("not run", 0)
    unrun -= sum(each["outcome"] == "not run" for each in _hypotheses(document))
    if unrun > 0:
        extras.append(f"{counted(unrun, 'other test')} {'was' if unrun == 1 else 'were'} not run")
    explained = extras or run["interrupted"] or all_failures(document)
    if run["exit_status"] and not explained:
        extras.append(f"pytest ended with status {run['exit_status']}")
    return [*filter(None, [ambiguous(document)]), *extras]


def _failing_checks(document: Document) -> int:
    return sum(len(endpoint["failures"]) for endpoint in document["endpoints"])


def _all(count: int, noun: str) -> str:
    return f"the one {noun}" if count == 1 else f"all {counted(count, noun)}"


_Reference = tuple[str, str, tuple[tuple[str, str], ...]]


def _references(document: Document) -> dict[_Reference, set[str]]:
    """Return how references were made, and for which pallets."""
    found: dict[_Reference, set[str]] = {}
    for analysis in document["analyses"]:
        made = analysis["reference"]
        if made is not None:
            key = (made["method"], made["date"], tuple(sorted(made["versions"].items())))
            found.setdefault(key, set()).add(analysis["pallet"])
    return found


def _pallets_by_environment(document: Document) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for analysis in document["analyses"]:
        for hypothesis in analysis["hypotheses"]:
            if hypothesis["environment"] is not None:
                found.setdefault(hypothesis["environment"], set()).add(analysis["pallet"])
    return found


def _environment_row(
    kind: Literal["client", "worker"],
    title: str,
    environment: Mapping[str, Any],
    pallets: set[str],
    references: Mapping[_Reference, set[str]],
) -> EnvironmentRow:
    known = WorkerEnvironment.from_json(environment)
    threads = {name: value for name, value in known.threads.items() if value is not None}
    values = {
        "python": known.python,
        "platform": known.platform,
        "backend": known.backend or NOTHING,
        "optimizer": known.optimizer or NOTHING,
        **dict(sorted(known.versions.items())),
        "threads": ", ".join(f"{name}={value}" for name, value in threads.items()) or NOTHING,
    }
    differs = {
        name: theirs
        for (_method, _date, versions), those in references.items()
        if those & pallets
        for name, _mine, theirs in environment_differences(known.computing, dict(versions))
        if theirs is not None
    }
    return EnvironmentRow(kind, title, values, differs, set(pallets), {known.host}, {known.cpu})
