"""Read the JSON of a workspace into arrays, one sample at a time.

Samples that a patch does not change are not read again: `Workspace.from_json` reuses those whose
JSON objects are those of a background.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pytest_pyhf_faas.histfactory.defects import sample_defects, workspace_defects
from pytest_pyhf_faas.histfactory.errors import InvalidModel

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Variations:
    """The variations of one sample by modifiers: an entry for each modifier, or each of its bins.

    Attributes
    ----------
    names : tuple of str
        The parameters.
    which : array of int, shape (n_entries,)
        Index into ``names``.
    bins : array of int, shape (n_entries,)
        The bin of the channel; empty for a normsys, which has all of them.
    down, up : array, shape (n_entries,)
        Factors of a normsys; differences to the nominal rate of a histosys.
    """

    names: tuple[str, ...]
    which: NDArray[np.intp]
    bins: NDArray[np.intp]
    down: Vector
    up: Vector


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One sample of one channel.

    Attributes
    ----------
    channel, name : str
        Which.
    nominal : array, shape (n_bins,)
        Expected events.
    modifiers : tuple of (name, type)
        All of them, sorted.
    normsys, histosys : Variations
        The interpolated modifiers.
    linear : tuple of (type, name, data)
        Multiply the rates by a parameter; ``data``, shape (n_bins,), are the absolute
        uncertainties of a shapesys or staterror, else ``None``.
    """

    channel: str
    name: str
    nominal: Vector
    modifiers: tuple[tuple[str, str], ...]
    normsys: Variations
    histosys: Variations
    linear: tuple[tuple[str, str, Vector | None], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """A channel with its samples, sorted by name, and its observed events, shape (n_bins,)."""

    name: str
    samples: tuple[Sample, ...]
    observed: Vector

    @property
    def bins(self) -> int:
        """The number of its bins."""
        return len(self.observed)


@dataclass(frozen=True, slots=True, eq=False)
class Workspace:
    """A workspace: channels, sorted by name, and measurements.

    Attributes
    ----------
    channels : tuple of Channel
        Sorted by name.
    measurements : tuple of mapping
        Their JSON.
    """

    channels: tuple[Channel, ...]
    measurements: tuple[Mapping[str, Any], ...]
    _read: Mapping[int, tuple[Any, Sample]] = field(repr=False)

    @classmethod
    def from_json(
        cls, specification: Mapping[str, Any], background: Workspace | None = None
    ) -> Workspace:
        """Read a workspace that follows pyhf's schema.

        Parameters
        ----------
        specification : mapping
            The workspace; its parts must not be changed afterwards.
        background : Workspace, optional
            One with which it may share JSON objects of samples.

        Raises
        ------
        InvalidModel
            If it makes no sense, with the channel, the sample and the modifier.
        """
        known = background._read if background is not None else {}  # noqa: SLF001 - the same class

        def before(channel: str, bins: int, raw: Mapping[str, Any]) -> Sample | None:
            other, sample = known.get(id(raw), (None, None))
            if sample is None or other is not raw:
                return None
            return sample if (sample.channel, len(sample.nominal)) == (channel, bins) else None

        def new_defects(channel: str, bins: int, raw: Mapping[str, Any]) -> Iterable[str]:
            return () if before(channel, bins, raw) else sample_defects(channel, bins, raw)

        defect = next(workspace_defects(specification, new_defects), None)
        if defect is not None:
            raise InvalidModel(defect)
        observed = {entry["name"]: entry["data"] for entry in specification["observations"]}
        read: dict[int, tuple[Any, Sample]] = {}
        channels = []
        for channel in specification["channels"]:
            name = channel["name"]
            bins = len(channel["samples"][0]["data"])
            samples = []
            for raw in channel["samples"]:
                sample = before(name, bins, raw) or _sample(name, bins, raw)
                read[id(raw)] = raw, sample
                samples.append(sample)
            samples.sort(key=lambda sample: sample.name)
            channels.append(Channel(name, tuple(samples), np.array(observed[name], dtype=float)))
        channels.sort(key=lambda channel: channel.name)
        return cls(tuple(channels), tuple(specification["measurements"]), read)

    def measurement(self, name: str | None = None) -> Mapping[str, Any]:
        """Return the configuration of a measurement, by default of the first.

        Raises
        ------
        InvalidModel
            If there is none of that name.
        """
        for measurement in self.measurements:
            if name is None or measurement["name"] == name:
                config: Mapping[str, Any] = measurement["config"]
                return config
        there = ", ".join(str(measurement["name"]) for measurement in self.measurements)
        raise InvalidModel(
            f"no measurement {name or ''!r} in the workspace, but: {there or 'none'}"
        )


def _sample(channel: str, bins: int, raw: Mapping[str, Any]) -> Sample:
    """Read a sample without defects."""
    nominal = np.array(raw["data"], dtype=float)
    modifiers = sorted(raw["modifiers"], key=lambda modifier: (modifier["name"], modifier["type"]))
    normsys, histosys = [], []
    linear: list[tuple[str, str, Vector | None]] = []
    for modifier in modifiers:
        name, kind, data = modifier["name"], modifier["type"], modifier["data"]
        if kind == "normsys":
            normsys.append((name, data["lo"], data["hi"]))
        elif kind == "histosys":
            low, high = (np.array(data[f"{side}_data"], dtype=float) for side in ("lo", "hi"))
            histosys.append((name, low - nominal, high - nominal))
        else:
            own = np.array(data, dtype=float) if kind in ("shapesys", "staterror") else None
            linear.append((kind, name, own))
    return Sample(
        channel,
        raw["name"],
        nominal,
        tuple((modifier["name"], modifier["type"]) for modifier in modifiers),
        _factors(normsys),
        _shifts(histosys, bins),
        tuple(linear),
    )


def _factors(found: Sequence[tuple[str, float, float]]) -> Variations:
    return Variations(
        tuple(name for name, _, _ in found),
        np.arange(len(found)),
        np.zeros(0, dtype=np.intp),
        np.array([down for _, down, _ in found], dtype=float),
        np.array([up for _, _, up in found], dtype=float),
    )


def _shifts(found: Sequence[tuple[str, Vector, Vector]], bins: int) -> Variations:
    down = np.array([low for _, low, _ in found]).reshape(-1, bins)
    up = np.array([high for _, _, high in found]).reshape(-1, bins)
    which, where = np.nonzero((down != 0) | (up != 0))
    return Variations(
        tuple(name for name, _, _ in found), which, where, down[which, where], up[which, where]
    )
