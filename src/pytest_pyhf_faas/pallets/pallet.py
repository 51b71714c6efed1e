"""Read and verify pallets.

A *pallet* is a background-only HistFactory workspace and a patchset with one JSON patch per
signal hypothesis. It is read from a directory or straight from an archive (which is never
unpacked to disk), in any of the forms in which pallets have been published, and verified once,
here. What is kept is compressed: a patchset of 13 MB stays below 2 MB in memory.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import lzma
import os
import re
import warnings
import zlib
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets.sources import opened, stem
from pytest_pyhf_faas.schemas import accepted_by_pyhf_schema
from pytest_pyhf_faas.wording import brief, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pytest_pyhf_faas.pallets.sources import Reader

# What a file is, told by its name without ".json". Everything else is ignored.
_PATCHSET_OR_BACKGROUND = re.compile(
    r"(?:(?P<prefix>.+)[._-])?"
    r"(?:(?P<background>(?:bkg|background)[._-]?only|background)|(?P<patchset>patch[_-]?set))",
    re.IGNORECASE,
)
_SINGLE_PATCH = re.compile(r"patch[._-](?P<name>.+)", re.IGNORECASE)
#: So many hypotheses are searched for starts where nobody has searched before.
_SAMPLE = 16
_NUMBER = re.compile(r"(?P<integer>\d+)(?:[p.](?P<fraction>\d+))?")


# --- the pallet ---------------------------------------------------------------------------------


def pack(obj: Any) -> bytes:
    """Pack a JSON-serialisable object into few bytes: compact JSON, compressed with zlib."""
    return zlib.compress(json.dumps(obj, separators=(",", ":")).encode(), 6)


def pack_small(obj: Any) -> bytes:
    """Pack an object into fewer bytes than `pack` does, taking longer: a background goes far."""
    return lzma.compress(json.dumps(obj, separators=(",", ":")).encode())


def unpack(packed: bytes) -> Any:
    """Return the object that `pack` or `pack_small` packed."""
    decompress = lzma.decompress if packed.startswith(b"\xfd7zXZ") else zlib.decompress
    return json.loads(decompress(packed))


def digest(obj: Any) -> str:
    """Return the SHA-256, in hexadecimal, of an object's canonical JSON.

    It is the digest of :func:`pyhf.utils.digest`, and so the one in published patchsets; this one
    does not import pyhf.

    Raises
    ------
    ValueError
        If a string in `obj` is not valid Unicode (a lone surrogate).
    """
    return hashlib.sha256(_canonical(obj)).hexdigest()


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
    digest
        SHA-256 of the list of operations, see `digest`.
    packed
        The list of operations, see `pack`.
    """

    pallet: str
    name: str
    values: tuple[float | int | str, ...]
    digest: str
    packed: bytes = field(repr=False)

    @property
    def operations(self) -> list[dict[str, Any]]:
        """The JSON patch, a list of operations."""
        operations: list[dict[str, Any]] = unpack(self.packed)
        return operations


@dataclass(frozen=True)
class Pallet:
    """A background-only workspace and the signal patches to it.

    Attributes
    ----------
    name
        A short name, such as ``1Lbb``.
    description
        The patchset's own words.
    labels
        What the values of the patches mean, such as ``("m1", "m2")``.
    references
        Where it was published, such as ``{"hepdata": "ins1755298"}``.
    doi
        The DOI, where it is known.
    synthetic
        Whether it says of itself that it is not a physics analysis.
    digest
        SHA-256 of the background-only workspace, see `digest`.
    background
        The background-only workspace, see `pack_small`.
    patches
        The signal hypotheses, in the patchset's order.
    source
        Where it was read from, for messages.
    sample
        Signal hypotheses from all over the patchset, the same ones whichever are selected: where
        starts for all of them are searched for.
    """

    name: str
    description: str
    labels: tuple[str, ...]
    references: dict[str, str] = field(hash=False)
    doi: str | None
    synthetic: bool
    digest: str
    background: bytes = field(repr=False)
    patches: tuple[SignalPatch, ...] = field(repr=False)
    source: str
    sample: tuple[SignalPatch, ...] = field(repr=False, default=())

    def select(self, wanted: Sequence[str]) -> Pallet:
        """Return this pallet with the wanted patches only, in the patchset's order.

        Parameters
        ----------
        wanted
            Each is a glob on the name (``C1N2_*_100``) or the comma-separated values
            (``750,100``; numbers are compared as numbers). If empty, all patches are wanted.

        Raises
        ------
        PalletError
            If one of them matches no patch.
        """
        if not wanted:
            return self
        keep: set[str] = set()
        for want in wanted:
            matching = {patch.name for patch in self.patches if _matches(patch, want)}
            if not matching:
                raise PalletError(self._nothing_matches(want))
            keep |= matching
        return replace(self, patches=tuple(patch for patch in self.patches if patch.name in keep))

    def renamed(self, name: str) -> Pallet:
        """Return this pallet, and its patches, under another name."""
        patches, sample = (
            tuple(replace(patch, pallet=name) for patch in some)
            for some in (self.patches, self.sample)
        )
        return replace(self, name=name, patches=patches, sample=sample)

    def _nothing_matches(self, want: str) -> str:
        names = [patch.name for patch in self.patches]
        near = difflib.get_close_matches(want, names, n=3)
        lines = [f"no patch of the pallet {self.name} matches {brief(want)!r}"]
        if near:
            lines.append(f"did you mean: {', '.join(near)}")
        examples = ", ".join(
            f"{patch.name} ({','.join(map(str, patch.values))})" for patch in self.patches[:3]
        )
        lines.append(
            f"give a glob on the name, or values of {','.join(self.labels)}; of its "
            f"{len(names)} patches the first are: {examples}"
        )
        return "\n".join(lines)


def _matches(patch: SignalPatch, want: str) -> bool:
    if fnmatchcase(patch.name, want):
        return True
    values = want.split(",")
    return len(values) == len(patch.values) and all(map(_same_value, values, patch.values))


def _same_value(want: str, value: float | str) -> bool:
    try:
        return float(want) == float(value)
    except ValueError:
        return want.strip() == value


# --- reading ------------------------------------------------------------------------------------


def read_pallets(
    source: Path | str, *, name: str | None = None, part: str | None = None
) -> list[Pallet]:
    """Read and verify all pallets of a directory or an archive.

    All published forms are read: files at the top, in a sub-directory
    (``Region-combined/BkgOnly.json``), or with a prefix (``Rpc2L0b_BkgOnly.json``); the patches in
    one ``patchset.json`` or in single files (``patch.NAME.json``). A patchset is preferred to
    single files that lie next to it. Other JSON files are ignored.

    Parameters
    ----------
    source
        A directory, or an archive: tar (plain or compressed with gzip, bzip2 or xz) or zip.
    name
        The name of the pallet; by default that of the directory or the archive. If there are
        several, each name is followed by ``_`` and the sub-directory or the prefix.
    part
        The sub-directory or the prefix of the one pallet that is wanted.

    Raises
    ------
    PalletError
        If it cannot be read, is damaged, or does not hold what a pallet must hold.
    """
    source = Path(source)
    name = name or stem(source.absolute())
    with opened(source) as (paths, read):
        found = _find_parts(paths, source)
        if part is not None:
            everything, found = found, [one for one in found if one.is_called(part)]
            if not found:
                _no_part(source, part, everything)
        several = len(found) > 1
        return [
            _read_part(one, read, source, f"{name}_{one.label}" if several and one.label else name)
            for one in found
        ]


def holds_pallet(paths: Iterable[str]) -> bool:
    """Whether one of the files is called like a background-only workspace."""
    for path in paths:
        match = _PATCHSET_OR_BACKGROUND.fullmatch(PurePosixPath(path).stem)
        if match and match["background"]:
            return True
    return False


@dataclass
class _Part:
    """The files that belong to one pallet; `label` tells it from others of the same source."""

    directory: PurePosixPath
    prefix: str
    backgrounds: list[str] = field(default_factory=list)
    patchsets: list[str] = field(default_factory=list)
    singles: dict[str, str] = field(default_factory=dict)  # path -> name of the patch
    label: str = ""

    def is_called(self, part: str) -> bool:
        names = {self.label, self.prefix, self.directory.name, str(self.directory)}
        return part.casefold() in {name.casefold() for name in names if name}


def _find_parts(paths: Iterable[str], source: Path) -> list[_Part]:
    """Sort the files into pallets, by directory and prefix."""
    parts: dict[tuple[PurePosixPath, str], _Part] = {}

    def part_at(directory: PurePosixPath, prefix: str) -> _Part:
        return parts.setdefault((directory, prefix), _Part(directory, prefix))

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


def _check_parts(found: list[_Part], seen: list[str], source: Path) -> None:
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


def _expected(part: _Part, role: str) -> str:
    return str(part.directory / (f"{part.prefix}_{role}.json" if part.prefix else f"{role}.json"))


def _no_part(source: Path, part: str, found: list[_Part]) -> NoReturn:
    raise PalletError(
        f"{source} holds no pallet called {part!r}, but: "
        f"{listed([one.label or '(without a name)' for one in found], 8)}\n"
        "the archive may be of another version of the publication"
    )


def _read_part(part: _Part, read: Reader, source: Path, name: str) -> Pallet:
    """Read one pallet. Parsed objects are dropped as soon as they are packed."""
    background_digests, background = _read_background(part.backgrounds[0], read, source)
    if part.patchsets:
        path = part.patchsets[0]
        where = f"{source}: {path}"
        metadata, specifications = _read_patchset(path, read, source)
        _check_digests(metadata["digests"], background_digests, f"{source}: {part.backgrounds[0]}")
    else:
        where = f"{source}: {part.directory}"
        metadata, specifications = _read_single_patches(part, read, source)
    patches = _signal_patches(name, metadata["labels"], specifications, where)
    return Pallet(
        name=name,
        description=metadata["description"],
        labels=tuple(metadata["labels"]),
        references=dict(metadata["references"]),
        doi=None,
        synthetic=metadata["description"].lower().startswith("synthetic"),
        digest=background_digests["sha256"],
        background=background,
        patches=patches,
        source=str(source),
        sample=_evenly(patches, _SAMPLE),
    )


def _evenly(patches: tuple[SignalPatch, ...], most: int) -> tuple[SignalPatch, ...]:
    count = min(most, len(patches))
    return tuple(patches[(2 * i + 1) * len(patches) // (2 * count)] for i in range(count))


def _read_background(path: str, read: Reader, source: Path) -> tuple[dict[str, str], bytes]:
    where = f"{source}: {path}"
    workspace = _parse(read(path), where)
    _validate(workspace, "workspace.json", where, "a HistFactory workspace")
    canonical = _canonical_at(workspace, where)
    digests = {
        "sha256": hashlib.sha256(canonical).hexdigest(),
        "md5": hashlib.md5(canonical, usedforsecurity=False).hexdigest(),
    }
    return digests, pack_small(workspace)


# The metadata of one patch and its operations, packed.
_Specification = tuple[dict[str, Any], str, bytes]


def _read_patchset(
    path: str, read: Reader, source: Path
) -> tuple[dict[str, Any], Iterable[_Specification]]:
    where = f"{source}: {path}"
    patchset = _parse(read(path), where)
    _validate(patchset, "patchset.json", where, "a patchset")

    def specifications() -> Iterator[_Specification]:
        patches = patchset.pop("patches")
        patches.reverse()
        while patches:  # drop each as soon as it is packed
            patch = patches.pop()
            at = f"{where}: {patch['metadata']['name']}"
            yield patch["metadata"], *_pack_operations(patch["patch"], at)

    return patchset["metadata"], specifications()


def _read_single_patches(
    part: _Part, read: Reader, source: Path
) -> tuple[dict[str, Any], Iterable[_Specification]]:
    """Read ``patch.NAME.json`` files, and make up the metadata that a patchset would have."""
    patches = []
    for path, raw_name in part.singles.items():  # in the archive's order: it is read forward only
        where = f"{source}: {path}"
        operations = _parse(read(path), where)
        _validate(operations, "jsonpatch.json", where, "a JSON patch")
        patches.append((raw_name, *_pack_operations(operations, where)))
    patches.sort(key=lambda patch: _natural(patch[0]))

    values = [_values_in(raw_name) for raw_name, _, _ in patches]
    count = len(values[0])
    labels = [f"value_{i + 1}" for i in range(count)]
    if not count or len({len(some) for some in values}) > 1 or len(set(values)) < len(values):
        labels = ["index"]
        values = [(i + 1,) for i in range(len(patches))]
    specifications = [
        # pyhf allows nothing else in the name of a patch
        ({"name": re.sub(r"\W", "_", raw_name, flags=re.ASCII), "values": some}, sha256, packed)
        for (raw_name, sha256, packed), some in zip(patches, values, strict=True)
    ]
    metadata = {
        "description": f"{len(patches)} patches from single files",
        "labels": labels,
        "references": {},
    }
    return metadata, specifications


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


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts ``x_9`` before ``x_10``."""
    tokens = re.split(r"(\d+)", name)
    return [(i % 2 == 1, int(token) if i % 2 else 0, token) for i, token in enumerate(tokens)]


def _pack_operations(operations: list[dict[str, Any]], where: str) -> tuple[str, bytes]:
    """Check the syntax of a JSON patch; return its digest and itself, packed."""
    import jsonpatch
    import jsonpointer

    try:
        jsonpatch.JsonPatch(operations)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException) as error:
        raise PalletError(
            f"{where}: not a JSON patch (RFC 6902): {brief(error)}\n"
            "the file is damaged, or was edited by hand"
        ) from error
    return hashlib.sha256(_canonical_at(operations, where)).hexdigest(), pack(operations)


def _signal_patches(
    pallet: str, labels: list[str], specifications: Iterable[_Specification], where: str
) -> tuple[SignalPatch, ...]:
    patches = []
    names: set[str] = set()
    points: dict[tuple[float | int | str, ...], str] = {}
    for metadata, sha256, packed in specifications:
        name, values = metadata["name"], tuple(metadata["values"])
        remedy = "a result could not be told from the other's: rename or remove one of them"
        if name in names:
            raise PalletError(f"{where}: two patches are called {brief(name)}\n{remedy}")
        if values in points:
            raise PalletError(
                f"{where}: the patches {points[values]} and {name} have the same values "
                f"{brief(values)}\n{remedy}"
            )
        if len(values) != len(labels):
            raise PalletError(
                f"{where}: the patch {name} has {len(values)} values, but there are "
                f"{len(labels)} labels: {listed(labels, 8)}\nmend the patch's metadata"
            )
        names.add(name)
        points[values] = name
        patches.append(SignalPatch(pallet, name, values, sha256, packed))
    return tuple(patches)


# --- verifying ----------------------------------------------------------------------------------


def _canonical(obj: Any) -> bytes:
    # exactly what pyhf.utils.digest takes the digest of
    return json.dumps(obj, sort_keys=True, ensure_ascii=False).encode("utf8")


def _canonical_at(obj: Any, where: str) -> bytes:
    try:
        return _canonical(obj)
    except UnicodeEncodeError as error:
        raise PalletError(
            f"{where}: holds a string that is not valid Unicode (a lone surrogate)\n"
            "the file is damaged: fetch it again"
        ) from error


def _parse(data: bytearray, where: str) -> Any:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PalletError(
            f"{where}: not valid UTF-8 at byte {error.start}\n"
            "the file is damaged, or not a JSON file: fetch it again"
        ) from error
    data.clear()  # the text and the objects are enough to hold in memory at once
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        cause = "truncated" if error.pos >= len(text.rstrip()) else "damaged"
        raise PalletError(
            f"{where}: not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}\n"
            f"the file looks {cause}: fetch it again"
        ) from error
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 10,000 brackets
        raise PalletError(
            f"{where}: cannot be read as JSON: {brief(error)}\n"
            "no pallet looks like that: the file is damaged"
        ) from error


def _validate(obj: Any, schema: str, where: str, what: str) -> None:
    if accepted_by_pyhf_schema(obj, schema):
        return
    import jsonschema
    import pyhf

    try:
        with warnings.catch_warnings():
            # pyhf 0.7 uses jsonschema's RefResolver
            warnings.filterwarnings("ignore", "jsonschema.RefResolver", DeprecationWarning)
            pyhf.schema.validate(obj, schema)
    except pyhf.exceptions.InvalidSpecification as error:
        cause = error.__context__
        if isinstance(cause, jsonschema.ValidationError):
            cause = jsonschema.exceptions.best_match([cause])
            at = "/".join(map(str, cause.absolute_path)) or "the top"
            message = f"{brief(cause.message)} (at {brief(at)})"
        else:
            message = brief(error)
        raise PalletError(
            f"{where}: not {what}: {message}\n"
            "the file is not what its name says, is damaged, or is of a schema that pyhf "
            f"{pyhf.__version__} does not know"
        ) from None  # pyhf's own message may hold the whole file


def _check_digests(published: dict[str, str], computed: dict[str, str], where: str) -> None:
    for algorithm, expected in published.items():
        if computed[algorithm] != expected.lower():
            raise PalletError(digest_mismatch(where, expected, computed[algorithm], algorithm))


def digest_mismatch(where: str, expected: str, found: str, algorithm: str = "sha256") -> str:
    """Return the message that a background is not the one that was published."""
    return (
        f"{where}: the {algorithm} digest of the background-only workspace is not the published "
        f"one\n  published {expected}\n  found     {found}\n"
        "the background and the patches are probably of different versions of the publication, "
        "or the workspace was edited: fetch both from the same archive"
    )
