"""A campaign in the thread of the test, on a clock that the test sets: nothing depends on speed."""

from __future__ import annotations

from pytest_pyhf_faas.campaign.campaign import Campaign

#: So often a campaign looks after its engine before the test goes on.
_LOOKS = 8


class Clock:
    """Stands in for the module `time` in `campaign`."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


class _Paused(BaseException):
    """The campaign would wait now."""


class _Changed:
    """Stands in for the condition that a campaign waits on."""

    looks_left = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def notify_all(self):
        return None

    def wait(self, _timeout_s):
        if not self.looks_left:
            raise _Paused
        self.looks_left -= 1


class _NoThread:
    def join(self):
        return None


class SteppedCampaign(Campaign):
    """Does nothing until it is told to go on.

    Parameters
    ----------
    engine, options
        As of any campaign; what the module `time` is to `campaign` must be a `Clock` by then.
    """

    def __init__(self, engine, *, timeout_s=None, retries=0, **options):
        super().__init__(engine, timeout_s=timeout_s, retries=retries, **options)
        self._changed = _Changed()
        self._thread = _NoThread()

    def go_on(self):
        """Do all that can be done until something happens."""
        self._changed.looks_left = _LOOKS
        try:
            self._serve()
        except _Paused:
            return
        self.engine.stop()

    def drain(self, on_tick=lambda: None):
        """Go on until all is done; ``on_tick`` has the engine do something."""
        while self._done < self._total:
            self.go_on()
            on_tick()


def noted_campaign(engine, **options):
    """A campaign that takes steps, with what it has told."""
    events, taken = [], []
    campaign = SteppedCampaign(engine, on_event=events.append, on_result=taken.append, **options)
    campaign.events, campaign.taken = events, taken
    return campaign
