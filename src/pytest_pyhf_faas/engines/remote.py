"""Functions travel as source and values as JSON, so that a remote worker needs only pyhf.

Client and worker may run different versions of Python, and no content of an answer is unpickled.
The modules of a call have a unique name on the worker, made from their content, so that
any version of this package that is installed there is not used.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import inspect
import json
import os
import re
import socket
import sys
import zlib
from functools import lru_cache
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

from pytest_pyhf_faas.engines import remote_worker
from pytest_pyhf_faas.errors import RemoteCallError, TaskTimeoutError
from pytest_pyhf_faas.worker.fitting import THREAD_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from importlib.abc import InspectLoader
    from importlib.machinery import ModuleSpec

_PACKAGE = __name__.partition(".")[0]
_SHIPPED_AS = re.compile(r"pyhf_faas_[0-9a-f]{16}")
#: Settings for a worker's computations; one thread each, since each core has a worker.
_ENVIRONMENT = {
    **dict.fromkeys(THREAD_VARIABLES, "1"),
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def pack_call(function: Callable[..., Any], args: tuple[Any, ...], timeout_s: float | None) -> str:
    """Return what `remote_worker.run_call` takes.

    Parameters
    ----------
    function : callable
        Of a module that imports nothing of this package but modules that do the same.
    args : tuple
        Values that JSON has.
    timeout_s : float or None
        How long the function may take on the worker.
    """
    module = sys.modules[function.__module__]
    package, modules = _shipped(module.__name__)
    return _call(
        package, modules, f"{_inside(module.__name__)}.{function.__qualname__}", args, timeout_s
    )


def pack_ping() -> str:
    """Return a call that only asks for an answer, with the value ``False``."""
    return _call("pyhf_faas_ping", {}, None, (), None)


def unpack_answer(answer: str) -> Any:
    """Return the value of an answer of `remote_worker.run_call`, or raise as `value_of` does."""
    return value_of(parse_answer(answer))


def parse_answer(answer: str) -> dict[str, Any]:
    """Return the answer of `remote_worker.run_call`, unchecked.

    Raises
    ------
    RemoteCallError
        If it is invalid.
    """
    try:
        data = json.loads(_SHIPPED_AS.sub(_PACKAGE, answer))
    except (ValueError, TypeError, RecursionError) as error:
        raise _senseless(error) from error
    if not isinstance(data, dict):
        raise _senseless(data)
    return data


def value_of(data: dict[str, Any]) -> Any:
    """Return the value that a worker has answered.

    Raises
    ------
    TaskTimeoutError
        If the function was ended by its time limit.
    RemoteCallError
        If it raised, or the answer is invalid.
    """
    try:
        if "value" in data:
            return data["value"]
        if "timeout" in data:
            raise TaskTimeoutError(f"it was ended after its time limit of {data['timeout']} s")
        error = data["error"]
        raise RemoteCallError(
            f"a worker could not run what was sent to it: {error['type']}: {error['message']}"
        )
    except (TypeError, KeyError) as error:
        raise _senseless(error) from error


def _senseless(what: object) -> RemoteCallError:
    return RemoteCallError(f"a worker gave an invalid answer: {what!r:.200}")


def _call(
    package: str,
    modules: Mapping[str, str],
    function: str | None,
    args: tuple[Any, ...],
    timeout_s: float | None,
) -> str:
    return json.dumps(
        {
            "package": package,
            "modules": modules,
            "function": function,
            "args": args,
            "timeout_s": timeout_s,
            "client": [socket.gethostname(), os.getpid()],
            "environment": _ENVIRONMENT,
        }
    )


#: A call by names that every Python has, for executors that pickle functions; a worker process
#: compiles the source once.
EXPRESSION = (
    "('run_call' in (names := __import__('sys').__dict__.setdefault(key, {})) "
    "or exec(source, names), names['run_call'](call))[1]"
)


def expression_arguments(call: str) -> tuple[str, dict[str, str]]:
    """Return the arguments with which the built-in ``eval`` runs a call."""
    source, key = _runner()
    return EXPRESSION, {"source": source, "key": key, "call": call}


@lru_cache(maxsize=1)
def _runner() -> tuple[str, str]:
    source = inspect.getsource(remote_worker)
    return source, f"_pyhf_faas_{hashlib.sha256(source.encode()).hexdigest()[:16]}"


def sources_sha256(*modules: str) -> str:
    """Return the digest of the sources that travel with functions of some modules."""
    sources: dict[str, str] = {}
    for module in modules:
        _collect(module, sources)
    return _sha256(sources)


def _sha256(sources: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=64)
def _shipped(module: str) -> tuple[str, Mapping[str, str]]:
    """Return the name and the packed modules under which a module travels."""
    sources: dict[str, str] = {}
    _collect(module, sources)
    package = f"pyhf_faas_{_sha256(sources)[:16]}"
    return package, {
        _inside(name): base64.b64encode(
            zlib.compress(source.replace(_PACKAGE, package).encode())
        ).decode()
        for name, source in sources.items()
    }


def _collect(name: str, sources: dict[str, str]) -> None:
    """Add a module's source after its package's and those of what it imports of ours."""
    if name in sources or name in ("", _PACKAGE):
        return
    _collect(name.rpartition(".")[0], sources)
    source = _source(name)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{_PACKAGE}."):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                _collect(inner if _is_module(inner) else str(node.module), sources)
    sources[name] = source


def _source(module: str) -> str:
    loader = cast("InspectLoader", getattr(_spec(module), "loader", None))
    return str(loader.get_source(module))


def _is_module(name: str) -> bool:
    return _spec(name) is not None


def _spec(module: str) -> ModuleSpec | None:
    """Find a module without importing the packages that it lies in, as `find_spec` would."""
    package, dot, _name = module.rpartition(".")
    if not dot:
        return find_spec(module)
    around = _spec(package)
    if around is None or around.submodule_search_locations is None:
        return None
    return PathFinder.find_spec(module, around.submodule_search_locations)


def _inside(module: str) -> str:
    return module.removeprefix(f"{_PACKAGE}.")
