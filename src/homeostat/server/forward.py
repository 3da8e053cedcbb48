"""Forwarding a raw request to another version's Service over pooled connections that live at most 30 s."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httptools

LIFE_SECONDS: Final = 30.0
MAX_CONNECTIONS: Final = 256
MAX_ANSWER: Final = 64 << 20
_HOP_HEADERS: Final = frozenset(
    {
        b"connection",
        b"content-length",
        b"date",
        b"expect",
        b"host",
        b"keep-alive",
        b"proxy-connection",
        b"server",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"x-homeostat-hop",
        b"x-homeostat-track",
    }
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the other version answered. headers: end to end ones, `content-type` apart."""

    status: int
    kind: bytes
    headers: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer: `transport`, `deadline`, or `busy` when no connection was free."""

    why: str
    message: str


Done = Callable[[Reply | Failure], None]


def request_bytes(
    method: bytes, url: bytes, headers: list[tuple[bytes, bytes]], body: bytes, *, host: bytes, track: str
) -> bytes:
    """The request as it is sent on: hop-by-hop headers replaced, ours added."""
    lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, url, host)]
    lines += [b"%b: %b\r\n" % (n, v) for n, v in headers if n.lower() not in _HOP_HEADERS]
    lines.append(
        b"content-length: %d\r\nx-homeostat-hop: 1\r\nx-homeostat-track: %b\r\n\r\n" % (len(body), track.encode())
    )
    lines.append(body)
    return b"".join(lines)


class Pool:
    """Connections to one target."""

    def __init__(self, loop: asyncio.AbstractEventLoop, target: str) -> None:
        parts = urlsplit(target)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.authority = f"{self.host}:{self.port}".encode()
        self._loop = loop
        self._idle: list[_Wire] = []
        self._open = 0

    def send(self, request: bytes, deadline: float, done: Done) -> None:
        """Send and call `done` once, within `deadline` seconds."""
        _Call(self, self._loop, request, deadline, done).start()

    def take(self) -> "_Wire | None":
        """An idle connection that is young enough."""
        while self._idle:
            wire = self._idle.pop()
            if wire.usable():
                return wire
            wire.close()
        return None

    def give(self, wire: "_Wire") -> None:
        """The connection may be used again."""
        if wire.usable():
            self._idle.append(wire)
        else:
            wire.close()

    def full(self) -> bool:
        """Whether no further connection may be opened."""
        return self._open >= MAX_CONNECTIONS

    async def connect(self) -> "_Wire":
        """A new connection. Raises OSError."""
        self._open += 1
        try:
            _, wire = await self._loop.create_connection(lambda: _Wire(self), self.host, self.port)
        except BaseException:
            self._open -= 1
            raise
        return wire

    def lost(self, wire: "_Wire") -> None:
        """A connection is gone."""
        self._open -= 1
        if wire in self._idle:
            self._idle.remove(wire)

    def close(self) -> None:
        """Close what is idle; what is in use ends with its answer."""
        for wire in tuple(self._idle):
            wire.close()
        self._idle.clear()


class _Call:
    """One forwarded request."""

    def __init__(
        self, pool: Pool, loop: asyncio.AbstractEventLoop, request: bytes, deadline: float, done: Done
    ) -> None:
        self._pool, self._loop, self._request, self._done = pool, loop, request, done
        self._timer = loop.call_later(deadline, self._expired, deadline)
        self._wire: _Wire | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        wire = self._pool.take()
        if wire is not None:
            self._write(wire)
        else:
            self._connect()

    def _connect(self) -> None:
        if self._pool.full():
            self._finish(Failure("busy", f"{MAX_CONNECTIONS} forwards are in flight"))
            return
        self._task = self._loop.create_task(self._connected())

    async def _connected(self) -> None:
        try:
            wire = await self._pool.connect()
        except OSError as error:
            self._finish(Failure("transport", str(error)))
            return
        if self._done_already():
            self._pool.give(wire)
            return
        self._write(wire)

    def _write(self, wire: "_Wire") -> None:
        self._wire = wire
        wire.call(self._request, self)

    def answered(self, reply: Reply, wire: "_Wire") -> None:
        self._wire = None
        self._pool.give(wire)
        self._finish(reply)

    def broken(self, wire: "_Wire", why: str, *, untouched: bool) -> None:
        """The connection ended first. A reused one that said nothing was closed as idle: that is no fault, try a new one."""
        self._wire = None
        if wire.reused and untouched and not self._done_already():
            self._connect()
        else:
            self._finish(Failure("transport", why))

    def _expired(self, deadline: float) -> None:
        self._finish(Failure("deadline", f"no answer within {deadline * 1000:.0f} ms"))
        if self._wire is not None:
            self._wire.abandon()

    def _done_already(self) -> bool:
        return self._done is _nothing

    def _finish(self, outcome: Reply | Failure) -> None:
        self._timer.cancel()
        done, self._done = self._done, _nothing
        done(outcome)


def _nothing(_: Reply | Failure) -> None:
    """The caller has its answer already."""


class _Wire(asyncio.Protocol):
    """One connection to the other version; one request at a time."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._transport: Any = None
        self._born = time.monotonic()
        self._call: _Call | None = None
        self.reused = False
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[bytes] = []
        self._kind = b"application/json"
        self._body: list[bytes] = []
        self._size = 0
        self._touched = self._complete = False

    def usable(self) -> bool:
        """Whether another request may go over it."""
        transport = self._transport
        return transport is not None and not transport.is_closing() and time.monotonic() - self._born < LIFE_SECONDS

    def call(self, request: bytes, call: _Call) -> None:
        """Send one request; `call` hears how it ends."""
        self._reset()
        self._call = call
        self._transport.write(request)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self._call = None
        self.close()

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._pool.lost(self)
        call, self._call = self._call, None
        if call is not None:
            call.broken(self, str(exc or "the connection was closed"), untouched=not self._touched)

    def data_received(self, data: bytes) -> None:
        self._touched = True
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.close()
            return
        if self._size > MAX_ANSWER:
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        lower = name.lower()
        if lower == b"content-type":
            self._kind = value
        elif lower not in _HOP_HEADERS:
            self._headers.append(b"%b: %b\r\n" % (name, value))

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        call, self._call = self._call, None
        if call is None:
            return
        status = self._parser.get_status_code()
        if not self._parser.should_keep_alive():
            self._born = float("-inf")
        self.reused = True
        call.answered(Reply(status, self._kind, b"".join(self._headers), b"".join(self._body)), self)
