"""The patience of a campaign, all in one place, and part of its log."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Policy:
    """How often a campaign tries, and how long it waits.

    Attributes
    ----------
    timeout_s : float or None
        How long one fit may take on a worker.
    retries : int
        How often a fit is sent again after it broke; never because of its value.
    queue_timeout_s : float or None
        How long there may be no worker before all fits are given up.
    restarts : int
        An engine that breaks down this often without any answer in between is given up.
    losses : int
        A fit that was in a block or an engine when it broke down is sent again this often.
    suspect_losses : int
        After this many such losses it is sent with nothing else on the engine.
    silence_s, silence_factor : float
        An engine is silent if no answer came for this long, and this many times its longest fit.
    straggler_s, straggler_factor : float
        A fit is a straggler when it takes this long, and this many times what it should.
    ping_s, ping_factor : float
        An engine that supports pings is pinged when nothing came for this long. A ping may be
        lost, or wait behind long fits: the next ones come less often, up to this many times
        as rarely.
    tail_batches : int
        The last fits are spread over the workers in at least this many batches each.
    """

    timeout_s: float | None = None
    retries: int = 1
    queue_timeout_s: float | None = None
    restarts: int = 3
    losses: int = 3
    suspect_losses: int = 2
    silence_s: float = 300.0
    silence_factor: float = 20.0
    straggler_s: float = 20.0
    straggler_factor: float = 4.0
    ping_s: float = 10.0
    ping_factor: float = 4.0
    tail_batches: int = 4
