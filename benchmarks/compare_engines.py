"""The same fits on several endpoints: are CLs the same, and what share of the time is fits?

``python benchmarks/compare_engines.py PALLET:COUNT ENDPOINT ...`` (or ``PALLET`` whole); the
patches are spread over the grid. With ``SLURM_CONF`` of a Slurm of this machine an endpoint
may be ``parsl:tests/services/parsl_slurm.py``.
"""

from __future__ import annotations

import math
import sys
import tempfile
from pathlib import Path

from machine import print_machine

from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, make_tasks
from pytest_pyhf_faas.engines import create_engine
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.references.store import DIRECTORY, ReferenceStore


def _difference(ours: float, theirs: float) -> float:
    if ours == theirs or (math.isnan(ours) and math.isnan(theirs)):
        return 0.0
    return abs(ours / theirs - 1) if theirs else math.inf


def main() -> None:
    spec, *endpoints = sys.argv[1:]
    name, _, count = spec.partition(":")
    (pallet,) = catalogue.resolve(name, search_path=catalogue.search_path_from_environment())
    directory = Path(__file__).parents[1] / DIRECTORY
    store = ReferenceStore([directory], directory)
    tasks = make_tasks(pallet, HypotestConfig())
    if count:
        last = len(tasks) - 1
        tasks = [tasks[i * last // (int(count) - 1)] for i in range(int(count))]
    print_machine()
    first: dict[str, tuple[float, ...]] = {}
    print(f"{name}, {len(tasks)} patches")
    print(
        "| endpoint | wall time [s] | start-up [s] | efficiency | without start-up | CLs differ |"
    )
    print("|---|---|---|---|---|---|")
    for endpoint in endpoints:
        with tempfile.TemporaryDirectory() as scratch:
            engine = create_engine(endpoint, Path(scratch))
            campaign = Campaign(
                engine,
                expected_s=lambda task: store.find(task).expected_s("numpy+scipy"),
            )
            trial = campaign.measure(tasks)
            results = [campaign.result(task).result() for task in tasks]
            campaign.cancel("done")
        values = {result.key: result.cls_values for result in results}
        first = first or values
        largest = max(
            _difference(ours, theirs)
            for key in values
            for ours, theirs in zip(values[key], first[key], strict=True)
        )
        startup_s = trial.startup_s / trial.workers
        running_s = trial.wall_s - startup_s
        print(
            f"| {endpoint} | {trial.wall_s:.1f} | {startup_s:.1f} | {trial.efficiency:.3f} "
            f"| {trial.fit_s / trial.workers / running_s:.3f} | {largest:.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
