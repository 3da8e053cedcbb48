"""Whom a hop header is believed, and what a client alone cannot do."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

from homeostat.api.wire.route import Route
from homeostat.server.counting.recorder import TRACK
from homeostat.server.inference.work import Work
from homeostat.server.traffic.route import Traffic
from homeostat.server.traffic.sides import CHOSEN, STABLE, Door, Inference, hop_of
from homeostat.server.transport.exchange import JSON

DOOR = Door(0, lambda asked: Work(None, None))  # type: ignore[arg-type]


class Place:
    """An Inference whose works, counts and answers are kept here."""

    def __init__(self, deployment: str, route: Route) -> None:
        self.works: list[Work] = []
        self.outcomes: list[tuple[str, str, int]] = []
        traffic = Traffic("", lambda _: None)
        traffic.apply(route)
        loop = asyncio.new_event_loop()
        loop.close()
        self.inference = Inference(loop, "v7", self, self, traffic, deployment=deployment)  # type: ignore[arg-type]

    def check_room(self) -> None:
        """There is always room."""

    def submit(self, work: Work) -> None:
        self.works.append(work)

    def outcome(self, version: str, outcome: str, lane: int = -1) -> None:
        self.outcomes.append((version, outcome, lane))

    def answered(self, *_: Any) -> None:
        return

    def track(self, **headers: bytes) -> int:
        """The track under which a request with these headers is run here."""
        known = {f"x-homeostat-{name}".encode(): value for name, value in headers.items()}
        respond = lambda *_: None  # noqa: E731
        asked: Any = SimpleNamespace(
            known=known, headers=list(known.items()), respond=respond, timeout=None, arrived=time.monotonic()
        )
        self.inference.begin(asked, DOOR)
        work = self.works.pop()
        work.done((b"{}", JSON, b""))
        return work.track


HERE = Route(epoch=1, target="http://v8", version="v8", weight=0, choices=("candidate",))


@pytest.mark.parametrize("track", ["candidate", "holdback", "shadow", "fallback", "chosen"])
def test_another_pod_says_under_which_track(track: str) -> None:
    place = Place("uid-1", HERE)
    assert place.track(hop=hop_of("uid-1"), track=track.encode()) == TRACK[track]
    assert place.outcomes == []


@pytest.mark.parametrize("hop", [b"1", b"", hop_of("uid-2")])
@pytest.mark.parametrize("track", [b"shadow", b"holdback", b"fallback", b"nonsense", b"\xff"])
def test_a_clients_own_hop_header_cannot_hide_its_rows(hop: bytes, track: bytes) -> None:
    place = Place("uid-1", HERE)
    assert place.track(hop=hop, track=track) == STABLE
    assert place.outcomes == []


def test_a_client_may_say_a_track_that_the_route_lets_it_choose() -> None:
    assert Place("uid-1", HERE).track(hop=b"1", track=b"candidate") == TRACK["candidate"]


def test_without_a_uid_every_hop_is_believed() -> None:
    assert Place("", HERE).track(hop=b"1", track=b"holdback") == TRACK["holdback"]


def test_a_request_without_hop_header_is_counted() -> None:
    place = Place("uid-1", Route(epoch=0))
    assert place.track(track=b"shadow") == STABLE
    assert place.outcomes == [("v7", "ok", -1)]


def test_a_choice_to_stay_is_not_counted() -> None:
    place = Place("uid-1", Route(epoch=1, target="http://v8", weight=100, choices=("stable",)))
    assert place.track(track=b"stable") == CHOSEN
    assert place.outcomes == []
