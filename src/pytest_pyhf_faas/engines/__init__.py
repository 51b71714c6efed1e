"""An endpoint spec becomes an `Engine`."""

from __future__ import annotations

import json
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.redaction import HIDDEN_JSON, hide_values, without_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.engines.base import Engine

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_MAX_LOCAL_WORKERS = 1024
_FORMS = (
    "use local, local:N (N worker processes), parsl:CONFIG.py, the UUID of a funcX / Globus "
    "Compute endpoint, or a name from the ini key faas_endpoints"
)


def resolve_endpoint(spec: str, named: Mapping[str, str]) -> str:
    """Return the spec behind a name of the ini key ``faas_endpoints``, checked.

    Raises
    ------
    ConfigurationError
        If this version cannot use the spec.
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
    if spec.startswith("parsl:"):
        return _checked_parsl(spec)
    if _UUID.fullmatch(spec):
        if find_spec("globus_compute_sdk") is None:
            raise ConfigurationError(
                f"the endpoint {spec!r} is one of Globus Compute, whose SDK is not installed: "
                "pip install 'pytest-pyhf-faas[globus-compute]'"
            )
        return spec.lower()
    raise ConfigurationError(f"the endpoint {spec!r} is not known: {_FORMS}")


def _checked_parsl(spec: str) -> str:
    path = Path(spec.removeprefix("parsl:"))
    if not path.is_file():
        raise ConfigurationError(
            f"the endpoint {spec!r} names a Parsl configuration, and there is no file {path}: "
            "give its path from this directory; endpoints/parsl/ of this project has some to start "
            "from"
        )
    if find_spec("parsl") is None:
        raise ConfigurationError(
            f"the endpoint {spec!r} needs Parsl, which is not installed: "
            "pip install 'pytest-pyhf-faas[parsl]'"
        )
    return spec


def read_endpoint_config(text: str, directory: Path) -> dict[str, Any]:
    """Return the content of --faas-endpoint-config.

    Parameters
    ----------
    text : str
        JSON, or the path of a file with JSON: an object with ``user_endpoint_config`` and
        ``resource_specification``, or one that is a ``user_endpoint_config``.
    directory : Path
        The directory that a relative path starts from.

    Returns
    -------
    dict
        With these two keys, as far as they are given.

    Raises
    ------
    ConfigurationError
        If it cannot be read as that.
    """
    option = "--faas-endpoint-config"
    if text == HIDDEN_JSON:
        raise ConfigurationError(
            f"{option} is {text}, which stands for JSON that may hold secrets: put the JSON back "
            f"in its place, or keep it in a file and write {option} FILE"
        )
    try:
        if not text.lstrip().startswith("{"):
            text = (directory / text).read_text(encoding="utf-8")
        config = json.loads(text)
    except (OSError, ValueError) as error:
        # An OSError would show what may be JSON with a typing error.
        why = f"{without_json(text)}: {error.strerror}" if isinstance(error, OSError) else error
        raise ConfigurationError(
            f"{option} is neither JSON nor a file with JSON ({why}): write "
            f"""{option}='{{"max_blocks": 4}}' or {option} FILE"""
        ) from None
    hide_values(config)
    keys = ("user_endpoint_config", "resource_specification")
    if isinstance(config, dict) and not set(keys) & set(config):
        config = {"user_endpoint_config": config}
    if not isinstance(config, dict) or not all(
        key in keys and isinstance(value, dict) for key, value in config.items()
    ):
        raise ConfigurationError(
            f"{option} must be an object with the keys {' and '.join(keys)}, each an object too, "
            "or the content of the first"
        )
    return config


def create_engine(
    spec: str,
    directory: Path,
    *,
    blocks: int | None = None,
    workers: int | None = None,
    config: Mapping[str, Any] | None = None,
) -> Engine:
    """Return the engine of a spec that `resolve_endpoint` has returned; nothing is started.

    Parameters
    ----------
    spec : str
        The endpoint.
    directory : Path
        Where an engine may keep files that its workers see.
    blocks, workers : int or None
        How many blocks to ask for, and workers for each node, where the endpoint leaves it open.
    config : mapping or None
        See `read_endpoint_config`; for endpoints of Globus Compute.

    Raises
    ------
    ConfigurationError
        If its configuration cannot be used.
    """
    if spec.startswith("parsl:"):
        try:
            from pytest_pyhf_faas.engines.parsl import ParslEngine
        except ImportError as error:
            raise ConfigurationError(
                f"the endpoint {spec!r} cannot use the Parsl that is installed ({error}): "
                "pip install --upgrade 'pytest-pyhf-faas[parsl]'"
            ) from error
        path = Path(spec.removeprefix("parsl:")).absolute()
        return ParslEngine(spec, path, directory / "parsl", blocks=blocks, workers=workers)
    if _UUID.fullmatch(spec):
        from pytest_pyhf_faas.engines.globus_compute import GlobusComputeEngine

        return GlobusComputeEngine(spec, config=config or {}, blocks=blocks, workers=workers)
    from pytest_pyhf_faas.engines.local import LocalEngine

    count = spec.removeprefix("local").removeprefix(":")
    return LocalEngine(spec, int(count) if count else workers or usable_cores())


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
