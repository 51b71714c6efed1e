"""Find the published upper limits of the hypotheses of a pallet."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import PublishedTableError
from pytest_pyhf_faas.pallets.catalogue import tables_of
from pytest_pyhf_faas.pallets.packing import unpack
from pytest_pyhf_faas.pallets.pallet import Packed
from pytest_pyhf_faas.published.download import fetch_table, table_doi
from pytest_pyhf_faas.published.tables import cross_section_at, read_table
from pytest_pyhf_faas.published.theory import without_cross_section_uncertainty
from pytest_pyhf_faas.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_pyhf_faas.pallets.catalogue import TablesOf
    from pytest_pyhf_faas.pallets.pallet import Pallet, SignalPatch
    from pytest_pyhf_faas.published.tables import PublishedLimit

#: Names next to a pallet: a directory of tables, or a single table.
DIRECTORY = "published"
_OWN = "published.csv"
_SUFFIXES = (".csv", ".json", ".yaml", ".yml")
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Expected:
    """The published values of one hypothesis.

    Attributes
    ----------
    limit : float
        The observed upper limit on the cross section at 95 % CL, in pb.
    rounding : float
        How far it may be rounded, relative to it.
    cross_section : float
        The theory cross section, in pb.
    mass : float
        Of the particle whose cross section it is.
    """

    limit: float
    rounding: float
    cross_section: float
    mass: float


@dataclass(frozen=True, eq=False)
class Publication:
    """The published values of the hypotheses of a pallet.

    Attributes
    ----------
    pallet : Pallet
        All of it, not only the selected patches.
    expected : mapping of str to Expected
        By the name of the patch.
    left_out : tuple of str
        The patches whose limit was published, for which the tables have no cross section.
    paths : tuple of Path
        The files that they are from.
    """

    pallet: Pallet
    expected: Mapping[str, Expected]
    left_out: tuple[str, ...]
    paths: tuple[Path, ...]

    @property
    def patches(self) -> list[SignalPatch]:
        """The patches with a published limit, in the order of the pallet."""
        return [patch for patch in self.pallet.patches if patch.name in self.expected]

    @cached_property
    def fitted(self) -> list[SignalPatch]:
        """The patches for limits on the cross section: without the uncertainty of theory."""
        background = unpack(self.pallet.background)
        return [_as_fitted(patch, background) for patch in self.patches]


def find_publication(
    pallet: Pallet, given: Sequence[str] = (), search_path: Sequence[Path] = ()
) -> Publication | None:
    """Find the published upper limits of a pallet, and read them.

    The first of these that exists: what the user gives; `published.csv` or the directory
    `published` in that of the pallet; files of the names that the catalogue has for it, in the
    directories `published` in those of the search path and next to them.

    Parameters
    ----------
    pallet : Pallet
        All of it.
    given : sequence of str
        Files, directories, and DOIs of tables of HEPData.
    search_path : sequence of Path
        Directories that hold pallets.

    Returns
    -------
    Publication or None
        ``None`` if there is no table.

    Raises
    ------
    PublishedTableError
        If a table cannot be found, downloaded or read, or is not of this pallet.
    """
    known = tables_of(pallet.name)
    paths = [path for text in given for path in _given(text)]
    paths = paths or list(_beside(pallet)) or list(_of_catalogue(known, search_path))
    if not paths:
        return None
    limits: dict[tuple[float, ...], PublishedLimit] = {}
    cross_sections: dict[float, float] = {}
    for path in paths:
        table = read_table(path)
        if isinstance(table, dict):
            cross_sections = {**table, **cross_sections}
        else:
            limits = {**{limit.values: limit for limit in reversed(table)}, **limits}
    labels = pallet.labels
    mass = labels.index(known.mass) if known is not None and known.mass in labels else 0
    return _matched(pallet, limits, cross_sections, mass, tuple(paths))


def _given(text: str) -> Iterator[Path]:
    doi = table_doi(text)
    path = Path(os.path.expanduser(text))  # noqa: PTH111 - leaves the "~" of who has no home
    if doi is not None:
        yield fetch_table(doi)
    elif path.is_dir():
        found = list(_tables_in(path))
        if not found:
            raise PublishedTableError(
                f"there is no table in {path}: a table ends in {', '.join(_SUFFIXES)}"
            )
        yield from found
    elif path.is_file():
        yield path
    else:
        raise PublishedTableError(
            f"there is no table {text}: give a file, a directory, or the DOI of a table of "
            "HEPData, such as 10.17182/hepdata.92006.v2/t1"
        )


def _beside(pallet: Pallet) -> Iterator[Path]:
    place = Path(pallet.source)
    own = place / _OWN
    return iter([own]) if own.is_file() else _tables_in(place / DIRECTORY)


def _tables_in(directory: Path) -> Iterator[Path]:
    for path in sorted(directory.glob("*")):
        if path.suffix.lower() in _SUFFIXES and path.is_file():
            yield path


def _of_catalogue(known: TablesOf | None, search_path: Iterable[Path]) -> Iterator[Path]:
    if known is None:
        return
    places = [Path(os.path.abspath(path)) for path in search_path]  # noqa: PTH100 - keeps links
    for place in dict.fromkeys(each for path in places for each in (path, path.parent)):
        paths = [place / DIRECTORY / name for name in (*known.limits, known.cross_sections)]
        if all(path.is_file() for path in paths):
            yield from paths
            return


def _matched(
    pallet: Pallet,
    limits: Mapping[tuple[float, ...], PublishedLimit],
    cross_sections: Mapping[float, float],
    mass: int,
    paths: tuple[Path, ...],
) -> Publication:
    """Match each patch with its published values."""
    where = listed([str(path) for path in paths], _NAMED)
    expected: dict[str, Expected] = {}
    left_out = []
    for patch in pallet.patches:
        values = _numbers(patch)
        found = limits.get(values)
        if found is None or found.observed is None:
            continue
        theory = found.cross_section or cross_section_at(cross_sections, values[mass])
        if theory is None:
            left_out.append(patch.name)
            continue
        figure = found.observed
        expected[patch.name] = Expected(
            figure.value, figure.half_unit / figure.value, theory, values[mass]
        )
    if left_out and not expected:
        raise PublishedTableError(
            f"{where}: no theory cross section of the hypotheses of {pallet.name}\n"
            "add a column cross_section_pb to the limits, or a table of cross sections by mass "
            f"({pallet.labels[mass]})"
        )
    if not expected:
        first = next((f"{', '.join(map(str, one))}" for one in limits), "no row with limits")
        raise PublishedTableError(
            f"{where}: no row is a hypothesis of {pallet.name}\n"
            f"the first row has {first}; the first patch has "
            f"{', '.join(map(str, pallet.patches[0].values))} ({', '.join(pallet.labels)})"
        )
    return Publication(pallet, expected, tuple(left_out), paths)


def _as_fitted(patch: SignalPatch, background: Mapping[str, Any]) -> SignalPatch:
    operations = patch.operations
    needed = without_cross_section_uncertainty(operations, background)
    if needed == operations:
        return patch
    return replace(patch, content=Packed.of(needed))


def _numbers(patch: SignalPatch) -> tuple[float, ...]:
    """Return the values of a patch; none if one of them is not a number."""
    try:
        return tuple(map(float, patch.values))
    except ValueError:
        return ()
