"""Pods that forward to each other, with any routes and events in any order: no request is forwarded twice, all are answered."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import httptools
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from homeostat.api.wire.route import Mirror, Route, Rule, Sticky
from homeostat.server.inference.work import Work
from homeostat.server.problem import Problem
from homeostat.server.traffic import mirror
from homeostat.server.traffic import sides as inference
from homeostat.server.traffic.forward import Failure
from homeostat.server.traffic.outgoing import Reply
from homeostat.server.traffic.route import Traffic
from homeostat.server.traffic.sides import Door, Inference, Target
from homeostat.server.transport.exchange import JSON

NAMES = ("v7", "v8", "v9")
BODY = b'{"predictions":[1]}'
DOOR = Door(0, lambda asked: Work(None, None))  # type: ignore[arg-type]
TRACKS = st.sampled_from(["candidate", "holdback", "stable"])
RULES = st.builds(Rule, header=st.just("x-beta"), exact=st.sampled_from(["yes", "no"]), track=TRACKS)
ROUTES = st.builds(
    Route,
    epoch=st.just(1),
    target=st.sampled_from(["", *NAMES]),
    version=st.sampled_from(NAMES),
    track=TRACKS,
    weight=st.sampled_from([0, 1, 50, 99, 100, 100, 100]),
    fallback=st.booleans(),
    drain=st.booleans(),
    mirror=st.none() | st.builds(Mirror, target=st.sampled_from(NAMES), version=st.just("v9")),
    sticky=st.none() | st.builds(Sticky, header=st.just("x-user")),
    rules=st.lists(RULES, max_size=2).map(tuple),
    choices=st.lists(TRACKS, max_size=3).map(tuple),
    young_until=st.sampled_from([0.0, 1005.0, 1e12]),
)
HEADERS = st.lists(
    st.sampled_from([(b"x-user", b"1"), (b"X-Beta", b"yes"), (b"x-homeostat-track", b"candidate")]), max_size=3
)


class Asked:
    """A request in memory. `answers` are all that it got."""

    def __init__(self, headers: list[tuple[bytes, bytes]], url: bytes, answered: Callable[[Reply], None]) -> None:
        self.method, self.url, self.headers, self.body = b"POST", url, headers, b"rows"
        self.known = {name.lower(): value for name, value in headers}
        self.arrived, self.timeout, self.gone = 0.0, None, False
        self.answers: list[int] = []
        self._answered = answered

    def respond(self, status: int, body: bytes, kind: bytes = JSON, extra: bytes = b"") -> None:
        self.answers.append(status)
        self._answered(Reply(status, kind, extra, body))

    def fail(self, problem: Problem) -> None:
        self.respond(problem.status, b"{}")


class Parsed:
    """A request as the other pod's parser reads it."""

    def __init__(self, raw: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.url = b""
        httptools.HttpRequestParser(self).feed_data(raw)

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))


class Counters:
    """Takes the place of the counters in shared memory."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()

    def outcome(self, version: str, outcome: str, lane: int = -1) -> None:
        self.outcomes[version] += 1

    def answered(self, *_: Any) -> None:
        return

    compared = dropped = answered


class Clock:
    """Stands for the module `time`: circuits open and close by events, not by how fast the machine is."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    time = monotonic


class Pool:
    """The network's end in a pod: what is sent waits in the world until an event decides what becomes of it."""

    def __init__(self, world: World, url: str) -> None:
        self.world, self.url, self.authority = world, url, url.encode()

    def send(self, request: bytes, deadline: float, done: Callable[[Reply | Failure], None]) -> None:
        self.world.sent(self.url, request, done)

    def close(self) -> None:
        return


class Pod(Inference):
    """The real thing, but for the network and the model."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name, self.waiting = world, name, list[Work]()
        self.traffic = Traffic("", self.route_changed)
        self.traffic._random.seed(1)
        self.counters = Counters()
        super().__init__(world.loop, name, self, self.counters, self.traffic, deployment="uid")  # type: ignore[arg-type]

    def check_room(self) -> None:
        """There is always room."""

    def submit(self, work: Work) -> None:
        self.waiting.append(work)

    def _target(self, url: str) -> Target:
        target = super()._target(url)
        target.pool = Pool(self.world, url)  # type: ignore[assignment]
        return target

    def route_changed(self, route: Route) -> None:
        super().route_changed(route)
        if self._shadow is not None:
            self._shadow._pool = Pool(self.world, self._shadow.mirror.target)  # type: ignore[assignment]


class World(RuleBasedStateMachine):
    """asked: clients' requests. flying: requests between pods; landed: those that a pod has, with who waits for them."""

    def __init__(self) -> None:
        super().__init__()
        self.loop, self.clock = asyncio.new_event_loop(), Clock()
        self.patches = [patch.object(module, "time", self.clock) for module in (inference, mirror)]
        for one in self.patches:
            one.start()
        self.asked: list[Asked] = []
        self.flying: list[tuple[str, Parsed, Callable[[Reply | Failure], None]]] = []
        self.hops: Counter[tuple[bytes, bool]] = Counter()
        self.pods = {name: Pod(self, name) for name in NAMES}

    def teardown(self) -> None:
        try:
            self._drain()
        finally:
            self.loop.close()
            for one in self.patches:
                one.stop()

    def _drain(self) -> None:
        """All that is under way comes to its end: everybody was answered, and counted at most once."""
        while self.flying or any(pod.waiting for pod in self.pods.values()):
            self._turn()
            for pod in self.pods.values():
                while pod.waiting:
                    pod.waiting.pop().done((BODY, JSON, b""))
            while self.flying:
                self._land(0)
        assert all(len(asked.answers) == 1 for asked in self.asked)
        assert not any(pod.in_flight for pod in self.pods.values())
        counted = sum(sum(pod.counters.outcomes.values()) for pod in self.pods.values())
        assert counted <= len(self.asked)

    def _turn(self) -> None:
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    def sent(self, url: str, request: bytes, done: Callable[[Reply | Failure], None]) -> None:
        parsed = Parsed(request)
        names = [name.lower() for name, _ in parsed.headers]
        assert names.count(b"x-homeostat-hop") == names.count(b"x-homeostat-track") == 1
        copy = dict(parsed.headers)[b"x-homeostat-track"] == b"shadow"
        self.hops[parsed.url, copy] += 1
        assert self.hops[parsed.url, copy] == 1, "a request was forwarded twice"
        self.flying.append((url, parsed, done))

    @rule(name=st.sampled_from(NAMES), route=ROUTES)
    def reroute(self, name: str, route: Route) -> None:
        self.pods[name].traffic.apply(route)

    @rule(name=st.sampled_from(NAMES), headers=HEADERS, pinned=st.sampled_from([False, False, False, True]))
    def ask(self, name: str, headers: list[tuple[bytes, bytes]], pinned: bool) -> None:
        asked = Asked(headers, b"/%d" % len(self.asked), lambda _: None)
        self.asked.append(asked)
        pod = self.pods[name]
        (pod.begin_pinned if pinned else pod.begin)(asked, DOOR)

    @rule(name=st.sampled_from(NAMES), hop=st.sampled_from([b"1", b"", b"other"]), headers=HEADERS)
    def ask_with_a_foreign_hop(self, name: str, hop: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        url = b"/%d" % len(self.asked)
        self.ask(name, [*headers, (b"X-Homeostat-Hop", hop)], pinned=False)
        assert not self.hops[url, False]

    @precondition(lambda self: self.flying)
    @rule(place=st.integers(0, 99))
    def land(self, place: int) -> None:
        self._land(place % len(self.flying))

    def _land(self, place: int) -> None:
        url, parsed, done = self.flying.pop(place)
        asked = Asked(parsed.headers, parsed.url, done)
        self.pods[url].begin(asked, DOOR)

    @precondition(lambda self: self.flying)
    @rule(place=st.integers(0, 99), why=st.sampled_from(["transport", "deadline", "busy"]))
    def lose(self, place: int, why: str) -> None:
        _, _, done = self.flying.pop(place % len(self.flying))
        done(Failure(why, "lost"))

    @precondition(lambda self: self.flying)
    @rule(place=st.integers(0, 99), status=st.sampled_from([200, 400, 429, 499, 500, 503, 504]))
    def answer_without_running(self, place: int, status: int) -> None:
        _, _, done = self.flying.pop(place % len(self.flying))
        done(Reply(status, JSON, b"", b"{"))

    @precondition(lambda self: any(pod.waiting for pod in self.pods.values()))
    @rule(status=st.sampled_from([200, 200, 400, 429, 499, 500, 503, 504]), last=st.booleans())
    def run_model(self, status: int, last: bool) -> None:
        pod = next(pod for pod in self.pods.values() if pod.waiting)
        work = pod.waiting.pop(-1 if last else 0)
        work.done((BODY, JSON, b"") if status == 200 else Problem(status, "no"))

    @rule(seconds=st.sampled_from([0.05, 0.5, 5.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def turn(self) -> None:
        self._turn()

    @invariant()
    def nobody_is_answered_twice(self) -> None:
        assert all(len(asked.answers) <= 1 for asked in self.asked)


World.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestWorld = World.TestCase
