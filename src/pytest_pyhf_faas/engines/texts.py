"""Messages of other programs, as people can read them."""

from __future__ import annotations

from pytest_pyhf_faas.wording import one_line, shortened

_MESSAGE_CHARACTERS = 2000


def in_one_line(message: object) -> str:
    """Return the end of a message, which names its cause, without line breaks."""
    return shortened(one_line(message), _MESSAGE_CHARACTERS, cut="beginning")
