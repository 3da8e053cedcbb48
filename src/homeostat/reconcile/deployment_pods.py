"""What pods and their counters say of a version: readiness, applied routes, and why it does not get Ready."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from homeostat.api.kinds import Deployment
from homeostat.api.names import LABEL_MODEL, LABEL_VERSION
from homeostat.api.wire.run import PERMANENT_EXIT
from homeostat.api.wire.stats import PodStats
from homeostat.cluster.observed import ContainerState, ObservedPod
from homeostat.domain.desired.serving import FETCH, OPTIMIZE
from homeostat.reconcile.ports import World
from homeostat.reconcile.ticks import Reading

PASSING_STATES: Final = frozenset({"Ready", "Loading", "Draining", "WorkersDown"})
HARMLESS: Final = frozenset({"", "PodInitializing", "ContainerCreating"})
NO_IMAGE: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
BEHIND_SECONDS: Final = 10.0
STARTING_SECONDS: Final = 60.0
MOUNTING_SECONDS: Final = 15.0  # from a pod's creation until its node has made its volumes and network
# Faults of the model itself: the same file has them in each pod, whenever it starts.
OF_THE_MODEL: Final = frozenset(
    {
        "DigestMismatch",
        "LoadFailed",
        "ManifestInvalid",
        "ModelMissing",
        "ModelTooLarge",
        "NamesCollide",
        "NotOnnx",
        "OperatorNotAllowed",
        "OptimizationRefused",
        "TitleUnsafe",
        "TooManyNodes",
    }
)
REASON: Final = 128  # of a condition
SKEW_SECONDS: Final = 5.0  # between the clocks of two API servers
REACHABLE_SECONDS: Final = 3.0  # from Ready until every node's Service rules know the pod
YOUNG_SECONDS: Final = 30.0  # a pod's first ones are slow: its time-outs enter no comparison
LEAST_DEADLINE_MS: Final = 50
MOST_DEADLINE_MS: Final = 10_000
UNKNOWN_DEADLINE_MS: Final = 1000
TEXT: Final = 1000
_MODEL_STEPS: Final = {
    FETCH: ("FetchFailed", "the model could not be fetched"),
    OPTIMIZE: ("OptimizationFailed", "the model could not be optimised"),
}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Why a version has no Ready pod. lasting: it does not pass by itself."""

    reason: str
    because: str
    lasting: bool

    @property
    def doomed(self) -> tuple[str, str] | None:
        """Reason and sentence of a fault that no other pod will be without; None when it may pass."""
        return (self.reason, self.because) if self.lasting and self.reason in OF_THE_MODEL else None


@dataclass(frozen=True, slots=True)
class Pods:
    """All living pods of a deployment, by child, with their newest numbers."""

    by_child: dict[str, tuple[ObservedPod, ...]]
    stats: dict[str, tuple[float, PodStats]]

    def of(self, child: str) -> tuple[ObservedPod, ...]:
        """A version's pods, by name."""
        return self.by_child.get(child, ())

    def ready(self, child: str) -> tuple[ObservedPod, ...]:
        """A version's Ready pods."""
        return tuple(p for p in self.of(child) if p.ready)

    def unready(self, child: str) -> tuple[ObservedPod, ...]:
        """Those that are not Ready (yet)."""
        return tuple(p for p in self.of(child) if not p.ready)

    def started(self, child: str, now: datetime) -> tuple[ObservedPod, ...]:
        """Those that are Ready, or have had a node and a minute to get so."""
        since = now - timedelta(seconds=STARTING_SECONDS)
        return tuple(p for p in self.of(child) if p.ready or (p.meta.created <= since and not p.unschedulable))

    def epoch_of(self, pod: ObservedPod) -> int | None:
        """The route that a pod applies; None when it was never scraped."""
        found = self.stats.get(pod.meta.uid)
        return None if found is None else found[1].route_epoch

    def epoch(self, child: str) -> int | None:
        """The lowest route epoch that a Ready pod applies; None when one tells nothing or none is Ready."""
        known = [e for e in map(self.epoch_of, self.ready(child)) if e is not None]
        return min(known) if known and len(known) == len(self.ready(child)) else None

    def reachable(self, child: str, now: datetime) -> tuple[ObservedPod, ...]:
        """Those Ready for 3 s: a request that is forwarded earlier may be refused by its own node."""
        since = now - timedelta(seconds=REACHABLE_SECONDS)
        return tuple(p for p in self.ready(child) if p.ready_since is None or p.ready_since <= since)

    def young_until(self, child: str) -> int:
        """Unix seconds until which a Ready pod of the version is new; 0 without one. One that was restarted is not new."""
        fresh = [p.ready_since for p in self.ready(child) if not any(c.restarts for c in p.containers)]
        return max((ceil(since.timestamp() + YOUNG_SECONDS) for since in fresh if since is not None), default=0)

    def reading(self, pod: ObservedPod, *, new: bool) -> Reading:
        """The pod's counters for the comparison."""
        at, stats = self.stats.get(pod.meta.uid, (0.0, None))
        return Reading(pod.meta.uid, new, pod.ready, at, stats)


def living_pods(deployment: Deployment, world: World) -> Pods:
    """The pods of all versions that are not being deleted. Older ones are of a deployment that had the same name."""
    since = deployment.meta.created - timedelta(seconds=SKEW_SECONDS)
    found = world.pods.labelled(deployment.meta.namespace, LABEL_MODEL, deployment.meta.name)
    by_child: dict[str, tuple[ObservedPod, ...]] = {}
    for pod in found:
        child = pod.meta.labels.get(LABEL_VERSION, "")
        if not pod.meta.deleting and pod.phase not in {"Succeeded", "Failed"} and pod.meta.created >= since:
            by_child[child] = (*by_child.get(child, ()), pod)
    latest = ((p.meta.uid, world.signals.latest(p.meta.uid)) for pods in by_child.values() for p in pods)
    return Pods(by_child, {uid: found for uid, found in latest if found is not None})


def behind(pods: Pods, child: str, epoch: int, since: datetime, now: datetime) -> tuple[str, ...]:
    """Names of Ready pods that have had 10 s for this route and do not apply it."""
    late = []
    for pod in pods.ready(child):
        applied = pods.epoch_of(pod)
        known = max(since, pod.ready_since or since)
        if (applied is None or applied < epoch) and now >= known + timedelta(seconds=BEHIND_SECONDS):
            late.append(pod.meta.name)
    return tuple(late)


def diagnose(pods: Pods, child: str) -> Diagnosis | None:
    """What keeps a version's pods from being Ready; None when nothing is known, or all is well."""
    found = [d for d in (_diagnose(p, pods) for p in pods.of(child) if not p.ready) if d is not None]
    return next((d for d in found if d.lasting), found[0] if found else None)


def unstarted(pods: Pods, child: str, named: tuple[str, ...], now: datetime) -> Diagnosis | None:
    """A pod that its node does not start: nothing of its state says why, but a Secret that is missing does that.

    named: what the spec lets the pods mount.
    """
    since = now - timedelta(seconds=MOUNTING_SECONDS)
    for pod in pods.of(child):
        if named and not pod.ready and pod.node and not pod.ip and pod.meta.created <= since:
            because = f"{pod.meta.name} waits for its volumes; there must be {', '.join(named)}, with the keys that spec.server names"
            return Diagnosis("VolumesMissing", because[:TEXT], lasting=False)
    return None


def _diagnose(pod: ObservedPod, pods: Pods) -> Diagnosis | None:
    if pod.unschedulable:
        return Diagnosis("Unschedulable", f"{pod.meta.name}: {pod.unschedulable[:TEXT]}", lasting=False)
    for container in (*pod.init_containers, *pod.containers):
        found = _of_container(container, pod.meta.name)
        if found is not None:
            return found
    stats = pods.stats.get(pod.meta.uid)
    if stats is not None and stats[1].state.reason not in PASSING_STATES:
        return Diagnosis(stats[1].state.reason[:REASON], stats[1].state.message[:TEXT], lasting=True)
    return None


def _of_container(container: ContainerState, pod: str) -> Diagnosis | None:
    if container.waiting_reason in NO_IMAGE:
        return Diagnosis("ImageUnavailable", f"{pod}: {container.waiting_message[:TEXT]}", lasting=True)
    if container.terminated_reason == "OOMKilled":
        because = f"{pod}: {container.name} needs more memory than spec.server.resources allows"
        return Diagnosis("OutOfMemory", because, lasting=True)
    if container.name in _MODEL_STEPS and container.exit_code not in {None, 0}:
        reason, message = _said(container)
        return Diagnosis(reason, message, lasting=container.exit_code == PERMANENT_EXIT)
    if container.waiting_reason == "CrashLoopBackOff":
        because = f"{pod}: {container.name} ended {container.restarts} times: {container.message[-TEXT:]}"
        return Diagnosis("CrashLooping", because, lasting=True)
    if container.waiting_reason not in HARMLESS:
        return Diagnosis(container.waiting_reason, f"{pod}: {container.waiting_message[:TEXT]}", lasting=False)
    return None


def _said(container: ContainerState) -> tuple[str, str]:
    """Reason and sentence of a termination message of `homeostat fetch` or `homeostat optimize`."""
    try:
        parsed = json.loads(container.message)
        return str(parsed["reason"])[:REASON], str(parsed["message"])[:TEXT]
    except (ValueError, TypeError, KeyError):
        reason, because = _MODEL_STEPS[container.name]
        return reason, container.message[-TEXT:] or because


def forward_deadline_ms(stats: Iterable[PodStats]) -> int:
    """What a forward may take: 5 times stable's p99, within bounds; from counts by latency bucket since the pods' start."""
    bounds: tuple[float, ...] = ()
    counts: list[int] = []
    for one in stats:
        served = one.served.get("stable")
        if (
            served is None
            or len(served.latency) != len(one.latency_bounds) + 1
            or bounds not in ((), one.latency_bounds)
        ):
            continue
        bounds = one.latency_bounds
        counts = [a + b for a, b in zip(counts or [0] * len(served.latency), served.latency, strict=True)]
    total = sum(counts)
    if total == 0 or not bounds:
        return UNKNOWN_DEADLINE_MS
    seen, p99 = 0, bounds[-1]
    for bound, count in zip(bounds, counts, strict=False):
        seen += count
        if seen >= 0.99 * total:
            p99 = bound
            break
    return int(min(max(5000 * p99, LEAST_DEADLINE_MS), MOST_DEADLINE_MS))
