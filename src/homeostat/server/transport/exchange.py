"""One HTTP request with its answer, and the bounds of a listener."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import orjson

from homeostat.server.problem import Problem, phrase

if TYPE_CHECKING:
    from homeostat.server.transport.http import Connection

JSON: Final = b"application/json"
TEXT: Final = b"text/plain; charset=utf-8"
KNOWN: Final = frozenset(
    {
        b"x-homeostat-hop",
        b"x-homeostat-track",
        b"x-homeostat-timeout-ms",
        b"accept",
        b"accept-encoding",
        b"content-type",
        b"inference-header-content-length",
        b"traceparent",
        b"expect",
        b"content-encoding",
        b"content-length",
        b"if-none-match",
        b"upgrade",
    }
)
_HEADS: Final[dict[tuple[int, bytes], bytes]] = {}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one listener, in bytes and seconds."""

    header: int = 16 << 10
    body: int = 16 << 20
    connections: int = 4096
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    idle_seconds: float = 620.0
    bodies: int = 64 << 20  # of all requests that are not yet answered


@dataclass(frozen=True, slots=True)
class Head:
    """A request's head as the parser read it. size: bytes of the body that follows."""

    method: bytes
    url: bytes
    headers: list[tuple[bytes, bytes]]
    known: dict[bytes, bytes]
    keep_alive: bool
    size: int


class Exchange:
    """One request and, once there is one, its answer. `known`: headers that decide something, by lower-case name.

    Requests with the same head share `headers` and `known`: they are never changed.
    """

    __slots__ = ("arrived", "body", "close", "connection", "headers", "keep_alive", "known", "method", "out", "url")

    def __init__(self, connection: "Connection", url: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.connection, self.url, self.headers = connection, url, headers
        self.known: dict[bytes, bytes] = {}
        self.method, self.body = b"", b""
        self.keep_alive, self.close = True, False
        self.arrived = 0.0
        self.out: bytes | None = None

    @property
    def gone(self) -> bool:
        """Whether the client closed the connection."""
        return self.connection.closed

    @property
    def timeout(self) -> float | None:
        """Seconds that the client waits by header `x-homeostat-timeout-ms`. Raises Problem when it is no number."""
        text = self.known.get(b"x-homeostat-timeout-ms")
        if text is None:
            return None
        if not text.isdigit() or len(text) > 9 or not int(text):
            raise Problem(400, "x-homeostat-timeout-ms must be whole milliseconds, at least 1")
        return int(text) / 1000

    def respond(self, status: int, body: bytes, kind: bytes = JSON, extra: bytes = b"") -> None:
        """Answer. extra: whole header lines, each with CRLF. Does nothing when the client is gone."""
        head = _HEADS.get((status, kind)) or _head(status, kind)
        server = self.connection.server
        server.answered += 1
        self.close = self.close or not self.keep_alive or server.draining or server.route_drain
        if server.shed and not self.close:
            server.shed -= 1
            self.close = True
        if self.close:
            extra += b"connection: close\r\n"
        body_sent = b"" if self.method == b"HEAD" else body
        self.out = b"%bcontent-length: %d\r\n%b\r\n%b" % (head, len(body), extra, body_sent)
        self.connection.pump()

    def fail(self, problem: Problem) -> None:
        """Answer with a problem: JSON `{"error": …}`."""
        extra = b"retry-after: %d\r\n" % problem.retry_after if problem.retry_after else b""
        self.close = self.close or problem.close
        self.respond(problem.status, orjson.dumps({"error": problem.message}), JSON, extra)


def _head(status: int, kind: bytes) -> bytes:
    made = f"HTTP/1.1 {status} {phrase(status)}\r\ncontent-type: ".encode() + kind + b"\r\n"
    if len(_HEADS) < 256:
        _HEADS[status, kind] = made
    return made
