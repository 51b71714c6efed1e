"""Scans of disjoint channels, combined row by row: the patches are made when they are asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pytest_pyhf_faas.pallets.packing import canonical
from pytest_pyhf_faas.pallets.rows import SignalRows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from pytest_pyhf_faas.pallets.scan import Scan

    Sample = Mapping[str, Any]


class Share(NamedTuple):
    """The contribution of one scan to a combination.

    Attributes
    ----------
    scan : Scan
        The scan.
    rows : sequence of int
        Its row for each row of the combination.
    places : sequence of str
        The JSON pointers to where its signal goes, by the channels of its own background.
    renamed : callable
        Returns a sample with the names that modifiers have in the combination.
    """

    scan: Scan
    rows: Sequence[int]
    places: Sequence[str]
    renamed: Callable[[Sample], Sample]

    def operations(self, patch: bytes) -> list[dict[str, Any]]:
        """Return the operations of a patch of the scan, in the combination."""
        return [
            {
                "op": "add",
                "path": self.places[int(each["path"].split("/")[2])],
                "value": self.renamed(each["value"]),
            }
            for each in json.loads(patch)
        ]


class CombinedScans(SignalRows):
    """The rows of several scans that belong together.

    Parameters
    ----------
    shares : sequence of Share
        The contribution of each scan; names and values are those of the first.
    """

    def __init__(self, shares: Sequence[Share]) -> None:
        super().__init__(len(shares[0].rows))
        self._shares = shares

    @property
    def bins(self) -> list[tuple[str, int]]:
        """The bins that have yields in any of them."""
        return [place for share in self._shares for place in share.scan.bins]

    @property
    def yields(self) -> NDArray[np.float64]:
        """All yields, by row and named bin."""
        return np.hstack([share.scan.yields[np.asarray(share.rows)] for share in self._shares])

    def name(self, row: int) -> str:
        """Return the name of a row."""
        first = self._shares[0]
        return first.scan.name(first.rows[row])

    def values(self, row: int) -> tuple[float | int, ...]:
        """Return the values of a row."""
        first = self._shares[0]
        return first.scan.values(first.rows[row])

    def canonical(self, row: int) -> bytes:
        """Return the JSON of the patch of a row."""
        patches = ((share, share.scan.canonical(share.rows[row])) for share in self._shares)
        # From the end to the beginning, as `joining.changes` has it.
        operations = [each for share, patch in patches for each in share.operations(patch)]
        return canonical(operations[::-1])
