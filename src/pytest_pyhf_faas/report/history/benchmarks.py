"""Wall times stored by pytest-benchmark, for runs that left no report."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import ReportError
from pytest_pyhf_faas.report.history.points import UNKNOWN, Key, Point, Workers, not_default
from pytest_pyhf_faas.report.quantity import CLS
from pytest_pyhf_faas.report.wall_times import wall_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The default storage of pytest-benchmark, with a directory for each kind of machine.
STORAGE = ".benchmarks"


def points_in(path: Path) -> list[tuple[Key, Point]]:
    """Return the wall times of this package in a file of pytest-benchmark, if any.

    Raises
    ------
    ReportError
        If it cannot be read.
    """
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return [
            _point(stored, benchmark, path)
            for benchmark in stored["benchmarks"]
            if "trials" in benchmark["extra_info"] and "patches" in benchmark["extra_info"]
        ]
    except OSError as error:
        raise ReportError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ReportError(
            f"{path} is not a pytest-benchmark file that this version can read ({error!r}): "
            "it is truncated, or another kind of file"
        ) from error


def _point(
    stored: Mapping[str, Any], benchmark: Mapping[str, Any], path: Path
) -> tuple[Key, Point]:
    known = benchmark["extra_info"]
    key = Key(
        str(known["analysis"]),
        str(known["endpoint"]),
        str(known.get("fit_setup", f"fit setup {UNKNOWN}")),
        CLS.name,
        not_default(known.get("config", {})),
    )
    saved = datetime.fromisoformat(stored["datetime"]).astimezone(timezone.utc)
    point = Point(
        run=str(stored.get("pyhf_faas", {}).get("run", f"{path.parent.name}/{path.stem}")),
        began_at=f"{saved:%Y-%m-%dT%H:%M:%SZ}",
        source=path,
        workers=Workers.of(known.get("environments", ())),
        wall_time=wall_time(known["trials"], key.pallet, key.endpoint),
    )
    return key, point
