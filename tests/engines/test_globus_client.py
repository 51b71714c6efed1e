"""What is said to the SDK of Globus Compute, and what is never said; the SDK is a stand-in."""

from __future__ import annotations

import base64
import logging
import pickle
import sys
import threading
import time
import types
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.engines import globus_client
from pytest_pyhf_faas.engines.globus_client import (
    CLIENT_ID,
    CLIENT_SECRET,
    LEGACY_CLIENT_ID,
    LEGACY_CLIENT_SECRET,
    GlobusClient,
    _read_legacy,
)
from pytest_pyhf_faas.errors import ConfigurationError

UUID = "0a1b2c3d-0a1b-2c3d-4e5f-0a1b2c3d4e5f"
relaxed = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200
)


# What `funcx` carries is a pickle


def packed(value, protocol=pickle.HIGHEST_PROTOCOL):
    data = pickle.dumps(value, protocol)
    return f"01\n{base64.b64encode(data).decode()}\n"


@relaxed
@given(text=st.text(), protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_a_text_is_read_as_it_was(text, protocol):
    assert _read_legacy(packed(text, protocol)) == text


@pytest.mark.parametrize(
    "value", [None, 1, b"x", ["x"], {"a": "b"}, ("x",)], ids=lambda value: type(value).__name__
)
def test_other_values_are_refused(value):
    with pytest.raises(pickle.UnpicklingError, match="and no text"):
        _read_legacy(packed(value))


class Malicious:
    """Writes a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.write_text, (self.path, "I was here")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("inside", [False, True])
def test_a_pickle_that_would_run_something_does_not(tmp_path, protocol, inside):
    path = tmp_path / "trace"
    payload = packed(["x", Malicious(path)] if inside else Malicious(path), protocol)
    pickle.loads(base64.b64decode(payload.partition("\n")[2]))
    assert path.exists()  # elsewhere it would
    path.unlink()
    with pytest.raises(pickle.UnpicklingError, match="and no text"):
        _read_legacy(payload)
    assert not path.exists()


@relaxed
@given(
    data=st.binary(max_size=60)
    | st.lists(
        # The instructions of pickles, and names that they could ask for.
        st.sampled_from([b"c", b"os\nsystem\n", b"\x93", b"(", b"R", b"i", b"o", b"\x81", b"."])
        | st.sampled_from([b"\x8c\x02os", b"\x8c\x06system", b"\x8c\x04true", b"t", b"\x85", b"b"])
        | st.binary(max_size=3),
        max_size=12,
    ).map(b"".join)
)
def test_of_arbitrary_bytes_nothing_but_text_comes(data):
    payload = f"01\n{base64.b64encode(data).decode()}"
    with pytest.MonkeyPatch.context() as patch:
        ran = []
        patch.setattr("os.system", ran.append)
        try:
            value = _read_legacy(payload)
        except Exception:  # noqa: BLE001 - it was refused
            value = ""
    assert ran == []
    assert isinstance(value, str)


# A stand-in for the SDK


class TaskPending(Exception):
    pass


class Client:
    """As that of the SDK."""

    login_required = False
    no_terminal = False
    made: ClassVar[list] = []

    def __init__(self, **options):
        if type(self).no_terminal:
            raise RuntimeError("cannot prompt")
        self.options = options
        self.fx_serializer = types.SimpleNamespace()
        self.app = types.SimpleNamespace(
            login_required=lambda: type(self).login_required, close=lambda: self.log.append("app")
        )
        self.log = []
        self.batch = {}
        self.results = {}
        Client.made.append(self)

    def version_check(self):
        self.log.append("version")

    def get_endpoint_metadata(self, endpoint_id):
        return {"display_name": "toy", "description": None, "owner_id": "me", "multi_user": True}

    def get_endpoint_status(self, endpoint_id):
        return {"status": "online", "details": {}}

    def register_function(self, function):
        return f"id of {function.__name__}"

    def get_batch_result(self, task_ids):
        return {name: self.batch[name] for name in task_ids if name in self.batch}

    def get_result(self, task_id):
        raise self.results[task_id]


class Executor:
    """As that of the SDK."""

    made: ClassVar[list] = []

    def __init__(self, **options):
        self.options = options
        self.batch_size = 128
        self.task_group_id = options.get("task_group_id", f"group-{len(Executor.made)}")
        self._stopped = False
        self._result_watcher = None
        self.ends_now = False
        self.sent = []
        self.shutdowns = []
        Executor.made.append(self)

    def submit_to_registered_function(self, function, args):
        if self.ends_now:
            raise RuntimeError("has been shutdown")
        self.sent.append((function, args, self.batch_size))
        return Future()

    def shutdown(self, **how):
        self._stopped = True
        self.shutdowns.append(how)


class Watcher:
    def __init__(self):
        self.log = []

    def shutdown(self, **how):
        self.log.append(how)

    def join(self, seconds):
        self.log.append(seconds)


@pytest.fixture
def sdk(monkeypatch):
    """An SDK of today."""
    for name in (CLIENT_ID, CLIENT_SECRET, LEGACY_CLIENT_ID, LEGACY_CLIENT_SECRET):
        monkeypatch.delenv(name, raising=False)
    for kind in (Client, Executor):
        monkeypatch.setattr(kind, "made", [])
    sdk = types.ModuleType("globus_compute_sdk")
    sdk.Client, sdk.Executor = Client, Executor
    serialize = types.ModuleType("globus_compute_sdk.serialize")
    serialize.JSONData = type("JSONData", (), {})
    serialize.AllCodeStrategies = serialize.CombinedCode = type("Code", (), {})
    serialize.ComputeSerializer = types.SimpleNamespace
    serialize.AllowlistWildcard = types.SimpleNamespace(CODE="all code")
    executor = types.ModuleType("globus_compute_sdk.sdk.executor")
    executor.Executor, executor._RESULT_WATCHERS = Executor, {}
    monkeypatch.setattr(Executor, "_default_task_group_id", "of another", raising=False)
    for module in (sdk, serialize, executor):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    sdk.serialize, sdk.executor = serialize, executor
    return sdk


@pytest.fixture
def legacy(sdk):
    """An SDK that `funcx` brings."""
    del sdk.serialize.JSONData
    return sdk


def both(test):
    return pytest.mark.parametrize("age", ["sdk", "legacy"])(test)


def test_clients_log_in_one_after_the_other(sdk, monkeypatch):
    """Of two that make the SDK's file of tokens at the same time, one fails."""
    busy = threading.Lock()

    def version_check(_client):
        alone = busy.acquire(blocking=False)
        time.sleep(0.02)
        busy.release()
        assert alone

    monkeypatch.setattr(Client, "version_check", version_check)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: GlobusClient(UUID, None, None), range(3)))


@both
def test_a_secret_without_an_id_says_what_to_set(request, age, monkeypatch):
    request.getfixturevalue(age)
    monkeypatch.setenv(CLIENT_SECRET, "s3cret")
    with pytest.raises(ConfigurationError, match=f"{CLIENT_ID} is not: set both") as caught:
        GlobusClient(UUID, None, None)
    assert "s3cret" not in str(caught.value)
    assert Client.made == []


def test_an_id_without_a_secret_and_no_login_says_what_to_do(sdk, monkeypatch):
    monkeypatch.setenv(CLIENT_ID, UUID)
    monkeypatch.setattr(Client, "login_required", True)
    with pytest.raises(ConfigurationError, match=f"{CLIENT_ID} and {CLIENT_SECRET}"):
        GlobusClient(UUID, None, None)


def test_without_a_login_it_does_not_ask_but_says_how(sdk, monkeypatch):
    monkeypatch.setattr(Client, "login_required", True)
    with pytest.raises(ConfigurationError, match=r"Client\(\)\.app\.login\(\)"):
        GlobusClient(UUID, None, None)


def test_without_a_login_funcx_says_the_same(legacy, monkeypatch):
    monkeypatch.setattr(Client, "no_terminal", True)
    with pytest.raises(ConfigurationError, match="log in once on this machine"):
        GlobusClient(UUID, None, None)


def test_funcx_gets_the_credentials_under_its_own_names(legacy, monkeypatch):
    monkeypatch.setenv(CLIENT_ID, "an id")
    monkeypatch.setenv(CLIENT_SECRET, "a secret")
    monkeypatch.setenv(LEGACY_CLIENT_ID, "an id of its own")
    monkeypatch.setenv(LEGACY_CLIENT_SECRET, "")
    monkeypatch.delenv(LEGACY_CLIENT_SECRET)
    GlobusClient(UUID, None, None)
    assert globus_client.os.environ[LEGACY_CLIENT_ID] == "an id of its own"
    assert globus_client.os.environ[LEGACY_CLIENT_SECRET] == "a secret"


def test_nothing_but_json_and_functions_is_read(sdk):
    GlobusClient(UUID, None, None)
    serializer = Client.made[0].fx_serializer
    assert serializer.allowed_deserializer_types == ["all code", sdk.serialize.JSONData]
    assert isinstance(serializer.strategy_data, sdk.serialize.JSONData)


def test_of_funcx_nothing_but_text_is_read(legacy):
    GlobusClient(UUID, None, None)
    assert Client.made[0].fx_serializer.deserialize is _read_legacy


def test_what_the_sdk_says_of_versions_is_not_said(sdk):
    client = GlobusClient(UUID, None, None)
    assert client._client._log_version_mismatch({"python_version": "2.7"}) is None
    assert isinstance(client._client, Client)


def test_loggers_that_somebody_wants_to_hear_are_left_as_they_are(sdk, monkeypatch):
    loud, set_up = logging.getLogger("pika"), logging.getLogger("globus_sdk")
    monkeypatch.setattr(loud, "level", logging.NOTSET)
    monkeypatch.setattr(set_up, "level", logging.DEBUG)
    GlobusClient(UUID, None, None)
    assert loud.level == logging.CRITICAL
    assert set_up.level == logging.DEBUG


def test_people_are_shown_what_is_known_of_the_endpoint(sdk):
    client = GlobusClient(UUID, None, None)
    assert client.describe() == {"display_name": "toy", "multi_user": "True"}
    assert client.status() == "online"


@both
def test_calls_go_to_the_endpoint_with_what_it_was_asked_for(request, age):
    request.getfixturevalue(age)
    client = GlobusClient(UUID, {"workers": 2}, {"num_nodes": 1})
    assert client.task_group_id is None
    client.register(both)
    client.submit("a", most=7)
    (executor,) = Executor.made
    assert executor.sent == [("id of both", ("a",), 7)]
    assert executor.options["endpoint_id"] == UUID
    assert executor.options["user_endpoint_config"] == {"workers": 2}
    # funcx knows of no specification.
    assert executor.options.get("resource_specification") == (
        {"num_nodes": 1} if age == "sdk" else None
    )
    assert client.task_group_id == "group-0"


def test_what_was_not_asked_for_is_not_sent(sdk):
    client = GlobusClient(UUID, {}, None)
    client.submit("a", most=1)
    assert Executor.made[0].options["user_endpoint_config"] is None
    assert Executor.made[0].options["resource_specification"] is None


@pytest.mark.parametrize("how", ["has ended", "ends now"])
def test_an_executor_that_went_down_is_replaced_in_its_group(sdk, how):
    client = GlobusClient(UUID, None, None)
    client.submit("a", most=7)
    Executor.made[0]._stopped = how == "has ended"
    Executor.made[0].ends_now = how == "ends now"
    client.submit("b", most=3)
    client.submit("c", most=2)
    first, second = Executor.made
    assert [args for _function, args, _most in second.sent] == [("b",), ("c",)]
    assert [most for *_, most in second.sent] == [3, 2]
    assert client.task_group_id == first.task_group_id == second.task_group_id


def test_answers_are_those_of_tasks_that_ended(sdk):
    client = GlobusClient(UUID, None, None)
    inner = Client.made[0]
    failed = ValueError("failed")
    inner.batch = {
        "done": {"pending": False, "status": "success", "result": "a"},
        "runs": {"pending": True, "status": "waiting"},
        "no result": {"pending": False, "status": "failed", "reason": "unknown"},
    }
    inner.results = {"failed": failed, "later": TaskPending("waiting")}
    found = client.answers(iter(["done", "runs", "failed", "no result", "later"]))
    assert "the service has no result for it: unknown" in str(found.pop("no result"))
    assert found == {"done": "a", "failed": failed}


def test_a_service_that_cannot_be_asked_is_no_answer(sdk, monkeypatch):
    client = GlobusClient(UUID, None, None)

    def get_batch_result(task_ids):
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(Client.made[0], "get_batch_result", get_batch_result, raising=False)
    with pytest.raises(ConnectionResetError):
        client.answers(["a"])


@both
def test_closing_ends_what_the_sdk_started(request, age):
    sdk = request.getfixturevalue(age)
    client = GlobusClient(UUID, None, None)
    client.submit("a", most=1)
    (executor,) = Executor.made
    watcher = Watcher()
    executor._result_watcher = watcher if age == "legacy" else None
    sdk.executor._RESULT_WATCHERS[executor.task_group_id] = watcher
    client.close()
    assert executor.shutdowns == [{"wait": False, "cancel_futures": True}]
    assert watcher.log == [{"wait": False, "cancel_futures": True}, 3.0]
    assert Client.made[0].log[-1:] == ["app"]
    assert client.task_group_id is None
    if age == "sdk":
        # So that the next one, of this process, does not hear of these tasks.
        assert Executor._default_task_group_id is None


def test_what_was_never_used_is_closed_as_well(sdk):
    client = GlobusClient(UUID, None, None)
    client.close()
    assert Client.made[0].log[-1:] == ["app"]
