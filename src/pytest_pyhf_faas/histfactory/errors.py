"""Errors of a workspace, or of a fit to it."""

from __future__ import annotations


class HistFactoryError(Exception):
    """The base of the exceptions of certified fits."""


class InvalidModel(HistFactoryError):  # as pyhf calls it
    """The workspace defines no likelihood, or none that can be tested."""


class CertificationError(HistFactoryError):
    """No minimum could be certified."""
