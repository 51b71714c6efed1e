"""What a worker reports about itself before the fits.

Like `worker`, this runs in somebody else's Python and needs only the standard library: that pyhf
or JAX is missing there is an answer. It leaves nothing behind in the process.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from importlib import metadata
from typing import Any

from pytest_pyhf_faas.worker import fitting

#: How long JAX may take to find its devices; on a node with many GPUs that may take long.
_JAX_S = 60.0
_DEVICES = """\
import json, jax
devices = jax.devices()
kinds = sorted({device.device_kind for device in devices})
print(json.dumps({"platform": devices[0].platform, "count": len(devices), "kinds": kinds}))
"""


def hold(seconds: float) -> dict[str, Any]:
    """Occupy this worker for some time.

    Returns
    -------
    dict
        ``host``, ``worker`` (host and process), and when this ``began`` and ``ended`` on the clock
        of the host, in seconds since the epoch; and ``began_s`` and ``ended_s`` on the clock that
        `fitting.fit_batch` uses.
    """
    began, began_s = time.time(), time.perf_counter()
    if seconds > 0:
        time.sleep(seconds)
    host = socket.gethostname()
    return {
        "host": host,
        "worker": f"{host}:{os.getpid()}",
        "began": began,
        "ended": time.time(),
        "began_s": began_s,
        "ended_s": time.perf_counter(),
    }


def present(seconds: float, config: dict[str, Any]) -> dict[str, Any]:
    """Occupy this worker as `hold` does, and describe it.

    Returns
    -------
    dict
        The answer of `hold`, and ``environment`` (see `fitting.probe_environment`).
    """
    return {**hold(seconds), "environment": fitting.probe_environment(config)}


def echo(text: str) -> dict[str, str]:
    """Return a text, and the SHA-256 of what arrived here."""
    return {"text": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def inspect(config: dict[str, Any]) -> dict[str, Any]:
    """Describe this worker, and whether it could fit.

    Parameters
    ----------
    config : dict
        The fields of `HypotestConfig`.

    Returns
    -------
    dict
        As `fitting.probe_environment`, and ``cores`` that it may use, ``pyhf`` (the version
        that is imported), ``requires`` (the pip requirements of that pyhf), ``float`` (the
        type that the backend computes with), ``blas_threads`` (of the libraries that threadpoolctl
        finds; empty without it), ``jax`` (``platform``, ``count`` and ``kinds`` of its devices, or
        ``problem``; ``None`` where it is not installed) and ``problem``: ``None``, or ``what``
        cannot be used ("pyhf", or "backend" for the backend and optimizer) and the ``type`` and
        ``message`` of the exception that says why.
    """
    found: dict[str, Any] = {
        **fitting.probe_environment(config),
        "cores": _cores(),
        "pyhf": None,
        "requires": [],
        "float": None,
        "blas_threads": [],
        "jax": None,
        "problem": None,
    }
    step = "pyhf"
    try:
        import pyhf

        found["pyhf"] = str(pyhf.__version__)
        found["requires"] = metadata.requires("pyhf") or []
        step = "backend"
        pyhf.set_backend(config["backend"], config["optimizer"], precision="64b")
        tensor = pyhf.get_backend()[0].astensor([1.0])
        found["float"] = str(getattr(tensor, "dtype", type(tensor).__name__))
    except Exception as error:  # noqa: BLE001 - a broken installation may raise anything
        message = str(error).partition("\n")[0]
        found["problem"] = {"what": step, "type": type(error).__name__, "message": message}
    found["blas_threads"] = _blas_threads()
    if "jax" in found["versions"]:
        found["jax"] = _jax_devices()
    return found


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _blas_threads() -> list[int]:
    try:
        import threadpoolctl  # type: ignore[import-not-found,unused-ignore]

        return [int(library["num_threads"]) for library in threadpoolctl.threadpool_info()]
    except Exception:  # noqa: BLE001 - most workers do not have it
        return []


def _jax_devices() -> dict[str, Any]:
    """Ask JAX in a separate process: one that used it keeps its threads and GPU memory."""
    environment = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    try:
        done = subprocess.run(  # noqa: S603 - this very Python
            [sys.executable, "-c", _DEVICES],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_JAX_S,
            env=environment,
            check=False,
        )
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        last = lines[-1] if lines else f"it ended with status {done.returncode}"
        return dict(json.loads(last)) if done.returncode == 0 else {"problem": last[:300]}
    except subprocess.TimeoutExpired:
        return {"problem": f"it found no device within {_JAX_S:.0f} s"}
    except (OSError, ValueError) as error:
        return {"problem": str(error)[:300]}
