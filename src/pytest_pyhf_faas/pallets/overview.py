"""An overview of a pallet: its sizes, its measurement, its patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from pytest_pyhf_faas.histfactory.errors import HistFactoryError
from pytest_pyhf_faas.histfactory.likelihood import Likelihood
from pytest_pyhf_faas.histfactory.workspace import Workspace
from pytest_pyhf_faas.pallets.check import without_model
from pytest_pyhf_faas.worker.patching import apply_patch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_pyhf_faas.pallets.check import Finding
    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch


class ChannelOverview(TypedDict):
    """A channel of the background."""

    name: str
    bins: int
    samples: int


class LabelOverview(TypedDict):
    """One of the values that distinguish the patches; a range only for numbers."""

    label: str
    values: int
    lowest: float | None
    highest: float | None


class PatchOverview(TypedDict):
    """A signal hypothesis."""

    name: str
    values: list[float | int | str]
    digest: str


class ModelOverview(TypedDict):
    """The model of one patch."""

    patch: str
    parameters: int
    poi: str
    poi_initial: float
    poi_bounds: list[float]


class Overview(TypedDict):
    """The overview of a pallet."""

    name: str
    source: str
    description: str
    synthetic: bool
    doi: str | None
    references: dict[str, str]
    remarks: list[str]
    background_sha256: str
    measurements: list[str]
    measurement: str
    channels: list[ChannelOverview]
    model: ModelOverview | None
    labels: list[LabelOverview]
    patches: list[PatchOverview]
    same_content: list[list[str]]


def overview(
    pallet: Pallet,
    background: Mapping[str, Any],
    findings: Sequence[Finding],
    measurement: str | None = None,
) -> Overview:
    """Return the overview of a pallet.

    Parameters
    ----------
    pallet : Pallet
        The pallet.
    background : mapping
        The JSON of its background.
    findings : sequence of Finding
        Its problems, from `check`.
    measurement : str, optional
        The measurement; the first by default.
    """
    names = [each["name"] for each in background["measurements"]]
    same: dict[str, list[str]] = {}
    for patch in pallet.patches:
        same.setdefault(patch.digest, []).append(patch.name)
    broken = without_model(findings)
    sound = next((patch for patch in pallet.patches if patch.name not in broken), None)
    return {
        "name": pallet.name,
        "source": pallet.source,
        "description": pallet.description,
        "synthetic": pallet.synthetic,
        "doi": pallet.doi,
        "references": pallet.references,
        "remarks": list(pallet.remarks),
        "background_sha256": pallet.digest,
        "measurements": names,
        "measurement": measurement or names[0],
        "channels": [
            {
                "name": channel["name"],
                "bins": len(channel["samples"][0]["data"]),
                "samples": len(channel["samples"]),
            }
            for channel in background["channels"]
        ],
        "model": _model(background, sound, measurement) if sound else None,
        "labels": [
            _label(label, [patch.values[place] for patch in pallet.patches])
            for place, label in enumerate(pallet.labels)
        ],
        "patches": [
            {"name": patch.name, "values": list(patch.values), "digest": patch.digest}
            for patch in pallet.patches
        ],
        "same_content": [names for names in same.values() if len(names) > 1],
    }


def _label(label: str, values: Sequence[float | str]) -> LabelOverview:
    numbers = [value for value in values if not isinstance(value, str)]
    return {
        "label": label,
        "values": len(set(values)),
        "lowest": min(numbers, default=None),
        "highest": max(numbers, default=None),
    }


def _model(
    background: Mapping[str, Any], patch: SignalPatch, measurement: str | None
) -> ModelOverview | None:
    try:
        likelihood = Likelihood(
            Workspace.from_json(apply_patch(patch.operations, background)), measurement
        )
    except HistFactoryError:
        return None
    poi = likelihood.poi
    return {
        "patch": patch.name,
        "parameters": len(likelihood),
        "poi": likelihood.names[poi],
        "poi_initial": float(likelihood.initial[poi]),
        "poi_bounds": [float(likelihood.lower[poi]), float(likelihood.upper[poi])],
    }
