"""Optimised models on the local cluster: made once, compared, shown, refused."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.loop import a_namespace, apply, eventually, get, kubectl, push, wait_condition
from serving.nets import network

pytestmark = pytest.mark.cluster
WANTED = {"type": "Int8Dynamic", "tolerance": 0.1}


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    with a_namespace() as name:
        yield name


@pytest.fixture(scope="module")
def model(namespace: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A network of a million weights, in the cluster's registry."""
    file = network(tmp_path_factory.mktemp("net") / "net", 1024) / "model.onnx"
    push(namespace, file, "net:latest")
    return {"source": {"uri": "net:latest", "digest": f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"}}


def shown(namespace: str, name: str) -> dict[str, Any]:
    status = (get(namespace, "md", name) or {}).get("status", {})
    found: dict[str, Any] = status.get("stable", {}).get("optimization", {})
    return found


def pods(namespace: str, name: str) -> list[dict[str, Any]]:
    asked = ["-n", namespace, "get", "pods", "-l", f"homeostat.dev/model={name}", "-o", "json"]
    found: list[dict[str, Any]] = json.loads(kubectl(*asked))["items"]
    return sorted(found, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))


def test_the_optimised_model_serves_and_a_second_pod_finds_it_beside_the_bundle(
    namespace: str, model: dict[str, Any]
) -> None:
    spec = {"model": model, "replicas": 1, "optimization": WANTED}
    apply(namespace, "ModelDeployment", "net", spec)
    wait_condition((namespace, "md", "net"), "Ready", ("True", "Serving"), 120)
    found = eventually(lambda: shown(namespace, "net"), 30, "the figures of the optimisation")
    assert found["used"], found
    assert found["type"] == "Int8Dynamic"
    assert found["speedup"] >= 1.05
    assert 0 < found["maxDifference"] <= 0.1
    assert found["sizeBytes"] < 1_500_000
    apply(namespace, "ModelDeployment", "net", {**spec, "replicas": 2})
    eventually(lambda: len(pods(namespace, "net")) == 2, 30, "a second pod")
    second = pods(namespace, "net")[-1]["metadata"]["name"]
    kubectl("-n", namespace, "wait", f"pod/{second}", "--for=condition=Ready", "--timeout=90s")
    assert "found oci://" in kubectl("-n", namespace, "logs", second, "-c", "optimize")
    assert shown(namespace, "net") == found
    apply(namespace, "ModelDeployment", "net", {"model": model, "replicas": 1})
    eventually(lambda: not shown(namespace, "net"), 60, "nothing is shown of what is not asked for")
    wait_condition((namespace, "md", "net"), "Ready", ("True", "Serving"), 60)


def test_above_the_tolerance_the_original_serves_or_where_it_is_required_nothing(
    namespace: str, model: dict[str, Any]
) -> None:
    strict = {"type": "Int8Dynamic", "tolerance": 0}
    apply(namespace, "ModelDeployment", "strict", {"model": model, "replicas": 1, "optimization": strict})
    required = {**strict, "required": True}
    apply(namespace, "ModelDeployment", "required", {"model": model, "replicas": 1, "optimization": required})
    wait_condition((namespace, "md", "strict"), "Ready", ("True", "Serving"), 120)
    found = eventually(lambda: shown(namespace, "strict"), 30, "why the original serves")
    assert (found["used"], found["reason"]) == (False, "AboveTolerance")
    message = wait_condition((namespace, "md", "required"), "Ready", ("False", "OptimizationRefused"), 120)
    assert "the tolerance is 0" in message
