"""Notice what no answer reports: a silent engine, a straggler, a lost task, missing workers.

Each rule checks the batches on the engine at a moment; none changes
anything.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_pyhf_faas.engines.base import IN_FLIGHT, WORKER

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.estimates import FitTimes
    from pytest_pyhf_faas.campaign.events import Facts
    from pytest_pyhf_faas.campaign.flight import Batch, Flight
    from pytest_pyhf_faas.campaign.policy import Policy

#: People are informed after this long without an answer, and this many times the expected time.
QUIET_S, QUIET_FACTOR = 15.0, 1.5
#: After an engine has come back, it starts what it still has within this many seconds.
_GONE_S = 5.0


@dataclass(slots=True)
class Watch:
    """The rules, and the two moments that they count from.

    Attributes
    ----------
    answered_at : float
        When the last answer came, of any kind.
    missing_until : float
        Until when there was no worker, as far as known.
    gone_until : float
        Until when the engine itself was gone; it may have lost what it had.
    """

    policy: Policy
    times: FitTimes
    answered_at: float = -math.inf
    missing_until: float = -math.inf
    gone_until: float = -math.inf

    def looked(self, before: Facts, facts: Facts, now: float) -> None:
        """Compare the present state of an engine with the one before."""
        if before.missing_since is None or facts.missing_since is not None:
            return
        self.missing_until = now
        if before.loses_tasks and before.ready_at is not None and before.missing == WORKER:
            self.gone_until = now

    def may_be_lost(self, batch: Batch) -> bool:
        """Whether the engine was gone since a batch was sent."""
        return batch.sent_at < self.gone_until

    def missing_text(self, flight: Flight, facts: Facts, now: float) -> str | None:
        """Return why everything is given up for lack of workers, if it is."""
        limit_s = self.policy.queue_timeout_s
        if facts.missing_since is None or limit_s is None or not flight:
            return None
        waited_s = now - max(facts.missing_since, _oldest(flight))
        if waited_s <= limit_s:
            return None
        what = f": {facts.waits_for}" if facts.waits_for else ""
        do = f"{facts.remedy[:1].upper()}{facts.remedy[1:]}, or wait" if facts.remedy else "Wait"
        nothing = (
            f"no worker of {facts.spec} was available"
            if facts.missing == WORKER
            else f"no {facts.missing} came"
        )
        return f"{nothing} for {waited_s:.0f} s{what}. {do} longer with --faas-queue-timeout"

    def silence_text(self, flight: Flight, facts: Facts, now: float) -> str | None:
        """Return why a silent engine is considered dead, if it is."""
        if facts.missing_since is not None or not flight:
            return None
        silent_s = now - self._news_at(flight, facts)
        limit_s = self._silence_s(flight, facts)
        if limit_s is None or silent_s <= limit_s:
            return None
        return (
            f"no answer came for {silent_s:.0f} s, where {limit_s:.0f} s are enough for "
            "all that was sent"
        )

    def silent_s(self, flight: Flight, facts: Facts, now: float) -> float | None:
        """Return for how long the workers have returned nothing, if there ever was one."""
        waits_for_the_first = facts.missing_since is not None and facts.ready_at is None
        if waits_for_the_first or not flight:
            return None
        return now - self._news_at(flight, facts)

    def quiet(self, flight: Flight, facts: Facts, now: float) -> tuple[float, float | None] | None:
        """Return for how long nothing has come, and how long the next fit should take.

        ``None`` if it has not taken long yet, or if there has been no worker yet. A worker's first
        fit takes longer, since JAX compiles then: until each worker can have done one, it is not
        said how long the next should take.
        """
        quiet_s = self.silent_s(flight, facts, now)
        if quiet_s is None:
            return None
        first = next(iter(flight))
        measured = self._measured(first)
        expected_s = self._batch_s(first) if measured else None
        if quiet_s < max(QUIET_S, QUIET_FACTOR * (expected_s or 0.0)):
            return None
        return quiet_s, expected_s if measured > facts.workers_there else None

    def _news_at(self, flight: Flight, facts: Facts) -> float:
        """Return when the last answer came, or since when one could have come."""
        oldest = _oldest(flight)
        return max(oldest, self.missing_until, facts.ready_at or oldest, self.answered_at)

    def _silence_s(self, flight: Flight, facts: Facts) -> float | None:
        if facts.watches_workers:
            return None
        policy, limits = self.policy, []
        estimates = [self._batch_s(batch) for batch in flight]
        known = [seconds for seconds in estimates if seconds is not None]
        if all(map(self._measured, flight)) and len(known) == len(estimates):
            limits.append(max(policy.silence_s, policy.silence_factor * max(known)))
        if policy.timeout_s is not None:
            limits.append(policy.silence_s + IN_FLIGHT * policy.timeout_s)
        return min(limits, default=None)

    def straggler(self, flight: Flight, facts: Facts, now: float, *, idle: bool) -> Batch | None:
        """Return a batch that takes too long, if a copy of it helps.

        Parameters
        ----------
        idle : bool
            Whether a worker is idle. If none is, a copy helps only for the
            place that a lost batch takes.
        """
        if facts.watches_workers or facts.missing_since is not None:
            return None
        for batch in flight:
            begun_at = batch.overtaken_at or (batch.sent_at if idle else None)
            limit_s = self._straggles_after_s(batch)
            if begun_at is None or limit_s is None or batch.copied or batch.alone:
                continue
            if now - max(begun_at, self.missing_until) > limit_s:
                return batch
        return None

    def _straggles_after_s(self, batch: Batch) -> float | None:
        """Return after how long a batch that has begun is sent once more, if ever."""
        policy, limits = self.policy, []
        expected_s = self._batch_s(batch)
        if expected_s is not None and (self._measured(batch) or batch.overtaken_at is not None):
            least_s, factor = (
                (_GONE_S, QUIET_FACTOR)
                if self.may_be_lost(batch)
                else (policy.straggler_s, policy.straggler_factor)
            )
            limits.append(max(least_s, factor * expected_s))
        if policy.timeout_s is not None and batch.overtaken_at is not None:
            limits.append(policy.straggler_s + policy.timeout_s)  # its worker would have ended it
        return min(limits, default=None)

    def ping_is_due(self, flight: Flight, facts: Facts, now: float) -> bool:
        """Whether to find out which of the silent batches have begun or are lost."""
        if not (facts.loses_tasks and flight) or facts.missing_since is not None:
            return False
        newest = max(batch.sent_at for batch in flight)
        ready_at = math.inf if facts.ready_at is None else facts.ready_at
        since = max(self.answered_at, flight.pinged_at, newest, ready_at)
        patience = min(2.0 ** len(flight.pings), self.policy.ping_factor)
        return now - since > self.policy.ping_s * patience

    def _measured(self, batch: Batch) -> int:
        return self.times.measured(entry.fit for entry in batch.entries)

    def _batch_s(self, batch: Batch) -> float | None:
        return self.times.of_all(entry.fit for entry in batch.entries)


def _oldest(flight: Flight) -> float:
    """Return when the oldest batch on the engine was sent."""
    return min(batch.sent_at for batch in flight)
