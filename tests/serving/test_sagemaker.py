"""The container contract of SageMaker: the argument `serve`, the model below /opt/ml/model, /ping and /invocations."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.pod import DEADLINE, eventually

ROWS: list[list[Any]] = [[0.5, 1.0, "JFK"], [-2.0, None, "EWR"], [3, 0.25, ""]]
EXPECTED = [True, False, True]
NAMED = b"distance,hour,origin\n0.5,1.0,JFK\n-2.0,,EWR\n3,0.25,\n"
BARE = b"0.5,JFK,1.0\n-2.0,EWR,\n3,,0.25\n"  # as the signature has the columns
# A mount namespace of its own shows the model where SageMaker puts it: nothing is written to the machine's /opt.
START = """
set -e
mount --make-rprivate /
mount --rbind /opt "$1"
mount -t tmpfs none /opt
for kept in "$1"/*/; do
  if [ -d "$kept" ]; then mkdir "/opt/$(basename "$kept")"; mount --rbind "$kept" "/opt/$(basename "$kept")"; fi
done
mkdir -p /opt/ml/model
mount --bind -o ro "$2" /opt/ml/model
shift 2
exec "$@"
"""
NAMESPACE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]


class Container:
    """`docker run IMAGE serve`, without the image: the same command with the same files and environment."""

    def __init__(self, model: Path, aside: Path, ports: range) -> None:
        self.port = ports[0]
        environment = {
            "SAGEMAKER_BIND_TO_PORT": str(ports[0]),
            "SAGEMAKER_SAFE_PORT_RANGE": f"{ports[0]}-{ports[-1]}",
            "SAGEMAKER_REGION": "eu-central-1",
        }
        command = [
            *NAMESPACE,
            "sh",
            "-c",
            START,
            "sh",
            str(aside),
            str(model),
            sys.executable,
            "-m",
            "homeostat",
            "serve",
        ]
        self.process = subprocess.Popen(command, env={**os.environ, **environment})

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, str, str]:
        """Status, content type and body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.headers["content-type"], answer.read().decode()
        finally:
            connection.close()

    def pings(self) -> bool:
        """Whether the platform would send requests."""
        assert self.process.poll() is None, "the container ended"
        try:
            return self.ask("GET", "/ping")[0] == 200
        except OSError:
            return False


def free_range(size: int) -> range:
    """Ports in a row that nobody listens on."""
    for first in range(21000, 30000, size):
        sockets = []
        try:
            for port in range(first, first + size):
                sockets.append(socket.socket())
                sockets[-1].bind(("0.0.0.0", port))
        except OSError:
            continue
        else:
            return range(first, first + size)
        finally:
            for one in sockets:
                one.close()
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def container(flights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    if subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no mount namespace to this user")
    running = Container(flights, tmp_path_factory.mktemp("aside"), free_range(4))
    try:
        eventually(running.pings, "the container answers /ping")
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def test_json_and_csv_are_predicted(container: Container) -> None:
    records = [dict(zip(("distance", "hour", "origin"), row, strict=True)) for row in ROWS]
    status, kind, body = container.ask(
        "POST", "/invocations", json.dumps({"instances": records}).encode(), content_type="application/json"
    )
    assert (status, kind) == (200, "application/json")
    assert json.loads(body)["predictions"] == EXPECTED
    for lines in (NAMED, BARE):
        status, kind, body = container.ask("POST", "/invocations", lines, content_type="text/csv", accept="text/csv")
        assert (status, kind, body) == (200, "text/csv", "true\nfalse\ntrue\n")
        status, kind, body = container.ask("POST", "/invocations", lines, content_type="text/csv", accept="*/*")
        assert (status, json.loads(body)["predictions"]) == (200, EXPECTED)


def test_what_is_wrong_is_said_with_a_client_error(container: Container) -> None:
    status, _, body = container.ask("POST", "/invocations", b"1,JFK,x\n", content_type="text/csv")
    assert status == 400
    assert json.loads(body)["error"] == "row 0, column 'hour': expected a number, got string 'x'"


def test_further_ports_are_those_that_the_platform_leaves_to_the_container(container: Container) -> None:
    """Containers of one endpoint share a host: none may take 8081 or 8082."""
    for port in (container.port + 1, container.port + 2):
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE):
            pass


def test_it_ends_by_itself_when_the_platform_stops_it(flights: Path, tmp_path: Path, container: Container) -> None:
    stopped = Container(flights, tmp_path, free_range(4))
    eventually(stopped.pings, "the container answers /ping")
    stopped.process.send_signal(signal.SIGTERM)
    assert stopped.process.wait(DEADLINE) == 0
    assert not any(tmp_path.iterdir())
    assert not Path("/opt/ml/model").exists()


def test_the_image_runs_as_the_contract_starts_it() -> None:
    """`docker run IMAGE serve`: the argument goes to the entry point."""
    stages = (Path(__file__).resolve().parents[2] / "Dockerfile").read_text().split("\nFROM ")
    server = next(stage for stage in stages if stage.startswith("server-libraries AS server"))
    assert 'ENTRYPOINT ["homeostat"]\nCMD ["serve"]' in server
    assert "LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true" in server
