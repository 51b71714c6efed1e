"""Numbers, lists, tables and long texts as people read them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas.wording import (
    brief,
    columns,
    counted,
    duration,
    listed,
    one_line,
    printable,
    shortened,
    with_spread,
)


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
        (4, "patch", "4 patches"),
    ],
)
def test_counts_with_their_nouns(count, noun, text):
    assert counted(count, noun) == text


@pytest.mark.parametrize(
    ("cut", "text"), [("end", "abcdef…"), ("middle", "abc…hij"), ("beginning", "…efghij")]
)
def test_a_long_text_is_cut(cut, text):
    assert shortened("abcdefghij", 7, cut) == text
    assert shortened("abcdefg", 7, cut) == "abcdefg"


@given(st.text(), st.integers(1, 40), st.sampled_from(["beginning", "middle", "end"]))
def test_a_text_is_whole_or_as_long_as_it_may_be(text, most, cut):
    short = shortened(text, most, cut)
    assert short == text if len(text) <= most else len(short) == most
    before, ellipsis, after = short.partition("…")
    assert short == text or (ellipsis and text.startswith(before) and text.endswith(after))


def test_a_message_is_one_line_that_keeps_its_end():
    assert one_line(" a\n\tb  c ") == "a b c"
    assert one_line(ValueError("wrong\nhere")) == "wrong here"
    assert brief("x" * 100 + "\n" + "y" * 100, 21) == "x" * 10 + "…" + "y" * 10


def test_what_a_terminal_would_obey_is_not_shown():
    assert printable("a\x1b[31m\nb") == "a?[31m?b"


def test_lists_say_how_many_follow():
    names = [f"p{number}" for number in range(5)]
    assert listed([]) == ""
    assert listed(names[:3]) == "p0, p1, p2"
    assert listed(names) == "p0, p1, p2, and 2 more"
    assert listed(["x" * 9, "y"], most=1, width=5) == "xxxx…, and 1 more"


def test_columns_are_aligned():
    rows = [("name", "", "n"), ("a", "x", "100"), ("long name", "", "")]
    assert columns(rows, left=2) == ["name            n", "a          x  100", "long name"]
    assert columns([("a", "1"), ("bb", "22")]) == ["a    1", "bb  22"]
    assert columns([]) == []


def test_a_mean_has_a_spread_if_it_is_known():
    assert with_spread(42.04, None) == "42.0"
    assert with_spread(42.04, 2.83) == "42.0 ± 2.8"
