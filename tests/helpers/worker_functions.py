"""Functions that the tests run on workers; a worker imports this module by its name."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def environment_of(names):
    """Some variables of the worker's environment."""
    return {name: os.environ.get(name) for name in names}


def echo(value):
    """Return what it is given."""
    return value


def fail(message):
    """Raise."""
    raise ValueError(message)


def big(size):
    """Return many bytes."""
    return b"x" * size


def die_of(signal_number):
    """End this worker by a signal."""
    os.kill(os.getpid(), signal_number)
    time.sleep(60)


def end_with(status):
    """End this worker with an exit status, past all handlers."""
    os._exit(status)


def announce_and_sleep(path, seconds=60.0):
    """Write this worker's process id into a file, then be busy."""
    temporary = Path(f"{path}.part")
    temporary.write_text(str(os.getpid()))
    temporary.rename(path)
    time.sleep(seconds)
    return os.getpid()


def shrug_off(path, seconds=60.0):
    """Be busy, and deaf to a polite end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return announce_and_sleep(path, seconds)


def unpicklable():
    """Return what cannot be sent back."""
    return sys.stdout


def out_of_memory():
    """Raise what Python raises when memory runs out."""
    raise MemoryError
