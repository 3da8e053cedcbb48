"""Rows in the forms of data frames: records, split, columns, CSV; and the predictions as one list. Pure."""

import csv
import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import orjson

from homeostat.server.inference.answers import Answers, Outcome
from homeostat.server.inference.given import show
from homeostat.server.inference.rows import TableReader
from homeostat.server.inference.tensors import TensorReader
from homeostat.server.inference.work import Rows
from homeostat.server.problem import Problem

Reader = TableReader | TensorReader
_MISSING: Final = object()
_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY


def records(reader: Reader, rows: Sequence[Any]) -> Rows:
    """Rows as objects with the same keys. Raises Problem that names the row."""
    names = list(rows[0]) if rows and type(rows[0]) is dict else []
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for i, row in enumerate(rows):
        if type(row) is not dict:
            raise Problem(400, f"row {i}: expected an object with one value per column, got {show(row)}")
        for name, values in columns.items():
            value = row.get(name, _MISSING)
            if value is _MISSING:
                raise Problem(400, f"row {i}: column {name[:100]!r} is missing; row 0 has it")
            values.append(value)
        if len(row) != len(names):
            more = next(name for name in row if name not in columns)
            raise Problem(400, f"row {i}: column {more[:100]!r} is not in row 0")
    if not rows:
        raise Problem(400, "the request has no rows")
    return reader.columns(columns)


def instances(reader: Reader, rows: Any, what: str) -> Rows:
    """Rows as objects, as lists, or as bare values when a row is one value. Raises Problem."""
    if type(rows) is not list or not rows:
        raise Problem(400, f"`{what}` must be a list of rows, got {show(rows)}")
    if type(rows[0]) is dict:
        return records(reader, rows)
    if isinstance(reader, TableReader):
        return reader.matrix([row if type(row) is list else [row] for row in rows])
    return reader.matrix(rows)


def split(reader: Reader, frame: Any) -> Rows:
    """A data frame as pandas writes it with `orient="split"`. Raises Problem."""
    if type(frame) is not dict or type(frame.get("data")) is not list:
        raise Problem(400, f"`dataframe_split` must be an object with `columns` and `data`, got {show(frame)}")
    columns, data = frame.get("columns"), frame["data"]
    if columns is None:
        return instances(reader, data, "data")
    if type(columns) is not list or any(type(name) is not str for name in columns):
        raise Problem(400, f"`columns` must be a list of names, got {show(columns)}")
    if len(set(columns)) != len(columns):
        raise Problem(400, "a column comes twice in `columns`")
    for i, row in enumerate(data):
        if type(row) is not list or len(row) != len(columns):
            found = f"{len(row)} values" if type(row) is list else show(row)
            raise Problem(400, f"row {i}: expected a list of {len(columns)} values, got {found}")
    if not data:
        raise Problem(400, "the request has no rows")
    return reader.columns(dict(zip(columns, map(list, zip(*data, strict=True)), strict=True)))


def named(reader: Reader, columns: dict[str, Any]) -> Rows:
    """Columns by name, each a list of values, or of lists of one value. Raises Problem."""
    for name, values in columns.items():
        if type(values) is not list:
            raise Problem(400, f"column {name[:100]!r} must be a list of values, got {show(values)}")
    if isinstance(reader, TableReader):
        columns = {name: _flat(values) for name, values in columns.items()}
    return reader.columns(columns)


def _flat(values: list[Any]) -> list[Any]:
    if values and all(type(value) is list and len(value) == 1 for value in values):
        return [value[0] for value in values]
    return values


def comma_separated(reader: TableReader, body: bytes) -> Rows:
    """CSV, with a first line of names, or without when the values are in the signature's order. Raises Problem."""
    try:
        lines = [line for line in csv.reader(io.StringIO(body.decode("utf-8-sig"))) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Problem(400, f"the body is not CSV: {error}") from None
    if not lines:
        raise Problem(400, "the body is empty; expected lines of comma-separated values")
    types = reader.types
    names = [name.strip() for name in lines[0]]
    if any(name in types for name in names):
        lines = lines[1:]
    elif len(names) == len(types):
        names = list(types)
    if len(set(names)) != len(names):
        raise Problem(400, "a column comes twice in the first line")
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for i, line in enumerate(lines):
        if len(line) != len(names):
            raise Problem(400, f"row {i}: expected {len(names)} values, got {len(line)}")
        for name, text in zip(names, line, strict=True):
            columns[name].append(_number(i, name, text) if types.get(name) == "number" else text)
    if not lines:
        raise Problem(400, "the request has no rows")
    return reader.columns(columns)


def _number(row: int, name: str, text: str) -> float | None:
    text = text.strip()
    if not text:
        return None
    try:
        return float(text.replace("_", "x"))  # which only Python's own numbers may have
    except ValueError:
        raise Problem(400, f"row {row}, column {name!r}: expected a number, got {show(text)}") from None


def predictions(answers: Answers, outcome: Outcome, start: int, count: int) -> bytes:
    """The predictions of these rows as one JSON list: labels where the model has some, else values, else an object per row."""
    outputs, end = answers.outputs, start + count
    if outcome.whole:
        sizes = {len(outcome.texts(place)) for place in answers.all}
        if len(sizes) > 1:  # no rows in common
            return b"[{%b}]" % b",".join([b"%b:%b" % (orjson.dumps(o.name), _all(outcome, o.place)) for o in outputs])
        start, end = 0, sizes.pop()
    label = next((place for place, output in enumerate(outputs) if output.label), None)
    if label is None and answers.signature.label_output:
        label = next(i for i, output in enumerate(outputs) if output.name == answers.signature.label_output)
    if label is not None:
        return b"[%b]" % b",".join(outcome.texts(label)[start:end])
    if len(outputs) == 1:
        return b"[%b]" % b",".join([_row(outcome, 0, i) for i in range(start, end)])
    keys = [orjson.dumps(output.name) for output in outputs]
    rows = [
        b"{%b}" % b",".join([b"%b:%b" % (key, _row(outcome, place, i)) for place, key in enumerate(keys)])
        for i in range(start, end)
    ]
    return b"[%b]" % b",".join(rows)


def _all(outcome: Outcome, place: int) -> bytes:
    values = outcome.values[place]
    return orjson.dumps(values.tolist() if values.dtype == object else np.ascontiguousarray(values), option=_NUMPY)


def _row(outcome: Outcome, place: int, row: int) -> bytes:
    """One row of one output: a bare value, or lists in its shape."""
    text = outcome.texts(place)[row]
    sizes = outcome.shape(place, 1)[1:]
    if sizes in ([], [1]):
        return text
    if len(sizes) == 1:
        return b"[%b]" % text
    values = orjson.loads(b"[%b]" % text)
    for size in reversed(sizes[1:]):
        values = [values[at : at + size] for at in range(0, len(values), max(size, 1))]
    return orjson.dumps(values)
