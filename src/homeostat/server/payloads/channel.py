"""From worker to logger: bytes on a socket that keeps messages apart, behind a bounded queue that never waits.

A message is one part of a chunk: the worker's number, whether it is the first or the last part, and the bytes. A worker
that is killed in a chunk leaves nothing but an end that is missing. The logger says on the same socket how many rows it
had to give up; the worker that hears it counts them, so that all drops are in one counter.
"""

import select
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the logger has no loop
    import asyncio

PART_BYTES: Final = 60 << 10
FLUSH_SECONDS: Final = 0.01  # what was taken meanwhile goes in one message
KERNEL_BYTES: Final = 1 << 20  # asked for; the system's own limit (net.core.wmem_max) may be less
MESSAGE_BYTES: Final = PART_BYTES + 64
_HEAD: Final = struct.Struct("<HB")
_LOST: Final = struct.Struct("<Q")
_FIRST, _LAST = 1, 2


def pair() -> tuple[socket.socket, socket.socket]:
    """The workers' end and the logger's; the supervisor keeps both open, so either side may be started again."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
    return ours, theirs


class Outlet:
    """A worker's end. most: bytes that may wait here for the logger. lost: hears rows that the logger gave up."""

    def __init__(
        self, loop: "asyncio.AbstractEventLoop", end: socket.socket, number: int, most: int, lost: Callable[[int], None]
    ) -> None:
        self._loop, self._end, self._number, self._most, self._lost = loop, end, number, most, lost
        self._fresh = bytearray()
        self._parts: deque[bytes] = deque()
        self._due = False
        self.waiting = 0
        end.setblocking(False)
        loop.add_reader(end, self._listen)

    def offer(self, frame: bytes) -> bool:
        """Hand over a frame, soon. False when there is no room for it: it is gone then."""
        if self.waiting + len(frame) > self._most:
            return False
        self.waiting += len(frame)
        self._fresh += frame
        if not self._due:
            self._due = True
            self._loop.call_later(FLUSH_SECONDS, self._flush)
        return True

    def _flush(self) -> None:
        self._due = not self.send()
        if self._due:  # later: a socket that says it takes more need not mean a whole message
            self._loop.call_later(FLUSH_SECONDS, self._flush)

    def send(self) -> bool:
        """Send what the socket takes now. Whether nothing is left."""
        while self._parts or self._fresh:
            if not self._parts:
                self._cut()
            try:
                self._end.send(self._parts[0], socket.MSG_DONTWAIT)
            except OSError:  # no room: EAGAIN, ENOBUFS
                return False
            self.waiting -= len(self._parts.popleft()) - _HEAD.size
        return True

    def _cut(self) -> None:
        """What is fresh becomes the parts of one chunk."""
        chunk, self._fresh = bytes(self._fresh), bytearray()
        for at in range(0, len(chunk), PART_BYTES):
            flags = (0 if at else _FIRST) | (_LAST if at + PART_BYTES >= len(chunk) else 0)
            self._parts.append(_HEAD.pack(self._number, flags) + chunk[at : at + PART_BYTES])

    def _listen(self) -> None:
        with suppress(OSError):
            self._lost(_LOST.unpack(self._end.recv(_LOST.size, socket.MSG_DONTWAIT))[0])

    def finish(self, seconds: float) -> None:
        """Send the rest, at most that long. The worker ends: its loop is not needed any more."""
        end, poll = time.monotonic() + seconds, select.poll()
        poll.register(self._end, select.POLLOUT)
        while not self.send() and (left := end - time.monotonic()) > 0:
            poll.poll(left * 1000)


class Inlet:
    """The logger's end."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._parts: dict[int, bytearray] = {}
        self._lost = 0

    def fileno(self) -> int:
        """For `select`."""
        return self._end.fileno()

    def receive(self) -> bytearray | None:
        """The next whole chunk that is there already; None when there is none."""
        while True:
            try:
                message = self._end.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            number, flags = _HEAD.unpack_from(message)
            if flags & _FIRST:
                self._parts[number] = bytearray()
            elif number not in self._parts:  # its begin went to a logger that ended
                continue
            self._parts[number] += memoryview(message)[_HEAD.size :]
            if flags & _LAST:
                return self._parts.pop(number)

    def lost(self, rows: int) -> None:
        """Tell a worker that these rows were given up; when nobody can hear it, with the next ones."""
        self._lost += rows
        if self._lost:
            with suppress(OSError):
                self._end.send(_LOST.pack(self._lost), socket.MSG_DONTWAIT)
                self._lost = 0
