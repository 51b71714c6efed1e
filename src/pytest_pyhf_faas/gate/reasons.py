"""Why something cannot be installed, in a line, from what uv and pip write."""

from __future__ import annotations

import re

from pytest_pyhf_faas.wording import brief, one_line

_NO_DISK = re.compile(r"No space left on device|Disk quota exceeded", re.IGNORECASE)
_NO_INDEX = re.compile(
    r"error sending request|Failed to fetch|dns error|Temporary failure in name resolution|"
    r"NewConnectionError|Max retries exceeded|ConnectTimeout|network was disabled",
)
#: The error of a build in Python comes before the installer's own message.
_EXCEPTION = re.compile(r"^\s*([A-Za-z_][\w.]*(?:Error|Exception)\b.*)$", re.MULTILINE)
_HINT = re.compile(r"^hint:", re.MULTILINE)
#: Lines of pip without information.
_NOISE = re.compile(r"^(\[|note:|WARNING|error: subprocess|╰|│|×|\^+$)")
_SEVERITY = re.compile(r"^((error|ERROR|cause|Caused by): *)+")


def reason(output: str, python: str) -> str:
    """Return why an installation failed.

    Parameters
    ----------
    output : str
        What uv or pip has written.
    python : str
        The version of Python that it was for.
    """
    if _NO_DISK.search(output):
        return "there is no space left on the disk"
    text = one_line(output)
    for pattern, words in _SAYINGS:
        if found := pattern.search(text):
            return words.format(python=python, **_readable(found.groupdict()))
    if _NO_INDEX.search(output):
        return f"the package index cannot be reached: {_last_word(output)}"
    return _last_word(output) or "the installer failed and said nothing"


#: Their messages, and ours.
_SAYINGS = (
    # uv
    (re.compile(r"there is no version of (?P<what>\S+?)(?= and |,)"), "there is no {what}"),
    (
        re.compile(r"(?P<what>[\w.-]+) was not found in the (package registry|cache)"),
        "the package index has no {what}",
    ),
    (
        re.compile(
            r"has no usable wheels .*?we can conclude that (?P<what>\S+) cannot be used|"
            r"(?P<one>[\w.-]+==\S+) has no (usable )?wheels"
        ),
        "{what} has no wheel for Python {python}",
    ),
    (
        re.compile(
            r"Python version \(\S+\) does not satisfy (?P<needs>Python\S+) and "
            r"(all versions of )?(?P<what>\S+?) depends"
        ),
        "{what} needs {needs}",
    ),
    (
        re.compile(
            r"Because (all versions of )?(?P<what>\S+) depends on (?P<needs>\S+?),? "
            r".*you require (?P<asked>[^,]+(,[<>=!~][^,]+)*), we can conclude that your req"
        ),
        "{what} needs {needs}, asked for: {asked}",
    ),
    (re.compile(r"No interpreter found for (?P<what>.+?) in "), "there is no {what} here"),
    # pip
    (
        re.compile(r"the requirement (?P<what>\S+) \(from versions: none\)"),
        "the package index has no {what}, or cannot be reached",
    ),
    (
        re.compile(r"Could not find a version that satisfies the requirement (?P<what>\S+)"),
        "there is no {what} with a wheel for Python {python}",
    ),
    (
        re.compile(
            r"The conflict is caused by: The user requested (?P<asked>\S+) "
            r"(?P<what>[\w.-]+ [\d.]\S*) depends on (?P<needs>.*?) "
            r"(The user requested|To fix|[\w.-]+ [\d.]\S* depends on)"
        ),
        "{what} needs {needs}, asked for: {asked}",
    ),
    (
        re.compile(r"No matching distribution found for (?P<what>\S+)"),
        "the package index has no {what}, or cannot be reached",
    ),
)


def _readable(found: dict[str, str]) -> dict[str, str]:
    groups = {name: text for name, text in found.items() if text}
    if "one" in groups:
        groups["what"] = groups.pop("one")
    return {name: _said(text) for name, text in groups.items()}


def _said(requirement: str) -> str:
    """Return ``scipy==1.9.*`` as "scipy 1.9"."""
    return re.sub(r"==([^\s,]+?)(\.\*)?(?=$|\s|,)", r" \1", requirement)


def _last_word(output: str) -> str:
    """Return the error of a build, or the last informative line: the innermost cause."""
    message = _HINT.split(output)[0]
    exceptions = _EXCEPTION.findall(message)
    lines = [line.strip() for line in message.splitlines()]
    said = [line for line in lines if line and not _NOISE.match(line)]
    return brief(_SEVERITY.sub("", (exceptions or said or [""])[-1]))
