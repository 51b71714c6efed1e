"""What a campaign did is done again from its log, by the state alone."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign import loop
from pytest_pyhf_faas.campaign.campaign import Campaign
from pytest_pyhf_faas.campaign.events import Event, Instruction, Send
from pytest_pyhf_faas.campaign.journal import Journal, JournalReader
from pytest_pyhf_faas.campaign.log import record_from_json, record_to_json, replay
from pytest_pyhf_faas.campaign.policy import Policy
from pytest_pyhf_faas.engines.local import LocalEngine
from tests.helpers.scripted_engine import PATIENCE_S, AutomaticEngine, toy_tasks
from tests.helpers.stage import Stage, fits

pytestmark = pytest.mark.timeout(300)

ENDPOINT = "scripted"
#: A run on a simulated service, with whatever may befall fits: a worker and a block that are lost,
#: a straggler, a lost ping, an answer that cannot be read, a breakdown, an early end.
STORED = Path(__file__).parents[1] / "stored" / "journals" / "version-2.jsonl"


def check(records):
    """A fresh state decides the same at each event; return what was decided."""
    turns = list(replay(records))
    assert turns
    for event, logged, decided in turns:
        assert logged == decided, event
    return [instruction for _event, logged, _decided in turns for instruction in logged]


def kinds(records):
    return {type(record).__name__ for _now, record in records}


def troubles(records):
    return {getattr(record, "trouble", None) for _now, record in records} - {None}


def ways(instructions):
    return {each.why for each in instructions if isinstance(each, Send)}


def test_a_run_with_a_killed_worker_a_lost_block_and_a_straggler_is_replayed(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "TICK_S", 0.01)
    engine = AutomaticEngine(["ok", "lost", "block_lost", "remote_error", "memory", "silent"])
    engine.watches_workers = False
    journal = Journal(tmp_path / "journal.jsonl")
    campaign = Campaign(
        engine,
        Policy(retries=2, straggler_s=0.05),
        on_result=partial(journal.write, ENDPOINT),
        on_record=partial(journal.note, ENDPOINT),
    )
    tasks = toy_tasks(12)
    campaign.submit(tasks)
    results = [campaign.result(task).result(PATIENCE_S) for task in tasks]
    campaign.cancel("the test is over")
    engine.end()
    journal.close()
    assert {result.status for result in results} == {"ok"}
    records = list(JournalReader(journal.path).records(ENDPOINT))
    assert {"worker lost", "block lost", "remote call failed", "out of memory"} <= troubles(records)
    assert {"first", "again", "copy"} <= ways(check(records))


def test_a_run_on_workers_that_are_killed_is_replayed(tmp_path, monkeypatch):
    stage = Stage("local", LocalEngine("local:2", 2), tmp_path, monkeypatch)
    orders = fits(6, 0.05)
    orders[1] |= {"do": "kill worker", "times": 1}
    orders[3] |= {"do": "use all memory", "times": 1}
    stage.begin(orders)
    try:
        assert set(stage.finish().values()) == {"ok"}
    finally:
        stage.campaign.cancel("the test is over")
    assert {"worker lost", "out of memory"} <= troubles(stage.told.records)
    check(stage.told.records)


def test_a_run_of_before_is_replayed():
    """Whoever changes a decision on purpose makes a new log, and says why."""
    records = list(JournalReader(STORED).records(ENDPOINT))
    assert {
        "worker lost",
        "block lost",
        "engine lost",
        "silence",
        "remote call failed",
        "out of memory",
        "timeout",
    } == troubles(records)
    known = {kind.__name__ for kind in (Policy, *get_args(Event), *get_args(Instruction))}
    assert known - kinds(records) == {"EngineUnusable"}
    assert ways(check(records)) == {"first", "again", "alone", "copy"}


def test_a_log_that_was_tampered_with_is_not_the_same():
    records = list(JournalReader(STORED).records(ENDPOINT))
    sends = [place for place, (_now, record) in enumerate(records) if isinstance(record, Send)]
    del records[sends[3]]
    assert any(logged != decided for _event, logged, decided in replay(records))


def test_a_log_is_as_good_in_json():
    for now, record in JournalReader(STORED).records(ENDPOINT):
        data = json.loads(json.dumps(record_to_json(record)))
        assert (now, record_from_json(data)) == (now, record)


@given(data=st.dictionaries(st.sampled_from(["event", "do", "now"]), st.text(max_size=5)))
def test_what_is_no_record_is_none(data):
    assert record_from_json(data) is None
