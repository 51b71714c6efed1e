"""Secrets stay out of messages, reports and pages."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Environment variables with the secret of the identity that a CI uses, under its names in the SDK
#: of Globus Compute and in that of `funcx` 2.4.
SECRETS = ("GLOBUS_COMPUTE_CLIENT_SECRET", "FUNCX_SDK_CLIENT_SECRET")
HIDDEN = "***"
#: Shown instead of JSON.
HIDDEN_JSON = "..."
_PASSWORD = re.compile(r"//[^/\s]+@")
_SECRET_NAME = re.compile(r"auth|cred|key|pass|pw|secret|token", re.IGNORECASE)
#: Too short to search for inside words such as "mapping": these must be words of a name.
_SECRET_WORDS = frozenset({"otp", "pat", "pin", "psk"})
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
#: Numbers, and words such as the name of a partition.
_HARMLESS = re.compile(r"[A-Za-z_-]{1,20}|[\d.]+|")
_ASSIGNED = re.compile(r"(\w+)=([^\s;]+)")
#: Shorter ones occur in too many words.
_FEWEST = 4
_from_config: tuple[str, ...] = ()


def without_json(text: str) -> str:
    """Return the path of a file, or JSON that may hold secrets, in a form that may be shown."""
    return HIDDEN_JSON if set(text) & set('{}[]"\n') else text


def redacted(text: str) -> str:
    """Return a message without the secrets that it might show."""
    for secret in (*(os.environ.get(name) for name in SECRETS), *_from_config):
        if secret:
            text = text.replace(secret, HIDDEN)
    return _PASSWORD.sub(f"//{HIDDEN}@", text)


def hide_values(config: object) -> None:
    """Have `redacted` hide the values of a configuration, instead of those of another.

    A plain word is not a secret, unless its name says so: messages must be able to name a
    partition that does not exist.

    Parameters
    ----------
    config : object
        What JSON has.
    """
    global _from_config  # noqa: PLW0603 - a process has one configuration
    secrets = {secret for name, value in _leaves(config) for secret in _secrets_of(name, value)}
    found = {form for secret in secrets for form in _forms(secret)}
    _from_config = tuple(sorted(found, key=lambda form: (-len(form), form)))


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield texts and numbers, each with the name that it, or its list, has."""
    if isinstance(value, dict):
        for inner, each in value.items():
            yield from _leaves(each, inner)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each, name)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield name, str(value)


def _secrets_of(name: str, value: str) -> Iterator[str]:
    """Yield the secret parts of a value: itself, each of its lines, and what these assign."""
    named = [(name, line) for line in (value, *value.splitlines())]
    for called, text in [*named, *_ASSIGNED.findall(value)]:
        bare = text.strip(" \t\"'")
        if _is_of_a_secret(called) or not _HARMLESS.fullmatch(bare):
            yield bare


def _is_of_a_secret(name: str) -> bool:
    words = {word.lower() for word in _WORDS.findall(name)}
    return bool(_SECRET_NAME.search(name) or words & _SECRET_WORDS)


def _forms(secret: str) -> set[str]:
    """Return how messages may show a text: as it is, in JSON, or as Python does."""
    forms = {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    return {form for form in forms if len(form) >= _FEWEST}
