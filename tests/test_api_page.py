"""docs/reference/api.md: all that the package exports, with docstrings that say what is so."""

from __future__ import annotations

import inspect
import re
from importlib import import_module

import pytest

import pytest_pyhf_faas
from tests.helpers.paths import REPOSITORY

PAGE = (REPOSITORY / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^::: (\S+)\n(?:    options: \{ members: (\[.*?\]|false))?", PAGE, re.MULTILINE)


def found(path):
    """Return the module, class or function of a path."""
    try:
        return import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition(".")
        return getattr(import_module(module), name)


def functions():
    """Yield the functions and methods that the page shows."""
    for path, members in SHOWN:
        shown = found(path)
        if inspect.isfunction(shown):
            yield path, shown
        for name in re.findall(r"\w+", members) if members.startswith("[") else ():
            member = getattr(shown, name)
            if inspect.isroutine(member):
                yield f"{path}.{name}", member


def test_all_that_the_package_exports_is_there():
    names = {path.rpartition(".")[2] for path, _members in SHOWN}
    assert set(pytest_pyhf_faas.__all__) - names == {"__version__"}


def test_members_are_there():
    for path, members in SHOWN:
        for name in re.findall(r"\w+", members) if members.startswith("[") else ():
            assert hasattr(found(path), name), f"{path}.{name}"


@pytest.mark.parametrize(
    "function", [pytest.param(function, id=path) for path, function in functions()]
)
def test_each_parameter_has_an_entry_of_its_own(function):
    """The page gives two that share one the type and the default of the first."""
    text = inspect.getdoc(function)
    section = re.search(r"Parameters\n-+\n(.*?)(?:\n\n\w+\n-+\n|\Z)", text, re.DOTALL)
    parameters = [
        f"{'**' if parameter.kind == parameter.VAR_KEYWORD else ''}{name}"
        for name, parameter in inspect.signature(function).parameters.items()
        if name != "self"
    ]
    assert section is not None
    assert re.findall(r"^(\S[^:\n]*?)(?: :|$)", section[1], re.MULTILINE) == parameters
