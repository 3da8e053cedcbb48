"""The gRPC side of the load generator: HTTP/2 frames made once, sent as they are; and one call by hand for the checks.

Header blocks are what gRPC clients send: indexed after the first request of a connection. An answer counts when a
message came before the trailers; an error of gRPC comes as trailers alone.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from bench.serving.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    literal,
    split,
)

if TYPE_CHECKING:
    from bench.serving.load import Tally

WINDOW: Final = (1 << 30) - 1
PREFACE: Final = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(SETTINGS, 0, 0, b"\0\2\0\0\0\0" + b"\0\4" + WINDOW.to_bytes(4, "big"))
    + frame(WINDOW_UPDATE, 0, 0, WINDOW.to_bytes(4, "big"))
)
FIRST_WINDOW: Final = 65_535
MAX_FRAME: Final = 1 << 14


def first_headers(path: str) -> bytes:
    """POST over http, and four fields that enter the server's table: then 62 … 65 name them."""
    fields = [(b":path", path.encode()), (b":authority", b"bench"), (b"te", b"trailers")]
    fields += [(b"content-type", b"application/grpc")]
    return b"\x83\x86" + b"".join(literal(name, value) for name, value in fields)


LATER_HEADERS: Final = b"\x83\x86" + bytes(0x80 | index for index in (65, 64, 63, 62))


class Connection(asyncio.Protocol):
    """One connection with a fixed number of calls in flight, in a closed loop."""

    def __init__(self, owner: Streams) -> None:
        self._owner = owner
        self._headers = first_headers(owner.path)
        self._begun: dict[int, float] = {}
        self._answered: set[int] = set()
        self._left = b""
        self._window = FIRST_WINDOW
        self._held: deque[bytes] = deque()
        self._stream = -1
        self._leaving = False
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(PREFACE)
        for _ in range(self._owner.streams):
            self._send()

    def _send(self) -> None:
        message = self._owner.next()
        if self._window < len(message):
            self._held.append(message)
            return
        self._window -= len(message)
        self._stream += 2
        stream = self._stream
        self._begun[stream] = time.perf_counter()
        headers = frame(HEADERS, END_HEADERS, stream, self._headers)
        self._headers = LATER_HEADERS
        self._transport.write(headers + data_frames(stream, message))

    def data_received(self, data: bytes) -> None:
        frames, self._left = split(self._left + data if self._left else data)
        for kind, flags, stream, content in frames:
            if kind == DATA:
                if content:
                    self._answered.add(stream)
            elif kind == HEADERS:
                if flags & END_STREAM:
                    self._ended(stream)
            else:
                self._control(kind, flags, stream, content)

    def _control(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        if kind in {SETTINGS, PING} and not flags & ACK:
            self._transport.write(frame(kind, ACK, 0, content if kind == PING else b""))
        elif kind == WINDOW_UPDATE and stream == 0:
            self._window += int.from_bytes(content, "big")
            while self._held and self._window >= len(self._held[0]):
                self._held.popleft()
                self._send()
        elif kind == RST_STREAM:
            self._answered.discard(stream)
            self._ended(stream)
        elif kind == GOAWAY:
            self._leaving = True
            self._close_if_idle()

    def _ended(self, stream: int) -> None:
        begun, now = self._begun.pop(stream), time.perf_counter()
        ok = stream in self._answered
        self._answered.discard(stream)
        self._owner.tally.add(begun, now - begun, 200 if ok else 500)
        if now < self._owner.end and not self._leaving:
            self._send()
        else:
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if not self._begun:
            self._transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        for begun in self._begun.values():
            self._owner.tally.add(begun, 0.0, 0)
        self._begun.clear()
        self._owner.lost()


class Streams:
    """All connections of a gRPC load."""

    def __init__(self, config: dict[str, Any], messages: list[bytes], tally: Tally) -> None:
        self.path, self.streams, self.tally = config["path"], config["streams"], tally
        self.next = itertools.cycle([prefixed(m) for m in messages]).__next__
        self.end = 0.0
        self._config = config
        self._open = config["connections"]
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._done = self._loop.create_future()

    async def run(self) -> None:
        self.end = time.perf_counter() + self._config["seconds"]
        await asyncio.gather(*(self._connect() for _ in range(self._open)))
        await self._done

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(lambda: Connection(self), "127.0.0.1", self._config["port"])
        except OSError:
            self.tally.add(time.perf_counter(), 0.0, 0)
            self._close()

    def lost(self) -> None:
        """A connection ended: another one until the time is over."""
        if time.perf_counter() < self.end:
            self.tally.reconnects += 1
            task = self._loop.create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        self._close()

    def _close(self) -> None:
        self._open -= 1
        if not self._open and not self._done.done():
            self._done.set_result(None)


def data_frames(stream: int, message: bytes) -> bytes:
    """The message in frames that every peer has to take."""
    if len(message) <= MAX_FRAME:
        return frame(DATA, END_STREAM, stream, message)
    parts = [message[at : at + MAX_FRAME] for at in range(0, len(message), MAX_FRAME)]
    return b"".join(frame(DATA, END_STREAM * (part is parts[-1]), stream, part) for part in parts)


def prefixed(message: bytes) -> bytes:
    """A message as gRPC frames it: not compressed, and its length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def call(port: int, path: str, message: bytes, seconds: float = 10.0) -> bytes:
    """The answer to one call. Raises ValueError with what of the trailers is readable when there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
        request = frame(HEADERS, END_HEADERS, 1, first_headers(path)) + data_frames(1, prefixed(message))
        connection.sendall(PREFACE + request)
        left, answer = b"", b""
        while True:
            data = connection.recv(1 << 16)
            if not data:
                raise ValueError("the connection was closed without an answer")
            frames, left = split(left + data)
            for kind, flags, stream, content in frames:
                if kind in {SETTINGS, PING} and not flags & ACK:
                    connection.sendall(frame(kind, ACK, 0, content if kind == PING else b""))
                elif kind == DATA and stream == 1:
                    answer += content
                elif kind in {HEADERS, RST_STREAM, GOAWAY} and (kind != HEADERS or flags & END_STREAM):
                    if len(answer) > 5:
                        return answer[5:]
                    readable = bytes(b if 32 <= b < 127 else 32 for b in content).decode()
                    raise ValueError(f"no message, only trailers: {' '.join(readable.split())[:200]}")
