"""The document that describes the server says what the server does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from homeostat.api.wire.open_inference import Datatype
from homeostat.server.inference.graph import NUMPY
from serving import fuzz
from serving.pod import ROW, Pod, as_inputs

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
ONE_ROW = {k: v[0] for k, v in ROW.items()}
EXAMPLES = 20  # of each operation, half of them wrong on purpose


@pytest.fixture(scope="module", params=["flights", "numbers", "tensors"])
def described(
    request: pytest.FixtureRequest, flights: Path, numbers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pod]:
    folders = {"flights": flights, "numbers": numbers}
    folder = folders.get(request.param) or fuzz.tensors(tmp_path_factory.mktemp("tensors") / "model")
    with Pod(folder, name=request.param) as pod:
        yield pod.ready()


def _valid(pod: Pod, kind: str, value: Any) -> None:
    """Raise ValidationError unless the value is what the document says of that type."""
    document = pod.get("/openapi.json").json
    schema = {"$ref": f"#/components/schemas/{kind}", "components": document["components"]}
    jsonschema_rs.Draft202012Validator(schema).validate(value)


def test_every_path_that_is_served_is_in_the_document_and_nothing_else(pod: Pod) -> None:
    document = pod.get("/openapi.json").json
    named, old = "/v2/models/flights", "/v1/models/flights"
    reads = {
        "/",
        "/openapi.json",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v1/models",
        old,
        "/ping",
        "/health",
        "/version",
    }
    reads |= {f"{path}{more}" for path in (named, f"{named}/versions/v7") for more in ("", "/ready", "/config")}
    writes = {f"{named}/infer", f"{named}/versions/v7/infer", f"{old}:predict", "/invocations", "/feedback"}
    writes |= {"/inference.GRPCInferenceService/ModelInfer"}
    found = {(method, path) for path, methods in document["paths"].items() for method in methods}
    assert found >= {("get", path) for path in reads} | {("post", path) for path in writes}
    assert pod.get("/v2").json["openapi"] == "/openapi.json"
    for method, path in found:  # a path that the document forgets is an error when it is made
        answer = pod.get(path) if method == "get" else pod.send("POST", path, b"\xff")
        assert answer.status in ({200} if method == "get" else {200, 400}), path
    assert {*get_args(Datatype)} == {*NUMPY, "BF16"}


def test_the_document_is_openapi_3_1(described: Pod) -> None:
    document = described.get("/openapi.json")
    assert document.headers["content-type"] == "application/json"
    schema = schemathesis.openapi.from_dict(document.json)
    assert schema.specification.version == "3.1.0"
    schema.validate()


def test_it_names_the_columns_of_the_model_with_their_types(pod: Pod) -> None:
    row = pod.get("/openapi.json").json["components"]["schemas"]["Row"]
    assert sorted(row["required"]) == ["distance", "hour", "origin"]
    assert row["properties"]["origin"]["type"] == ["string", "null"]
    assert "number" in row["properties"]["hour"]["type"]
    _valid(pod, "Row", ONE_ROW)
    for wrong in (ONE_ROW | {"hour": "late"}, ONE_ROW | {"more": 1}, {"hour": 1.0}):
        with pytest.raises(jsonschema_rs.ValidationError):
            _valid(pod, "Row", wrong)


def test_requests_and_answers_are_of_the_types_in_the_document(pod: Pod) -> None:
    request = {"inputs": as_inputs(ROW), "id": "a", "outputs": [{"name": "label"}]}
    _valid(pod, "InferRequest", request)
    infer = "/v2/models/flights/infer"
    _valid(pod, "InferResponse", pod.send("POST", infer, json.dumps(request).encode()).json)
    rows = [ONE_ROW, list(ONE_ROW.values())]
    for kind, path in (("Instances", "/v1/models/flights:predict"), ("Invocation", "/invocations")):
        body = {"instances": rows[:1]}
        _valid(pod, kind, body)
        _valid(
            pod,
            "Predictions",
            pod.send("POST", path, json.dumps(body).encode(), {"content-type": "application/json"}).json,
        )
    labels = {"labels": [{"id": pod.infer(ROW).ids[0], "label": True}]}
    _valid(pod, "Labels", labels)
    _valid(pod, "Accepted", pod.feedback(labels).json)
    for kind, path in (("ModelMetadata", "/v2/models/flights"), ("ServerMetadata", "/v2"), ("Ready", "/ping")):
        _valid(pod, kind, pod.get(path).json)
    for answer in (pod.send("POST", infer, b"{"), pod.get("/nothing"), pod.get(infer)):
        _valid(pod, "ErrorBody", answer.json)


def test_what_the_document_allows_and_what_it_forbids_gets_an_answer_that_it_describes(described: Pod) -> None:
    schema = schemathesis.openapi.from_dict(described.get("/openapi.json").json)
    schema.config.update(base_url=described.url)
    workers = described.workers()
    for found in schema.get_all_operations():
        operation = found.ok()
        taken = operation.definition.raw.get("requestBody", {}).get("content", {})
        modes = [
            GenerationMode.POSITIVE,
            *[GenerationMode.NEGATIVE] * ("application/json" in taken),
        ]  # any bytes are a text
        for mode in modes:

            @settings(
                max_examples=EXAMPLES // 2 if taken else 3,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(operation.as_strategy(generation_mode=mode))
            def answered(case: Any) -> None:
                response = case.call()
                if response.status_code == 504:  # it asked for an answer within microseconds
                    assert "deadline" in response.json()["error"]
                    return
                case.validate_response(response, checks=CHECKS)
                if response.status_code >= 400:
                    assert response.json()["error"]

            answered()
    assert described.workers() == workers
