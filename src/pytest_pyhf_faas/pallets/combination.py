"""How pallets of disjoint channels are combined.

``A+B`` correlates all systematics of one name, as pyhf does. A *combination file* gives the
wanted::

    pallets = ["A/", "B/"]
    correlate = ["JES*", "JER"]          # true (the default), false, or names
    rename = { B = { mu = "mu_SIG" } }   # modifiers of one pallet, first
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.toml_files import read_toml
from pytest_pyhf_faas.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: Separates the names of pallets that are combined.
PLUS = "+"
SUFFIX = ".toml"
_KEYS = ("name", "pallets", "correlate", "rename")
_NAME = re.compile(r"[\w.+-]+")
_ALL = ("*",)


@dataclass(frozen=True)
class Combination:
    """How pallets are combined.

    Attributes
    ----------
    pallets : tuple of str
        Each as for ``--faas-pallet``.
    name : str
        The name of the combination; by default those of its pallets.
    correlate : tuple of str
        Globs on the names of the modifiers that share their parameters; the others of each pallet
        begin with its name. The parameter of interest and the luminosity are always shared.
    rename : mapping
        New names of modifiers, by the name of a pallet and the old name.
    """

    pallets: tuple[str, ...]
    name: str = ""
    correlate: tuple[str, ...] = _ALL
    rename: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def new_name(self, pallet: str, kept: frozenset[str], name: str) -> str:
        """Return the name that a modifier of one pallet has in the combination.

        Parameters
        ----------
        pallet, name : str
            The names of both.
        kept : frozenset of str
            Names that are always shared.
        """
        new = self.rename.get(pallet, {}).get(name)
        if new is not None:
            return new
        shared = name in kept or any(fnmatchcase(name, glob) for glob in self.correlate)
        return name if shared else f"{pallet}_{name}"

    @property
    def words(self) -> str:
        """What is correlated, as people read it."""
        if self.correlate == _ALL:
            return "systematics of one name are correlated"
        if not self.correlate:
            return "no systematics are correlated"
        return f"correlated are {listed(self.correlate, 8)}"


def parts_of(spec: str, known: Callable[[str], bool]) -> list[str]:
    """Split a spec at its pluses; names may contain pluses themselves.

    Parameters
    ----------
    spec : str
        Such as ``A+B``.
    known : callable
        Whether a name exists.
    """
    words = spec.split(PLUS)
    parts = []
    while words:
        count = next((n for n in range(len(words), 0, -1) if known(PLUS.join(words[:n]))), 1)
        parts.append(PLUS.join(words[:count]))
        words = words[count:]
    return parts


def read_combination(path: Path) -> Combination:
    """Read a combination file; pallets next to it get their paths.

    Raises
    ------
    PalletError
        If it cannot be read, or has a value that makes no sense.
    """
    content = read_toml(path, PalletError)
    problem = _problem(content)
    if problem:
        raise PalletError(
            f"{path}: {problem}\n"
            f'a combination file has {", ".join(_KEYS)}, as in: pallets = ["A", "B"]'
        )
    correlate = content.get("correlate", True)
    places = (path.parent / each for each in content["pallets"])
    return Combination(
        tuple(
            str(place) if place.exists() else each
            for place, each in zip(places, content["pallets"], strict=True)
        ),
        content.get("name", path.stem),
        _ALL if correlate is True else tuple(correlate or ()),
        content.get("rename", {}),
    )


def _problem(content: Mapping[str, Any]) -> str | None:
    """Return the problem of a combination file, if any."""
    unknown = [key for key in content if key not in _KEYS]
    if unknown:
        return f"{listed(unknown)}: unknown in a combination"
    name = content.get("name", "")
    if not isinstance(name, str) or (name and not _NAME.fullmatch(name)):
        return f"name is {name!r}: write letters, digits, and any of _.+-"
    if not _are_texts(content.get("pallets")) or len(content["pallets"]) < 2:  # noqa: PLR2004
        return "pallets must be a list of two or more"
    correlate = content.get("correlate", True)
    if not isinstance(correlate, bool) and not _are_texts(correlate):
        return f"correlate is {correlate!r}: write true, false or a list of names"
    rename = content.get("rename", {})
    if not isinstance(rename, dict) or not all(
        isinstance(names, dict) and _are_texts(list(names.values())) for names in rename.values()
    ):
        return 'rename must be a table for each pallet, as in { B = { mu = "mu_SIG" } }'
    return None


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
