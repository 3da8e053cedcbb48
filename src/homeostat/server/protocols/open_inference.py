"""Open Inference Protocol v2 over HTTP: JSON, and tensors in binary form after it."""

from collections.abc import Sequence
from math import nan, prod
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from homeostat.server.asked import Answer, Asked
from homeostat.server.inference.answers import Answers, Outcome
from homeostat.server.inference.given import Given, checked_shape, given, show
from homeostat.server.inference.rows import Table, TableReader
from homeostat.server.inference.tensors import TensorReader
from homeostat.server.inference.work import Work
from homeostat.server.problem import Problem
from homeostat.server.protocols.content import content, parsed, shrunk
from homeostat.server.protocols.skeleton import Skeletons
from homeostat.server.transport.exchange import JSON

BINARY: Final = b"application/octet-stream"
_OBJECTS: Final = 64  # beyond two for each input
_FEW_ROWS: Final = 64  # their answer is not worth compressing
Wanted = Sequence[tuple[int, bool]]  # place of an output, and whether it is wanted in binary form


class OpenInference:
    """Reads `infer` requests and writes their answers."""

    def __init__(self, reader: TableReader | TensorReader, answers: Answers, most: int) -> None:
        self._reader, self._answers, self._most = reader, answers, most
        self._objects = 2 * reader.width + _OBJECTS
        self._head = b'{"model_name":%b,"model_version":%b' % (
            orjson.dumps(answers.name),
            orjson.dumps(answers.version),
        )
        self._names = [orjson.dumps(output.name) for output in answers.outputs]
        self._plain_outputs = [(place, False) for place in answers.all]
        self._lone: bytes | None = None
        self._skeletons = Skeletons(*reader.names) if isinstance(reader, TableReader) else None

    def read(self, asked: Asked) -> Work:
        """The request's rows. Raises Problem."""
        body, known, skeletons = asked.body, asked.known, self._skeletons
        if b"content-encoding" in known:
            body = content(asked, self._most)
        if b"inference-header-content-length" in known:
            return self._binary(asked, body, known[b"inference-header-content-length"])
        if skeletons is not None and (row := skeletons.read(body)) is not None:
            return Work(row, self._plain)
        found = parsed(body, self._objects)
        rows = self._reader.inputs(found.get("inputs"))
        if len(found) == 1 and rows.count <= _FEW_ROWS:
            if skeletons is not None and isinstance(rows, Table) and rows.count == 1:
                skeletons.learn(body, found["inputs"], rows)
            return Work(rows, self._plain)
        return self._work(asked, found, rows)

    def _work(self, asked: Asked, found: dict[str, Any], rows: Any) -> Work:
        id_ = found.get("id")
        if id_ is not None and type(id_) is not str:
            raise Problem(400, f"`id` must be a string, got {show(id_)}")
        parameters = found.get("parameters")
        if parameters is None:
            parameters = {}
        if type(parameters) is not dict:
            raise Problem(400, f"`parameters` must be an object, got {show(parameters)}")
        wanted = self._wanted(found.get("outputs"), binary=parameters.get("binary_data_output") is True)
        shown = b"" if id_ is None else b',"id":' + orjson.dumps(id_)

        def write(outcome: Outcome, start: int, count: int) -> Answer:
            return shrunk(asked, self._write(shown, wanted, outcome, start, count))

        return Work(rows, write, timeout_of(parameters))

    def _binary(self, asked: Asked, body: bytes, length: bytes) -> Work:
        """JSON of `length` bytes, then the tensors one after the other."""
        if not length.isdigit() or len(length) > 12 or int(length) > len(body):
            raise Problem(400, "inference-header-content-length must be the size of the JSON part, within the body")
        size = int(length)
        found = parsed(body[:size], self._objects)
        inputs = found.get("inputs")
        if type(inputs) is not list or not inputs:
            raise Problem(400, "`inputs` must be a list of tensors")
        rest, tensors = memoryview(body)[size:], []
        for one in inputs:
            tensor, used = _tensor(one, rest)
            rest = rest[used:]
            tensors.append(tensor)
        if rest:
            raise Problem(400, f"{len(rest)} bytes follow the last tensor")
        return self._work(asked, found, self._reader.arrays(tensors))

    def _wanted(self, outputs: Any, *, binary: bool) -> Wanted:
        """Requested outputs; all when none are named. Raises Problem."""
        if not outputs:
            return [(place, True) for place in self._answers.all] if binary else self._plain_outputs
        if type(outputs) is not list:
            raise Problem(400, f"`outputs` must be a list of objects with `name`, got {show(outputs)}")
        wanted = []
        for one in outputs:
            place = self._answers.place(one.get("name") if type(one) is dict else None)
            parameters = one.get("parameters") or {}
            if type(parameters) is not dict or parameters.get("classification"):
                raise Problem(400, f"output {one['name']!r}: `classification` is not supported; ask for the scores")
            wanted.append((place, parameters.get("binary_data", binary) is True))
        return wanted

    def _plain(self, outcome: Outcome, start: int, count: int) -> Answer:
        """All outputs as JSON."""
        if count == 1 and self._answers.batched:
            lone = self._lone or self._learn(outcome)
            return lone % outcome.lines[start], JSON, b""
        return self._json(b"", self._plain_outputs, outcome, start, count), JSON, b""

    def _learn(self, outcome: Outcome) -> bytes:
        """The answer for one row with places for id and values. A shape of outputs that varies by row has no such form."""
        head = self._head.replace(b"%", b"%%") + b',"parameters":{"prediction_ids":"%b"},"outputs":['
        parts = [self._described(place, outcome, 1).replace(b"%", b"%%") for place in self._answers.all]
        lone = head + b",".join(part + b',"data":[%b]}' for part in parts) + b"]}"
        if all(-1 not in output.shape[1:] for output in self._answers.outputs) or self._answers.signature.columns:
            self._lone = lone
        return lone

    def _described(self, place: int, outcome: Outcome, count: int) -> bytes:
        shape = ",".join(map(str, outcome.shape(place, count)))
        datatype = self._answers.outputs[place].datatype
        return b'{"name":%b,"datatype":"%b","shape":[%b]' % (self._names[place], datatype.encode(), shape.encode())

    def _json(self, id_: bytes, wanted: Wanted, outcome: Outcome, start: int, count: int) -> bytes:
        end = start + count
        ids = b",".join(outcome.ids[start:end])
        outputs = []
        for place, _ in wanted:
            data = outcome.data(place, start, count)
            outputs.append(b'%b,"data":[%b]}' % (self._described(place, outcome, count), data))
        parameters = b'"prediction_ids":"%b"' % ids
        return b'%b%b,"parameters":{%b},"outputs":[%b]}' % (self._head, id_, parameters, b",".join(outputs))

    def _write(self, id_: bytes, wanted: Wanted, outcome: Outcome, start: int, count: int) -> Answer:
        if not any(binary for _, binary in wanted):
            return self._json(id_, wanted, outcome, start, count), JSON, b""
        outputs, blobs = [], []
        for place, binary in wanted:
            described = self._described(place, outcome, count)
            if binary:
                blob = raw(outcome.part(place, start, count))
                blobs.append(blob)
                outputs.append(b'%b,"parameters":{"binary_data_size":%d}}' % (described, len(blob)))
            else:
                data = outcome.data(place, start, count)
                outputs.append(b'%b,"data":[%b]}' % (described, data))
        ids = b",".join(outcome.ids[start : start + count])
        head = b'%b%b,"parameters":{"prediction_ids":"%b"},"outputs":[%b]}' % (
            self._head,
            id_,
            ids,
            b",".join(outputs),
        )
        extra = b"inference-header-content-length: %d\r\n" % len(head)
        return head + b"".join(blobs), BINARY, extra


def _tensor(one: Any, rest: memoryview) -> tuple[Given, int]:
    """One input of a request with binary ones, and how many bytes of the rest it took. Raises Problem."""
    if type(one) is not dict or type(one.get("name")) is not str or type(one.get("datatype")) is not str:
        raise Problem(400, f"an input must be an object with `name`, `shape`, `datatype`: {show(one)}")
    name, datatype = one["name"], one["datatype"]
    parameters = one.get("parameters")
    size = parameters.get("binary_data_size") if type(parameters) is dict else None
    if size is None:
        shape, data = checked_shape(name, one.get("shape")), one.get("data")
        values = np.asarray(data, dtype=object).ravel().tolist() if type(data) is list else None
        if values is None or len(values) != prod(shape):
            raise Problem(400, f"input {name!r} needs {prod(shape)} values in `data`, or `binary_data_size`")
        return Given(name, datatype, shape, _from_json(name, datatype, values)), 0
    if type(size) is not int or not 0 <= size <= len(rest):
        raise Problem(
            400, f"input {name!r}: binary_data_size {show(size)} does not fit the {len(rest)} bytes that are left"
        )
    return given(name, datatype, one.get("shape") or (), rest[:size]), size


def _from_json(name: str, datatype: str, values: list[Any]) -> NDArray[Any] | list[str]:
    if datatype == "BYTES":
        if not all(value is None or type(value) is str for value in values):
            raise Problem(400, f"input {name!r}: expected strings or null")
        return [value or "" for value in values]
    if not all(value is None or isinstance(value, int | float) for value in values):
        raise Problem(400, f"input {name!r}: expected numbers or null")
    return np.array([nan if value is None else value for value in values], dtype=np.float64)


def raw(values: NDArray[Any]) -> bytes:
    """An output in binary form."""
    if values.dtype != object:
        return values.tobytes()
    texts = [value if isinstance(value, bytes) else str(value).encode() for value in values.ravel().tolist()]
    return b"".join([len(text).to_bytes(4, "little") + text for text in texts])


def timeout_of(parameters: dict[str, Any]) -> float | None:
    """Seconds from the parameter `timeout`, which is in microseconds, as Triton has it. Raises Problem."""
    timeout = parameters.get("timeout")
    if timeout is None:
        return None
    if type(timeout) is not int or timeout < 0:
        raise Problem(400, f"parameter `timeout` must be whole microseconds, got {show(timeout)}")
    return timeout / 1e6 if timeout else None
