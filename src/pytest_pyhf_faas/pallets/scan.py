"""A scan: a background and a table with one row for each model point.

A row has the values of the point, the yields of its signal in bins of the background, and perhaps
relative uncertainties of these. Its JSON patch is made on demand: a scan of 100,000
points is kept as one array.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets.columns import LUMI
from pytest_pyhf_faas.pallets.rows import SignalRows
from pytest_pyhf_faas.pallets.table import NAME, Faults
from pytest_pyhf_faas.pallets.verify import ALLOWED_IN_NAMES, NAME_OF_PATCH
from pytest_pyhf_faas.wording import brief

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_pyhf_faas.pallets.columns import Layout
    from pytest_pyhf_faas.pallets.table import Numbers, Table

#: Up to here each whole number fits in 64 bits, too.
_WHOLE = 2.0**53


class Scan(SignalRows):
    """The hypotheses of a table, each a row.

    Parameters
    ----------
    table : Table
        The table.
    layout : Layout
        The meaning of its columns.
    where : str
        Where it was read from, for messages.

    Raises
    ------
    PalletError
        If a cell has an impossible value, or two rows cannot be distinguished.
    """

    def __init__(self, table: Table, layout: Layout, where: str) -> None:
        super().__init__(len(table.numbers))
        self.layout = layout
        self._numbers = table.numbers
        self._names = table.names
        if not len(table.numbers):
            raise PalletError(f"{where}: there is no row below the header\nadd the model points")
        _check_cells(table, layout, where)
        values = self._numbers[:, layout.values]
        self._whole = [
            bool(((column == np.trunc(column)) & (abs(column) < _WHOLE)).all())
            for column in values.T
        ]
        self._check_names(where)
        samples = '{{"op": "add", "path": "/channels/{}/samples/-", "value": {{"data": ['
        self._parts = [
            (
                samples.format(channel.place),
                f'], "name": {_json(layout.stat_name(channel.name))}, "type": "shapesys"}}',
                channel.bins,
                channel.stat if any(place is not None for place in channel.stat) else None,
            )
            for channel in layout.channels
        ]
        self._modifiers = [_modifier(layout.poi, "normfactor")]
        self._modifiers += [_modifier(LUMI, "lumi")] if layout.lumi else []

    @property
    def yields(self) -> Numbers:
        """All yields, by row and named bin."""
        places = [
            place for each in self.layout.channels for place in each.bins if place is not None
        ]
        found: Numbers = self._numbers[:, places]
        return found

    @property
    def bins(self) -> list[tuple[str, int]]:
        """The bins that have yields: channel and index."""
        return [
            (channel.name, index)
            for channel in self.layout.channels
            for index, place in enumerate(channel.bins)
            if place is not None
        ]

    def name(self, row: int) -> str:
        """Return the name of a row; where the table has none, from the values: ``300_0p5``."""
        if self._names is not None:
            return self._names[row]
        texts = (repr(value) for value in self.values(row))
        return "_".join(texts).replace(".", "p").replace("-", "m").replace("+", "")

    def values(self, row: int) -> tuple[float | int, ...]:
        """Return the values of a row; if the table has none, its number."""
        if not self.layout.values:
            return (row + 1,)
        cells = self._numbers[row]
        return tuple(
            int(cells[place]) if whole else float(cells[place])
            for place, whole in zip(self.layout.values, self._whole, strict=True)
        )

    def canonical(self, row: int) -> bytes:
        """Return the JSON of the patch of a row, spelled as `packing.canonical` does."""
        return self._spelled(self._numbers[row].tolist())

    def fullest(self) -> bytes:
        """Return the JSON of a patch with everything that any row has, at its largest size."""
        return self._spelled(self._numbers.max(axis=0).tolist())

    def _spelled(self, cells: Sequence[float]) -> bytes:
        systematics = ((name, cells[place]) for name, place in self.layout.systematics.items())
        shared = ", ".join(
            self._modifiers
            + [_modifier(name, "normsys", _normsys(size)) for name, size in systematics if size]
        )
        end = f'], "name": {_json(self.layout.sample)}}}}}'
        texts = []
        for begin, stat_end, bins, stat in self._parts:
            data = [0.0 if place is None else cells[place] for place in bins]
            if not any(data):
                continue
            text = f'{begin}{", ".join(map(repr, data))}], "modifiers": [{shared}'
            if stat:
                sizes = [
                    rate * (0.0 if place is None else cells[place])
                    for rate, place in zip(data, stat, strict=True)
                ]
                if any(sizes):
                    text += f', {{"data": [{", ".join(map(repr, sizes))}{stat_end}'
            texts.append(text + end)
        if not texts:  # so that the model has its parameter of interest, and CLs is 1
            begin, _stat_end, bins, _stat = self._parts[0]
            texts = [f'{begin}{", ".join(["0.0"] * len(bins))}], "modifiers": [{shared}{end}']
        return f"[{', '.join(texts)}]".encode()

    def _check_names(self, where: str) -> None:
        """Refuse names that pyhf does not allow, and rows that are not distinct."""
        faults = Faults(where)
        for row, name in enumerate(self._names or ()):
            if not NAME_OF_PATCH.fullmatch(name):
                shown = f"{brief(name, 40)!r}: {ALLOWED_IN_NAMES}" if name else "it is empty"
                faults.add(row, NAME, shown)
        if self._names is not None:
            for row, first in _again(self._names):
                faults.add(row, NAME, f"{brief(self._names[row], 40)} is that of row {first + 1}")
        if self.layout.values:
            values = self._numbers[:, self.layout.values] + 0.0  # there is a -0.0 as well
            for row, first in _again(map(bytes, values)):
                shown = f"{brief(self.values(row))} are those of row {first + 1}"
                faults.add(row, " ".join(f"value:{label}" for label in self.layout.labels), shown)
        faults.refuse_any("a result goes by the name and the values of its point: correct these")


def _again(keys: Iterable[object]) -> Iterator[tuple[int, int]]:
    """Yield the rows whose key is that of one before, with the first one's."""
    first: dict[object, int] = {}
    for row, key in enumerate(keys):
        if (seen := first.setdefault(key, row)) != row:
            yield row, seen


def _check_cells(table: Table, layout: Layout, where: str) -> None:
    """Refuse cells with values that a signal cannot have."""
    faults = Faults(where)
    numbers = table.numbers
    finite = np.isfinite(numbers)
    faults.add_all(~finite, table, "is not a finite number (empty, perhaps)")
    signal = np.ones(len(table.columns), dtype=bool)
    signal[list(layout.values)] = False
    relative = np.zeros(len(table.columns), dtype=bool)
    relative[list(layout.systematics.values())] = True
    faults.add_all((numbers < 0) & finite & signal, table, "is negative")
    problem = "is not a relative uncertainty below 1 (0.1 means 10 %)"
    faults.add_all((numbers >= 1) & finite & relative, table, problem)
    faults.refuse_any("yields and uncertainties are 0 or more: correct these cells")


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _modifier(name: str, kind: str, data: str = "null") -> str:
    return f'{{"data": {data}, "name": {_json(name)}, "type": "{kind}"}}'


def _normsys(size: float) -> str:
    return f'{{"hi": {1.0 + size!r}, "lo": {1.0 - size!r}}}'
