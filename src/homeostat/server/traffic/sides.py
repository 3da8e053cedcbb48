"""One inference request's way: drawn to a side, run here or forwarded, answered from here when the other side fails."""

import asyncio
import ssl
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from typing import Final

from homeostat.api.wire.route import Route
from homeostat.server.asked import Answer, Asked, Done
from homeostat.server.counting.recorder import TRACK, Recorder
from homeostat.server.inference.batching import Batcher
from homeostat.server.inference.work import Work
from homeostat.server.problem import Problem
from homeostat.server.traffic.circuit import Admit, Circuit
from homeostat.server.traffic.forward import Failure, Pool, request_bytes
from homeostat.server.traffic.mirror import Shadow
from homeostat.server.traffic.outgoing import Reply
from homeostat.server.traffic.route import HERE, Draw, Traffic

STABLE: Final = TRACK["stable"]
FALLBACK: Final = TRACK["fallback"]
CHOSEN: Final = TRACK["chosen"]
_BUSY: Final = (429, 503)
_GONE: Final = 499
_LEAST_SECONDS: Final = 0.002  # a forward that may take less is not begun


@dataclass(frozen=True, slots=True)
class Door:
    """One way in. read: a request's rows and how their answer is written; raises Problem. protocol: place in `PROTOCOLS`."""

    protocol: int
    read: Callable[[Asked], Work]


class Target:
    """Another version's Service. What is sent there while its circuit is open does not wait for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, url: str, trust: ssl.SSLContext | None) -> None:
        self.pool = Pool(loop, url, trust)
        self.circuit = Circuit[Failure]()


@dataclass(frozen=True, slots=True)
class _Case:
    """A request of the other side."""

    asked: Asked
    door: Door
    route: Route
    draw: Draw


@dataclass(frozen=True, slots=True)
class _Sent:
    """How one request is forwarded. limit: seconds. rushed: the client's own time is the limit. probe: of the circuit."""

    route: Route
    track: str
    limit: float
    rushed: bool
    probe: bool


class Inference:
    """Runs or forwards requests and counts how each ended, under the side that was drawn for it.

    deployment: uid that the pods of one deployment share; a hop header made from it is another pod's, every other one a
    client's, whose track is taken only when the route lets clients choose it. trust: for targets with `https`.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        version: str,
        batcher: Batcher,
        recorder: Recorder,
        traffic: Traffic,
        *,
        deployment: str = "",
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._loop, self._version, self._traffic = loop, version, traffic
        self._batcher, self._recorder = batcher, recorder
        self._hop, self._trust = hop_of(deployment), trust
        self._targets: dict[str, Target] = {}
        self._shadow: Shadow | None = None
        self.in_flight = 0

    def begin(self, asked: Asked, door: Door) -> None:
        """A request for the model; which version answers is ours to draw, unless it was forwarded to us."""
        if b"x-homeostat-hop" in asked.known:
            track = self._track(asked)
            self._run(asked, door, track, partial(self._answer, asked, door, track))
        elif not self._traffic.splits:
            self._run(asked, door, STABLE, partial(self._own, asked, door, HERE))
        else:
            draw = self._traffic.draw(asked)
            if draw.forward:
                self._forward(asked, door, draw)
            else:
                self._run(asked, door, CHOSEN if draw.chosen else STABLE, partial(self._own, asked, door, draw))

    def begin_pinned(self, asked: Asked, door: Door) -> None:
        """A request that names this version: it stays here, and counts in no comparison."""
        track = CHOSEN if self._traffic.splits else STABLE
        self._run(asked, door, track, partial(self._answer, asked, door, track))

    def _track(self, asked: Asked) -> int:
        """The track of a request with hop header. Another pod's says under which; a client's only what it may choose."""
        name = asked.known.get(b"x-homeostat-track", b"").decode("ascii", "replace")
        if asked.known[b"x-homeostat-hop"] == self._hop or name in self._traffic.route.choices:
            return TRACK.get(name, STABLE)
        return STABLE

    def _run(self, asked: Asked, door: Door, track: int, done: Done) -> None:
        """Parse and queue; `done` hears the answer or what was wrong."""
        try:
            self._batcher.check_room()
            work = door.read(asked)
            work.asked, work.track, work.done = asked, track, done
            self._batcher.submit(work)
        except Problem as problem:
            done(problem)
        except Exception as error:  # noqa: BLE001  a fault of ours is answered, and counted, like one of the model
            traceback.print_exception(error)
            done(Problem(500, "the server failed on this request: its log says why"))

    def _answer(self, asked: Asked, door: Door, track: int, result: Answer | Problem) -> None:
        if isinstance(result, Problem):
            self._recorder.answered(track, result.status, door.protocol)
            asked.fail(result)
        else:
            self._recorder.answered(track, 200, door.protocol)
            asked.respond(200, *result)

    def _own(self, asked: Asked, door: Door, draw: Draw, result: Answer | Problem) -> None:
        """The own share: the same rule as for the other side. Our 5xx is answered by the old version while it is there."""
        track = CHOSEN if draw.chosen else STABLE
        if isinstance(result, Problem):
            self._own_problem(asked, door, draw, result)
            return
        if not draw.chosen:
            self._recorder.outcome(self._version, "ok", draw.lane)
        self._answer(asked, door, track, result)
        if self._shadow is not None and not draw.chosen:
            self._shadow.answered(asked, result)

    def _own_problem(self, asked: Asked, door: Door, draw: Draw, problem: Problem) -> None:
        status, route = problem.status, self._traffic.route
        limit, rushed = _limit(asked, route)
        if not (draw.chosen or status == _GONE or (status == 504 and rushed)):
            self._recorder.outcome(self._version, _outcome(status), draw.lane)
        own = partial(self._answer, asked, door, CHOSEN if draw.chosen else STABLE, problem)
        old_is_there = bool(route.target) and route.fallback and route.track != "candidate"
        if status < 500 or status in _BUSY or not old_is_there or limit < _LEAST_SECONDS or asked.gone:
            own()
            return
        target = self._target(route.target)
        admit = target.circuit.admit(time.monotonic())
        if admit is Admit.HOLD:
            own()
            return
        sent = _Sent(route, "fallback", limit, rushed, admit is Admit.PROBE)
        self._send(asked, target, sent, partial(self._rescued, asked, own))

    def _rescued(self, asked: Asked, own: Callable[[], None], other: Reply | Failure) -> None:
        if isinstance(other, Reply) and other.status < 300:
            self._relay(asked, other)
        else:
            own()

    def _forward(self, asked: Asked, door: Door, draw: Draw) -> None:
        route = self._traffic.route
        limit, rushed = _limit(asked, route)
        case = _Case(asked, door, route, draw)
        if limit < _LEAST_SECONDS:  # the client has no time for two
            self._from_here(case)
            return
        target = self._target(route.target)
        admit = target.circuit.admit(time.monotonic())
        if admit is Admit.HOLD and target.circuit.why is not None:
            self._forwarded(case, target.circuit.why)
            return
        track = "chosen" if draw.chosen else route.track
        sent = _Sent(route, track, limit, rushed, admit is Admit.PROBE)
        if sent.probe and route.fallback:  # nobody waits for a target that was dead a moment ago
            self._send(asked, target, sent, partial(self._probed, case))
            self._from_here(case)
        else:
            self._send(asked, target, sent, partial(self._forwarded, case))

    def _from_here(self, case: _Case) -> None:
        """The answer to a request of the other side, without any count of it."""
        self._run(case.asked, case.door, FALLBACK, partial(self._answer, case.asked, case.door, FALLBACK))

    def _send(self, asked: Asked, target: Target, sent: _Sent, done: Callable[[Reply | Failure], None]) -> None:
        self.in_flight += 1
        request = request_bytes(
            asked.method,
            asked.url,
            asked.headers,
            asked.body,
            host=target.pool.authority,
            track=sent.track,
            hop=self._hop,
            timeout_ms=int(sent.limit * 1000),
        )
        target.pool.send(request, sent.limit, partial(self._ended, target.circuit, sent, done))

    def _ended(
        self, circuit: Circuit[Failure], sent: _Sent, done: Callable[[Reply | Failure], None], outcome: Reply | Failure
    ) -> None:
        """Tell the circuit; forgive time-outs that say nothing of the target: new pods are slow, some clients in a hurry."""
        self.in_flight -= 1
        if isinstance(outcome, Reply) and outcome.status == 504:
            outcome = Failure("deadline", "it gave up at its deadline")
        if isinstance(outcome, Reply):
            circuit.answered()
        elif outcome.why == "busy" or (outcome.why == "deadline" and sent.rushed):
            outcome = replace(outcome, forgiven=outcome.why == "deadline")
            if sent.probe:
                circuit.forgone()
        else:
            young = outcome.why == "deadline" and time.time() < sent.route.young_until
            outcome = replace(outcome, forgiven=young)
            circuit.failed(time.monotonic(), outcome, probe=sent.probe)
        done(outcome)

    def _probed(self, case: _Case, other: Reply | Failure) -> None:
        """The user was answered from here meanwhile. Whose fault a 4xx is shows only when both answer: it counts nothing."""
        if isinstance(other, Failure) or not _is_refusal(other.status):
            self._count(case, other)

    def _forwarded(self, case: _Case, other: Reply | Failure) -> None:
        """Count how the other side did, and answer: with its reply, or from here when it failed or was busy."""
        if isinstance(other, Reply) and _is_refusal(other.status):
            # whose fault a 4xx is shows only when we answer too: a fault of the other side if we can
            self._run(case.asked, case.door, FALLBACK, partial(self._second_opinion, case, other))
            return
        self._count(case, other)
        if isinstance(other, Reply) and (other.status < 400 or not case.route.fallback):
            self._relay(case.asked, other)
        elif case.route.fallback:
            self._from_here(case)
        elif isinstance(other, Failure):
            status = {"deadline": 504, "busy": 503}.get(other.why, 502)
            said = f"version {case.route.version} gave no answer: {other.message}"
            problem = Problem(status, said, retry_after=1 if status == 503 else 0)
            self._answer(case.asked, case.door, FALLBACK, problem)

    def _second_opinion(self, case: _Case, other: Reply, own: Answer | Problem) -> None:
        failed = not isinstance(own, Problem)
        if not case.draw.chosen and (not isinstance(own, Problem) or _is_refusal(own.status)):
            self._recorder.outcome(case.route.version, "failed" if failed else "ok", case.draw.lane)
        if failed and case.route.fallback:
            self._answer(case.asked, case.door, FALLBACK, own)
        else:
            self._relay(case.asked, other)

    def _count(self, case: _Case, other: Reply | Failure) -> None:
        if case.draw.chosen or (isinstance(other, Failure) and other.forgiven):
            return
        if isinstance(other, Failure):
            outcome = "busy" if other.why == "busy" else "failed"
        else:
            outcome = _outcome(other.status)
        self._recorder.outcome(case.route.version, outcome, case.draw.lane)

    def _relay(self, asked: Asked, reply: Reply) -> None:
        asked.respond(reply.status, reply.body, reply.kind, reply.headers)

    def _target(self, url: str) -> Target:
        found = self._targets.get(url)
        if found is None:
            found = self._targets[url] = Target(self._loop, url, self._trust)
        return found

    def route_changed(self, route: Route) -> None:
        """Forget connections to targets that the route names no more; begin or end mirroring."""
        for url in [u for u in self._targets if u != route.target]:
            self._targets.pop(url).pool.close()
        before = self._shadow.mirror if self._shadow is not None else None
        if route.mirror == before:
            return
        if self._shadow is not None:
            self._shadow.close()
        self._shadow = None
        if route.mirror is not None and route.mirror.percent:
            self._shadow = Shadow(self._loop, route.mirror, self._recorder, hop=self._hop, trust=self._trust)


def hop_of(deployment: str) -> bytes:
    """The hop header's value among the pods of one deployment: not a secret, but nothing that a client sends by chance."""
    return blake2b(deployment.encode(), digest_size=8).hexdigest().encode() if deployment else b"1"


def _limit(asked: Asked, route: Route) -> tuple[float, bool]:
    """Seconds that a forward may take, and whether the client's time, not the route, is what bounds it.

    At most half of what the request has left, so that stable can still answer.
    """
    limit = route.deadline_ms / 1000
    try:
        timeout = asked.timeout
    except Problem:  # whoever reads the request says so
        return limit, False
    if timeout is None:
        return limit, False
    half = (asked.arrived + timeout - time.monotonic()) / 2
    return (half, True) if half < limit else (limit, False)


def _is_refusal(status: int) -> bool:
    """Whether the request was wrong, or the version that says so is."""
    return 400 <= status < 500 and status not in _BUSY and status != _GONE


def _outcome(status: int) -> str:
    if status in _BUSY:
        return "busy"
    return "failed" if status >= 500 else "ok"
