"""The gRPC transport with an echo in the model's place: `python grpc_echo.py PORT LIMITS_JSON`.

`hold` is never answered; `gone?` is answered with how many of those are gone; `big N` with N bytes; `fail STATUS` with
that HTTP status; `head NAME` with that header's value. SIGUSR1: not ready. SIGTERM: drain, then end.
"""

import asyncio
import json
import signal
import sys

import uvloop

from homeostat.server.problem import Problem
from homeostat.server.protocols.grpc_service import GrpcService
from homeostat.server.settings import Settings
from homeostat.server.transport.exchange import Limits
from homeostat.server.transport.grpc import Call, listener

METADATA = {
    "name": "flights",
    "versions": ["v7"],
    "platform": "onnxruntime_onnx",
    "inputs": [{"name": "distance", "datatype": "FP32", "shape": [-1, 1]}],
    "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1], "parameters": {"labels": ["late", "on time"]}}],
}
HELD: list[Call] = []


def infer(call: Call) -> None:  # noqa: C901  one word, one answer
    word, _, rest = call.body.partition(b" ")
    if word == b"hold":
        HELD.append(call)
    elif word == b"gone?":
        call.respond(200, b"%d" % sum(c.gone for c in HELD))
    elif word == b"free":
        for held in HELD:
            held.respond(200, b"freed")
        call.respond(200, b"")
    elif word == b"big":
        call.respond(200, b"x" * int(rest))
    elif word == b"fail":
        raise Problem(int(rest), "wrong: 100 % ünknown\n", retry_after=2 if rest == b"429" else 0)
    elif word == b"relay":
        call.respond(int(rest), b'{"error":"said elsewhere"}', b"application/json", b"x-more: 1\r\n")
    elif word == b"bug":
        raise ZeroDivisionError
    elif word == b"twice":
        call.respond(200, b"first")
        call.respond(200, b"second")
        call.fail(Problem(500, "third"))
    elif word == b"timeout?":
        call.respond(200, repr(call.timeout).encode())
    elif word == b"head":
        call.respond(200, dict(call.headers).get(rest, b"none"), extra=b"X-Homeostat-Version: v7\r\nbad\r\n")
    else:
        call.respond(200, call.body)


async def main(port: int, limits: Limits) -> None:
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    state = {"ready": True}
    service = GrpcService(Settings("", "flights", "v7"), METADATA, lambda: state["ready"], infer)
    server = listener(service.methods, limits)

    def tick() -> None:
        server.sweep()
        if server.draining and not server.connections:
            ended.set()
        loop.call_later(0.1, tick)

    loop.add_signal_handler(signal.SIGUSR1, lambda: state.update(ready=False))
    loop.add_signal_handler(signal.SIGTERM, lambda: setattr(server, "draining", True))
    await loop.create_server(server.connection, "127.0.0.1", port)
    tick()
    await ended.wait()
    sys.stdout.write(json.dumps({"bodies": server.bodies, "queued": server.queued}))


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Limits(**json.loads(sys.argv[2]))))
