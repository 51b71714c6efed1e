"""The Slurm of `slurm.py`: two blocks of one core each, as the tests and CI use it."""

import sys
from pathlib import Path

from parsl import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SimpleLauncher
from parsl.providers import SlurmProvider

BIN = Path(sys.executable).parent


class QuickSlurmProvider(SlurmProvider):
    """Asks for the state of its jobs more often than is fair on a cluster that others use."""

    status_polling_interval = 2


def fresh_config():
    return Config(
        executors=[
            HighThroughputExecutor(
                label="slurm",
                address="127.0.0.1",
                max_workers_per_node=1,
                heartbeat_period=1,
                heartbeat_threshold=4,
                provider=QuickSlurmProvider(
                    exclusive=False,
                    cores_per_node=1,
                    init_blocks=2,
                    max_blocks=2,
                    walltime="00:20:00",
                    worker_init=f"export PATH={BIN}:$PATH",
                    launcher=SimpleLauncher(),
                ),
            )
        ],
    )
