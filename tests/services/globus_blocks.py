"""What stands under `engine:` for an agent with the blocks of `parsl_blocks.py`; prints it.

On the head of the cluster of `cluster.py`::

    python tests/services/globus_blocks.py > engine.yaml
    eval "$(python tests/services/globus_compute.py start DIR --engine engine.yaml)"

Clients may ask for ``max_blocks`` and ``workers``, on each block.
"""

import sys
from pathlib import Path

from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

POOL = f"{sys.executable} {Path(__file__).with_name('forked_pool.py')}"
ENGINE = f"""\
type: GlobusComputeEngine
label: blocks
{{% raw %}}
launch_cmd: {DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", POOL)}
{{% endraw %}}
max_workers_per_node: {{{{ workers | default(24) | int }}}}
prefetch_capacity: 0
job_status_kwargs:
  strategy_period: 1
  max_idletime: 30  # so that the next client finds free nodes
provider:
  type: SlurmProvider
  exclusive: false
  cores_per_node: 24
  nodes_per_block: 1
  init_blocks: {{{{ max_blocks | default(4) | int }}}}
  min_blocks: 0
  max_blocks: {{{{ max_blocks | default(4) | int }}}}
  walltime: "04:00:00"
  worker_init: "export PATH={Path(sys.executable).parent}:$PATH"
  launcher:
    type: SimpleLauncher
"""

if __name__ == "__main__":
    print(ENGINE, end="")
