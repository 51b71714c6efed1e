"""Numbers, lists, tables and long texts as people read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

#: What stands in a table where there is nothing.
NOTHING = "–"
#: How much of a name tells it from others.
NAME_CHARACTERS = 60
#: Between columns.
_GAP = "  "
#: A shorter name says nothing.
_NARROWEST = 12


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: 1 fit, 2 fits, 3 patches, 4 hypotheses."""
    if count == 1:
        return f"{count} {noun}"
    if noun.endswith("sis"):
        return f"{count} {noun[:-2]}es"
    return f"{count} {noun}{'es' if noun.endswith('ch') else 's'}"


def duration(seconds: float) -> str:
    """Return seconds in the units that people use for so many."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    if minutes:
        return f"{minutes} min {rest:02} s"
    return f"{rest} s"


def with_spread(mean: float, stdev: float | None) -> str:
    """Return a mean with its standard deviation, if it has one."""
    return f"{mean:.1f}" if stdev is None else f"{mean:.1f} ± {stdev:.1f}"


def one_line(text: object) -> str:
    """Return a text without line breaks and without more than one space at a time."""
    return " ".join(str(text).split())


def printable(text: str) -> str:
    """Return a text without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shortened(
    text: str, most: int = NAME_CHARACTERS, cut: Literal["beginning", "middle", "end"] = "end"
) -> str:
    """Return a text of at most so many characters, an ellipsis in the place of what is cut out."""
    if len(text) <= most:
        return text
    kept = most - 1
    ending = {"beginning": kept, "middle": kept // 2, "end": 0}[cut]
    return f"{text[: kept - ending]}…{text[len(text) - ending :]}"


def brief(message: object, most: int = 160) -> str:
    """Return a message as one line without its middle; its end often says what is wrong."""
    return shortened(one_line(message), most, cut="middle")


def listed(names: Sequence[str], most: int = 3, width: int = NAME_CHARACTERS) -> str:
    """Return the first of some names, each of at most so many characters, and how many follow."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shortened(name, width) for name in names[:most]) + more


def columns(rows: Sequence[Sequence[str]], left: int = 1, width: int | None = None) -> list[str]:
    """Return rows as lines of aligned columns: the first ones to the left, the others right.

    Where a line would be longer than a width, names in the columns to the left are shortened.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    if width is not None:
        _narrow(widths, left, width)
    return [
        _GAP.join(
            shortened(cell, room, cut="middle").ljust(room) if place < left else cell.rjust(room)
            for place, (cell, room) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _narrow(widths: list[int], left: int, width: int) -> None:
    """Take from the widest of the first columns what lines have too much."""
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    while excess > 0 and max(widths[:left], default=0) > _NARROWEST:
        widths[widths.index(max(widths[:left]))] -= 1
        excess -= 1
