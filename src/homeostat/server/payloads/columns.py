"""Records as columns that may leave the pod: what is dropped is not there, what is hashed cannot be read."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from homeostat.server.payloads.frames import Records
from homeostat.server.payloads.options import Options
from homeostat.server.payloads.schema import Field, Schema

HASH_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Column:
    """One input or output as it is written. hashed: its values are hexadecimal texts, None where a number is missing."""

    field: Field
    hashed: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """What of the inputs and outputs is written; the same for all records of a version."""

    inputs: tuple[Column, ...]
    outputs: tuple[Column, ...]


def shown(schema: Schema, options: Options) -> Shown:
    """The columns that are written."""
    inputs = tuple(Column(f, f.name in options.hash) for f in schema.inputs if f.name not in options.drop)
    return Shown(inputs, tuple(map(Column, schema.outputs)))


def input_values(schema: Schema, options: Options, records: Records) -> list[NDArray[Any]]:
    """The values of `Shown.inputs`, hashed where they have to be."""
    return [
        hashes(values, options.salt) if field.name in options.hash else values
        for field, values in zip(schema.inputs, records.inputs, strict=True)
        if field.name not in options.drop
    ]


def hashes(values: NDArray[Any], salt: bytes) -> NDArray[Any]:
    """Per row the keyed BLAKE2b of a text's UTF-8, or of a number's little-endian bytes as the model takes it.

    A missing number stays missing; of a tensor with axes the bytes of all its values are hashed, texts as a JSON list.
    """
    found = np.empty(len(values), dtype=object)
    if values.ndim == 1 and values.dtype.kind == "f":
        found[:] = [None if np.isnan(value) else _hash(value.tobytes(), salt) for value in values]
    elif values.dtype.kind != "O":
        found[:] = [_hash(row.tobytes(), salt) for row in values]
    elif values.ndim == 1:
        found[:] = [_hash(text.encode(), salt) for text in values.tolist()]
    else:
        found[:] = [_hash(orjson.dumps(row), salt) for row in values.tolist()]
    return found


def fitted(column: Column, values: NDArray[Any]) -> NDArray[Any]:
    """The values with as many axes per row as the field has; axes of one element may be added or left out.

    Raises ValueError when they do not fit.
    """
    wanted, tail = 0 if column.hashed else column.field.rank, values.shape[1:]
    if len(tail) > wanted and all(size == 1 for size in tail[wanted:]):
        return values.reshape(len(values), *tail[:wanted])
    if len(tail) < wanted:
        return values.reshape(len(values), *tail, *(1,) * (wanted - len(tail)))
    if len(tail) != wanted:
        raise ValueError(f"{column.field.name!r} has shape {list(tail)} in a row, but {wanted} axes were expected")
    return values


def _hash(value: bytes, salt: bytes) -> str:
    return blake2b(value, key=salt, digest_size=HASH_BYTES).hexdigest()
