"""The split between versions: exact shares, and users who see no error of a failing candidate."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from serving.pod import ROW, Pod, as_inputs, eventually, free_port


@pytest.fixture
def stable(flights: Path) -> Iterator[Pod]:
    with Pod(flights, version="v7") as running:
        yield running.ready()


@pytest.fixture(scope="module")
def candidate(flights: Path) -> Iterator[Pod]:
    with Pod(flights, version="v8") as running:
        yield running.ready()


class Faulty(ThreadingHTTPServer):
    """A candidate that answers every request with one status."""

    status = 500

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Faulty.Handler)
        Thread(target=self.serve_forever, daemon=True).start()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            return


@pytest.fixture
def faulty() -> Iterator[Faulty]:
    server = Faulty()
    yield server
    server.shutdown()
    server.server_close()


def _versions(pod: Pod, requests: int) -> Counter[str]:
    seen: Counter[str] = Counter()
    for _ in range(requests):
        answer = pod.infer(ROW)
        assert answer.status == 200, answer.content
        seen[answer.json["model_version"]] += 1
    return seen


def test_each_block_of_200_holds_the_exact_share(stable: Pod, candidate: Pod) -> None:
    stable.route(epoch=1, target=candidate.url, version="v8", weight=25)
    before = candidate.stats().served.get("candidate")
    for _ in range(2):
        assert _versions(stable, 200) == {"v7": 150, "v8": 50}
    forwards = stable.stats().forwards
    assert (forwards["v7"].ok, forwards["v8"].ok) == (300, 100)
    served = candidate.stats().served["candidate"].requests
    assert served - (before.requests if before else 0) == 100
    assert "v8" not in candidate.stats().forwards

    stable.route(epoch=2, target=candidate.url, version="v8", weight=0)
    assert _versions(stable, 20) == {"v7": 20}


def test_a_request_that_was_forwarded_once_is_answered_where_it_arrives(stable: Pod, candidate: Pod) -> None:
    stable.route(epoch=1, target=candidate.url, version="v8", weight=100)
    headers = {"x-homeostat-hop": "1", "x-homeostat-track": "holdback"}
    assert stable.infer(ROW, headers).json["model_version"] == "v7"
    assert stable.stats().served["holdback"].requests == 1
    assert stable.stats().forwards == {}


def test_a_dead_candidate_is_counted_and_users_see_no_error(stable: Pod) -> None:
    stable.route(epoch=1, target=f"http://127.0.0.1:{free_port()}", version="v8", weight=50)
    assert _versions(stable, 200) == {"v7": 200}
    stats = stable.stats()
    assert (stats.forwards["v7"].ok, stats.forwards["v8"].failed) == (100, 100)
    assert stats.served["fallback"].requests == 100
    eventually(lambda: stable.stats().features.rows == 100, "fallback's rows are in no cell")


@pytest.mark.parametrize(("status", "outcome"), [(500, "failed"), (503, "busy"), (429, "busy"), (404, "failed")])
def test_a_failing_candidate_is_answered_from_here(stable: Pod, faulty: Faulty, status: int, outcome: str) -> None:
    faulty.status = status
    stable.route(epoch=1, target=f"http://127.0.0.1:{faulty.server_port}", version="v8", weight=50)
    assert _versions(stable, 200) == {"v7": 200}
    assert stable.stats().forwards["v8"].model_dump() == {"ok": 0, "failed": 0, "busy": 0, outcome: 100}


def test_a_bad_request_is_nobodys_fault(stable: Pod, candidate: Pod) -> None:
    stable.route(epoch=1, target=candidate.url, version="v8", weight=100)
    assert stable.infer({"distance": [1.0]}).status == 400
    assert stable.stats().forwards["v8"].ok == 1


def test_a_candidate_that_hangs_fails_at_the_deadline(stable: Pod) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = f"http://127.0.0.1:{silent.getsockname()[1]}"
        stable.route(epoch=1, target=target, version="v8", weight=100, deadline_ms=50)
        assert _versions(stable, 3) == {"v7": 3}
        assert stable.stats().forwards["v8"].failed == 3


def test_without_fallback_the_failure_is_answered(stable: Pod) -> None:
    dead = f"http://127.0.0.1:{free_port()}"
    stable.route(epoch=1, target=dead, version="v8", weight=100, fallback=False)
    assert stable.infer(ROW).status == 502


def test_drain_asks_clients_to_leave(stable: Pod, candidate: Pod) -> None:
    stable.route(epoch=1, target=candidate.url, version="v8", weight=50, drain=True)
    assert stable.infer(ROW).headers["connection"] == "close"
    stable.route(epoch=2)
    assert "connection" not in stable.infer(ROW).headers


def test_an_unreadable_route_forwards_nothing(stable: Pod, candidate: Pod) -> None:
    stable.route(epoch=3, target=candidate.url, version="v8", weight=100)
    stable.route_file.write_text("{nonsense")
    eventually(lambda: stable.stats().route_epoch == 0, "the route is gone")
    assert _versions(stable, 5) == {"v7": 5}


def test_a_request_pinned_to_a_version_stays(stable: Pod, candidate: Pod) -> None:
    stable.route(epoch=1, target=candidate.url, version="v8", weight=100)
    body = json.dumps({"inputs": as_inputs(ROW)}).encode()
    answer = stable.send("POST", "/v2/models/flights/versions/v7/infer", body)
    assert answer.json["model_version"] == "v7"
    assert stable.stats().forwards == {}
