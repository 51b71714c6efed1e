"""Runs of pytest on Parsl endpoints, with workers on this machine: to the end, and ended before."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from xml.etree import ElementTree as ET

import dill
import pytest

from tests.engines.test_local import processes
from tests.helpers.parsl_here import MODULE_LEVEL, configuration, run_directories
from tests.helpers.paths import SERVICES
from tests.helpers.project import QUICK, SUITE
from tests.helpers.scripted_engine import wait_until

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc"),
    pytest.mark.timeout(600),
    pytest.mark.services,
]

#: Within so many seconds nothing may be left of a run that is over, or was killed.
GONE_S = 10.0
#: Slurm takes its time to end a job.
GONE_FROM_SLURM_S = 15.0
#: A run of some fits, on a busy machine.
RUN_S = 120.0
#: Nothing may hold the output of pytest open for longer.
CLOSED_S = 2.0
SIZE = 8
SLURM_HERE = SERVICES / "parsl_slurm.py"
#: Of the environment in which this runs, what would change what a run shows or does.
FOREIGN = (
    *("XDG_CACHE_HOME", "PYHF_PALLET_PATH", "PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"),
    "TOX_ENV_DIR",  # where pytest puts its cache then
)
#: Many a project takes warnings for errors; pyhf itself gives this one.
STRICT = ("-Werror", "-Wignore:jsonschema.RefResolver:DeprecationWarning")
#: In the directory whose path stands in PYTHONPATH, a Python that cannot import this package.
WITHOUT_THIS_PACKAGE = """\
import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
HERE.joinpath(f"started-{os.getpid()}").write_text(" ".join(sys.orig_argv))


class Blocked:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] == "pytest_pyhf_faas":
            HERE.joinpath("wanted").write_text(name)
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Blocked)
"""


class Run:
    """A pytest run of its own session, as a shell starts it, with its output in a pipe."""

    def __init__(self, path, *words):
        self.path = path
        name, value = "FAAS_PARSL", uuid.uuid4().hex
        self.mark = f"{name}={value}".encode()
        environment = {key: old for key, old in os.environ.items() if key not in FOREIGN}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *QUICK, *SUITE, *words],
            cwd=path,
            env={**environment, name: value, "COLUMNS": "400"},  # no text is folded
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )
        self._lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.append(line)

    @property
    def output(self):
        return "".join(self._lines)

    def others(self):
        """The processes of this run but pytest itself; Parsl's own have lost their environment."""
        found = {}
        for pid, (_parent, command) in processes().items():
            if pid in (os.getpid(), self.process.pid):
                continue
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cwd").readlink().is_relative_to(self.path) or (
                    self.mark in Path(f"/proc/{pid}/environ").read_bytes()
                ):
                    found[pid] = command
        return found

    def wait_for(self, condition, what, limit_s=RUN_S):
        """Wait for something that this run does."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert self.process.poll() is None, f"it ended before {what}:\n{self.output}"
            assert time.monotonic() < deadline, f"in vain waited for {what}:\n{self.output}"
            time.sleep(0.05)

    def wait_for_results(self, count):
        self.wait_for(lambda: len(journaled(self.path)) >= count, f"{count} results are there")

    def send(self, number):
        """Send a signal: Ctrl-C goes to all processes of a terminal's session, others do not."""
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def end(self, limit_s=RUN_S):
        """Wait for the end of pytest and of its output, and return its exit code."""
        self.process.wait(limit_s)
        self._reader.join(CLOSED_S if self.process.returncode >= 0 else GONE_S)
        assert not self._reader.is_alive(), f"held open by {self.others()}"
        return self.process.returncode

    def assert_nothing_is_left(self, limit_s=GONE_S):
        deadline = time.monotonic() + limit_s
        while (left := self.others()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert left == {}

    def close(self):
        """End all of it, whatever a test has found."""
        for pid in (self.process.pid, *self.others()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self._reader.join(CLOSED_S)
        self.process.stdout.close()


def journaled(path):
    """Return the patches whose results the journals of a directory hold, once for each."""
    found = []
    for journal in path.glob(".pytest_cache/d/pyhf-faas/*.jsonl"):
        for line in journal.read_text().splitlines():
            with contextlib.suppress(ValueError):  # the last line may not be complete yet
                event = json.loads(line)
                if "result" in event:
                    found.append(event["result"]["patch"])
    return found


def patches(*points):
    """Return the words that select patches of the bundled pallet, and no measured wall time."""
    return ["-k", "test_cls", *(f"--faas-patch=synthetic_{point}" for point in points)]


def written_down(path):
    """Return the jobs and process groups that our interchange would end by itself."""
    found = set()
    for file in path.glob(".pytest_cache/d/pyhf-faas/parsl/jobs-*.pickle"):
        for _provider, jobs, groups in dill.loads(file.read_bytes()):
            found.update(jobs, groups)
    return found


@pytest.fixture
def begin(tmp_path):
    """Begin runs in one directory; none of them outlives the test."""
    runs = []

    def begin(*words):
        runs.append(Run(tmp_path, *words))
        return runs[-1]

    yield begin
    for run in runs:
        run.close()


# --- right --------------------------------------------------------------------------------------


class CleanRun:
    """One run on workers of this machine, and on two Parsl endpoints at once."""

    points = ("700_0", "800_0")

    def __init__(self, path):
        self.path = path / "project"
        self.path.mkdir()
        self.python_path = path / "without"
        self.python_path.mkdir()
        (self.python_path / "sitecustomize.py").write_text(WITHOUT_THIS_PACKAGE)
        init = f"export PYTHONPATH={self.python_path}"
        self.endpoints = [
            "local:1",
            configuration(self.path, "here.py"),
            configuration(self.path, "module_level.py", init=init, begin=MODULE_LEVEL),
        ]
        self.before = {entry.name for entry in self.path.iterdir()}
        words = [f"--funcx-endpoint={endpoint}" for endpoint in self.endpoints]
        run = Run(self.path, *words, *STRICT, *patches(*self.points), "--junitxml=junit.xml")
        try:
            self.code = run.end()
            self.output = run.output
            run.assert_nothing_is_left()
        finally:
            run.close()

    def properties(self, endpoint, point):
        """Return what junit.xml says of a fit."""
        (case,) = (
            case
            for case in ET.parse(self.path / "junit.xml").getroot().iter("testcase")
            if endpoint in case.get("name") and case.get("name").endswith(f"synthetic_{point}]")
        )
        return {item.get("name"): item.get("value") for item in case.iter("property")}


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    clean = CleanRun(tmp_path_factory.mktemp("clean"))
    assert clean.code == 0, clean.output
    return clean


def test_the_suite_passes_on_several_endpoints_in_one_run(clean):
    fits = len(clean.points)
    assert f"{3 * fits} passed" in clean.output
    for endpoint in clean.endpoints:
        assert re.search(rf"{fits} fits on {re.escape(endpoint)} \(1 worker\)", clean.output)
    assert f"\n{3 * fits} fits sent to workers\n" in clean.output


@pytest.mark.parametrize("number", [1, 2], ids=["fresh_config", "config"])
def test_parsl_gives_the_values_that_local_gives(clean, number):
    for point in clean.points:
        here = clean.properties("local:1", point)
        there = clean.properties(clean.endpoints[number], point)
        names = ["CLs_obs", "CLs_exp", *(f"CLs_exp_{n:+d}sigma" for n in (-2, -1, 1, 2)), "mu_hat"]
        assert there["worker"] != here["worker"]
        for name in names:
            assert math.isclose(float(there[name]), float(here[name]), rel_tol=1e-12), name


def test_workers_need_not_have_this_package(clean):
    """The second Parsl endpoint's could not import it, and did not try."""
    started = [path.read_text() for path in clean.python_path.glob("started-*")]
    assert any("process_worker_pool" in command for command in started)
    assert any("spawn_main" in command for command in started)
    assert not (clean.python_path / "wanted").exists()


def test_the_directory_of_a_clean_run_is_removed(clean):
    assert run_directories(clean.path) == []


def test_nothing_is_written_where_the_user_works(clean):
    # pytest-benchmark makes a directory in each run.
    expected = {".pytest_cache", ".benchmarks", "junit.xml"}
    assert {entry.name for entry in clean.path.iterdir()} - clean.before <= expected


def test_fits_are_certified_on_parsl_workers(begin, tmp_path):
    endpoint = configuration(tmp_path)
    words = ["--faas-method=certified", "--junitxml=junit.xml", *patches("700_0")]
    run = begin(f"--funcx-endpoint={endpoint}", *words)
    assert run.end() == 0, run.output
    assert "1 fit on parsl:here.py (1 worker), certified" in run.output
    assert "1 passed" in run.output
    run.assert_nothing_is_left()


# --- ended before the end -----------------------------------------------------------------------


def pieces(run, blocks):
    """Say whether all that Parsl starts for so many blocks of one worker is there."""
    commands = list(run.others().values())
    managers = [c for c in commands if "process_worker_pool" in c and "bash" not in c]
    workers = [c for c in commands if "spawn_main" in c]
    interchanges = [c for c in commands if "interchange" in c]
    return len(interchanges) == 1 and len(managers) >= blocks and len(workers) >= blocks


def test_a_run_that_is_ended_at_once_leaves_nothing_and_goes_on_where_it_was(begin, tmp_path):
    """Killed, then interrupted twice; each time the next run resumes."""
    endpoint = configuration(tmp_path)
    points = [f"{m1}_0" for m1 in range(100, 100 * (SIZE + 1), 100)]
    words = [f"--funcx-endpoint={endpoint}", *patches(*points)]
    for blocks, numbers in ((2, [signal.SIGKILL]), (1, [signal.SIGINT, signal.SIGINT])):
        before = len(journaled(tmp_path))
        run = begin(*words, f"--faas-blocks={blocks}", *(["--faas-resume"] if before else []))
        run.wait_for(lambda run=run, blocks=blocks: pieces(run, blocks), "all of it is there")
        assert f"{SIZE} fits on {endpoint} ({blocks} worker" in run.output
        run.wait_for_results(before + blocks)
        run.send(numbers[0])
        if numbers[1:]:
            run.wait_for(lambda run=run: "Ctrl-C again" in run.output, "it said what it does")
            run.send(numbers[1])
        code = run.end(GONE_S)
        assert code == (2 if numbers[1:] else -numbers[0]), run.output
        assert "INTERNALERROR" not in run.output
        run.assert_nothing_is_left()
    earlier = journaled(tmp_path)
    assert len(earlier) == len(set(earlier))  # none of them was fitted twice
    last = begin(*words, "--faas-resume")
    assert last.end() == 0, last.output
    sent = SIZE - len(earlier)
    assert f"{sent} fits sent to workers, {len(earlier)} taken over" in last.output
    assert f"{SIZE} passed" in last.output
    last.assert_nothing_is_left()


def test_an_interrupted_run_finishes_the_fits_that_run_and_skips_the_rest(begin, tmp_path):
    endpoint = configuration(tmp_path)
    run = begin(f"--funcx-endpoint={endpoint}", "-rs", *patches("?00_0", "?00_100"))
    run.wait_for_results(1)
    run.send(signal.SIGINT)
    assert run.end() == 2, run.output
    done = len(journaled(tmp_path))
    said = re.search(r"interrupted: (\d+) running fits? (?:is|are) finished first", run.output)
    assert int(said[1]) >= 1
    assert done >= 2
    assert f"{done} passed, {17 - done} skipped" in run.output
    assert f"{done} fits sent to workers" in run.output
    assert "--faas-resume goes on from there" in run.output
    run.assert_nothing_is_left()
    assert run_directories(tmp_path) == []


def test_a_run_that_is_killed_while_parsl_starts_leaves_nothing(begin, tmp_path):
    run = begin(f"--funcx-endpoint={configuration(tmp_path)}", *patches("700_0"))

    def interchange():
        return [pid for pid, command in run.others().items() if "parsl_interchange" in command]

    run.wait_for(interchange, "its interchange starts")
    (pid,) = interchange()
    os.kill(pid, signal.SIGSTOP)  # so that it is not as far as to watch its parent
    time.sleep(0.5)  # it gets its configuration meanwhile
    run.send(signal.SIGKILL)
    run.process.wait()
    os.kill(pid, signal.SIGCONT)
    run.end()
    run.assert_nothing_is_left()


def test_a_run_that_is_terminated_on_slurm_leaves_no_job(begin, slurm):
    points = [f"{m1}_0" for m1 in range(100, 100 * (SIZE + 1), 100)]
    run = begin(f"--funcx-endpoint=parsl:{SLURM_HERE}", *patches(*points))
    run.wait_for_results(1)
    assert slurm.jobs()
    run.send(signal.SIGTERM)
    run.end()
    wait_until(lambda: not slurm.jobs(), "Slurm has no job", GONE_FROM_SLURM_S)
    run.assert_nothing_is_left()


def test_a_run_that_is_killed_in_the_queue_of_slurm_leaves_no_job(begin, slurm, tmp_path):
    slurm.drain("a test")
    try:
        run = begin(f"--funcx-endpoint=parsl:{SLURM_HERE}", *patches("700_0"))
        run.wait_for(lambda: [*slurm.jobs().values()] == ["PENDING"] * 2, "its jobs are queued")
        run.wait_for(lambda: written_down(tmp_path) >= set(slurm.jobs()), "it has noted them down")
        run.send(signal.SIGKILL)
        run.end()
        wait_until(lambda: not slurm.jobs(), "Slurm has no job", GONE_FROM_SLURM_S)
        run.assert_nothing_is_left()
    finally:
        slurm.resume()


# --- blocks without workers ---------------------------------------------------------------------


def test_a_queue_that_grants_nothing_is_shown_and_given_up(begin, tmp_path):
    endpoint = configuration(tmp_path, init="sleep 3600")
    words = [f"--funcx-endpoint={endpoint}", *patches("700_0", "800_0")]
    run = begin(*words, "--faas-queue-timeout=12")
    assert run.end() == 1, run.output
    line = rf"^\.*{endpoint}: 0/2 fits done, no worker for 1\d s"
    assert re.search(line, run.output, re.MULTILINE), run.output
    assert re.search(r"1 skipped, .*1 error", run.output)
    assert f"no worker of {endpoint} was available for" in run.output
    assert "--faas-queue-timeout" in run.output
    assert "Traceback" not in run.output
    run.assert_nothing_is_left()


def test_a_run_that_is_killed_while_its_blocks_start_leaves_nothing(begin, tmp_path):
    endpoint = configuration(tmp_path, init="sleep 3600")
    run = begin(f"--funcx-endpoint={endpoint}", *patches("700_0"))
    run.wait_for(lambda: any("sleep 3600" in c for c in run.others().values()), "a block starts")
    run.wait_for(lambda: written_down(tmp_path), "it has noted the block down")
    run.send(signal.SIGKILL)
    run.end()
    run.assert_nothing_is_left()


def test_a_start_that_fails_says_why_and_where_to_look(begin, tmp_path):
    endpoint = configuration(tmp_path, init="echo no such environment >&2; exit 7")
    file = tmp_path / endpoint.removeprefix("parsl:")
    # A provider that wants to be asked once a minute, as that of Slurm does.
    file.write_text(file.read_text().replace("polling_interval = 1", "polling_interval = 60"))
    began = time.monotonic()
    run = begin(f"--funcx-endpoint={endpoint}", *patches("700_0"))
    assert run.end() == 1, run.output
    assert time.monotonic() - began < 50.0
    assert "1 error" in run.output
    assert "no such environment" in run.output
    assert "Check worker_init" in run.output
    assert "Traceback" not in run.output
    logs = Path(re.search(r"the logs in (\S+)", run.output)[1])
    assert logs.is_relative_to(tmp_path / ".pytest_cache")
    assert any("no such environment" in log.read_text() for log in logs.iterdir())
    assert re.search(rf"rerun: +pytest .*--faas-endpoint={endpoint}", run.output)
    run.assert_nothing_is_left()
