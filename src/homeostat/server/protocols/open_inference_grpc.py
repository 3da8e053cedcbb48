"""Open Inference Protocol v2 over gRPC: `ModelInfer` with raw or typed contents. The answer has the request's form."""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from homeostat.server.asked import Answer
from homeostat.server.inference.answers import Answers, Outcome
from homeostat.server.inference.given import Given, checked_shape, given, text_of
from homeostat.server.inference.graph import NUMPY
from homeostat.server.inference.rows import TableReader
from homeostat.server.inference.tensors import TensorReader
from homeostat.server.inference.work import Work
from homeostat.server.problem import Problem
from homeostat.server.protocols.open_inference import raw
from homeostat.server.protos import inference_pb2 as wire

KIND: Final = b"application/grpc+proto"
_FIELDS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_DESCRIPTIONS: Final = 64  # kinds of answers whose description is kept


class OpenInferenceGrpc:
    """Reads ModelInferRequests and writes ModelInferResponses."""

    def __init__(self, reader: TableReader | TensorReader, answers: Answers) -> None:
        self._reader, self._answers = reader, answers
        self._described: dict[Any, bytes] = {}

    def message(self, body: bytes) -> Any:
        """The request for this model. Raises Problem, 404 when it is for another model or version."""
        try:
            found = wire.ModelInferRequest.FromString(body)
        except DecodeError as error:
            raise Problem(400, f"the message is not a ModelInferRequest: {error}") from None
        name, version = self._answers.name, self._answers.version
        if found.model_name != name or found.model_version not in {"", version}:
            wanted = f"{found.model_name!r} in version {found.model_version!r}"
            raise Problem(404, f"model {wanted[:200]} does not exist: this server has {name!r} in version {version!r}")
        return found

    def read(self, message: Any) -> Work:
        """The request's rows. Raises Problem."""
        contents = message.raw_input_contents
        if contents and len(contents) != len(message.inputs):
            raise Problem(400, f"{len(message.inputs)} inputs need as many raw_input_contents, got {len(contents)}")
        if not message.inputs:
            raise Problem(400, "`inputs` must have at least one tensor")
        tensors = []
        for place, one in enumerate(message.inputs):
            if not contents:
                tensors.append(_typed(one))
            elif one.HasField("contents"):
                raise Problem(400, f"input {one.name[:100]!r} has contents beside raw_input_contents: send one of them")
            else:
                tensors.append(given(one.name, one.datatype, list(one.shape), contents[place]))
        rows = self._reader.arrays(tensors)
        wanted = tuple(self._place(one) for one in message.outputs) or self._answers.all
        form = _Form(message.id, bool(contents), wanted)
        return Work(rows, partial(self._write, form), _timeout(message))

    def _place(self, one: Any) -> int:
        """The place of a requested output. Raises Problem."""
        if "classification" in one.parameters:
            raise Problem(400, f"output {one.name[:100]!r}: `classification` is not supported; ask for the scores")
        return self._answers.place(one.name)

    def _write(self, form: "_Form", outcome: Outcome, start: int, count: int) -> Answer:
        """The parts of the message one after the other, which is the same as encoding them together."""
        ids = b",".join(outcome.ids[start : start + count]).decode()
        wanted = form.wanted
        own = wire.ModelInferResponse(id=form.id, parameters={"prediction_ids": wire.InferParameter(string_param=ids)})
        if form.binary:
            own.raw_output_contents.extend([raw(outcome.part(place, start, count)) for place in wanted])
            return self._description(wanted, outcome, count) + own.SerializeToString(), KIND, b""
        for place in wanted:
            output = self._answers.outputs[place]
            tensor = own.outputs.add(name=output.name, datatype=output.datatype, shape=outcome.shape(place, count))
            _fill(tensor, outcome.part(place, start, count))
        head = wire.ModelInferResponse(model_name=self._answers.name, model_version=self._answers.version)
        return head.SerializeToString() + own.SerializeToString(), KIND, b""

    def _description(self, wanted: tuple[int, ...], outcome: Outcome, count: int) -> bytes:
        """Model and outputs without values, encoded once per shape."""
        shapes = tuple(tuple(outcome.shape(place, count)) for place in wanted)
        found = self._described.get((wanted, shapes))
        if found is None:
            made = wire.ModelInferResponse(model_name=self._answers.name, model_version=self._answers.version)
            for place, shape in zip(wanted, shapes, strict=True):
                output = self._answers.outputs[place]
                made.outputs.add(name=output.name, datatype=output.datatype, shape=shape)
            found = made.SerializeToString()
            if len(self._described) < _DESCRIPTIONS:
                self._described[wanted, shapes] = found
        return found


@dataclass(frozen=True, slots=True)
class _Form:
    """How one answer is to look. wanted: places of outputs; binary: raw contents."""

    id: str
    binary: bool
    wanted: tuple[int, ...]


def _typed(one: Any) -> Given:
    """A tensor whose values are in the field of its datatype. Raises Problem."""
    field = _FIELDS.get(one.datatype)
    if field is None:
        known = ", ".join(_FIELDS)
        raise Problem(
            400, f"input {one.name[:100]!r}: datatype {one.datatype[:40]!r} has no typed contents; {known} have"
        )
    shape = checked_shape(one.name, list(one.shape))
    values = getattr(one.contents, field)
    if len(values) != prod(shape):
        raise Problem(
            400, f"input {one.name[:100]!r}: its shape needs {prod(shape)} values in {field}, got {len(values)}"
        )
    if one.datatype == "BYTES":
        return Given(one.name, "BYTES", shape, [text_of(one.name, value) for value in values])
    try:
        found: NDArray[Any] = np.array(values, dtype=NUMPY[one.datatype])
    except OverflowError:
        raise Problem(400, f"input {one.name[:100]!r}: a value does not fit {one.datatype}") from None
    return Given(one.name, one.datatype, shape, found)


def _fill(tensor: Any, values: NDArray[Any]) -> None:
    if tensor.datatype == "FP16":
        tensor.datatype = "FP32"  # there is no field for it
    field = getattr(tensor.contents, _FIELDS[tensor.datatype])
    flat = values.ravel().tolist()
    field.extend([str(v).encode() for v in flat] if tensor.datatype == "BYTES" else flat)


def _timeout(message: Any) -> float | None:
    """Seconds from the parameter `timeout`, which is in microseconds. Raises Problem."""
    if "timeout" not in message.parameters:
        return None
    value = message.parameters["timeout"]
    kind = value.WhichOneof("parameter_choice")
    if kind not in {"int64_param", "uint64_param"} or getattr(value, kind) < 0:
        raise Problem(400, "parameter `timeout` must be whole microseconds")
    return getattr(value, kind) / 1e6 or None
