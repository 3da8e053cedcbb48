"""A shadow agrees when its labels are equal and its scores near, whatever protocol the answers are in."""

import gzip
import struct
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.server.protos import inference_pb2
from homeostat.server.traffic.agreement import Agreement, Answered, compare

JSON = b"application/json"
GRPC = b"application/grpc+proto"


def v2(labels: list[object], scores: list[object], *, version: str = "v7", datatype: str = "INT64") -> Answered:
    outputs = [
        {"name": "label", "datatype": datatype, "shape": [len(labels)], "data": labels},
        {"name": "probabilities", "datatype": "FP32", "shape": [len(labels), 2], "data": scores},
    ]
    found = {"model_name": "m", "model_version": version, "parameters": {"prediction_ids": [version]}}
    return Answered(JSON, b"", orjson.dumps({**found, "outputs": outputs}))


def test_ids_and_versions_are_not_compared() -> None:
    own, other = v2([1], [0.25, 0.75]), v2([1], [0.25, 0.75], version="v8")
    assert compare(own, other, 0.0) == (1, 0, 0)


def test_rows_are_compared_one_by_one() -> None:
    own = v2([0, 1, 1], [0.9, 0.1, 0.2, 0.8, 0.3, 0.7])
    other = v2([0, 1, 0], [0.9, 0.1, 0.2, 0.9, 0.3, 0.7])  # the second by its score, the third by its label
    assert compare(own, other, 1e-3) == (1, 2, 0)


@pytest.mark.parametrize(("near", "agreed"), [(0.5009, 1), (0.5011, 0), (None, 0), ("0.5", 0)])
def test_scores_may_lie_apart_by_the_tolerance(near: object, agreed: int) -> None:
    found = compare(v2([1], [0.5, 0.5]), v2([1], [0.5, near]), 1e-3)
    assert found == (agreed, 1 - agreed, 0)


def test_missing_scores_agree_with_missing_ones() -> None:
    assert compare(v2([1], [None, 0.5]), v2([1], [None, 0.5]), 1e-3).agreed == 1


def test_labels_have_no_tolerance() -> None:
    assert compare(v2([1], [0.5, 0.5]), v2([2], [0.5, 0.5]), 5.0).differed == 1
    texts = v2(["yes"], [0.5, 0.5], datatype="BYTES"), v2(["no"], [0.5, 0.5], datatype="BYTES")
    assert compare(*texts, 5.0).differed == 1


def test_no_answer_fails_all_rows() -> None:
    assert compare(v2([1, 1, 1], [0.5] * 6), None, 1e-3) == Agreement(0, 0, 3)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"outputs":1}', b'{"outputs":[{}]}', b"\x00\xff", b"null"])
def test_garbage_is_no_answer(body: bytes) -> None:
    assert compare(v2([1], [0.5, 0.5]), Answered(JSON, b"", body), 1e-3) == (0, 0, 1)


def test_other_outputs_or_shapes_differ() -> None:
    own = v2([1, 0], [0.5] * 4)
    assert compare(own, v2([1], [0.5, 0.5]), 1e-3) == (0, 2, 0)
    one = orjson.dumps({"outputs": [{"name": "x", "datatype": "FP32", "shape": [2], "data": [1, 2]}]})
    assert compare(own, Answered(JSON, b"", one), 1e-3) == (0, 2, 0)


def test_compressed_answers_are_opened() -> None:
    own = v2([1], [0.5, 0.5])
    packed = Answered(JSON, b"content-encoding: gzip\r\n", gzip.compress(own.body))
    assert compare(packed, own, 0.0).agreed == 1
    assert compare(own, Answered(JSON, b"Content-Encoding: gzip\r\n", b"no gzip"), 0.0).failed == 1


def binary(scores: list[float], label: bytes) -> Answered:
    blob = struct.pack(f"<{len(scores)}f", *scores)
    text = struct.pack("<I", len(label)) + label
    outputs = [
        {"name": "p", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": len(blob)}},
        {"name": "l", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": len(text)}},
    ]
    head = orjson.dumps({"outputs": outputs})
    return Answered(
        b"application/octet-stream", b"inference-header-content-length: %d\r\n" % len(head), head + blob + text
    )


def test_binary_tensors_are_compared_as_values() -> None:
    own = binary([0.25, 0.75], b"yes")
    assert compare(own, binary([0.2501, 0.7499], b"yes"), 1e-3).agreed == 1
    assert compare(own, binary([0.25, 0.75], b"no"), 1e-3).differed == 1
    assert compare(own, Answered(own.kind, own.headers, own.body[:-2]), 1e-3) != (1, 0, 0)


TYPED = {
    "BOOL": "bool_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
PACK = {"BOOL": "?", "INT32": "i", "INT64": "q", "UINT32": "I", "UINT64": "Q", "FP32": "f", "FP64": "d"}


def grpc(version: str, *outputs: tuple[str, list[Any]], raw: bool) -> Answered:
    """outputs: datatype and values, one a row."""
    message = inference_pb2.ModelInferResponse(model_name="m", model_version=version, id=version)
    message.parameters["prediction_ids"].string_param = version
    for place, (datatype, values) in enumerate(outputs):
        tensor = message.outputs.add(name=f"o{place}", datatype=datatype, shape=[len(values), 1])
        if not raw:
            getattr(tensor.contents, TYPED[datatype]).extend(values)
        elif datatype == "BYTES":
            message.raw_output_contents.append(b"".join(struct.pack("<I", len(v)) + v for v in values))
        else:
            message.raw_output_contents.append(struct.pack(f"<{len(values)}{PACK[datatype]}", *values))
    return Answered(GRPC, b"", message.SerializeToString())


@pytest.mark.parametrize("raw", [True, False])
def test_grpc_answers_are_compared_as_values(raw: bool) -> None:
    own = grpc("v7", ("FP32", [0.25, 0.75]), ("INT64", [1, -2]), raw=raw)
    near = grpc("v8", ("FP32", [0.2501, 0.7499]), ("INT64", [1, -2]), raw=raw)
    assert compare(own, near, 1e-3) == (2, 0, 0)
    assert compare(own, grpc("v8", ("FP32", [0.25, 0.75]), ("INT64", [1, 2]), raw=raw), 1e-3) == (1, 1, 0)
    assert compare(own, Answered(GRPC, b"", own.body[:-3]), 1e-3).failed == 2


@pytest.mark.parametrize(
    ("datatype", "values", "others"),
    [
        ("BOOL", [True, False], [True, True]),
        ("INT32", [-1, 7], [-1, 8]),
        ("INT64", [-(2**60), 300], [-(2**60), 301]),
        ("UINT32", [1, 2**32 - 1], [1, 0]),
        ("UINT64", [1, 2**64 - 1], [1, 0]),
        ("FP32", [0.5, 0.25], [0.5, 0.5]),
        ("FP64", [0.5, 0.25], [0.5, 0.5]),
        ("BYTES", [b"yes", b""], [b"yes", b"no"]),
    ],
)
def test_both_forms_of_every_datatype_are_the_same_values(datatype: str, values: list[Any], others: list[Any]) -> None:
    packed, typed = (grpc("v7", (datatype, values), raw=raw) for raw in (True, False))
    assert compare(packed, typed, 1e-3) == compare(typed, packed, 1e-3) == (2, 0, 0)
    assert compare(typed, grpc("v8", (datatype, others), raw=True), 1e-3) == (1, 1, 0)


def test_predictions_of_v1_and_mlflow_are_compared_row_by_row() -> None:
    def answered(*rows: object) -> Answered:
        return Answered(JSON, b"", orjson.dumps({"predictions": rows, "prediction_ids": ["a"]}))

    own = answered({"label": "a", "score": 0.5}, {"label": "b", "score": 0.5}, 3)
    assert compare(own, answered({"label": "a", "score": 0.5001}, {"label": "a", "score": 0.5}, 3), 1e-3) == (2, 1, 0)
    assert compare(own, answered(1), 1e-3) == (0, 3, 0)


def test_what_has_no_known_form_is_compared_as_bytes() -> None:
    own = Answered(b"text/csv", b"", b"0.5\n")
    assert compare(own, Answered(b"text/csv", b"", b"0.5\n"), 1e-3).agreed == 1
    assert compare(own, Answered(b"text/csv", b"", b"0.6\n"), 1e-3).differed == 1


@given(st.binary(max_size=200), st.sampled_from([JSON, GRPC, b"application/octet-stream"]), st.binary(max_size=30))
def test_no_bytes_can_raise(body: bytes, kind: bytes, head: bytes) -> None:
    headers = b"inference-header-content-length: " + head.replace(b"\r\n", b"") + b"\r\n"
    for own in (v2([1], [0.5, 0.5]), grpc("v7", ("FP32", [0.5]), raw=True), binary([0.5, 0.5], b"a")):
        assert sum(compare(own, Answered(kind, headers, body), 1e-3)) == 1
        compare(Answered(kind, headers, body), own, 1e-3)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["outputs", "name", "shape", "data", "datatype", "predictions"]), inner)
    ),
    max_leaves=12,
)


@given(JSONS, st.sampled_from(["FP32", "INT64", "BYTES", "x"]))
def test_no_json_can_raise(found: object, datatype: str) -> None:
    own = v2([1], [0.5, 0.5])
    outputs = {"outputs": [{"name": "label", "shape": [1], "datatype": datatype, "data": found}]}
    for body in (found, outputs, {"predictions": [found]}):
        answered = Answered(JSON, b"", orjson.dumps(body))
        assert sum(compare(own, answered, 1e-3)) == 1
        compare(answered, answered, 1e-3)


def test_deep_nesting_is_no_answer() -> None:
    deep = b'{"predictions":[' + b"[" * 900 + b"1" + b"]" * 900 + b"]}"
    assert sum(compare(Answered(JSON, b"", deep), Answered(JSON, b"", deep), 1e-3)) == 1
