"""The connection of a session to Globus Compute, for one endpoint."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import globus_sdk

from pytest_pyhf_faas.engines import remote_worker
from pytest_pyhf_faas.engines.globus_client import GlobusClient
from pytest_pyhf_faas.engines.globus_errors import FORBIDDEN, explained
from pytest_pyhf_faas.engines.globus_outbox import Pace
from pytest_pyhf_faas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_pyhf_faas.engines.globus_health import Health

#: How long an endpoint may be offline at the start before it is given up.
_OFFLINE_S = 30.0


class Connection:
    """A connection that is opened once, and stays within the limits of the service.

    Parameters
    ----------
    endpoint_id : str
        The endpoint.
    user_endpoint_config, resource_specification : mapping or None
        The request to it.
    health : Health
        The state of the endpoint is recorded there.

    Attributes
    ----------
    opened : Event
        Whether tasks can be submitted.
    """

    def __init__(
        self,
        endpoint_id: str,
        user_endpoint_config: Mapping[str, Any] | None,
        resource_specification: Mapping[str, Any] | None,
        health: Health,
    ) -> None:
        self.opened = threading.Event()
        self._endpoint_id = endpoint_id
        self._asked = user_endpoint_config, resource_specification
        self._health = health
        self._client: GlobusClient | None = None
        self._offline_since: float | None = None
        self._pace = Pace(time.monotonic())
        self._pacing = threading.Lock()

    @property
    def client(self) -> GlobusClient | None:
        """The client, once the connection is open and as long as it is not closed."""
        return self._client if self.opened.is_set() else None

    def wait_for_turn(self) -> None:
        """Wait until one more request may be sent, by any thread."""
        with self._pacing:
            wait_s = self._pace.take(time.monotonic())
        if wait_s > 0:
            time.sleep(wait_s)

    def try_to_open(self, *, patient: bool) -> bool:
        """Try it once; return whether it is open.

        Parameters
        ----------
        patient : bool
            Whether an offline endpoint is accepted, because it was online before.

        Raises
        ------
        ConfigurationError
            If there are no credentials, or the endpoint stays offline.
        Exception
            Whatever else the SDK raises.
        """
        self.wait_for_turn()
        if self._client is None:
            self._client = GlobusClient(self._endpoint_id, *self._asked)
        self.look_at_status(self._client)
        if self._health.status == "offline" and not patient:
            now = time.monotonic()
            self._offline_since = self._offline_since or now
            if now - self._offline_since > _OFFLINE_S:
                raise ConfigurationError(
                    f"the endpoint {self._endpoint_id} is offline: start it on its machine with "
                    "`globus-compute-endpoint start NAME`, and check "
                    "`globus-compute-endpoint list` there"
                )
            return False
        self.wait_for_turn()
        self._client.register(remote_worker.run_call)
        self._health.undisturbed()
        self._health.connected = True
        self.opened.set()
        return True

    def look_at_status(self, client: GlobusClient) -> None:
        """Ask the service whether the endpoint is online."""
        try:
            status = client.status()
        except globus_sdk.GlobusAPIError as error:
            if error.http_status != FORBIDDEN:
                raise
            status = "unknown"  # without permission to see it, submitting may still be allowed
        self._health.says(status, time.monotonic())

    def describe(self) -> dict[str, str]:
        """Return what the service knows about the endpoint.

        Raises
        ------
        ConfigurationError
            If it cannot be asked.
        """
        client = self.client
        if client is None:
            raise ConfigurationError(self._health.disturbance or "the engine was stopped")
        self.wait_for_turn()
        try:
            return {**client.describe(), "status": self._health.status}
        except Exception as error:
            if getattr(error, "http_status", None) == FORBIDDEN:  # it may still accept tasks
                return {"status": self._health.status}
            raise ConfigurationError(explained(error, self._endpoint_id)) from error

    def close(self) -> None:
        """Close it, open or not; calling it again does nothing."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
