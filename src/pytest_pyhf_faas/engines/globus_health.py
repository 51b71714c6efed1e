"""The known state of an endpoint of Globus Compute, and what it means for those who wait."""

from __future__ import annotations

from pytest_pyhf_faas.engines.base import WORKER
from pytest_pyhf_faas.engines.globus_errors import CHECK_NETWORK
from pytest_pyhf_faas.wording import duration

#: The service answers within this many seconds, if it can be reached.
_QUICK_S = 5.0
_LOOK_AT_ITS_START = (
    "check the queue of its cluster, and start a block by hand to see its start-up messages"
)


class Health:
    """What delays the next answer of an endpoint; times are `time.monotonic()`.

    Attributes
    ----------
    ready_at : float or None
        When a worker answered first.
    answered_at : float
        When the last answer came; the start, before the first.
    connected : bool
        Whether the service has let us in.
    status : str
        The status of the endpoint, by the service.
    reached : bool
        Whether the service has answered anything, be it an error.
    disturbance : str
        The last trouble with the service.
    """

    def __init__(self, started_at: float) -> None:
        self.ready_at: float | None = None
        self.answered_at = started_at
        self.connected = self.reached = False
        self.status = "unknown"
        self.disturbance = ""
        self._started_at = self._there_at = started_at
        self._offline_since: float | None = None
        self._told_at = started_at
        self._asking_since: float | None = None
        self._refused_since: float | None = None  # what was sent
        self._unanswered_since: float | None = None  # what was asked

    def answered(self, now: float) -> None:
        """Record an answer, which shows that the service and the endpoint work."""
        self.answered_at = self._there_at = now
        self._offline_since = None
        self.undisturbed()

    def worker_answered(self) -> None:
        """Record that the last answer came from a present worker."""
        if self.ready_at is None:
            self.ready_at = self.answered_at

    def disturbed(self, disturbance: str, now: float, *, asked: bool = False) -> None:
        """Record trouble with the service that may pass.

        Parameters
        ----------
        disturbance : str
            What it is.
        now : float
            When.
        asked : bool
            Whether it came from a question, not from a submission: the next answer to a
            question ends it.
        """
        self.disturbance = disturbance
        self._asking_since = None
        if asked:
            self._unanswered_since = self._unanswered_since or now
        else:
            self._refused_since = self._refused_since or now

    def undisturbed(self) -> None:
        """Record that the service accepted what was sent."""
        self._refused_since = self._unanswered_since = None

    @property
    def _disturbed_since(self) -> float | None:
        known = (self._refused_since, self._unanswered_since)
        return min((since for since in known if since is not None), default=None)

    @property
    def is_disturbed(self) -> bool:
        """Whether the service could not be used when it was last tried."""
        return self._disturbed_since is not None

    def unusable_s(self, now: float) -> float:
        """Return for how long the service could not be used, in seconds."""
        since = self._started_at if not self.reached else self._disturbed_since
        return 0.0 if since is None else now - since

    def unreachable_text(self) -> str:
        """Say that the service has not answered, and what to do."""
        return (
            self.disturbance
            or f"the service of Globus Compute has not answered yet: {CHECK_NETWORK}"
        )

    def knows(self, now: float) -> str | None:
        """See `Engine`."""
        asking_s = 0.0 if self._asking_since is None else now - self._asking_since
        if asking_s > _QUICK_S:
            return f"the service has not answered for {duration(asking_s)}: {CHECK_NETWORK}"
        if self.status == "unknown":
            return None
        ago = duration(now - self._told_at)
        return f"the service said {ago} ago that the endpoint is {self.status}"

    def asks(self, now: float) -> None:
        """Record that the service was asked for the state of the endpoint."""
        self._asking_since = now

    def says(self, status: str, now: float) -> None:
        """Record the status of the endpoint, by the service."""
        self.status = status
        self.reached = True
        self._told_at = now
        self._asking_since = self._unanswered_since = None
        if status == "offline":
            # The service reports late, and is asked rarely: it was gone since it was last seen.
            self._offline_since = self._there_at
        else:
            self._there_at, self._offline_since = now, None

    @property
    def missing_since(self) -> float | None:
        """See `Engine`."""
        if self.ready_at is None:
            return self._started_at
        return self._disturbed_since or self._offline_since

    @property
    def waits_for(self) -> str | None:
        """See `Engine`."""
        if self.missing_since is None:
            return None
        if self._is_unheard:
            return self.unreachable_text()
        if self.status not in ("online", "unknown"):
            return (
                f"the endpoint is {self.status}: `globus-compute-endpoint start` on its machine "
                "brings it back"
            )
        if self.ready_at is None:
            return (
                f"the endpoint is {self.status}, and no worker has answered yet: it waits for a "
                "block of its cluster, or its worker_init takes long or fails"
            )
        return None

    @property
    def _is_unheard(self) -> bool:
        return self.is_disturbed or (not self.connected and self.status == "unknown")

    @property
    def missing(self) -> str:
        """See `Engine`."""
        return "word from the service" if self._is_unheard else WORKER

    @property
    def remedy(self) -> str | None:
        """See `Engine`: a known problem says itself what to do."""
        there = self.connected and self.status in ("online", "unknown") and not self.is_disturbed
        return _LOOK_AT_ITS_START if there and self.ready_at is None else None
