"""Is an endpoint ready for fits? What it has, how fast it answers, and whether it is right.

Each measurement is taken once. What it rests on is measured before it, and where that has failed it
is not tried, so that nobody waits twice for an endpoint that does not answer.
"""

from __future__ import annotations

import base64
import concurrent.futures
import hashlib
import math
import random
import re
import time
from dataclasses import dataclass
from functools import wraps
from statistics import median
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.campaign.answers import parse_answer
from pytest_pyhf_faas.campaign.clocks import Clocks
from pytest_pyhf_faas.campaign.results import WorkerEnvironment
from pytest_pyhf_faas.campaign.tasks import (
    CERTIFIED,
    Pool,
    batch_payload,
    make_tasks,
    worker_function,
)
from pytest_pyhf_faas.errors import (
    BlockLostError,
    FaasError,
    NotMeasuredError,
    NotReadyError,
    RemoteCallError,
    TaskTimeoutError,
    WorkerLostError,
)
from pytest_pyhf_faas.pallets import catalogue
from pytest_pyhf_faas.references.cls_values import cls_table
from pytest_pyhf_faas.references.compare import compare
from pytest_pyhf_faas.references.diagnosis import environment_line
from pytest_pyhf_faas.references.store import ReferenceStore, bundled_directory
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import counted, listed
from pytest_pyhf_faas.worker import inspection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pytest_pyhf_faas.campaign.tasks import HypotestConfig, Task
    from pytest_pyhf_faas.engines.base import Engine
    from pytest_pyhf_faas.references.reference import PatchReference

#: The oldest pyhf whose `hypotest` can return its calculator.
OLDEST_PYHF = (0, 7)
ROUND_TRIPS = 20
#: A far endpoint is asked fewer times, but so often at least.
_ROUND_TRIPS_S, _FEWEST_ROUND_TRIPS = 10.0, 5
AT_ONCE = 100
PAYLOAD_CHARACTERS = 1_000_000
#: How long tasks that show how many workers there are occupy them; longer where answers are slow,
#: or where the first look found fewer than there should be.
HOLD_S, LONG_HOLD_S, _LONGEST_HOLD_S = 0.3, 1.0, 2.0
#: So many of them are sent at first where nobody knows how many workers there are, at most, and at
#: most for each worker that was seen.
_FEWEST_TASKS, _MOST_TASKS, _TASKS_EACH = 6, 512, 8
_CLOCK_PROBES = 10
#: Nobody sets a clock by hand for less, and proxies and certificates fail from about here.
CLOCK_OFF_S = 60.0
#: A small task may take so long on a worker, and its answer so much longer to arrive.
_TASK_S, _ARRIVAL_S = 60.0, 60.0
_INSPECTION_S = 300.0
_TICK_S = 0.05
_NAMED_HOSTS = 3
_MILLISECONDS_BELOW_S = 1.0

#: What provides a backend, optimizer or method of pyhf.
_PROVIDED_BY = {
    "jax": "pyhf[jax]",
    "pytorch": "pyhf[torch]",
    "tensorflow": "pyhf[tensorflow]",
    "minuit": "pyhf[minuit]",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one measurement found.

    Attributes
    ----------
    text : str
        For people, without a full stop.
    values : mapping
        Numbers and words, for reports.
    """

    text: str
    values: Mapping[str, str | float | int | bool]


@dataclass(eq=False)
class _Call:
    """A task on its way, with the times at which it left and came back."""

    future: concurrent.futures.Future[Any]
    sent_at: float
    sent: float
    seconds: float = math.nan


@dataclass
class _Clock:
    """The clock of a host: how far it is ahead of this machine's, and how sure that is."""

    offset_s: float
    uncertainty_s: float


def _measurement(
    needs: str | None = None,
) -> Callable[[Callable[[Preflight], Finding]], Callable[[Preflight], Finding]]:
    """Take a measurement once, after the one that it needs."""

    def decorate(measure: Callable[[Preflight], Finding]) -> Callable[[Preflight], Finding]:
        name = measure.__name__

        @wraps(measure)
        def once(self: Preflight) -> Finding:
            if name in self.failures:
                raise self.failures[name]
            if name not in self.findings:
                if needs in self.failures:
                    reason = str(self.failures[needs]).partition("\n")[0]
                    raise NotMeasuredError(f"not measured, because of what failed before: {reason}")
                try:
                    if needs is not None:
                        getattr(self, needs)()
                    self.findings[name] = measure(self)
                except NotMeasuredError:
                    raise
                except FaasError as error:
                    self.failures.setdefault(name, error)
                    raise
            return self.findings[name]

        return once

    return decorate


class Preflight:
    """What is to be known of an endpoint before it is trusted with fits.

    Each method takes one measurement and returns its `Finding`.

    Parameters
    ----------
    engine : Engine
        The engine of the endpoint; started when it is first asked.
    config : HypotestConfig
        How the fits will be done.
    queue_timeout_s, timeout_s : float or None
        How long to wait for a worker, and for a fit on a worker; ``None`` means without limit.
    on_wait : callable
        Called again and again with the seconds that no worker is there, and at the end with
        ``None``.
    clocks : Clocks, optional
        What is learnt of the workers' clocks is added to it.

    Attributes
    ----------
    findings : dict
        What was found, by the name of the method.
    failures : dict
        What went wrong.

    Raises
    ------
    NotReadyError
        By the methods, if the endpoint cannot be used as it is.
    NotMeasuredError
        By the methods, if what they need has failed before.
    """

    def __init__(
        self,
        engine: Engine,
        config: HypotestConfig,
        *,
        queue_timeout_s: float | None = None,
        timeout_s: float | None = None,
        on_wait: Callable[[float | None], None] = lambda _seconds: None,
        clocks: Clocks | None = None,
    ) -> None:
        self.engine = engine
        self.config = config
        self.findings: dict[str, Finding] = {}
        self.failures: dict[str, FaasError] = {}
        self._queue_timeout_s = queue_timeout_s
        self._timeout_s = timeout_s
        self._on_wait = on_wait
        self._clocks: dict[str, _Clock] = {}
        self._worker_clocks = clocks or Clocks()

    # What can be asked

    @_measurement()
    def exists(self) -> Finding:
        """Ask for what is known of the endpoint without any of its workers."""
        try:
            known = self.engine.describe()
        except FaasError as error:
            raise self._not_ready("it cannot be used", str(error)) from error
        told = {name: value for name, value in known.items() if name != "endpoint"}
        return Finding(", ".join(f"{name}: {value}" for name, value in told.items()), dict(known))

    @_measurement(needs="exists")
    def answers(self) -> Finding:
        """Wait for the first answer of a worker."""
        engine = self.engine
        was_ready = engine.ready_at is not None
        asked_at = time.monotonic()
        try:
            engine.start()
            began_at = min(asked_at, engine.missing_since or asked_at)
            call = self._send(inspection.hold, 0.0)
            self._wait_for_a_worker(call)
            self._take_time(call)
        except NotReadyError:
            raise
        except FaasError as error:
            raise self._gone(str(error)) from error
        if was_ready:
            return Finding(f"answers in {_seconds(call.seconds)}", {"first_answer_s": call.seconds})
        seconds = time.monotonic() - began_at
        return Finding(f"first answer after {seconds:.1f} s", {"first_answer_s": seconds})

    @_measurement(needs="answers")
    def environment(self) -> Finding:
        """Look at what a worker would fit with."""
        call = self._send(inspection.inspect, self.config.to_json(), limit_s=_INSPECTION_S)
        found = self._value(call, _INSPECTION_S, "what it would fit with")
        self._check_environment(found)
        environment = WorkerEnvironment.from_json(found)
        versions = {
            **{name: text for name, text in environment.computing.items() if name != "jsonpatch"},
            "pyhf": str(found["pyhf"]),
        }
        threads = _threads(found)
        jax = _jax(found)
        python = f"Python {versions.pop('python')}"
        text = [
            python,
            *(f"{name} {version}" for name, version in versions.items()),
            self.config.fit_setup,
            _float(found),
            threads,
            counted(found["cores"], "core"),
            jax,
        ]
        return Finding(
            ", ".join(text),
            {
                "python": environment.python,
                **versions,
                "fit_setup": self.config.fit_setup,
                "float": _float(found),
                "threads": threads,
                **{name: value or "" for name, value in environment.threads.items()},
                "jax_devices": jax,
                "host": environment.host,
                "cpu": environment.cpu,
                "cores": found["cores"],
            },
        )

    @_measurement(needs="answers")
    def workers(self) -> Finding:
        """Count the workers that take tasks at the same time."""
        engine = self.engine
        call = self._send(inspection.hold, 0.0)
        self._take_time(call)
        hold_s = min(max(HOLD_S, 2 * call.seconds), _LONGEST_HOLD_S)
        found = self._at_work(hold_s, 2 * engine.workers if engine.fixed_workers else _FEWEST_TASKS)
        expected = min(engine.workers, engine.workers_there, _MOST_TASKS // 2)
        if len(found) < expected:
            count = min(2 * expected, _TASKS_EACH * max(1, len(found)))
            found = max(found, self._at_work(max(hold_s, LONG_HOLD_S), count), key=len)
        if engine.fixed_workers and len(found) < min(engine.workers, _MOST_TASKS // 2):
            raise self._not_ready(
                f"only {len(found)} of its {engine.workers} workers take tasks at the same time",
                *self._on_its_side(
                    "look whether the machine is overloaded or kills processes (top, dmesg)"
                ),
                f"on this side: ask for {counted(max(1, len(found)), 'worker')}",
            )
        hosts = sorted({_host(worker) for worker in found})
        more = "at least " if len(found) >= _MOST_TASKS // 2 else ""
        known = engine.workers_known
        of = f" of {engine.workers}" if known and len(found) < engine.workers else ""
        seen = f"{len(found)}{of} workers" if of else counted(len(found), "worker")
        text = f"{more}{seen} on {counted(len(hosts), 'host')}"
        return Finding(
            f"{text} ({listed(hosts, _NAMED_HOSTS)})",
            {
                "workers": len(found),
                **({"workers_configured": engine.workers} if known else {}),
                "hosts": len(hosts),
                "host_names": " ".join(hosts),
            },
        )

    @_measurement(needs="answers")
    def round_trip(self) -> Finding:
        """Time small tasks, one after the other and many at once."""
        began = time.monotonic()
        trips: list[float] = []
        while len(trips) < ROUND_TRIPS and (
            len(trips) < _FEWEST_ROUND_TRIPS or time.monotonic() - began < _ROUND_TRIPS_S
        ):
            call = self._send(inspection.hold, 0.0)
            self._take_time(call)
            trips.append(call.seconds)
        trips.sort()
        middle, slow = median(trips), trips[math.ceil(0.95 * len(trips)) - 1]
        began = time.monotonic()
        self._take_times(self._send(inspection.hold, 0.0) for _ in range(AT_ONCE))
        rate = AT_ONCE / (time.monotonic() - began)
        return Finding(
            f"round trip {_seconds(middle)} (p95 {_seconds(slow)}), {rate:.{_digits(rate)}f} "
            "tasks/s",
            {
                "round_trip_median_s": middle,
                "round_trip_p95_s": slow,
                "round_trips": len(trips),
                "tasks_per_s": rate,
            },
        )

    @_measurement(needs="answers")
    def payload(self) -> Finding:
        """Send a megabyte there and back, and compare."""
        # By chance, so that nothing between here and there makes it much smaller.
        some = random.Random(0).randbytes(PAYLOAD_CHARACTERS * 3 // 4)  # noqa: S311
        text = base64.b64encode(some).decode()
        digest = hashlib.sha256(text.encode()).hexdigest()
        call = self._send(inspection.echo, text)
        answer = self._value(call, _TASK_S, "a megabyte")
        for arrived, how in (
            (answer["sha256"], "what was sent to a worker did not arrive there as it was"),
            (
                hashlib.sha256(answer["text"].encode()).hexdigest(),
                "what a worker sent did not arrive here as it was",
            ),
        ):
            if arrived != digest:
                raise self._not_ready(
                    f"of a megabyte, {how} (SHA-256 {arrived[:12]}..., not {digest[:12]}...)",
                    "on both sides: look at what lies between, such as a proxy, a full disk or a "
                    "store of messages; results cannot be trusted as long as this happens",
                )
        rate = 2 * PAYLOAD_CHARACTERS / 1e6 / call.seconds
        return Finding(
            f"1 MB both ways in {_seconds(call.seconds)}",
            {"payload_s": call.seconds, "payload_mb_per_s": rate},
        )

    @_measurement(needs="answers")
    def clock(self) -> Finding:
        """Compare the clocks of all hosts that have answered with this machine's."""
        if "round_trip" not in self.findings:  # clocks are known by all answers
            for _ in range(_CLOCK_PROBES):
                self._take_time(self._send(inspection.hold, 0.0))
        if "workers" not in self.findings:  # and so are hosts
            count = min(4 * max(self.engine.workers, self.engine.workers_there), AT_ONCE)
            self._take_times([self._send(inspection.hold, 0.0) for _ in range(count)])
        host, worst = max(self._clocks.items(), key=lambda item: abs(item[1].offset_s))
        many = len(self._clocks) > 1
        text = f"{worst.offset_s:+.3f} s ± {_uncertainty(worst.uncertainty_s)}"
        if abs(worst.offset_s) - worst.uncertainty_s > CLOCK_OFF_S:
            side = "ahead of" if worst.offset_s > 0 else "behind"
            raise self._not_ready(
                f"the clock of {host} is {abs(worst.offset_s):.0f} s "
                f"(± {_uncertainty(worst.uncertainty_s)}) {side} this machine's",
                f"on the side of the workers: set the clock of {host} (NTP: timedatectl, chronyc)",
                "on this side: if the clock of the workers is right, set this machine's",
            )
        return Finding(
            f"clocks of {len(self._clocks)} hosts at most {text} off ({host})"
            if many
            else f"clock {text}",
            {
                "clock_offset_s": worst.offset_s,
                "clock_uncertainty_s": worst.uncertainty_s,
                "clock_host": host,
            },
        )

    @_measurement(needs="environment")
    def reference_fit(self) -> Finding:
        """Do the quickest fit of the bundled pallet, and hold it against its reference."""
        task, reference = _quickest(self.config)
        payload = batch_payload([task])
        call = self._send(worker_function(self.config), payload, limit_s=self._timeout_s)
        answer = self._value(call, self._timeout_s, f"the fit of {task.patch.name}")
        try:
            result = parse_answer(answer, [task]).results[task.key]
        except RemoteCallError as error:
            raise self._not_ready(
                f"the fit of {task.patch.name} of the bundled pallet broke: {error}",
                *self._on_its_side("see what answers in the place of its workers"),
            ) from error
        if result.error is not None:
            raise self._not_ready(
                f"the fit of {task.patch.name} of the bundled pallet broke",
                f"{result.error.type}: {result.error.first_line}",
                *self._on_its_side("see what pyhf and its libraries are", _pip("pyhf")),
            )
        comparison = compare(result, reference, fit_setup=self.config.fit_setup)
        if comparison.verdict is not Verdict.RIGHT:
            versions = environment_line(result, reference)
            raise self._not_ready(
                f"a fit of the bundled pallet is wrong: {comparison.title}",
                *cls_table(comparison.rows),
                *comparison.explanation.splitlines(),
                *([versions] if versions else []),
                *self._on_its_side("have versions that are known to be right"),
                "on this side: try another --faas-backend or --faas-optimizer",
            )
        exact = all(_digits_of_file(row.obtained) == row.reference for row in comparison.rows)
        deviation = max(abs(row.relative) for row in comparison.rows)
        return Finding(
            "reference fit right to the last digit"
            if exact
            else f"reference fit right within {deviation:.1e}",
            {
                "reference_patch": task.patch.name,
                "reference_deviation": deviation,
                "reference_exact": exact,
                "reference_fit_s": result.seconds["fit"],
            },
        )

    # Tasks

    def _send(
        self, function: Callable[..., Any], *args: Any, limit_s: float | None = _TASK_S
    ) -> _Call:
        sent_at, sent = time.time(), time.monotonic()
        try:
            future = self.engine.submit(function, *args, timeout_s=limit_s)
        except RemoteCallError as error:  # such as for its size; other tasks may pass
            raise self._not_ready(f"it does not take a task: {error}") from error
        except FaasError as error:
            raise self._lost(self._gone(str(error))) from error
        call = _Call(future, sent_at, sent)

        def arrived(_future: object) -> None:
            call.seconds = time.monotonic() - sent

        future.add_done_callback(arrived)
        return call

    def _value(self, call: _Call, limit_s: float | None, what: str) -> Any:
        """Return the answer to a task, once workers are known to answer."""
        patience_s = math.inf if limit_s is None else limit_s + _ARRIVAL_S
        while not self._done(call):
            waited_s = time.monotonic() - call.sent
            if waited_s > patience_s:
                raise self._lost(
                    self._not_ready(
                        f"no answer within {waited_s:.0f} s, where others came before ({what})",
                        *self._state(),
                    )
                )
        try:
            answer = call.future.result()
        except TaskTimeoutError as error:
            raise self._not_ready(
                f"a worker did not finish within {limit_s:g} s ({what})",
                *self._on_its_side("look whether its machine is overloaded"),
            ) from error
        except (WorkerLostError, BlockLostError) as error:
            raise self._not_ready(
                f"a worker died ({what}): {error}",
                *self._on_its_side("look at its memory and its logs"),
            ) from error
        except RemoteCallError as error:
            raise self._not_ready(
                f"a worker could not do it ({what}): {error}",
                *self._on_its_side("have Python 3.10 or newer, and pyhf", _pip("pyhf")),
            ) from error
        except FaasError as error:
            raise self._lost(self._gone(str(error))) from error
        _wait_for_callbacks(call)
        return answer

    def _done(self, call: _Call) -> bool:
        """Wait for a moment; an engine that broke down may never end its tasks."""
        if concurrent.futures.wait([call.future], timeout=_TICK_S).done:
            return True
        if self.engine.broken:
            raise self._lost(self._gone(self.engine.failure or "it broke down"))
        return False

    def _wait_for_a_worker(self, call: _Call) -> None:
        limit_s = self._queue_timeout_s
        try:
            while not self._done(call):
                waited_s = time.monotonic() - call.sent
                self._on_wait(waited_s)
                if limit_s is not None and waited_s > limit_s:
                    raise self._not_ready(
                        f"no worker answered within {limit_s:g} s", *self._state()
                    )
        finally:
            self._on_wait(None)

    def _take_time(self, call: _Call) -> dict[str, Any]:
        """Learn of a host's clock from an answer to `inspection.hold`, as NTP does."""
        answer: dict[str, Any] = self._value(call, _TASK_S, "a small task")
        arrived_at = call.sent_at + call.seconds
        before, after = answer["began"] - call.sent_at, answer["ended"] - arrived_at
        on_the_way = call.seconds - (answer["ended"] - answer["began"])
        clock = _Clock((before + after) / 2, max(on_the_way, 0.0) / 2)
        self._worker_clocks.observe(
            answer["worker"],
            sent_at=call.sent,
            began_s=answer["began_s"],
            ended_s=answer["ended_s"],
            received_at=call.sent + call.seconds,
        )
        known = self._clocks.get(answer["host"])
        if known is None or clock.uncertainty_s < known.uncertainty_s:
            self._clocks[answer["host"]] = clock
        return answer

    def _take_times(self, calls: Iterable[_Call]) -> list[dict[str, Any]]:
        return [self._take_time(call) for call in list(calls)]

    def _at_work(self, hold_s: float, count: int) -> set[str]:
        """Return the workers that were at work in one moment, the one with the most of them."""
        while True:
            count = min(count, _MOST_TASKS)
            calls = [self._send(inspection.hold, hold_s) for _ in range(count)]
            found = self._most_at_once(self._take_times(calls))
            # Where each worker had two tasks, no other can have gone without.
            if 2 * len(found) <= count or count == _MOST_TASKS:
                return found
            count *= 2

    def _most_at_once(self, answers: Sequence[Mapping[str, Any]]) -> set[str]:
        """Return the largest set of workers whose tasks overlap, by this machine's clock."""
        changes: list[tuple[float, int, str]] = []
        for answer in answers:
            ahead_s = self._clocks[answer["host"]].offset_s
            changes.append((answer["began"] - ahead_s, 1, answer["worker"]))
            changes.append((answer["ended"] - ahead_s, -1, answer["worker"]))
        tasks: dict[str, int] = {}
        most: set[str] = set()
        for _when, change, worker in sorted(changes):
            tasks[worker] = tasks.get(worker, 0) + change
            if not tasks[worker]:
                del tasks[worker]
            elif len(tasks) > len(most):
                most = set(tasks)
        return most

    # What is wrong

    def _not_ready(self, what: str, *lines: str) -> NotReadyError:
        text = [f"endpoint {self.engine.spec}: {what}", *(f"  {line}" for line in lines)]
        return NotReadyError("\n".join(text))

    def _lost(self, error: NotReadyError) -> NotReadyError:
        """Remember that nothing more will come."""
        self.failures.setdefault("answers", error)
        return error

    def _gone(self, why: str) -> NotReadyError:
        return self._not_ready(
            f"it is gone: {why}",
            *self._on_its_side("look at its logs, and start it by hand to see what it says"),
        )

    def _state(self) -> list[str]:
        """Say why no answer comes, and what to do."""
        engine = self.engine
        if engine.failure is not None:
            return [f"it is gone: {engine.failure}", *self._on_its_side("look at its logs")]
        if engine.waits_for is not None:
            return [
                f"it is pending: {engine.waits_for}",
                "on this side: wait longer with --faas-queue-timeout SECONDS (0: without limit)",
                *self._on_its_side("look at its queue, and at what its start says"),
            ]
        return [
            f"it says that it has {counted(engine.workers_there, 'worker')}, which do not answer",
            *self._on_its_side("look whether they hang or wait for something, and at their logs"),
        ]

    def _on_its_side(self, what: str, command: str = "") -> list[str]:
        """Say what to do where the workers run."""
        line = f"on the side of the workers (set up in {self.engine.worker_setup}): {what}"
        return [line, f"  {command}"] if command else [line]

    def _check_environment(self, found: Mapping[str, Any]) -> None:
        python = f"its Python {found['python']} on {found['host']} is {found['executable']}"
        needed = f"pyhf>={_dotted(OLDEST_PYHF)}"
        problem = found["problem"]
        if problem is not None and problem["what"] == "pyhf":
            raise self._not_ready(
                "its workers cannot import pyhf",
                problem["message"],
                python,
                *self._on_its_side("install it", _pip(needed)),
            )
        if _version(found["pyhf"]) < OLDEST_PYHF:
            raise self._not_ready(
                f"its workers have pyhf {found['pyhf']}, which is too old",
                python,
                *self._on_its_side("upgrade it", _pip("--upgrade", needed)),
            )
        if self.config.method == CERTIFIED:
            return  # backend and optimizer have no part in it
        if problem is not None:
            names = (self.config.backend, self.config.optimizer)
            extras = [_PROVIDED_BY[name] for name in names if name in _PROVIDED_BY]
            raise self._not_ready(
                f"its workers cannot use {self.config.fit_setup}",
                problem["message"],
                python,
                *self._on_its_side("install what it needs", _pip(*(extras or [needed]))),
                "on this side: or choose another --faas-backend or --faas-optimizer",
            )
        if "64" not in str(found["float"]):
            raise self._not_ready(
                f"its workers compute with {_float(found)}, and fits need float64",
                python,
                *self._on_its_side("look for settings of the backend, such as JAX_ENABLE_X64"),
            )


def _quickest(config: HypotestConfig) -> tuple[Task, PatchReference]:
    """Return the quickest fit of the bundled pallet that is right with a configuration."""
    store = ReferenceStore([bundled_directory()], bundled_directory())
    found: list[tuple[float, Task, PatchReference]] = []
    bundled = catalogue.bundled()
    certified = config.method == CERTIFIED
    pool = Pool((store.pool(bundled, config) if certified else None) or ())
    for task in make_tasks(bundled, config, pool=pool):
        reference = store.find(task)
        if not reference or reference.error is not None:
            continue
        expected_s = reference.expected_s(config.fit_setup)
        if expected_s is not None and config.fit_setup not in reference.known_issues:
            found.append((expected_s, task, reference))
    if not found:
        raise NotReadyError(
            f"the bundled pallet has no reference for {config.fit_setup}: this installation of "
            "pytest-pyhf-faas is not complete; install it again"
        )
    _expected_s, task, reference = min(found, key=lambda entry: entry[0])
    return task, reference


def _wait_for_callbacks(call: _Call) -> None:
    """Wait until the time of an arrival is noted: those who wait are woken before callbacks run."""
    while math.isnan(call.seconds):
        time.sleep(0)


def _host(worker: str) -> str:
    return worker.rpartition(":")[0]


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _pip(*words: str) -> str:
    quoted = (f"'{word}'" if re.search(r"[^\w-]", word) else word for word in words)
    return f"python -m pip install {' '.join(quoted)}"


def _float(found: Mapping[str, Any]) -> str:
    """Return the name of a type without its library: ``<dtype: 'float64'>``, ``torch.float64``."""
    match = re.search(r"float\d+", str(found["float"]))
    return match[0] if match else str(found["float"])


def _threads(found: Mapping[str, Any]) -> str:
    limits = found["threads"]
    if found["blas_threads"]:
        count = str(max(found["blas_threads"]))
    else:
        count = limits.get("OMP_NUM_THREADS") or ""
    if not count:
        return "threads not limited"
    return f"{count} thread{'' if count == '1' else 's'} each"


def _jax(found: Mapping[str, Any]) -> str:
    jax = found["jax"]
    if jax is None:
        return "no JAX"
    if "problem" in jax:
        return f"JAX without a device ({jax['problem']})"
    if jax["platform"] == "cpu":
        return "JAX on cpu"
    return f"JAX on {jax['platform']} ({jax['count']} x {', '.join(jax['kinds'])})"


def _seconds(seconds: float) -> str:
    if seconds < _MILLISECONDS_BELOW_S:
        return f"{seconds * 1e3:.{_digits(seconds * 1e3)}f} ms"
    return f"{seconds:.1f} s"


def _uncertainty(seconds: float) -> str:
    """Round up, so that nothing is surer than it is."""
    return f"{math.ceil(seconds * 1e3) / 1e3:.3f} s"


def _digits(value: float) -> int:
    return 0 if value >= 10 else 1  # noqa: PLR2004


def _digits_of_file(value: float) -> float:
    """Round a value as reference files do."""
    return float(f"{value:.12g}")
