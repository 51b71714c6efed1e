"""Digests of requests: they identify environments, wheels and runs."""

from __future__ import annotations

import hashlib
import json

_DIGITS = 16


def digest(*told: object) -> str:
    """Return a digest of some JSON-able values."""
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:_DIGITS]
