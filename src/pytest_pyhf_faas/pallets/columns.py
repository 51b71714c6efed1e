"""The meaning of the columns of a scan: values of the point, yields, relative uncertainties."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets.table import NAME
from pytest_pyhf_faas.pallets.verify import NAME_OF_PATCH
from pytest_pyhf_faas.wording import brief, counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Name of the sample that a scan adds, unless the background has one of that name.
_SAMPLE = "signal"
LUMI = "lumi"
#: A bin has only one spelling, or two columns could mean it.
_BIN = re.compile(r"(?P<channel>.+)\[(?P<bin>0|[1-9][0-9]*)\]")
_LIKE_BIN = re.compile(r"(?P<channel>.+?)\s*\[.*\]")
#: The prefixes of a column, before the colon.
_KINDS = ("value", "unc", "stat")
#: The column that pandas adds by default.
_INDEX = re.compile(r"__index_level_\d+__|Unnamed: \d+|index")
_COLUMNS = (
    "columns are name, value:LABEL, CHANNEL[BIN] (yields; bins are counted from 0), unc:MODIFIER "
    "and stat:CHANNEL[BIN] (relative uncertainties)"
)
#: Modifiers that a parameter can be shared with.
_SHARED = {"normsys", "histosys"}
#: How many columns are shown.
_SHOWN = 5


class Channel(NamedTuple):
    """A channel of the background that the signal may be in; bins are columns of the table."""

    place: int
    name: str
    bins: tuple[int | None, ...]
    stat: tuple[int | None, ...]


@dataclass(frozen=True)
class Layout:
    """The meaning of the columns of a table, for a background.

    Attributes
    ----------
    labels : tuple of str
        The labels of a point's values.
    values : tuple of int
        The columns of numbers that they are in.
    channels : tuple of channels
        The channels of the yields.
    systematics : mapping
        The columns of relative uncertainties by the names of their modifiers.
    sample : str
        The name of the signal.
    poi : str
        The parameter of interest.
    lumi : bool
        Whether the luminosity scales the signal: where the measurement sets it.
    """

    labels: tuple[str, ...]
    values: tuple[int, ...]
    channels: tuple[Channel, ...]
    systematics: Mapping[str, int]
    sample: str
    poi: str
    lumi: bool

    def stat_name(self, channel: str) -> str:
        """Return the modifier that has the statistical uncertainties in a channel."""
        return f"stat_{self.sample}_{channel}"


class _Places(NamedTuple):
    """The columns of numbers, by their meaning."""

    labels: dict[str, int]
    systematics: dict[str, int]
    yields: dict[tuple[str, int], int]
    stat: dict[tuple[str, int], int]


def layout_of(columns: Sequence[str], background: Mapping[str, Any], where: str) -> Layout:
    """Return the layout of columns for a background-only workspace.

    Raises
    ------
    PalletError
        If there is an unknown column, or none with yields.
    """
    bins = {each["name"]: len(each["samples"][0]["data"]) for each in background["channels"]}
    places = _places_of([column for column in columns if column != NAME], bins, where)
    _check_places(places, where, named=NAME in columns)
    layout = Layout(
        tuple(places.labels),
        tuple(places.labels.values()),
        tuple(
            Channel(
                place,
                name,
                tuple(places.yields.get((name, number)) for number in range(bins[name])),
                tuple(places.stat.get((name, number)) for number in range(bins[name])),
            )
            for place, name in enumerate(bins)
            if any(channel == name for channel, _number in places.yields)
        ),
        places.systematics,
        _name_of_sample(background),
        _poi(background, where),
        _has_luminosity(background),
    )
    _check_modifiers(layout, background, where)
    return layout


def _places_of(numeric: Sequence[str], bins: Mapping[str, int], where: str) -> _Places:
    places = _Places({}, {}, {}, {})
    unknown = []
    for place, column in enumerate(numeric):
        kind, colon, rest = column.partition(":")
        if (found := _bin(column, bins)) is not None:
            places.yields[found] = place
        elif colon and kind == "value":
            places.labels[rest] = place
        elif colon and kind == "unc":
            places.systematics[rest] = place
        elif colon and kind == "stat" and (found := _bin(rest, bins)) is not None:
            places.stat[found] = place
        else:
            unknown.append(f"  {brief(column, 60)}{_hint(column, bins)}")
    if unknown:
        more = [f"  and {len(unknown) - _SHOWN} more"] if len(unknown) > _SHOWN else []
        head = f"{where}: {counted(len(unknown), 'column')} that cannot be used:"
        raise PalletError("\n".join([head, *unknown[:_SHOWN], *more, _COLUMNS]))
    return places


def _check_places(places: _Places, where: str, *, named: bool) -> None:
    """Refuse a table that lacks something."""
    if not places.yields:
        raise PalletError(f"{where}: no column with yields\n{_COLUMNS}")
    if not (places.labels or named):
        raise PalletError(
            f"{where}: nothing distinguishes the rows\nadd a column name, or columns value:LABEL"
        )
    alone = [f"stat:{channel}[{number}]" for channel, number in places.stat.keys() - places.yields]
    if alone:
        raise PalletError(
            f"{where}: uncertainties of missing yields: {listed(sorted(alone))}\n"
            "add the columns with the yields, or remove these"
        )
    wrong = [label for label in places.labels if not NAME_OF_PATCH.fullmatch(label)]
    if wrong:
        raise PalletError(
            f"{where}: {counted(len(wrong), 'label')} that pyhf does not allow: {listed(wrong)}\n"
            "labels may only have letters, digits and _"
        )


def _bin(column: str, bins: Mapping[str, int]) -> tuple[str, int] | None:
    match = _BIN.fullmatch(column)
    if match is None or int(match["bin"]) >= bins.get(match["channel"], 0):
        return None
    return match["channel"], int(match["bin"])


def _hint(column: str, bins: Mapping[str, int]) -> str:
    """Suggest a meaning for an unknown column."""
    kind, colon, rest = column.partition(":")
    if hint := _hint_of_kind(column):
        return hint
    prefix = f"{kind}:" if colon and kind == "stat" else ""
    wanted = rest if prefix else column
    match = _LIKE_BIN.fullmatch(wanted)
    channel = match["channel"] if match else wanted
    if match and channel in bins:
        others = " and so on" if bins[channel] > 1 else ""
        return f": {channel} has {counted(bins[channel], 'bin')}, {channel}[0]{others}"
    if channel in bins:
        return f": do you mean {prefix}{channel}[0]?"
    near = difflib.get_close_matches(channel, bins, n=1)
    if near:
        return f": do you mean the channel {near[0]}?"
    if match:
        return f": the background has no channel {brief(channel, 60)}, but {listed(list(bins))}"
    return "" if colon else f": a value of the point is value:{column}"


def _hint_of_kind(column: str) -> str:
    kind, colon, rest = (part.strip() for part in column.partition(":"))
    if _INDEX.fullmatch(column):
        return ": an index that pandas has added: write the table with index=False"
    if column.lower() == NAME:
        return f": do you mean {NAME}?"
    is_like_one = colon and kind not in _KINDS and kind.lower() in _KINDS
    return f": do you mean {kind.lower()}:{rest}?" if is_like_one else ""


def _name_of_sample(background: Mapping[str, Any]) -> str:
    taken = {sample["name"] for each in background["channels"] for sample in each["samples"]}
    name = _SAMPLE
    while name in taken:
        name += "_"
    return name


def _poi(background: Mapping[str, Any], where: str) -> str:
    measurement = background["measurements"][0]
    poi: str = measurement["config"]["poi"]
    if not poi:
        raise PalletError(
            f"{where}: the measurement {measurement['name']} of the background has no parameter of "
            "interest\nthe signal of a scan is scaled by it: name it in the background"
        )
    return poi


def _has_luminosity(background: Mapping[str, Any]) -> bool:
    return any(
        parameter["name"] == LUMI and {"auxdata", "sigmas"} <= parameter.keys()
        for parameter in background["measurements"][0]["config"]["parameters"]
    )


def _check_modifiers(layout: Layout, background: Mapping[str, Any], where: str) -> None:
    """Refuse uncertainties with the name of something else."""
    kinds: dict[str, set[str]] = {layout.poi: {"normfactor"}, LUMI: {"lumi"}}
    for channel in background["channels"]:
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                kinds.setdefault(modifier["name"], set()).add(modifier["type"])
    wrong = [
        f"unc:{name} ({', '.join(sorted(kinds[name]))})"
        for name in layout.systematics
        if not kinds.get(name, set()) <= _SHARED
    ]
    wrong += [
        f"stat:{channel.name} ({name})"
        for channel in layout.channels
        if any(place is not None for place in channel.stat)
        and (name := layout.stat_name(channel.name)) in kinds
    ]
    if wrong:
        raise PalletError(
            f"{where}: uncertainties with the name of another parameter: {listed(wrong, 5)}\n"
            "the luminosity is added where the measurement sets it, and only a normsys or histosys "
            "of the background can be shared: rename the column"
        )
