"""Messages, docstrings and pages are in plain, modern English."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Words that stop a reader, with plain ones.
PLAIN = {
    "anew": "again",
    "beside": "next to, as well as",
    "for ever": "forever",
    "(hold|holds|held) against": "compare with",
    "(is|are|was|were) told": "is reported, is shown",
    "in the place of": "instead of",
    "of theirs": "their",
    "takes? note (of|that)": "record, register",
    "told apart": "distinguished",
    "whichever": "which, any",
    "who is right": "which is right",
}
_STIFF = re.compile(rf"\b(?:{'|'.join(PLAIN)})\b", re.IGNORECASE)


def stiff(text: str) -> list[str]:
    """Return the lines of a text that have such words, also where these span two lines."""
    words = [found.group() for found in _STIFF.finditer(re.sub(r"\s+", " ", text))]
    return [line.strip() for line in text.splitlines() if _STIFF.search(line)] or words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Make it anew.", ["Make it anew."]),
        ("It waits for\never.", ["for ever"]),
        ("Their anewness is bold, whoever told us.", []),
    ],
)
def test_words_that_are_found(text, found):
    assert stiff(text) == found


def test_texts_are_in_plain_words():
    files = [
        ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
    ]
    files += [path for ext in ("py", "j2", "json") for path in (ROOT / "src").rglob(f"*.{ext}")]
    files += (ROOT / "docs").rglob("*.md")
    found = {
        str(path.relative_to(ROOT)): lines
        for path in files
        if (lines := stiff(path.read_text(encoding="utf-8")))
    }
    assert not found, f"write plain words, such as {PLAIN}"
