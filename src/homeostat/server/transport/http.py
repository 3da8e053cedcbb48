"""HTTP/1.1 as an asyncio protocol: httptools parses, bounds are kept here, the application answers when it can.

Answers leave in the order of the requests of a connection (pipelining), whatever order they get ready in.
"""

import asyncio
import time
import traceback
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import httptools

from homeostat.server.problem import Problem
from homeostat.server.transport import http_checks
from homeostat.server.transport.exchange import KNOWN, Exchange, Head, Limits

MAX_PIPELINED: Final = 32
_FRAMES: Final = 1 << 16  # bytes that the frames of chunks may take, beyond as many as the body has
_SLICE: Final = 4 << 10  # bytes that are parsed between two looks at the bounds; of a body:
_BODY_SLICE: Final = 64 << 10
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_REMEMBERED: Final = 512  # heads of requests that are recognised when they come again
_LONGEST_REMEMBERED: Final = 1 << 10
_UNREMEMBERED: Final = frozenset({b"expect", b"upgrade", b"transfer-encoding", b"connection"})


@dataclass(slots=True)
class Server:
    """What the connections of one listener share. draining, route_drain: answers carry `Connection: close`.

    answered: requests so far. later: calls it in the next turn of the loop. shed: connections to close, each after its next answer.
    """

    handle: Callable[[Any], None]  # of an Exchange
    limits: Limits = field(default_factory=Limits)
    connections: "set[Connection]" = field(default_factory=set)
    later: Callable[[Callable[[], None]], Any] = lambda go_on: asyncio.get_running_loop().call_soon(go_on)
    heads: dict[bytes, Head] = field(default_factory=dict)
    bodies: int = 0
    answered: int = 0
    shed: int = 0
    draining: bool = False
    route_drain: bool = False
    refused: Callable[[Problem], None] = lambda problem: None  # noqa: ARG005  hears what is answered before a request is whole

    def connection(self) -> "Connection":
        """The protocol of a new connection."""
        return Connection(self)

    def sweep(self) -> None:
        """Close what is too slow or idle for too long. Call it about every second."""
        now = time.monotonic()
        for connection in tuple(self.connections):
            connection.check_time(now)

    def close_idle(self, quiet: float) -> None:
        """Close connections without a request in flight that said nothing for `quiet` seconds."""
        now = time.monotonic()
        for connection in tuple(self.connections):
            connection.close_if_idle(now, quiet)


class Connection(asyncio.Protocol):
    """One client connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Exchange] = deque()
        self._transport: Any = None
        self._exchange: Exchange | None = None
        self._body: bytes | bytearray = b""
        self._size = self._header_size = 0
        self._seen = 0  # bytes of the message's header and trailer
        self._raw = 0  # bytes that came as its body, with the frames of chunks
        self._held = 0  # bytes of bodies whose requests are not yet answered
        self._choked = 0.0  # since when the client does not take what is sent; 0 when it does
        self._begun = 0.0  # when the request that is arriving began; 0 between requests
        self._in_body = self._in_message = self._ended = self._paused = False
        self._unread: bytes | memoryview = b""  # what is parsed when the client has taken its answers
        self._whole = b""  # what arrived at once, when a request began with it
        self._last = time.monotonic()

    @property
    def closed(self) -> bool:
        """Whether the client is gone."""
        return self._transport is None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.server.connections.add(self)
        if len(self.server.connections) > self.server.limits.connections:
            self._refuse(Problem(503, "too many connections: try again later", retry_after=1, close=True))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.server.connections.discard(self)
        self._ended, self._unread = True, b""
        self._transport = None
        self._queue.clear()
        self._release(self._held)

    def data_received(self, data: bytes) -> None:
        if self._ended:
            return
        if self._unread:
            self._unread = memoryview(bytes(self._unread) + data)
            return
        self._last = now = time.monotonic()
        if not self._in_message:
            if self._recognised(data):
                return
            self._whole = data
        else:
            self._whole = b""
        if len(data) <= _SLICE:
            self._take(data, now)
            return
        self._take_slices(memoryview(data), now)

    def _take_slices(self, data: memoryview, now: float) -> None:
        """Parse much at once, but no more than the client takes answers, and others are served in between.

        What is left waits for `resume_writing`, or for the next turn of the loop.
        """
        at = 0
        while at < len(data) and not self._ended:
            size = _BODY_SLICE if self._in_body else _SLICE
            self._take(data[at : at + size], now)
            at += size
            if at < len(data) and not self._ended and (self._choked or not self._in_body):
                self._unread = data[at:]
                if not self._choked:
                    self._transport.pause_reading()
                    self.server.later(self._go_on)
                return

    def _go_on(self) -> None:
        """Parse what was left over, unless the client has first to take its answers."""
        if self._transport is None or self._choked:
            return
        unread, self._unread = memoryview(self._unread), b""
        self._take_slices(unread, time.monotonic())
        if not (self._unread or self._paused or self._choked or self._transport is None):
            self._transport.resume_reading()

    def _take(self, data: bytes | memoryview, now: float) -> None:
        """Parse what arrived, within the bounds."""
        if self._ended:
            return
        if self._in_body:
            self._raw += len(data)
        else:
            self._header_size += len(data)
        self._in_message = True
        try:
            self._feed(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, Problem) else _fault(cause or error))
        except httptools.HttpParserError as error:
            self._refuse(_malformed(error))
        else:
            if not self._in_message:
                self._begun = 0.0
                return
            self._begun = self._begun or now
            if not self._in_body and self._header_size > self.server.limits.header:
                self._refuse(self._too_long())
            elif self._in_body and self._raw - self._size > self.server.limits.header + _FRAMES + self._size:
                self._refuse(Problem(400, "the body's chunks are too small or its trailer too long", close=True))

    def _recognised(self, data: bytes) -> bool:
        """Whether data is one whole request whose head was read before, byte by byte the same; then it is begun."""
        end = data.find(b"\r\n\r\n") + 4
        head = self.server.heads.get(data[:end])
        if head is None or len(data) != end + head.size:
            return False
        exchange = Exchange(self, head.url, head.headers)
        exchange.known, exchange.method, exchange.keep_alive = head.known, head.method, head.keep_alive
        try:
            if head.size:
                exchange.body = data[end:]
                self._hold(head.size)
            self._begin(exchange)
        except Problem as problem:
            self._refuse(problem)
        return True

    def _remember(self, exchange: Exchange) -> None:
        """Recognise this head when it comes again: parsing it took most of the time of a small request."""
        whole, heads, size = self._whole, self.server.heads, len(exchange.body)
        end = whole.find(b"\r\n\r\n") + 4
        if not 4 <= end <= _LONGEST_REMEMBERED or len(whole) != end + size:
            return
        if any(name.lower() in _UNREMEMBERED for name, _ in exchange.headers):
            return
        if int(exchange.known.get(b"content-length", 0)) != size:
            return
        if len(heads) >= _REMEMBERED:
            heads.clear()
        head = Head(exchange.method, exchange.url, exchange.headers, exchange.known, exchange.keep_alive, size)
        heads[whole[:end]] = head

    def _feed(self, data: bytes | memoryview) -> None:
        while data and not self._ended:
            try:
                self._parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as offer:  # read again as if it had not been made: HTTP/1.1 goes on
                data = memoryview(data)[offer.args[0] :]
                made, version = self._exchange, self._parser.get_http_version()
                self._parser = httptools.HttpRequestParser(self)
                if made is not None:
                    self._parser.feed_data(http_checks.without_offer(made.method, made.url, made.headers, version))

    def on_message_begin(self) -> None:
        self._exchange = Exchange(self, b"", [])
        self._in_message = True
        self._seen = self._raw = 0

    def on_url(self, url: bytes) -> None:
        if self._exchange is not None:
            self._exchange.url += url
            self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self._exchange
        self._count_header(len(name) + len(value) + 4)
        if exchange is not None and not self._in_body:  # a trailer decides nothing
            exchange.headers.append((name, value))
            name, known = name.lower(), exchange.known
            if name in KNOWN:
                if name in known:
                    if name not in http_checks.LISTS:
                        raise Problem(400, f"the header {name.decode()!r} comes twice", close=True)
                    value = known[name] + b", " + value
                known[name] = value

    def _count_header(self, size: int) -> None:
        self._seen += size
        if self._seen > self.server.limits.header:
            raise self._too_long()

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        known, limits, parser = exchange.known, self.server.limits, self._parser
        exchange.method = parser.get_method()
        if parser.should_upgrade():
            if known.get(b"upgrade", b"").lower() != b"h2c":
                raise Problem(400, "protocol upgrades are not supported", close=True)
            return
        self._in_body = True
        exchange.url = http_checks.target(exchange.method, exchange.url, exchange.headers, parser.get_http_version())
        if int(known.get(b"content-length", 0)) > limits.body:
            raise self._too_large()
        if b"expect" in known and known[b"expect"].lower() == b"100-continue" and not self._queue:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self.server.limits.body:
            raise self._too_large()
        self._hold(len(body))
        if not self._body:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body

    def _hold(self, size: int) -> None:
        """These bytes of a body are kept until the answer. Raises Problem when all of them are too many."""
        self._held += size
        server = self.server
        server.bodies += size
        if server.bodies > max(server.limits.bodies, server.limits.body):
            raise Problem(503, "too many requests are being read: try again later", retry_after=1, close=True)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is None or self._ended or self._parser.should_upgrade():
            return
        self._exchange = None
        self._in_body = self._in_message = False
        self._header_size = self._size = 0
        self._begun = 0.0
        exchange.body, self._body = bytes(self._body), b""
        exchange.keep_alive = self._parser.should_keep_alive()
        if not exchange.keep_alive:
            self._ended = True  # what follows is no request
        elif self._whole:
            self._remember(exchange)
        self._begin(exchange)

    def _begin(self, exchange: Exchange) -> None:
        exchange.arrived = self._last
        self._queue.append(exchange)
        if len(self._queue) >= MAX_PIPELINED and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        try:
            self.server.handle(exchange)
        except Problem as problem:
            exchange.fail(problem)
        except Exception as error:  # noqa: BLE001  a fault of ours; the connection and the process go on
            exchange.fail(_fault(error))

    def pump(self) -> None:
        """Send the answers that are ready, in order."""
        queue = self._queue
        while queue and queue[0].out is not None and self._transport is not None:
            exchange = queue.popleft()
            self._release(len(exchange.body))
            self._transport.write(exchange.out)
            if exchange.close:
                self._end()
                return
        if self._paused and len(queue) < MAX_PIPELINED // 2 and self._transport is not None:
            self._paused = False
            if not self._choked and not self._unread:
                self._transport.resume_reading()

    def _release(self, size: int) -> None:
        self._held -= size
        self.server.bodies -= size

    def pause_writing(self) -> None:
        self._choked = self._choked or time.monotonic()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._choked = 0.0
        self._go_on()

    def check_time(self, now: float) -> None:
        """Refuse a request that arrives too slowly; close an idle connection; drop a client that does not read."""
        limits = self.server.limits
        if self._choked and now - self._choked > limits.body_seconds:
            if self._transport is not None:
                self._transport.abort()
        elif self._begun:
            if now - self._begun > (limits.body_seconds if self._in_body else limits.header_seconds):
                what = "body" if self._in_body else "header"
                self._refuse(Problem(408, f"the request's {what} took too long", close=True))
        else:
            self.close_if_idle(now, limits.idle_seconds)

    def close_if_idle(self, now: float, quiet: float) -> None:
        """Close when no request is in flight and none came for `quiet` seconds."""
        if not self._queue and not self._begun and now - self._last > quiet and self._transport is not None:
            self._end()

    def _too_large(self) -> Problem:
        return Problem(413, f"the body is larger than {self.server.limits.body} bytes", close=True)

    def _too_long(self) -> Problem:
        return Problem(431, f"the header is larger than {self.server.limits.header} bytes", close=True)

    def _refuse(self, problem: Problem) -> None:
        """Answer after those before it, then close: nothing more is read from this connection."""
        if self._ended:
            return
        self.server.refused(problem)
        self._begun, self._in_body, self._exchange = 0.0, False, None
        self._body = b""
        exchange = Exchange(self, b"", [])
        self._queue.append(exchange)
        self._ended = True
        exchange.fail(problem)

    def _end(self) -> None:
        self._ended = True
        self._queue.clear()
        self._choked = self._choked or time.monotonic()  # what is still to be sent has that long
        if self._transport is not None:
            self._transport.close()


def _fault(error: BaseException) -> Problem:
    """What a client hears of our own fault; standard error has the rest."""
    traceback.print_exception(error)
    return Problem(500, "the server failed on this request: its log says why", close=True)


def _malformed(error: Exception) -> Problem:
    if "PRI" in str(error):  # HTTP/2 begins with a request line of that method
        return Problem(505, "HTTP/2 is not spoken on this port: send HTTP/1.1; gRPC has a port of its own", close=True)
    return Problem(400, f"malformed HTTP: {error}", close=True)
