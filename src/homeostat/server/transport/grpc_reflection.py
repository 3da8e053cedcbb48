"""gRPC's server reflection: which services there are, and the files that describe them."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError

from homeostat.server.problem import Problem
from homeostat.server.protos import POOL, reflection_v1_pb2, reflection_v1alpha_pb2
from homeostat.server.transport.grpc import Call, Method
from homeostat.server.transport.grpc_wire import INVALID_ARGUMENT, NOT_FOUND

_VERSIONS: Final = (reflection_v1_pb2, reflection_v1alpha_pb2)


def reflection(services: Sequence[str]) -> dict[bytes, Method]:
    """The methods of reflection in both versions, which show `services` and themselves."""
    names = [f"{module.DESCRIPTOR.package}.ServerReflection" for module in _VERSIONS]
    shown = sorted([*services, *names])
    return {
        f"/{name}/ServerReflectionInfo".encode(): Method(_reflect(module, shown), streams=True)
        for name, module in zip(names, _VERSIONS, strict=True)
    }


def _reflect(module: Any, services: list[str]) -> Callable[[Call], None]:
    def handle(call: Call) -> None:
        try:
            asked = module.ServerReflectionRequest.FromString(call.body)
        except DecodeError as error:
            raise Problem(400, f"the message is not a ServerReflectionRequest: {error}") from None
        answer = module.ServerReflectionResponse(valid_host=asked.host, original_request=asked)
        kind = asked.WhichOneof("message_request")
        try:
            _fill(answer, kind, asked, services)
        except KeyError:
            wanted = str(getattr(asked, kind)).strip()[:200]
            answer.error_response.error_code = NOT_FOUND
            answer.error_response.error_message = f"{wanted!r} is not known: ask list_services"
        call.respond(200, answer.SerializeToString())

    return handle


def _fill(answer: Any, kind: str | None, asked: Any, services: list[str]) -> None:
    """Raises KeyError when what is asked for does not exist."""
    if kind == "list_services":
        for name in services:
            answer.list_services_response.service.add(name=name)
    elif kind == "file_by_filename":
        _describe(answer, POOL.FindFileByName(asked.file_by_filename))
    elif kind == "file_containing_symbol":
        _describe(answer, POOL.FindFileContainingSymbol(asked.file_containing_symbol))
    elif kind == "file_containing_extension":
        raise KeyError  # proto3 files without imports have none
    elif kind == "all_extension_numbers_of_type":
        answer.all_extension_numbers_response.base_type_name = POOL.FindMessageTypeByName(
            asked.all_extension_numbers_of_type
        ).full_name
    else:
        answer.error_response.error_code = INVALID_ARGUMENT
        answer.error_response.error_message = "the request asks for nothing"


def _describe(answer: Any, file: Any) -> None:
    """Our files import nothing, so one is all."""
    answer.file_descriptor_response.file_descriptor_proto.append(file.serialized_pb)
