"""Which hypotheses a gate tests: pallets, and patches of each, as options of the suite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_pyhf_faas.errors import ConfigurationError, PalletError
from pytest_pyhf_faas.pallets.packing import digest
from pytest_pyhf_faas.pallets.pallet import OF_PALLET, each_once, evenly, select
from pytest_pyhf_faas.wording import listed, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_pyhf_faas.pallets.pallet import Pallet

_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Selection:
    """Pallets, and which of their patches.

    Attributes
    ----------
    specs : tuple of str
        Each as for ``--faas-pallet``.
    patches : tuple of str
        As for ``--faas-patch``; empty: all.
    count : int or None
        How many of these, from all over each pallet; ``None``: all of these.
    optional : bool
        Whether it is left out if the pallets are not available.
    """

    specs: tuple[str, ...]
    patches: tuple[str, ...] = ()
    count: int | None = None
    optional: bool = False

    def __post_init__(self) -> None:
        if self.count is not None and self.count < 1:
            raise ConfigurationError(
                f"count = {self.count} of {listed(self.specs)}: at least one patch is needed"
            )

    def of(self, pallets: Sequence[Pallet]) -> list[Pallet]:
        """Return the pallets with what is selected of them."""
        found = select(pallets, self.patches)
        if self.count is None:
            return found
        return [
            pallet.select([patch.name for patch in evenly(pallet.patches, self.count)])
            for pallet in found
        ]


@dataclass(frozen=True, slots=True)
class Selected:
    """The hypotheses that are tested.

    Attributes
    ----------
    words : tuple of str
        Options of the suite.
    hypotheses : int
        How many there are.
    left_out : tuple of str
        Why optional pallets are not there.
    digest : str
        Of the contents of all.
    """

    words: tuple[str, ...]
    hypotheses: int
    digest: str
    left_out: tuple[str, ...] = ()


def selected(selections: Sequence[Selection], read: Callable[[str], Iterable[Pallet]]) -> Selected:
    """Return the hypotheses of some selections.

    Parameters
    ----------
    selections : sequence of Selection
        The pallets.
    read : callable
        Returns the pallets that a spec means.

    Raises
    ------
    PalletError
        If a pallet cannot be read, or has no such patch.
    ConfigurationError
        If a count makes no sense.
    """
    whole: list[Pallet] = []
    words: list[str] = []
    parts: list[str] = []
    contents = []
    left_out: list[str] = []
    for selection in selections:
        try:
            found = each_once(pallet for spec in selection.specs for pallet in read(spec))
        except PalletError as error:
            if not selection.optional:
                raise
            left_out.append(one_line(error))
            continue
        words += [f"--faas-pallet={spec}" for spec in selection.specs]
        whole = each_once([*whole, *found])
        sizes = {pallet.name: len(pallet.patches) for pallet in found}
        for pallet in selection.of(found):
            names = [patch.name for patch in pallet.patches]
            contents.append(pallet.content)
            parts += [
                f"--faas-patch={pallet.name}{OF_PALLET}{name}"
                for name in (["*"] if len(names) == sizes[pallet.name] else names)
            ]
    if len(selections) == 1 and selections[0].count is None:
        parts = [f"--faas-patch={want}" for want in selections[0].patches]
    hypotheses = sum(len(patches) for _, patches in contents)
    if not hypotheses:
        raise PalletError(f"no pallet is left to fit: {'; '.join(left_out)}")
    return Selected((*words, *parts), hypotheses, digest(contents)[:_DIGITS], tuple(left_out))
