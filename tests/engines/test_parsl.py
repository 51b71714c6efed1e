"""Parsl endpoints as a user meets them: real runs of pytest, with workers on this machine."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import parsl.addresses
import parsl.providers.kubernetes.kube as kubernetes_provider
import pytest
from parsl.dataflow import rundirs
from parsl.jobs.error_handlers import windowed_error_handler

from pytest_pyhf_faas import engines
from pytest_pyhf_faas.engines import create_engine
from pytest_pyhf_faas.engines.parsl import ParslEngine
from pytest_pyhf_faas.worker.fitting import probe_environment
from tests.engines.test_local import processes
from tests.helpers.paths import REPOSITORY, SERVICES
from tests.helpers.project import QUICK, SUITE
from tests.helpers.scripted_engine import wait_until

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc"),
    pytest.mark.timeout(600),
]

#: Within so many seconds nothing may be left of a run that is over, or was killed.
GONE_S = 10.0
#: Slurm takes its time to end a job.
GONE_FROM_SLURM_S = 15.0
#: A run of some fits, on a busy machine.
RUN_S = 120.0
#: Nothing may hold the output of pytest open for longer.
CLOSED_S = 2.0
ONE_SCREEN = 24
SIZE = 8
RECIPES = REPOSITORY / "endpoints" / "parsl"
SLURM_HERE = SERVICES / "parsl_slurm.py"
BIN = Path(sys.executable).parent
#: Of the environment in which this runs, what would change what a run shows or does.
FOREIGN = (
    *("XDG_CACHE_HOME", "PYHF_PALLET_PATH", "PYTEST_ADDOPTS", "CI", "BUILD_NUMBER"),
    "TOX_ENV_DIR",  # where pytest puts its cache then
)
#: Many a project takes warnings for errors; pyhf itself gives this one.
STRICT = ("-Werror", "-Wignore:jsonschema.RefResolver:DeprecationWarning")

CONFIGURATION = """\
from parsl import Config
from parsl.executors import HighThroughputExecutor
from parsl.providers import LocalProvider


class QuickLocalProvider(LocalProvider):
    status_polling_interval = 1


{begin}Config(
    executors=[
        HighThroughputExecutor(
            label="here",
            address="127.0.0.1",
            max_workers_per_node=1,
            heartbeat_period=1,
            heartbeat_threshold=4,
            provider=QuickLocalProvider(init_blocks=1, max_blocks=1, worker_init={init!r}),
        )
    ],
)
"""
FRESH, MODULE_LEVEL = "def fresh_config():\n    return ", "config = "
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


def configuration(path, name="here.py", init="true", begin=FRESH):
    """Write a configuration of one worker on this machine, and return its endpoint."""
    text = CONFIGURATION.format(begin=begin, init=f"export PATH={BIN}:$PATH; {init}")
    (path / name).write_text(text)
    return f"parsl:{name}"


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
            env={**environment, name: value},
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


def run_directories(path):
    return sorted(path.glob(".pytest_cache/d/pyhf-faas/parsl/*"))


def patches(*points):
    """Return the words that select patches of the bundled pallet, and no measured wall time."""
    return ["-k", "test_cls", *(f"--faas-patch=synthetic_{point}" for point in points)]


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
    said = re.search(r"interrupted: (\d+) running fits are finished first", run.output)
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


def test_a_run_that_is_killed_in_the_queue_of_slurm_leaves_no_job(begin, slurm):
    slurm.drain("a test")
    try:
        run = begin(f"--funcx-endpoint=parsl:{SLURM_HERE}", *patches("700_0"))
        run.wait_for(lambda: [*slurm.jobs().values()] == ["PENDING"] * 2, "its jobs are queued")
        time.sleep(1.0)  # it has taken note of them
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
    assert "2 errors" in run.output
    assert run.output.count(f"no worker of {endpoint} was there for") >= 2
    assert "--faas-queue-timeout" in run.output
    assert "Traceback" not in run.output
    run.assert_nothing_is_left()


def test_a_run_that_is_killed_while_its_blocks_start_leaves_nothing(begin, tmp_path):
    endpoint = configuration(tmp_path, init="sleep 3600")
    run = begin(f"--funcx-endpoint={endpoint}", *patches("700_0"))
    run.wait_for(lambda: any("sleep 3600" in c for c in run.others().values()), "a block starts")
    time.sleep(1.0)
    run.send(signal.SIGKILL)
    run.end()
    run.assert_nothing_is_left()


def test_a_start_that_fails_says_why_and_where_to_look(begin, tmp_path):
    endpoint = configuration(tmp_path, init="echo no such environment >&2; exit 7")
    run = begin(f"--funcx-endpoint={endpoint}", *patches("700_0"))
    assert run.end() == 1, run.output
    assert "1 error" in run.output
    assert "no such environment" in run.output
    assert "Look at worker_init" in run.output
    assert "Traceback" not in run.output
    logs = Path(re.search(r"the logs in (\S+)", run.output)[1])
    assert logs.is_relative_to(tmp_path / ".pytest_cache")
    assert any("no such environment" in log.read_text() for log in logs.iterdir())
    assert re.search(rf"rerun: +pytest .*--faas-endpoint={endpoint}", run.output)
    run.assert_nothing_is_left()


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
    assert executor.label == name
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
