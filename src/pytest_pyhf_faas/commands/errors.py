"""How commands say what went wrong."""

from __future__ import annotations

import sys

from pytest_pyhf_faas.wording import folded, terminal_width


def error_text(error: object) -> str:
    """Return what went wrong as a person reads it."""
    return folded(f"error: {error}\n", terminal_width())


def write_error(error: object) -> None:
    """Say on the standard error what went wrong, below what was said before."""
    sys.stdout.flush()
    sys.stderr.write(error_text(error))
