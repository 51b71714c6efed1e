"""The files of a pallet: in a directory, or in an archive that is never unpacked to disk.

`opened` gives the files, in the order in which they are best read, and if need be those of archives
inside; each is a stream. No member can lie outside, and nothing grows without bound.
"""

from __future__ import annotations

import io
import lzma
import os
import tarfile
import zipfile
import zlib
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets.archives import CHUNK_BYTES, decompressed, opened_archive
from pytest_pyhf_faas.pallets.bounds import (
    ARCHIVE_SUFFIXES,
    Meter,
    Metered,
    check_members,
    is_data,
    is_wanted,
)
from pytest_pyhf_faas.wording import brief, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import IO

    from pytest_pyhf_faas.pallets.archives import Opener

#: How many directories deep a directory is searched.
MAX_DEPTH = 4

#: How many nested archives are opened, and how deep.
MAX_INNER, MAX_INNER_DEPTH = 16, 2


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
        Closes archives inside.

    Attributes
    ----------
    paths : list of str
        The files that may belong to a pallet.
    """

    def __init__(
        self, paths: Sequence[str], opener: Opener, source: Path, stack: ExitStack, depth: int = 0
    ) -> None:
        self.paths = [path for path in paths if is_data(path)]
        self._archives = [path for path in paths if not is_data(path)]
        self._openers: dict[str, Callable[[], AbstractContextManager[IO[bytes]]]] = {
            path: partial(_plain, opener, path, source) for path in self.paths
        }
        self._open, self._source, self._stack, self._depth = opener, source, stack, depth

    def open(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """Give the content of a file; one at a time, because files of an archive share a stream."""
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
            paths, opener = self._stack.enter_context(opened_archive(file, where))
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
        inflated = Metered(decompressed(stream, stream.peek(6)), Meter(source))
        with io.BufferedReader(inflated) as plain:
            yield plain


@contextmanager
def opened(source: Path) -> Iterator[Files]:
    """Give the files of a directory or an archive.

    Raises
    ------
    PalletError
        If it cannot be read, or is larger than any pallet, or is not a valid archive.
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
        check_members(entries, root)
        # is_file: reading a named pipe would never end
        files = (here / name for name in sorted(names))
        found = (file.relative_to(root).as_posix() for file in files if file.is_file())
        paths += [path for path in found if is_wanted(path)]

    meter = Meter(root)

    def opener(path: str) -> io.BufferedReader:
        return io.BufferedReader(Metered((root / path).open("rb", buffering=0), meter))

    yield paths, opener


@contextmanager
def _opened_archive(path: Path) -> Iterator[tuple[list[str], Opener]]:
    with path.open("rb") as file, opened_archive(file, path) as found:
        yield found


def _read_all(stream: IO[bytes]) -> bytearray:
    data = bytearray()
    while chunk := stream.read(CHUNK_BYTES):
        data += chunk
    return data
