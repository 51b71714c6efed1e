"""An HTCondor pool, with the blocks of the published study: at most 4, of one slot each.

``pyhf-faas validate --faas-endpoint parsl:endpoints/parsl/htcondor.py``, on a submit
node whose ports the slots can reach.
"""

from parsl import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import CondorProvider

CORES_PER_SLOT = 8
MINUTES = 30  # longer than the longest fit
# Makes pyhf importable in a slot; workers need only pyhf and Parsl.
# A block without it must end, or it might fit with another pyhf.
WORKER_INIT = "source /cvmfs/your.experiment/pyhf-env/bin/activate || exit 1"


def fresh_config():
    """Return the configuration; a new one each time, because Parsl uses each only once."""
    return Config(
        executors=[
            HighThroughputExecutor(
                label="htcondor",
                max_workers_per_node=CORES_PER_SLOT,
                heartbeat_period=5,
                heartbeat_threshold=20,
                provider=CondorProvider(
                    cores_per_slot=CORES_PER_SLOT,
                    nodes_per_block=1,
                    init_blocks=1,
                    min_blocks=0,
                    max_blocks=4,
                    parallelism=1.0,
                    # Parsl passes no walltime to HTCondor: blocks that run longer are removed.
                    scheduler_options=(
                        "periodic_remove = (JobStatus == 2) && "
                        f"(time() - EnteredCurrentStatus > {MINUTES * 60})"
                    ),
                    worker_init=WORKER_INIT,
                ),
            )
        ],
    )
