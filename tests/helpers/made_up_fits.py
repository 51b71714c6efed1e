"""Stands in for `worker.fit_batch` where all but the fits counts: they sleep, and have one answer.

A patch may end with an operation that says for how long; else the answer comes at once. What is
around the fit is the real worker's.
"""

from __future__ import annotations

import json
import time

from pytest_pyhf_faas.worker import fitting

SLEEP = "sleep"


def fit_batch(batch):
    """Sleep as long as each patch says, and answer as a worker does."""
    return fitting.answer_batch(batch, lambda: None, _sleep)


def _sleep(_background, patch, seconds):
    began = time.perf_counter()
    operations = json.loads(fitting.unpack(patch["data"]))
    if operations and operations[-1]["op"] == SLEEP:
        time.sleep(operations[-1]["value"])
    seconds["fit"] = time.perf_counter() - began
    return {
        "CLs_obs": 0.05,
        "CLs_exp": [0.01, 0.02, 0.04, 0.08, 0.16],
        "mu_hat": 0.25,
        "twice_nll": {},
        "twice_nll_nearby": {},
        "twice_nll_asimov_truth": 100.0,
        "twice_nll_off_minimum": 150.0,
    }
