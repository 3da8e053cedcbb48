"""Bounds: every one of them answers with JSON and a status that says which."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from serving.pod import ROW, Pod, as_inputs, eventually


@pytest.fixture(scope="module")
def narrow(flights: Path) -> Iterator[Pod]:
    bounds = {"max_queue_rows": 8, "max_latency": 0.3, "max_body": 50_000, "header_seconds": 1, "body_seconds": 1}
    with Pod(flights, **bounds, max_connections=40) as running:
        yield running.ready()


def _raw(pod: Pod, request: bytes) -> tuple[bytes, bytes]:
    """Status and body of the last answer before the server closes."""
    with socket.create_connection(("127.0.0.1", pod.port), 10) as client:
        client.sendall(request)
        text = b"".join(iter(lambda: client.recv(65536), b""))
    head, _, body = text.rpartition(b"\r\n\r\n")
    return head.split()[1] if head else b"", body


HEAD = b"POST /v2/models/flights/infer HTTP/1.1\r\nhost: x\r\n"


def test_a_full_queue_answers_429_with_retry_after(narrow: Pod) -> None:
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda _: narrow.infer(ROW), range(20)))
    codes = sorted(a.status for a in answers)
    assert set(codes) == {200, 429}
    refused = next(a for a in answers if a.status == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert "try again" in refused.json["error"]


def test_more_rows_than_the_queue_takes_answer_413(narrow: Pod) -> None:
    answer = narrow.infer({k: v * 9 for k, v in ROW.items()})
    assert answer.status == 413
    assert "9 rows" in answer.json["error"]


def test_a_large_body_is_refused_before_it_is_read(narrow: Pod) -> None:
    status, body = _raw(narrow, HEAD + b"content-length: 60000\r\n\r\n")
    assert status == b"413"
    assert "50000" in json.loads(body)["error"]
    chunk = b"ea60\r\n" + b"x" * 60000 + b"\r\n0\r\n\r\n"
    assert _raw(narrow, HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunk)[0] == b"413"


@pytest.mark.parametrize("lines", [b"a: " + b"x" * 20000 + b"\r\n\r\n", b"a: b\r\n" * 4000, b"a" * 20000])
def test_a_long_header_is_refused(narrow: Pod, lines: bytes) -> None:
    assert _raw(narrow, HEAD + lines)[0] == b"431"


def test_slow_requests_are_refused(narrow: Pod) -> None:
    assert _raw(narrow, HEAD)[0] == b"408"
    assert _raw(narrow, HEAD + b"content-length: 10\r\n\r\nabc")[0] == b"408"


@pytest.mark.parametrize(
    "request_",
    [
        HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
        HEAD + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: +5\r\n\r\nabcde",
        HEAD + b"transfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
        HEAD + b"a: b\r\n folded: c\r\n\r\n",
        HEAD + b"bad header\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00 hello",
        HEAD + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ],
)
def test_malformed_http_is_answered_400_and_closed(narrow: Pod, request_: bytes) -> None:
    status, body = _raw(narrow, request_)
    assert status == b"400"
    assert "error" in json.loads(body)


def test_expect_continue_is_answered(narrow: Pod) -> None:
    body = json.dumps({"inputs": as_inputs(ROW)}).encode()
    with socket.create_connection(("127.0.0.1", narrow.port), 10) as client:
        client.sendall(HEAD + b"expect: 100-continue\r\ncontent-length: %d\r\n\r\n" % len(body))
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(body)
        assert client.recv(100).startswith(b"HTTP/1.1 200 ")


def test_too_many_connections_are_refused(narrow: Pod) -> None:
    held = [socket.create_connection(("127.0.0.1", narrow.port), 10) for _ in range(40)]
    try:
        assert _raw(narrow, b"")[0] == b"503"
    finally:
        for connection in held:
            connection.close()


def test_a_client_that_never_reads_is_dropped(narrow: Pod) -> None:
    with socket.create_connection(("127.0.0.1", narrow.port), 10) as client:
        client.settimeout(0.2)

        def dropped() -> bool:
            with suppress(TimeoutError):
                try:
                    client.sendall(b"GET /v2/models/flights HTTP/1.1\r\nhost: x\r\n\r\n" * 1000)
                except ConnectionError:
                    return True
            return False

        eventually(dropped, "the connection is closed", 15)


CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"


def test_trailers_are_bounded_and_decide_nothing(narrow: Pod) -> None:
    assert _raw(narrow, CHUNKED + b"0\r\n" + b"a: b\r\n" * 4000)[0] == b"431"
    body = json.dumps({"inputs": as_inputs(ROW)}).encode()
    end = b"0\r\nx-homeostat-hop: 1\r\ncontent-encoding: gzip\r\n\r\n"
    request = CHUNKED.replace(b"host", b"connection: close\r\nhost")
    assert _raw(narrow, request + b"%x\r\n%b\r\n" % (len(body), body) + end)[0] == b"200"


def test_a_long_header_behind_another_request_is_refused(narrow: Pod) -> None:
    first = b"GET /v2 HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = _raw(narrow, first + first[:-2] + b"a: " + b"x" * 20000 + b"\r\n\r\n")[1]
    assert "the header is larger" in json.loads(answer)["error"]


def test_an_offer_of_http_2_is_ignored(narrow: Pod) -> None:
    offer = b"GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"
    last = b"GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", narrow.port), 10) as client:
        client.sendall(offer * 2 + last)
        text = b"".join(iter(lambda: client.recv(65536), b""))
    assert (text.count(b"HTTP/1.1 200 "), text.count(b"HTTP/1.1 ")) == (3, 3)


def test_many_objects_are_refused_but_braces_in_strings_are_not(narrow: Pod) -> None:
    assert "too many objects" in narrow.infer([{} for _ in range(80)]).json["error"]
    assert narrow.infer(ROW | {"origin": ['{"\\{' * 100]}).status == 200


def test_bodies_share_a_budget(flights: Path) -> None:
    big = b"content-length: 16000000\r\n\r\n" + b"x" * 15_900_000
    with Pod(flights) as pod, ExitStack() as held:
        pod.ready()
        for _ in range(4):
            held.enter_context(socket.create_connection(("127.0.0.1", pod.port), 10)).sendall(HEAD + big)
        assert pod.send("POST", "/v2/models/flights/infer", b"x" * 4_000_000).status == 503
        held.close()
        eventually(lambda: pod.infer(ROW).status == 200, "the budget is free again")


def test_what_is_refused_before_a_request_is_whole_is_counted(flights: Path) -> None:
    with Pod(flights, workers=1, max_body=1000) as pod:
        pod.ready()
        _raw(pod, HEAD + b"content-length: 60000\r\n\r\n")
        _raw(pod, HEAD + b"a: " + b"x" * 20000 + b"\r\n\r\n")
        _raw(pod, b"nonsense\r\n\r\n")
        metrics = pod.get("/metrics", port=pod.admin).content.decode()
        for reason in ("body", "header", "malformed"):
            assert f'reason="{reason}"}} 1' in metrics
