"""What a benchmark runs on: each prints it before it measures."""

from __future__ import annotations

import os
from importlib import metadata

from pytest_pyhf_faas.worker.fitting import THREAD_VARIABLES, probe_environment

#: What carries fits to workers, beside what a worker itself names.
PACKAGES = ("pytest-pyhf-faas", "pytest", "parsl", "globus-compute-sdk")


def print_machine() -> None:
    """Print processor, load, versions and threads, in lines that begin with #."""
    found = probe_environment()
    versions = dict(found["versions"])
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    threads = [f"{name}={os.environ[name]}" for name in THREAD_VARIABLES if name in os.environ]
    print(f"# machine: {found['cpu']}, {os.cpu_count()} cores, load {load}, {found['platform']}")
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"# versions: Python {found['python']}, {listed}")
    print(f"# threads: {', '.join(threads) or 'not limited'}", flush=True)
