"""How far a campaign is, and when nothing has come for too long."""

from __future__ import annotations

import pytest

from tests.helpers.scripted_engine import ScriptedEngine, toy_tasks
from tests.helpers.stepped import Clock, SteppedCampaign


class Engine(ScriptedEngine):
    """Knows something, and notes when it is asked."""

    asked = 0

    @property
    def knows(self):
        self.asked += 1
        return "its worker is there"


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def engine():
    return Engine(workers=1)


@pytest.fixture
def campaign(engine, clock):
    campaign = SteppedCampaign(engine, clock)
    campaign.submit(toy_tasks(4))
    campaign.go_on()
    return campaign


def quiet(campaign, clock, seconds):
    """Let time pass; return for how long nothing has come, if that is long."""
    clock.now += seconds
    campaign.go_on()
    return campaign.progress().quiet_s


def test_after_a_while_without_news_it_is_said_what_is_known(campaign, engine, clock):
    assert quiet(campaign, clock, 14.0) is None
    assert engine.asked == 0
    assert quiet(campaign, clock, 1.0) == 15.0
    assert campaign.progress().knows == "its worker is there"
    assert campaign.progress().expected_s is None
    assert quiet(campaign, clock, 45.0) == 60.0


def test_an_answer_is_news(campaign, engine, clock):
    quiet(campaign, clock, 60.0)
    engine.submissions[0].answer()
    assert quiet(campaign, clock, 0.0) is None
    assert quiet(campaign, clock, 15.0) == 15.0


def test_fits_that_take_long_are_no_stall(campaign, engine, clock):
    quiet(campaign, clock, 60.0)
    engine.submissions[0].answer(fit_s=60.0)
    assert quiet(campaign, clock, 0.0) is None
    assert quiet(campaign, clock, 89.0) is None
    assert quiet(campaign, clock, 1.0) == 90.0
    assert campaign.progress().expected_s is None  # a worker's first fit may take longer
    engine.submissions[1].answer(fit_s=40.0)
    assert quiet(campaign, clock, 0.0) is None
    assert quiet(campaign, clock, 90.0) == 90.0
    assert campaign.progress().expected_s == pytest.approx(50.0)


def test_while_a_long_fit_runs_as_expected_it_is_said_what_is_known(campaign, engine, clock):
    engine.submissions[0].answer(fit_s=600.0)
    assert quiet(campaign, clock, 0.0) is None
    assert campaign.progress().knows is None
    assert quiet(campaign, clock, 15.0) is None
    assert campaign.progress().knows == "its worker is there"


def test_fits_of_another_fit_setup_tell_nothing_of_how_long_these_take(engine, clock):
    campaign = SteppedCampaign(engine, clock)
    campaign.submit(toy_tasks(3))
    for number in range(3):
        campaign.go_on()
        engine.submissions[number].answer(fit_s=1.0)
    campaign.submit(toy_tasks(1, optimizer="minuit"))
    campaign.go_on()
    assert quiet(campaign, clock, 20.0) == 20.0
    assert campaign.progress().expected_s is None


def test_where_no_worker_is_there_that_is_said_instead(campaign, engine, clock):
    engine.missing_since, engine.waits_for = clock.now, "its block"
    assert quiet(campaign, clock, 60.0) is None
    progress = campaign.progress()
    assert (progress.waits_s, progress.waits_for, progress.running) == (60.0, "its block", 0)
    engine.first_answer_at = clock.now - 1000.0  # one was there before
    assert quiet(campaign, clock, 0.0) == 60.0
    assert campaign.progress().waits_s == 60.0
    engine.missing_since = engine.waits_for = None
    assert quiet(campaign, clock, 0.0) is None  # one could not have come before
    assert quiet(campaign, clock, 15.0) == 15.0


@pytest.mark.parametrize("there", [0, 1])
def test_of_workers_that_have_not_answered_none_is_said_to_run(campaign, monkeypatch, there):
    monkeypatch.setattr(Engine, "workers_known", False)
    monkeypatch.setattr(Engine, "workers_there", there)
    assert campaign.progress().running == there


def test_where_nothing_is_under_way_nothing_is_missed(campaign, engine, clock):
    for number in range(4):
        engine.submissions[number].answer()
        campaign.go_on()
    assert campaign.progress().done == 4
    assert quiet(campaign, clock, 1000.0) is None
