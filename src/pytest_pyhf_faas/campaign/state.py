"""The state of a campaign: events in, instructions out.

It has no thread, lock, clock, engine, file or callback: what it decides follows from the events
that it received and from their moments. So whatever a campaign did can be repeated
from its log, see `log.replay`.

The rules are in separate modules: `dispatch` and `queue` say what is sent when, `recovery`
how a fit that had trouble goes on, `lifetimes` which are longer than a block lives, `watch`
what no answer reports, `estimates` how long a fit takes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pytest_pyhf_faas.campaign import events, recovery
from pytest_pyhf_faas.campaign.dispatch import Dispatch
from pytest_pyhf_faas.campaign.estimates import FitTimes, Pace
from pytest_pyhf_faas.campaign.events import Facts
from pytest_pyhf_faas.campaign.flight import Batch
from pytest_pyhf_faas.campaign.lifetimes import Lifetimes
from pytest_pyhf_faas.campaign.queue import Entry
from pytest_pyhf_faas.campaign.results import ENGINE, TOO_LONG
from pytest_pyhf_faas.campaign.watch import Watch
from pytest_pyhf_faas.wording import counted, duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from pytest_pyhf_faas.campaign.events import Event, Fit, Instruction, Trouble
    from pytest_pyhf_faas.campaign.policy import Policy
    from pytest_pyhf_faas.campaign.results import Status


#: Troubles of a fit that was with a worker.
_OF_WORKERS = frozenset[events.Trouble]({"worker lost", "block lost", "timeout"})


class CampaignState:
    """All that a campaign knows about its fits.

    Parameters
    ----------
    policy : Policy
        Its patience.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.facts = Facts()
        self.times = FitTimes()
        #: Why nothing more is done, once it has ended.
        self.stopped: tuple[Status, str] | None = None
        self._dispatch = Dispatch(self.times, policy.tail_batches)
        self.queue, self.flight = self._dispatch.queue, self._dispatch.flight
        self._watch = Watch(policy, self.times)
        self._open: dict[str, Entry] = {}
        self._pace = Pace(-math.inf)
        self._lifetimes = Lifetimes(self.times)
        self._left_behind: set[str] = set()
        self._winding_down: str | None = None
        #: Whether there ever was a worker; before, no worker has what the engine holds.
        self.reached = False
        self._most_workers = 0
        self._restarting = False
        self._breakdowns = 0
        self._now = -math.inf
        self._out: list[Instruction] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            events.Submitted: self._on_submitted,
            events.FoundSent: self._on_found_sent,
            events.Sent: self._on_sent,
            events.Accepted: self._on_accepted,
            events.Answered: self._on_answered,
            events.Failed: self._on_failed,
            events.EngineUnusable: self._on_engine_unusable,
            events.PingEnded: self._on_ping_ended,
            events.Looked: self._on_looked,
            events.Restarted: self._on_restarted,
            events.Ticked: self._on_ticked,
            events.WoundDown: self._on_wound_down,
            events.Stopped: self._on_stopped,
        }

    def handle(self, event: Event, now: float) -> list[Instruction]:
        """Handle an event, and return what is to be done.

        Parameters
        ----------
        event : Event
            What has happened.
        now : float
            When, in seconds on the client's monotonic clock.

        Returns
        -------
        list of Instruction
            To be followed in this order. At most one of them is a `Send`.
        """
        self._now = now
        self._out = []
        self._handlers[type(event)](event)
        self._go_on()
        if self.facts.missing_since is None and self.facts.ready_at is not None:
            self.flight.begin(self._workers, now)
        return self._out

    # Queries

    @property
    def with_engine(self) -> set[str]:
        """The keys of the fits that the engine has and that have no result, or were cancelled."""
        return self._left_behind | self.flight.open_keys

    @property
    def held(self) -> int:
        """How many fits the engine has, as often as it has them."""
        return sum(len(batch.entries) for batch in self.flight)

    def quiet(self, now: float) -> tuple[float, float | None] | None:
        """Return for how long nothing has come; see `Watch`."""
        return self._watch.quiet(self.flight, self.facts, now)

    def silent_s(self, now: float) -> float:
        """Return for how long nothing has come of what is with workers; see `Watch`."""
        return self._watch.silent_s(self.flight, self.facts, now) or 0.0

    def left_s(self, now: float) -> float | None:
        """Return how many seconds are left until all is done, if all times are known.

        Where the fits that run are longer than it is known of their like, the others are, too.
        """
        work_s = self.times.of_all(entry.fit for entry in self._open.values())
        if work_s is None:
            return None
        expected_s = taken_s = ran_s = 0.0
        for batch, so_far_s in self._running(now):
            batch_s = self.times.of_all(entry.fit for entry in batch.open_entries) or 0.0
            expected_s += batch_s
            taken_s += max(batch_s, so_far_s)
            ran_s += so_far_s
        stretch = taken_s / expected_s if expected_s else 1.0
        return self._pace.left_s(stretch * work_s, self.facts.workers, now, ran_s)

    def running_s(self, now: float) -> float | None:
        """Return how long the fit has run that a worker has longest."""
        return max((so_far_s for _batch, so_far_s in self._running(now)), default=None)

    @property
    def _workers(self) -> int:
        """How many workers take tasks; the most that were seen, if the engine may lose tasks."""
        return self._most_workers if self.facts.loses_tasks else self.facts.workers_there

    def _running(self, now: float) -> list[tuple[Batch, float]]:
        """Return the batches that workers have, and for how long."""
        return [(b, now - b.begun_at) for b in self.flight if b.begun_at is not None]

    # Callers

    def _on_submitted(self, event: events.Submitted) -> None:
        self.queue.add(self._begin(event.fits))

    def _on_found_sent(self, event: events.FoundSent) -> None:
        entries = self._begin(event.fits)
        if entries:
            number = self.flight.add(Batch(entries, self._now, collected=True))
            keys = tuple(entry.fit.key for entry in entries)
            self._out.append(events.Collect(number, keys, event.reference))

    def _begin(self, fits: Iterable[Fit]) -> list[Entry]:
        entries = []
        if not self._open:
            self._pace = Pace(self._now)
        for fit in fits:
            if fit.key in self._open:
                continue
            entry = self._open[fit.key] = Entry(fit)
            if self.stopped is not None:
                self._give_up(entry, *self.stopped)
            elif self._winding_down is not None:
                self._give_up(entry, "cancelled", self._winding_down)
            else:
                entries.append(entry)
        return entries

    def _on_wound_down(self, event: events.WoundDown) -> None:
        if self.stopped is not None:
            return
        self._winding_down = event.reason
        if self.facts.missing_since is not None:
            self._end_all("cancelled", event.reason)  # what is with the engine does not run
            return
        for entry in self.queue.clear():
            self._give_up(entry, "cancelled", event.reason)

    def _on_stopped(self, event: events.Stopped) -> None:
        self._end_all("cancelled", event.reason)

    # The engine

    def _on_looked(self, event: events.Looked) -> None:
        self._watch.looked(self.facts, event.facts, self._now)
        if self.facts.missing_since is not None and event.facts.missing_since is None:
            self._pace.paused(self.facts.missing_since, self._now)
        if event.facts.missing_since is not None:
            self.flight.interrupt(self._now)
        self.facts = event.facts
        self._most_workers = max(self._most_workers, self.facts.workers_there)
        self.reached = self.reached or self.facts.ready_at is not None

    def _on_restarted(self, _event: events.Restarted) -> None:
        self._restarting = False

    def _on_engine_unusable(self, event: events.EngineUnusable) -> None:
        self._end_all("broken", event.text)

    def _on_sent(self, event: events.Sent) -> None:
        self._dispatch.taken(event.batch)

    def _on_accepted(self, _event: events.Accepted) -> None:
        """Do nothing: only a later session needs it, and reads it in the log."""

    def _on_ping_ended(self, event: events.PingEnded) -> None:
        if event.ping in self.flight.pings:
            self.flight.pings.discard(event.ping)
            if event.answered:
                self._overtake(event.ping)

    def _overtake(self, number: int) -> None:
        self.flight.overtake(number, self._now, losable=self.facts.loses_tasks)

    def _on_answered(self, event: events.Answered) -> None:
        self.reached = True
        batch = self._arrived(event.batch)
        if batch is None or not batch.open_entries:
            return  # its copy was faster
        if not batch.collected:  # its worker began it at some time in an earlier session
            self._out.append(events.Count(event.batch, batch.sent_at))
        outcomes = {outcome.key: outcome for outcome in event.outcomes}
        for entry in batch.open_entries:
            outcome = outcomes[entry.fit.key]
            if recovery.is_worth_another_try(outcome, entry, self.policy):
                text = f"{outcome.error} on {event.worker}"
                self._note(entry, "out of memory", text)
                if not entry.in_flight:
                    self._follow(entry, recovery.Again(free=False), text)
                continue
            if outcome.fit_s is not None:
                self.times.learn(entry.fit, outcome.fit_s)
                self._pace.did(outcome.fit_s, self._now)
            self._close(entry)
            attempts = max(1, entry.attempts)  # an earlier session may have sent it
            self._out.append(events.Take(entry.fit.key, event.batch, attempts))
        self._forget_answered()

    def _on_failed(self, event: events.Failed) -> None:
        self.reached = self.reached or event.trouble in _OF_WORKERS
        if event.trouble == "engine lost":
            if event.batch in self.flight.batches:
                self._replace_engine("engine lost", event.text)
            return
        batch = self._arrived(event.batch)
        if batch is None:
            return
        shared = len(batch.entries) > 1
        for entry in batch.open_entries:
            if entry.in_flight:  # another copy may yet answer
                self._note(entry, event.trouble, event.text)
            elif event.trouble == "block lost":
                self._lose_block(batch, entry, event.text)
            else:
                self._note(entry, event.trouble, event.text)
                what = recovery.after_trouble(
                    entry, event.trouble, event.text, self.policy, shared=shared
                )
                self._follow(entry, what, event.text)
        self._forget_answered()

    def _arrived(self, number: int) -> Batch | None:
        """Record that something came back; ``None`` if it is from an engine that was replaced."""
        batch = self._dispatch.ended(number)
        if batch is not None:
            self._overtake(number)
            self._watch.answered_at = self._now
            self._breakdowns = 0
        return batch

    def _forget_answered(self) -> None:
        if self.facts.loses_tasks:
            self.flight.forget_answered()

    # What comes next

    def _go_on(self) -> None:
        if self.stopped is not None or self._restarting:
            return
        if self.flight and self.facts.broken:
            self._replace_engine("engine lost", self.facts.failure or "it broke down")
            return
        send = self._dispatch.next(self.facts, self._now)
        if send is not None:
            self._out.append(send)

    def _on_ticked(self, _event: events.Ticked) -> None:
        if self._restarting:
            return
        missing = self._watch.missing_text(self.flight, self.facts, self._now)
        if missing is not None:
            self._end_all("broken", missing)
            return
        silence = self._watch.silence_text(self.flight, self.facts, self._now)
        if silence is not None:
            self._replace_engine("silence", silence)
            return
        if self._winding_down is not None:
            return
        ping_is_due = self._watch.ping_is_due(self.flight, self.facts, self._now)
        self._copy_straggler()
        if ping_is_due:
            self._out.append(events.Ping(self.flight.add_ping(self._now)))

    def _copy_straggler(self) -> None:
        dispatch = self._dispatch
        if dispatch.sending is not None:
            return
        idle = not dispatch.waits and len(self.flight) < self.facts.workers_there
        slow = self._watch.straggler(self.flight, self.facts, self._now, idle=idle)
        if slow is not None:
            lost = self._watch.may_be_lost(slow)
            self._out.append(dispatch.copy(slow, self._now, "lost" if lost else "copy"))

    # What goes wrong

    def _replace_engine(self, trouble: Trouble, reason: str) -> None:
        self._breakdowns += 1
        waiting = self._dispatch.engine_lost()
        if self._breakdowns > self.policy.restarts:
            self._end_all(
                "broken",
                f"the engine {self.facts.spec} broke down "
                f"{counted(self._breakdowns, 'time')} in a row without any answer in "
                f"between, the last time because {reason}",
            )
            return
        self._watch.answered_at = self._now
        if self._winding_down is None:  # else there is nothing left to send
            self._restarting = True
            self._out.append(events.Restart())
        if trouble == "silence" and len(waiting) == 1:
            # With others there, it may be one of them that hangs.
            waiting[0].silences += 1
            if recovery.hangs(waiting[0], self.policy):
                self._note(waiting[0], "timeout", reason)
                self._give_up(waiting[0], "timeout", reason)
                return
        for entry in waiting:
            self._lose(entry, trouble, reason)

    def _lose(self, entry: Entry, trouble: Trouble, text: str, of_the_fit: str = "") -> None:
        """Record that a fit was lost with all around it: most of these are not to blame."""
        entry.losses += 1
        self._note(entry, trouble, text)
        text += of_the_fit
        self._follow(entry, recovery.after_loss(entry, trouble, text, self.policy), text)

    def _lose_block(self, batch: Batch, entry: Entry, text: str) -> None:
        """Record that a fit was lost with its block, for which it may be too long."""
        facts, ran_s = self.facts, batch.ran_s(self._now)
        if ran_s is None or len(batch.entries) > 1:  # of several it is not known which ran
            self._lose(entry, "block lost", text)
            return
        ran_s = max(0.0, ran_s - facts.missed_after_s)
        walltime_s = facts.walltime_s
        of_the_fit = ""
        if walltime_s is not None:
            of_the_fit = (
                f" (the fit had run for {duration(ran_s)}, the walltime is {duration(walltime_s)})"
            )
        # Where workers are known only by their answers, one answer does not mean one worker.
        by_itself = batch.alone or (facts.workers == 1 and not facts.loses_tasks)
        too_long = self._lifetimes.lost(entry, ran_s, walltime_s, self._now, by_itself=by_itself)
        if too_long is None:
            self._lose(entry, "block lost", text, of_the_fit)
            return
        self._note(entry, "block lost", text)
        self._give_up(entry, "broken", f"{text}{of_the_fit}. {too_long}", TOO_LONG)
        for other in self.queue.take_suspects(
            lambda each: self._lifetimes.concerns(each) is not None
        ):
            text = f"{other.troubles[-1]}. {self._lifetimes.concerns(other)}"
            self._give_up(other, "broken", text, TOO_LONG)

    def _follow(self, entry: Entry, what: recovery.Again | recovery.End, text: str) -> None:
        """Send a fit again or end it, as the rules say."""
        if isinstance(what, recovery.End):
            self._give_up(entry, what.status, what.text)
            return
        if self._winding_down is None and what.free:
            entry.attempts = max(0, entry.attempts - 1)  # what was collected has none
        entry.troubles.append(text)
        if self._winding_down is not None:
            self._give_up(entry, "cancelled", self._winding_down)
        elif recovery.is_suspect(entry, self.policy):
            self.queue.add_suspect(entry)
        else:
            entry.alone = True
            self.queue.add([entry])

    def _end_all(self, status: Status, reason: str) -> None:
        """Stop for good: unfinished fits end like this, and later ones too."""
        if self.stopped is not None:
            return
        self.stopped = status, reason
        if status == "cancelled":
            self._left_behind |= self.flight.open_keys
        self.queue.clear()
        self._dispatch.engine_lost()
        self._restarting = False
        for entry in list(self._open.values()):
            self._give_up(entry, status, reason)
        self._out.append(events.Halt())

    def _note(self, entry: Entry, trouble: Trouble, text: str) -> None:
        self._out.append(events.Note(entry.fit.key, trouble, entry.attempts, text))

    def _give_up(self, entry: Entry, status: Status, text: str, error: str | None = None) -> None:
        if error is None:  # the reason that ends all fits says itself what to do
            error = ENGINE if status == "broken" and self.stopped is not None else status
        history = "".join(
            f"\nattempt {number}: {trouble}" for number, trouble in enumerate(entry.troubles, 1)
        )
        self._close(entry)
        attempts = 0 if error == ENGINE and not self.reached else entry.attempts
        self._out.append(events.GiveUp(entry.fit.key, status, error, text + history, attempts))

    def _close(self, entry: Entry) -> None:
        entry.ended = True
        if self._open.get(entry.fit.key) is entry:
            del self._open[entry.fit.key]
