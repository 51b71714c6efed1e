"""An endpoint spec becomes an `Engine`."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from pytest_pyhf_faas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.engines.base import Engine

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MAX_LOCAL_WORKERS = 1024
_FORMS = "use local, local:N (N worker processes), or a name from the ini key faas_endpoints"


def resolve_endpoint(spec: str, named: Mapping[str, str]) -> str:
    """Return the spec behind a name of the ini key ``faas_endpoints``, checked.

    Raises
    ------
    ConfigurationError
        If the spec is none that this version can use.
    """
    spec = named.get(spec, spec).strip()
    if spec == "local":
        return spec
    if spec.startswith("local:"):
        count = spec.removeprefix("local:")
        if count.isascii() and count.isdigit() and 1 <= int(count) <= _MAX_LOCAL_WORKERS:
            return spec
        raise ConfigurationError(
            f"the endpoint {spec!r} asks for {count!r} workers: "
            f"local:N takes a number from 1 to {_MAX_LOCAL_WORKERS}"
        )
    if _UUID.fullmatch(spec) or spec.startswith("parsl:"):
        raise ConfigurationError(
            f"the endpoint {spec!r} is remote, and this version fits on this machine only: {_FORMS}"
        )
    raise ConfigurationError(f"the endpoint {spec!r} is not known: {_FORMS}")


def create_engine(spec: str) -> Engine:
    """Return the engine of a spec that `resolve_endpoint` has returned; nothing is started."""
    from pytest_pyhf_faas.engines.local import LocalEngine

    count = spec.removeprefix("local").removeprefix(":")
    return LocalEngine(spec, int(count) if count else usable_cores())


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
