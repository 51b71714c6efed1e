"""Fits as a stream: in order, a window of them at a time, and forgotten when they are used."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest

from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.session import stream as streams
from pytest_pyhf_faas.session.stream import stream
from tests.helpers.scripted_engine import AutomaticEngine, toy_tasks


class ForgetfulEngine(AutomaticEngine):
    """Keeps nothing of what it was given."""

    def took(self, submission):
        super().took(submission)
        self.submissions.clear()


@pytest.fixture
def campaign():
    engine = ForgetfulEngine()
    campaign = Campaign(engine)
    yield campaign
    campaign.cancel("the test is over")
    engine.end()


def test_a_stream_yields_all_in_order_and_keeps_none(campaign, monkeypatch):
    monkeypatch.setattr(streams, "_FEWEST", 6)
    monkeypatch.setattr(streams, "_OF_A_WORKER", 1)
    tasks = toy_tasks(50)
    sizes = []

    def send(some):
        campaign.submit(some)
        sizes.append(len(some))

    known = []
    seen = []
    for task, result in stream(campaign, iter(tasks), 50, send, lambda: True):
        seen.append((task, result.patch))
        known.append(sum(each in campaign for each in tasks))
    assert seen == [(task, task.patch.name) for task in tasks]
    assert sum(sizes) == 50
    assert max(sizes) <= 6
    assert max(known) <= 6 * 5
    assert known[-1] == 0
    progress = campaign.progress()
    assert (progress.total, progress.done) == (50, 50)


def test_what_was_asked_for_by_others_is_not_forgotten(campaign):
    tasks = toy_tasks(4)
    campaign.submit(tasks[:1])
    list(stream(campaign, tasks, 4, campaign.submit, lambda: True))
    assert [task in campaign for task in tasks] == [True, False, False, False]
    assert campaign.result(tasks[0]).result(1).status == "ok"


def test_a_stream_ends_where_nothing_more_is_to_be_sent(campaign, monkeypatch):
    monkeypatch.setattr(streams, "_FEWEST", 4)
    monkeypatch.setattr(streams, "_OF_A_WORKER", 1)
    looks = itertools.count()
    tasks = toy_tasks(40)
    some = list(stream(campaign, tasks, 40, campaign.submit, lambda: next(looks) < 1))
    assert [task for task, _ in some] == tasks[:4]
    assert campaign.progress().total == 40  # what is not done is counted


def test_two_tasks_of_one_content_have_one_fit_each_has_its_name(campaign):
    tasks = [*toy_tasks(2), *toy_tasks(2)]
    found = list(stream(campaign, tasks, 4, campaign.submit, lambda: True))
    assert [task for task, _ in found] == tasks
    assert {result.status for _, result in found} == {"ok"}


def test_memory_does_not_grow_with_the_number_of_fits(campaign, monkeypatch):
    """What is left of a fit is its share of what says where the time went."""
    monkeypatch.setattr(streams, "_FEWEST", 100)
    monkeypatch.setattr(streams, "_OF_A_WORKER", 1)
    tasks = toy_tasks(1500)
    tracemalloc.start()
    try:
        at = []
        for place, _ in enumerate(stream(campaign, tasks, 1500, campaign.submit, lambda: True)):
            if place in (500, 1400):
                at.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert (at[1] - at[0]) / 900 < 1000  # bytes; each is a batch of its own here
