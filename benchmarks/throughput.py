"""What the campaign costs: tasks that do nothing, against the bare executor's, and memory.

``python benchmarks/throughput.py [--count N] [--fits] [ENDPOINT ...]``; each task is a batch of one
fit. With ``--fits`` these are real: over and over the quickest hypothesis of the bundled pallet.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import sys
import tempfile
import time
from collections import deque
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import print_machine
from tests.helpers import made_up_fits
from tests.helpers.scripted_engine import toy_tasks

from pytest_pyhf_faas.campaign import loop
from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, batch_payload, make_tasks
from pytest_pyhf_faas.engines import create_engine
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.pallets.pallet import Packed
from pytest_pyhf_faas.references.store import DIRECTORY, ReferenceStore

#: A batch system and an agent take their time until the first worker is there.
WORKERS_COME_S = 600.0


def real_tasks(count: int) -> list:
    """So many times the quickest hypothesis of the bundled pallet, as tasks that are told apart."""
    (pallet,) = catalogue.resolve(catalogue.BUNDLED, search_path=())
    directory = Path(__file__).parents[1] / DIRECTORY
    store = ReferenceStore([directory], directory)
    config = HypotestConfig()
    fitted = [task for task in make_tasks(pallet, config) if store.find(task).error is None]
    quickest = min(fitted, key=lambda task: store.find(task).expected_s(config.fit_setup)).patch
    patches = tuple(
        replace(
            quickest,
            name=f"{quickest.name}_{number}",
            content=Packed(
                hashlib.sha256(f"{quickest.digest} {number}".encode()).hexdigest(),
                quickest.content.packed,
            ),
        )
        for number in range(count)
    )
    return make_tasks(replace(pallet, patches=patches), config)


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def bare(engine, tasks, function) -> float:
    """The engine alone, with as much in flight as the campaign allows itself."""
    limit = engine.in_flight
    started = time.perf_counter()
    waiting: deque = deque()
    for task in tasks:
        if len(waiting) >= limit:
            waiting.popleft().result()
        waiting.append(engine.submit(function, batch_payload([task])))
    for future in waiting:
        future.result()
    return len(tasks) / (time.perf_counter() - started)


def measured(engine, tasks) -> tuple[float, float, float]:
    """The campaign: fits for each second, and memory at a tenth and at the end."""
    memory = []

    def took(_result) -> None:
        memory.append(rss_mb() if len(memory) in (len(tasks) // 10, len(tasks) - 1) else 0.0)

    campaign = Campaign(engine, on_result=took)
    started = time.perf_counter()
    campaign.submit(tasks)
    campaign.drain()
    rate = len(tasks) / (time.perf_counter() - started)
    return rate, memory[len(tasks) // 10], memory[-1]


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--fits", action="store_true")
    parser.add_argument("endpoints", nargs="*", default=["local:2"])
    options = parser.parse_args()
    if not options.fits:
        loop.worker_function = lambda _config: made_up_fits.fit_batch
    tasks = real_tasks(options.count) if options.fits else toy_tasks(options.count)
    function = loop.worker_function(tasks[0].config)
    print_machine()
    print("| endpoint | engine [tasks/s] | campaign [tasks/s] | ratio | memory [MB] |")
    print("|---|---|---|---|---|")
    for spec in options.endpoints:
        with tempfile.TemporaryDirectory() as directory:
            engine = create_engine(spec, Path(directory))
            engine.batch_s = -1.0  # no two fits share a task
            engine.submit(function, batch_payload(tasks[:1])).result(WORKERS_COME_S)
            # Before and after: a tenth of real fits tells as much.
            some = tasks[: max(1, len(tasks) // 10)] if options.fits else tasks
            before = bare(engine, some, function)
            rate, early, late = measured(engine, tasks)
            alone = (before + bare(engine, some, function)) / 2
            memory = f"{early:.0f} at {options.count // 10}, {late:.0f} at {options.count}"
            print(f"| {spec} | {alone:.0f} | {rate:.0f} | {rate / alone:.2f} | {memory} |")
            engine.stop()


if __name__ == "__main__":
    main()
