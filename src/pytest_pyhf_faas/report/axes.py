"""Axes of plots: the labels of the hypotheses' values, with units, and combinations of two.

An axis is a label of the pallet, the difference of two, or their ratio: ``m1``, ``m1-m2``,
``m1/m2``.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Units that may follow a label and an underscore; pyhf's schema allows no brackets. Those that
#: may also be an index, such as the s of ``m_s``, do not count.
_UNITS = ("eV", "keV", "MeV", "GeV", "TeV", "fb", "pb", "ps", "ns", "mm", "cm")
_WITH_UNIT = re.compile(rf"(?P<name>.*[^_])_+(?P<unit>{'|'.join(_UNITS)})")
#: Beyond this, floats cannot resolve differences.
_LARGEST = 1e100


@dataclass(frozen=True, slots=True)
class Axis:
    """A label of a pallet, or a combination of two.

    Attributes
    ----------
    name : str
        Without the unit.
    unit : str
        As the labels have it; empty where they have none.
    """

    name: str
    unit: str
    _first: int
    _second: int | None = None
    _operator: str = ""

    @classmethod
    def find(cls, text: str, labels: Sequence[str]) -> Axis | None:
        """Return the axis that a text names, given the labels of a pallet.

        Parameters
        ----------
        text : str
            A label, with or without its unit; or two with ``-`` or ``/`` between them. A label
            that has such a letter itself takes precedence over a combination of two others.
        labels : sequence of str
            Those of the pallet.

        Returns
        -------
        Axis or None
            ``None`` if it names no axis.
        """
        place = _place(text, labels)
        if place is not None:
            return cls(*with_unit(labels[place]), place)
        return next(cls._of_two(text, labels), None)

    @classmethod
    def _of_two(cls, text: str, labels: Sequence[str]) -> Iterator[Axis]:
        for at, operator in enumerate(text):
            if operator not in "-/":
                continue
            first, second = _place(text[:at], labels), _place(text[at + 1 :], labels)
            if first is None or second is None:
                continue
            (name, unit), (other_name, other_unit) = (
                with_unit(labels[place]) for place in (first, second)
            )
            if operator == "-":
                name, unit = f"{name} − {other_name}", unit if unit == other_unit else ""
            else:
                name = f"{name} / {other_name}"
                unit = f"{unit}/{other_unit}" if unit and other_unit not in ("", unit) else ""
            yield cls(name, unit, first, second, operator)

    @property
    def title(self) -> str:
        """The name with its unit, if it has one."""
        return f"{self.name} [{self.unit}]" if self.unit else self.name

    def value(self, values: Sequence[float | str]) -> float | None:
        """Return the position of a hypothesis; ``None`` if it is not a number."""
        first = _number(values, self._first)
        if self._second is None or first is None:
            return first
        second = _number(values, self._second)
        if second is None or (self._operator == "/" and second == 0):
            return None
        return first - second if self._operator == "-" else first / second


def with_unit(label: str) -> tuple[str, str]:
    """Return a label without its unit, and the unit: that of ``m1_GeV`` is GeV."""
    found = _WITH_UNIT.fullmatch(label.strip())
    return (found["name"], found["unit"]) if found else (label, "")


def _place(text: str, labels: Sequence[str]) -> int | None:
    """Return the label that a text names, with or without its unit."""
    for names in (labels, [with_unit(label)[0] for label in labels]):
        for name in (text, text.strip()):
            if name in names:
                return names.index(name)
    return None


def _number(values: Sequence[float | str], place: int) -> float | None:
    value = values[place] if place < len(values) else None
    if not isinstance(value, (int, float)) or not abs(value) < _LARGEST:
        return None
    return float(value) if math.isfinite(value) else None
