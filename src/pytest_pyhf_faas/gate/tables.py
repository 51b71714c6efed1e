"""Read a gate from a TOML file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.gate.plan import FIT_SETUP, ONE_AT_A_TIME, PRODUCT, PYTHON, Design
from pytest_pyhf_faas.gate.selection import Selection
from pytest_pyhf_faas.toml_files import read_toml
from pytest_pyhf_faas.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

#: Factors that have a key, and an option, of their own.
FACTORS = ("pyhf", "scipy", "numpy", PYTHON, *sorted(FIT_SETUP))
DESIGNS: tuple[Design, ...] = (PRODUCT, ONE_AT_A_TIME)
_KEYS = (*FACTORS, "versions", "design", "exclude", "pallets", "suite")
_OF_A_PALLET = ("name", "patches", "count", "optional")


@dataclass(frozen=True, slots=True)
class Written:
    """The content of a file.

    Attributes
    ----------
    factors : mapping
        The values of each factor.
    design : str or None
        How they are combined, if it says so.
    exclude : tuple of mappings
        What is left out.
    selections : tuple of Selection
        Pallets, and their patches.
    suite : mapping
        Options of the suite, by their names.
    """

    factors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    design: Design | None = None
    exclude: tuple[Mapping[str, str], ...] = ()
    selections: tuple[Selection, ...] = ()
    suite: Mapping[str, Any] = field(default_factory=dict)


def read(path: Path) -> Written:
    """Read a file.

    Raises
    ------
    ConfigurationError
        If it cannot be read, or has a value that makes no sense.
    """
    entries = read_toml(path, ConfigurationError)
    try:
        return _written(entries)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def split(text: str) -> tuple[str, ...]:
    """Return the values of a text with commas."""
    return tuple(value for each in text.split(",") if (value := each.strip()))


def _written(entries: Mapping[str, Any]) -> Written:
    _known(entries, _KEYS)
    factors = {name: _values(name, entries[name]) for name in FACTORS if name in entries}
    versions = _of(
        dict, "versions", entries.get("versions", {}), 'a table: [versions] numba = "0.60"'
    )
    factors |= {name: _values(name, values) for name, values in versions.items()}
    design = entries.get("design")
    if design not in (None, *DESIGNS):
        raise ConfigurationError(f"design {design!r} is not one of {listed(DESIGNS)}")
    exclude = _of(list, "exclude", entries.get("exclude", []), 'a list: [{ pyhf = "0.7.0" }]')
    for each in exclude:
        _of(dict, "exclude", each, 'a list of tables: [{ pyhf = "0.7.0", numpy = "2*" }]')
    pallets = _of(list, "pallets", entries.get("pallets", []), 'a list: ["1Lbb"] or [[pallets]]')
    return Written(
        factors,
        design,
        tuple({name: str(glob) for name, glob in each.items()} for each in exclude),
        tuple(map(_selection, pallets)),
        _of(dict, "suite", entries.get("suite", {}), "a table: [suite] trials = 3"),
    )


def _selection(entries: Any) -> Selection:
    if isinstance(entries, str):
        return Selection((entries,))
    _of(dict, "pallets", entries, 'names or tables: { name = "1Lbb", count = 25 }')
    _known(entries, _OF_A_PALLET, "a pallet")
    if "name" not in entries:
        raise ConfigurationError("a pallet has no name")
    count = entries.get("count")
    if count is not None:
        _of(int, "count", count, "a number")
    patches = entries.get("patches", [])
    patches = [patches] if isinstance(patches, str) else patches  # values have commas
    optional = entries.get("optional", False)
    if not isinstance(optional, bool):
        raise ConfigurationError(f"optional is {optional!r}: write true or false")
    return Selection((str(entries["name"]),), _values("patches", patches), count, optional)


def _values(name: str, entries: Any) -> tuple[str, ...]:
    """Return the values of a factor; a text may have several."""
    if isinstance(entries, str):
        return split(entries)
    values = _of(list, name, entries, 'a text or a list of texts: ["1.9", "1.10"]')
    for value in values:  # the number 1.10 is 1.1
        _of(str, name, value, f'texts: "{value}"')
    return tuple(values)


def _known(entries: Mapping[str, Any], keys: Iterable[str], where: str = "a gate") -> None:
    unknown = [key for key in entries if key not in keys]
    if unknown:
        raise ConfigurationError(
            f"{listed(unknown)}: unknown in {where}, which has {', '.join(keys)}; other "
            "distributions belong in [versions], and options of the suite in [suite]"
        )


def _of(kind: type, name: str, value: Any, form: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigurationError(f"{name} is {value!r}: write {form}")
    return value
