"""An engine in memory that does what a test tells it, and the toy tasks that it works on."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from concurrent.futures import Future, wait

from pytest_pyhf_faas.campaign.results import FITS, HypotestResult, WorkerEnvironment
from pytest_pyhf_faas.campaign.tasks import HypotestConfig, make_tasks
from pytest_pyhf_faas.engines.base import Engine
from pytest_pyhf_faas.errors import (
    BlockLostError,
    ConfigurationError,
    EngineError,
    RemoteCallError,
    TaskTimeoutError,
    WorkerLostError,
)
from pytest_pyhf_faas.pallets.packing import digest, pack
from pytest_pyhf_faas.pallets.pallet import Packed, Pallet, SignalPatch

#: No test waits longer for anything; who waits so long has failed.
PATIENCE_S = 10.0

ENVIRONMENT = {
    "python": "3.11.7",
    "platform": "Linux x86_64",
    "host": "toy",
    "cpu": "Abacus",
    "backend": "numpy",
    "optimizer": "scipy",
    "threads": {"OMP_NUM_THREADS": "1"},
    "versions": {"pyhf": "0.7.6", "numpy": "2.0.0", "scipy": "1.15.3", "jsonpatch": "1.33"},
}


def toy_pallet(count, name="toy"):
    """A pallet with empty patches, told apart by their names."""
    patches = tuple(
        SignalPatch(
            pallet=name,
            name=f"{name}_{number:03}",
            values=(number, 0.5),
            content=Packed(hashlib.sha256(f"{name} {number}".encode()).hexdigest(), pack([])),
        )
        for number in range(count)
    )
    return Pallet(
        name=name,
        description="a toy",
        labels=("m1", "m2"),
        references={},
        doi=None,
        synthetic=True,
        digest=digest(name),
        background=pack({}),
        patches=patches,
        source="memory",
    )


def toy_tasks(count, name="toy", **config):
    """The tasks of a toy pallet."""
    return make_tasks(toy_pallet(count, name), HypotestConfig(**config))


def toy_result(task, **changes):
    """An ordinary result of a task."""
    values = {
        "key": task.key,
        "pallet": task.pallet.name,
        "patch": task.patch.name,
        "status": "ok",
        "CLs_obs": 0.05,
        "CLs_exp": (0.01, 0.02, 0.04, 0.08, 0.16),
        "mu_hat": 0.25,
        "twice_nll": dict.fromkeys(FITS, 100.0),
        "twice_nll_nearby": dict.fromkeys(FITS, 100.0),
        "twice_nll_asimov_truth": 100.0,
        "twice_nll_off_minimum": 150.0,
        "seconds": {"unpack": 0.001, "build": 0.002, "fit": 0.01},
        "worker": "toy:1",
        "environment": WorkerEnvironment.from_json(ENVIRONMENT),
    }
    return HypotestResult(**{**values, **changes})


def toy_answer(key, *, error=None, fit_s=0.01):
    """What `worker.fit_batch` says about one patch."""
    if error is not None:
        failure = {"type": error, "message": "because", "traceback": ""}
        return {"key": key, "status": "error", "error": failure, "seconds": {}, "warnings": []}
    return {
        "key": key,
        "status": "ok",
        "CLs_obs": 0.05,
        "CLs_exp": [0.01, 0.02, 0.04, 0.08, 0.16],
        "mu_hat": 0.25,
        "twice_nll": dict.fromkeys(FITS, 100.0),
        "twice_nll_nearby": dict.fromkeys(FITS, 100.0),
        "twice_nll_asimov_truth": 100.0,
        "twice_nll_off_minimum": 150.0,
        "seconds": {"unpack": 0.001, "build": 0.002, "fit": fit_s},
        "warnings": [],
    }


class Submission:
    """A batch that the engine was given; the test decides how it ends."""

    def __init__(self, payload, timeout_s):
        self.payload = payload
        self.timeout_s = timeout_s
        self.keys = [patch["key"] for patch in payload["patches"]]
        self.future = Future()
        self.future.set_running_or_notify_cancel()

    def answer(self, *, worker="toy:1", environment=None, errors=None, **timing):
        """End with results; `errors` maps keys to exception types."""
        fit_s = timing.pop("fit_s", 0.01)
        results = [toy_answer(key, error=(errors or {}).get(key), fit_s=fit_s) for key in self.keys]
        total_s = sum(sum(result["seconds"].values()) for result in results)
        timing = {"gap_s": 0.0, "unpack_s": 0.0, "total_s": total_s, **timing}
        timing.setdefault("began_s", time.perf_counter() - timing["total_s"])
        self.future.set_result(
            {"worker": worker, "environment": environment, "results": results, **timing}
        )

    def fail(self, error=None):
        """End with an exception; by default that of a lost worker."""
        self.future.set_exception(error or WorkerLostError("its worker process was killed"))

    def lose_block(self):
        """End as all do whose block is gone."""
        self.fail(BlockLostError("its block is gone"))

    def time_out(self):
        """End as at its time limit."""
        self.fail(TaskTimeoutError(f"it was ended after its time limit of {self.timeout_s} s"))


class ScriptedEngine(Engine):
    """Keeps what it is given until the test ends it.

    Parameters
    ----------
    workers, batch_s : int, float
        As of any engine; so are the attributes that a test may set at any time.
    """

    failure = None
    missing_since = None
    waits_for = remedy = None

    def __init__(self, workers=2, batch_s=0.0):
        self.spec = "scripted"
        self.workers = workers
        self.batch_s = batch_s
        self.submissions = []
        self.starts = self.restarts = self.stops = 0
        self.most_in_flight = 0
        self.started = False
        self.first_answer_at = None
        self.is_broken = False
        self._changed = threading.Condition()

    def start(self):
        if not self.started:
            self.starts += 1
            self.started = True

    @property
    def ready_at(self):
        return self.first_answer_at

    @property
    def broken(self):
        return self.is_broken

    def restart(self):
        self.restarts += 1
        self.is_broken = False
        self.started = True

    def stop(self):
        self.stops += 1
        self.started = False

    def submit(self, function, /, *args, timeout_s=None):
        self.start()
        with self._changed:
            submission = Submission(*args, timeout_s)
            self.submissions.append(submission)
            in_flight = sum(not other.future.done() for other in self.submissions)
            self.most_in_flight = max(self.most_in_flight, in_flight)
            self._changed.notify_all()
        self.took(submission)
        return submission.future

    def took(self, submission):
        """Called with each submission."""

    def wait_for(self, count):
        """Wait until so many batches were submitted, and return the last of them."""
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self.submissions) >= count, PATIENCE_S)
        assert enough, f"only {len(self.submissions)} of {count} batches were submitted"
        return self.submissions[count - 1]

    @property
    def sent(self):
        """The keys that were submitted, in order, as often as they were."""
        return [key for submission in self.submissions for key in submission.keys]


class AutomaticEngine(ScriptedEngine):
    """Follows a script in a thread of its own: one word for each batch, then "ok".

    ok, lost, timeout, memory, error, strange (an exception that no engine should give), refused
    (submitting fails), unusable (the future says that the engine broke), broken (the engine says
    so, the future never ends), held (answered after the next batch, or when nothing else is left),
    late (as broken, and after the restart the old answer arrives all the same), block_lost,
    remote_error, misconfigured, silent (never answered).
    """

    def __init__(self, script=(), workers=2, batch_s=0.0):
        super().__init__(workers, batch_s)
        self.script = deque(script)
        self.words = []
        self._work = deque()
        self._held = []
        self._late = []
        self._ended = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def took(self, submission):
        word = self.script.popleft() if self.script else "ok"
        self.words.append(word)
        if word == "refused":
            raise EngineError("it takes no tasks")
        with self._wake:
            self._work.append((word, submission))
            self._wake.notify_all()

    def restart(self):
        super().restart()
        with self._wake:
            # What was in flight is gone, but for the answers that come too late.
            self._work.clear()
            self._held.clear()
            self._work.extend(("ok", submission) for submission in self._late)
            self._late.clear()
            self._wake.notify_all()

    def end(self):
        """End the thread."""
        with self._wake:
            self._ended = True
            self._wake.notify_all()
        self._thread.join(PATIENCE_S)

    def _run(self):
        while True:
            with self._wake:
                if not self._work and not self._held:
                    self._wake.wait_for(lambda: self._work or self._ended)
                if self._ended:
                    return
                if not self._work:
                    self._wake.wait(0.002)  # something may still overtake what is held
                    released, self._held = ([], self._held) if self._work else (self._held, [])
                    word, submission = self._work.popleft() if self._work else ("none", None)
                else:
                    word, submission = self._work.popleft()
                    released, self._held = (self._held, []) if word != "held" else ([], self._held)
            self._do(word, submission)
            for earlier in released:
                earlier.answer()

    def _do(self, word, submission):
        errors = {"memory": "MemoryError", "error": "pyhf.exceptions.InvalidModel"}
        failures = {
            "lost": WorkerLostError("its worker process was killed"),
            "timeout": TaskTimeoutError("it was ended after its time limit of 3.0 s"),
            "strange": ZeroDivisionError("of the engine"),
            "unusable": EngineError("the pool broke down"),
            "block_lost": BlockLostError("its block is gone"),
            "remote_error": RemoteCallError("a worker failed: ImportError: no pyhf"),
            "misconfigured": ConfigurationError("the Parsl configuration cannot be run"),
        }
        if word == "ok":
            submission.answer()
        elif word in errors:
            submission.answer(errors=dict.fromkeys(submission.keys, errors[word]))
        elif word in failures:
            submission.fail(failures[word])
        elif word == "held":
            with self._wake:
                self._held.append(submission)
        elif word in ("broken", "late"):
            if word == "late":
                with self._wake:
                    self._late.append(submission)
            self.is_broken = True
        else:
            assert word in ("none", "silent"), word


def wait_until(condition, what, patience_s=PATIENCE_S):
    """Wait for something that nobody announces."""
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, f"waited {patience_s} s in vain until {what}"
        time.sleep(0.005)


def wait_for_results(campaign, tasks):
    """Wait for the results of some tasks."""
    futures = [campaign.result(task) for task in tasks]
    _done, waiting = wait(futures, PATIENCE_S)
    assert not waiting, f"{len(waiting)} of {len(tasks)} fits never ended"
    return [future.result() for future in futures]
