"""Messages of other programs, as people can read them."""

from __future__ import annotations

_MESSAGE_CHARACTERS = 2000


def in_one_line(message: object) -> str:
    """Return the end of a message, where its cause stands, without line breaks."""
    text = " ".join(str(message).split())
    return text if len(text) <= _MESSAGE_CHARACTERS else f"...{text[-_MESSAGE_CHARACTERS:]}"
