"""What reconcilers need from the world. Implemented by `cluster`, `signals` and `operator`; defined here, where it is used."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from homeostat.api.kinds import Deployment, Monitor, Training, Version
from homeostat.api.meta import Key, Meta
from homeostat.api.wire.bundle import Baseline
from homeostat.api.wire.stats import PodStats
from homeostat.cluster.observed import (
    ObservedDeployment,
    ObservedHpa,
    ObservedJob,
    ObservedPdb,
    ObservedPod,
    ObservedService,
)
from homeostat.reconcile.ticks import Ticks
from homeostat.reconcile.windows import Windows
from homeostat.runtime.clock import Clock

T_co = TypeVar("T_co", covariant=True)
Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Config:
    """The installation, fixed at start.

    images: what pods run. artifacts_uri: `oci://host[/prefix]`, repositories below it are `<namespace>/<name>`.
    plain_http: registry hosts without TLS.
    """

    operator_namespace: str
    server_image: str
    trainer_image: str
    artifacts_uri: str
    plain_http: tuple[str, ...] = ()
    image_pull_policy: str = "IfNotPresent"


class Store(Protocol[T_co]):
    """A read-only view of what an informer has seen."""

    def get(self, namespace: str, name: str) -> T_co | None:
        """The object, or None."""
        ...

    def owned_by(self, uid: str) -> tuple[T_co, ...]:
        """All whose controller has this uid, by name."""
        ...

    def labelled(self, namespace: str, label: str, value: str) -> tuple[T_co, ...]:
        """All of a namespace with this label, by name."""
        ...

    def all(self) -> Iterable[T_co]:
        """Every object."""
        ...


class Writer(Protocol):
    """Writes to the API server. All raise the tree of `errors`; nothing is retried inside."""

    async def apply(self, manifest: Manifest, *, owner: Meta | None, observed_digest: str | None) -> bool:
        """Server-side apply with our field manager; not sent when the digest equals `observed_digest`. True when it was sent.

        Raises Blocked(`NameTaken`) when an object of that name is not `owner`'s.
        """
        ...

    async def delete(self, api_version: str, kind: str, meta: Meta) -> None:
        """Delete exactly this object (uid and resourceVersion as preconditions); gone already is fine."""
        ...

    async def patch_status(
        self, resource: Training | Version | Deployment | Monitor, status: Mapping[str, Any]
    ) -> bool:
        """Merge-patch `status` (with the resourceVersion seen) if it differs from the resource's. True when it was sent."""
        ...

    async def annotate(self, api_version: str, kind: str, meta: Meta, annotations: Mapping[str, str | None]) -> None:
        """Merge-patch annotations of one object; None removes one. Raises NotFound."""
        ...

    async def create(self, manifest: Manifest) -> bool:
        """Create; False when an object of that name exists already."""
        ...

    def event(
        self, resource: Training | Version | Deployment | Monitor, *, warning: bool, reason: str, note: str
    ) -> None:
        """Record an Event (aggregated, rate limited, posted in the background)."""
        ...


class Signals(Protocol):
    """Live numbers from serving pods."""

    def watch(self, owner: Key, pods: Iterable[ObservedPod], *, interval_seconds: float) -> None:
        """Keep scraping these pods for this owner; an empty iterable stops it. Cheap; called on each reconcile."""
        ...

    def latest(self, pod_uid: str) -> tuple[float, PodStats] | None:
        """Newest stats of a pod with the monotonic time of the scrape, or None."""
        ...

    def baseline(self, pods: Iterable[ObservedPod], digest: str) -> Baseline | None:
        """The baseline with this digest, from any of the pods; None until one was read (a read is then started)."""
        ...


class World(Protocol):
    """Everything a reconcile may use."""

    clock: Clock
    config: Config
    trainings: Store[Training]
    versions: Store[Version]
    deployments: Store[Deployment]
    monitors: Store[Monitor]
    jobs: Store[ObservedJob]
    pods: Store[ObservedPod]
    workloads: Store[ObservedDeployment]
    services: Store[ObservedService]
    hpas: Store[ObservedHpa]
    pdbs: Store[ObservedPdb]
    writer: Writer
    signals: Signals
    windows: Windows
    ticks: Ticks
