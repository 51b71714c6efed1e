"""Each analysis: whether CLs from toys is right: asked for by ``--faas-quantity``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pyhf_faas import AssertRight, HypotestResult, Missing, PatchReference


def test_toys(
    toys_result: HypotestResult,
    reference_result: PatchReference | Missing,
    assert_toys: AssertRight,
) -> None:
    assert_toys(toys_result, reference_result)
