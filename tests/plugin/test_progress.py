from __future__ import annotations

import re
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from pytest_pyhf_faas.campaign.progress import Progress
from pytest_pyhf_faas.plugin import progress as module
from pytest_pyhf_faas.plugin.progress import ProgressLine, describe


def progress(done=0, total=20, running=2, failed=0, elapsed_s=10.0, left_s=None, cancelled=0):
    return Progress(total, done, running, failed, elapsed_s, left_s, cancelled)


class Screen:
    """As much of a terminal as the live line needs: a grid, a cursor, and a few escape codes."""

    def __init__(self, width=80):
        self.width = width
        self.lines = [""]
        self.row = self.column = 0

    def feed(self, text):
        for token in re.findall(r"\x1b\[\d*[A-Z]|[^\x1b]", text):
            if token.startswith("\x1b"):
                self.escape(token[-1], int(token[2:-1] or 1))
            elif token == "\n":
                self.row += 1  # the column stays, as on a terminal in raw mode
                while len(self.lines) <= self.row:
                    self.lines.append("")
            elif token == "\r":
                self.column = 0
            else:
                assert self.column < self.width, "the line wraps, and the way back is wrong"
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + token + line[self.column + 1 :]
                self.column += 1

    def escape(self, code, count):
        if code == "K":
            self.lines[self.row] = self.lines[self.row][: self.column]
        elif code == "A":
            self.row -= count
            assert self.row >= 0
        elif code == "C":
            self.column = min(self.column + count, self.width - 1)
        else:
            raise AssertionError(f"the escape code {code} is not known here")

    @property
    def text(self):
        return [line.rstrip() for line in self.lines]


class Writer:
    """pytest's TerminalWriter, as far as it is used."""

    def __init__(self, screen):
        self.screen = screen
        self.fullwidth = screen.width
        self.width_of_current_line = 0

    def write(self, text):
        self.screen.feed(text)
        self.width_of_current_line = len(text.rpartition("\n")[2])


class Stdout:
    """The same terminal, past pytest's writer: what is written is there when it is flushed."""

    screen = None
    waiting = ""

    def write(self, text):
        self.waiting += text

    def flush(self):
        self.screen.feed(self.waiting)
        self.waiting = ""


class Reporter:
    """pytest's TerminalReporter, as far as it is used."""

    def __init__(self, isatty, verbosity=0, width=80):
        self.isatty = isatty
        self.verbosity = verbosity
        self.screen = Screen(width)
        self._tw = Writer(self.screen)
        self.config = SimpleNamespace(get_terminal_writer=lambda: self._tw)
        self.printed = []
        Stdout.screen = self.screen

    def ensure_newline(self):
        self.printed.append("newline")

    def flush(self):
        self.seen = list(self.printed)

    def write_line(self, line):
        self.printed.append(line)


@pytest.fixture(autouse=True)
def stdout(monkeypatch):
    monkeypatch.setattr(module, "sys", SimpleNamespace(stdout=Stdout()))


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 1000.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


# Words


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "toy: 0/20 fits done, 2 running"),
        ({"done": 5, "left_s": 42.4}, "toy: 5/20 fits done, 2 running, 0.5/s, 42 s left"),
        ({"done": 5, "cancelled": 9}, "toy: 5/20 fits done, 2 running, 9 cancelled, 0.5/s"),
        ({"total": 1}, "toy: 0/1 fit done, 2 running"),
        ({"done": 5, "failed": 1}, "toy: 5/20 fits done, 2 running, 1 failed, 0.5/s"),
        ({"done": 20, "running": 0, "elapsed_s": 3.0}, "toy: 20/20 fits done, 0 running, 6.7/s"),
    ],
)
def test_progress_in_words(values, text):
    assert describe("toy", progress(**values)) == text


# On a terminal


def test_the_live_line_stands_below_and_the_cursor_returns(clock):
    reporter = Reporter(isatty=True)
    line = ProgressLine(reporter)
    reporter._tw.write("tests/test_toy.py ..F")
    place = reporter.screen.row, reporter.screen.column
    line.show("toy", progress(done=5))
    assert (reporter.screen.row, reporter.screen.column) == place
    assert reporter.screen.text == [
        "tests/test_toy.py ..F",
        "toy: 5/20 fits done, 2 running, 0.5/s",
    ]
    line.clear()
    assert (reporter.screen.row, reporter.screen.column) == place
    assert reporter.screen.text == ["tests/test_toy.py ..F", ""]
    reporter._tw.write(".")
    assert reporter.screen.text[0] == "tests/test_toy.py ..F."


def test_the_live_line_replaces_itself(clock):
    reporter = Reporter(isatty=True)
    line = ProgressLine(reporter)
    line.show("toy", progress(done=19, failed=3, left_s=7000))
    clock.now += 1
    line.show("toy", progress(done=20))
    assert reporter.screen.text == ["", "toy: 20/20 fits done, 2 running, 2/s"]


def test_the_live_line_never_wraps(clock):
    reporter = Reporter(isatty=True, width=20)
    line = ProgressLine(reporter)
    line.show("an endpoint with a long name", progress())
    assert (reporter.screen.row, reporter.screen.column) == (0, 0)
    assert reporter.screen.text == ["", "an endpoint with a"]


def test_the_live_line_is_not_drawn_too_often(clock):
    reporter = Reporter(isatty=True)
    line = ProgressLine(reporter)
    line.show("toy", progress(done=1))
    clock.now += 0.1
    line.show("toy", progress(done=2))
    assert "1/20" in reporter.screen.text[1]
    clock.now += 1
    line.show("toy", progress(done=3))
    assert "3/20" in reporter.screen.text[1]


def test_clearing_what_was_not_shown_writes_nothing(clock):
    reporter = Reporter(isatty=True)
    line = ProgressLine(reporter)
    line.clear()
    line.show("toy", progress())
    line.clear()
    line.clear()
    assert reporter.screen.text == ["", ""]


def test_the_line_is_written_past_the_capture(clock, monkeypatch):
    state = []

    @contextmanager
    def uncaptured():
        state.append("open")
        yield
        state.append("closed")

    class Watched(Stdout):
        def flush(self):
            state.append("written")

    monkeypatch.setattr(module.sys, "stdout", Watched())
    reporter = Reporter(isatty=True)
    ProgressLine(reporter, uncaptured).show("toy", progress())
    assert state == ["open", "written", "closed"]


# Elsewhere


def test_elsewhere_each_tenth_is_a_line_of_its_own(clock):
    reporter = Reporter(isatty=False)
    line = ProgressLine(reporter)
    for done in range(21):
        for _ in range(2):
            line.show("toy", progress(done=done, elapsed_s=10.0))
    printed = [text for text in reporter.printed if text != "newline"]
    assert [text.split()[1] for text in printed] == [f"{n}/20" for n in range(2, 21, 2)]
    assert reporter.printed.count("newline") == len(printed)
    line.clear()
    assert reporter.screen.text == [""]


def test_elsewhere_a_line_is_seen_at_once():
    reporter = Reporter(isatty=False)
    ProgressLine(reporter).show("local", Progress(10, 1, 2, 0, 1.0, None))
    assert reporter.seen == reporter.printed != []


def test_the_next_fits_begin_with_their_first_tenth(clock):
    reporter = Reporter(isatty=False)
    line = ProgressLine(reporter)
    line.show("toy", progress(done=20, elapsed_s=10.0))
    clock.now += 50
    line.show("toy", progress(done=2, elapsed_s=1.0))
    printed = [text for text in reporter.printed if text != "newline"]
    assert [text.split()[1] for text in printed] == ["20/20", "2/20"]


def test_a_tenth_is_printed_once_though_the_clock_goes_on(clock):
    reporter = Reporter(isatty=False)
    line = ProgressLine(reporter)
    began = clock.now - 0.51  # an estimate of it is rounded, now down, now up
    for _ in range(50):
        clock.now += 0.037
        # Between reading the clock there and reading it here some time passes.
        line.show("toy", progress(done=4, elapsed_s=clock.now - began - 0.02))
        clock.now += 0.037
        line.show("toy", progress(done=4, elapsed_s=clock.now - began))
    printed = [text for text in reporter.printed if text != "newline"]
    assert len(printed) == 1


@pytest.mark.parametrize("isatty", [True, False])
def test_nothing_is_shown_where_nobody_wants_it(clock, isatty):
    quiet = Reporter(isatty, verbosity=-2)
    for reporter in (None, quiet):
        line = ProgressLine(reporter)
        line.show("toy", progress(done=10))
        line.clear()
    assert quiet.printed == []
    assert quiet.screen.text == [""]


def test_no_fits_are_no_progress(clock):
    reporter = Reporter(isatty=False)
    ProgressLine(reporter).show("toy", progress(total=0, running=0))
    assert reporter.printed == []
