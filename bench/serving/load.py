"""Load generator: `python load.py PORT PATH CONNECTIONS SECONDS BODY_FILE` prints JSON {requests, failed, seconds, p50, p99}.

Closed loop, one request in flight per connection, raw protocol on uvloop: as little work per request as Python allows.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import uvloop


class Client(asyncio.Protocol):
    def __init__(self, request: bytes, end: float) -> None:
        self.request, self.end = request, end
        self.times: list[float] = []
        self.failed = 0
        self.left = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        data = self.left + data if self.left else data
        head = data.find(b"\r\n\r\n")
        if head < 0 or len(data) < head + 4 + _length(data, head):
            self.left = data
            return
        self.left = b""
        now = time.perf_counter()
        self.times.append(now - self.sent)
        if not data.startswith(b"HTTP/1.1 200"):
            self.failed += 1
        if now < self.end:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, _exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


def _length(data: bytes, head: int) -> int:
    start = data.find(b"content-length: ", 0, head) + 16
    return int(data[start : data.find(b"\r", start)])


async def main(port: int, path: str, connections: int, seconds: float, body: bytes) -> None:
    request = b"POST %b HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
        path.encode(),
        len(body),
        body,
    )
    loop, begun = asyncio.get_running_loop(), time.perf_counter()
    clients = [Client(request, begun + seconds) for _ in range(connections)]
    for client in clients:
        await loop.create_connection(lambda c=client: c, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(c.done for c in clients))
    times = sorted(t for c in clients for t in c.times)
    print(
        json.dumps(
            {
                "requests": len(times),
                "failed": sum(c.failed for c in clients),
                "seconds": time.perf_counter() - begun,
                "p50": times[len(times) // 2],
                "p99": times[len(times) * 99 // 100],
            }
        )
    )


if __name__ == "__main__":
    words = sys.argv[1:]
    uvloop.run(main(int(words[0]), words[1], int(words[2]), float(words[3]), Path(words[4]).read_bytes()))
