"""The files of an archive, which is never unpacked to disk."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets import bounds
from pytest_pyhf_faas.pallets.bounds import (
    Meter,
    Metered,
    check_members,
    check_total,
    is_wanted,
    refuse_special,
    safe,
    too_large,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import IO

    #: Opens a file of a source.
    Opener = Callable[[str], io.BufferedReader]

#: How much is read at once.
CHUNK_BYTES = 1 << 20


@contextmanager
def opened_archive(file: IO[bytes], path: Path) -> Iterator[tuple[list[str], Opener]]:
    """Give the names of the relevant files in an archive, and a function that opens them.

    Parameters
    ----------
    file : file object
        The archive: zip, or tar, plain or compressed with gzip, bzip2 or xz.
    path : Path
        Where it is, for messages.

    Raises
    ------
    PalletError
        If it is not such an archive, or has what a valid one never has.
    """
    start = file.read(512)
    file.seek(0)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        with zipfile.ZipFile(file) as archive:
            yield _in_zip(archive, path)
    else:
        stream = _Bounded(decompressed(file, start), path)
        with closing(stream), _tar(stream, path) as tar:
            yield _in_tar(tar, stream, path)


def decompressed(file: Any, start: bytes) -> Any:
    """Return a stream of a file's content; its first bytes show whether it is compressed."""
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(file)
    return file


class _Bounded:
    """A stream that refuses to inflate to more than `bounds.MAX_UNPACKED_BYTES`.

    The position is checked before the skipping, so a header that announces terabytes is refused
    at once. tarfile reads the headers' own extensions in one piece: such a piece is small.
    """

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream = stream
        self._path = path

    def close(self) -> None:
        self._stream.close()

    def read(self, size: int) -> bytes:
        if size > CHUNK_BYTES:
            raise PalletError(
                f"{self._path}: refused, for the header of a member is larger than 1 MiB\n"
                "a valid archive never has this: fetch it from the publication itself"
            )
        data: bytes = self._stream.read(size)
        self._check(self._stream.tell())
        return data

    def seekable(self) -> bool:
        return True

    def seek(self, position: int) -> int:
        self._check(position)
        reached: int = self._stream.seek(position)
        return reached

    def tell(self) -> int:
        position: int = self._stream.tell()
        return position

    def _check(self, position: int) -> None:
        if position > bounds.MAX_UNPACKED_BYTES:
            raise PalletError(too_large(str(self._path)))


def _tar(stream: _Bounded, path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=stream, mode="r:")  # type: ignore[call-overload, no-any-return]
    except tarfile.ReadError as error:
        stream.seek(0)
        start = stream.read(512)
        if start.lstrip().startswith((b"{", b"[")) or bounds.is_data(path.name):
            remedy = "give the directory that holds the background and the patches, or an archive"
        elif start.lstrip().startswith(b"<"):
            remedy = "it looks like a web page: download the archive itself"
        else:
            remedy = "give a tar or zip archive, or a directory"
        raise PalletError(f"{path} is not an archive that can be read\n{remedy}") from error


def _in_tar(tar: tarfile.TarFile, stream: _Bounded, path: Path) -> tuple[list[str], Opener]:
    members: dict[str, tarfile.TarInfo] = {}
    total = 0
    for count, member in enumerate(tar, start=1):
        check_members(count, path)
        total += member.size
        check_total(total, path)
        if is_wanted(member.name) and not member.isdir():
            # the last of several that are called the same: unpacking would leave that one
            members[safe(member.name, path)] = member
            if not member.isreg() or member.issparse():
                refuse_special(member.name, path)
    # tarfile reads a damaged header as the end, which would silently lose patches. The true end
    # is a block of zeros; what follows is read for the checksum of the compression.
    stream.seek(tar.offset)
    end = stream.read(512)
    if len(end) < 512 or end.strip(b"\0"):  # noqa: PLR2004 - the size of a block of a tar archive
        raise tarfile.ReadError(f"the archive breaks off after {len(tar.getmembers())} members")
    while stream.read(CHUNK_BYTES):
        pass

    def opener(name: str) -> io.BufferedReader:
        extracted = tar.extractfile(members[name])
        assert isinstance(extracted, io.BufferedReader)  # it is a regular file
        return extracted

    return list(members), opener


def _in_zip(archive: zipfile.ZipFile, path: Path) -> tuple[list[str], Opener]:
    members: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    check_members(len(infos), path)
    check_total(sum(info.file_size for info in infos), path)
    for info in infos:
        if is_wanted(info.filename) and not info.is_dir():
            members[safe(info.filename, path)] = info
            kind = info.external_attr >> 28  # the upper bits of st_mode; 0 if it was not recorded
            if kind not in (0, 0o10):
                refuse_special(info.filename, path)
            # the other methods may inflate a few bytes to gigabytes in one step
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise PalletError(
                    f"{path}: {info.filename} is compressed in a way that is not supported\n"
                    "make an ordinary zip archive of it"
                )

    meter = Meter(path)

    def opener(name: str) -> io.BufferedReader:
        return io.BufferedReader(Metered(archive.open(members[name]), meter))

    return list(members), opener
