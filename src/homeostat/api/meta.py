"""The slice of Kubernetes metadata that we use, and the parts that several kinds share."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field

from homeostat.api.base import ApiModel, Instant, Name, Quantity, Text


class Key(NamedTuple):
    """Identifies one custom resource in the work queue."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Meta:
    """What we read of an object's metadata."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    generation: int
    labels: dict[str, str]
    annotations: dict[str, str]
    created: datetime
    deleting: bool

    @classmethod
    def read(cls, raw: dict[str, Any]) -> "Meta":
        """From the JSON of `metadata`."""
        return cls(
            namespace=raw.get("namespace", ""),
            name=raw["name"],
            uid=raw.get("uid", ""),
            resource_version=raw.get("resourceVersion", ""),
            generation=int(raw.get("generation", 0)),
            labels=raw.get("labels") or {},
            annotations=raw.get("annotations") or {},
            created=parse_instant(raw.get("creationTimestamp") or "1970-01-01T00:00:00Z"),
            deleting=bool(raw.get("deletionTimestamp")),
        )


def parse_instant(text: str) -> datetime:
    """An RFC 3339 instant as an aware datetime. Raises ValueError when it is none."""
    return datetime.fromisoformat(text)


def format_instant(at: datetime) -> str:
    """RFC 3339 in UTC, with milliseconds only where the instant has some."""
    text = at.isoformat(timespec="milliseconds" if at.microsecond >= 1000 else "seconds")
    return text.replace("+00:00", "Z")


class ConditionStatus(ApiModel):
    """One condition of an object, as Kubernetes defines it."""

    type: Annotated[str, Field(max_length=64)]
    status: Literal["True", "False", "Unknown"]
    observed_generation: int | None = None
    last_transition_time: Instant
    reason: Annotated[str, Field(max_length=128)]
    message: Annotated[str, Field(max_length=4096)] = ""


Conditions = Annotated[
    tuple[ConditionStatus, ...],
    Field(
        max_length=16,
        description="Ready, Reconciling and Stalled in kstatus meaning, plus those of this kind.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]


class NameRef(ApiModel):
    """A reference to an object of the same namespace."""

    name: Annotated[Name, Field(description="Name of the object, in the same namespace. Example: `flights`.")]


class Trigger(ApiModel):
    """Why a training run was started."""

    type: Annotated[
        Literal["Spec", "Schedule", "Data", "Drift", "Degradation", "Manual"],
        Field(description="What started the run. Example: `Drift`."),
    ]
    reason: Annotated[Text, Field(description="One sentence that explains the trigger, with numbers.")] = ""
    source: Annotated[
        Text, Field(description="The object and window that asked, for example a monitor's request id.")
    ] = ""
    time: Annotated[Instant | None, Field(description="When it was asked for, RFC 3339.")] = None


class RequestEcho(ApiModel):
    """A request annotation that was consumed: its id, who asked, and what came of it."""

    id: Text
    by: Text = ""
    reason: Text = ""
    time: Instant
    result: Text = ""


Requests = Annotated[
    dict[str, RequestEcho],
    Field(description="The last consumed request per verb (`retrain`, `rollback`, …).", max_length=16),
]


class ResourceAmounts(ApiModel):
    """CPU and memory of one container."""

    cpu: Annotated[Quantity | None, Field(description="CPU in cores or millicores. Example: `500m`.")] = None
    memory: Annotated[Quantity | None, Field(description="Memory in bytes with a suffix. Example: `512Mi`.")] = None


class Resources(ApiModel):
    """Requests and limits of the container that does the work."""

    requests: Annotated[
        ResourceAmounts | None, Field(description="What the scheduler reserves. Default: see the docs of the kind.")
    ] = None
    limits: Annotated[
        ResourceAmounts | None,
        Field(description="What the container may use at most. Default: no CPU limit, memory as requested."),
    ] = None
