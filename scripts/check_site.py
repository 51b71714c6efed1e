"""Check the built site: links, and that nothing comes from elsewhere.

Usage: python scripts/check_site.py DIRECTORY

- Each link to a page or file of the site leads there, and to a place on it that exists.
- Pages load scripts, styles, fonts and images from the site alone.
- No text of a paragraph begins a line as a list or a table does: Markdown took it for neither.
- Links to other sites are well formed. They are not fetched, but listed in `external_links.txt`.
"""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
_NOT_LOADED = {"canonical", "next", "prev"}
_TEXT = {"p", "strong", "em", "code", "a"}
#: A line that begins a list or a row of a table.
_MARKS = re.compile(r"^ *(?:(?:[-*]|\d+\.) .*|\|.*\|)$", re.MULTILINE)
_HOST = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+")
_IN_CSS = re.compile(r"url\(\s*[\"']?(?!data:|#)([^)\"']+)")


class Links(HTMLParser):
    """The links of a page, the places that others can link to, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.places: set[str] = {""}
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.unrendered: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        if self._open == ["p"]:  # bold text may begin with a number
            self.unrendered += _MARKS.findall(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            del self._open[self._open.index(tag) :]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _TEXT:
            self._open.append(tag)
        named = {name: value for name, value in attrs if value is not None}
        self.places.update(named[name] for name in ("id", "name") if name in named)
        if tag == "a" and "href" in named:
            self.links.add(named["href"])
        for of, name in LOADED:
            if (
                tag == of
                and name in named
                and named.get("rel") not in ("canonical", "next", "prev")
            ):
                self.loaded.add(named[name])


class Site:
    """The pages of a built site."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.pages = {
            path: Links(path.read_text(encoding="utf-8"))
            for path in sorted(directory.rglob("*.html"))
        }

    def external(self) -> dict[str, list[str]]:
        """Return the pages that link to each address of other sites."""
        found: dict[str, list[str]] = defaultdict(list)
        for path, page in self.pages.items():
            for link in sorted(filter(is_external, page.links)):
                found[link].append(self._name(path))
        return dict(sorted(found.items()))

    def problems(self) -> Iterator[str]:
        """Yield what is wrong, in a sentence each."""
        for path, page in self.pages.items():
            for line in page.unrendered:
                yield f"{self._name(path)}: neither list nor table: {line.strip()}"
            for link in sorted(page.links | page.loaded):
                if (problem := self._problem(path, page, link)) is not None:
                    yield f"{self._name(path)}: {problem}"
        for style in sorted(self.directory.rglob("*.css")):
            for match in _IN_CSS.finditer(style.read_text(encoding="utf-8")):
                if is_external(match[1]):
                    yield f"{self._name(style)}: loads {match[1]}"

    def _problem(self, path: Path, page: Links, link: str) -> str | None:
        if link.startswith("data:"):
            return None
        if is_external(link):
            return _external_problem(link, is_loaded=link in page.loaded)
        if path.name == "404.html":  # it is shown at any address
            return None
        target, place = urldefrag(unquote(link))
        found = (path.parent / target).resolve() if target else path
        if found.is_dir():
            found /= "index.html"
        if not found.is_file():
            return f"there is no {link}"
        if found in self.pages and place not in self.pages[found].places:
            return f"there is no such place: {link}"
        return None

    def _name(self, path: Path) -> str:
        return path.relative_to(self.directory).as_posix()


def _external_problem(link: str, *, is_loaded: bool) -> str | None:
    if is_loaded:
        return f"loads {link}"
    return None if is_well_formed(link) else f"{link}: write https, a host, and no spaces"


def is_external(link: str) -> bool:
    """Whether a link leaves the site."""
    parts = urlsplit(link)
    return bool(parts.scheme or parts.netloc)


def is_well_formed(address: str) -> bool:
    """Whether an address is one of https with a host, or of mail."""
    parts = urlsplit(address)
    if parts.scheme == "mailto":
        return "@" in parts.path
    return (
        parts.scheme == "https"
        and _HOST.fullmatch(parts.netloc.lower()) is not None
        and not re.search(r"[\s<>\"{}|\\^`]", address)
    )


def main(directory: str) -> int:
    """Check a site, list its links to others, and return the exit status."""
    site = Site(Path(directory).resolve())
    external, problems = site.external(), list(site.problems())
    listed = [f"{address}  {', '.join(pages)}\n" for address, pages in external.items()]
    (site.directory / "external_links.txt").write_text("".join(listed), encoding="utf-8")
    for problem in problems:
        print(problem, file=sys.stderr)
    hosts = {urlsplit(address).netloc for address in external}
    print(
        f"{len(site.pages)} pages, {len(problems)} problems; {len(external)} links to {len(hosts)} "
        "other sites are listed in external_links.txt"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
