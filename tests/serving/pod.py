"""A real server on loopback: `homeostat serve` as a process, and a plain HTTP client for it."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from homeostat.api.wire.route import Route
from homeostat.api.wire.stats import PodStats

DEADLINE = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(holds: Callable[[], Any], what: str, deadline: float = DEADLINE) -> Any:
    """Wait until `holds()` is true and return it."""
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {deadline:g} s: {what}")


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def ids(self) -> list[str]:
        return self.json["parameters"]["prediction_ids"].split(",")

    def output(self, name: str) -> Any:
        return next(o["data"] for o in self.json["outputs"] if o["name"] == name)


class Pod:
    """One pod of a version. Options become flags of `homeostat serve`."""

    def __init__(
        self,
        folder: Path,
        name: str = "flights",
        version: str = "v7",
        uid: str = "uid-1",
        more: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        self.name, self.version = name, version
        self.port, self.grpc, self.admin = free_port(), free_port(), free_port()
        self.route_file = folder.parent / f"{version}-{self.port}.route"
        self.route_file.write_text("")
        flags = [
            f"--{k.replace('_', '-')}={v}" for k, v in {"lame_duck": 0.3, "drain": 5, "workers": 1, **options}.items()
        ]
        command = [sys.executable, "-m", "homeostat", "serve", "--model-dir", str(folder), "--name", name]
        command += ["--version", version, "--deployment-uid", uid, "--host", "127.0.0.1", "--port", str(self.port)]
        command += [
            "--grpc-port",
            str(self.grpc),
            "--admin-port",
            str(self.admin),
            "--route-file",
            str(self.route_file),
            *flags,
            *more,
        ]
        self.process = subprocess.Popen(command)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE)
        finally:
            self.process.kill()

    def ready(self) -> "Pod":
        eventually(lambda: self._admin("/readyz").status == 200, "the pod is ready")
        return self

    def _admin(self, path: str) -> Answer:
        try:
            return self.get(path, port=self.admin)
        except OSError:
            return Answer(0, {}, b"")

    def get(self, path: str, port: int = 0, headers: dict[str, str] | None = None) -> Answer:
        return self.send("GET", path, None, headers or {}, port)

    def send(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str] | None = None, port: int = 0
    ) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=DEADLINE)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def infer(self, columns: Any = None, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        """columns: name to values, or the `inputs` themselves."""
        inputs = as_inputs(columns) if isinstance(columns, dict) else columns
        body = json.dumps({"inputs": inputs, **more}).encode()
        return self.send("POST", f"/v2/models/{self.name}/infer", body, headers)

    def feedback(self, body: Any) -> Answer:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("POST", "/feedback", content)

    def stats(self) -> PodStats:
        return PodStats.model_validate_json(self.get("/stats", port=self.admin).content)

    def state(self) -> str:
        answer = self._admin("/stats")
        return PodStats.model_validate_json(answer.content).state.reason if answer.status == 200 else ""

    def route(self, **fields: Any) -> None:
        """Write a route as the kubelet does (a new file takes the place of the old one) and wait until it is applied."""
        route = Route(**fields)
        new = self.route_file.with_suffix(".new")
        new.write_text(route.to_text())
        new.replace(self.route_file)
        eventually(lambda: self.stats().route_epoch == route.epoch, f"route epoch {route.epoch} is applied")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def workers(self) -> list[int]:
        text = subprocess.run(
            ["pgrep", "-P", str(self.process.pid), "-f", "homeostat.server.worker"],
            capture_output=True,
            text=True,
            check=False,
        ).stdout
        return [int(line) for line in text.split()]


def as_inputs(columns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "shape": [len(values)],
            "datatype": "BYTES" if any(isinstance(v, str) for v in values) else "FP32",
            "data": values,
        }
        for name, values in columns.items()
    ]


ROW: dict[str, list[Any]] = {"distance": [0.5], "hour": [1.0], "origin": ["JFK"]}
