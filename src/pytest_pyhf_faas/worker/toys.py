"""Pseudo-experiments (toys) by pyhf; this runs on workers."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.worker import fitting

if TYPE_CHECKING:
    from pytest_pyhf_faas.worker.messages import BatchAnswer, BatchPayload, PatchOrder


def toys_batch(batch: BatchPayload) -> BatchAnswer:
    """Draw and fit toys of each patch of a batch, by pyhf.

    Parameters
    ----------
    batch : dict
        As for `fitting.answer_batch`; each patch says which of its toys are wanted.

    Returns
    -------
    dict
        As of `fitting.answer_batch`; the ``toys`` of a result are the test statistics of the
        ``observed`` data, and those of the toys with the tested ``signal`` and with
        ``background`` alone.
    """

    def calculate(model: Any, observations: Any, patch: PatchOrder) -> dict[str, Any]:
        return {"toys": toys(model, observations, batch["config"], patch)}

    return fitting.answer_by_pyhf(batch, calculate)


def toys(
    model: Any, observations: Any, config: dict[str, Any], patch: PatchOrder
) -> dict[str, Any]:
    """Run `pyhf.infer.calculators.ToyCalculator`, which draws by NumPy's global generator."""
    import numpy as np
    from pyhf.infer.calculators import ToyCalculator

    first, count = patch["toys"]
    seed = zlib.crc32(f"{first} {fitting.unpack(patch['data'])}".encode())
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        calculator = ToyCalculator(
            observations,
            model,
            test_stat=config["test_stat"],
            ntoys=count,
            track_progress=False,
        )
        signal, background = calculator.distributions(config["test_poi"])
    finally:
        np.random.set_state(before)
    return {
        "observed": fitting.number(calculator.teststatistic(config["test_poi"])),
        "signal": [fitting.number(value) for value in signal.samples],
        "background": [fitting.number(value) for value in background.samples],
    }
