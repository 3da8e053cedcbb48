"""`python -m serving.receiver PORT FOLDER`: keeps every event that is posted, as a process of its own.

Each request becomes a file in FOLDER; a file `status` there decides how it is answered, a file `delay` after how long.
"""

import json
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Self

from serving.pod import eventually, free_port


class Receiver:
    """The process, and what it was sent."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.folder, self.port = folder, port or free_port()
        folder.mkdir(exist_ok=True)
        self.url = f"http://127.0.0.1:{self.port}/events"
        command = [sys.executable, "-m", "serving.receiver", str(self.port), str(folder)]
        self.process = subprocess.Popen(command, cwd=Path(__file__).parents[1])

    def __enter__(self) -> Self:
        eventually((self.folder / "listens").exists, "the receiver listens")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def requests(self) -> list[tuple[str, Any]]:
        """Content type and body of each request that was answered 200."""
        files = sorted(self.folder.glob("request-*.json"))
        return [(one["kind"], one["body"]) for one in (json.loads(file.read_text()) for file in files)]

    def events(self) -> list[Any]:
        return [event for _, body in self.requests() for event in (body if isinstance(body, list) else [body])]

    def answers(self, status: int, delay: float = 0.0) -> None:
        (self.folder / "delay").write_text(str(delay))
        (self.folder / "status").write_text(str(status))


def main(port: int, folder: Path) -> None:
    numbers = count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            time.sleep(float(_said("delay", "0")))
            status = int(_said("status", "200"))
            if status == 200:
                new = folder / f".{next(numbers)}"
                new.write_text(json.dumps({"kind": self.headers["content-type"], "body": json.loads(body)}))
                new.rename(folder / f"request-{int(new.name[1:]):06d}.json")
            else:
                (folder / "refused").touch()
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    def _said(name: str, default: str) -> str:
        file = folder / name
        return (file.read_text() if file.exists() else "") or default

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    (folder / "listens").write_text("")
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
