"""The loopback Globus Compute answers as Globus does, and fails as tests want it to.

What takes minutes is in ``services/check_globus_compute.py``.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import time
import uuid

import pytest
import requests

from tests.services.clients import make_executor, since, square
from tests.services.processes import wait_for

pytestmark = pytest.mark.timeout(180)

CANNED = "globus_sdk.testing.data.compute"


class Caller:
    """Speaks HTTP with the service, without the SDK, which would try again."""

    def __init__(self, compute, role="owner", **how):
        env = compute.env_of(role, **how)
        self.url = compute.service.url
        self.identity = tuple(env[f"GLOBUS_COMPUTE_CLIENT_{name}"] for name in ("ID", "SECRET"))
        self.token = ""

    def ask(self, method, path, **options):
        with requests.Session() as session:
            session.trust_env = False  # which has the service for a proxy
            session.headers["Authorization"] = f"Bearer {self.token}"
            return session.request(method, f"{self.url}/{path}", timeout=30, **options)

    def log_in(self):
        form = {"grant_type": "client_credentials"}
        answer = self.ask("POST", "v2/oauth2/token", data=form, auth=self.identity)
        self.token = answer.json().get("access_token", "")
        return answer

    def version(self):
        return self.ask("GET", "v2/version")

    def endpoints(self):
        return self.ask("GET", "v2/endpoints")

    def submit(self):
        """Submit a task to an endpoint that nobody runs."""
        data = {"function_code": "00\n"}
        function = self.ask("POST", "v3/functions", json=data).json()["function_uuid"]
        data = {"endpoint_name": "idle"}
        endpoint = self.ask("POST", "v3/endpoints", json=data).json()["endpoint_id"]
        data = {"tasks": {function: ["00\n"]}}
        return self.ask("POST", f"v3/endpoints/{endpoint}/submit", json=data)


@pytest.fixture
def caller(globus_compute):
    """The owner of the endpoints, with a token."""
    caller = Caller(globus_compute)
    assert caller.log_in().status_code == 200
    return caller


@pytest.fixture
def service(globus_compute):
    return globus_compute.service


@pytest.fixture
def executor(globus_compute):
    from globus_compute_sdk import Client

    executor = make_executor(globus_compute.endpoint_id, Client())
    yield executor
    executor.shutdown(wait=False, cancel_futures=True)


def is_id(text):
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def differences(expected, found, where="answer"):
    """Tell where keys and types are not as expected; more keys are no difference."""
    if type(expected) is not type(found):
        return [f"{where}: {found!r}, expected something like {expected!r}"]
    if isinstance(expected, dict):
        if expected and all(is_id(key) for key in expected):  # one entry for each of some ids
            pairs = [("{id}", next(iter(expected.values())), value) for value in found.values()]
            return [text for key, *two in pairs for text in differences(*two, f"{where}.{key}")]
        lacking = [f"{where}.{key}: missing" for key in expected.keys() - found.keys()]
        both = expected.keys() & found.keys()
        return lacking + [
            text
            for key in sorted(both)
            for text in differences(expected[key], found[key], f"{where}.{key}")
        ]
    if isinstance(expected, list) and expected:
        if not found:
            return [f"{where}: empty"]
        return [text for item in found for text in differences(expected[0], item, f"{where}[]")]
    return []


@pytest.fixture
def canned():
    """The answers that Globus publishes, by version and module."""
    pytest.importorskip("responses")
    answers = {}
    for version in ("v2", "v3"):
        package = importlib.import_module(f"{CANNED}.{version}")
        for module in pkgutil.iter_modules(package.__path__):
            found = importlib.import_module(f"{CANNED}.{version}.{module.name}").RESPONSES
            answers[f"{version}.{module.name}"] = found.lookup("default").json
    answers["v2.get_version.all"] = (
        importlib.import_module(f"{CANNED}.v2.get_version").RESPONSES.lookup("all").json
    )
    return answers


def test_answers_are_like_those_that_globus_publishes(canned, globus_compute, executor):
    service, agent, client = globus_compute.service, globus_compute.agents["first"], executor.client
    web = client._compute_web_client
    function = client.register_function(square)
    temporary = web.v3.register_endpoint({"endpoint_name": "temporary", "metadata": {}}).data
    endpoint = temporary["endpoint_id"]
    future = executor.submit(square, 4)
    assert future.result(90) == [16]
    task = future.task_id
    assert wait_for(lambda: client.get_task(task)["status"] == "success", 10)
    user_endpoint = next(
        name for name, it in service.endpoints().items() if it["parent"] == str(agent.id)
    )
    payload = {"tasks": {function: ["00\n", "00\n"]}, "create_queue": False}
    answers = {
        "v2.get_endpoint": web.v2.get_endpoint(agent.id),
        "v2.get_endpoint_status": web.v2.get_endpoint_status(user_endpoint),
        "v2.get_endpoints": web.v2.get_endpoints(),
        "v2.get_function": web.v2.get_function(function),
        "v2.get_result_amqp_url": web.v2.get_result_amqp_url(),
        "v2.get_task": web.v2.get_task(task),
        "v2.get_task_batch": web.v2.get_task_batch([task]),
        "v2.get_task_group": web.v2.get_task_group(executor.task_group_id),
        "v2.get_version": web.v2.get_version(),
        "v2.get_version.all": web.v2.get_version(service="all"),
        "v3.get_endpoint_allowlist": web.v3.get_endpoint_allowlist(endpoint),
        "v3.register_endpoint": web.v3.register_endpoint({"endpoint_name": "another"}),
        "v3.register_function": web.v3.register_function({"function_code": "00\n"}),
        "v3.submit": web.v3.submit(endpoint, payload),
        "v3.update_endpoint": web.v3.update_endpoint(endpoint, {"endpoint_name": "renamed"}),
        "v2.delete_function": web.v2.delete_function(function),
        "v2.delete_endpoint": web.v2.delete_endpoint(endpoint),
    }
    # An endpoint that nobody restricts has an empty list there.
    canned["v3.get_endpoint_allowlist"]["functions"] = []
    found = {name: json.loads(answer.text) for name, answer in answers.items()}
    assert [text for name in found for text in differences(canned[name], found[name], name)] == []
    # What 4.19 never asks for.
    unused = {"v2.lock_endpoint", "v3.lock_endpoint", "v2.submit"}
    unused |= {"v2.register_endpoint", "v2.register_function"}
    assert canned.keys() - answers.keys() == unused


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_request_is_answered_with_a_status(caller, service, status):
    service.fault("version", status=status, retry_after=7)
    answer = caller.version()
    assert (answer.status_code, answer.headers["Retry-After"]) == (status, "7")
    assert caller.version().status_code == 200


def test_a_fault_is_of_one_route(caller, service):
    service.fault("token", status=503)
    assert caller.version().status_code == 200
    assert caller.log_in().status_code == 503
    assert caller.log_in().status_code == 200


def test_a_fault_is_of_so_many_requests(caller, service):
    service.fault("version", status=503, count=2)
    assert [caller.version().status_code for _ in range(3)] == [503, 503, 200]
    assert service.counters()["faults"] >= 2


def test_a_fault_is_of_all_requests_for_some_time(caller, service):
    service.fault(status=503, seconds=1)
    assert {caller.version().status_code, caller.endpoints().status_code} == {503}
    assert wait_for(lambda: caller.version().status_code == 200, 5)


@pytest.mark.parametrize(("fault", "tasks"), [("drop", 0), ("lose", 1)])
def test_a_reply_is_missing_and_the_task_is_there_or_not(caller, service, fault, tasks):
    before = service.counters()
    service.fault("submit", **{fault: True})
    with pytest.raises(requests.ConnectionError):
        caller.submit()
    assert since(service.counters(), before, "tasks") == tasks
    assert caller.submit().status_code == 200
    assert since(service.counters(), before, "tasks") == tasks + 1


def test_a_reply_is_late(caller, service):
    service.fault("version", delay=1.0)
    start = time.monotonic()
    assert caller.version().status_code == 200
    assert time.monotonic() - start >= 1.0


def test_faults_and_limits_are_lifted(caller, service):
    service.fault(status=503, count=100)
    service.limit(requests=1, seconds=100)
    service.clear()
    assert [caller.endpoints().status_code for _ in range(3)] == [200] * 3


def test_a_rate_is_limited(caller, service):
    service.limit(requests=2, seconds=100)
    assert [caller.endpoints().status_code for _ in range(3)] == [200, 200, 429]


def test_a_token_expires(caller, service):
    assert caller.endpoints().status_code == 200
    service.expire_tokens()
    assert caller.endpoints().status_code == 401
    caller.log_in()
    assert caller.endpoints().status_code == 200


def test_a_wrong_secret_gets_no_token(globus_compute):
    answer = Caller(globus_compute, secret="wrong").log_in()
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_client")


@pytest.mark.parametrize(
    ("role", "known", "status"), [("owner", False, 404), ("stranger", True, 403)]
)
def test_an_endpoint_that_is_unknown_or_of_somebody_else(globus_compute, role, known, status):
    caller = Caller(globus_compute, role)
    caller.log_in()
    endpoint = globus_compute.endpoint_id if known else uuid.uuid4()
    assert caller.ask("GET", f"v2/endpoints/{endpoint}/status").status_code == status


def test_the_sdk_tries_again(executor, service):
    before = service.counters()
    service.fault("submit", drop=True)
    assert executor.submit(square, 3).result(90) == [9]
    assert since(service.counters(), before, "tasks") == 1


@pytest.mark.parametrize("turn", ["first", "second"])
def test_whatever_a_test_has_done_is_fixed_for_the_next(globus_compute, caller, turn):
    agent = globus_compute.agents["first"]
    assert caller.version().status_code == 200
    assert agent.online
    if turn == "first":
        globus_compute.service.fault(status=503, seconds=100)
        agent.kill()
        # As it is left when the agent is killed while it writes it.
        (agent.directory / "endpoint.json").write_text("", encoding="utf-8")
