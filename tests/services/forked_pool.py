"""Parsl's worker pool, with workers forked from a server that has imported what they import.

A node of a cluster starts 24 interpreters on 24 cores in two seconds; two cores need most of a
minute, and for four nodes 10 GB. It takes the arguments of ``process_worker_pool.py``.
"""

import multiprocessing
import runpy

POOL = "parsl.executors.high_throughput.process_worker_pool"


def main():
    """Run Parsl's pool with another way to start processes."""
    import parsl.multiprocessing

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([POOL])
    parsl.multiprocessing.SpawnContext = context
    runpy.run_module(POOL, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
