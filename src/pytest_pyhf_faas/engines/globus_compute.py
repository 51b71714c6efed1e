"""Workers of a funcX / Globus Compute endpoint, wherever that is."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.engines.globus_session import GlobusSession
from pytest_pyhf_faas.engines.remote import pack_call, pack_ping
from pytest_pyhf_faas.engines.session import SessionEngine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Future

#: Calls to keep with an endpoint whose number of workers is not known.
_IN_FLIGHT = 256
#: Longest time from an answer to the start of the next call: requests are 1.25 s apart.
_ROUND_TRIP_S = 5.0


class GlobusComputeEngine(SessionEngine[GlobusSession]):
    """An endpoint of Globus Compute, through its SDK.

    Functions travel as source and values as JSON; nothing that comes back is unpickled. The service
    takes all that is sent, but never reports what an endpoint took and lost, so the
    campaign must notice it.

    Parameters
    ----------
    spec : str
        The endpoint's UUID.
    config : mapping
        ``user_endpoint_config`` and ``resource_specification``, for endpoints that take them.
    blocks, workers : int or None
        Blocks at most, and workers for each node, to ask the endpoint for.
    """

    batch_s = 2.0
    watches_workers = False
    loses_tasks = True
    whole = "agent"
    worker_setup = "worker_init of the endpoint (user_config_template.yaml.j2)"

    def __init__(
        self,
        spec: str,
        *,
        config: Mapping[str, Any],
        blocks: int | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__(spec)
        asked = dict(config.get("user_endpoint_config") or {})
        if blocks is not None:
            asked["max_blocks"] = blocks
        if workers is not None:
            asked["workers"] = workers
        self._config = asked, config.get("resource_specification")
        self._known_workers = _product(asked, "max_blocks", "nodes_per_block", "workers")
        self._heard: set[str] = set()
        self._answered_at: deque[float] = deque()

    def _new_session(self) -> GlobusSession:
        return GlobusSession(
            self.spec,
            *self._config,
            on_worker=self._hear,
            on_workers_lost=self._heard.clear,
            on_accepted=self._accepted,
            proven=self._proven,
        )

    def _hear(self, worker: str) -> None:
        self._heard.add(worker)
        self._answered_at.append(time.monotonic())

    def _accepted(self, future: Future[Any], reference: str) -> None:
        self.on_accepted(future, reference)  # as it is now

    @property
    def workers(self) -> int:  # type: ignore[override]
        """As many as were asked for, or as have answered since some were lost."""
        return self._known_workers or max(1, len(self._heard))

    @property
    def workers_known(self) -> bool:
        return bool(self._known_workers or self._heard)

    @property
    def in_flight(self) -> int:
        """What the workers hold, and what they answer while the next calls travel."""
        since = time.monotonic() - _ROUND_TRIP_S
        while self._answered_at and self._answered_at[0] < since:
            self._answered_at.popleft()
        least = _IN_FLIGHT if self._known_workers is None else 0
        return max(least, super().in_flight + len(self._answered_at))

    @property
    def workers_there(self) -> int:
        return len(self._heard)

    def describe(self) -> dict[str, str]:
        return {"endpoint": self.spec, **self._started().describe()}

    def submit(  # type: ignore[override]
        self, function: Callable[..., Any], /, *args: Any, timeout_s: float | None = None
    ) -> Future[Any]:
        return self._started().submit(pack_call(function, args, timeout_s))

    def ping(self) -> Future[Any]:
        return self._started().submit(pack_ping())

    def collect(self, reference: str) -> Future[Any]:
        return self._started().collect(reference.rpartition("/")[2])

    def settle(self) -> None:
        if self._session is not None:
            self._session.settle()


def _product(config: Mapping[str, Any], *names: str) -> int | None:
    """Return the number of workers that was asked for, where that is known."""
    counts: Iterable[Any] = [config.get(name, 1) for name in names]
    if "workers" not in config or not all(isinstance(count, int) for count in counts):
        return None
    product = 1
    for count in counts:
        product *= count
    return max(1, product)
