"""An engine that answers without pyhf, for the pytest runs inside the tests.

What it does stands in ``fake.json`` in the directory of the inner run (see `Plan`); each fit that
it is asked for is one line of ``fits.log``, and each start of its workers one of ``starts.log``, so
that they can be counted over all processes of a run.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import threading
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from pytest_pyhf_faas.campaign import journal
from pytest_pyhf_faas.campaign.results import FITS
from pytest_pyhf_faas.engines.base import Engine
from pytest_pyhf_faas.errors import (
    BlockLostError,
    EngineError,
    RemoteCallError,
    TaskTimeoutError,
    WorkerLostError,
)
from pytest_pyhf_faas.session import campaigns

HOST = "fakehost"
VERSIONS = {"pyhf": "0.7.6", "numpy": "2.0.0", "scipy": "1.16.0", "jsonpatch": "1.33"}
PYTHON = "3.11.0"
FIT_S = 0.0001
FITTING = ("fit_batch", "certify_batch", "limit_batch", "toys_batch")


@dataclass
class Plan:
    """What the engine does; patches are named without the pallet.

    Attributes
    ----------
    blocks
        Of how many blocks the workers say they are; 0: they do not say it.
    seen
        How many workers answer, in turn: by default those of ``local:N``, else ``workers``.
    lose
        How often the worker dies in the fit of a patch; -1 means always.
    says
        What is said of a worker that died.
    block_says
        What is said of its block, if that is what is lost.
    timeout
        Patches whose fits never end in time.
    errors
        Type and message of the exception that is a patch's answer.
    answers
        Fields that replace those of the canned answer of a patch.
    breakdowns
        How often the engine as a whole refuses a fit; -1 means always.
    kill
        A patch in whose first fit this process ends with `signal`, once ``kill_after`` results are
        in the journal, and ``kill_after_accepted`` references.
    wait_for_fits
        A patch whose fit lasts until so many fits have begun, or the engine is stopped (which
        ``stopped.log`` then tells).
    journal_full
        Whether the disk is full on which the journal lies.
    no_workers
        Whether its block never starts.
    fit_takes_s
        How long each fit lasts, whatever its answer says.
    loses_tasks
        Whether it may lose tasks, which outlive a session: those that were sent lie in files
        ``sent-N.json``, and what is collected of them stands in ``collected.log``.
    """

    workers: int = 2
    blocks: int = 0
    seen: int | None = None
    batch_s: float = 0.0
    lose: dict[str, int] = field(default_factory=dict)
    says: str = "its worker process was killed (signal 9)"
    block_says: str = ""
    timeout: list[str] = field(default_factory=list)
    errors: dict[str, list[str]] = field(default_factory=dict)
    answers: dict[str, dict] = field(default_factory=dict)
    failed_toys: int = 0
    breakdowns: int = 0
    kill: str | None = None
    kill_after: int = 0
    kill_after_accepted: int = 0
    signal: int = int(signal.SIGKILL)
    wait_for_fits: dict[str, int] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=lambda: dict(VERSIONS))
    journal_full: bool = False
    no_workers: bool = False
    fit_takes_s: float = 0.0
    loses_tasks: bool = False

    @classmethod
    def read(cls):
        path = Path("fake.json")
        return cls(**json.loads(path.read_text())) if path.is_file() else cls()

    def write(self, directory):
        (directory / "fake.json").write_text(json.dumps(asdict(self)))


def install(config):
    """Replace the engines of an inner run, until it ends."""
    patch = pytest.MonkeyPatch()
    plan = Plan.read()
    patch.setattr(campaigns, "create_engine", lambda spec, _directory, **_: FakeEngine(spec, plan))
    if plan.journal_full:
        patch.setattr(campaigns.journals, "Journal", FullJournal)
    config.add_cleanup(patch.undo)


class FullJournal(journal.Journal):
    def __init__(self, path):
        super().__init__(path)
        self._file.close()
        self._file = Path("/dev/full").open("a")  # noqa: SIM115 - closed by the journal


def canned(name):
    """Return the answer of a patch: values that depend on its name alone."""
    share = int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) / 16**8
    observed = 0.01 + 0.8 * share
    return {
        "CLs_obs": observed,
        "CLs_exp": [observed * factor for factor in (0.2, 0.5, 0.8, 1.0, 1.1)],
        "mu_hat": share,
        "twice_nll": {fit: 10.0 + number for number, fit in enumerate(FITS)},
        "twice_nll_nearby": {fit: 10.0 + number for number, fit in enumerate(FITS)},
        "twice_nll_asimov_truth": 13.0,
        "twice_nll_off_minimum": 20.0 + share,
    }


def certificate(*, thorough=True, **changes):
    """Return what certified fits add: the nominal minima are the lowest, three of four starts."""
    how = {"starts": 4, "reached": 3, "random": 2, "reached_at_random": 1, "unseen": 0.5}
    if not thorough:
        how |= {"starts": 2, "random": 1}
    return {
        "certificate": {
            "distance": 1e-12,
            "nominal": None,
            "differences": [],
            "minima": {},
            "search": {fit: dict(how) for fit in FITS if fit != "free_fit_to_asimov"},
            "new": [],
            "helpful": {},
            **changes,
        },
        "rounding": 1e-9,
        "twice_nll_nearby": {},
    }


def nominal_minima(name, **raised):
    """Return what a certificate says of nominal minima that are others than the lowest."""
    lowest = canned(name)
    values = {part: lowest[part] for part in ("CLs_obs", "CLs_exp", "mu_hat")}
    values |= {part: raised.pop(part) for part in list(values) if part in raised}
    fits = {fit: value + raised.get(fit, 0.0) for fit, value in lowest["twice_nll"].items()}
    differences = [
        {
            "fit": fit,
            "gap": gap,
            "parameters": [{"name": "mu_W", "nominal": 1.02, "lowest": 0.0}],
            "at_bound": ["mu_W"],
        }
        for fit, gap in raised.items()
    ]
    return {"nominal": {**values, "twice_nll": fits}, "differences": differences}


def environment(versions, config=None):
    config = config or {"backend": None, "optimizer": None}
    if config.get("method") == "certified":
        config = {"backend": None, "optimizer": "certified"}
    return {
        "python": PYTHON,
        "platform": "Fake 1",
        "host": HOST,
        "pid": os.getpid(),
        "cpu": "fake cpu",
        "backend": config["backend"],
        "optimizer": config["optimizer"],
        "threads": {},
        "versions": versions,
    }


def patch_name(data):
    operations = json.loads(zlib.decompress(base64.b64decode(data)))
    return operations[0]["value"]["name"].removeprefix("signal_")


def log(name, text):
    with Path(name).open("a") as file:
        file.write(text + "\n")


class FakeEngine(Engine):
    def __init__(self, spec, plan):
        self.spec = spec
        self.plan = plan
        self.workers = plan.workers
        self.batch_s = plan.batch_s
        self.loses_tasks = plan.loses_tasks
        self.losses = dict(plan.lose)
        self.breakdowns = plan.breakdowns
        count = spec.partition(":")[2]
        self._seen = plan.seen or (int(count) if count.isdigit() else plan.workers)
        self._answers = 0
        # A fit may end after its test, when this process is elsewhere.
        self._stopped_log = Path("stopped.log").absolute()
        self._pool = None
        self._ready_at = self._missing_since = None
        self._stopped = threading.Event()
        self._waiting = set()
        self._lock = threading.Lock()

    def start(self):
        with self._lock:
            if self._pool is None:
                log("starts.log", self.spec)
                self._stopped = threading.Event()
                self._pool = ThreadPoolExecutor(self.workers)
                now = time.monotonic()
                self._missing_since = now if self.plan.no_workers else None
                self._ready_at = None if self.plan.no_workers else now

    @property
    def ready_at(self):
        return self._ready_at

    @property
    def missing_since(self):
        return self._missing_since

    @property
    def waits_for(self):
        return "blocks: 1 pending" if self._missing_since is not None else None

    @property
    def remedy(self):
        return "look at the queue" if self._missing_since is not None else None

    @property
    def broken(self):
        return False

    def restart(self):
        self.stop()
        self.start()

    def stop(self):
        with self._lock:
            pool, self._pool = self._pool, None
            waiting, self._waiting = self._waiting, set()
        self._stopped.set()
        for future in waiting:
            future.set_exception(EngineError("the fake engine was stopped"))
        if pool is not None:
            pool.shutdown(wait=False, cancel_futures=True)

    def submit(self, function, /, *args, timeout_s=None):
        self.start()
        future = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            self._waiting.add(future)
        if self.plan.no_workers:
            return future
        self._pool.submit(self._run, future, self._stopped, function, args, timeout_s)
        if self.loses_tasks and function.__name__ in FITTING:
            path = Path(f"sent-{len(list(Path().glob('sent-*.json')))}.json")
            path.write_text(json.dumps([function.__name__, args]))
            self.on_accepted(future, f"fake/{path}")
        return future

    def collect(self, reference):
        if not self.loses_tasks:
            return super().collect(reference)
        path = Path(reference.removeprefix("fake/"))
        if not path.exists():
            raise RemoteCallError(f"nothing is known of {reference}")
        function, (batch,) = json.loads(path.read_text())
        future = Future()
        future.set_result(self._fit_batch(self._stopped, None, function, batch, "collected.log"))
        return future

    def _run(self, future, stopped, function, args, timeout_s):
        try:
            if function.__name__ in FITTING:
                answer = self._fit_batch(stopped, timeout_s, function.__name__, *args)
            elif function.__name__ == "probe_environment":
                answer = environment(self.plan.versions)
            else:
                answer = function(*args)
        except Exception as error:  # noqa: BLE001 - it is the answer
            if self._takes(future):
                future.set_exception(error)
        else:
            if self._takes(future):
                future.set_result(answer)

    def _takes(self, future):
        """Whether somebody still waits for an answer."""
        with self._lock:
            if future not in self._waiting:
                return False  # it ended with the engine
            self._waiting.remove(future)
            return True

    def ping(self):
        return self.submit(bool) if self.loses_tasks else super().ping()

    def _fit_batch(self, stopped, timeout_s, function, batch, log_file="fits.log"):
        certified = batch["config"]["method"] == "certified"
        quantity = batch["config"]["quantity"]
        usual = "certify_batch" if certified else "fit_batch"
        assert function == (usual if quantity == "cls" else f"{quantity}_batch")
        effort = batch["config"]["effort"] if certified else None
        with self._lock:
            if self.breakdowns:
                self.breakdowns -= 1
                raise EngineError("the fake engine is out of order")
        how = json.dumps({**batch["config"], "timeout_s": timeout_s})
        names = [patch_name(patch["data"]) for patch in batch["patches"]]
        for name in names:
            log(log_file, f"{self.spec} {name} {how}")
        with self._lock:
            self._answers += 1
            number = self._answers % self._seen
        return {
            "worker": f"{HOST}:{os.getpid()}" + (f".{number}" if number else ""),
            "block": str(number % self.plan.blocks) if self.plan.blocks else None,
            "environment": environment(self.plan.versions, batch["config"]),
            "began_s": time.perf_counter() - FIT_S,
            "gap_s": None,
            "unpack_s": 0.0,
            "total_s": FIT_S,
            "results": [
                {
                    **_beside_cls(quantity, name, patch, self.plan.failed_toys),
                    **self._fit(name, stopped, timeout_s, effort),
                    "key": patch["key"],
                }
                for name, patch in zip(names, batch["patches"], strict=True)
            ],
        }

    def _fit(self, name, stopped, timeout_s, effort):
        plan = self.plan
        time.sleep(plan.fit_takes_s)
        if name == plan.kill:
            self._kill()
        if name in plan.wait_for_fits:
            count = plan.wait_for_fits[name]
            if not wait_until(lambda: stopped.is_set() or begun() >= count):
                raise WorkerLostError(f"{begun()} of {count} fits have begun")
            if stopped.is_set():
                log(self._stopped_log, name)
        with self._lock:
            if self.losses.get(name):
                self.losses[name] -= 1
                if plan.block_says:
                    raise BlockLostError(plan.block_says)
                raise WorkerLostError(plan.says)
        if name in plan.timeout:
            raise TaskTimeoutError(f"it was ended after its time limit of {timeout_s} s")
        if name in plan.errors:
            kind, message = plan.errors[name]
            error = {"type": kind, "message": message, "traceback": f"...\n{kind}: {message}"}
            return {"status": "error", "error": error, "seconds": {}}
        seconds = {"unpack": 0.0, "build": 0.0, "fit": FIT_S}
        answer = {**canned(name), **(certificate(thorough=effort == "thorough") if effort else {})}
        return {**answer, "status": "ok", "seconds": seconds, **plan.answers.get(name, {})}

    def _kill(self):
        """End this process as the plan says, but only the first that comes here."""
        try:
            os.close(os.open("killed", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        plan = self.plan
        wait_until(
            lambda: (
                count("result") >= plan.kill_after and count("accepted") >= plan.kill_after_accepted
            )
        )
        os.kill(os.getpid(), plan.signal)
        time.sleep(3.0)  # whoever survives it looks at it while this fit still runs


def _beside_cls(quantity, name, patch, failed_toys):
    """Return what is asked for beside CLs; it has nothing to do with the model."""
    observed = canned(name)["CLs_obs"]
    if quantity == "limit":
        expected = [observed * factor for factor in (5, 7, 10, 14, 19)]
        return {"limits": {"observed": observed * 11, "expected": expected, "tests": 30}}
    if quantity == "toys":
        first, count = patch["toys"]
        numbers = range(first, first + count)
        return {
            "toys": {
                "observed": 1.5,
                "signal": [
                    "nan" if number < failed_toys else 7.0 * (number % 97) / 97
                    for number in numbers
                ],
                "background": [9.0 * (number % 89) / 89 for number in numbers],
            }
        }
    return {}


def wait_until(condition, limit_s=20):
    """Wait for what other threads and processes do; return whether it came."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def begun():
    """Return how many fits have begun in this run."""
    return len(Path("fits.log").read_text().splitlines())


def count(event):
    """Return how many events of a kind the journals of this project hold."""
    journals = Path().glob(".pytest_cache/d/pyhf-faas/*.jsonl")
    return sum(path.read_text().count(f'"event": "{event}"') for path in journals)
