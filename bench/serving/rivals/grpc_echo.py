# mypy: ignore-errors
"""Bare gRPC echoes by grpcio, bytes in and the same bytes out. `python grpc_echo.py aio|threads PORT`.

Runs in MLServer's environment, which has grpcio.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import grpc.aio

METHOD = "/inference.GRPCInferenceService/ModelInfer"


class Generic(grpc.GenericRpcHandler):
    def __init__(self, handler: grpc.RpcMethodHandler) -> None:
        self._handler = handler

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handler if details.method == METHOD else None


async def echo(message: bytes, _context: object) -> bytes:
    return message


def threads(port: str) -> None:
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((Generic(grpc.unary_unary_rpc_method_handler(lambda message, _: message)),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


async def aio(port: str) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Generic(grpc.unary_unary_rpc_method_handler(echo)),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    kind, port = sys.argv[1:3]
    asyncio.run(aio(port)) if kind == "aio" else threads(port)
