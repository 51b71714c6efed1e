"""A Slurm cluster, with the blocks of the published study: at most 4, of one node each.

Start pytest on a login node, in a directory that the compute nodes see:
``pyhf-faas validate --faas-endpoint parsl:endpoints/parsl/slurm.py``
"""

from parsl import Config
from parsl.executors import HighThroughputExecutor

# SrunLauncher instead of the first where nodes_per_block is not 1.
from parsl.launchers import SingleNodeLauncher, WrappedLauncher
from parsl.providers import SlurmProvider

PARTITION = None  # "batch"; None takes the cluster's default
ACCOUNT = None
CORES_PER_NODE = 16
WALLTIME = "00:30:00"  # longer than the longest fit, short enough for the queue
# Makes pyhf importable on a compute node; workers need only pyhf and Parsl.
# A block without it must end, or it might fit with another pyhf.
WORKER_INIT = "source $HOME/pyhf-env/bin/activate || exit 1"
# With SrunLauncher also `unset SLURM_EXPORT_ENV`, so that srun passes this environment on.
# The command that starts workers in a container; see docs/how-to/clusters.md.
CONTAINER = None


def fresh_config():
    """Return the configuration; a new one each time, because Parsl uses each only once."""
    return Config(
        executors=[
            HighThroughputExecutor(
                label="slurm",
                # address=address_by_interface("ib0") where compute nodes see one network only;
                # it comes from parsl.addresses.
                max_workers_per_node=CORES_PER_NODE,
                heartbeat_period=5,
                heartbeat_threshold=20,
                provider=SlurmProvider(
                    partition=PARTITION,
                    account=ACCOUNT,
                    cores_per_node=CORES_PER_NODE,
                    exclusive=False,
                    nodes_per_block=1,
                    init_blocks=1,
                    min_blocks=0,
                    max_blocks=4,
                    parallelism=1.0,
                    walltime=WALLTIME,
                    # Blocks begin without the variables of this shell, such as its PATH.
                    scheduler_options="#SBATCH --export=NONE",
                    worker_init=WORKER_INIT,
                    launcher=WrappedLauncher(CONTAINER) if CONTAINER else SingleNodeLauncher(),
                ),
            )
        ],
    )
