"""A worker's answer is read whole, or it is said what is wrong with it."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.campaign.answers import parse_answer
from pytest_pyhf_faas.errors import RemoteCallError
from tests.helpers.paths import STORED
from tests.helpers.scripted_engine import ENVIRONMENT, toy_answer, toy_tasks

TASKS = toy_tasks(3)


def answer_to(tasks=TASKS, **changes):
    """What a worker says about some tasks."""
    return {
        "worker": "toy:1",
        "environment": ENVIRONMENT,
        "results": [toy_answer(task.key, fit_s=0.5) for task in tasks],
        "began_s": 17.0,
        "gap_s": None,
        "unpack_s": 0.25,
        "total_s": 3.0,
        **changes,
    }


def without(data, *path):
    """The same without one of its values, which is found by the path."""
    data = copy.deepcopy(data)
    inner = data
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return data


def test_an_answer_is_read_whole():
    data = answer_to()
    data["results"][1] = toy_answer(TASKS[1].key, error="ValueError")
    before = copy.deepcopy(data)
    answer = parse_answer(data, TASKS)
    assert data == before  # it still belongs to the future
    assert list(answer.results) == [task.key for task in TASKS]
    assert [result.status for result in answer.results.values()] == ["ok", "error", "ok"]
    first, second, _third = answer.results.values()
    assert (first.pallet, first.patch, first.worker) == ("toy", TASKS[0].patch.name, "toy:1")
    assert first.CLs_exp == (0.01, 0.02, 0.04, 0.08, 0.16)
    assert first.environment.versions["scipy"] == "1.15.3"
    assert second.error.type == "ValueError"
    assert (answer.began_s, answer.total_s, answer.gap_s) == (17.0, 3.0, None)
    assert answer.unpack_s == pytest.approx(0.25 + 2 * 0.001)
    assert answer.build_s == pytest.approx(2 * 0.002)
    assert answer.fit_s == pytest.approx(2 * 0.5)


def test_of_what_was_sent_only_what_is_asked_for_is_read_but_its_time_counts():
    answer = parse_answer(answer_to(), TASKS[1:2])
    assert list(answer.results) == [TASKS[1].key]
    assert answer.fit_s == pytest.approx(3 * 0.5)


def test_a_worker_need_not_say_what_it_is():
    answer = parse_answer(answer_to(environment=None), TASKS)
    assert answer.environment is None


def test_numbers_that_json_has_not_are_read():
    data = answer_to()
    data["results"][0]["CLs_obs"] = "nan"
    assert math.isnan(parse_answer(data, TASKS).results[TASKS[0].key].CLs_obs)


WHOLE = answer_to()
NEEDED = [
    *[(name,) for name in WHOLE],
    *[("results", 0, name) for name in ("key", "status", "seconds", "CLs_obs", "CLs_exp")],
    ("results", 0, "seconds", "fit"),
    ("results", 0),
]


@pytest.mark.parametrize("path", NEEDED, ids=lambda path: ".".join(map(str, path)))
def test_what_is_missing_is_said(path):
    with pytest.raises(RemoteCallError, match=r"cannot be read .* is missing") as caught:
        parse_answer(without(WHOLE, *path), TASKS)
    missing = TASKS[0].key if path in [("results", 0), ("results", 0, "key")] else path[-1]
    assert repr("key" if path[-1] == "key" else missing) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"worker": 7}, "worker is 7"),
        ({"environment": 7}, ""),
        ({"results": None}, ""),
        ({"results": [None]}, ""),
        ({"began_s": "soon"}, "soon"),
        ({"total_s": math.nan}, "total_s is nan"),
        ({"total_s": 10**400}, "too large"),
        ({"unpack_s": None}, ""),
    ],
)
def test_what_is_of_another_kind_is_said(changes, words):
    with pytest.raises(RemoteCallError, match="cannot be read") as caught:
        parse_answer(answer_to(**changes), TASKS)
    assert words in str(caught.value)
    assert "another version of pytest-pyhf-faas" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"status": "fine"}, "the status of a fit is 'fine'"),
        ({"status": "broken"}, "the status of a fit is 'broken'"),
        ({"CLs_obs": None}, "CLs_obs is null"),
        ({"CLs_exp": [0.1]}, "CLs_exp has 1 values"),
        ({"CLs_exp": 0.1}, ""),
        ({"seconds": {"fit": None}}, ""),
        ({"seconds": {"fit": math.inf}}, "fit is inf"),
        ({"twice_nll": 3.0}, ""),
        ({"status": "error"}, "'error' is missing"),
        ({"status": "error", "error": {"kind": "ValueError"}}, ""),
    ],
)
def test_what_is_wrong_with_a_fit_is_said(changes, words):
    data = answer_to()
    data["results"][0] |= changes
    with pytest.raises(RemoteCallError, match="cannot be read") as caught:
        parse_answer(data, TASKS)
    assert words in str(caught.value)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(data=json_values)
def test_what_makes_no_sense_raises_nothing_else(data):
    with pytest.raises(RemoteCallError):
        parse_answer(data, TASKS)


@given(path=st.sampled_from(NEEDED), value=json_values)
def test_an_answer_with_something_else_inside_is_read_or_refused(path, value):
    data = copy.deepcopy(WHOLE)
    inner = data
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    try:
        answer = parse_answer(data, TASKS)
    except RemoteCallError:
        return
    assert list(answer.results) == [task.key for task in TASKS]


@pytest.mark.parametrize("method", ["hypotest", "certified"])
def test_a_stored_answer_is_read(method):
    """What an endpoint has kept since an earlier session is collected by a later version."""
    data = json.loads((STORED / "answers" / f"{method}.json").read_text(encoding="utf-8"))
    names = ["synthetic_300_0", "synthetic_900_890", "synthetic_300_50"]
    tasks = [
        replace(task, key=result["key"], patch=replace(task.patch, name=name))
        for task, name, result in zip(TASKS, names, data["results"], strict=True)
    ]
    answer = parse_answer(data, tasks)
    first, invalid, two_minima = answer.results.values()
    assert first.CLs_obs == pytest.approx(0.00172508, rel=1e-4)
    assert invalid.error.type.endswith(".InvalidModel")
    assert two_minima.patch == "synthetic_300_50"
    assert answer.environment.versions["pyhf"] == "0.7.6"
    assert 0 < answer.fit_s < answer.total_s
    if method == "certified":
        assert first.certificate["distance"] < 1e-8
        assert two_minima.nominal.CLs_obs != two_minima.CLs_obs
    # It is written in the same words.
    assert first.to_json().items() >= {"status": "ok", "CLs_obs": first.CLs_obs}.items()
