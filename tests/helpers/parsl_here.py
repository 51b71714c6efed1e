"""A configuration of Parsl with one block of one worker on this machine."""

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
            provider=QuickLocalProvider(init_blocks=1, max_blocks=1, worker_init={init!r}),
        )
    ],
)
"""
FRESH, MODULE_LEVEL = "def fresh_config():\n    return ", "config = "


def configuration(path, name="here.py", init="true", begin=FRESH):
    """Write a configuration of one worker on this machine, and return its endpoint."""
    text = CONFIGURATION.format(begin=begin, init=f"export PATH={BIN}:$PATH; {init}")
    (path / name).write_text(text)
    return f"parsl:{name}"


def run_directories(path):
    """Return what Parsl has left of its runs in a project."""
    return sorted(path.glob(".pytest_cache/d/pyhf-faas/parsl/*"))
