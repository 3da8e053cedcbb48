"""What a decision means for the cluster: children, routes on pods, the front Service. In the order that users survive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import ValidationError

from homeostat.api.deployment import Track
from homeostat.api.kinds import Deployment
from homeostat.api.names import ANNOTATION_ROUTE, LABEL_MODEL, LABEL_VERSION
from homeostat.api.wire.route import Route
from homeostat.cluster.observed import Child, ObservedPod
from homeostat.domain.desired.serving import (
    ANNOTATION_REPLICAS,
    Scale,
    ServerPod,
    autoscaled,
    autoscaler,
    child_name,
    disruption_budget,
    front_service,
    service_url,
    version_service,
    workload,
)
from homeostat.domain.flight import Flight, sides
from homeostat.domain.rollout import Phase
from homeostat.domain.traffic import Share, Traffic
from homeostat.errors import Blocked, Conflict, Forbidden, Invalid, NotFound
from homeostat.reconcile.deployment_pods import Pods
from homeostat.reconcile.ports import Store, World

KINDS: Final = (
    ("autoscaling/v2", "HorizontalPodAutoscaler", "hpas"),
    ("policy/v1", "PodDisruptionBudget", "pdbs"),
    ("v1", "Service", "services"),
    ("apps/v1", "Deployment", "workloads"),
)
QUIET: Final = (Phase.SCALING, Phase.ROUTING, Phase.HOLDING, Phase.FILLING)  # new pods need no route to report yet


@dataclass(frozen=True, slots=True)
class Served:
    """One version as it should be: its role, how many pods, whether its own Service selects them."""

    track: Track
    role: str
    scale: Scale
    is_open: bool


@dataclass(frozen=True, slots=True)
class Wish:
    """All that should be true of a deployment's children. front: child that the front Service selects, empty for none."""

    served: tuple[Served, ...]
    front: str
    flight: Flight | None = None
    traffic: Traffic | None = None


def wish(deployment: Deployment, flight: Flight | None, traffic: Traffic | None) -> Wish:
    """What the status (and the replacement under way) asks for."""
    status = deployment.status
    old, new = (None, None) if flight is None else sides(status, flight.at)
    moving: dict[str, tuple[Scale, bool]] = {}
    if traffic is not None and new is not None:
        pinned = old is not None
        moving[new.child] = Scale(traffic.new_floor, pinned=pinned), traffic.new_open
        if old is not None:
            moving[old.child] = Scale(traffic.old_floor, pinned=True), True
    served: dict[str, Served] = {}
    for role, track in (("stable", status.stable), ("candidate", status.candidate), ("previous", status.previous)):
        if track is None or track.child in served:
            continue
        settled = (Scale(idle=role == "previous"), role != "previous")
        scale, is_open = moving.get(track.child, settled)
        served[track.child] = Served(track, role, scale, is_open)
    front = status.stable
    if traffic is not None:
        front = new if traffic.front == "new" else old
    return Wish(tuple(served.values()), front.child if front is not None else "", flight, traffic)


def serving(deployment: Deployment, served: Served, world: World) -> dict[str, Any]:
    """The Deployment of one version, as it is applied now."""
    pod = ServerPod(world.config.image_pull_policy, world.config.plain_http)
    scale = replace(served.scale, held=_held(deployment, served.track, world))
    return workload(deployment, served.track, served.role, scale, pod)


def _held(deployment: Deployment, track: Track, world: World) -> int:
    """The number of pods that we applied last, while nobody has written another one; 0 when there is nothing to keep."""
    seen = world.workloads.get(deployment.meta.namespace, child_name(deployment, track.child))
    if seen is None or seen.owner_uid != deployment.meta.uid:
        return 0
    ours = seen.meta.annotations.get(ANNOTATION_REPLICAS) == str(seen.replicas)
    return seen.replicas if ours and seen.replicas > 1 else 0


@dataclass(slots=True)
class Applying:
    """Makes a wish true. trouble: (reason, sentence) of what the API server or another owner refused."""

    deployment: Deployment
    world: World
    pods: Pods
    trouble: list[tuple[str, str]] = field(default_factory=list)

    async def make_true(self, wanted: Wish) -> None:
        """Each step keeps users served when the process dies after it. Going back does not wait for manifests."""
        returning = wanted.flight is not None and wanted.flight.at.phase is Phase.RETURNING
        if not returning:
            await self._versions(wanted)
        await self._routes(wanted)
        await self._apply(front_service(self.deployment, self._front(wanted)), self.world.services)
        for served in wanted.served:
            if not served.is_open:
                await self._apply(
                    version_service(self.deployment, served.track.child, is_open=False), self.world.services
                )
        if returning:
            await self._versions(wanted)
        await self._idle(wanted)
        await self._prune(wanted)

    def _front(self, wanted: Wish) -> str:
        """Before the first version is Ready the front stays as it is: closed, or on what a lost status knew of."""
        if self.deployment.status.stable is not None:
            return wanted.front
        seen = self.world.services.get(self.deployment.meta.namespace, self.deployment.meta.name)
        ours = seen is not None and seen.owner_uid == self.deployment.meta.uid
        return seen.selector.get(LABEL_VERSION, "") if seen is not None and ours else ""

    async def _versions(self, wanted: Wish) -> None:
        for served in wanted.served:
            if not served.scale.idle:
                await self._version(served)

    async def _version(self, served: Served) -> None:
        deployment, world, child = self.deployment, self.world, served.track.child
        await self._apply(serving(deployment, served, world), world.workloads)
        if served.is_open:
            await self._apply(version_service(deployment, child, is_open=True), world.services)
        await self._apply(disruption_budget(deployment, child), world.pdbs)
        if autoscaled(deployment, served.scale):
            await self._apply(autoscaler(deployment, child, served.scale), world.hpas)

    async def _idle(self, wanted: Wish) -> None:
        for served in wanted.served:
            if served.scale.idle:
                await self._delete_unwanted(wanted, ("hpas", "pdbs"))  # an autoscaler would start the pods again
                await self._apply(serving(self.deployment, served, self.world), self.world.workloads)

    async def _routes(self, wanted: Wish) -> None:
        flight, traffic = wanted.flight, wanted.traffic
        if flight is None or traffic is None:
            await self._clear_routes()
            return
        old, new = sides(self.deployment.status, flight.at)
        if old is None or new is None:
            return
        await self._route(old, new, traffic.old_route, flight)
        await self._route(new, old, traffic.new_route, flight)

    async def _route(self, track: Track, other: Track, share: Share, flight: Flight) -> None:
        text = route(self.deployment, other, share, flight, self.pods.young_until(other.child)).to_text()
        trivial = share.weight == 0 and not share.drain and flight.at.phase in QUIET
        for pod in self.pods.of(track.child):
            current = pod.meta.annotations.get(ANNOTATION_ROUTE)
            if current != text and not (trivial and current is None):
                await self._annotate(pod, text)

    async def _clear_routes(self) -> None:
        """Nothing is being replaced: no pod of stable forwards, also when we were away while the last rollout ended."""
        stable = self.deployment.status.stable
        text = Route(epoch=self.deployment.status.epoch).to_text()
        for pod in self.pods.of(stable.child) if stable is not None else ():
            if forwards(pod.meta.annotations.get(ANNOTATION_ROUTE, "")):
                await self._annotate(pod, text)

    async def _annotate(self, pod: ObservedPod, text: str) -> None:
        try:
            await self.world.writer.annotate("v1", "Pod", pod.meta, {ANNOTATION_ROUTE: text})
        except (NotFound, Conflict):
            return  # the pod is gone, or another one has its name: its event brings us back

    async def _apply(self, manifest: dict[str, Any], store: Store[Any]) -> None:
        meta = manifest["metadata"]
        seen: Child | None = store.get(meta["namespace"], meta["name"])
        what = f"{manifest['kind']} {meta['name']}"
        if seen is not None and seen.owner_uid != self.deployment.meta.uid:
            because = f"{what} is there and not ours: delete or rename it, it is never taken over"
            self.trouble.append(("NameTaken", because))
            return
        digest = None if seen is None else seen.digest
        with self._collected(what):
            await self.world.writer.apply(manifest, owner=self.deployment.meta, observed_digest=digest)

    @contextmanager
    def _collected(self, what: str) -> Iterator[None]:
        """What a person must change is shown, and the rest goes on."""
        try:
            yield
        except Blocked as error:
            self.trouble.append((error.reason, error.because))
        except (Invalid, Forbidden) as error:
            self.trouble.append(("ChildRefused", f"the API server refused {what}: {error}"))

    async def _prune(self, wanted: Wish) -> None:
        if self.deployment.status.stable is None:
            return  # nothing serves yet, or the status was lost: what is there may be all that users have
        await self._delete_unwanted(wanted, tuple(store for _, _, store in KINDS))

    async def _delete_unwanted(self, wanted: Wish, stores: Iterable[str]) -> None:
        """Children that no role needs, by owner and label; autoscalers first, pods last."""
        keep = names(self.deployment, wanted)
        for api_version, kind, place in KINDS:
            if place not in stores:
                continue
            store: Store[Child] = getattr(self.world, place)
            for child in store.owned_by(self.deployment.meta.uid):
                ours = child.meta.labels.get(LABEL_MODEL) == self.deployment.meta.name
                if ours and not child.meta.deleting and child.meta.name not in keep[place]:
                    await self.world.writer.delete(api_version, kind, child.meta)


def forwards(text: str) -> bool:
    """Whether this route's pod sends anything elsewhere, or makes clients leave."""
    try:
        found = Route.model_validate_json(text)
    except ValidationError:
        return False
    return bool(found.target) or found.weight > 0 or found.drain or found.mirror is not None


def names(deployment: Deployment, wanted: Wish) -> dict[str, set[str]]:
    """Names of the children that should be there, by store."""
    every = {child_name(deployment, s.track.child) for s in wanted.served}
    active = {child_name(deployment, s.track.child) for s in wanted.served if not s.scale.idle}
    scaled = {child_name(deployment, s.track.child) for s in wanted.served if autoscaled(deployment, s.scale)}
    return {"hpas": scaled, "pdbs": active, "services": {*every, deployment.meta.name}, "workloads": every}


def route(deployment: Deployment, other: Track, share: Share, flight: Flight, young_until: int = 0) -> Route:
    """The route of one version's pods. One that forwards nothing names no target, except that the holdback's may rescue.

    young_until: of the other version's pods, Unix seconds; it matters where that one is the candidate.
    """
    if share.weight == 0 and not share.drain and share.track != "holdback":
        return Route(epoch=flight.at.epoch)
    return Route(
        epoch=flight.at.epoch,
        target=service_url(deployment, other),
        version=other.child,
        track=share.track,
        weight=share.weight,
        deadline_ms=flight.deadline_ms or 1000,
        drain=share.drain,
        young_until=young_until if share.track == "candidate" else 0,
    )
