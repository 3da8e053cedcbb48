"""Calls of gRPC over HTTP/2. A message of a client is a `Call`, which is `Asked` like a request over HTTP."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from homeostat.server.problem import Problem
from homeostat.server.transport import grpc_wire as wire
from homeostat.server.transport import http2_frames as h2
from homeostat.server.transport.http2 import Connection
from homeostat.server.transport.http2_frames import literal
from homeostat.server.transport.http2_send import Stream

_LATE_SECONDS: Final = 1.0  # after the client's deadline a call is ended by us
NOT_GRPC: Final = "this port speaks gRPC: content-type must be application/grpc"


@dataclass(frozen=True, slots=True)
class Method:
    """How the messages of a method are answered.

    handle: answers one, now or later; raises Problem. streams: a client sends any number of them on one stream, and gets
    the answers in their order. endless: the call stays open, and its message is asked again about every second. url: what
    a message is forwarded as, when not as the method's own path. wrap: what an answer or a problem looks like within a
    stream; without it a problem ends the stream.
    """

    handle: "Callable[[Call], None]"
    streams: bool = False
    endless: bool = False
    url: bytes = b""
    wrap: Callable[[bytes | Problem], bytes] | None = None


@dataclass(slots=True)
class Asks:
    """What a header asks for; `wrong` when it cannot be had, with `status` as HTTP's own where gRPC has no word."""

    method: Method
    url: bytes
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    known: dict[bytes, bytes] = field(default_factory=dict)
    timeout: float | None = None
    encoding: bytes = b""
    wrong: Problem | None = None
    status: int = 200


class Call:
    """One message of a client and, once there is one, its answer. `body` is the message; it is shared with nothing."""

    __slots__ = ("_rpc", "arrived", "body", "headers", "known", "method", "out", "timeout", "url")

    def __init__(self, rpc: "Rpc", body: bytes) -> None:
        asks = rpc.asks
        self._rpc, self.body = rpc, body
        self.method, self.url, self.headers, self.known = b"POST", asks.url, asks.headers, asks.known
        self.arrived, self.timeout = rpc.connection.now, asks.timeout
        self.out: bytes | Problem | None = None

    @property
    def gone(self) -> bool:
        """Whether the client took the call back or closed the connection."""
        return self._rpc.closed

    def respond(self, status: int, body: bytes, kind: bytes = wire.CONTENT_TYPE, extra: bytes = b"") -> None:  # noqa: ARG002
        """Answer with a message, or with what another pod answered over HTTP. extra: whole header lines."""
        if status < 300:
            self._rpc.answer(self, body, extra)
        else:
            self._rpc.refuse(self, wire.relayed(status, body))

    def fail(self, problem: Problem) -> None:
        """Answer with a status other than OK."""
        self._rpc.refuse(self, problem)


class Rpc(Stream):
    """A call with one message; base of the others."""

    __slots__ = ("asks", "begun", "buffer", "taken")

    def __init__(self, connection: Connection, number: int, asks: Asks) -> None:
        super().__init__(connection, number)
        self.asks = asks
        self.begun = connection.now
        self.buffer: bytes | bytearray = b""
        self.taken = 0  # bytes that count among the server's bodies

    def begin(self) -> None:
        """A header that asks for what cannot be had is answered at once."""
        if self.asks.wrong is not None:
            self._end(self.asks.wrong)

    def data(self, payload: bytes) -> None:
        """Gather the message; answer once it is whole."""
        size, limit = len(payload) - 5, self.connection.server.limits.body
        at_once = self.heard_end and not self.buffer and payload[:1] == b"\0"
        try:
            self._hold(size + 5)
            if at_once and int.from_bytes(payload[1:5], "big") == size <= limit:
                call: Call | None = Call(self, payload[5:])
            else:
                call = self._gather(payload)
        except Problem as problem:
            self._end(problem)
        else:
            if call is not None:
                self._handle(call)

    def _gather(self, payload: bytes) -> Call | None:
        """The call once all of it is there. Raises Problem."""
        if self.buffer:
            self.buffer += payload
        elif self.heard_end:
            self.buffer = payload
        else:
            self.buffer = bytearray(payload)
        size, there = self._size(), len(self.buffer)
        if there > size:
            raise Problem(400, "the method takes one message: something came behind it")
        if not self.heard_end:
            return None
        if there < size:
            raise Problem(400, "the request ended within its message")
        call = Call(self, self._message(size))
        self.buffer = b""
        return call

    def _handle(self, call: Call) -> None:
        try:
            self.asks.method.handle(call)
        except Problem as problem:
            call.fail(problem)
        except Exception:  # noqa: BLE001  other calls of the connection go on
            traceback.print_exc()
            call.fail(Problem(500, "the server failed on this message"))

    def _size(self) -> int:
        """Bytes of the message with its prefix; at least 5. Raises Problem."""
        buffer, limit = self.buffer, self.connection.server.limits.body
        size = int.from_bytes(buffer[1:5], "big") if len(buffer) >= 5 else 0
        if size > limit:
            raise wire.too_large(limit)
        return size + 5

    def _message(self, size: int) -> bytes:
        """The first message; from now on it counts as what it is without prefix and compression. Raises Problem."""
        with memoryview(self.buffer) as view:
            flag, message = view[0], bytes(view[5:size])
        if flag > 1:
            raise Problem(400, "a message's compressed flag must be 0 or 1")
        if flag:
            message = wire.inflated(message, self.asks.encoding, self.connection.server.limits.body)
        self._hold(len(message) - size)
        return message

    def _hold(self, size: int) -> None:
        """Count bytes among the server's bodies. Raises Problem when they are too many."""
        server = self.connection.server
        self.taken += size
        server.bodies += size
        if size > 0 and server.bodies > max(server.limits.bodies, server.limits.body):
            raise Problem(503, "too many requests are being read: try again later", retry_after=1)

    def _release(self, size: int) -> None:
        self.taken -= size
        self.connection.server.bodies -= size

    def answer(self, _call: Call, body: bytes, extra: bytes) -> None:
        """Send the answer."""
        self._release(self.taken)
        head = wire.ACCEPTED + wire.metadata(extra) if extra else wire.ACCEPTED
        self.connection.send(self, head, wire.framed(body), wire.ENDED_WELL)

    def refuse(self, _call: Call, problem: Problem) -> None:
        """Send a problem."""
        self._end(problem)

    def _end(self, problem: Problem) -> None:
        """End the call with a status: nothing was said on it yet."""
        self.connection.send(self, b"", b"", wire.ACCEPTED + wire.trailers(problem))
        self.lost()

    def lost(self) -> None:
        """Give back what the request held."""
        self._release(self.taken)
        self.buffer = b""

    def tick(self, now: float) -> None:
        """End what takes too long."""
        limit = self.connection.server.limits.body_seconds
        if not self.heard_end and now - self.begun > limit:
            self._end(Problem(408, f"the message took more than {limit:g} s to arrive"))
        else:
            self._check_deadline(now)

    def _check_deadline(self, now: float) -> None:
        timeout = self.asks.timeout
        if timeout is not None and now - self.begun > timeout + _LATE_SECONDS:
            self._end(Problem(504, f"the call's deadline of {timeout:g} s has passed"))


class Refused(Rpc):
    """A request that is not gRPC: it is answered as HTTP, once it is there or has gone on for too long."""

    __slots__ = ()

    def begin(self) -> None:
        """The rest of the request may be on its way."""

    def data(self, _payload: bytes) -> None:
        """Answer at the request's end."""
        if self.heard_end or self.size > h2.STREAM_WINDOW:
            asks = self.asks
            wrong = asks.wrong or Problem(400, NOT_GRPC)
            head = literal(b":status", b"%d" % asks.status) + literal(b"content-type", b"text/plain; charset=utf-8")
            self.connection.send(self, head, wrong.message.encode(), wire.trailers(wrong))


class Watch(Rpc):
    """A call that stays open: it is answered again whenever the answer changes."""

    __slots__ = ("asked", "said")

    def __init__(self, connection: Connection, number: int, asks: Asks) -> None:
        super().__init__(connection, number, asks)
        self.asked: bytes | None = None
        self.said: bytes | None = None

    def _handle(self, call: Call) -> None:
        self.asked = call.body
        super()._handle(call)

    def answer(self, _call: Call, body: bytes, _extra: bytes) -> None:
        """Send the answer unless the client has it."""
        if body != self.said:
            head = wire.ACCEPTED if self.said is None else b""
            self.said = body
            self.connection.send(self, head, wire.framed(body), b"")

    def _end(self, problem: Problem) -> None:
        head = wire.ACCEPTED if self.said is None else b""
        self.connection.send(self, b"", b"", head + wire.trailers(problem))
        self.lost()

    def tick(self, now: float) -> None:
        """Look again; end with the connection."""
        if self.connection.final:
            self._end(leaving())
        elif self.asked is not None:
            self._handle(Call(self, self.asked))
            self._check_deadline(now)
        else:
            super().tick(now)


def leaving() -> Problem:
    """Why a call that would stay open is ended."""
    return Problem(503, "this pod is about to end: open the stream again")
