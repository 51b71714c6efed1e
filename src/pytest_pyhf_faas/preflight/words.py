"""Measurements in words."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign.requirements import refused
from pytest_pyhf_faas.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.campaign.results import WorkerEnvironment

_MILLISECONDS_BELOW_S = 1.0


def host(worker: str) -> str:
    """Return the host of a worker, whose name ends with its process."""
    return worker.rpartition(":")[0]


def float_type(found: Mapping[str, Any]) -> str:
    """Return the name of a type without its library: ``<dtype: 'float64'>``, ``torch.float64``."""
    match = re.search(r"float\d+", str(found["float"]))
    return match[0] if match else str(found["float"])


def environment(
    found: Mapping[str, Any], worker: WorkerEnvironment, fit_setup: str
) -> tuple[str, dict[str, str | float | int | bool]]:
    """Return what a worker fits with, in words and as values.

    Parameters
    ----------
    found : mapping
        The answer of `inspection.inspect`.
    worker : WorkerEnvironment
        The same, read.
    fit_setup : str
        Backend and optimizer of the fits, or the method.
    """
    not_wanted = listed(refused(found["requires"], worker.versions))
    versions = {name: text for name, text in worker.computing.items() if name != "jsonpatch"}
    versions["pyhf"] = str(found["pyhf"])
    python = versions.pop("python")
    values: dict[str, str | float | int | bool] = {
        "python": python,
        "executable": worker.executable or "",
        **versions,
        "fit_setup": fit_setup,
        "float": float_type(found),
        "threads": threads(found),
        **{name: value or "" for name, value in worker.threads.items()},
        "jax_devices": jax(found),
        "host": worker.host,
        "cpu": worker.cpu,
        "cores": found["cores"],
        **({"refused_by_pyhf": not_wanted} if not_wanted else {}),
    }
    text = [
        f"Python {python} ({worker.executable})",
        *(f"{name} {version}" for name, version in versions.items()),
        fit_setup,
        float_type(found),
        threads(found),
        counted(found["cores"], "core"),
        jax(found),
        *([f"refused by this pyhf: {not_wanted}"] if not_wanted else []),
    ]
    return ", ".join(text), values


def threads(found: Mapping[str, Any]) -> str:
    """Say with how many threads a worker computes, as far as it knows."""
    limits = found["threads"]
    if found["blas_threads"]:
        count = str(max(found["blas_threads"]))
    else:
        count = limits.get("OMP_NUM_THREADS") or ""
    if not count:
        return "threads not limited"
    return f"{count} thread{'' if count == '1' else 's'} each"


def jax(found: Mapping[str, Any]) -> str:
    """Say what JAX has found to compute on."""
    jax = found["jax"]
    if jax is None:
        return "no JAX"
    if "problem" in jax:
        return f"JAX without a device ({jax['problem']})"
    if jax["platform"] == "cpu":
        return "JAX on cpu"
    return f"JAX on {jax['platform']} ({jax['count']} x {', '.join(jax['kinds'])})"


def in_seconds(seconds: float) -> str:
    """Return seconds in a suitable unit, with two digits."""
    if seconds < _MILLISECONDS_BELOW_S:
        return f"{seconds * 1e3:.{digits(seconds * 1e3)}f} ms"
    return f"{seconds:.1f} s"


def uncertainty(seconds: float) -> str:
    """Round up, so that no uncertainty is understated."""
    return f"{math.ceil(seconds * 1e3) / 1e3:.3f} s"


def digits(value: float) -> int:
    """Return how many digits after the point are enough."""
    return 0 if value >= 10 else 1  # noqa: PLR2004
