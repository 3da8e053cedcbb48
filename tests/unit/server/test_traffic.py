"""Shares of traffic are exact per block; keys stay on their side; clients choose only what the route lets them."""

import random
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeostat.api.wire.route import LANES, Route, Rule, Sticky
from homeostat.server.traffic.forward import request_bytes
from homeostat.server.traffic.route import BLOCK, HERE, THERE, Draw, Shares, Split, Traffic
from homeostat.server.traffic.sticky import Keys, cookie

CANDIDATE = Route(epoch=1, target="http://v8", version="v8", weight=0)
Headers = list[tuple[bytes, bytes]]


def asked(headers: Headers | None = None, track: bytes = b"") -> Any:
    known = {b"x-homeostat-track": track} if track else {}
    return SimpleNamespace(headers=headers or [], known=known)


def split(route: Route) -> Split:
    return Split(route, Shares(route.weight, random.Random(1)))


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
    file.write_text(Route(epoch=4, weight=50, choices=("candidate",)).to_text())
    traffic.reload()
    traffic.reload()
    assert [r.epoch for r in seen] == [4]
    assert not traffic.splits


def test_an_unreadable_route_names_its_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, seen = tmp_path / "route", list[Route]()
    traffic = Traffic(str(file), seen.append)
    file.write_text('{"epoch": 3, "target": "http://v8", "weight": 101}')
    traffic.reload()
    assert not traffic.splits
    assert [r.epoch for r in seen] == [0]
    assert "weight: Input should be less than or equal to 100" in capsys.readouterr().err


def test_a_route_that_only_changes_its_age_keeps_its_block(tmp_path: Path) -> None:
    file = tmp_path / "route"
    traffic = Traffic(str(file), lambda _: None)
    drawn = 0
    for age in range(BLOCK):
        route = Route(epoch=1, target="http://v8", version="v8", weight=5, young_until=age)
        file.write_text(route.to_text())
        traffic.reload()
        drawn += traffic.draw(asked()).forward
    assert drawn == 10


def test_hop_by_hop_headers_are_not_sent_on() -> None:
    headers = [(b"Host", b"a"), (b"Connection", b"close"), (b"X-Homeostat-Hop", b"9"), (b"X-Mine", b"yes")]
    headers += [(b"X-Homeostat-Track", b"shadow"), (b"X-Homeostat-Timeout-Ms", b"9000")]
    sent = request_bytes(b"POST", b"/p", headers, b"body", host=b"b:80", track="candidate", timeout_ms=250)
    assert sent == (
        b"POST /p HTTP/1.1\r\nhost: b:80\r\nX-Mine: yes\r\ncontent-length: 4\r\n"
        b"x-homeostat-hop: 1\r\nx-homeostat-track: candidate\r\nx-homeostat-timeout-ms: 250\r\n\r\nbody"
    )


def test_headers_that_connection_names_are_not_sent_on() -> None:
    headers = [(b"Connection", b"keep-alive, X-Private"), (b"X-Private", b"1"), (b"X-Mine", b"yes")]
    sent = request_bytes(b"POST", b"/p", headers, b"", host=b"b:80", track="candidate", timeout_ms=1)
    assert b"X-Private" not in sent
    assert b"X-Mine: yes\r\n" in sent


def test_a_grpc_message_goes_on_as_it_is() -> None:
    message = bytes(range(256))
    headers = [(b"content-type", b"application/grpc+proto"), (b"x-user", b"7")]
    url = b"/inference.GRPCInferenceService/ModelInfer"
    sent = request_bytes(b"POST", url, headers, message, host=b"b:8080", track="candidate", timeout_ms=9)
    head, _, body = sent.partition(b"\r\n\r\n")
    assert body == message
    assert head.startswith(b"POST /inference.GRPCInferenceService/ModelInfer HTTP/1.1\r\n")
    assert b"content-type: application/grpc+proto\r\nx-user: 7\r\ncontent-length: 256\r\n" in head


@given(st.binary(min_size=1, max_size=40), st.text(max_size=20))
def test_a_growing_share_only_adds_keys_and_keeps_their_lane(key: bytes, salt: str) -> None:
    places = [Keys(share, salt).place(key) for share in range(101)]
    sides = [is_new for is_new, _ in places]
    assert sides == sorted(sides)
    assert not sides[0]
    assert sides[100]
    assert len({lane for _, lane in places}) == 1


@given(st.binary(min_size=1, max_size=40).filter(lambda k: b"\r" not in k), st.integers(0, 100))
def test_no_key_changes_side_at_the_flip(key: bytes, weight: int) -> None:
    sticky = Sticky(header="x-user", salt="sha256:8")
    before = split(Route(epoch=1, target="http://v8", version="v8", weight=weight, sticky=sticky))
    holdback = Route(epoch=2, target="http://v7", version="v7", track="holdback", weight=100 - weight, sticky=sticky)
    request = asked([(b"X-User", key)])
    old_pod, new_pod = before.draw(request), split(holdback).draw(request)
    assert old_pod.forward != new_pod.forward  # the old pod forwards to the new version what the new pod keeps
    assert old_pod.lane == new_pod.lane
    leaving = Route(epoch=3, target="http://v7", version="v7", track="stable", weight=100, sticky=sticky)
    assert split(leaving).draw(request).forward


def test_keys_fall_evenly_and_lanes_are_independent_of_the_side() -> None:
    count, share = 100_000, 25
    keys = Keys(share, "sha256:0123456789abcdef")
    seen = Counter(keys.place(b"user-%d" % i) for i in range(count))
    expected = {
        (side, lane): count * (share if side else 100 - share) / 100 / LANES
        for side in (True, False)
        for lane in range(LANES)
    }
    chi2 = sum((seen[cell] - wanted) ** 2 / wanted for cell, wanted in expected.items())
    assert chi2 < 44.3  # 15 degrees of freedom: exceeded once in 10,000
    new = sum(n for (side, _), n in seen.items() if side)
    assert abs(new - count * 0.25) < 4 * (count * 0.25 * 0.75) ** 0.5


def test_another_salt_divides_anew() -> None:
    one, two = Keys(50, "sha256:a"), Keys(50, "sha256:b")
    both = sum(one.place(b"%d" % i)[0] == two.place(b"%d" % i)[0] for i in range(10_000))
    assert abs(both - 5000) < 200


def test_a_request_without_the_key_is_drawn_by_blocks() -> None:
    drawn = split(Route(epoch=1, target="http://v8", weight=25, sticky=Sticky(header="x-user")))
    seen = Counter(drawn.draw(asked([(b"x-other", b"1"), (b"x-user", b"")])) for _ in range(BLOCK))
    assert seen == {HERE: 150, THERE: 50}


def test_a_cookie_can_be_the_key() -> None:
    keyed = split(Route(epoch=1, target="http://v8", weight=50, sticky=Sticky(cookie="sid", salt="s")))
    first = keyed.draw(asked([(b"Cookie", b"a=1; sid=abc; b=2")]))
    assert first.lane >= 0
    assert all(keyed.draw(asked([(b"cookie", b"sid=abc")])) == first for _ in range(5))
    assert keyed.draw(asked([(b"cookie", b"a=1"), (b"cookie", b"sid=abc")])) == first
    assert cookie(b"a=1; sid", b"sid") == b""
    assert cookie(b"xsid=3; sid=a=b", b"sid") == b"a=b"


def test_rules_decide_whatever_the_weight_and_the_first_that_fits_wins() -> None:
    rules = (
        Rule(header="x-team", exact="blue", track="stable"),
        Rule(header="x-beta", exact="yes", track="candidate"),
    )
    ruled = split(CANDIDATE.model_copy(update={"rules": rules, "weight": 100}))
    assert ruled.draw(asked([(b"X-Beta", b"yes")])) == Draw(forward=True, chosen=True)
    assert ruled.draw(asked([(b"x-beta", b"yes"), (b"x-team", b"blue")])) == Draw(forward=False, chosen=True)
    assert ruled.draw(asked([(b"x-beta", b"no")])) == THERE
    unweighted = split(CANDIDATE.model_copy(update={"rules": rules}))
    assert unweighted.draw(asked([(b"x-beta", b"yes")])).forward
    assert unweighted.draw(asked([(b"x-beta", b"no")])) == HERE


def test_clients_choose_only_tracks_that_the_route_lets_them() -> None:
    route = CANDIDATE.model_copy(update={"choices": ("candidate",)})
    choosing = split(route)
    assert choosing.draw(asked(track=b"candidate")) == Draw(forward=True, chosen=True)
    assert choosing.draw(asked(track=b"stable")) == HERE
    assert choosing.draw(asked(track=b"shadow")) == HERE
    assert split(CANDIDATE).draw(asked(track=b"candidate")) == HERE


def test_after_the_flip_a_choice_of_the_candidate_stays_on_the_new_pods() -> None:
    route = Route(epoch=1, target="http://v7", track="holdback", weight=100, choices=("candidate", "holdback"))
    assert split(route).draw(asked(track=b"candidate")) == Draw(forward=False, chosen=True)
    assert split(route).draw(asked(track=b"holdback")) == Draw(forward=True, chosen=True)
