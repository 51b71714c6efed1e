"""A Kubernetes cluster, with the blocks of the published study: at most 4, of one pod each.

``pyhf-faas validate --faas-endpoint parsl:endpoints/parsl/k8s.py``, in a pod of the
cluster or elsewhere that pods can reach; needs ``pip install kubernetes``.
"""

import parsl
from parsl import Config
from parsl.addresses import address_by_route
from parsl.executors import HighThroughputExecutor
from parsl.providers import KubernetesProvider

# Contains pyhf; Parsl is installed into it, in the version of the client.
IMAGE = "pyhf/pyhf:v0.7.6"
NAMESPACE = "default"
CORES_PER_POD = 2


def fresh_config():
    """Return the configuration; a new one each time, because Parsl uses each only once."""
    return Config(
        executors=[
            HighThroughputExecutor(
                label="kubernetes",
                address=address_by_route(),
                max_workers_per_node=CORES_PER_POD,
                heartbeat_period=5,
                heartbeat_threshold=20,
                # Pods do not see the files of the client, and so not its certificates.
                encrypted=False,
                provider=KubernetesProvider(
                    image=IMAGE,
                    namespace=NAMESPACE,
                    init_cpu=CORES_PER_POD,
                    max_cpu=CORES_PER_POD,
                    init_mem="2Gi",
                    max_mem="4Gi",
                    nodes_per_block=1,
                    init_blocks=1,
                    min_blocks=0,
                    max_blocks=4,
                    parallelism=1.0,
                    worker_init=f"pip install --quiet parsl=={parsl.__version__} || exit 1",
                ),
            )
        ],
    )
