"""Texts and lists of any size, cut to what a page may spend on them in bytes."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: The end of a long text is kept as well: there a traceback says what went wrong.
_KEPT_AT_THE_END = 0.3
_Item = TypeVar("_Item")


class Text(NamedTuple):
    """A text as it is shown, and how many characters were cut out of it."""

    text: str
    cut: int


def size_of(text: str) -> int:
    """Return how many bytes a text takes on the page."""
    return len(html.escape(text).encode(errors="replace"))


def cut(text: str, limit: int) -> Text:
    """Return a text with its middle cut out, if it is longer than its limit in bytes."""
    size = size_of(text)
    if size <= limit:
        return Text(text, 0)
    kept = limit * len(text) // size
    while True:
        end = int(kept * _KEPT_AT_THE_END)
        beginning, ending = text[: kept - end], text[len(text) - end :]
        if size_of(beginning) + size_of(ending) <= limit:
            left_out = len(text) - kept
            return Text(f"{beginning}\n[… {left_out} characters …]\n{ending}", left_out)
        kept = kept * 4 // 5  # its characters are not all of the same size


def cut_all(texts: Sequence[str], budget: int) -> list[Text]:
    """Return some texts, cut so that all together keep to a budget in bytes."""
    shares = _shares([size_of(text) for text in texts], budget)
    return [cut(text, share) for text, share in zip(texts, shares, strict=True)]


def within(items: Iterable[_Item], budget: int, size: Callable[[_Item], int]) -> list[_Item]:
    """Return the first of some items, as many as a budget in bytes allows."""
    shown = []
    for item in items:
        budget -= size(item)
        if budget < 0:
            break
        shown.append(item)
    return shown


def _shares(sizes: Sequence[int], budget: int) -> list[int]:
    """Return what each of some texts may take: all it needs, or an equal share of what is left."""
    shares = [0] * len(sizes)
    smallest_first = sorted(range(len(sizes)), key=sizes.__getitem__)
    for done, place in enumerate(smallest_first):
        shares[place] = min(sizes[place], budget // (len(sizes) - done))
        budget -= shares[place]
    return shares
