"""What the campaign costs: tasks that do nothing, against the bare executor's, and memory.

``python benchmarks/throughput.py [--count N] [ENDPOINT ...]``; each task is a batch of one fit.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import noop_fits
from scripted_engine import toy_tasks

from pytest_pyhf_faas import campaign as campaigns
from pytest_pyhf_faas.campaign import Campaign
from pytest_pyhf_faas.engines import create_engine
from pytest_pyhf_faas.tasks import batch_payload


def rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def bare(engine, tasks) -> float:
    """The engine alone, with as much in flight as the campaign allows itself."""
    limit = engine.in_flight
    started = time.perf_counter()
    waiting: deque = deque()
    for task in tasks:
        if len(waiting) >= limit:
            waiting.popleft().result()
        waiting.append(engine.submit(noop_fits.fit_batch, batch_payload([task])))
    for future in waiting:
        future.result()
    return len(tasks) / (time.perf_counter() - started)


def measured(engine, tasks) -> tuple[float, float, float]:
    """The campaign: fits for each second, and memory at a tenth and at the end."""
    memory = []

    def took(_result) -> None:
        memory.append(rss_mb() if len(memory) in (len(tasks) // 10, len(tasks) - 1) else 0.0)

    campaign = Campaign(engine, timeout_s=None, retries=1, on_result=took)
    started = time.perf_counter()
    campaign.submit(tasks)
    campaign.drain()
    rate = len(tasks) / (time.perf_counter() - started)
    return rate, memory[len(tasks) // 10], memory[-1]


def main() -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    campaigns.worker_function = lambda _config: noop_fits.fit_batch
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("endpoints", nargs="*", default=["local:2"])
    options = parser.parse_args()
    tasks = toy_tasks(options.count)
    print("| endpoint | engine [tasks/s] | campaign [tasks/s] | ratio | memory [MB] |")
    print("|---|---|---|---|---|")
    for spec in options.endpoints:
        with tempfile.TemporaryDirectory() as directory:
            engine = create_engine(spec, Path(directory))
            engine.batch_s = -1.0  # no two fits share a task
            engine.submit(noop_fits.fit_batch, batch_payload(tasks[:1])).result(120)
            before = bare(engine, tasks)
            rate, early, late = measured(engine, tasks)
            alone = (before + bare(engine, tasks)) / 2
            memory = f"{early:.0f} at {options.count // 10}, {late:.0f} at {options.count}"
            print(f"| {spec} | {alone:.0f} | {rate:.0f} | {rate / alone:.2f} | {memory} |")
            engine.stop()


if __name__ == "__main__":
    main()
