"""Find words of a command line that pytest would silently misread."""

from __future__ import annotations

import contextlib
import itertools
import re
from typing import TYPE_CHECKING

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.plugin.options import OPTIONS
from pytest_pyhf_faas.wording import listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest

SUITE = "pytest_pyhf_faas.suite"
#: A value that begins with a minus and is not a number to argparse.
_LIKE_AN_OPTION = re.compile(r"-[\d.](?!\d*$|\d*\.\d+$)")


def check_words(words: Sequence[str]) -> None:
    """Refuse a value that argparse would take for an option without a clear error.

    Raises
    ------
    ConfigurationError
        If there is one.
    """
    flags = {flag for option in OPTIONS if not option.switch for flag in option.flags}
    for flag, value in itertools.pairwise(words):
        if flag in flags and _LIKE_AN_OPTION.match(value):
            raise ConfigurationError(
                f"{flag} and {value} are two words, and the second looks like an option: write "
                f"{flag}={value}"
            )


def check_paths(config: pytest.Config) -> None:
    """Refuse a path outside this directory that is separated from its option.

    Before pytest knows the options of plugins it takes such a path for a test path, and looks
    there for its rootdir and its ini file.

    Raises
    ------
    ConfigurationError
        If there is one.
    """
    flags = {flag for option in OPTIONS if option.place for flag in option.flags}
    here = config.invocation_params.dir
    words = [str(word) for word in config.invocation_params.args]
    for flag, value in itertools.pairwise(words):
        if flag not in flags:
            continue
        with contextlib.suppress(OSError):  # JSON is not a path
            path = (here / value).resolve()
            if path.exists() and not path.is_relative_to(here.resolve()):
                raise ConfigurationError(
                    f"{flag} and the path {value} are two words, so that pytest looks there for "
                    f"its configuration: write {flag}={value}"
                )


def check_positionals(config: pytest.Config) -> None:
    """Refuse a pallet without its option where the suite runs.

    pytest takes it for a test path, finds no tests there, and the suite would be green for the
    bundled pallet.

    Raises
    ------
    ConfigurationError
        If there is one, or another place without tests.
    """
    words = [str(word) for word in config.getoption("file_or_dir", None) or ()]
    if not any(word.startswith(SUITE) for word in words):
        return
    for word in words:
        if not word.startswith(SUITE) and _holds_no_tests(word, config):
            raise ConfigurationError(
                f"there are no tests in {word}: if it is a pallet, write --faas-pallet={word}"
            )


def _holds_no_tests(word: str, config: pytest.Config) -> bool:
    path = config.invocation_params.dir / word
    if path.is_dir():
        patterns = config.getini("python_files")
        return not any(next(path.rglob(pattern), None) for pattern in patterns)
    if path.is_file():
        return path.suffix != ".py"
    from pytest_pyhf_faas.pallets import catalogue

    return word in catalogue.available(catalogue.search_path_from_environment())


def unused_lines(config: pytest.Config) -> list[str]:
    """Say where the suite is, if options are on the command line and no test uses them."""
    given = [o.flags[0] for o in OPTIONS if config.getoption(o.dest, None) not in (None, False, [])]
    if not given:
        return []
    return [
        f"no test here uses {listed(given, 3)}: the validation suite is run by",
        "  pyhf-faas validate [options], or pytest --pyargs pytest_pyhf_faas.suite [options]",
    ]
