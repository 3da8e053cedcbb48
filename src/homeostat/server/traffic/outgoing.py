"""One connection to another pod: HTTP/1.1 as a client, one request at a time."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import httptools

LIFE_SECONDS: Final = 30.0
MAX_ANSWER: Final = 64 << 20
_NOT_RELAYED: Final = frozenset(
    {
        b"connection",
        b"content-length",
        b"date",
        b"keep-alive",
        b"proxy-connection",
        b"server",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What the other version answered. headers: end to end ones with their CRLF, `content-type` apart."""

    status: int
    kind: bytes
    headers: bytes
    body: bytes


class Caller(Protocol):
    """Who waits for one answer; exactly one of the two is called, once."""

    def answered(self, reply: Reply, wire: "Wire") -> None:
        """The whole answer is there; the connection may be used again when it is `usable`."""
        ...

    def broken(self, wire: "Wire", why: str, *, untouched: bool) -> None:
        """The connection ended first. untouched: before a byte of the answer came."""
        ...


class Wire(asyncio.Protocol):
    """A connection that lives for at most 30 s, so that a Service's new pods get their share. lost: called at its end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, lost: Callable[["Wire"], None]) -> None:
        self._loop, self._lost = loop, lost
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._caller: Caller | None = None
        self._why = ""
        self._old = self.reused = self.was_made = False
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._kind, self._headers = b"application/json", list[bytes]()
        self._body: list[bytes] = []
        self._size = self._status = 0
        self._touched = self._in_body = self._framed = self._complete = False

    @property
    def usable(self) -> bool:
        """Whether another request may go over it."""
        transport = self._transport
        return transport is not None and not self._old and not transport.is_closing()

    def call(self, request: bytes, caller: Caller) -> None:
        """Send one request; `caller` hears how it ends."""
        self._reset()
        self._caller = caller
        if self._transport is None:  # lost between the pool and us
            self._loop.call_soon(self._end, "the connection was closed")
        else:
            self._transport.write(request)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""
        self._caller = None
        self.close()

    def close(self) -> None:
        """Close at once."""
        self._old = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.was_made = True
        if self._old:
            transport.abort()  # given up while it was being made
        self._timer = self._loop.call_later(LIFE_SECONDS, self._aged)

    def _aged(self) -> None:
        self._old = True
        if self._caller is None:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._lost(self)
        if exc is None and not self._why and self._in_body and not self._framed:
            self._complete = True  # HTTP/1.0's way: the end of the connection is the end of the body
            self._deliver()
        else:
            self._end(self._why or str(exc or "the connection was closed"))

    def _end(self, why: str) -> None:
        caller, self._caller = self._caller, None
        if caller is not None:
            caller.broken(self, why, untouched=not self._touched)

    def data_received(self, data: bytes) -> None:
        if self._caller is None:  # nobody asked
            self.close()
            return
        self._touched = True
        self._size += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self._refuse(f"malformed HTTP: {error}")
                return
            self._old = True  # a whole answer, and something behind it
        if self._complete:
            self._deliver()
        elif self._size > MAX_ANSWER:
            self._refuse(f"the answer is larger than {MAX_ANSWER} bytes")

    def _refuse(self, why: str) -> None:
        self._why = why
        self.close()

    def _deliver(self) -> None:
        caller, self._caller = self._caller, None
        if caller is None:
            return
        self.reused = True
        caller.answered(Reply(self._status, self._kind, b"".join(self._headers), b"".join(self._body)), self)

    def on_message_begin(self) -> None:
        if self._complete:  # more than was asked for
            self._old = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:  # a trailer decides nothing
            return
        lower = name.lower()
        if lower in {b"content-length", b"transfer-encoding"}:
            self._framed = True
        elif lower == b"content-type":
            self._kind = value
        elif lower not in _NOT_RELAYED:
            self._headers.append(b"%b: %b\r\n" % (name, value))

    def on_headers_complete(self) -> None:
        if not self._in_body:
            self._status = self._parser.get_status_code()
            self._in_body = self._status >= 200

    def on_body(self, body: bytes) -> None:
        if not self._complete:
            self._body.append(body)

    def on_message_complete(self) -> None:
        if not self._in_body:  # 100, 103: the answer is still to come
            self._headers.clear()
            self._kind, self._framed = b"application/json", False
            return
        if not self._parser.should_keep_alive():
            self._old = True
        self._complete = True
