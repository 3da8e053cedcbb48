"""Messages of gRPC travel between pods as they are: forwarded, answered from here, mirrored and compared like REST."""

import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeostat.api.wire.route import Mirror
from homeostat.server.protos import inference_pb2
from serving.fronts import Front
from serving.pod import Pod, eventually
from serving.targets import nothing_there

PATH = "/inference.GRPCInferenceService/ModelInfer"
KIND = {"content-type": "application/grpc+proto"}


@pytest.fixture(scope="module")
def pods(flights: Path) -> Iterator[tuple[Pod, Pod]]:
    with Pod(flights, version="v7", workers=1) as old, Pod(flights, version="v8", workers=1) as new:
        yield old.ready(), new.ready()


@pytest.fixture
def stable(pods: tuple[Pod, Pod]) -> Iterator[Front]:
    front = Front(pods[0])
    yield front
    front.route()


@pytest.fixture
def candidate(pods: tuple[Pod, Pod]) -> Front:
    return Front(pods[1])


def message(version: str = "") -> bytes:
    asked = inference_pb2.ModelInferRequest(model_name="flights", model_version=version)
    for name, datatype in (("distance", "FP32"), ("hour", "FP32"), ("origin", "BYTES")):
        asked.inputs.add(name=name, datatype=datatype, shape=[1])
    asked.raw_input_contents.extend([struct.pack("<f", 0.5), struct.pack("<f", 1.0), struct.pack("<I", 3) + b"JFK"])
    return asked.SerializeToString()


def versions(front: Front, times: int, body: bytes | None = None) -> Counter[str]:
    found: Counter[str] = Counter()
    for _ in range(times):
        answer = front.pod.send("POST", PATH, body or message(), KIND)
        assert answer.status == 200, answer.content
        found[inference_pb2.ModelInferResponse.FromString(answer.content).model_version] += 1
    return found


def test_the_share_is_exact(stable: Front, candidate: Front) -> None:
    stable.route(target=candidate.pod.url, version="v8", weight=25)
    assert versions(stable, 200) == {"v7": 150, "v8": 50}
    assert (stable.outcomes("v7"), stable.outcomes("v8")) == ((150, 0, 0), (50, 0, 0))
    assert candidate.served("candidate") == 50


def test_a_dead_candidate_is_answered_from_here(stable: Front) -> None:
    with nothing_there() as url:
        stable.route(target=url, version="v8", weight=100)
        assert versions(stable, 20) == {"v7": 20}
    assert stable.outcomes("v8") == (0, 20, 0)


def test_a_message_that_names_its_version_stays(stable: Front, candidate: Front) -> None:
    stable.route(target=candidate.pod.url, version="v8", weight=100)
    assert versions(stable, 5, message("v7")) == {"v7": 5}
    assert stable.outcomes("v8") == stable.outcomes("v7") == (0, 0, 0)


def test_the_shadows_values_are_compared(stable: Front, candidate: Front) -> None:
    stable.route(mirror=Mirror(target=candidate.pod.url, version="v8", tolerance=0))
    assert versions(stable, 40) == {"v7": 40}
    eventually(lambda: stable.agreement("v8") == (40, 0, 0), "all copies are compared")
    assert candidate.served("shadow") == 40
