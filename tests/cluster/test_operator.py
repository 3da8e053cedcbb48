"""The operator itself: who leads, what it writes, what it leaves alone, what a crash costs."""

from __future__ import annotations

import json
import re
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from cluster.loop import ACCESS, KUBECTL, SYSTEM, a_namespace, apply, eventually, get, kubectl, push, wait_condition

pytestmark = pytest.mark.cluster
PODS = ["-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "json"]


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with a_namespace() as name:
        file: Path = tmp_path_factory.mktemp("rows") / "rows.csv"
        lines = [f"{i % 7},{i % 3},{int(i % 7 + i % 3 > 4)}" for i in range(600)]
        file.write_text("\n".join(["a,b,late", *lines]))
        push(name, file, "rows:latest")
        yield name


def spec() -> dict[str, Any]:
    sklearn = {"estimator": "LogisticRegression", "target": "late"}
    return {"trainer": {"sklearn": sklearn}, "data": {"train": {"uri": "rows:latest"}}}


def operators() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(kubectl(*PODS))["items"]
    return [p for p in found if not p["metadata"].get("deletionTimestamp") and p["status"].get("podIP")]


def leader() -> str:
    lease = json.loads(kubectl("-n", SYSTEM, "get", "lease", "homeostat-operator", "-o", "json"))
    return str(lease["spec"]["holderIdentity"])


@contextmanager
def holders() -> Iterator[list[str]]:
    """Who held the Lease, change by change; empty: it was given back."""
    seen: list[str] = []
    shown = "jsonpath={.spec.holderIdentity}{'\\n'}"
    command = [KUBECTL, *ACCESS, "-n", SYSTEM, "get", "lease", "homeostat-operator", "--watch", "-o", shown]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        lines = watch.stdout or []
        threading.Thread(target=lambda: seen.extend(line.strip() for line in lines), daemon=True).start()
        eventually(lambda: seen, 10, "the watch has begun")
        try:
            yield seen
        finally:
            watch.terminate()


def ready() -> list[str]:
    conditions = {p["metadata"]["name"]: p["status"].get("conditions", []) for p in operators()}
    return [
        name for name, found in conditions.items() if any(c["type"] == "Ready" and c["status"] == "True" for c in found)
    ]


def kill(pod: str) -> None:
    """As a crash: no grace, no goodbye."""
    kubectl("-n", SYSTEM, "delete", "pod", pod, "--grace-period=0", "--force")


def writes() -> dict[str, float]:
    """What the operators have sent to the API server so far, by kind and verb; Lease renewals are not counted there."""
    total: dict[str, float] = {}
    for pod in operators():
        with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8082/metrics", timeout=5) as answer:
            text = answer.read().decode()
        for labels, value in re.findall(r"^homeostat_api_writes_total\{(.*)\} (.*)$", text, re.MULTILINE):
            total[labels] = total.get(labels, 0.0) + float(value)
    return total


def test_the_leader_gives_the_lease_back_and_the_other_one_goes_on(namespace: str) -> None:
    eventually(lambda: len(ready()) == 2, 60, "two ready operators")
    first = leader()
    with holders() as seen:
        kubectl("-n", SYSTEM, "delete", "pod", first, "--wait=false")
        eventually(lambda: leader() not in ("", first), 60, "another leader")
        eventually(lambda: len(set(seen)) >= 3, 10, "the watch has seen it")
    changes = [seen[0], *(now for before, now in pairwise(seen) if now != before)]
    assert changes[:2] == [first, ""], "the Lease was given back, not left to run out"
    assert changes[2] == leader()
    apply(namespace, "ModelTraining", "second", spec())
    wait_condition((namespace, "mt", "second"), "Ready", ("True", "VersionAvailable"), 120)


def test_nothing_of_ours_is_written_to_an_object_but_its_status(namespace: str) -> None:
    apply(namespace, "ModelTraining", "clean", spec())
    wait_condition((namespace, "mt", "clean"), "Ready", ("True", "VersionAvailable"), 120)
    text = kubectl("-n", namespace, "get", "mt", "clean", "-o", "json", "--show-managed-fields")
    metadata = json.loads(text)["metadata"]
    assert "finalizers" not in metadata
    assert "annotations" not in metadata
    by = {(m["manager"], m.get("subresource", "")) for m in metadata["managedFields"]}
    assert by == {("kubectl", ""), ("homeostat", "status")}
    manifest = {
        "apiVersion": "homeostat.dev/v1alpha1",
        "kind": "ModelTraining",
        "metadata": {"name": "clean"},
        "spec": spec(),
    }
    assert kubectl("-n", namespace, "diff", "--server-side", "-f", "-", given=manifest) == ""


def test_a_settled_installation_writes_nothing(namespace: str) -> None:
    apply(namespace, "ModelTraining", "settled", spec())
    apply(namespace, "DriftMonitor", "settled", {"deploymentRef": {"name": "nowhere"}, "suspend": True})
    wait_condition((namespace, "mt", "settled"), "Ready", ("True", "VersionAvailable"), 120)
    seen = {"writes": writes(), "quiet": 0}

    def quiet() -> bool:
        """Thirty looks in a row without a write; each write begins the count anew."""
        now = writes()
        seen["quiet"] = seen["quiet"] + 1 if now == seen["writes"] else 0
        seen["writes"] = now
        return bool(seen["quiet"] >= 30)

    eventually(quiet, 120, "no write")


@pytest.mark.parametrize("moment", ["Job", "pod", "publish"])
def test_an_operator_that_is_killed_during_a_run_repeats_nothing(namespace: str, moment: str) -> None:
    name = f"killed-{moment.lower()}"
    eventually(lambda: len(ready()) == 2, 60, "two ready operators")
    apply(namespace, "ModelTraining", name, spec())
    eventually(lambda: _reached(namespace, name, moment), 60, moment)
    for pod in [p["metadata"]["name"] for p in operators()]:
        kill(pod)
    wait_condition((namespace, "mt", name), "Ready", ("True", "VersionAvailable"), 120)
    jobs = json.loads(kubectl("-n", namespace, "get", "jobs", "-l", f"homeostat.dev/training={name}", "-o", "json"))
    assert [j["metadata"]["name"] for j in jobs["items"]] == [f"{name}-1"]
    status = (get(namespace, "mt", name) or {})["status"]
    assert [r["result"] for r in status["runs"]] == ["Succeeded"]
    assert status["lastRun"] == 1


def _reached(namespace: str, name: str, moment: str) -> bool:
    if moment == "Job":
        return get(namespace, "job", f"{name}-1") is not None
    asked = ["-n", namespace, "get", "pods", "-l", f"homeostat.dev/training={name}", "-o", "json"]
    pods = json.loads(kubectl(*asked))["items"]
    if moment == "pod":
        return bool(pods)
    return any(p["status"].get("phase") in ("Running", "Succeeded") for p in pods)


def test_the_api_server_refuses_the_operator_a_change_of_a_users_spec(namespace: str) -> None:
    apply(namespace, "ModelTraining", "guarded", {**spec(), "suspend": True})
    account = f"system:serviceaccount:{SYSTEM}:homeostat-operator"
    patch = ["-n", namespace, "patch", "mt", "guarded", "--type=merge", "-p", '{"spec":{"seed":9}}', f"--as={account}"]
    kubectl(*patch, check=False)
    spec_now = (get(namespace, "mt", "guarded") or {})["spec"]
    assert spec_now.get("seed", 0) == 0
    annotate = ["-n", namespace, "annotate", "mt", "guarded", "homeostat.dev/retrain-requested=x", f"--as={account}"]
    kubectl(*annotate)


def test_the_operators_account_has_no_right_to_secrets_exec_or_roles() -> None:
    account = f"system:serviceaccount:{SYSTEM}:homeostat-operator"
    for verb, what in (
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "pods/exec"),
        ("create", "clusterroles"),
        ("create", "pods"),
    ):
        assert kubectl("auth", "can-i", verb, what, "-A", f"--as={account}", check=False).strip() == "no", (verb, what)
