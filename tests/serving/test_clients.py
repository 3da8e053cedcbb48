"""The unmodified clients of Triton, KServe and MLflow, each in its own Python, do what their users do with them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.interpreters import answers
from serving.pod import Pod

ROWS: list[list[Any]] = [[0.5, 1.0, "JFK"], [-2.0, None, "EWR"], [3, 0.25, ""]]
MATRIX = [[1.0, 2.0, 3.0, 4.0], [0.5, -1.0, -2.0, 1.0]]
CONFIG_INPUTS = [("distance", "TYPE_FP32", [1]), ("origin", "TYPE_STRING", [1]), ("hour", "TYPE_FP32", [1])]
Said = dict[str, Any]
pytestmark = pytest.mark.timeout(900)  # the first run makes the clients' environments


@pytest.fixture(scope="module")
def pod(flights: Path) -> Iterator[Pod]:
    with Pod(flights) as running:
        yield running.ready()


@pytest.fixture(scope="module")
def others(numbers: Path, flights: Path) -> Iterator[dict[str, int]]:
    """Ports of a model of numbers only, and of one whose batches wait for half a second."""
    with Pod(numbers, name="numbers") as plain, Pod(flights, max_latency=0.5) as slow:
        plain.ready()
        slow.ready()
        yield {"numbers": plain.port, "numbers_grpc": plain.grpc, "slow": slow.port, "slow_grpc": slow.grpc}


@pytest.fixture(scope="module")
def given(pod: Pod, others: dict[str, int]) -> Said:
    return {"rest": pod.port, "grpc": pod.grpc, "version": pod.version, "rows": ROWS, "matrix": MATRIX, **others}


@pytest.fixture(scope="module")
def expected(pod: Pod) -> Said:
    """Outputs by name, as plain JSON says them."""
    answer = pod.infer(dict(zip(("distance", "hour", "origin"), map(list, zip(*ROWS, strict=True)), strict=True)))
    return {o["name"]: pytest.approx(o["data"], rel=1e-5) for o in answer.json["outputs"]}


@pytest.fixture(scope="module")
def triton_http(given: Said) -> Said:
    return answers("tritonclient", "ask_triton_http", **given)


@pytest.fixture(scope="module")
def triton_grpc(given: Said) -> Said:
    return answers("tritonclient", "ask_triton_grpc", **given)


@pytest.fixture(scope="module")
def kserve(given: Said) -> Said:
    return answers("kserve", "ask_kserve", **given)


@pytest.fixture(scope="module")
def mlflow(given: Said) -> Said:
    return answers("mlflow", "ask_mlflow", **given)


@pytest.fixture
def triton(request: pytest.FixtureRequest) -> Said:
    return request.getfixturevalue(request.param)


both = pytest.mark.parametrize("triton", ["triton_http", "triton_grpc"], indirect=True)


def labels(pod: Pod, ids: str) -> None:
    """Each of these ids is one that feedback takes."""
    sent = {"labels": [{"id": one, "label": True} for one in ids.split(",")]}
    assert pod.feedback(sent).json["accepted"] == len(ROWS)


@both
def test_triton_clients_see_server_model_and_version(triton: Said) -> None:
    looks = triton["looks"]
    assert [looks[k] for k in ("server_live", "server_ready", "ready", "ready_version")] == [True] * 4
    assert looks["server"]["name"] == "homeostat"
    assert looks["metadata"] == looks["metadata_version"]
    assert looks["metadata"]["versions"] == ["v7"]
    assert [one["name"] for one in looks["metadata"]["inputs"]] == ["distance", "origin", "hour"]


@both
def test_triton_clients_get_the_configuration_in_its_words(triton: Said) -> None:
    found = triton["looks"]["config"]
    found = found.get("config", found)
    assert (found["name"], found["max_batch_size"], found["backend"]) == ("flights", 1024, "onnxruntime")
    inputs = [(one["name"], one["data_type"], [int(n) for n in one["dims"]]) for one in found["input"]]
    assert inputs == CONFIG_INPUTS
    index = triton["looks"]["index"]
    index = index if isinstance(index, list) else index["models"]
    assert [(one["name"], one["version"], one["state"]) for one in index] == [("flights", "v7", "READY")]


def test_a_model_of_another_name_is_not_ready(triton_http: Said, triton_grpc: Said, kserve: Said) -> None:
    assert triton_http["looks"]["ready_other"] is False
    assert triton_grpc["looks"]["ready_other"][0] == "StatusCode.NOT_FOUND"
    assert kserve["rest"]["other"] is False
    assert kserve["grpc"]["other"] == "StatusCode.NOT_FOUND"


@both
@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("statistics", "/metrics or /stats on the admin port"),
        ("load", "a pod serves one version of one model, here 'flights'"),
        ("unload", "a pod serves one version of one model"),
        ("trace", "traceparent"),
        ("log", "log settings"),
        ("system_memory", "send the tensors in the request"),
        ("cuda_memory", "send the tensors in the request"),
    ],
)
def test_what_this_server_has_no_use_for_is_refused_with_what_to_do(triton: Said, call: str, said: str) -> None:
    status, message = triton["absent"][call]
    assert status in {"404", "StatusCode.UNIMPLEMENTED"}
    assert said in message


def test_triton_http_infers_rows_in_any_form(triton_http: Said, expected: Said) -> None:
    found = triton_http["infers"]
    for way in ("binary", "json", "mixed", "chosen", "parameters", "headers"):
        assert found[way] == expected, way
    assert list(found["chosen"]) == ["probabilities", "label"]
    assert found["chosen_forms"] == [True, False]
    assert [one["label"][0] for one in found["async"]] == expected["label"]


def test_triton_http_gets_its_id_back_and_ids_that_feedback_takes(triton_http: Said, pod: Pod) -> None:
    head = triton_http["infers"]["head"]
    assert (head["model_name"], head["model_version"], head["id"]) == ("flights", "v7", "mine")
    labels(pod, head["parameters"]["prediction_ids"])


def test_triton_http_compresses_both_ways(triton_http: Said) -> None:
    assert triton_http["compressed"] == dict.fromkeys(
        ("gzip-True", "deflate-True", "gzip-False", "deflate-False"), True
    )


def test_triton_http_has_an_asyncio_client_too(triton_http: Said, expected: Said) -> None:
    found = triton_http["aio"]
    assert found["live"]
    assert found["ready"]
    assert found["metadata"] == triton_http["looks"]["metadata"]
    assert found["config"] == triton_http["looks"]["config"]
    assert [one["label"][0] for one in found["rows"]] == expected["label"]
    assert found["json"] == expected
    assert found["compressed"] == 2000 * len(ROWS)
    assert found["error"] == "missing column 'origin'"


def test_triton_grpc_infers_and_streams(triton_grpc: Said, expected: Said, pod: Pod) -> None:
    found = triton_grpc["infers"]
    assert found["all"] == expected
    assert found["parameters"] == expected
    assert list(found["chosen"]) == ["probabilities"]
    assert found["async"] == sorted(expected["label"].expected)
    assert found["compressed"]
    assert (found["id"], found["version"]) == ("mine", "v7")
    labels(pod, found["ids"])
    one = [[str(i), [label]] for i, label in enumerate(expected["label"].expected)]
    assert triton_grpc["stream"] == [*one, "missing column 'origin'", ["last", expected["label"].expected]]
    assert triton_grpc["aio"]["stream"] == [[*answer, None] for answer in one]
    assert [answer["label"] for answer in triton_grpc["aio"]["rows"]] == [answer[1] for answer in one]


def test_one_matrix_is_read_from_every_form(triton_http: Said, triton_grpc: Said, mlflow: Said) -> None:
    assert triton_http["tensor"]["True"] == triton_http["tensor"]["False"] == triton_grpc["tensor"]
    assert triton_grpc["tensor"]["label"] == mlflow["matrix"] == [1, 0]


@both
@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("missing", "missing column 'origin'"),
        ("unknown", "unknown column 'speed'"),
        ("type", "column 'hour'"),
        ("output", "unknown output 'nothing'"),
        ("classes", "`classification` is not supported"),
        ("model", "nothing"),
        ("version", "v99"),
    ],
)
def test_triton_clients_say_what_was_wrong(triton: Said, mistake: str, said: str) -> None:
    status, message = triton["wrong"][mistake]
    lost = mistake in {"model", "version"}
    assert status in ({"404", "StatusCode.NOT_FOUND"} if lost else {"400", "StatusCode.INVALID_ARGUMENT"})
    assert said in message


def test_a_timeout_of_the_client_is_kept_by_the_server(triton_http: Said, triton_grpc: Said) -> None:
    assert triton_http["timeout"] == ["504", "its deadline passed before it was begun"]
    assert triton_grpc["timeout"] == ["StatusCode.DEADLINE_EXCEEDED", "its deadline passed before it was begun"]
    assert triton_grpc["client_timeout"][0] == "StatusCode.DEADLINE_EXCEEDED"


def test_kserve_rest_client_infers_in_json_and_binary(kserve: Said, expected: Said, pod: Pod) -> None:
    found = kserve["rest"]
    assert [found[k] for k in ("live", "ready", "model")] == [True] * 3
    for way in ("lists", "json", "binary"):
        assert found[way] == expected, way
    assert list(found["chosen"]) == ["probabilities"]
    assert (found["id"], found["name"], found["type"]) == ("mine", "flights", "application/json")
    assert found["error"].startswith("missing column 'origin', '400 Bad Request'")
    labels(pod, found["as_rest"])


def test_kserve_turns_an_answer_of_one_protocol_into_the_other(kserve: Said, pod: Pod) -> None:
    name, ids = kserve["rest"]["as_grpc"]
    assert name == "flights"
    labels(pod, ids)
    labels(pod, kserve["grpc"]["ids"])


def test_kserve_grpc_client_infers_raw_and_typed(kserve: Said, expected: Said) -> None:
    found = kserve["grpc"]
    assert [found[k] for k in ("live", "ready", "model")] == [True] * 3
    assert found["raw"] == expected
    assert found["typed"] == expected
    assert (found["id"], found["version"], found["pinned"]) == ("mine", "v7", "v7")
    assert found["error"] == ["StatusCode.INVALID_ARGUMENT", "missing column 'origin'"]


def test_kserve_client_speaks_version_one_by_default(kserve: Said, expected: Said) -> None:
    found = kserve["v1"]
    assert found["live"]
    assert found["model"]
    assert found["predictions"]["predictions"] == found["lists"]["predictions"] == expected["label"]
    assert found["error"].startswith("missing columns 'origin', 'hour'")


def test_mlflow_client_sends_frames_with_missing_values(mlflow: Said, expected: Said, pod: Pod) -> None:
    assert mlflow["version"].startswith("homeostat ")
    assert mlflow["array"] == [row[0] for row in mlflow["frame"]] == expected["label"]
    assert mlflow["indexed"] == mlflow["records"] == mlflow["list"] == expected["label"]
    assert len(mlflow["ids"]) == len(ROWS)
    gaps = {"distance": [0.5, -2.0, 3], "hour": [1.0, None, 0.25], "origin": ["", "EWR", "NaN"]}
    assert mlflow["gaps"] == pod.infer(gaps).output("label")
    assert mlflow["integers"] == [1, 1]


def test_mlflow_client_says_what_was_wrong(mlflow: Said) -> None:
    assert "missing columns 'origin', 'hour'" in mlflow["missing"]
    assert "row 0, column 'hour'" in mlflow["wrong"]
    assert "takes no `params`" in mlflow["params"]
