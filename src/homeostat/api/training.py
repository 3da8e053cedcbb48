"""ModelTraining: what to train, when, and what must hold before the result counts."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from homeostat.api.base import ApiModel, Digest, Duration, Instant, Name, Rule, Text, Uri
from homeostat.api.meta import Conditions, Requests, Resources, Trigger

PositiveInt = Annotated[int, Field(ge=1, le=1000)]


class SklearnTrainer(ApiModel):
    """Trains a scikit-learn estimator; preprocessing by column type becomes part of the ONNX graph."""

    estimator: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            pattern=r"^[A-Za-z][A-Za-z0-9]*$",
            description="Class name of a scikit-learn classifier or regressor. Example: `HistGradientBoostingClassifier`.",
        ),
    ]
    target: Annotated[str, Field(min_length=1, max_length=256, description="Column to predict. Example: `late`.")]
    parameters: Annotated[
        dict[str, Any],
        Field(
            max_length=64,
            description="Constructor arguments of the estimator: strings, numbers and booleans. Default: none. Example: `{max_iter: 200}`.",
        ),
    ] = {}
    exclude: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=256)], ...],
        Field(max_length=500, description="Columns that are no features. Default: none. Example: `[row_id]`."),
    ] = ()


class Trainer(ApiModel):
    """How the model is trained: exactly one way."""

    sklearn: Annotated[
        SklearnTrainer | None, Field(description="Built-in training of a scikit-learn estimator, without code.")
    ] = None
    cel: ClassVar = (Rule("has(self.sklearn)", "name how to train: set spec.trainer.sklearn"),)


class Dataset(ApiModel):
    """Rows in a CSV or parquet file."""

    uri: Annotated[
        Uri,
        Field(
            description="Where the rows are: `name:tag` in the installation's registry, or `oci://host/repository:tag` (or `@sha256:…`). "
            "A tag is resolved to a digest before each run. Example: `flights:latest`."
        ),
    ]


class Data(ApiModel):
    """The data sets of a run."""

    train: Annotated[Dataset, Field(description="Rows to learn from.")]
    test: Annotated[
        Dataset | None,
        Field(description="Rows to judge by. Default: a fifth of `train`, by seed or by `spec.split.column`."),
    ] = None


class Split(ApiModel):
    """How held-out rows are taken from the training rows."""

    column: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=256,
            description="Orders the rows; the last ones are held out. Default: random by seed.",
        ),
    ] = None
    fraction: Annotated[float, Field(gt=0, lt=1, description="Share of the rows that is held out. Default: 0.2.")] = 0.2


class Gate(ApiModel):
    """A condition that a run's metric must meet, else no version is made."""

    metric: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            description="Metric on held-out rows: `auc`, `accuracy`, `f1`, `log_loss`, `brier`, `rmse`, `mae` or `r2`. Example: `auc`.",
        ),
    ]
    min: Annotated[float | None, Field(description="Lowest value that passes. Example: 0.7.")] = None
    max: Annotated[float | None, Field(description="Highest value that passes. Example: 0.5.")] = None
    max_regression: Annotated[
        float | None,
        Field(
            ge=0,
            description="How much worse than the champion, re-scored on the same rows, the metric may be. Without a champion it passes. Example: 0.01.",
        ),
    ] = None
    cel: ClassVar = (
        Rule(
            "has(self.min) || has(self.max) || has(self.maxRegression)",
            "give the gate a bound: min, max or maxRegression",
        ),
        Rule("!has(self.min) || !has(self.max) || self.min <= self.max", "min must not exceed max", ".min"),
    )


class TrainingOptimization(ApiModel):
    """A cheaper form of the fitted model that becomes the version, if it answers nearly the same."""

    type: Annotated[
        Literal["Graph", "Int8Dynamic", "Float16"],
        Field(
            description="`Graph`: the runtime's graph rewrites; `Int8Dynamic`: big matrix products in 8 bits, each row by its own range; `Float16`: half-precision weights. Trees and linear models gain nothing. Example: `Int8Dynamic`."
        ),
    ]
    tolerance: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Largest change that is accepted on the held-out rows: of a probability in points (0.01 is one percentage point), of a value as share of its size; also the largest share of rows whose label changes. Default: 0.01.",
        ),
    ] = 0.01
    required: Annotated[
        bool,
        Field(
            description="True: a run whose optimised model cannot be made or is above the tolerance fails (`OptimizationRefused`). False: the model as it was fitted becomes the version. Default: false."
        ),
    ] = False


class VersionsPolicy(ApiModel):
    """What happens to the versions of this training."""

    history_limit: Annotated[
        int, Field(ge=1, le=1000, description="How many versions that nobody uses are kept. Default: 10.")
    ] = 10


class ModelTrainingSpec(ApiModel):
    """What to train, when, and what must hold before the result counts."""

    trainer: Annotated[Trainer, Field(description="How the model is trained.")]
    data: Annotated[Data, Field(description="What it is trained and judged on.")]
    split: Annotated[Split | None, Field(description="How held-out rows are chosen when `data.test` is not given.")] = (
        None
    )
    gates: Annotated[
        tuple[Gate, ...],
        Field(max_length=20, description="What must hold before the result becomes a version. Default: none."),
    ] = ()
    optimization: Annotated[
        TrainingOptimization | None,
        Field(description="Make the model cheaper before the gates judge it. Default: none."),
    ] = None
    schedule: Annotated[
        str | None,
        Field(
            min_length=9,
            max_length=100,
            description="Cron expression in `timeZone` for regular runs. Default: none. Example: `0 3 * * 1`.",
        ),
    ] = None
    time_zone: Annotated[
        str,
        Field(
            min_length=1,
            max_length=64,
            description="IANA time zone of `schedule`. Default: `UTC`. Example: `Europe/Berlin`.",
        ),
    ] = "UTC"
    suspend: Annotated[bool, Field(description="No new run is started while true. Default: false.")] = False
    retry_limit: Annotated[
        int,
        Field(ge=0, le=10, description="How often a run that failed for a passing reason is tried again. Default: 2."),
    ] = 2
    deadline: Annotated[
        Duration, Field(description="A run that takes longer is ended. Default: `4h`. Example: `30m`.")
    ] = Duration("4h")
    seed: Annotated[int, Field(ge=0, le=2147483647, description="Seed of split and estimator. Default: 0.")] = 0
    resources: Annotated[
        Resources | None, Field(description="CPU and memory of the training step. Default: requests of 250m and 512Mi.")
    ] = None
    versions: Annotated[VersionsPolicy, Field(description="How many versions are kept.")] = VersionsPolicy()
    cel: ClassVar = (
        Rule(
            "!has(self.split) || !has(self.data.test)",
            "remove spec.split: held-out rows already come from data.test",
            ".split",
        ),
        Rule("!has(self.timeZone) || has(self.schedule)", "set spec.schedule, or remove spec.timeZone", ".timeZone"),
    )


class RunStatus(ApiModel):
    """One training run."""

    number: int
    trigger: Trigger
    job_name: Name
    start_time: Instant
    completion_time: Instant | None = None
    result: Literal["Running", "Succeeded", "Unchanged", "GateFailed", "Failed"] = "Running"
    reason: Annotated[str, Field(max_length=128)] = ""
    message: Text = ""
    version_name: Name | None = None
    data_digest: Digest | None = None


class MetricValue(ApiModel):
    """A named number."""

    name: Annotated[str, Field(max_length=64, description="Name of the metric. Example: `auc`.")]
    value: Annotated[float, Field(description="Its value on held-out rows.")]


Metrics = Annotated[tuple[MetricValue, ...], Field(max_length=32)]


class LatestVersion(ApiModel):
    """The newest accepted version."""

    name: Name
    number: int
    digest: Digest
    metrics: Metrics = ()


class ModelTrainingStatus(ApiModel):
    """What the operator knows of a training."""

    observed_generation: int | None = None
    last_run: Annotated[int, Field(description="Number of the newest run; versions share the counter.")] = 0
    spec_digest: Annotated[str, Field(max_length=80, description="Digest of the spec of the newest run.")] = ""
    current_run: RunStatus | None = None
    runs: Annotated[tuple[RunStatus, ...], Field(max_length=10, description="Finished runs, newest first.")] = ()
    latest_version: LatestVersion | None = None
    last_schedule_time: Instant | None = None
    next_schedule_time: Instant | None = None
    requests: Requests = {}
    conditions: Conditions = ()
