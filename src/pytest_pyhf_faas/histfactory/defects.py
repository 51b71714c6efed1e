"""Defects that keep the JSON of a workspace from being a likelihood, a sentence for each.

A schema cannot find these: names that appear twice, missing observations, numbers of bins
that differ. pyhf 0.8 refuses the same.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

#: The modifier types of HistFactory, in the order in which pyhf lists their parameters.
MODIFIER_TYPES = (
    "histosys",
    "lumi",
    "normfactor",
    "normsys",
    "shapefactor",
    "shapesys",
    "staterror",
)


def sample_defects(channel: str, bins: int, sample: Mapping[str, Any]) -> Iterator[str]:
    """Yield the defects of one sample of a channel with some number of bins."""
    where = f"the sample {sample['name']} of the channel {channel}"
    yield from _wrong_bins(sample["data"], bins, where)
    modifiers = sorted(sample["modifiers"], key=lambda each: (each["name"], each["type"]))
    for name, kind in repeated((each["name"], each["type"]) for each in modifiers):
        yield f"{where} has two modifiers {name} of type {kind}"
    for modifier in modifiers:
        kind, data = modifier["type"], modifier["data"]
        at = f"the {kind} {modifier['name']} of {where}"
        if kind == "normsys":
            if not (data["lo"] > 0 and data["hi"] > 0):
                yield (
                    f"{at} has lo = {data['lo']:g} and hi = {data['hi']:g}: both must be "
                    "positive, for they are interpolated by their logarithms"
                )
        elif kind == "histosys":
            for side in ("lo", "hi"):
                yield from _wrong_bins(data[f"{side}_data"], bins, at)
        elif kind in ("shapesys", "staterror"):
            yield from _wrong_bins(data, bins, at)
        elif kind not in MODIFIER_TYPES:
            yield (
                f"{where} has a modifier of the type {kind}, which is none of "
                f"{', '.join(MODIFIER_TYPES)}"
            )


def workspace_defects(
    specification: Mapping[str, Any],
    of_sample: Callable[[str, int, Mapping[str, Any]], Iterable[str]] = sample_defects,
) -> Iterator[str]:
    """Yield the defects of a workspace that follows pyhf's schema.

    Parameters
    ----------
    specification : mapping
        The workspace.
    of_sample : callable
        Returns the defects of a sample; a cached one saves time.
    """
    channels = specification["channels"]
    observed = {entry["name"]: entry["data"] for entry in specification["observations"]}
    for channel in channels:
        name = channel["name"]
        bins = len(channel["samples"][0]["data"])
        if name not in observed:
            yield f"no observation for the channel {name}"
        elif len(observed[name]) != bins:
            yield (
                f"the observation of the channel {name} has {_in_bins(observed[name])}, its "
                f"samples have {bins}"
            )
        for index, events in enumerate(observed.get(name, ())):
            if events < 0:
                yield f"bin {index} of the channel {name} has {events:g} events"
        for sample in channel["samples"]:
            yield from of_sample(name, bins, sample)
        for twin in repeated(sample["name"] for sample in channel["samples"]):
            yield (
                f"two samples of the channel {name} are called {twin}: rename or remove one of them"
            )
    for twin in repeated(channel["name"] for channel in channels):
        yield f"two channels are called {twin}: rename or remove one of them"


def repeated(names: Iterable[Any]) -> list[Any]:
    """Return the values that occur more than once."""
    return [name for name, count in Counter(names).items() if count > 1]


def _in_bins(data: Sequence[float]) -> str:
    """Return the number of bins of data, in words."""
    return f"{len(data)} bin{'' if len(data) == 1 else 's'}"


def _wrong_bins(data: list[float], bins: int, where: str) -> Iterator[str]:
    if len(data) != bins:
        yield f"{where} has {_in_bins(data)}, the channel has {bins}"
