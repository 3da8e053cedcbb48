"""What HTTP/2 looks like on the wire (RFC 9113): frames, settings, and what a header may be. No connection is kept here."""

import re
from dataclasses import dataclass, field
from struct import Struct
from typing import Any, Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED, HAS_PRIORITY = 0x4, 0x8, 0x20
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED = range(6)
FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM = range(6, 12)

MAX_FRAME: Final = 16384  # of ours, and what we take: the least that the RFC allows to say
MAX_WINDOW: Final = (1 << 31) - 1
DEFAULT_WINDOW: Final = 65535
STREAM_WINDOW: Final = 256 << 10  # bytes that a client may send on one stream before we take them
CONNECTION_WINDOW: Final = 1 << 20
MAX_STREAMS: Final = 128
_SETTING: Final = Struct(">HI")
FRAME: Final = Struct(">IBI")  # length and type, flags, stream
WORD: Final = Struct(">I")
PAIR: Final = Struct(">II")
Pair = tuple[bytes, bytes]  # a header's name and value

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"[^\x00\r\n \t](?:[^\x00\r\n]*[^\x00\r\n \t])?|")
_PATH: Final = re.compile(rb"/[\x21-\x7e]*")
_PSEUDO: Final = frozenset({b":method", b":scheme", b":path", b":authority"})
_OF_CONNECTION: Final = frozenset({b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"})


class Broken(Exception):  # noqa: N818  it reads as a sentence
    """The connection cannot go on: `code` for GOAWAY."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings(header_bytes: int) -> bytes:
    """What the server says first: its settings, and more room for the connection."""
    # 3: concurrent streams, 4: a stream's window, 6: bytes of a header list; the rest stays at its default
    pairs = ((3, MAX_STREAMS), (4, STREAM_WINDOW), (6, header_bytes))
    more = WORD.pack(CONNECTION_WINDOW - DEFAULT_WINDOW)
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*p) for p in pairs)) + frame(WINDOW_UPDATE, 0, 0, more)


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Identifier and value of each setting of the client. Raises Broken when one is not allowed."""
    if len(payload) % 6:
        raise Broken(FRAME_SIZE_ERROR, "SETTINGS must be a multiple of 6 bytes")
    pairs: list[tuple[int, int]] = list(_SETTING.iter_unpack(payload))
    for name, value in pairs:
        if name == 2 and value > 1:
            raise Broken(PROTOCOL_ERROR, "ENABLE_PUSH must be 0 or 1")
        if name == 4 and value > MAX_WINDOW:
            raise Broken(FLOW_CONTROL_ERROR, "INITIAL_WINDOW_SIZE is more than 2^31 - 1")
        if name == 5 and not MAX_FRAME <= value < 1 << 24:
            raise Broken(PROTOCOL_ERROR, "MAX_FRAME_SIZE must be 16384 to 16777215")
    return pairs


def unpadded(payload: bytes) -> bytes:
    """The payload of a frame with the PADDED flag. Raises Broken."""
    if not payload or payload[0] >= len(payload):
        raise Broken(PROTOCOL_ERROR, "the padding is longer than the frame")
    return payload[1 : len(payload) - payload[0]]


@dataclass(slots=True)
class Head:
    """A request's header, shared by all requests that sent the same: read only.

    headers: regular ones. wrong: why the request is malformed, or empty. length: content-length, or -1.
    size: bytes as RFC 9113 10.5.1 counts them. more: what the application made of it.
    """

    method: bytes = b""
    path: bytes = b""
    headers: list[Pair] = field(default_factory=list)
    wrong: str = ""
    length: int = -1
    size: int = 0
    more: Any = None


def read_head(pairs: list[Pair]) -> Head:
    """Check a request's header list (RFC 9113 8.2, 8.3) so strictly that it may be sent on as HTTP/1.1."""
    head, pseudo = Head(), dict[bytes, bytes]()
    for name, value in pairs:
        head.size += len(name) + len(value) + 32
        if name.startswith(b":"):
            if head.headers or name not in _PSEUDO or name in pseudo:
                head.wrong = f"pseudo-header {name!r} is unknown, repeated or late"
            pseudo[name] = value
            continue
        head.headers.append((name, value))
        head.wrong = head.wrong or _wrong(name, value)
        if name == b"content-length":
            head.wrong = head.wrong or _length(head, value)
    head.method, head.path = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if not head.method or not pseudo.get(b":scheme") or not _PATH.fullmatch(head.path):
        head.wrong = head.wrong or ":method, :scheme or :path is missing or malformed"
    if not _NAME.fullmatch(head.method.lower()) or not _VALUE.fullmatch(pseudo.get(b":authority", b"")):
        head.wrong = head.wrong or ":method or :authority is malformed"
    return head


def wrong_trailers(pairs: list[Pair]) -> str:
    """Why a request's trailers are malformed, or empty."""
    return next((w for n, v in pairs if (w := _wrong(n, v))), "")


def _wrong(name: bytes, value: bytes) -> str:
    if not _NAME.fullmatch(name):
        return f"header name {name!r} is malformed"
    if not _VALUE.fullmatch(value):
        return f"the value of {name!r} is malformed"
    if name in _OF_CONNECTION or (name == b"te" and value != b"trailers"):
        return f"header {name!r} is not allowed in HTTP/2"
    return ""


def _length(head: Head, value: bytes) -> str:
    if not value.isdigit() or len(value) > 18 or head.length not in {-1, int(value)}:
        return "content-length is malformed"
    head.length = int(value)
    return ""


def literal(name: bytes, value: bytes) -> bytes:
    """One header as HPACK's literal that is never added to a table. name: lower case."""
    return b"\x00%b%b%b%b" % (_integer(len(name)), name, _integer(len(value)), value)


def _integer(number: int) -> bytes:
    """RFC 7541 5.1 with a prefix of 7 bits."""
    if number < 127:
        return bytes((number,))
    out, number = bytearray(b"\x7f"), number - 127
    while number >= 128:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
