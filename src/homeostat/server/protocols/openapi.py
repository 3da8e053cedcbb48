"""The OpenAPI 3.1 document of one model's server: its paths, the wire's types, and the model's own columns. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from pydantic.json_schema import models_json_schema

from homeostat import __version__
from homeostat.api.wire import open_inference as wire
from homeostat.api.wire.bundle import Column
from homeostat.server.inference.given import MAX_AXES
from homeostat.server.inference.graph import NUMBERS

Json = dict[str, Any]
JSON: Final = "application/json"
BINARY: Final = "application/octet-stream"
CSV: Final = "text/csv"
MODELS: Final = (
    wire.InferRequest,
    wire.InferResponse,
    wire.ModelMetadata,
    wire.ModelConfig,
    wire.IndexEntry,
    wire.ServerMetadata,
    wire.Live,
    wire.Alive,
    wire.Ready,
    wire.Models,
    wire.ErrorBody,
    wire.Predictions,
    wire.Labels,
    wire.Accepted,
)
_DATATYPES: Final = {"number": "FP32", "string": "BYTES"}


@dataclass(frozen=True, slots=True)
class Operation:
    """What a path does. request, response: schema by media type; infers: it takes the headers of a prediction."""

    summary: str
    response: Mapping[str, Json]
    request: Mapping[str, Json] | None = None
    headers: tuple[str, ...] = ()


def document(
    name: str, version: str, metadata: Json, columns: Sequence[Column], paths: Iterable[tuple[str, str]]
) -> bytes:
    """JSON of the document. paths: method and path of everything that is served. Raises KeyError for one without description."""
    described = _operations(name, version)
    found: dict[str, Json] = {}
    for method, path in sorted(paths, key=lambda one: (one[1], one[0])):
        found.setdefault(path, {})[method.lower()] = _written(method, path, described[method, path])
    schemas = _wire_schemas() | _own_schemas(metadata, columns)
    schemas["InferRequest"]["properties"]["inputs"]["items"] = {"$ref": "#/components/schemas/Input"}
    whole = {
        "openapi": "3.1.0",
        "info": {
            "title": f"{name}, version {version}",
            "version": __version__,
            "description": "A model served by Homeostat: Open Inference Protocol v2, KServe v1, MLflow and SageMaker.",
        },
        "paths": found,
        "components": {"schemas": schemas},
    }
    return orjson.dumps(whole)


def _ref(schema: type[Any] | str) -> Json:
    return {"$ref": f"#/components/schemas/{schema if isinstance(schema, str) else schema.__name__}"}


def _operations(name: str, version: str) -> dict[tuple[str, str], Operation]:
    """By method and path."""
    named, old = f"/v2/models/{name}", f"/v1/models/{name}"
    ready = Operation("whether the model answers", {JSON: _ref(wire.Ready)})
    metadata = Operation("inputs and outputs of the model", {JSON: _ref(wire.ModelMetadata)})
    config = Operation("inputs, outputs and batch size in Triton's words", {JSON: _ref(wire.ModelConfig)})
    infer = Operation(
        "predictions, Open Inference Protocol v2",
        {JSON: _ref(wire.InferResponse), BINARY: _bytes("JSON of inference-header-content-length bytes, then tensors")},
        {JSON: _ref(wire.InferRequest)},
        ("x-homeostat-timeout-ms", "inference-header-content-length"),
    )
    rows = {JSON: _ref(wire.Predictions)}
    found = {
        ("GET", "/openapi.json"): Operation("this document", {JSON: {"type": "object"}}),
        ("GET", "/v2"): Operation("the server", {JSON: _ref(wire.ServerMetadata)}),
        ("GET", "/v2/health/live"): Operation("whether the server runs", {JSON: _ref(wire.Live)}),
        ("GET", "/"): Operation("whether the server runs, as KServe's v1 clients ask", {JSON: _ref(wire.Alive)}),
        ("POST", "/v2/repository/index"): Operation(
            "the models here, as Triton's clients ask", {JSON: {"type": "array", "items": _ref(wire.IndexEntry)}}
        ),
        ("GET", "/v1/models"): Operation("the models here", {JSON: _ref(wire.Models)}),
        ("GET", "/version"): Operation("the server's version", {"text/plain": {"type": "string"}}),
        ("POST", f"{old}:predict"): Operation(
            "predictions, KServe v1", rows, {JSON: _ref("Instances")}, ("x-homeostat-timeout-ms",)
        ),
        ("POST", "/invocations"): Operation(
            "predictions, as MLflow and SageMaker ask for them",
            rows | {CSV: {"type": "string"}},
            {JSON: _ref("Invocation"), CSV: {"type": "string"}},
            ("x-homeostat-timeout-ms",),
        ),
        ("POST", "/feedback"): Operation(
            "labels that arrive late", {JSON: _ref(wire.Accepted)}, {JSON: _ref(wire.Labels)}
        ),
        ("POST", "/inference.GRPCInferenceService/ModelInfer"): Operation(
            "a gRPC message that a pod of another version forwards; clients send it to the gRPC port",
            {BINARY: _bytes("a ModelInferResponse")},
            {BINARY: _bytes("a ModelInferRequest")},
        ),
    }
    for path in (old, "/ping", "/health", "/v2/health/ready"):
        found["GET", path] = ready
    for path in (named, f"{named}/versions/{version}"):
        found["GET", path], found["GET", f"{path}/ready"], found["POST", f"{path}/infer"] = metadata, ready, infer
        found["GET", f"{path}/config"] = config
    return found


def _written(method: str, path: str, operation: Operation) -> Json:
    error = {JSON: {"schema": _ref(wire.ErrorBody)}}
    good = {media: {"schema": schema} for media, schema in operation.response.items()}
    written: Json = {
        "operationId": f"{method.lower()}{path}".replace("/", "_").replace(":", "_"),
        "summary": operation.summary,
        "responses": {
            "200": {"description": operation.summary, "content": good},
            "4XX": {"description": "the request is wrong: what and where", "content": error},
            "5XX": {"description": "this pod cannot answer, 503 and 504: now", "content": error},
        },
    }
    if operation.request is not None:
        taken = {media: {"schema": schema} for media, schema in operation.request.items()}
        written["requestBody"] = {"required": True, "content": taken}
    if operation.headers:
        whole = {"type": "integer", "minimum": 1}
        written["parameters"] = [{"name": h, "in": "header", "schema": whole} for h in operation.headers]
    return written


def _bytes(description: str) -> Json:
    return {"type": "string", "format": "binary", "description": description}


def _wire_schemas() -> dict[str, Json]:
    """Of all types on the wire, as pydantic checks them."""
    _, found = models_json_schema(
        [(model, "validation") for model in MODELS], ref_template="#/components/schemas/{model}"
    )
    schemas: dict[str, Json] = found["$defs"]
    return schemas


def _own_schemas(metadata: Json, columns: Sequence[Column]) -> dict[str, Json]:
    """What this model takes: `Input`, a tensor; `Row`; and the bodies that hold rows."""
    inputs = [_input(i["name"], i["datatype"], i["shape"], tabular=bool(columns)) for i in metadata["inputs"]]
    if columns:
        kinds = {c.name: _value(_DATATYPES[c.type]) for c in columns}
        if all(c.type == "number" for c in columns):
            named = [_input(c.name, "FP32", [-1, 1], tabular=True) for c in columns]
            inputs = [*named, _matrix(len(columns))]
    else:
        kinds = {i["name"]: _nested(_value(i["datatype"]), i["shape"][1:]) for i in metadata["inputs"]}
    row: Json = {"type": "object", "properties": kinds, "required": list(kinds), "additionalProperties": False}
    values: Json = {"type": "array", "minItems": len(kinds), "maxItems": len(kinds)}
    if columns:
        values["prefixItems"] = list(kinds.values())
    rows: Json = {
        "type": "array",
        "minItems": 1,
        "items": {"anyOf": [_ref("Row"), values] if columns else [_ref("Row")]},
    }
    if len(kinds) == 1:
        rows["items"]["anyOf"].append(next(iter(kinds.values())))
    by_name: Json = {
        "type": "object",
        "properties": {name: {"type": "array", "minItems": 1, "items": kind} for name, kind in kinds.items()},
        "required": list(kinds),
        "additionalProperties": False,
    }
    several = {"anyOf": [_ref("Rows"), _ref("Columns")]}
    records: Json = {"type": "array", "minItems": 1, "items": _ref("Row")}
    split: Json = {
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": {"enum": list(kinds)}, "uniqueItems": True},
            "data": {"type": "array", "minItems": 1, "items": {"type": "array"}},
        },
        "required": ["data"],
    }
    forms = {"dataframe_split": split, "dataframe_records": records, "instances": several, "inputs": several}
    return {
        "Input": {"anyOf": inputs},
        "Row": row,
        "Rows": rows,
        "Columns": by_name,
        "Instances": {"oneOf": [_only("instances", several), _only("inputs", several)]},
        "Invocation": {"oneOf": [_only(form, schema) for form, schema in forms.items()]},
    }


def _only(name: str, schema: Json) -> Json:
    return {"type": "object", "properties": {name: schema}, "required": [name], "additionalProperties": False}


def _input(name: str, datatype: str, shape: Sequence[int], *, tabular: bool) -> Json:
    """A tensor of that name: of any number type for a number."""
    datatypes = ["BYTES"] if datatype == "BYTES" else sorted(NUMBERS)
    sizes = [{"type": "integer", "minimum": 1} if size < 0 else {"const": size} for size in shape]
    least = 1 if tabular and len(shape) == 2 and shape[1] == 1 else len(shape)
    value: Json = _value(datatype)
    properties = {
        "name": {"const": name},
        "datatype": {"enum": datatypes},
        "shape": {"type": "array", "prefixItems": sizes, "minItems": least, "maxItems": len(shape)},
        "data": {"type": "array", "items": {"anyOf": [value, {"type": "array"}]}},
        "parameters": {"type": "object"},
    }
    return {"type": "object", "properties": properties, "required": ["name", "datatype", "shape"]}


def _matrix(width: int) -> Json:
    """All columns as one tensor of any name."""
    found = _input("", "FP32", [-1, width], tabular=True)
    found["properties"]["name"] = {"type": "string"}
    return found


def _value(datatype: str) -> Json:
    """One value in JSON. Missing numbers and texts may be null."""
    if datatype == "BYTES":
        return {"type": ["string", "null"]}
    if datatype == "BOOL":
        return {"enum": [True, False, 0, 1]}
    if "INT" in datatype:
        bits = int(datatype.removeprefix("U").removeprefix("INT"))
        signed = not datatype.startswith("U")
        least, most = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
        return {"type": ["integer", "boolean"], "minimum": least, "maximum": most}
    return {"type": ["number", "boolean", "null"]}


def _nested(value: Json, sizes: Sequence[int]) -> Json:
    """Lists of that shape around the values."""
    for size in reversed(sizes[:MAX_AXES]):
        if list(sizes) == [1]:  # an axis of one element may be left out
            return {"anyOf": [value, {"type": "array", "items": value, "minItems": 1, "maxItems": 1}]}
        value = {"type": "array", "items": value}
        if size >= 0:
            value |= {"minItems": size, "maxItems": size}
    return value
