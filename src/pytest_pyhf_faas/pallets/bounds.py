"""Limits of a source: no member outside of it, and nothing without bound."""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.wording import brief

if TYPE_CHECKING:
    from pathlib import Path

#: No source may hold more than this, unpacked: a larger one is a mistake or an attack.
MAX_UNPACKED_BYTES = 1 << 30

#: No source may hold more files than this: 100,000 patches and more are a large scan.
MAX_MEMBERS = 250_000

#: File names that count as archives where only the name is known.
ARCHIVE_SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz", ".tar", ".zip")

#: Names of files of a pallet, which may be compressed with gzip.
DATA_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")


def is_wanted(path: str) -> bool:
    """Whether it may be a file of a pallet or an archive, and not hidden."""
    file = PurePosixPath(path.replace("\\", "/"))
    hidden = any(part.startswith(".") and part != ".." for part in file.parts)
    wanted = is_data(file.name) or file.name.lower().endswith(ARCHIVE_SUFFIXES)
    return wanted and not hidden and "__MACOSX" not in file.parts


def is_data(path: str) -> bool:
    """Whether it has the name of a file of a pallet."""
    return path.lower().removesuffix(".gz").endswith(DATA_SUFFIXES)


def safe(name: str, source: Path) -> str:
    """Return the name of a member, which must not lie outside."""
    file = PurePosixPath(name.replace("\\", "/"))
    if file.is_absolute() or ".." in file.parts:
        raise PalletError(
            f"{source}: refused, for it holds {brief(name)!r}, which lies outside of it\n"
            "a valid archive never contains this: fetch it from the publication itself"
        )
    return file.as_posix()


def refuse_special(name: str, source: Path) -> NoReturn:
    """Refuse a member that is not a regular file."""
    raise PalletError(
        f"{source}: refused, for {brief(name)!r} in it is not a regular file but a link, a "
        "device or the like\nmake the archive again, with the file itself in it"
    )


def check_members(count: int, source: Path) -> None:
    """Refuse a source with too many files."""
    if count > MAX_MEMBERS:
        raise PalletError(
            f"{source} holds more than {MAX_MEMBERS:,} files\n"
            "no pallet is that large: give the directory or the archive of only the pallet"
        )


def check_total(total: int, source: Path) -> None:
    """Refuse a source that declares too large a size."""
    if total > MAX_UNPACKED_BYTES:
        raise PalletError(too_large(str(source)))


def too_large(what: str) -> str:
    """Return the message that something is too large."""
    return (
        f"{what} holds more than {MAX_UNPACKED_BYTES / 2**30:.2g} GiB when unpacked\n"
        "no pallet is that large: give an archive of only the pallet"
    )


class Meter:
    """Counts what is read from a source whose sizes are unknown, and limits it."""

    def __init__(self, source: Path) -> None:
        self._left = MAX_UNPACKED_BYTES
        self._source = source

    def add(self, count: int) -> None:
        """Count some bytes, or refuse them."""
        self._left -= count
        if self._left < 0:
            raise PalletError(too_large(str(self._source)))


class Metered(io.RawIOBase):
    """A stream whose reading is counted; a plain file can be read from any position."""

    def __init__(self, stream: Any, meter: Meter) -> None:
        self._stream = stream
        self._meter = meter

    def seekable(self) -> bool:
        """Whether it is a file: another stream would be read again from its beginning."""
        return isinstance(self._stream, io.FileIO)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position in a file."""
        if not self.seekable():
            raise io.UnsupportedOperation("seek")
        reached: int = self._stream.seek(offset, whence)
        return reached

    def readable(self) -> bool:
        """Say so."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read, and count what was read."""
        count: int = self._stream.readinto(buffer)
        self._meter.add(count)
        return count

    def close(self) -> None:
        """Close both."""
        self._stream.close()
        super().close()
