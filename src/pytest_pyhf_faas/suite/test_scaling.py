"""How the wall time of each analysis falls with more workers: asked for by ``--faas-scaling``."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas import Pallet
    from pytest_pyhf_faas.campaign.times import Trial


def test_scaling(pallet: Pallet, scaling_point: Sequence[Trial]) -> None:
    assert all(trial.fits == len(pallet.patches) for trial in scaling_point)
