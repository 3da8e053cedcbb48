"""What we keep of the objects that we own: a slotted projection per kind, made at the socket."""

from dataclasses import dataclass
from datetime import datetime

from homeostat.api.meta import Meta


@dataclass(frozen=True, slots=True)
class Child:
    """Common to all observed children. `owner_uid` is the controller's, `digest` the annotation of what we applied last."""

    meta: Meta
    owner_uid: str
    digest: str


@dataclass(frozen=True, slots=True)
class ObservedDeployment(Child):
    """An apps/v1 Deployment. replicas: wanted; total_replicas: there are, those of the template before included."""

    replicas: int
    ready_replicas: int
    updated_replicas: int
    observed_generation: int
    progressing_reason: str
    total_replicas: int = 0


@dataclass(frozen=True, slots=True)
class ObservedService(Child):
    """A Service; it has no generation, so the fields that we own are kept and compared."""

    selector: dict[str, str]
    ports: tuple[tuple[str, int, str], ...]
    cluster_ip: str


@dataclass(frozen=True, slots=True)
class ObservedHpa(Child):
    """An autoscaling/v2 HorizontalPodAutoscaler."""

    min_replicas: int
    max_replicas: int
    desired_replicas: int


@dataclass(frozen=True, slots=True)
class ObservedPdb(Child):
    """A PodDisruptionBudget."""


@dataclass(frozen=True, slots=True)
class ContainerState:
    """One container (or init container) of a pod. `message` is the termination message or the waiting reason's text."""

    name: str
    ready: bool
    restarts: int
    waiting_reason: str
    waiting_message: str
    exit_code: int | None
    terminated_reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ObservedPod(Child):
    """A pod of a version or of a run. admin_tls: its kubelet probes it over TLS, so its numbers are read over TLS as well."""

    phase: str
    ip: str
    ready: bool
    ready_since: datetime | None
    node: str
    unschedulable: str
    containers: tuple[ContainerState, ...]
    init_containers: tuple[ContainerState, ...]
    admin_tls: bool = False


@dataclass(frozen=True, slots=True)
class ObservedJob(Child):
    """A batch/v1 Job. `finished` is `Complete`, `Failed` or empty; `reason` and `message` of that condition."""

    active: int
    succeeded: int
    failed: int
    finished: str
    reason: str
    message: str
    started: datetime | None
    completed: datetime | None
    ttl_set: bool
