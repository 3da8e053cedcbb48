"""Tensors as a client gave them in binary form, and values in messages."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostat.server.inference.graph import NUMPY
from homeostat.server.problem import Problem

MAX_AXES: Final = 8
_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Given:
    """One tensor. values: an array for numbers, a list of texts for BYTES; flat, in row-major order."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: NDArray[Any] | list[str]


def given(name: str, datatype: str, shape: Sequence[int], raw: bytes | memoryview) -> Given:
    """A tensor from its raw little-endian bytes; BYTES elements have their length (4 bytes) before them. Raises Problem."""
    sizes = checked_shape(name, shape)
    count = prod(sizes)
    if datatype == "BYTES":
        return Given(name, datatype, sizes, _texts(name, count, raw))
    if datatype == "BF16":
        _check_size(name, len(raw), count * 2)
        widened = np.frombuffer(raw, np.uint16).astype(np.uint32) << 16
        return Given(name, datatype, sizes, widened.view(np.float32))
    kind = NUMPY.get(datatype)
    if kind is None:
        raise Problem(400, f"input {name!r}: unknown datatype {datatype[:40]!r}; there are {', '.join(NUMPY)}, BF16")
    _check_size(name, len(raw), count * np.dtype(kind).itemsize)
    return Given(name, datatype, sizes, np.frombuffer(raw, kind))


def checked_shape(name: str, shape: Any) -> tuple[int, ...]:
    """The shape when it is one. Raises Problem."""
    good = isinstance(shape, list | tuple) and len(shape) <= MAX_AXES
    if not good or any(type(size) is not int or not 0 <= size < 1 << 31 for size in shape):
        raise Problem(400, f"input {name[:100]!r}: `shape` must be a list of up to {MAX_AXES} sizes, got {show(shape)}")
    return tuple(shape)


def _check_size(name: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise Problem(400, f"input {name!r}: its shape needs {wanted} bytes of data, got {found}")


def _texts(name: str, count: int, raw: bytes | memoryview) -> list[str]:
    texts: list[str] = []
    at, size = 0, len(raw)
    while at < size:
        if at + 4 > size or len(texts) == count:
            break
        (length,) = _LENGTH.unpack_from(raw, at)
        at += 4 + length
        if at > size:
            break
        texts.append(text_of(name, bytes(raw[at - length : at])))
    if at != size or len(texts) != count:
        raise Problem(400, f"input {name!r}: its shape needs {count} texts, each after its length; the data do not fit")
    return texts


def text_of(name: str, value: bytes) -> str:
    """An element of a BYTES tensor as text. Raises Problem."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Problem(400, f"input {name!r} holds a text that is not UTF-8") from None


def show(value: Any) -> str:
    """A JSON value in a message: its type and the begin of it."""
    kinds = {str: "string", int: "number", float: "number", bool: "boolean", list: "list", dict: "object"}
    if value is None:
        return "null"
    return f"{kinds.get(type(value), type(value).__name__)} {_begin(value)[:60]}"


def _begin(value: Any) -> str:
    """The begin of a JSON value: never all of it, however large or deep it is."""
    if type(value) is list:
        return f"[{', '.join(map(_inner, value[: MAX_AXES + 1]))}]"
    if type(value) is dict:
        return f"{{{', '.join(f'{_inner(key)}: {_inner(one)}' for key, one in islice(value.items(), 4))}}}"
    return _inner(value)


def _inner(value: Any) -> str:
    if type(value) in {list, dict}:
        return "[…]" if type(value) is list else "{…}"
    return repr(value[:60]) if isinstance(value, str) else str(value)
