"""The loop closes by itself: live rows drift, the monitor asks, the training runs, the deployment follows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.loop import SYSTEM, a_namespace, apply, eventually, get, kubectl, push, wait_condition
from cluster.specs import rows, serving, training
from cluster.traffic import Traffic, address

pytestmark = pytest.mark.cluster
MONITOR = {
    "deploymentRef": {"name": "world"},
    "window": "8s",
    "interval": "1s",
    "minLabels": 50,
    "actions": [{"type": "Retrain", "on": ["DataDrift"], "cooldown": "1h"}],
}


def moved(found: list[tuple[dict[str, float], int]]) -> list[tuple[dict[str, float], int]]:
    """The same world, with `a` somewhere else."""
    return [({**row, "a": row["a"] + 20}, label) for row, label in found]


def put(namespace: str, folder: Path, found: list[tuple[dict[str, float], int]]) -> None:
    file = folder / "rows.csv"
    file.write_text("\n".join(["a,b,late", *(f"{r['a']},{r['b']},{label}" for r, label in found)]))
    push(namespace, file, "rows:latest")


@pytest.fixture
def namespace(tmp_path: Path) -> Iterator[str]:
    with a_namespace() as name:
        put(name, tmp_path, rows(1500))
        yield name


def monitor(namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = (get(namespace, "dm", "world") or {}).get("status", {})
    return found


def test_drift_retrains_once_and_the_version_follows_though_the_operator_dies_after_the_verdict(
    namespace: str, tmp_path: Path
) -> None:
    apply(namespace, "ModelTraining", "world", training())
    apply(namespace, "ModelDeployment", "world", serving("world"))
    wait_condition((namespace, "md", "world"), "Ready", ("True", "Serving"), 120)
    now = moved(rows(1500))
    put(namespace, tmp_path, now)
    with Traffic(address(namespace, "world"), "world", now) as users:
        apply(namespace, "DriftMonitor", "world", MONITOR)
        verdict = eventually(lambda: monitor(namespace).get("actions"), 90, "a verdict")
        kubectl(
            "-n", SYSTEM, "delete", "pods", "-l", "app.kubernetes.io/component=operator", "--grace-period=0", "--force"
        )
        eventually(lambda: _stable(namespace) == "world-2", 180, "world-2 is promoted")
    users.assert_nobody_saw_an_error()
    trigger = (get(namespace, "mv", "world-2") or {})["spec"]["lineage"]["trigger"]
    assert (trigger["type"], trigger["source"]) == ("Drift", verdict[0]["id"])
    assert "a " in trigger["reason"]
    jobs = json.loads(kubectl("-n", namespace, "get", "jobs", "-o", "json"))["items"]
    assert sorted(j["metadata"]["name"] for j in jobs) == ["world-1", "world-2"]
    eventually(lambda: monitor(namespace)["actions"][0]["result"] == "Promoted", 60, "the action's result")


def _stable(namespace: str) -> str:
    return str((get(namespace, "md", "world") or {})["status"].get("stable", {}).get("versionName", ""))


def test_a_monitor_without_traffic_says_so_and_does_nothing(namespace: str) -> None:
    apply(namespace, "ModelTraining", "world", training())
    apply(namespace, "ModelDeployment", "world", serving("world"))
    wait_condition((namespace, "md", "world"), "Ready", ("True", "Serving"), 120)
    apply(namespace, "DriftMonitor", "world", MONITOR)
    message = wait_condition((namespace, "dm", "world"), "DataAvailable", ("False", "InsufficientData"), 30)
    assert "0 of 200 rows" in message
    assert monitor(namespace).get("actions", []) == []
