"""What the gRPC port answers beside inference: readiness, metadata, health, and reflection of all of it."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf.message import DecodeError, Message

from homeostat import __version__
from homeostat.server.problem import Problem
from homeostat.server.protocols import triton
from homeostat.server.protos import health_pb2, inference_pb2
from homeostat.server.settings import Settings
from homeostat.server.transport.grpc import Call, Method
from homeostat.server.transport.grpc_reflection import reflection

INFERENCE: Final = "inference.GRPCInferenceService"
INFER: Final = f"/{INFERENCE}/ModelInfer".encode()
STREAM_INFER: Final = f"/{INFERENCE}/ModelStreamInfer".encode()
_HEALTH: Final = "grpc.health.v1.Health"
_Status: Final = health_pb2.HealthCheckResponse
Infer = Callable[[Call], None]


class GrpcService:
    """The methods of the gRPC port, by path.

    metadata: the model's, as over REST: name, versions, platform, inputs, outputs with name, datatype and shape.
    ready: whether new requests are wanted. infer: answers a ModelInferRequest with a ModelInferResponse, both as bytes,
    now or later, or raises Problem; messages of a stream come as if each were a call of its own.
    """

    def __init__(
        self, settings: Settings, metadata: Mapping[str, Any], ready: Callable[[], bool], infer: Infer
    ) -> None:
        self._settings, self._ready = settings, ready
        self._model = _model(metadata)
        self._server = inference_pb2.ServerMetadataResponse(
            name="homeostat", version=__version__, extensions=[triton.EXTENSION]
        )
        self._config = _config(triton.config(metadata, settings.max_batch_rows))
        calls: dict[str, Callable[[bytes], Message]] = {
            f"/{INFERENCE}/ServerLive": self._live,
            f"/{INFERENCE}/ServerReady": self._server_ready,
            f"/{INFERENCE}/ModelReady": self._model_ready,
            f"/{INFERENCE}/ServerMetadata": self._server_metadata,
            f"/{INFERENCE}/ModelMetadata": self._model_metadata,
            f"/{INFERENCE}/ModelConfig": self._model_config,
            f"/{INFERENCE}/RepositoryIndex": self._index,
            f"/{_HEALTH}/Check": self._check,
        }
        self.methods = {path.encode(): Method(_answering(answer)) for path, answer in calls.items()}
        self.methods[INFER] = Method(infer)
        self.methods[STREAM_INFER] = Method(infer, streams=True, url=INFER, wrap=_in_stream)
        self.methods[f"/{_HEALTH}/Watch".encode()] = Method(_answering(self._watch), endless=True)
        for name, why in triton.absent_methods(settings).items():
            self.methods[f"/{INFERENCE}/{name}".encode()] = Method(_refusing(why))
        self.methods |= reflection((INFERENCE, _HEALTH))

    def _live(self, body: bytes) -> Message:
        _parsed(inference_pb2.ServerLiveRequest, body)
        return inference_pb2.ServerLiveResponse(live=True)

    def _server_ready(self, body: bytes) -> Message:
        _parsed(inference_pb2.ServerReadyRequest, body)
        return inference_pb2.ServerReadyResponse(ready=self._ready())

    def _model_ready(self, body: bytes) -> Message:
        self._must_be_ours(_parsed(inference_pb2.ModelReadyRequest, body))
        return inference_pb2.ModelReadyResponse(ready=self._ready())

    def _server_metadata(self, body: bytes) -> Message:
        _parsed(inference_pb2.ServerMetadataRequest, body)
        return self._server

    def _model_metadata(self, body: bytes) -> Message:
        self._must_be_ours(_parsed(inference_pb2.ModelMetadataRequest, body))
        return self._model

    def _model_config(self, body: bytes) -> Message:
        self._must_be_ours(_parsed(inference_pb2.ModelConfigRequest, body))
        return self._config

    def _index(self, body: bytes) -> Message:
        asked, ready = _parsed(inference_pb2.RepositoryIndexRequest, body), self._ready()
        made = inference_pb2.RepositoryIndexResponse()
        if ready or not asked.ready:
            made.models.add(**triton.index(self._settings, ready=ready))
        message: Message = made
        return message

    def _must_be_ours(self, asked: Any) -> None:
        name, version = self._settings.name, self._settings.version
        if asked.name != name or asked.version not in {"", version}:
            wanted = f"{asked.name!r} in version {asked.version!r}" if asked.version else repr(asked.name)
            raise Problem(404, f"model {wanted[:200]} does not exist: this server has {name!r} in version {version!r}")

    def _check(self, body: bytes) -> Message:
        service = _parsed(health_pb2.HealthCheckRequest, body).service
        if service not in {"", INFERENCE}:
            raise Problem(404, f"service {service[:200]!r} does not exist: ask for {INFERENCE!r} or for none")
        return self._health()

    def _watch(self, body: bytes) -> Message:
        service = _parsed(health_pb2.HealthCheckRequest, body).service
        return self._health() if service in {"", INFERENCE} else _Status(status=_Status.SERVICE_UNKNOWN)

    def _health(self) -> Message:
        return _Status(status=_Status.SERVING if self._ready() else _Status.NOT_SERVING)


def _answering(answer: Callable[[bytes], Message]) -> Infer:
    return lambda call: call.respond(200, answer(call.body).SerializeToString())


def _refusing(why: str) -> Infer:
    def refuse(call: Call) -> None:
        call.fail(Problem(501, why))

    return refuse


def _parsed(kind: type[Any], body: bytes) -> Any:
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise Problem(400, f"the message is not a {kind.DESCRIPTOR.full_name}: {error}") from None


def _in_stream(out: bytes | Problem) -> bytes:
    """A ModelStreamInferResponse: an error of one message does not end the stream."""
    if isinstance(out, Problem):
        message: bytes = inference_pb2.ModelStreamInferResponse(error_message=out.message).SerializeToString()
        return message
    size, head = len(out), bytearray(b"\x12")  # field 2, bytes: as it is, without being parsed again
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    head.append(size)
    return bytes(head) + out


def _model(metadata: Mapping[str, Any]) -> Message:
    made = inference_pb2.ModelMetadataResponse(
        name=metadata["name"], versions=metadata["versions"], platform=metadata["platform"]
    )
    for side, tensors in (("inputs", made.inputs), ("outputs", made.outputs)):
        for one in metadata[side]:
            tensors.add(name=one["name"], datatype=one["datatype"], shape=one["shape"])
    message: Message = made
    return message


def _config(found: Mapping[str, Any]) -> Message:
    own = {name: value for name, value in found.items() if name not in {"input", "output"}}
    made = inference_pb2.ModelConfigResponse(config=inference_pb2.ModelConfig(**own))
    for side, tensors in (("input", made.config.input), ("output", made.config.output)):
        for one in found[side]:
            tensors.add(name=one["name"], data_type=one["data_type"], dims=one["dims"])
    message: Message = made
    return message
