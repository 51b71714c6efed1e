"""Blocks of 24 workers, at most four of one node each, as the published study asked for them.

They are for fits that sleep: two cores start and hold 96 workers, see `forked_pool`. The nodes must
see this environment.
"""

import runpy
import sys
from pathlib import Path

from parsl import Config
from parsl.executors import HighThroughputExecutor
from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD
from parsl.launchers import SimpleLauncher

BIN = Path(sys.executable).parent
POOL = f"{sys.executable} {Path(__file__).with_name('forked_pool.py')}"
WORKERS = 24
# Configurations are run, not imported.
BESIDE = runpy.run_path(str(Path(__file__).with_name("parsl_slurm.py")))


def fresh_config():
    return Config(
        executors=[
            HighThroughputExecutor(
                label="blocks",
                launch_cmd=DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", POOL),
                max_workers_per_node=WORKERS,
                provider=BESIDE["QuickSlurmProvider"](
                    exclusive=False,
                    cores_per_node=WORKERS,
                    nodes_per_block=1,
                    init_blocks=4,
                    max_blocks=4,
                    walltime="04:00:00",
                    worker_init=f"export PATH={BIN}:$PATH",
                    launcher=SimpleLauncher(),
                ),
            )
        ],
    )
