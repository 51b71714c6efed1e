"""How often fits were sent, and why, of the instructions alone."""

from __future__ import annotations

import pytest

from pytest_pyhf_faas.campaign.events import GiveUp, Note, Restart, Send, Take
from pytest_pyhf_faas.campaign.sendings import Sendings


def send(*keys, why="first"):
    return Send(1, keys, (1,) * len(keys), why)


def heard(*instructions):
    sendings = Sendings("agent", reached=True)
    for instruction in instructions:
        sendings.hear(instruction)
    return sendings.fits, dict(sendings.again)


def test_what_meets_no_trouble_is_sent_once():
    assert heard(send("a", "b"), send("c"), Take("a", 1, 1)) == (3, {})


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("worker lost", "worker lost"),
        ("block lost", "block lost"),
        ("engine lost", "agent lost"),
        ("timeout", "time limit"),
        ("silence", "no answer"),
        ("out of memory", "out of memory"),
        ("remote call failed", "call failed"),
    ],
)
def test_what_is_sent_again_has_the_reason(trouble, reason):
    note = Note("a", trouble, 1, "")
    assert heard(send("a", "b"), note, Restart(), send("a", why="again")) == (3, {reason: 1})
    # Once for each time that it is sent, and not where it ends instead.
    assert heard(send("a"), note, send("a"), send("b")) == (3, {reason: 1})
    ended = GiveUp("a", "broken", "", "", 1)
    assert heard(send("a"), note, ended, send("a")) == (2, {})


def test_a_copy_is_sent_because_the_first_is_slow():
    slow = heard(send("a", "b"), send("b", why="copy"), Take("b", 2, 1))
    assert slow == (3, {"copy of a slow one": 1})


def test_a_copy_is_sent_because_the_agent_was_gone():
    assert heard(send("a", "b"), send("b", why="lost")) == (3, {"agent lost": 1})


def test_a_fit_that_is_measured_again_is_not_sent_again():
    note = Note("a", "worker lost", 1, "")
    trials = [send("a"), note, Take("a", 1, 1), send("a"), Take("a", 2, 1)]
    assert heard(*trials) == (2, {})


def test_where_no_worker_was_ever_there_nothing_was_sent_to_one():
    sendings = Sendings("agent")
    sendings.hear(send("a", "b"))
    assert (sendings.fits, sendings.kept) == (0, 2)
    sendings.reached = True
    sendings.hear(send("c"))
    assert (sendings.fits, sendings.kept) == (3, 0)


def test_fits_are_counted_by_what_is_known_of_the_end_of_their_block():
    sendings = Sendings("engine", reached=True)
    for key, text in (("a", "job 7: qdel"), ("b", "job 7: qdel"), ("a", "job 8: walltime")):
        sendings.hear(Note(key, "block lost", 1, text))
    sendings.hear(Note("c", "worker lost", 1, "killed"))
    assert sendings.blocks == {"job 7: qdel": 2, "job 8: walltime": 1}
