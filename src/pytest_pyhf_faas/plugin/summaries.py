"""Summaries of all processes of a run, merged by the one with the terminal."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypedDict, cast

from pytest_pyhf_faas.plugin import sharing
from pytest_pyhf_faas.plugin.context import existing_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from pytest_pyhf_faas.plugin.context import Context
    from pytest_pyhf_faas.plugin.no_reference import Unreferenced
    from pytest_pyhf_faas.plugin.settings import UpdateMode
    from pytest_pyhf_faas.report.form import Endpoint, Fits, TimelineEntry


class TimelineOf(TypedDict):
    """When the fits of an analysis ran."""

    pallet: str
    endpoint: str
    config: dict[str, Any]
    timeline: TimelineEntry


class Summary(TypedDict):
    """The summary of a process at its end; plain values, because xdist sends them on.

    `ambiguous` is as `terminal.ambiguous_lines` takes it, `toys` as `toy_values.off_lines`,
    `written` by file what `Written` has; `kept` is how many hypotheses keep their reference
    in the mode `update`.
    `endpoints` and `timelines` are empty where no report is made.
    """

    interrupted: bool
    failed: bool
    fits: Fits
    notes: list[str]
    known_issues: dict[str, int]
    ambiguous: list[dict[str, Any]]
    published: list[str]
    unreferenced: list[Unreferenced]
    toys: list[dict[str, Any]]
    update: UpdateMode | None
    kept: int
    written: dict[str, dict[str, int]]
    endpoints: list[Endpoint]
    timelines: list[TimelineOf]


def summaries_of(config: pytest.Config) -> list[Summary]:
    """Return the summaries of the workers of xdist that have ended, and that of this process."""
    summaries = sharing.handed_in(config)
    context = existing_context(config)
    return summaries if context is None else [*summaries, summary_of(context)]


def summary_of(context: Context, *, failed: bool = False) -> Summary:
    """Return the summary of this process, which failed if it could not keep something."""
    from pytest_pyhf_faas.plugin.notes import AMBIGUOUS, PUBLISHED, TOYS, UNREFERENCED

    schedule = context.schedule
    sendings = schedule.campaigns.sendings
    is_reported = context.settings.report is not None
    return {
        "interrupted": schedule.interrupted,
        "failed": failed,
        "fits": {
            "sent": sum(each.fits for each in sendings),
            "not_sent": sum(each.kept for each in sendings),
            "searches": schedule.searches,
            "again": dict(sum((each.again for each in sendings), Counter())),
            "taken_over": schedule.sender.adopted,
            "collected": schedule.sender.collected,
        },
        "notes": list(schedule.notes),
        "known_issues": dict(context.known_issues),
        "ambiguous": list(context.config.stash.get(AMBIGUOUS, ())),
        "published": list(dict.fromkeys(context.config.stash.get(PUBLISHED, ()))),
        "unreferenced": list(context.config.stash.get(UNREFERENCED, ())),
        "toys": list(context.config.stash.get(TOYS, ())),
        "update": None if context.settings.dry_run else context.settings.update,
        "kept": context.kept,
        "written": {
            str(path): asdict(written) for path, written in context.references.written.items()
        },
        "endpoints": _endpoints(context) if is_reported else [],
        "timelines": _timelines(context) if is_reported else [],
    }


def _endpoints(context: Context) -> list[Endpoint]:
    return [
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
    ]


def _timelines(context: Context) -> list[TimelineOf]:
    return [
        {
            "pallet": pallet,
            "endpoint": endpoint,
            "config": config.to_json(),
            "timeline": cast("TimelineEntry", timeline.to_json()),
        }
        for endpoint, pallet, config, timeline in context.schedule.timelines()
    ]


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    from pytest_pyhf_faas.session.hypotheses import json_value

    return {name: json_value(value) for name, value in values.items()}
