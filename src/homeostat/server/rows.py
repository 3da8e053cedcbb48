"""Rows as people send them (Open Inference Protocol v2, JSON) to rows as the model takes them. Pure."""

from array import array
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import chain
from math import nan
from typing import Any, Final

from homeostat.api.wire.bundle import Signature
from homeostat.server.problem import Problem

NUMBERS: Final = frozenset(
    "FP16 FP32 FP64 BF16 INT8 INT16 INT32 INT64 UINT8 UINT16 UINT32 UINT64 BOOL".split()  # noqa: SIM905
)
STRINGS: Final = frozenset({"BYTES"})
_ONE: Final[tuple[Any, ...]] = ([1], [1, 1])
_UNSET: Final = object()
_NO_STRINGS: Final[tuple[str, ...]] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """`count` rows: numbers row by row as float32 bytes, strings row by row, each in the signature's order."""

    count: int
    numbers: bytes
    strings: list[tuple[str, ...]]


class Reader:
    """Reads the `inputs` of a request against one signature."""

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

    def read(self, inputs: Any) -> Rows:
        """The rows. Raises Problem that names row, column, what was expected and what came."""
        if type(inputs) is not list or not inputs:
            raise Problem(400, f"`inputs` must be a list of columns: {self._names()}")
        if len(inputs) == 1 and self._is_matrix(inputs[0]):
            return self._matrix(inputs[0])
        if len(inputs) == len(self._places) and (row := self._one_row(inputs)) is not None:
            return row
        found: dict[str, list[Any]] = {}
        for column in inputs:
            name, values = self._column(column)
            if name in found:
                raise Problem(400, f"column {name!r} comes twice")
            found[name] = values
        if len(found) != len(self._places):
            raise self._missing(found)
        rows = len(next(iter(found.values())))
        ragged = next((name for name, values in found.items() if len(values) != rows), None)
        if ragged is not None:
            first = next(iter(found))
            raise Problem(400, f"column {ragged!r} has {len(found[ragged])} rows, column {first!r} has {rows}")
        if rows == 0:
            raise Problem(400, "the request has no rows")
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

    def _one_row(self, inputs: list[Any]) -> Rows | None:
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
        return Rows(1, numbers, [tuple(strings)])

    def _rows(self, rows: int, numbers: list[list[Any]], strings: list[list[Any]]) -> Rows:
        flat: Iterable[Any] = [c[0] for c in numbers] if rows == 1 else chain.from_iterable(zip(*numbers, strict=True))
        try:
            packed = array("f", flat).tobytes()
        except (TypeError, OverflowError):
            mended = [_mended(name, values) for name, values in zip(self._numbers, numbers, strict=True)]
            packed = array("f", chain.from_iterable(zip(*mended, strict=True))).tobytes()
        if not strings:
            return Rows(rows, packed, [_NO_STRINGS] * rows)
        texts = [_texts(name, values) for name, values in zip(self._strings, strings, strict=True)]
        return Rows(rows, packed, list(zip(*texts, strict=True)))

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

    def _matrix(self, column: dict[str, Any]) -> Rows:
        shape, values, name = column["shape"], column.get("data"), str(column.get("name"))
        rows, width = shape
        if width != len(self._numbers):
            raise Problem(400, f"tensor {name!r} has {width!r} columns, expected {len(self._numbers)}: {self._names()}")
        if type(rows) is not int or rows < 1:
            raise Problem(400, f"tensor {name!r} has shape {shape}: the first number must be its rows, at least 1")
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
        return Rows(rows, packed, [_NO_STRINGS] * rows)

    def _unknown(self, column: Any) -> Problem:
        if type(column) is not dict or type(column.get("name")) is not str:
            return Problem(400, f"an input must be an object with `name`, `shape`, `datatype`, `data`: {_show(column)}")
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
        raise Problem(400, f"`data` of column {name!r} must be a list, got {_show(values)}")
    if values and type(values[0]) is list:
        if any(type(v) is not list or len(v) != 1 for v in values):
            raise Problem(400, f"`data` of column {name!r} must have one value per row")
        values = [v[0] for v in values]
    shape = column.get("shape")
    if shape not in ([len(values)], [len(values), 1]):
        raise Problem(
            400, f"column {name!r} has {len(values)} values, but shape {_show(shape)}; expected [n] or [n, 1]"
        )
    flat: list[Any] = values
    return flat


def _check_datatype(column: dict[str, Any], name: str, *, number: bool) -> None:
    datatype = column.get("datatype")
    if type(datatype) is not str or datatype not in (NUMBERS if number else STRINGS):
        expected = "a number (FP32, FP64, INT64, BOOL, …)" if number else "BYTES"
        raise Problem(400, f"column {name!r}: expected datatype {expected}, got {_show(datatype)}")


def _mended(name: str, values: list[Any]) -> list[float]:
    """Numbers with NaN where null was. Raises Problem at the first value that is neither."""
    for row, value in enumerate(values):
        if value is not None and not isinstance(value, int | float):
            raise Problem(400, f"row {row}, column {name!r}: expected a number or null, got {_show(value)}")
    try:
        return [nan if v is None else float(v) for v in values]
    except OverflowError:
        raise Problem(400, f"column {name!r} holds a number that is too large for a float") from None


def _texts(name: str, values: list[Any]) -> list[str]:
    """Strings with "" where null was. Raises Problem at the first value that is neither."""
    for row, value in enumerate(values):
        if type(value) is not str and value is not None:
            raise Problem(400, f"row {row}, column {name!r}: expected a string or null, got {_show(value)}")
    return ["" if v is None else v for v in values]


def _show(value: Any) -> str:
    """A JSON value in a message: its type and the begin of it."""
    kinds = {str: "string", int: "number", float: "number", bool: "boolean", list: "list", dict: "object"}
    if value is None:
        return "null"
    text = f"{value!r}" if isinstance(value, str) else str(value)
    return f"{kinds.get(type(value), type(value).__name__)} {text[:60]}"
