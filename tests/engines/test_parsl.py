"""Parsl endpoints as a user asks for them: configurations right and wrong, and what is planned."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from types import ModuleType, SimpleNamespace

import parsl.addresses
import parsl.providers.kubernetes.kube as kubernetes_provider
import pytest
import zmq
from parsl.dataflow import rundirs
from parsl.executors.high_throughput.errors import CommandClientTimeoutError
from parsl.executors.high_throughput.zmq_pipes import CommandClient
from parsl.jobs.error_handlers import windowed_error_handler
from parsl.jobs.states import JobState, JobStatus
from parsl.providers import SlurmProvider

from pytest_pyhf_faas import engines
from pytest_pyhf_faas.engines import create_engine, parsl_config, parsl_session
from pytest_pyhf_faas.engines import parsl_interchange as interchange
from pytest_pyhf_faas.engines.parsl import ParslEngine
from pytest_pyhf_faas.engines.parsl_blocks import VACANT_S, Jobs, Vacancies, _queue_state
from pytest_pyhf_faas.engines.parsl_session import ParslSession
from pytest_pyhf_faas.errors import EngineError
from pytest_pyhf_faas.worker.fitting import probe_environment
from tests.helpers.parsl_here import MODULE_LEVEL, configuration, run_directories
from tests.helpers.paths import REPOSITORY
from tests.helpers.scripted_engine import PATIENCE_S, wait_until

ONE_SCREEN = 24
RECIPES = REPOSITORY / "endpoints" / "parsl"
#: Many a project takes warnings for errors; pyhf itself gives this one.
STRICT = ("-Werror", "-Wignore:jsonschema.RefResolver:DeprecationWarning")


# --- bad input ----------------------------------------------------------------------------------


@pytest.fixture
def here(project):
    """A project whose engines are real; nothing of Parsl may be started in it."""
    (project.path / "conftest.py").unlink()
    project.pallet(3)
    project.endpoint = configuration(project.path)
    return project


@pytest.fixture
def nothing_starts(monkeypatch):
    started = []
    monkeypatch.setattr(ParslEngine, "start", started.append)
    yield
    assert started == []


def assert_one_screen(project, result, *words):
    project.assert_told(result, *words, code=4)
    shown = project.text(result).strip().splitlines()
    assert len(shown) <= ONE_SCREEN, project.text(result)
    assert run_directories(project.path) == []


NO_CONFIGURATION = {
    "syntax error": ("config = (", ["cannot be run (SyntaxError", "try `python "]),
    "raises": (
        "raise RuntimeError('no such cluster')",
        ["cannot be run (RuntimeError: no such cluster)"],
    ),
    "exits": (
        "import sys\nsys.exit('set ACCOUNT first')",
        ["cannot be run (SystemExit: set ACCOUNT first)"],
    ),
    "missing module": ("import no_such_module", ["No module named 'no_such_module'"]),
    "function raises": ("def fresh_config():\n    return {}['x']", ["cannot be run (KeyError"]),
    "empty": ("", ["defines neither config nor fresh_config()", "must be a parsl.Config"]),
    "wrong type": ("config = {'executors': []}", ["is a dict", "must be a parsl.Config"]),
    "class": ("from parsl import Config as config", ["is a type", "must be a parsl.Config"]),
    "no value": ("def fresh_config():\n    pass", ["is a NoneType", "must be a parsl.Config"]),
    "not callable": ("fresh_config = 3", ["cannot be run (TypeError"]),
    "threads": (
        "from parsl import Config, ThreadPoolExecutor\nconfig = Config([ThreadPoolExecutor()])",
        ["has a ThreadPoolExecutor", "use a HighThroughputExecutor"],
    ),
    "no executor": (
        "from parsl import Config\nconfig = Config()",
        ["has a ThreadPoolExecutor", "use a HighThroughputExecutor"],
    ),
}


@pytest.mark.parametrize(("text", "words"), NO_CONFIGURATION.values(), ids=[*NO_CONFIGURATION])
def test_a_file_that_is_no_configuration(here, text, words):
    (here.path / "bad.py").write_text(text)
    result = here.run("--funcx-endpoint", "parsl:bad.py")
    assert_one_screen(here, result, *words, str(here.path / "bad.py"))


@pytest.mark.parametrize("option", ["-ktest_cls", "--collect-only", "--faas-dry-run"])
def test_a_file_that_is_no_configuration_is_found_out_without_a_start(here, option):
    (here.path / "bad.py").write_text("raise RuntimeError('no such cluster')")
    result = here.run("--funcx-endpoint", "parsl:bad.py", option)
    assert_one_screen(here, result, "cannot be run (RuntimeError: no such cluster)")


@pytest.mark.parametrize("path", ["no_such.py", "", "tiny"], ids=["missing", "empty", "directory"])
def test_a_path_that_is_no_file(here, path):
    result = here.run("--funcx-endpoint", f"parsl:{path}")
    words = [f"'parsl:{path}' names a Parsl configuration", "there is no file", "endpoints/parsl/"]
    assert_one_screen(here, result, *words)


@pytest.mark.parametrize(
    ("option", "value", "word"),
    [
        ("--faas-blocks", "0", "a whole number, 1 or more"),
        ("--faas-blocks", "1.5", "a whole number, 1 or more"),
        ("--faas-workers", "x", "a whole number, 1 or more"),
        ("--faas-workers", "0", "a whole number, 1 or more"),
        ("--faas-queue-timeout", "-1", "a number, 0 or more"),
        ("--faas-queue-timeout", "soon", "a number, 0 or more"),
    ],
)
def test_a_number_that_is_none(here, option, value, word):
    result = here.run("--funcx-endpoint", here.endpoint, f"{option}={value}")
    assert_one_screen(here, result, f"{option} is {value!r}", word)


def test_parsl_is_not_installed(here, monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda _name: None)
    result = here.run("--funcx-endpoint", here.endpoint)
    assert_one_screen(here, result, here.endpoint, "pip install 'pytest-pyhf-faas[parsl]'")


def test_parsl_is_installed_and_of_no_use(here, monkeypatch):
    """Too old, or without something that it needs itself."""
    monkeypatch.setitem(sys.modules, "pytest_pyhf_faas.engines.parsl", None)
    result = here.run("--funcx-endpoint", here.endpoint)
    assert_one_screen(here, result, here.endpoint, "pip install")


@pytest.mark.parametrize("option", ["--collect-only", "--faas-dry-run", "--setup-plan"])
def test_looking_starts_nothing(here, nothing_starts, option):
    result = here.run("--funcx-endpoint", here.endpoint, option)
    assert result.ret == 0
    assert f"3 fits on {here.endpoint} (1 worker)" in here.text(result)
    assert run_directories(here.path) == []


@pytest.mark.parametrize("name", ["local", "slurm"])
def test_a_recipe_is_no_trouble_where_warnings_are_errors(here, nothing_starts, name):
    """As in a checkout of this project; Parsl leaves sockets open while it looks for addresses."""
    recipe = f"parsl:{RECIPES / name}.py"
    result = here.run("--funcx-endpoint", recipe, "--faas-dry-run", *STRICT)
    assert result.ret == 0, here.text(result)
    result.assert_outcomes(skipped=4)


def test_a_named_endpoint_may_be_one_of_parsl(here, nothing_starts):
    here.pytester.makeini(f"[pytest]\nfaas_endpoints =\n    farm = {here.endpoint}\n")
    result = here.run("--funcx-endpoint", "farm", "--collect-only")
    assert result.ret == 0
    assert f"3 fits on {here.endpoint} (1 worker)" in here.text(result)


@pytest.mark.parametrize(
    ("options", "workers"),
    [
        ([], 1),
        (["--faas-blocks=3"], 3),
        (["--faas-workers=2"], 2),
        (["--faas-blocks=3", "--faas-workers=2"], 6),
        (["-o", "faas_blocks=2", "-o", "faas_workers=4"], 8),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_plan_counts_the_workers_that_are_asked_for(here, nothing_starts, options, workers):
    result = here.run("--funcx-endpoint", here.endpoint, "--faas-dry-run", *options)
    assert f"3 fits on {here.endpoint} ({workers} worker" in here.text(result)


def test_the_rerun_line_of_a_wrong_value_goes_to_the_same_endpoint(project):
    """What the line says does not depend on the engine, so that here the fake one will do."""
    project.pallet(3)
    configuration(project.path)
    project.change_reference("sig_100_0", CLs_obs=0.9)
    shown = project.text(project.run("--funcx-endpoint", "parsl:here.py"))
    command = shlex.split(re.search(r"rerun:  pytest (.*)", shown)[1])
    assert "--faas-endpoint=parsl:here.py" in command
    result = project.run(*command, suite=False, pallet=None)
    result.assert_outcomes(passed=1, failed=1)
    assert project.fits_at("parsl:here.py") == ["sig_100_0"]


# --- what is made of a configuration ------------------------------------------------------------


def loaded(path, directory, **numbers):
    """Return the engine of a configuration, and the only executor that it will start."""
    engine = create_engine(f"parsl:{path}", directory, **numbers)
    (executor,) = engine._config.executors
    return engine, executor


@pytest.mark.parametrize(
    ("numbers", "blocks", "workers"),
    [
        ({}, (1, 0, 4), 8),
        ({"blocks": 3}, (3, 0, 3), 8),
        ({"blocks": 6}, (6, 0, 6), 8),
        ({"workers": 2}, (1, 0, 4), 2),
        ({"blocks": 2, "workers": 3}, (2, 0, 2), 3),
    ],
)
def test_blocks_and_workers_replace_those_of_the_configuration(tmp_path, numbers, blocks, workers):
    engine, executor = loaded(RECIPES / "htcondor.py", tmp_path, **numbers)
    provider = executor.provider
    assert (provider.init_blocks, provider.min_blocks, provider.max_blocks) == blocks
    assert executor.max_workers_per_node == executor.workers_per_node == workers
    assert engine.workers == blocks[-1] * workers


def test_fewer_blocks_than_the_least_of_the_configuration_are_the_least(tmp_path):
    configuration(tmp_path)
    text = (tmp_path / "here.py").read_text()
    many = "init_blocks=4, min_blocks=3, max_blocks=5, nodes_per_block=2"
    (tmp_path / "here.py").write_text(text.replace("init_blocks=1, max_blocks=1", many))
    engine, executor = loaded(tmp_path / "here.py", tmp_path, blocks=2, workers=3)
    provider = executor.provider
    assert (provider.init_blocks, provider.min_blocks, provider.max_blocks) == (2, 2, 2)
    assert engine.workers == 2 * 2 * 3


@pytest.fixture
def kubernetes(monkeypatch):
    """What the provider needs of a package that is not installed here."""
    package = ModuleType("kubernetes")
    package.client = ModuleType("kubernetes.client")
    package.client.CoreV1Api = object
    package.config = ModuleType("kubernetes.config")
    package.config.load_kube_config = lambda: None
    monkeypatch.setattr(kubernetes_provider, "_kubernetes_enabled", True)
    monkeypatch.setattr(kubernetes_provider, "client", package.client, raising=False)
    monkeypatch.setattr(kubernetes_provider, "config", package.config, raising=False)


@pytest.mark.usefixtures("kubernetes")
@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.py")))
def test_each_recipe_can_be_used(tmp_path, monkeypatch, name):
    monkeypatch.setattr(parsl.addresses, "address_by_route", lambda: "127.0.0.1")
    engine, executor = loaded(RECIPES / f"{name}.py", tmp_path)
    provider = executor.provider
    cores = len(os.sched_getaffinity(0))
    assert provider.nodes_per_block == 1
    assert provider.max_blocks == (1 if name == "local" else 4)
    assert executor.prefetch_capacity == 0
    assert executor.block_error_handler is windowed_error_handler
    assert executor.label == {"k8s": "kubernetes"}.get(name, name)
    assert engine.workers == provider.max_blocks * executor.max_workers_per_node
    if name == "local":
        assert engine.workers == cores
    assert engine.ready_at is None
    assert not (tmp_path / "parsl").exists()


def test_engines_that_start_at_once_do_not_want_the_same_directory(tmp_path, monkeypatch):
    """Parsl takes the first number that is free, and a second one may find the same."""
    looked, together, look = [], threading.Barrier(2), rundirs.glob

    def at_once(pattern):
        found = look(pattern)
        looked.append(pattern)
        if len(looked) <= 2:
            with contextlib.suppress(threading.BrokenBarrierError):
                together.wait(2.0)
        return found

    monkeypatch.setattr(rundirs, "glob", at_once)
    configuration(tmp_path)
    engines = [loaded(tmp_path / "here.py", tmp_path)[0] for _ in range(2)]
    try:
        for engine in engines:
            engine.start()
        for engine in engines:
            engine.submit(probe_environment)  # raises where Parsl could not start
            assert engine.failure is None
    finally:
        for engine in engines:
            engine.stop()


def test_a_configuration_may_be_used_by_two_engines(tmp_path):
    """Parsl uses a configuration only once; the file is run again for each."""
    configuration(tmp_path, begin=MODULE_LEVEL)
    _engine, first = loaded(tmp_path / "here.py", tmp_path)
    _engine, second = loaded(tmp_path / "here.py", tmp_path)
    assert first is not second


MANAGER = {"manager": "a1b2", "block_id": "0", "active": True, "worker_count": 1}


# --- watching it -------------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path, monkeypatch):
    """A session that has started nothing, and its only executor."""
    monkeypatch.setattr(ParslSession, "_start", lambda _session: None)
    monkeypatch.setattr(parsl_session, "_COUNT_S", 0.01)
    configuration(tmp_path)
    config = parsl_config.load(tmp_path / "here.py", tmp_path, blocks=None, workers=None)
    session = ParslSession(config, tmp_path, proven=False)
    session.executor = config.executors[0]
    session.executor.connected_managers = list
    return session


def test_an_interchange_that_does_not_answer_now_is_asked_again(session):
    """Its sockets may be closed already, and it may be slow."""
    manager = {**MANAGER, "worker_count": 3}
    answers = iter([zmq.ZMQError(), CommandClientTimeoutError("slow"), [manager]])

    def connected_managers():
        answer = next(answers, [manager])
        if isinstance(answer, Exception):
            raise answer
        return answer

    session.executor.connected_managers = connected_managers
    assert session.missing_since is not None
    counting = session._in_thread(session._count)
    wait_until(lambda: session.connected_workers == 3, "the workers are counted")
    assert session.missing_since is None
    assert session.failure is None
    session._closed.set()
    counting.join(PATIENCE_S)


def test_the_batch_system_is_asked_soon_and_then_rarely_while_no_worker_is_there(
    session, monkeypatch
):
    began, now, asked = session.missing_since, 0.0, []
    monkeypatch.setattr(parsl_session.time, "monotonic", lambda: began + now)
    monkeypatch.setattr(parsl_session, "queue_states", lambda _executors: asked.append(now) or "")
    for now in range(3601):
        session.executor._last_poll_time = 1.0
        session._count_once({})
        assert (session.executor._last_poll_time == 0.0) == (asked[-1] == now)
    assert asked[:4] == [0, 3, 6, 9]
    assert asked[-1] - asked[-2] > 120
    session.executor.connected_managers = lambda: [MANAGER]
    many, now = len(asked), 9999.0
    session._count_once({})
    assert len(asked) == many


def test_a_block_without_managers_is_ended_though_the_batch_system_says_that_it_runs(
    session, monkeypatch
):
    now, cancelled = 1000.0, []
    monkeypatch.setattr(parsl_session.time, "monotonic", lambda: now)
    session.executor._provider.cancel = cancelled.extend
    session.executor.blocks_to_job_id = {"0": "job0", "1": "job1"}
    session.executor._status = {each: JobStatus(JobState.RUNNING) for each in "01"}
    managers = [{**MANAGER, "manager": each, "block_id": each} for each in "01"]
    session.executor.connected_managers = lambda: managers
    session._count_once({})
    managers.pop()
    session._count_once({})
    assert cancelled == []  # it may be about to end
    now += VACANT_S
    session._count_once({})
    assert cancelled == ["job1"]
    assert session.executor._last_poll_time == 0.0  # so that Parsl starts another one now


def test_which_blocks_are_vacant():
    vacancies = Vacancies()
    assert vacancies.due([], ["0"], 0.0) == []
    assert vacancies.due([], ["0"], 999.0) == []  # its managers have not come yet
    assert vacancies.due(["0", "1", "2"], ["0", "1", "2"], 1000.0) == []
    assert vacancies.due(["2"], ["0", "2"], 1001.0) == []
    assert vacancies
    assert vacancies.due(["2"], ["0", "2"], 1001.0 + VACANT_S) == ["0"]
    assert vacancies.due(["2"], ["0", "2"], 1100.0) == []  # each only once
    assert not vacancies


def test_it_says_what_is_known_of_workers_and_blocks(session, tmp_path):
    assert session.knows == "0 workers connected, blocks: none yet"
    session.executor._status = {"0": JobStatus(JobState.RUNNING)}
    session.connected_workers = 1
    assert session.knows == "1 worker connected, blocks: 1 running"


def test_a_block_that_ended_is_reported_with_what_it_wrote(session, tmp_path):
    """Of which Parsl only says that its workers have not registered."""
    (tmp_path / "error.txt").write_text("conda: command\nnot found\n")
    lost = JobStatus(JobState.MISSING, "look at the logs", stderr_path=str(tmp_path / "error.txt"))
    session.executor._status = {"0": lost, "1": JobStatus(JobState.PENDING)}
    assert session.waits_for == "blocks: 1 missing, 1 pending (conda: command not found)"


def test_blocks_that_ended_for_one_reason_are_told_once(session, tmp_path):
    said = tmp_path / "error"
    for job in (16, 17):
        Path(f"{said}{job}").write_text(f"/spool/job000{job}/slurm_script: no such file\n")
    session.executor._status = {
        str(job): JobStatus(JobState.FAILED, stderr_path=f"{said}{job}") for job in (16, 17)
    }
    assert session.waits_for == "blocks: 2 failed (/spool/job00017/slurm_script: no such file)"


def test_slurm_says_a_reason_only_of_jobs_that_wait():
    def squeue(_command):
        return 0, "PENDING (Resources)\nRUNNING (None)\n", ""

    provider = SlurmProvider(partition=None)
    provider.execute_wait = squeue
    executor = SimpleNamespace(
        provider=provider, status_facade={}, blocks_to_job_id={"0": "7", "1": "8"}
    )
    assert _queue_state(executor) == "1 PENDING (Resources) in Slurm, 1 RUNNING in Slurm"


@pytest.mark.parametrize(
    ("states", "waits_for", "remedy"),
    [
        ("PENDING", "blocks: 1 pending", "check the queue"),
        ("RUNNING", "blocks: 1 running, without a connected worker", "worker_init takes long"),
        ("MISSING", "blocks: 1 missing", "start a block by hand"),
        ("MISSING RUNNING PENDING", "1 pending, without a connected worker", "running block"),
    ],
)
def test_what_is_advised_while_no_worker_is_there_goes_by_the_blocks(
    session, states, waits_for, remedy
):
    blocks = enumerate(JobStatus(JobState[state]) for state in states.split())
    session.executor._status = {str(number): status for number, status in blocks}
    assert session.waits_for.endswith(waits_for)
    assert remedy in session.remedy
    session._answered()
    assert session.waits_for is session.remedy is None


@pytest.mark.parametrize("work", ["_count", "_watch"])
def test_a_watcher_that_breaks_down_ends_the_session(session, work):
    def broken():
        raise KeyError("worker_count")

    future = Future()
    session._begin(future)
    session.executor.connected_managers = broken
    session._jobs.note = lambda _executors: broken()
    session._in_thread(getattr(session, work)).join(PATIENCE_S)
    assert session.failure == "the Parsl engine broke down (KeyError: 'worker_count')"
    assert not session.hopeless
    with pytest.raises(EngineError, match="broke down"):
        future.result(0)


def test_an_answer_says_that_a_worker_is_there(session):
    """Whatever the last count said, and though nobody may count any more."""
    inner, outer = Future(), Future()
    session._begin(outer)
    assert session.missing_since is not None
    inner.set_result(json.dumps({"worker": ["here", 1], "value": 7}))
    session._hand_over(inner, outer, session.executor)
    assert outer.result(0) == 7
    assert session.missing_since is None
    assert session.ready_at is not None


def test_only_its_user_may_write_where_jobs_are_pickled(tmp_path, monkeypatch):
    monkeypatch.setattr(parsl_session, "_kernel_of", lambda _config: 1 / 0)  # nothing starts
    configuration(tmp_path)
    config = parsl_config.load(tmp_path / "here.py", tmp_path, blocks=None, workers=None)
    session = ParslSession(config, tmp_path / "deep" / "parsl", proven=False)
    session._starting.join(PATIENCE_S)
    assert "Parsl cannot start" in session.failure
    assert session.hopeless
    assert (tmp_path / "deep" / "parsl").stat().st_mode & 0o777 == 0o700


# --- the end ------------------------------------------------------------------------------------


class AskingExecutor:
    """What Parsl asks a dead interchange by, and how `shutdown` closes it."""

    def __init__(self):
        self.command_client = CommandClient("127.0.0.1", (49152, 65535))

    def shutdown(self):
        if hasattr(self, "command_client"):
            self.command_client.close()


def test_threads_that_wait_for_a_dead_interchange_are_let_go_before_it_is_closed():
    """A socket that is closed under them aborts the process, at times."""
    executor = AskingExecutor()
    client = executor.command_client
    met = []

    def ask():
        try:
            client.run("CONNECTED_BLOCKS")
        except zmq.ZMQError as error:
            met.append(error)

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    wait_until(client._lock.locked, "one of them waits")
    parsl_session._close_commands(executor)
    executor.shutdown()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(met) == 3  # each of them
    assert client.zmq_socket.closed
    assert client.zmq_context.closed


def test_who_stays_in_what_asks_the_interchange_keeps_it_open(monkeypatch):
    monkeypatch.setattr(parsl_session, "_LET_GO_S", 0.1)
    executor = AskingExecutor()
    client = executor.command_client
    with client._lock:
        parsl_session._close_commands(executor)
        executor.shutdown()
        assert not client.zmq_socket.closed
    client.zmq_socket.close()  # what terminates its context ends with that


def test_an_executor_that_asks_nothing_is_closed_as_it_is():
    parsl_session._close_commands(object())


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [
        ("00:10:00", 600.0),
        ("48:00:30", 172830.0),
        ("1-02:00:00", 93600.0),
        ("ten minutes", None),
        (3600, None),
        (None, None),
    ],
)
def test_a_walltime_is_read_as_batch_systems_write_it(walltime, seconds):
    assert parsl_config.seconds_of(walltime) == seconds


def test_the_shortest_walltime_counts():
    there = [ModuleType("executor") for _ in range(3)]
    for executor, walltime in zip(there[:2], ("01:00:00", "00:20:00"), strict=True):
        executor.provider = ModuleType("provider")
        executor.provider.walltime = walltime
    assert parsl_config.walltime_s(there) == 1200.0
    assert parsl_config.walltime_s(there[2:]) is None
    assert parsl_config.missed_after_s(there) == 0.0
    there[1].heartbeat_threshold = 20
    assert parsl_config.missed_after_s(there) == 20.0


def test_the_interchange_says_how_old_the_oldest_heartbeat_is(tmp_path, monkeypatch):
    jobs, now = tmp_path / "jobs-1-2.pickle", 1000.0
    monkeypatch.setattr(interchange.time, "time", lambda: now)
    made = interchange.Interchange.__new__(interchange.Interchange)
    made._heard, made._noted_at = interchange.heartbeat_path(jobs, 7), -math.inf
    made.heartbeat_threshold, made._ready_managers = 120, {}
    assert interchange.heartbeat_age_s(jobs, 7) is None
    made.expire_bad_managers(set(), None)
    assert interchange.heartbeat_age_s(jobs, 7) is None
    for name, age_s in ((b"one", 3.0), (b"two", 8.0)):
        made._ready_managers[name] = {"last_heartbeat": now - age_s}
    made._noted_at = -math.inf
    made.expire_bad_managers(set(), None)
    assert interchange.heartbeat_age_s(jobs, 7) == 8.0
    assert interchange.heartbeat_age_s(jobs, 8) is None
    Jobs(jobs).end()
    assert list(tmp_path.iterdir()) == []
