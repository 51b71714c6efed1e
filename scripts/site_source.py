"""Put together what the site is built of: `docs/`, and files of the repository that it links to.

Usage: python scripts/site_source.py

A page links to files of the repository as GitHub needs it: `../../endpoints/parsl/slurm.py`. In
`build/docs` each of these is a page, too, and the links of all pages go there. This is no hook of
MkDocs, so that another builder can take its place.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[1]
TARGET = REPOSITORY / "build" / "docs"
DOCS = "docs/"
#: Pages that lie outside of it.
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md")
#: What MkDocs is told of a page; on GitHub it would be shown.
_FRONT_MATTER = {
    "docs/index.md": "hide: [navigation]",
    "docs/reference/api.md": "search: {boost: 0.3}",
    "CHANGELOG.md": "search: {boost: 0.3}",
    "docs/glossary.md": "search: {boost: 2}",
    "docs/explanation/two-minima.md": "search: {boost: 2}",
}
_FENCE = re.compile(r"^(```+).*?^\1\s*$", re.DOTALL | re.MULTILINE)
#: A relative link, without its anchor.
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/])([^()\s#]+)")
_LANGUAGES = {".py": "python", ".yml": "yaml", ".yaml": "yaml", ".j2": "jinja", ".toml": "toml"}


def collect(repository: Path) -> dict[str, str]:
    """Return the texts of pages and of the files that they link to, by their paths."""
    waiting = [path.relative_to(repository).as_posix() for path in repository.glob("docs/**/*.md")]
    waiting += PAGES
    found: dict[str, str] = {}
    while waiting:
        path = waiting.pop()
        found[path] = text = (repository / path).read_text(encoding="utf-8")
        if path.endswith(".md"):
            waiting += [
                each
                for each in linked(path, text)
                if each not in found and _becomes_page(each) and (repository / each).is_file()
            ]
    return found


def linked(path: str, text: str) -> list[str]:
    """Return the paths in the repository that a page links to."""
    found: list[str] = []
    with_links(text, lambda link: found.append(_joined(path, link)) or link)
    return found


def with_links(markdown: str, new: Callable[[str], str]) -> str:
    """Return a text with other targets of its relative links; code is left as it is."""
    parts, end = [], 0
    for fence in _FENCE.finditer(markdown):
        parts += [_LINK.sub(lambda match: new(match[1]), markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(lambda match: new(match[1]), markdown[end:])])


def on_the_site(path: str, pages: dict[str, str]) -> str:
    """Return where the site has a page, as text for other pages to link to."""
    if path.startswith(DOCS) and not _becomes_page(path):
        return path.removeprefix(DOCS)
    if path not in pages:
        return path
    return path.lower() if path.endswith(".md") else f"files/{path}.md"


def _becomes_page(path: str) -> bool:
    """Whether a file is no page yet, nor what a browser shows by itself as those below docs/."""
    return not path.startswith(DOCS) or Path(path).suffix in _LANGUAGES


def page(path: str, pages: dict[str, str]) -> str:
    """Return a page as the site has it."""
    text = pages[path]
    if not path.endswith(".md"):
        return _as_page(path, text)
    here = posixpath.dirname(on_the_site(path, pages)) or "."
    front_matter = f"---\n{_FRONT_MATTER[path]}\n---\n\n" if path in _FRONT_MATTER else ""
    return front_matter + with_links(
        text, lambda link: posixpath.relpath(on_the_site(_joined(path, link), pages), here)
    )


def _joined(path: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _as_page(path: str, text: str) -> str:
    name = posixpath.basename(path)
    language = "docker" if name == "Dockerfile" else _LANGUAGES.get(Path(path).suffix, "text")
    return f"# {name}\n\n`{path}`\n\n````{language}\n{text.rstrip()}\n````\n"


def _version() -> str:
    command = ["git", "describe", "--tags", "--always"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    """Write the directory anew."""
    shutil.rmtree(TARGET, ignore_errors=True)
    shutil.copytree(REPOSITORY / "docs", TARGET)
    pages = collect(REPOSITORY)
    for path in pages:
        place = TARGET / on_the_site(path, pages)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(page(path, pages), encoding="utf-8")
    with (TARGET / "index.md").open("a", encoding="utf-8") as index:
        index.write(f"\nThis site describes version {_version()}.\n")


if __name__ == "__main__":
    main()
