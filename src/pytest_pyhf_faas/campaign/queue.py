"""The waiting fits: the longest first, and those that may be to blame for a loss last."""

from __future__ import annotations

import math
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pytest_pyhf_faas.campaign.estimates import FitTimes
    from pytest_pyhf_faas.campaign.events import Fit


@dataclass(slots=True, eq=False)
class Entry:
    """A fit under way.

    Attributes
    ----------
    attempts : int
        How often it was sent, without losses that were not its fault.
    losses : int
        How often it was there when a block or an engine was lost.
    silences : int
        How often it was the only one that a silent engine held.
    in_flight : int
        Batches that hold it; two while a straggler runs twice.
    alone : bool
        Whether its batch failed once, so that it may be to blame.
    ended : bool
        Whether it has a result.
    ran_s : list of float
        How long it had run whenever its block ended, where that is known.
    troubles : list of str
        Its troubles.
    """

    fit: Fit
    attempts: int = 0
    losses: int = 0
    silences: int = 0
    in_flight: int = 0
    alone: bool = False
    ended: bool = False
    ran_s: list[float] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)


class Queue:
    """The waiting fits, grouped by what may share a batch; suspects are separate.

    A suspect is a fit that was there more than once when all around it was lost. It is sent when
    nothing else waits or runs.
    """

    def __init__(self) -> None:
        self._groups: dict[str, deque[Entry]] = {}
        self._suspects: list[Entry] = []

    def __len__(self) -> int:
        """Return how many waiting fits are not suspects."""
        return sum(len(group) for group in self._groups.values())

    def __bool__(self) -> bool:
        """Whether any waiting fit is not a suspect."""
        return bool(self._groups)

    def __iter__(self) -> Iterator[Entry]:
        """Yield all that waits."""
        for group in self._groups.values():
            yield from group
        yield from self._suspects

    @property
    def has_suspects(self) -> bool:
        """Whether there are fits to send with nothing else on the engine."""
        return bool(self._suspects)

    def add(self, entries: Iterable[Entry]) -> None:
        """Take fits in."""
        groups = defaultdict(list)
        for entry in entries:
            groups[entry.fit.group].append(entry)
        for group, members in groups.items():
            # Unknown ones first: they may be long. The sort is stable.
            order = sorted([*self._groups.get(group, ()), *members], key=_rank)
            self._groups[group] = deque(order)

    def add_suspect(self, entry: Entry) -> None:
        """Take a suspect in."""
        self._suspects.append(entry)

    def take_suspects(self, among: Callable[[Entry], bool]) -> list[Entry]:
        """Remove the suspects that satisfy a condition."""
        taken = [entry for entry in self._suspects if among(entry)]
        self._suspects = [entry for entry in self._suspects if entry not in taken]
        return taken

    def clear(self) -> list[Entry]:
        """Empty it, and return what waited."""
        waited = list(self)
        self._groups.clear()
        self._suspects.clear()
        return waited

    def next_suspect(self) -> Entry:
        """Take out the suspect that is the least likely to be to blame."""
        self._suspects.sort(key=lambda entry: entry.losses)
        return self._suspects.pop(0)

    def next_batch(self, times: FitTimes, *, most: int, batch_s: float) -> list[Entry]:
        """Take out what is sent next, with as many as may share its batch.

        Parameters
        ----------
        times : FitTimes
            The times of fits; those of unknown time go alone.
        most : int
            How many may share a batch.
        batch_s : float
            How many seconds of fits may.
        """
        group = min(self._groups, key=lambda name: _rank(self._groups[name][0]))
        queue = self._groups[group]
        entries = [queue.popleft()]
        seconds = times.of(entries[0].fit)
        while queue and len(entries) < most and not (entries[0].alone or queue[0].alone):
            more = times.of(queue[0].fit)
            if seconds is None or more is None or seconds + more > batch_s:
                break
            seconds += more
            entries.append(queue.popleft())
        if not queue:
            del self._groups[group]
        return entries


def _rank(entry: Entry) -> float:
    expected_s = entry.fit.expected_s
    return -math.inf if expected_s is None else -expected_s
