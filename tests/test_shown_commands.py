"""The commands that the documents show work outside of a checkout, too."""

import re

import pytest

from tests.helpers.paths import REPOSITORY

PAGES = sorted(
    [
        REPOSITORY / "README.md",
        *REPOSITORY.glob("docs/**/*.md"),
        *REPOSITORY.glob("endpoints/**/*.py"),
    ]
)
#: A bare pytest with options of ours finds no tests there; what is printed for a rerun is output.
BARE = re.compile(r"^(?!\s*rerun:).*\bpytest\s+--(?:faas|funcx)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_suite_is_started_in_the_form_that_works_everywhere(page):
    assert BARE.findall(page.read_text(encoding="utf-8")) == []


def test_readme_and_site_begin_with_the_same_commands():
    readme, site = (
        re.findall(r"^tox -e \w+", (REPOSITORY / page).read_text(encoding="utf-8"), re.MULTILINE)
        for page in ("README.md", "docs/index.md")
    )
    assert readme == site == ["tox -e validate", "tox -e tests"]


def test_a_bare_pytest_would_be_found():
    assert BARE.search("$ pytest --faas-pallet 1Lbb")
    assert BARE.search("with `pytest\n  --funcx-endpoint ID`")
    assert not BARE.search("  rerun:  pytest --faas-pallet=1Lbb")
