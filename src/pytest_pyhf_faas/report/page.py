"""The page of a run: one HTML file that needs nothing else and executes nothing."""

from __future__ import annotations

import base64
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jinja2

from pytest_pyhf_faas.campaign.times import PARTS
from pytest_pyhf_faas.references.cls_values import DEFAULT_ATOL
from pytest_pyhf_faas.report import (
    ambiguous,
    analyses,
    answer,
    environments,
    toys,
    upper_limits,
    wall_times,
)
from pytest_pyhf_faas.report.budgets import Text, cut, cut_all, size_of, within
from pytest_pyhf_faas.report.published import SOURCE
from pytest_pyhf_faas.report.published_limits import published_tables
from pytest_pyhf_faas.report.quantity import CLS, LIMITS, quantity_of
from pytest_pyhf_faas.report.scaling import PART_TITLES, scaling_figures
from pytest_pyhf_faas.report.unreferenced import Unreferenced, is_unreferenced, unreferenced
from pytest_pyhf_faas.report.whole import verdicts_of
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import NOTHING, counted, duration, listed, shortened, with_spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.references.cls_values import Row
    from pytest_pyhf_faas.report.form import (
        Analysis,
        Document,
        EndpointFailure,
        Hypothesis,
        RefusedPoint,
        TestFailure,
    )
    from pytest_pyhf_faas.report.plots import Plot
    from pytest_pyhf_faas.report.published_limits import PublishedRow, PublishedTable

#: How many failures are shown in full; the others are listed.
MOST_FAILURES = 200
#: How many of these are open.
_OPEN_FAILURES = 10
#: A longer table of hypotheses without a reference is closed.
_OPEN_ROWS = 40
#: Bytes of the page for each kind of content that may have any size.
TEXT_BYTES = 1_000_000
ROW_BYTES = 1_250_000
LIST_BYTES = 100_000
UNREFERENCED_BYTES = 200_000
FAILURE_BYTES = 200_000
_COMMAND_BYTES = 20_000
#: Longer names in tables lose their middle.
_NAME = 44

#: How each kind of plot is read, by the beginning of its name.
_CAPTIONS = {
    "wall_time": "Each analysis on its workers, as measured, and the seconds of its fits added up, "
    "which is what one worker would need, on a logarithmic axis: the gap between the two is the "
    "speed-up.",
    "where_the_time_went": "Each bar is workers × wall time: the larger the share of fit, the "
    "better the workers were used.",
    "timeline": "One row for each worker, one bar for each task, alternately dark and light to "
    "separate neighbours: gaps are time without a task, and a ragged right end is the wait for "
    "the last tasks.",
    "cls_difference": "Each point is one CLs value. The tolerance that most hypotheses have is "
    "shaded; what differs by more than its own is ringed.",
    "plane": "Where CLs is below 0.05, on the hatched side of the observed contour, a hypothesis "
    "is excluded at 95 % CL.",
    "limit_plane": "Where the upper limit is below 1, on the hatched side of the observed contour, "
    "a hypothesis is excluded at 95 % CL.",
    "limit_band": "Where the observed upper limit is below 1, a hypothesis is excluded at 95 % CL; "
    "within the bands it would lie in 68 % and 95 % of repeated experiments without a signal.",
    "band": "Where the observed CLs is below 0.05, a hypothesis is excluded at 95 % CL; within the "
    "bands it would lie in 68 % and 95 % of repeated experiments without a signal.",
    "toys": "Toys with the tested signal and without one, and how many the asymptotic formulae "
    "(Cowan, Cranmer, Gross, Vitells) expect in each bin; at 0, half of those with the signal. "
    "CLs_obs is the share of toys to the right of the observed value with the signal over that "
    "without one.",
    "published": "Where the ratio is on the line, the published limit is reproduced. The band is "
    "the tolerance beyond rounding; hypotheses at no set of minima are named.",
    "fit_times": "How long single fits took on their workers: a long tail to the right decides "
    "when the analysis ends.",
    "scaling": "The wall time falls along the ideal line as long as all workers have fits to do; "
    "Amdahl's law shows how much of the speed-up the serial part leaves.",
}


@dataclass(frozen=True, slots=True)
class _Failure:
    """A hypothesis as the list of failures shows it."""

    anchor: str
    hypothesis: Hypothesis
    rows: Sequence[Row]
    remarks: Text
    rerun: str
    error: Text | None
    #: The place of the failure that shows the same error, and its patch.
    same_as: tuple[str, str] | None
    warnings: Text | None


@dataclass(frozen=True, slots=True)
class _Listing:
    """All hypotheses of an analysis, as many as there is room for."""

    analysis: Analysis
    shown: Sequence[Hypothesis]


def render(document: Document, plots: Sequence[Plot]) -> str:
    """Return the page of a run.

    Parameters
    ----------
    document : Document
        The report.
    plots : sequence of Plot
        They become part of the page.

    Returns
    -------
    str
        An HTML file without scripts and without references to anything outside of it; without
        the plots at most 3 MB, however many hypotheses there are and whatever they say.
    """
    failing = [each for each in answer.all_failures(document) if not is_unreferenced(each)]
    others = answer.other_failures(document)
    endpoint_failures = [
        (endpoint["endpoint"], each)
        for endpoint in document["endpoints"]
        for each in endpoint["failures"]
    ]
    long_texts = _LongTexts(failing[:MOST_FAILURES], others[:MOST_FAILURES], endpoint_failures)
    machines = environments.environment_rows(document)
    return (
        templates()
        .get_template("page.html.j2")
        .render(
            document=document,
            run=document["run"],
            took=duration(document["run"]["seconds"]),
            verdict=answer.verdict(document),
            state=answer.state(document),
            missing=answer.missing(document),
            command=cut(document["run"]["command"], _COMMAND_BYTES),
            table=analyses.wall_time_table(document),
            rows=analyses.rows(document),
            source=SOURCE,
            failures=long_texts.failures,
            open_failures=_OPEN_FAILURES,
            open_rows=_OPEN_ROWS,
            failure_count=len(failing),
            unshown=within(failing[MOST_FAILURES:], LIST_BYTES, _list_bytes),
            other_failures=long_texts.others,
            other_failure_count=len(others),
            endpoint_failures=long_texts.endpoints,
            unreferenced=_unreferenced(document),
            ambiguous=within(ambiguous.ambiguous_rows(document), LIST_BYTES, _ambiguous_bytes),
            ambiguous_count=len(ambiguous.ambiguous_rows(document)),
            toys=within(toys.toy_rows(document), LIST_BYTES, _toy_bytes),
            toys_count=len(toys.toy_rows(document)),
            published=_published(document),
            plots=_grouped(plots, document),
            parts=[PART_TITLES.get(part, part) for part in PARTS],
            time_rows=_time_rows(document),
            scaling=_scaling(document),
            environments=machines,
            measured_endpoints=[e for e in document["endpoints"] if e["findings"] or e["failures"]],
            environment_names=_names(machines),
            differences=environments.differences(document),
            listings=_listings(document),
            limit_tables=upper_limits.limit_tables(document, ROW_BYTES),
            negligible=f"{DEFAULT_ATOL:g}",
        )
    )


def templates() -> jinja2.Environment:
    """Return the environment of the templates of this package."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_pyhf_faas.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "short": shortened,
        "middle": partial(shortened, most=_NAME, cut="middle"),
        "listed": listed,
        "counted": counted,
        "digits": _digits,
        "relative": _relative,
        "percent": _percent,
        "state": lambda verdict: Verdict(verdict).state,
        "sent": answer.sent,
        "title_of": analyses.title_of,
        "count": lambda analysis: verdicts_of(analysis).total(),
        "largest": analyses.largest_difference,
        "limit_cells": upper_limits.cells,
        "limit_remarks": upper_limits.remarks,
        "data": lambda svg: base64.b64encode(svg).decode(),
    }
    return environment


# Numbers


def _digits(value: float | str | None, digits: int = 4) -> str:
    return NOTHING if value is None else f"{float(value):.{digits}g}"


def _percent(value: float) -> str:
    return f"{value:+.2%}".replace("-", "−")


def _relative(value: float | None) -> str:
    if value is None:
        return NOTHING
    return f"{value:.1e}" if value else "0"


# Names


def _name_bytes(name: str) -> int:
    breaks = 5 * min(name.count("_"), _NAME)  # "<wbr>"
    return size_of(name) + breaks + (4 * _NAME if len(name) > _NAME else 0)


# Content of any size


def _list_bytes(hypothesis: Hypothesis) -> int:
    return 30 + size_of(hypothesis["patch"])


def _ambiguous_bytes(row: ambiguous.AmbiguousRow) -> int:
    texts = (row.title, row.patch, row.fit, row.parameters, row.at_bound)
    return 700 + sum(map(size_of, texts))


def _toy_bytes(row: toys.ToyRow) -> int:
    return 800 + size_of(row.title) + size_of(row.patch)


def _row_bytes(hypothesis: Hypothesis) -> int:
    return (
        70
        + _name_bytes(hypothesis["patch"])
        + _name_bytes(", ".join(map(str, hypothesis["values"])))
    )


class _LongTexts:
    """The failures with their texts, which share the available space."""

    def __init__(
        self,
        failing: Sequence[Hypothesis],
        others: Sequence[TestFailure],
        endpoint_failures: Sequence[tuple[str, EndpointFailure]],
    ) -> None:
        errors = list(dict.fromkeys(_error_text(each) for each in failing if each["error"]))
        kinds = (
            errors,
            ["\n".join(each["warnings"]) for each in failing],
            [each["text"] for each in others],
            [each["text"] for _endpoint, each in endpoint_failures],
        )
        pieces = iter(cut_all([text for kind in kinds for text in kind], TEXT_BYTES))
        whole, warnings, tests, checks = ([next(pieces) for _text in kind] for kind in kinds)
        self._errors = dict(zip(errors, whole, strict=True))
        #: Which failure shows an error: its anchor and its patch.
        self._shown: dict[str, tuple[str, str]] = {}
        split = [_remarks(each) for each in failing]
        remarks = cut_all([text for text, _rerun in split], FAILURE_BYTES)
        reruns = cut_all([rerun for _text, rerun in split], LIST_BYTES)
        self.failures = [
            self._failure(f"failure-{place}", *each)
            for place, each in enumerate(zip(failing, remarks, reruns, warnings, strict=True))
        ]
        self.others = list(zip(others, tests, strict=True))
        self.endpoints = [
            (endpoint, each, text)
            for (endpoint, each), text in zip(endpoint_failures, checks, strict=True)
        ]

    def _failure(
        self,
        anchor: str,
        hypothesis: Hypothesis,
        remarks: Text,
        rerun: Text,
        warnings: Text,
    ) -> _Failure:
        error, same_as = None, None
        if hypothesis["error"]:
            text = _error_text(hypothesis)
            same_as = self._shown.get(text)
            if same_as is None:
                self._shown[text] = anchor, shortened(hypothesis["patch"])
                error = self._errors[text]
        return _Failure(
            anchor=anchor,
            hypothesis=hypothesis,
            rows=analyses.compared(hypothesis),
            remarks=remarks,
            rerun=rerun.text,
            error=error,
            same_as=same_as,
            warnings=warnings if warnings.text else None,
        )


def _error_text(hypothesis: Hypothesis) -> str:
    error = hypothesis["error"]
    if error is None:
        return ""
    return "\n\n".join(filter(None, (f"{error['type']}: {error['message']}", error["traceback"])))


def _remarks(hypothesis: Hypothesis) -> tuple[str, str]:
    """Return what pytest showed, without title and table, and the command that repeats it."""
    lines = hypothesis["text"].splitlines()
    if lines and lines[0] == hypothesis["title"]:
        del lines[0]
    if analyses.compared(hypothesis):
        lines = [line for line in lines if not _is_of_table(line)]
    reruns = [line for line in lines if line.startswith(_RERUN)]
    remarks = [line.removeprefix("  ") for line in lines if line not in reruns]
    return "\n".join(remarks), "\n".join(line.removeprefix(_RERUN).strip() for line in reruns)


_RERUN = "  rerun:"


_OF_TABLE = [[f"{each.stem}_{value}"] for each in (CLS, LIMITS) for value in ("obs", "exp")]


def _is_of_table(line: str) -> bool:
    words = line.split()
    return words[:1] in _OF_TABLE or words[:2] == ["obtained", "reference"]


# Sections


class _PublishedTable(NamedTuple):
    table: PublishedTable
    shown: Sequence[PublishedRow]


def _published(document: Document) -> list[_PublishedTable]:
    """Return the published limits of each analysis, as many as there is room for."""
    tables = published_tables(document)
    share = LIST_BYTES // max(1, len(tables))
    return [
        _PublishedTable(
            table, within(table.rows, share, lambda row: 300 + _row_bytes(row.hypothesis))
        )
        for table in tables
    ]


class _Group(NamedTuple):
    title: str
    plots: list[tuple[Plot, str]]


def _grouped(plots: Sequence[Plot], document: Document) -> list[_Group]:
    """Return the plots of the run, then those of each analysis, with their captions."""
    groups: dict[int | None, list[tuple[Plot, str]]] = {None: []}
    for plot in plots:
        caption = next((text for kind, text in _CAPTIONS.items() if plot.name.startswith(kind)), "")
        if "plane" in plot.name and _has_references(document, plot):
            caption += " The contours of this run should lie on those of the references."
        groups.setdefault(plot.analysis, []).append((plot, caption))
    return [
        _Group(
            "The run" if analysis is None else analyses.title_of(document["analyses"][analysis]),
            those,
        )
        for analysis, those in groups.items()
        if those
    ]


def _has_references(document: Document, plot: Plot) -> bool:
    hypotheses = [] if plot.analysis is None else document["analyses"][plot.analysis]["hypotheses"]
    return any(map(analyses.compared, hypotheses))


class _TimeRow(NamedTuple):
    title: str
    seconds: list[float]
    shares: list[float]
    sum_s: float
    capacity_s: float
    sum_share: float


def _time_rows(document: Document) -> list[_TimeRow]:
    """Return where the time of the workers went, for each analysis with a wall time."""
    found = []
    for analysis in document["analyses"]:
        wall_time = wall_times.wall_time_of(analysis)
        if wall_time is None:
            continue
        capacity_s = sum(each.workers * each.wall_s for each in wall_time.trials)
        capacity_s /= len(wall_time.trials)
        seconds = [wall_time.mean_of(f"{part}_s") for part in PARTS]
        shares = [each / capacity_s if capacity_s > 0 else math.nan for each in seconds]
        sum_s = sum(seconds)
        found.append(
            _TimeRow(
                analyses.title_of(analysis),
                seconds,
                shares,
                sum_s,
                capacity_s,
                sum_s / capacity_s if capacity_s > 0 else math.nan,
            )
        )
    return found


class _ScalingTable(NamedTuple):
    title: str
    unit: str
    points: list[tuple[int, str, float, float]]
    refused: list[RefusedPoint]
    explained: float | None
    measured: float | None


def _scaling(document: Document) -> list[_ScalingTable]:
    """Return the wall time against the number of workers or blocks, as tables."""
    tables = []
    for entry in document["scaling"]:
        found = scaling_figures(entry)
        wall_times = map(with_spread, found.wall_s, found.stdev_s)
        tables.append(
            _ScalingTable(
                f"{analyses.title_of(entry)}, by {entry['unit']}",
                entry["unit"],
                list(zip(found.counts, wall_times, found.speed_up, found.efficiency, strict=True)),
                entry.get("refused", []),
                found.explained_fraction,
                found.measured_fraction,
            )
        )
    return tables


def _names(machines: Sequence[environments.EnvironmentRow]) -> list[str]:
    """Return the names of all properties of environments, in the order of appearance."""
    return list(dict.fromkeys(name for each in machines for name in each.values))


class _UnreferencedTable(NamedTuple):
    """Hypotheses without a reference, as many as there is room for."""

    group: Unreferenced
    reason: Text
    shown: Sequence[Hypothesis]


def _unreferenced(document: Document) -> list[_UnreferencedTable]:
    groups = unreferenced(document)
    reasons = cut_all([group.reason for group in groups], FAILURE_BYTES)
    share = UNREFERENCED_BYTES // max(1, len(groups))
    return [
        _UnreferencedTable(group, reason, within(group.hypotheses, share, _row_bytes))
        for group, reason in zip(groups, reasons, strict=True)
    ]


def _listings(document: Document) -> list[_Listing]:
    """Return the hypotheses of all analyses except upper limits, which have their own section."""
    shown = [each for each in document["analyses"] if quantity_of(each) is not LIMITS]
    share = ROW_BYTES // max(1, len(shown))
    return [
        _Listing(analysis, within(analysis["hypotheses"], share, _row_bytes)) for analysis in shown
    ]
