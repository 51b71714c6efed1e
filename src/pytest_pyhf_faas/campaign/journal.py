"""Results on disk as they arrive, so that an interrupted run loses none.

One file for each run, one JSON object on each line, only ever appended to: a run that is killed
leaves at most its last line cut off, and readers leave such a line out. It is the log of the run's
campaigns, see `log`: their events and decisions, with the time, so that a run can be
replayed; and between these lines the results, and the workers that they came from. Results are
found again by the key of their task, which is made from the contents of pallet, patch and
configuration. Workers of pytest-xdist read in the same file what one of them computes.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
import weakref
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_pyhf_faas.campaign.log import record_from_json, record_to_json
from pytest_pyhf_faas.campaign.results import HypotestResult, WorkerEnvironment
from pytest_pyhf_faas.campaign.tasks import worker_sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import TextIOWrapper
    from pathlib import Path

    from pytest_pyhf_faas.campaign.log import Record

SUFFIX = ".jsonl"
#: Version of the lines; those of version 1 had no number, and are still read.
VERSION = 2
#: Runs whose journals are kept; older ones go when a new run begins.
KEPT = 20


class Journal:
    """The journal of one run, opened for writing.

    A disk that is full stops the journal, not the run: the results stay in memory, and `problem`
    says what happened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problem: str | None = None
        self._lock = threading.Lock()  # campaigns of several endpoints write to it
        self._known: dict[str, WorkerEnvironment] = {}
        self._file: TextIOWrapper | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("a", encoding="utf-8", errors="backslashreplace")
            if self._file.tell():
                self._file.write("\n")  # an earlier writer may have died in mid-line
        except OSError as error:
            self._give_up(error)
        # Twice, to distinguish a damaged byte from a newer version.
        self._append(
            {
                "event": "journal",
                "version": VERSION,
                "again": VERSION,
                "worker_sha256": worker_sha256(),
            }
        )

    def write(self, endpoint: str, result: HypotestResult) -> None:
        """Append a result, and before it the environment of a worker seen for the first time."""
        worker = result.worker
        environment = result.environment
        with self._lock:
            # A worker that serves another optimizer than before is another environment.
            if worker and environment is not None and self._known.get(worker) != environment:
                self._known[worker] = environment
                self._append(
                    {"event": "worker", "worker": worker, "environment": environment.to_json()}
                )
            self._append({"event": "result", "endpoint": endpoint, "result": result.to_json()})

    def note(self, endpoint: str, now: float, record: Record) -> None:
        """Append a record of a campaign's log, with its moment."""
        with self._lock:
            self._append({"endpoint": endpoint, "now": now, **record_to_json(record)})

    def _append(self, data: dict[str, Any]) -> None:
        if self._file is None:
            return
        try:
            self._file.write(json.dumps({"at": _now(), **data}, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.problem = (
            f"the journal {self.path} cannot be written ({error.strerror or error}): this run's "
            "results are complete, but an interruption would lose them. Free some space, or choose "
            "another directory with -o cache_dir=DIR"
        )
        self.close()

    def close(self) -> None:
        """Close the file; what is written later is left out."""
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self._give_up(error)


class _Kept:
    """An open file that stays readable, even if it is removed meanwhile."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._file = path.open("rb")
        weakref.finalize(self, self._file.close)

    def read(self, offset: int, length: int) -> bytes:
        """Return a part of it."""
        with self._lock:
            self._file.seek(offset)
            return self._file.read(length)


class StoredResult(NamedTuple):
    """The position of a result in a journal: a fraction of its size.

    Attributes
    ----------
    file : _Kept
        The journal.
    offset, length : int
        Of the line, in bytes.
    environment : WorkerEnvironment or None
        Of its worker.
    """

    file: _Kept
    offset: int
    length: int
    environment: WorkerEnvironment | None

    def read(self) -> HypotestResult:
        """Return the result."""
        line = self.file.read(self.offset, self.length)
        return HypotestResult.from_json(json.loads(line)["result"], self.environment)


class JournalReader:
    """Reads a journal that may still grow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: Why it was not read to its end, if so.
        self.problem: str | None = None
        #: The digest of the code that the run has fitted with, see `tasks.worker_sha256`; ``None``
        #: in journals of earlier versions.
        self.worker_sha256: str | None = None
        #: References of what an endpoint has accepted and not answered, by endpoint and key.
        self.accepted: dict[tuple[str, str], str] = {}
        self._offset = 0
        self._at = (0, 0)  # of the line that was read last: offset and length
        self._environments: dict[str, WorkerEnvironment] = {}
        self._batches: dict[tuple[str, int], list[str]] = {}

    def read(self) -> Iterator[tuple[str, HypotestResult]]:
        """Yield (endpoint, result) for what is new since the last call."""
        for line in self._lines():
            try:
                if line.get("event") == "result":
                    yield line["endpoint"], self._result(line["endpoint"], line["result"])
                else:
                    self._learn(line)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # damaged

    def read_places(self) -> Iterator[tuple[str, HypotestResult, StoredResult]]:
        """Yield (endpoint, result, where it is) as `read` does, to keep only the last."""
        with contextlib.suppress(FileNotFoundError):
            file = _Kept(self.path)
            for endpoint, result in self.read():
                yield endpoint, result, StoredResult(file, *self._at, result.environment)

    def records(self, endpoint: str) -> Iterator[tuple[float, Record]]:
        """Yield the log of the campaigns on an endpoint, as far as it is new: moment and record."""
        for line in self._lines():
            if line.get("endpoint") == endpoint and "now" in line:
                record = record_from_json(line)
                if record is not None:
                    yield line["now"], record

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # cut off, or still being written
                self._at = self._offset, len(line)
                self._offset += len(line)
                try:
                    data = json.loads(line)
                except ValueError:
                    continue  # empty, or cut off by a crash and then appended to
                if not isinstance(data, dict):
                    continue
                version = data.get("version", VERSION)
                if version not in (VERSION, None) and version == data.get("again"):
                    self.problem = (
                        f"the journal {self.path} has version {version!r}, but only "
                        f"{VERSION} and older ones are known: it was written by a newer pytest-"
                        "pyhf-faas and is left out. Use that version to take over its results"
                    )
                if self.problem is None:
                    yield data

    def _result(self, endpoint: str, data: dict[str, Any]) -> HypotestResult:
        self.accepted.pop((endpoint, data["key"]), None)
        return HypotestResult.from_json(data, self._environments.get(data.get("worker", "")))

    def _learn(self, line: dict[str, Any]) -> None:
        event, endpoint = line.get("event") or line.get("do"), line.get("endpoint", "")
        if event == "journal":
            self.worker_sha256 = line.get("worker_sha256")
        elif event == "worker":
            self._environments[line["worker"]] = WorkerEnvironment.from_json(line["environment"])
        elif event in ("send", "collect"):
            self._batches[endpoint, line["batch"]] = line["keys"]
        elif event in ("answered", "failed"):
            self._batches.pop((endpoint, line["batch"]), None)
        elif event == "accepted" and "key" in line:  # of version 1
            self.accepted[endpoint, line["key"]] = str(line["text"])
        elif event == "accepted":
            for key in self._batches.get((endpoint, line["batch"]), ()):
                self.accepted[endpoint, key] = str(line["reference"])


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")


def new_path(directory: Path) -> Path:
    """Return the path of a new journal; names sort by time."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    return directory / f"{stamp}-{os.getpid()}{SUFFIX}"


def earlier(directory: Path) -> list[Path]:
    """Return the journals of a directory, oldest first."""
    return sorted(directory.glob(f"*{SUFFIX}")) if directory.is_dir() else []


def prune(directory: Path) -> None:
    """Remove all but the newest journals, and files that a killed run left next to one."""
    for path in earlier(directory)[:-KEPT]:
        for file in directory.glob(f"{path.stem}.*"):
            file.unlink(missing_ok=True)
