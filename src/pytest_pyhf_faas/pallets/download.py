"""Download published archives into a cache, once, and resume what was cut off."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pytest_pyhf_faas.errors import PalletError

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE_VARIABLE = "PYTEST_PYHF_FAAS_CACHE"
"""The environment variable that puts the cache elsewhere."""

MAX_DOWNLOAD_BYTES = 2 << 30
"""No archive may be larger than this."""

TIMEOUTS_S = (10.0, 60.0)
"""How long to wait for a connection, and for the next bytes."""

RETRIES = 2
"""How often a transfer that was cut off is resumed in one call."""

RETRY_WAIT_S = 1.0
"""How long to wait before the first resumption; then twice as long, and so on."""

LOCK_TIMEOUT_S = 1800.0
"""How long to wait for another process that downloads the same file."""

_CHUNK_BYTES = 1 << 18

_HEADERS = {
    # HEPData sends the archive itself, not its landing page, to who asks for one of these
    "Accept": "application/x-tar, application/zip",
    # byte ranges and lengths are to be those of the archive
    "Accept-Encoding": "identity",
}


class _CutOffError(Exception):
    """The transfer ended too early; what has arrived is kept."""


def cache_directory() -> Path:
    """Return the directory that downloads are kept in."""
    import pooch

    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("pytest-pyhf-faas")).expanduser()


def fetch(
    url: str,
    *,
    name: str,
    sha256: str | None = None,
    cache: Path | None = None,
    progressbar: bool = True,
) -> Path:
    """Download a file unless the cache has it, and return where it lies.

    Any number of processes may ask for the same file at once: one downloads it, the others wait.

    Parameters
    ----------
    url
        An http or https address.
    name
        What the file is called in the cache.
    sha256
        The checksum of the file. If it is not known, any archive is accepted; what is in it is
        verified when it is read.
    cache
        The directory to keep it in; by default that of the environment variable
        ``PYTEST_PYHF_FAAS_CACHE``, or else the user's cache directory.
    progressbar
        Show the progress on stderr, if that is a terminal.

    Raises
    ------
    PalletError
        If it cannot be downloaded or stored; the message says how to do without.
    """
    import filelock

    directory = cache or cache_directory()
    target = directory / name
    if _is_right(target, sha256):
        return target
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(directory / f"{name}.lock", timeout=LOCK_TIMEOUT_S):
            return _retrieve(url, target, sha256, progressbar)
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


def _retrieve(url: str, target: Path, sha256: str | None, progressbar: bool) -> Path:
    import pooch

    download = _Download(target, progressbar=progressbar and sys.stderr.isatty())
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(
                url,
                known_hash=f"sha256:{sha256}" if sha256 else None,
                fname=target.name,
                path=target.parent,
                downloader=download,
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
    """Silence pooch, which would tell of each download and checksum on stderr."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Download:
    """A downloader for pooch that resumes.

    The bytes go to ``NAME.part``. Beside it lies ``NAME.part.json``, which remembers the address
    and the validator (RFC 9110, 13.1.5) of the file that they are the beginning of.
    """

    def __init__(self, target: Path, *, progressbar: bool) -> None:
        self._part = target.with_name(f"{target.name}.part")
        self._memo = target.with_name(f"{target.name}.part.json")
        self._progressbar = progressbar

    def __call__(self, url: str, output_file: str, pooch: object) -> None:  # noqa: ARG002
        """Download `url` to `output_file`; pooch then checks it and moves it into place."""
        if urlsplit(url).scheme not in {"http", "https"}:
            raise PalletError(f"{url} is not an http or https address\n{_by_hand(url)}")
        for attempt in range(RETRIES + 1):
            try:
                self._attempt(url)
                break
            except _CutOffError as error:
                if attempt == RETRIES:
                    raise PalletError(
                        f"{url}: the transfer was cut off {RETRIES + 1} times: {error}\n"
                        "what has arrived is kept: run the same again to go on with it, "
                        f"or {_by_hand(url)}"
                    ) from error
                time.sleep(RETRY_WAIT_S * 2**attempt)
        self._part.replace(output_file)
        self._forget()

    def _attempt(self, url: str) -> None:
        import requests

        have, validator = self._beginning(url)
        headers = dict(_HEADERS)
        if have:
            headers |= {"Range": f"bytes={have}-", "If-Range": validator}
        try:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS_S) as response:
                self._receive(response, url, have)
        except requests.exceptions.InvalidSchema as error:
            raise PalletError(
                f"{url} leads to an address that is not http or https: {error}\n{_by_hand(url)}"
            ) from error
        except requests.RequestException as error:
            raise PalletError(
                f"{url} cannot be reached: {_reason(error)}\n"
                "this machine has no network, needs a proxy (set HTTPS_PROXY), or the server is "
                f"down\nwithout a network, {_by_hand(url)}"
            ) from error

    def _receive(self, response: Any, url: str, have: int) -> None:
        partial = response.status_code == 206  # noqa: PLR2004 - partial content
        continues = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if response.status_code == 416 or (partial and not continues):  # noqa: PLR2004
            self._forget()
            raise _CutOffError("what was there already did not fit the file")
        if response.status_code != 200 and not partial:  # noqa: PLR2004
            raise PalletError(_refused(url, response.status_code, response.reason))
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise PalletError(_web_page(url))

        start = have if partial else 0  # a server that ignores ranges sends it from the start
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else None
        try:
            _check_size(url, total or 0)
            if start == 0:
                self._remember(url, response)
            size = self._write(response, url, start, total)
        except (OSError, PalletError):  # the disk is full, or this is no archive
            self._forget()
            raise
        if total is not None and size != total:
            raise _CutOffError(f"{size:,} of {total:,} bytes have arrived")

    def _write(self, response: Any, url: str, start: int, total: int | None) -> int:
        """Append what comes to the part; return its size. A cut is `_CutOffError`."""
        import urllib3

        size = start
        with (
            self._part.open("ab" if start else "wb") as file,
            self._bar(start, total) as progress,
        ):
            try:
                # not decoded: an archive that a server calls Content-Encoding gzip stays as it is
                for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                    if size == 0 and chunk.lstrip()[:9].lower().startswith(
                        (b"<!doctype", b"<html")
                    ):
                        raise PalletError(_web_page(url))
                    size += len(chunk)
                    _check_size(url, size)
                    file.write(chunk)
                    progress.update(len(chunk))
            except urllib3.exceptions.HTTPError as error:
                of = f" of {total:,}" if total else ""
                raise _CutOffError(f"{size:,}{of} bytes have arrived") from error
        return size

    def _bar(self, start: int, total: int | None) -> Any:
        import tqdm

        return tqdm.tqdm(
            desc=self._part.stem,
            initial=start,
            total=total,
            unit="B",
            unit_scale=True,
            disable=not self._progressbar,
            file=sys.stderr,
        )

    def _beginning(self, url: str) -> tuple[int, str]:
        """Return how many bytes of this file are there, and the validator; else 0."""
        try:
            memo = json.loads(self._memo.read_text())
            if memo["url"] == url and memo["validator"]:
                return self._part.stat().st_size, memo["validator"]
        except (OSError, ValueError, KeyError, TypeError):
            pass  # nothing is there, or it is damaged: start at the beginning
        return 0, ""

    def _remember(self, url: str, response: Any) -> None:
        etag = response.headers.get("ETag", "")
        # a weak ETag does not promise the same bytes
        strong = etag if etag.startswith('"') else None
        validator = strong or response.headers.get("Last-Modified")
        self._memo.write_text(json.dumps({"url": url, "validator": validator}))

    def _forget(self) -> None:
        self._part.unlink(missing_ok=True)
        self._memo.unlink(missing_ok=True)


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
        f"{url} gives a web page instead of an archive\n"
        "it is the address of a landing page, or a network login or a robot check came in "
        f"between: {_by_hand(url)}"
    )


def _by_hand(url: str) -> str:
    return f"download {url} by hand and give the file: --faas-pallet FILE"


def _reason(error: Exception) -> str:
    """Return the innermost cause: requests wraps it in long layers."""
    cause: BaseException = error
    while cause.__context__ is not None:
        cause = cause.__context__
    return str(cause) or type(cause).__name__
