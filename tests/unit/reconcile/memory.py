"""Our own ports in memory: what a reconcile reads and what it wrote. It keeps rules of the API server that matter here
(create once, a status patch against a stale resourceVersion is refused), and is no Kubernetes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

from homeostat.api.kinds import KINDS, Resource
from homeostat.api.meta import Key, Meta
from homeostat.api.names import ANNOTATION_DIGEST
from homeostat.api.wire.bundle import Baseline
from homeostat.api.wire.stats import PodStats
from homeostat.cluster.observed import (
    Child,
    ContainerState,
    ObservedDeployment,
    ObservedHpa,
    ObservedJob,
    ObservedPdb,
    ObservedPod,
    ObservedService,
)
from homeostat.domain.revision import digest
from homeostat.errors import Blocked, Conflict, Forbidden, Invalid, NotFound
from homeostat.reconcile.ports import Config
from homeostat.reconcile.ticks import Ticks
from homeostat.reconcile.windows import Windows

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
T = TypeVar("T")


class Clock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return (self.at - NOW).total_seconds()

    def pass_(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class Memory(Generic[T]):
    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], T] = {}

    def put(self, row: T) -> T:
        meta: Meta = row.meta  # type: ignore[attr-defined]
        self.rows[meta.namespace, meta.name] = row
        return row

    def get(self, namespace: str, name: str) -> T | None:
        return self.rows.get((namespace, name))

    def owned_by(self, uid: str) -> tuple[T, ...]:
        return tuple(r for _, r in sorted(self.rows.items()) if r.owner_uid == uid)  # type: ignore[attr-defined]

    def labelled(self, namespace: str, label: str, value: str) -> tuple[T, ...]:
        return tuple(
            r
            for (place, _), r in sorted(self.rows.items())
            if place == namespace and r.meta.labels.get(label) == value  # type: ignore[attr-defined]
        )

    def all(self) -> Iterable[T]:
        return tuple(self.rows.values())


@dataclass
class Signals:
    stats: dict[str, PodStats] = field(default_factory=dict)
    baselines: dict[str, Baseline] = field(default_factory=dict)
    watched: dict[Key, tuple[str, ...]] = field(default_factory=dict)
    scraped: dict[str, float] = field(default_factory=dict)  # monotonic time by pod uid; 0 when not said

    def watch(self, owner: Key, pods: Iterable[ObservedPod], *, interval_seconds: float) -> None:
        self.watched[owner] = tuple(p.meta.name for p in pods)

    def latest(self, pod_uid: str) -> tuple[float, PodStats] | None:
        found = self.stats.get(pod_uid)
        return None if found is None else (self.scraped.get(pod_uid, 0.0), found)

    def baseline(self, pods: Iterable[ObservedPod], digest: str) -> Baseline | None:
        return self.baselines.get(digest) if list(pods) else None


class World:
    """All ports. `log` holds each write in order; `crash_before` names the write that raises instead."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.config = Config("homeostat-system", "server:1", "trainer:1", "oci://registry:5000", ("registry:5000",))
        self.trainings: Memory[Any] = Memory()
        self.versions: Memory[Any] = Memory()
        self.deployments: Memory[Any] = Memory()
        self.monitors: Memory[Any] = Memory()
        self.jobs: Memory[Any] = Memory()
        self.pods: Memory[Any] = Memory()
        self.workloads: Memory[Any] = Memory()
        self.services: Memory[Any] = Memory()
        self.hpas: Memory[Any] = Memory()
        self.pdbs: Memory[Any] = Memory()
        self.writer = Writer(self)
        self.signals = Signals()
        self.windows = Windows()
        self.ticks = Ticks()
        self.foreign: set[tuple[str, str]] = (
            set()
        )  # (kind, name) of objects that are somebody else's and without our labels

    def store(self, kind: str) -> Memory[Any]:
        return {
            "ModelTraining": self.trainings,
            "ModelVersion": self.versions,
            "ModelDeployment": self.deployments,
            "DriftMonitor": self.monitors,
            "Job": self.jobs,
            "Pod": self.pods,
            "Deployment": self.workloads,
            "Service": self.services,
            "HorizontalPodAutoscaler": self.hpas,
            "PodDisruptionBudget": self.pdbs,
        }[kind]


class CrashError(Exception):
    """The operator dies here."""


class Writer:
    def __init__(self, world: World) -> None:
        self.world = world
        self.log: list[tuple[str, str]] = []
        self.events: list[tuple[str, str]] = []
        self.manifests: list[dict[str, Any]] = []
        self.crash_before = ""
        self.refuse = ""
        self.invalid = ""  # kind that the API server refuses
        self.crash_after = -1  # writes until the operator dies; below zero: never

    def _write(self, verb: str, what: str) -> None:
        if self.crash_after == 0:
            self.crash_after = -1
            raise CrashError(verb)
        self.crash_after -= 1
        if self.crash_before == verb:
            self.crash_before = ""
            raise CrashError(verb)
        self.log.append((verb, what))

    async def create(self, manifest: dict[str, Any]) -> bool:
        kind, meta = manifest["kind"], manifest["metadata"]
        if self.refuse:
            raise Forbidden(self.refuse)
        self._write(f"create {kind}", meta["name"])
        store = self.world.store(kind)
        if store.get(meta["namespace"], meta["name"]) is not None:
            return False
        self.manifests.append(copy.deepcopy(manifest))
        read = meta_of(meta["namespace"], meta["name"], labels=meta["labels"], annotations=meta.get("annotations"))
        if kind == "Job":
            store.put(job(read, meta["ownerReferences"][0]["uid"]))
        else:
            store.put(resource(kind, read, manifest["spec"]))
        return True

    async def apply(self, manifest: dict[str, Any], *, owner: Meta | None, observed_digest: str | None) -> bool:
        meta, kind = manifest["metadata"], manifest["kind"]
        wanted = digest(manifest)
        if wanted == observed_digest:
            return False
        if (kind, meta["name"]) in self.world.foreign:
            raise Blocked("NameTaken", f"{kind} {meta['name']} is there and not ours")
        if kind == self.invalid:
            raise Invalid(f"{kind} is not valid")
        self._write(f"apply {kind}", meta["name"])
        store = self.world.store(kind)
        found = store.get(meta["namespace"], meta["name"])
        if kind == "Job":
            store.put(replace(found, ttl_set="ttlSecondsAfterFinished" in manifest["spec"]))
        else:
            self.manifests.append(copy.deepcopy(manifest))
            store.put(applied(manifest, wanted, found))
        return True

    async def delete(self, api_version: str, kind: str, meta: Meta) -> None:
        self._write(f"delete {kind}", meta.name)
        self.world.store(kind).rows.pop((meta.namespace, meta.name), None)

    async def patch_status(self, resource: Resource[Any, Any], status: Mapping[str, Any]) -> bool:
        if dict(status) == resource.status.to_json():
            return False
        self._write(f"status {resource.kind}", resource.meta.name)
        store = self.world.store(resource.kind)
        stored = store.get(resource.meta.namespace, resource.meta.name)
        if stored.meta.resource_version != resource.meta.resource_version:
            raise Conflict(resource.meta.name)
        merged = _merge(stored.status.to_json(), status)
        after = KINDS[resource.kind].status.model_validate(merged)
        meta = replace(stored.meta, resource_version=str(int(stored.meta.resource_version) + 1))
        store.put(replace(stored, status=after, meta=meta))
        return True

    async def annotate(self, api_version: str, kind: str, meta: Meta, annotations: Mapping[str, str | None]) -> None:
        self._write(f"annotate {kind}", meta.name)
        store = self.world.store(kind)
        stored = store.get(meta.namespace, meta.name)
        if stored is None:
            raise NotFound(meta.name)
        marks = {**stored.meta.annotations, **annotations}
        kept = {name: text for name, text in marks.items() if text is not None}
        store.put(replace(stored, meta=replace(stored.meta, annotations=kept)))

    def event(self, resource: Resource[Any, Any], *, warning: bool, reason: str, note: str) -> None:
        self.events.append((reason, note))

    def count(self, verb: str) -> int:
        return sum(1 for done, _ in self.log if done == verb)


def applied(manifest: dict[str, Any], wanted: str, found: Any) -> Child:
    """What an informer would show of a manifest after it was applied."""
    meta, spec = manifest["metadata"], manifest["spec"]
    marks = {**meta.get("annotations", {}), ANNOTATION_DIGEST: wanted}
    read = meta_of(meta["namespace"], meta["name"], labels=meta["labels"], annotations=marks)
    base = (read, meta["ownerReferences"][0]["uid"], wanted)
    match manifest["kind"]:
        case "Deployment":
            replicas = spec.get("replicas", found.replicas or 1 if found else 1)
            ready = min(found.ready_replicas, replicas) if found else 0
            return ObservedDeployment(*base, replicas, ready, replicas, 1, "")
        case "Service":
            ports = tuple((p["name"], p["port"], str(p["targetPort"])) for p in spec["ports"])
            return ObservedService(*base, spec["selector"], ports, "10.0.0.9")
        case "HorizontalPodAutoscaler":
            return ObservedHpa(*base, spec["minReplicas"], spec["maxReplicas"], 0)
        case _:
            return ObservedPdb(*base)


def _merge(old: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(old) if isinstance(old, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


def meta_of(
    namespace: str,
    name: str,
    *,
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    created: datetime = NOW,
) -> Meta:
    return Meta(
        namespace, name, f"uid-{name}", "1", 1, dict(labels or {}), dict(annotations or {}), created, deleting=False
    )


def resource(kind: str, meta: Meta, spec: Any, status: Any = None) -> Resource[Any, Any]:
    table = KINDS[kind]
    return Resource(kind, meta, table.spec.model_validate(spec), table.status.model_validate(status or {}))


def job(meta: Meta, owner_uid: str) -> ObservedJob:
    return ObservedJob(meta, owner_uid, "", 1, 0, 0, "", "", "", None, None, ttl_set=False)


def container(name: str, *, exit_code: int | None = None, message: str = "", **more: Any) -> ContainerState:
    fields: dict[str, Any] = {
        "ready": False,
        "restarts": 0,
        "waiting_reason": "",
        "waiting_message": "",
        "terminated_reason": "",
        **more,
    }
    return ContainerState(name=name, exit_code=exit_code, message=message, **fields)


def pod(meta: Meta, owner_uid: str, phase: str, *containers: ContainerState, unschedulable: str = "") -> ObservedPod:
    return ObservedPod(
        meta,
        owner_uid,
        "",
        phase,
        "10.0.0.1",
        phase == "Running",
        None,
        "node",
        unschedulable,
        containers=containers[-1:],
        init_containers=containers[:-1],
    )
