"""Header blocks and frames: what is remembered is what was said."""

from urllib.parse import unquote

import pytest
from hpack import Decoder, Encoder, HPACKError
from hypothesis import given, settings
from hypothesis import strategies as st

from homeostat.server.transport import grpc_wire as wire
from homeostat.server.transport import http2_frames as h2
from homeostat.server.transport.http2_headers import Headers

REQUIRED = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C")]
NAMES = st.sampled_from([b"x-a", b"x-b", b"user-agent", b"x-long-" + b"n" * 300])
VALUES = st.sampled_from([b"", b"1", b"two words", b"v" * 900, "ü".encode()])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("headers"), st.lists(st.tuples(NAMES, VALUES), max_size=4), st.booleans()),
        st.tuples(st.just("table"), st.sampled_from([0, 64, 1000, 4096])),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(STEPS)
def test_a_remembered_block_means_what_it_meant(steps: list[tuple[object, ...]]) -> None:
    encoder, headers = Encoder(), Headers(16 << 10)
    encoder.header_table_size = 4096
    for kind, given_, *huffman in steps:
        if kind == "table" and given_ == encoder.header_table_size:
            continue  # the encoder would forget a change that it has not said yet
        if kind == "table":
            encoder.header_table_size = given_
        else:
            for _ in range(3):  # the first fills the table, the second names it, the third is remembered
                head = headers.request(encoder.encode([*REQUIRED, *given_], huffman=huffman[0]))
                assert (head.wrong, head.path, head.headers) == ("", b"/a.B/C", given_)


@settings(deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=12), st.sampled_from([b"\x40\x01a\x01b", b"\x82", b"\xbe", b"\x0f\x00"]))))
def test_any_bytes_are_what_the_library_says_they_are(parts: list[bytes]) -> None:
    ours, library = Headers(16 << 10), Decoder()
    for block in (b"".join(parts), b"".join(reversed(parts))):
        try:
            wanted = [(bytes(n), bytes(v)) for n, v in library.decode(block, raw=True)]
        except (HPACKError, ValueError, IndexError):
            with pytest.raises(h2.Broken):
                ours.decode(block)
            return
        assert ours.decode(block) == wanted


def test_a_block_is_remembered_as_long_as_the_table_stands() -> None:
    encoder, headers = Encoder(), Headers(16 << 10)
    headers.request(encoder.encode(REQUIRED))
    again = encoder.encode(REQUIRED)
    first = headers.request(again)
    assert headers.request(again) is first
    headers.decode(encoder.encode([(b"x-new", b"1")]))
    assert headers.request(again) is not first


@given(st.binary(min_size=1, max_size=40).filter(lambda name: not name.startswith(b":")), st.binary(max_size=3000))
def test_a_literal_is_read_as_it_was_written(name: bytes, value: bytes) -> None:
    assert Headers(16 << 10).decode(h2.literal(name, value)) == [(name, value)]


@given(st.text(max_size=100))
def test_a_status_message_is_printable_and_comes_back(text: str) -> None:
    out = wire.percent(text)
    assert all(32 <= byte <= 126 for byte in out)
    assert unquote(out.decode("ascii")) == text.encode("utf-8", "replace").decode()


def test_timeouts() -> None:
    assert [wire.timeout_of(t) for t in (b"1H", b"2M", b"3S", b"4m", b"5u", b"6n")] == pytest.approx(
        [3600, 120, 3, 0.004, 5e-6, 6e-9]
    )
    assert [wire.timeout_of(t) for t in (b"", b"S", b"1", b"-1S", b"1.5S", b"123456789S", b"1s")] == [None] * 7


def test_only_metadata_of_a_forwarded_answer_becomes_metadata() -> None:
    lines = b"X-Homeostat-Version: v7\r\ngrpc-status: 0\r\ncontent-length: 3\r\nnothing\r\n: x\r\n:status: 200\r\n"
    assert Headers(16 << 10).decode(wire.metadata(lines)) == [(b"x-homeostat-version", b"v7")]
