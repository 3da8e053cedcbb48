"""Shares of traffic are exact per block, whatever the weight."""

import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from homeostat.api.wire.route import Route
from homeostat.server.forward import request_bytes
from homeostat.server.traffic import BLOCK, Shares, Traffic


@given(st.integers(0, 100), st.integers(0, 2**32))
def test_each_block_holds_the_exact_share(weight: int, seed: int) -> None:
    shares = Shares(weight, random.Random(seed))
    for _ in range(3):
        assert sum(shares.draw() for _ in range(BLOCK)) == weight * BLOCK // 100


def test_a_route_without_target_forwards_nothing(tmp_path: Path) -> None:
    file, seen = tmp_path / "route", list[Route]()
    traffic = Traffic(str(file), seen.append)
    traffic.reload()
    assert not seen
    file.write_text(Route(epoch=4, weight=50).to_text())
    traffic.reload()
    traffic.reload()
    assert [r.epoch for r in seen] == [4]
    assert not any(traffic.draw() for _ in range(BLOCK))


def test_hop_by_hop_headers_are_not_sent_on() -> None:
    headers = [(b"Host", b"a"), (b"Connection", b"close"), (b"X-Homeostat-Hop", b"9"), (b"X-Mine", b"yes")]
    sent = request_bytes(b"POST", b"/p", headers, b"body", host=b"b:80", track="candidate")
    assert sent == (
        b"POST /p HTTP/1.1\r\nhost: b:80\r\nX-Mine: yes\r\ncontent-length: 4\r\n"
        b"x-homeostat-hop: 1\r\nx-homeostat-track: candidate\r\n\r\nbody"
    )
