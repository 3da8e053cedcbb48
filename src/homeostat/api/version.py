"""ModelVersion: an immutable model with its lineage, metrics and baseline."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from homeostat.api.base import ApiModel, Digest, Name, Rule, Text, Uri
from homeostat.api.meta import Conditions, Trigger
from homeostat.api.training import Metrics


class Artifact(ApiModel):
    """The bundle that holds the model."""

    uri: Annotated[
        Uri,
        Field(description="Address of the bundle, pinned by digest. Example: `oci://registry/ml/flights@sha256:…`."),
    ]
    digest: Annotated[Digest, Field(description="SHA-256 of `model.onnx`: the identity of the model.")]
    format: Annotated[Literal["ONNX"], Field(description="File format of the model. Always `ONNX`.")] = "ONNX"
    size_bytes: Annotated[int | None, Field(ge=0, description="Size of `model.onnx` in bytes.")] = None


class LineageData(ApiModel):
    """A data set as the run saw it."""

    name: Annotated[str, Field(max_length=64, description="Role of the data set. Example: `train`.")]
    uri: Annotated[Uri, Field(description="As the training named it.")]
    digest: Annotated[Digest, Field(description="What it was resolved to.")]
    rows: Annotated[int | None, Field(ge=0, description="Rows that were read.")] = None


class Lineage(ApiModel):
    """Where the version comes from."""

    training_ref: Annotated[Name, Field(description="The ModelTraining that made it.")]
    run: Annotated[int, Field(ge=1, description="Its run.")]
    trigger: Annotated[Trigger, Field(description="Why that run was started.")]
    parent: Annotated[Name | None, Field(description="The champion that it was compared with.")] = None
    data: Annotated[tuple[LineageData, ...], Field(max_length=16, description="Data sets with their digests.")] = ()
    estimator: Annotated[Text, Field(description="What was trained. Example: `HistGradientBoostingClassifier`.")] = ""
    parameters: Annotated[dict[str, Any], Field(max_length=64, description="Parameters of the trainer.")] = {}
    image: Annotated[Text, Field(description="Image of the trainer.")] = ""
    seed: Annotated[int, Field(description="Seed of split and estimator.")] = 0


class GateResult(ApiModel):
    """How one gate ended."""

    metric: Annotated[str, Field(max_length=64, description="The metric that was judged. Example: `auc`.")]
    result: Annotated[Literal["Passed", "Failed"], Field(description="`Passed` or `Failed`.")]
    observed: Annotated[float, Field(description="The metric's value on held-out rows.")]
    required: Annotated[Text, Field(description="The bound in words. Example: `>= 0.7`.")]


class ModelVersionSpec(ApiModel):
    """One immutable version of a model. Made by a ModelTraining, or declared to bring a model from elsewhere."""

    number: Annotated[
        int, Field(ge=1, description="Version number; children of deployments are named `<deployment>-v<number>`.")
    ]
    artifact: Annotated[Artifact, Field(description="The bundle that holds the model.")]
    baseline_digest: Annotated[Digest | None, Field(description="SHA-256 of `baseline.json` in the bundle.")] = None
    lineage: Annotated[Lineage | None, Field(description="Where the version comes from.")] = None
    metrics: Annotated[Metrics, Field(description="Metrics on held-out rows.")] = ()
    gates: Annotated[tuple[GateResult, ...], Field(max_length=40, description="The gates that were judged.")] = ()
    cel: ClassVar = (
        Rule("self == oldSelf", "a ModelVersion is immutable: create a new one instead of changing this one"),
    )


class ModelVersionStatus(ApiModel):
    """What the operator knows of a version."""

    observed_generation: int | None = None
    deployments: Annotated[
        tuple[Annotated[str, Field(max_length=64)], ...],
        Field(max_length=32, description="ModelDeployments that use it, with the track. Example: `flights (stable)`."),
    ] = ()
    conditions: Conditions = ()
