"""What the server remembers of earlier requests makes it faster and changes nothing."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.api.wire.bundle import Column, Signature
from homeostat.server.inference.rows import Table, TableReader
from homeostat.server.problem import Problem
from homeostat.server.protocols.skeleton import Skeletons
from homeostat.server.transport.exchange import Exchange, Head, Limits
from homeostat.server.transport.http import Server


class Forgetful(dict[bytes, Head]):
    """Heads that are never known."""

    def __setitem__(self, key: bytes, value: Head) -> None:
        pass


class Wire:
    """What a transport does, written down."""

    def __init__(self) -> None:
        self.sent, self.closed = b"", False

    def write(self, data: bytes) -> None:
        if not self.closed:
            self.sent += data

    def close(self) -> None:
        self.closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


HOST = b"host: x\r\n"
REQUESTS = (
    b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n",
    b"HEAD /a HTTP/1.1\r\n" + HOST + b"\r\n",
    b"GET /b?c=d HTTP/1.1\r\n" + HOST + b"traceparent: 1\r\naccept: a\r\naccept: b\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n\r\nabc",
    b"POST /a HTTP/1.1\r\n" + HOST + b"content-length: 3\r\n\r\n\r\n\r",
    b"POST /a HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n"
    + HOST
    + b"content-length: 37\r\n\r\n"
    + b"GET /z HTTP/1.1\r\nhost: x\r\n\r\n\r\n\r\n\r\n\r\n\r\n\r",
    b"POST /a HTTP/1.1\r\n" + HOST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + HOST + b"content-length: 3\r\nexpect: 100-continue\r\n\r\nabc",
    b"POST /a HTTP/1.1\r\n" + HOST + b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 3\r\n\r\nabc",
    b"GET /a HTTP/1.1\r\n" + HOST + b"connection: close\r\n\r\n",
    b"GET /a HTTP/1.0\r\n\r\n",
    b"GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    b"GET /a HTTP/1.1\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + HOST + b"content-length: 99\r\n\r\n" + b"y" * 99,
    b"\r\n",
    b"\r\n\r\n",
    b"abc",
)


@st.composite
def _streams(draw: st.DrawFn) -> list[bytes]:
    """Whole requests, mostly one at a time as clients send them; some run together, some in pieces, some damaged."""
    parts: list[bytes] = []
    for request in draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=8)):
        place = draw(st.integers(0, len(request)))
        match draw(st.integers(0, 9)):
            case 0:
                parts += [request[:place], request[place:]]
            case 1 if parts:
                parts[-1] += request
            case 2:
                parts.append(request[:place] + draw(st.binary(max_size=2)) + request[place + 1 :])
            case 3:
                parts += [request[at : at + 1] for at in range(len(request))]
            case _:
                parts.append(request)
    return [part for part in parts if part]


def _exchanges(parts: list[bytes], later: set[int], heads: dict[bytes, Head]) -> tuple[list[Any], bytes, bool]:
    """What the application heard and the client saw; requests in `later` are answered after all else."""
    seen: list[Any] = []
    waiting: list[Exchange] = []

    def handle(exchange: Exchange) -> None:
        seen.append(
            (exchange.method, exchange.url, exchange.headers, exchange.known, exchange.body, exchange.keep_alive)
        )
        if exchange.url == b"/b?c=d":
            raise Problem(404, "no")
        if len(seen) in later:
            waiting.append(exchange)
        else:
            exchange.respond(200, b"%d" % len(seen))

    server, wire = Server(handle, Limits(body=50), heads=heads, later=lambda go_on: go_on()), Wire()
    connection = server.connection()
    connection.connection_made(wire)
    for part in parts:
        if not wire.closed:
            connection.data_received(part)
    for exchange in waiting:
        exchange.respond(200, b"late")
    connection.connection_lost(None)
    assert server.bodies == 0
    return seen, wire.sent, wire.closed


@settings(max_examples=600, deadline=None)
@given(_streams(), st.sets(st.integers(1, 8), max_size=3))
def test_a_head_that_is_known_is_read_as_the_parser_reads_it(parts: list[bytes], later: set[int]) -> None:
    learned: dict[bytes, Head] = {}
    for request in REQUESTS:
        _exchanges([request], set(), learned)
    assert learned
    assert _exchanges(parts, later, learned) == _exchanges(parts, later, Forgetful())


SIGNATURES = (
    (("a", "number"), ("b", "string"), ("c", "number")),
    (("a", "number"), ("b", "number")),
    (("a", "string"), ("b", "string")),
    (("a", "number"), ("b", "string")),
)
TEXTS = st.one_of(
    st.sampled_from(
        ["", ",", "]", "[", '"', "\\", '"data":[1]', '"],"data": [', "}", "{", "a,b", "1", "null", "\\u005d"]
    ),
    st.text(max_size=4),
)
VALUES = st.one_of(
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    TEXTS,
    st.none(),
    st.booleans(),
    st.just([1]),
    st.just({}),
)
# written where a value stands: text that is no single value
RAW = st.sampled_from(
    [
        b"",
        b"1,2",
        b"1 ,",
        b"[1]",
        b'"a","b"',
        b'{"a":1}',
        b"NaN",
        b"1]",
        b'"]"',
        b'1],"data":[2',
        b" 1 ",
        b'"a',
        b'x"',
        b"1e999",
        b'"\\"],"',
    ]
)


@st.composite
def _bodies(draw: st.DrawFn, columns: tuple[tuple[str, str], ...]) -> bytes:
    """One row, mostly as the model wants it; names, order, spaces and values vary a little."""
    order = draw(st.permutations(columns)) if draw(st.booleans()) else list(columns)
    spaced = draw(st.booleans())
    inputs = []
    for name, kind in order:
        odd = draw(st.integers(0, 9))
        fitting = TEXTS if kind == "string" else st.floats(width=32, allow_nan=False, allow_infinity=False)
        value = draw(VALUES if odd == 0 else fitting)
        text = draw(RAW) if odd == 1 else orjson.dumps(value)
        datatype = b"BYTES" if kind == "string" else b"FP32"
        shown = b'{"name":"%b","shape":%b,"datatype":"%b","data":[%b]}' % (
            (name if odd != 2 else draw(st.sampled_from("abc"))).encode(),
            draw(st.sampled_from([b"[1]", b"[1,1]", b"[1]"])),
            datatype,
            text,
        )
        inputs.append(shown.replace(b'"data":[', b'"data": [') if spaced else shown)
    body = b'{"inputs":[%b]}' % b",".join(inputs)
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(body)))
        body = body[:place] + draw(st.sampled_from([b"", b" ", b",", b'"', b"]", b"[", b"}"])) + body[place + 1 :]
    return body


def _the_long_way(reader: TableReader, body: bytes) -> Table | None:
    try:
        return reader.inputs(orjson.loads(body)["inputs"])
    except (Problem, orjson.JSONDecodeError, KeyError, TypeError):
        return None


@settings(max_examples=600, deadline=None)
@given(st.data(), st.sampled_from(SIGNATURES))
def test_a_request_read_by_its_skeleton_says_what_the_long_way_reads(
    data: st.DataObject, columns: tuple[tuple[str, str], ...]
) -> None:
    signature = Signature(
        task="regression",
        columns=tuple(Column(name=n, type=k, tensor=n, index=0) for n, k in columns),  # type: ignore[arg-type]
        score_output="s",
    )
    reader = TableReader(signature)
    skeletons = Skeletons(*reader.names)
    for body in data.draw(st.lists(_bodies(columns), min_size=2, max_size=6)):
        quick, long = skeletons.read(body), _the_long_way(reader, body)
        if quick is not None:
            assert long is not None, body
            assert (quick.count, quick.numbers, quick.strings) == (long.count, long.numbers, long.strings)
        if long is not None and long.count == 1:
            skeletons.learn(body, orjson.loads(body)["inputs"], long)
