"""ModelDeployment: serve one model, replace it safely."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from homeostat.api.base import ApiModel, Digest, Duration, Instant, Rule, Text, Uri
from homeostat.api.meta import Conditions, NameRef, Requests, Resources

Replicas = Annotated[int, Field(ge=1, le=1000)]
Tolerated = Annotated[float, Field(ge=0, le=1)]
Host = Annotated[str, Field(max_length=261)]  # name of 253, colon, port


class ModelSource(ApiModel):
    """A model from elsewhere."""

    uri: Annotated[
        Uri,
        Field(
            description="Bundle or ONNX file: `name:tag` in the installation's registry or `oci://…`. Example: `oci://registry/ml/churn@sha256:…`."
        ),
    ]
    digest: Annotated[Digest, Field(description="SHA-256 of `model.onnx`, checked before it is loaded.")]


class ModelChoice(ApiModel):
    """Which model is served: exactly one of the three."""

    training_ref: Annotated[
        NameRef | None, Field(description="Follow the newest accepted version of this ModelTraining.")
    ] = None
    version_ref: Annotated[NameRef | None, Field(description="Serve exactly this ModelVersion.")] = None
    source: Annotated[ModelSource | None, Field(description="Serve a model that was made elsewhere.")] = None
    cel: ClassVar = (
        Rule(
            "(has(self.trainingRef) ? 1 : 0) + (has(self.versionRef) ? 1 : 0) + (has(self.source) ? 1 : 0) == 1",
            "name exactly one model: trainingRef (follow), versionRef (pin) or source (bring your own)",
        ),
    )


class Autoscaling(ApiModel):
    """The HorizontalPodAutoscaler of each version."""

    min_replicas: Annotated[Replicas, Field(description="Fewest pods. Default: 1.")] = 1
    max_replicas: Annotated[Replicas, Field(description="Most pods. Default: 3.")] = 3
    cpu_percent: Annotated[
        int, Field(ge=1, le=1000, description="Wanted CPU use in percent of the request. Default: 70.")
    ] = 70
    cel: ClassVar = (
        Rule(
            "(has(self.minReplicas) ? self.minReplicas : 1) <= (has(self.maxReplicas) ? self.maxReplicas : 3)",
            "minReplicas must not exceed maxReplicas (default 3)",
            ".minReplicas",
        ),
    )


class CanaryStep(ApiModel):
    """A share of the requests that the candidate gets for a time."""

    weight: Annotated[
        int,
        Field(
            ge=1,
            le=99,
            description="Share of the requests in percent, 1 to 99; 100 is the promotion, not a step. Example: 25.",
        ),
    ]
    duration: Annotated[Duration, Field(description="How long the share is held at least. Example: `10m`.")]


class Canary(ApiModel):
    """Give the candidate more and more of the requests."""

    steps: Annotated[
        tuple[CanaryStep, ...],
        Field(
            max_length=20,
            description="Growing shares. Default: 5, 25, 50 %, 10 minutes each. An empty list replaces at once.",
        ),
    ] = (
        CanaryStep(weight=5, duration=Duration("10m")),
        CanaryStep(weight=25, duration=Duration("10m")),
        CanaryStep(weight=50, duration=Duration("10m")),
    )
    cel: ClassVar = (
        Rule(
            "!has(self.steps) || self.steps.all(i, s, i == 0 || self.steps[i - 1].weight < s.weight)",
            "weights must grow from step to step",
            ".steps",
        ),
    )


class Strategy(ApiModel):
    """How a version is replaced."""

    canary: Annotated[Canary, Field(description="Growing shares of the requests, judged while they run.")] = Canary()


class Tolerance(ApiModel):
    """How much worse than stable the candidate may be: candidate <= (1 + relative) x stable + absolute."""

    absolute: Annotated[
        Tolerated | None, Field(description="Points that are tolerated. Default: per metric. Example: 0.005.")
    ] = None
    relative: Annotated[
        Tolerated | None,
        Field(description="Share of stable's rate that is tolerated. Default: per metric. Example: 0.1."),
    ] = None


class AnalysisMetric(ApiModel):
    """One comparison of candidate and stable."""

    type: Annotated[
        Literal["ErrorRate", "Quality"],
        Field(description="`ErrorRate`: failed requests; `Quality`: wrong predictions by labels sent to `/feedback`."),
    ]
    tolerance: Annotated[
        Tolerance | None, Field(description="What is tolerated. Default: ErrorRate 0.005 and 0.1; Quality 0.01 and 0.")
    ] = None
    required: Annotated[
        bool | None,
        Field(
            description="A step waits for this metric's Pass. Default: true for ErrorRate, false for Quality, which may have no labels."
        ),
    ] = None


class Analysis(ApiModel):
    """How a candidate is judged."""

    metrics: Annotated[
        tuple[AnalysisMetric, ...],
        Field(
            max_length=8,
            description="What is compared. Default: ErrorRate and Quality.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = (AnalysisMetric(type="ErrorRate"), AnalysisMetric(type="Quality"))
    false_rollback_rate: Annotated[
        float,
        Field(
            gt=0,
            le=0.2,
            description="Chance that a good version is rolled back, over all metrics and looks. Default: 0.01.",
        ),
    ] = 0.01
    on_inconclusive: Annotated[
        Literal["Pause", "Promote", "Rollback"],
        Field(
            description="What the last step does when evidence stays undecided after twice its duration. Default: `Pause`."
        ),
    ] = "Pause"


class Bake(ApiModel):
    """What happens after the promotion."""

    duration: Annotated[
        Duration, Field(description="How long the old version is kept and the comparison goes on. Default: `30m`.")
    ] = Duration("30m")
    holdback: Annotated[
        int, Field(ge=0, le=50, description="Share of the requests in percent that the old version keeps. Default: 5.")
    ] = 5


class Server(ApiModel):
    """The serving pods."""

    resources: Annotated[
        Resources | None,
        Field(
            description="CPU and memory of the server. Default: requests of 100m and 192Mi (64Mi more for each worker beyond the first)."
        ),
    ] = None
    workers: Annotated[int, Field(ge=1, le=64, description="Worker processes in a pod. Default: 1.")] = 1


class ModelDeploymentSpec(ApiModel):
    """What one served model should look like."""

    model: Annotated[ModelChoice, Field(description="Which model is served.")]
    replicas: Annotated[
        Replicas | None,
        Field(description="Fixed number of pods, without an autoscaler. Default: `autoscaling` decides."),
    ] = None
    autoscaling: Annotated[
        Autoscaling | None, Field(description="Bounds of the autoscaler. Default: 1 to 3 pods at 70 % CPU.")
    ] = None
    server: Annotated[Server, Field(description="The serving pods.")] = Server()
    strategy: Annotated[Strategy, Field(description="How a version is replaced.")] = Strategy()
    analysis: Annotated[Analysis, Field(description="How a candidate is judged.")] = Analysis()
    bake: Annotated[Bake, Field(description="What happens after the promotion.")] = Bake()
    progress_deadline: Annotated[
        Duration,
        Field(
            description="A candidate that is not ready, routed or promoted within this time is rolled back. Default: `10m`."
        ),
    ] = Duration("10m")
    paused: Annotated[
        bool,
        Field(
            description="No rollout starts or advances while true; a failing candidate still goes back. Default: false."
        ),
    ] = False
    cel: ClassVar = (
        Rule(
            "!has(self.replicas) || !has(self.autoscaling)",
            "choose one: a fixed spec.replicas, or spec.autoscaling",
            ".replicas",
        ),
    )


class Track(ApiModel):
    """One version in its role. Carries all that is needed to serve it without its ModelVersion."""

    version_name: Annotated[str, Field(max_length=253)] = ""
    child: Annotated[
        str, Field(max_length=16, description="Suffix of its children, the value of label and metrics. Example: `v7`.")
    ]
    number: int = 0
    digest: Digest
    uri: Uri
    image: Annotated[str, Field(max_length=512)]
    pull_policy: Annotated[
        str | None, Field(max_length=16, description="Pinned with the image; the installation's when absent.")
    ] = None
    plain_http: Annotated[
        tuple[Host, ...] | None,
        Field(
            max_length=64,
            description="Registry hosts without TLS, pinned with the image; the installation's when absent.",
        ),
    ] = None
    baseline_digest: Digest | None = None
    weight: int = 0
    applied_weight: int = 0
    ready_replicas: int = 0


class Quarantine(ApiModel):
    """A digest that is not rolled out again in this deployment."""

    digest: Digest
    reason: Text
    time: Instant


class RolloutStatus(ApiModel):
    """Where the replacement stands. All of it that a decision needs outlives the operator."""

    phase: Annotated[str, Field(max_length=32)]
    step: int = 0
    started: Instant
    since: Annotated[Instant | None, Field(description="When the phase or step began to count.")] = None
    deadline: Instant | None = None
    epoch: int = 0
    message: Text = ""
    state: Annotated[
        dict[str, Any],
        Field(
            description="Evidence and clocks of the decision, checkpointed at most every 30 s.",
            json_schema_extra={"x-kubernetes-preserve-unknown-fields": True},
        ),
    ] = {}


class RolloutHistory(ApiModel):
    """How a past rollout ended."""

    version_name: Annotated[str, Field(max_length=253)]
    digest: Digest
    started: Instant
    ended: Instant
    result: Literal["Promoted", "RolledBack", "Superseded"]
    reason: Annotated[str, Field(max_length=128)] = ""
    message: Text = ""


class ModelDeploymentStatus(ApiModel):
    """What the operator knows of a deployment."""

    observed_generation: int | None = None
    url: Annotated[str, Field(max_length=512)] = ""
    epoch: Annotated[int, Field(description="Counter of routes; written before the pods get them.")] = 0
    model_digest: Annotated[
        str, Field(max_length=80, description="Digest of spec.model; a change lifts the quarantine.")
    ] = ""
    stable: Track | None = None
    candidate: Track | None = None
    previous: Track | None = None
    rollout: RolloutStatus | None = None
    quarantined: Annotated[tuple[Quarantine, ...], Field(max_length=20)] = ()
    history: Annotated[
        tuple[RolloutHistory, ...], Field(max_length=10, description="Past rollouts, newest first.")
    ] = ()
    requests: Requests = {}
    conditions: Conditions = ()
