"""Numbers, lists, tables and long texts as people read them."""

from __future__ import annotations

import ntpath
import re
import shlex
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_pyhf_faas import wording
from pytest_pyhf_faas.wording import (
    brief,
    counted,
    described,
    duration,
    fitted,
    folded,
    folded_command,
    listed,
    one_line,
    printable,
    relative_path,
    short_uuid,
    shortened,
    table,
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
    assert listed(["abcdefghi", "y"], most=1, width=5) == "ab…hi, and 1 more"


def test_a_uuid_is_short_and_any_other_text_is_left_alone():
    assert short_uuid("01234567-89ab-cdef-0123-456789ABCDEF") == "01234567…"
    for text in ("local:2", "parsl:slurm.py", "01234567-89ab-cdef-0123-456789abcdef0"):
        assert short_uuid(text) == text


# Lines that fit


def test_a_line_is_broken_between_words_and_goes_on_indented():
    assert folded("short", 20) == "short"
    assert folded("  one two three four five", 16) == "  one two three\n    four five"
    assert folded("a b\n  c d\n", 3) == "a b\n  c d\n".replace("  c d", "c d")
    assert folded("x" * 30, 20) == f"{'x' * 18}\n  {'x' * 12}"


def test_a_path_is_never_broken():
    assert folded("see /a/path/of/27/characters for it", 20) == (
        "see\n  /a/path/of/27/characters\n  for it"
    )


@given(st.text(st.sampled_from("ab-/ \n"), max_size=200), st.integers(20, 60))
def test_no_folded_line_is_longer_and_nothing_is_lost(text, width):
    shown = folded(text, width)
    too_long = [line.strip() for line in shown.split("\n") if len(line) > width]
    assert all("/" in line and " " not in line for line in too_long)
    assert re.sub(r"\s", "", shown) == re.sub(r"\s", "", text)
    assert folded(text, 1000) == text


def test_a_command_is_broken_as_a_shell_reads_it():
    command = "pytest --faas-pallet=a-pallet --faas-patch='x y' --faas-rtol=1e-3"
    assert folded_command(command, 40) == (
        "pytest --faas-pallet=a-pallet \\\n  '--faas-patch=x y' --faas-rtol=1e-3"
    )
    assert folded_command("pytest -q", 40) == "pytest -q"


@given(st.lists(st.text(min_size=1), min_size=1), st.integers(10, 100))
def test_a_broken_command_is_the_same_command(words, width):
    shown = folded_command(shlex.join(words), width)
    assert shlex.split(shown.replace("\\\n", "")) == words
    lines = shown.split("\n")
    if not any("\n" in word for word in words):
        assert all(len(line) <= width or len(shlex.split(line.rstrip("\\"))) == 1 for line in lines)


def test_a_live_line_fits_and_keeps_its_counts():
    line = f"{'parsl:' + 'p' * 60}.py: 3/25 fits done, 1 running, 2 failed, 4 s left"
    assert fitted(line, 200) == line
    assert fitted(line, 80) == (
        "parsl:pppppppppp…ppppppppppppp.py: 3/25 fits done, 1 running, 2 failed, 4 s left"
    )
    assert fitted(line, 40) == "parsl:…pp.py: 3/25 fits done, 1 running…"


HEADER = ("name", "wall time [s]", "n")


def test_a_table_is_aligned():
    rows = [("a", "1.0", "100"), ("long name", "", "")]
    assert table(HEADER, rows, 80) == [
        "name       wall time [s]    n",
        "a                    1.0  100",
        "long name",
    ]
    assert table(HEADER, [], 80) == ["name  wall time [s]  n"]


def test_a_table_that_is_too_wide_has_a_header_of_two_lines():
    assert table(HEADER, [("long name", "42.0 ± 2.8", "1")], 24) == [
        "            wall time",
        "name              [s]  n",
        "long name  42.0 ± 2.8  1",
    ]


def test_names_in_a_table_lose_their_middle():
    assert table(HEADER, [("n" * 60 + "end", "1.0", "1")], 30)[-1].split() == [
        *("nnnnnnnnnn…nnnnnnnend", "1.0", "1"),
    ]


def test_names_in_a_table_lose_no_more_than_tells_them_apart():
    rows = [(f"pyhf 0.7.{minor}, scipy 1.14.1", "42.0 ± 2.8", "1") for minor in (5, 6)]
    told = "\n".join(table(HEADER, rows, 34))
    assert "0.7.5" in told
    assert "0.7.6" in told


def test_what_is_the_same_in_each_row_of_a_table_that_is_too_wide_is_said_once():
    rows = [("wino", "a" * 12, "42.0 ± 2.8", "right"), ("wino", "b", "41.0 ± 2.8", "right")]
    header = ("pallet", "patch", "wall time [s]", "verdict")
    assert table(header, rows, 30, left=2) == [
        *("all: pallet wino, verdict", "  right"),
        "patch         wall time [s]",
        "aaaaaaaaaaaa     42.0 ± 2.8",
        "b                41.0 ± 2.8",
    ]


def test_a_table_on_a_very_narrow_terminal_is_a_list_of_texts():
    rows = [("a_name_that_is_long", "42.0 ± 2.8", "100"), ("b", "", "1")]
    assert table(HEADER, rows, 20) == [
        "a_name_that_is_long",
        "  wall time [s] 42.0",
        "    ± 2.8, n 100",
        *("b", "  n 1"),
    ]


CELLS = st.text("ab ±1", max_size=60)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=4), st.integers(20, 100))
def test_no_line_of_a_table_is_longer(rows, width):
    assert all(len(line) <= width for line in table(HEADER, rows, width))


def test_a_mean_has_a_spread_if_it_is_known():
    assert with_spread(42.04, None) == "42.0"
    assert with_spread(42.04, 2.83) == "42.0 ± 2.8"


def test_an_exception_without_a_message_says_what_caused_it():
    caused = RuntimeError()
    caused.__cause__ = ConnectionError()
    caused.__cause__.__context__ = OSError("AF_UNIX path too long")
    told = "RuntimeError, caused by ConnectionError, caused by OSError('AF_UNIX path too long')"
    assert described(caused) == told
    assert described(ValueError("no")) == "ValueError('no')"
    assert described(ValueError()) == "ValueError"


def test_a_path_is_relative_where_it_can_be(monkeypatch):
    assert relative_path(Path("/a/b/c"), Path("/a/d")) == "../b/c"
    assert relative_path(Path("here").absolute()) == "here"
    monkeypatch.setattr(wording, "os", SimpleNamespace(path=ntpath))
    report = PureWindowsPath(r"D:\runs\report.html")
    assert relative_path(report, PureWindowsPath("D:/runs/old")) == r"..\report.html"
    assert relative_path(report, PureWindowsPath("C:/tests")) == str(report)
