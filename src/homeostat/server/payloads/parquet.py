"""Payloads as a parquet file: one row per predicted row. Only the logger imports this: pyarrow is large."""

from collections.abc import Sequence
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from homeostat.server.counting.counters import TRACKS
from homeostat.server.payloads.body import Body
from homeostat.server.payloads.columns import Column, fitted, input_values, shown
from homeostat.server.payloads.frames import Records
from homeostat.server.payloads.options import Options
from homeostat.server.payloads.schema import Schema

FORMAT: Final = b"1"
COMPRESSION: Final = "zstd"
_TYPES: Final = {
    "FP16": pa.float32(),  # few readers know half floats
    "FP32": pa.float32(),
    "FP64": pa.float64(),
    "INT8": pa.int8(),
    "INT16": pa.int16(),
    "INT32": pa.int32(),
    "INT64": pa.int64(),
    "UINT8": pa.uint8(),
    "UINT16": pa.uint16(),
    "UINT32": pa.uint32(),
    "UINT64": pa.uint64(),
    "BOOL": pa.bool_(),
    "BYTES": pa.string(),
}
_NAME: Final = pa.dictionary(pa.int32(), pa.string())


class Parquet:
    """Writes files of one version, all with the same columns.

    `prediction_id`, `time`, `model`, `version`, `track`, `pod`, then `input_<name>` and `output_<name>`; tensors are nested
    lists, a missing number is null.
    """

    def __init__(self, schema: Schema, options: Options, pod: str) -> None:
        self._schema, self._options, self._pod = schema, options, pod
        self._shown = shown(schema, options)
        self.columns = pa.schema(
            [
                ("prediction_id", pa.string()),
                ("time", pa.timestamp("us", "UTC")),
                *((name, _NAME) for name in ("model", "version", "track", "pod")),
                *((f"input_{one.field.name}", _type(one)) for one in self._shown.inputs),
                *((f"output_{one.field.name}", _type(one)) for one in self._shown.outputs),
            ],
            metadata={
                b"homeostat.payload": FORMAT,
                b"homeostat.model": schema.model.encode(),
                b"homeostat.version": schema.version.encode(),
            },
        )

    def encode(self, records: Sequence[Records]) -> list[Body]:
        """One file. Raises ValueError when a tensor has not the shape that the model's file states."""
        out = BytesIO()
        batches = [pa.record_batch(self._arrays(one), schema=self.columns) for one in records]
        pq.write_table(pa.Table.from_batches(batches, self.columns), out, compression=COMPRESSION)
        return [Body(out.getvalue(), sum(len(one.ids) for one in records))]

    def _arrays(self, records: Records) -> list[Any]:
        count = len(records.ids)
        times = np.array([round(time * 1e6) for time in records.times], np.int64)
        constant = [_repeated(text, count) for text in (self._schema.model, self._schema.version)]
        tracks = pa.DictionaryArray.from_arrays(pa.array(records.tracks, pa.int32()), list(TRACKS))
        inputs = input_values(self._schema, self._options, records)
        return [
            pa.array(records.ids, pa.string()),
            pa.array(times).cast(pa.timestamp("us", "UTC")),
            *constant,
            tracks,
            _repeated(self._pod, count),
            *map(_array, self._shown.inputs, inputs),
            *map(_array, self._shown.outputs, records.outputs),
        ]


def _type(column: Column) -> Any:
    if column.hashed:
        return pa.string()
    kind = _TYPES[column.field.datatype]
    for _ in range(column.field.rank):
        kind = pa.list_(kind)
    return kind


def _array(column: Column, values: NDArray[Any]) -> Any:
    values = fitted(column, values)
    kind = pa.string() if column.hashed else _TYPES[column.field.datatype]
    flat = values.ravel()
    array = pa.array(flat.tolist() if flat.dtype.kind == "O" else flat, from_pandas=True).cast(kind)
    for axis in range(values.ndim - 1, 0, -1):
        lists = int(np.prod(values.shape[:axis]))
        array = pa.ListArray.from_arrays(pa.array(np.arange(lists + 1, dtype=np.int32) * values.shape[axis]), array)
    return array


def _repeated(text: str, count: int) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, np.int32)), [text])


def file_name(pod: str, token: str, number: int, now: datetime) -> str:
    """Name of a file without its ending; also good as a tag. token: of the process, number: counts its files."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "_.-") else "-" for c in pod)[:80].lstrip(".-")
    return f"{safe or 'pod'}-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{token}-{number:04d}"
