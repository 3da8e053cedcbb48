"""A worker process: one event loop, one session, one of the listening sockets of the port.

    python -m homeostat.server.worker SETTINGS SLOT COUNTERS_FD CONTROL_FD

The supervisor says `n` (not ready any more) and `d` (drain, then end) on the control socket; its end is our end.
"""

import asyncio
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Final

import uvloop

from homeostat.api.wire.route import Route
from homeostat.errors import ArtifactError
from homeostat.server.answers import Answers
from homeostat.server.batching import Batcher
from homeostat.server.bundle import read_bundle
from homeostat.server.counters import FAILED, LOADING, READY, Layout, Slot, map_slots
from homeostat.server.http import Limits, Server
from homeostat.server.inference import Inference, Parts
from homeostat.server.model import load
from homeostat.server.recorder import Recorder
from homeostat.server.rows import Reader
from homeostat.server.service import Service
from homeostat.server.settings import Settings
from homeostat.server.traffic import POLL_SECONDS, Traffic

TICK_SECONDS: Final = 0.1
QUIET_SECONDS: Final = 3.0  # an idle connection is closed in a drain after that long without a request
BACKLOG: Final = 4096
PERMANENT: Final = 3


class Worker:
    """Everything that one worker runs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: Settings, slot: Slot, control: socket.socket) -> None:
        self._loop, self._settings, self._slot, self._control = loop, settings, slot, control
        bundle = read_bundle(Path(settings.model_dir), settings.max_model_bytes)
        model = load(bundle.model, bundle.signature, settings.threads)
        signature = model.signature
        self._recorder = Recorder(slot, bundle.signature, bundle.baseline, rows=settings.stats)
        self._recorder.flush()  # what a predecessor that was killed had staged
        answers = Answers(settings.name, settings.version, settings.deployment_uid, signature, self._recorder)
        self._batcher = Batcher(loop, model, answers, self._recorder, settings)
        self._traffic = Traffic(settings.route_file, self._route_changed)
        parts = Parts(settings, Reader(signature), self._batcher, answers, self._recorder)
        self._inference = Inference(loop, parts, self._traffic)
        self._service = Service(settings, signature, answers, self._recorder, self._inference)
        limits = Limits(
            settings.max_header,
            settings.max_body,
            settings.max_connections,
            settings.header_seconds,
            settings.body_seconds,
            settings.idle_seconds,
        )
        self._server = Server(self._service.handle, limits)
        self._ended = loop.create_future()
        self._draining_since = 0.0
        self._ticks = 0

    async def run(self) -> None:
        """Listen until told to end and all is answered."""
        self._traffic.reload()
        listener = await self._loop.create_server(
            self._server.connection,
            self._settings.host,
            self._settings.port,
            reuse_port=True,
            backlog=BACKLOG,
        )
        self._loop.add_reader(self._control, self._told)
        self._slot.put("heartbeat", time.monotonic_ns())
        self._slot.put("state", READY)
        self._tick()
        await self._ended
        listener.close()
        self._recorder.flush()

    def _route_changed(self, route: Route) -> None:
        self._server.route_drain = route.drain
        self._inference.route_changed(route)
        self._slot.put("epoch", route.epoch)

    def _told(self) -> None:
        try:
            words = self._control.recv(64)
        except BlockingIOError:
            return
        if not words or b"d" in words:
            self._service.leaving = self._server.draining = True
            self._draining_since = self._draining_since or time.monotonic()
            if not words:
                self._loop.remove_reader(self._control)
        elif b"n" in words:
            self._service.leaving = True

    def _tick(self) -> None:
        """Everything that is done about time: flush, route, sweep, drain."""
        self._ticks += 1
        slot = self._slot
        slot.put("heartbeat", time.monotonic_ns())
        slot.put("queued", self._batcher.queued)
        slot.put("connections", len(self._server.connections))
        self._recorder.flush()
        if self._ticks % round(POLL_SECONDS / TICK_SECONDS) == 0:
            self._traffic.reload()
        if self._ticks % round(1 / TICK_SECONDS) == 0:
            self._server.sweep()
        if self._server.draining and self._drained():
            self._ended.set_result(None)
            return
        self._loop.call_later(TICK_SECONDS, self._tick)

    def _drained(self) -> bool:
        """Whether nothing is left: then, or when the time for it is over, the worker ends."""
        waited = time.monotonic() - self._draining_since
        self._server.close_idle(QUIET_SECONDS if waited < self._settings.drain else 0.0)
        busy = self._server.connections or self._inference.in_flight or self._batcher.queued
        return not busy or waited > self._settings.drain + 1.0


def main(argv: list[str]) -> int:
    """Run one worker. Returns 0 after a drain, 3 when the model cannot be served; the slot then says why."""
    settings = Settings.from_text(argv[0])
    number, counters, control = (int(word) for word in argv[1:4])
    for ignored in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)  # the supervisor decides when we end
    shape = read_bundle(Path(settings.model_dir), settings.max_model_bytes).shape
    slot = map_slots(counters, Layout.of(shape), settings.workers)[number]
    slot.put("state", LOADING)
    slot.say("", "")
    told = socket.socket(fileno=control)
    told.setblocking(False)
    try:
        uvloop.run(_serve(settings, slot, told))
    except ArtifactError as error:
        slot.say(error.reason, error.because)
        slot.put("state", FAILED)
        return PERMANENT
    except OSError as error:
        slot.say("PortUnavailable", f"cannot listen on port {settings.port}: {error.strerror or error}")
        sys.stderr.write(f"worker {number}: cannot listen on port {settings.port}: {error}\n")
        return 1
    return 0


async def _serve(settings: Settings, slot: Slot, told: socket.socket) -> None:
    await Worker(asyncio.get_running_loop(), settings, slot, told).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
