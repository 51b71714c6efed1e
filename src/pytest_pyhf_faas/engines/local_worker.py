"""Preloaded by the server that local workers are forked from.

Imports happen once, before the first fork, so that a worker starts in milliseconds.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from multiprocessing.connection import wait

from pytest_pyhf_faas.worker import fitting

_WATCH_S = 1.0

# Before NumPy is imported: its linear algebra reads them once.
for _variable in fitting.THREAD_VARIABLES:
    os.environ[_variable] = "1"
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

with suppress(Exception):  # a worker says what is wrong when it is asked to fit
    import jsonpatch  # noqa: F401
    import pyhf  # noqa: F401
    import scipy.optimize  # noqa: F401


def initialize() -> None:
    """End this worker when its client or fork server has ended, even in mid-fit.

    Only the client handles Ctrl-C. The log of a failed fit is in its exception; on the
    terminal it would appear in the test that happens to wait at that moment.
    """
    logging.getLogger("pyhf").addHandler(logging.NullHandler())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    client = multiprocessing.parent_process()
    if client is not None:
        arguments = client.sentinel, os.getppid()
        threading.Thread(target=_end_with, args=arguments, daemon=True).start()


def _end_with(client: int, fork_server: int) -> None:
    while not wait([client], _WATCH_S) and os.getppid() == fork_server:
        pass
    os._exit(1)
