"""Forwarding a raw request to another version's Service over pooled connections that live at most 30 s."""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from homeostat.server.traffic.outgoing import Reply, Wire

MAX_CONNECTIONS: Final = 256
HOP_HEADERS: Final = frozenset(
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
        b"x-homeostat-timeout-ms",
        b"x-homeostat-track",
    }
)
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer: `transport`, `deadline`, or `busy` when no connection was free. forgiven: it enters no comparison."""

    why: str
    message: str
    forgiven: bool = False


Done = Callable[[Reply | Failure], None]


def request_bytes(
    method: bytes,
    url: bytes,
    headers: Headers,
    body: bytes,
    *,
    host: bytes,
    track: str,
    hop: bytes = b"1",
    timeout_ms: int,
) -> bytes:
    """The request as it is sent on: hop-by-hop headers replaced, ours added.

    hop: what the other side knows us by. timeout_ms: what we wait, so that the other side runs nothing for nobody.
    """
    dropped = HOP_HEADERS | _named_by_connection(headers)
    lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, url, host)]
    lines += [b"%b: %b\r\n" % (n, v) for n, v in headers if n.lower() not in dropped]
    lines.append(
        b"content-length: %d\r\nx-homeostat-hop: %b\r\nx-homeostat-track: %b\r\nx-homeostat-timeout-ms: %d\r\n\r\n"
        % (len(body), hop, track.encode(), max(1, timeout_ms))
    )
    lines.append(body)
    return b"".join(lines)


def _named_by_connection(headers: Headers) -> frozenset[bytes]:
    """Headers that `Connection` names belong to the client's own hop (RFC 9110, 7.6.1)."""
    named = [v for n, v in headers if n.lower() == b"connection" and v.lower() not in {b"close", b"keep-alive"}]
    return frozenset(word.strip().lower() for value in named for word in value.split(b","))


class Pool:
    """Connections to one target.

    target: base URL, `http://` or `https://`. trust: whom an `https` target is trusted by; None: the system's authorities.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, target: str, trust: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(target)
        secure = parts.scheme == "https"
        self.host, self.port = parts.hostname or "", parts.port or (443 if secure else 80)
        self.authority = parts.netloc.encode() if parts.port else f"{parts.netloc}:{self.port}".encode()
        self._tls = (trust or ssl.create_default_context()) if secure else None
        self._loop = loop
        self._idle: list[Wire] = []
        self._open = 0
        self._closed = False

    @property
    def open(self) -> int:
        """Connections that are there or being made."""
        return self._open

    def send(self, request: bytes, deadline: float, done: Done) -> None:
        """Send and call `done` once, within `deadline` seconds; later, or at once when no connection is free."""
        _Call(self, self._loop, request, deadline, done).start()

    def take(self) -> Wire | None:
        """An idle connection that is young enough."""
        while self._idle:
            wire = self._idle.pop()
            if wire.usable:
                return wire
            wire.close()
        return None

    def give(self, wire: Wire) -> None:
        """The connection may be used again."""
        if wire.usable and not self._closed:
            self._idle.append(wire)
        else:
            wire.close()

    def reserve(self) -> Wire | None:
        """A connection that is still to be made; None when there are too many. To be `settled` when that was tried."""
        if self._open >= MAX_CONNECTIONS:
            return None
        self._open += 1
        return Wire(self._loop, self._lost)

    async def connect(self, wire: Wire) -> None:
        """Make the connection. Raises OSError, ValueError."""
        try:
            await self._loop.create_connection(lambda: wire, self.host, self.port, ssl=self._tls)
        except BaseException:
            wire.close()  # it may have been made just before we gave up
            raise

    def settled(self, wire: Wire) -> None:
        """Making it has ended; one that was made tells its own end."""
        if not wire.was_made:
            self._open -= 1

    def _lost(self, wire: Wire) -> None:
        self._open -= 1
        if wire in self._idle:
            self._idle.remove(wire)

    def close(self) -> None:
        """Close what is idle; what is in use ends with its answer."""
        self._closed = True
        for wire in tuple(self._idle):
            wire.close()
        self._idle.clear()


class _Call:
    """One forwarded request."""

    def __init__(
        self, pool: Pool, loop: asyncio.AbstractEventLoop, request: bytes, deadline: float, done: Done
    ) -> None:
        self._pool, self._loop, self._request = pool, loop, request
        self._done: Done | None = done  # None: the caller has its answer
        self._timer = loop.call_later(deadline, self._expired, deadline)
        self._wire: Wire | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        wire = self._pool.take()
        if wire is not None:
            self._write(wire)
        else:
            self._connect()

    def _connect(self) -> None:
        wire = self._pool.reserve()
        if wire is None:
            self._finish(Failure("busy", f"{MAX_CONNECTIONS} forwards are in flight"))
            return
        self._task = self._loop.create_task(self._connected(wire))
        self._task.add_done_callback(lambda _: self._pool.settled(wire))

    async def _connected(self, wire: Wire) -> None:
        try:
            await self._pool.connect(wire)
        except (OSError, ValueError) as error:
            self._finish(Failure("transport", str(error) or type(error).__name__))
            return
        if self._done is None:
            self._pool.give(wire)
        else:
            self._write(wire)

    def _write(self, wire: Wire) -> None:
        self._wire = wire
        wire.call(self._request, self)

    def answered(self, reply: Reply, wire: Wire) -> None:
        """The whole answer is there."""
        self._wire = None
        self._pool.give(wire)
        self._finish(reply)

    def broken(self, wire: Wire, why: str, *, untouched: bool) -> None:
        """The connection ended first. A reused one that said nothing was closed as idle: that is no fault, try a new one."""
        self._wire = None
        if wire.reused and untouched and self._done is not None:
            self._connect()
        else:
            self._finish(Failure("transport", why))

    def _expired(self, deadline: float) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.abandon()
        elif self._task is not None:
            self._task.cancel()  # a connection that is not made in time would hold its place in the pool
        self._finish(Failure("deadline", f"no answer within {deadline * 1000:.0f} ms"))

    def _finish(self, outcome: Reply | Failure) -> None:
        self._timer.cancel()
        done, self._done = self._done, None
        if done is not None:
            done(outcome)
