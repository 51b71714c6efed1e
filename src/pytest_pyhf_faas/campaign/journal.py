"""Results on disk as they arrive, so that an interrupted run loses none.

One file for each run, one JSON object on each line, only ever appended to: a run that is killed
leaves at most its last line cut off, and readers leave such a line out. Each line is an event (a
fit was sent, was accepted by a service that will do it whatever happens here, met trouble, has a
result) with its time; results are found again by the key of their
task, which is made from the contents of pallet, patch and configuration. The same file is how the
workers of pytest-xdist read what one of them computes.
"""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign.results import HypotestResult, WorkerEnvironment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import TextIOWrapper
    from pathlib import Path

    from pytest_pyhf_faas.campaign.campaign import Event

SUFFIX = ".jsonl"
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
                self._file.write("\n")  # whoever wrote here before may have died in mid-line
        except OSError as error:
            self._give_up(error)

    def write(self, endpoint: str, result: HypotestResult) -> None:
        """Append a result, and before it the environment of a worker seen for the first time."""
        worker = result.worker
        environment = result.environment
        with self._lock:
            # A worker that serves another optimizer than before is another environment.
            if worker and environment is not None and self._known.get(worker) != environment:
                self._known[worker] = environment
                self._append("worker", {"worker": worker, "environment": environment.to_json()})
            self._append("result", {"endpoint": endpoint, "result": result.to_json()})

    def note(self, endpoint: str, event: Event) -> None:
        """Append what happened to a fit on its way: that it was sent, or met trouble."""
        task = event.task
        data = {
            "endpoint": endpoint,
            "pallet": task.pallet.name,
            "patch": task.patch.name,
            "attempt": event.attempt,
            "key": task.key,
        }
        if event.text:
            data["text"] = event.text
        with self._lock:
            self._append(event.kind, data)

    def _append(self, kind: str, data: dict[str, Any]) -> None:
        if self._file is None:
            return
        event = {"at": _now(), "event": kind, **data}
        try:
            self._file.write(json.dumps(event, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        self.problem = (
            f"the journal {self.path} cannot be written ({error.strerror or error}): this run's "
            "results are complete, but an interruption would lose them. Free some space, or turn "
            "to another directory with -o cache_dir=DIR"
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


class JournalReader:
    """Reads a journal that may still grow."""

    def __init__(self, path: Path) -> None:
        self.path = path
        #: References of what an endpoint has accepted and not answered, by endpoint and key.
        self.accepted: dict[tuple[str, str], str] = {}
        self._offset = 0
        self._environments: dict[str, WorkerEnvironment] = {}

    def read(self) -> Iterator[tuple[str, HypotestResult]]:
        """Yield (endpoint, result) for what is new since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
        except FileNotFoundError:
            return
        whole, newline, _cut_off = data.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        for line in whole.splitlines():
            if not line:
                continue
            try:
                event = json.loads(line)
                if event["event"] == "worker":
                    self._environments[event["worker"]] = WorkerEnvironment.from_json(
                        event["environment"]
                    )
                elif event["event"] == "accepted":
                    self.accepted[event["endpoint"], event["key"]] = str(event["text"])
                elif event["event"] == "result":
                    data_ = event["result"]
                    self.accepted.pop((event["endpoint"], data_["key"]), None)
                    environment = self._environments.get(data_.get("worker"))
                    yield event["endpoint"], HypotestResult.from_json(data_, environment)
            except (ValueError, KeyError, TypeError):
                continue  # cut off by a crash, and then appended to


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
    """Remove all but the newest journals."""
    for path in earlier(directory)[:-KEPT]:
        path.unlink(missing_ok=True)
