"""What gRPC looks like on HTTP/2: its messages, statuses and metadata. No connection is kept here."""

import zlib
from typing import Final

import orjson

from homeostat.server.problem import Problem
from homeostat.server.transport.http2_frames import literal

CONTENT_TYPE: Final = b"application/grpc+proto"
ENCODINGS: Final = b"identity,gzip,deflate"
OK: Final = 0
CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 1, 2, 3, 4, 5
RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, UNAUTHENTICATED, PERMISSION_DENIED = 8, 12, 13, 14, 16, 7
MAX_MESSAGE: Final = 2000  # bytes of a status' message
MAX_METADATA: Final = 8 << 10  # bytes of an answer's further headers
_STATUS: Final = {
    400: INVALID_ARGUMENT,
    401: UNAUTHENTICATED,
    403: PERMISSION_DENIED,
    404: NOT_FOUND,
    405: UNIMPLEMENTED,
    408: DEADLINE_EXCEEDED,
    413: RESOURCE_EXHAUSTED,
    415: UNIMPLEMENTED,
    422: INVALID_ARGUMENT,
    429: RESOURCE_EXHAUSTED,
    431: RESOURCE_EXHAUSTED,
    499: CANCELLED,
    500: INTERNAL,
    501: UNIMPLEMENTED,
    502: UNAVAILABLE,
    503: UNAVAILABLE,
    504: DEADLINE_EXCEEDED,
}
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_OWN: Final = (b"grpc-", b"content-", b":")  # headers of a forwarded answer that are not metadata

ACCEPTED: Final = b"\x88" + literal(b"content-type", CONTENT_TYPE)  # the header of an answer: status 200
ENDED_WELL: Final = literal(b"grpc-status", b"0")


def status_of(http: int) -> int:
    """The gRPC status of an HTTP status."""
    return _STATUS.get(http, INVALID_ARGUMENT if 400 <= http < 500 else UNKNOWN)


def trailers(problem: Problem) -> bytes:
    """The block that ends a call with an error."""
    out = literal(b"grpc-status", b"%d" % status_of(problem.status))
    out += literal(b"grpc-message", percent(problem.message))
    if problem.retry_after:  # gRPC's own word for Retry-After
        out += literal(b"grpc-retry-pushback-ms", b"%d" % (1000 * problem.retry_after))
    return out


def percent(text: str) -> bytes:
    """A status' message: all but printable ASCII as %XX, at most MAX_MESSAGE bytes of it."""
    out = bytearray()
    for byte in text.encode("utf-8", "replace"):
        out += b"%c" % byte if 32 <= byte <= 126 and byte != 37 else b"%%%02X" % byte
        if len(out) >= MAX_MESSAGE:
            break
    return bytes(out)


def relayed(status: int, body: bytes) -> Problem:
    """What another pod answered over HTTP, as a problem of this call: its `{"error": …}`."""
    try:
        message = orjson.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        message = f"the model's other version answered {status}"
    return Problem(status, str(message))


def metadata(lines: bytes) -> bytes:
    """Whole HTTP header lines as literals; what is not metadata of gRPC is left out."""
    out = b""
    for line in lines.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.strip().lower()
        if colon and name and not name.startswith(_OWN) and len(out) + len(line) < MAX_METADATA:
            out += literal(name, value.strip())
    return out


def timeout_of(value: bytes) -> float | None:
    """Seconds of `grpc-timeout`; None when it is malformed."""
    digits, unit = value[:-1], value[-1:]
    if not digits.isdigit() or len(digits) > 8 or unit not in _UNITS:
        return None
    return int(digits) * _UNITS[unit]


def framed(message: bytes) -> bytes:
    """A message with its prefix."""
    return b"\x00%b%b" % (len(message).to_bytes(4, "big"), message)


def inflated(message: bytes, encoding: bytes, limit: int) -> bytes:
    """A message whose compressed flag is set. Raises Problem."""
    if encoding not in {b"gzip", b"deflate"}:
        shown = encoding.decode("ascii", "replace") or "identity"
        raise Problem(501, f"messages compressed with {shown!r} are not supported: use gzip, deflate or none")
    machine = zlib.decompressobj(47)  # gzip or zlib, by the header
    try:
        out = machine.decompress(message, limit + 1)
    except zlib.error as error:
        raise Problem(400, f"the message is not {encoding.decode()}: {error}") from None
    if len(out) > limit:
        raise too_large(limit)
    if not machine.eof or machine.unused_data:
        raise Problem(400, "the compressed message is cut off or has something behind it")
    return out


def too_large(limit: int) -> Problem:
    """A message that is not taken."""
    return Problem(413, f"the message is larger than {limit} bytes")
