"""A configuration of Parsl with blocks of one worker on this machine."""

import sys
from pathlib import Path

BIN = Path(sys.executable).parent
CONFIGURATION = """\
from parsl import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


class QuickLocalProvider(LocalProvider):
    status_polling_interval = 1


{begin}Config(
    executors=[
        HighThroughputExecutor(
            label="here",
            address="127.0.0.1",
            max_workers_per_node=1,
            heartbeat_period=1,
            heartbeat_threshold=4,
            provider=QuickLocalProvider(
                init_blocks={blocks}, max_blocks={blocks}, worker_init={init!r}
            ),
        )
    ],
)
"""
FRESH, MODULE_LEVEL = "def fresh_config():\n    return ", "config = "


def configuration(path, name="here.py", init="true", begin=FRESH, blocks=1):
    """Write a configuration of so many workers on this machine, and return its endpoint."""
    init = f"export PATH={BIN}:$PATH; {init}"
    text = CONFIGURATION.format(begin=begin, init=init, blocks=blocks)
    (path / name).write_text(text)
    return f"parsl:{name}"


def run_directories(path):
    """Return what Parsl has left of its runs in a project."""
    return sorted(path.glob(".pytest_cache/d/pyhf-faas/parsl/*"))
