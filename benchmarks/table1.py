"""Table 1 of arXiv:2103.02182 acted out: its three analyses on 1, 2 and 4 blocks of 24 workers.

``python benchmarks/table1.py --endpoint parsl:CONFIG.py [--analysis 1Lbb] [--blocks 1 2 4]
[--trials 10] [--cold 1] [--speed-up 10] [--json FILE]``

Fits are sleeps, see `replay`. A cold trial starts its blocks, a warm one finds them up; with
``--speed-up 10`` each fit takes a tenth of its time, and all else what it takes.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from machine import print_machine
from replay import (
    PARTS,
    TABLE_1,
    Analysis,
    find_pallet,
    fit_lengths,
    parts_of,
    reference_times,
    replayed,
    serial_fractions,
    shortest_s,
)

from pytest_pyhf_faas.campaign import loop
from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.clocks import Clocks, Offset
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task, make_tasks
from pytest_pyhf_faas.engines import create_engine
from tests.helpers import made_up_fits

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_pyhf_faas.engines.base import Engine

COLUMNS = (
    "analysis",
    "blocks",
    "start",
    "trials",
    "wall time [s]",
    "fits alone [s]",
    "of that [%]",
    *(f"{part} [s]" for part in PARTS),
    "CPU of campaign [%]",
    "of submission [%]",
    "serial fraction",
)


class OneClock(Clocks):
    """Knows that all workers are on this machine, and read the clock that the client reads."""

    def offset(self, worker: str) -> Offset:
        return Offset(0.0, 0.0)


class Submitted:
    """Counts the CPU time that an engine's `submit` takes: the engine's, not the campaign's."""

    def __init__(self, engine: Engine) -> None:
        self.cpu_s = 0.0
        self._submit = engine.submit

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        before = time.thread_time()
        try:
            return self._submit(*arguments, **options)
        finally:
            self.cpu_s += time.thread_time() - before


@contextmanager
def campaign_of(options: argparse.Namespace, blocks: int, known: dict[str, float]) -> Iterator[Any]:
    """Have a campaign on blocks that are not started yet."""
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        engine = create_engine(
            options.endpoint, Path(directory), blocks=blocks, workers=options.workers
        )
        engine.batch_s /= options.speed_up  # else short fits would share tasks that would not
        expected_s = (lambda _task: None) if options.unknown else (lambda task: known[task.key])
        engine.submit = Submitted(engine)
        campaign = Campaign(engine, expected_s=expected_s, clocks=OneClock())
        try:
            yield campaign
        finally:
            campaign.cancel("measured")


def cpu_of_campaign_s() -> float:
    """Return the CPU time of the campaign's thread."""
    (thread,) = [each for each in threading.enumerate() if each.name == "pyhf-faas-campaign"]
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def first_begins(campaign: Campaign, tasks: Sequence[Task], wall_s: float) -> list[float]:
    """Return when each worker began its first fit, counted from the start of the trial."""
    timeline = campaign.timeline(tasks[0].pallet.name, tasks[0].config)
    start_s = wall_s - timeline.seconds  # the kernel of Parsl starts before anything is sent
    begins: dict[int, float] = {}
    for task in timeline.tasks:
        begins[task.worker] = min(begins.get(task.worker, math.inf), start_s + task.begin_s)
    return list(begins.values())


def measured(campaign: Campaign, tasks: Sequence[Task], lengths: Sequence[float]) -> dict[str, Any]:
    """Measure one trial."""
    is_cold = not campaign.results
    before = 0.0 if is_cold else cpu_of_campaign_s()
    submitted = campaign.engine.submit
    submitted.cpu_s = 0.0
    trial = campaign.measure(tasks)
    crew = campaign.crew()
    begins = first_begins(campaign, tasks, trial.wall_s) if is_cold else []
    parts = parts_of(trial, lengths, begins)
    return {
        "wall_s": trial.wall_s,
        "workers": trial.workers,
        "blocks_seen": None if crew.blocks is None else crew.blocks.most,
        "shortest_s": shortest_s(lengths, begins or [0.0] * trial.workers),
        "parts": parts,
        "serial_fractions": serial_fractions(parts, trial.workers),
        "campaign_cpu_s": cpu_of_campaign_s() - before - submitted.cpu_s,
        "submit_cpu_s": submitted.cpu_s,
        "lost": dict(trial.lost),
        "trial": trial.to_json(),
    }


def trials_of(
    analysis: Analysis, blocks: int, options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Measure an analysis on so many blocks."""
    total_s = analysis.serial_s / options.speed_up
    lengths = fit_lengths(reference_times(analysis.shape), analysis.patches, total_s)
    payload = find_pallet(analysis.shape)
    if payload is None:
        print(f"# {analysis.name}: {analysis.shape} is not found, so that next to nothing is sent")
    pallet = replayed(analysis, lengths, payload)
    tasks = make_tasks(pallet, HypotestConfig())
    known = {task.key: seconds for task, seconds in zip(tasks, lengths, strict=True)}
    head = {"analysis": analysis.name, "blocks": blocks, "speed_up": options.speed_up}
    head["times_known"] = not options.unknown
    head |= {"fits": len(tasks), "fits_s": total_s, "longest_s": max(lengths)}
    for number in range(max(1, options.cold)):
        with campaign_of(options, blocks, known) as campaign:
            yield {**head, "start": "cold", **measured(campaign, tasks, lengths)}
            for _warm in range(options.trials if number == 0 else 0):
                yield {**head, "start": "warm", **measured(campaign, tasks, lengths)}


def with_spread(values: Sequence[float]) -> str:
    """Return mean and sample standard deviation."""
    spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
    return f"{fmean(values):.2f}{spread}"


def row(trials: Sequence[dict[str, Any]]) -> str:
    """Return the line of the table for trials of one kind."""
    first = trials[0]
    shares = [100 * trial["shortest_s"] / trial["wall_s"] for trial in trials]
    own, handed = (
        fmean(100 * trial[f"{name}_cpu_s"] / trial["wall_s"] for trial in trials)
        for name in ("campaign", "submit")
    )
    serial = [sum(trial["serial_fractions"].values()) for trial in trials]
    cells = (
        first["analysis"],
        first["blocks"],
        first["start"],
        len(trials),
        with_spread([trial["wall_s"] for trial in trials]),
        f"{fmean(trial['shortest_s'] for trial in trials):.2f}",
        f"{fmean(shares):.1f}",
        *(f"{fmean(trial['parts'][part] for trial in trials):.2f}" for part in PARTS),
        f"{own:.2f}",
        f"{handed:.2f}",
        f"{fmean(serial):.4f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    names = {analysis.name: analysis for analysis in TABLE_1}
    parser.add_argument("--endpoint", default="local:2")
    parser.add_argument("--analysis", nargs="+", choices=names, default=list(names))
    parser.add_argument("--blocks", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--workers", type=int, default=24, help="of each block")
    parser.add_argument("--trials", type=int, default=10, help="with the blocks up")
    parser.add_argument("--cold", type=int, default=1, help="trials that start their blocks")
    parser.add_argument("--speed-up", type=float, default=10.0, help="of the fits")
    parser.add_argument("--unknown", action="store_true", help="no fit time is known before")
    parser.add_argument("--directory", help="that the workers see, for what Parsl keeps")
    parser.add_argument("--json", type=Path, help="what was measured, one trial a line")
    options = parser.parse_args()
    loop.worker_function = lambda _config: made_up_fits.fit_batch
    print_machine()
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS), flush=True)
    for name in options.analysis:
        for blocks in options.blocks:
            trials = []
            for trial in trials_of(names[name], blocks, options):
                trials.append(trial)
                if options.json:
                    with options.json.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(trial) + "\n")
            for start in ("cold", "warm"):
                of_kind = [trial for trial in trials if trial["start"] == start]
                if of_kind:
                    print(row(of_kind), flush=True)


if __name__ == "__main__":
    main()
