from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import uuid
from pathlib import Path

import pytest

from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.policy import Policy
from pytest_pyhf_faas.engines import create_engine, local
from pytest_pyhf_faas.engines.local import LocalEngine
from pytest_pyhf_faas.errors import EngineError, TaskTimeoutError, WorkerLostError
from pytest_pyhf_faas.worker.fitting import THREAD_VARIABLES
from tests.helpers import worker_functions
from tests.helpers.paths import REPOSITORY
from tests.helpers.scripted_engine import PATIENCE_S, toy_tasks, wait_until

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc"),
    pytest.mark.timeout(600),
]

#: The fork server imports pyhf first, which takes long on a busy machine.
START_S = 60.0
#: Within so many seconds nothing may be left of a client that is gone.
GONE_S = 5.0


def processes():
    """The process table: the parent and the command line of each process that is no zombie."""
    table = {}
    for directory in Path("/proc").iterdir():
        if not directory.name.isdigit():
            continue
        try:
            stat = (directory / "stat").read_text().rpartition(")")[2].split()
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            continue
        if stat[0] not in "ZX":
            table[int(directory.name)] = int(stat[1]), command
    return table


def local_workers():
    """The workers that were forked for this process: children of its fork server."""
    table = processes()
    servers = {
        pid
        for pid, (parent, command) in table.items()
        if parent == os.getpid() and "forkserver" in command
    }
    return {pid for pid, (parent, _command) in table.items() if parent in servers}


def marked(mark):
    """All processes that have a mark in the environment that they were started with."""
    found = {}
    for pid, (_parent, command) in processes().items():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if mark.encode() in environment:
            found[pid] = command
    return found


@pytest.fixture
def make_engine():
    """Make engines that are stopped after the test, and leave nothing."""
    made = []

    def make(workers=2):
        made.append(LocalEngine(f"local:{workers}", workers))
        return made[-1]

    yield make
    for engine in made:
        engine.stop()
    assert local_workers() == set()


@pytest.fixture
def engine(make_engine):
    """Two workers that are up."""
    engine = make_engine(2)
    engine.start()
    wait_until(lambda: engine.ready_at is not None, "a worker answered", START_S)
    wait_until(lambda: len(local_workers()) == 2, "both workers are there", START_S)
    return engine


def busy(engine, path, function=worker_functions.announce_and_sleep, **options):
    """Keep a worker busy, and return the future and the worker's process id."""
    future = engine.submit(function, str(path), **options)
    wait_until(path.exists, "the worker is busy")
    return future, int(path.read_text())


def test_starting_returns_at_once_and_twice_is_once(make_engine):
    engine = make_engine(2)
    assert engine.ready_at is None
    before = time.monotonic()
    engine.start()
    engine.start()
    assert engine.ready_at is None  # which takes a worker the import of pyhf
    assert not engine.broken
    wait_until(lambda: engine.ready_at is not None, "a worker answered", START_S)
    assert before < engine.ready_at <= time.monotonic()
    wait_until(lambda: len(local_workers()) == 2, "both workers are there")


def test_an_endpoint_spec_says_how_many_workers_there_are(make_engine):
    engine = create_engine("local:3", Path())
    assert (engine.spec, engine.workers) == ("local:3", 3)
    assert create_engine("local", Path()).workers == len(os.sched_getaffinity(0))
    assert local_workers() == set()  # nothing was started


def test_results_of_all_sizes_come_back(engine):
    sent = {"a": [1.5, None, "σ"], "b": "x" * 5_000_000}
    assert engine.submit(worker_functions.echo, sent).result(START_S) == sent
    size = 5_000_000
    assert len(engine.submit(worker_functions.big, size).result(START_S)) == size
    assert engine.submit(os.getpid).result(START_S) in local_workers()


def test_each_worker_computes_with_one_thread(engine):
    answer = engine.submit(worker_functions.environment_of, THREAD_VARIABLES).result(START_S)
    assert answer == dict.fromkeys(THREAD_VARIABLES, "1")


def test_workers_start_alone_where_nothing_forks(make_engine, monkeypatch):
    """As on Windows, where no socket needs a short path either."""
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    monkeypatch.setattr(tempfile, "gettempdir", lambda: f"/tmp/{'x' * 200}")
    engine = make_engine(1)
    assert engine.submit(os.getppid).result(START_S) == os.getpid()
    answer = engine.submit(worker_functions.environment_of, THREAD_VARIABLES).result(START_S)
    assert answer == dict.fromkeys(THREAD_VARIABLES, "1")


def test_an_exception_in_a_worker_names_itself_and_spares_the_worker(engine):
    with pytest.raises(EngineError, match="of its own making"):
        engine.submit(worker_functions.fail, "of its own making").result(START_S)
    with pytest.raises(EngineError, match="MemoryError"):
        engine.submit(worker_functions.out_of_memory).result(START_S)
    assert not engine.broken
    assert engine.submit(worker_functions.echo, 3).result(START_S) == 3


def test_what_cannot_be_sent_back_is_an_error(engine):
    with pytest.raises(EngineError):
        engine.submit(worker_functions.unpicklable).result(START_S)
    assert engine.submit(worker_functions.echo, 3).result(START_S) == 3


def test_a_busy_worker_that_is_killed_costs_its_own_task_only(engine, tmp_path):
    doomed, pid = busy(engine, tmp_path / "doomed")
    other = engine.submit(worker_functions.announce_and_sleep, str(tmp_path / "other"), 1.0)
    queued = engine.submit(worker_functions.echo, "queued")
    wait_until((tmp_path / "other").exists, "the other worker is busy too")
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerLostError, match=r"signal 9.*memory"):
        doomed.result(PATIENCE_S)
    assert other.result(PATIENCE_S) == int((tmp_path / "other").read_text())
    assert queued.result(PATIENCE_S) == "queued"
    assert not engine.broken
    wait_until(lambda: len(local_workers()) == 2, "the dead worker is replaced")


@pytest.mark.parametrize(
    ("function", "argument", "text"),
    [
        (worker_functions.die_of, signal.SIGSEGV, "crashed (signal 11)"),
        (worker_functions.end_with, 3, "exit status 3"),
    ],
)
def test_a_crash_says_how_the_worker_died(engine, function, argument, text):
    with pytest.raises(WorkerLostError) as caught:
        engine.submit(function, argument).result(PATIENCE_S)
    assert text in str(caught.value)
    assert engine.submit(worker_functions.echo, 3).result(START_S) == 3


def test_after_the_death_of_an_idle_worker_a_restart_mends_the_engine(engine):
    (pid, *_) = local_workers()
    os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: engine.broken or (len(local_workers()) == 2 and pid not in local_workers()),
        "the engine noticed",
    )
    if engine.broken:
        with pytest.raises(EngineError, match="broke down"):
            engine.submit(worker_functions.echo, 1)
    engine.restart()
    assert not engine.broken
    assert engine.submit(worker_functions.echo, 2).result(START_S) == 2


def test_after_the_death_of_the_fork_server_a_restart_mends_the_engine(engine, tmp_path):
    future, pid = busy(engine, tmp_path / "busy")
    server, _command = processes()[pid]
    os.kill(server, signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)  # a new one cannot be forked
    wait_until(lambda: engine.broken or future.done(), "the engine noticed")
    engine.restart()
    assert engine.submit(worker_functions.echo, 2).result(START_S) == 2


def test_a_campaign_survives_the_death_of_all_workers_and_of_their_server(engine):
    workers = local_workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)  # so that the fits are in flight, and none is begun
    tasks = toy_tasks(12)
    campaign = Campaign(engine, Policy(retries=0))
    campaign.submit(tasks)
    wait_until(lambda: campaign.sendings.fits == 4, "the fits are in flight")
    server, _command = processes()[min(workers)]
    for pid in (server, *workers):
        os.kill(pid, signal.SIGKILL)
    try:
        results = [campaign.result(task).result(START_S) for task in tasks]
    finally:
        campaign.cancel("the test is over")
    # A toy pallet is no workspace, which is an answer as good as any.
    assert {result.status for result in results} == {"error"}
    assert {result.attempts for result in results} == {1}


def test_a_time_limit_ends_a_task_and_the_next_one_works(engine):
    limit_s = 0.5
    before = time.monotonic()
    with pytest.raises(TaskTimeoutError, match=r"time limit of 0\.5 s"):
        engine.submit(time.sleep, 60.0, timeout_s=limit_s).result(PATIENCE_S)
    took_s = time.monotonic() - before
    assert limit_s <= took_s < limit_s + 2.5
    assert not engine.broken
    assert engine.submit(worker_functions.echo, 3, timeout_s=30.0).result(START_S) == 3


def test_a_time_limit_counts_from_the_start_of_the_task(make_engine):
    engine = make_engine(1)
    limit_s = 1.5
    first = [engine.submit(time.sleep, 0.8, timeout_s=limit_s) for _ in range(3)]
    assert [future.result(START_S) for future in first] == [None] * 3


@pytest.mark.parametrize(
    "function", [worker_functions.announce_and_sleep, worker_functions.shrug_off]
)
def test_stopping_ends_busy_workers_at_once(engine, tmp_path, function):
    for number in range(2):
        busy(engine, tmp_path / str(number), function)
    assert len(local_workers()) == 2
    before = time.monotonic()
    engine.stop()
    assert local_workers() == set()
    assert time.monotonic() - before < 2 * GONE_S


def test_tasks_of_a_stopped_engine_end(engine, tmp_path):
    running, _pid = busy(engine, tmp_path / "running")
    queued = [engine.submit(time.sleep, 60.0) for _ in range(3)]
    engine.stop()
    for future in (running, *queued):
        with pytest.raises(EngineError, match="stopped"):
            future.result(2.0)


def test_stopping_twice_or_before_the_start_does_nothing(make_engine):
    engine = make_engine(1)
    engine.stop()
    engine.start()
    engine.stop()
    engine.stop()
    assert local_workers() == set()
    assert not engine.broken


def test_stopping_before_the_start_has_finished_leaves_nothing(make_engine):
    engine = make_engine(2)
    engine.start()
    session = engine._session
    engine.stop()
    assert not session._starting.is_alive()  # so that nothing comes up late
    assert local_workers() == set()


def test_stopping_is_quick_though_a_task_came_before_the_first_sign_of_life(
    make_engine, tmp_path, monkeypatch
):
    engine = make_engine(1)
    overtaken = threading.Event()
    warm_up = local._PoolSession._warm_up

    def late(session):
        overtaken.wait(START_S)
        warm_up(session)

    monkeypatch.setattr(local._PoolSession, "_warm_up", late)
    engine.start()
    busy(engine, tmp_path / "busy")
    overtaken.set()
    before = time.monotonic()
    engine.stop()
    assert time.monotonic() - before < GONE_S
    assert local_workers() == set()


def test_a_task_after_stopping_starts_again(engine):
    engine.stop()
    assert local_workers() == set()
    assert engine.submit(worker_functions.echo, 4).result(START_S) == 4


def test_leaving_the_context_ends_the_workers(make_engine, tmp_path):
    with make_engine(1) as engine:
        busy(engine, tmp_path / "busy")
    assert local_workers() == set()


CLIENT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.helpers import worker_functions
from pytest_pyhf_faas.engines.local import LocalEngine

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    engine = LocalEngine("local:2", 2)
    futures = [
        engine.submit(worker_functions.announce_and_sleep, str(folder / str(n))) for n in range(2)
    ]
    while not all((folder / str(n)).exists() for n in range(2)):
        time.sleep(0.01)
    print("busy", flush=True)
    sys.stdin.readline()
    END
"""


@pytest.mark.parametrize(
    "end",
    ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "sys.exit(3)", "raise ValueError('uncaught')", ""],
)
def test_nothing_is_left_of_a_client_that_ends_in_mid_task(tmp_path, end):
    mark = f"PYHF_FAAS_MARK={uuid.uuid4()}"
    name, value = mark.split("=")
    script = tmp_path / "client.py"
    is_signal = end.startswith("SIG")
    last = "sys.stdin.readline()" if is_signal else end or "pass"
    script.write_text(textwrap.dedent(CLIENT).replace("END", last))
    client = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), str(REPOSITORY)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, name: value},
        text=True,
        start_new_session=True,
    )
    with client:
        try:
            assert client.stdout.readline() == "busy\n"
            # The client, its fork server, and two workers at least.
            assert len(marked(mark)) >= 4
            if is_signal:
                client.send_signal(signal.Signals[end])
            else:
                client.stdin.write("\n")
                client.stdin.flush()
            client.wait(2 * GONE_S)
            wait_until(lambda: not marked(mark), f"{marked(mark)} are gone", GONE_S)
        finally:
            for pid in marked(mark):
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("guard", ["", 'if __name__ == "__main__":\n    '])
def test_a_script_that_its_workers_would_run_again_is_refused(tmp_path, guard):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom pytest_pyhf_faas.engines import create_engine\n"
        f"{guard}print(create_engine('local:1', Path()).workers)\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    if guard:
        assert (done.returncode, done.stdout) == (0, "1\n")
    else:
        assert done.returncode == 1
        assert f"each of them imports {script}, and would run it again" in done.stderr
