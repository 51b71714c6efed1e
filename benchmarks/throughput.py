"""What the campaign costs: tasks that do nothing, against the bare executor's, and memory.

``python benchmarks/throughput.py [--count N] [--fits] [--blocks N --workers N] [ENDPOINT]...``; a
task is a batch of one fit. With ``--fits`` these are real: over and over the quickest hypothesis of
the bundled pallet. With ``--blocks`` and ``--workers`` it begins when all of these have answered.

*Round trip* is one task alone, there and back; *CPU* is what each task costs the processes of this
machine that are between client and workers, which says which of them limits the rate.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import os
import resource
import sys
import tempfile
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from statistics import median

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))

from machine import print_machine

from pytest_pyhf_faas.campaign import loop
from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, batch_payload, make_tasks
from pytest_pyhf_faas.engines import create_engine
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.pallets.pallet import Packed
from pytest_pyhf_faas.references.store import DIRECTORY, ReferenceStore
from tests.helpers import made_up_fits
from tests.helpers.scripted_engine import toy_tasks

#: A batch system and an agent take their time until the first worker is there.
WORKERS_COME_S = 600.0
NAP_S = 1.0

#: What is between a client and its workers, and a mark of its command.
ON_THE_WAY = {
    "interchange": "interchange",
    "service": "globus_web",
    "broker": "beam.smp",
    "agent": "Globus Compute Endpoint",
}
COLUMNS = (
    "endpoint",
    "workers",
    "engine [tasks/s]",
    "campaign [tasks/s]",
    "ratio",
    "round trip [ms]",
    "CPU of a task [ms]",
    "memory [MB]",
)


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
    started = time.perf_counter()
    waiting: deque = deque()
    for task in tasks:
        while len(waiting) >= engine.in_flight:
            waiting.popleft().result()
        waiting.append(engine.submit(function, batch_payload([task])))
    for future in waiting:
        future.result()
    return len(tasks) / (time.perf_counter() - started)


def wait_for_workers(engine, count: int | None) -> None:
    """Return when so many workers have answered, or the first of an unknown number."""
    (task,) = toy_tasks(1)
    naps = Packed.of([{"op": made_up_fits.SLEEP, "value": NAP_S}])  # so that each gets one
    call = batch_payload([replace(task, patch=replace(task.patch, content=naps))])
    deadline = time.monotonic() + WORKERS_COME_S
    while True:
        futures = [engine.submit(made_up_fits.fit_batch, call) for _ in range(count or 1)]
        for future in futures:
            future.result(WORKERS_COME_S)
        if engine.workers_there >= (count or 0) or time.monotonic() > deadline:
            return


def round_trip_s(engine, task, function, times: int = 15) -> float:
    """The median time of a task that is alone."""
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        engine.submit(function, batch_payload([task])).result()
        taken.append(time.perf_counter() - begun)
    return median(taken)


def cpu_s() -> dict[str, float]:
    """CPU time so far of the processes on the way, by what they are."""
    used = dict.fromkeys(("client", *ON_THE_WAY), 0.0)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            command = " ".join(process.cmdline())
            names = [name for name, mark in ON_THE_WAY.items() if mark in command]
            if process.pid == os.getpid():
                names = ["client"]
            for name in names[:1]:
                used[name] += sum(process.cpu_times()[:2])
    return used


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
    parser.add_argument("--blocks", type=int)
    parser.add_argument("--workers", type=int, help="of each block")
    parser.add_argument("--directory", help="that the workers see, for what Parsl keeps")
    parser.add_argument("endpoints", nargs="*", default=["local:2"])
    options = parser.parse_args()
    if not options.fits:
        loop.worker_function = lambda _config: made_up_fits.fit_batch
    tasks = real_tasks(options.count) if options.fits else toy_tasks(options.count)
    function = loop.worker_function(tasks[0].config)
    print_machine()
    count = None if options.workers is None else (options.blocks or 1) * options.workers
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for spec in options.endpoints:
        with tempfile.TemporaryDirectory(dir=options.directory) as directory:
            sizes = {"blocks": options.blocks, "workers": options.workers}
            engine = create_engine(spec, Path(directory), **sizes)
            engine.batch_s = -1.0  # no two fits share a task
            wait_for_workers(engine, count)
            alone_s = round_trip_s(engine, tasks[0], function)
            # Before and after: a tenth of real fits tells as much.
            some = tasks[: max(1, len(tasks) // 10)] if options.fits else tasks
            before = bare(engine, some, function)
            used = cpu_s()
            rate, early, late = measured(engine, tasks)
            cpu = {name: after - used[name] for name, after in cpu_s().items()}
            rate_alone = (before + bare(engine, some, function)) / 2
            cells = (
                spec,
                engine.workers_there or engine.workers,
                f"{rate_alone:.0f}",
                f"{rate:.0f}",
                f"{rate / rate_alone:.2f}",
                f"{1e3 * alone_s:.0f}",
                ", ".join(f"{n} {1e3 * s / len(tasks):.1f}" for n, s in cpu.items() if s),
                f"{early:.0f} at {options.count // 10}, {late:.0f} at {options.count}",
            )
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
            engine.stop()


if __name__ == "__main__":
    main()
