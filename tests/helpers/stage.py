"""An engine on which fits meet trouble, and what is held of them then."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import time
import uuid
from collections import Counter
from dataclasses import replace
from pathlib import Path

from pytest_pyhf_faas.campaign import loop
from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.events import Note
from pytest_pyhf_faas.campaign.policy import Policy
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, make_tasks
from pytest_pyhf_faas.pallets.packing import pack
from pytest_pyhf_faas.pallets.pallet import Packed
from tests.engines.test_local import marked, processes
from tests.helpers import faulty_fits
from tests.helpers.scripted_engine import toy_pallet, wait_until
from tests.helpers.stepped import Told

#: In the environment of whatever these tests start.
MARK = f"FAAS_FAULTS={uuid.uuid4().hex}"
START_S = 60.0
PATIENCE_S = 60.0
GONE_S = 10.0


class Stage:
    """An engine, its campaign, and what happened there."""

    def __init__(self, kind, engine, tmp_path, monkeypatch, slurm=None):
        self.kind = kind
        self.slurm = slurm
        self.log = tmp_path / "begun.jsonl"
        self.log.touch()
        self.engine = engine
        self.told = Told()
        #: What a campaign's policy is on this stage, but for the defaults.
        self.policy = {}
        self.results = []
        self.told_at = []
        self.campaign = None
        self.before = marked(MARK)
        self.injected_at = None
        monkeypatch.chdir(tmp_path)  # where what Parsl starts is known by
        monkeypatch.setattr(loop, "worker_function", lambda _config: faulty_fits.fit_batch)

    def begin(self, orders, **options):
        """Send one fit for each order; with ``late`` two of them, and wait for these."""
        pallet = toy_pallet(len(orders))
        patches = []
        for number, (patch, order) in enumerate(zip(pallet.patches, orders, strict=True)):
            data = {"log": str(self.log), "name": patch.name, "value": number / 1000, **order}
            digest = hashlib.sha256(json.dumps(data).encode()).hexdigest()
            patches.append(replace(patch, content=Packed(digest, pack(data))))
        self.tasks = make_tasks(replace(pallet, patches=tuple(patches)), HypotestConfig())
        late = options.pop("late", False)
        policy = Policy(**{"timeout_s": 60.0, **self.policy, **options})
        self.campaign = Campaign(self.engine, policy, on_result=self.take, on_record=self.told.hear)
        if not late:
            self.campaign.submit(self.tasks)
            return
        self.campaign.submit(self.tasks[:2])
        for task in self.tasks[:2]:
            self.campaign.result(task).result(START_S)

    def take(self, result):
        self.results.append(result)
        if result.status != "ok":
            self.told_at.append(time.monotonic())

    def begun(self):
        """Name, worker and manager of each fit that began, in order."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def running(self):
        """The fits that run now: (name, worker, manager)."""
        alive = processes()
        done = {result.patch for result in self.results}
        return [tuple(b[:3]) for b in self.begun() if b[0] not in done and b[1] in alive]

    def wait_for_running(self, count=1):
        wait_until(lambda: len(self.running()) >= count, f"{count} fits run", START_S)
        return self.running()

    def strike(self, pid, number=signal.SIGKILL):
        self.injected_at = time.monotonic()
        os.kill(pid, number)

    def struck(self):
        self.injected_at = time.monotonic()

    def finish(self, limit_s=PATIENCE_S):
        """Wait for all results, and return their statuses by patch."""
        deadline = time.monotonic() + limit_s
        for task in self.tasks:
            self.campaign.result(task).result(max(0.1, deadline - time.monotonic()))
        return {result.patch: result.status for result in self.results}

    def noticed_s(self):
        """How long after it was done the campaign took note of the fault."""
        if self.injected_at is None:
            return None
        times = [at for at, record in self.told.records if isinstance(record, Note)]
        later = [at for at in (*times, *self.told_at) if at >= self.injected_at]
        return min(later) - self.injected_at if later else None

    def left_behind(self):
        """Processes and jobs that the engine started and that still are there."""
        ours = {
            pid: command
            for pid, command in marked(MARK).items()
            if pid != os.getpid()
            and pid not in self.before
            and not (
                processes().get(pid, (0, ""))[0] == os.getpid()
                and ("forkserver" in command or "resource_tracker" in command)
            )
        }
        return {**ours, **dict(parsl_processes()), **(self.slurm.jobs() if self.slurm else {})}

    def note_down(self, record_property, fault):
        """Take down a row of the fault table, and hold what must always hold."""
        self.campaign.cancel("the test is over")
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.left_behind(), "nothing is left", GONE_S)
        counted = Counter(result.key for result in self.results)
        left = self.left_behind()
        row = {
            "fault": fault,
            "engine": self.kind,
            "fits": len(self.tasks),
            "executed": len(self.begun()),
            "counted": len(counted),
            "lost": len(self.tasks) - len(counted),
            "doubled": sum(count > 1 for count in counted.values()),
            "noticed_s": self.noticed_s(),
            "left": len(left),
        }
        record_property("fault_row", json.dumps(row))
        assert (row["lost"], row["doubled"]) == (0, 0), row
        assert left == {}
        values = {task.key: number / 1000 for number, task in enumerate(self.tasks)}
        for result in self.results:
            if result.status == "ok":
                assert result.CLs_obs == values[result.key]


def parsl_processes():
    """What Parsl started and renamed, which overwrites the environment that a mark is found in."""
    found = []
    for pid, (_, command) in processes().items():
        with contextlib.suppress(OSError):
            if "parsl: " in command and Path(f"/proc/{pid}/cwd").readlink() == Path.cwd():
                found.append((pid, command))
    return found


def fits(count, seconds=0.5):
    """Orders for so many fits that only take their time."""
    return [{"seconds": seconds} for _ in range(count)]


def ok(statuses):
    return set(statuses.values()) == {"ok"}
