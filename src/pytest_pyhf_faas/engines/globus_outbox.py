"""Calls on their way to Globus Compute: what is sent when, and how much at once.

Nothing here waits or reads a clock: callers pass the time, by `time.monotonic()`.
"""

from __future__ import annotations

import random
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import RemoteCallError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The service takes 10 MB in one submission; some of it is not ours.
SUBMISSION_BYTES = 9_500_000
#: It takes 20 requests in 10 s; the SDK may split a submission in two.
_REQUESTS_AT_ONCE = 6.0
_REQUESTS_PER_S = 0.8
BACKOFF_S = 60.0


class Call(Future[Any]):
    """A call on its way, which is the future of its answer.

    Attributes
    ----------
    text : str
        The text to send; empty if an earlier session sent it.
    size : int
        Bytes that it takes of a submission.
    not_before, sent_at : float
        When it may be sent, and when it was.
    tries : int
        How often it had to be sent again.
    alone : bool
        Whether it was alone in its submission.
    inner : Future or None
        The SDK's future of it.
    task_id : str or None
        Its id at the service, once it is accepted.
    """

    def __init__(self, text: str, size: int = 0, *, task_id: str | None = None) -> None:
        super().__init__()
        self.text = text
        self.size = size
        self.not_before = 0.0
        self.sent_at = 0.0
        self.tries = 0
        self.alone = False
        self.inner: Future[Any] | None = None
        self.task_id = task_id


def call_of(text: str) -> Call:
    """Return a call that is to be sent.

    Raises
    ------
    RemoteCallError
        If no submission can hold it.
    """
    # The request nests text in text in JSON, and each level of escaping adds to it.
    size = len(text) + 4 * (text.count('"') + text.count("\\")) + 1000
    if size > SUBMISSION_BYTES:
        raise RemoteCallError(
            f"its payload of {size / 1e6:.1f} MB is more than the 10 MB that Globus Compute "
            "takes in one submission: fit this pallet with parsl:CONFIG.py on the cluster "
            "itself, or with local"
        )
    return Call(text, size)


class Outbox:
    """Calls that are to be sent, now or when some time has passed."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._largest = 1

    def __len__(self) -> int:
        return len(self._calls)

    def __iter__(self) -> Iterator[Call]:
        return iter(self._calls)

    def add(self, call: Call) -> None:
        """Add a call that may be sent at once."""
        self._calls.append(call)

    def add_again(self, call: Call, now: float) -> None:
        """Add a call that the service has not taken; it waits longer each time."""
        delay_s = min(2.0**call.tries, BACKOFF_S) * random.uniform(0.5, 1.0)  # noqa: S311
        call.tries += 1
        call.inner = call.task_id = None
        call.not_before = now + delay_s
        self._calls.append(call)

    def each_alone(self) -> None:
        """Send each call by itself from now on: the service takes less than we think."""
        self._largest = SUBMISSION_BYTES

    @property
    def most(self) -> int:
        """How many calls one submission holds: the SDK only counts them, not their sizes."""
        return SUBMISSION_BYTES // self._largest or 1

    def take(self, now: float) -> list[Call]:
        """Take the calls that are due, up to one submission."""
        group: list[Call] = []
        for call in [call for call in self._calls if call.not_before <= now]:
            largest = max(self._largest, call.size)
            if group and largest * (len(group) + 1) > SUBMISSION_BYTES:
                break
            self._largest = largest
            group.append(call)
            self._calls.remove(call)
        return group


class Pace:
    """Keeps requests within the limits of the service."""

    def __init__(self, now: float) -> None:
        self._tokens = _REQUESTS_AT_ONCE
        self._at = now

    def take(self, now: float) -> float:
        """Take the right to send one request; return for how many seconds it must wait."""
        earned = (now - self._at) * _REQUESTS_PER_S
        self._tokens = min(_REQUESTS_AT_ONCE, self._tokens + earned) - 1.0
        self._at = now
        return max(0.0, -self._tokens / _REQUESTS_PER_S)
