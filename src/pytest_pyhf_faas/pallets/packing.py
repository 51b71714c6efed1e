"""JSON in few bytes, and its digest."""

from __future__ import annotations

import hashlib
import json
import lzma
import zlib
from typing import Any


def pack(obj: Any) -> bytes:
    """Pack a JSON-serialisable object into few bytes: compact JSON, compressed with zlib."""
    return zlib.compress(json.dumps(obj, separators=(",", ":")).encode(), 6)


def pack_small(obj: Any) -> bytes:
    """Pack an object smaller and slower than `pack`, for backgrounds, which are sent often."""
    return lzma.compress(json.dumps(obj, separators=(",", ":")).encode())


def unpack(packed: bytes) -> Any:
    """Return the object that `pack` or `pack_small` packed."""
    decompress = lzma.decompress if packed.startswith(b"\xfd7zXZ") else zlib.decompress
    return json.loads(decompress(packed))


def digest(obj: Any) -> str:
    """Return the SHA-256, in hexadecimal, of an object's canonical JSON.

    It is the digest of :func:`pyhf.utils.digest`, and so the one in published patchsets.

    Raises
    ------
    ValueError
        If a string in `obj` is not valid Unicode (a lone surrogate), or a number is not finite.
    """
    return hashlib.sha256(canonical(obj)).hexdigest()


def canonical(obj: Any) -> bytes:
    """Return the JSON whose digest is taken: exactly that of :func:`pyhf.utils.digest`."""
    return json.dumps(obj, sort_keys=True, ensure_ascii=False, allow_nan=False).encode("utf8")
