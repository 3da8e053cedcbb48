"""`python -m serving.collector PORT FOLDER`: takes spans over OTLP/HTTP in protobuf, as a process of its own."""

import subprocess
import sys
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, Self

from serving.pod import eventually, free_port


@dataclass(frozen=True)
class Span:
    trace: str
    id: str
    parent: str
    name: str
    kind: int
    service: str
    attributes: dict[str, Any]
    events: list[str]
    failed: bool
    seconds: float


class Collector:
    """The process, and what it was sent. It refuses all while there is a file `full` in its folder."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir(exist_ok=True)
        self.url = f"http://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "serving.collector", str(self.port), str(folder)]
        self.process = subprocess.Popen(command, cwd=Path(__file__).parents[1])

    def __enter__(self) -> Self:
        eventually((self.folder / "listens").exists, "the collector listens")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def spans(self) -> list[Span]:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        found = []
        for file in sorted(self.folder.glob("request-*")):
            request = ExportTraceServiceRequest.FromString(file.read_bytes())
            for resource in request.resource_spans:
                service = _attributes(resource.resource.attributes)["service.name"]
                found += [_span(one, service) for scope in resource.scope_spans for one in scope.spans]
        return found

    def of(self, trace: str) -> list[Span]:
        return [span for span in self.spans() if span.trace == trace]


def _span(one: Any, service: str) -> Span:
    return Span(
        trace=one.trace_id.hex(),
        id=one.span_id.hex(),
        parent=one.parent_span_id.hex(),
        name=one.name,
        kind=one.kind,
        service=service,
        attributes=_attributes(one.attributes),
        events=[event.name for event in one.events],
        failed=one.status.code == 2,
        seconds=(one.end_time_unix_nano - one.start_time_unix_nano) / 1e9,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


def main(port: int, folder: Path) -> None:
    numbers = count()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            right = self.path == "/v1/traces" and self.headers["content-type"] == "application/x-protobuf"
            full = (folder / "full").exists()
            if right and not full:
                new = folder / f".{next(numbers)}"
                new.write_bytes(body)
                new.rename(folder / f"request-{int(new.name[1:]):06d}")
            self.send_response(400 if full or not right else 200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    (folder / "listens").write_text("")
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
