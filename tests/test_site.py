"""The site: what it is built of, how it is checked, and that links work on GitHub, too."""

from __future__ import annotations

import re

import pytest

from scripts import check_site, site_source
from tests.helpers.paths import REPOSITORY

MARKDOWN = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")])
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
PLACE = re.compile(r"(?<=\]\()(?![a-z]+:)([^()\s#]*)#([^()\s]+)")


def places(path):
    """Return the anchors that GitHub gives to the headings of a page."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*?)\s*$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: page.stem)
def test_links_work_on_github(page):
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(REPOSITORY).as_posix()
    linked = site_source.linked(name, text)
    assert [path for path in linked if not (REPOSITORY / path).exists()] == []
    for link, place in PLACE.findall(FENCE.sub("", text)):
        target = page.parent / link if link else page
        if target.suffix == ".md":
            assert place in places(target), f"{link}#{place}"


# What the site is built of

PAGES = {
    "docs/b.md": "[a](how-to/a.md) [b](../CHANGELOG.md#b)\n```\n[c](../x.py)\n```\n",
    "docs/how-to/a.md": "[x](../../endpoints/x.py) [up](../b.md) [web](https://a.org) [i](i.png)",
    "docs/c.md": "[t](t.toml)",
    "docs/t.toml": "x = 1\n",
    "CHANGELOG.md": "",
    "CONTRIBUTING.md": "[a](docs/how-to/a.md) [here](#b) [d](docs)",
    "endpoints/x.py": "import y\n",
}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "docs/b.md",
            "[a](how-to/a.md) [b](changelog.md#b)\n```\n[c](../x.py)\n```\n",
        ),
        (
            "docs/how-to/a.md",
            "[x](../files/endpoints/x.py.md) [up](../b.md) [web](https://a.org) [i](i.png)",
        ),
        ("docs/c.md", "[t](files/docs/t.toml.md)"),
        ("CONTRIBUTING.md", "[a](how-to/a.md) [here](#b) [d](docs)"),
        ("endpoints/x.py", "# x.py\n\n`endpoints/x.py`\n\n````python\nimport y\n````\n"),
    ],
)
def test_links_go_to_where_the_site_has_the_pages(path, text):
    assert site_source.page(path, PAGES) == text


def test_what_readers_seldom_search_for_comes_last():
    assert site_source.page("docs/reference/api.md", {"docs/reference/api.md": "# A\n"}).startswith(
        "---\nsearch: {boost: 0.3}\n---\n\n# A"
    )


def test_files_that_pages_link_to_are_pages(tmp_path):
    for path, text in {**PAGES, "docs/how-to/i.png": ""}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert set(site_source.collect(tmp_path)) == PAGES.keys()


# How it is checked


@pytest.fixture
def built(tmp_path):
    def build(body, **others):
        for name, text in {"index": body, "other": '<h2 id="here">x</h2>', **others}.items():
            (tmp_path / f"{name}.html").write_text(text)
        return check_site.Site(tmp_path)

    return build


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="other.html#here">', None),
        ('<a href="other.html">', None),
        ('<a href="#">', None),
        ('<a href="https://a.org/b#c">', None),
        ('<a href="mailto:a@b.org">', None),
        ('<img src="data:image/png;base64,xyz">', None),
        ('<link rel="canonical" href="https://a.org">', None),
        ("<p>1. a</p><pre>\n- b\n</pre><p>c - d</p>\n- e", "neither list nor table: 1. a"),
        ("<p>as of\n- b</p>", "neither list nor table: - b"),
        ("<p>a\n| b | c |</p>", "neither list nor table: | b | c |"),
        ("<p><strong>1. a</strong> b</p>", None),
        ("<p>a - b\n<b>c</b>\n2 | 3</p>", None),
        ('<a href="none.html">', "there is no none.html"),
        ('<a href="other.html#there">', "there is no such place: other.html#there"),
        ('<a href="#there">', "there is no such place: #there"),
        ('<script src="https://cdn.org/x.js"></script>', "loads https://cdn.org/x.js"),
        ('<img src="//cdn.org/x.png">', "loads //cdn.org/x.png"),
        ('<img src="x.png">', "there is no x.png"),
        ('<a href="http://a.org">', "http://a.org: write https"),
        ('<a href="https://a">', "https://a: write https"),
        ('<a href="https://a.org/b c">', "https://a.org/b c: write https"),
    ],
)
def test_problems_of_a_page(built, body, problem):
    found = list(built(body).problems())
    if problem is None:
        assert found == []
    else:
        [said] = found
        assert said.startswith(f"index.html: {problem}")


def test_styles_load_nothing_from_elsewhere(built, tmp_path):
    (tmp_path / "a.css").write_text("a { b: url(x.svg) } c { d: url('https://f.org/x') }")
    assert list(built("").problems()) == ["a.css: loads https://f.org/x"]


def test_other_sites_are_listed(built, tmp_path, capsys):
    built('<a href="https://b.org"><a href="other.html">', third='<a href="https://a.org">')
    assert check_site.main(tmp_path) == 0
    listed = (tmp_path / "external_links.txt").read_text()
    assert listed == "https://a.org  third.html\nhttps://b.org  index.html\n"
    assert "2 links to 2 other sites" in capsys.readouterr().out
