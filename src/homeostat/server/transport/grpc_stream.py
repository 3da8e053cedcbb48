"""Calls of gRPC with any number of messages, such as ModelStreamInfer."""

from collections import deque
from typing import Final

from homeostat.server.problem import Problem
from homeostat.server.transport import grpc_wire as wire
from homeostat.server.transport.grpc_calls import Asks, Call, Rpc, leaving
from homeostat.server.transport.http2 import Connection

MAX_IN_FLIGHT: Final = 32  # messages of one stream that are not yet answered
MAX_UNREAD: Final = 256 << 10  # bytes of answers that a stream's client has not taken before we take more from it


class Streaming(Rpc):
    """A call with any number of messages, answered in their order."""

    __slots__ = ("last", "pending", "reading")

    buffer: bytearray

    def __init__(self, connection: Connection, number: int, asks: Asks) -> None:
        super().__init__(connection, number, asks)
        self.buffer = bytearray()
        self.pending: deque[Call] = deque()
        self.reading = False
        self.last = connection.now  # when the message that is arriving began, or the last one came

    def begin(self) -> None:
        """The answers' header: clients wait for it."""
        self.connection.send(self, wire.ACCEPTED, b"", b"")

    def data(self, payload: bytes) -> None:
        """Take what came, message by message."""
        if self.tail:
            return  # it is over, but for what the client has not taken
        if not self.buffer:
            self.last = self.connection.now
        self.buffer += payload
        self._read(len(payload))

    def _read(self, size: int = 0) -> None:
        """Take whole messages as long as there are not too many under way. size: bytes that are new."""
        self.reading = True
        try:
            self._hold(size)
            while not self.closed and (size := self._size()) <= len(self.buffer):
                self.held = len(self.pending) >= MAX_IN_FLIGHT or len(self.queue) > MAX_UNREAD
                if self.held:
                    break
                call = Call(self, self._message(size))
                del self.buffer[:size]
                self.last = call.arrived
                self.pending.append(call)
                self._handle(call)
        except Problem as problem:
            self._end(problem)
        finally:
            self.reading = False
        self._send_ready()

    def _send_ready(self) -> None:
        pending = self.pending
        while pending and (out := pending[0].out) is not None:
            call = pending.popleft()
            if isinstance(out, Problem):
                self._end(out)
                return
            self._release(len(call.body))
            self.connection.send(self, b"", wire.framed(out), b"")
        if not self.heard_end or pending or self.held or self.closed or self.tail:
            return
        if self.buffer:
            self._end(Problem(400, "the stream ended within a message"))
        else:
            self.connection.send(self, b"", b"", wire.ENDED_WELL)
            self.lost()

    def answer(self, call: Call, body: bytes, extra: bytes) -> None:  # noqa: ARG002
        """Send an answer when its turn comes. A stream has one header, so `extra` has no place."""
        wrap = self.asks.method.wrap
        call.out = wrap(body) if wrap is not None else body
        self._answered()

    def refuse(self, call: Call, problem: Problem) -> None:
        """Send a problem when its turn comes."""
        wrap = self.asks.method.wrap
        call.out = wrap(problem) if wrap is not None else problem
        self._answered()

    def _answered(self) -> None:
        if self.reading or self.closed:
            return
        self._send_ready()
        if self.held and not self.closed:
            self._resume()

    def _resume(self) -> None:
        if len(self.pending) < MAX_IN_FLIGHT // 2 and len(self.queue) <= MAX_UNREAD:
            self.held = False
            self._read()
            self.connection.give_room(self)

    def _end(self, problem: Problem) -> None:
        self.pending.clear()
        self.connection.send(self, b"", b"", wire.trailers(problem))
        self.lost()

    def lost(self) -> None:
        """Give back what the stream held."""
        super().lost()
        self.pending.clear()
        self.buffer = bytearray()

    def tick(self, now: float) -> None:
        """End what takes too long, and what is idle when the pod leaves."""
        limits = self.connection.server.limits
        if self.held:
            self._resume()
        elif self.buffer and now - self.last > limits.body_seconds:
            self._end(Problem(408, f"no bytes of a message came for {limits.body_seconds:g} s"))
        elif not self.pending and not self.buffer and self.connection.final:
            self._end(leaving())
        elif not self.pending and now - self.last > limits.idle_seconds:
            self._end(Problem(503, f"the stream was idle for {limits.idle_seconds:g} s: open it again"))
        elif self.asks.timeout is not None and not self.pending:
            self._check_deadline(now)
