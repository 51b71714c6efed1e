"""Console blocks of pages, and whether what a command prints is what the page shows."""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple

_BLOCK = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: What is another one on each machine and in each run.
_VARIES = re.compile(
    r"\b\d+(\.\d+){2}\S*"  # versions
    r"|\d{4}-\d\d-\d\dT\S+|\d{8}T\d{6}Z-\w+"  # moments, ids of runs
    r"|[+-]?\d[\d.e+-]*\s*(s|ms|tasks/s|MB|%)(?=[\s,;):]|$)"  # measured
    r"|(?<![\w.])/[\w./-]+"  # paths
    r"|\b\d+ (workers|cores?|threads?)\b|on \d+ hosts? \([\w.-]+\)"
    r"|=+"
)
#: A value such as 0.0532629 or 1.723e-05.
_PHYSICS = re.compile(r"0\.0*[1-9]\d{2,}|\d\.\d{2,}e-\d+")
_DECIMAL = re.compile(r"[+-]?\d+\.\d+(e[+-]\d+)?")
_ANY = "..."


class Shown(NamedTuple):
    """A block of a page."""

    language: str
    title: str | None
    text: str

    @property
    def commands(self) -> list[tuple[str, str]]:
        """The commands of a console, each with the output that is shown."""
        parts = re.split(r"^\$ ((?:.*\\\n)*.*)\n", self.text, flags=re.MULTILINE)[1:]
        return list(zip(parts[::2], parts[1::2], strict=True))


def blocks_of(page: str) -> list[Shown]:
    """Return the blocks of code of a page."""
    return [Shown(*(match[1], match[2], match[3])) for match in _BLOCK.finditer(page)]


def pieces(shown: str) -> list[list[str]]:
    """Return the words between the lines ``...``, which stand for any output."""
    lines = shown.splitlines()
    groups = groupby(lines, lambda line: line.strip() == _ANY)
    return [_words("\n".join(group)) for is_any, group in groups if not is_any]


def missing(shown: str, printed: str) -> str | None:
    """Return the first piece of what is shown that is not printed in its place.

    Where lines break is not compared, nor what differs from machine to machine. Counts are the
    same, CLs within 1 %; other decimal numbers are measured ones.
    """
    words, place = _words(printed), 0
    starts_anywhere = shown.lstrip().startswith(_ANY + "\n")
    for piece in pieces(shown):
        last = len(words) - len(piece)
        found = next(
            (
                start
                for start in range(place, last + 1)
                if all(map(_same, piece, words[start : start + len(piece)]))
            ),
            None,
        )
        if found is None or (found > place and not starts_anywhere):
            return " ".join(piece)
        place, starts_anywhere = found + len(piece), True
    if place < len(words) and shown.rstrip().splitlines()[-1:] not in ([_ANY], []):
        return f"{' '.join(words[place:])} (printed at the end, not shown)"
    return None


def _words(text: str) -> list[str]:
    return _VARIES.sub("#", " ".join(text.split())).split()


def _same(shown: str, printed: str) -> bool:
    if shown == printed:
        return True
    if _PHYSICS.fullmatch(shown) and _PHYSICS.fullmatch(printed):
        return abs(float(shown) - float(printed)) <= 0.01 * float(shown)
    if _PHYSICS.fullmatch(shown):
        return False
    return bool(_DECIMAL.fullmatch(shown) and _DECIMAL.fullmatch(printed))
