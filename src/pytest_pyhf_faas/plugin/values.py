"""Read the text of an option as a value."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from pytest_pyhf_faas.campaign.requirements import Requirement


#: Those of `campaign.tasks`, which are not imported by those who only have the plugin installed.
QUANTITIES = ("cls", "limit", "toys")


def number(flag: str, text: str, *, minimum: float = 0) -> float:
    """Return a finite number."""
    return float(_number(flag, text, float, "a number", minimum))


def at_least(minimum: int) -> Callable[[str, str], int]:
    """Return a reader of whole numbers that are not smaller."""

    def whole(flag: str, text: str) -> int:
        return int(_number(flag, text, int, "a whole number", minimum))

    return whole


def seconds(flag: str, text: str) -> float | None:
    """Return a time limit in seconds; ``None`` for 0, which means no limit."""
    return number(flag, text) or None


def counts(flag: str, text: str) -> tuple[int, ...]:
    """Return the whole numbers of a list with commas, each once."""
    return tuple(dict.fromkeys(at_least(1)(flag, part) for part in text.split(",")))


def quantities(flag: str, text: str) -> tuple[str, ...]:
    """Return the quantities of a list with commas, each once, in the order of `QUANTITIES`."""
    named = {one_of(flag, part.strip(), QUANTITIES) for part in text.split(",")}
    return tuple(quantity for quantity in QUANTITIES if quantity in named)


def plane(flag: str, text: str) -> tuple[str, str]:
    """Return the two axes of a plane: each a label of a pallet, or what two of them make."""
    labels = [label.strip() for label in text.split(",")]
    if len(set(labels)) != 2 or not all(labels):  # noqa: PLR2004 - a plane
        raise ConfigurationError(
            f"{flag} is {text!r}: it must be two labels of the pallet's values, differences or "
            "ratios of them, as in m1,m2 or m1,m1-m2 or m1,m1/m2"
        )
    return labels[0], labels[1]


def requirement(flag: str, text: str) -> Requirement:
    """Return the requirements on workers."""
    from pytest_pyhf_faas.campaign.requirements import Requirement

    del flag
    return Requirement.read(text)


def one_of(flag: str, text: str, known: Sequence[str]) -> str:
    """Return a text if it is one of those that are known."""
    if text not in known:
        raise ConfigurationError(
            f"{flag} is {text!r}, which is not known: use one of {', '.join(known)}"
        )
    return text


def path_from(directory: Path, text: str) -> str:
    """Return the absolute form of a path that is relative to a directory."""
    return str(directory / os.path.expanduser(text))  # noqa: PTH111 - a text, not a path


def path_or_name_from(directory: Path, text: str) -> str:
    """Do the same if there is such a file or directory; else it is not a path."""
    path = path_from(directory, text)
    return path if os.path.exists(path) else text  # noqa: PTH110 - copes with any text


def pallet_from(directory: Path, text: str) -> str:
    """Return a pallet, or several with pluses, whose paths are relative to a directory."""
    from pytest_pyhf_faas.pallets.combination import PLUS, parts_of

    def exists(part: str) -> bool:
        return os.path.exists(path_from(directory, part))  # noqa: PTH110 - copes with any text

    return PLUS.join(path_or_name_from(directory, part) for part in parts_of(text, exists))


def endpoint_from(directory: Path, text: str) -> str:
    """Return an endpoint whose configuration of Parsl is relative to a directory."""
    kind, colon, path = text.partition(":")
    return f"parsl:{path_from(directory, path)}" if kind == "parsl" and colon else text


def _number(
    flag: str, text: str, kind: Callable[[str], Any], what: str, minimum: float
) -> float | int:
    try:
        value: float | int | None = kind(text)
    except ValueError:
        value = None
    if value is None or not minimum <= value < float("inf"):
        raise ConfigurationError(f"{flag} is {text!r}: it must be {what}, {minimum:g} or more")
    return value
