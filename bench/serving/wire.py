"""Requests as bytes: Open Inference Protocol over HTTP (JSON and binary tensors) and over gRPC, and answers back to scores.

All servers get the same bytes. Protocol buffers are written by hand: a handful of fields, and no dependency.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from bench.serving.models import Model, Rows
from numpy.typing import NDArray

PATH: Final = "/v2/models/bench/infer"
GRPC_PATH: Final = "/inference.GRPCInferenceService/ModelInfer"


def http(body: bytes, headers: str = "content-type: application/json\r\n", path: str = PATH) -> bytes:
    """One whole request, as the load generator sends it."""
    return f"POST {path} HTTP/1.1\r\nhost: bench\r\n{headers}content-length: {len(body)}\r\n\r\n".encode() + body


def json_tensor(rows: Rows) -> bytes:
    """All columns as one tensor `input`."""
    data = [round(float(v), 4) for v in rows.numbers.reshape(-1)]
    tensor = {"name": "input", "shape": list(rows.numbers.shape), "datatype": "FP32", "data": data}
    return json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()


def json_columns(model: Model, rows: Rows) -> bytes:
    """One input per named column, numbers and strings."""
    shape = [len(rows.numbers)]
    inputs: list[dict[str, Any]] = []
    for name, column in zip(model.numbers, rows.numbers.T, strict=True):
        data: list[Any] = [round(float(v), 4) for v in column]
        inputs.append({"name": name, "shape": shape, "datatype": "FP32", "data": data})
    for name, column in zip(model.strings, rows.strings.T, strict=True):
        inputs.append({"name": name, "shape": shape, "datatype": "BYTES", "data": column.tolist()})
    return json.dumps({"inputs": inputs}, separators=(",", ":")).encode()


def binary_tensor(rows: Rows) -> bytes:
    """A whole HTTP request with the binary tensor extension, which also asks for binary outputs."""
    content = rows.numbers.tobytes()
    tensor = {"name": "input", "shape": list(rows.numbers.shape), "datatype": "FP32"}
    header = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": len(content)}}],
            "parameters": {"binary_data_output": True},
        },
        separators=(",", ":"),
    ).encode()
    length = f"content-type: application/octet-stream\r\ninference-header-content-length: {len(header)}\r\n"
    return http(header + content, length)


def grpc_message(rows: Rows) -> bytes:
    """A ModelInferRequest with raw contents."""
    shape = b"".join(_varint(n) for n in rows.numbers.shape)
    tensor = _field(1, b"input") + _field(2, b"FP32") + _field(3, shape)
    return _field(1, b"bench") + _field(5, tensor) + _field(7, rows.numbers.tobytes())


def scores_of_json(body: bytes) -> NDArray[np.float32]:
    """The scores in a JSON answer, whatever the server calls them."""
    outputs = json.loads(body)["outputs"]
    found = next(o for o in outputs if o["name"] in {"probabilities", "score"})
    return np.array(found["data"], np.float32).reshape(found["shape"][0], -1)


def scores_of_binary(head: bytes, body: bytes) -> NDArray[np.float32]:
    """The scores in an answer with binary tensors."""
    words = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    size = int(words[b"inference-header-content-length"])
    at = size
    for output in json.loads(body[:size])["outputs"]:
        length = output["parameters"]["binary_data_size"]
        if output["name"] in {"probabilities", "score"}:
            return np.frombuffer(body[at : at + length], np.float32).reshape(output["shape"][0], -1)
        at += length
    raise KeyError("probabilities")


def scores_of_grpc(message: bytes) -> NDArray[np.float32]:
    """The scores in a ModelInferResponse, raw or typed."""
    fields = list(_fields(message))
    raw = [value for number, value in fields if number == 6]
    for place, tensor in enumerate(value for number, value in fields if number == 5):
        parts = dict(_fields(tensor))
        if parts[1] in {b"probabilities", b"score"}:
            rows = next(iter(_varints(parts[3])))
            content = raw[place] if raw else next(v for n, v in _fields(parts[5]) if n == 6)
            return np.frombuffer(content, np.float32).reshape(rows, -1)
    raise KeyError("probabilities")


def pack(requests: list[bytes]) -> bytes:
    """Requests as one file for the load generator: each with its length before it."""
    return b"".join(struct.pack(">I", len(r)) + r for r in requests)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varints(data: bytes) -> Iterator[int]:
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            yield value
            value = shift = 0


def _fields(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of each field; only length-delimited ones and varints occur."""
    at = 0
    while at < len(data):
        key, at = _read(data, at)
        if key & 7 == 2:
            size, at = _read(data, at)
            yield key >> 3, data[at : at + size]
            at += size
        else:
            value, at = _read(data, at)
            yield key >> 3, _varint(value)


def _read(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
