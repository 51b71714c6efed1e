"""Each analysis: whether each upper limit on the POI is right: asked for by ``--faas-quantity``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pyhf_faas import AssertRight, HypotestResult, Missing, PatchReference


def test_limit(
    limit_result: HypotestResult,
    reference_result: PatchReference | Missing,
    assert_limit: AssertRight,
) -> None:
    assert_limit(limit_result, reference_result)
