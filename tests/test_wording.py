"""Numbers as people say them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.wording import counted, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599.7, "1 h 00 min"),
        (3661, "1 h 01 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_durations_in_words(seconds, text):
    assert duration(seconds) == text


@given(st.floats(0, 1e9))
def test_no_part_of_a_duration_overflows(seconds):
    numbers = [int(number) for number in re.findall(r"\d+", duration(seconds))]
    assert all(number < 60 for number in numbers[1:])


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [
        (0, "fit", "0 fits"),
        (1, "hypothesis", "1 hypothesis"),
        (2, "hypothesis", "2 hypotheses"),
        (3, "analysis", "3 analyses"),
    ],
)
def test_counts_with_their_nouns(count, noun, text):
    assert counted(count, noun) == text
