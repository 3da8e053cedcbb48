"""What the operator gives a training Job, and what comes back as termination message (at most 2 KiB)."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from homeostat.api.wire.optimization import Kind


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SklearnPlan(_Wire):
    """Which estimator with which parameters predicts which column."""

    estimator: str
    target: str
    parameters: dict[str, Any] = {}
    exclude: tuple[str, ...] = ()


class GatePlan(_Wire):
    """A bound on a metric of held-out rows."""

    metric: str
    min: float | None = None
    max: float | None = None
    max_regression: float | None = None


class OptimizationPlan(_Wire):
    """How the model is made cheaper before it is judged. required: what is above the tolerance fails the run."""

    type: Kind
    tolerance: float = 0.01
    required: bool = False


class ChampionPlan(_Wire):
    """The version to compare with; `uri` is pinned by digest."""

    name: str
    uri: str
    digest: str


class RunPlan(_Wire):
    """One training run, complete. In the Job as environment variable `HOMEOSTAT_RUN` (JSON).

    data: role (`train`, `test`) to absolute `oci://` address.
    repository: `oci://host/namespace/name`, where the bundle is pushed; its tag is `v<number>`.
    plain_http: hosts that speak HTTP without TLS.
    """

    v: Literal[1] = 1
    training: str
    number: int
    sklearn: SklearnPlan
    data: dict[str, str]
    split_column: str = ""
    split_fraction: float = 0.2
    seed: int = 0
    gates: tuple[GatePlan, ...] = ()
    champion: ChampionPlan | None = None
    optimization: OptimizationPlan | None = None
    repository: str
    plain_http: tuple[str, ...] = ()


class DataUsed(_Wire):
    """A data set as the run saw it."""

    name: str
    uri: str
    digest: str
    rows: int = 0


class GateOutcome(_Wire):
    """How one gate ended; `required` is the bound in words."""

    metric: str
    passed: bool
    observed: float
    required: str


class RunSummary(_Wire):
    """How a step or the run ended.

    outcome: `Succeeded` (bundle pushed), `GateFailed` (nothing pushed), `Failed`.
    reason: CamelCase, one per cause: `DataNotFound`, `RegistryUnreachable`, `DataUnreadable`, `TargetMissing`, `OneClassOnly`,
    `EstimatorUnknown`, `ParameterInvalid`, `GateFailed`, `OnnxMismatch`, `ConversionFailed`, …
    message: one sentence with numbers and the fix.
    permanent: trying again cannot help (the container then exits with code 42, else 1).
    """

    v: Literal[1] = 1
    outcome: Literal["Succeeded", "GateFailed", "Failed"]
    reason: str = ""
    message: str = ""
    permanent: bool = False
    model_digest: str = ""
    model_size: int = 0
    bundle_uri: str = ""
    baseline_digest: str = ""
    data: tuple[DataUsed, ...] = ()
    metrics: dict[str, float] = {}
    champion_metrics: dict[str, float] = {}
    gates: tuple[GateOutcome, ...] = ()


PERMANENT_EXIT = 42
