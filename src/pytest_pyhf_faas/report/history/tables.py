"""A history for spreadsheets and programs: ``history.csv`` and ``history.json``."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign.results import json_number
from pytest_pyhf_faas.report.history import words
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import relative_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from pytest_pyhf_faas.report.history.points import Point
    from pytest_pyhf_faas.report.history.read import History
    from pytest_pyhf_faas.report.history.series import Change, Series, Shift, TimeChange

CSV, JSON = "history.csv", "history.json"
VERSION = 1
_SERIES = ("pallet", "endpoint", "fit_setup", "quantity", "config")
_RUN = ("began_at", "run", "report", "interrupted", "hypotheses")
_TIMES = ("trials", "workers", "fits", "wall_s", "wall_stdev_s", "fit_median_s", "cpus", "hosts")


def write_csv(history: History, directory: Path) -> None:
    """Write a row for each run of each series; what is not known is empty."""
    names = dict.fromkeys(
        name
        for each in history.series
        for point in each.points
        for name, _ in words.versions(point)
    )
    header = [*_SERIES, *_RUN, *(each.value for each in Verdict), *_TIMES, *names]
    with (directory / CSV).open(
        "w", encoding="utf-8", errors="backslashreplace", newline=""
    ) as file:
        writer = csv.DictWriter(file, header, lineterminator="\n")
        writer.writeheader()
        for series in history.series:
            writer.writerows(_row(series, point, directory) for point in series.points)


def write_json(history: History, directory: Path) -> None:
    """Write all of it: the points, what changed from one to the next, and what was left out."""
    found = {
        "schema_version": VERSION,
        "runs": history.runs,
        "series": [_series(each, directory) for each in history.series],
        "skipped": [
            {"path": _from(directory, each.path), "reason": each.reason} for each in history.skipped
        ],
    }
    text = json.dumps(found, ensure_ascii=False, allow_nan=False, indent=1)
    (directory / JSON).write_text(f"{text}\n", encoding="utf-8", errors="backslashreplace")


def _row(series: Series, point: Point, directory: Path) -> dict[str, object]:
    measured, verdicts = point.wall_time, point.verdicts
    return {
        **series.key._asdict(),
        "config": "; ".join(f"{name}={value}" for name, value in series.key.config),
        "began_at": point.began_at,
        "run": point.run,
        "report": words.link(point, directory),
        "interrupted": point.interrupted,
        **({} if verdicts is None else _counts(verdicts)),
        **({} if measured is None else _times(point)),
        "fit_median_s": point.fit_s,
        "cpus": "; ".join(point.workers.cpus),
        "hosts": "; ".join(point.workers.hosts),
        **point.versions,
    }


def _counts(verdicts: Mapping[str, int]) -> dict[str, int]:
    return {
        "hypotheses": sum(verdicts.values()),
        **{each.value: verdicts.get(each.value, 0) for each in Verdict},
    }


def _times(point: Point) -> dict[str, Any]:
    measured = point.wall_time
    assert measured is not None
    return {
        "trials": len(measured.trials),
        "workers": measured.last.workers,
        "fits": measured.last.fits,
        "wall_s": measured.mean_s,
        "wall_stdev_s": measured.stdev_s,
    }


def _series(series: Series, directory: Path) -> dict[str, Any]:
    pace = series.pace
    return {
        **series.key._asdict(),
        "config": dict(series.key.config),
        "points": [
            _point(point, shifts, directory)
            for point, shifts in zip(series.points, series.shifts, strict=True)
        ],
        "changes": [_change(each) for each in series.changes],
        "wall_time": {
            "steps": [_step(each) for each in pace.steps],
            "scatter": pace.scatter,
            "quiet": pace.quiet,
            "changed": pace.changed,
            "unknown": pace.unknown,
        },
    }


def _point(point: Point, shifts: Iterable[Shift], directory: Path) -> dict[str, Any]:
    measured = point.wall_time
    return {
        "run": point.run,
        "began_at": point.began_at,
        "report": words.link(point, directory),
        "source": _from(directory, point.source),
        "interrupted": point.interrupted,
        "verdicts": None if point.verdicts is None else dict(point.verdicts),
        "wall_time": None
        if measured is None
        else {**_times(point), "trials_s": [each.wall_s for each in measured.trials]},
        "fit_median_s": point.fit_s,
        "cpus": list(point.workers.cpus),
        "hosts": list(point.workers.hosts),
        "versions": point.versions,
        "code": point.code,
        "threads": dict(point.workers.threads),
        "inputs": dict(point.inputs),
        "shifts": _shifts(shifts),
    }


def _shifts(shifts: Iterable[Shift]) -> list[dict[str, str]]:
    return [each._asdict() for each in shifts]


def _change(change: Change) -> dict[str, Any]:
    return {
        "before": change.before.run,
        "after": change.after.run,
        "shifts": _shifts(change.shifts),
        "verdicts": [
            {"patch": each.patch, "before": each.before, "after": each.after, "kind": each.kind}
            for each in change.verdicts
        ],
        "moved": [
            {"patch": each.patch, "value": each.value, "relative": json_number(each.relative)}
            for each in change.moved
        ],
    }


def _step(change: TimeChange) -> dict[str, Any]:
    ratio = change.times.ratio
    return {
        "before": change.before.run,
        "after": change.after.run,
        "ratio": json_number(math.nan if ratio is None else ratio),
        "times": [asdict(change.times.before), asdict(change.times.after)],
        "shifts": _shifts(change.shifts),
    }


def _from(directory: Path, path: Path) -> str:
    return relative_path(path, directory)
