"""Distinguish fits that are longer than a block lives from fits that were lost by accident.

- Where the walltime of a block is known, a fit that had run for all of it when its block ended,
  twice, is too long. As long as no fit like it was done, one time is enough in the second block
  with which that happens to any of them.
- Where it is not, or where blocks end earlier, observations decide: the blocks of a fit have ended
  after about the same time, the last time with no other fit there, and no fit like it was ever
  done. It may also be the fit that brings its node down after that time, so that this is said to
  be likely. If several fits were lost so by themselves, no one of them is to blame, and one time is
  enough for others like them.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_pyhf_faas.wording import counted, duration

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.estimates import FitTimes
    from pytest_pyhf_faas.campaign.queue import Entry

#: The part of a walltime that is left to a fit: workers take some time to start and to connect.
_WHOLE = 0.8
#: Times are about the same within this ratio, or this many seconds: workers start, and lost blocks
#: are missed, sooner or later.
_ALIKE, _ALIKE_S = 1.2, 5.0
#: A block in which a fit has run for less had no walltime; something brought it down.
_SHORTEST_S = 5.0
#: After this many times to a fit, or to fits like it, it is not an accident.
_OFTEN = 2


@dataclass(slots=True)
class _Family:
    """The history of the blocks of fits that are alike.

    Attributes
    ----------
    outlived : int
        In how many blocks, one after the other, one of them had run for the whole walltime.
    outlived_at : float
        When the last of these ended.
    alone_s : dict
        How long fits had run that were lost by themselves, by their keys.
    """

    outlived: int = 0
    outlived_at: float = -math.inf
    alone_s: dict[str, float] = field(default_factory=dict)


class Lifetimes:
    """What the ends of blocks have shown so far.

    Parameters
    ----------
    times : FitTimes
        The times of fits; shows which kinds were done.
    """

    def __init__(self, times: FitTimes) -> None:
        self._times = times
        self._families: defaultdict[str, _Family] = defaultdict(_Family)

    def lost(
        self, entry: Entry, ran_s: float, walltime_s: float | None, now: float, *, by_itself: bool
    ) -> str | None:
        """Record that the block of a fit ended; return why the fit is too long, if it is.

        Parameters
        ----------
        entry : Entry
            The fit.
        ran_s : float
            How long it had run.
        walltime_s : float or None
            How long a block lives at most, where that is known.
        now : float
            When that was noticed.
        by_itself : bool
            Whether no other fit was there.
        """
        entry.ran_s.append(ran_s)
        family = self._families[entry.fit.family]
        if walltime_s is not None and ran_s >= _WHOLE * walltime_s:
            if now - ran_s >= family.outlived_at:  # it began after the last one had ended
                family.outlived += 1
                family.outlived_at = now
            times = sum(each_s >= _WHOLE * walltime_s for each_s in entry.ran_s)
            if times >= _OFTEN or (family.outlived >= _OFTEN and not self._were_done(entry)):
                return _longer(walltime_s, times)
            return None
        if ran_s < _SHORTEST_S or self._were_done(entry):
            return None
        alike_s = [each_s for each_s in entry.ran_s if _alike(each_s, ran_s)]
        if by_itself:
            family.alone_s[entry.fit.key] = ran_s
            if len(alike_s) >= _OFTEN:
                return _likely_longer(alike_s)
        return self.concerns(entry)

    def concerns(self, entry: Entry) -> str | None:
        """Return why a fit whose block ended is too long, judged by others."""
        if not entry.ran_s or self._were_done(entry):
            return None
        last_s = entry.ran_s[-1]
        others_s = [
            ran_s
            for key, ran_s in self._families[entry.fit.family].alone_s.items()
            if key != entry.fit.key and _alike(ran_s, last_s)
        ]
        return _likely_longer([*others_s, last_s]) if len(others_s) >= _OFTEN else None

    def _were_done(self, entry: Entry) -> bool:
        """Whether some fit like this one was done here."""
        return self._times.measured([entry.fit]) > 0


def _alike(one_s: float, other_s: float) -> bool:
    shorter, longer = sorted((one_s, other_s))
    return longer <= max(_ALIKE * shorter, shorter + _ALIKE_S)


def _longer(walltime_s: float, times: int) -> str:
    others = "" if times >= _OFTEN else ", as others like it have"
    return (
        f"The walltime of a block, {duration(walltime_s)}, is shorter than the fit, which has run "
        f"for all of it {counted(times, 'time')}{others}: set a longer walltime in the provider of "
        "the configuration, and make sure that the queue allows it"
    )


def _likely_longer(ran_s: list[float]) -> str:
    shortest, longest = duration(min(ran_s)), duration(max(ran_s))
    after = shortest if shortest == longest else f"{shortest} to {longest}"
    return (
        f"Blocks have ended {counted(len(ran_s), 'time')}, {after} after such a fit could begin, "
        "and no fit like it was done: likely the walltime of a block is shorter than the fit (set "
        "a longer one, and make sure that the queue allows it), or the fit brings its node down "
        "(check the node's memory)"
    )
