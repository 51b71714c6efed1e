"""Summaries in Markdown of a run, and of a comparison, for the page of a CI job."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pytest_pyhf_faas.report import ambiguous, analyses, answer, environments
from pytest_pyhf_faas.report.unreferenced import is_unreferenced, unreferenced
from pytest_pyhf_faas.wording import counted, listed, one_line, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pytest_pyhf_faas.report.form import Document, Hypothesis


MOST_FAILURES = 20
MOST_BYTES = 60_000
_MOST_ROWS = 50
_MOST_LISTED = 20
_NAME_CHARACTERS = 120
_TEXT_CHARACTERS = 1500
_LINE_CHARACTERS = 64
_COMMAND_CHARACTERS = 4000
_COMPARISON_CHARACTERS, _COMPARISON_WIDTH = 20_000, 120

_TAKES_EFFECT = re.compile(r"[^\w\s.,:;/()%+=-]|_", re.ASCII)
#: GitHub makes links of these even where they are entities.
_BECOMES_A_LINK = re.compile(r"[@#]|:(?=/)|www(?=\.)", re.IGNORECASE)
#: Has no width: separates characters that would take effect together.
_NOTHING_SEEN = "\u200b"
_BACKTICKS = re.compile(r"`{3,}")


def summarize(document: Document) -> str:
    """Return the summary of a run.

    Parameters
    ----------
    document : Document
        The report.

    Returns
    -------
    str
        GitHub's Markdown, at most 60 kB of it; nothing in the report takes effect as Markdown or
        HTML.
    """
    found = answer.state(document)
    parts = [
        f"## {found.emoji} {found.value}: {_escaped(answer.verdict(document), 1000)}",
        _table(*analyses.wall_time_table(document)),
        _ambiguous(document),
        _list("Not done", answer.missing(document)),
        _list("Notes", document["notes"]),
        *_failures(document),
        _list("Different from the references", environments.differences(document)),
        f"Command:\n\n{_fenced(document['run']['command'], _COMMAND_CHARACTERS)}",
    ]
    return _within(filter(None, parts))


def comparison(text: Callable[[int], str]) -> str:
    """Return the summary of a comparison of runs.

    Parameters
    ----------
    text : callable
        Returns its text for a terminal of some width, the answer first.

    Returns
    -------
    str
        GitHub's Markdown; nothing in the text takes effect as Markdown or HTML.
    """
    return f"## Comparison\n\n{_fenced(text(_COMPARISON_WIDTH), _COMPARISON_CHARACTERS)}\n"


def _ambiguous(document: Document) -> str:
    """Return a line about hypotheses that have two sets of minima."""
    said = ambiguous.ambiguous(document)
    flipping = [row.patch for row in ambiguous.ambiguous_rows(document) if row.flips]
    names = f": {listed(flipping)}" if flipping else ""
    return _escaped(f"Two sets of minima: {said}{names}", 1000) if said else ""


def _failures(document: Document) -> list[str]:
    """Return the first failures, folded away, and how many more there are."""
    entries = [
        (f"{endpoint['endpoint']}: {each['name']}", each["text"])
        for endpoint in document["endpoints"]
        for each in endpoint["failures"]
    ]
    entries += [
        (f"{each['verdict']}: {each['title']}", _without_title(each))
        for each in answer.all_failures(document)
        if not is_unreferenced(each)
    ]
    entries += [
        (f"no reference: {each.title}", each.text(_MOST_LISTED, _LINE_CHARACTERS))
        for each in unreferenced(document)
    ]
    entries += [(each["test"], each["text"]) for each in answer.other_failures(document)]
    parts = [
        f"<details><summary>{_escaped(title)}</summary>\n\n{_fenced(text)}\n\n</details>"
        for title, text in entries[:MOST_FAILURES]
    ]
    more = len(entries) - len(parts)
    return [*parts, f"{counted(more, 'more failure')}: see the report." if more > 0 else ""]


def _without_title(hypothesis: Hypothesis) -> str:
    return str(hypothesis["text"]).removeprefix(hypothesis["title"]).lstrip("\n")


def _table(header: Sequence[str], *rows: Sequence[str]) -> str:
    if not rows:
        return ""
    lines = [_row(header), _row(["---", "---", *["---:"] * (len(header) - 2)], escape=False)]
    lines += [_row(row) for row in rows[:_MOST_ROWS]]
    more = len(rows) - _MOST_ROWS
    return "\n".join(lines) + (
        f"\n\n{counted(more, 'more analysis')}: see the report." if more > 0 else ""
    )


def _row(cells: Sequence[str], *, escape: bool = True) -> str:
    return "| " + " | ".join(_escaped(cell) if escape else cell for cell in cells) + " |"


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    # A line may begin like an item of another list.
    shown = [f"- {_NOTHING_SEEN}{_escaped(line, 500)}" for line in lines[:MOST_FAILURES]]
    more = len(lines) - len(shown)
    shown += [f"- {more} more: see the report"] if more > 0 else []
    return f"{title}:\n\n" + "\n".join(shown)


def _escaped(text: str, most: int = _NAME_CHARACTERS) -> str:
    """Return a text as one line in which nothing takes effect."""
    line = one_line(shortened(text, most))
    line = _BECOMES_A_LINK.sub(rf"\g<0>{_NOTHING_SEEN}", line)
    return _TAKES_EFFECT.sub(_as_entity, line)


def _as_entity(found: re.Match[str]) -> str:
    """Return a character as an entity, which no reader of Markdown takes for syntax."""
    character = found[0]
    return character if ord(character) > 127 else f"&#{ord(character)};"  # noqa: PLR2004


def _fenced(text: str, most: int = _TEXT_CHARACTERS) -> str:
    """Return a text as a block of code that it cannot end."""
    kept = shortened(text, most)
    longest = max(map(len, _BACKTICKS.findall(kept)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}text\n{kept}\n{fence}"


def _within(parts: Iterable[str]) -> str:
    """Return as many parts as there is room for."""
    left = MOST_BYTES - 100
    shown = []
    for part in parts:
        left -= len(part.encode(errors="replace")) + 2
        if left < 0:
            shown.append("The rest does not fit here: see the report.")
            break
        shown.append(part)
    return "\n\n".join(shown) + "\n"
