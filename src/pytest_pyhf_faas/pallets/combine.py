"""Pallets of disjoint channels become one: their hypotheses in pairs, their parameters by name."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets.combination import PLUS
from pytest_pyhf_faas.pallets.joining import LUMI, Renaming, changes, join, one_sided
from pytest_pyhf_faas.pallets.packing import digest, pack_small, unpack
from pytest_pyhf_faas.pallets.pallet import Packed, Pallet, SignalPatch, evenly
from pytest_pyhf_faas.wording import brief, counted, listed
from pytest_pyhf_faas.worker.patching import apply_patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_pyhf_faas.pallets.combination import Combination

#: So many hypotheses are searched for starts, as of any pallet.
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
        sources = listed([f"{pallet.name} ({pallet.source})" for pallet in pallets], 8, 120)
        raise PalletError(
            f"pallets of one name cannot be combined: {sources}\n"
            "rename the directory of one of them: systematics may get the names of pallets"
        )
    hypotheses, left_out = _hypotheses(pallets)
    backgrounds = {pallet.name: unpack(pallet.background) for pallet in pallets}
    _check_names(how, backgrounds, hypotheses[0])
    renamings = _renamings(how, backgrounds)
    own = {name: renamings[name](workspace) for name, workspace in backgrounds.items()}
    whole = join(own)
    name = how.name or PLUS.join(names)

    def patched(patches: Mapping[str, SignalPatch]) -> list[dict[str, Any]]:
        workspaces = dict(own)
        for of, patch in patches.items():
            try:
                workspaces[of] = renamings[of](apply_patch(patch.operations, backgrounds[of]))
            except ValueError as error:
                raise PalletError(
                    f"{of}: the patch {patch.name} cannot be applied: {brief(error)}\n"
                    "correct it, or remove it from the patchset"
                ) from error
        try:
            return changes(whole, join(workspaces))
        except PalletError as error:
            first = next(iter(patches.values()))
            raise PalletError(f"with the patch {first.name}, {error}") from None

    found = []
    for patches in hypotheses:
        first = next(iter(patches.values()))
        operations = patched(patches)
        found.append(SignalPatch(name, first.name, first.values, Packed.of(operations)))
    return Pallet(
        name=name,
        description=f"{' and '.join(names)} as one: {how.words}",
        labels=next(pallet.labels for pallet in pallets if pallet.patches),
        references=_references(pallets),
        doi=None,
        synthetic=any(pallet.synthetic for pallet in pallets),
        digest=digest(whole),
        background=pack_small(whole),
        patches=tuple(found),
        source=f" {PLUS} ".join(pallet.source for pallet in pallets),
        sample=evenly(tuple(found), _SAMPLE),
        remarks=(*left_out, *one_sided(own)),
    )


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
    """Refuse names that are nowhere: a combination file that is misspelled would be without effect.

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


def _hypotheses(
    pallets: Sequence[Pallet],
) -> tuple[list[dict[str, SignalPatch]], list[str]]:
    """Return the patches of each hypothesis that all have, by pallet, and say which are left out.

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
    first = keyed[having[0].name]
    common = [key for key in first if all(key in patches for patches in keyed.values())]
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
    for name, patches in keyed.items():
        alone = [patch.name for key, patch in patches.items() if key not in shared]
        if alone:
            left_out.append(
                f"{counted(len(alone), 'hypothesis')} of {name} without a partner, by {how}, "
                f"left out: {listed(alone)}"
            )
    return [{name: patches[key] for name, patches in keyed.items()} for key in common], left_out


def _keyed(pallet: Pallet, *, by_values: bool) -> dict[Any, SignalPatch]:
    if not by_values:
        return {patch.name: patch for patch in pallet.patches}
    return {
        frozenset(zip(pallet.labels, patch.values, strict=True)): patch for patch in pallet.patches
    }


def _shown(patch: SignalPatch) -> str:
    return f"{patch.name} at {','.join(map(str, patch.values))}"
