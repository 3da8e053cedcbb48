"""The kinds that we own: where they are, what is kept of them, how they are indexed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from homeostat.api.kinds import KINDS
from homeostat.api.names import (
    API_VERSION,
    GROUP,
    LABEL_MANAGED_BY,
    LABEL_MODEL,
    LABEL_TRAINING,
    LABEL_VERSION,
    VERSION,
)
from homeostat.cluster import projections
from homeostat.cluster.observed import (
    Child,
    ObservedDeployment,
    ObservedHpa,
    ObservedJob,
    ObservedPdb,
    ObservedPod,
    ObservedService,
)

C = TypeVar("C", bound=Child)

SELECTOR: Final = f"{LABEL_MANAGED_BY}=homeostat"
INDEXED: Final = (LABEL_MODEL, LABEL_TRAINING, LABEL_VERSION)


@dataclass(frozen=True)  # no slots: `ChildKind[…](…)` could not note its type argument
class ChildKind(Generic[C]):
    """One kind of children."""

    api_version: str
    kind: str
    plural: str
    project: Callable[[dict[str, Any]], C]


JOBS: Final = ChildKind[ObservedJob]("batch/v1", "Job", "jobs", projections.job)
PODS: Final = ChildKind[ObservedPod]("v1", "Pod", "pods", projections.pod)
DEPLOYMENTS: Final = ChildKind[ObservedDeployment]("apps/v1", "Deployment", "deployments", projections.deployment)
SERVICES: Final = ChildKind[ObservedService]("v1", "Service", "services", projections.service)
HPAS: Final = ChildKind[ObservedHpa](
    "autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", projections.hpa
)
PDBS: Final = ChildKind[ObservedPdb]("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", projections.pdb)
CHILDREN: Final[tuple[ChildKind[Any], ...]] = (JOBS, PODS, DEPLOYMENTS, SERVICES, HPAS, PDBS)

_PLURALS: Final = {
    **{(c.api_version, c.kind): c.plural for c in CHILDREN},
    **{(API_VERSION, k.kind): k.plural for k in KINDS.values()},
}


def collection(api_version: str, plural: str, namespace: str | None) -> str:
    """Path of all objects of a kind, of one namespace or (None) of all."""
    prefix = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
    return f"{prefix}/{plural}" if namespace is None else f"{prefix}/namespaces/{namespace}/{plural}"


def path(api_version: str, kind: str, namespace: str, name: str) -> str:
    """Path of one object. Raises KeyError for a kind that is not ours to write."""
    return f"{collection(api_version, _PLURALS[api_version, kind], namespace)}/{name}"


def custom(plural: str, namespace: str | None) -> str:
    """Path of all of one of our four kinds."""
    return collection(f"{GROUP}/{VERSION}", plural, namespace)
