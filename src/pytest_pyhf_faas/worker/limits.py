"""The upper limits on the POI, by pyhf and at certified minima; this runs on workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.worker import fitting

if TYPE_CHECKING:
    from pytest_pyhf_faas.worker.messages import BatchAnswer, BatchPayload, PatchOrder

#: CLs at the limit, for limits at 95 % confidence level.
LEVEL = 0.05


def limit_batch(batch: BatchPayload) -> BatchAnswer:
    """Find the upper limits of each patch of a batch, by pyhf.

    Parameters
    ----------
    batch : dict
        As for `fitting.answer_batch`.

    Returns
    -------
    dict
        As of `fitting.answer_batch`; the ``limits`` of a result are ``observed``, ``expected`` (at
        -2, -1, 0, 1, 2 standard deviations) and ``tests``, how many values of the POI were tested.
    """

    def calculate(model: Any, observations: Any, _patch: PatchOrder) -> dict[str, Any]:
        return {"limits": upper_limit(model, observations, batch["config"])}

    return fitting.answer_by_pyhf(batch, calculate)


def upper_limit(model: Any, observations: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Run `pyhf.infer.intervals.upper_limits.upper_limit`."""
    from pyhf.infer.intervals.upper_limits import upper_limit as by_pyhf

    observed, expected, (tested, _results) = by_pyhf(
        observations,
        model,
        level=LEVEL,
        return_results=True,
        test_stat=config["test_stat"],
    )
    return {
        "observed": fitting.number(observed),
        "expected": [fitting.number(value) for value in expected],
        "tests": len(tested),
    }
