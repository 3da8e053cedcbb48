"""HTTP/2 (RFC 9113) as an asyncio protocol: it reads frames and keeps every bound; the application makes the streams.

Writing answers is `http2_send`, header blocks are `http2_headers`, frames `http2_frames`.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from homeostat.server.transport import http2_frames as h2
from homeostat.server.transport.exchange import Limits
from homeostat.server.transport.http2_frames import FRAME, WORD, Broken, Head
from homeostat.server.transport.http2_headers import Headers
from homeostat.server.transport.http2_send import Sending, Stream

CALM_BURST: Final = 2000  # frames that ask for work and bring nothing (PING, SETTINGS, ...): at once
CALM_RATE: Final = 200  # and a second
CALM_WORTH: Final = 8  # and for every answered request
RESET_BURST: Final = 500  # streams that end without an answer by the client's doing: at once
RESET_RATE: Final = 100  # and a second; every answered request allows one more
MAX_CONTINUATIONS: Final = 16
LINGER_SECONDS: Final = 1.0  # from GOAWAY to the end, so that it is read
_LINGER_BYTES: Final = 4 << 20


@dataclass(slots=True)
class Server:
    """What the connections of one listener share. leaving: clients get GOAWAY and go elsewhere.

    open: makes the stream of a new request. bodies: bytes received of requests that are not yet answered.
    queued: bytes of answers that clients do not take.
    """

    open: "Callable[[Connection, int, Head], Stream]"
    limits: Limits = field(default_factory=Limits)
    connections: "set[Connection]" = field(default_factory=set)
    bodies: int = 0
    queued: int = 0
    draining: bool = False
    route_drain: bool = False

    @property
    def leaving(self) -> bool:
        """Whether clients are asked to go elsewhere."""
        return self.draining or self.route_drain

    def connection(self) -> "Connection":
        """The protocol of a new connection."""
        return Connection(self)

    def sweep(self) -> None:
        """Close what is too slow or idle for too long; say GOAWAY when leaving. Call it about every second."""
        now = time.monotonic()
        for connection in tuple(self.connections):
            connection.check_time(now)

    def shed(self, count: int) -> None:
        """Ask that many connections to go elsewhere; none of their requests is lost."""
        now = time.monotonic()
        for connection in [c for c in self.connections if not c.going][:count]:
            connection.leave(now)

    def close_idle(self, quiet: float) -> None:
        """Ask connections to go that had no request in flight for `quiet` seconds."""
        now = time.monotonic()
        for connection in tuple(self.connections):
            connection.close_if_idle(now, quiet)


class Connection(Sending):
    """One client connection."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._headers = Headers(server.limits.header)
        self._rest = b""
        self._greeted = False
        self._only = h2.SETTINGS  # the one kind of frame that may come next; -1: any
        self._block: bytearray | None = None  # of a header that goes on in CONTINUATION
        self._block_of = self._block_ends = self._continuations = 0
        self._room, self._used = h2.CONNECTION_WINDOW, 0
        self._partial = 0.0  # since when a frame or header is incomplete; 0 when none is
        self._calm, self._resets = CALM_BURST, RESET_BURST
        self._lingered = 0

    def connection_made(self, transport: object) -> None:
        super().connection_made(transport)
        self._write(h2.settings(self.server.limits.header))
        if len(self.server.connections) > self.server.limits.connections:
            self.end(h2.ENHANCE_YOUR_CALM, "too many connections: try again later")

    def data_received(self, data: bytes) -> None:
        if self._ended:
            self._lingered += len(data)
            if self._lingered > _LINGER_BYTES:
                self._abort()
            return
        if self._rest:
            data = self._rest + data
        self.now = time.monotonic()
        try:
            self._rest = self._read(data)
        except Broken as error:
            self.end(error.code, str(error))
        if not self._rest and self._block is None:
            self._partial = 0.0
        else:
            self._partial = self._partial or self.now

    def _read(self, data: bytes) -> bytes:
        """Take all whole frames; returns what is left."""
        at, size = 0, len(data)
        if not self._greeted:
            if not h2.PREFACE.startswith(data[:24]):
                raise Broken(h2.PROTOCOL_ERROR, "this port speaks HTTP/2 only, with prior knowledge")
            if size < 24:
                return data
            self._greeted, at = True, 24
        while size - at >= 9:
            word, flags, stream = FRAME.unpack_from(data, at)
            end = at + 9 + (word >> 8)
            kind = word & 0xFF
            if word >> 8 > h2.MAX_FRAME:
                raise Broken(h2.FRAME_SIZE_ERROR, f"frames may have {h2.MAX_FRAME} bytes")
            if end > size:
                break
            if self._only not in {-1, kind}:
                raise Broken(h2.PROTOCOL_ERROR, "SETTINGS must come first, and nothing between the parts of a header")
            if kind < len(_TAKES):
                _TAKES[kind](self, flags, stream & h2.MAX_WINDOW, data[at + 9 : end])
            else:
                self._spend()  # unknown: RFC 9113 5.5 says to go on
            if self._ended:
                return b""
            at = end
        return data[at:]

    def _spend(self) -> None:
        self._calm -= 1
        if self._calm < 0:
            raise Broken(h2.ENHANCE_YOUR_CALM, "too many frames that ask for nothing")

    def answered(self) -> None:
        """A request got its answer: its client may have more patience."""
        if self._calm < CALM_BURST:
            self._calm += CALM_WORTH
        if self._resets < RESET_BURST:
            self._resets += 1

    def taken(self) -> None:
        """A client that makes room may say so."""
        self._calm += 1

    def reset(self, stream: int, code: int) -> None:
        """End a stream that did wrong; nothing more is said on it."""
        self._write(h2.frame(h2.RST_STREAM, 0, stream, WORD.pack(code)))
        self._forgotten.append(stream)
        self._lose(stream)

    def _lose(self, stream: int) -> None:
        found = self.streams.pop(stream, None)
        if found is not None:
            self._drop(found)
        self._resets -= 1
        if self._resets < 0:
            raise Broken(h2.ENHANCE_YOUR_CALM, "too many streams that end without an answer")
        self._leave_when_done()

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        if not stream & 1:
            raise Broken(h2.PROTOCOL_ERROR, f"HEADERS on stream {stream}")
        if flags & h2.PADDED:
            payload = h2.unpadded(payload)
        if flags & h2.HAS_PRIORITY:
            if len(payload) < 5:
                raise Broken(h2.FRAME_SIZE_ERROR, "HEADERS is too short for its priority")
            payload = payload[5:]
        if flags & h2.END_HEADERS:
            self._header(stream, payload, flags & h2.END_STREAM)
        else:
            self._block, self._block_of, self._block_ends = bytearray(payload), stream, flags & h2.END_STREAM
            self._continuations, self._only = 0, h2.CONTINUATION

    def _take_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        block = self._block
        if block is None or stream != self._block_of:
            raise Broken(h2.PROTOCOL_ERROR, "CONTINUATION without its HEADERS")
        self._continuations += 1
        block += payload
        if self._continuations > MAX_CONTINUATIONS or len(block) > 2 * self.server.limits.header:
            raise Broken(h2.ENHANCE_YOUR_CALM, "the header has too many parts or bytes")
        if flags & h2.END_HEADERS:
            self._block, self._only = None, -1
            self._header(stream, bytes(block), self._block_ends)

    def _header(self, stream: int, block: bytes, ends: int) -> None:
        if stream <= self._highest:
            self._trailers(stream, block, ends)
            return
        head = self._headers.request(block)
        if self._final:
            return  # GOAWAY named the last one: the client sends this again elsewhere
        self._highest = stream
        if len(self.streams) >= h2.MAX_STREAMS:
            self.reset(stream, h2.REFUSED_STREAM)
        elif head.wrong or (ends and head.length > 0):
            self.reset(stream, h2.PROTOCOL_ERROR)
        else:
            made = self.streams[stream] = self.server.open(self, stream, head)
            made.expected, made.heard_end = head.length, bool(ends)
            made.begin()
            if ends and not made.closed:
                made.data(b"")

    def _trailers(self, stream: int, block: bytes, ends: int) -> None:
        pairs = self._headers.decode(block)  # in any case: the table must stay the client's
        found = self.streams.get(stream)
        if found is None:
            if stream not in self._forgotten:
                raise Broken(h2.STREAM_CLOSED, f"HEADERS on stream {stream}, which has ended")
            self._spend()
        elif found.heard_end:
            self.reset(stream, h2.STREAM_CLOSED)
        elif not ends or h2.wrong_trailers(pairs):
            self.reset(stream, h2.PROTOCOL_ERROR)
        else:
            self._heard_all(found, b"")

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._room -= size
        if self._room < 0:
            raise Broken(h2.FLOW_CONTROL_ERROR, "more data than the connection's window")
        self._used += size
        if self._used > h2.CONNECTION_WINDOW // 2:
            self._write(h2.frame(h2.WINDOW_UPDATE, 0, 0, WORD.pack(self._used)))
            self._room, self._used = self._room + self._used, 0
        if flags & h2.PADDED:
            payload = h2.unpadded(payload)
        found = self.streams.get(stream)
        if found is None:
            self._late_data(stream)
            return
        found.room -= size
        if found.heard_end or found.room < 0:
            self.reset(stream, h2.STREAM_CLOSED if found.heard_end else h2.FLOW_CONTROL_ERROR)
            return
        found.size += len(payload)
        found.used += size
        if flags & h2.END_STREAM:
            self._heard_all(found, payload)
        elif payload:
            found.data(payload)
            self.give_room(found)
        else:
            self._spend()

    def _heard_all(self, found: Stream, payload: bytes) -> None:
        found.heard_end = True
        if found.expected not in {-1, found.size}:
            self.reset(found.id, h2.PROTOCOL_ERROR)
        else:
            found.data(payload)

    def give_room(self, stream: Stream) -> None:
        """Let the client send more on a stream, unless its application has enough to do."""
        if stream.used > h2.STREAM_WINDOW // 2 and not (stream.held or stream.heard_end or stream.closed):
            self._write(h2.frame(h2.WINDOW_UPDATE, 0, stream.id, WORD.pack(stream.used)))
            stream.room, stream.used = stream.room + stream.used, 0

    def _late_data(self, stream: int) -> None:
        if not stream & 1 or (stream > self._highest and not self._final):
            raise Broken(h2.PROTOCOL_ERROR, f"DATA on stream {stream}, which is not open")
        self._spend()
        if stream <= self._highest and stream not in self._forgotten:
            self.reset(stream, h2.STREAM_CLOSED)

    def _take_reset(self, _flags: int, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise Broken(h2.FRAME_SIZE_ERROR, "RST_STREAM must have 4 bytes")
        self._must_have_been(stream, "RST_STREAM")
        if stream in self.streams:
            self._lose(stream)
        else:
            self._spend()

    def _must_have_been(self, stream: int, what: str) -> None:
        if not stream & 1 or (stream > self._highest and not self._final):
            raise Broken(h2.PROTOCOL_ERROR, f"{what} on stream {stream}, which is not open")

    def _take_priority(self, _flags: int, stream: int, payload: bytes) -> None:
        self._spend()
        if not stream:
            raise Broken(h2.PROTOCOL_ERROR, "PRIORITY on stream 0")
        if len(payload) != 5:
            raise Broken(h2.FRAME_SIZE_ERROR, "PRIORITY must have 5 bytes")

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        self._spend()
        if stream:
            raise Broken(h2.PROTOCOL_ERROR, "SETTINGS on a stream")
        if flags & h2.ACK:
            if payload:
                raise Broken(h2.FRAME_SIZE_ERROR, "an acknowledgement of SETTINGS must be empty")
            return
        self._only = -1
        for name, value in h2.read_settings(payload):
            if name == 4:
                self._initial_window(value)
        self._write(h2.frame(h2.SETTINGS, h2.ACK, 0))
        self._pump()

    def _take_push(self, _flags: int, _stream: int, _payload: bytes) -> None:
        raise Broken(h2.PROTOCOL_ERROR, "a client must not push")

    def _take_ping(self, flags: int, stream: int, payload: bytes) -> None:
        self._spend()
        if stream:
            raise Broken(h2.PROTOCOL_ERROR, "PING on a stream")
        if len(payload) != 8:
            raise Broken(h2.FRAME_SIZE_ERROR, "PING must have 8 bytes")
        if not flags & h2.ACK:
            self._write(h2.frame(h2.PING, h2.ACK, 0, payload))
        elif self._leaving_since:
            self._goaway_finally()

    def _take_goaway(self, _flags: int, stream: int, payload: bytes) -> None:
        self._spend()
        if stream:
            raise Broken(h2.PROTOCOL_ERROR, "GOAWAY on a stream")
        if len(payload) < 8:
            raise Broken(h2.FRAME_SIZE_ERROR, "GOAWAY must have 8 bytes")
        self._goaway_finally()  # it opens no stream any more: end with its last answer

    def _take_window(self, _flags: int, stream: int, payload: bytes) -> None:
        self._spend()
        if len(payload) != 4:
            raise Broken(h2.FRAME_SIZE_ERROR, "WINDOW_UPDATE must have 4 bytes")
        more = WORD.unpack(payload)[0] & h2.MAX_WINDOW
        if not stream:
            self._window += more
            if not more or self._window > h2.MAX_WINDOW:
                raise Broken(h2.FLOW_CONTROL_ERROR if more else h2.PROTOCOL_ERROR, "the window's increment is wrong")
        else:
            self._must_have_been(stream, "WINDOW_UPDATE")
            found = self.streams.get(stream)
            if found is None:
                return
            found.window += more
            if not more or found.window > h2.MAX_WINDOW:
                self.reset(stream, h2.FLOW_CONTROL_ERROR if more else h2.PROTOCOL_ERROR)
        self._pump()

    def check_time(self, now: float) -> None:
        """Forgive, refuse what is too slow, say GOAWAY when leaving, close what is idle."""
        limits = self.server.limits
        self._calm = min(CALM_BURST, self._calm + CALM_RATE)
        self._resets = min(RESET_BURST, self._resets + RESET_RATE)
        if self._ended:
            if now - self._ended_at > LINGER_SECONDS + limits.body_seconds:
                self._abort()
            elif now - self._ended_at > LINGER_SECONDS:
                self._close()
        elif self._choked and now - self._choked > limits.body_seconds:
            self._abort()
        elif self._only == h2.SETTINGS and now - self._born > limits.header_seconds:
            self.end(h2.SETTINGS_TIMEOUT, "no SETTINGS came")
        elif self._partial and now - self._partial > limits.header_seconds:
            self.end(h2.ENHANCE_YOUR_CALM, "a frame or header took too long")
        else:
            self._check_streams(now)
            if self.server.leaving or self.going:
                self.leave(now)
            self.close_if_idle(now, limits.idle_seconds)

    def _check_streams(self, now: float) -> None:
        try:
            for stream in tuple(self.streams.values()):
                if stream.queue and now > stream.until:
                    self.reset(stream.id, h2.CANCEL)
                elif not stream.closed:
                    stream.tick(now)
        except Broken as error:
            self.end(error.code, str(error))


_TAKES: Final[tuple[Callable[[Connection, int, int, bytes], None], ...]] = (
    Connection._take_data,  # noqa: SLF001  by the frame's number
    Connection._take_headers,  # noqa: SLF001
    Connection._take_priority,  # noqa: SLF001
    Connection._take_reset,  # noqa: SLF001
    Connection._take_settings,  # noqa: SLF001
    Connection._take_push,  # noqa: SLF001
    Connection._take_ping,  # noqa: SLF001
    Connection._take_goaway,  # noqa: SLF001
    Connection._take_window,  # noqa: SLF001
    Connection._take_continuation,  # noqa: SLF001
)
