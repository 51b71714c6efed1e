"""Pseudo-experiments (toys) whose fits are certified; this runs on workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_pyhf_faas.histfactory.asymptotics import asimov_poi
from pytest_pyhf_faas.histfactory.toys import Toys, blocks_of
from pytest_pyhf_faas.worker.certified import answer_by_search, result_of

if TYPE_CHECKING:
    from pytest_pyhf_faas.histfactory.search import Search
    from pytest_pyhf_faas.histfactory.toys import Hypothesis
    from pytest_pyhf_faas.worker.messages import BatchAnswer, BatchPayload, PatchOrder


def toys_batch(batch: BatchPayload) -> BatchAnswer:
    """Draw and fit toys of each patch of a batch, at certified minima.

    Parameters
    ----------
    batch : dict
        As for `certified.certify_batch`; each patch says which of its toys are wanted.

    Returns
    -------
    dict
        The same as that gives, and the ``toys`` of each result: the test statistics of the
        ``observed`` data, and those of the toys with the tested ``signal`` and with ``background``
        only, NaN where a fit ended at no minimum.
    """
    at_asimov = asimov_poi(batch["config"]["test_stat"])
    return answer_by_search(
        batch,
        lambda search, patch, seed: {
            **result_of(search, at_asimov),
            "toys": toys_of(search, patch, seed),
        },
    )


def toys_of(search: Search, patch: PatchOrder, seed: int) -> dict[str, Any]:
    """Return the test statistics of those toys that a patch asks for."""
    first, count = patch["toys"]
    of_hypothesis = Toys(search, "lowest", seed)

    def drawn(hypothesis: Hypothesis) -> list[float | str]:
        values = [of_hypothesis.block(hypothesis, *block) for block in blocks_of(count, first)]
        return [v if np.isfinite(v) else str(v) for v in np.concatenate(values).tolist()]

    return {
        "observed": of_hypothesis.observed,
        "signal": drawn("signal"),
        "background": drawn("background"),
    }
