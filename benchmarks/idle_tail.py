"""How long workers stand idle at the end, with the longest fits sent first and without.

``python benchmarks/idle_tail.py 1Lbb 25 [ROUNDS]``; the patches are spread over the fit times that
the references know.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from machine import print_machine

from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, make_tasks
from pytest_pyhf_faas.engines import create_engine
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.references.store import DIRECTORY, ReferenceStore


def main() -> None:
    name, count, rounds = sys.argv[1], int(sys.argv[2]), int((*sys.argv[3:], "1")[0])
    search_path = catalogue.search_path_from_environment()
    (pallet,) = catalogue.resolve(name, search_path=search_path)
    directory = Path(__file__).parents[1] / DIRECTORY
    store = ReferenceStore([directory], directory)
    tasks = [t for t in make_tasks(pallet, HypotestConfig()) if store.find(t).error is None]

    def expected_s(task):
        return store.find(task).expected_s(task.config.fit_setup)

    ranked = sorted(tasks, key=expected_s)
    chosen = {ranked[i * (len(ranked) - 1) // (count - 1)].key for i in range(count)}
    tasks = [task for task in tasks if task.key in chosen]  # in the order of the patchset
    print_machine()
    print("| order | wall time [s] | longest fit [s] | idle [worker s] | idle [%] |")
    print("|---|---|---|---|---|")
    for _round in range(rounds):
        for order, known in (("longest first", expected_s), ("as in the patchset", lambda _: None)):
            engine = create_engine("local:2", Path(tempfile.gettempdir()))
            fits = []
            campaign = Campaign(engine, expected_s=known, on_result=fits.append)
            trial = campaign.measure(tasks)
            campaign.cancel("done")
            longest_s = max(fit.seconds["fit"] for fit in fits)
            share = 100 * trial.idle_s / (trial.workers * trial.wall_s)
            print(
                f"| {order} | {trial.wall_s:.1f} | {longest_s:.1f} | {trial.idle_s:.1f} "
                f"| {share:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
