"""Bodies: compressed ones opened within bounds, JSON read without letting small texts become large trees."""

import re
import zlib
from itertools import islice
from typing import Any, Final

import orjson

from homeostat.server.asked import Answer, Asked
from homeostat.server.problem import Problem

_BEGIN: Final = 16 << 10
COMPRESS_FROM: Final = 32 << 10  # a shorter answer is sent sooner as it is
_OBJECT: Final = re.compile(rb'(\{)|"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # or a string, to step over it
_UP_TO_NAN: Final = re.compile(rb'(?:[^"N]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+NaN', re.DOTALL)
_NONE_IN_STRINGS: Final = re.compile(rb'(?:[^"]++|"(?:[^"\\N]++|\\.|N(?!aN))*+")*+', re.DOTALL)
_NANS: Final = 1 << 16
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's window bits


def content(asked: Asked, most: int) -> bytes:
    """The request's body, opened when it is compressed (gzip, deflate) to at most `most` bytes. Raises Problem."""
    encoding = asked.known.get(b"content-encoding")
    if encoding is None or encoding == b"identity":
        return asked.body
    encoding = encoding.strip().lower()
    if encoding not in {b"gzip", b"x-gzip", b"deflate"}:
        shown = encoding[:40].decode("ascii", "replace")
        raise Problem(415, f"content-encoding {shown!r} is not supported: send gzip, deflate or no encoding")
    if encoding != b"deflate":
        return opened(asked.body, _GZIP, most)
    head = asked.body[:2]
    wrapped = len(head) == 2 and head[0] & 15 == 8 and int.from_bytes(head, "big") % 31 == 0
    return opened(asked.body, _ZLIB if wrapped else _RAW, most)


def opened(body: bytes, window: int, most: int) -> bytes:
    """What zlib makes of it. Raises Problem when it is damaged, cut off or too large."""
    machine = zlib.decompressobj(window)
    try:
        out = machine.decompress(body, most + 1)
    except zlib.error as error:
        raise Problem(400, f"the compressed body is damaged: {error}") from None
    if len(out) > most:
        raise Problem(413, f"the body is larger than {most} bytes when decompressed")
    if not machine.eof or machine.unused_data:
        raise Problem(400, "the compressed body is cut off, or something follows it")
    return out


def shrunk(asked: Asked, answer: Answer) -> Answer:
    """The answer, compressed when it is long and the client reads gzip, or deflate alone."""
    body, kind, extra = answer
    if len(body) < COMPRESS_FROM:
        return answer
    read = asked.known.get(b"accept-encoding", b"").lower()
    encoding = next((one for one in (b"gzip", b"deflate") if one in read), None)
    if encoding is None:
        return answer
    machine = zlib.compressobj(1, zlib.DEFLATED, _GZIP if encoding == b"gzip" else _ZLIB)
    return machine.compress(body) + machine.flush(), kind, extra + b"content-encoding: %b\r\n" % encoding


def parsed(body: bytes, most_objects: int) -> dict[str, Any]:
    """A JSON object. Raises Problem."""
    if body.count(b"{") > most_objects and not _too_deep(body) and _crowded(body, most_objects):
        raise Problem(
            400, f"too many objects in the body: at most {most_objects} are read; send columns, or fewer rows"
        )
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            found = orjson.loads(_with_nulls(body) if b"NaN" in body else body)
        except orjson.JSONDecodeError:
            raise Problem(400, f"the body is not JSON: {error}") from None
    if type(found) is not dict:
        raise Problem(400, "the body must be a JSON object")
    return found


def _with_nulls(body: bytes) -> bytes:
    """The body with null for each NaN that stands outside of strings: how clients on pandas and numpy send missing values.

    Where strings hold that word too, only the first `_NANS` are read.
    """
    if _NONE_IN_STRINGS.fullmatch(body):
        return body.replace(b"NaN", b"null")
    out, at = bytearray(), 0
    for _ in range(_NANS):
        found = _UP_TO_NAN.match(body, at)
        if found is None:
            break
        out += body[at : found.end() - 3] + b"null"
        at = found.end()
    return bytes(out + body[at:])


def _too_deep(body: bytes) -> bool:
    """Whether the parser gives up on the begin of it already: then nobody has to count objects."""
    try:
        orjson.loads(body[:_BEGIN])
    except orjson.JSONDecodeError as error:
        return "depth" in str(error)
    return False


def _crowded(body: bytes, most: int) -> bool:
    """Whether JSON text has more than `most` objects: they take far more memory than text. Braces in strings are none."""
    return next(islice((m for m in _OBJECT.finditer(body) if m.lastindex), most, None), None) is not None
