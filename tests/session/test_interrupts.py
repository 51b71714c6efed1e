from __future__ import annotations

import os
import queue
import signal
import threading

import pytest

from pytest_pyhf_faas.session.interrupts import Interrupts
from tests.helpers.fakes import wait_until


class Somebody:
    """Whoever had interrupts before, and what is left to them."""

    def __init__(self):
        self.heard = 0

    def __call__(self, *_):
        self.heard += 1


@pytest.fixture
def somebody():
    """The handler before; all is left as it was found."""
    somebody = Somebody()
    found = signal.signal(signal.SIGINT, somebody)
    yield somebody
    signal.signal(signal.SIGINT, found)


@pytest.fixture
def default_sigterm():
    """SIGTERM ends the process, as it does where nobody listens to it."""
    found = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, found)


def interrupt():
    signal.raise_signal(signal.SIGINT)


def handler():
    return signal.getsignal(signal.SIGINT)


def test_the_first_interrupt_is_counted_while_fits_run(somebody):
    interrupts = Interrupts(lambda: True)
    interrupts.watch()
    assert interrupts.count == 0
    interrupt()
    assert interrupts.count == 1
    assert somebody.heard == 0
    interrupts.restore()


def test_the_second_interrupt_goes_where_it_went_before(somebody):
    interrupts = Interrupts(lambda: True)
    interrupts.watch()
    interrupt()
    interrupt()
    interrupt()
    assert somebody.heard == 2
    interrupts.restore()


def test_the_second_interrupt_raises_where_it_did_before(somebody):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupts = Interrupts(lambda: True)
    interrupts.watch()
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    interrupts.restore()


def test_where_no_fit_runs_the_first_interrupt_raises(somebody):
    interrupts = Interrupts(lambda: False)
    interrupts.watch()
    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert interrupts.count == 1
    assert somebody.heard == 0
    interrupts.restore()


def test_whether_fits_run_is_asked_when_the_interrupt_comes(somebody):
    running = []
    interrupts = Interrupts(lambda: bool(running))
    interrupts.watch()
    running.append("a fit")
    interrupt()
    assert interrupts.count == 1
    interrupts.restore()


def test_restoring_leaves_interrupts_to_whoever_had_them(somebody):
    interrupts = Interrupts(lambda: True)
    interrupts.watch()
    assert handler() is not somebody
    interrupts.restore()
    assert handler() is somebody
    interrupt()
    assert (interrupts.count, somebody.heard) == (0, 1)


def test_restoring_after_an_interrupt_does_so_as_well(somebody):
    interrupts = Interrupts(lambda: True)
    interrupts.watch()
    interrupt()
    interrupts.restore()
    assert handler() is somebody


def test_restoring_twice_or_without_having_watched_changes_nothing(somebody):
    interrupts = Interrupts(lambda: True)
    interrupts.restore()
    assert handler() is somebody
    interrupts.watch()
    interrupts.restore()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.restore()
    assert handler() is signal.SIG_IGN


def test_watching_twice_is_watching_once(somebody):
    interrupts = Interrupts(lambda: True)
    interrupts.watch()
    interrupts.watch()
    interrupt()
    assert interrupts.count == 1
    interrupts.restore()
    assert handler() is somebody


def test_who_watches_again_after_an_interrupt_does_not_hear_the_second(somebody):
    interrupts = Interrupts(lambda: True)
    interrupts.watch()
    interrupt()
    interrupts.watch()  # as the next item does
    interrupt()
    assert (interrupts.count, somebody.heard) == (1, 1)
    interrupts.restore()


def test_outside_the_main_thread_nothing_is_watched(somebody):
    interrupts = Interrupts(lambda: True)
    thread = threading.Thread(target=interrupts.watch)
    thread.start()
    thread.join()
    assert handler() is somebody
    interrupts.restore()
    assert handler() is somebody


def test_sigterm_counts_as_an_interrupt_without_time(somebody, default_sigterm):
    interrupts = Interrupts(lambda: True)
    interrupts.watch()
    signal.raise_signal(signal.SIGTERM)
    assert (interrupts.count, interrupts.terminated, somebody.heard) == (1, True, 0)
    signal.raise_signal(signal.SIGTERM)  # timeout(1) sends two
    assert (interrupts.count, somebody.heard) == (1, 0)
    interrupt()
    assert somebody.heard == 1
    interrupts.restore()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_ctrl_c_leaves_time(somebody, default_sigterm):
    interrupts = Interrupts(lambda: True)
    interrupts.watch()
    interrupt()
    assert not interrupts.terminated
    interrupts.restore()


def test_sigterm_stays_with_whoever_listens_to_it(somebody, default_sigterm):
    signal.signal(signal.SIGTERM, somebody)
    interrupts = Interrupts(lambda: True)
    interrupts.watch()
    assert signal.getsignal(signal.SIGTERM) is somebody
    interrupts.restore()
    assert signal.getsignal(signal.SIGTERM) is somebody


# Python and JAX warn of threads that earlier tests of the process left; the child only dies.
@pytest.mark.filterwarnings("ignore:.*fork:RuntimeWarning", "ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_that_was_forked_dies_of_sigterm(somebody, default_sigterm):
    interrupts = Interrupts(lambda: True)
    interrupts.watch()
    child = os.fork()
    if not child:
        signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGTERM
    interrupts.restore()


def test_an_interrupt_does_not_end_a_wait(somebody):
    interrupts = Interrupts(lambda: True)
    interrupts.watch()
    came = queue.Queue()

    def interrupt_then_answer():
        os.kill(os.getpid(), signal.SIGINT)
        wait_until(lambda: interrupts.count)
        came.put("what was waited for")

    thread = threading.Thread(target=interrupt_then_answer)
    thread.start()
    assert came.get(timeout=60) == "what was waited for"
    thread.join()
    assert interrupts.count == 1
    interrupts.restore()
