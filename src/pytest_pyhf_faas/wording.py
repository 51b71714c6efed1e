"""Numbers as people say them."""

from __future__ import annotations


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: 1 fit, 2 fits, 3 hypotheses."""
    if count == 1:
        return f"{count} {noun}"
    return f"{count} {noun[:-2]}es" if noun.endswith("sis") else f"{count} {noun}s"


def duration(seconds: float) -> str:
    """Return seconds in the units that people use for so many."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    if minutes:
        return f"{minutes} min {rest:02} s"
    return f"{rest} s"
