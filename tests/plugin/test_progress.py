from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from io import StringIO
from queue import Queue
from types import SimpleNamespace

import pytest

from pytest_pyhf_faas.campaign.progress import Progress
from pytest_pyhf_faas.plugin import display, relay
from pytest_pyhf_faas.plugin.display import TerminalDisplay
from pytest_pyhf_faas.session import progress as module
from pytest_pyhf_faas.session.display import StreamDisplay
from pytest_pyhf_faas.session.progress import ProgressLine, describe


def progress(done=0, total=20, running=2, failed=0, elapsed_s=10.0, left_s=None, **more):
    return Progress(total, done, running, failed, elapsed_s, left_s, **more)


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

    def write_line(self, line, yellow=False):
        self.printed.append(line)


@pytest.fixture(autouse=True)
def stdout(monkeypatch):
    monkeypatch.setattr(display, "sys", SimpleNamespace(stdout=Stdout()))


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

STALLS = "toy: 5/20 fits done, no news for"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "toy: 0/20 fits done, 2 running"),
        ({"done": 5, "left_s": 42.4}, "toy: 5/20 fits done, 2 running, 0.5/s, 42 s left"),
        ({"done": 5, "running": 0, "left_s": 42.4}, "toy: 5/20 fits done, 0 running, 0.5/s"),
        (
            {"waits_s": 8.0, "waits_for": "a proxy", "missing": "word from the service"},
            "toy: 0/20 fits done, no word from the service for 8 s (a proxy)",
        ),
        ({"done": 5, "left_s": 0.0}, "toy: 5/20 fits done, 2 running, 0.5/s"),
        ({"done": 5, "cancelled": 9}, "toy: 5/20 fits done, 9 cancelled, 2 running, 0.5/s"),
        ({"total": 1}, "toy: 0/1 fit done, 2 running"),
        ({"done": 5, "failed": 1}, "toy: 5/20 fits done, 1 failed, 2 running, 0.5/s"),
        ({"done": 20, "running": 0, "elapsed_s": 3.0}, "toy: 20/20 fits done, 0 running, 6.7/s"),
        ({"done": 20, "running": 0, "elapsed_s": 0.16}, "toy: 20/20 fits done, 0 running, 120/s"),
        (
            {"done": 5, "left_s": 4.0, "waits_s": 12.0, "waits_for": "blocks: 1 pending"},
            "toy: 5/20 fits done, no worker for 12 s (blocks: 1 pending)",
        ),
        ({"done": 5, "left_s": 4.0, "quiet_s": 20.0}, f"{STALLS} 20 s: 2 running"),
        (
            {"done": 5, "quiet_s": 90.0, "expected_s": 0.31, "knows": "1 worker connected"},
            f"{STALLS} 1 min 30 s: 2 running (about 0.3 s expected); 1 worker connected",
        ),
        (
            {"done": 5, "left_s": 42.4, "knows": "1 worker connected"},
            "toy: 5/20 fits done, 2 running, 0.5/s, 42 s left; 1 worker connected",
        ),
        (
            {"done": 5, "quiet_s": 90.0, "expected_s": 61.0},
            f"{STALLS} 1 min 30 s: 2 running (about 1 min 01 s expected)",
        ),
    ],
)
def test_progress_in_words(values, text):
    assert describe("toy", progress(**values)) == text


# On a terminal


def test_the_live_line_stands_below_and_the_cursor_returns(clock):
    reporter = Reporter(isatty=True)
    line = ProgressLine(TerminalDisplay(reporter))
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
    line = ProgressLine(TerminalDisplay(reporter))
    line.show("toy", progress(done=19, failed=3, left_s=7000))
    clock.now += 1
    line.show("toy", progress(done=20))
    assert reporter.screen.text == ["", "toy: 20/20 fits done, 2 running, 2/s"]


def test_the_live_line_never_wraps(clock):
    reporter = Reporter(isatty=True, width=20)
    line = ProgressLine(TerminalDisplay(reporter))
    line.show("an endpoint with a long name", progress())
    assert (reporter.screen.row, reporter.screen.column) == (0, 0)
    assert reporter.screen.text == ["", "an end… name: 0/20…"]


def test_the_live_line_is_not_drawn_too_often(clock):
    reporter = Reporter(isatty=True)
    line = ProgressLine(TerminalDisplay(reporter))
    line.show("toy", progress(done=1))
    clock.now += 0.1
    line.show("toy", progress(done=2))
    assert "1/20" in reporter.screen.text[1]
    clock.now += 1
    line.show("toy", progress(done=3))
    assert "3/20" in reporter.screen.text[1]


def test_clearing_what_was_not_shown_writes_nothing(clock):
    reporter = Reporter(isatty=True)
    line = ProgressLine(TerminalDisplay(reporter))
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

    monkeypatch.setattr(display.sys, "stdout", Watched())
    reporter = Reporter(isatty=True)
    ProgressLine(TerminalDisplay(reporter, uncaptured)).show("toy", progress())
    assert state == ["open", "written", "closed"]


def test_no_estimate_stands_there_while_nothing_comes(clock):
    reporter = Reporter(isatty=True)
    line = ProgressLine(TerminalDisplay(reporter))
    line.show("toy", progress(done=19, left_s=4.0))
    assert "4 s left" in reporter.screen.text[1]
    clock.now += 15
    line.show("toy", progress(done=19, left_s=4.0, quiet_s=15.0))
    assert reporter.screen.text[1] == "toy: 19/20 fits done, no news for 15 s: 2 running"


def test_a_long_name_leaves_room_for_what_is_wrong(clock):
    reporter = Reporter(isatty=True)
    line = ProgressLine(TerminalDisplay(reporter))
    uuid = "754d0d9b-e04f-4475-930e-594bf56515f3"
    line.show(uuid, progress(done=8, waits_s=10.0, waits_for="the endpoint is offline: start it"))
    assert reporter.screen.text[1] == (
        "754d0d…515f3: 8/20 fits done, no worker for 10 s (the endpoint is offline: sta…"
    )


def test_a_short_wait_is_not_worth_a_flash(clock):
    reporter = Reporter(isatty=True)
    line = ProgressLine(TerminalDisplay(reporter))
    line.wait("toy", 0.9, None)
    line.wait("toy", None, None)
    assert reporter.screen.text == [""]
    line.wait("toy", 1.1, None)
    assert reporter.screen.text[1] == "toy: no answer for 1 s"


# Elsewhere


def test_elsewhere_each_tenth_is_a_line_of_its_own(clock):
    reporter = Reporter(isatty=False)
    line = ProgressLine(TerminalDisplay(reporter))
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
    ProgressLine(TerminalDisplay(reporter)).show("local", Progress(10, 1, 2, 0, 1.0, None))
    assert reporter.seen == reporter.printed != []


def test_the_next_fits_begin_with_their_first_tenth(clock):
    reporter = Reporter(isatty=False)
    line = ProgressLine(TerminalDisplay(reporter))
    line.show("toy", progress(done=20, elapsed_s=10.0))
    clock.now += 50
    line.show("toy", progress(done=2, elapsed_s=1.0))
    printed = [text for text in reporter.printed if text != "newline"]
    assert [text.split()[1] for text in printed] == ["20/20", "2/20"]


def test_a_tenth_is_printed_once_though_the_clock_goes_on(clock):
    reporter = Reporter(isatty=False)
    line = ProgressLine(TerminalDisplay(reporter))
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
    for shown in (None, TerminalDisplay(quiet)):
        line = ProgressLine(shown)
        line.show("toy", progress(done=10))
        line.clear()
    assert quiet.printed == []
    assert quiet.screen.text == [""]


def quiet_lines(line, reporter, **fields):
    """Let nothing come for a while; return after how many seconds there were lines."""
    before = len(reporter.printed)
    for seconds in range(15, 130):
        line.show("toy", progress(quiet_s=float(seconds), **fields))
    said = [text for text in reporter.printed[before:] if text != "newline"]
    return [int(re.search(r"no news for (?:(\d) min )?(\d+) s", text)[2]) for text in said]


def test_elsewhere_what_stalls_is_reported_more_and_more_rarely():
    reporter = Reporter(isatty=False)
    line = ProgressLine(TerminalDisplay(reporter))
    assert quiet_lines(line, reporter) == [15, 30, 0, 0]  # 1 min 00 s and 2 min 00 s
    line.show("toy", progress(done=1))
    assert quiet_lines(line, reporter, done=1) == []  # perhaps each fit takes as long
    line.show("toy", progress(done=2))
    assert quiet_lines(line, reporter, done=2) == [15, 30, 0, 0]


def test_a_wait_that_is_noticed_late_is_reported_no_later():
    """An endpoint that went offline 12 s before is told of 3 s later."""
    reporter = Reporter(isatty=False)
    line = ProgressLine(TerminalDisplay(reporter))
    for seconds in range(70):
        waits_s = seconds - 12.0 if seconds >= 12 else None
        quiet_s = float(seconds) if seconds >= 15 else None
        line.show("toy", progress(waits_s=waits_s, waits_for="offline", quiet_s=quiet_s))
    said = [text for text in reporter.printed if text != "newline"]
    waits = [f"toy: 0/20 fits done, no worker for {n} s (offline)" for n in (3, 18, 48)]
    assert said == waits


def test_dots_are_no_beginning_of_a_line():
    """Those of pytest-xdist, of which the terminal's reporter knows nothing."""
    reporter = Reporter(isatty=False)
    reporter._tw.line = lambda: reporter.printed.append("newline of the writer")
    reporter._tw.write("..")
    TerminalDisplay(reporter).write("text")
    assert reporter.printed[-2:] == ["newline of the writer", "text"]


def test_a_command_shows_it_next_to_its_output(clock):
    class Stream(StringIO):
        isatty = staticmethod(lambda: terminal)

    for terminal in (False, True):
        stream = Stream()
        line = ProgressLine(StreamDisplay(stream))
        line.show("toy", progress(done=2))
        line.clear()
        line.say("it ends")
        clock.now += 1
        text = "toy: 2/20 fits done, 2 running, 0.2/s"
        drawn = f"\r\x1b[K{text}\r\x1b[K" if terminal else f"{text}\n"
        assert stream.getvalue() == f"{drawn}it ends\n"


# From a worker of pytest-xdist to its controller


class Loop:
    """The loop of xdist's controller, which does what it is told in its own time."""

    def __init__(self):
        self.queue = Queue()

    def go_on(self):
        name, arguments = self.queue.get(timeout=10)
        getattr(self, f"worker_{name}")(**arguments)


@pytest.fixture
def relayed(tmp_path, monkeypatch):
    """What a worker tells, and what the controller shows of it."""
    monkeypatch.setattr(relay, "_LOOK_S", 0.01)
    reporter, loop = Reporter(isatty=False), Loop()
    config = SimpleNamespace(pluginmanager=SimpleNamespace(getplugin=lambda _name: loop))
    journal = tmp_path / "run.jsonl"
    line = ProgressLine(TerminalDisplay(reporter))
    controller = relay.Relayed(journal, config, lambda: line)
    controller.pytest_sessionstart()
    there = SimpleNamespace(
        worker=relay.Relay(journal), controller=controller, loop=loop, printed=reporter.printed
    )
    yield there
    controller.pytest_sessionfinish()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (0, "toy: 0/20 fits done, 2 running, the first for 12 min 10 s; 1 worker connected"),
        (1, "toy: 1/20 fits done, no news for 30 s: 2 running; 1 worker connected"),
    ],
)
def test_before_the_first_has_ended_it_says_how_long_they_run(done, said):
    told = progress(done=done, quiet_s=30.0, running_s=730.0, knows="1 worker connected")
    assert describe("toy", told) == said


def test_where_no_worker_is_known_none_runs():
    told = progress(running=0, quiet_s=30.0, running_s=30.0)
    assert describe("toy", told) == "toy: 0/20 fits done, no news for 30 s: 0 running"


def test_what_the_worker_tells_is_shown_by_the_controller(relayed):
    relayed.loop.go_on()  # nothing is told yet
    relayed.worker.show("toy", progress(done=2, quiet_s=15.0, knows="1 worker connected"))
    relayed.loop.go_on()
    said = "toy: 2/20 fits done, no news for 15 s: 2 running; 1 worker connected"
    assert relayed.printed == ["newline", said]
    time.sleep(0.02)
    relayed.worker.wait("toy", 40.0, "its block", missing="manager")
    relayed.loop.go_on()
    assert relayed.printed[2:] == ["newline", "toy: no manager for 40 s (its block)"]
    relayed.worker.clear()
    relayed.loop.go_on()
    assert len(relayed.printed) == 4


def test_a_worker_that_has_died_shows_nothing(relayed):
    relayed.worker.show("toy", progress(done=2))
    (file,) = relayed.controller._path.parent.iterdir()
    os.utime(file, (0, 0))
    relayed.loop.go_on()
    assert relayed.printed == []


def test_progress_is_shown_under_xdist(project):
    project.pallet(4)
    project.own_test()
    # Each is told of and looked at several times, also where the machine is busy.
    project.plan(workers=1, fit_takes_s=2.0)
    result = project.run("-n2", suite=False)
    result.assert_outcomes(passed=4)
    result.stdout.re_match_lines([r"local: \d/4 fits done, 1 running, .*left"])
    assert not list(project.path.glob(".pytest_cache/d/pyhf-faas/*.progress*"))


def test_a_search_for_starts_says_its_round(project):
    project.pallet(4, references=False)
    project.plan(workers=1, fit_takes_s=0.3)
    result = project.run("--faas-update", "new", "-k", "test_cls")
    shown = r"local, search for starts, round 1: \d/4 fits done, 1 running, .*"
    result.stdout.re_match_lines([shown, r"reference_results/tiny.json: 4 references written .*"])


def test_no_fits_are_no_progress(clock):
    reporter = Reporter(isatty=False)
    ProgressLine(TerminalDisplay(reporter)).show("toy", progress(total=0, running=0))
    assert reporter.printed == []
