"""Rows of named columns as people send them, to rows as the model takes them. Pure."""

from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import chain
from math import nan
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.api.wire.bundle import Signature
from homeostat.server.inference.given import Given, show
from homeostat.server.inference.graph import NUMBERS
from homeostat.server.problem import Problem

STRINGS: Final = frozenset({"BYTES"})
_ONE: Final[tuple[Any, ...]] = ([1], [1, 1])
_UNSET: Final = object()
_NO_STRINGS: Final[tuple[str, ...]] = ()
_NO_ROW: Final = [_NO_STRINGS]  # of strings; never changed


class Table:
    """`count` rows: numbers row by row as float32 bytes, strings row by row, each in the signature's order."""

    __slots__ = ("count", "numbers", "strings")
    key = None

    def __init__(self, count: int, numbers: bytes, strings: list[tuple[str, ...]]) -> None:
        self.count, self.numbers, self.strings = count, numbers, strings

    def matrix(self) -> NDArray[np.float32]:
        """The numbers, (count, width) float32."""
        return np.frombuffer(self.numbers, np.float32).reshape(self.count, -1)

    def part(self, start: int, end: int) -> "Table":
        """Rows start … end."""
        width = len(self.numbers) // self.count
        return Table(end - start, self.numbers[start * width : end * width], self.strings[start:end])


def joined(parts: Sequence[Table]) -> Table:
    """All rows of the parts, in order."""
    if len(parts) == 1:
        return parts[0]
    strings = [row for part in parts for row in part.strings]
    return Table(len(strings), b"".join([part.numbers for part in parts]), strings)


class TableReader:
    """Reads requests against one signature."""

    def __init__(self, signature: Signature) -> None:
        self._columns = {c.name: c for c in signature.columns}
        numbers = [c.name for c in signature.columns if c.type == "number"]
        strings = [c.name for c in signature.columns if c.type == "string"]
        self._places = {c.name: c.type == "number" for c in signature.columns}
        self._numbers, self._strings = numbers, strings
        self._direct = {n: (i, NUMBERS) for i, n in enumerate(numbers)}
        self._direct |= {n: (len(numbers) + i, STRINGS) for i, n in enumerate(strings)}
        self._order = [c.name for c in signature.columns]
        self.width = len(self._order)
        self.names = numbers, strings
        self._lone = [1, len(numbers)] if not strings and len(numbers) > 1 else [0, 0]
        self.types = {c.name: c.type for c in signature.columns}

    def inputs(self, inputs: Any) -> Table:
        """The rows. Raises Problem that names row, column, what was expected and what came."""
        if type(inputs) is not list or not inputs:
            raise Problem(400, f"`inputs` must be a list of columns: {self._names()}")
        if len(inputs) == 1:
            if (row := self._lone_matrix(inputs[0])) is not None:
                return row
            if self._is_matrix(inputs[0]):
                return self._matrix(inputs[0])
        if len(inputs) == len(self._places) and (row := self._one_row(inputs)) is not None:
            return row
        found: dict[str, list[Any]] = {}
        for column in inputs:
            name, values = self._column(column)
            if name in found:
                raise Problem(400, f"column {name!r} comes twice")
            found[name] = values
        return self._table(found)

    def columns(self, given: Mapping[str, list[Any]]) -> Table:
        """Rows of columns by name, as data frames have them. Raises Problem."""
        unknown = next((name for name in given if name not in self._places), None)
        if unknown is not None:
            raise self._unknown({"name": str(unknown)})
        return self._table(given)

    def matrix(self, rows: list[list[Any]]) -> Table:
        """Rows without names: their values are in the signature's order. Raises Problem."""
        width = len(self._order)
        for i, row in enumerate(rows):
            if type(row) is not list or len(row) != width:
                found = f"{len(row)} values" if type(row) is list else show(row)
                raise Problem(400, f"row {i}: expected a list of {width} values ({self._names()}), got {found}")
        return self._table(dict(zip(self._order, map(list, zip(*rows, strict=True)), strict=True)))

    def arrays(self, given: Sequence[Given]) -> Table:
        """Rows of binary columns, or of one matrix. Raises Problem."""
        if len(given) == 1 and self._is_matrix({"name": given[0].name, "shape": list(given[0].shape)}):
            return self._array_matrix(given[0])
        found: dict[str, Any] = {}
        for one in given:
            if one.name not in self._places:
                raise self._unknown({"name": one.name})
            if one.name in found:
                raise Problem(400, f"column {one.name!r} comes twice")
            _check_datatype({"datatype": one.datatype}, one.name, number=self._places[one.name])
            if len(one.shape) not in {1, 2} or one.shape[1:] not in {(), (1,)}:
                raise Problem(400, f"column {one.name!r} has shape {list(one.shape)}; expected [n] or [n, 1]")
            found[one.name] = one.values
        self._check_columns(found)
        rows = len(next(iter(found.values())))
        numbers = np.empty((rows, len(self._numbers)), np.float32)
        for place, name in enumerate(self._numbers):
            numbers[:, place] = found[name]
        strings = list(zip(*[found[n] for n in self._strings], strict=True)) or [_NO_STRINGS] * rows
        return Table(rows, numbers.tobytes(), strings)

    def _array_matrix(self, given: Given) -> Table:
        rows, width = given.shape
        if width != len(self._numbers):
            raise self._wrong_width(given.name, width)
        _check_datatype({"datatype": given.datatype}, given.name, number=True)
        if rows < 1:
            raise Problem(400, "the request has no rows")
        values = np.asarray(given.values)
        return Table(rows, values.astype(np.float32, copy=False).tobytes(), [_NO_STRINGS] * rows)

    def _check_columns(self, found: Mapping[str, Any]) -> int:
        """All columns are there, with the same number of rows, which is returned. Raises Problem."""
        if len(found) != len(self._places):
            raise self._missing(found)
        rows = len(next(iter(found.values())))
        ragged = next((name for name, values in found.items() if len(values) != rows), None)
        if ragged is not None:
            first = next(iter(found))
            raise Problem(400, f"column {ragged!r} has {len(found[ragged])} rows, column {first!r} has {rows}")
        if rows == 0:
            raise Problem(400, "the request has no rows")
        return rows

    def _table(self, found: Mapping[str, list[Any]]) -> Table:
        rows = self._check_columns(found)
        return self._rows(rows, [found[n] for n in self._numbers], [found[n] for n in self._strings])

    def _column(self, column: Any) -> tuple[str, list[Any]]:
        """Name and values of one input. Raises Problem."""
        try:
            name, values = column["name"], column["data"]
            number = self._places[name]
        except (KeyError, TypeError):
            raise self._unknown(column) from None
        values = _flat(values, column, name)
        _check_datatype(column, name, number=number)
        return name, values

    def _lone_matrix(self, column: Any) -> Table | None:
        """One row of numbers as a matrix, the commonest form of it; None when anything about it is unusual."""
        try:
            values = column["data"]
            if column["shape"] != self._lone or column["datatype"] not in NUMBERS or len(values) != self._lone[1]:
                return None
            return Table(1, array("f", values).tobytes(), _NO_ROW)
        except (KeyError, TypeError, OverflowError):
            return None

    def _one_row(self, inputs: list[Any]) -> Table | None:
        """The commonest request, read with as few steps as Python allows; None when anything about it is unusual."""
        direct, width = self._direct, len(self._numbers)
        row: list[Any] = [_UNSET] * len(direct)
        try:
            for column in inputs:
                place, datatypes = direct[column["name"]]
                values = column["data"]
                if type(values) is not list or column["shape"] not in _ONE or column["datatype"] not in datatypes:
                    return None
                (row[place],) = values
            numbers = array("f", [nan if v is None else v for v in row[:width]]).tobytes()
        except (KeyError, TypeError, ValueError, OverflowError):
            return None
        strings = row[width:]
        if strings:
            strings = ["" if s is None else s for s in strings]
            if any(type(s) is not str for s in strings):
                return None
        return Table(1, numbers, [tuple(strings)])

    def _rows(self, rows: int, numbers: list[list[Any]], strings: list[list[Any]]) -> Table:
        flat: Iterable[Any] = [c[0] for c in numbers] if rows == 1 else chain.from_iterable(zip(*numbers, strict=True))
        try:
            packed = array("f", flat).tobytes()
        except (TypeError, OverflowError):
            mended = [_mended(name, values) for name, values in zip(self._numbers, numbers, strict=True)]
            packed = array("f", chain.from_iterable(zip(*mended, strict=True))).tobytes()
        if not strings:
            return Table(rows, packed, [_NO_STRINGS] * rows)
        texts = [_texts(name, values) for name, values in zip(self._strings, strings, strict=True)]
        return Table(rows, packed, list(zip(*texts, strict=True)))

    def _is_matrix(self, column: Any) -> bool:
        """One 2-D tensor of all columns, allowed when all are numbers."""
        if type(column) is not dict or self._strings:
            return False
        shape = column.get("shape")
        return (
            type(shape) is list
            and len(shape) == 2
            and (column.get("name") not in self._places or shape[1] != 1 or len(self._numbers) == 1)
        )

    def _matrix(self, column: dict[str, Any]) -> Table:
        shape, values, name = column["shape"], column.get("data"), column.get("name")
        if type(name) is not str:
            raise self._unknown(column)
        rows, width = shape
        if type(width) is not int or width != len(self._numbers):
            raise self._wrong_width(name, width)
        if type(rows) is not int or rows < 1:
            raise Problem(
                400, f"tensor {name!r} has shape {show(shape)}: the first number must be its rows, at least 1"
            )
        _check_datatype(column, name, number=True)
        if type(values) is list and values and type(values[0]) is list:
            ragged = next((i for i, v in enumerate(values) if type(v) is not list or len(v) != width), None)
            if ragged is not None:
                raise Problem(400, f"row {ragged} of tensor {name!r} does not have {width} values")
            values = list(chain.from_iterable(values))
        if type(values) is not list or len(values) != rows * width:
            found = len(values) if type(values) is list else type(values).__name__
            raise Problem(400, f"tensor {name!r} of shape {shape} needs {rows * width} values in `data`, got {found}")
        try:
            packed = array("f", values).tobytes()
        except (TypeError, OverflowError):
            columns = [_mended(c, values[i::width]) for i, c in enumerate(self._numbers)]
            packed = array("f", chain.from_iterable(zip(*columns, strict=True))).tobytes()
        return Table(rows, packed, [_NO_STRINGS] * rows)

    def _wrong_width(self, name: str, width: Any) -> Problem:
        return Problem(
            400,
            f"tensor {name!r} has {width if type(width) is int else show(width)} columns, expected {len(self._numbers)}: {self._names()}",
        )

    def _unknown(self, column: Any) -> Problem:
        if type(column) is not dict or type(column.get("name")) is not str:
            return Problem(400, f"an input must be an object with `name`, `shape`, `datatype`, `data`: {show(column)}")
        if column["name"] in self._places:
            return Problem(400, f"column {column['name']!r} has no `data`")
        return Problem(400, f"unknown column {column['name'][:100]!r}; expected {self._names()}")

    def _missing(self, given: Collection[str]) -> Problem:
        missing = [name for name in self._order if name not in given]
        return Problem(400, f"missing column{'s'[: len(missing) > 1]} {', '.join(map(repr, missing[:20]))}")

    def _names(self) -> str:
        some = ", ".join(f"{n} ({self._columns[n].type})" for n in self._order[:40])
        return some + (f", … ({len(self._order)} columns)" if len(self._order) > 40 else "")


def _flat(values: Any, column: dict[str, Any], name: str) -> list[Any]:
    """The values of one column; its shape [n] or [n, 1] must fit them."""
    if type(values) is not list:
        raise Problem(400, f"`data` of column {name!r} must be a list, got {show(values)}")
    if values and type(values[0]) is list:
        if any(type(v) is not list or len(v) != 1 for v in values):
            raise Problem(400, f"`data` of column {name!r} must have one value per row")
        values = [v[0] for v in values]
    shape = column.get("shape")
    if shape not in ([len(values)], [len(values), 1]):
        raise Problem(400, f"column {name!r} has {len(values)} values, but shape {show(shape)}; expected [n] or [n, 1]")
    flat: list[Any] = values
    return flat


def _check_datatype(column: dict[str, Any], name: str, *, number: bool) -> None:
    datatype = column.get("datatype")
    if type(datatype) is not str or datatype not in (NUMBERS if number else STRINGS):
        expected = "a number (FP32, FP64, INT64, BOOL, …)" if number else "BYTES"
        raise Problem(400, f"column {name!r}: expected datatype {expected}, got {show(datatype)}")


def _mended(name: str, values: list[Any]) -> list[float]:
    """Numbers with NaN where null was. Raises Problem at the first value that is neither."""
    for row, value in enumerate(values):
        if value is not None and not isinstance(value, int | float):
            raise Problem(400, f"row {row}, column {name!r}: expected a number or null, got {show(value)}")
    try:
        return [nan if v is None else float(v) for v in values]
    except OverflowError:
        raise Problem(400, f"column {name!r} holds a number that is too large for a float") from None


def _texts(name: str, values: list[Any]) -> list[str]:
    """Strings with "" where null was. Raises Problem at the first value that is neither."""
    for row, value in enumerate(values):
        if type(value) is not str and value is not None:
            raise Problem(400, f"row {row}, column {name!r}: expected a string or null, got {show(value)}")
    return ["" if v is None else v for v in values]
