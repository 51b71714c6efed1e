"""A stage on a cluster of namespaces: the client runs on its head, the faults come from outside."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_pyhf_faas.campaign.events import Send
from pytest_pyhf_faas.engines import create_engine
from tests.helpers.paths import REPOSITORY
from tests.helpers.scripted_engine import wait_until
from tests.helpers.stage import Stage, parsl_processes

BLOCKS_COME_S = 180.0
RECIPE = REPOSITORY / "endpoints" / "parsl" / "slurm.py"


class ClusterStage(Stage):
    """A stage whose workers are processes of other machines."""

    def running(self):
        """Name, worker, manager and node of the fits that began, and have no result yet."""
        done = {result.patch for result in self.results}
        return [(*b[:3], b[4]) for b in self.begun() if b[0] not in done]

    def left_behind(self):
        """Processes of the head, and jobs; not those that Slurm keeps until a dead node is back."""
        command = ["squeue", "--noheader", "--format=%i %T"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        jobs = dict(line.split() for line in said.splitlines() if "COMPLETING" not in line)
        return {**dict(parsl_processes()), **jobs}

    def noticed_s(self):
        """Count the copy of a straggler, too."""
        copies = [
            at - self.injected_at
            for at, record in self.told.records
            if isinstance(record, Send) and record.why == "copy" and at >= self.injected_at
        ]
        return min([*copies, *filter(None, [super().noticed_s()])], default=None)

    def replaced_s(self):
        """How long after the fault the first fit began on a node that had none before."""
        struck_at = time.time() - (time.monotonic() - self.injected_at)
        begun = [(began_at, node) for *_, began_at, node in self.begun()]
        before = {node for began_at, node in begun if began_at < struck_at}
        later = [began_at - struck_at for began_at, node in begun if node not in before]
        return min(later, default=None)


def perform(cluster, fault, strike, *, fits, blocks, workers=2, limit_s=200.0):
    """Have fits run on a cluster, strike while they do, and return a row of the fault table.

    Parameters
    ----------
    cluster
        A running `Cluster`; the fits run there by the project's recipe for Slurm, unchanged.
    fault
        What to call it.
    strike
        Called with the cluster and the node of a fit that runs.
    fits
        Orders, as `Stage.begin` takes them.
    blocks, workers
        How many, and how many on each.
    limit_s
        How long all may take after the strike.
    """
    directory = cluster.shared / "stage"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    shutil.copy(RECIPE, directory)
    play = {"fault": fault, "fits": fits, "blocks": blocks, "workers": workers, "limit_s": limit_s}
    play["spare"] = blocks < len(cluster.nodes)
    # With the PATH of a login shell: what jobs need, they have from the recipe.
    command = ["env", f"PYTHONPATH={REPOSITORY}", sys.executable, "-m", __name__, str(directory)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with cluster.popen(*command, json.dumps(play), text=True, **pipes) as client:
        try:
            said = [client.stdout.readline()]
            if said[0].startswith("running on "):
                node = said[0].split()[-1]
                strike(cluster, node)
                said += client.communicate("struck\n", timeout=limit_s + 60)
            else:
                said += client.communicate(timeout=60)
        except BaseException:
            client.kill()
            raise
    assert client.returncode == 0, "".join(said)
    return json.loads(said[1].splitlines()[-1])


def main(directory, play):
    """Be the client, on the head."""
    directory, play = Path(directory), json.loads(play)
    rows = []
    with pytest.MonkeyPatch.context() as patch:
        sizes = {name: play[name] for name in ("blocks", "workers")}
        engine = create_engine(f"parsl:{directory / RECIPE.name}", directory / "engine", **sizes)
        stage = ClusterStage("parsl-slurm", engine, directory, patch)
        try:
            workers = sizes["blocks"] * sizes["workers"]
            engine.start()
            wait_until(lambda: engine.workers_there >= workers, "all are there", BLOCKS_COME_S)
            begun = time.monotonic()
            stage.begin(play["fits"], timeout_s=play["limit_s"])
            stage.wait_for_running(workers)
            stage.struck()
            print("running on", stage.running()[-1][3], flush=True)
            sys.stdin.readline()
            statuses = stage.finish(play["limit_s"])
            taken_s = time.monotonic() - begun
            stage.note_down(lambda _name, row: rows.append(json.loads(row)), play["fault"])
        finally:
            if stage.campaign is not None:
                stage.campaign.cancel("the client ends")
            engine.stop()
    assert set(statuses.values()) == {"ok"}, statuses
    row = {**rows[0], "wall_s": taken_s}
    if play["spare"]:
        row["replaced_s"] = stage.replaced_s()
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
