"""What a server's HTTP/2 connection says: answers within the client's windows, GOAWAY, and its end."""

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from homeostat.server.transport import http2_frames as h2
from homeostat.server.transport.http2_frames import FRAME, PAIR, WORD

if TYPE_CHECKING:
    from homeostat.server.transport.http2 import Connection, Server

MAX_QUEUED: Final = 32 << 20  # bytes of answers that the client of one connection does not take
MAX_QUEUED_SERVER: Final = 256 << 20  # and of all
GOAWAY_SECONDS: Final = 2.0  # from the first GOAWAY, which lets what is under way arrive, to the last
_FORGOTTEN: Final = 128  # streams that we ended, on which the client may still be sending
_SLOWEST: Final = 64 << 10  # bytes a second that a client must take of a queued answer
_LAST_WORDS: Final = b"leaving!"  # of a PING: its answer comes after all that was sent before GOAWAY arrived


class Stream:
    """One request of a connection; the application's subclass says what becomes of it.

    window: bytes that may be sent, room: that the client may send, used: of it, taken since the last update.
    held: the client gets no more room for now. closed: nobody waits for an answer any more.
    """

    __slots__ = (
        "closed",
        "connection",
        "expected",
        "heard_end",
        "held",
        "id",
        "queue",
        "room",
        "size",
        "tail",
        "until",
        "used",
        "window",
    )

    def __init__(self, connection: "Connection", number: int) -> None:
        self.connection, self.id = connection, number
        self.window, self.room = connection.initial_window, h2.STREAM_WINDOW
        self.size, self.used, self.expected = 0, 0, -1
        self.heard_end = self.held = self.closed = False
        self.queue, self.tail = bytearray(), b""
        self.until = 0.0

    def begin(self) -> None:
        """The header is there."""

    def data(self, payload: bytes) -> None:
        """Bytes of the request; `heard_end` says whether they are the last."""
        raise NotImplementedError

    def lost(self) -> None:
        """The client is gone, or took the request back."""
        raise NotImplementedError

    def tick(self, now: float) -> None:
        """About every second."""
        raise NotImplementedError


class Sending(asyncio.Protocol):
    """The half of a connection that writes."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.streams: dict[int, Stream] = {}
        self.initial_window = h2.DEFAULT_WINDOW
        self._transport: Any = None
        self._window = h2.DEFAULT_WINDOW
        self._waiting: dict[int, Stream] = {}  # with a queue
        self._queued = 0
        self._forgotten: deque[int] = deque(maxlen=_FORGOTTEN)
        self._highest = 0  # the last stream that was taken
        self.now = time.monotonic()  # when the client last said something
        self._born = self._quiet = self.now
        self._choked = 0.0  # since when the client's TCP takes nothing; 0 when it does
        self._leaving_since = self._ended_at = 0.0
        self._final = self._ended = False

    @property
    def going(self) -> bool:
        """Whether the client was asked to go elsewhere."""
        return self._leaving_since > 0 or self._ended

    @property
    def final(self) -> bool:
        """Whether the client was told which stream is the last."""
        return self._final

    def answered(self) -> None:
        """A request got its whole answer."""

    def taken(self) -> None:
        """The client made room for a part of an answer."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.server.connections.add(self)  # type: ignore[arg-type]  # a Connection

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self.server.connections.discard(self)
        self._ended = True
        self._transport = None
        self._drop_all()

    def _write(self, data: bytes) -> None:
        if self._transport is not None and not self._ended:
            self._transport.write(data)

    def send(self, stream: Stream, head: bytes, data: bytes, tail: bytes) -> None:
        """Say something on a stream. head: header block; tail: trailers' block; each may be empty.

        After the trailers nothing more is said on the stream.
        """
        if stream.closed or stream.tail or self._transport is None:
            return
        size, number = len(data), stream.id
        out = FRAME.pack(len(head) << 8 | h2.HEADERS, h2.END_HEADERS, number) + head if head else b""
        if stream.queue or (
            size and (size > h2.MAX_FRAME or size > self._window or size > stream.window or self._choked)
        ):
            self._write(out)
            self._queue(stream, data, tail)
            return
        if size:
            self._window -= size
            stream.window -= size
            out += FRAME.pack(size << 8, 0, number) + data
        if tail:
            out += FRAME.pack(len(tail) << 8 | h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, number) + tail
        self._write(out)
        if tail:
            self._done(stream)

    def _queue(self, stream: Stream, data: bytes, tail: bytes) -> None:
        size = len(data)
        if (self._queued and self._queued + size > MAX_QUEUED) or self.server.queued + size > MAX_QUEUED_SERVER:
            self._take_back(stream, h2.ENHANCE_YOUR_CALM)
            return
        if not stream.queue:
            stream.until = time.monotonic() + self.server.limits.body_seconds
        stream.queue += data
        stream.until += size / _SLOWEST
        stream.tail = tail
        self._queued += size
        self.server.queued += size
        self._waiting[stream.id] = stream
        self._pump()

    def _pump(self) -> None:
        """Send what is queued as far as the windows go, a frame of each stream in turn."""
        moved = True
        while moved and self._waiting:
            moved = False
            for stream in tuple(self._waiting.values()):
                if self._choked or self._ended:
                    return
                moved = self._push(stream) or moved

    def _push(self, stream: Stream) -> bool:
        queue = stream.queue
        size = min(len(queue), h2.MAX_FRAME, stream.window, self._window)
        if size <= 0:
            return False
        self._write(FRAME.pack(size << 8, 0, stream.id) + queue[:size])
        stream.window -= size
        self._window -= size
        self._queued -= size
        self.server.queued -= size
        del queue[:size]
        if size > h2.MAX_FRAME // 16:
            self.taken()  # the client says WINDOW_UPDATE for it
        if not queue:
            del self._waiting[stream.id]
            tail, stream.tail = stream.tail, b""
            if tail:
                self.send(stream, b"", b"", tail)
        return True

    def _initial_window(self, size: int) -> None:
        """The client changed the window of all streams, those that are open too."""
        change = size - self.initial_window
        self.initial_window = size
        for stream in self.streams.values():
            stream.window += change
            if stream.window > h2.MAX_WINDOW:
                raise h2.Broken(h2.FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE makes a window larger than 2^31 - 1")

    def _done(self, stream: Stream) -> None:
        stream.closed = True
        self.streams.pop(stream.id, None)
        if not stream.heard_end:
            self._forgotten.append(stream.id)
            self._write(h2.frame(h2.RST_STREAM, 0, stream.id, WORD.pack(h2.NO_ERROR)))
        self._quiet = time.monotonic()
        self.answered()
        if self._final:
            self._leave_when_done()

    def _take_back(self, stream: Stream, code: int) -> None:
        """End a stream whose answer cannot be given."""
        self.streams.pop(stream.id, None)
        self._forgotten.append(stream.id)
        self._write(h2.frame(h2.RST_STREAM, 0, stream.id, WORD.pack(code)))
        self._drop(stream)

    def _drop(self, stream: Stream) -> None:
        stream.closed = True
        self._queued -= len(stream.queue)
        self.server.queued -= len(stream.queue)
        stream.queue.clear()
        self._waiting.pop(stream.id, None)
        self._quiet = time.monotonic()
        stream.lost()

    def _drop_all(self) -> None:
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            self._drop(stream)

    def leave(self, now: float) -> None:
        """Ask the client to go elsewhere: GOAWAY, and another that names the last stream once it has heard the first."""
        if not self._leaving_since:
            self._leaving_since = now
            self._write(h2.frame(h2.GOAWAY, 0, 0, PAIR.pack(h2.MAX_WINDOW, h2.NO_ERROR)))
            self._write(h2.frame(h2.PING, 0, 0, _LAST_WORDS))
        elif now - self._leaving_since > GOAWAY_SECONDS:
            self._goaway_finally()

    def _goaway_finally(self) -> None:
        if not self._final:
            self._final = True
            self._write(h2.frame(h2.GOAWAY, 0, 0, PAIR.pack(self._highest, h2.NO_ERROR)))
            self._leave_when_done()

    def _leave_when_done(self) -> None:
        if self._final and not self.streams:
            self._finish()

    def close_if_idle(self, now: float, quiet: float) -> None:
        """Ask the client to go when no request is in flight and none was for `quiet` seconds."""
        if not self.streams and not self._ended and now - self._quiet > quiet:
            self._goaway_finally()

    def end(self, code: int, why: str) -> None:
        """Say GOAWAY with an error and take nothing more."""
        if self._ended:
            return
        self._write(h2.frame(h2.GOAWAY, 0, 0, PAIR.pack(self._highest, code) + why.encode()[:200]))
        self._finish()

    def _finish(self) -> None:
        """Say nothing more, and stay a moment: a socket closed while the client sends would take back what it has not read."""
        if self._ended:
            return
        self._ended, self._ended_at = True, time.monotonic()
        self._drop_all()
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        self._choked = self._choked or time.monotonic()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._choked = 0.0
        self._transport.resume_reading()
        self._pump()
