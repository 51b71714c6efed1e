"""The cores of one machine: to try Parsl before you use a cluster.

``pyhf-faas validate --faas-endpoint parsl:endpoints/parsl/local.py``
"""

import os
import sys
from pathlib import Path

from parsl import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider

# Workers run in the environment that pytest runs in.
BIN = Path(sys.executable).parent


def fresh_config():
    """Return a configuration of one block with a worker on each core."""
    return Config(
        executors=[
            HighThroughputExecutor(
                label="local",
                address="127.0.0.1",
                max_workers_per_node=len(os.sched_getaffinity(0)),
                # Seconds: a killed manager is noticed after the threshold.
                heartbeat_period=2,
                heartbeat_threshold=6,
                provider=LocalProvider(
                    init_blocks=1,
                    max_blocks=1,
                    worker_init=f"export PATH={BIN}:$PATH",
                ),
            )
        ],
    )
