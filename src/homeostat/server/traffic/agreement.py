"""Whether a shadow's answer agrees with the user's: labels equal, scores within a tolerance. Bytes in, counts out."""

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isnan, prod
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

MOST_BYTES: Final = 2 << 20  # of an answer that was compressed
_INEXACT: Final = ("FP", "BF")
_DTYPES: Final = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}
_CONTENTS: Final = ("BOOL", "INT32", "INT64", "UINT32", "UINT64", "FP32", "FP64")  # fields 1 … 7 of InferTensorContents


class Agreement(NamedTuple):
    """Rows of one request: how many agree, differ, or have no answer that can be compared."""

    agreed: int
    differed: int
    failed: int


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer as it was sent. headers: lines with their CRLF."""

    kind: bytes
    headers: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class _Tensor:
    """values: one element per value, the rows one after the other."""

    datatype: str
    rows: int
    values: Any


class _Unreadable(Exception):  # noqa: N818
    """It is not what its content type says."""


def compare(own: Answered, other: Answered | None, tolerance: float) -> Agreement:
    """How far `other` agrees with `own`. other: None when there was no answer."""
    try:
        mine = _outputs(own)
    except _Unreadable:
        return Agreement(0, 0, 1)
    rows = _rows(mine)
    if other is None:
        return Agreement(0, 0, rows)
    try:
        equal = _equal_rows(mine, _outputs(other), rows, tolerance)
    except (_Unreadable, RecursionError, ValueError):  # ValueError: lists of unequal lengths where numbers should be
        return Agreement(0, 0, rows)
    return Agreement(equal, rows - equal, 0)


def _rows(outputs: Mapping[str, _Tensor]) -> int:
    sizes = {tensor.rows for tensor in outputs.values()}
    return sizes.pop() if len(sizes) == 1 else 1


def _equal_rows(mine: Mapping[str, _Tensor], theirs: Mapping[str, _Tensor], rows: int, tolerance: float) -> int:
    if mine.keys() != theirs.keys() or not rows:
        return 0
    good = np.ones(rows, bool)
    for name, tensor in mine.items():
        other = theirs[name]
        if len(tensor.values) != len(other.values) or tensor.rows != other.rows:
            return 0
        same = _same(tensor, other, tolerance)
        if len(same) % rows:
            return 0
        good &= same.reshape(rows, -1).all(axis=1)
    return int(good.sum())


def _same(mine: _Tensor, theirs: _Tensor, tolerance: float) -> NDArray[np.bool_]:
    if mine.datatype.startswith(_INEXACT) and theirs.datatype.startswith(_INEXACT):
        a, b = np.asarray(mine.values), np.asarray(theirs.values)
        if a.dtype.kind in "fiu" and b.dtype.kind in "fiu":
            a, b = a.astype(np.float64), b.astype(np.float64)
            with np.errstate(invalid="ignore"):
                found: NDArray[np.bool_] = (a == b) | (np.abs(a - b) <= tolerance) | (np.isnan(a) & np.isnan(b))
            return found
    pairs = zip(_plain(mine.values), _plain(theirs.values), strict=True)
    return np.array([_close(a, b, tolerance) for a, b in pairs], bool)


def _plain(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _close(a: Any, b: Any, tolerance: float) -> bool:
    """Two values of JSON. Whole numbers are labels: they must be equal."""
    if isinstance(a, float) or isinstance(b, float):
        if not (_number(a) and _number(b)):
            return False
        return a == b or abs(a - b) <= tolerance or (isnan(a) and isnan(b))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_close(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_close(value, b[key], tolerance) for key, value in a.items())
    return type(a) is type(b) and bool(a == b)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _outputs(answer: Answered) -> dict[str, _Tensor]:
    """Outputs by name; of a form that is not known, all of it as one. Raises _Unreadable."""
    headers, body = _headers(answer.headers), answer.body
    if headers.get(b"content-encoding") == b"gzip":
        body = _opened(body)
    kind = answer.kind.partition(b";")[0].strip().lower()
    if kind.startswith(b"application/grpc"):
        return _grpc(body)
    try:
        if kind == b"application/json":
            return _json(orjson.loads(body), memoryview(b""))
        size = headers.get(b"inference-header-content-length")
        if size is not None:
            return _json(orjson.loads(body[: int(size)]), memoryview(body)[int(size) :])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _Unreadable from error
    return {"": _Tensor("", 1, [body])}


def _headers(lines: bytes) -> dict[bytes, bytes]:
    pairs = (line.partition(b":") for line in lines.split(b"\r\n") if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _opened(body: bytes) -> bytes:
    machine = zlib.decompressobj(31)
    try:
        out = machine.decompress(body, MOST_BYTES)
    except zlib.error as error:
        raise _Unreadable from error
    if not machine.eof:
        raise _Unreadable
    return out


def _json(found: Any, rest: memoryview) -> dict[str, _Tensor]:
    """Open Inference Protocol: `outputs`; KServe v1 and MLflow: `predictions`. Raises _Unreadable, ValueError, KeyError."""
    if isinstance(found, dict) and isinstance(found.get("predictions"), list):
        return {"": _Tensor("", len(found["predictions"]), found["predictions"])}
    if not isinstance(found, dict) or not isinstance(found.get("outputs"), list):
        raise _Unreadable
    outputs = {}
    for one in found["outputs"]:
        shape, datatype = one["shape"], one["datatype"]
        size = (one.get("parameters") or {}).get("binary_data_size")
        if size is None:
            values: Any = _flat(one["data"])
        else:
            values, rest = _raw(datatype, bytes(rest[:size])), rest[size:]
        outputs[one["name"]] = _tensor(datatype, shape, values)
    return outputs


def _tensor(datatype: Any, shape: Any, values: Any) -> _Tensor:
    sizes = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if type(datatype) is not str or not sizes or len(values) != prod(shape):
        raise _Unreadable
    return _Tensor(datatype, shape[0] if shape else 1, values)


def _flat(data: list[Any]) -> list[Any]:
    while data and isinstance(data[0], list):
        data = [value for part in data for value in part]
    return data


def _raw(datatype: str, data: bytes) -> Any:
    if datatype == "BYTES":
        texts, at = [], 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "little")
            texts.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        return texts
    if datatype == "BF16":
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, _DTYPES[datatype])


def _grpc(message: bytes) -> dict[str, _Tensor]:
    """A ModelInferResponse: outputs (field 5) with their values inside, or beside them (field 6). Raises _Unreadable."""
    try:
        heads = [_output(data) for number, data in _fields(message) if number == 5]
        raws = [data for number, data in _fields(message) if number == 6]
        outputs = {}
        for place, (name, datatype, shape, values) in enumerate(heads):
            given = _raw(datatype, bytes(raws[place])) if raws else values
            outputs[name] = _tensor(datatype, shape, given)
    except (IndexError, KeyError, ValueError, TypeError) as error:
        raise _Unreadable from error
    if not outputs:
        raise _Unreadable
    return outputs


def _output(message: Any) -> tuple[str, str, list[int], Any]:
    name, datatype, shape, values = "", "", list[int](), None
    for number, data in _fields(message):
        if number == 1:
            name = bytes(data).decode()
        elif number == 2:
            datatype = bytes(data).decode()
        elif number == 3:
            shape += [data] if isinstance(data, int) else _varints(data)
        elif number == 5:
            values = _contents(data)
    return name, datatype, shape, values


def _contents(message: Any) -> Any:
    """The one field of an InferTensorContents that is set."""
    texts: list[bytes] = []
    for number, data in _fields(message):
        if number == 8:
            texts.append(bytes(data))
        else:
            kind = _CONTENTS[number - 1]
            if kind.startswith("FP"):
                return np.frombuffer(data, _DTYPES[kind])
            if kind == "BOOL":
                return [bool(n) for n in _varints(data)]
            return [n - (1 << 64) if n >> 63 and kind.startswith("INT") else n for n in _varints(data)]
    return texts


def _varints(data: Any) -> list[int]:
    found, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        found.append(value)
    return found


def _varint(data: Any, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("a varint is too long")


def _fields(message: Any) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a protobuf message, as they come. Raises IndexError, ValueError."""
    data, at = memoryview(message), 0
    while at < len(data):
        key, at = _varint(data, at)
        match key & 7:
            case 0:
                value, at = _varint(data, at)
                yield key >> 3, value
            case 1 | 2 | 5 as wire:
                size, at = _varint(data, at) if wire == 2 else ((8, at) if wire == 1 else (4, at))
                if at + size > len(data):
                    raise ValueError("a field is cut off")
                yield key >> 3, data[at : at + size]
                at += size
            case _:
                raise ValueError("an unknown wire type")
