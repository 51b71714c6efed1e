"""A PBS Pro cluster, with the blocks of the published study: at most 4, of one node each.

``pyhf-faas validate --faas-endpoint parsl:endpoints/parsl/pbspro.py``, on a login node, in
a directory that the compute nodes see.
"""

from parsl import Config
from parsl.executors import HighThroughputExecutor
from parsl.launchers import SingleNodeLauncher  # MpiExecLauncher where nodes_per_block is not 1
from parsl.providers import PBSProProvider

QUEUE = None  # "workq"; None takes the default
ACCOUNT = None
CORES_PER_NODE = 16
WALLTIME = "00:30:00"  # longer than the longest fit, short enough for the queue
# Makes pyhf importable on a compute node; workers need only pyhf and Parsl.
# A block without it must end, or it might fit with another pyhf.
WORKER_INIT = "source $HOME/pyhf-env/bin/activate || exit 1"


def fresh_config():
    """Return the configuration; a new one each time, because Parsl uses each only once."""
    return Config(
        executors=[
            HighThroughputExecutor(
                label="pbspro",
                max_workers_per_node=CORES_PER_NODE,
                heartbeat_period=5,
                heartbeat_threshold=20,
                provider=PBSProProvider(
                    queue=QUEUE,
                    account=ACCOUNT,
                    cpus_per_node=CORES_PER_NODE,
                    nodes_per_block=1,
                    init_blocks=1,
                    min_blocks=0,
                    max_blocks=4,
                    parallelism=1.0,
                    walltime=WALLTIME,
                    worker_init=WORKER_INIT,
                    launcher=SingleNodeLauncher(),
                ),
            )
        ],
    )
