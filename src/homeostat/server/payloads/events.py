"""Payloads as CloudEvents 1.0 in JSON: one event per predicted row, whose id is the prediction's."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from homeostat.server.counting.counters import TRACKS
from homeostat.server.payloads.body import Body
from homeostat.server.payloads.columns import Column, fitted, input_values, shown
from homeostat.server.payloads.frames import Records
from homeostat.server.payloads.options import Options
from homeostat.server.payloads.schema import Schema

TYPE: Final = "dev.homeostat.prediction.v1"
ONE_KIND: Final = "application/cloudevents+json; charset=utf-8"
BATCH_KIND: Final = "application/cloudevents-batch+json; charset=utf-8"


class Events:
    """Writes the bodies of requests: `rows` events each, a batch; with `rows` 1 a single event without brackets."""

    def __init__(self, schema: Schema, options: Options, pod: str) -> None:
        self._schema, self._options = schema, options
        self._shown = shown(schema, options)
        self.kind = ONE_KIND if options.rows == 1 else BATCH_KIND
        self._same = {
            "specversion": "1.0",
            "type": TYPE,
            "source": f"/models/{schema.model}/versions/{schema.version}",
            "datacontenttype": "application/json",
            "modelname": schema.model,
            "modelversion": schema.version,
            "pod": pod,
        }

    def encode(self, records: Sequence[Records]) -> list[Body]:
        """The bodies. Raises ValueError when a tensor has not the shape that the model's file states."""
        events = (event for one in records for event in self._events(one))
        if self._options.rows == 1:
            return [Body(event, 1) for event in events]
        bodies = []
        while some := list(islice(events, self._options.rows)):
            bodies.append(Body(b"[" + b",".join(some) + b"]", len(some)))
        return bodies

    def _events(self, records: Records) -> list[bytes]:
        inputs = _by_row(self._shown.inputs, input_values(self._schema, self._options, records))
        outputs = _by_row(self._shown.outputs, records.outputs)
        found = []
        for row, (name, time, track) in enumerate(zip(records.ids, records.times, records.tracks, strict=True)):
            data = {
                side: {n: values[row] for n, values in of.items()}
                for side, of in (("inputs", inputs), ("outputs", outputs))
            }
            event = {**self._same, "id": name, "time": _instant(time), "track": TRACKS[track], "data": data}
            found.append(orjson.dumps(event, option=orjson.OPT_SERIALIZE_NUMPY))
        return found


def _by_row(columns: Sequence[Column], values: Sequence[NDArray[Any]]) -> dict[str, Any]:
    """Per name something whose places are the rows."""
    found: dict[str, Any] = {}
    for column, one in zip(columns, values, strict=True):
        fits = fitted(column, one)
        found[column.field.name] = fits.tolist() if fits.dtype.kind == "O" else np.ascontiguousarray(fits)
    return found


def _instant(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z")
