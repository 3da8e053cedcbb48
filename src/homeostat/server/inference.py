"""One inference request's way: drawn to a side, run here or forwarded, answered from here when the other side fails."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

import orjson

from homeostat.api.wire.route import Route
from homeostat.server.answers import Answers
from homeostat.server.batching import Batcher, Work
from homeostat.server.forward import Failure, Pool, Reply, request_bytes
from homeostat.server.http import Exchange
from homeostat.server.problem import Problem
from homeostat.server.recorder import TRACK, Recorder
from homeostat.server.rows import Reader
from homeostat.server.settings import Settings
from homeostat.server.traffic import Traffic

STABLE: Final = TRACK["stable"]
FALLBACK: Final = TRACK["fallback"]
_BUSY: Final = (429, 503)
_OBJECT: Final = re.compile(rb'(\{)|"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)  # or a string, to step over it


@dataclass(frozen=True, slots=True)
class Parts:
    """What inference is made of."""

    settings: Settings
    reader: Reader
    batcher: Batcher
    answers: Answers
    recorder: Recorder


class Inference:
    """Runs or forwards requests and counts how each ended, under the side that was drawn for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, parts: Parts, traffic: Traffic) -> None:
        self._loop, self._traffic = loop, traffic
        self._version = parts.settings.version
        self._reader, self._batcher, self._answers = parts.reader, parts.batcher, parts.answers
        self._recorder = parts.recorder
        self._most_objects = 2 * parts.reader.width + 64
        self._pools: dict[str, Pool] = {}
        self.in_flight = 0

    def begin(self, exchange: Exchange) -> None:
        """A request for the model; which version answers is ours to draw, unless it was forwarded to us."""
        known = exchange.known
        if b"x-homeostat-hop" in known:
            track = TRACK.get(known.get(b"x-homeostat-track", b"").decode("ascii", "replace"), STABLE)
            self._run(exchange, track, partial(self._answer, exchange, track))
        elif self._traffic.draw():
            self._forward(exchange, self._traffic.route)
        else:
            self._run(exchange, STABLE, partial(self._own, exchange))

    def begin_pinned(self, exchange: Exchange) -> None:
        """A request that names this version: it stays here, and counts in no comparison."""
        self._run(exchange, STABLE, partial(self._answer, exchange, STABLE))

    def _run(self, exchange: Exchange, track: int, done: Callable[[bytes | Problem], None]) -> None:
        """Parse and queue; `done` hears the answer's body or what was wrong."""
        try:
            self._batcher.submit(self._work(exchange, track, done))
        except Problem as problem:
            done(problem)

    def _work(self, exchange: Exchange, track: int, done: Callable[[bytes | Problem], None]) -> Work:
        """The request's rows. Raises Problem."""
        if b"content-encoding" in exchange.known and exchange.known[b"content-encoding"] != b"identity":
            raise Problem(415, "compressed bodies are not supported: send plain JSON")
        if _crowded(exchange.body, self._most_objects):
            raise Problem(400, "too many objects: send one input per column, its rows in `data`")
        try:
            body = orjson.loads(exchange.body)
        except orjson.JSONDecodeError as error:
            raise Problem(400, f"the body is not JSON: {error}") from None
        if type(body) is not dict:
            raise Problem(400, "the body must be an object with `inputs`")
        rows = self._reader.read(body.get("inputs"))
        id_ = body.get("id")
        if id_ is not None and type(id_) is not str:
            raise Problem(400, "`id` must be a string")
        wanted = self._answers.wanted(body.get("outputs"))
        shown = orjson.dumps(id_) if id_ is not None else b""
        return Work(rows, track, exchange.arrived, shown, wanted, done)

    def _answer(self, exchange: Exchange, track: int, result: bytes | Problem) -> None:
        if isinstance(result, Problem):
            self._recorder.answered(track, result.status)
            exchange.fail(result)
        else:
            self._recorder.answered(track, 200)
            exchange.respond(200, result)

    def _own(self, exchange: Exchange, result: bytes | Problem) -> None:
        """The own share: the same rule as for the other side. Our 5xx is answered by the other version where there is one."""
        status = result.status if isinstance(result, Problem) else 200
        self._recorder.outcome(self._version, _outcome(status))
        route = self._traffic.route
        if status == 500 and route.target and route.fallback:
            done = partial(self._rescued, exchange, result)
            self._send(exchange, route, "fallback", done)
        else:
            self._answer(exchange, STABLE, result)

    def _rescued(self, exchange: Exchange, own: bytes | Problem, other: Reply | Failure) -> None:
        if isinstance(other, Reply) and other.status < 300:
            self._relay(exchange, other)
        else:
            self._answer(exchange, STABLE, own)

    def _forward(self, exchange: Exchange, route: Route) -> None:
        self._send(exchange, route, route.track, partial(self._forwarded, exchange, route))

    def _send(self, exchange: Exchange, route: Route, track: str, done: Callable[[Reply | Failure], None]) -> None:
        pool = self._pools.get(route.target)
        if pool is None:
            pool = self._pools[route.target] = Pool(self._loop, route.target)
        self.in_flight += 1

        def ended(outcome: Reply | Failure) -> None:
            self.in_flight -= 1
            done(outcome)

        request = request_bytes(
            exchange.method,
            exchange.url,
            exchange.headers,
            exchange.body,
            host=pool.authority,
            track=track,
        )
        pool.send(request, route.deadline_ms / 1000, ended)

    def _forwarded(self, exchange: Exchange, route: Route, other: Reply | Failure) -> None:
        """Count how the other side did, and answer: with its reply, or from here when it failed or was busy."""
        if isinstance(other, Reply) and 400 <= other.status < 500 and other.status not in _BUSY:
            # whose fault a 4xx is shows only when we answer too: a fault of the other side if we can
            self._run(exchange, FALLBACK, partial(self._second_opinion, exchange, route, other))
            return
        outcome = _outcome(other.status) if isinstance(other, Reply) else _failed(other)
        self._recorder.outcome(route.version, outcome)
        if outcome == "ok" and isinstance(other, Reply):
            self._relay(exchange, other)
        elif route.fallback:
            self._run(exchange, FALLBACK, partial(self._answer, exchange, FALLBACK))
        elif isinstance(other, Reply):
            self._relay(exchange, other)
        else:
            status = 504 if other.why == "deadline" else 502
            exchange.fail(Problem(status, f"version {route.version} gave no answer: {other.message}"))

    def _second_opinion(self, exchange: Exchange, route: Route, other: Reply, own: bytes | Problem) -> None:
        failed = not isinstance(own, Problem)
        self._recorder.outcome(route.version, "failed" if failed else "ok")
        if failed and route.fallback:
            self._answer(exchange, FALLBACK, own)
        else:
            self._relay(exchange, other)

    def _relay(self, exchange: Exchange, reply: Reply) -> None:
        exchange.respond(reply.status, reply.body, reply.kind, reply.headers)

    def route_changed(self, route: Route) -> None:
        """Forget connections to targets that the route names no more."""
        for target in [t for t in self._pools if t != route.target]:
            self._pools.pop(target).close()


def _crowded(body: bytes, most: int) -> bool:
    """Whether JSON text has more than `most` objects: they take far more memory than text. Braces in strings are none."""
    if body.count(b"{") <= most:
        return False
    return next(islice((m for m in _OBJECT.finditer(body) if m.lastindex), most, None), None) is not None


def _outcome(status: int) -> str:
    if status in _BUSY:
        return "busy"
    return "failed" if status >= 500 else "ok"


def _failed(failure: Failure) -> str:
    return "busy" if failure.why == "busy" else "failed"
