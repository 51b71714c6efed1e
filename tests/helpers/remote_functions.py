"""Functions that travel to workers which know nothing of this package, nor of these tests."""

from __future__ import annotations

import itertools
import math
import os
import signal
import sys
import time
from pathlib import Path

from pytest_pyhf_faas.worker import fitting


def echo(value):
    """Return what it is given."""
    return value


def fail(message):
    """Raise."""
    raise ValueError(message)


def leave(status):
    """Raise what would end a worker."""
    raise SystemExit(status)


def no_json(kind):
    """Return what JSON lacks."""
    return {"set": {1}, "bytes": b"x", "nan": math.nan, "keys": {(1, 2): 3}}[kind]


def where():
    """This process, the package of this module, and its modules."""
    package = __name__.partition(".")[0]
    short = [name.partition(".")[2] for name in sys.modules if name.startswith(f"{package}.")]
    return {
        "pid": os.getpid(),
        "modules": sorted(short),
        # In two parts, for the name of the package is another one here.
        "installed": "_".join(["pytest", "pyhf", "faas"]) in sys.modules,
    }


def environment_of(names):
    """Some variables of the worker's environment."""
    return {name: os.environ.get(name) for name in names}


def alarm():
    """What is left of the time limit of an earlier call."""
    return signal.getitimer(signal.ITIMER_REAL)[0], repr(signal.getsignal(signal.SIGALRM))


def nap(seconds):
    """Sleep."""
    time.sleep(seconds)
    return seconds


def loop():
    """Never return, in Python."""
    while True:
        pass


def sum_for_ever():
    """Never return, nor come back to Python."""
    sum(itertools.repeat(0))


def shrug_off():
    """Never return, whatever is raised."""
    while True:
        try:
            time.sleep(60.0)
        except BaseException:  # noqa: BLE001
            continue


def announce_and_nap(path):
    """Write this worker's process id into a file, then be busy."""
    temporary = Path(f"{path}.part")
    temporary.write_text(str(os.getpid()))
    temporary.rename(path)
    time.sleep(60.0)


def fit_for_ever(batch):
    """Fit a batch whose first fit never ends."""
    return fitting.answer_batch(batch, lambda: None, lambda *_: loop())


def fail_to_certify(batch):
    """Fit a batch of which nothing can be certified."""
    from pytest_pyhf_faas.histfactory.errors import CertificationError
    from pytest_pyhf_faas.worker import certified  # noqa: F401 - with it come all modules that it needs

    def test(*_):
        raise CertificationError("not at a minimum")

    return fitting.answer_batch(batch, lambda: None, test)


def die():
    """End this worker as the kernel does that has no more memory."""
    os.kill(os.getpid(), signal.SIGKILL)
