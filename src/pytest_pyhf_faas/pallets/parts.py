"""Which files of a directory or an archive belong to one pallet, told by their names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: What a file is, told by its name without ".json". Everything else is ignored.
_PATCHSET_OR_BACKGROUND = re.compile(
    r"(?:(?P<prefix>.+)[._-])?"
    r"(?:(?P<background>(?:bkg|background)[._-]?only|background)|(?P<patchset>patch[_-]?set))",
    re.IGNORECASE,
)
_SINGLE_PATCH = re.compile(r"patch[._-](?P<name>.+)", re.IGNORECASE)


def holds_pallet(paths: Iterable[str]) -> bool:
    """Whether one of the files is called like a background-only workspace."""
    for path in paths:
        match = _PATCHSET_OR_BACKGROUND.fullmatch(PurePosixPath(path).stem)
        if match and match["background"]:
            return True
    return False


@dataclass
class Part:
    """The files that belong to one pallet; `label` tells it from others of the same source."""

    directory: PurePosixPath
    prefix: str
    backgrounds: list[str] = field(default_factory=list)
    patchsets: list[str] = field(default_factory=list)
    singles: dict[str, str] = field(default_factory=dict)  # path -> name of the patch
    label: str = ""

    def is_called(self, part: str) -> bool:
        """Whether a user may mean it by that."""
        names = {self.label, self.prefix, self.directory.name, str(self.directory)}
        return part.casefold() in {name.casefold() for name in names if name}


def find_parts(paths: Iterable[str], source: Path) -> list[Part]:
    """Sort the files into pallets, by directory and prefix."""
    parts: dict[tuple[PurePosixPath, str], Part] = {}

    def part_at(directory: PurePosixPath, prefix: str) -> Part:
        return parts.setdefault((directory, prefix), Part(directory, prefix))

    seen = []
    for path in paths:
        file = PurePosixPath(path)
        seen.append(path)
        if match := _PATCHSET_OR_BACKGROUND.fullmatch(file.stem):
            part = part_at(file.parent, match["prefix"] or "")
            (part.backgrounds if match["background"] else part.patchsets).append(path)
        elif match := _SINGLE_PATCH.fullmatch(file.stem):
            part_at(file.parent, "").singles[path] = match["name"]

    found = sorted(parts.values(), key=lambda part: (str(part.directory), part.prefix))
    _check_parts(found, seen, source)
    top = PurePosixPath(os.path.commonpath([part.directory for part in found]))
    for part in found:
        directories = part.directory.relative_to(top).parts
        part.label = "_".join([*directories, *filter(None, [part.prefix])])
    return found


def _check_parts(found: list[Part], seen: list[str], source: Path) -> None:
    if not found:
        raise PalletError(
            f"{source} holds no pallet: {listed(seen, 8) or 'there is no JSON file in it'}\n"
            "a pallet is a BkgOnly.json and a patchset.json (or single files patch.NAME.json)"
        )
    for part in found:
        patches = part.patchsets or list(part.singles)
        there = part.backgrounds + patches
        if len(part.backgrounds) == 1 and patches and len(part.patchsets) <= 1:
            continue
        if not part.backgrounds:
            problem = "there are patches, but no background-only workspace to apply them to"
            remedy = f"add {_expected(part, 'BkgOnly')}, or remove the patches"
        elif not patches:
            problem = "there is a background-only workspace, but no patches to it"
            remedy = f"add {_expected(part, 'patchset')}, or remove the workspace"
        else:
            problem = "there are several files for one pallet"
            remedy = "keep one of them"
        raise PalletError(
            f"{source}: {problem}: {listed(there, 8)}\nall JSON files: {listed(seen, 8)}\n{remedy}"
        )


def _expected(part: Part, role: str) -> str:
    return str(part.directory / (f"{part.prefix}_{role}.json" if part.prefix else f"{role}.json"))


def no_part(source: Path, part: str, found: list[Part]) -> NoReturn:
    """Say that none of the pallets that were found is called like that."""
    raise PalletError(
        f"{source} holds no pallet called {part!r}, but: "
        f"{listed([one.label or '(without a name)' for one in found], 8)}\n"
        "the archive may be of another version of the publication"
    )
