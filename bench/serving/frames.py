"""Frames of HTTP/2, as far as the load generator and the bare echo need them."""

from __future__ import annotations

import struct
from typing import Final

DATA: Final = 0
HEADERS: Final = 1
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
ACK: Final = 1
END_STREAM: Final = 1
END_HEADERS: Final = 4

Frame = tuple[int, int, int, bytes]
_HEAD: Final = struct.Struct(">HBBBI")


def frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """One frame as it is sent."""
    size = len(content)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream) + content


def split(data: bytes) -> tuple[list[Frame], bytes]:
    """Whole frames, and what is left of the next one."""
    found: list[Frame] = []
    at, end = 0, len(data)
    while end - at >= 9:
        high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
        size = high << 8 | low
        if end - at < 9 + size:
            break
        found.append((kind, flags, stream, data[at + 9 : at + 9 + size]))
        at += 9 + size
    return found, data[at:]


def literal(name: bytes, value: bytes) -> bytes:
    """A header field that enters the table of the other side; neither name nor value is compressed."""
    return b"\x40" + bytes((len(name),)) + name + bytes((len(value),)) + value
