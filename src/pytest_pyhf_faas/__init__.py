"""Validate published pyhf likelihoods with pytest, on this machine or on remote endpoints."""

from __future__ import annotations

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    if name == "__version__":  # looked up when asked for: pytest imports this at every start
        from importlib.metadata import version

        return version("pytest-pyhf-faas")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
