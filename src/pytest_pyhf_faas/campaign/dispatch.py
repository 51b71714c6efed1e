"""Send batches to the engine: one after the other, and no more than it should hold."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pytest_pyhf_faas.campaign.events import Send
from pytest_pyhf_faas.campaign.flight import Batch, Flight
from pytest_pyhf_faas.campaign.queue import Queue

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.estimates import FitTimes
    from pytest_pyhf_faas.campaign.events import Facts
    from pytest_pyhf_faas.campaign.queue import Entry


class Dispatch:
    """The fits that wait and those that are with the engine.

    Parameters
    ----------
    times : FitTimes
        How long fits take, so that short ones share a batch.
    tail_batches : int
        The last fits are spread over the workers in at least this many batches each.
    """

    def __init__(self, times: FitTimes, tail_batches: int) -> None:
        self.queue = Queue()
        self.flight = Flight()
        #: The batch that was sent to the engine and not accepted yet.
        self.sending: int | None = None
        self._times = times
        self._tail_batches = tail_batches

    @property
    def waits(self) -> bool:
        """Whether anything waits to be sent."""
        return bool(self.queue) or self.queue.has_suspects

    def _has_place(self, facts: Facts) -> bool:
        """Whether the next waiting fits may be sent now."""
        if any(batch.alone for batch in self.flight):
            return False
        if self.queue:
            return len(self.flight) < facts.in_flight
        return self.queue.has_suspects and not self.flight

    def next(self, facts: Facts, now: float) -> Send | None:
        """Send the next waiting fits, if possible."""
        if self.sending is not None or not self._has_place(facts):
            return None
        if not self.queue:
            return self._send(Batch([self.queue.next_suspect()], now, alone=True), "alone")
        spread = facts.workers * self._tail_batches
        entries = self.queue.next_batch(
            self._times,
            most=max(1, math.ceil(len(self.queue) / spread)),
            batch_s=facts.batch_s,
        )
        return self._send(Batch(entries, now), "again" if entries[0].troubles else "first")

    def copy(self, batch: Batch, now: float, why: Literal["copy", "lost"]) -> Send:
        """Send again the fits of a batch that have no result yet."""
        batch.copied = True
        return self._send(Batch(batch.open_entries, now, copied=True), why)

    def _send(self, batch: Batch, why: Literal["first", "again", "alone", "copy", "lost"]) -> Send:
        for entry in batch.entries:
            entry.attempts += not batch.copied
        self.sending = self.flight.add(batch)
        return Send(
            self.sending,
            tuple(entry.fit.key for entry in batch.entries),
            tuple(entry.attempts for entry in batch.entries),
            why,
        )

    def taken(self, number: int) -> None:
        """Record that the engine has a batch, so that the next one may be sent."""
        if self.sending == number:
            self.sending = None

    def ended(self, number: int) -> Batch | None:
        """Remove a batch that has ended; ``None`` if it was lost with an earlier engine."""
        if number not in self.flight.batches:
            return None
        self.taken(number)
        return self.flight.remove(number)

    def engine_lost(self) -> list[Entry]:
        """Remove all that the engine has; return the fits that have no result."""
        self.sending = None
        return self.flight.clear()
