"""Who is woken when something changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from homeostat.api.kinds import KINDS, Resource
from homeostat.api.meta import Key, Meta
from homeostat.api.names import LABEL_MODEL, LABEL_TRAINING
from homeostat.cluster.observed import ObservedPdb
from homeostat.operator.routing import after_child, after_resource

DIGEST = f"sha256:{'0' * 64}"


def resource(kind: str, name: str, spec: dict[str, Any], status: dict[str, Any] | None = None) -> Resource[Any, Any]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    meta = Meta("ml", name, f"uid-{name}", "1", 1, {}, {}, at, deleting=False)
    table = KINDS[kind]
    return Resource(kind, meta, table.spec.model_validate(spec), table.status.model_validate(status or {}))


@dataclass
class Known:
    deployments: list[Resource[Any, Any]] = field(default_factory=list)
    monitors: list[Resource[Any, Any]] = field(default_factory=list)
    versions: list[Resource[Any, Any]] = field(default_factory=list)

    def deployments_of(self, namespace: str) -> Iterable[Resource[Any, Any]]:
        return self.deployments

    def monitors_of(self, namespace: str) -> Iterable[Resource[Any, Any]]:
        return self.monitors

    def versions_of(self, namespace: str) -> Iterable[Resource[Any, Any]]:
        return self.versions


TRAINING = resource(
    "ModelTraining",
    "t",
    {"trainer": {"sklearn": {"estimator": "X", "target": "y"}}, "data": {"train": {"uri": "d:latest"}}},
)
FOLLOWER = resource("ModelDeployment", "d", {"model": {"trainingRef": {"name": "t"}}})
MONITOR = resource("DriftMonitor", "m", {"deploymentRef": {"name": "d"}})
VERSION = resource("ModelVersion", "t-1", {"number": 1, "artifact": {"uri": "oci://r/t", "digest": DIGEST}})
KNOWN = Known([FOLLOWER], [MONITOR], [VERSION])


def names(keys: Iterable[Key]) -> set[str]:
    return {key.name for key in keys}


def marked(found: Resource[Any, Any], **annotations: str) -> Resource[Any, Any]:
    return replace(found, meta=replace(found.meta, resource_version="2", annotations=annotations))


def test_our_own_status_write_does_not_wake_the_resource_itself() -> None:
    after = replace(TRAINING, meta=replace(TRAINING.meta, resource_version="2"))
    assert "t" not in names(after_resource(TRAINING, after, Known()))


def test_a_request_wakes_it() -> None:
    after = marked(TRAINING, **{"homeostat.dev/retrain-requested": "x"})
    assert names(after_resource(TRAINING, after, Known())) == {"t"}


def test_somebody_elses_annotation_does_not() -> None:
    assert after_resource(TRAINING, marked(TRAINING, **{"example.com/note": "x"}), Known()) == set()


def test_a_training_wakes_its_followers_and_their_monitors() -> None:
    assert names(after_resource(None, TRAINING, KNOWN)) == {"t", "d", "m"}


def test_a_version_wakes_its_training_and_the_deployments_that_follow() -> None:
    version = replace(VERSION, meta=replace(VERSION.meta, labels={LABEL_TRAINING: "t"}))
    assert names(after_resource(None, version, KNOWN)) == {"t-1", "t", "d"}


def test_a_deployment_wakes_monitors_and_the_versions_that_it_took_or_left() -> None:
    track = {"versionName": "t-1", "child": "v1", "digest": DIGEST, "uri": "oci://r/t", "image": "i"}
    after = replace(FOLLOWER, status=KINDS["ModelDeployment"].status.model_validate({"stable": track}))
    assert names(after_resource(FOLLOWER, after, KNOWN)) == {"m", "t-1"}
    assert names(after_resource(after, after, KNOWN)) == {"m"}


def test_a_child_wakes_the_resource_that_its_labels_name() -> None:
    labels = {LABEL_MODEL: "d", LABEL_TRAINING: "t"}
    child = ObservedPdb(replace(TRAINING.meta, labels=labels), "", "")
    assert after_child(child, None) == {Key("ModelDeployment", "ml", "d"), Key("ModelTraining", "ml", "t")}
