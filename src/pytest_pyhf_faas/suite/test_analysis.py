"""Each analysis: how long all its fits take, and whether each CLs is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pyhf_faas import (
        AssertCLs,
        HypotestResult,
        Missing,
        Pallet,
        PatchReference,
        WallTime,
    )


def test_walltime(pallet: Pallet, wall_time: WallTime) -> None:
    assert wall_time.last.fits == len(pallet.patches)


def test_cls(
    hypotest_result: HypotestResult,
    reference_result: PatchReference | Missing,
    assert_cls: AssertCLs,
) -> None:
    assert_cls(hypotest_result, reference_result)
