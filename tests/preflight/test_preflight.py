"""Is an endpoint ready? Each fault is told in plain words, by the side that can mend it."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
from concurrent.futures import Future
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

from pytest_pyhf_faas.campaign.requirements import Requirement
from pytest_pyhf_faas.campaign.tasks import HypotestConfig
from pytest_pyhf_faas.engines import create_engine
from pytest_pyhf_faas.engines.base import Engine
from pytest_pyhf_faas.engines.local import LocalEngine
from pytest_pyhf_faas.engines.remote import pack_call, unpack_answer
from pytest_pyhf_faas.engines.remote_worker import run_call
from pytest_pyhf_faas.errors import (
    ConfigurationError,
    EngineError,
    NotMeasuredError,
    NotReadyError,
    RemoteCallError,
    TaskTimeoutError,
    WorkerLostError,
)
from pytest_pyhf_faas.plugin.display import TerminalDisplay
from pytest_pyhf_faas.plugin.terminal import endpoint_lines
from pytest_pyhf_faas.preflight import preflight as preflight_module
from pytest_pyhf_faas.preflight import waiting
from pytest_pyhf_faas.preflight.preflight import Preflight
from pytest_pyhf_faas.session import progress as progress_module
from pytest_pyhf_faas.session.progress import ProgressLine
from pytest_pyhf_faas.worker import inspection
from tests.helpers.parsl_here import configuration

pytestmark = pytest.mark.timeout(180)

PREFLIGHT = ("--pyargs", "pytest_pyhf_faas.suite.test_endpoint")
NAMES = (
    "exists",
    "answers",
    "environment",
    "workers",
    "round_trip",
    "payload",
    "clock",
    "reference_fit",
)
#: A failure of each has no more lines than this.
ONE_SCREEN = 24
ENVIRONMENT = {
    "python": "3.12.1",
    "platform": "Linux x86_64",
    "host": "node7",
    "pid": 1,
    "cpu": "Abacus",
    "backend": "numpy",
    "optimizer": "scipy",
    "threads": {"OMP_NUM_THREADS": "1"},
    "versions": {"pyhf": "0.7.6", "numpy": "2.4.6", "scipy": "1.17.1", "jsonpatch": "1.33"},
    "executable": "/opt/python3",
    "cores": 8,
    "pyhf": "0.7.6",
    "requires": ["scipy>=1.5.4"],
    "float": "float64",
    "blas_threads": [],
    "jax": None,
    "problem": None,
}


class ToyEngine(Engine):
    """Workers that are threads, each with a name and a clock, and that answer what a test says.

    Parameters
    ----------
    names : list of str
        Host and process of each worker.
    answers : mapping
        By the name of a function: what it answers instead, an exception, or a function of what it
        would answer.
    """

    spec = "toy"
    worker_setup = "worker_init of toy.py"

    def __init__(self, names=("node7:1", "node7:2"), *, answers=None, ahead_s=0.0, **facts):
        self.answers = {"inspect": ENVIRONMENT, **(answers or {})}
        self.ahead_s = ahead_s
        self.facts = {"workers": len(names), "workers_there": len(names), **facts}
        self.fixed_workers = self.facts.get("fixed_workers", False)
        self.asked = []
        self._free = list(names)
        self._changed = threading.Condition()

    def describe(self):
        if "describe" in self.facts:
            raise self.facts["describe"]
        return {"endpoint": self.spec, "owner": "somebody"}

    def start(self):
        pass

    def restart(self):
        pass

    def stop(self):
        pass

    workers = property(lambda self: self.facts["workers"])
    workers_there = property(lambda self: self.facts["workers_there"])
    ready_at = property(lambda self: None)
    broken = property(lambda self: self.facts.get("broken", False))
    failure = property(lambda self: self.facts.get("failure"))
    missing_since = property(lambda self: self.facts.get("missing_since"))
    waits_for = property(lambda self: self.facts.get("waits_for"))
    remedy = property(lambda self: self.facts.get("remedy"))

    def submit(self, function, /, *args, timeout_s=None):
        self.asked.append(function.__name__)
        answer = self.answers.get(function.__name__)
        if answer == "at once":
            raise EngineError("the interchange died")
        future = Future()
        future.set_running_or_notify_cancel()
        if answer != "never":
            threading.Thread(
                target=self._work, args=(future, function, args, answer), daemon=True
            ).start()
        return future

    def _work(self, future, function, args, answer):
        with self._changed:
            self._changed.wait_for(lambda: self._free)
            name = self._free.pop(0)
        if isinstance(answer, Exception):
            future.set_exception(answer)
            return
        try:
            value = answer if isinstance(answer, dict) else function(*args)
            if function.__name__ == "hold":
                shifted = {key: value[key] + self.ahead_s for key in ("began", "ended")}
                value |= {"worker": name, "host": name.partition(":")[0], **shifted}
            outcome = answer(value) if callable(answer) else value
        except Exception as error:  # noqa: BLE001 - it is the answer
            future.set_exception(error)
            return
        finally:
            with self._changed:
                self._free.append(name)
                self._changed.notify()
        future.set_result(outcome)


def make(*args, config=None, queue_timeout_s=0.2, timeout_s=60.0, **facts):
    engine = ToyEngine(*args, **facts)
    config = config or HypotestConfig()
    return Preflight(engine, config, queue_timeout_s=queue_timeout_s, timeout_s=timeout_s)


def failure(preflight, name):
    """Return what a person reads when a measurement fails, and hold it to one screen."""
    with pytest.raises(NotReadyError) as caught:
        getattr(preflight, name)()
    text = str(caught.value)
    assert text.startswith(f"endpoint {preflight.engine.spec}: ")
    assert len(text.splitlines()) <= ONE_SCREEN
    assert "on this side: " in text or "side of the workers" in text or "both sides" in text
    return text


# --- a local endpoint ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local():
    engine = LocalEngine("local:2", 2)
    preflight = Preflight(engine, HypotestConfig(), queue_timeout_s=60, timeout_s=60)
    yield preflight
    engine.stop()


def test_a_local_endpoint_is_ready(local):
    began = time.monotonic()
    values = {name: dict(getattr(local, name)().values) for name in NAMES}
    assert time.monotonic() - began < 60  # 6 on a quiet machine
    assert values["exists"] == {
        "endpoint": "local:2",
        "kind": "processes on this machine",
        "workers": "2",
    }
    assert values["workers"]["workers"] == 2
    assert values["workers"]["hosts"] == 1
    assert values["environment"]["float"] == "float64"
    assert values["environment"]["threads"] == "1 thread each"
    assert values["environment"]["OMP_NUM_THREADS"] == "1"
    trip = values["round_trip"]
    assert 0 < trip["round_trip_median_s"] <= trip["round_trip_p95_s"] < 5
    assert trip["round_trips"] == preflight_module.ROUND_TRIPS
    assert trip["tasks_per_s"] > 1
    assert values["payload"]["payload_s"] > 0
    # The clock of a worker here is that of this machine.
    assert abs(values["clock"]["clock_offset_s"]) <= values["clock"]["clock_uncertainty_s"] + 1e-3
    assert values["reference_fit"]["reference_deviation"] < 1e-3
    assert local.failures == {}


def test_nothing_is_measured_twice(local, monkeypatch):
    before = {name: getattr(local, name)() for name in NAMES}
    monkeypatch.setattr(local.engine, "submit", None)
    assert {name: getattr(local, name)() for name in NAMES} == before


def test_a_worker_is_left_as_it_was(local):
    """JAX in particular is asked in a process of its own."""
    local.environment()
    modules = local.engine.submit(_modules).result(60)
    assert "pyhf" in modules
    assert "jax" not in modules


def _modules():
    import sys

    return sorted(name for name in sys.modules if "." not in name)


@pytest.mark.parametrize("function", [inspection.inspect, inspection.hold])
def test_its_functions_travel_as_source(function):
    argument = HypotestConfig().to_json() if function is inspection.inspect else 0.0
    answer = unpack_answer(run_call(pack_call(function, (argument,), None)))
    assert answer["host"]


# --- no worker ----------------------------------------------------------------------------------


def test_an_endpoint_that_is_pending_says_what_it_waits_for():
    state = {"waits_for": "blocks: 1 pending (Resources)", "remedy": "look at the queue"}
    preflight = make(answers={"hold": "never"}, **state)
    text = failure(preflight, "answers")
    assert text == (
        "endpoint toy: no worker answered within 0.2 s\n"
        "  its state: blocks: 1 pending (Resources)\n"
        "  on the side of the workers (set up in worker_init of toy.py): look at the queue\n"
        "  on this side: wait longer with --faas-queue-timeout SECONDS (0: without limit)"
    )


def test_an_endpoint_that_is_gone_says_why():
    text = failure(make(answers={"hold": "never"}, broken=True, failure="it was killed"), "answers")
    assert "it failed: it was killed" in text
    text = failure(make(answers={"hold": "never"}, failure="all blocks ended"), "answers")
    assert "it failed: all blocks ended" in text
    text = failure(make(answers={"hold": "at once"}), "answers")
    assert "it failed: the interchange died" in text


def test_workers_that_hang_are_reported_from_workers_that_are_not_there():
    text = failure(make(answers={"hold": "never"}), "answers")
    assert "it reports 2 workers, but they do not answer" in text


def test_nobody_waits_twice_for_an_endpoint_that_does_not_answer():
    preflight = make(answers={"hold": "never"}, waits_for="its block")
    preflight.exists()
    failure(preflight, "answers")
    asked = len(preflight.engine.asked)
    for name in NAMES[2:]:
        with pytest.raises(NotMeasuredError, match="not measured: test_endpoint_answers failed"):
            getattr(preflight, name)()
    assert len(preflight.engine.asked) == asked
    assert endpoint_lines(preflight) == [
        "endpoint toy:",
        "  owner: somebody",
        "  not ready: no worker answered within 0.2 s",
    ]


def test_what_is_asked_alone_fails_in_full():
    text = failure(make(answers={"hold": "never"}, waits_for="its block"), "payload")
    assert "its state: its block" in text


def test_an_endpoint_that_does_not_exist_is_not_waited_for():
    preflight = make(describe=ConfigurationError("there is no such endpoint: look at its UUID"))
    with pytest.raises(NotReadyError, match="there is no such endpoint: look at its UUID"):
        preflight.exists()
    for name in NAMES[1:]:
        with pytest.raises(NotMeasuredError, match="not measured: test_endpoint_exists failed"):
            getattr(preflight, name)()
    assert preflight.engine.asked == []


def test_an_endpoint_that_is_lost_on_the_way_is_not_asked_again(monkeypatch):
    monkeypatch.setattr(waiting, "TASK_S", 0.1)
    monkeypatch.setattr(waiting, "_ARRIVAL_S", 0.1)
    preflight = make(answers={"echo": "never"})
    preflight.answers()
    text = failure(preflight, "payload")
    assert "no answer within 0 s, although it answered before (a megabyte)" in text
    with pytest.raises(NotMeasuredError, match="not measured: test_endpoint_payload failed"):
        preflight.clock()


@pytest.mark.parametrize("queue_timeout_s", [0.2, None])
def test_workers_that_leave_are_waited_for_as_long_as_those_that_never_came(
    monkeypatch, queue_timeout_s
):
    """Without a worker the limit of a task means nothing, be it shorter or longer."""
    left = {"missing_since": time.monotonic() - 60.0, "waits_for": "blocks: 1 pending"}
    preflight = make(answers={"echo": "never"}, queue_timeout_s=queue_timeout_s)
    preflight.answers()
    if queue_timeout_s is None:
        monkeypatch.setattr(waiting, "TASK_S", 0.1)
        monkeypatch.setattr(waiting, "_ARRIVAL_S", 0.1)
        threading.Timer(0.6, preflight.engine.facts.pop, ["missing_since"]).start()
    preflight.engine.facts.update(left)
    began = time.monotonic()
    text = failure(preflight, "payload")
    took_s = time.monotonic() - began
    if queue_timeout_s is None:
        assert "no answer within" in text
        assert took_s >= 0.6
    else:
        assert "no worker answered within 0.2 s\n  its state: blocks: 1 pending" in text
        assert took_s < 5.0
        with pytest.raises(NotMeasuredError, match="test_endpoint_payload failed"):
            preflight.clock()


def test_who_waits_is_reported():
    waited = []
    engine = ToyEngine(answers={"hold": "never"}, waits_for="its block")
    preflight = Preflight(engine, HypotestConfig(), queue_timeout_s=0.2, on_wait=waited.append)
    failure(preflight, "answers")
    assert len(waited) > 1
    assert 0 < waited[0] < waited[-2]
    assert waited[-1] is None


class Reporter:
    """A terminal that is none."""

    isatty = False
    verbosity = 0

    def __init__(self):
        self.lines = []
        writer = SimpleNamespace(width_of_current_line=0)
        self.config = SimpleNamespace(get_terminal_writer=lambda: writer)

    def ensure_newline(self):
        pass

    def write_line(self, line, yellow=False):
        self.lines.append(line)

    def flush(self):
        pass


def test_the_wait_is_shown_less_and_less_often():
    reporter = Reporter()
    progress = ProgressLine(TerminalDisplay(reporter))
    for seconds in range(45):
        progress.wait("toy", float(seconds), "its block")
    progress.wait("toy", None, None)
    assert reporter.lines == [f"toy: no worker for {n} s (its block)" for n in (10, 20, 40)]
    progress.wait("toy", 10.0, None)
    assert reporter.lines[3:] == ["toy: no answer for 10 s"]


def test_measurements_that_are_long_together_are_reported_off_a_terminal(monkeypatch):
    """Each answer comes soon, and the dots of pytest stay in a buffer."""
    now = 100.0
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: now))
    reporter = Reporter()
    line = ProgressLine(TerminalDisplay(reporter))
    for second in range(45):
        now = 100.0 + second
        line.wait("toy", 0.5, None, "test_endpoint_round_trip")
        line.wait("toy", None, None, "test_endpoint_round_trip")
    assert reporter.lines == [
        f"toy: {n} s of measurements so far, now test_endpoint_round_trip" for n in (10, 20, 40)
    ]


@pytest.mark.parametrize("waits_for", ["its block", None])
def test_a_wait_is_no_measurement(monkeypatch, waits_for):
    """Each moment has one line."""
    now = 100.0
    monkeypatch.setattr(progress_module, "time", SimpleNamespace(monotonic=lambda: now))
    reporter = Reporter()
    line = ProgressLine(TerminalDisplay(reporter))
    for tenth in range(450):
        now = 100.0 + tenth / 10
        line.wait("toy", max(0.0, tenth / 10 - 0.1), waits_for, "test_endpoint_answers")
    what = "no worker for {} s (its block)" if waits_for else "no answer for {} s"
    assert reporter.lines == [f"toy: {what.format(n)}" for n in (10, 20, 40)]


def test_it_says_what_it_measures():
    seen = set()
    engine = ToyEngine(answers={"inspect": "never"}, waits_for="its block")
    preflight = Preflight(
        engine,
        HypotestConfig(),
        queue_timeout_s=0.2,
        on_wait=lambda _waits_s: seen.add(preflight.measures),
    )
    engine.facts["missing_since"] = time.monotonic()
    failure(preflight, "environment")
    assert "environment" in seen
    assert preflight.measures is None  # it is over


# --- workers that cannot fit --------------------------------------------------------------------


def inspected(**changes):
    return make(answers={"inspect": {**ENVIRONMENT, **changes}})


def test_workers_with_a_scipy_that_their_pyhf_refuses():
    """Whoever installs one after the other has it; its fits may be right, so they are done."""
    requires = ["scipy!=1.16.0,!=1.16.1,>=1.5.4", "click>=8", 'jax>=0.4.1; extra == "jax"']
    versions = {**ENVIRONMENT["versions"], "scipy": "1.16.1", "jax": "0.3"}
    found = inspected(requires=requires, versions=versions).environment()
    assert found.text.endswith(
        "refused by this pyhf: scipy 1.16.1 (it asks for !=1.16.0,!=1.16.1,>=1.5.4)"
    )
    assert found.values["refused_by_pyhf"] == "scipy 1.16.1 (it asks for !=1.16.0,!=1.16.1,>=1.5.4)"
    versions["scipy"] = "1.17.0rc1"
    allowed = inspected(requires=requires, versions=versions).environment()
    assert "refused" not in allowed.text
    assert "refused_by_pyhf" not in allowed.values


def test_workers_without_pyhf():
    problem = {
        "what": "pyhf",
        "type": "ModuleNotFoundError",
        "message": "No module named 'pyhf'",
    }
    preflight = inspected(problem=problem, pyhf=None)
    assert failure(preflight, "environment") == (
        "endpoint toy: its workers cannot import pyhf\n"
        "  ModuleNotFoundError: No module named 'pyhf'\n"
        "  its Python 3.12.1 on node7 is /opt/python3\n"
        "  cause: Python 3.12.1 on node7 (/opt/python3) has no pyhf: perhaps it is not the "
        "environment that you mean\n"
        "  on the side of the workers (set up in worker_init of toy.py): activate the environment "
        "that has pyhf, or install it\n"
        "    python -m pip install 'pyhf>=0.7'"
    )
    # Nobody waits for figures of workers that cannot do the job.
    asked = list(preflight.engine.asked)
    for name in ("workers", "round_trip", "payload", "clock", "reference_fit"):
        with pytest.raises(NotMeasuredError, match="test_endpoint_environment failed"):
            getattr(preflight, name)()
    assert preflight.engine.asked == asked


@pytest.mark.parametrize("version", ["0.6.3", "0.5.4.dev2"])
def test_workers_with_an_old_pyhf(version):
    versions = {**ENVIRONMENT["versions"], "pyhf": version}
    problem = {"what": "pyhf", "type": "ImportError", "message": "whatever"}
    text = failure(inspected(versions=versions, problem=problem), "environment")
    assert "its workers have a pyhf that is too old" in text
    assert f"cause: pyhf {version} is too old: the fits need pyhf>=0.7" in text
    assert "python -m pip install --upgrade 'pyhf>=0.7'" in text


@pytest.mark.parametrize("version", ["0.7.0", "0.7.0rc1", "0.10.1", "1.0"])
def test_workers_with_a_pyhf_that_is_new_enough(version):
    assert f"pyhf {version}" in inspected(pyhf=version).environment().text


@pytest.mark.parametrize(
    ("backend", "optimizer", "command"),
    [
        ("jax", "scipy", "pip install 'pyhf[jax]'"),
        ("numpy", "minuit", "pip install 'pyhf[minuit]'"),
        ("pytorch", "minuit", "pip install 'pyhf[torch]' 'pyhf[minuit]'"),
        ("numpy", "scipy", "pip install 'pyhf>=0.7'"),
    ],
)
def test_workers_without_the_backend_or_the_optimizer(backend, optimizer, command):
    problem = {"what": "backend", "type": "ImportBackendError", "message": "it is not there"}
    asked = {"backend": backend, "optimizer": optimizer}
    engine = ToyEngine(answers={"inspect": {**ENVIRONMENT, **asked, "problem": problem}})
    preflight = Preflight(engine, HypotestConfig(backend=backend, optimizer=optimizer))
    text = failure(preflight, "environment")
    assert f"its workers cannot use {backend}+{optimizer}" in text
    assert text.endswith(
        f"{command}\n  on this side: or choose another --faas-backend or --faas-optimizer"
    )


@pytest.mark.parametrize("jax", [None, {"problem": "No GPU/TPU found"}])
def test_certified_fits_need_no_jax(jax):
    engine = ToyEngine(answers={"inspect": {**ENVIRONMENT, "jax": jax}})
    preflight = Preflight(engine, HypotestConfig(method="certified"))
    assert "JAX" in preflight.environment().text


def each_worker(*environments, **others):
    """Workers that differ, and say so when they are asked what they are."""
    turns = itertools.cycle(enumerate(environments))

    def tell(value):
        number, changes = next(turns)
        host = f"node{number}"
        environment = {**ENVIRONMENT, "host": host, **changes}
        return {**value, "worker": f"{host}:1", "host": host, "environment": environment}

    return ToyEngine(answers={"present": tell}, **others)


def test_each_worker_that_is_not_as_required_is_named():
    old = {"executable": "/old/python3", "versions": {**ENVIRONMENT["versions"], "pyhf": "0.7.5"}}
    engine = each_worker({}, old, {"python": "3.10.2", "versions": {}})
    required = [Requirement.read(text) for text in ("pyhf==0.7.6", "python>=3.11")]
    preflight = Preflight(engine, HypotestConfig(), requirements=required)
    assert failure(preflight, "environment") == (
        "endpoint toy: its workers are not as --faas-require asks\n"
        "  node1, Python 3.12.1 (/old/python3): pyhf 0.7.5, but pyhf==0.7.6 is required\n"
        "  node2, Python 3.10.2 (/opt/python3): no pyhf, but pyhf==0.7.6 is required; "
        "python 3.10.2, but python>=3.11 is required\n"
        "  on the side of the workers (set up in worker_init of toy.py): start the workers in an "
        "environment with pyhf==0.7.6 and python>=3.11 (pip installs no Python)"
    )


def test_many_workers_that_are_not_as_required_fit_on_a_screen():
    engine = each_worker(*[{"python": f"3.9.{number}"} for number in range(12)])
    preflight = Preflight(engine, HypotestConfig(), requirements=[Requirement.read("python>=3.11")])
    text = failure(preflight, "environment")
    assert "  and 7 more\n" in text
    assert "environment with python>=3.11 (" in text
    assert "pip install " not in text


def test_workers_that_are_as_required_pass():
    preflight = Preflight(
        each_worker({}, {}), HypotestConfig(), requirements=[Requirement.read("pyhf==0.7.6")]
    )
    assert "Python 3.12.1 (/opt/python3), pyhf 0.7.6" in " ".join(
        preflight.environment().text.split()
    ).replace("numpy 2.4.6, scipy 1.17.1, ", "")
    assert preflight.findings["environment"].values["executable"] == "/opt/python3"


def test_workers_in_single_precision():
    text = failure(inspected(float="<dtype: 'float32'>"), "environment")
    assert "its workers compute with float32, and fits need float64" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "1 thread each, 8 cores, no JAX"),
        ({"threads": {"OMP_NUM_THREADS": None}}, "threads not limited"),
        ({"blas_threads": [1, 8]}, "8 threads each"),
        ({"jax": {"platform": "cpu", "count": 1, "kinds": ["cpu"]}}, "JAX on cpu"),
        (
            {"jax": {"platform": "gpu", "count": 2, "kinds": ["NVIDIA H200"]}},
            "JAX on gpu (2 x NVIDIA H200)",
        ),
        ({"jax": {"problem": "out of memory"}}, "JAX without a device (out of memory)"),
        ({"float": "torch.float64"}, "numpy+scipy, float64,"),
    ],
)
def test_what_a_worker_is_in_words(changes, words):
    assert words in inspected(**changes).environment().text


def test_a_worker_that_misses_something_says_so(monkeypatch):
    found = inspection.inspect({**HypotestConfig().to_json(), "backend": "abacus"})
    assert found["problem"]["what"] == "backend"
    assert "abacus" in found["problem"]["message"]
    monkeypatch.setitem(__import__("sys").modules, "pyhf", None)
    found = inspection.inspect(HypotestConfig().to_json())
    assert found["problem"]["what"] == "pyhf"
    assert found["problem"]["type"] == "ModuleNotFoundError"


def test_jax_that_does_not_work_is_an_answer(monkeypatch):
    monkeypatch.setattr(inspection, "_DEVICES", "raise RuntimeError('no device')")
    assert inspection._jax_devices() == {"problem": "RuntimeError: no device"}
    monkeypatch.setattr(inspection, "_DEVICES", "import time; time.sleep(60)")
    monkeypatch.setattr(inspection, "_JAX_S", 0.1)
    assert "found no device within" in inspection._jax_devices()["problem"]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (WorkerLostError("its worker process was killed (signal 9)"), "a worker died"),
        (TaskTimeoutError("it took too long"), "a worker did not finish within 300 s"),
        (RemoteCallError("SyntaxError: invalid syntax"), "use Python 3.10 or newer"),
        (RemoteCallError("OSError: [Errno 28] No space"), "a disk of the worker is full"),
        (RemoteCallError("it makes no sense"), "check its logs"),
        (EngineError("the interchange died"), "it failed: the interchange died"),
    ],
)
def test_a_task_that_fails(error, words):
    assert words in failure(make(answers={"inspect": error}), "environment")


def test_a_task_that_is_not_taken_says_nothing_of_others(monkeypatch):
    preflight = make()
    preflight.answers()

    def refuse(*_args, **_kwargs):
        raise RemoteCallError("its payload is too large: use another endpoint")

    with monkeypatch.context() as patch:
        patch.setattr(preflight.engine, "submit", refuse)
        with pytest.raises(NotReadyError, match="payload is too large: use another endpoint"):
            preflight.payload()
    preflight.clock()


# --- how many, how fast, and when ---------------------------------------------------------------


def test_workers_are_counted_where_nobody_knows_how_many_there_are():
    names = [f"node{number % 3}:{number}" for number in range(9)]
    found = make(names, workers=1, workers_there=1).workers()
    assert found.values["workers"] == 9
    assert found.text == "9 workers on 3 hosts (node0, node1, node2)"


def test_fewer_workers_than_configured_are_reported():
    found = make(["node1:1"], workers=4, workers_there=1).workers()
    assert found.text == "1 of 4 workers on 1 host (node1)"


def test_fewer_workers_than_there_must_be_are_a_failure(monkeypatch):
    monkeypatch.setattr(preflight_module, "LONG_HOLD_S", preflight_module.HOLD_S)
    preflight = make(["here:1"], workers=2, workers_there=2, fixed_workers=True)
    text = failure(preflight, "workers")
    assert "only 1 of its 2 workers take tasks at the same time" in text
    assert "on this side: ask for 1 worker" in text


def test_workers_that_follow_each_other_are_not_counted_as_many():
    """Such as where each task has a process of its own."""
    numbers = iter(range(1000))
    engine = ToyEngine(
        ["node7:1"],
        answers={"hold": lambda value: {**value, "worker": f"node7:{next(numbers)}"}},
    )
    found = Preflight(engine, HypotestConfig()).workers()
    assert found.values["workers"] == 1


def test_clocks_that_differ_do_not_hide_workers():
    engine = ToyEngine(
        ["near:1", "far:1"],
        answers={"hold": lambda value: later(value, 30.0 if value["host"] == "far" else 0.0)},
    )
    found = Preflight(engine, HypotestConfig()).workers()
    assert found.text == "2 workers on 2 hosts (far, near)"


def later(value, seconds):
    return {**value, "began": value["began"] + seconds, "ended": value["ended"] + seconds}


def test_a_clock_that_is_a_little_off_is_reported():
    found = make(ahead_s=-12.5).clock()
    assert re.fullmatch(r"clock -12\.\d{3} s ± 0\.\d{3} s", found.text)
    assert found.values["clock_offset_s"] == pytest.approx(-12.5, abs=0.1)
    assert found.values["clock_uncertainty_s"] < 1


@pytest.mark.parametrize(("ahead_s", "side"), [(3600.0, "ahead of"), (-3600.0, "behind")])
def test_a_clock_that_is_far_off_is_a_failure(ahead_s, side):
    text = failure(make(ahead_s=ahead_s), "clock")
    assert re.search(rf"the clock of node7 is 3600 s \(± 0\.\d+ s\) {side} this machine's", text)
    assert "set the clock of node7 (NTP" in text


def test_the_worst_of_several_clocks_is_reported():
    engine = ToyEngine(
        ["near:1", "far:1"],
        answers={"hold": lambda value: later(value, 2.0 if value["host"] == "far" else 0.0)},
    )
    preflight = Preflight(engine, HypotestConfig())
    preflight.workers()
    text = preflight.clock().text
    assert re.fullmatch(r"clocks of 2 hosts at most \+[12]\.\d+ s ± 0\.\d+ s off \(far\)", text)


def test_a_payload_that_does_not_arrive_as_it_was():
    cut = make(answers={"echo": lambda value: {**value, "text": value["text"][:-1]}})
    assert "data changed on the way back from a worker" in failure(cut, "payload")
    other = make(answers={"echo": lambda value: {**value, "sha256": "0" * 64}})
    assert "data changed on the way to a worker" in failure(other, "payload")


def test_an_endpoint_that_is_far_away_is_asked_fewer_times(monkeypatch):
    monkeypatch.setattr(preflight_module, "_ROUND_TRIPS_S", 0.0)
    assert make().round_trip().values["round_trips"] == 5


# --- the reference fit --------------------------------------------------------------------------


def change_fit(**fields):
    def change(value):
        (result,) = value["results"]
        return {**value, "results": [{**result, **fields}]}

    return make(answers={"fit_batch": change})


def test_a_fit_that_is_right():
    preflight = make()
    found = preflight.reference_fit()
    assert re.fullmatch(r"reference fit right (within \d\.\de-\d\d|to the last digit)", found.text)


def test_a_fit_that_is_wrong():
    text = failure(change_fit(CLs_obs=0.5), "reference_fit")
    assert "a fit of the bundled pallet is wrong: synthetic / synthetic_" in text
    assert "<--" in text
    assert "verdict: the formulae changed" in text
    assert "tolerance" in text


def test_a_fit_that_breaks():
    error = {"type": "pyhf.exceptions.FailedMinimization", "message": "no\nmore", "traceback": ""}
    text = failure(change_fit(status="error", error=error), "reference_fit")
    assert "pyhf.exceptions.FailedMinimization: no\n" in text


# --- whether fits can be done -------------------------------------------------------------------


def measured(preflight):
    """Take all measurements, and return the preflight."""
    for name in NAMES:
        with contextlib.suppress(NotReadyError, NotMeasuredError):
            getattr(preflight, name)()
    return preflight


def test_fits_can_be_done_where_nothing_is_wrong():
    assert make().obstacle is None
    assert measured(make()).obstacle is None


@pytest.mark.parametrize(
    ("facts", "name"),
    [
        ({"describe": ConfigurationError("no such endpoint")}, "exists"),
        ({"answers": {"hold": "never"}}, "answers"),
        ({"answers": {"inspect": {**ENVIRONMENT, "float": "float32"}}}, "environment"),
        ({"answers": {"echo": lambda value: {**value, "sha256": "another"}}}, "payload"),
        ({"answers": {"fit_batch": RemoteCallError("it broke")}}, "reference_fit"),
    ],
    ids=["exists", "answers", "environment", "payload", "reference_fit"],
)
def test_no_fit_can_be_done_where_one_would_break(facts, name):
    assert measured(make(**facts)).obstacle == name


def test_fits_that_may_be_wrong_or_slow_can_be_done():
    assert measured(change_fit(CLs_obs=0.5)).obstacle is None
    late = measured(make(ahead_s=-3600.0))
    assert list(late.failures) == ["clock"]
    assert late.obstacle is None


# --- in pytest ----------------------------------------------------------------------------------


def properties(path):
    root = ET.parse(path / "junit.xml").getroot()
    return {item.get("name"): item.get("value") for item in root.iter("property")}


def test_the_items_on_a_local_endpoint(project):
    project.real_engines()
    words = ("--funcx-endpoint", "local:2", "--junitxml=junit.xml")
    result = project.run(*PREFLIGHT, *words, suite=False, pallet=None)
    result.assert_outcomes(passed=8, warnings=0)
    project.assert_no_internals(result)
    lines = [line.rstrip() for line in result.outlines]
    begin = lines.index("endpoint local:2:")
    told = [lines[begin], *takewhile(lambda line: line.startswith("  "), lines[begin + 1 :])]
    block = " ".join(line.strip() for line in told)
    assert re.match(
        r"endpoint local:2: kind: processes on this machine, workers: 2 "
        r"2 workers on 1 host \(\S+\), Python 3\.\S+ \(\S+\), pyhf 0\.\S+, numpy \S+, "
        r"scipy \S+, numpy\+scipy, float64, 1 thread each, \d+ cores?, (no JAX|JAX on \S+).* "
        r"(first answer after|answers in) \S+ m?s, round trip \S+ ms \(p95 \S+ ms\), "
        r"\d+ tasks/s, 1 MB both ways in \S+ m?s, clock [+-]0\.\d+ s ± 0\.\d+ s, "
        r"reference fit right ",
        block,
    ), block
    assert "0 fits sent to workers" not in result.stdout.str()
    found = properties(project.path)
    assert found["workers"] == "2"
    assert found["pyhf"] == metadata.version("pyhf")
    assert float(found["round_trip_median_s"]) > 0
    assert float(found["reference_deviation"]) < 1e-3


def test_the_items_come_before_the_fits_of_their_endpoint(project):
    project.pallet(1)
    words = ("--funcx-endpoint", "local:1", "--funcx-endpoint", "local:2", "--collect-only", "-q")
    result = project.run("--pyargs", "pytest_pyhf_faas.suite", *words, suite=False)
    ids = [line.partition("::")[2] for line in result.outlines if "::" in line]
    assert ids == [
        name
        for endpoint in ("local:1", "local:2")
        for name in (
            *(f"test_endpoint_{name}[{endpoint}]" for name in NAMES),
            f"test_walltime[{endpoint}-tiny]",
            f"test_cls[{endpoint}-tiny-sig_100_0]",
        )
    ]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--faas-dry-run"], "dry run: nothing was fitted"),
        (["-n2"], "not measured under pytest-xdist"),
    ],
    ids=["dry run", "xdist"],
)
def test_the_items_are_skipped_with_a_reason(project, words, reason):
    result = project.run(*PREFLIGHT, "-rs", *words, suite=False, pallet=None)
    result.assert_outcomes(skipped=8)
    assert reason in result.stdout.str()
    assert project.starts() == []


def test_one_item_shows_what_is_wrong_and_the_others_refer_to_it(project):
    project.plan(no_workers=True)
    words = ("-rs", "--faas-queue-timeout", "0.3", "-p", "no:cacheprovider")
    result = project.run(*PREFLIGHT, *words, suite=False, pallet=None)
    result.assert_outcomes(passed=1, failed=1, skipped=6)
    project.assert_told(
        result,
        "endpoint local: no worker answered within 0.3 s",
        "its state: blocks: 1 pending",
        "--faas-queue-timeout SECONDS",
        "not measured: test_endpoint_answers failed",
        "not ready: no worker answered within 0.3 s",
        code=1,
    )
    assert project.text(result).count("its state: ") == 1


RUNNING = """
import pytest


@pytest.mark.pallet("tiny", patch="sig_100_0")
def test_fit(hypotest_result):
    pass


def test_preflight(faas_preflight):
    assert False


def test_end():
    assert False


@pytest.mark.pallet("tiny", patch="sig_100_50")
def test_long_fit(hypotest_result):
    pass
"""


def test_fits_that_run_already_are_not_measured_along(project):
    project.pallet(2)
    project.plan(wait_for_fits={"sig_100_50": 3})
    project.own_test(RUNNING)
    result = project.run("-rs", "-x", suite=False)
    result.assert_outcomes(passed=1, skipped=1, failed=1)
    assert "fits run there already" in result.stdout.str()


def test_a_configuration_that_cannot_be_used_is_a_usage_error(project):
    project.real_engines()
    (project.path / "wrong.py").write_text("config = None\n")
    words = ("--funcx-endpoint", "parsl:wrong.py")
    result = project.run(*PREFLIGHT, *words, suite=False, pallet=None)
    project.assert_told(result, "it must be a parsl.Config", code=4)


@pytest.mark.services
def test_the_items_on_a_parsl_endpoint(project):
    project.real_engines()
    endpoint = configuration(project.path)
    result = project.run(*PREFLIGHT, "--funcx-endpoint", endpoint, suite=False, pallet=None)
    result.assert_outcomes(passed=8)
    text = " ".join(line.strip() for line in result.outlines)
    assert (
        "executors: here (HighThroughputExecutor over QuickLocalProvider; at most 1 x 1 node x 1 "
        "worker)"
    ) in text
    assert "1 worker on 1 host (" in text
    assert "export PATH" not in text  # worker_init may hold secrets


def test_where_the_workers_of_parsl_are_set_up(tmp_path):
    endpoint = configuration(tmp_path)
    path = tmp_path / endpoint.partition(":")[2]
    engine = create_engine(f"parsl:{path}", tmp_path)
    assert engine.worker_setup == "worker_init of the provider in here.py"
    assert Path(engine.describe()["endpoint"].partition(":")[2]) == path


def test_the_time_of_an_answer_is_waited_for_but_not_forever(monkeypatch):
    """Whoever waits for a future is woken before its callbacks run, if ever they do."""
    monkeypatch.setattr(waiting, "_CALLBACK_S", 0.05)
    engine = ToyEngine()
    engine.submit = lambda *_args, **_options: Deaf()
    preflight = Preflight(engine, HypotestConfig())
    call = preflight._questions.send(inspection.hold, 0.0)
    assert preflight._questions.value(call, 1.0, "a test") == {"some": "answer"}
    assert 0.05 <= call.seconds < 10.0


class Deaf(Future):
    """Has an answer, and calls nobody back."""

    def __init__(self):
        super().__init__()
        self.set_result({"some": "answer"})

    def add_done_callback(self, function):
        pass
