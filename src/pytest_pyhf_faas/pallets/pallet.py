"""A pallet: a background-only workspace, and one JSON patch to it for each signal hypothesis.

Content is kept compressed: a patchset of 13 MB stays below 2 MB in memory.
"""

from __future__ import annotations

import difflib
import hashlib
import re
import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from fnmatch import translate
from itertools import islice
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets.packing import canonical, unpack
from pytest_pyhf_faas.wording import brief, counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Separates the name of a pallet from its patches.
OF_PALLET = "::"
#: How many names are compared with an unknown one.
_COMPARED = 5_000


class Content(ABC):
    """The operations of a patch, which may be made when they are asked for; equal by digest."""

    __slots__ = ()

    @property
    @abstractmethod
    def digest(self) -> str:
        """SHA-256 of the list of operations, see `packing.digest`."""

    @property
    @abstractmethod
    def packed(self) -> bytes:
        """The list of operations, see `packing.pack`."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Content):
            return NotImplemented
        return self is other or self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


class Packed(Content):
    """Operations that are kept in memory, compressed."""

    __slots__ = ("_digest", "_packed")

    def __init__(self, digest: str, packed: bytes) -> None:
        self._digest = digest
        self._packed = packed

    @classmethod
    def of(cls, operations: list[dict[str, Any]]) -> Packed:
        """Return a list of operations, packed.

        Raises
        ------
        ValueError
            As `packing.digest` does.
        """
        text = canonical(operations)
        return cls(hashlib.sha256(text).hexdigest(), zlib.compress(text))

    @property
    def digest(self) -> str:
        """Their digest."""
        return self._digest

    @property
    def packed(self) -> bytes:
        """Themselves."""
        return self._packed


@dataclass(frozen=True, slots=True)
class SignalPatch:
    """One signal hypothesis: a JSON patch to the background-only workspace.

    Attributes
    ----------
    pallet
        The name of the pallet that it belongs to.
    name
        The name in the patchset, such as ``C1N2_Wh_hbb_750_100``.
    values
        Where it lies in the model's parameter space; one value for each label of the pallet.
    content
        The JSON patch itself.
    file
        The single file that it was read from, where its name could not be that of the file.
    """

    pallet: str
    name: str
    values: tuple[float | int | str, ...]
    content: Content = field(repr=False)
    file: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of the list of operations, see `packing.digest`."""
        return self.content.digest

    @property
    def operations(self) -> list[dict[str, Any]]:
        """The JSON patch, a list of operations."""
        operations: list[dict[str, Any]] = unpack(self.content.packed)
        return operations


@dataclass(frozen=True)
class Pallet:
    """A background-only workspace and its signal patches.

    Attributes
    ----------
    name
        A short name, such as ``1Lbb``.
    description
        The description in the patchset.
    labels
        What the values of the patches mean, such as ``("m1", "m2")``.
    references
        Where it was published, such as ``{"hepdata": "ins1755298"}``.
    doi
        The DOI, where it is known.
    synthetic
        Whether the pallet states that it is not a physics analysis.
    digest
        SHA-256 of the background-only workspace, see `packing.digest`.
    background
        The background-only workspace, see `packing.pack_small`.
    patches
        The signal hypotheses, in the patchset's order. Each may be made when it is asked for, so
        that the same one is equal to itself, and not identical.
    source
        Where it was read from, for messages.
    sample
        Signal hypotheses from all over the patchset, independent of the selection: where
        starts for all of them are searched for.
    remarks
        Remarks on how the pallet was put together.
    """

    name: str
    description: str
    labels: tuple[str, ...]
    references: dict[str, str] = field(hash=False)
    doi: str | None
    synthetic: bool
    digest: str
    background: bytes = field(repr=False)
    patches: Sequence[SignalPatch] = field(repr=False, hash=False)
    source: str
    sample: tuple[SignalPatch, ...] = field(repr=False, hash=False, default=())
    remarks: tuple[str, ...] = ()

    def select(self, wanted: Sequence[str]) -> Pallet:
        """Return this pallet with the wanted patches only, in the patchset's order.

        Parameters
        ----------
        wanted
            Each is a glob on the name (``C1N2_*_100``) or the comma-separated values
            (``750,100``; numbers are compared as numbers); ``1Lbb::C1N2_*_100`` means patches of
            that pallet only. If empty, all patches are wanted.

        Raises
        ------
        PalletError
            If one of them matches no patch.
        """
        (selected,) = select([self], wanted)
        return selected

    def renamed(self, name: str) -> Pallet:
        """Return this pallet, and its patches, under another name."""
        patches, sample = (
            tuple(replace(patch, pallet=name) for patch in some)
            for some in (self.patches, self.sample)
        )
        return replace(self, name=name, patches=patches, sample=sample)

    @property
    def content(self) -> tuple[str, tuple[tuple[str, str], ...]]:
        """The identity of a pallet, independent of its source."""
        return self.digest, tuple((patch.name, patch.digest) for patch in self.patches)


def select(pallets: Sequence[Pallet], wanted: Sequence[str]) -> list[Pallet]:
    """Return pallets with the wanted patches only, without those that have none of them.

    Parameters
    ----------
    pallets : sequence of Pallet
        The pallets.
    wanted : sequence of str
        As for `Pallet.select`.

    Raises
    ------
    PalletError
        If one of the wanted matches no patch of any pallet.
    """
    if not wanted:
        return list(pallets)
    matched: set[str] = set()
    selected = []
    for pallet in pallets:
        index = _Wanted(wanted, pallet.name)
        patches = []
        for patch in pallet.patches:
            if wants := index.matching(patch):
                matched.update(wants)
                patches.append(patch)
        if len(patches) == len(pallet.patches):
            selected.append(pallet)
        elif patches:
            selected.append(replace(pallet, patches=tuple(patches)))
    for want in wanted:
        if want not in matched:
            raise PalletError(_nothing_matches(pallets, want))
    return selected


def _nothing_matches(pallets: Sequence[Pallet], want: str) -> str:
    count = sum(len(pallet.patches) for pallet in pallets)
    near = difflib.get_close_matches(want, _alike(pallets, want), n=3)
    which = "the pallet" if len(pallets) == 1 else "any of the pallets"
    names = listed([pallet.name for pallet in pallets], 8)
    lines = [f"no patch of {which} {names} matches {brief(want)!r}"]
    if near:
        lines.append(f"did you mean: {', '.join(near)}")
    examples = ", ".join(
        f"{patch.name} ({','.join(map(str, patch.values))})"
        for patch in islice((patch for pallet in pallets for patch in pallet.patches), 3)
    )
    labels = dict.fromkeys(",".join(pallet.labels) for pallet in pallets)
    lines.append(
        f"give a glob on the name, or values of {' or '.join(labels)}; the first of "
        f"{counted(count, 'patch')}: {examples}"
    )
    return "\n".join(lines)


def each_once(pallets: Iterable[Pallet]) -> list[Pallet]:
    """Return pallets without duplicates.

    Raises
    ------
    PalletError
        If two different ones have one name, which identifies results and references.
    """
    found: dict[str, Pallet] = {}
    for pallet in pallets:
        first = found.setdefault(pallet.name, pallet)
        if first is not pallet and first.content != pallet.content:
            raise PalletError(
                f"two pallets have the name {pallet.name}: {first.source} and {pallet.source}\n"
                "results and references go by this name: run them one at a time, each with "
                "its own --faas-reference-dir, or rename one of them, or give the directory "
                "that holds both, for names with the sub-directories"
            )
    return list(found.values())


def evenly(patches: Sequence[SignalPatch], most: int) -> tuple[SignalPatch, ...]:
    """Return a number of patches from all over a patchset, always the same ones."""
    count = min(most, len(patches))
    return tuple(patches[(2 * i + 1) * len(patches) // (2 * count)] for i in range(count))


def _alike(pallets: Sequence[Pallet], want: str) -> list[str]:
    """Return names of patches to compare with a misspelled one: a few of many."""
    names = [patch.name for pallet in pallets for patch in pallet.patches]
    if len(names) <= _COMPARED:
        return names
    same = [name for name in names if abs(len(name) - len(want)) <= 1]
    begin = want[: len(want) // 2]
    return [name for name in same if name.startswith(begin)][:_COMPARED]


class _Wanted:
    """A selection of patches; names and values are looked up, only globs are tried in turn."""

    def __init__(self, wanted: Iterable[str], pallet: str) -> None:
        self._names: dict[str, list[str]] = {}
        self._points: dict[tuple[float | str, ...], list[str]] = {}
        self._globs: list[tuple[re.Pattern[str], str]] = []
        for want in dict.fromkeys(wanted):
            name, of_one, in_it = want.partition(OF_PALLET)
            for text in [want, in_it] if of_one and name == pallet else [want]:
                if any(special in text for special in "*?["):
                    self._globs.append((re.compile(translate(text)), want))
                else:
                    self._names.setdefault(text, []).append(want)
                self._points.setdefault(_point(text.split(",")), []).append(want)

    def matching(self, patch: SignalPatch) -> list[str]:
        """Return which parts of the selection a patch matches."""
        return [
            *self._names.get(patch.name, ()),
            *self._points.get(_point(patch.values), ()),
            *(want for glob, want in self._globs if glob.match(patch.name)),
        ]


def _point(values: Iterable[float | str]) -> tuple[float | str, ...]:
    """Return values in which equal numbers compare equal, in any spelling."""
    return tuple(map(_number_or_text, values))


def _number_or_text(value: float | str) -> float | str:
    try:
        return float(value)
    except ValueError:
        return str(value).strip()
