"""Values of a factor: a version, a range of versions, or a source that no index has."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import InvalidVersion, Version

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

#: Words for the newest that the index has: the last release, or with pre-releases.
LATEST, PRE = "latest", "pre"
#: Sources that have a word of their own.
MAIN = {("pyhf", "main"): "git+https://github.com/scikit-hep/pyhf"}
_RANGE = ".."
_NAMED = re.compile(r"[\w.-]+\s*@\s*(?=[^\s])")
_ARCHIVES = (".whl", ".tar.gz", ".zip")
#: A version with this many numbers is a version, not a series.
_EXACT = 3


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a factor that is a distribution.

    Attributes
    ----------
    label : str
        Its name: ``0.7.6``, ``main``.
    source : str or None
        A directory, a wheel or an address to install it from; ``None`` where an index has it.
    """

    label: str
    source: str | None = None

    def requirement(self, distribution: str) -> str:
        """Return the requirement for an installer; for a source, only its name.

        ``1.9`` is a series, as ``1.9.*``; ``1.9.3`` and ``1.10.0rc1`` are versions.
        """
        if self.source is not None:
            return distribution
        version = Version(self.label)
        is_series = len(version.release) < _EXACT and str(version) == version.base_version
        return f"{distribution}=={self.label}{'.*' if is_series else ''}"


def parse(distribution: str, text: str, here: Path) -> Value:
    """Parse one value of a factor.

    Parameters
    ----------
    distribution : str
        What it is a version of.
    text : str
        A version or a series (``0.7.6``, ``1.9``); a directory, a wheel or an address, after
        ``NAME @`` or as it is; ``LABEL=`` before one of these gives it a name.
    here : Path
        Where relative paths start.

    Raises
    ------
    ConfigurationError
        If it is none of these.
    """
    label, named, source = _parts(text)
    word = MAIN.get((distribution, source))
    if word or "://" in source:
        return Value(label or (source if word else _label(source)), word or source)
    path = here / os.path.expanduser(source)  # noqa: PTH111 - a text, not a path
    if source and (named or _is_path(source, path)):
        if not path.exists():
            raise ConfigurationError(
                f"{distribution} {text!r}: there is no {path}. Give a directory with its sources, "
                "a wheel, an address (git+https://...), or a version such as 0.7.6"
            )
        return Value(label or _label(str(path.resolve())), str(path.resolve()))
    try:
        Version(source)
    except InvalidVersion as error:
        raise ConfigurationError(
            f"{distribution} {text!r} is no version and no path. Give a version (0.7.6), a series "
            f"(1.9), a range (0.7.0..0.7.6), {LATEST}, {PRE}, or the path of a directory or a wheel"
        ) from error
    return Value(source)


def _parts(text: str) -> tuple[str, bool, str]:
    """Return the label of a value, whether ``NAME @`` marks it as a source, and the rest."""
    label, equals, rest = text.partition("=")
    if not equals or re.search(r"[/@:]", label):  # of an address
        label, rest = "", text
    found = _NAMED.match(rest)
    return label, found is not None, rest[found.end() :] if found else rest


def _label(source: str) -> str:
    """Return a short name: the version of a wheel, the last of a path or an address."""
    name = source.rstrip("/").rpartition("/")[2].removesuffix(".git")
    return name.split("-")[1] if name.endswith(".whl") and name.count("-") > 1 else name


def anywhere(text: str, here: Path) -> str:
    """Return a value whose path, if it is one, is valid anywhere."""
    label, named, source = _parts(text)
    path = here / os.path.expanduser(source)  # noqa: PTH111 - a text, not a path
    found = source and (named or _is_path(source, path)) and path.exists()
    return f"{label}{'=' if label else ''}{path.resolve()}" if found else text


def needs_index(text: str) -> bool:
    """Whether a value can only be resolved with an index."""
    return text in (LATEST, PRE) or (_RANGE in text and "/" not in text)


def resolved(distribution: str, text: str, available: Callable[[str], Sequence[str]]) -> list[str]:
    """Return the values that a range or a word stands for, in ascending order.

    A range of versions has the releases between its ends, and a pre-release only where an end is
    one; a range of series (``1.9..1.17``) has series.

    Parameters
    ----------
    distribution, text : str
        The factor, and a value of it.
    available : callable
        Returns all versions of a distribution that an index has.

    Raises
    ------
    ConfigurationError
        If nothing lies in the range.
    """
    if not needs_index(text):
        return [text]
    versions = sorted({Version(each) for each in available(distribution) if _is_version(each)})
    releases = [version for version in versions if not version.is_prerelease]
    if text in (LATEST, PRE):
        wanted = versions if text == PRE else releases
        if not wanted:
            raise ConfigurationError(f"the package index has no release of {distribution}")
        return [str(wanted[-1])]
    ends = [end.strip() for end in text.split(_RANGE)]
    if len(ends) != len(("first", "last")) or not all(map(_is_version, ends)):
        raise ConfigurationError(
            f"{distribution} {text!r}: a range has two versions, such as 0.7.0..0.7.6"
        )
    first, last = map(Version, ends)
    if any(end.is_prerelease for end in (first, last)):
        releases = versions
    digits = max(len(first.release), len(last.release))
    series = digits < _EXACT
    found = [
        version
        for version in releases
        if first.release[:digits] <= version.release[:digits]
        and (version.release[:digits] <= last.release if series else first <= version <= last)
    ]
    if not found:
        known = listed([str(version) for version in releases[::-1]], 8)
        raise ConfigurationError(
            f"the package index has no {distribution} from {first} to {last}; it has {known}"
        )
    if series:
        return list(
            dict.fromkeys(".".join(map(str, version.release[:digits])) for version in found)
        )
    return [str(version) for version in found]


def _is_path(text: str, path: Path) -> bool:
    if "/" in text or text.endswith(_ARCHIVES):
        return "://" not in text
    is_word = text in (LATEST, PRE) or any(text == word for _, word in MAIN)
    return path.is_dir() and not is_word and not _is_version(text)


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
