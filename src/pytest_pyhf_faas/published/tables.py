"""Read tables of published upper limits, and of theory cross sections.

All cross sections are in pb. Four forms of a table of limits are read:

- CSV with a header: the labels of the values of a hypothesis, then ``observed_pb`` (or
  ``observed_fb``) and perhaps ``expected_pb`` and ``cross_section_pb``;
- JSON with ``rows``, each with ``masses_GeV``, ``observed_UL_pb`` and perhaps ``expected_UL_pb``;
- a table of HEPData, as YAML (``independent_variables``, ``dependent_variables``) or as JSON
  (``headers``, ``values``).

A cross section is a CSV of a mass and ``cross_section_pb``, or JSON with
``cross_section_by_mass_GeV``.

Files lose the zeros at the end of a number: 0.0050 becomes 0.005. So the rounding of a limit
is read from its whole column.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from pytest_pyhf_faas.errors import PublishedTableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_PB = {"pb": 1.0, "fb": 1e-3}
#: The logarithm of a power of 10 may fall short of it by rounding.
_LOG_ROUNDING = 1e-9
#: Prefixes of the names of the columns of a CSV.
_LIMITS = ("observed_", "expected_")
_CROSS_SECTION = "cross_section_"


@dataclass(frozen=True, slots=True)
class Figure:
    """A number as it was printed.

    Attributes
    ----------
    value : float
        The number.
    half_unit : float
        Half a unit of its last digit: how far rounding may have moved it.
    """

    value: float
    half_unit: float

    @classmethod
    def read(cls, text: str) -> Figure:
        """Read a number with its digits.

        Raises
        ------
        ValueError
            If it is not a finite number.
        """
        try:
            number = Decimal(text.strip())
        except InvalidOperation:
            raise ValueError(f"{text!r} is not a number") from None
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int):
            raise ValueError(f"{text!r} is not finite")  # noqa: TRY004 - of the number
        return cls(float(number), 0.5 * 10.0**exponent)

    def times(self, factor: float) -> Figure:
        """Return it in another unit."""
        return Figure(self.value * factor, self.half_unit * factor)

    @property
    def exponent(self) -> int:
        """The power of 10 of its last digit."""
        return round(math.log10(2 * self.half_unit))

    @property
    def digits(self) -> int:
        """How many significant digits it has."""
        return math.floor(math.log10(self.value) + _LOG_ROUNDING) + 1 - self.exponent


@dataclass(frozen=True, slots=True)
class PublishedLimit:
    """The published upper limits on the cross section of one hypothesis, in pb.

    Attributes
    ----------
    values : tuple of float
        What distinguishes the hypothesis, such as masses; those of the patch.
    observed, expected : Figure or None
        The limits at 95 % confidence level.
    cross_section : float or None
        The theory cross section, where the table has it.
    """

    values: tuple[float, ...]
    observed: Figure | None
    expected: Figure | None = None
    cross_section: float | None = None


def read_table(path: Path) -> list[PublishedLimit] | dict[float, float]:
    """Read a table of upper limits, or of cross sections by mass.

    Raises
    ------
    PublishedTableError
        If the file is neither, or a number makes no sense; the message says where.
    """
    data = _parsed(path)
    if isinstance(data, list):
        columns = [str(name) for name in data[0]] if data else []
        has_limits = any(name.startswith(_LIMITS) for name in columns)
        has_cross_sections = any(name.startswith(_CROSS_SECTION) for name in columns)
        if has_cross_sections and not has_limits:
            return _cross_sections(path, data)
        return _limits(path, data)
    if isinstance(data, dict) and "cross_section_by_mass_GeV" in data:
        return _cross_sections(path, data)
    return _limits(path, data)


def read_limits(path: Path) -> list[PublishedLimit]:
    """Read published upper limits; the content shows the form.

    Raises
    ------
    PublishedTableError
        If the file is none of the forms, or a number makes no sense; the message says where.
    """
    return _limits(path, _parsed(path))


def _limits(path: Path, data: Any) -> list[PublishedLimit]:
    try:
        if isinstance(data, list):
            return _rounded_alike([_limit_of_row(row) for row in data])
        if "rows" in data:
            return _rounded_alike([_limit_of_entry(entry) for entry in data["rows"]])
        if "independent_variables" in data:
            return _rounded_alike(list(_limits_of_yaml(data)))
        if "headers" in data:
            return _rounded_alike(list(_limits_of_json(data)))
    except ValueError as error:
        raise PublishedTableError(f"{path}: {error}") from error
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise PublishedTableError(f"{path} is not a table of upper limits: {error!r}") from error
    raise PublishedTableError(
        f"{path} is not a table of upper limits: it has neither rows, nor what a table of HEPData "
        "has (independent_variables, or headers)"
    )


def read_cross_sections(path: Path) -> dict[float, float]:
    """Read theory cross sections in pb, by mass.

    Raises
    ------
    PublishedTableError
        If the file is none of the forms, or a number makes no sense.
    """
    return _cross_sections(path, _parsed(path))


def _cross_sections(path: Path, data: Any) -> dict[float, float]:
    try:
        if isinstance(data, list):
            (mass,) = (name for name in data[0] if not name.startswith(_CROSS_SECTION))
            return {_finite(row[mass]): _cross_section(row) for row in data}
        return {
            _finite(mass): _positive(str(value)).value
            for mass, value in data["cross_section_by_mass_GeV"].items()
        }
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise PublishedTableError(
            f"{path} is not a table of cross sections by mass: {error!r}"
        ) from error


def cross_section_at(cross_sections: Mapping[float, float], mass: float) -> float | None:
    """Return the cross section at a mass; between two of the table it is a power of the mass.

    ``None`` outside of the table.
    """
    masses = sorted(cross_sections)
    if not masses or not masses[0] <= mass <= masses[-1]:
        return None
    above = next(place for place, at in enumerate(masses) if at >= mass)
    high = masses[above]
    if high == mass:
        return cross_sections[high]
    low = masses[above - 1]
    share = math.log(mass / low) / math.log(high / low)
    logs = math.log(cross_sections[low]), math.log(cross_sections[high])
    return math.exp((1 - share) * logs[0] + share * logs[1])


# --- the forms ----------------------------------------------------------------------------------


def _parsed(path: Path) -> Any:
    """Return the rows of a CSV, or what JSON or YAML has; each number as its text."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PublishedTableError(f"{path} cannot be read: {error}") from error
    try:
        if path.suffix == ".csv":
            return list(csv.DictReader(_lines(text)))
        if path.suffix in (".yaml", ".yml"):
            import yaml

            return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - it makes texts alone
        return json.loads(text, parse_float=str, parse_int=str)
    except Exception as error:  # each of the three has its own
        raise PublishedTableError(f"{path} cannot be read: {error}") from error


def _lines(text: str) -> Iterable[str]:
    """Return the lines of a CSV without comments; HEPData writes many."""
    return [line for line in io.StringIO(text) if line.strip() and not line.startswith("#")]


def _limit_of_row(row: Mapping[str, str]) -> PublishedLimit:
    limits = {name: _in_pb(row, name) for name in ("observed", "expected")}
    if all(limit is None for limit in limits.values()) and not any(
        name.startswith("observed_") for name in row
    ):
        raise ValueError("it has no column observed_pb or observed_fb")
    values = [
        _finite(text)
        for name, text in row.items()
        if not name.startswith((*_LIMITS, _CROSS_SECTION))
    ]
    theory = _in_pb(row, "cross_section")
    return PublishedLimit(tuple(values), **limits, cross_section=theory.value if theory else None)


def _cross_section(row: Mapping[str, str]) -> float:
    figure = _in_pb(row, "cross_section")
    if figure is None:
        raise ValueError("a row has no cross section")
    return figure.value


def _limit_of_entry(entry: Mapping[str, Any]) -> PublishedLimit:
    return PublishedLimit(
        tuple(_finite(mass) for mass in entry["masses_GeV"]),
        _figure(entry.get("observed_UL_pb")),
        _figure(entry.get("expected_UL_pb")),
    )


def _limits_of_yaml(table: Mapping[str, Any]) -> Iterable[PublishedLimit]:
    headers = [variable["header"] for variable in table["dependent_variables"]]
    columns = [
        [cell.get("value") for cell in variable["values"]]
        for variable in table["dependent_variables"]
    ]
    places = _columns_of(headers)
    values = zip(
        *(
            [_finite(cell["value"]) for cell in variable["values"]]
            for variable in table["independent_variables"]
        ),
        strict=True,
    )
    for row, at in enumerate(values):
        yield _limit_at(at, [column[row] for column in columns], places)


def _limits_of_json(table: Mapping[str, Any]) -> Iterable[PublishedLimit]:
    rows = table["values"]
    independent = len(rows[0]["x"])
    places = _columns_of(table["headers"][independent:])
    for row in rows:
        at = tuple(_finite(cell["value"]) for cell in row["x"])
        yield _limit_at(at, [cell.get("value") for cell in row["y"]], places)


def _columns_of(headers: Sequence[Mapping[str, str]]) -> dict[str, tuple[int, float]]:
    """Return the columns of observed and of expected limits, with their units in pb."""
    found: dict[str, tuple[int, float]] = {}
    names = [header.get("name", "") for header in headers]
    for place, header in enumerate(headers):
        name = names[place].lower()
        kind = "expected" if "expected" in name else "observed"
        if kind not in found and ("observed" in name or kind == "expected" or len(headers) == 1):
            found[kind] = place, _unit(header)
    if not found:
        raise ValueError(f"no column of it is called observed or expected: {', '.join(names)}")
    return found


def _unit(header: Mapping[str, str]) -> float:
    words = f"{header.get('units', '')} {header.get('name', '')}".lower()
    unit = re.search(r"\b(pb|fb)\b", words)
    if unit is None:
        raise ValueError(
            f"the unit of {header.get('name', 'a column')!r} is neither pb nor fb: limits on a "
            "cross section are needed"
        )
    return _PB[unit[1]]


def _limit_at(
    at: Sequence[float], cells: Sequence[Any], places: Mapping[str, tuple[int, float]]
) -> PublishedLimit:
    limits = {}
    for kind in ("observed", "expected"):
        place, factor = places.get(kind, (None, 1.0))
        figure = None if place is None else _figure(cells[place])
        limits[kind] = None if figure is None else figure.times(factor)
    return PublishedLimit(tuple(at), limits["observed"], limits["expected"])


def _rounded_alike(limits: list[PublishedLimit]) -> list[PublishedLimit]:
    """Return limits with the rounding of their columns."""
    observed = _column([limit.observed for limit in limits])
    expected = _column([limit.expected for limit in limits])
    return [
        replace(limit, observed=one, expected=other)
        for limit, one, other in zip(limits, observed, expected, strict=True)
    ]


def _column(figures: list[Figure | None]) -> list[Figure | None]:
    """Return the figures of a column, each with the digits that it was rounded to.

    A column has a fixed number of decimals, or of significant digits. A figure that does not end in
    zeros shows both, so that the largest number of each holds for all; the coarser is the rounding.
    """
    known = [figure for figure in figures if figure is not None]
    last = min((figure.exponent for figure in known), default=0)
    digits = max((figure.digits for figure in known), default=0)
    return [
        figure
        and Figure(figure.value, 0.5 * 10.0 ** max(last, figure.exponent + figure.digits - digits))
        for figure in figures
    ]


# --- numbers ------------------------------------------------------------------------------------


def _in_pb(row: Mapping[str, str], name: str) -> Figure | None:
    for unit, factor in _PB.items():
        figure = _figure(row.get(f"{name}_{unit}"))
        if figure is not None:
            return figure.times(factor)
    return None


def _figure(text: Any) -> Figure | None:
    """Return a positive number; ``None`` where the table has none."""
    if text is None or str(text).strip() in ("", "-", "null"):
        return None
    return _positive(str(text))


def _positive(text: str) -> Figure:
    figure = Figure.read(text)
    if not figure.value > 0:
        raise ValueError(f"{text!r} is not a positive number")
    return figure


def _finite(text: Any) -> float:
    return Figure.read(str(text)).value
