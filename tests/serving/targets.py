"""Other versions that misbehave: real HTTP servers on loopback that answer as they are told."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


class Scripted(ThreadingHTTPServer):
    """Answers every POST with `status` and `content`. hang: it reads and never answers. seen: headers of all requests."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, status: int = 500, content: bytes = b"{}", *, hang: bool = False) -> None:
        super().__init__(("127.0.0.1", 0), Scripted.Handler)
        self.status, self.content, self.hang = status, content, hang
        self.seen: list[dict[str, str]] = []
        self.bodies: list[bytes] = []
        self.ended = Event()
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def end(self) -> None:
        self.ended.set()
        self.shutdown()
        self.server_close()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            server: Any = self.server
            body = self.rfile.read(int(self.headers["content-length"]))
            server.bodies.append(body)
            server.seen.append({name.lower(): value for name, value in self.headers.items()})
            if server.hang:
                server.ended.wait()
                return
            self.send_response(server.status)
            self.send_header("content-length", str(len(server.content)))
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(server.content)

        def log_message(self, *_: object) -> None:
            return


@contextmanager
def nothing_there() -> Iterator[str]:
    """URL of a port that refuses connections, and that nobody else takes meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
