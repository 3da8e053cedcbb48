"""Start, refusal of bad models, and an end that drops nothing."""

import http.client
import json
import shlex
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from serving import models
from serving.openloop import Users
from serving.pod import ROW, Pod, as_inputs, eventually, free_port


def _model(folder: Path, content: bytes) -> Path:
    folder.mkdir()
    (folder / "model.onnx").write_bytes(content)
    return folder


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"this is a pickle, honestly", "NotOnnx"), (b"", "NotOnnx"), (None, "ModelMissing")],
)
def test_what_is_no_model_leaves_the_pod_alive_and_says_why(tmp_path: Path, content: bytes | None, reason: str) -> None:
    folder = _model(tmp_path / "m", content or b"")
    if content is None:
        (folder / "model.onnx").unlink()
    with Pod(folder) as pod:
        eventually(lambda: pod.state() == reason, f"state {reason}")
        assert pod.get("/livez", port=pod.admin).status == 200
        ready = pod.get("/readyz", port=pod.admin)
        assert ready.status == 503
        assert reason in ready.content.decode()
        assert pod.process.poll() is None
        assert pod.stop() == 0


def test_a_cut_off_model_is_refused(tmp_path: Path, flights: Path) -> None:
    whole = (flights / "model.onnx").read_bytes()
    with Pod(_model(tmp_path / "m", whole[: len(whole) // 2])) as pod:
        assert eventually(lambda: pod.state() not in {"", "Loading"} and pod.state(), "a reason") in {
            "NotOnnx",
            "LoadFailed",
        }


def test_a_signature_of_another_model_is_refused(tmp_path: Path, flights: Path) -> None:
    folder = models.numbers_only(tmp_path / "m", 4)
    (folder / "signature.json").write_bytes((flights / "signature.json").read_bytes())
    (folder / "baseline.json").unlink()
    with Pod(folder) as pod:
        eventually(lambda: pod.state() == "LoadFailed", "state LoadFailed")
        assert "inputs are ['input']" in pod.stats().state.message


def test_a_model_above_the_size_cap_is_refused(flights: Path) -> None:
    with Pod(flights, max_model_bytes=100) as pod:
        eventually(lambda: pod.state() == "ModelTooLarge", "state ModelTooLarge")


class Client(threading.Thread):
    """Sends one request after the other over kept connections until the pod closes the last; remembers what failed."""

    def __init__(self, pod: Pod) -> None:
        super().__init__()
        self._pod = pod
        self.stopping = threading.Event()
        self.answered, self.failures = 0, list[str]()

    def run(self) -> None:
        body = json.dumps({"inputs": as_inputs(ROW)})
        connection: http.client.HTTPConnection | None = None
        while not self.stopping.is_set():
            if connection is None:
                connection = http.client.HTTPConnection("127.0.0.1", self._pod.port, timeout=10)
            try:
                connection.request("POST", "/v2/models/flights/infer", body)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                return
            self.answered += 1
            if response.status != 200:
                self.failures.append(str(response.status))
            if response.getheader("connection") == "close":
                connection.close()
                connection = None
                if self.stopping.is_set() or self._pod_leaves():
                    return

    def _pod_leaves(self) -> bool:
        """After the lame duck time nobody is sent here any more."""
        return True


def test_sigterm_drops_no_request(flights: Path) -> None:
    with Pod(flights, workers=2, lame_duck=1.0) as pod:
        pod.ready()
        clients = [Client(pod) for _ in range(8)]
        for client in clients:
            client.start()
        eventually(lambda: all(c.answered > 20 for c in clients), "clients are at work")
        pod.process.send_signal(signal.SIGTERM)
        eventually(lambda: pod.get("/readyz", port=pod.admin).status == 503, "not ready")
        at_not_ready = [c.answered for c in clients]
        for client in clients:
            client.join(20)
        assert pod.process.wait(20) == 0
        assert [c.failures for c in clients] == [[]] * 8
        assert all(c.answered > before for c, before in zip(clients, at_not_ready, strict=True))


def test_a_port_in_use_is_named(pod: Pod, flights: Path) -> None:
    other = Pod(flights, admin_port=pod.admin)
    assert other.process.wait(20) == 1


def test_the_end_of_a_pod_drops_nothing_of_an_open_loop_with_a_stale_view_of_endpoints(flights: Path) -> None:
    with Pod(flights, workers=2, lame_duck=1.5) as ending, Pod(flights, version="v8", workers=1) as staying:
        ending.ready()
        staying.ready()
        with Users([ending.port, staying.port]) as users:
            eventually(lambda: users.by_port[ending.port] > 300, "requests come to the pod")
            ending.process.send_signal(signal.SIGTERM)
            eventually(lambda: ending.state() == "Draining", "it leaves")
            told = users.by_port[ending.port]
            eventually(lambda: users.by_port[ending.port] > told + 100, "it serves on: the view is stale")
            users.endpoints = [staying.port]
            assert ending.process.wait(20) == 0
            after = users.by_port[staying.port]
            eventually(lambda: users.by_port[staying.port] > after + 100, "the other one has all")
        assert users.failures == {}


def test_a_model_by_itself_is_served_on_loopback_and_its_addresses_are_said(flights: Path, tmp_path: Path) -> None:
    alone = tmp_path / "mine.onnx"
    alone.write_bytes((flights / "model.onnx").read_bytes())
    port, admin, grpc = free_port(), free_port(), free_port()
    command = [sys.executable, "-m", "homeostat", "serve", str(alone), "--port", str(port), "--admin-port", str(admin)]
    command += ["--grpc-port", str(grpc)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        said = dict(line.split() for line in iter(process.stdout.readline, "\n"))
        assert said == {
            "page": f"http://127.0.0.1:{port}/",
            "model": f"http://127.0.0.1:{port}/v2/models/model",
            "gRPC": f"127.0.0.1:{grpc}",
            "metrics": f"http://127.0.0.1:{admin}/metrics",
        }
        command = shlex.split(process.stdout.readline())
        tried = subprocess.run([*command, "--silent", "--fail"], capture_output=True, check=True, timeout=30)
        assert json.loads(tried.stdout)["outputs"]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.request("GET", "/v2/models/model")
        assert connection.getresponse().status == 200
        connection.close()
        with pytest.raises(OSError), socket.create_connection((own_address(), port), timeout=2):
            pass
        process.send_signal(signal.SIGINT)
        _, progress = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert progress.splitlines()[0].startswith(f"checking {alone} (")
    assert "ready after" in progress


def test_a_model_by_itself_that_cannot_be_served_ends_the_command_and_says_why(tmp_path: Path) -> None:
    alone = tmp_path / "mine.onnx"
    alone.write_bytes(b"this is a pickle, honestly")
    command = [sys.executable, "-m", "homeostat", "serve", str(alone)]
    for port in ("--port", "--admin-port", "--grpc-port"):
        command += [port, str(free_port())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "not ready: NotOnnx: mine.onnx is not a valid ONNX model" in done.stderr


def own_address() -> str:
    """An address of this machine that is not loopback; without one, one that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return str(probe.getsockname()[0])
