"""Prepare a Parsl configuration before it is started."""

from __future__ import annotations

import gc
import logging
import re
import runpy
import warnings
from typing import TYPE_CHECKING, Any

import parsl
from parsl.executors import HighThroughputExecutor
from parsl.executors.threads import ThreadPoolExecutor
from parsl.jobs.error_handlers import simple_error_handler, windowed_error_handler
from parsl.providers import (
    CondorProvider,
    GridEngineProvider,
    KubernetesProvider,
    PBSProProvider,
)
from parsl.providers.cluster_provider import ClusterProvider

from pytest_pyhf_faas.engines import (
    parsl_gridengine,
    parsl_pbspro,
    parsl_pods,
    parsl_refusals,
)
from pytest_pyhf_faas.engines.parsl_failures import TELL_PARSL
from pytest_pyhf_faas.engines.texts import in_one_line
from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Parsl's own defaults, which are too slow or too loud for a session of pytest.
_RUN_DIR, _STRATEGY_PERIOD_S = "runinfo", 5
_QUICK_STRATEGY_PERIOD_S = 0.3
#: Faults of these providers, each corrected by a module.
_OVERLOOKS = (
    (ClusterProvider, parsl_refusals),
    (GridEngineProvider, parsl_gridengine),
    (KubernetesProvider, parsl_pods),
    (PBSProProvider, parsl_pbspro),
)
_WALLTIME = re.compile(r"(?:(\d+)-)?(\d+):(\d+):(\d+)")


def load(path: Path, directory: Path, *, blocks: int | None, workers: int | None) -> parsl.Config:
    """Run the file of a configuration, and return this as it is to be started.

    Parameters
    ----------
    path : Path
        A module with ``fresh_config()`` or ``config``.
    directory : Path
        Where Parsl keeps its files, if the configuration does not say.
    blocks, workers : int or None
        Blocks (at the start and at most) and workers for each node, instead of the configuration's.

    Raises
    ------
    ConfigurationError
        If the file cannot be run, or has no configuration that can be used.
    """
    config = _read(path)
    for executor in config.executors:
        if isinstance(executor, ThreadPoolExecutor):
            raise ConfigurationError(
                f"the Parsl configuration {path} has a ThreadPoolExecutor, but pyhf's "
                "backend is global in a process: use a HighThroughputExecutor"
            )
        _override(executor, blocks, workers)
    if config.initialize_logging is True:
        config.initialize_logging = False
        log = logging.getLogger("parsl")
        if log.level == logging.NOTSET:
            log.setLevel(logging.CRITICAL)  # we report failures ourselves
    if config.strategy_period == _STRATEGY_PERIOD_S:
        config.strategy_period = _QUICK_STRATEGY_PERIOD_S
    if config.run_dir == _RUN_DIR:
        config.run_dir = str(directory)
    return config


def described(config: parsl.Config) -> dict[str, str]:
    """Describe the request of a configuration, without what may be private."""
    executors = []
    for executor in config.executors:
        text = f"{executor.label} ({type(executor).__name__}"
        provider = getattr(executor, "provider", None)
        if provider is not None:
            text += (
                f" over {type(provider).__name__}; at most {provider.max_blocks} x "
                f"{counted(provider.nodes_per_block, 'node')} x "
                f"{counted(_workers_per_node(executor), 'worker')}"
            )
        executors.append(f"{text})")
    return {"kind": f"Parsl {parsl.__version__}", "executors": ", ".join(executors)}


def slots(executor: Any) -> int:
    """Return how many tasks an executor runs at once, with all its blocks."""
    provider = getattr(executor, "provider", None)
    if provider is None:
        return 1
    slots = provider.max_blocks * provider.nodes_per_block * _workers_per_node(executor)
    return max(1, int(slots))


def _read(path: Path) -> parsl.Config:
    try:
        with warnings.catch_warnings():
            # Parsl leaves sockets open while it looks for this machine's addresses; they are
            # collected without a warning.
            warnings.simplefilter("ignore", ResourceWarning)
            names = runpy.run_path(str(path))
            config = names["fresh_config"]() if "fresh_config" in names else names["config"]
            gc.collect()
    except KeyError as error:
        if error.args != ("config",):
            raise ConfigurationError(_cannot_be_run(path, error)) from error
        raise ConfigurationError(
            f"the Parsl configuration {path} defines neither config nor fresh_config(): one of "
            "them must be a parsl.Config"
        ) from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(_cannot_be_run(path, error)) from error
    if not isinstance(config, parsl.Config):
        raise ConfigurationError(
            f"the configuration of {path} is a {type(config).__name__}: it must be a parsl.Config"
        )
    return config


def _cannot_be_run(path: Path, error: BaseException) -> str:
    return (
        f"the Parsl configuration {path} cannot be run ({type(error).__name__}: "
        f"{in_one_line(error)}): try `python {path}`"
    )


def _override(executor: Any, blocks: int | None, workers: int | None) -> None:
    """Apply the command line, and change what would lose or hang tasks."""
    provider = getattr(executor, "provider", None)
    if blocks is not None and provider is not None:
        provider.init_blocks = provider.max_blocks = blocks
        provider.min_blocks = min(provider.min_blocks, blocks)
    for kind, module in _OVERLOOKS:
        if isinstance(provider, kind):
            module.watch(provider)
    if isinstance(executor, HighThroughputExecutor):
        if workers is not None:
            executor.max_workers_per_node = workers
            executor._workers_per_node = workers  # noqa: SLF001 - made of it once, at the beginning
        if provider is not None and isinstance(getattr(provider, "worker_init", None), str):
            provider.worker_init += TELL_PARSL
        # A worker that dies while it returns a result hangs a manager that prefetches.
        executor.prefetch_capacity = 0
    if getattr(executor, "block_error_handler", None) is simple_error_handler:
        # The end of one block must not end them all, as it does with only one block.
        executor.block_error_handler = windowed_error_handler


def _workers_per_node(executor: Any) -> int:
    try:
        return int(executor.workers_per_node)
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return 1


def walltime_s(executors: Sequence[Any]) -> float | None:
    """Return how long a block lives at most, the shortest of those that say it.

    Parsl does not pass the walltime of its provider to HTCondor.
    """
    providers = (getattr(executor, "provider", None) for executor in executors)
    texts = (
        getattr(provider, "walltime", None)
        for provider in providers
        if not isinstance(provider, CondorProvider)
    )
    return min(filter(None, map(seconds_of, texts)), default=None)


def missed_after_s(executors: Sequence[Any]) -> float:
    """Return how long after its end a block is missed at the latest: no heartbeat comes."""
    return max((getattr(each, "heartbeat_threshold", 0.0) for each in executors), default=0.0)


def seconds_of(walltime: object) -> float | None:
    """Return the seconds of ``[days-]hours:minutes:seconds``, as batch systems write them."""
    match = _WALLTIME.fullmatch(walltime) if isinstance(walltime, str) else None
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
