"""A table of numbers, and perhaps of names, as CSV and Parquet have it, kept as an array.

`scan` limits the values of cells further; here are the limits of any table of numbers.
"""

from __future__ import annotations

import csv
import io
from array import array
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from pytest_pyhf_faas.errors import PalletError
from pytest_pyhf_faas.wording import brief, counted, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Numbers = NDArray[np.float64]

#: The column that has no numbers.
NAME = "name"
#: Other separators of cells.
_OTHERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
#: How many cells are shown.
_SHOWN = 5


@dataclass(frozen=True)
class Table:
    """A table; rows are counted from 1, without the header.

    Attributes
    ----------
    columns
        The names of the columns of numbers.
    numbers
        All cells of these, by row and column.
    names
        The column of names, if there is one.
    """

    columns: tuple[str, ...]
    numbers: Numbers
    names: list[str] | None

    @property
    def header(self) -> tuple[str, ...]:
        """All columns, that of the names first."""
        return self.columns if self.names is None else (NAME, *self.columns)


class Faults:
    """Unusable cells: the first are kept to be shown, all are counted."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._shown: list[str] = []
        self._count = 0

    def add(self, row: int, column: str, problem: str) -> None:
        """Record the problem of a cell; `row` begins with 0."""
        self._count += 1
        if len(self._shown) < _SHOWN:
            self._shown.append(f"row {row + 1}, column {brief(column, 60)}: {problem}")

    def add_all(self, wrong: NDArray[np.bool_], table: Table, problem: str) -> None:
        """Record the problem of some cells of a table; `wrong` has its shape."""
        count = int(np.count_nonzero(wrong))
        rows = np.flatnonzero(wrong.any(axis=1))[:_SHOWN] if count else ()
        places = [(row, column) for row in rows for column in np.flatnonzero(wrong[row])]
        for row, column in places[:_SHOWN]:
            number = table.numbers[row, column]
            self.add(int(row), table.columns[column], f"{number:g} {problem}")
        self._count += count - len(places[:_SHOWN])

    def refuse_any(self, remedy: str) -> None:
        """Refuse the table if there are any.

        Raises
        ------
        PalletError
            With the first of them, and how many there are.
        """
        if not self._count:
            return
        lines = [f"{self._where}: {counted(self._count, 'cell')} cannot be used:"]
        lines += [f"  {shown}" for shown in self._shown]
        if self._count > len(self._shown):
            lines.append(f"  and {self._count - len(self._shown):,} more")
        raise PalletError("\n".join([*lines, remedy]))


def check_header(columns: Sequence[str], where: str) -> None:
    """Refuse columns without a name, or with the name of another.

    Raises
    ------
    PalletError
        With these columns.
    """
    if nameless := [str(place) for place, column in enumerate(columns, 1) if not column]:
        raise PalletError(
            f"{where}: {counted(len(nameless), 'column')} without a name: number {listed(nameless)}"
            "\nthe first line names each column"
        )
    if len(set(columns)) < len(columns):
        twice = [column for column in dict.fromkeys(columns) if columns.count(column) > 1]
        raise PalletError(f"{where}: columns come twice: {listed(twice, 5)}\nremove one of each")


def read_csv(stream: IO[bytes], where: str, check: Callable[[Sequence[str]], None]) -> Table:
    """Read a table whose first line names the columns; `check` may refuse these.

    Raises
    ------
    PalletError
        If it is not such a table.
    """
    lines = csv.reader(io.TextIOWrapper(stream, "utf-8-sig", newline=""), strict=True)
    try:
        return _read_lines(lines, where, check)
    except UnicodeDecodeError as error:
        raise PalletError(
            f"{where}: not valid UTF-8 after line {lines.line_num}\n"
            "the file is damaged, or not a CSV file: write it again, as UTF-8"
        ) from error
    except csv.Error as error:
        raise PalletError(
            f"{where}: not valid CSV at line {lines.line_num}: {brief(error)}\n"
            "the file is damaged, or not a CSV file: write it again"
        ) from error


def _read_lines(lines: Any, where: str, check: Callable[[Sequence[str]], None]) -> Table:
    header = [cell.strip() for cell in next(filter(_is_filled, lines), ())]
    if not header:
        raise PalletError(f"{where}: the file is empty\nits first line names the columns")
    if len(header) == 1 and (
        others := [word for char, word in _OTHERS.items() if char in header[0]]
    ):
        raise PalletError(
            f"{where}: line {lines.line_num} has one column, with {others[0]} in it\n"
            "cells are separated by commas, and numbers have a point: write the table like that"
        )
    check_header(header, where)
    check(header)
    place = header.index(NAME) if NAME in header else None
    columns = tuple(column for column in header if column != NAME)
    faults = Faults(where)
    names: list[str] = []
    numbers = array("d")
    row = 0
    for cells in filter(_is_filled, lines):
        if len(cells) != len(header):
            raise PalletError(
                f"{where}: line {lines.line_num} has {counted(len(cells), 'cell')}, and the header "
                f"{counted(len(header), 'column')}\n"
                "cells are separated by commas; the file may be truncated: write it again"
            )
        if place is not None:
            names.append(cells.pop(place).strip())
        try:
            numbers.extend(map(float, cells))
        except ValueError:
            del numbers[row * len(columns) :]
            numbers.extend(_numbers(cells, row, columns, faults))
        row += 1
    faults.refuse_any("each cell but the name is a number")
    return Table(
        columns,
        np.frombuffer(numbers).reshape(row, len(columns)),
        None if place is None else names,
    )


def _is_filled(cells: Sequence[str]) -> bool:
    """Whether a line is not empty."""
    return len(cells) > 1 or bool("".join(cells).strip())


def _numbers(cells: Sequence[str], row: int, columns: Sequence[str], faults: Faults) -> list[float]:
    found = []
    for cell, column in zip(cells, columns, strict=True):
        try:
            found.append(float(cell))
        except ValueError:
            found.append(0.0)
            shown = f"{brief(cell, 40)!r} is not a number" if cell.strip() else "it is empty"
            faults.add(row, column, shown)
    return found


def read_parquet(stream: IO[bytes], where: str, check: Callable[[Sequence[str]], None]) -> Table:
    """Read a table from a Parquet file, which needs pyarrow; `check` may refuse its columns.

    Raises
    ------
    PalletError
        If it is not such a table, or pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise PalletError(
            f"{where}: reading Parquet needs pyarrow, which is not installed\n"
            "install it (pip install 'pytest-pyhf-faas[parquet]'), or write the table as CSV"
        ) from error
    try:
        # Parquet is read from its end: a pure stream is read whole, compressed as it is.
        source = stream if stream.seekable() else io.BytesIO(stream.read())
        with pq.ParquetFile(source) as file:
            return _read_columns(file, where, check)
    except pa.ArrowException as error:
        raise PalletError(
            f"{where}: not a Parquet file that can be read: {brief(error)}\n"
            "the file is damaged: write it again"
        ) from error


def _read_columns(file: Any, where: str, check: Callable[[Sequence[str]], None]) -> Table:
    import pyarrow as pa

    schema = file.schema_arrow
    check_header(schema.names, where)
    check(schema.names)
    columns = tuple(column for column in schema.names if column != NAME)
    kinds = {column: schema.field(column).type for column in columns}
    if wrong := [
        f"{column} ({kind})"
        for column, kind in kinds.items()
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind))
    ]:
        raise PalletError(
            f"{where}: {counted(len(wrong), 'column')} without numbers: {listed(wrong, 5)}\n"
            "each column but the name is of an integer or floating-point type"
        )
    numbers = np.empty((file.metadata.num_rows, len(columns)))
    names: list[str] | None = [] if NAME in schema.names else None
    begin = 0
    for group in range(file.num_row_groups):  # one column at a time, or all are in memory twice

        def read(column: str, group: int = group) -> Any:
            return file.read_row_group(group, columns=[column], use_threads=False).column(column)

        end = begin + file.metadata.row_group(group).num_rows
        for place, column in enumerate(columns):
            numbers[begin:end, place] = read(column).cast(pa.float64(), safe=False).to_numpy()
        if names is not None:
            names += ["" if name is None else str(name) for name in read(NAME).to_pylist()]
        begin = end
    return Table(columns, numbers, names)
