"""Payloads as bytes between worker and logger: one frame per batch, written with as few steps as Python allows.

A frame is its size (4 bytes), its head (size, then JSON) and parts: per input and output numbers as raw little-endian
bytes, texts and labels as JSON. The head says where each part ends and what it holds.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from homeostat.server.inference.graph import NUMPY
from homeostat.server.inference.rows import Table
from homeostat.server.inference.tensors import Tensors
from homeostat.server.payloads.schema import Field, Schema

if TYPE_CHECKING:  # the logger has no runtime
    from homeostat.server.inference.answers import Outcome

_SIZE: Final = struct.Struct("<I")
Parts = Sequence[memoryview]
Slices = Sequence[tuple[int, int]]  # first row and how many, in order


@dataclass(frozen=True, slots=True)
class Records:
    """Decoded rows. times: Unix seconds, of each row. tracks: places in `TRACKS`, of each row.

    inputs, outputs: per field of the schema an array (n, …).
    """

    times: list[float]
    ids: list[str]
    tracks: list[int]
    inputs: list[NDArray[Any]]
    outputs: list[NDArray[Any]]


def frame(
    schema: Schema,
    rows: Table | Tensors,
    outcome: "Outcome",
    slices: Slices,
    *,
    tracks: list[list[int]],
    time: float,
) -> bytes:
    """The rows of `slices` as one frame. tracks: [track, rows] in the same order. time: Unix seconds.

    Raises ValueError when the outputs do not have one value per row.
    """
    parts: list[bytes] = [b"\n".join(_chosen(outcome.ids, slices))]
    kinds: list[Any] = []
    if isinstance(rows, Table):
        width = len(rows.numbers) // rows.count
        parts.append(b"".join([rows.numbers[at * width : (at + n) * width] for at, n in slices]))
        parts.append(orjson.dumps(_chosen(rows.strings, slices)) if rows.strings[0] else b"")
    else:
        for values in rows.arrays:
            _add(values, slices, parts, kinds, by_row=schema.by_row)
    for field in schema.outputs:
        if field.label:
            parts.append(b"[" + b",".join([label[0] for label in _chosen(outcome.labels, slices)]) + b"]")
            continue
        values = outcome.values[field.place]
        if schema.by_row and len(values) != rows.count:
            raise ValueError(f"output {field.name!r} has {len(values)} values for {rows.count} rows")
        _add(values, slices, parts, kinds, by_row=schema.by_row)
    head = orjson.dumps([time, tracks, kinds, [len(part) for part in parts]])
    body = b"".join([_SIZE.pack(len(head)), head, *parts])
    return _SIZE.pack(len(body)) + body


def _chosen(values: list[Any], slices: Slices) -> list[Any]:
    if len(slices) == 1:
        at, n = slices[0]
        return values if n == len(values) else values[at : at + n]
    return [value for at, n in slices for value in values[at : at + n]]


def _add(values: NDArray[Any], slices: Slices, parts: list[bytes], kinds: list[Any], *, by_row: bool) -> None:
    """One tensor's rows; its type and shape without the first axis go to `kinds`."""
    pieces = [values[at : at + n] for at, n in slices] if by_row else [values]
    tail = values.shape[1:] if by_row else values.shape
    if values.dtype.kind == "O":
        texts = [_text(value) for value in chain.from_iterable(piece.ravel().tolist() for piece in pieces)]
        kinds.append(["O", tail])
        parts.append(orjson.dumps(texts))
    else:
        kinds.append([values.dtype.str, tail])
        parts.append(b"".join([piece.tobytes() for piece in pieces]))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def split(chunk: bytes | bytearray) -> Iterator[memoryview]:
    """The frames of a chunk, each without its size."""
    whole, at = memoryview(chunk), 0
    while at < len(whole):
        (size,) = _SIZE.unpack_from(whole, at)
        at += _SIZE.size + size
        yield whole[at - size : at]


def count_of(one: memoryview) -> int:
    """How many rows a frame holds."""
    return sum(n for _, n in _opened(one).tracks)


def records(schema: Schema, frames: Iterable[memoryview]) -> Iterator[Records]:
    """The rows of many frames; those whose tensors have the same types and shapes come together."""
    for _, group in groupby(map(_opened, frames), lambda one: one.kinds):
        yield _records(schema, list(group))


@dataclass(frozen=True, slots=True)
class _Opened:
    """One frame: its head, and where its parts are."""

    time: float
    tracks: list[list[int]]
    kinds: list[Any]
    parts: list[memoryview]


def _opened(one: memoryview) -> _Opened:
    (size,) = _SIZE.unpack_from(one)
    at = _SIZE.size + size
    time, tracks, kinds, sizes = orjson.loads(one[_SIZE.size : at])
    parts: list[memoryview] = []
    for length in sizes:
        parts.append(one[at : at + length])
        at += length
    return _Opened(time, tracks, kinds, parts)


def _records(schema: Schema, group: list[_Opened]) -> Records:
    by_row = [(one.time, track) for one in group for track, n in one.tracks for _ in range(n)]
    count, columns = len(by_row), list(zip(*[one.parts for one in group], strict=True))
    ids = b"\n".join(columns[0]).decode().split("\n")
    shapes, inputs, outputs = iter(group[0].kinds), list[NDArray[Any]](), list[NDArray[Any]]()
    if schema.table:
        inputs, rest = _table(schema.inputs, columns[1], columns[2], count), columns[3:]
    else:
        end = 1 + len(schema.inputs)
        inputs, rest = [_tensor(parts, next(shapes), count) for parts in columns[1:end]], columns[end:]
    for field, parts in zip(schema.outputs, rest, strict=True):
        outputs.append(_labels(field, parts) if field.label else _tensor(parts, next(shapes), count))
    return Records([time for time, _ in by_row], ids, [track for _, track in by_row], inputs, outputs)


def _table(fields: Sequence[Field], numbers: Parts, strings: Parts, count: int) -> list[NDArray[Any]]:
    """Columns in the signature's order from numbers by row and strings by row."""
    matrix = np.frombuffer(b"".join(numbers), np.float32).reshape(count, -1)
    texts = list(zip(*_listed(strings), strict=True))
    found, number, text = list[NDArray[Any]](), 0, 0
    for field in fields:
        if field.datatype == "BYTES":
            found.append(np.array(texts[text], dtype=object))
            text += 1
        else:
            found.append(np.ascontiguousarray(matrix[:, number]))
            number += 1
    return found


def _tensor(parts: Parts, kind: list[Any], count: int) -> NDArray[Any]:
    code, tail = kind
    if code != "O":
        return np.frombuffer(b"".join(parts), np.dtype(code)).reshape(count, *tail)
    flat = np.empty(len(texts := _listed(parts)), dtype=object)
    flat[:] = texts
    return flat.reshape(count, *tail)


def _labels(field: Field, parts: Parts) -> NDArray[Any]:
    return np.array(_listed(parts), dtype=NUMPY[field.datatype])


def _listed(parts: Parts) -> list[Any]:
    return [value for part in parts if part for value in orjson.loads(part)]
