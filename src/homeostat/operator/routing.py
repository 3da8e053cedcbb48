"""Who has to look when something changes. Pure: old and new state in, keys out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from homeostat.api.kinds import Deployment, Monitor, Resource, Training, Version
from homeostat.api.meta import Key, Meta
from homeostat.api.names import GROUP, LABEL_MODEL, LABEL_TRAINING
from homeostat.cluster.observed import Child
from homeostat.domain.champion import tracks

AnyResource = Resource[Any, Any]


class Known(Protocol):
    """The stores that are asked."""

    def deployments_of(self, namespace: str) -> Iterable[Deployment]:
        """ModelDeployments of a namespace."""
        ...

    def monitors_of(self, namespace: str) -> Iterable[Monitor]:
        """DriftMonitors of a namespace."""
        ...

    def versions_of(self, namespace: str) -> Iterable[Version]:
        """ModelVersions of a namespace."""
        ...


def matters(old: Meta | None, new: Meta | None) -> bool:
    """Whether the resource itself has to be looked at: its spec, labels, our annotations or its end; not its status."""
    if old is None or new is None or old.uid != new.uid:
        return True
    return (old.generation, old.labels, _ours(old), old.deleting) != (
        new.generation,
        new.labels,
        _ours(new),
        new.deleting,
    )


def _matters(old: AnyResource | None, new: AnyResource | None) -> bool:
    return matters(old.meta if old is not None else None, new.meta if new is not None else None)


def _ours(meta: Meta) -> dict[str, str]:
    return {name: text for name, text in meta.annotations.items() if name.startswith(GROUP)}


def after_resource(old: AnyResource | None, new: AnyResource | None, known: Known) -> set[Key]:
    """The keys to wake when one of our resources changed, its status included."""
    either = new or old
    assert either is not None
    keys = {either.key} if _matters(old, new) else set()
    match either.kind:
        case "ModelTraining":
            keys |= _followers(either, known)
        case "ModelVersion":
            keys |= _users(either, known) if _matters(old, new) or _judged(old, new) else set()
        case "ModelDeployment":
            keys |= _around(old, new, known)
        case _:
            pass
    return keys


def _followers(training: Training, known: Known) -> set[Key]:
    namespace, name = training.meta.namespace, training.meta.name
    following = {d.key: d for d in known.deployments_of(namespace) if _follows(d, name)}
    watching = {
        m.key
        for m in known.monitors_of(namespace)
        if any(m.spec.deployment_ref.name == d.meta.name for d in following.values() if not m.invalid)
        or any(a.training_ref is not None and a.training_ref.name == name for a in _actions(m))
    }
    return set(following) | watching


def _actions(monitor: Monitor) -> Iterable[Any]:
    return () if monitor.invalid else monitor.spec.actions


def _follows(deployment: Deployment, training: str) -> bool:
    follows = None if deployment.invalid else deployment.spec.model.training_ref
    return follows is not None and follows.name == training


def _judged(old: AnyResource | None, new: AnyResource | None) -> bool:
    """Whether a version's acceptance changed."""

    def reason(version: AnyResource | None) -> str:
        conditions = version.status.conditions if version is not None else ()
        return next((c.reason for c in conditions if c.type == "Ready"), "")

    return reason(old) != reason(new)


def _users(version: Version, known: Known) -> set[Key]:
    namespace, name = version.meta.namespace, version.meta.name
    training = version.meta.labels.get(LABEL_TRAINING, "")
    keys = {Key("ModelTraining", namespace, training)} if training else set()
    for deployment in known.deployments_of(namespace):
        pinned = None if deployment.invalid else deployment.spec.model.version_ref
        if (training and _follows(deployment, training)) or (pinned is not None and pinned.name == name):
            keys.add(deployment.key)
    return keys


def _around(old: Deployment | None, new: Deployment | None, known: Known) -> set[Key]:
    either = new or old
    assert either is not None
    namespace, name = either.meta.namespace, either.meta.name
    keys = {m.key for m in known.monitors_of(namespace) if not m.invalid and m.spec.deployment_ref.name == name}
    if _used(old) != _used(new):
        names = {track for _, track in _used(old) | _used(new)}
        pinned = _pinned(new) | _pinned(old)
        keys |= {v.key for v in known.versions_of(namespace) if v.meta.name in names | pinned}
    return keys


def _used(deployment: Deployment | None) -> set[tuple[str, str]]:
    if deployment is None:
        return set()
    return {(role, track.version_name) for role, track in tracks(deployment)} | {
        ("pinned", name) for name in _pinned(deployment)
    }


def _pinned(deployment: Deployment | None) -> set[str]:
    if deployment is None or deployment.invalid or deployment.spec.model.version_ref is None:
        return set()
    return {deployment.spec.model.version_ref.name}


def after_child(old: Child | None, new: Child | None) -> set[Key]:
    """The keys to wake when a child changed: the resource that its labels name."""
    either = new or old
    assert either is not None
    labels, namespace = either.meta.labels, either.meta.namespace
    keys = set()
    if model := labels.get(LABEL_MODEL):
        keys.add(Key("ModelDeployment", namespace, model))
    if training := labels.get(LABEL_TRAINING):
        keys.add(Key("ModelTraining", namespace, training))
    return keys
