"""HTTP/2 over real sockets with a client that does everything wrong: who does wrong is ended, the others are served."""

import gzip
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, StreamEnded

from homeostat.server.transport import http2, http2_send
from homeostat.server.transport import http2_frames as h2
from serving.http2_raw import INFER, STREAM_INFER, Echo, Heard, Raw, framed
from serving.pod import eventually

MEBI = 1 << 20


@pytest.fixture(scope="module")
def echo() -> Iterator[Echo]:
    with Echo(body=16 * MEBI) as server:
        yield server


def serves(echo: Echo) -> bool:
    """Whether a fresh connection gets its answer."""
    with Raw(echo.port) as raw:
        raw.ask(1, b"still there")
        while (found := raw.frame()) is not None and found[0] != h2.GOAWAY:
            if raw.heard.get(1, Heard()).ended:
                return raw.heard[1].data == framed(b"still there")
        return False


def request_frames(raw: Raw, count: int, start: int = 3) -> bytes:
    block = raw.block()
    return b"".join(
        h2.frame(h2.HEADERS, h2.END_HEADERS, n, block)
        + h2.frame(h2.DATA, h2.END_STREAM, n, framed(b"hold"))
        + h2.frame(h2.RST_STREAM, 0, n, h2.WORD.pack(h2.CANCEL))
        for n in range(start, start + 2 * count, 2)
    )


class TestFloods:
    """Each ends the connection that did it, with the right code, and no other."""

    def test_rapid_reset(self, echo: Echo) -> None:
        with Raw(echo.port) as raw:
            raw.ask(1, b"the table is filled")
            raw.raw(request_frames(raw, http2.RESET_BURST + http2.RESET_RATE * 20))
            assert raw.goaway() == h2.ENHANCE_YOUR_CALM
        assert serves(echo)

    def test_streams_that_the_server_is_made_to_reset(self, echo: Echo) -> None:
        with Raw(echo.port) as raw:
            raw.ask(1, b"the table is filled")
            block = raw.block()
            out = b"".join(
                h2.frame(h2.HEADERS, h2.END_HEADERS, n, block) + h2.frame(h2.WINDOW_UPDATE, 0, n, bytes(4))
                for n in range(3, 6001, 2)
            )
            raw.raw(out)
            assert raw.goaway() == h2.ENHANCE_YOUR_CALM
        assert serves(echo)

    @pytest.mark.parametrize(
        "frame",
        [
            h2.frame(h2.PING, 0, 0, bytes(8)),
            h2.frame(h2.SETTINGS, 0, 0),
            h2.frame(h2.PRIORITY, 0, 1, bytes(5)),
            h2.frame(h2.WINDOW_UPDATE, 0, 0, h2.WORD.pack(1)),
            h2.frame(77, 0, 0, b"unknown"),
        ],
        ids=["ping", "settings", "priority", "window", "unknown"],
    )
    def test_frames_that_bring_nothing(self, echo: Echo, frame: bytes) -> None:
        with Raw(echo.port) as raw:
            raw.raw(frame * (http2.CALM_BURST + 20 * http2.CALM_RATE))
            assert raw.goaway() == h2.ENHANCE_YOUR_CALM
        assert serves(echo)

    def test_empty_data(self, echo: Echo) -> None:
        with Raw(echo.port) as raw:
            raw.open(1)
            raw.raw(h2.frame(h2.DATA, 0, 1) * (http2.CALM_BURST + 20 * http2.CALM_RATE))
            assert raw.goaway() == h2.ENHANCE_YOUR_CALM
        assert serves(echo)

    def test_continuations_without_end(self, echo: Echo) -> None:
        with Raw(echo.port) as raw:
            raw.send(h2.HEADERS, 0, 1, raw.block())
            raw.raw(h2.frame(h2.CONTINUATION, 0, 1, b"") * 100)
            assert raw.goaway() == h2.ENHANCE_YOUR_CALM
        assert serves(echo)

    def test_a_header_that_unpacks_to_far_too_much(self, echo: Echo) -> None:
        with Raw(echo.port) as raw:
            first = raw.block(INFER, ("x-bomb", "y" * 4000))
            again = raw.encoder.encode([("x-bomb", "y" * 4000)])
            raw.send(h2.HEADERS, h2.END_HEADERS, 1, first + again * 3000)
            assert raw.goaway() == h2.ENHANCE_YOUR_CALM
        assert serves(echo)

    def test_more_streams_than_allowed_are_refused_and_the_others_go_on(self, echo: Echo) -> None:
        with Raw(echo.port) as raw:
            for number in range(1, 2 * h2.MAX_STREAMS + 1, 2):
                raw.open(number)
            over = 2 * h2.MAX_STREAMS + 1
            raw.open(over)
            assert raw.reset() == (over, h2.REFUSED_STREAM)
            raw.send(h2.DATA, h2.END_STREAM, 1, framed(b"first"))
            assert raw.answer(1)[1] == framed(b"first")
            raw.ask(over + 2, b"again")
            assert raw.answer(over + 2)[1] == framed(b"again")

    def test_honest_clients_may_ping_and_cancel(self, echo: Echo) -> None:
        with Raw(echo.port) as raw:
            for number in range(1, 8001, 4):
                raw.ask(number, b"a")
                raw.open(number + 2)
                raw.send(h2.RST_STREAM, 0, number + 2, h2.WORD.pack(h2.CANCEL))
                raw.send(h2.PING, 0, 0, bytes(8))
                raw.answer(number)


def pad(length: int, payload: bytes) -> bytes:
    return bytes([length]) + payload


class TestWrongFrames:
    """Errors of the connection: GOAWAY says which."""

    @pytest.mark.parametrize(
        ("code", "bad"),
        [
            (h2.PROTOCOL_ERROR, lambda r: r.send(h2.DATA, 0, 0, b"x")),
            (h2.PROTOCOL_ERROR, lambda r: r.send(h2.DATA, 0, 1, b"x")),
            (h2.PROTOCOL_ERROR, lambda r: r.open(2)),
            (h2.PROTOCOL_ERROR, lambda r: r.send(h2.PUSH_PROMISE, h2.END_HEADERS, 1, b"\0\0\0\2")),
            (h2.PROTOCOL_ERROR, lambda r: r.send(h2.CONTINUATION, h2.END_HEADERS, 1, b"")),
            (h2.PROTOCOL_ERROR, lambda r: (r.send(h2.HEADERS, 0, 1, r.block()), r.send(h2.PING, 0, 0, bytes(8)))),
            (h2.PROTOCOL_ERROR, lambda r: (r.send(h2.HEADERS, 0, 1, r.block()), r.send(h2.CONTINUATION, 4, 3, b""))),
            (h2.PROTOCOL_ERROR, lambda r: r.send(h2.HEADERS, h2.END_HEADERS | h2.PADDED, 1, pad(200, r.block()))),
            (h2.PROTOCOL_ERROR, lambda r: (r.open(1), r.send(h2.DATA, h2.PADDED, 1, pad(9, b"x")))),
            (h2.PROTOCOL_ERROR, lambda r: r.send(h2.WINDOW_UPDATE, 0, 0, bytes(4))),
            (h2.PROTOCOL_ERROR, lambda r: r.send(h2.RST_STREAM, 0, 5, bytes(4))),
            (h2.PROTOCOL_ERROR, lambda r: r.send(h2.SETTINGS, 0, 0, b"\0\2\0\0\0\2")),
            (h2.STREAM_CLOSED, lambda r: (r.ask(1, b"a"), r.answer(1), r.open(1))),
            (h2.FRAME_SIZE_ERROR, lambda r: r.send(h2.DATA, 0, 1, bytes(h2.MAX_FRAME + 1))),
            (h2.FRAME_SIZE_ERROR, lambda r: r.raw(b"\xff\xff\xff\0\0\0\0\0\1")),
            (h2.FRAME_SIZE_ERROR, lambda r: r.send(h2.PING, 0, 0, bytes(7))),
            (h2.FRAME_SIZE_ERROR, lambda r: r.send(h2.SETTINGS, 0, 0, bytes(5))),
            (h2.FRAME_SIZE_ERROR, lambda r: r.send(h2.SETTINGS, h2.ACK, 0, bytes(6))),
            (h2.FLOW_CONTROL_ERROR, lambda r: r.send(h2.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")),
            (h2.FLOW_CONTROL_ERROR, lambda r: r.send(h2.SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff")),
            (h2.COMPRESSION_ERROR, lambda r: r.send(h2.HEADERS, h2.END_HEADERS, 1, b"\xff\xff\xff\xff")),
            (h2.COMPRESSION_ERROR, lambda r: r.send(h2.HEADERS, h2.END_HEADERS, 1, b"\x80")),
        ],
    )
    def test_the_connection_ends_with_its_code(self, echo: Echo, code: Any, bad: Callable[[Raw], object]) -> None:
        with Raw(echo.port) as raw:
            bad(raw)
            assert raw.goaway() == code
        assert serves(echo)

    @pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n"])
    def test_a_bad_preface(self, echo: Echo, greeting: bytes) -> None:
        with Raw(echo.port, greet=False) as raw:
            raw.raw(greeting)
            assert raw.goaway() == h2.PROTOCOL_ERROR

    def test_settings_must_come_first(self, echo: Echo) -> None:
        with Raw(echo.port, greet=False) as raw:
            raw.raw(h2.PREFACE)
            raw.send(h2.PING, 0, 0, bytes(8))
            assert raw.goaway() == h2.PROTOCOL_ERROR

    @pytest.mark.parametrize(
        ("code", "bad"),
        [
            (h2.PROTOCOL_ERROR, lambda r: r.open(1, "no-slash")),
            (h2.PROTOCOL_ERROR, lambda r: r.open(1, "/a b")),
            (h2.PROTOCOL_ERROR, lambda r: r.open(1, INFER, ("x-split", "a\r\nx-smuggled: 1"))),
            (h2.PROTOCOL_ERROR, lambda r: r.open(1, INFER, ("x bad", "1"))),
            (h2.PROTOCOL_ERROR, lambda r: r.open(1, INFER, ("transfer-encoding", "chunked"))),
            (h2.PROTOCOL_ERROR, lambda r: r.open(1, INFER, ("connection", "close"))),
            (h2.PROTOCOL_ERROR, lambda r: r.open(1, INFER, (":path", "/late"))),
            (h2.PROTOCOL_ERROR, lambda r: r.ask(1, b"abc", ("content-length", "7"))),
            (h2.PROTOCOL_ERROR, lambda r: (r.open(1), r.open(1))),
            (h2.PROTOCOL_ERROR, lambda r: (r.open(1), r.send(h2.WINDOW_UPDATE, 0, 1, bytes(4)))),
            (h2.FLOW_CONTROL_ERROR, lambda r: (r.open(1), r.send(h2.WINDOW_UPDATE, 0, 1, b"\x7f\xff\xff\xff"))),
            (h2.STREAM_CLOSED, lambda r: (r.ask(1, b"hold"), r.send(h2.DATA, h2.END_STREAM, 1, b"more"))),
        ],
    )
    def test_an_error_of_a_stream_ends_that_stream_only(
        self, echo: Echo, code: Any, bad: Callable[[Raw], object]
    ) -> None:
        with Raw(echo.port) as raw:
            bad(raw)
            assert raw.reset() == (1, code)
            raw.ask(3, b"next")
            assert raw.answer(3)[1] == framed(b"next")

    def test_padding_and_priority_are_allowed(self, echo: Echo) -> None:
        with Raw(echo.port) as raw:
            flags = h2.END_HEADERS | h2.PADDED | h2.HAS_PRIORITY
            raw.send(h2.HEADERS, flags, 1, b"\x03" + b"\0\0\0\0\x10" + raw.block() + bytes(3))
            raw.send(h2.DATA, h2.END_STREAM | h2.PADDED, 1, b"\x05" + framed(b"padded") + bytes(5))
            assert raw.answer(1)[1] == framed(b"padded")

    def test_trailers_end_a_request(self, echo: Echo) -> None:
        with Raw(echo.port) as raw:
            raw.open(1)
            raw.send(h2.DATA, 0, 1, framed(b"then trailers"))
            raw.send(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, raw.encoder.encode([("x-checksum", "1")]))
            assert raw.answer(1)[1] == framed(b"then trailers")

    def test_a_request_in_single_bytes(self, echo: Echo) -> None:
        with Raw(echo.port, greet=False) as raw:
            out = h2.PREFACE + h2.frame(h2.SETTINGS, 0, 0) + h2.frame(h2.HEADERS, h2.END_HEADERS, 1, raw.block())
            for byte in out + h2.frame(h2.DATA, h2.END_STREAM, 1, framed(b"slowly")):
                raw.raw(bytes([byte]))
            assert raw.answer(1)[1] == framed(b"slowly")

    @pytest.mark.parametrize(
        ("status", "more"), [("415", [("content-type", "application/json")]), ("405", None)], ids=["type", "method"]
    )
    def test_what_is_not_grpc_is_answered_as_http(self, echo: Echo, status: Any, more: Any) -> None:
        with Raw(echo.port) as raw:
            pairs = [(":method", "GET" if more is None else "POST"), (":scheme", "http"), (":path", "/"), *(more or ())]
            raw.send(h2.HEADERS, h2.END_HEADERS | h2.END_STREAM, 1, raw.encoder.encode(pairs))
            headers, text = raw.answer(1)
            assert headers[":status"] == status
            assert b"this port speaks gRPC" in text

    @pytest.mark.parametrize(
        ("body", "status", "words"),
        [
            (b"\x02" + framed(b"abc")[1:], "3", "compressed flag"),
            (b"\x01" + framed(b"abc")[1:], "12", "identity"),
            (framed(b"abc") + b"x", "3", "one message"),
            (framed(b"abc")[:-1], "3", "ended within its message"),
            (b"\0\xff\xff\xff\xff", "8", "larger than"),
        ],
    )
    def test_a_message_with_a_wrong_prefix_is_named(self, echo: Echo, body: bytes, status: Any, words: str) -> None:
        with Raw(echo.port) as raw:
            raw.open(1)
            raw.send(h2.DATA, h2.END_STREAM, 1, body)
            headers, _ = raw.answer(1)
            assert headers["grpc-status"] == status
            assert words in headers["grpc-message"]

    @pytest.mark.parametrize(
        ("packed", "status"),
        [
            (gzip.compress(bytes(64 * MEBI)), "8"),
            (gzip.compress(b"abc")[:-3], "3"),
            (gzip.compress(b"abc") + b"x", "3"),
            (b"no gzip", "3"),
        ],
        ids=["bomb", "cut off", "tail", "not gzip"],
    )
    def test_bad_compression_is_refused(self, echo: Echo, packed: bytes, status: Any) -> None:
        with Raw(echo.port) as raw:
            raw.open(1, INFER, ("grpc-encoding", "gzip"))
            body = b"\x01" + framed(packed)[1:]
            for at in range(0, len(body), h2.MAX_FRAME):
                raw.send(h2.DATA, 0, 1, body[at : at + h2.MAX_FRAME])
            raw.send(h2.DATA, h2.END_STREAM, 1)
            assert raw.answer(1)[0]["grpc-status"] == status


class TestWindows:
    def test_more_data_than_the_window_ends_the_stream_and_then_the_connection(self, echo: Echo) -> None:
        with Raw(echo.port) as raw:
            for stream in (1, 3, 5, 7, 9):
                raw.open(stream, STREAM_INFER)
            held = framed(b"hold") * 40  # 32 are under way: the stream gets no more room
            part = h2.frame(h2.DATA, 0, 1, held) + h2.frame(h2.DATA, 0, 1, bytes(h2.MAX_FRAME)) * 16
            raw.raw(part)
            assert raw.reset() == (1, h2.FLOW_CONTROL_ERROR)
        assert serves(echo)

    def test_the_client_may_send_as_much_as_was_taken(self, echo: Echo) -> None:
        client = H2Connection(H2Configuration(client_side=True))
        client.initiate_connection()
        with Raw(echo.port, greet=False) as raw:
            body = framed(bytes(3 * MEBI))
            client.send_headers(
                1,
                [
                    (":method", "POST"),
                    (":scheme", "http"),
                    (":path", INFER),
                    (":authority", "x"),
                    ("te", "trailers"),
                    ("content-type", "application/grpc"),
                ],
            )
            at, got, ended = 0, 0, False
            while not ended:
                room = min(client.local_flow_control_window(1), client.max_outbound_frame_size, len(body) - at)
                if at < len(body) and room:
                    client.send_data(1, body[at : at + room], end_stream=at + room == len(body))
                    at += room
                    raw.raw(client.data_to_send())
                    continue
                raw.raw(client.data_to_send())
                for event in client.receive_data(raw.socket.recv(1 << 16)):
                    if isinstance(event, DataReceived):
                        got += len(event.data)
                        client.acknowledge_received_data(event.flow_controlled_length, 1)
                    ended = ended or isinstance(event, StreamEnded)
            assert got == len(body)

    def test_an_answer_waits_for_the_clients_window(self, echo: Echo) -> None:
        with Raw(echo.port, settings=b"\0\4\0\0\0\0") as raw:
            raw.ask(1, b"big 100")
            raw.ask(3, b"fail 404")  # a status needs no window
            assert raw.answer(3)[0]["grpc-status"] == "5"
            raw.send(h2.WINDOW_UPDATE, 0, 1, h2.WORD.pack(40))
            kind, _, stream, part = raw.until(h2.DATA)
            assert (kind, stream, len(part)) == (h2.DATA, 1, 40)
            raw.send(h2.SETTINGS, 0, 0, b"\0\4\0\0\0\x64")  # 100 for all: 40 of them are used
            assert len(raw.until(h2.DATA)[3]) == 65

    def test_a_client_that_takes_nothing_loses_its_stream(self) -> None:
        with Echo(body_seconds=0.5) as echo, Raw(echo.port, settings=b"\0\4\0\0\0\0") as raw:
            raw.ask(1, b"big 100")
            assert raw.reset() == (1, h2.CANCEL)
            raw.__exit__()
            assert echo.left() == {"bodies": 0, "queued": 0}

    def test_answers_that_nobody_takes_are_bounded(self, echo: Echo) -> None:
        with Raw(echo.port, settings=b"\0\4\0\0\0\0") as raw:
            half = http2_send.MAX_QUEUED // 2 + 1
            raw.ask(1, b"big %d" % half)
            raw.ask(3, b"big %d" % half)
            assert raw.reset() == (3, h2.ENHANCE_YOUR_CALM)
        assert serves(echo)

    def test_two_large_answers_share_the_connection(self, echo: Echo) -> None:
        with Raw(echo.port, settings=b"\0\4\x00\x10\x00\x00") as raw:
            raw.ask(1, b"big 200000")
            raw.ask(3, b"big 200000")
            raw.send(h2.WINDOW_UPDATE, 0, 0, h2.WORD.pack(MEBI))
            seen = []
            while len([s for s in seen if s < 0]) < 2:
                _, flags, stream, _ = raw.until(h2.DATA, h2.HEADERS)
                seen.append(-stream if flags & h2.END_STREAM else stream)
            first_end = next(i for i, s in enumerate(seen) if s < 0)
            assert {1, 3} <= set(seen[:first_end])


class TestTime:
    def test_slow_clients_are_ended(self) -> None:
        limits = {"header_seconds": 0.3, "body_seconds": 0.6, "idle_seconds": 1.5}
        with Echo(**limits) as echo:
            with Raw(echo.port, greet=False) as raw:
                assert raw.goaway() == h2.SETTINGS_TIMEOUT
            with Raw(echo.port) as raw:
                raw.raw(b"\0\0\x08\x06")  # a part of a frame's head
                assert raw.goaway() == h2.ENHANCE_YOUR_CALM
            with Raw(echo.port) as raw:
                raw.send(h2.HEADERS, 0, 1, raw.block())
                assert raw.goaway() == h2.ENHANCE_YOUR_CALM
            with Raw(echo.port) as raw:
                raw.open(1)
                raw.send(h2.DATA, 0, 1, framed(b"abc")[:-1])
                assert raw.answer(1)[0]["grpc-status"] == "4"
            with Raw(echo.port) as raw:
                assert raw.goaway() == h2.NO_ERROR  # idle
            with Raw(echo.port) as raw:
                raw.open(1, STREAM_INFER)
                assert raw.answer(1)[0]["grpc-status"] == "14"  # an idle stream

    def test_a_connection_too_many_is_told_so(self) -> None:
        with Echo(connections=1) as echo:
            eventually(lambda: serves(echo), "earlier connections are gone")
            with Raw(echo.port) as first:
                first.ask(1, b"a")
                first.answer(1)
                with Raw(echo.port) as second:
                    assert second.goaway() == h2.ENHANCE_YOUR_CALM
                first.ask(3, b"b")
                assert first.answer(3)[1] == framed(b"b")

    def test_too_many_bytes_of_bodies_are_refused_over_all_connections(self) -> None:
        with Echo(body=MEBI, bodies=MEBI) as echo:
            raws = [Raw(echo.port) for _ in range(5)]
            for raw in raws:
                raw.open(1)
                raw.raw(h2.frame(h2.DATA, 0, 1, b"\0\0\x0f\0\0" + bytes(h2.MAX_FRAME - 5)))
                raw.raw(h2.frame(h2.DATA, 0, 1, bytes(h2.MAX_FRAME)) * 14)
                raw.ask(3, b"sync")
                raw.answer(3)
            assert serves(echo)
            assert raws[-1].answer(1)[0]["grpc-status"] == "14"
            for raw in raws:
                raw.__exit__()
            assert echo.left() == {"bodies": 0, "queued": 0}

    def test_a_compressed_body_counts_as_what_it_unpacks_to(self) -> None:
        packed = b"\x01" + framed(gzip.compress(b"hold " + bytes(MEBI // 2)))[1:]
        with Echo(body=MEBI, bodies=MEBI) as echo, Raw(echo.port) as raw:
            for stream in (1, 3):
                raw.open(stream, INFER, ("grpc-encoding", "gzip"))
                raw.send(h2.DATA, h2.END_STREAM, stream, packed)
            assert raw.answer(3)[0]["grpc-status"] == "14"
            raw.open(5, STREAM_INFER, ("grpc-encoding", "gzip"))
            raw.send(h2.DATA, h2.END_STREAM, 5, packed)
            assert raw.answer(5)[0]["grpc-status"] == "14"
            raw.send(h2.RST_STREAM, 0, 1, h2.WORD.pack(h2.CANCEL))
            raw.open(7, STREAM_INFER, ("grpc-encoding", "gzip"))
            raw.send(h2.DATA, h2.END_STREAM, 7, b"\x01" + framed(gzip.compress(bytes(1000)))[1:])
            assert raw.answer(7)[0]["grpc-status"] == "0"
            raw.__exit__()
            assert echo.left() == {"bodies": 0, "queued": 0}

    def test_a_call_that_is_answered_twice_or_late_says_one_thing(self) -> None:
        with Echo() as echo, Raw(echo.port, settings=b"\0\4\0\0\0\0") as raw:
            raw.open(1, INFER, ("grpc-timeout", "10m"))
            raw.send(h2.DATA, h2.END_STREAM, 1, framed(b"twice"))
            raw.ask(3, b"fail 404")
            raw.answer(3)
            raw.ask(5, b"hold", ("grpc-timeout", "10m"))
            assert raw.answer(5)[0]["grpc-status"] == "4"  # by now the first one's deadline has passed too
            raw.send(h2.WINDOW_UPDATE, 0, 1, h2.WORD.pack(1000))
            headers, data = raw.answer(1)
            assert (headers[":status"], headers["grpc-status"], data) == ("200", "0", framed(b"first"))


class TestNoise:
    def test_sessions_with_damaged_bytes_end_or_go_on_and_leave_nothing(self) -> None:
        """500 sessions of good frames with a few bytes changed, left out or repeated."""
        chance = random.Random(1)
        with Echo(body=MEBI, header_seconds=5, body_seconds=5) as echo:
            with Raw(echo.port) as raw:
                good = b"".join(
                    h2.frame(h2.HEADERS, h2.END_HEADERS, n, raw.block())
                    + h2.frame(h2.DATA, h2.PADDED, n, b"\x01" + framed(b"abc") + b"\0")
                    + h2.frame(h2.WINDOW_UPDATE, 0, n, h2.WORD.pack(9))
                    + h2.frame(h2.PING, 0, 0, bytes(8))
                    + h2.frame(h2.DATA, h2.END_STREAM, n)
                    for n in range(1, 12, 2)
                )
            for _ in range(500):
                with Raw(echo.port) as raw:
                    raw.raw(damaged(good, chance))
            assert serves(echo)
            assert echo.process.poll() is None
            assert echo.left() == {"bodies": 0, "queued": 0}


def damaged(good: bytes, chance: random.Random) -> bytes:
    out = bytearray(good)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(out))
        match chance.randrange(4):
            case 0:
                out[at] = chance.randrange(256)
            case 1:
                out[at] ^= 1 << chance.randrange(8)
            case 2:
                del out[at : at + chance.randint(1, 12)]
            case _:
                out[at:at] = out[at : at + chance.randint(1, 40)]
    return bytes(out)
