"""The first Ctrl-C lets running fits finish, the second ends the run at once.

SIGTERM ends running fits: who sends it, such as a batch system, soon sends SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextlib.contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, which batch systems and ``kill`` send, do what Ctrl-C does meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class Interrupts:
    """Counts interrupts while fits run.

    Parameters
    ----------
    busy : callable
        Whether fits run: if none does, there is nothing to wait for, and the first interrupt
        ends the run as it does without this.
    """

    def __init__(self, busy: Callable[[], bool]) -> None:
        self.count = 0
        #: Whether SIGTERM came: there is no time to wait for running fits.
        self.terminated = False
        self._busy = busy
        self._previous: Any = None
        self._pid = 0  # that has set the handler of SIGTERM

    def watch(self) -> None:
        """Begin to count; a second call does nothing."""
        if self._previous is None and threading.current_thread() is threading.main_thread():
            self._previous = signal.getsignal(signal.SIGINT)
            signal.signal(signal.SIGINT, self._interrupted)
            if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
                self._pid = os.getpid()
                signal.signal(signal.SIGTERM, self._terminated)

    def restore(self) -> None:
        """Restore the previous handler of interrupts."""
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)
            self._previous = None
        if self._pid:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._pid = 0

    def _terminated(self, *_: object) -> None:
        if os.getpid() != self._pid:  # a child that was forked ends as it would without this
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.raise_signal(signal.SIGTERM)
        if self.terminated:
            return  # timeout(1) sends it to the process and to its group
        self.terminated = True
        signal.raise_signal(signal.SIGINT)

    def _interrupted(self, *_: object) -> None:
        # Nothing else is done here: whatever runs right now may hold any lock.
        self.count += 1
        signal.signal(signal.SIGINT, self._previous)  # the second one is pytest's
        if not self._busy():
            raise KeyboardInterrupt
