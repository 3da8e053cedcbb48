"""ModelDeployment: serve one model, replace it safely."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from homeostat.api.base import ApiModel, Digest, Duration, Instant, Rule, Text, Uri
from homeostat.api.meta import Conditions, NameRef, Requests
from homeostat.api.serving import Server

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


class Optimization(ApiModel):
    """A cheaper form of the model that is served instead of it, if it answers nearly the same."""

    type: Annotated[
        Literal["Graph", "Int8Dynamic", "Float16"],
        Field(
            description="`Graph`: the runtime's graph rewrites and plain score tables; `Int8Dynamic`: big matrix products in 8 bits, each row by its own range; `Float16`: half-precision weights. Trees and linear models gain nothing. Example: `Int8Dynamic`."
        ),
    ]
    tolerance: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Largest change that is accepted, over 256 rows drawn from the baseline: of a probability in points (0.01 is one percentage point), of another score as share of its size; also the largest share of rows whose label changes. Default: 0.01.",
        ),
    ] = 0.01
    required: Annotated[
        bool,
        Field(
            description="True: a version whose optimised form cannot be made or is above the tolerance does not get Ready (`OptimizationRefused`), and its speed is not asked. False: the original then serves, as well when it gains less than 5 %. Default: false."
        ),
    ] = False
    share: Annotated[
        bool,
        Field(
            description="Keep the result beside the bundle in its registry (tag `sha256-<digest>.<type>…`), so that it is made once per digest; whoever may push there can then change what is served. False: each pod makes its own from the checked original. Default: true."
        ),
    ] = True


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
    optimization: Annotated[
        Optimization | None,
        Field(description="Serve a cheaper form of each version where it answers nearly the same. Default: none."),
    ] = None
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


class OptimizationStatus(ApiModel):
    """What came of `spec.optimization` for one version, as its pods measured it."""

    type: Annotated[str, Field(max_length=32)]
    used: Annotated[bool, Field(description="Whether the optimised form serves; otherwise the original does.")] = False
    speedup: Annotated[
        float | None, Field(description="The original's time for a batch of 32 rows, divided by the optimised form's.")
    ] = None
    max_difference: Annotated[
        float | None, Field(description="Largest change of a score over the compared rows, as the tolerance counts it.")
    ] = None
    changed_labels: Annotated[float | None, Field(description="Share of the compared rows with another label.")] = None
    size_bytes: Annotated[int | None, Field(description="Size of the optimised file.")] = None
    reason: Annotated[
        str,
        Field(
            max_length=128,
            description="Why the original serves: `AboveTolerance`, `NoGain`, `NothingToOptimize`, `OptimizationFailed`, …",
        ),
    ] = ""
    message: Text = ""


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
    template: Annotated[
        int | None,
        Field(
            ge=1, description="Revision of the pod template, pinned with the image; 1 when absent. A refresh renews it."
        ),
    ] = None
    baseline_digest: Digest | None = None
    optimization: OptimizationStatus | None = None
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
