from __future__ import annotations

import errno
import json
import os
import tempfile
import threading
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.events import Accepted, Answered, Failed, Send
from pytest_pyhf_faas.campaign.journal import (
    KEPT,
    VERSION,
    Journal,
    JournalReader,
    earlier,
    new_path,
    prune,
)
from pytest_pyhf_faas.campaign.results import (
    FITS,
    FitError,
    HypotestResult,
    WorkerEnvironment,
)
from pytest_pyhf_faas.session.resume import read_earlier
from tests.helpers.scripted_engine import ENVIRONMENT, PATIENCE_S, toy_result, toy_tasks

pytestmark = pytest.mark.timeout(300)

STORED = Path(__file__).parents[1] / "stored" / "journals"

numbers = st.floats(allow_nan=True, allow_infinity=True)
words = st.text(max_size=20)
keys = st.text("0123456789abcdef", min_size=8, max_size=8)
workers = st.sampled_from([None, "host:1", "host:2", "hôst:3"])


def environment_of(worker):
    return WorkerEnvironment.from_json({**ENVIRONMENT, "host": f"of {worker}"})


@st.composite
def results(draw):
    """Any result that a campaign gives."""
    status = draw(st.sampled_from(["ok", "error", "broken", "timeout"]))
    worker = draw(workers)
    values = {
        "key": draw(keys),
        "pallet": draw(words),
        "patch": draw(words),
        "status": status,
        "worker": worker,
        "environment": None if worker is None else environment_of(worker),
        "attempts": draw(st.integers(0, 5)),
        "seconds": draw(st.dictionaries(st.sampled_from(["unpack", "build", "fit"]), numbers)),
        "warnings": tuple(draw(st.lists(words, max_size=2))),
    }
    if status == "ok":
        values |= {
            "CLs_obs": draw(numbers),
            "CLs_exp": tuple(draw(st.lists(numbers, min_size=5, max_size=5))),
            "mu_hat": draw(numbers),
            "twice_nll": {fit: draw(numbers) for fit in FITS},
            "twice_nll_nearby": {fit: draw(numbers) for fit in FITS},
            "twice_nll_asimov_truth": draw(numbers),
            "twice_nll_off_minimum": draw(numbers),
        }
        if draw(st.booleans()):
            values |= {"certificate": {fit: {"distance": 0.0} for fit in FITS}, "rounding": 1e-9}
    else:
        values["error"] = FitError(draw(words), draw(words), draw(words))
    return HypotestResult(**values)


lists_of_results = st.lists(results(), max_size=6)
relaxed = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def written(path, many):
    journal = Journal(path)
    try:
        for result in many:
            journal.write("local", result)
    finally:
        journal.close()
    assert journal.problem is None
    return path


def read(path):
    return [result for _endpoint, result in JournalReader(path).read()]


def same(some, others):
    """NaN is not equal to itself, but reads the same."""
    return list(map(repr, some)) == list(map(repr, others))


@relaxed
@given(many=lists_of_results)
def test_what_is_written_is_read(many):
    with tempfile.TemporaryDirectory() as directory:
        assert same(read(written(Path(directory, "j.jsonl"), many)), many)


def test_endpoints_are_distinguished(tmp_path):
    tasks = toy_tasks(2)
    journal = Journal(tmp_path / "deep" / "down" / "j.jsonl")
    journal.write("local:2", toy_result(tasks[0]))
    journal.write("local:4", toy_result(tasks[1]))
    found = list(JournalReader(journal.path).read())
    journal.close()
    assert [endpoint for endpoint, _result in found] == ["local:2", "local:4"]


def test_an_environment_is_written_once_for_each_worker(tmp_path):
    tasks = toy_tasks(4)
    names = ["toy:1", "toy:2", "toy:1", "toy:2"]
    many = [
        toy_result(task, worker=worker, environment=environment_of(worker))
        for task, worker in zip(tasks, names, strict=True)
    ]
    path = written(tmp_path / "j.jsonl", many)
    events = [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["worker"] for event in events if "environment" in event] == ["toy:1", "toy:2"]
    assert same(read(path), many)


def test_a_worker_that_serves_two_optimizers_is_known_with_each(tmp_path):
    by_optimizer = {
        name: WorkerEnvironment.from_json({**ENVIRONMENT, "optimizer": name})
        for name in ("scipy", "minuit")
    }
    tasks = toy_tasks(4)
    many = [
        toy_result(task, environment=by_optimizer[name])
        for task, name in zip(tasks, ["scipy", "minuit"] * 2, strict=True)
    ]
    assert same(read(written(tmp_path / "j.jsonl", many)), many)


def test_a_message_that_is_no_valid_text_is_written_all_the_same(tmp_path):
    (task,) = toy_tasks(1)
    # What os.fsdecode makes of a file name in Latin-1, and so what may stand in an exception.
    error = FitError("FileNotFoundError", "no file caf\udce9.json", "")
    many = [toy_result(task, status="error", error=error), toy_result(task)]
    found = read(written(tmp_path / "j.jsonl", many))
    assert [result.status for result in found] == ["error", "ok"]
    assert "no file caf" in found[0].error.message


@relaxed
@given(many=lists_of_results, more=lists_of_results, data=st.data())
def test_a_journal_cut_anywhere_gives_what_was_whole_and_can_be_continued(many, more, data):
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory, "j.jsonl"), many)
        content = path.read_bytes()
        path.write_bytes(content[: data.draw(st.integers(0, len(content)), label="cut")])
        whole = read(path)
        assert same(whole, many[: len(whole)])
        written(path, more)
        found = read(path)
        # Where only the end of the line was cut off, the last one counts as well.
        before = len(found) - len(more)
        assert before in (len(whole), len(whole) + 1)
        assert same(found, [*many[:before], *more])


@relaxed
@given(many=lists_of_results, data=st.data())
def test_a_damaged_byte_costs_single_lines_only(many, data):
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory, "j.jsonl"), many)
        content = bytearray(path.read_bytes())
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
            path.write_bytes(content)
        assert len(read(path)) >= len(many) - 2


@relaxed
@given(many=lists_of_results, data=st.data())
def test_a_reader_of_a_growing_journal_sees_each_result_once(many, data):
    with tempfile.TemporaryDirectory() as directory:
        content = written(Path(directory, "whole.jsonl"), many).read_bytes()
        cuts = data.draw(st.lists(st.integers(0, len(content)), max_size=8), label="cuts")
        path = Path(directory, "growing.jsonl")
        reader = JournalReader(path)
        found = list(reader.read())
        with path.open("wb") as file:
            for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(content)], strict=True):
                file.write(content[start:end])
                file.flush()
                found += reader.read()
        assert [result for _endpoint, result in found] == [r for _e, r in found]
        assert same([result for _endpoint, result in found], many)


def test_a_reader_follows_a_writer(tmp_path):
    tasks = toy_tasks(200)
    many = [toy_result(task) for task in tasks]
    path = tmp_path / "j.jsonl"
    reader = JournalReader(path)
    assert list(reader.read()) == []  # there is no file yet
    writer = threading.Thread(target=written, args=(path, many))
    found = []
    writer.start()
    while writer.is_alive():
        found += reader.read()
    writer.join(PATIENCE_S)
    found += reader.read()
    assert [result for _endpoint, result in found] == many


def test_each_result_is_on_disk_when_write_returns(tmp_path):
    tasks = toy_tasks(3)
    journal = Journal(tmp_path / "j.jsonl")
    reader = JournalReader(journal.path)
    for task in tasks:
        journal.write("local", toy_result(task))
        assert [result.key for _endpoint, result in reader.read()] == [task.key]
    journal.close()


def test_lines_of_another_version_are_left_out(tmp_path):
    (task,) = toy_tasks(1)
    path = tmp_path / "j.jsonl"
    path.write_text('{"note": "from the future"}\n[]\n3\nnull\n"result"\n{"result": {}}\n\n')
    written(path, [toy_result(task)])
    assert [result.key for result in read(path)] == [task.key]


def test_a_journal_of_a_newer_version_is_left_out_and_says_so(tmp_path):
    (task,) = toy_tasks(1)
    path = written(tmp_path / "j.jsonl", [toy_result(task)])
    newer = f'"version": {VERSION + 1}, "again": {VERSION + 1}'
    path.write_text(path.read_text().replace(f'"version": {VERSION}, "again": {VERSION}', newer))
    reader = JournalReader(path)
    assert list(reader.read()) == []
    assert f"{path} has version {VERSION + 1}" in reader.problem
    assert "newer pytest-pyhf-faas" in reader.problem


def test_a_journal_without_a_version_is_of_the_first(tmp_path):
    (task,) = toy_tasks(1)
    path = written(tmp_path / "j.jsonl", [toy_result(task)])
    lines = path.read_text().splitlines(keepends=True)
    assert '"version"' in lines[0]
    path.write_text("".join(lines[1:]))
    assert [result.key for result in read(path)] == [task.key]


# What was accepted by a service that does it whatever happens here

places = st.tuples(st.sampled_from(["local", "uuid"]), st.integers(0, 3))
stories = st.lists(st.tuples(st.sampled_from(["accepted", "result", "sent"]), places), max_size=12)
TASKS = toy_tasks(4)


def told(path, story):
    """Write what happens; references are numbered, so that the last one is known."""
    journal = Journal(path)
    for number, (what, (endpoint, task)) in enumerate(story):
        key = TASKS[task].key
        if what == "result":
            journal.write(endpoint, toy_result(TASKS[task]))
        else:
            journal.note(endpoint, 0.0, Send(number, (key,), (1,), "first"))
        if what == "accepted":
            journal.note(endpoint, 0.0, Accepted(number, f"group/{number}"))
    journal.close()
    return path


def awaited(story):
    """What is accepted, and not answered, at the end of a story."""
    found = {}
    for number, (what, (endpoint, task)) in enumerate(story):
        if what == "accepted":
            found[endpoint, TASKS[task].key] = f"group/{number}"
        elif what == "result":
            found.pop((endpoint, TASKS[task].key), None)
    return found


def accepted_in(path):
    reader = JournalReader(path)
    for _ in reader.read():
        pass
    return reader.accepted


@relaxed
@given(story=stories)
@example(story=[("accepted", ("uuid", 0)), ("accepted", ("local", 0)), ("result", ("local", 0))])
@example(story=[("accepted", ("uuid", 0)), ("accepted", ("uuid", 0)), ("result", ("uuid", 0))])
def test_what_was_accepted_and_not_answered_is_known(story):
    with tempfile.TemporaryDirectory() as directory:
        assert accepted_in(told(Path(directory, "j.jsonl"), story)) == awaited(story)


@relaxed
@given(story=stories, data=st.data())
def test_what_was_accepted_is_known_from_a_journal_cut_anywhere(story, data):
    with tempfile.TemporaryDirectory() as directory:
        path = told(Path(directory, "j.jsonl"), story)
        content = path.read_bytes()
        cut = data.draw(st.integers(0, len(content)), label="cut")
        path.write_bytes(content[:cut])
        lines = [json.loads(line) for line in content[:cut].split(b"\n")[:-1] if line]
        words = [line.get("do") or line["event"] for line in lines]
        known = story[: words.count("send") + words.count("result")]
        # Where an acceptance was cut off after its sending, it is not known.
        if sum(what == "accepted" for what, _place in known) > words.count("accepted"):
            known = known[:-1]
        assert accepted_in(path) == awaited(known)


@pytest.mark.parametrize(
    "end", [Answered(1, "toy:1", ()), Failed(1, "worker lost", "its worker process was killed")]
)
def test_what_was_accepted_after_its_end_is_not_to_be_collected(tmp_path, end):
    journal = Journal(tmp_path / "j.jsonl")
    for record in (Send(1, (TASKS[0].key,), (1,), "first"), end, Accepted(1, "group/1")):
        journal.note("uuid", 0.0, record)
    journal.close()
    assert accepted_in(journal.path) == {}


@relaxed
@given(stories=st.lists(stories, min_size=1, max_size=3))
def test_a_result_in_a_later_journal_answers_what_an_earlier_one_awaits(stories):
    with tempfile.TemporaryDirectory() as directory:
        for number, story in enumerate(stories):
            told(Path(directory, f"{number}.jsonl"), story)
        for endpoint in ("local", "uuid"):
            accepted = read_earlier(Path(directory), endpoint).accepted
            assert set(accepted) == {
                key
                for where, key in awaited([each for story in stories for each in story])
                if where == endpoint
            }


# Journals of before, to be read forever


def test_a_journal_of_version_1_is_read():
    reader = JournalReader(STORED / "version-1.jsonl")
    found = list(reader.read())
    assert reader.problem is None
    assert {endpoint for endpoint, _result in found} == {"scripted"}
    results = [result for _endpoint, result in found]
    assert [(r.patch, r.status, r.worker) for r in results] == [
        ("toy_000", "ok", "toy:1"),
        ("toy_002", "error", "toy:2"),
        ("toy_003", "ok", "toy:1"),
    ]
    assert results[0].CLs_exp == (0.01, 0.02, 0.04, 0.08, 0.16)
    assert results[1].error.type == "pyhf.exceptions.InvalidModel"
    assert {result.environment.versions["scipy"] for result in results} == {"1.15.3"}
    assert sorted(reader.accepted.values()) == ["group/1", "group/4", "group/5"]
    assert list(JournalReader(reader.path).records("scripted")) == []


def test_a_journal_of_version_2_is_read():
    reader = JournalReader(STORED / "version-2.jsonl")
    results = [result for _endpoint, result in reader.read()]
    assert reader.problem is None
    assert Counter(result.status for result in results) == {"ok": 19, "broken": 1, "timeout": 1}
    assert max(Counter(result.key for result in results).values()) == 1
    assert results[0].CLs_exp == (0.01, 0.02, 0.04, 0.08, 0.16)
    assert results[0].environment.versions["scipy"] == "1.15.3"
    awaited = {key for _endpoint, key in reader.accepted}
    assert len(awaited) == 3
    assert not awaited & {result.key for result in results}


# A disk that is full


def check_gave_up(journal):
    (task,) = toy_tasks(1)
    assert str(journal.path) in journal.problem
    assert "No space left" in journal.problem
    said = journal.problem
    journal.write("local", toy_result(task))
    journal.close()
    assert journal.problem == said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_stops_the_journal_only():
    (task,) = toy_tasks(1)
    journal = Journal(Path("/dev/full"))
    journal.write("local", toy_result(task))
    check_gave_up(journal)


def test_a_disk_that_fills_up_keeps_what_was_written(tmp_path, monkeypatch):
    tasks = toy_tasks(3)
    journal = Journal(tmp_path / "j.jsonl")
    journal.write("local", toy_result(tasks[0]))

    class Full:
        def __init__(self, file):
            self.file = file

        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def close(self):
            self.file.close()

    journal._file = Full(journal._file)
    journal.write("local", toy_result(tasks[1]))
    check_gave_up(journal)
    assert [result.key for result in read(journal.path)] == [tasks[0].key]


def test_a_directory_that_cannot_be_made_stops_the_journal_only(tmp_path):
    (task,) = toy_tasks(1)
    (tmp_path / "file").write_text("in the way")
    journal = Journal(tmp_path / "file" / "j.jsonl")
    assert "cannot be written" in journal.problem
    journal.write("local", toy_result(task))
    journal.close()


# Which journals there are


def test_names_sort_by_time_and_the_newest_are_kept(tmp_path):
    assert earlier(tmp_path / "nowhere") == []
    names = [f"2026{month:02}{day:02}T120000-77.jsonl" for month in (9, 10) for day in range(1, 16)]
    for name in reversed(names):
        (tmp_path / name).touch()
    beside = [tmp_path / names[0], tmp_path / names[-1]]
    beside = [path.with_suffix(suffix) for path in beside for suffix in (".pools", ".progress")]
    for path in (tmp_path / "notes.txt", *beside):
        path.touch()
    assert [path.name for path in earlier(tmp_path)] == names
    prune(tmp_path)
    assert [path.name for path in earlier(tmp_path)] == names[-KEPT:]
    assert (tmp_path / "notes.txt").exists()
    assert [path.exists() for path in beside] == [False, False, True, True]
    prune(tmp_path)
    assert len(earlier(tmp_path)) == KEPT


def test_a_new_journal_comes_after_the_older_ones(tmp_path):
    (tmp_path / "20200101T000000-1.jsonl").touch()
    path = new_path(tmp_path)
    written(path, [])
    assert earlier(tmp_path)[-1] == path
