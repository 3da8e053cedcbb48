"""Start, refusal of bad models, and an end that drops nothing."""

import http.client
import json
import signal
import threading
from pathlib import Path

import pytest

from serving import models
from serving.pod import ROW, Pod, as_inputs, eventually


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
