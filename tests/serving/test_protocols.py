"""Every way of asking gives the same predictions: KServe v1, MLflow and SageMaker, binary tensors."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.pod import ROW, Answer, Pod

COLUMNS = ["distance", "hour", "origin"]
ROWS: list[list[Any]] = [[0.5, 1.0, "JFK"], [-2.0, None, "EWR"], [3, 0.25, ""]]


@pytest.fixture(scope="module")
def pod(flights: Path) -> Iterator[Pod]:
    with Pod(flights) as running:
        yield running.ready()


@pytest.fixture(scope="module")
def expected(pod: Pod) -> list[Any]:
    columns = dict(zip(COLUMNS, map(list, zip(*ROWS, strict=True)), strict=True))
    return pod.infer(columns).output("label")


def post(pod: Pod, path: str, body: Any, kind: str = "application/json", **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return pod.send("POST", path, content, {"content-type": kind, **headers})


def records() -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, row, strict=True)) for row in ROWS]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/models/flights:predict", {"instances": records()}),
        ("/invocations", {"dataframe_split": {"columns": COLUMNS, "data": ROWS}}),
        ("/invocations", {"dataframe_split": {"columns": COLUMNS, "index": [0, 1, 2], "data": ROWS}}),
        ("/invocations", {"dataframe_records": records()}),
        ("/invocations", {"instances": records()}),
        ("/invocations", {"inputs": {n: [row[i] for row in ROWS] for i, n in enumerate(COLUMNS)}}),
        ("/invocations", {"inputs": {n: [[row[i]] for row in ROWS] for i, n in enumerate(COLUMNS)}}),
    ],
)
def test_rows_in_any_form_get_the_same_predictions_and_ids(
    pod: Pod, expected: list[Any], path: str, body: dict[str, Any]
) -> None:
    answer = post(pod, path, body)
    assert answer.status == 200, answer.content
    assert answer.json["predictions"] == expected
    ids = answer.json["prediction_ids"]
    assert pod.feedback({"labels": [{"id": one, "label": True} for one in ids]}).json["accepted"] == len(ROWS)


def test_rows_without_names_are_in_the_order_of_the_signature(pod: Pod, expected: list[Any]) -> None:
    columns = [column["name"] for column in pod.get("/v2/models/flights").json["inputs"]]
    rows = [[row[COLUMNS.index(name)] for name in columns] for row in ROWS]
    assert post(pod, "/v1/models/flights:predict", {"instances": rows}).json["predictions"] == expected


def test_csv_with_and_without_a_line_of_names(pod: Pod, expected: list[Any]) -> None:
    lines = [",".join("" if v is None else str(v) for v in row) for row in ROWS]
    named = "\n".join([",".join(COLUMNS), *lines]).encode()
    assert post(pod, "/invocations", named, "text/csv").json["predictions"] == expected
    answer = post(pod, "/invocations", named, "text/csv", accept="text/csv")
    assert answer.content.decode().split() == [json.dumps(label) for label in expected]
    ids = answer.headers["x-homeostat-prediction-ids"].split(",")
    assert pod.feedback({"labels": [{"id": one, "label": True} for one in ids]}).json["accepted"] == len(ROWS)
    order = [column["name"] for column in pod.get("/v2/models/flights").json["inputs"]]
    rows = [[row[COLUMNS.index(name)] for name in order] for row in ROWS]
    bare = "\n".join(",".join("" if v is None else str(v) for v in row) for row in rows).encode()
    assert post(pod, "/invocations", bare, "text/csv").json["predictions"] == expected


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/invocations", {"dataframe_split": {"columns": ["distance"], "data": [[1]]}}, "missing columns"),
        ("/invocations", {"dataframe_split": {"columns": COLUMNS, "data": [[1, 2]]}}, "row 0: expected a list of 3"),
        ("/invocations", {"dataframe_records": [records()[0], {"distance": 1}]}, "row 1: column 'hour' is missing"),
        ("/invocations", {"dataframe_records": [{**records()[0], "x": 1}]}, "unknown column 'x'"),
        ("/invocations", {"dataframe_records": [{**records()[0], "hour": "ten"}]}, "row 0, column 'hour'"),
        ("/invocations", {"instances": [], "inputs": []}, "exactly one of"),
        ("/invocations", {"instances": records(), "params": {"a": 1}}, "takes no `params`"),
        ("/v1/models/flights:predict", {"rows": []}, "unknown field 'rows'"),
        ("/v1/models/flights:predict", {"instances": [1, 2]}, "row 0: expected a list of 3"),
    ],
)
def test_what_is_wrong_with_a_row_is_named(pod: Pod, path: str, body: dict[str, Any], said: str) -> None:
    answer = post(pod, path, body)
    assert answer.status == 400
    assert said in answer.json["error"]


def test_wrong_csv_and_content_types_are_refused(pod: Pod) -> None:
    wrong = post(pod, "/invocations", b"distance,hour,origin\n1,x,JFK\n", "text/csv")
    assert "row 0, column 'hour': expected a number" in wrong.json["error"]
    assert post(pod, "/invocations", b"x", "application/xml").status == 415


def test_health_paths_of_other_servers_answer(pod: Pod) -> None:
    assert pod.get("/ping").status == 200
    assert pod.get("/version").status == 200
    assert pod.get("/v1/models").json == {"models": ["flights"]}
    assert pod.get("/v1/models/flights").json["ready"] is True


def test_compressed_bodies_are_opened_within_the_bound(pod: Pod) -> None:
    columns = [
        {"name": n, "shape": [1], "datatype": "BYTES" if n == "origin" else "FP32", "data": v} for n, v in ROW.items()
    ]
    body = json.dumps({"inputs": columns}).encode()
    path = "/v2/models/flights/infer"
    plain = post(pod, path, body).json["outputs"]
    assert post(pod, path, gzip.compress(body), **{"content-encoding": "gzip"}).json["outputs"] == plain
    bomb = gzip.compress(b" " * (17 << 20))
    assert post(pod, path, bomb, **{"content-encoding": "gzip"}).status == 413
    assert post(pod, path, gzip.compress(body)[:-9], **{"content-encoding": "gzip"}).status == 400


def test_a_long_answer_is_compressed_for_clients_that_read_it(pod: Pod) -> None:
    many = {"distance": [0.5] * 2000, "hour": [1.0] * 2000, "origin": ["JFK"] * 2000}
    plain = pod.infer(many)
    small = pod.infer(many, {"accept-encoding": "gzip, deflate"})
    assert small.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(small.content))["outputs"] == plain.json["outputs"]
    assert len(small.content) < len(plain.content) // 2


def binary(pod: Pod, header: dict[str, Any], blobs: bytes) -> Answer:
    text = json.dumps(header).encode()
    headers = {"inference-header-content-length": str(len(text)), "content-type": "application/octet-stream"}
    return pod.send("POST", f"/v2/models/{pod.name}/infer", text + blobs, headers)


def test_binary_tensors_both_ways(numbers: Path) -> None:
    rows = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    with Pod(numbers, name="n") as pod:
        pod.ready()
        tensor = {"name": "input", "shape": [5, 4], "datatype": "FP32"}
        plain = pod.infer([{**tensor, "data": rows.ravel().tolist()}])
        sent = {**tensor, "parameters": {"binary_data_size": rows.nbytes}}
        answer = binary(pod, {"inputs": [sent], "parameters": {"binary_data_output": True}}, rows.tobytes())
        size = int(answer.headers["inference-header-content-length"])
        head, blobs = json.loads(answer.content[:size]), answer.content[size:]
        found = {}
        for output in head["outputs"]:
            used = output["parameters"]["binary_data_size"]
            found[output["name"]], blobs = blobs[:used], blobs[used:]
        assert np.array_equal(np.frombuffer(found["label"], np.int64), plain.output("label"))
        assert np.array_equal(
            np.frombuffer(found["probabilities"], np.float32), np.float32(plain.output("probabilities"))
        )
        mixed = binary(pod, {"inputs": [sent], "outputs": [{"name": "label"}]}, rows.tobytes())
        assert mixed.output("label") == plain.output("label")
        assert (
            "needs 80 bytes"
            in binary(pod, {"inputs": [{**tensor, "parameters": {"binary_data_size": 8}}]}, b"12345678").json["error"]
        )
        assert binary(pod, {"inputs": [sent]}, rows.tobytes()[:-1]).status == 400
        assert "follow the last" in binary(pod, {"inputs": [sent]}, rows.tobytes() + b"x").json["error"]


def test_texts_travel_in_binary_form_with_their_length(pod: Pod, expected: list[Any]) -> None:
    texts = b"".join(len(row[2]).to_bytes(4, "little") + row[2].encode() for row in ROWS)
    columns = {"distance": np.float32([row[0] for row in ROWS]), "hour": np.float64([row[1] or np.nan for row in ROWS])}
    inputs: list[dict[str, Any]] = [
        {
            "name": n,
            "shape": [3, 1],
            "datatype": "FP32" if v.itemsize == 4 else "FP64",
            "parameters": {"binary_data_size": v.nbytes},
        }
        for n, v in columns.items()
    ]
    inputs.append({"name": "origin", "shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": len(texts)}})
    answer = binary(pod, {"inputs": inputs}, b"".join(v.tobytes() for v in columns.values()) + texts)
    assert answer.output("label") == expected
