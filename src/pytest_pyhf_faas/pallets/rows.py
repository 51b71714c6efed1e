"""Patches that are made on demand, so that 100,000 do not take as many objects."""

from __future__ import annotations

import hashlib
import zlib
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from pytest_pyhf_faas.pallets.pallet import Content, SignalPatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    Values = tuple[float | int | str, ...]

_DIGEST_BYTES = 32
_NO_DIGEST = bytes(_DIGEST_BYTES)


class Rows(ABC):
    """The source of patches, one from each row."""

    @abstractmethod
    def __len__(self) -> int:
        """The number of rows."""

    @abstractmethod
    def name(self, row: int) -> str:
        """Return the name of a patch."""

    @abstractmethod
    def values(self, row: int) -> Values:
        """Return its values in the model's parameter space."""

    @abstractmethod
    def digest(self, row: int) -> str:
        """Return its digest, see `packing.digest`."""

    @abstractmethod
    def packed(self, row: int) -> bytes:
        """Return its operations as `packing.unpack` takes them."""

    def file(self, row: int) -> str:
        """Return the single file that it was read from, if it has another name."""
        del row
        return ""


class SignalRows(Rows):
    """Rows that differ only in the yields of their signals; patches are made, and not kept.

    Parameters
    ----------
    count : int
        How many there are.
    """

    def __init__(self, count: int) -> None:
        self._digests = bytearray(_DIGEST_BYTES * count)

    def __len__(self) -> int:
        return len(self._digests) // _DIGEST_BYTES

    @abstractmethod
    def canonical(self, row: int) -> bytes:
        """Return the JSON of the patch of a row, spelled as `packing.canonical` does."""

    def digest(self, row: int) -> str:
        """Return the digest of the patch of a row, which is kept."""
        place = slice(_DIGEST_BYTES * row, _DIGEST_BYTES * (row + 1))
        if self._digests[place] == _NO_DIGEST:
            self._digests[place] = hashlib.sha256(self.canonical(row)).digest()
        return self._digests[place].hex()

    def packed(self, row: int) -> bytes:
        """Return the patch of a row, packed."""
        return zlib.compress(self.canonical(row), 1)

    @property
    @abstractmethod
    def bins(self) -> list[tuple[str, int]]:
        """The bins that have yields: channel and index."""

    @property
    @abstractmethod
    def yields(self) -> NDArray[np.float64]:
        """All yields, by row and named bin, in the order of `bins`."""


class Row(Content):
    """The operations of one row."""

    __slots__ = ("row", "rows")

    def __init__(self, rows: Rows, row: int) -> None:
        self.rows = rows
        self.row = row

    @property
    def digest(self) -> str:
        """Their digest."""
        return self.rows.digest(self.row)

    @property
    def packed(self) -> bytes:
        """Themselves."""
        return self.rows.packed(self.row)


class Patches(Sequence[SignalPatch]):
    """The patches of some rows, each made when it is asked for.

    Parameters
    ----------
    pallet : str
        The name of the pallet.
    rows : Rows
        Their source.
    which : sequence of int, optional
        The selected rows, in the order of the patches; all by default.
    """

    def __init__(self, pallet: str, rows: Rows, which: Sequence[int] | None = None) -> None:
        self._pallet = pallet
        self.rows = rows
        self.which = range(len(rows)) if which is None else which

    def __len__(self) -> int:
        return len(self.which)

    @overload
    def __getitem__(self, index: int) -> SignalPatch: ...
    @overload
    def __getitem__(self, index: slice) -> Patches: ...
    def __getitem__(self, index: int | slice) -> SignalPatch | Patches:
        if isinstance(index, slice):
            return Patches(self._pallet, self.rows, self.which[index])
        return self._make(self.which[index])

    def __iter__(self) -> Iterator[SignalPatch]:
        return map(self._make, self.which)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(map(SignalPatch.__eq__, self, other))

    __hash__ = None  # type: ignore[assignment]

    def _make(self, row: int) -> SignalPatch:
        rows = self.rows
        return SignalPatch(
            self._pallet, rows.name(row), rows.values(row), Row(rows, row), rows.file(row)
        )


class PackedRows(Rows):
    """Patches that are kept packed, one after the other."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._values: list[Values] = []
        self._digests = bytearray()
        self._packed = bytearray()
        self._ends = array("Q", [0])
        self._files: dict[int, str] = {}

    def add(self, name: str, values: Values, content: Content, file: str = "") -> None:
        """Keep a patch as the last of them."""
        if file:
            self._files[len(self._names)] = file
        self._names.append(name)
        self._values.append(values)
        self._digests += bytes.fromhex(content.digest)
        self._packed += content.packed
        self._ends.append(len(self._packed))

    def __len__(self) -> int:
        return len(self._names)

    def name(self, row: int) -> str:
        """Return the name of a patch."""
        return self._names[row]

    def values(self, row: int) -> Values:
        """Return its values."""
        return self._values[row]

    def digest(self, row: int) -> str:
        """Return its digest."""
        return self._digests[_DIGEST_BYTES * row : _DIGEST_BYTES * (row + 1)].hex()

    def packed(self, row: int) -> bytes:
        """Return its operations, packed."""
        return bytes(self._packed[self._ends[row] : self._ends[row + 1]])

    def file(self, row: int) -> str:
        """Return the file that it was read from, if that has another name."""
        return self._files.get(row, "")
