"""Everything that reconciles read and write, live: the stores behind kopf's events and our informers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from homeostat.api.kinds import (
    DRIFT_MONITOR,
    MODEL_DEPLOYMENT,
    MODEL_TRAINING,
    MODEL_VERSION,
    Deployment,
    Monitor,
    Resource,
    Version,
)
from homeostat.api.meta import Key
from homeostat.cluster.children import DEPLOYMENTS, HPAS, INDEXED, JOBS, PDBS, PODS, SERVICES, ChildKind
from homeostat.cluster.client import Client
from homeostat.cluster.informer import Informer
from homeostat.cluster.observed import Child
from homeostat.cluster.resources import Resources
from homeostat.cluster.store import Store
from homeostat.operator.routing import after_child, after_resource
from homeostat.reconcile.ports import Config, Signals, Writer
from homeostat.reconcile.ticks import Ticks
from homeostat.reconcile.windows import Windows
from homeostat.runtime.clock import SystemClock
from homeostat.telemetry.metrics import DRIFT_SCORE, DRIFT_VERDICT

VERDICTS = {"OK": 0, "Warning": 1, "Drift": 2, "InsufficientData": -1}


class Live:
    """The ports `reconcile.ports.World` and `cluster.writer.Mirror`. wake: told of each key that has to be looked at."""

    writer: Writer

    def __init__(
        self, client: Client, config: Config, namespaces: tuple[str, ...], signals: Signals, wake: Callable[[Key], None]
    ) -> None:
        self.clock = SystemClock()
        self.config = config
        self.signals = signals
        self.windows = Windows()
        self.ticks = Ticks()
        self._wake = wake
        kinds = (MODEL_TRAINING, MODEL_VERSION, MODEL_DEPLOYMENT, DRIFT_MONITOR)
        self.resources: dict[str, Resources[Any, Any]] = {k.kind: Resources(k, self._resource_changed) for k in kinds}
        self.trainings = self.resources["ModelTraining"].store
        self.versions = self.resources["ModelVersion"].store
        self.deployments = self.resources["ModelDeployment"].store
        self.monitors = self.resources["DriftMonitor"].store
        self.informers: list[Informer[Any]] = []
        self._children: dict[str, tuple[ChildKind[Any], Store[Any]]] = {}
        self.jobs = self._inform(client, JOBS, namespaces)
        self.pods = self._inform(client, PODS, namespaces)
        self.workloads = self._inform(client, DEPLOYMENTS, namespaces)
        self.services = self._inform(client, SERVICES, namespaces)
        self.hpas = self._inform(client, HPAS, namespaces)
        self.pdbs = self._inform(client, PDBS, namespaces)

    def _inform(self, client: Client, kind: ChildKind[Any], namespaces: tuple[str, ...]) -> Store[Any]:
        store: Store[Any] = Store(INDEXED, owner_of=lambda child: child.owner_uid)
        self._children[kind.kind] = (kind, store)
        for namespace in namespaces or (None,):
            self.informers.append(Informer(client, kind, namespace, store, self._child_changed))
        return store

    def _resource_changed(self, old: Resource[Any, Any] | None, new: Resource[Any, Any] | None) -> None:
        for key in after_resource(old, new, self):
            self._wake(key)
        _show_drift(old, new)

    def _child_changed(self, old: Child | None, new: Child | None) -> None:
        for key in after_child(old, new):
            self._wake(key)

    def deployments_of(self, namespace: str) -> Iterable[Deployment]:
        """ModelDeployments of a namespace."""
        return (d for d in self.deployments.all() if d.meta.namespace == namespace)

    def monitors_of(self, namespace: str) -> Iterable[Monitor]:
        """DriftMonitors of a namespace."""
        return (m for m in self.monitors.all() if m.meta.namespace == namespace)

    def versions_of(self, namespace: str) -> Iterable[Version]:
        """ModelVersions of a namespace."""
        return (v for v in self.versions.all() if v.meta.namespace == namespace)

    def child(self, kind: str, namespace: str, name: str) -> Child | None:
        """A child as seen last."""
        found: Child | None = self._children[kind][1].get(namespace, name) if kind in self._children else None
        return found

    def learn(self, raw: dict[str, Any]) -> None:
        """An object as the API server just returned it."""
        kind = raw.get("kind", "")
        if kind in self.resources:
            self.resources[kind].observe(raw)
        elif kind in self._children:
            projection, store = self._children[kind]
            new = projection.project(raw)
            old = store.get(new.meta.namespace, new.meta.name)
            if store.put(new):
                self._child_changed(old, new)

    def unlearn(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """An object that is gone."""
        if kind in self.resources:
            self.resources[kind].forget(namespace, name, uid)
        elif kind in self._children:
            old = self._children[kind][1].drop(namespace, name, uid)
            if old is not None:
                self._child_changed(old, None)


def _show_drift(old: Resource[Any, Any] | None, new: Resource[Any, Any] | None) -> None:
    either = new or old
    if either is None or either.kind != "DriftMonitor":
        return
    namespace, name = either.meta.namespace, either.meta.name
    shown = {d.name: d for d in new.status.detectors} if new is not None else {}
    for gone in {d.name for d in old.status.detectors} - shown.keys() if old is not None else ():
        DRIFT_SCORE.remove(namespace, name, gone)
        DRIFT_VERDICT.remove(namespace, name, gone)
    for detector in shown.values():
        DRIFT_SCORE.labels(namespace, name, detector.name).set(detector.score or 0.0)
        DRIFT_VERDICT.labels(namespace, name, detector.name).set(VERDICTS[detector.verdict])
