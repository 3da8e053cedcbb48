"""From the API server's JSON to what we keep of it: a slotted projection per kind."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson

from homeostat.api.meta import Meta, parse_instant
from homeostat.api.names import ANNOTATION_DIGEST, GROUP
from homeostat.cluster.observed import (
    ContainerState,
    ObservedDeployment,
    ObservedHpa,
    ObservedJob,
    ObservedPdb,
    ObservedPod,
    ObservedService,
)

Json = dict[str, Any]


def meta(raw: Json) -> Meta:
    """Metadata with our annotations only and interned labels: thousands of pods share them."""
    read = Meta.read(raw["metadata"])
    marks = {name: text for name, text in read.annotations.items() if name.startswith(GROUP)}
    shared = {sys.intern(name): sys.intern(text) for name, text in read.labels.items()}
    return Meta(
        sys.intern(read.namespace), read.name, read.uid, read.resource_version, read.generation, shared, marks,
        read.created, read.deleting,
    )  # fmt: skip


def owner_uid(raw: Json) -> str:
    """The controller's uid, empty when there is none."""
    owners = raw["metadata"].get("ownerReferences") or ()
    return next((str(o["uid"]) for o in owners if o.get("controller")), "")


def mark(kind: str, raw: Mapping[str, Any]) -> str:
    """What changes when somebody edits an object of a kind that has no generation: a hash of the fields that we own."""
    spec = raw.get("spec") or {}
    match kind:
        case "Service":
            ports = [
                [
                    *(p.get("name", ""), p["port"], p.get("protocol", "TCP"), str(p.get("targetPort", p["port"]))),
                    p.get("appProtocol", ""),
                ]
                for p in spec.get("ports") or ()
            ]
            owned: Any = [spec.get("selector") or {}, ports]
        case "HorizontalPodAutoscaler":
            down = ((spec.get("behavior") or {}).get("scaleDown") or {}).get("selectPolicy", "Max")
            targets = [
                ((m.get("resource") or {}).get("name"), ((m.get("resource") or {}).get("target") or {}))
                for m in spec.get("metrics") or ()
            ]
            owned = [spec.get("minReplicas", 1), spec.get("maxReplicas"), down, targets, spec.get("scaleTargetRef")]
        case "PodDisruptionBudget":
            owned = [spec.get("maxUnavailable"), spec.get("minAvailable"), spec.get("selector")]
        case _:
            return ""
    return hashlib.sha256(orjson.dumps(owned, option=orjson.OPT_SORT_KEYS)).hexdigest()[:12]


def applied_digest(kind: str, raw: Json) -> str:
    """The digest of what we applied last, empty when somebody has changed the object since.

    The annotation is `<digest>@<generation>` (or `@<mark>` for kinds without one).
    """
    text = (raw["metadata"].get("annotations") or {}).get(ANNOTATION_DIGEST, "")
    digest, _, told = text.partition("@")
    now = mark(kind, raw) or str(raw["metadata"].get("generation", 0))
    return digest if told == now else ""


def deployment(raw: Json) -> ObservedDeployment:
    """Of an apps/v1 Deployment."""
    status = raw.get("status") or {}
    progress: Json = next((c for c in status.get("conditions") or () if c["type"] == "Progressing"), {})
    return ObservedDeployment(
        meta(raw),
        owner_uid(raw),
        applied_digest("Deployment", raw),
        replicas=raw["spec"].get("replicas", 1),
        ready_replicas=status.get("readyReplicas", 0),
        updated_replicas=status.get("updatedReplicas", 0),
        total_replicas=status.get("replicas", 0),
        observed_generation=status.get("observedGeneration", 0),
        progressing_reason=progress.get("reason", ""),
    )


def service(raw: Json) -> ObservedService:
    """Of a Service."""
    spec = raw["spec"]
    ports = tuple((p.get("name", ""), p["port"], str(p.get("targetPort", p["port"]))) for p in spec.get("ports") or ())
    return ObservedService(
        meta(raw),
        owner_uid(raw),
        applied_digest("Service", raw),
        selector=spec.get("selector") or {},
        ports=ports,
        cluster_ip=spec.get("clusterIP", ""),
    )


def hpa(raw: Json) -> ObservedHpa:
    """Of a HorizontalPodAutoscaler."""
    spec, status = raw["spec"], raw.get("status") or {}
    return ObservedHpa(
        meta(raw),
        owner_uid(raw),
        applied_digest("HorizontalPodAutoscaler", raw),
        min_replicas=spec.get("minReplicas", 1),
        max_replicas=spec["maxReplicas"],
        desired_replicas=status.get("desiredReplicas", 0),
    )


def pdb(raw: Json) -> ObservedPdb:
    """Of a PodDisruptionBudget."""
    return ObservedPdb(meta(raw), owner_uid(raw), applied_digest("PodDisruptionBudget", raw))


def job(raw: Json) -> ObservedJob:
    """Of a batch/v1 Job."""
    status = raw.get("status") or {}
    ended: Json = next(
        (c for c in status.get("conditions") or () if c["type"] in {"Complete", "Failed"} and c["status"] == "True"), {}
    )
    return ObservedJob(
        meta(raw),
        owner_uid(raw),
        applied_digest("Job", raw),
        active=status.get("active", 0),
        succeeded=status.get("succeeded", 0),
        failed=status.get("failed", 0),
        finished=ended.get("type", ""),
        reason=ended.get("reason", ""),
        message=ended.get("message", ""),
        started=_instant(status.get("startTime")),
        completed=_instant(status.get("completionTime") or ended.get("lastTransitionTime")),
        ttl_set=raw["spec"].get("ttlSecondsAfterFinished") is not None,
    )


def pod(raw: Json) -> ObservedPod:
    """Of a Pod."""
    status = raw.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    ready = conditions.get("Ready", {})
    scheduled = conditions.get("PodScheduled", {})
    is_ready = ready.get("status") == "True"
    return ObservedPod(
        meta(raw),
        owner_uid(raw),
        "",
        phase=status.get("phase", ""),
        ip=status.get("podIP", ""),
        ready=is_ready,
        ready_since=_instant(ready.get("lastTransitionTime")) if is_ready else None,
        node=raw["spec"].get("nodeName", ""),
        unschedulable=scheduled.get("message", "") if scheduled.get("reason") == "Unschedulable" else "",
        containers=tuple(_container(c) for c in status.get("containerStatuses") or ()),
        init_containers=tuple(_container(c) for c in status.get("initContainerStatuses") or ()),
        admin_tls=any(_probed_over_tls(c) for c in raw["spec"].get("containers") or ()),
    )


def _probed_over_tls(container: Json) -> bool:
    probe = container.get("readinessProbe") or {}
    return bool((probe.get("httpGet") or {}).get("scheme") == "HTTPS")


def _container(raw: Json) -> ContainerState:
    """The present state; where it waits for its next start, the end of the last one as well."""
    state = raw.get("state") or {}
    ended = state.get("terminated") or (raw.get("lastState") or {}).get("terminated") or {}
    waiting = state.get("waiting") or {}
    return ContainerState(
        name=raw["name"],
        ready=bool(raw.get("ready")),
        restarts=raw.get("restartCount", 0),
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", ""),
        exit_code=None if "running" in state else ended.get("exitCode"),
        terminated_reason=ended.get("reason", ""),
        message=ended.get("message", ""),
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text)
