"""Request smuggling: bytes that two servers could read as different requests are refused, once, and the connection is closed."""

import json
import re
import socket

import pytest

from serving.pod import ROW, Pod, as_inputs

HOST = b"host: model\r\n"
POST = b"POST /v2/models/flights/infer HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"transfer-encoding: chunked\r\n\r\n"
HIDDEN = b"GET /v2/health/live HTTP/1.1\r\n" + HOST + b"\r\n"  # what an attacker wants to be read as a request
EMPTY = b"0\r\n\r\n"


def _headers(lines: bytes, after: bytes = EMPTY + HIDDEN) -> bytes:
    return POST + lines + b"\r\n" + after


def _line(line: bytes) -> bytes:
    return line + b"\r\n" + HOST + b"\r\n" + HIDDEN


CASES: dict[str, tuple[bytes, int]] = {
    "two different lengths": (_headers(b"content-length: 5\r\ncontent-length: 38\r\n"), 400),
    "the same length twice": (_headers(b"content-length: 5\r\ncontent-length: 5\r\n"), 400),
    "a list of lengths": (_headers(b"content-length: 5, 5\r\n"), 400),
    "an empty length": (_headers(b"content-length: \r\n"), 400),
    "a negative length": (_headers(b"content-length: -1\r\n"), 400),
    "a length with a plus": (_headers(b"content-length: +5\r\n"), 400),
    "a length in hex": (_headers(b"content-length: 0x5\r\n"), 400),
    "a length with an underscore": (_headers(b"content-length: 1_0\r\n"), 400),
    "a length in two words": (_headers(b"content-length: 5 5\r\n"), 400),
    "a length beyond 64 bits": (_headers(b"content-length: 18446744073709551621\r\n"), 400),
    "length, then chunked": (_headers(b"content-length: 5\r\ntransfer-encoding: chunked\r\n"), 400),
    "chunked, then length": (_headers(b"transfer-encoding: chunked\r\ncontent-length: 5\r\n"), 400),
    "an unknown coding": (_headers(b"transfer-encoding: xchunked\r\n"), 501),
    "a coding before chunked": (_headers(b"transfer-encoding: gzip, chunked\r\n"), 501),
    "a coding after chunked": (_headers(b"transfer-encoding: chunked, identity\r\n"), 400),
    "chunked twice": (_headers(b"transfer-encoding: chunked, chunked\r\n"), 400),
    "chunked in two headers": (_headers(b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n"), 400),
    "identity": (_headers(b"transfer-encoding: identity\r\n"), 501),
    "quoted chunked": (_headers(b'transfer-encoding: "chunked"\r\n'), 501),
    "chunked behind a vertical tab": (_headers(b"transfer-encoding: \x0bchunked\r\n"), 400),
    "chunked on a folded line": (_headers(b"transfer-encoding:\r\n chunked\r\n"), 400),
    "space before a colon": (_headers(b"transfer-encoding : chunked\r\n"), 400),
    "a folded line": (_headers(b"a: b\r\n c: d\r\n"), 400),
    "space before the first header": (b"GET /v2 HTTP/1.1\r\n " + HOST + b"\r\n" + HIDDEN, 400),
    "a bare CR in a value": (_headers(b"a: b\rcontent-length: 5\r\n"), 400),
    "a bare LF in a value": (_headers(b"a: b\ncontent-length: 5\r\n"), 400),
    "lines that end with LF": (b"GET /v2 HTTP/1.1\nhost: model\n\n" + HIDDEN, 400),
    "NUL in a value": (_headers(b"a: b\0c\r\n"), 400),
    "NUL in a name": (_headers(b"a\0: b\r\n"), 400),
    "a header without a colon": (_headers(b"transfer-encoding chunked\r\n"), 400),
    "chunked in HTTP/1.0": (POST.replace(b"1.1", b"1.0") + b"transfer-encoding: chunked\r\n\r\n" + EMPTY + HIDDEN, 400),
    "kept alive and chunked in HTTP/1.0": (
        POST.replace(b"1.1", b"1.0") + b"connection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n" + EMPTY + HIDDEN,
        400,
    ),
    "a chunk of 0x5 bytes": (CHUNKED + b"0x5\r\nabcde\r\n" + EMPTY + HIDDEN, 400),
    "a chunk of -5 bytes": (CHUNKED + b"-5\r\nabcde\r\n" + EMPTY + HIDDEN, 400),
    "a chunk of more than 64 bits": (CHUNKED + b"10000000000000005\r\nabcde\r\n" + EMPTY + HIDDEN, 400),
    "a chunk without a size": (CHUNKED + b"\r\nabcde\r\n" + EMPTY + HIDDEN, 400),
    "space behind a chunk's size": (CHUNKED + b"5 \r\nabcde\r\n" + EMPTY + HIDDEN, 400),
    "a chunk's size that ends with LF": (CHUNKED + b"5\nabcde\r\n" + EMPTY + HIDDEN, 400),
    "a chunk longer than its size": (CHUNKED + b"5\r\nabcdefg\r\n" + EMPTY + HIDDEN, 400),
    "a chunk without its end": (CHUNKED + b"5\r\nabcde0\r\n\r\n" + HIDDEN, 400),
    "LF in a chunk's extension": (CHUNKED + b"5;a\nb\r\nabcde\r\n" + EMPTY + HIDDEN, 400),
    "a chunk's extension of 400 KB": (CHUNKED + b"5;" + b"a" * 400_000 + b"\r\nabcde\r\n" + EMPTY + HIDDEN, 400),
    "a length in the trailer": (CHUNKED + b"0\r\ncontent-length: 38\r\n\r\n" + HIDDEN, 400),
    "another host in the target": (b"GET http://other/v2 HTTP/1.1\r\n" + HOST + b"\r\n" + HIDDEN, 400),
    "no host": (b"GET /v2 HTTP/1.1\r\n\r\n" + HIDDEN, 400),
    "two hosts": (b"GET /v2 HTTP/1.1\r\n" + HOST + b"host: other\r\n\r\n" + HIDDEN, 400),
    "a host that is none": (b"GET /v2 HTTP/1.1\r\nhost: model/v2@other\r\n\r\n" + HIDDEN, 400),
    "a fragment in the target": (_line(b"GET /v2#/../admin HTTP/1.1"), 400),
    "a space in the target": (_line(b"GET /v2 /admin HTTP/1.1"), 400),
    "a target that is no path": (_line(b"GET v2 HTTP/1.1"), 400),
    "a tunnel": (b"CONNECT other:80 HTTP/1.1\r\nhost: other:80\r\n\r\n" + HIDDEN, 400),
    "another protocol": (_headers(b"connection: upgrade\r\nupgrade: websocket\r\n"), 400),
    "the beginning of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 505),
    "HTTP/2.0 in a line of HTTP/1": (_line(b"GET /v2 HTTP/2.0"), 505),
    "HTTP/1.2": (_line(b"GET /v2 HTTP/1.2"), 400),
    "HTTP/0.9": (b"GET /v2\r\n\r\n" + HIDDEN, 505),
    "the beginning of TLS": (b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3" + HIDDEN, 400),
    "an unknown expectation": (_headers(b"expect: 200-ok\r\ncontent-length: 5\r\n"), 417),
    "two lengths of the JSON part": (_headers(b"inference-header-content-length: 2\r\n" * 2), 400),
    "two codings of the content": (_headers(b"content-encoding: gzip\r\ncontent-encoding: identity\r\n"), 400),
}
SECONDS = 10


def _talk(pod: Pod, *parts: bytes) -> bytes:
    """All that comes until the server closes; parts are sent one after the other."""
    with socket.create_connection(("127.0.0.1", pod.port), SECONDS) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for part in parts:
                client.sendall(part)
        except ConnectionError:
            pass  # it closed before it had all
        text = b""
        try:
            while more := client.recv(1 << 16):
                text += more
        except ConnectionResetError:
            pass  # it closed with some of ours unread
        return text


def _answers(text: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d+)", text)]


@pytest.mark.parametrize("name", CASES)
def test_what_two_servers_could_read_differently_is_refused_once_and_closed(pod: Pod, name: str) -> None:
    request, status = CASES[name]
    text = _talk(pod, request)
    assert _answers(text) == [status]
    assert b"connection: close" in text
    assert json.loads(text.partition(b"\r\n\r\n")[2])["error"]


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_the_same_in_pieces_and_behind_a_request_that_is_known_by_heart(pod: Pod, name: str) -> None:
    request, status = CASES[name]
    head = request[:600]
    pieces = [head[at : at + 7] for at in range(0, len(head), 7)] + [request[600:]]
    assert _answers(_talk(pod, HIDDEN, HIDDEN, *pieces)) == [200, 200, status]
    assert _answers(_talk(pod, HIDDEN + request)) == [200, status]


def test_what_follows_a_request_is_read_as_the_next_one_or_refused(pod: Pod) -> None:
    assert _answers(_talk(pod, HIDDEN + b"rubbish")) == [200, 400]


def test_a_body_is_never_read_as_a_request_though_another_protocol_is_offered(pod: Pod) -> None:
    """Java's client offers HTTP/2 with its first request, whatever the body."""
    row = json.dumps({"inputs": as_inputs(ROW)}).encode()
    offer = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\n"
    last = HIDDEN.replace(HOST, HOST + b"connection: close\r\n")
    for body, status in ((row, 200), (HIDDEN, 400)):
        known = POST + offer + b"content-length: %d\r\n\r\n" % len(body) + body
        assert _answers(_talk(pod, known + last)) == [status, 200]
        chunked = POST + offer + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        assert _answers(_talk(pod, chunked + last)) == [status, 200]
        assert _answers(_talk(pod, *[chunked[at : at + 9] for at in range(0, len(chunked), 9)], last)) == [status, 200]


def test_an_absolute_target_of_this_host_is_its_path(pod: Pod) -> None:
    request = b"GET http://model/v2/health/live HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n"
    assert _answers(_talk(pod, request)) == [200]
