"""An HTTP/2 client that does what it is told, right or wrong, and the echo server that it talks to."""

import json
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from hpack import Decoder, Encoder

from homeostat.server.transport import http2_frames as h2
from serving.pod import DEADLINE, eventually, free_port

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"


class Echo:
    """The echo server as a process."""

    def __init__(self, **limits: Any) -> None:
        self.port = free_port()
        command = [sys.executable, str(Path(__file__).parent / "grpc_echo.py"), str(self.port), json.dumps(limits)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)

    def __enter__(self) -> Self:
        eventually(self._listens, "the echo server listens")
        return self

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def tell(self, what: signal.Signals) -> None:
        self.process.send_signal(what)

    def left(self) -> dict[str, int]:
        """Ends gracefully: what it still held of its clients'."""
        self.tell(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=DEADLINE)
        return json.loads(out)


@dataclass
class Heard:
    """What was said on one stream so far."""

    pairs: dict[str, str] = field(default_factory=dict)
    data: bytes = b""
    ended: bool = False


class Raw:
    """One connection. Frames go out as they are given."""

    def __init__(self, port: int, *, greet: bool = True, settings: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.heard: dict[int, Heard] = {}
        self.encoder, self.decoder = Encoder(), Decoder()
        self.left = b""
        if greet:
            self.raw(h2.PREFACE)
            self.send(h2.SETTINGS, 0, 0, settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def raw(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send(self, kind: int, flags: int, stream: int, payload: bytes = b"") -> None:
        self.raw(h2.frame(kind, flags, stream, payload))

    def block(self, path: str = INFER, *more: tuple[str, str]) -> bytes:
        pairs = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers")]
        return self.encoder.encode([*pairs, ("content-type", "application/grpc"), *more])

    def open(self, stream: int, path: str = INFER, *more: tuple[str, str]) -> None:
        self.send(h2.HEADERS, h2.END_HEADERS, stream, self.block(path, *more))

    def ask(self, stream: int, message: bytes, *more: tuple[str, str]) -> None:
        self.open(stream, INFER, *more)
        self.send(h2.DATA, h2.END_STREAM, stream, framed(message))

    def frame(self) -> tuple[int, int, int, bytes] | None:
        """The next frame; None at the connection's end."""
        while len(self.left) < 9 or len(self.left) < 9 + int.from_bytes(self.left[:3], "big"):
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionResetError:
                return None
            if not data:
                return None
            self.left += data
        word, flags, stream = h2.FRAME.unpack_from(self.left)
        end = 9 + (word >> 8)
        payload, self.left = self.left[9:end], self.left[end:]
        if word & 255 in {h2.HEADERS, h2.DATA}:
            heard = self.heard.setdefault(stream, Heard())
            if word & 255 == h2.HEADERS:
                heard.pairs.update(self.decoder.decode(payload))
            else:
                heard.data += payload
            heard.ended = bool(flags & h2.END_STREAM)
        return word & 255, flags, stream, payload

    def until(self, *kinds: int) -> tuple[int, int, int, bytes]:
        """The next frame of such a kind."""
        while (found := self.frame()) is not None:
            if found[0] in kinds:
                return found
        raise AssertionError(f"the connection ended before a frame of kind {kinds}")

    def goaway(self) -> int:
        """The code of the next GOAWAY, after which the connection ends."""
        code = h2.PAIR.unpack_from(self.until(h2.GOAWAY)[3])[1]
        while self.frame() is not None:
            pass
        return code

    def reset(self) -> tuple[int, int]:
        """Stream and code of the next RST_STREAM."""
        _, _, stream, payload = self.until(h2.RST_STREAM)
        return stream, h2.WORD.unpack(payload)[0]

    def answer(self, stream: int) -> tuple[dict[str, str], bytes]:
        """All headers and trailers of one stream, and its data."""
        while not (heard := self.heard.setdefault(stream, Heard())).ended:
            if self.frame() is None:
                raise AssertionError(f"the connection ended before stream {stream}")
        return heard.pairs, heard.data


def framed(message: bytes) -> bytes:
    return b"\x00" + len(message).to_bytes(4, "big") + message
