"""The parts of Globus Compute's SDK that this package uses, in all supported versions.

Its results are read as text: nothing that comes back from a worker is unpickled.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import importlib
import io
import logging
import os
import pickle
import threading
import warnings
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Future

#: The identity that a CI uses; see `globus_compute_sdk.sdk.auth.client_login`.
CLIENT_ID, CLIENT_SECRET = "GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET"
#: The same under the names of the SDK that `funcx` 2.4 brings.
LEGACY_CLIENT_ID, LEGACY_CLIENT_SECRET = "FUNCX_SDK_CLIENT_ID", "FUNCX_SDK_CLIENT_SECRET"
_NO_CREDENTIALS = (
    "nobody is logged in to Globus Compute here: log in once on this machine with "
    "`python -c 'from globus_compute_sdk import Client; Client().app.login()'`, or, as in a CI, "
    f"set {CLIENT_ID} and {CLIENT_SECRET} to those of a confidential client that may use the "
    "endpoint"
)
_DESCRIBED = ("display_name", "description", "hostname", "endpoint_version", "multi_user")
_CLOSE_S = 3.0
#: We report the troubles of the SDK and its AMQP client ourselves.
_LOUD = ("globus_compute_sdk", "globus_sdk", "pika")

#: The SDK creates its token file if there is none; two at once would both create it.
_LOGGING_IN = threading.Lock()


class GlobusClient:
    """A connection to the service, for one endpoint.

    Parameters
    ----------
    endpoint_id : str
        The endpoint.
    user_endpoint_config, resource_specification : dict or None
        The request to an endpoint that allows one.

    Raises
    ------
    ConfigurationError
        If there are no credentials.
    globus_sdk.GlobusError
        If the service cannot be reached, or refuses the credentials.
    """

    def __init__(
        self,
        endpoint_id: str,
        user_endpoint_config: Mapping[str, Any] | None,
        resource_specification: Mapping[str, Any] | None,
    ) -> None:
        for name in _LOUD:
            logger = logging.getLogger(name)
            if logger.level == logging.NOTSET:
                logger.setLevel(logging.CRITICAL)
        self.endpoint_id = endpoint_id
        self._sdk = importlib.import_module("globus_compute_sdk")
        self._serialize = importlib.import_module("globus_compute_sdk.serialize")
        self._legacy = not hasattr(self._serialize, "JSONData")
        self._asked: dict[str, Any] = {"user_endpoint_config": _plain(user_endpoint_config)}
        if not self._legacy:
            self._asked["resource_specification"] = _plain(resource_specification)
        with _LOGGING_IN:
            self._client = self._logged_in()
        self._executor: Any = None
        self._function = ""

    @property
    def task_group_id(self) -> str | None:
        """The group of the tasks that were submitted; ``None`` before the first is known."""
        group = self._executor.task_group_id if self._executor is not None else None
        return None if group is None else str(group)

    def describe(self) -> dict[str, str]:
        """Return what the service knows about the endpoint, for people."""
        known = self._client.get_endpoint_metadata(self.endpoint_id)
        return {name: str(known[name]) for name in _DESCRIBED if known.get(name)}

    def status(self) -> str:
        """Return the status that the service reports of the endpoint, such as "online"."""
        return str(self._client.get_endpoint_status(self.endpoint_id)["status"])

    def register(self, function: Callable[[str], str]) -> None:
        """Register the function that all tasks of this connection call."""
        self._function = self._client.register_function(function)

    def submit(self, call: str, *, most: int) -> Future[Any]:
        """Submit a call of the registered function, with at most ``most`` calls in one request.

        The future gets ``task_id`` when the service has taken it. A failed submission ends all
        futures that wait with it, by an exception or as cancelled.
        """
        executor = self._executor
        if executor is None or executor._stopped:  # noqa: SLF001 - it ends with a failed submission
            executor = self._executor = self._new_executor()
        executor.batch_size = most
        try:
            future = executor.submit_to_registered_function(self._function, args=(call,))
        except RuntimeError:  # it has just ended
            executor = self._executor = self._new_executor()
            executor.batch_size = most
            future = executor.submit_to_registered_function(self._function, args=(call,))
        return future  # type: ignore[no-any-return]

    def answers(self, task_ids: Iterable[str]) -> dict[str, Any]:
        """Return, for each of these tasks that ended, its result or an exception."""
        wanted = list(task_ids)
        found = {}
        states = self._client.get_batch_result(wanted)
        for task_id in wanted:
            state = states.get(task_id)
            if state is None:  # what failed is left out there
                try:
                    found[task_id] = self._client.get_result(task_id)
                except Exception as error:  # noqa: BLE001 - it is the answer
                    if not _is_pending(error):
                        found[task_id] = error
            elif "result" in state:
                found[task_id] = state["result"]
            elif not state["pending"]:
                reason = state.get("reason", state["status"])
                found[task_id] = LookupError(f"the service has no result for it: {reason}")
        return found

    def close(self) -> None:
        """End the SDK's threads; those of open futures would keep the interpreter from exiting."""
        executor, self._executor = self._executor, None
        if executor is not None:
            watcher = self._watcher(executor)
            executor.shutdown(wait=False, cancel_futures=True)
            if watcher is not None:
                watcher.shutdown(wait=False, cancel_futures=True)
                watcher.join(_CLOSE_S)
            del watcher
        app = getattr(self._client, "app", None)
        if app is not None:
            app.close()
        del executor, app, self._client
        with warnings.catch_warnings():
            # The SDK leaves sockets open, which are collected while nobody is warned of them.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    def _watcher(self, executor: Any) -> Any:
        """Return the SDK's thread that receives the results of this group, and make it forget."""
        if self._legacy:
            return executor._result_watcher  # noqa: SLF001
        module = importlib.import_module("globus_compute_sdk.sdk.executor")
        # The next executor would join this group, and wait for what others submit to it.
        module.Executor._default_task_group_id = None  # noqa: SLF001
        return module._RESULT_WATCHERS.get(executor.task_group_id)  # noqa: SLF001

    def _logged_in(self) -> Any:
        secret = os.environ.get(CLIENT_SECRET)
        if secret and not os.environ.get(CLIENT_ID):
            raise ConfigurationError(
                f"{CLIENT_SECRET} is set and {CLIENT_ID} is not: set both, or none to use your own "
                "login"
            )
        if self._legacy:
            return self._legacy_client()
        client_class = self._sdk.Client

        class QuietClient(client_class):  # type: ignore[misc, valid-type]
            def _log_version_mismatch(self, worker_details: object) -> None:
                """Silence warnings: functions travel as source, and as errors they end threads."""

        serialize = self._serialize
        client = QuietClient(do_version_check=False)
        client.fx_serializer = serialize.ComputeSerializer(
            strategy_code=serialize.AllCodeStrategies(),
            strategy_data=serialize.JSONData(),
            allowed_deserializer_types=[serialize.AllowlistWildcard.CODE, serialize.JSONData],
        )
        # It would ask on a terminal, which pytest has taken away.
        if client.app is not None and client.app.login_required():
            client.app.close()
            raise ConfigurationError(_NO_CREDENTIALS)
        client.version_check()
        return client

    def _legacy_client(self) -> Any:
        for legacy, today in (
            (LEGACY_CLIENT_ID, CLIENT_ID),
            (LEGACY_CLIENT_SECRET, CLIENT_SECRET),
        ):
            if os.environ.get(today):
                os.environ.setdefault(legacy, os.environ[today])
        try:
            client = self._sdk.Client(
                code_serialization_strategy=self._serialize.CombinedCode(),
            )
        except RuntimeError as error:  # there is no terminal to log in at
            raise ConfigurationError(_NO_CREDENTIALS) from error
        client.fx_serializer.deserialize = _read_legacy
        return client

    def _new_executor(self) -> Any:
        if self._executor is not None:
            self._asked["task_group_id"] = self._executor.task_group_id
            # Its submitter has ended with an error; the tasks that it watches go on.
        options = {"endpoint_id": self.endpoint_id, **self._asked}
        if self._legacy:
            return self._sdk.Executor(funcx_client=self._client, **options)
        return self._sdk.Executor(
            client=self._client,
            result_serializers=[self._serialize.JSONData()],
            # We respect the limits ourselves.
            api_burst_limit=8,
            api_burst_window_s=1,
            **options,
        )


def _plain(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return dict(config) if config else None


def _is_pending(error: Exception) -> bool:
    return type(error).__name__ == "TaskPending"


def _read_legacy(payload: str) -> Any:
    """Read the pickle of a text, and of nothing else."""
    _header, _, data = payload.partition("\n")
    with contextlib.closing(io.BytesIO(base64.b64decode(data))) as file:
        value = _TextUnpickler(file).load()
    if not isinstance(value, str):
        raise pickle.UnpicklingError(f"the result is a {type(value).__name__}, and no text")
    return value


class _TextUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"the result is a {module}.{name}, and no text")
