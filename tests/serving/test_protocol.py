"""Open Inference Protocol v2 over a real socket: answers, and errors that name what was wrong."""

import re
import socket
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest

from serving import models
from serving.pod import ROW, Pod, as_inputs


def test_health_and_metadata_answer_with_and_without_version(pod: Pod) -> None:
    for path in ("/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/flights/ready"):
        assert pod.get(path).status == 200
    assert pod.get("/v2/models/flights/versions/v7/ready").status == 200
    metadata = pod.get("/v2/models/flights").json
    assert metadata == pod.get("/v2/models/flights/versions/v7").json
    assert [(i["name"], i["datatype"]) for i in metadata["inputs"]] == [
        ("distance", "FP32"),
        ("origin", "BYTES"),
        ("hour", "FP32"),
    ]
    assert metadata["outputs"][0]["parameters"]["labels"] == ["false", "true"]


def test_answers_are_those_of_onnx_runtime_whatever_the_batch(pod: Pod, flights: Path) -> None:
    session = ort.InferenceSession(str(flights / "model.onnx"))
    random = np.random.default_rng(3)
    numbers = random.normal(size=(40, 2)).astype(np.float32)
    numbers[3, 0] = np.nan
    origins = random.choice([*models.LEVELS, "XXX", ""], size=40).tolist()
    feeds = {"numbers": numbers, "strings": np.array(origins, dtype=object).reshape(-1, 1)}
    labels, scores = session.run(None, feeds)
    columns = {
        "origin": [o or None for o in origins],
        "hour": [float(v) for v in numbers[:, 1]],
        "distance": [None if np.isnan(v) else float(v) for v in numbers[:, 0]],
    }
    inputs = as_inputs(columns)
    whole = pod.infer(inputs)
    assert whole.output("label") == [bool(v) for v in labels]
    assert np.array_equal(np.float32(whole.output("probabilities")), scores.ravel())
    for row in range(40):
        one = pod.infer([{**i, "shape": [1], "data": [i["data"][row]]} for i in inputs])
        assert np.array_equal(np.float32(one.output("probabilities")), scores[row]), row


def test_an_answer_carries_id_version_and_one_prediction_id_per_row(pod: Pod) -> None:
    answer = pod.infer({k: v * 3 for k, v in ROW.items()}, id="mine")
    assert (answer.json["id"], answer.json["model_version"], answer.json["model_name"]) == ("mine", "v7", "flights")
    assert len(set(answer.ids)) == 3


def test_only_requested_outputs_are_sent(pod: Pod) -> None:
    answer = pod.infer(ROW, outputs=[{"name": "probabilities"}])
    assert [o["name"] for o in answer.json["outputs"]] == ["probabilities"]
    assert "unknown output 'x'" in pod.infer(ROW, outputs=[{"name": "x"}]).json["error"]


def _with(**changes: Any) -> list[dict[str, Any]]:
    inputs = as_inputs({"distance": [0.5, 1.0], "hour": [1.0, 2.0], "origin": ["JFK", "LGA"]})
    return [{**i, **changes.get(i["name"], {})} for i in inputs]


@pytest.mark.parametrize(
    ("inputs", "names"),
    [
        (_with(hour={"data": [1.0, "late"]}), ["row 1", "'hour'", "expected a number", "string 'late'"]),
        (_with(origin={"data": ["JFK", 5]}), ["row 1", "'origin'", "expected a string", "number 5"]),
        (_with(hour={"name": "minute"}), ["unknown column 'minute'", "hour (number)"]),
        (_with()[:2], ["missing column 'origin'"]),
        (_with(hour={"data": [1.0], "shape": [1]}), ["'hour' has 1 rows", "'distance' has 2"]),
        (_with(hour={"shape": [3]}), ["'hour'", "2 values", "shape"]),
        (_with(origin={"datatype": "FP32"}), ["'origin'", "expected datatype BYTES", "FP32"]),
        (_with(hour={"datatype": "BYTES"}), ["'hour'", "expected datatype a number"]),
        (_with(hour={"data": 5}), ["'hour'", "must be a list"]),
        ([*_with(), _with()[0]], ["'distance' comes twice"]),
        (_with(hour={"data": [1.0, {"a": 1}]}), ["row 1", "'hour'", "object"]),
        ("rows", ["`inputs` must be a list"]),
        ([5], ["an input must be an object"]),
        ([], ["`inputs` must be a list"]),
    ],
)
def test_a_wrong_row_is_refused_with_a_message_that_names_it(pod: Pod, inputs: Any, names: list[str]) -> None:
    answer = pod.infer(inputs)
    assert answer.status == 400
    for name in names:
        assert name in answer.json["error"]


def test_other_wrong_requests_get_json_errors(pod: Pod) -> None:
    infer = "/v2/models/flights/infer"
    assert pod.send("POST", infer, b"{").status == 400
    assert pod.send("POST", infer, b"[" * 100_000).status == 400
    assert pod.send("GET", infer, None).status == 405
    assert pod.send("POST", infer, b"x", {"content-encoding": "br"}).status == 415
    assert "this server has the model 'flights'" in pod.send("POST", "/v2/models/other/infer", b"{}").json["error"]
    assert pod.send("POST", "/v2/models/flights/versions/v1/infer", b"{}").status == 404
    assert pod.get("/nothing").status == 404


def test_a_single_tensor_works_for_numbers(numbers: Path) -> None:
    with Pod(numbers, name="n") as pod:
        pod.ready()
        rows = [0.1, 0.2, 0.3, 0.4, -1.0, None, 1.0, 2.0]
        tensor = [{"name": "input", "shape": [2, 4], "datatype": "FP32", "data": rows}]
        named = {f"f{i}": rows[i::4] for i in range(4)}
        assert pod.infer(tensor).output("probabilities") == pod.infer(named).output("probabilities")
        nested = [{**tensor[0], "data": [rows[:4], rows[4:]]}]
        assert pod.infer(nested).output("label") == pod.infer(tensor).output("label")
        wide = [{"name": "input", "shape": [1, 5], "datatype": "FP32", "data": [0.0] * 5}]
        assert "5 columns, expected 4" in pod.infer(wide).json["error"]
        short = [{"name": "input", "shape": [2, 4], "datatype": "FP32", "data": [0.0] * 7}]
        assert "needs 8 values" in pod.infer(short).json["error"]


def test_a_model_file_alone_is_served_by_its_tensor_name(tmp_path: Path) -> None:
    with Pod(models.numbers_only(tmp_path / "m", 3, plain=True), name="n") as pod:
        pod.ready()
        answer = pod.infer([{"name": "input", "shape": [2, 3], "datatype": "FP32", "data": [1, 1, 1, -1, -1, -1]}])
        assert answer.output("label") == [1, 0]
        assert pod.stats().features is None


def test_a_regression_answers_scores(tmp_path: Path) -> None:
    with Pod(models.regression(tmp_path / "m"), name="r") as pod:
        answer = pod.ready().infer({"x": [10.0, 30.0]})
        assert np.allclose(answer.output("score"), [20.0, 60.0], atol=1e-3)
        assert [o["name"] for o in answer.json["outputs"]] == ["score"]


def test_pipelined_requests_are_answered_in_order(pod: Pod) -> None:
    with socket.create_connection(("127.0.0.1", pod.port), 10) as client:
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\n\r\nGET /no HTTP/1.1\r\nhost: x\r\n\r\n" * 20)
        client.sendall(b"GET /v2/health/live HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        text = b"".join(iter(lambda: client.recv(65536), b""))
    codes = re.findall(rb"HTTP/1.1 (\d+)", text)
    assert codes == [b"200", b"404"] * 20 + [b"200"]
