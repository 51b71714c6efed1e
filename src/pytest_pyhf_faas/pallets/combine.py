"""Combine pallets of disjoint channels: hypotheses in pairs, parameters by name."""

from __future__ import annotations

import json
from array import array
from fnmatch import fnmatchcase
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets.combination import PLUS
from pytest_pyhf_faas.pallets.combined_scans import CombinedScans, Share
from pytest_pyhf_faas.pallets.joining import LUMI, Renaming, changes, join, one_sided
from pytest_pyhf_faas.pallets.packing import digest, pack_small, unpack
from pytest_pyhf_faas.pallets.pallet import Packed, Pallet, evenly
from pytest_pyhf_faas.pallets.rows import PackedRows, Patches
from pytest_pyhf_faas.pallets.scan import Scan
from pytest_pyhf_faas.wording import brief, counted, listed
from pytest_pyhf_faas.worker.patching import apply_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

    from pytest_pyhf_faas.pallets.combination import Combination
    from pytest_pyhf_faas.pallets.joining import Workspace
    from pytest_pyhf_faas.pallets.pallet import SignalPatch

#: How many hypotheses are searched for starts, as for any pallet.
_SAMPLE = 16
#: The labels of single files whose names have no values: the places in a list.
_PLACES = ("index",)


def combine(pallets: Sequence[Pallet], how: Combination) -> Pallet:
    """Return several pallets as one; their order does not matter.

    Parameters
    ----------
    pallets : sequence of Pallet
        At least two. One without patches is part of every hypothesis as it is.
    how : Combination
        How they are combined.

    Raises
    ------
    PalletError
        If they clash, or have no hypothesis in common.
    """
    pallets = sorted(pallets, key=lambda pallet: pallet.name)
    names = [pallet.name for pallet in pallets]
    if len(set(names)) < len(names):
        given = [(pallet.name, str(pallet.source)) for pallet in pallets]
        twice = [name for name, source in given if given.count((name, source)) > 1]
        if twice:
            raise PalletError(f"{twice[0]} is given twice: the same events must not count twice")
        sources = listed([f"{pallet.name} ({pallet.source})" for pallet in pallets], 8, 120)
        raise PalletError(
            f"pallets of one name cannot be combined: {sources}\n"
            "rename the directory of one of them: systematics may get the names of pallets"
        )
    together, left_out = _hypotheses(pallets)
    backgrounds = {pallet.name: unpack(pallet.background) for pallet in pallets}
    _check_names(how, backgrounds, next(together.each()))
    renamings = _renamings(how, backgrounds)
    own = {name: renamings[name](workspace) for name, workspace in backgrounds.items()}
    whole = join(own)
    joined = _Joined(backgrounds, own, whole, renamings)
    name = how.name or PLUS.join(names)
    patches = Patches(name, joined.scans(together) or joined.patchset(together))
    return Pallet(
        name=name,
        description=f"{' and '.join(names)} as one: {how.words}",
        labels=next(pallet.labels for pallet in pallets if pallet.patches),
        references=_references(pallets),
        doi=None,
        synthetic=any(pallet.synthetic for pallet in pallets),
        digest=digest(whole),
        background=pack_small(whole),
        patches=patches,
        source=f" {PLUS} ".join(pallet.source for pallet in pallets),
        sample=evenly(patches, _SAMPLE),
        remarks=(*left_out, *one_sided(own)),
    )


class _Joined(NamedTuple):
    """Joined backgrounds; everything except the result is by the names of their pallets.

    `own` are those with the names that modifiers have in the combination.
    """

    backgrounds: Mapping[str, Workspace]
    own: Mapping[str, Workspace]
    whole: Workspace
    renamings: Mapping[str, Renaming]

    def patchset(self, together: _Together) -> PackedRows:
        """Return the hypotheses of patchsets, each joined."""
        rows = PackedRows()
        for patches in together.each():
            first = next(iter(patches.values()))
            operations = {of: patch.operations for of, patch in patches.items()}
            content = Packed.of(self._patched(operations, first.name))
            rows.add(first.name, first.values, content)
        return rows

    def scans(self, together: _Together) -> CombinedScans | None:
        """Return the hypotheses of scans, which are joined when they are asked for.

        ``None`` if one of them is not a scan. Clashes are the same in all rows: they are in the
        patch that has all that any row has.
        """
        scans = {of: _scan_of(patches) for of, patches in together.patches.items()}
        found = {of: scan for of, scan in scans.items() if scan is not None}
        if len(found) < len(scans):
            return None
        self._patched({of: json.loads(scan.fullest()) for of, scan in found.items()}, "of any row")
        ends: dict[str, list[str]] = {}
        number = count()
        for of, workspace in self.own.items():
            ends[of] = [
                f"/channels/{next(number)}/samples/{len(channel['samples'])}"
                for channel in workspace["channels"]
            ]
        return CombinedScans(
            [
                Share(scan, together.places[of], ends[of], self.renamings[of].sample)
                for of, scan in found.items()
            ]
        )

    def _patched(
        self, operations: Mapping[str, list[dict[str, Any]]], name: str
    ) -> list[dict[str, Any]]:
        """Return the patch to the combination that is equivalent to patches to its parts."""
        workspaces = dict(self.own)
        for of, patch in operations.items():
            try:
                patched = apply_patch(patch, self.backgrounds[of])
            except ValueError as error:
                raise PalletError(
                    f"{of}: the patch {name} cannot be applied: {brief(error)}\n"
                    "correct it, or remove it from the patchset"
                ) from error
            workspaces[of] = self.renamings[of](patched)
        try:
            return changes(self.whole, join(workspaces))
        except PalletError as error:
            raise PalletError(f"with the patch {name}, {error}") from None


def _scan_of(patches: Sequence[SignalPatch]) -> Scan | None:
    """Return the scan whose rows are all these patches, in their order."""
    if isinstance(patches, Patches) and isinstance(patches.which, range):
        return patches.rows if isinstance(patches.rows, Scan) else None
    return None


def _references(pallets: Sequence[Pallet]) -> dict[str, str]:
    found: dict[str, dict[str, None]] = {}
    for pallet in pallets:
        for key, value in pallet.references.items():
            found.setdefault(key, {})[value] = None
    return {key: ", ".join(values) for key, values in found.items()}


def _renamings(how: Combination, backgrounds: Mapping[str, Any]) -> dict[str, Renaming]:
    kept = {LUMI}
    for workspace in backgrounds.values():
        kept |= {each["config"]["poi"] for each in workspace["measurements"]}
    always = frozenset(kept)

    def new_name(pallet: str) -> Callable[[str], str]:
        return lambda name: how.new_name(pallet, always, name)

    return {name: Renaming(new_name(name), workspace) for name, workspace in backgrounds.items()}


def _check_names(
    how: Combination, backgrounds: Mapping[str, Any], patches: Mapping[str, SignalPatch]
) -> None:
    """Refuse unknown names: a misspelled combination file would have no effect.

    Those of signals are in the patches; the first hypothesis has them.
    """
    names: dict[str, set[str]] = {}
    for pallet, workspace in backgrounds.items():
        operations = patches[pallet].operations if pallet in patches else []
        names[pallet] = set(_names_in(workspace)) | set(_names_in(operations))
    unknown = [f"the pallet {each}" for each in how.rename if each not in names]
    unknown += [
        f"the modifier {old} of {pallet}"
        for pallet, renamed in how.rename.items()
        for old in renamed
        if old not in names.get(pallet, {old})
    ]
    unknown += [
        f"the modifier {glob}"
        for glob in how.correlate
        if glob != "*" and not any(fnmatchcase(n, glob) for of in names.values() for n in of)
    ]
    if unknown:
        raise PalletError(
            f"{how.name}: nothing is called like {listed(unknown, 5, 80)}\n"
            f"the pallets are {', '.join(names)}; modifiers are those of their workspaces and of "
            "the first hypothesis"
        )


def _names_in(content: Any) -> Iterator[str]:
    """Yield the names of all objects in some JSON: those of modifiers are among them."""
    if isinstance(content, dict):
        if isinstance(content.get("name"), str):
            yield content["name"]
        content = list(content.values())
    if isinstance(content, list):
        for each in content:
            yield from _names_in(each)


# --- which hypotheses belong together -----------------------------------------------------------


class _Together(NamedTuple):
    """The hypotheses that all pallets have: by pallet, its patches and their places."""

    patches: Mapping[str, Sequence[SignalPatch]]
    places: Mapping[str, Sequence[int]]

    def each(self) -> Iterator[dict[str, SignalPatch]]:
        """Yield the patches of each hypothesis by pallet."""
        for places in zip(*self.places.values(), strict=True):
            pairs = zip(self.patches.items(), places, strict=True)
            yield {of: patches[place] for (of, patches), place in pairs}


def _hypotheses(pallets: Sequence[Pallet]) -> tuple[_Together, list[str]]:
    """Return the common hypotheses, and remarks on those left out.

    Patches belong together by their values where the labels are the same, and else by their names.
    """
    having = [pallet for pallet in pallets if pallet.patches]
    if not having:
        raise PalletError(
            f"there are no patches to {' or '.join(pallet.name for pallet in pallets)}\n"
            "add a patchset.json to one of them"
        )
    labels = {frozenset(pallet.labels) for pallet in having}
    by_values = len(labels) == 1 and having[0].labels != _PLACES
    keyed = {pallet.name: _keyed(pallet, by_values=by_values) for pallet in having}
    first, *others = keyed.values()
    common = [key for key in first if all(key in those for those in others)]
    how = f"the values of {', '.join(having[0].labels)}" if by_values else "the names"
    if not common:
        examples = "; ".join(
            f"{pallet.name} has {listed([_shown(patch) for patch in pallet.patches], 2)} "
            f"({','.join(pallet.labels)})"
            for pallet in having
        )
        raise PalletError(
            f"{' and '.join(keyed)} have no hypothesis in common, by {how} of the patches\n"
            f"{examples}\n"
            "patches belong together by their values where the labels are the same, and else by "
            "their names"
        )
    left_out = []
    shared = set(common)
    for pallet in having:
        alone = [p for key, p in keyed[pallet.name].items() if key not in shared]
        if alone:
            names = [pallet.patches[place].name for place in alone]
            left_out.append(
                f"{counted(len(alone), 'hypothesis')} of {pallet.name} without a partner, by "
                f"{how}, left out: {listed(names)}"
            )
    places = {of: array("L", (those[key] for key in common)) for of, those in keyed.items()}
    return _Together({pallet.name: pallet.patches for pallet in having}, places), left_out


def _keyed(pallet: Pallet, *, by_values: bool) -> dict[Hashable, int]:
    """Return the places of patches, by the key that matches them."""
    if not by_values:
        return {patch.name: place for place, patch in enumerate(pallet.patches)}
    order = sorted(range(len(pallet.labels)), key=pallet.labels.__getitem__)
    values = (patch.values for patch in pallet.patches)
    return {tuple(some[i] for i in order): place for place, some in enumerate(values)}


def _shown(patch: SignalPatch) -> str:
    return f"{patch.name} at {','.join(map(str, patch.values))}"
