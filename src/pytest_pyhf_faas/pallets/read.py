"""Read and verify pallets.

A pallet is read from a directory or straight from an archive (which is never unpacked to disk), in
any of the forms in which pallets have been published, and verified once, here.
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets.packing import canonical, pack_small, unpack
from pytest_pyhf_faas.pallets.pallet import Packed, Pallet, evenly
from pytest_pyhf_faas.pallets.parts import Part, find_parts, is_scan, no_part
from pytest_pyhf_faas.pallets.rows import PackedRows, Patches
from pytest_pyhf_faas.pallets.sources import opened, split, stem
from pytest_pyhf_faas.pallets.verify import (
    ALLOWED_IN_NAMES,
    check_digests,
    is_plain_hypothesis,
    is_plain_patch,
    parse,
    validate,
    writable,
)
from pytest_pyhf_faas.wording import brief, counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytest_pyhf_faas.pallets.pallet import SignalPatch
    from pytest_pyhf_faas.pallets.scan import Scan
    from pytest_pyhf_faas.pallets.sources import Files

#: How many hypotheses are searched for starts in a new pallet.
_SAMPLE = 16
_NUMBER = re.compile(r"(?P<integer>\d+)(?:[p.](?P<fraction>\d+))?")


def read_pallets(
    source: Path | str, *, name: str | None = None, part: str | None = None, alone: bool = False
) -> list[Pallet]:
    """Read and verify all pallets of a directory or an archive.

    All published forms are read: files at the top, in a sub-directory
    (``Region-combined/BkgOnly.json``), or with a prefix (``Rpc2L0b_BkgOnly.json``); the patches in
    one ``patchset.json`` or in single files (``patch.NAME.json``). A patchset is preferred to
    single files that lie next to it; several patchsets of one background are several pallets.
    Other JSON files are ignored, unless names show no background or no patches: then those of
    archives inside are read as well, and their content counts.

    Parameters
    ----------
    source
        A directory, or an archive: tar (plain or compressed with gzip, bzip2 or xz) or zip. Each
        JSON file may be compressed with gzip.
    name
        The name of the pallet; by default that of the directory or the archive. If there are
        several, each name is followed by ``_`` and the sub-directory or the prefix.
    part
        The sub-directory or the prefix of the one pallet that is wanted.
    alone
        Whether a background may have no patches.

    Raises
    ------
    PalletError
        If it cannot be read, is damaged, or lacks what a pallet must have.
    """
    source = Path(source)
    # Resolve ".."; a link keeps its own name, which Path.resolve would lose.
    name = name or stem(Path(os.path.abspath(source))) or "pallet"  # noqa: PTH100
    with opened(source) as files:
        found = find_parts(files, source, alone=alone)
        if part is not None:
            everything, found = found, [one for one in found if one.is_called(part)]
            if not found:
                no_part(source, part, everything)
        several = len(found) > 1
        return [
            _read_part(one, files, source, f"{name}_{one.label}" if several and one.label else name)
            for one in found
        ]


def _read_part(part: Part, files: Files, source: Path, name: str) -> Pallet:
    """Read one pallet. Parsed objects are dropped as soon as they are packed."""
    digests, background = _read_background(part.backgrounds[0], files, source)
    path = part.patchsets[0] if part.patchsets else str(part.directory)
    where = f"{source}: {path}"
    patches: Sequence[SignalPatch]
    if is_scan(path):
        metadata, scan = _read_scan(path, files, where, unpack(background))
        patches = Patches(name, scan)
    elif not part.patches:
        metadata = {"description": "a background alone", "labels": [], "references": {}}
        patches = ()
    else:
        if not part.patchsets:
            metadata, specifications = _read_single_patches(part, files, source)
        elif split(path)[1] == ".jsonl":
            metadata, specifications = _read_lines(path, files, where)
        else:
            metadata, specifications = _read_patchset(path, files, where)
        check_digests(metadata["digests"], digests, f"{source}: {part.backgrounds[0]}")
        rows = _signal_rows(metadata["labels"], specifications, where)
        in_order = None if part.patchsets else _in_natural_order(list(part.singles.values()))
        patches = Patches(name, rows, in_order)
    return Pallet(
        name=name,
        description=metadata["description"],
        labels=tuple(metadata["labels"]),
        references=dict(metadata["references"]),
        doi=None,
        synthetic=metadata["description"].lower().startswith("synthetic"),
        digest=digests["sha256"],
        background=background,
        patches=patches,
        source=str(source),
        sample=evenly(patches, _SAMPLE),
    )


def _read_background(path: str, files: Files, source: Path) -> tuple[dict[str, str], bytes]:
    where = f"{source}: {path}"
    workspace = parse(files.read(path), where)
    validate(workspace, "workspace.json", where, "a HistFactory workspace")
    with writable(workspace, where):
        text = canonical(workspace)
    digests = {
        "sha256": hashlib.sha256(text).hexdigest(),
        "md5": hashlib.md5(text, usedforsecurity=False).hexdigest(),
    }
    return digests, pack_small(workspace)


class _Specification(NamedTuple):
    """A patch as it was read: its operations are packed; its file, if that has another name."""

    name: str
    values: tuple[float | int | str, ...]
    content: Packed
    file: str = ""


def _read_patchset(
    path: str, files: Files, where: str
) -> tuple[dict[str, Any], Iterable[_Specification]]:
    patchset = parse(files.read(path), where)
    validate(_without_plain(patchset), "patchset.json", where, "a patchset")

    def specifications() -> Iterator[_Specification]:
        patches = patchset.pop("patches")
        patches.reverse()
        while patches:  # drop each as soon as it is packed
            yield _specification(patches.pop(), where)

    return patchset["metadata"], specifications()


def _without_plain(patchset: Any) -> Any:
    """Return a patchset with only the first patch, if all are certainly valid."""
    patches = patchset.get("patches") if isinstance(patchset, dict) else None
    if type(patches) is list and all(map(is_plain_hypothesis, patches)):
        return {**patchset, "patches": patches[:1]}
    return patchset


def _specification(patch: dict[str, Any], where: str) -> _Specification:
    name, values = patch["metadata"]["name"], tuple(patch["metadata"]["values"])
    return _Specification(name, values, _packed(patch["patch"], f"{where}: {name}"))


def _read_lines(
    path: str, files: Files, where: str
) -> tuple[dict[str, Any], Iterable[_Specification]]:
    """Read a patchset in JSON Lines: first its head without patches, then each patch."""
    with files.open(path) as stream:
        head = parse(bytearray(stream.readline()), f"{where}, line 1")
        if not isinstance(head, dict) or "patches" in head:
            raise PalletError(
                f"{where}, line 1: not the head of a patchset\n"
                "the first line is a patchset without its patches, and each further line one patch"
            )

    def specifications() -> Iterator[_Specification]:
        number = 0
        with files.open(path) as stream:
            for number, line in enumerate(stream, 1):
                if number == 1 or not line.strip():
                    continue
                at = f"{where}, line {number}"
                patch = parse(bytearray(line.rstrip()), at)
                if not is_plain_hypothesis(patch):
                    patchset = {**head, "patches": [patch]}
                    validate(patchset, "patchset.json", at, "the patch of a patchset")
                yield _specification(patch, at)

        if number <= 1:
            raise PalletError(f"{where}: no patch below the head\nthe file may be truncated")

    some = [{"metadata": {"name": "some", "values": [0]}, "patch": []}]
    validate({**head, "patches": some}, "patchset.json", f"{where}, line 1", "a patchset's head")
    return head["metadata"], specifications()


def _read_scan(
    path: str, files: Files, where: str, background: Mapping[str, Any]
) -> tuple[dict[str, Any], Scan]:
    from pytest_pyhf_faas.pallets.columns import layout_of
    from pytest_pyhf_faas.pallets.scan import Scan
    from pytest_pyhf_faas.pallets.table import read_csv, read_parquet

    def check(columns: Sequence[str]) -> None:
        layout_of(columns, background, where)

    read = read_csv if split(path)[1] == ".csv" else read_parquet
    with files.open(path) as stream:
        table = read(stream, where, check)
    layout = layout_of(table.header, background, where)
    scan = Scan(table, layout, where)
    metadata = {
        "description": f"a scan of {counted(len(scan), 'model point')}",
        "labels": list(layout.labels) or ["index"],
        "references": {},
    }
    return metadata, scan


def _read_single_patches(
    part: Part, files: Files, source: Path
) -> tuple[dict[str, Any], Iterable[_Specification]]:
    """Read ``patch.NAME.json`` files, and make up the metadata that a patchset would have."""
    names = _names_of_files(part.singles, source)
    raw_names = list(part.singles.values())
    raw_names = [raw_names[place] for place in _in_natural_order(raw_names)]
    values = [_values_in(raw_name) for raw_name in raw_names]
    count = len(values[0])
    labels = [f"value_{i + 1}" for i in range(count)]
    if not count or len({len(some) for some in values}) > 1 or len(set(values)) < len(values):
        labels = ["index"]
        values = [(i + 1,) for i in range(len(values))]
    values_of = dict(zip(raw_names, values, strict=True))

    def specifications() -> Iterator[_Specification]:
        for path, raw_name in part.singles.items():  # an archive is read forward only
            where = f"{source}: {path}"
            operations = parse(files.read(path), where)
            if not is_plain_patch(operations):
                validate(operations, "jsonpatch.json", where, "a JSON patch")
            name = names[path]
            file = "" if name == raw_name else path
            yield _Specification(name, values_of[raw_name], _packed(operations, where), file)

    metadata = {
        "description": f"{counted(len(names), 'patch')} from single files",
        "labels": labels,
        "references": {},
        "digests": {},
    }
    return metadata, specifications()


def _names_of_files(singles: Mapping[str, str], source: Path) -> dict[str, str]:
    """Return the name of the patch in each file: characters not allowed by pyhf become ``_``."""
    names = {path: re.sub(r"\W", "_", raw, flags=re.ASCII) for path, raw in singles.items()}
    paths: dict[str, str] = {}
    for path, name in names.items():
        first = paths.setdefault(name, path)
        if first != path:
            raise PalletError(
                f"{source}: the patches in {first} and {path} would both be called {brief(name)}\n"
                f"{ALLOWED_IN_NAMES}; other characters become _: rename one of the files"
            )
    return names


def _values_in(name: str) -> tuple[float | int, ...]:
    """Return the last run of numbers in a name: (300.0, 100) of ``ERJR_300p0_100``."""
    values: list[float | int] = []
    in_run = False
    for token in name.split("_"):
        match = _NUMBER.fullmatch(token)
        if match and not in_run:
            values.clear()
        in_run = match is not None
        if match and match["fraction"]:
            values.append(float(f"{match['integer']}.{match['fraction']}"))
        elif match:
            values.append(int(match["integer"]))
    return tuple(values)


def _in_natural_order(names: Sequence[str]) -> list[int]:
    """Return the places of names in their order, ``x_9`` before ``x_10``."""
    return sorted(range(len(names)), key=lambda place: _natural(names[place]))


def _natural(name: str) -> list[tuple[bool, int, str]]:
    tokens = re.split(r"(\d+)", name)
    return [(i % 2 == 1, int(token) if i % 2 else 0, token) for i, token in enumerate(tokens)]


def _packed(operations: list[dict[str, Any]], where: str) -> Packed:
    """Check the syntax of a JSON patch, and pack it."""
    if not is_plain_patch(operations):
        _check_syntax(operations, where)
    with writable(operations, where):
        return Packed.of(operations)


def _check_syntax(operations: list[dict[str, Any]], where: str) -> None:
    import jsonpatch

    try:
        jsonpatch.JsonPatch(operations)
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException) as error:
        raise PalletError(
            f"{where}: not a JSON patch (RFC 6902): {brief(error)}\n"
            "the file is damaged, or was edited by hand"
        ) from error


def _signal_rows(
    labels: list[str], specifications: Iterable[_Specification], where: str
) -> PackedRows:
    rows = PackedRows()
    names: set[str] = set()
    points: dict[tuple[float | int | str, ...], str] = {}
    for name, values, content, file in specifications:
        problem = "their results could not be distinguished"
        if name in names:
            raise PalletError(
                f"{where}: two patches are called {brief(name)}\n{problem}: rename or remove one "
                "of them"
            )
        if values in points:
            raise PalletError(
                f"{where}: the patches {points[values]} and {name} have the same values "
                f"{brief(values)}\n{problem}: correct the values of one of them, or remove it"
            )
        if len(values) != len(labels):
            raise PalletError(
                f"{where}: the patch {name} has {counted(len(values), 'value')} for "
                f"{counted(len(labels), 'label')}: {listed(labels, 8)}\n"
                "correct the patch's metadata"
            )
        names.add(name)
        points[values] = name
        rows.add(name, values, content, file)
    return rows
