"""Stands in for `worker.fit_batch` where only the time that fits take counts: it sleeps as long.

The last operation of each patch says for how long. What is around the fit is the real worker's.
"""

from __future__ import annotations

import json
import time

from pytest_pyhf_faas.worker import fitting


def fit_batch(batch):
    """Sleep as long as each patch says, and answer as a worker does."""
    return fitting.answer_batch(batch, lambda: None, _sleep)


def _sleep(_background, patch, seconds):
    began = time.perf_counter()
    time.sleep(json.loads(fitting.unpack(patch["data"]))[-1]["value"])
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
