"""DriftMonitor: reads live metrics, acts on the other kinds."""

from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field

from homeostat.api.base import ApiModel, Digest, Duration, Instant, Rule, Text
from homeostat.api.meta import Conditions, NameRef

Finding = Literal["DataDrift", "PredictionDrift", "Degradation"]
_ON: Final = "Findings that start the action: `DataDrift`, `PredictionDrift`, `Degradation`. Example: `[DataDrift]`."
_Findings = Annotated[
    tuple[Finding, ...],
    Field(min_length=1, max_length=3, json_schema_extra={"x-kubernetes-list-type": "set"}),
]


class Budget(ApiModel):
    """How many actions are allowed in a period."""

    max: Annotated[int, Field(ge=1, le=10, description="Most actions in the period. Default: 4.")] = 4
    period: Annotated[Duration, Field(description="Length of the period. Default: `168h`.")] = Duration("168h")


class Action(ApiModel):
    """What is done when something is found."""

    type: Annotated[
        Literal["Retrain", "Rollback"],
        Field(description="`Retrain`: the world changed; `Rollback`: the version is at fault."),
    ]
    on: Annotated[_Findings | None, Field(description=_ON)] = None
    bare_on: Annotated[
        _Findings | None,
        Field(alias="true", description="The same as `on`: YAML 1.1 reads a bare `on` as the word `true`."),
    ] = None
    cooldown: Annotated[Duration, Field(description="Least time between two of these actions. Default: `24h`.")] = (
        Duration("24h")
    )
    budget: Annotated[
        Budget, Field(description="How many of these actions are allowed in a period. Default: 4 in 168h.")
    ] = Budget()
    max_attempts: Annotated[
        int,
        Field(
            ge=1,
            le=10,
            description="Actions in a row without a promoted version before the monitor stops and says so. Default: 3.",
        ),
    ] = 3
    training_ref: Annotated[
        NameRef | None,
        Field(description="The ModelTraining to run. Default: the one that the deployment follows."),
    ] = None
    cel: ClassVar = (
        Rule(
            "has(self.on) != has(self.__true__)",
            "name under `on`, once, the findings that start the action: DataDrift, PredictionDrift, Degradation",
            ".on",
        ),
        Rule(
            "self.type == 'Retrain' || !has(self.trainingRef)",
            "remove trainingRef: a Rollback runs no training",
            ".trainingRef",
        ),
    )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What starts the action, under whichever of its two names it stands."""
        return self.on or self.bare_on or ()


class DriftMonitorSpec(ApiModel):
    """What is watched, and what is done about it."""

    deployment_ref: Annotated[NameRef, Field(description="The ModelDeployment that is watched.")]
    window: Annotated[
        Duration, Field(description="Length of the windows that are judged, 5s to 720h. Default: `1h`. Example: `15m`.")
    ] = Duration("1h")
    interval: Annotated[
        Duration, Field(description="How often the pods are read, from 1s to the window's length. Default: `30s`.")
    ] = Duration("30s")
    min_rows: Annotated[
        int, Field(ge=50, le=100000000, description="A window with fewer rows is no evidence. Default: 200.")
    ] = 200
    min_labels: Annotated[
        int, Field(ge=50, le=100000000, description="A window with fewer labels says nothing of quality. Default: 100.")
    ] = 100
    actions: Annotated[
        tuple[Action, ...],
        Field(
            max_length=8,
            description="What is done when something is found. Default: nothing but conditions and Events.",
        ),
    ] = ()
    suspend: Annotated[bool, Field(description="Nothing is read or done while true. Default: false.")] = False
    cel: ClassVar = (
        Rule(
            "!has(self.window) || duration(self.window) >= duration('5s') && duration(self.window) <= duration('720h')",
            "set window between 5s and 720h",
            ".window",
        ),
        Rule(
            "!has(self.interval) || duration(self.interval) >= duration('1s')",
            "set interval to 1s or more",
            ".interval",
        ),
        Rule(
            "duration(has(self.interval) ? self.interval : '30s') <= duration(has(self.window) ? self.window : '1h')",
            "interval (default 30s) must not exceed window (default 1h): set a shorter interval or a longer window",
            ".interval",
        ),
    )


class MovedFeature(ApiModel):
    """A feature that moved."""

    name: Annotated[str, Field(max_length=256)]
    effect: Annotated[float, Field(description="PSI beyond what chance explains.")]
    p: Annotated[float, Field(description="Adjusted p-value.")]


class DetectorStatus(ApiModel):
    """What one detector said of the newest window."""

    name: Finding
    verdict: Literal["OK", "Warning", "Drift", "InsufficientData"]
    score: float | None = None
    consecutive: int = 0
    message: Text = ""
    features: Annotated[tuple[MovedFeature, ...], Field(max_length=10)] = ()


class ActionStatus(ApiModel):
    """An action that was taken or blocked."""

    id: Text
    type: Literal["Retrain", "Rollback"]
    finding: Finding
    time: Instant
    version: Annotated[str, Field(max_length=16, description="The stable version that it is about.")] = ""
    result: Annotated[
        Literal["Requested", "Blocked", "Promoted", "Done", "Failed"],
        Field(description="`Done`: a Rollback went back to the previous version."),
    ]
    reason: Annotated[str, Field(max_length=128)] = ""
    message: Text = ""


class WindowStatus(ApiModel):
    """The newest judged window."""

    start: Instant
    end: Instant
    rows: int = 0
    labels: int = 0
    version: Annotated[str, Field(max_length=16)] = ""


class DriftMonitorStatus(ApiModel):
    """What the operator knows of a monitor."""

    observed_generation: int | None = None
    window: WindowStatus | None = None
    baseline_digest: Digest | None = None
    drift: Annotated[str, Field(max_length=64, description="Worst finding of the newest window, for the table.")] = ""
    detectors: Annotated[tuple[DetectorStatus, ...], Field(max_length=8)] = ()
    state: Annotated[
        dict[str, Any],
        Field(
            description="Streaks that the next window continues.",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = {}
    actions: Annotated[
        tuple[ActionStatus, ...],
        Field(max_length=22, description="Newest first: ten of each type, and the newest blocked one."),
    ] = ()
    conditions: Conditions = ()
