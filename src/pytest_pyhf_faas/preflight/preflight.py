"""Is an endpoint ready for fits? What it has, how fast it answers, and if its results are right.

Each measurement is taken once. What it depends on is measured before it; if that failed, it
is skipped, so that an unresponsive endpoint is waited for only once.
"""

from __future__ import annotations

import base64
import hashlib
import math
import random
import time
from statistics import median
from typing import TYPE_CHECKING

from pytest_pyhf_faas.advice import Advice, advice_on
from pytest_pyhf_faas.campaign.answers import parse_answer
from pytest_pyhf_faas.campaign.clocks import Clocks
from pytest_pyhf_faas.campaign.results import WorkerEnvironment
from pytest_pyhf_faas.campaign.tasks import (
    batch_payload,
    worker_function,
)
from pytest_pyhf_faas.errors import (
    FaasError,
    NotReadyError,
    RemoteCallError,
    WrongFitError,
)
from pytest_pyhf_faas.preflight import waiting, words
from pytest_pyhf_faas.preflight.measurement import Finding, measurement
from pytest_pyhf_faas.preflight.quickest_fit import quickest_fit
from pytest_pyhf_faas.preflight.remedies import Remedies
from pytest_pyhf_faas.preflight.waiting import MOST_TASKS, Questions
from pytest_pyhf_faas.preflight.words import digits, host, in_seconds, uncertainty
from pytest_pyhf_faas.references.cls_values import cls_table
from pytest_pyhf_faas.references.compare import compare
from pytest_pyhf_faas.references.diagnosis import environment_line
from pytest_pyhf_faas.verdicts import Verdict
from pytest_pyhf_faas.wording import counted, listed
from pytest_pyhf_faas.worker import inspection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pytest_pyhf_faas.campaign.requirements import Requirement
    from pytest_pyhf_faas.campaign.tasks import HypotestConfig
    from pytest_pyhf_faas.engines.base import Engine

ROUND_TRIPS = 20
#: A slow endpoint is asked fewer times, but at least this often.
_ROUND_TRIPS_S, _FEWEST_ROUND_TRIPS = 10.0, 5
AT_ONCE = 100
PAYLOAD_CHARACTERS = 1_000_000
#: How long tasks that show how many workers there are occupy them; longer where answers are slow,
#: or if the first attempt found fewer than there should be.
HOLD_S, LONG_HOLD_S, _LONGEST_HOLD_S = 0.3, 1.0, 2.0
#: How many of them are sent at first if the number of workers is unknown, and at most for
#: each worker that was seen.
_FEWEST_TASKS, _TASKS_EACH = 6, 8
_CLOCK_PROBES = 10
#: Smaller offsets are harmless; proxies and certificates fail from about here.
CLOCK_OFF_S = 60.0
_INSPECTION_S = 300.0
#: What to do about an unknown exception.
_SEE_VERSIONS = Advice(there="see which versions of pyhf and of its libraries it has")
_NAMED_HOSTS = 3
#: If one of these failed, no fit can be done or trusted.
_NEEDED = ("exists", "answers", "environment", "payload", "reference_fit")


class Preflight:
    """The measurements of an endpoint before it is trusted with fits.

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
    requirements : sequence of Requirement
        What workers must have.
    clocks : Clocks, optional
        Measured offsets of the workers' clocks are added to it.

    Attributes
    ----------
    findings : dict
        What was found, by the name of the method.
    failures : dict
        What went wrong.
    measures : str or None
        The measurement that is being taken.

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
        requirements: Sequence[Requirement] = (),
        clocks: Clocks | None = None,
    ) -> None:
        self.engine = engine
        self.config = config
        self.findings: dict[str, Finding] = {}
        self.failures: dict[str, FaasError] = {}
        self.measures: str | None = None
        self._requirements = requirements
        self._timeout_s = timeout_s
        self._remedies = Remedies(engine)
        self._questions = Questions(
            engine,
            self._remedies,
            queue_timeout_s=queue_timeout_s,
            on_wait=on_wait,
            on_lost=self._lost,
            worker_clocks=clocks or Clocks(),
        )

    def _lost(self, error: NotReadyError) -> None:
        """Remember that nothing more will come."""
        self.failures.setdefault("answers", error)

    @property
    def obstacle(self) -> str | None:
        """The measurement that found that no fit can be done there; ``None`` if none did.

        Fits that may be wrong or slow can be done.
        """
        for name in _NEEDED:
            error = self.failures.get(name)
            if error is not None and not isinstance(error, WrongFitError):
                return name
        return None

    # The measurements

    @measurement()
    def exists(self) -> Finding:
        """Ask what is known about the endpoint without its workers."""
        try:
            known = self._questions.describe()
        except FaasError as error:
            raise self._remedies.not_ready("it cannot be used", str(error)) from error
        facts = {name: value for name, value in known.items() if name != "endpoint"}
        return Finding(", ".join(f"{name}: {value}" for name, value in facts.items()), dict(known))

    @measurement(needs="exists")
    def answers(self) -> Finding:
        """Wait for the first answer of a worker."""
        engine = self.engine
        was_ready = engine.ready_at is not None
        asked_at = time.monotonic()
        try:
            engine.start()
            began_at = min(asked_at, engine.missing_since or asked_at)
            call = self._questions.send(inspection.hold, 0.0)
            self._questions.wait_for_a_worker(call)
            self._questions.take_time(call)
        except NotReadyError:
            raise
        except FaasError as error:
            raise self._remedies.gone(error) from error
        if was_ready:
            return Finding(
                f"answers in {in_seconds(call.seconds)}", {"first_answer_s": call.seconds}
            )
        seconds = time.monotonic() - began_at
        return Finding(f"first answer after {seconds:.1f} s", {"first_answer_s": seconds})

    @measurement(needs="answers")
    def environment(self) -> Finding:
        """Inspect what a worker would fit with."""
        call = self._questions.send(
            inspection.inspect, self.config.to_json(), limit_s=_INSPECTION_S
        )
        found = self._questions.value(call, _INSPECTION_S, "what it would fit with")
        self._remedies.check_environment(found, self.config)
        environment = WorkerEnvironment.from_json(found)
        if self._requirements:
            count = min(2 * max(self.engine.workers_there, _FEWEST_TASKS), MOST_TASKS)
            workers = self._questions.environments(self.config.to_json(), HOLD_S, count)
            self._remedies.check_requirements([environment, *workers], self._requirements)
        return Finding(*words.environment(found, environment, self.config.fit_setup))

    @measurement(needs="answers", unless="environment")
    def workers(self) -> Finding:
        """Count the workers that take tasks at the same time."""
        engine = self.engine
        call = self._questions.send(inspection.hold, 0.0)
        self._questions.take_time(call)
        hold_s = min(max(HOLD_S, 2 * call.seconds), _LONGEST_HOLD_S)
        found = self._questions.at_work(
            hold_s, 2 * engine.workers if engine.fixed_workers else _FEWEST_TASKS
        )
        expected = min(engine.workers, engine.workers_there, MOST_TASKS // 2)
        if len(found) < expected:
            count = min(2 * expected, _TASKS_EACH * max(1, len(found)))
            found = max(found, self._questions.at_work(max(hold_s, LONG_HOLD_S), count), key=len)
        if engine.fixed_workers and len(found) < min(engine.workers, MOST_TASKS // 2):
            raise self._remedies.not_ready(
                f"only {len(found)} of its {engine.workers} workers take tasks at the same time",
                *self._remedies.on_its_side(
                    "check whether the machine is overloaded or kills processes (top, dmesg)"
                ),
                f"on this side: ask for {counted(max(1, len(found)), 'worker')}",
            )
        hosts = sorted({host(worker) for worker in found})
        more = "at least " if len(found) >= MOST_TASKS // 2 else ""
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

    @measurement(needs="answers", unless="environment")
    def round_trip(self) -> Finding:
        """Time small tasks, one after the other and many at once."""
        began = time.monotonic()
        trips: list[float] = []
        while len(trips) < ROUND_TRIPS and (
            len(trips) < _FEWEST_ROUND_TRIPS or time.monotonic() - began < _ROUND_TRIPS_S
        ):
            call = self._questions.send(inspection.hold, 0.0)
            self._questions.take_time(call)
            trips.append(call.seconds)
        trips.sort()
        middle, slow = median(trips), trips[math.ceil(0.95 * len(trips)) - 1]
        began = time.monotonic()
        self._questions.take_times(
            self._questions.send(inspection.hold, 0.0) for _ in range(AT_ONCE)
        )
        rate = AT_ONCE / (time.monotonic() - began)
        return Finding(
            f"round trip {in_seconds(middle)} (p95 {in_seconds(slow)}), {rate:.{digits(rate)}f} "
            "tasks/s",
            {
                "round_trip_median_s": middle,
                "round_trip_p95_s": slow,
                "round_trips": len(trips),
                "tasks_per_s": rate,
            },
        )

    @measurement(needs="answers", unless="environment")
    def payload(self) -> Finding:
        """Send a megabyte there and back, and compare."""
        # Random, so that compression on the way does not make it much smaller.
        some = random.Random(0).randbytes(PAYLOAD_CHARACTERS * 3 // 4)  # noqa: S311
        text = base64.b64encode(some).decode()
        digest = hashlib.sha256(text.encode()).hexdigest()
        call = self._questions.send(inspection.echo, text)
        answer = self._questions.value(call, waiting.TASK_S, "a megabyte")
        for arrived, how in (
            (answer["sha256"], "data changed on the way to a worker"),
            (
                hashlib.sha256(answer["text"].encode()).hexdigest(),
                "data changed on the way back from a worker",
            ),
        ):
            if arrived != digest:
                raise self._remedies.not_ready(
                    f"{how}: a megabyte has SHA-256 {arrived[:12]}..., not {digest[:12]}...",
                    "on both sides: check what lies in between, such as a proxy, a full disk or a "
                    "store of messages; results cannot be trusted while this happens",
                )
        rate = 2 * PAYLOAD_CHARACTERS / 1e6 / call.seconds
        return Finding(
            f"1 MB both ways in {in_seconds(call.seconds)}",
            {"payload_s": call.seconds, "payload_mb_per_s": rate},
        )

    @measurement(needs="answers", unless="environment")
    def clock(self) -> Finding:
        """Compare the clocks of all hosts that have answered with this machine's."""
        if "round_trip" not in self.findings:  # clocks are known by all answers
            for _ in range(_CLOCK_PROBES):
                self._questions.take_time(self._questions.send(inspection.hold, 0.0))
        if "workers" not in self.findings:  # and so are hosts
            count = min(4 * max(self.engine.workers, self.engine.workers_there), AT_ONCE)
            self._questions.take_times(
                [self._questions.send(inspection.hold, 0.0) for _ in range(count)]
            )
        host, worst = max(self._questions.clocks.items(), key=lambda item: abs(item[1].offset_s))
        many = len(self._questions.clocks) > 1
        text = f"{worst.offset_s:+.3f} s ± {uncertainty(worst.uncertainty_s)}"
        if abs(worst.offset_s) - worst.uncertainty_s > CLOCK_OFF_S:
            side = "ahead of" if worst.offset_s > 0 else "behind"
            raise self._remedies.not_ready(
                f"the clock of {host} is {abs(worst.offset_s):.0f} s "
                f"(± {uncertainty(worst.uncertainty_s)}) {side} this machine's",
                f"on the side of the workers: set the clock of {host} (NTP: timedatectl, chronyc)",
                "on this side: if the clock of the workers is right, set this machine's",
            )
        return Finding(
            f"clocks of {len(self._questions.clocks)} hosts at most {text} off ({host})"
            if many
            else f"clock {text}",
            {
                "clock_offset_s": worst.offset_s,
                "clock_uncertainty_s": worst.uncertainty_s,
                "clock_host": host,
            },
        )

    @measurement(needs="environment")
    def reference_fit(self) -> Finding:
        """Do the quickest fit of the bundled pallet, and compare it with its reference."""
        task, reference = quickest_fit(self.config)
        payload = batch_payload([task])
        call = self._questions.send(worker_function(self.config), payload, limit_s=self._timeout_s)
        answer = self._questions.value(call, self._timeout_s, f"the fit of {task.patch.name}")
        try:
            result = parse_answer(answer, [task]).results[task.key]
        except RemoteCallError as error:
            raise self._remedies.not_ready(
                f"the fit of {task.patch.name} of the bundled pallet broke: {error}",
                *self._remedies.on_its_side("find out what answers in place of its workers"),
            ) from error
        if result.error is not None:
            raise self._remedies.advised(
                f"the fit of {task.patch.name} of the bundled pallet broke",
                f"{result.error.type}: {result.error.first_line}",
                advice=advice_on(result.error, result.environment) or _SEE_VERSIONS,
            )
        comparison = compare(result, reference, fit_setup=self.config.fit_setup)
        if comparison.verdict is not Verdict.RIGHT:
            versions = environment_line(result, reference)
            raise self._remedies.not_ready(
                f"a fit of the bundled pallet is wrong: {comparison.title}",
                *cls_table(comparison.rows),
                *comparison.explanation.splitlines(),
                *([versions] if versions else []),
                *self._remedies.on_its_side("install versions that are known to be right"),
                "on this side: try another --faas-backend or --faas-optimizer",
                kind=WrongFitError,
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


def _digits_of_file(value: float) -> float:
    """Round a value as reference files do."""
    return float(f"{value:.12g}")
