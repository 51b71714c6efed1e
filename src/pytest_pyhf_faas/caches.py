"""Where things are kept between runs."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

_NAME = "pytest-pyhf-faas"


def user_cache() -> Path | None:
    """Return the user's cache directory; ``None`` for a user without a home, as in a container."""
    import platformdirs

    try:
        directory = platformdirs.user_cache_path(_NAME)
    except RuntimeError:
        return None
    return directory if directory.is_absolute() else None  # older versions keep the "~"


def passing_directory() -> Path:
    """Return the path of a new temporary directory, which is made when something is written."""
    return Path(tempfile.gettempdir(), f"{_NAME}-{secrets.token_hex(8)}")
