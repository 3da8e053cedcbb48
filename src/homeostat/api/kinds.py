"""One table of the four kinds: names, models, columns."""

from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from homeostat.api.base import ApiModel
from homeostat.api.deployment import ModelDeploymentSpec, ModelDeploymentStatus
from homeostat.api.drift import DriftMonitorSpec, DriftMonitorStatus
from homeostat.api.meta import Key, Meta
from homeostat.api.names import DEPLOYMENT_NAME_LENGTH, TRAINING_NAME_LENGTH
from homeostat.api.training import ModelTrainingSpec, ModelTrainingStatus
from homeostat.api.version import ModelVersionSpec, ModelVersionStatus

S = TypeVar("S", bound=ApiModel)
T = TypeVar("T", bound=ApiModel)


@dataclass(frozen=True, slots=True)
class Column:
    """A printer column; `wide` ones show with `-o wide` only."""

    name: str
    path: str
    type: str = "string"
    wide: bool = False


@dataclass(frozen=True, slots=True)
class Kind(Generic[S, T]):
    """How one kind is called, parsed and printed."""

    kind: str
    plural: str
    short: str
    spec: type[S]
    status: type[T]
    columns: tuple[Column, ...]
    name_length: int = 63


@dataclass(frozen=True, slots=True)
class Resource(Generic[S, T]):
    """One custom resource, parsed once per change. `spec` is None when the stored one does not parse; `invalid` says why."""

    kind: str
    meta: Meta
    spec: S
    status: T
    invalid: str = ""

    @property
    def key(self) -> Key:
        """Its key in the work queue."""
        return Key(self.kind, self.meta.namespace, self.meta.name)


def _ready(name: str, what: str) -> str:
    return f".status.conditions[?(@.type=='{name}')].{what}"


STATUS: Final = Column("STATUS", _ready("Ready", "reason"))
READY: Final = Column("READY", _ready("Ready", "status"))
MESSAGE: Final = Column("MESSAGE", _ready("Ready", "message"), wide=True)
AGE: Final = Column("AGE", ".metadata.creationTimestamp", "date")

MODEL_TRAINING: Final = Kind(
    "ModelTraining", "modeltrainings", "mt", ModelTrainingSpec, ModelTrainingStatus,
    (
        STATUS, Column("RUN", ".status.lastRun", "integer"), Column("TRIGGER", ".status.runs[0].trigger.type"),
        Column("LATEST", ".status.latestVersion.name"), READY, AGE, MESSAGE,
    ),
    TRAINING_NAME_LENGTH,
)  # fmt: skip
MODEL_VERSION: Final = Kind(
    "ModelVersion", "modelversions", "mv", ModelVersionSpec, ModelVersionStatus,
    (
        Column("VERSION", ".spec.number", "integer"), Column("TRIGGER", ".spec.lineage.trigger.type"), STATUS,
        Column("IN-USE", ".status.deployments[0]"), AGE, Column("DIGEST", ".spec.artifact.digest", wide=True),
        Column("REASON", ".spec.lineage.trigger.reason", wide=True),
    ),
)  # fmt: skip
MODEL_DEPLOYMENT: Final = Kind(
    "ModelDeployment", "modeldeployments", "md", ModelDeploymentSpec, ModelDeploymentStatus,
    (
        STATUS, Column("STABLE", ".status.stable.versionName"), Column("CANDIDATE", ".status.candidate.versionName"),
        Column("WEIGHT", ".status.candidate.weight", "integer"), READY, AGE, Column("URL", ".status.url", wide=True), MESSAGE,
    ),
    DEPLOYMENT_NAME_LENGTH,
)  # fmt: skip
DRIFT_MONITOR: Final = Kind(
    "DriftMonitor", "driftmonitors", "dm", DriftMonitorSpec, DriftMonitorStatus,
    (
        STATUS, Column("TARGET", ".spec.deploymentRef.name"), Column("DRIFT", ".status.drift"),
        Column("ROWS", ".status.window.rows", "integer"), Column("LAST-ACTION", ".status.actions[0].type"),
        Column("RESULT", ".status.actions[0].result"), READY, AGE, MESSAGE,
    ),
)  # fmt: skip

KINDS: Final[dict[str, Kind[Any, Any]]] = {
    k.kind: k for k in (MODEL_TRAINING, MODEL_VERSION, MODEL_DEPLOYMENT, DRIFT_MONITOR)
}

Training = Resource[ModelTrainingSpec, ModelTrainingStatus]
Version = Resource[ModelVersionSpec, ModelVersionStatus]
Deployment = Resource[ModelDeploymentSpec, ModelDeploymentStatus]
Monitor = Resource[DriftMonitorSpec, DriftMonitorStatus]
