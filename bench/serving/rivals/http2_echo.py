"""A bare gRPC echo on uvloop that reads frames and no header: what HTTP/2 costs at least. `python -m … PORT`."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Final

import uvloop
from bench.serving.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    split,
)

PREFACE: Final = len(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
HEAD: Final = b"\x88\x0f\x10\x10application/grpc"  # :status 200; content-type, not to be remembered
TRAILER: Final = b"\x00\x0bgrpc-status\x010"
WINDOW: Final = 1 << 15


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.skip, self.left, self.taken = PREFACE, b"", 0
        self.messages: dict[int, bytes] = {}
        transport.write(frame(SETTINGS, 0, 0, b""))

    def data_received(self, data: bytes) -> None:
        data = self.left + data
        if self.skip:
            if len(data) < self.skip:
                self.left = data
                return
            data, self.skip = data[self.skip :], 0
        frames, self.left = split(data)
        out = []
        for kind, flags, stream, content in frames:
            if kind == DATA:
                self.taken += len(content)
                message = self.messages.pop(stream, b"") + content
                if flags & END_STREAM:
                    out.append(frame(HEADERS, END_HEADERS, stream, HEAD) + frame(DATA, 0, stream, message))
                    out.append(frame(HEADERS, END_HEADERS | END_STREAM, stream, TRAILER))
                else:
                    self.messages[stream] = message
            elif kind in {SETTINGS, PING} and not flags & ACK:
                out.append(frame(kind, ACK, 0, content if kind == PING else b""))
        if self.taken > WINDOW:
            out.append(frame(WINDOW_UPDATE, 0, 0, self.taken.to_bytes(4, "big")))
            self.taken = 0
        self.transport.write(b"".join(out))


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
