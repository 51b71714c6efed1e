"""Where the moments of a worker lie on the client's clock.

Two clocks are never compared directly. Each task is a probe: it began after it was sent and
ended before its answer was there, so it brackets the offset between the two clocks. The range
that all tasks of a worker allow gives the offset and its uncertainty; short tasks on an idle
worker, such as those before the fits, leave the least. (F. Cristian, Distributed
Computing 3 (1989) 146; the intersection as in K. Marzullo's algorithm, RFC 5905, section 11.2.1.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Offset:
    """The offset to add to a worker's clock, in seconds, and its uncertainty."""

    seconds: float
    uncertainty_s: float


class Clocks:
    """The clocks of the workers of an endpoint, all against one clock of the client."""

    def __init__(self) -> None:
        self._brackets: dict[str, tuple[float, float]] = {}

    def observe(
        self, worker: str, *, sent_at: float, began_s: float, ended_s: float, received_at: float
    ) -> None:
        """Use a task of a worker as a probe.

        Parameters
        ----------
        worker : str
            Whose clock it is.
        sent_at, received_at : float
            Before the task was sent and after its answer was there, on the client's clock.
        began_s, ended_s : float
            When it ran, on the worker's.
        """
        least, most = self._brackets.get(worker, (-math.inf, math.inf))
        self._brackets[worker] = (
            max(least, sent_at - began_s),
            min(most, received_at - ended_s),
        )

    def offset(self, worker: str) -> Offset:
        """Return the offset of a worker that was observed.

        Brackets that exclude each other (one clock runs faster) give the middle between them.
        """
        least, most = self._brackets[worker]
        return Offset((least + most) / 2, abs(most - least) / 2)
