"""Run pytest with an endpoint of a loopback Globus Compute, which is started and ended for it.

For instance::

    python tests/services/run_on_loopback.py --workers 2 -- --faas-pallet 1Lbb -q

What pytest would refuse, such as a pallet that is not found, is refused before anything is started.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.services.globus_compute import LoopbackGlobusCompute
from tests.services.processes import ServiceError


def main(arguments: list[str] | None = None) -> int:
    """Start all of it, run pytest, end all of it.

    Parameters
    ----------
    arguments
        Those of the command line by default.

    Returns
    -------
    int
        The exit status of pytest, or 1 if the service did not start.
    """
    parser = argparse.ArgumentParser(
        description="Run pytest with an endpoint of a loopback Globus Compute."
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="of the endpoint")
    parser.add_argument("pytest", nargs="*", metavar="ARGUMENT", help="of pytest, after --")
    options = parser.parse_args(arguments)
    refused = refusal([sys.executable, "-m", "pytest", *options.pytest])
    if refused is not None:
        return refused
    try:
        say("starting a Globus Compute on this machine and an endpoint of it: about 20 s")
        # As Ctrl-C, so that all is ended.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with (
            tempfile.TemporaryDirectory(prefix="globus") as directory,
            LoopbackGlobusCompute(Path(directory)) as compute,
        ):
            agent = compute.endpoint(workers=options.workers)
            command = [sys.executable, "-m", "pytest", "--funcx-endpoint", str(agent.id)]
            return run([*command, *options.pytest], {**os.environ, **compute.env})
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def say(text: str) -> None:
    """Write a line at once, in a log as well."""
    print(f"loopback: {text}", file=sys.stderr, flush=True)


def refusal(command: list[str]) -> int | None:
    """Collect what a command of pytest would run, without an endpoint.

    Returns
    -------
    int or None
        The exit status, where there is nothing to run; what pytest says of it is shown.
    """
    looking = ["--funcx-endpoint", "local", "--collect-only", "-qq"]
    done = subprocess.run([*command, *looking], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return None
    print(done.stdout, done.stderr, sep="", end="", file=sys.stderr)
    return done.returncode


def run(command: list[str], env: dict[str, str]) -> int:
    """Run a command, and return its status as a shell does. From then on it gets the signals."""
    with subprocess.Popen(command, env=env) as process:
        # A terminal sends this one to both.
        signal.signal(signal.SIGINT, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        status = process.wait()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
