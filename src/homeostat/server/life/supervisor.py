"""The pod's first process: it has the model checked, looks after the workers, and has the admin port.

It never loads the model itself, so no model can end it; a pod that cannot serve stays alive and says why. The order of a
start: size, digest, the workers' start without the model, its check in a limited child of the first one (`server.check`);
only when that has passed do the workers load the model, warm up, and listen.
"""

import asyncio
import os
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from homeostat.api.wire.stats import State
from homeostat.errors import ArtifactError
from homeostat.server.admin import Admin
from homeostat.server.counting.counters import Layout, Shape, Slot, map_slots, shared_memory
from homeostat.server.counting.view import Pod
from homeostat.server.life.announce import block
from homeostat.server.life.bundle import Bundle, check_digest, read_bundle
from homeostat.server.life.fleet import Fleet
from homeostat.server.life.room import Room, read_room
from homeostat.server.payloads.child import PayloadLogger
from homeostat.server.settings import Settings
from homeostat.server.transport.tls import Contexts

TICK_SECONDS: Final = 0.05
LOOK_SECONDS: Final = 3.0  # between looks at what others change: the pod's limits, the certificates
CHECK_SECONDS: Final = 0.01  # between looks at the check
GRACE_SECONDS: Final = 10.0  # the check keeps its time by itself; this is for the worker that starts it


class Supervisor:
    """Keeps the workers running. `state` is what `/stats` and the probes say."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State(reason="Loading", message="the model is being checked")
        self.bundle: Bundle | None = None
        start = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self.pod = Pod(settings.name, settings.version, start, None, sample=settings.stats_sample)
        self._no_slots = map_slots(shared_memory(Layout.of(Shape()), 1), Layout.of(Shape()), 1)
        self._fleet: Fleet | None = None
        self._payloads: PayloadLogger | None = None
        self._stop = asyncio.Event()
        self._begun = time.monotonic()
        self._looked = self._begun
        self._tls, self._tls_problem = Contexts(), ""
        self._announcing: asyncio.Task[None] | None = None

    @property
    def ready(self) -> bool:
        """Whether requests should come here."""
        return self.state.reason == "Ready"

    @property
    def slots(self) -> list[Slot]:
        """Counters of all workers that ever ran; one empty slot before."""
        return self._fleet.slots if self._fleet else self._no_slots

    @property
    def restarts(self) -> int:
        """Workers that ended and were started again."""
        return self._fleet.restarts if self._fleet else 0

    @property
    def workers(self) -> int:
        """Workers that serve now."""
        return len(self._fleet.serving()) if self._fleet else 0

    @property
    def tls_problem(self) -> str:
        """Why a new certificate is not used; empty when there is none."""
        return self._tls_problem

    @property
    def epoch(self) -> int:
        """The route epoch that all running workers apply; 0 when none runs."""
        return self._fleet.epoch if self._fleet else 0

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; then leave without dropping a request. Returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        admin = Admin(self)
        try:
            self._tls = Contexts.of_supervisor(self.settings)
        except ArtifactError as error:
            self._fail(error.reason, error.because)
            if self.settings.tls_admin:
                return 1
        try:
            await admin.start(self._tls.admin.outer if self._tls.admin else None)
        except OSError as error:
            sys.stderr.write(
                f"homeostat serve: cannot listen on admin port {self.settings.admin_port}: "
                f"{error.strerror or error}; choose another with --admin-port\n"
            )
            return 1
        await self._serve()
        failed = not self._stop.is_set()
        await self._leave()
        await admin.stop()
        return int(failed)

    async def _serve(self) -> None:
        """Until we are told to stop. A pod that cannot serve says why as long; at a terminal it has said so and ends."""
        if self.state.reason == "Loading":
            try:
                await self._start()
            except ArtifactError as error:
                self._fail(error.reason, error.because)
                if self._fleet is not None:
                    self._fleet.kill()
            else:
                await self._watch()
        if not self.settings.announce:
            await self._stop.wait()

    async def _start(self) -> None:
        """Have the model checked while the workers start, then let them load it. Raises ArtifactError."""
        settings, room = self.settings, read_room()
        if settings.payload_to and settings.payload_sample:
            self._payloads = PayloadLogger(settings)
        bundle = read_bundle(Path(settings.model_dir), settings.max_model_bytes)
        if settings.digest:
            await asyncio.to_thread(check_digest, bundle.model, settings.digest)
        self._progress(f"checking {bundle.model} ({_size(bundle.model.stat().st_size)})")
        self.bundle = bundle
        self.pod = replace(self.pod, baseline=bundle.baseline, optimization=bundle.optimization)
        fleet = self._fleet = self._new_fleet(bundle, room)
        fleet.start()
        if not await self._checked(fleet):
            return
        self.state = State(reason="Loading", message="the model is being loaded")
        count = len(fleet.children)
        self._progress(f"loading it in {count} worker{'s' if count > 1 else ''}")
        fleet.go()

    async def _checked(self, fleet: Fleet) -> bool:
        """Wait for the check; False when we are told to stop meanwhile. Raises ArtifactError."""
        end = time.monotonic() + self.settings.load_seconds + GRACE_SECONDS
        while not fleet.checked():
            if self._stop.is_set():
                return False
            if time.monotonic() > end:
                raise ArtifactError("LoadTimeout", f"the check did not end within {self.settings.load_seconds:g} s")
            await asyncio.sleep(CHECK_SECONDS)
        return True

    def _new_fleet(self, bundle: Bundle, room: Room) -> Fleet:
        try:
            return Fleet(self.settings, bundle, room, self._payloads.fds if self._payloads else ())
        except OSError as error:
            raise ArtifactError(
                "PortUnavailable",
                f"cannot listen on {self.settings.host}: {error.strerror or error}; choose another with --port or --host",
            ) from error

    async def _watch(self) -> None:
        """Look after the workers until we are told to stop."""
        while not self._stop.is_set() and self._fleet is not None:
            self._fleet.tick()
            self._judge(self._fleet)
            if self._payloads and self.ready:
                self._payloads.tick()
            now = time.monotonic()
            if now - self._looked > LOOK_SECONDS:
                self._looked = now
                self._fleet.resize(read_room())
                self._tls_problem = self._tls.poll()
            try:
                await asyncio.wait_for(self._stop.wait(), TICK_SECONDS)
            except TimeoutError:
                continue

    def _judge(self, fleet: Fleet) -> None:
        """What the pod is now: Ready when all workers were ready once and one is."""
        if fleet.was_ready and fleet.serving():
            if not self.ready and self.settings.announce:
                self._announcing = asyncio.get_running_loop().create_task(self._announce())
            self.state = State(reason="Ready", message=self._tls_problem)
            return
        reason, message = fleet.said()
        if reason:
            self._fail(reason, message)
        elif self.ready:
            self.state = State(reason="WorkersDown", message="no worker runs; they are being started again")

    def _fail(self, reason: str, message: str) -> None:
        if (self.state.reason, self.state.message) != (reason, message):
            sys.stderr.write(f"not ready: {reason}: {message}\n")
        self.state = State(reason=reason, message=message)

    def _progress(self, what: str) -> None:
        if self.settings.announce:
            sys.stderr.write(f"{what} …\n")

    async def _announce(self) -> None:
        """The addresses, for a person at a terminal."""
        sys.stderr.write(f"ready after {time.monotonic() - self._begun:.1f} s; Ctrl-C ends it\n")
        sys.stdout.write(await block(self.settings, self.bundle))
        sys.stdout.flush()

    async def _leave(self) -> None:
        """Not ready; serve on while endpoints propagate; drain; end."""
        fleet, serving = self._fleet, self.ready
        self.state = State(reason="Draining", message="the pod ends; it answers what still arrives")
        if fleet is None:
            return
        fleet.not_ready()
        if self._payloads:
            self._payloads.hurry()
        if serving:
            await self._serve_on(fleet, self.settings.lame_duck)
        fleet.drain()
        await self._serve_on(fleet, self.settings.drain + 3.0)
        fleet.kill()
        if self._payloads:
            await self._payloads.finish()

    async def _serve_on(self, fleet: Fleet, seconds: float) -> None:
        """Until no worker lives, at most `seconds`; new connections go to those that still serve."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(child.alive for child in fleet.children):
            fleet.steer()
            await asyncio.sleep(TICK_SECONDS)


def _size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"


def serve(settings: Settings) -> int:
    """Run the pod's processes until SIGTERM."""
    import uvloop

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return uvloop.run(_run(settings))


async def _run(settings: Settings) -> int:
    return await Supervisor(settings).run()
