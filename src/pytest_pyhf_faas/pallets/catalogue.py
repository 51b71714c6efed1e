"""Find pallets: on disk, in the search path, in this package, or among the published ones."""

from __future__ import annotations

import difflib
import json
import os
import re
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets import combination
from pytest_pyhf_faas.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_pyhf_faas.pallets.pallet import Pallet

#: The name of the small pallet that comes with this package; it is not a physics analysis.
BUNDLED = "synthetic"

#: The environment variable with the directories in which pallets are searched.
SEARCH_PATH_VARIABLE = "PYHF_PALLET_PATH"


@dataclass(frozen=True)
class TablesOf:
    """The files that have the published upper limits of a pallet; they do not come with this one.

    Attributes
    ----------
    limits
        Their names; if several have a hypothesis, the first counts.
    cross_sections
        The file with the theory cross sections by mass.
    mass
        The label that is the mass of the particles that are produced.
    """

    limits: tuple[str, ...]
    cross_sections: str
    mass: str


@dataclass(frozen=True)
class PublishedPallet:
    """A pallet that an experiment published on HEPData.

    Attributes
    ----------
    name
        What it is called here.
    title
        The analysis, in a few words.
    reference
        arXiv number and journal.
    inspire
        The INSPIRE record, as in the patchset's references.
    doi
        The DOI of the HEPData record (without version and resource).
    archive_url
        The address of the archive.
    subdirectory, prefix
        Which of the archive's pallets it is.
    patches
        The number of patches, where it is known.
    background_sha256
        The published digest of the background-only workspace, where it is known.
    aliases
        Other names; several pallets of one publication may share one, which selects all of them.
    tables
        Where the published upper limits on its cross sections are, if that is known.
    """

    name: str
    title: str
    reference: str
    inspire: str
    doi: str
    archive_url: str
    subdirectory: str | None = None
    prefix: str | None = None
    patches: int | None = None
    background_sha256: str | None = None
    aliases: tuple[str, ...] = ()
    tables: TablesOf | None = None

    @property
    def part(self) -> str | None:
        """What distinguishes it from the other pallets of the same archive."""
        return self.subdirectory or self.prefix


def _published() -> tuple[PublishedPallet, ...]:
    """Return the content of ``data/catalogue.json``; its schema is next to it."""
    text = (_data() / "catalogue.json").read_text(encoding="utf-8")
    found = []
    for publication in json.loads(text)["publications"]:
        shared = {key: publication[key] for key in ("reference", "inspire", "doi", "archive_url")}
        for pallet in publication["pallets"]:
            part = pallet.get("subdirectory") or pallet.get("prefix")
            tables = pallet.get("published")
            found.append(
                PublishedPallet(
                    name=pallet["name"],
                    title=publication["title"] + (f" ({part})" if part else ""),
                    **shared,
                    subdirectory=pallet.get("subdirectory"),
                    prefix=pallet.get("prefix"),
                    patches=pallet.get("patches"),
                    background_sha256=pallet.get("background_sha256"),
                    aliases=(*pallet.get("aliases", ()), *publication["aliases"]),
                    tables=tables and TablesOf(**{**tables, "limits": tuple(tables["limits"])}),
                )
            )
    return tuple(found)


def _data() -> Path:
    return Path(str(resources.files("pytest_pyhf_faas") / "data"))


#: The published pallets that are known by name.
CATALOGUE = _published()

_DOI = re.compile(
    r"(?:doi:\s*|https?://(?:dx\.)?doi\.org/)?"
    r"(?P<doi>10\.\d{4,}/hepdata\.\d+)(?P<version>\.v\d+)?(?P<resource>/r\d+)?/?",
    re.IGNORECASE,
)


def search_path_from_environment() -> list[Path]:
    """Return the directories in the environment variable ``PYHF_PALLET_PATH``."""
    variable = os.environ.get(SEARCH_PATH_VARIABLE, "")
    return [_expanded(entry) for entry in variable.split(os.pathsep) if entry.strip()]


def tables_of(pallet: str) -> TablesOf | None:
    """Return where the published upper limits of a pallet are, if it is in the catalogue."""
    return next((entry.tables for entry in CATALOGUE if entry.name == pallet), None)


def available(search_path: Sequence[Path]) -> list[str]:
    """Return the names that `resolve` knows: in the search path, bundled, published."""
    names = [*_in_search_path(search_path), *(entry.name for entry in CATALOGUE)]
    if _bundled().is_dir():
        names.insert(0, BUNDLED)
    return list(dict.fromkeys(names))


def resolve(spec: str, *, search_path: Sequence[Path]) -> list[Pallet]:
    """Find, read and verify the pallets that `spec` selects.

    The first of these that exists: an existing directory, archive or combination file; a
    directory or archive of that name in the search path; the bundled pallet; a published pallet,
    which is downloaded once; several of these with a plus between them, which are combined. A
    published pallet may also be given by one of its aliases (``SUSY-2018-04``) or its DOI, and is
    taken from the search path if it lies there under its name or an alias.

    Parameters
    ----------
    spec
        A name, a directory, an archive, a combination file or a DOI.
    search_path
        Directories that hold pallets, see `search_path_from_environment`.

    Returns
    -------
    list of Pallet
        Usually one; several if the directory, the archive or the publication holds several.

    Raises
    ------
    PalletError
        If there is no such pallet, or it cannot be downloaded, read, verified or combined.
    """
    return _resolve(spec, search_path)


def _resolve(spec: str, search_path: Sequence[Path], *, alone: bool = False) -> list[Pallet]:
    """Find pallets; `alone` says whether a background may have no patches."""
    in_search_path = _in_search_path(search_path)
    how = _combination(spec, in_search_path)
    if how is not None:
        return [_recognised(_combined(how, search_path))]
    if exists(spec):
        return [_recognised(pallet) for pallet in _read(_expanded(spec), alone=alone)]
    doi = _DOI.fullmatch(spec.strip())
    published = _published_at(doi) if doi else _published_as(spec)
    if published:
        return [_get(entry, in_search_path) for entry in published]
    if local := _look_up(spec, in_search_path):
        return [_recognised(pallet) for pallet in _read(local, alone=alone)]
    if spec.casefold() == BUNDLED and _bundled().is_dir():
        return [bundled()]
    if doi and doi["version"] and doi["resource"]:
        url = f"https://doi.org/{doi['doi']}{doi['version']}{doi['resource']}".lower()
        return [_recognised(pallet) for pallet in _download(url)]
    raise PalletError(_unknown(spec, doi, search_path))


def _combination(spec: str, in_search_path: dict[str, Path]) -> combination.Combination | None:
    """Return the combination of a spec, if it combines several pallets."""
    path = _expanded(spec)
    if path.suffix == combination.SUFFIX and exists(spec) and path.is_file():
        return combination.read_combination(path)
    parts = combination.parts_of(spec, lambda each: _is_known(each, in_search_path))
    return combination.Combination(tuple(parts)) if len(parts) > 1 else None


def _combined(how: combination.Combination, search_path: Sequence[Path]) -> Pallet:
    from pytest_pyhf_faas.pallets.combine import combine

    pallets = []
    for spec in how.pallets:
        found = _resolve(spec, search_path, alone=True)
        if len(found) > 1:
            names = listed([pallet.name for pallet in found], 8)
            raise PalletError(
                f"{spec} has {len(found)} pallets: {names}\n"
                "name the one that is combined with others, or give its directory"
            )
        pallets += found
    return combine(pallets, how)


def _is_known(spec: str, in_search_path: dict[str, Path]) -> bool:
    """Whether something has that name, whatever its content."""
    return bool(
        exists(spec)
        or _DOI.fullmatch(spec.strip())
        or _published_as(spec)
        or _look_up(spec, in_search_path)
        or (spec.casefold() == BUNDLED and _bundled().is_dir())
    )


def exists(spec: str) -> bool:
    """Whether a spec is the path of a file or directory."""
    return os.path.exists(_expanded(spec))  # noqa: PTH110 - copes with names that are too long


def bundled() -> Pallet:
    """Return the pallet that comes with the package, even if another one has its name."""
    (pallet,) = _read(_bundled(), name=BUNDLED)
    return pallet


# --- where things are ---------------------------------------------------------------------------


def _bundled() -> Path:
    return _data() / BUNDLED


def _expanded(path: str) -> Path:
    # Unlike Path.expanduser it keeps the "~" of users without a home directory.
    return Path(os.path.expanduser(path))  # noqa: PTH111


def _in_search_path(search_path: Sequence[Path]) -> dict[str, Path]:
    """Return possible pallets in the search path, by name; the first of a name counts."""
    from pytest_pyhf_faas.pallets.bounds import ARCHIVE_SUFFIXES
    from pytest_pyhf_faas.pallets.parts import holds_pallet
    from pytest_pyhf_faas.pallets.sources import stem

    found: dict[str, Path] = {}
    for directory in search_path:
        try:
            entries = sorted(directory.iterdir())
        except OSError:  # the message about an unknown name reports it
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                files = (*entry.glob("*.json"), *entry.glob("*/*.json"))
                if holds_pallet(file.name for file in files):
                    found.setdefault(entry.name, entry)
            elif entry.name.lower().endswith(ARCHIVE_SUFFIXES):
                found.setdefault(stem(entry), entry)
    return found


def _look_up(name: str, in_search_path: dict[str, Path]) -> Path | None:
    if name in in_search_path:
        return in_search_path[name]
    folded = {candidate.casefold(): path for candidate, path in in_search_path.items()}
    return folded.get(name.casefold())


def _published_as(name: str) -> list[PublishedPallet]:
    """Return the published pallets of that name or alias; a name takes precedence over an alias."""
    folded = name.casefold().removeprefix("arxiv:")
    named = [entry for entry in CATALOGUE if entry.name.casefold() == folded]
    return named or [
        entry for entry in CATALOGUE if folded in {alias.casefold() for alias in entry.aliases}
    ]


def _published_at(doi: re.Match[str]) -> list[PublishedPallet]:
    """Return the published pallets of a DOI; other versions than the known one do not match."""
    version = ((doi["version"] or "") + (doi["resource"] or "")).lower()
    return [
        entry
        for entry in CATALOGUE
        if entry.doi == doi["doi"].lower()
        # the slash, so that v3 does not match v33
        and (not version or f"{version}/" in f"{entry.archive_url.partition(entry.doi)[2]}/")
    ]


# --- getting them -------------------------------------------------------------------------------


def _read(
    path: Path, *, name: str | None = None, part: str | None = None, alone: bool = False
) -> list[Pallet]:
    from pytest_pyhf_faas.pallets.read import read_pallets

    return read_pallets(path, name=name, part=part, alone=alone)


def _get(entry: PublishedPallet, in_search_path: dict[str, Path]) -> Pallet:
    """Return a published pallet, from the search path or else from the publication."""
    local = _look_up(entry.name, in_search_path)
    if local is not None:
        pallets = _read(local, name=entry.name)
        if len(pallets) > 1:
            pallets = _read(local, name=entry.name, part=entry.part)
        return _verified(pallets[0], entry)
    for alias in entry.aliases:  # these name the publication: one of its pallets is wanted
        local = _look_up(alias, in_search_path)
        if local is not None:
            return _verified(_read(local, name=entry.name, part=entry.part)[0], entry)
    return _verified(_download(entry.archive_url, entry.name, entry.part)[0], entry)


def _download(url: str, name: str | None = None, part: str | None = None) -> list[Pallet]:
    from pytest_pyhf_faas.pallets.download import fetch

    file = fetch(url, name=url.rpartition("doi.org/")[2].replace("/", "_"))
    try:
        return _read(file, name=name, part=part)
    except PalletError as error:
        raise PalletError(f"{error}\nremove {file} to download it again") from error


def _verified(pallet: Pallet, entry: PublishedPallet) -> Pallet:
    """Return the pallet as the published one, if its background is."""
    from pytest_pyhf_faas.pallets.verify import digest_mismatch

    if entry.background_sha256 not in {None, pallet.digest}:
        where = f"{pallet.source}: {entry.name} ({entry.doi})"
        raise PalletError(
            f"{digest_mismatch(where, str(entry.background_sha256), pallet.digest)}\n"
            "a pallet of your own needs a name of its own: rename the directory"
        )
    return replace(pallet, doi=entry.doi)


def _recognised(pallet: Pallet) -> Pallet:
    """Return a pallet as the published one, if it is the same.

    The same background is not enough: analysts put signals of their own on it.
    """
    for entry in CATALOGUE:
        if (pallet.digest, len(pallet.patches)) == (entry.background_sha256, entry.patches):
            return replace(pallet.renamed(entry.name), doi=entry.doi)
        if pallet.name == entry.name:
            return _verified(pallet, entry)
    return pallet


def _unknown(spec: str, doi: re.Match[str] | None, search_path: Sequence[Path]) -> str:
    if doi:
        return (
            f"no known pallet has the DOI {spec}\n"
            "give the DOI of the archive itself, with version and resource, such as "
            f"{CATALOGUE[0].archive_url}\n"
            "or download the archive by hand and give the file"
        )
    names = available(search_path)
    aliases = [alias for entry in CATALOGUE for alias in entry.aliases]
    near = difflib.get_close_matches(spec, [*names, *aliases], n=3, cutoff=0.5)
    lines = [f"there is no pallet {spec!r}: no such file or directory, and no pallet of that name"]
    if near:
        lines.append(f"did you mean: {', '.join(dict.fromkeys(near))}")
    lines.append(f"known: {', '.join(names[:40])}{', ...' if len(names) > 40 else ''}")  # noqa: PLR2004
    looked = [f"{path}{'' if path.is_dir() else ' (no such directory)'}" for path in search_path]
    lines.append(
        f"{SEARCH_PATH_VARIABLE}: {', '.join(looked)}"
        if looked
        else f"set {SEARCH_PATH_VARIABLE} to the directories that hold your pallets"
    )
    return "\n".join(lines)
