"""The batches and pings on the engine, and what overtook them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_pyhf_faas.campaign.queue import Entry


@dataclass(slots=True, eq=False)
class Batch:
    """Fits that were sent together.

    Attributes
    ----------
    sent_at : float
        When it was sent, or when its collection was requested if an earlier session sent it.
    alone : bool
        Whether nothing else may be on the engine meanwhile.
    copied : bool
        Whether it was sent once more, or is what was sent once more.
    collected : bool
        Whether an earlier session has sent it.
    begun_at : float or None
        When a worker was free for it: workers take batches in order. ``None`` while there is
        no worker.
    interrupted_s : float or None
        How long it had run when the last worker disappeared.
    overtaken_at : float or None
        When a later batch was answered, so that this one has begun or is lost.
    """

    entries: list[Entry]
    sent_at: float
    alone: bool = False
    copied: bool = False
    collected: bool = False
    begun_at: float | None = None
    interrupted_s: float | None = None
    overtaken_at: float | None = None

    @property
    def open_entries(self) -> list[Entry]:
        """Those of its fits that have no result yet."""
        return [entry for entry in self.entries if not entry.ended]

    def ran_s(self, now: float) -> float | None:
        """Return how long a worker has, or had, it; ``None`` if none was ever free for it."""
        return self.interrupted_s if self.begun_at is None else now - self.begun_at


class Flight:
    """The batches and pings on the engine, by number: numbers give the order of sending."""

    def __init__(self) -> None:
        self.batches: dict[int, Batch] = {}
        self.pings: set[int] = set()
        self.pinged_at = -math.inf
        self._numbers = iter(range(1, 2**63))

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        yield from self.batches.values()

    def add(self, batch: Batch) -> int:
        """Register a batch that is sent; return its number."""
        number = next(self._numbers)
        self.batches[number] = batch
        for entry in batch.entries:
            entry.in_flight += 1
        return number

    def remove(self, number: int) -> Batch:
        """Record that a batch has ended."""
        batch = self.batches.pop(number)
        for entry in batch.entries:
            entry.in_flight -= 1
        return batch

    def begin(self, workers: int, now: float) -> None:
        """Record how many workers there are: they have what was sent first."""
        for batch in islice(self.batches.values(), workers):
            if batch.begun_at is None:
                batch.begun_at = now

    def interrupt(self, now: float) -> None:
        """Record that there is no worker, so that nothing runs."""
        for batch in self:
            batch.interrupted_s, batch.begun_at = batch.ran_s(now), None

    def add_ping(self, now: float) -> int:
        """Register a ping; return its number."""
        self.pinged_at = now
        number = next(self._numbers)
        self.pings.add(number)
        return number

    def overtake(self, number: int, now: float, *, losable: bool) -> None:
        """Record that everything sent before a batch or ping has begun, or is lost."""
        self.pings = {other for other in self.pings if other > number}
        if losable:
            for other, batch in self.batches.items():
                if other < number and batch.overtaken_at is None:
                    batch.overtaken_at = now

    def forget_answered(self) -> None:
        """Free the places of batches whose copies were faster: they may be lost."""
        for number, batch in list(self.batches.items()):
            if not batch.open_entries:
                self.remove(number)

    def clear(self) -> list[Entry]:
        """Record that the engine is lost; return the fits that have no result."""
        stranded = {id(entry): entry for batch in self for entry in batch.entries}
        self.batches.clear()
        self.pings.clear()
        for entry in stranded.values():
            entry.in_flight = 0
        return [entry for entry in stranded.values() if not entry.ended]

    @property
    def open_keys(self) -> set[str]:
        """The keys of the fits that have no result."""
        return {entry.fit.key for batch in self for entry in batch.open_entries}
