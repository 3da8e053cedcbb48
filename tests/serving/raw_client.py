"""Many requests over few kept connections, each as raw bytes: a client that sends what no HTTP library would."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial

CONNECTIONS = 8


class Lane(asyncio.Protocol):
    """One connection: the next request leaves when the answer to the last one is whole."""

    def __init__(
        self, requests: Iterator[bytes], answered: Callable[[bytes, int, bytes], None], ended: "asyncio.Future[bool]"
    ) -> None:
        self._requests, self._answered, self._ended = requests, answered, ended
        self._sent, self._left = b"", b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def _send(self) -> None:
        request = next(self._requests, None)
        self._sent = request or b""
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        text = self._left = self._left + data
        end = text.find(b"\r\n\r\n") + 4
        if end < 4:
            return
        head = text[:end].lower()
        size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(text) < end + size:
            return
        sent, self._sent, self._left = self._sent, b"", text[end + size :]
        self._answered(sent, int(text[9:12]), text[end : end + size])
        if b"connection: close" in head:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sent:
            self._answered(self._sent, 0, b"the connection was closed without an answer")
        if not self._ended.done():
            self._ended.set_result(True)


def ask(
    port: int, requests: Iterable[bytes], answered: Callable[[bytes, int, bytes], None], lanes: int = CONNECTIONS
) -> None:
    """Send all requests; `answered` hears of each: request, status (0: none came), body."""
    asyncio.run(_ask(port, iter(requests), answered, lanes))


async def _ask(port: int, requests: Iterator[bytes], answered: Callable[[bytes, int, bytes], None], lanes: int) -> None:
    loop, left = asyncio.get_running_loop(), [True]

    def more() -> Iterator[bytes]:
        yield from requests
        left[0] = False

    shared = more()

    async def lane() -> None:
        while left[0]:
            ended: asyncio.Future[bool] = loop.create_future()
            await loop.create_connection(partial(Lane, shared, answered, ended), "127.0.0.1", port)
            await ended

    await asyncio.gather(*(lane() for _ in range(lanes)))


def post(path: str, body: bytes, headers: Iterable[tuple[str, str]] = ()) -> bytes:
    """A POST as raw bytes."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n{lines}\r\n".encode("latin-1") + body
