"""Numbers, lists, tables and long texts as people read them."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import textwrap
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: The content of an empty cell in a table.
NOTHING = "–"
#: How much of a name distinguishes it from others.
NAME_CHARACTERS = 60
#: Between columns.
_GAP = "  "
#: The indentation of a continued line, and the mark of a continued line for a shell.
_HANG = "  "
_GOES_ON = " \\"
_NARROWEST_TERMINAL = 40
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
#: A shorter name is meaningless.
_NARROWEST = 12


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: 1 fit, 2 fits, 3 patches, 4 hypotheses."""
    if count == 1:
        return f"{count} {noun}"
    if noun.endswith("sis"):
        return f"{count} {noun[:-2]}es"
    return f"{count} {noun}{'es' if noun.endswith('ch') else 's'}"


def duration(seconds: float) -> str:
    """Return seconds in suitable units."""
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
    """Return a text without control codes for a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shortened(
    text: str, most: int = NAME_CHARACTERS, cut: Literal["beginning", "middle", "end"] = "end"
) -> str:
    """Return a text of at most this many characters, with an ellipsis for what is cut out."""
    if len(text) <= most:
        return text
    kept = most - 1
    ending = {"beginning": kept, "middle": kept // 2, "end": 0}[cut]
    return f"{text[: kept - ending]}…{text[len(text) - ending :]}"


def brief(message: object, most: int = 160) -> str:
    """Return a message as one line without its middle; its end often says what is wrong."""
    return shortened(one_line(message), most, cut="middle")


def described(error: BaseException) -> str:
    """Return an exception with its message; where it has none, with what caused it."""
    if str(error):
        return repr(error)
    cause = error.__cause__ or error.__context__
    name = type(error).__name__
    return f"{name}, caused by {described(cause)}" if cause is not None else name


def listed(names: Sequence[str], most: int = 3, width: int = NAME_CHARACTERS) -> str:
    """Return the first of some names, long ones without their middle, and how many follow."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shortened(name, width, cut="middle") for name in names[:most]) + more


def relative_path(path: Path, directory: Path | None = None) -> str:
    """Return a path as seen from a directory, by default the current one.

    It stays whole where no relative one exists: between the drives of Windows.
    """
    try:
        return os.path.relpath(path, directory)
    except ValueError:
        return str(path)


def terminal_width() -> int:
    """Return how many characters a line of the terminal has; 80 where there is none."""
    return max(shutil.get_terminal_size().columns, _NARROWEST_TERMINAL)


def folded(text: str, width: int) -> str:
    """Return a text with its lines broken between words, so that none is longer than a width.

    Continuation lines are indented by two more than the first. A word that is longer than
    a line is broken as well, but for a path or an address, which stays whole to be copied.
    """
    return "\n".join(piece for line in text.split("\n") for piece in _folded(line, width))


def folded_command(command: str, width: int) -> str:
    """Return a command broken between its words, so that a shell reads it as one.

    A word that is longer than a line stays whole.
    """
    room = width - len(_HANG) - len(_GOES_ON)
    lines: list[str] = []
    for word in map(shlex.quote, shlex.split(command)):
        if lines and len(lines[-1]) + len(word) < room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return f"{_GOES_ON}\n{_HANG}".join(lines)


def fitted(line: str, width: int) -> str:
    """Return a line that is no longer than a width; what stands before a colon gives way first."""
    head, colon, rest = line.partition(": ")
    room = max(width - len(colon) - len(rest), _NARROWEST)
    return shortened(f"{shortened(head, room, cut='middle')}{colon}{rest}", width)


def short_uuid(text: str) -> str:
    """Return the first of the characters of a UUID, which distinguish it; else the text."""
    return f"{text[:8]}…" if _UUID.fullmatch(text) else text


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], width: int, left: int = 1
) -> list[str]:
    """Return rows below a header as lines of columns: the first ones to the left, the others right.

    If the lines would be longer than a width, the words of the header are stacked, and names in
    the columns to the left lose their middle, as long as that leaves them different. If that is not
    enough, what is the same in each row is said once, and at last each row becomes a text of its
    own.
    """
    widths = _widths([header, *rows])
    if _length(widths) <= width:
        return _lines([header, *rows], widths, left)
    stacked = _stacked(header, _widths(rows) if rows else [0] * len(header))
    widths = _widths([*stacked, *rows])
    while _length(widths) > width and max(widths[:left], default=0) > _NARROWEST:
        widest = widths.index(max(widths[:left]))
        if not _tells_apart([row[widest] for row in rows], widths[widest] - 1):
            break
        widths[widest] -= 1
    if _length(widths) <= width:
        return _lines([*stacked, *rows], widths, left)
    same = [len(set(cells)) == 1 for cells in zip(*rows, strict=True)]
    if len(rows) > 1 and any(same) and not all(same):
        return _without_the_same(header, rows, width, left, same)
    return [line for row in rows for line in _record(header, row, width, left)]


def _folded(line: str, width: int) -> list[str]:
    if len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    if len(indent) > width // 2:
        indent = ""
    width = max(width, _NARROWEST)
    room = width - len(indent) - len(_HANG)
    return textwrap.wrap(
        " ".join(_broken(word, room) for word in line.strip().split(" ")),
        width,
        initial_indent=indent,
        subsequent_indent=indent + _HANG,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _broken(word: str, room: int) -> str:
    """Return a word in pieces that have room in a line, but for a path."""
    if len(word) <= room or "/" in word:
        return word
    return " ".join(word[start : start + room] for start in range(0, len(word), room))


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _length(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _lines(rows: Sequence[Sequence[str]], widths: Sequence[int], left: int) -> list[str]:
    return [
        _GAP.join(
            shortened(cell, width, cut="middle").ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _tells_apart(names: Sequence[str], width: int) -> bool:
    """Whether names that differ still do when their middle is cut out."""
    cut = {shortened(name, width, cut="middle") for name in names}
    return len(cut) == len(set(names))


def _stacked(header: Sequence[str], widths: Sequence[int]) -> list[list[str]]:
    """Return the lines of a header, the words of a title above each other if it is too wide."""
    cells = [
        textwrap.wrap(title, max(width, *map(len, title.split())), break_on_hyphens=False)
        if title.split()
        else [""]
        for title, width in zip(header, widths, strict=True)
    ]
    height = max(map(len, cells))
    return [list(line) for line in zip(*([""] * (height - len(c)) + c for c in cells), strict=True)]


def _without_the_same(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    left: int,
    same: Sequence[bool],
) -> list[str]:
    """Return a table without the columns that have one cell only, which is said before."""
    cells = zip(header, rows[0], same, strict=True)
    said = ", ".join(f"{title} {cell}" for title, cell, one in cells if one)
    kept = [
        [cell for cell, one in zip(row, same, strict=True) if not one] for row in (header, *rows)
    ]
    left -= sum(same[:left])
    return [*_folded(f"all: {said}", width), *table(kept[0], kept[1:], width, left)]


def _record(header: Sequence[str], row: Sequence[str], width: int, left: int) -> list[str]:
    """Return a row as a text: its names, and below them its values."""
    names = ", ".join(filter(None, row[:left]))
    values = [f"{title} {cell}" for title, cell in zip(header, row, strict=True) if cell]
    said = ", ".join(values[sum(map(bool, row[:left])) :])
    return [*_folded(names, width), *_folded(f"{_HANG}{said}", width)]
