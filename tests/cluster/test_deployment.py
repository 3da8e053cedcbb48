"""ModelDeployments on the local cluster: served, replaced, rolled back, mended; with users on the line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.loop import SYSTEM, a_namespace, apply, eventually, get, kubectl, push, wait_condition
from cluster.specs import rows, serving, training
from cluster.traffic import Traffic, address

pytestmark = pytest.mark.cluster
DIGEST = f"sha256:{'0' * 64}"


ROWS = rows(2000)


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with a_namespace() as name:
        file: Path = tmp_path_factory.mktemp("rows") / "rows.csv"
        file.write_text("\n".join(["a,b,late", *(f"{r['a']},{r['b']},{label}" for r, label in ROWS)]))
        push(name, file, "rows:latest")
        yield name


def serve(namespace: str, name: str, **more: Any) -> None:
    """A training and a deployment that follows it, Ready."""
    apply(namespace, "ModelTraining", name, training())
    apply(namespace, "ModelDeployment", name, serving(name, **more))
    wait_condition((namespace, "md", name), "Ready", ("True", "Serving"), 120)


def status(namespace: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = (get(namespace, "md", name) or {}).get("status", {})
    return found


def stable(namespace: str, name: str) -> str:
    return str(status(namespace, name).get("stable", {}).get("versionName", ""))


def kill_operators() -> None:
    kubectl("-n", SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/component=operator", "--grace-period=0", "--force")


def test_a_better_version_is_promoted_and_a_worse_one_rolled_back_and_nobody_sees_an_error(namespace: str) -> None:
    serve(namespace, "loop")
    kubectl("-n", namespace, "wait", "md/loop", "--for=condition=Ready", "--timeout=5s")
    with Traffic(address(namespace, "loop"), "loop", ROWS) as users:
        apply(namespace, "ModelTraining", "loop", training(estimator="HistGradientBoostingClassifier"))
        eventually(lambda: stable(namespace, "loop") == "loop-2", 120, "loop-2 is promoted")
        wait_condition((namespace, "md", "loop"), "Ready", ("True", "Serving"), 60)
        apply(namespace, "ModelTraining", "loop", training(estimator="DecisionTreeClassifier", max_depth=1))
        wait_condition((namespace, "md", "loop"), "RolledBack", ("True", "RolledBack"), 120)
    users.assert_nobody_saw_an_error()
    assert set(users.versions) == {"v1", "v2", "v3"}
    after = status(namespace, "loop")
    assert after["stable"]["versionName"] == "loop-2"
    bad = (get(namespace, "mv", "loop-3") or {})["spec"]["artifact"]["digest"]
    assert [q["digest"] for q in after["quarantined"]] == [bad]
    wait_condition((namespace, "md", "loop"), "Ready", ("True", "Serving"), 30)
    assert (get(namespace, "md", "loop") or {})["spec"] == serving("loop")


def test_what_is_deleted_or_edited_by_hand_is_back(namespace: str) -> None:
    serve(namespace, "mended")
    for kind, name in (
        ("service", "mended"),
        ("service", "mended-v1"),
        ("pdb", "mended-v1"),
        ("deployment", "mended-v1"),
    ):
        uid = (get(namespace, kind, name) or {})["metadata"]["uid"]
        kubectl("-n", namespace, "delete", kind, name, "--wait=true")
        eventually(
            lambda k=kind, n=name, u=uid: (get(namespace, k, n) or {}).get("metadata", {}).get("uid", u) != u, 10, name
        )
    kubectl("-n", namespace, "patch", "service", "mended", "-p", '{"spec":{"selector":{"homeostat.dev/version":"v9"}}}')
    eventually(lambda: _selector(namespace, "mended").get("homeostat.dev/version") == "v1", 10, "the selector")
    kubectl("-n", namespace, "scale", "deployment", "mended-v1", "--replicas=3")
    eventually(lambda: (get(namespace, "deployment", "mended-v1") or {})["spec"]["replicas"] == 1, 10, "the replicas")
    wait_condition((namespace, "md", "mended"), "Ready", ("True", "Serving"), 60)


def _selector(namespace: str, name: str) -> dict[str, str]:
    found: dict[str, str] = (get(namespace, "service", name) or {})["spec"]["selector"]
    return found


def test_serving_goes_on_without_operator_training_and_version(namespace: str) -> None:
    serve(namespace, "alone")
    with Traffic(address(namespace, "alone"), "alone", ROWS) as users:
        kubectl("-n", namespace, "delete", "mt", "alone")
        kubectl("-n", namespace, "delete", "mv", "alone-1")
        eventually(lambda: get(namespace, "mv", "alone-1") is None, 30, "the version is gone")
        assert stable(namespace, "alone") == "alone-1"
        kubectl("-n", SYSTEM, "scale", "deployment", "homeostat-operator", "--replicas=0")
        try:
            eventually(lambda: not _operators(), 60, "no operator runs")
            sent = sum(users.versions.values())
            eventually(lambda: sum(users.versions.values()) > sent + 200, 30, "answers without an operator")
        finally:
            kubectl("-n", SYSTEM, "scale", "deployment", "homeostat-operator", "--replicas=2")
            kubectl("-n", SYSTEM, "rollout", "status", "deployment/homeostat-operator", "--timeout=60s")
    users.assert_nobody_saw_an_error()


def _operators() -> list[Any]:
    asked = ["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "json"]
    found: list[Any] = json.loads(kubectl(*asked))["items"]
    return found


@pytest.mark.parametrize("moment", ["canary", "rollback"])
def test_an_operator_that_is_killed_in_a_rollout_ends_it_the_same(namespace: str, moment: str) -> None:
    name = f"killed-{moment}"
    serve(namespace, name)
    with Traffic(address(namespace, name), name, ROWS) as users:
        bad = moment == "rollback"
        worse = training(estimator="DecisionTreeClassifier", max_depth=1)
        apply(namespace, "ModelTraining", name, worse if bad else training(estimator="HistGradientBoostingClassifier"))
        if bad:
            eventually(lambda: status(namespace, name).get("quarantined"), 120, "the verdict")
        else:
            eventually(lambda: status(namespace, name).get("candidate", {}).get("weight"), 120, "a weight")
        kill_operators()
        wanted = f"{name}-1" if bad else f"{name}-2"
        eventually(lambda: stable(namespace, name) == wanted, 120, wanted)
        wait_condition((namespace, "md", name), "Ready", ("True", "Serving"), 120)
    users.assert_nobody_saw_an_error()
    ended = [h for h in status(namespace, name)["history"] if h["versionName"] == f"{name}-2"]
    assert [h["result"] for h in ended] == ["RolledBack" if bad else "Promoted"]


def test_a_service_of_the_wanted_name_that_is_somebody_elses_is_never_taken_over(namespace: str) -> None:
    ports = [{"port": 80}]
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "taken"},
        "spec": {"selector": {"app": "x"}, "ports": ports},
    }
    kubectl("-n", namespace, "apply", "-f", "-", given=theirs)
    apply(namespace, "ModelTraining", "taken", training())
    apply(namespace, "ModelDeployment", "taken", serving("taken"))
    message = wait_condition((namespace, "md", "taken"), "Stalled", ("True", "NameTaken"), 60)
    assert "Service taken" in message
    assert _selector(namespace, "taken") == {"app": "x"}
    kubectl("-n", namespace, "delete", "service", "taken")
    wait_condition((namespace, "md", "taken"), "Ready", ("True", "Serving"), 90)


def test_bad_models_say_what_is_wrong_with_them(namespace: str, tmp_path: Path) -> None:
    apply(namespace, "ModelDeployment", "no-training", {"model": {"trainingRef": {"name": "nowhere"}}})
    wait_condition((namespace, "md", "no-training"), "Stalled", ("True", "TrainingNotFound"), 30)
    apply(namespace, "ModelDeployment", "no-version", {"model": {"versionRef": {"name": "nowhere-7"}}})
    wait_condition((namespace, "md", "no-version"), "Stalled", ("True", "VersionNotFound"), 30)
    file = tmp_path / "model.onnx"
    file.write_bytes(b"no model at all")
    push(namespace, file, "broken:latest")
    source = {"uri": "broken:latest", "digest": DIGEST}
    apply(namespace, "ModelDeployment", "wrong-digest", {"model": {"source": source}})
    message = wait_condition((namespace, "md", "wrong-digest"), "Ready", ("False", "DigestMismatch"), 30)
    assert "sha256:" in message
    true_digest = f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"
    apply(namespace, "ModelDeployment", "not-onnx", {"model": {"source": {**source, "digest": true_digest}}})
    wait_condition((namespace, "md", "not-onnx"), "Ready", ("False", "NotOnnx"), 30)


def test_one_name_in_two_namespaces_is_two_models(namespace: str) -> None:
    serve(namespace, "twin")
    with a_namespace() as other:
        apply(other, "ModelDeployment", "twin", {"model": {"trainingRef": {"name": "twin"}}})
        wait_condition((other, "md", "twin"), "Stalled", ("True", "TrainingNotFound"), 30)
    wait_condition((namespace, "md", "twin"), "Ready", ("True", "Serving"), 10)
