"""Validate published pyhf likelihoods with pytest, on this machine or on remote endpoints.

Types for tests and functions for notebooks are here, and imported when they are asked
for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_pyhf_faas.campaign.results import HypotestResult
    from pytest_pyhf_faas.campaign.times import WallTime
    from pytest_pyhf_faas.inference import hypotest, toys, upper_limit
    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch
    from pytest_pyhf_faas.plugin.analysis import AnalysisResult
    from pytest_pyhf_faas.plugin.fixtures import (
        AssertAnalysis,
        AssertCLs,
        AssertPublished,
        AssertRight,
    )
    from pytest_pyhf_faas.references.published import PublishedResult
    from pytest_pyhf_faas.references.reference import Missing, PatchReference
    from pytest_pyhf_faas.validation import Validated, Validation, validate

    __version__: str

_PLACES = {
    "AnalysisResult": "plugin.analysis",
    "AssertAnalysis": "plugin.fixtures",
    "AssertCLs": "plugin.fixtures",
    "AssertPublished": "plugin.fixtures",
    "AssertRight": "plugin.fixtures",
    "HypotestResult": "campaign.results",
    "Missing": "references.reference",
    "Pallet": "pallets.pallet",
    "PatchReference": "references.reference",
    "PublishedResult": "references.published",
    "SignalPatch": "pallets.pallet",
    "Validated": "validation",
    "Validation": "validation",
    "WallTime": "campaign.times",
    "hypotest": "inference",
    "toys": "inference",
    "upper_limit": "inference",
    "validate": "validation",
}

__all__ = [
    "AnalysisResult",
    "AssertAnalysis",
    "AssertCLs",
    "AssertPublished",
    "AssertRight",
    "HypotestResult",
    "Missing",
    "Pallet",
    "PatchReference",
    "PublishedResult",
    "SignalPatch",
    "Validated",
    "Validation",
    "WallTime",
    "__version__",
    "hypotest",
    "toys",
    "upper_limit",
    "validate",
]


def __getattr__(name: str) -> object:
    # pytest imports this package at every start: nothing more is imported before it is needed.
    if name == "__version__":
        from importlib.metadata import version

        return version("pytest-pyhf-faas")
    if name in _PLACES:
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
