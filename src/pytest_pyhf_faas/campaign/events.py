"""Events and instructions of a campaign: plain data, so that a log of it can be replayed.

An event is something that happened, to the engine or by a caller. An instruction is what the
state then wants done. Neither knows an engine, a future or a payload: a fit is identified by
its key, a batch and a ping by a number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from pytest_pyhf_faas.engines.base import WORKER

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.results import Status

#: What may go wrong with a batch.
Trouble = Literal[
    "worker lost",
    "block lost",
    "engine lost",
    "timeout",
    "silence",
    "out of memory",
    "remote call failed",
]


@dataclass(frozen=True, slots=True)
class Fit:
    """One hypothesis to fit.

    Attributes
    ----------
    key : str
        Of its task.
    group : str
        Fits of one group may share a batch: one pallet, configuration and pool.
    family : str
        Fits of one family take about as long: one pallet and one fit setup.
    expected_s : float or None
        Seconds that it took elsewhere.
    name : str
        For people who read a log.
    is_relative : bool
        Whether it was fitted in another way there, so that its seconds only say how much longer
        than others of its family it takes.
    """

    key: str
    group: str
    family: str
    expected_s: float | None = None
    name: str = ""
    is_relative: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a worker answered about one fit: its seconds, or the type of its exception."""

    key: str
    fit_s: float | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """The state of an engine at some moment; see `Engine` for the attributes."""

    spec: str = ""
    workers: int = 1
    workers_there: int = 1
    in_flight: int = 1
    batch_s: float = 0.0
    watches_workers: bool = True
    loses_tasks: bool = False
    ready_at: float | None = None
    missing_since: float | None = None
    waits_for: str | None = None
    remedy: str | None = None
    missing: str = WORKER
    broken: bool = False
    failure: str | None = None
    walltime_s: float | None = None
    missed_after_s: float = 0.0


# Events


@dataclass(frozen=True, slots=True)
class Submitted:
    """A caller wants these fits, which are not under way yet."""

    fits: tuple[Fit, ...]


@dataclass(frozen=True, slots=True)
class FoundSent:
    """A caller knows that an earlier session has sent these fits, and under which reference."""

    reference: str
    fits: tuple[Fit, ...]


@dataclass(frozen=True, slots=True)
class Sent:
    """The engine has accepted the last batch."""

    batch: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """A later session can collect the batch under this reference."""

    batch: int
    reference: str


@dataclass(frozen=True, slots=True)
class Answered:
    """A worker has answered a batch."""

    batch: int
    worker: str
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """A batch has ended without an answer, or could not be sent."""

    batch: int
    trouble: Trouble
    text: str


@dataclass(frozen=True, slots=True)
class EngineUnusable:
    """The engine will return nothing more, whatever is done."""

    text: str


@dataclass(frozen=True, slots=True)
class PingEnded:
    """A ping was answered, or failed."""

    ping: int
    answered: bool


@dataclass(frozen=True, slots=True)
class Looked:
    """The state of the engine changed."""

    facts: Facts


@dataclass(frozen=True, slots=True)
class Restarted:
    """The engine was restarted, as asked for."""


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class WoundDown:
    """A caller wants the fits on the engine to finish, and nothing more to be sent."""

    reason: str


@dataclass(frozen=True, slots=True)
class Stopped:
    """A caller wants to stop at once."""

    reason: str


Event: TypeAlias = (
    Submitted
    | FoundSent
    | Sent
    | Accepted
    | Answered
    | Failed
    | EngineUnusable
    | PingEnded
    | Looked
    | Restarted
    | Ticked
    | WoundDown
    | Stopped
)


# Instructions


@dataclass(frozen=True, slots=True)
class Send:
    """Send these fits as one batch, and say `Sent` or `Failed`.

    Attributes
    ----------
    attempts : tuple of int
        The number of the attempt, for each of the fits.
    why : str
        "first" or "again"; "alone" where nothing else may be on the engine; "copy" where another
        batch holds the same fits and takes too long, "lost" where the engine was gone meanwhile.
    """

    batch: int
    keys: tuple[str, ...]
    attempts: tuple[int, ...]
    why: Literal["first", "again", "alone", "copy", "lost"]


@dataclass(frozen=True, slots=True)
class Collect:
    """Await what an earlier session has sent under this reference."""

    batch: int
    keys: tuple[str, ...]
    reference: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Ask the engine only for an answer."""

    ping: int


@dataclass(frozen=True, slots=True)
class Restart:
    """Restart the engine, and say `Restarted` or `EngineUnusable`."""


@dataclass(frozen=True, slots=True)
class Note:
    """Record trouble of a fit; nothing else is to be done about it."""

    key: str
    trouble: Trouble
    attempt: int
    text: str


@dataclass(frozen=True, slots=True)
class Count:
    """The time of this answer counts; it was sent at that moment."""

    batch: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class Take:
    """The fit ends with what was just answered."""

    key: str
    batch: int
    attempts: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The fit ends without an answer.

    Attributes
    ----------
    error : str
        Type of the error of its result.
    """

    key: str
    status: Status
    error: str
    text: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Halt:
    """All has ended for good: stop the engine."""


Instruction: TypeAlias = Send | Collect | Ping | Restart | Note | Count | Take | GiveUp | Halt
