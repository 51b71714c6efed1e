"""Sort the files of a directory or an archive into pallets, by name or else content."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets.sources import split
from pytest_pyhf_faas.pallets.verify import parse
from pytest_pyhf_faas.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from pytest_pyhf_faas.pallets.sources import Files

#: The kind of a file, by its name without suffixes. Everything else is ignored.
_PATCHSET_OR_BACKGROUND = re.compile(
    r"(?:(?P<prefix>.+)[._-])?"
    r"(?:(?P<background>(?:bkg|background)[._-]?only|background)|(?P<patchset>patch[_-]?set)"
    r"|(?P<scan>scan))",
    re.IGNORECASE,
)
#: The suffixes of each.
_SUFFIXES = {
    "background": {".json"},
    "patchset": {".json", ".jsonl"},
    "scan": {".csv", ".parquet"},
    "single": {".json"},
}
#: If there are more files than this, only their names are used.
_MAX_READ = 50
_SINGLE_PATCH = re.compile(r"patch[._-](?P<name>.+)", re.IGNORECASE)


def holds_pallet(paths: Iterable[str]) -> bool:
    """Whether one of the files has the name of a background-only workspace or its patches."""
    return any(role is not None and role[1] != "single" for role in map(_role, paths))


@dataclass
class Part:
    """The files that belong to one pallet; `label` distinguishes it from others of the same source.

    A patchset may be a scan, and both are one file.
    """

    directory: PurePosixPath
    prefix: str
    backgrounds: list[str] = field(default_factory=list)
    patchsets: list[str] = field(default_factory=list)
    singles: dict[str, str] = field(default_factory=dict)  # path -> name of the patch
    label: str = ""

    @property
    def patches(self) -> list[str]:
        """The files with its patches: a patchset is preferred to single files."""
        return self.patchsets or list(self.singles)

    def is_called(self, part: str) -> bool:
        """Whether a user may mean it by that name."""
        names = {self.label, self.prefix, self.directory.name, str(self.directory)}
        return part.casefold() in {name.casefold() for name in names if name}


def find_parts(files: Files, source: Path, *, alone: bool = False) -> list[Part]:
    """Sort the files into pallets, by directory and prefix.

    If names show no background or no patches, archives inside are opened, and then the
    content of files is read.

    Parameters
    ----------
    files : Files
        The files.
    source : Path
        Where they are, for messages.
    alone : bool
        Whether a background may have no patches.
    """
    parts = _sorted(files.paths, _role)
    if not _complete(parts):
        files.look_inside()
        parts = _sorted(files.paths, _role)
    if not _complete(parts) and sum(split(path)[1] == ".json" for path in files.paths) <= _MAX_READ:
        parts = _sorted(files.paths, lambda path: _role(path) or _role_of_content(files, path))
    found = _with_backgrounds([part for part in parts if not _stray(part)])
    _check_parts(found, files.paths, source, alone=alone)
    top = PurePosixPath(os.path.commonpath([part.directory for part in found]))
    for part in found:
        directories = part.directory.relative_to(top).parts
        part.label = "_".join([*directories, *filter(None, [part.prefix])])
    return found


# Prefix, kind ("background", "patchset", "scan" or "single") and name.
_Role = tuple[str, str, str]


def _role(path: str) -> _Role | None:
    """Return the kind of a file, by its name."""
    name, suffix = split(path)
    role = None
    if match := _PATCHSET_OR_BACKGROUND.fullmatch(name):
        kind = next(kind for kind in ("background", "patchset", "scan") if match[kind])
        role = match["prefix"] or "", kind, name
    elif match := _SINGLE_PATCH.fullmatch(name):
        role = "", "single", match["name"]
    return role if role and suffix in _SUFFIXES[role[1]] else None


def _role_of_content(files: Files, path: str) -> _Role | None:
    """Return the kind of a JSON file, by its content; unreadable ones are ignored, like others."""
    name, suffix = split(path)
    if suffix != ".json":
        return None
    try:
        content = parse(files.read(path), path)
    except PalletError:
        return None
    if isinstance(content, dict) and {"channels", "observations"} <= content.keys():
        return "", "background", name
    if isinstance(content, dict) and {"metadata", "patches"} <= content.keys():
        return name, "patchset", name
    return None


def _sorted(paths: Iterable[str], role: Callable[[str], _Role | None]) -> list[Part]:
    parts: dict[tuple[PurePosixPath, str], Part] = {}
    for path in paths:
        if found := role(path):
            prefix, kind, name = found
            directory = PurePosixPath(path).parent
            part = parts.setdefault((directory, prefix), Part(directory, prefix))
            if kind == "single":
                part.singles[path] = name
            else:
                (part.backgrounds if kind == "background" else part.patchsets).append(path)
    return sorted(parts.values(), key=lambda part: (str(part.directory), part.prefix))


def is_scan(path: str) -> bool:
    """Whether a file with patches is the table of a scan."""
    return split(path)[1] in _SUFFIXES["scan"]


def _stray(part: Part) -> bool:
    """Whether it is a table with a prefix that no background has, so something else."""
    return (
        bool(part.prefix and part.patches)
        and not part.backgrounds
        and all(map(is_scan, part.patches))
    )


def _complete(parts: Iterable[Part]) -> bool:
    """Whether there is a background, and patches."""
    return any(part.backgrounds for part in parts) and any(part.patches for part in parts)


def _with_backgrounds(parts: list[Part]) -> list[Part]:
    """Return the parts with patches, each with its background, and left-over backgrounds.

    A background is for the patches next to it, with any prefix, or those below it; one that
    is left over is for patches that are.
    """
    owners = [part for part in parts if part.backgrounds]
    orphans = [part for part in parts if not part.backgrounds]
    used = {id(part) for part in owners if part.patches}
    for orphan in orphans:
        near = next(
            (
                neighbours
                for directory in (orphan.directory, *orphan.directory.parents)
                if (neighbours := [each for each in owners if each.directory == directory])
            ),
            [],
        )
        if not near and len(orphans) == 1:
            near = [each for each in owners if id(each) not in used]
        if len(near) == 1:
            orphan.backgrounds = near[0].backgrounds
            used.add(id(near[0]))
    return [part for part in parts if part.patches or id(part) not in used]


def _check_parts(found: list[Part], seen: list[str], source: Path, *, alone: bool) -> None:
    if not found:
        raise PalletError(
            f"{source} holds no pallet: {listed(seen, 8) or 'there is no JSON file in it'}\n"
            "a pallet is a BkgOnly.json and a patchset.json (or single files patch.NAME.json)"
        )
    for part in found:
        there = part.backgrounds + part.patches
        enough = part.patches or alone
        if len(part.backgrounds) == 1 and enough and len(part.patchsets) <= 1:
            continue
        if not part.backgrounds:
            problem = "there are patches, but no background-only workspace to apply them to"
            remedy = f"add {_expected(part, 'BkgOnly')}, or remove the patches"
        elif not part.patches:
            problem = "there is a background-only workspace, but no patches to it"
            remedy = (
                f"add {_expected(part, 'patchset')}, or {_expected(part, 'scan', '.csv')} with a "
                "table of model points (docs/how-to/scans.md), or remove the workspace"
            )
        else:
            problem = "there are several files for one pallet"
            remedy = "keep one of them"
        raise PalletError(
            f"{source}: {problem}: {listed(there, 8)}\nall files: {listed(seen, 8)}\n{remedy}"
        )


def _expected(part: Part, role: str, suffix: str = ".json") -> str:
    return str(part.directory / f"{'_'.join(filter(None, [part.prefix, role]))}{suffix}")


def no_part(source: Path, part: str, found: list[Part]) -> NoReturn:
    """Say that none of the pallets has that name."""
    raise PalletError(
        f"{source} holds no pallet called {part!r}, but: "
        f"{listed([one.label or '(without a name)' for one in found], 8)}\n"
        "the archive may be of another version of the publication"
    )
