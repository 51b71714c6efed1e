"""Digests of requests: they identify environments, wheels and runs."""

from __future__ import annotations

import hashlib
import json

_DIGITS = 16


def digest(*parts: object) -> str:
    """Return a digest of some JSON-able values."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]
