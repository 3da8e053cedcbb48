"""300 requests a second that nobody tries twice, over everything that replaces, ends or adds pods: none fails, none is reset."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import LogisticRegression

from cluster.loop import a_namespace, apply, eventually, get, kubectl, push, wait_condition
from cluster.traffic import address
from serving.openloop import Users

pytestmark = pytest.mark.cluster
TIMES = 10
NAME = "line"
ANALYSIS = {"metrics": [{"type": "ErrorRate", "tolerance": {"absolute": 0.05}}]}
STEPS = {"canary": {"steps": [{"weight": 50, "duration": "1s"}]}}


def request() -> bytes:
    body = json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [0.1, 0.2, 0.3]}]}
    ).encode()
    return b"POST /v2/models/%b/infer HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (
        NAME.encode(),
        len(body),
        body,
    )


def model(folder: Path, number: int) -> Path:
    """A logistic regression like no other."""
    random = np.random.default_rng(number)
    x = random.normal(size=(200, 3)).astype(np.float32)
    fitted = LogisticRegression().fit(x, (x[:, 0] + random.normal(size=200) > 0).astype(int))
    options = {id(fitted): {"zipmap": False}}
    opsets = {"": 18, "ai.onnx.ml": 3}
    graph = convert_sklearn(fitted, "m", [("x", FloatTensorType([None, 3]))], options=options, target_opset=opsets)
    file = folder / f"model-{number}.onnx"
    file.write_bytes(graph.SerializeToString())
    return file


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with a_namespace() as name:
        yield name


@pytest.fixture(scope="module")
def digests(namespace: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The models' digests; each is pushed as `line:m<number>`."""
    folder, found = tmp_path_factory.mktemp("models"), []
    for number in range(TIMES + 1):
        file = model(folder, number)
        push(namespace, file, f"{NAME}:m{number}")
        found.append(f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}")
    return found


def serve(namespace: str, digests: list[str], number: int, **more: Any) -> None:
    source = {"uri": f"{NAME}:m{number}", "digest": digests[number]}
    spec = {"model": {"source": source}, "strategy": STEPS, "analysis": ANALYSIS, "bake": {"duration": "2s"}}
    wanted = {**spec, "replicas": 2, **more}
    apply(namespace, "ModelDeployment", NAME, {name: value for name, value in wanted.items() if value is not None})


def stable(namespace: str) -> str:
    status = (get(namespace, "md", NAME) or {}).get("status", {})
    return str(status.get("stable", {}).get("digest", ""))


def settled(namespace: str) -> bool:
    """Whether no rollout or bake runs."""
    status = (get(namespace, "md", NAME) or {}).get("status", {})
    return not status.get("rollout") and not status.get("candidate")


def ask(namespace: str, what: str, number: int) -> None:
    kubectl("-n", namespace, "annotate", "md", NAME, f"homeostat.dev/{what}-requested=test-{number}", "--overwrite")


def ready_pods(namespace: str) -> list[str]:
    pods = json.loads(kubectl("-n", namespace, "get", "pods", "-l", f"homeostat.dev/model={NAME}", "-o", "json"))[
        "items"
    ]
    return [
        pod["metadata"]["name"]
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    ]


def reachable(host: str) -> bool:
    try:
        socket.create_connection((host, 8080), 5).close()
    except OSError:
        return False
    return True


def goes_on(users: Users) -> None:
    """Ten seconds more."""
    wanted = sum(users.answers.values()) + 3000
    eventually(lambda: sum(users.answers.values()) > wanted, 60, "answers")


@pytest.mark.timeout(1500)
def test_no_request_is_lost_over_rollouts_rollbacks_deletions_and_scaling(namespace: str, digests: list[str]) -> None:
    serve(namespace, digests, 0)
    wait_condition((namespace, "md", NAME), "Ready", ("True", "Serving"), 120)
    host = address(namespace, NAME)
    eventually(lambda: reachable(host), 30, "the node's rules for the new Service")
    with Users([8080], 300.0, host, request()) as users:
        eventually(lambda: users.answers["200"] > 300, 30, "answers")
        for number in range(1, TIMES + 1):
            serve(namespace, digests, number)
            eventually(lambda n=number: stable(namespace) == digests[n], 120, f"model {number} is promoted")
            eventually(lambda: settled(namespace), 60, "the bake ends")
            ask(namespace, "rollback", number)
            eventually(lambda n=number: stable(namespace) != digests[n], 60, f"model {number} is rolled back")
            sys.stderr.write(
                f"  {number} of {TIMES}: {sum(users.answers.values())} requests, failures {users.failures}\n"
            )
        assert users.failures == {}
        for _ in range(2):
            before = ready_pods(namespace)
            kubectl("-n", namespace, "delete", "pod", before[0], "--wait=false")
            eventually(
                lambda old=before[0]: old not in (now := ready_pods(namespace)) and len(now) >= 2,
                90,
                "a new pod is ready",
            )
        assert users.failures == {}
        serve(namespace, digests, TIMES, replicas=4)
        eventually(lambda: len(ready_pods(namespace)) == 4, 120, "four pods")
        serve(namespace, digests, TIMES, replicas=1)
        eventually(lambda: len(ready_pods(namespace)) == 1, 120, "one pod")
        serve(namespace, digests, TIMES, replicas=None, autoscaling={"minReplicas": 3, "maxReplicas": 4})
        eventually(lambda: len(ready_pods(namespace)) >= 3, 120, "three pods by the autoscaler")
        goes_on(users)
    assert users.failures == {}
