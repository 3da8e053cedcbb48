"""A worker process: one event loop, one session, one of the listening sockets of the port.

    python -m homeostat.server.worker SETTINGS SLOT COUNTERS_FD CONTROL_FD SOCKET_FDS [PAYLOADS_FD SCHEMA_FD]

The supervisor says on the control socket when the model may be loaded, when to listen, when the pod is not ready any more
and when to drain (`server.process` has the words); its end is our end.
"""

import asyncio
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import uvloop
from onnxruntime import RunOptions

from homeostat.api.wire.route import Route
from homeostat.errors import ArtifactError
from homeostat.server.counting.counters import FAILED, LOADING, READY, Layout, Slot, map_slots
from homeostat.server.counting.feedback import read_key
from homeostat.server.counting.recorder import Recorder, recorder
from homeostat.server.inference.answers import Answers, minter
from homeostat.server.inference.batching import Batcher
from homeostat.server.inference.cache import Cached
from homeostat.server.inference.model import load
from homeostat.server.inference.warm import warm_up
from homeostat.server.life.bundle import read_bundle
from homeostat.server.life.check import try_model
from homeostat.server.life.process import CHECK, CHECKED, DRAIN, GO, LISTEN, LOADED, NOT_READY
from homeostat.server.life.room import read_room
from homeostat.server.life.spread import Spread
from homeostat.server.page import Page
from homeostat.server.payloads.sampling import Way
from homeostat.server.ports import Ports
from homeostat.server.service import Service
from homeostat.server.settings import Settings
from homeostat.server.tracing.spans import spans
from homeostat.server.traffic.route import POLL_SECONDS, Traffic
from homeostat.server.traffic.sides import Inference
from homeostat.server.transport.tls import Contexts

TICK_SECONDS: Final = 0.1
QUIET_SECONDS: Final = 3.0  # an idle connection is closed in a drain after that long without a request
PERMANENT: Final = 3


class Worker:
    """Everything that one worker runs."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        slot: Slot,
        control: socket.socket,
        way: Way | None = None,
    ) -> None:
        self._loop, self._settings, self._slot, self._control = loop, settings, slot, control
        bundle = read_bundle(Path(settings.model_dir), settings.max_model_bytes)
        model = load(bundle.served, bundle.signature, settings.threads)
        warm_up(lambda rows: model.run(model.example(rows), RunOptions()), settings.max_batch_rows)
        self._recorder = recorder(
            slot, bundle.signature, bundle.baseline, rows=settings.stats, sample=settings.stats_sample
        )
        self._recorder.flush()  # what a predecessor that was killed had staged
        mint = minter(settings.deployment_uid, settings.version, read_key(settings.feedback_key_file))
        answers = Answers(
            settings.name, settings.version, mint, model, self._recorder, named=bundle.signature is not None
        )
        self._payloads = way.payloads(loop, settings, model, answers, self._recorder) if way else None
        if settings.cache_rows:
            count, rows, size = self._recorder.cached, settings.cache_rows, settings.cache_bytes
            model = Cached(model, count, rows=rows, seconds=settings.cache_seconds, size=size)
        self._spans = spans(settings, lambda n: lost(loop, self._recorder, n))
        self._batcher = Batcher(
            loop, model, answers, self._recorder, settings, payloads=self._payloads, spans=self._spans
        )
        self._traffic = Traffic(settings.route_file, self._route_changed)
        uid = settings.deployment_uid
        self._tls = Contexts.of_worker(settings)
        trust = self._tls.peers.context if self._tls.peers else None
        self._inference = Inference(
            loop, settings.version, self._batcher, self._recorder, self._traffic, deployment=uid, trust=trust
        )
        self._page = Page(settings, model, answers, bundle.baseline) if settings.page else None
        self._service = Service(settings, model, answers, self._recorder, self._inference, page=self._page)
        self._ports = Ports(settings, self._service, self._recorder.refused_request, self._spans)
        self._ended, self._may_listen = loop.create_future(), loop.create_future()
        self._draining_since = 0.0
        self._answered_before = slot.get("answered")
        self._ticks = 0

    async def run(self, sockets: Sequence[socket.socket], slots: Sequence[Slot], number: int) -> None:
        """Accept from these sockets, once we are told to, until told to end and all is answered."""
        self._traffic.reload()
        self._spread = Spread(slots, number)
        if self._page:
            self._page.watch(slots)
        self._loop.add_reader(self._control, self._told)
        self._slot.put("heartbeat", time.monotonic_ns())
        self._slot.put("state", LOADED)
        self._tick()
        listeners = await self._listening(sockets)
        await self._ended
        for listener in listeners:
            listener.close()
        if self._payloads is not None:
            self._payloads.finish()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.finish)
        self._recorder.flush()

    async def _listening(self, sockets: Sequence[socket.socket]) -> list[asyncio.Server]:
        """Wait for the word to listen, or for the end; then requests come."""
        await asyncio.wait({self._may_listen, self._ended}, return_when=asyncio.FIRST_COMPLETED)
        if not self._may_listen.done():
            return []
        listeners = await self._ports.listen(sockets, self._tls)
        self._slot.put("state", READY)
        return listeners

    def _route_changed(self, route: Route) -> None:
        self._ports.route_drain(on=route.drain)
        self._inference.route_changed(route)
        self._slot.put("epoch", route.epoch)

    def _told(self) -> None:
        try:
            words = self._control.recv(64)
        except BlockingIOError:
            return
        if LISTEN in words and not self._may_listen.done():
            self._may_listen.set_result(None)
        if not words or DRAIN in words:
            self._service.leaving = self._service.leaving or not words  # a surplus worker leaves a pod that is ready
            self._ports.drain()
            self._draining_since = self._draining_since or time.monotonic()
            if not words:
                self._loop.remove_reader(self._control)
        elif NOT_READY in words:
            self._service.leaving = True

    def _tick(self) -> None:
        """Everything that is done about time: flush, route, sweep, drain."""
        self._ticks += 1
        slot = self._slot
        slot.put("heartbeat", time.monotonic_ns())
        slot.put("queued", self._batcher.queued)
        slot.put("connections", self._ports.connections)
        slot.put("answered", self._answered_before + self._ports.answered)
        self._recorder.flush()
        if self._ticks % round(POLL_SECONDS / TICK_SECONDS) == 0:
            self._traffic.reload()
        if self._ticks % round(1 / TICK_SECONDS) == 0:
            self._ports.sweep()
            self._tls.poll()
            if self._page:
                self._page.look()
            self._ports.shed(self._spread.look(time.monotonic()))
        if self._ports.draining and self._drained():
            self._ended.set_result(None)
            return
        self._loop.call_later(TICK_SECONDS, self._tick)

    def _drained(self) -> bool:
        """Whether nothing is left: then, or when the time for it is over, the worker ends."""
        waited = time.monotonic() - self._draining_since
        self._ports.close_idle(QUIET_SECONDS if waited < self._settings.drain else 0.0)
        busy = self._ports.connections or self._inference.in_flight or self._batcher.queued
        return not busy or waited > self._settings.drain + 1.0


def lost(loop: asyncio.AbstractEventLoop, recorder: Recorder, spans: int) -> None:
    """Count spans that were lost, from any thread: only the loop's writes to the counters."""
    with suppress(RuntimeError):  # the loop has ended, and the counters with it
        loop.call_soon_threadsafe(recorder.dropped, "span", spans)


def main(argv: list[str]) -> int:
    """Run one worker. Returns 0 after a drain, 3 when the model cannot be served; the slot then says why."""
    for ignored in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)  # the supervisor decides when we end
    settings = Settings.from_text(argv[0])
    number, counters, control = (int(word) for word in argv[1:4])
    sockets = [socket.socket(fileno=int(word)) for word in argv[4].split(",")]
    told = socket.socket(fileno=control)
    word, wrong = told.recv(1), None
    if word == CHECK:
        wrong = _checked(settings, told)
    elif word != GO:
        return 0
    shape = read_bundle(Path(settings.model_dir), settings.max_model_bytes).shape
    slots = map_slots(counters, Layout.of(shape), settings.slots)  # not before the check: its child has none of it
    slot = slots[number]
    slot.put("state", LOADING)
    slot.say("", "")
    told.setblocking(False)
    try:
        if wrong is not None:
            raise wrong
        way = Way(number, *map(int, argv[5:7])) if len(argv) > 5 else None
        uvloop.run(_serve(settings, slots, number, told, sockets, way=way))
    except ArtifactError as error:
        slot.say(error.reason, error.because)
        slot.put("state", FAILED)
        return PERMANENT
    except OSError as error:
        slot.say("PortUnavailable", f"cannot listen on port {settings.port}: {error.strerror or error}")
        sys.stderr.write(f"worker {number}: cannot listen on port {settings.port}: {error}\n")
        return 1
    return 0


def _checked(settings: Settings, told: socket.socket) -> ArtifactError | None:
    """What is wrong with the model; else the supervisor hears that it passed."""
    try:
        try_model(settings, read_room())
    except ArtifactError as error:
        return error
    told.send(CHECKED)
    return None


async def _serve(
    settings: Settings,
    slots: list[Slot],
    number: int,
    told: socket.socket,
    sockets: list[socket.socket],
    *,
    way: Way | None,
) -> None:
    await Worker(asyncio.get_running_loop(), settings, slots[number], told, way).run(sockets, slots, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
