"""What the parser leaves open about a request's head: one meaning, or no answer but a refusal. Pure.

Two servers in a row that read the same bytes differently are two requests to one of them (request smuggling). So whatever
the standard calls faulty or leaves to the receiver is refused here, and the connection is closed.
"""

import re
from collections.abc import Sequence
from typing import Final

from homeostat.server.problem import Problem

LISTS: Final = frozenset({b"accept", b"accept-encoding"})  # several such headers are one list; of others there is one
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_OFFER: Final = frozenset({b"upgrade", b"http2-settings"})
Headers = Sequence[tuple[bytes, bytes]]


def target(method: bytes, url: bytes, headers: Headers, version: str) -> bytes:
    """The path that a request is about, with its query. Raises Problem when its head has no single meaning."""
    if version not in {"1.0", "1.1"}:
        raise _refused(f"HTTP/{version} is not spoken here: send HTTP/1.1", 505)
    hosts: list[bytes] = []
    for name, value in headers:
        lower = name.lower()
        if lower == b"host":
            hosts.append(value.strip())
        elif lower == b"transfer-encoding":
            _check_coding(value, version)
        elif lower == b"expect" and value.strip().lower() != b"100-continue":
            raise _refused("`expect` may only be 100-continue", 417)
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise _refused(f"a request needs exactly one `host` header, this one has {len(hosts)}")
    host = hosts[0] if hosts else b""
    if not _HOST.fullmatch(host):
        raise _refused("the `host` header is no host")
    if b"#" in url:
        raise _refused("a request's target has no fragment: leave out `#` and what follows")
    if url.startswith(b"/") or (url == b"*" and method == b"OPTIONS"):
        return url
    return _absolute(url, host)


def _check_coding(value: bytes, version: str) -> None:
    """The only transfer coding is `chunked`, and HTTP/1.0 has none."""
    if version == "1.0":
        raise _refused("HTTP/1.0 has no `transfer-encoding`: send content-length")
    if value.strip().lower() != b"chunked":
        raise _refused("the only transfer-encoding is chunked; say content-encoding for a compressed body", 501)


def _absolute(url: bytes, host: bytes) -> bytes:
    """The path of `http://host/path`; what names another host than the header is somebody's else."""
    scheme, found, rest = url.partition(b"://")
    authority, slash, path = rest.partition(b"/")
    if not found or scheme.lower() not in {b"http", b"https"}:
        raise _refused("a request's target must be a path")
    if authority.lower() != host.lower():
        raise _refused("the request's target and its `host` header name different hosts")
    return slash + path or b"/"


def without_offer(method: bytes, url: bytes, headers: Headers, version: str) -> bytes:
    """The head of a request without its offer to go on in another protocol: the parser would skip its body."""
    kept = [(name, value) for name, value in headers if name.lower() not in _OFFER]
    lines = [
        b"%b: %b\r\n" % (name, _connection(value) if name.lower() == b"connection" else value) for name, value in kept
    ]
    return b"%b %b HTTP/%b\r\n%b\r\n" % (method, url, version.encode(), b"".join(lines))


def _connection(value: bytes) -> bytes:
    words = [word.strip() for word in value.split(b",")]
    return b", ".join(word for word in words if word.lower() not in _OFFER)


def _refused(message: str, status: int = 400) -> Problem:
    return Problem(status, message, close=True)
