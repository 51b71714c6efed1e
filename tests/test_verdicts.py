"""One list of what a hypothesis can be, which reports and their schema have as well."""

from __future__ import annotations

from typing import get_args

import pytest

from pytest_pyhf_faas.campaign.results import Status
from pytest_pyhf_faas.schemas import own_schema
from pytest_pyhf_faas.verdicts import State, Verdict


def test_the_schema_of_reports_has_these_and_no_others():
    hypothesis = own_schema("report.schema.json")["definitions"]["hypothesis"]
    allowed = hypothesis["properties"]["verdict"]["enum"]
    assert allowed == [verdict.value for verdict in Verdict]


@pytest.mark.parametrize("verdict", Verdict)
def test_each_has_its_look_and_its_words(verdict):
    assert verdict.state in State
    assert verdict.state.sign
    assert verdict.state.emoji
    assert verdict.clause.noun in ("hypothesis", "fit")
    assert verdict.clause.one
    assert verdict.clause.several
    assert verdict.fails or verdict.state not in (State.WRONG, State.BROKEN)
    assert not verdict.agrees or verdict.is_compared
    assert not verdict.is_compared or verdict.is_fitted


def test_the_worst_comes_first():
    order = sorted(Verdict, key=lambda verdict: verdict.severity)
    assert order == list(Verdict)
    states = list(dict.fromkeys(verdict.state for verdict in order))
    expected = [State.WRONG, State.BROKEN, State.INCOMPLETE, State.KNOWN, State.RIGHT]
    assert states == expected


def test_however_a_fit_ended_there_is_a_verdict():
    found = {status: Verdict.of_fit(status) for status in get_args(Status)}
    assert found.pop("ok") is Verdict.NOT_COMPARED
    assert {status: verdict.value for status, verdict in found.items()} == {
        status: status for status in found
    }
