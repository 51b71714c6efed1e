"""Runs of pytest on a real endpoint of Globus Compute: what a user sees, what is left behind."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import uuid

import pytest

from tests.helpers.scripted_engine import wait_until

pytest.importorskip("globus_compute_sdk")
pytestmark = [pytest.mark.timeout(600)]


@pytest.fixture
def endpoint(globus_compute):
    return str(globus_compute.agents["first"].id)


@pytest.fixture
def user(project, globus_compute):
    """A project with a pallet, whose fits are real."""
    project.pallet(references=False)
    project.real_engines()
    return project


def cls_of(project):
    """CLs values by patch, as junit.xml has them."""
    return {
        name: {
            entry.get("name"): entry.get("value")
            for entry in case.iter("property")
            if entry.get("name", "").startswith("CLs")
        }
        for name, case in project.junit().items()
        if name.startswith("test_cls[")
    }


def secret_of(globus_compute):
    return globus_compute.env["GLOBUS_COMPUTE_CLIENT_SECRET"]


def assert_no_secret(globus_compute, *places):
    """Hold no file below some places, and no text, to have the client's secret."""
    secret = secret_of(globus_compute).encode()
    for place in places:
        if isinstance(place, str):
            assert secret.decode() not in place
            continue
        files = [path for path in place.rglob("*") if path.is_file()]
        assert files
        assert [path for path in files if secret in path.read_bytes()] == []


def test_an_endpoint_gives_the_values_of_this_machine(user, globus_compute, endpoint):
    values = []
    for spec in (endpoint, "local:2"):
        result = user.run("--funcx-endpoint", spec, "--junitxml=junit.xml", "-v")
        # There are no references, so that nothing can be right.
        result.assert_outcomes(passed=1, failed=4)
        user.assert_no_internals(result)
        values.append(cls_of(user))
        assert_no_secret(globus_compute, user.text(result), user.path)
    assert len(values[0]) == 4
    assert all(len(found) == 6 for found in values[0].values())
    assert values[0] == values[1]


def test_the_whole_suite_looks_at_the_endpoint_first(user, globus_compute, endpoint):
    result = user.run(
        "--pyargs", "pytest_pyhf_faas.suite", "--funcx-endpoint", endpoint, "-k", "endpoint",
        suite=False,
    )  # fmt: skip
    assert result.ret == 0, user.text(result)
    shown = user.text(result)
    assert re.search(r"2 workers on 1 host", shown)
    assert "status: online" in shown
    assert_no_secret(globus_compute, shown)


# What a user has done wrong


def run_and_read(user, spec, *words, code=1, **env):
    """Run the suite with another environment; return what is shown."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.delenv(name, raising=False) if value is None else patch.setenv(name, value)
        result = user.run("--funcx-endpoint", spec, *words)
    user.assert_told(result, *(), code=code)
    return user.text(result)


def test_an_endpoint_that_nobody_knows(user, endpoint):
    shown = run_and_read(user, str(uuid.uuid4()))
    assert "is not known to Globus Compute: check the UUID" in shown


def test_an_endpoint_of_somebody_else(user, globus_compute, endpoint):
    shown = run_and_read(user, endpoint, **globus_compute.stranger_env)
    assert "may not be used with this login" in shown


def test_a_wrong_secret(user, globus_compute, endpoint):
    env = globus_compute.env_of("owner", secret="wrong-secret-of-a-test")
    shown = run_and_read(user, endpoint, **env)
    assert "Globus refuses the credentials (401" in shown
    assert "wrong-secret-of-a-test" not in shown


def test_no_credentials(user, endpoint, tmp_path):
    nobody = {"GLOBUS_COMPUTE_CLIENT_ID": None, "GLOBUS_COMPUTE_CLIENT_SECRET": None}
    shown = run_and_read(user, endpoint, **nobody, GLOBUS_COMPUTE_USER_DIR=str(tmp_path))
    assert "set GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET" in shown
    assert "Client().app.login()" in shown


def test_a_secret_without_an_id(user, endpoint):
    shown = run_and_read(user, endpoint, GLOBUS_COMPUTE_CLIENT_ID=None)
    assert "GLOBUS_COMPUTE_CLIENT_SECRET is set and GLOBUS_COMPUTE_CLIENT_ID is not" in shown


def test_an_endpoint_that_cannot_start(user, globus_compute):
    bad = globus_compute.endpoint("bad", "type: NoSuchEngine\n")
    try:
        shown = run_and_read(user, str(bad.id))
    finally:
        bad.stop()
        del globus_compute.agents["bad"]
    assert "cannot start what was asked for" in shown
    assert "NoSuchEngine" in shown


def test_a_worker_init_that_fails(user, globus_compute):
    from tests.services.globus_compute import ENGINE

    provider = "  type: LocalProvider\n"
    engine = ENGINE.format(workers=1).replace(provider, f"{provider}  worker_init: exit 3\n")
    agent = globus_compute.endpoint("bad", engine)
    try:
        shown = run_and_read(user, str(agent.id))
    finally:
        agent.stop()
        del globus_compute.agents["bad"]
    assert "blocks of workers end before they have done anything. Check worker_init" in shown
    assert "EXIT CODE: 3" in shown


def test_a_service_that_cannot_be_reached(user, endpoint):
    nowhere = dict.fromkeys(("HTTP_PROXY", "http_proxy"), "http://127.0.0.1:9")
    shown = run_and_read(user, endpoint, "--faas-queue-timeout=5", **nowhere)
    assert "the service of Globus Compute" in shown
    assert "https://status.globus.org" in shown


def test_what_an_endpoint_is_asked_for_must_be_allowed(user, globus_compute, tmp_path):
    """The schema of an endpoint refuses, and the user reads why."""
    agent = globus_compute.endpoint("strict", workers=1)
    schema = {"type": "object", "properties": {"workers": {"type": "integer", "maximum": 4}}}
    (agent.directory / "user_config_schema.json").write_text(json.dumps(schema))
    try:
        shown = run_and_read(user, str(agent.id), "--faas-workers=5")
    finally:
        agent.stop()
        del globus_compute.agents["strict"]
    assert "cannot start what was asked for" in shown


# What happens to sessions


def start_run(user, endpoint, *words):
    command = [
        sys.executable, "-m", "pytest", "--pyargs", "pytest_pyhf_faas.suite.test_analysis",
        "-k", "test_cls", "--funcx-endpoint", endpoint, "--faas-pallet", "tiny", *words,
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=user.path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def journal_events(user):
    return [
        json.loads(line)
        for path in user.path.glob(".pytest_cache/d/pyhf-faas/*.jsonl")
        for line in path.read_text().splitlines()
        if line and line.endswith("}")
    ]


def kinds(user, kind):
    return [event for event in journal_events(user) if event.get("event") == kind]


@pytest.fixture
def busy(globus_compute, endpoint):
    """Keeps both workers busy for so many seconds, so that what comes next must wait."""
    from globus_compute_sdk import Client

    from tests.services.clients import make_executor

    executors = []

    def occupy(seconds):
        executor = make_executor(endpoint, Client())
        executors.append(executor)
        futures = [executor.submit(time.sleep, seconds) for _ in range(2)]
        wait_until(lambda: all(future.task_id for future in futures), "workers are busy", 60)

    yield occupy
    for executor in executors:
        executor.shutdown(wait=False, cancel_futures=True)


def test_a_client_that_was_killed_collects_what_was_done_meanwhile(
    user, globus_compute, endpoint, busy
):
    busy(8)
    process = start_run(user, endpoint)
    try:
        wait_until(lambda: len(kinds(user, "accepted")) == 4, "all fits are accepted", 60)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert kinds(user, "result") == []
    before = globus_compute.service.counters()["tasks"]
    result = user.run("--funcx-endpoint", endpoint, "--faas-resume", "-k", "test_cls")
    result.assert_outcomes(failed=4)  # there are no references
    shown = user.text(result)
    assert "0 fits sent to workers, 4 collected from an earlier run" in shown
    # One asks whether there is a worker; of the fits none was sent again.
    assert globus_compute.service.counters()["tasks"] <= before + 2
    assert len({event["result"]["key"] for event in kinds(user, "result")}) == 4
    assert_no_secret(globus_compute, shown, user.path)


def test_an_interrupt_says_how_many_fits_run_on(user, globus_compute, endpoint, busy):
    busy(10)
    process = start_run(user, endpoint)
    wait_until(lambda: len(kinds(user, "accepted")) == 4, "all fits are accepted", 60)
    process.send_signal(signal.SIGINT)
    shown, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    shown = " ".join(shown.split())  # it is folded
    assert f"4 fits left with {endpoint} to run on there" in shown
    assert "--faas-resume collects the results" in shown


def test_neither_session_nor_interpreter_wait_for_what_never_ends(user, endpoint, busy):
    busy(25)
    user.own_test(
        "def test_it(faas_engine):\n"
        "    future = faas_engine.ping()\n"
        "    faas_engine.settle()\n"
        "    assert not future.done()\n"
    )
    started = time.monotonic()
    result = user.run("--funcx-endpoint", endpoint, suite=False)
    result.assert_outcomes(passed=1)
    assert time.monotonic() - started < 20


def test_a_worker_without_pyhf_names_the_place_to_install_it(user, globus_compute, tmp_path):
    """A package of that name that cannot be imported stands in for none."""
    (tmp_path / "pyhf").mkdir()
    (tmp_path / "pyhf" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'pyhf'\", name='pyhf')\n"
    )
    agent = globus_compute.endpoint("bare", workers=1, environment={"PYTHONPATH": str(tmp_path)})
    try:
        shown = run_and_read(user, str(agent.id), "-k", "test_cls")
    finally:
        agent.stop()
        del globus_compute.agents["bare"]
    assert "No module named 'pyhf'" in shown
    assert "worker_init" in shown
