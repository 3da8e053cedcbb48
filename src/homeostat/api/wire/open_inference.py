"""What clients send and get over HTTP, for the document that describes it; requests themselves are read without these.

Open Inference Protocol v2, KServe v1, `/invocations` as MLflow and SageMaker have it, and `/feedback`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BF16", "BYTES",
]  # fmt: skip
Size = Annotated[int, Field(ge=0, lt=1 << 31)]
Shape = Annotated[list[Size], Field(max_length=8)]
Parameters = dict[str, Any]


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class Tensor(_Wire):
    """One input: flat or nested `data`, or none and `parameters.binary_data_size` bytes after the JSON."""

    name: str
    shape: Shape
    datatype: Datatype
    data: list[Any] = []
    parameters: Parameters = {}


class RequestedOutput(_Wire):
    """An output that is wanted. parameters: `binary_data`."""

    name: str
    parameters: Parameters = {}


class InferParameters(_Wire):
    """timeout: microseconds; 0: the server's own. binary_data_output: all outputs in binary form."""

    timeout: Annotated[int, Field(ge=0)] = 0
    binary_data_output: bool = False


class InferRequest(_Wire):
    """`POST …/infer`. Without `outputs` all are answered."""

    id: str | None = None
    parameters: InferParameters | None = None
    inputs: Annotated[list[Tensor], Field(min_length=1)]
    outputs: list[RequestedOutput] | None = None


class AnswerParameters(_Wire):
    """prediction_ids: one per row, for `/feedback`, joined by commas: values of parameters are no lists in this protocol."""

    prediction_ids: str


class OutputTensor(_Wire):
    """One output: flat `data`, or none and `parameters.binary_data_size` bytes after the JSON."""

    name: str
    datatype: Datatype
    shape: Shape
    data: list[Any] | None = None
    parameters: Parameters | None = None


class InferResponse(_Wire):
    """The answer to an InferRequest. id: the request's."""

    model_name: str
    model_version: str
    id: str | None = None
    parameters: AnswerParameters
    outputs: list[OutputTensor]


class TensorMetadata(_Wire):
    """An input or output. shape: -1 where any size goes."""

    name: str
    datatype: Datatype
    shape: list[Annotated[int, Field(ge=-1)]]
    parameters: Parameters | None = None


class ModelMetadata(_Wire):
    """The model of this server. parameters: `batching`: whether requests share a run."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    parameters: Parameters


class ConfiguredTensor(_Wire):
    """An input or output in Triton's words. dims: without the axis of rows."""

    name: str
    data_type: str
    dims: list[Annotated[int, Field(ge=-1)]]


class ModelConfig(_Wire):
    """The model in Triton's words. max_batch_size: rows of one run; 0: the first axis is not rows."""

    name: str
    platform: str
    backend: str
    max_batch_size: Annotated[int, Field(ge=0)]
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]


class IndexEntry(_Wire):
    """A model in the index of Triton's repository."""

    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class ServerMetadata(_Wire):
    """This server. openapi: where its document is."""

    name: str
    version: str
    extensions: list[str]
    openapi: str


class Live(_Wire):
    """Whether the server runs."""

    live: bool


class Alive(_Wire):
    """Whether the server runs, as version 1 of KServe's protocol says it."""

    status: Literal["alive"]


class Ready(_Wire):
    """Whether the model answers."""

    name: str
    ready: bool


class Models(_Wire):
    """Names of the models here."""

    models: list[str]


class ErrorBody(_Wire):
    """Every answer that is no success. error: what was wrong, and where."""

    error: Annotated[str, Field(min_length=1)]


class Predictions(_Wire):
    """One prediction and one id per row: a label, a number, or an object of all outputs."""

    predictions: list[Any]
    prediction_ids: list[str]


class Label(_Wire):
    """What really happened, for the prediction of that id. label: as the model writes its labels, or a number."""

    id: str
    label: bool | float | str


class Labels(_Wire):
    """Labels that arrive late; the same objects may be sent one per line."""

    labels: list[Label]


class Accepted(_Wire):
    """How many labels counted. refused: how many did not, by reason."""

    accepted: int
    refused: dict[str, int]
