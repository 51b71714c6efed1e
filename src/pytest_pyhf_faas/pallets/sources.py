"""The files of a pallet: of a directory, or of an archive that is never unpacked to disk.

`opened` gives the files, in the order in which they are best read, and if need be those of archives
inside; each is a stream. No member can lie outside, and nothing grows without bound.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import tarfile
import zipfile
import zlib
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any, NoReturn

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.wording import brief, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import IO

    #: Opens a file of a source.
    Opener = Callable[[str], io.BufferedReader]

#: No source may hold more than this, unpacked: a larger one is a mistake or an attack.
MAX_UNPACKED_BYTES = 1 << 30

#: No source may hold more files than this: 100,000 patches and more are a large scan.
MAX_MEMBERS = 250_000

#: How many directories deep a directory is searched.
MAX_DEPTH = 4

#: File names that are taken for archives where nothing but the name is known.
ARCHIVE_SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz", ".tar", ".zip")

#: How many archives inside of others are opened, and how deep.
MAX_INNER, MAX_INNER_DEPTH = 16, 2

#: What a file of a pallet is called, which may be compressed with gzip.
DATA_SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")

_CHUNK_BYTES = 1 << 20


def stem(path: PurePath) -> str:
    """Return the name of a file or directory without the suffix of an archive."""
    for suffix in ARCHIVE_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.name


def split(path: str) -> tuple[str, str]:
    """Return the name of a file of a pallet without its suffixes, and what it is: ``.json``."""
    name = PurePosixPath(path).name
    name = name[: -len(".gz")] if name.lower().endswith(".gz") else name
    return PurePosixPath(name).stem, PurePosixPath(name).suffix.lower()


class Files:
    """The files of a directory or an archive.

    Parameters
    ----------
    paths : sequence of str
        Its members, archives among them.
    opener : callable
        Opens one of them.
    source : Path
        The directory or the archive, for messages.
    stack : ExitStack
        What closes archives inside.

    Attributes
    ----------
    paths : list of str
        The files that may belong to a pallet.
    """

    def __init__(
        self, paths: Sequence[str], opener: Opener, source: Path, stack: ExitStack, depth: int = 0
    ) -> None:
        self.paths = [path for path in paths if _is_data(path)]
        self._archives = [path for path in paths if not _is_data(path)]
        self._openers: dict[str, Callable[[], AbstractContextManager[IO[bytes]]]] = {
            path: partial(_plain, opener, path, source) for path in self.paths
        }
        self._open, self._source, self._stack, self._depth = opener, source, stack, depth

    def open(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """Give the content of a file; one at a time, for those of an archive share a stream."""
        return self._openers[path]()

    def read(self, path: str) -> bytearray:
        """Return the content of a file."""
        with self.open(path) as stream:
            return _read_all(stream)

    def look_inside(self, most: int = MAX_INNER) -> int:
        """Add the files of the archives inside, as though each were a directory.

        Returns
        -------
        int
            How many more archives may be opened.
        """
        archives, self._archives = self._archives, []
        if len(archives) > most:
            raise PalletError(
                f"{self._source} holds {len(archives)} archives: {listed(archives)}\n"
                "give the one that holds the pallet"
            )
        most -= len(archives)
        for path in archives:
            where = self._source / path
            name = stem(PurePosixPath(path))
            # One JSON file in an archive of its own lies where the archive does.
            parent = PurePosixPath(path).parent
            directory = parent if name.lower().endswith(".json") else parent / name
            with self._open(path) as stream:
                file = io.BytesIO(_read_all(stream))
            paths, opener = self._stack.enter_context(_archive(file, where))
            inner = Files(paths, opener, where, self._stack, self._depth + 1)
            if not inner.paths and self._depth + 1 < MAX_INNER_DEPTH:
                most = inner.look_inside(most)
            for each in inner.paths:
                self._openers[str(directory / each)] = partial(inner.open, each)
        self.paths = list(self._openers)
        return most


@contextmanager
def _plain(opener: Opener, path: str, source: Path) -> Iterator[IO[bytes]]:
    """Give a file of a source, decompressed."""
    with opener(path) as stream:
        if not path.lower().endswith(".gz"):
            yield stream
            return
        inflated = _Metered(_decompressed(stream, stream.peek(6)), _Meter(source))
        with io.BufferedReader(inflated) as plain:
            yield plain


@contextmanager
def opened(source: Path) -> Iterator[Files]:
    """Give the files of a directory or an archive.

    Raises
    ------
    PalletError
        If it cannot be read, or is larger than any pallet, or is no valid archive.
    """
    try:
        how = _opened_directory if source.is_dir() else _opened_archive
        with how(source) as (paths, opener), ExitStack() as stack:
            yield Files(paths, opener, source, stack)
    except FileNotFoundError as error:
        raise PalletError(f"there is no file or directory {error.filename or source}") from error
    except PermissionError as error:
        raise PalletError(
            f"{error.filename or source} cannot be read: permission denied\n"
            "ask for read permission, or copy it to a place of your own"
        ) from error
    except (
        EOFError,
        OSError,
        RuntimeError,  # an encrypted zip
        NotImplementedError,
        lzma.LZMAError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise PalletError(
            f"{source} cannot be read to its end: {brief(error) or type(error).__name__}\n"
            "it is truncated or damaged: fetch it again"
        ) from error


@contextmanager
def _opened_directory(root: Path) -> Iterator[tuple[list[str], Opener]]:
    def refuse(error: OSError) -> NoReturn:
        raise error

    paths = []
    entries = 0
    for directory, subdirectories, names in os.walk(root, onerror=refuse):
        here = Path(directory)
        subdirectories[:] = (
            sorted(name for name in subdirectories if not name.startswith("."))
            if len(here.relative_to(root).parts) < MAX_DEPTH
            else []
        )
        entries += len(names)
        _check_members(entries, root)
        # is_file: reading a named pipe would never end
        files = (here / name for name in sorted(names))
        found = (file.relative_to(root).as_posix() for file in files if file.is_file())
        paths += [path for path in found if _is_wanted(path)]

    meter = _Meter(root)

    def opener(path: str) -> io.BufferedReader:
        return io.BufferedReader(_Metered((root / path).open("rb", buffering=0), meter))

    yield paths, opener


@contextmanager
def _opened_archive(path: Path) -> Iterator[tuple[list[str], Opener]]:
    with path.open("rb") as file, _archive(file, path) as found:
        yield found


@contextmanager
def _archive(file: IO[bytes], path: Path) -> Iterator[tuple[list[str], Opener]]:
    start = file.read(512)
    file.seek(0)
    if start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        with zipfile.ZipFile(file) as archive:
            yield _in_zip(archive, path)
    else:
        stream = _Bounded(_decompressed(file, start), path)
        with closing(stream), _tar(stream, path) as tar:
            yield _in_tar(tar, stream, path)


def _decompressed(file: Any, start: bytes) -> Any:
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=file)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(file)
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(file)
    return file


class _Bounded:
    """A stream that refuses to be inflated further than `MAX_UNPACKED_BYTES`.

    The position is checked before the skipping, so a header that announces terabytes is refused
    at once. tarfile reads the headers' own extensions in one piece: such a piece is small.
    """

    def __init__(self, stream: Any, path: Path) -> None:
        self._stream = stream
        self._path = path

    def close(self) -> None:
        self._stream.close()

    def read(self, size: int) -> bytes:
        if size > _CHUNK_BYTES:
            raise PalletError(
                f"{self._path}: refused, for the header of a member is larger than 1 MiB\n"
                "a valid archive never contains this: fetch it from the publication itself"
            )
        data: bytes = self._stream.read(size)
        self._check(self._stream.tell())
        return data

    def seek(self, position: int) -> int:
        self._check(position)
        reached: int = self._stream.seek(position)
        return reached

    def tell(self) -> int:
        position: int = self._stream.tell()
        return position

    def _check(self, position: int) -> None:
        if position > MAX_UNPACKED_BYTES:
            raise PalletError(_too_large(str(self._path)))


def _tar(stream: _Bounded, path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(fileobj=stream, mode="r:")  # type: ignore[call-overload, no-any-return]
    except tarfile.ReadError as error:
        stream.seek(0)
        start = stream.read(512)
        if start.lstrip().startswith((b"{", b"[")):
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
        _check_members(count, path)
        total += member.size
        _check_total(total, path)
        if _is_wanted(member.name) and not member.isdir():
            # the last of several that are called the same: unpacking would leave that one
            members[_safe(member.name, path)] = member
            if not member.isreg() or member.issparse():
                _refuse_special(member.name, path)
    # tarfile takes a damaged header for the end, which would silently lose patches. The true end
    # is a block of zeros; what follows is read for the checksum of the compression.
    stream.seek(tar.offset)
    end = stream.read(512)
    if len(end) < 512 or end.strip(b"\0"):  # noqa: PLR2004 - the size of a block of a tar archive
        raise tarfile.ReadError(f"the archive breaks off after {len(tar.getmembers())} members")
    while stream.read(_CHUNK_BYTES):
        pass

    def opener(name: str) -> io.BufferedReader:
        extracted = tar.extractfile(members[name])
        assert isinstance(extracted, io.BufferedReader)  # it is a regular file
        return extracted

    return list(members), opener


def _in_zip(archive: zipfile.ZipFile, path: Path) -> tuple[list[str], Opener]:
    members: dict[str, zipfile.ZipInfo] = {}
    infos = archive.infolist()
    _check_members(len(infos), path)
    _check_total(sum(info.file_size for info in infos), path)
    for info in infos:
        if _is_wanted(info.filename) and not info.is_dir():
            members[_safe(info.filename, path)] = info
            kind = info.external_attr >> 28  # the upper bits of st_mode; 0 if it was not recorded
            if kind not in (0, 0o10):
                _refuse_special(info.filename, path)
            # the other methods may inflate a few bytes to gigabytes in one step
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise PalletError(
                    f"{path}: {info.filename} is compressed in a way that is not supported\n"
                    "make an ordinary zip archive of it"
                )

    meter = _Meter(path)

    def opener(name: str) -> io.BufferedReader:
        return io.BufferedReader(_Metered(archive.open(members[name]), meter))

    return list(members), opener


def _is_wanted(path: str) -> bool:
    """Whether it may be a file of a pallet or an archive, and not hidden."""
    file = PurePosixPath(path.replace("\\", "/"))
    hidden = any(part.startswith(".") and part != ".." for part in file.parts)
    wanted = _is_data(file.name) or file.name.lower().endswith(ARCHIVE_SUFFIXES)
    return wanted and not hidden and "__MACOSX" not in file.parts


def _is_data(path: str) -> bool:
    return path.lower().removesuffix(".gz").endswith(DATA_SUFFIXES)


def _safe(name: str, source: Path) -> str:
    file = PurePosixPath(name.replace("\\", "/"))
    if file.is_absolute() or ".." in file.parts:
        raise PalletError(
            f"{source}: refused, for it holds {brief(name)!r}, which lies outside of it\n"
            "a valid archive never contains this: fetch it from the publication itself"
        )
    return file.as_posix()


def _refuse_special(name: str, source: Path) -> NoReturn:
    raise PalletError(
        f"{source}: refused, for {brief(name)!r} in it is not a regular file but a link, a "
        "device or the like\nmake the archive anew, with the file itself in it"
    )


def _check_members(count: int, source: Path) -> None:
    if count > MAX_MEMBERS:
        raise PalletError(
            f"{source} holds more than {MAX_MEMBERS:,} files\n"
            "no pallet is that large: give the directory or the archive of the pallet alone"
        )


def _check_total(total: int, source: Path) -> None:
    if total > MAX_UNPACKED_BYTES:
        raise PalletError(_too_large(str(source)))


def _too_large(what: str) -> str:
    return (
        f"{what} holds more than {MAX_UNPACKED_BYTES / 2**30:.2g} GiB when unpacked\n"
        "no pallet is that large: give an archive of the pallet alone"
    )


def _read_all(stream: IO[bytes]) -> bytearray:
    data = bytearray()
    while chunk := stream.read(_CHUNK_BYTES):
        data += chunk
    return data


class _Meter:
    """Counts what is read of a source, whose sizes nobody has said before: no more than allowed."""

    def __init__(self, source: Path) -> None:
        self._left = MAX_UNPACKED_BYTES
        self._source = source

    def add(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise PalletError(_too_large(str(self._source)))


class _Metered(io.RawIOBase):
    """A stream that its reading is counted of."""

    def __init__(self, stream: Any, meter: _Meter) -> None:
        self._stream = stream
        self._meter = meter

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._stream.readinto(buffer)
        self._meter.add(count)
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()
