"""Load generator, one for all servers: `python -m bench.serving.load CONFIG` prints a summary as JSON.

It sends ready-made requests from a file, in turn, over raw sockets on uvloop: as little work per request as Python allows.
CONFIG (JSON): protocol `http` or `grpc`; port; requests (file of `wire.pack`); connections; streams (gRPC, per connection);
then seconds for a closed loop (one request in flight per connection or stream), or schedule [[requests a second,
seconds], …] for an open one over `ready` connections that are there from the begin, and more when these are busy;
its latencies count from when a request was due and go to the file `records`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import struct
import sys
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import uvloop

OK: Final = 200
LOST: Final = 0  # the status of a request whose connection ended before its answer, or that got none in time
PATIENCE: Final = 10.0  # seconds that an open loop waits for answers after its last request


class Tally:
    """What became of the requests: due or sent, seconds, status of each."""

    def __init__(self) -> None:
        self.records = array("d")
        self.reconnects = 0

    def add(self, begun: float, took: float, status: int) -> None:
        self.records.extend((begun, took, status))

    def summary(self, seconds: float) -> dict[str, Any]:
        took, status = self.records[1::3], self.records[2::3]
        served = sorted(t for t, s in zip(took, status, strict=True) if s == OK)
        counts = Counter(int(s) for s in status)
        return {
            "requests": len(served),
            "failed": len(status) - len(served),
            "statuses": {str(k): v for k, v in sorted(counts.items())},
            "seconds": seconds,
            "reconnects": self.reconnects,
            "p50": served[len(served) // 2] if served else None,
            "p99": served[len(served) * 99 // 100] if served else None,
        }


class Client(asyncio.Protocol):
    """One HTTP/1.1 connection with at most one request in flight. `answered(client, status, keep)` hears of each end."""

    def __init__(self, answered: Callable[[Client, int, bool], None], made: Callable[[Client], None]) -> None:
        self._answered, self._made = answered, made
        self._left = b""
        self.transport: Any = None
        self.waiting = False
        self.begun = 0.0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._made(self)

    def send(self, request: bytes, begun: float) -> None:
        self.begun, self.waiting = begun, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        data = self._left + data if self._left else data
        head = data.find(b"\r\n\r\n")
        if head < 0 or len(data) < head + 4 + _length(data, head):
            self._left = data
            return
        self._left = b""
        self.waiting = False
        closing = data.find(b"onnection: close", 0, head) > 0
        self._answered(self, int(data[9:12]), not closing)

    def connection_lost(self, _exc: Exception | None) -> None:
        if self.waiting:
            self.waiting = False
            self._answered(self, LOST, False)
        else:
            self._answered(self, -1, False)


def _length(data: bytes, head: int) -> int:
    start = data.find(b"content-length: ", 0, head)
    if start < 0:
        start = data[:head].lower().find(b"content-length: ")
        if start < 0:
            raise SystemExit(f"an answer without content-length: {data[:head]!r}")
    return int(data[start + 16 : data.find(b"\r", start)])


class Closed:
    """A closed loop: every connection sends its next request when the last one is answered."""

    def __init__(self, config: dict[str, Any], requests: list[bytes], tally: Tally) -> None:
        self._config, self._tally = config, tally
        self._next = itertools.cycle(requests).__next__
        self._loop = asyncio.get_running_loop()
        self._open = config["connections"]
        self._tasks: set[asyncio.Task[None]] = set()
        self._done = self._loop.create_future()
        self._end = 0.0

    async def run(self) -> None:
        self._end = time.perf_counter() + self._config["seconds"]
        await asyncio.gather(*(self._connect() for _ in range(self._open)))
        await self._done

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(
                lambda: Client(self._answered, self._send), "127.0.0.1", self._config["port"]
            )
        except OSError:
            self._tally.add(time.perf_counter(), 0.0, LOST)
            self._close()

    def _send(self, client: Client) -> None:
        client.send(self._next(), time.perf_counter())

    def _answered(self, client: Client, status: int, keep: bool) -> None:
        now = time.perf_counter()
        if status >= 0:
            self._tally.records.extend((client.begun, now - client.begun, status))
        if now < self._end and keep:
            client.send(self._next(), now)
        elif keep or not client.transport.is_closing():
            client.transport.close()
        elif now < self._end:
            self._again()
        else:
            self._close()

    def _close(self) -> None:
        self._open -= 1
        if not self._open and not self._done.done():
            self._done.set_result(None)

    def _again(self) -> None:
        self._tally.reconnects += 1
        task = self._loop.create_task(self._connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Open:
    """An open loop: requests leave when they are due, over whatever connection is free, or over a new one."""

    def __init__(self, config: dict[str, Any], requests: list[bytes], tally: Tally) -> None:
        self._config, self._tally = config, tally
        self._next = itertools.cycle(requests).__next__
        self._loop = asyncio.get_running_loop()
        self._idle: list[Client] = []
        self._all: set[Client] = set()
        self._due: deque[float] = deque()
        self._opened = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self._opened = self._config["ready"]
        await asyncio.gather(*(self._connect() for _ in range(self._opened)))
        begin = end = time.perf_counter()
        for rate, seconds in self._config["schedule"]:
            sent, end = 0, begin + seconds
            while (now := time.perf_counter()) < end:
                wanted = int((now - begin) * rate)
                for number in range(sent, wanted):
                    self._issue(begin + number / rate)
                sent = max(sent, wanted)
                await asyncio.sleep(0.001)
            begin = end
        end += PATIENCE
        while (self._due or len(self._idle) < self._opened) and time.perf_counter() < end:  # noqa: ASYNC110 - or the clock ends it
            await asyncio.sleep(0.01)
        now = time.perf_counter()
        for due in (*self._due, *(c.begun for c in self._all if c.waiting)):
            self._tally.add(due, now - due, LOST)

    def _issue(self, due: float) -> None:
        while self._idle:
            client = self._idle.pop()
            if not client.transport.is_closing():
                client.send(self._next(), due)
                return
        self._due.append(due)
        if self._opened < self._config["connections"]:
            self._opened += 1
            task = self._loop.create_task(self._connect())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        try:
            await self._loop.create_connection(
                lambda: Client(self._answered, self._free), "127.0.0.1", self._config["port"]
            )
        except OSError:
            self._opened -= 1
            if self._due:
                self._tally.add(self._due.popleft(), 0.0, LOST)

    def _free(self, client: Client) -> None:
        self._all.add(client)
        if self._due:
            client.send(self._next(), self._due.popleft())
        else:
            self._idle.append(client)

    def _answered(self, client: Client, status: int, keep: bool) -> None:
        if status >= 0:
            self._tally.add(client.begun, time.perf_counter() - client.begun, status)
        if keep:
            self._free(client)
        elif not client.transport.is_closing():
            client.transport.close()
        else:
            self._opened -= 1
            self._all.discard(client)
            self._tally.reconnects += 1
            if client in self._idle:
                self._idle.remove(client)


def unpack(content: bytes) -> list[bytes]:
    """The reverse of `wire.pack`."""
    found, at = [], 0
    while at < len(content):
        (size,) = struct.unpack_from(">I", content, at)
        found.append(content[at + 4 : at + 4 + size])
        at += 4 + size
    return found


async def run(config: dict[str, Any], requests: list[bytes], tally: Tally) -> None:
    """Send until the time is over and all is answered."""
    if config["protocol"] == "grpc":
        from bench.serving.http2 import Streams

        await Streams(config, requests, tally).run()
    elif "schedule" in config:
        await Open(config, requests, tally).run()
    else:
        await Closed(config, requests, tally).run()


def main(config: dict[str, Any]) -> None:
    tally, begun = Tally(), time.perf_counter()
    uvloop.run(run(config, unpack(Path(config["requests"]).read_bytes()), tally))
    if "records" in config:
        with Path(config["records"]).open("wb") as file:
            tally.records.tofile(file)
    print(json.dumps(tally.summary(time.perf_counter() - begun)))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
