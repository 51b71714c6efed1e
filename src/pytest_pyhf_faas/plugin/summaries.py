"""What each process of a run has to say at its end, put together by the one that a person sees."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.plugin import sharing
from pytest_pyhf_faas.plugin.context import existing_context

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from pytest_pyhf_faas.plugin.context import Context


def summaries_of(config: pytest.Config) -> list[dict[str, Any]]:
    """Return the summaries of the workers of xdist that have ended, and that of this process."""
    summaries = sharing.handed_in(config)
    context = existing_context(config)
    return summaries if context is None else [*summaries, summary_of(context)]


def summary_of(context: Context) -> dict[str, Any]:
    """Return what a process has to say at its end; plain values, for xdist sends them on."""
    from pytest_pyhf_faas.plugin.notes import AMBIGUOUS

    schedule = context.schedule
    return {
        "interrupted": schedule.interrupted,
        "fits": sum(campaign.fits_sent for campaign in schedule.campaigns),
        "adopted": schedule.sender.adopted,
        "collected": schedule.sender.collected,
        "notes": list(schedule.notes),
        "known_issues": dict(context.known_issues),
        "ambiguous": list(context.config.stash.get(AMBIGUOUS, ())),
        "written": {
            str(path): asdict(written) for path, written in context.references.written.items()
        },
        **({} if context.settings.report is None else _facts(context)),
    }


def _facts(context: Context) -> dict[str, Any]:
    """Return what a report has of a process beside its items."""
    return {
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


def _finite(values: Mapping[str, Any]) -> dict[str, Any]:
    from pytest_pyhf_faas.plugin.notes import json_value

    return {name: json_value(value) for name, value in values.items()}
