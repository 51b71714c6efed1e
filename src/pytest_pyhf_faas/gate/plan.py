"""The plan of a gate: factors and their values become environments, and runs in them."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pytest_pyhf_faas.errors import ConfigurationError
from pytest_pyhf_faas.gate.versions import Value, parse
from pytest_pyhf_faas.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Design = Literal["product", "one-at-a-time"]
PRODUCT: Design = "product"
ONE_AT_A_TIME: Design = "one-at-a-time"
#: Factors of the fits, with their options; the environment is the same.
FIT_SETUP = {"backend": "--faas-backend", "optimizer": "--faas-optimizer"}
#: What an environment must have for a value of them.
_BROUGHT_BY = {"minuit": ("iminuit",), "jax": ("jax", "jaxlib")}
PYTHON = "python"
#: Their order in a name; others come before the fit setup.
_ORDER = ("pyhf", "scipy", "numpy", PYTHON)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an environment must have.

    Attributes
    ----------
    python : str or None
        A version or a path of an interpreter; ``None``: the one of this process.
    versions : tuple of (str, Value)
        Distributions and their versions, sorted by name.
    besides : tuple of str
        Distributions that the fits need, in any version.
    """

    python: str | None
    versions: tuple[tuple[str, Value], ...]
    besides: tuple[str, ...] = ()

    @property
    def requirements(self) -> list[str]:
        """What is asked from an installer, without sources."""
        asked = [value.requirement(name) for name, value in self.versions if value.source is None]
        return [*asked, *(name for name in self.besides if name not in dict(self.versions))]

    @property
    def sources(self) -> dict[str, str]:
        """What is installed from a source, by the name of the distribution."""
        return {name: value.source for name, value in self.versions if value.source is not None}


@dataclass(frozen=True, slots=True)
class Combination:
    """One value of each factor: an environment, and a fit setup in it."""

    factors: Mapping[str, str]
    wanted: Wanted

    @property
    def name(self) -> str:
        """A name such as "pyhf 0.7.6, scipy 1.14, minuit"."""
        return ", ".join(
            value if name in FIT_SETUP else f"{'Python' if name == PYTHON else name} {value}"
            for name, value in self.factors.items()
        )

    @property
    def directory(self) -> str:
        """A name for files."""
        return re.sub(r"[^\w.+]+", "-", self.name).strip("-.")

    @property
    def words(self) -> list[str]:
        """What the suite is asked for."""
        return [
            f"{FIT_SETUP[name]}={self.factors[name]}" for name in FIT_SETUP & self.factors.keys()
        ]


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a gate.

    Attributes
    ----------
    factors : mapping
        The values of each factor, each as `versions.parse` reads it.
    design : str
        ``product`` combines all; ``one-at-a-time`` varies one factor at a time, from the first
        values of the others.
    exclude : tuple of mappings
        Combinations to leave out: a glob for each of some factors.
    words : tuple of str
        Options of the suite other than the fit setup, as on its command line.
    """

    factors: Mapping[str, tuple[str, ...]]
    design: Design = PRODUCT
    exclude: tuple[Mapping[str, str], ...] = ()
    words: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "factors": {name: list(values) for name, values in self.factors.items()},
            "design": self.design,
            "exclude": [dict(each) for each in self.exclude],
            "words": list(self.words),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Plan:
        """Return a plan that was kept."""
        factors = {name: tuple(values) for name, values in stored["factors"].items()}
        return cls(factors, stored["design"], tuple(stored["exclude"]), tuple(stored["words"]))

    def combinations(self, here: Path = Path()) -> list[Combination]:
        """Return what is run, the base first.

        Parameters
        ----------
        here : Path
            Where relative paths of sources start.

        Raises
        ------
        ConfigurationError
            If a value makes no sense, two are called the same, or nothing is left.
        """
        names = sorted(self.factors, key=_place)
        values = {
            name: _labelled(name, self.factors[name], here) for name in names if self.factors[name]
        }
        brought = {
            name for value in values.get("optimizer", {}) for name in _BROUGHT_BY.get(value, ())
        } | {name for value in values.get("backend", {}) for name in _BROUGHT_BY.get(value, ())}
        found = [
            _combination(dict(zip(values, labels, strict=True)), values, tuple(sorted(brought)))
            for labels in _designed([list(each) for each in values.values()], self.design)
        ]
        kept = [each for each in found if not any(_is_like(each, other) for other in self.exclude)]
        if not kept:
            raise ConfigurationError(
                f"none of {len(found)} combinations is left: exclude removes all of them"
            )
        return kept


def _place(name: str) -> tuple[int, str]:
    if name in FIT_SETUP:
        return len(_ORDER) + 1, name
    return (_ORDER.index(name), "") if name in _ORDER else (len(_ORDER), name)


def _labelled(name: str, texts: Iterable[str], here: Path) -> dict[str, Value]:
    """Return the values of a factor by their labels."""
    found: dict[str, Value] = {}
    for text in dict.fromkeys(texts):
        value = Value(text) if name in FIT_SETUP else parse(name, text, here)
        if value.label in found:
            raise ConfigurationError(
                f"two values of {name} are called {value.label}: write LABEL={text} for one of them"
            )
        found[value.label] = value
    return found


def _designed(values: list[list[str]], design: Design) -> list[tuple[str, ...]]:
    if design == PRODUCT:
        return list(itertools.product(*values))
    base = tuple(each[0] for each in values)
    return [
        base,
        *(
            (*base[:place], value, *base[place + 1 :])
            for place, each in enumerate(values)
            for value in each[1:]
        ),
    ]


def _combination(
    factors: dict[str, str], values: Mapping[str, Mapping[str, Value]], besides: tuple[str, ...]
) -> Combination:
    python = values[PYTHON][factors[PYTHON]] if PYTHON in factors else None
    versions = tuple(
        (name, values[name][label])
        for name, label in sorted(factors.items())
        if name not in FIT_SETUP and name != PYTHON
    )
    interpreter = None if python is None else python.source or python.label
    return Combination(factors, Wanted(interpreter, versions, besides))


def _is_like(combination: Combination, other: Mapping[str, str]) -> bool:
    factors = combination.factors
    unknown = [name for name in other if name not in factors]
    if unknown:
        raise ConfigurationError(
            f"exclude names {listed(unknown)}, and the factors are {listed(list(factors), 9)}"
        )
    return all(fnmatchcase(factors[name], str(glob)) for name, glob in other.items())
