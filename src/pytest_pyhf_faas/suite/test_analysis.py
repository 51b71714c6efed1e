"""Each analysis: how long all its fits take, and whether each CLs is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.results import HypotestResult, WallTime
    from pytest_pyhf_faas.pallets.pallet import Pallet
    from pytest_pyhf_faas.plugin.fixtures import AssertCLs
    from pytest_pyhf_faas.references.reference import Missing, PatchReference


def test_walltime(pallet: Pallet, wall_time: WallTime) -> None:
    assert wall_time.last.fits == len(pallet.patches)


def test_cls(
    hypotest_result: HypotestResult,
    reference_result: PatchReference | Missing,
    assert_cls: AssertCLs,
) -> None:
    assert_cls(hypotest_result, reference_result)
