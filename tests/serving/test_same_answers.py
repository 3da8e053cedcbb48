"""1,000 rows to eight models: over every protocol, alone and together, what ONNX Runtime itself gives, bit by bit."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from homeostat.server.protos import inference_pb2
from serving import raw_client
from serving.eight import EIGHT, ROWS, Case
from serving.pod import Pod

Values = dict[str, list[Any]]  # by output: the values of one request's rows, flat
KINDS = {np.dtype("float32"): "FP32", np.dtype(object): "BYTES"}


@pytest.fixture(scope="module", params=EIGHT)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Case, Pod]]:
    case = EIGHT[request.param](tmp_path_factory.mktemp(request.param) / "model")
    with Pod(case.folder, name="m", workers=1) as pod:
        yield case, pod.ready()


def inputs(case: Case) -> dict[str, Any]:
    return case.columns or case.feeds


def tensors(case: Case, start: int, count: int) -> list[tuple[str, np.ndarray[Any, Any]]]:
    return [(name, values[start : start + count]) for name, values in inputs(case).items()]


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: test", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def plain(values: np.ndarray[Any, Any]) -> Any:
    return [None if isinstance(v, float) and np.isnan(v) else v for v in values.ravel().tolist()]


def as_json(case: Case, start: int, count: int) -> bytes:
    columns = [
        {"name": n, "shape": list(v.shape), "datatype": KINDS[v.dtype], "data": plain(v)}
        for n, v in tensors(case, start, count)
    ]
    return post("/v2/models/m/infer", json.dumps({"inputs": columns}).encode())


def from_json(body: bytes) -> Values:
    return {output["name"]: output["data"] for output in json.loads(body)["outputs"]}


def blob(values: np.ndarray[Any, Any]) -> bytes:
    if values.dtype != object:
        return values.tobytes()
    return b"".join(len(text).to_bytes(4, "little") + text.encode() for text in values.ravel().tolist())


def as_binary(case: Case, start: int, count: int) -> bytes:
    given = tensors(case, start, count)
    blobs = [blob(values) for _, values in given]
    columns = [
        {"name": n, "shape": list(v.shape), "datatype": KINDS[v.dtype], "parameters": {"binary_data_size": len(b)}}
        for (n, v), b in zip(given, blobs, strict=True)
    ]
    head = json.dumps({"inputs": columns, "parameters": {"binary_data_output": True}}).encode()
    return post("/v2/models/m/infer", head + b"".join(blobs), f"inference-header-content-length: {len(head)}")


def unpacked(datatype: str, data: bytes) -> list[Any]:
    if datatype != "BYTES":
        kind = {"FP32": np.float32, "INT64": np.int64, "BOOL": np.bool_}[datatype]
        return np.frombuffer(data, kind).tolist()
    texts = []
    while data:
        size = int.from_bytes(data[:4], "little")
        texts.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    return texts


def from_binary(body: bytes) -> Values:
    head, at = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    found = {}
    for output in head["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = unpacked(output["datatype"], body[at : at + size])
        at += size
    return found


def message(case: Case, start: int, count: int, *, raw: bool) -> bytes:
    asked = inference_pb2.ModelInferRequest(model_name="m")
    for name, values in tensors(case, start, count):
        tensor = asked.inputs.add(name=name, datatype=KINDS[values.dtype], shape=values.shape)
        if raw:
            asked.raw_input_contents.append(blob(values))
        elif values.dtype == object:
            tensor.contents.bytes_contents.extend(text.encode() for text in values.ravel().tolist())
        else:
            tensor.contents.fp32_contents.extend(values.ravel().tolist())
    kind = "content-type: application/grpc+proto"
    return post("/inference.GRPCInferenceService/ModelInfer", asked.SerializeToString(), kind)


def as_raw_message(case: Case, start: int, count: int) -> bytes:
    return message(case, start, count, raw=True)


def as_typed_message(case: Case, start: int, count: int) -> bytes:
    return message(case, start, count, raw=False)


def from_message(body: bytes) -> Values:
    found = inference_pb2.ModelInferResponse.FromString(body)
    if found.raw_output_contents:
        pairs = zip(found.outputs, found.raw_output_contents, strict=True)
        return {output.name: unpacked(output.datatype, data) for output, data in pairs}
    fields = {"FP32": "fp32_contents", "INT64": "int64_contents", "BOOL": "bool_contents"}
    return {output.name: list(getattr(output.contents, fields[output.datatype])) for output in found.outputs}


PROTOCOLS = {
    "json": (as_json, from_json),
    "binary": (as_binary, from_binary),
    "raw message": (as_raw_message, from_message),
    "typed message": (as_typed_message, from_message),
}


def answers(served: tuple[Case, Pod], protocol: str, size: int, lanes: int = 8) -> Values:
    """All rows, `size` in a request, over kept connections: their values by output, in order."""
    case, pod = served
    write, read = PROTOCOLS[protocol]
    requests = [write(case, start, size) for start in range(0, ROWS, size)]
    found: dict[bytes, Values] = {}

    def answered(sent: bytes, status: int, body: bytes) -> None:
        assert status == 200, body[:300]
        found[sent] = read(body)

    raw_client.ask(pod.port, requests, answered, lanes)
    outputs = found[requests[0]]
    return {name: [value for sent in requests for value in found[sent][name]] for name in outputs}


def same(case: Case, found: Values, wanted: list[np.ndarray[Any, Any]]) -> None:
    """Every output, in the graph's order, bit by bit."""
    for values, output in zip(found.values(), wanted, strict=True):
        flat = output.ravel()
        if flat.dtype == np.float32:
            assert np.array_equal(np.array(values, np.float32).view(np.int32), flat.view(np.int32))
        else:
            assert [str(v).lower() for v in values] == [
                str(bool(v)).lower() if case.columns else str(v) for v in flat.tolist()
            ]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_rows_alone_get_what_the_runtime_gives(served: tuple[Case, Pod], protocol: str) -> None:
    case, _ = served
    found = answers(served, protocol, 1)
    same(case, found, case.padded(ROWS))
    scores = case.alone(ROWS)[-1].ravel()
    assert np.allclose(np.array(list(found.values())[-1], np.float32), scores, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_rows_together_get_what_the_runtime_gives(served: tuple[Case, Pod], protocol: str) -> None:
    case, _ = served
    chunks = [case.expected(start, 50) for start in range(0, ROWS, 50)]
    same(case, answers(served, protocol, 50, lanes=1), [np.concatenate(column) for column in zip(*chunks, strict=True)])


def test_other_protocols_give_the_same_predictions(served: tuple[Case, Pod]) -> None:
    case, pod = served
    wanted = answers(served, "json", 50)
    label = next(iter(wanted))
    if case.columns:
        records = [
            dict(zip(case.columns, row, strict=True)) for row in zip(*map(plain, case.columns.values()), strict=True)
        ]
        rows: list[Any] = records
    else:
        rows = next(iter(case.feeds.values())).tolist()
    for path in ("/v1/models/m:predict", "/invocations"):
        body = json.dumps({"instances": rows}).encode()
        answer = pod.send("POST", path, body, {"content-type": "application/json"})
        assert answer.status == 200, answer.content[:300]
        assert np.ravel(answer.json["predictions"]).tolist() == wanted[label]
