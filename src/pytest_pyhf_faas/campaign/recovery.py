"""What becomes of a fit that met trouble, rule by rule.

- A worker that dies, or that cannot do what it is sent: the fit may be to blame. It goes alone from
  then on, and is given up as broken after ``retries`` more attempts.
- A batch that came to grief is split, and its members pay nothing: one of them did it.
- A time limit: not tried again, but for those that shared a batch with the one that took too long.
- A block that goes with all its workers, or an engine that breaks down: no fault of most fits that
  were there. One that was there twice is a suspect: it runs once more with nothing else on the
  engine, so that it takes no other down, and is given up in the end.
- A fit that has run for the whole walltime of its block when that ended, twice, is too long for it;
  of fits like it, of which none was ever done, once is enough.
- An engine that is silent with only one fit on it: as if the fit had taken too long.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_pyhf_faas.wording import counted, duration

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.events import Outcome, Trouble
    from pytest_pyhf_faas.campaign.policy import Policy
    from pytest_pyhf_faas.campaign.queue import Entry
    from pytest_pyhf_faas.campaign.results import Status

#: The part of a walltime that is left to a fit: workers take some time to start and to connect.
_WHOLE = 0.8
#: So often a fit ends with the walltime of its block until that is no accident.
_OUTLIVED = 2
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


def ran_out(ran_s: float | None, walltime_s: float | None) -> bool:
    """Whether a fit had run for all of the walltime, but for the start of its workers."""
    return ran_s is not None and walltime_s is not None and ran_s >= _WHOLE * walltime_s


def after_loss(
    entry: Entry,
    trouble: Trouble,
    text: str,
    policy: Policy,
    *,
    walltime_s: float | None = None,
    others_are_too_long: bool = False,
) -> Again | End:
    """Decide about a fit that was lost with all around it, this loss counted.

    Parameters
    ----------
    entry, trouble, text, policy : Entry, Trouble, str, Policy
        The fit, and what befell it.
    walltime_s : float, optional
        That of the block that it has outlived now.
    others_are_too_long : bool
        Whether fits like it are known to be longer than that.
    """
    if walltime_s is not None and (entry.outlived >= _OUTLIVED or others_are_too_long):
        return End(
            "broken",
            f"{text}. The walltime of a block, {duration(walltime_s)}, is shorter than the fit, "
            f"which has run for all of it {counted(entry.outlived, 'time')}: set a longer "
            "walltime in the provider of the configuration, and let the queue allow it",
        )
    if entry.losses <= policy.losses:
        return Again(free=True)
    return End(
        "timeout" if trouble == "silence" else "broken",
        f"{text}. It was there {entry.losses} times when that happened, the last times with "
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
