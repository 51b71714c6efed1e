"""Rules for a fit that had trouble.

- A worker that dies, or that cannot run its task: the fit may be to blame. It goes alone from
  then on, and is given up as broken after ``retries`` more attempts.
- A batch that failed is split, without a penalty for its members: one of them is to blame.
- A time limit: not tried again, except those that shared a batch with the one that took too long.
- A block that is lost with all its workers, or an engine that breaks down: no fault of most fits
  that were there. One that was there twice is a suspect: it runs once more with nothing else on the
  engine, so that it takes no other down, and is given up in the end.
- A fit that is longer than a block lives is given up before; see `lifetimes`.
- An engine that is silent with only one fit on it: as if the fit had taken too long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.events import Outcome, Trouble
    from pytest_pyhf_faas.campaign.policy import Policy
    from pytest_pyhf_faas.campaign.queue import Entry
    from pytest_pyhf_faas.campaign.results import Status

#: Exceptions on a worker that say nothing about the fit: worth another try elsewhere.
_OF_THE_WORKER = frozenset({"MemoryError"})


@dataclass(frozen=True, slots=True)
class Again:
    """The fit is sent again.

    Attributes
    ----------
    free : bool
        Whether this attempt does not count.
    """

    free: bool


@dataclass(frozen=True, slots=True)
class End:
    """The fit ends without an answer."""

    status: Status
    text: str


def after_trouble(
    entry: Entry, trouble: Trouble, text: str, policy: Policy, *, shared: bool
) -> Again | End:
    """Decide about a fit whose batch has ended without an answer."""
    if shared:
        return Again(free=True)
    if trouble != "timeout" and entry.attempts <= policy.retries:
        return Again(free=False)
    return End("timeout" if trouble == "timeout" else "broken", text)


def after_loss(entry: Entry, trouble: Trouble, text: str, policy: Policy) -> Again | End:
    """Decide about a fit that was lost with all around it, this loss counted."""
    if entry.losses <= policy.losses:
        return Again(free=True)
    return End(
        "timeout" if trouble == "silence" else "broken",
        f"{text}. This fit was there {entry.losses} times when that happened, the last times with "
        "nothing else on the engine",
    )


def hangs(entry: Entry, policy: Policy) -> bool:
    """Whether a fit is to blame for the silence of an engine that held nothing else."""
    return entry.silences > min(policy.retries, policy.restarts - 1)


def is_suspect(entry: Entry, policy: Policy) -> bool:
    """Whether a fit may take down what is around it."""
    return entry.losses >= policy.suspect_losses


def is_worth_another_try(outcome: Outcome, entry: Entry, policy: Policy) -> bool:
    """Whether an exception that was answered says nothing about the fit."""
    return outcome.error in _OF_THE_WORKER and entry.attempts <= policy.retries
