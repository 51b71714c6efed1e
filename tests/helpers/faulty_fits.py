"""Stands in for `worker.fit_batch` where workers meet trouble: each patch says what befalls it.

It travels to workers like the real one, so that it needs nothing but the standard library.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import signal
import time
import zlib
from pathlib import Path


def fit_batch(batch):
    """Do what each patch says, and answer as a worker does; each begin is a line of a log."""
    started = time.perf_counter()
    results = []
    for patch in batch["patches"]:
        orders = json.loads(zlib.decompress(base64.b64decode(patch["data"])))
        log = Path(orders["log"])
        with log.open("a") as file:
            begin = [orders["name"], os.getpid(), os.getppid(), time.time(), os.uname().nodename]
            file.write(json.dumps(begin) + "\n")
        begun = sum(json.loads(line)[0] == orders["name"] for line in log.read_text().splitlines())
        results.append({"key": patch["key"], **_obey(orders, begun), "warnings": []})
    return {
        "worker": f"toy:{os.getpid()}",
        "environment": None,
        "results": results,
        "began_s": started,
        "gap_s": 0.0,
        "unpack_s": 0.0,
        "total_s": time.perf_counter() - started,
    }


def _obey(orders, begun):
    what = orders.get("do")
    if begun <= orders.get("times", 10**9):
        if what == "kill worker":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "kill manager":
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(3600)
        elif what == "exit":
            os._exit(3)
        elif what == "never end":
            while True:
                time.sleep(0.01)
        elif what == "use all memory":
            used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            limits = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, limits[1]))
            try:
                bytearray(10_000_000_000)
            except MemoryError as error:
                failure = {"type": "MemoryError", "message": str(error), "traceback": ""}
                return {"status": "error", "error": failure, "seconds": {}}
            finally:
                resource.setrlimit(resource.RLIMIT_AS, limits)
    time.sleep(orders.get("seconds", 0.0))
    busy_until = time.process_time() + orders.get("cpu_s", 0.0)
    while time.process_time() < busy_until:
        pass
    return {
        "status": "ok",
        "CLs_obs": orders["value"],
        "CLs_exp": [0.01, 0.02, 0.04, 0.08, 0.16],
        "mu_hat": 0.25,
        "twice_nll": {},
        "twice_nll_nearby": {},
        "twice_nll_asimov_truth": 100.0,
        "twice_nll_off_minimum": 150.0,
        "seconds": {"unpack": 0.0, "build": 0.0, "fit": orders.get("seconds", 0.0)},
    }
