"""Download published files into a cache, once."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_pyhf_faas.caches import user_cache
from pytest_pyhf_faas.errors import PalletError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The environment variable that moves the cache.
CACHE_VARIABLE = "PYTEST_PYHF_FAAS_CACHE"

#: No archive may be larger than this.
MAX_DOWNLOAD_BYTES = 2 << 30

#: How long to wait for a connection, and for the next bytes.
TIMEOUTS_S = (10.0, 60.0)

#: How long to wait for another process that downloads the same file.
LOCK_TIMEOUT_S = 1800.0

_CHUNK_BYTES = 1 << 18

#: HEPData sends the archive, not its landing page, for requests with one of these types.
ARCHIVE = "application/x-tar, application/zip"


def cache_directory() -> Path:
    """Return the directory of downloads.

    Raises
    ------
    PalletError
        If there is none.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    directory = Path(os.path.expanduser(chosen)) if chosen else user_cache()  # noqa: PTH111
    if directory is None:
        raise PalletError(
            "there is no home directory to keep downloaded pallets in\n"
            f"set HOME, or {CACHE_VARIABLE} to a directory"
        )
    return directory


def fetch(url: str, *, name: str, sha256: str | None = None, accept: str = ARCHIVE) -> Path:
    """Download a file unless the cache has it, and return its path.

    Any number of processes may ask for the same file at once: one downloads it, the others wait.
    The progress is shown on stderr, if that is a terminal.

    Parameters
    ----------
    url : str
        An http or https address.
    name : str
        Name of the file in the cache.
    sha256 : str or None
        The checksum of the file. If it is not known, any archive is accepted; what is in it is
        verified when it is read.
    accept : str
        The kinds of file that are asked for.

    Raises
    ------
    PalletError
        If it cannot be downloaded or stored; the message says how to do without it.
    """
    import filelock

    directory = cache_directory()
    target = directory / name
    if _is_right(target, sha256):
        return target
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(directory / f"{name}.lock", timeout=LOCK_TIMEOUT_S):
            return _retrieve(url, target, sha256, accept)
    except filelock.Timeout as error:
        raise PalletError(
            f"another process has been downloading {target} for {LOCK_TIMEOUT_S / 60:.0f} minutes\n"
            f"see what it does; if there is none, remove {target}.lock"
        ) from error
    except OSError as error:
        raise PalletError(
            f"{url} cannot be stored in {directory}: {error.strerror or error}\n"
            f"free some space there, or set {CACHE_VARIABLE} to a directory with more room that "
            "you may write to"
        ) from error


def _is_right(path: Path, sha256: str | None) -> bool:
    import pooch

    return path.is_file() and (sha256 is None or pooch.file_hash(str(path)) == sha256.lower())


def _retrieve(url: str, target: Path, sha256: str | None, accept: str) -> Path:
    import pooch

    if urlsplit(url).scheme not in {"http", "https"}:
        raise PalletError(f"{url} is not an http or https address\n{_by_hand(url)}")
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(
                url,
                known_hash=f"sha256:{sha256}" if sha256 else None,
                fname=target.name,
                path=target.parent,
                downloader=partial(_download, name=target.name, accept=accept),
            )
    except ValueError as error:  # pooch has removed the file
        raise PalletError(
            f"{url} is not the file that was expected: {error}\n"
            "it was changed by the publisher or damaged on its way (by a proxy?), and was "
            f"removed: try again, or {_by_hand(url)}"
        ) from error
    return target


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Silence pooch, which would log each download and checksum on stderr."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _download(url: str, output_file: str, pooch: object, *, name: str, accept: str) -> None:
    """Download a file for pooch, which then checks it and moves it into place.

    A web page, too large or incomplete a file is an error; pooch then removes it.
    """
    import requests
    from pooch import HTTPDownloader

    progress = _Progress(url, name)
    download = HTTPDownloader(
        progressbar=progress,
        chunk_size=_CHUNK_BYTES,
        # lengths are to be those of the file
        headers={"Accept": accept, "Accept-Encoding": "identity"},
        timeout=TIMEOUTS_S,
        hooks={"response": progress.began},
    )
    file = Path(output_file)
    try:
        download(url, output_file, pooch)
    except requests.exceptions.InvalidSchema as error:
        raise PalletError(
            f"{url} leads to an address that is not http or https: {error}\n{_by_hand(url)}"
        ) from error
    except requests.RequestException as error:
        if progress.has_begun:
            raise PalletError(_cut_off(url, file, progress.total)) from error
        raise PalletError(_unreachable(url, error)) from error
    finally:
        progress.close()
    if progress.expected not in (0, file.stat().st_size):  # old versions of urllib3 do not check it
        raise PalletError(_cut_off(url, file, progress.expected))
    with file.open("rb") as start:
        if start.read(_CHUNK_BYTES).lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
            raise PalletError(_web_page(url))


class _Progress:
    """The progress of a download in pooch: shown on a terminal, and checked from the first byte."""

    def __init__(self, url: str, name: str) -> None:
        import tqdm

        self.has_begun = False
        self.expected = 0
        self._url = url
        self._bytes = 0
        self._response: Any = None
        self._bar = tqdm.tqdm(
            desc=name, unit="B", unit_scale=True, disable=not sys.stderr.isatty(), file=sys.stderr
        )

    def began(self, response: Any, **_: Any) -> None:
        """Check the headers of a response; requests calls this."""
        self._response = response
        if response.is_redirect:
            return
        if not response.ok:
            raise PalletError(_refused(self._url, response.status_code, response.reason))
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise PalletError(_web_page(self._url))
        self.has_begun = True

    @property
    def total(self) -> int:
        """The size that the server promised; 0 if it did not."""
        return self.expected

    @total.setter
    def total(self, size: int) -> None:
        _check_size(self._url, size)
        self.expected = size
        self._bar.total = size or None

    def update(self, size: int) -> None:
        """Count the received bytes."""
        self._bytes += size
        _check_size(self._url, self._bytes)
        self._bar.update(size)

    def reset(self) -> None:
        """Count again: at the end pooch reports the total."""
        self._bytes = 0
        self._bar.reset()

    def close(self) -> None:
        """Close the connection, which pooch leaves open, and end the progress."""
        if self._response is not None:
            self._response.close()
        self._bar.close()


def _cut_off(url: str, file: Path, expected: int) -> str:
    of = f" of {expected:,}" if expected else ""
    return (
        f"{url}: the transfer was cut off: {file.stat().st_size:,}{of} bytes have arrived\n"
        f"try again, or {_by_hand(url)}"
    )


def _unreachable(url: str, error: Exception) -> str:
    return (
        f"{url} cannot be reached: {_reason(error)}\n"
        "this machine has no network, needs a proxy (set HTTPS_PROXY), or the server is "
        f"down\nwithout a network, {_by_hand(url)}"
    )


def _check_size(url: str, size: int) -> None:
    if size > MAX_DOWNLOAD_BYTES:
        raise PalletError(
            f"{url} is larger than {MAX_DOWNLOAD_BYTES / 2**30:.2g} GiB\n"
            f"no pallet is that large: check the address; if it is right, {_by_hand(url)}"
        )


def _refused(url: str, status: int, reason: str) -> str:
    if status in {404, 410}:
        return (
            f"{url} does not exist (HTTP {status})\n"
            "check the DOI and its version; the archive may have moved: look at the record on "
            f"hepdata.net, or {_by_hand(url)}"
        )
    if status >= 500 or status == 429:  # noqa: PLR2004
        return (
            f"{url}: the server has a problem (HTTP {status} {reason})\n"
            f"try again later, or {_by_hand(url)}"
        )
    return (
        f"{url}: the server refuses (HTTP {status} {reason})\n"
        f"it may ask for a login or block this network: {_by_hand(url)}"
    )


def _web_page(url: str) -> str:
    return (
        f"{url} gives a web page instead of a file\n"
        "it is the address of a landing page, or a network login or a robot check came in "
        f"between: {_by_hand(url)}"
    )


def _by_hand(url: str) -> str:
    return (
        f"download {url} by hand and give the file: --faas-pallet FILE, or --faas-published FILE "
        "for a table"
    )


def _reason(error: Exception) -> str:
    """Return the innermost cause: requests wraps it in long layers."""
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return str(cause) or type(cause).__name__
