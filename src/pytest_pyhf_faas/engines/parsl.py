"""Workers that Parsl starts, on this machine or through the batch system of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.engines import parsl_config
from pytest_pyhf_faas.engines.parsl_session import ParslSession
from pytest_pyhf_faas.engines.remote import expression_arguments, pack_call
from pytest_pyhf_faas.engines.session import SessionEngine

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from pathlib import Path

    import parsl


class ParslEngine(SessionEngine[ParslSession]):
    """The executors of a Parsl configuration.

    Parsl's kernel starts, scales and ends them; tasks go to the executors directly, because the
    campaign needs nothing of what the kernel adds (dependencies, retries, cached results).

    Parameters
    ----------
    spec : str
        The endpoint as the user named it.
    path : Path
        A module with ``fresh_config()`` or ``config``.
    directory : Path
        Where Parsl keeps its files, if the configuration does not say. Workers must see it.
    blocks, workers : int or None
        Blocks (at the start and at most) and workers for each node, instead of the configuration's.

    Raises
    ------
    ConfigurationError
        If the file cannot be run, or has no configuration that can be used.
    """

    whole = "executor"
    batch_s = 0.5
    watches_workers = False

    def __init__(
        self, spec: str, path: Path, directory: Path, *, blocks: int | None, workers: int | None
    ) -> None:
        super().__init__(spec)
        self.worker_setup = f"worker_init of the provider in {path.name}"
        self._path = path
        self._directory = directory
        self._asked = {"blocks": blocks, "workers": workers}
        self._config: parsl.Config | None = self._load()
        self._description = parsl_config.described(self._config)
        self.workers = sum(map(parsl_config.slots, self._config.executors))
        self.walltime_s = parsl_config.walltime_s(self._config.executors)
        self.missed_after_s = parsl_config.missed_after_s(self._config.executors)

    def _load(self) -> parsl.Config:
        return parsl_config.load(self._path, self._directory, **self._asked)

    def _new_session(self) -> ParslSession:
        config, self._config = self._config or self._load(), None  # Parsl uses each but once
        return ParslSession(config, self._directory, proven=self._proven)

    def describe(self) -> dict[str, str]:
        return {"endpoint": self.spec, **self._description}

    @property
    def workers_there(self) -> int:
        return self._session.connected_workers if self._session is not None else 0

    def submit(  # type: ignore[override]
        self, function: Callable[..., Any], /, *args: Any, timeout_s: float | None = None
    ) -> Future[Any]:
        session = self._started()
        future = session.submit(*expression_arguments(pack_call(function, args, timeout_s)))
        self.workers = max(self.workers, session.connected_workers)
        return future
