"""Read a file in TOML."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_pyhf_faas.errors import FaasError


def read_toml(path: Path, problem: type[FaasError]) -> dict[str, Any]:
    """Return the content of a file.

    Raises
    ------
    FaasError
        The `problem`, if it cannot be read or is not TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise problem(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise problem(f"{path} is not TOML: {error}") from error
    return content
