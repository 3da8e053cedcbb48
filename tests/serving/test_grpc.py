"""Inference over gRPC by grpcio's own client: the same rows, batches, deadlines and sides as over REST."""

import os
import signal
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from homeostat.server.protos import inference_pb2 as wire
from serving.pod import ROW, Pod, eventually

SERVICE = "/inference.GRPCInferenceService/"


class Client:
    """One channel to a pod."""

    def __init__(self, pod: Pod) -> None:
        self.channel = grpc.insecure_channel(f"127.0.0.1:{pod.grpc}")
        self._infer = self.channel.unary_unary(
            f"{SERVICE}ModelInfer",
            request_serializer=wire.ModelInferRequest.SerializeToString,
            response_deserializer=wire.ModelInferResponse.FromString,
        )

    def infer(self, request: Any, **more: Any) -> Any:
        return self._infer(request, **{"timeout": 20, **more})

    def code(self, request: Any) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as error:
            self.infer(request)
        return error.value.code(), error.value.details()


@pytest.fixture(scope="module")
def pod(flights: Path) -> Iterator[Pod]:
    with Pod(flights, workers=1) as running:
        yield running.ready()


@pytest.fixture(scope="module")
def client(pod: Pod) -> Client:
    return Client(pod)


def request(distance: float = 0.5, version: str = "", **more: Any) -> Any:
    asked = wire.ModelInferRequest(model_name="flights", model_version=version, **more)
    for name, datatype in (("distance", "FP32"), ("hour", "FP64"), ("origin", "BYTES")):
        asked.inputs.add(name=name, datatype=datatype, shape=[1, 1])
    asked.raw_input_contents.extend([struct.pack("<f", distance), struct.pack("<d", 1.0), b"\3\0\0\0JFK"])
    return asked


def test_an_answer_is_the_one_of_rest_with_an_id_that_feedback_takes(pod: Pod, client: Client) -> None:
    rest = pod.infer(ROW)
    answer = client.infer(request(id="mine"))
    assert (answer.model_name, answer.model_version, answer.id) == ("flights", "v7", "mine")
    assert [o.name for o in answer.outputs] == ["label", "probabilities"]
    assert list(struct.unpack("<2f", answer.raw_output_contents[1])) == pytest.approx(
        rest.output("probabilities"), rel=1e-6
    )
    given = answer.parameters["prediction_ids"].string_param
    assert pod.feedback({"labels": [{"id": given, "label": True}]}).json["accepted"] == 1


def test_requested_outputs_alone_are_answered(client: Client) -> None:
    asked = request()
    asked.outputs.add(name="probabilities")
    assert [o.name for o in client.infer(asked).outputs] == ["probabilities"]


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        (lambda r: r.inputs.pop(), grpc.StatusCode.INVALID_ARGUMENT, "need as many raw_input_contents"),
        (lambda r: setattr(r.inputs[0], "name", "speed"), grpc.StatusCode.INVALID_ARGUMENT, "unknown column 'speed'"),
        (lambda r: setattr(r.inputs[0], "datatype", "FP64"), grpc.StatusCode.INVALID_ARGUMENT, "needs 8 bytes"),
        (lambda r: r.outputs.add(name="nothing"), grpc.StatusCode.INVALID_ARGUMENT, "unknown output 'nothing'"),
        (lambda r: setattr(r, "model_name", "other"), grpc.StatusCode.NOT_FOUND, "model 'other'"),
        (lambda r: setattr(r, "model_version", "v9"), grpc.StatusCode.NOT_FOUND, "version 'v9'"),
    ],
)
def test_what_is_wrong_is_named(client: Client, change: Any, code: grpc.StatusCode, said: str) -> None:
    asked = request()
    change(asked)
    found, details = client.code(asked)
    assert found is code
    assert said in details


def test_requests_of_both_protocols_share_a_batch(flights: Path) -> None:
    with Pod(flights, workers=1, max_latency=0.3) as pod:
        client = Client(pod.ready())
        with ThreadPoolExecutor(2) as threads:
            rest, call = threads.submit(pod.infer, ROW), threads.submit(client.infer, request())
            assert rest.result().status == 200
            assert call.result().outputs
        metrics = pod.get("/metrics", port=pod.admin).content.decode()
        assert 'homeostat_batch_rows_count{model="flights",version="v7"} 1' in metrics
        assert 'protocol="grpc"' in metrics


def test_a_stream_answers_each_message_in_order(client: Client) -> None:
    call = client.channel.stream_stream(
        f"{SERVICE}ModelStreamInfer",
        request_serializer=wire.ModelInferRequest.SerializeToString,
        response_deserializer=wire.ModelStreamInferResponse.FromString,
    )
    requests = [request(float(i), id=str(i)) for i in range(20)]
    requests[7].inputs.pop()
    answers = list(call(iter(requests), timeout=20))
    assert [a.infer_response.id for a in answers] == [str(i) if i != 7 else "" for i in range(20)]
    assert "raw_input_contents" in answers[7].error_message


def test_a_candidate_gets_its_share_of_calls_and_a_dead_one_fails_nobody(flights: Path) -> None:
    with Pod(flights, workers=1) as stable, Pod(flights, version="v8", workers=1) as candidate:
        client = Client(stable.ready())
        candidate.ready()
        stable.route(epoch=1, target=candidate.url, version="v8", weight=50, deadline_ms=2000)
        versions = [client.infer(request()).model_version for _ in range(200)]
        assert versions.count("v8") == 100
        for pid in (candidate.process.pid, *candidate.workers()):
            os.kill(pid, signal.SIGKILL)
        candidate.process.wait(10)
        assert {client.infer(request()).model_version for _ in range(100)} == {"v7"}
        assert eventually(lambda: stable.stats().forwards["v8"].failed >= 40, "failures are counted")
