"""gRPC: which call a header opens. The calls are in `grpc_calls` and `grpc_stream`, HTTP/2 is `http2`."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from homeostat.server.problem import Problem
from homeostat.server.transport import grpc_wire as wire
from homeostat.server.transport.exchange import KNOWN, Limits
from homeostat.server.transport.grpc_calls import NOT_GRPC, Asks, Call, Method, Refused, Rpc, Watch
from homeostat.server.transport.grpc_stream import Streaming
from homeostat.server.transport.http2 import Connection, Server
from homeostat.server.transport.http2_frames import Head

__all__ = ["Call", "Method", "listener"]

_NOT_SENT_ON: Final = frozenset({b"te", b"content-type", b"content-length", b"grpc-encoding", b"grpc-accept-encoding"})
_MAX_DIGITS: Final = 9  # of a timeout in milliseconds


def listener(methods: Mapping[bytes, Method], limits: Limits) -> Server:
    """The server of these methods, by path (`/package.Service/Method`)."""
    return Server(partial(_open, methods), limits)


def _open(methods: Mapping[bytes, Method], connection: Connection, number: int, head: Head) -> Rpc:
    asks = head.more
    if asks is None:
        asks = head.more = _read(methods, head, connection.server.limits)
    if asks.status != 200:
        return Refused(connection, number, asks)
    if asks.method.streams:
        return Streaming(connection, number, asks)
    return (Watch if asks.method.endless else Rpc)(connection, number, asks)


def _read(methods: Mapping[bytes, Method], head: Head, limits: Limits) -> Asks:
    """A header's meaning; the same for all calls that send it."""
    given = dict(head.headers)
    kind = given.get(b"content-type", b"").partition(b";")[0].strip().lower()
    method = methods.get(head.path)
    asks = Asks(method or _LOST, method.url if method and method.url else head.path)
    if head.method != b"POST":
        asks.wrong, asks.status = Problem(405, "this port speaks gRPC: use POST"), 405
    elif kind not in {b"application/grpc", b"application/grpc+proto"}:
        asks.wrong, asks.status = Problem(415, NOT_GRPC), 415
    elif head.size > limits.header:
        asks.wrong = Problem(431, f"the metadata is larger than {limits.header} bytes")
    elif method is None:
        shown = head.path[:200].decode("ascii")
        asks.wrong = Problem(501, f"{shown} is not known: this server has " + ", ".join(_names(methods)))
    else:
        _read_timeout(asks, given)
    if asks.wrong is not None:
        asks.method = _LOST
    asks.encoding = given.get(b"grpc-encoding", b"")
    asks.headers = [(b"content-type", wire.CONTENT_TYPE), *(h for h in head.headers if h[0] not in _NOT_SENT_ON)]
    asks.known = {name: value for name, value in asks.headers if name in KNOWN}
    return asks


def _read_timeout(asks: Asks, given: Mapping[bytes, bytes]) -> None:
    """The timeout of gRPC or the one that HTTP's clients give: the shorter one."""
    times = []
    if b"grpc-timeout" in given:
        times.append(wire.timeout_of(given[b"grpc-timeout"]))
        if times[0] is None:
            asks.wrong = Problem(400, "grpc-timeout must be up to 8 digits and one of H, M, S, m, u, n")
    text = given.get(b"x-homeostat-timeout-ms")
    if text is not None:
        times.append(int(text) / 1000 if text.isdigit() and len(text) <= _MAX_DIGITS and int(text) else None)
        if times[-1] is None:
            asks.wrong = Problem(400, "x-homeostat-timeout-ms must be whole milliseconds, at least 1")
    asks.timeout = min((t for t in times if t is not None), default=None)


def _names(methods: Mapping[bytes, Method]) -> list[str]:
    return sorted({path.decode().split("/")[1] for path in methods})


def _lost(_call: Call) -> None:
    """Never called: a header that asks for nothing we have is refused before its message."""


_LOST: Final = Method(_lost)
