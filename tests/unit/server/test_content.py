"""Bodies in JSON: missing numbers as pandas and numpy have them, and compressed answers."""

import gzip
import time
import zlib
from types import SimpleNamespace
from typing import Any

import pytest

from homeostat.server.problem import Problem
from homeostat.server.protocols.content import COMPRESS_FROM, parsed, shrunk


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"a":[NaN,1,NaN ]}', {"a": [None, 1, None]}),
        (b'{"a":[NaN,"NaN","x\\"NaN"],"NaN":NaN}', {"a": [None, "NaN", 'x"NaN'], "NaN": None}),
        (b'{"a":["\\\\",NaN,"Nothing, NaN, \\\\"]}', {"a": ["\\", None, "Nothing, NaN, \\"]}),
    ],
)
def test_a_missing_number_is_read_as_null_and_texts_stay_as_they_are(body: bytes, found: Any) -> None:
    assert parsed(body, 8) == found


@pytest.mark.parametrize(
    "body", [b'{"a":NaNN}', b'{"a":-NaN}', b'{"a":"NaN}', b"{NaN:1}", b'{"a":Infinity}', b'{"a":nan}']
)
def test_what_only_looks_like_it_is_no_json(body: bytes) -> None:
    with pytest.raises(Problem, match="the body is not JSON"):
        parsed(body, 8)


@pytest.mark.parametrize(
    "body",
    [b'{"a":[' + b"NaN," * 4_000_000, b'{"a":["NaN",' + b"NaN," * 4_000_000, b'["",' * 4_000_000 + b"NaN", b'"' * (16 << 20) + b"NaN"],
)  # fmt: skip
def test_no_body_of_missing_numbers_takes_long(body: bytes) -> None:
    begun = time.process_time()
    with pytest.raises(Problem):
        parsed(body, 8)
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    ("accepted", "encoding"), [(b"gzip", "gzip"), (b"deflate", "deflate"), (b"Deflate, GZIP", "gzip"), (b"br", "")]
)
def test_a_long_answer_is_compressed_as_the_client_reads_it(accepted: bytes, encoding: str) -> None:
    body = b"0.5," * COMPRESS_FROM
    asked: Any = SimpleNamespace(known={b"accept-encoding": accepted})
    small, _, extra = shrunk(asked, (body, b"application/json", b"x: y\r\n"))
    opened = {"gzip": gzip.decompress, "deflate": zlib.decompress, "": bytes}[encoding]
    assert opened(small) == body
    assert extra == b"x: y\r\n" + (f"content-encoding: {encoding}\r\n".encode() if encoding else b"")
