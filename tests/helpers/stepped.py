"""A campaign without a thread, on a clock that the test sets: nothing depends on speed."""

from __future__ import annotations

from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.events import Accepted, Note, Send
from pytest_pyhf_faas.campaign.loop import Loop
from pytest_pyhf_faas.campaign.policy import Policy

#: So often a campaign looks after its engine before the test goes on.
_LOOKS = 8


class Clock:
    """A monotonic clock that stands still."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class SteppedLoop(Loop):
    """Does nothing until it is told to."""

    def _start(self):
        return

    def _join(self):
        self.go_on()

    def go_on(self):
        """Do all that can be done until something happens."""
        looks = 0
        while looks < _LOOKS:
            looks += self._is_idle
            if not self._step(0.0):
                self.engine.stop()
                return


class SteppedCampaign(Campaign):
    """A campaign whose loop is told to go on by the test.

    Parameters
    ----------
    engine, clock, options
        As of any campaign, its policy by the names of its fields.
    """

    def __init__(
        self, engine, clock, *, timeout_s=None, retries=0, queue_timeout_s=None, **options
    ):
        policy = Policy(timeout_s, retries, queue_timeout_s)
        super().__init__(engine, policy, clock=clock, **options)

    def _make_loop(self, policy):
        return SteppedLoop(self.engine, policy, self._tasks, self, self._clock)

    @property
    def state(self):
        return self._loop.state

    def go_on(self):
        self._loop.go_on()

    def wind_down(self, reason):
        super().wind_down(reason)
        self.go_on()

    def drain(self, on_tick=lambda: None):
        """Go on until all is done; ``on_tick`` has the engine do something."""
        while not self._tally.all_done:
            self.go_on()
            on_tick()


class Told:
    """What is told of a fit on its way, as (kind, key, attempt, text)."""

    def __init__(self):
        self.records = []
        self._keys = {}

    def hear(self, now, record):
        self.records.append((now, record))

    @property
    def events(self):
        """The sendings, the references and the troubles, one for each fit, in order."""
        keys, told = {}, []
        for _now, record in self.records:
            if isinstance(record, Send):
                keys[record.batch] = record.keys, record.attempts
                kind = "copied" if record.why in ("copy", "lost") else "sent"
                pairs = zip(record.keys, record.attempts, strict=True)
                told += [FitEvent(kind, key, attempt, "") for key, attempt in pairs]
            elif isinstance(record, Note):
                told.append(FitEvent(record.trouble, record.key, record.attempt, record.text))
            elif isinstance(record, Accepted):
                for key, attempt in zip(*keys[record.batch], strict=True):
                    told.append(FitEvent("accepted", key, attempt, record.reference))
        return told


class FitEvent:
    """What happened to one fit."""

    def __init__(self, kind, key, attempt, text):
        self.kind, self.key, self.attempt, self.text = kind, key, attempt, text


class NotedCampaign(SteppedCampaign):
    """A campaign that takes steps, with what it has told."""

    def __init__(self, engine, clock, **options):
        self.told = Told()
        self.taken = []
        super().__init__(
            engine, clock, on_record=self.told.hear, on_result=self.taken.append, **options
        )

    @property
    def events(self):
        return self.told.events
