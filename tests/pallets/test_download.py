"""download.py against a real HTTP server on this machine."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pooch
import pytest

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.pallets import download
from pytest_pyhf_faas.pallets.download import fetch

CONTENT = os.urandom(1_500_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves CONTENT; the attributes say how badly. `requests` and `sent` tell what happened."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.status = 200
        self.content_type = "application/x-tar"
        self.location = None
        self.etag = '"one"'
        self.last_modified = None
        self.ranges = True  # honours Range
        self.length = True  # sends Content-Length
        self.cuts = []  # for each request to come: after how many bytes it breaks off
        self.delay_s = 0.0
        self.requests = []
        self.sent = 0

    def handle_error(self, request, client_address):
        """Do not print what the client's hanging up causes."""

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/pallet.tar.gz"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        if server.location:
            self.send_response(302)
            self.send_header("Location", server.location)
            self.end_headers()
            return
        start, status = 0, server.status
        validator = server.etag or server.last_modified
        wanted = self.headers.get("Range")
        if wanted and server.ranges and self.headers.get("If-Range") == validator:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            status = 206 if start < len(server.content) else 416
        body = server.content[start:]
        self.send_response(status)
        self.send_header("Content-Type", server.content_type)
        if server.length:
            self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        if server.last_modified:
            self.send_header("Last-Modified", server.last_modified)
        if status == 206:
            total = len(server.content)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        self.end_headers()
        body = body[: server.cuts.pop(0)] if server.cuts else body
        time.sleep(server.delay_s)
        self.wfile.write(body)
        server.sent += len(body)


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.02,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_PYHF_FAAS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def get(server, cache, **kwargs):
    return fetch(server.url, name="pallet", **kwargs)


def refusal(server, cache, **kwargs):
    """Return the message of the failure; the cache must not hold the file afterwards."""
    with pytest.raises(PalletError) as caught:
        get(server, cache, **kwargs)
    assert not (cache / "pallet").exists()
    message = str(caught.value)
    assert 2 <= len(message.splitlines()) <= 5
    assert len(message) < 1000
    return message


def files_in(cache):
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


def test_download_once(server, cache, capfd):
    path = get(server, cache)
    assert path == cache / "pallet"
    assert path.read_bytes() == CONTENT
    assert get(server, cache) == path
    assert len(server.requests) == 1
    assert files_in(cache) == ["pallet"]
    assert capfd.readouterr() == ("", "")  # no terminal: no progress bar, and pooch is silent


def test_asks_for_the_archive_not_its_landing_page(server, cache):
    get(server, cache)
    assert server.requests[0]["Accept"] == "application/x-tar, application/zip"
    assert "Range" not in server.requests[0]


def test_checksum_is_right(server, cache):
    assert get(server, cache, sha256=SHA256.upper()).read_bytes() == CONTENT
    get(server, cache, sha256=SHA256)
    assert len(server.requests) == 1


def test_checksum_is_wrong(server, cache):
    message = refusal(server, cache, sha256="0" * 64)
    assert SHA256 in message
    assert "0" * 64 in message
    assert files_in(cache) == []


def test_a_damaged_file_in_the_cache_is_replaced(server, cache):
    cache.mkdir()
    (cache / "pallet").write_bytes(b"damaged")
    assert get(server, cache, sha256=SHA256).read_bytes() == CONTENT


def test_cache_from_the_environment(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_PYHF_FAAS_CACHE", str(tmp_path / "elsewhere"))
    assert fetch(server.url, name="x") == tmp_path / "elsewhere" / "x"


def test_no_content_length(server, cache):
    server.length = False
    assert get(server, cache).read_bytes() == CONTENT


# --- cut off ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [True, False])
def test_cut_off_leaves_nothing_and_the_next_call_begins_again(server, cache, length):
    server.cuts = [700_000]
    message = refusal(server, cache)
    assert re.search(r"cut off: [1-9][\d,]+ of 1,500,000 bytes have arrived", message)
    assert "--faas-pallet" in message
    assert files_in(cache) == []
    server.length = length
    assert get(server, cache).read_bytes() == CONTENT
    assert "Range" not in server.requests[-1]


# --- no archive ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, "does not exist (HTTP 404)"),
        (410, "does not exist"),
        (500, "the server has a problem (HTTP 500"),
        (503, "try again later"),
        (403, "the server refuses (HTTP 403"),
    ],
)
def test_status(server, cache, status, expected):
    server.status = status
    message = refusal(server, cache)
    assert expected in message
    assert f"download {server.url} by hand and give the file: --faas-pallet FILE" in message
    assert len(server.requests) == 1
    assert files_in(cache) == []


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("text/html; charset=utf-8", b"anything"),
        ("application/x-tar", b"\n<!DOCTYPE html><title>Sign in</title>"),
        ("application/x-tar", b"<html>"),
    ],
)
def test_web_page(server, cache, content_type, content):
    server.content_type, server.content = content_type, content
    assert "gives a web page instead of a file" in refusal(server, cache)
    assert files_in(cache) == []


@pytest.mark.parametrize("length", [True, False])
def test_too_large(server, cache, monkeypatch, length):
    monkeypatch.setattr(download, "MAX_DOWNLOAD_BYTES", 1_000_000)
    server.length = length
    assert "is larger than" in refusal(server, cache)
    assert files_in(cache) == []


def test_redirect_is_followed(server, cache):
    with Server() as other:
        thread = threading.Thread(target=other.serve_forever, args=(0.02,))
        thread.start()
        other.location = server.url
        assert get(other, cache).read_bytes() == CONTENT
        other.shutdown()
        thread.join()
    assert server.requests[0]["Accept"] == "application/x-tar, application/zip"


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://x/"])
def test_redirect_to_another_scheme_is_not_followed(server, cache, location):
    server.location = location
    assert "not http or https" in refusal(server, cache)
    assert files_in(cache) == []


def test_address_with_another_scheme(cache):
    with pytest.raises(PalletError, match="is not an http or https address"):
        fetch("file:///etc/passwd", name="x")


def test_no_network(cache):
    with Server() as closed:
        url = closed.url  # nobody listens there any more
    with pytest.raises(PalletError) as caught:
        fetch(url, name="pallet")
    message = str(caught.value)
    assert "cannot be reached" in message
    assert "Connection refused" in message
    assert "--faas-pallet" in message


def test_a_server_that_falls_silent(server, cache, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUTS_S", (1.0, 0.1))
    server.delay_s = 0.5
    assert "cut off: 0 of 1,500,000" in refusal(server, cache)


# --- the cache ----------------------------------------------------------------------------------


def test_disk_is_full(server, cache, monkeypatch):
    """The disk fills up after a while: the real error of /dev/full, at the real write."""
    full = lambda _path, _mode: Path("/dev/full").open("wb")  # noqa: E731, SIM115
    monkeypatch.setattr(pooch.downloaders, "open", full, raising=False)
    message = refusal(server, cache)
    assert os.strerror(errno.ENOSPC) in message
    assert "PYTEST_PYHF_FAAS_CACHE" in message
    assert len(server.requests) == 1
    assert files_in(cache) == []


def test_cache_is_a_file(server, cache):
    cache.write_text("in the way")
    with pytest.raises(PalletError, match="cannot be stored in"):
        get(server, cache)


def test_file_in_a_read_only_cache_is_used(server, cache):
    get(server, cache)
    (cache / "pallet.lock").unlink(missing_ok=True)
    cache.chmod(0o500)
    try:
        assert get(server, cache).read_bytes() == CONTENT
        assert not (cache / "pallet.lock").exists()
    finally:
        cache.chmod(0o700)


def test_two_processes_download_one_file_once(server, cache):
    server.delay_s = 0.5  # the second comes while the first is at it
    code = (
        "import sys; from pytest_pyhf_faas.pallets.download import fetch\n"
        "print(fetch(sys.argv[1], name='pallet'))"
    )
    command = [sys.executable, "-c", code, server.url]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].strip() for process in both]
    assert outputs == [str(cache / "pallet")] * 2
    assert (cache / "pallet").read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert server.sent == len(CONTENT)


def test_another_process_hangs(server, cache, monkeypatch):
    import filelock

    monkeypatch.setattr(download, "LOCK_TIMEOUT_S", 0.05)
    cache.mkdir()
    with filelock.FileLock(cache / "pallet.lock"):
        message = refusal(server, cache)
    assert "another process" in message
    assert server.requests == []


def test_progress_bar_on_a_terminal_only(server, cache, monkeypatch):
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.set_blocking(controller, False)
    with os.fdopen(terminal, "w") as stderr, os.fdopen(controller, "rb", 0) as screen:
        monkeypatch.setattr(sys, "stderr", stderr)
        fetch(server.url, name="shown")
        shown = ""
        deadline = time.monotonic() + 10
        while "1.50M/1.50M" not in shown and time.monotonic() < deadline:
            # A terminal hands on in its own time what it was given.
            shown += (screen.read(10_000) or b"").decode()
        assert "shown: " in shown
        assert "1.50M/1.50M" in shown


def test_import_is_cheap():
    code = (
        "import sys, pytest_pyhf_faas.pallets.download\n"
        "print(sorted({'pooch', 'requests', 'tqdm', 'filelock', 'pytest'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
