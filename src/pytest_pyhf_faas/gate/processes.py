"""Processes that a gate starts: their output goes into a log, and they end in order."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

from pytest_pyhf_faas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_LOOK_S = 0.1
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
#: How long a process may take to end after a second interrupt.
_GRACE_S = 10.0


class Interruption:
    """How often the gate was interrupted: once ends all in order, twice at once.

    A signal handler, which must take no lock, counts; those who wait look at the count.
    """

    def __init__(self) -> None:
        self.count = 0

    @property
    def asked(self) -> bool:
        """Whether to end."""
        return self.count > 0

    @property
    def insisted(self) -> bool:
        """Whether to end at once."""
        return self.count > 1

    @contextlib.contextmanager
    def watch(self) -> Iterator[None]:
        """Count Ctrl-C and SIGTERM meanwhile, in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        previous = {each: signal.signal(each, self._interrupted) for each in _INTERRUPTS}
        try:
            yield
        finally:
            for each, handler in previous.items():
                signal.signal(each, handler)

    def _interrupted(self, *_: object) -> None:
        self.count += 1


def check_system() -> None:
    """Refuse to start where processes cannot be ended as a group, and inherit no locks.

    Raises
    ------
    ConfigurationError
        On Windows.
    """
    if sys.platform == "win32":
        raise ConfigurationError(
            "pyhf-faas gate needs Linux or macOS. On Windows use WSL, or run pyhf-faas validate in "
            "each environment and compare the reports: pyhf-faas report A B C"
        )


class StoppedError(Exception):
    """The gate was interrupted before something was done."""


def environment() -> dict[str, str]:
    """Return variables that let a process see only what its environment has."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST_ADD", "PYTEST_XDIST", "PYTEST_PLUGINS"))
        and name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "GITHUB_STEP_SUMMARY")
    }
    alone = {"PYTHONNOUSERSITE": "1", "PYTHONSAFEPATH": "1"}
    return {"OMP_NUM_THREADS": "1", **kept, **alone}


def run(
    command: Sequence[str],
    log: Path,
    interruption: Interruption,
    *,
    held: int | None = None,
) -> int:
    """Run a command until it ends, and return its exit status, negative for a signal.

    It has its own session, so that Ctrl-C reaches it only from here: as SIGINT, for each
    interrupt of the gate.

    Parameters
    ----------
    command : sequence of str
        The command.
    log : Path
        What it writes is appended there.
    interruption : Interruption
        Of the gate.
    held : int or None
        A file descriptor that it holds open as long as it lives, see `lock`.

    Raises
    ------
    StoppedError
        If the gate is already interrupted.
    OSError
        If it cannot be started, or the log cannot be written.
    """
    if interruption.asked:
        raise StoppedError
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"$ {' '.join(command)}\n".encode())
        output.flush()
        process = subprocess.Popen(  # noqa: S603 - the user's own words
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(),
            start_new_session=True,
            pass_fds=() if held is None else (held,),
        )
        try:
            return _waited(process, interruption)
        finally:
            _kill(process)


def _waited(process: subprocess.Popen[bytes], interruption: Interruption) -> int:
    sent = 0
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(_LOOK_S)
        if sent == 0 and interruption.asked:
            sent = 1
            process.send_signal(signal.SIGINT)
        elif sent == 1 and interruption.insisted:
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_GRACE_S)
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started, as far as they are alive."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def lock(path: Path, interruption: Interruption) -> Iterator[int]:
    """Hold a lock, and yield the file descriptor that holds it.

    A process that inherits it holds the lock as well: what a gate started and that
    outlived it is waited for, instead of running twice at once.

    Raises
    ------
    StoppedError
        If the gate was interrupted meanwhile.
    OSError
        If the file cannot be made.
    """
    import fcntl

    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if interruption.asked:
                    raise StoppedError from None
                time.sleep(_LOOK_S)
            else:
                break
        yield descriptor
    finally:
        os.close(descriptor)
