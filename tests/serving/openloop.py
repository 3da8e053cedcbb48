"""Users that do not wait for each other: requests at a fixed rate over kept connections, no request is tried twice."""

import asyncio
import json
import random
import threading
import time
from collections import Counter
from typing import Self

from serving.pod import ROW, as_inputs

BODY = json.dumps({"inputs": as_inputs(ROW)}).encode()
HEAD = b"POST /v2/models/flights/infer HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(BODY)


class Connection:
    """One kept connection; `usable` until the server closes it or says that it will."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.leaves = False

    @classmethod
    async def open(cls, host: str, port: int) -> Self:
        return cls(*await asyncio.open_connection(host, port))

    @property
    def usable(self) -> bool:
        return not self.leaves and not self._reader.at_eof() and not self._writer.is_closing()

    async def ask(self, request: bytes) -> int:
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        await self._reader.readexactly(size)
        self.leaves = b"connection: close" in head
        if self.leaves:
            self.close()
        return int(head[9:12])

    def close(self) -> None:
        self._writer.close()


class Users(threading.Thread):
    """Load in a thread. endpoints: ports that are known as ready, changed from outside."""

    def __init__(
        self, endpoints: list[int], rate: float = 300.0, host: str = "127.0.0.1", request: bytes = HEAD + BODY
    ) -> None:
        super().__init__(daemon=True)
        self.endpoints = endpoints
        self.answers: Counter[str] = Counter()
        self.by_port: Counter[int] = Counter()
        self._rate, self._ending = rate, threading.Event()
        self._host, self._request = host, request
        self._idle: dict[int, list[Connection]] = {}
        self._draw = random.Random(3)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self.join(30)

    def run(self) -> None:
        asyncio.run(self._load())

    @property
    def failures(self) -> dict[str, int]:
        return {name: count for name, count in self.answers.items() if name != "200"}

    async def _load(self) -> None:
        running: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while not self._ending.is_set():
            due += 1 / self._rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.ensure_future(self._one(self._draw.choice(self.endpoints)))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.wait_for(asyncio.gather(*running), 20)

    async def _one(self, port: int) -> None:
        idle = self._idle.setdefault(port, [])
        try:
            while idle and not idle[-1].usable:
                idle.pop()
            connection = idle.pop() if idle else await Connection.open(self._host, port)
            status = await connection.ask(self._request)
        except (OSError, EOFError) as error:
            self.answers[type(error).__name__] += 1
            return
        self.answers[str(status)] += 1
        self.by_port[port] += 1
        if connection.usable:
            idle.append(connection)
