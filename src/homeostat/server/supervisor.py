"""The pod's first process: it checks the model, starts the workers and starts dead ones again, and has the admin port.

It never loads the model itself, so no model can end it; a pod that cannot serve stays alive and says why.
"""

import asyncio
import json
import os
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from homeostat.api.wire.stats import State
from homeostat.errors import ArtifactError
from homeostat.server.admin import Admin
from homeostat.server.bundle import Bundle, read_bundle
from homeostat.server.counters import READY, Layout, Shape, map_slots, shared_memory
from homeostat.server.process import PERMANENT_EXIT, Child, start_worker
from homeostat.server.settings import Settings
from homeostat.server.view import Pod

TICK_SECONDS: Final = 0.05
MAX_BACK_OFF: Final = 10.0
LOAD_ATTEMPTS: Final = 3


class Supervisor:
    """Keeps the workers running. `state` is what `/stats` and the probes say."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.state = State(reason="Loading", message="the model is being checked")
        self.restarts = 0
        self.bundle: Bundle | None = None
        start = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        self.pod = Pod(settings.name, settings.version, start, None)
        self.slots = map_slots(shared_memory(Layout.of(Shape()), 1), Layout.of(Shape()), 1)
        self._memory = -1
        self._children: list[Child] = []
        self._stop = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether requests should come here."""
        return self.state.reason == "Ready"

    @property
    def epoch(self) -> int:
        """The route epoch that all running workers apply; 0 when none runs."""
        running = [self.slots[c.number] for c in self._children if c.alive and self._slot_ready(c)]
        return min((slot.get("epoch") for slot in running), default=0)

    def _slot_ready(self, child: Child) -> bool:
        return self.slots[child.number].get("state") == READY

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT; then leave without dropping a request. Returns the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        admin = Admin(self)
        try:
            await admin.start()
        except OSError as error:
            sys.stderr.write(
                f"homeostat serve: cannot listen on admin port {self.settings.admin_port}: "
                f"{error.strerror or error}; choose another with --admin-port\n"
            )
            return 1
        if await self._checked():
            await self._watch()
        else:
            await self._stop.wait()
        await self._leave()
        await admin.stop()
        return 0

    async def _checked(self) -> bool:
        """Whether the folder holds a model that a worker may load; `state` says what is wrong when not."""
        settings = self.settings
        try:
            bundle = read_bundle(Path(settings.model_dir), settings.max_model_bytes)
            await self._check_file(bundle.model)
        except ArtifactError as error:
            self._fail(error.reason, error.because)
            return False
        if self._stop.is_set():
            return False
        self.bundle = bundle
        self.pod = Pod(settings.name, settings.version, self.pod.start, bundle.baseline)
        layout = Layout.of(bundle.shape)
        self._memory = shared_memory(layout, settings.workers)
        self.slots = map_slots(self._memory, layout, settings.workers)
        self.state = State(reason="Loading", message="the model is being loaded")
        return True

    async def _check_file(self, model: Path) -> None:
        """Run the checker in a process of its own. Raises ArtifactError."""
        command = (sys.executable, "-m", "homeostat.server.check", str(model))
        child = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        stopped = asyncio.ensure_future(self._stop.wait())
        talked = asyncio.ensure_future(child.communicate())
        await asyncio.wait({stopped, talked}, timeout=self.settings.load_seconds, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not talked.done():
            child.kill()
            await talked
            raise ArtifactError("LoadFailed", f"checking {model.name} took over {self.settings.load_seconds:g} s")
        if child.returncode == PERMANENT_EXIT:
            said = json.loads(talked.result()[0])
            raise ArtifactError(said["reason"], said["message"])
        if child.returncode:
            raise ArtifactError("LoadFailed", f"checking {model.name} ended with exit code {child.returncode}")

    async def _watch(self) -> None:
        """Start the workers, and look after them until we are told to stop."""
        self._children = [start_worker(self.settings, n, self._memory) for n in range(self.settings.workers)]
        while not self._stop.is_set():
            for child in self._children:
                self._look_after(child)
            self._judge()
            try:
                await asyncio.wait_for(self._stop.wait(), TICK_SECONDS)
            except TimeoutError:
                continue

    def _look_after(self, child: Child) -> None:
        now, slot = time.monotonic(), self.slots[child.number]
        if not child.alive:
            if child.given_up or now < child.start_again_at:
                return
            if child.ended_at is None:
                self._ended(child, now)
                return
            self.restarts += 1
            child.start_again()
        elif child.was_ready(slot.get("state") == READY):
            silent = (time.monotonic_ns() - slot.get("heartbeat")) / 1e9
            if silent > self.settings.wedged_seconds:
                sys.stderr.write(f"worker {child.number} said nothing for {silent:.0f} s: ended\n")
                child.kill()
        elif now - child.started > self.settings.load_seconds:
            sys.stderr.write(f"worker {child.number} took over {self.settings.load_seconds:g} s to load: ended\n")
            child.kill()

    def _ended(self, child: Child, now: float) -> None:
        """A worker ended by itself: again later, unless its model is at fault."""
        code, slot = child.exit_code, self.slots[child.number]
        slot.put("state", 0)
        slot.put("queued", 0)
        slot.put("connections", 0)
        child.failed(now, MAX_BACK_OFF)
        if code == PERMANENT_EXIT:
            child.given_up = True
        elif child.loads_failed >= LOAD_ATTEMPTS and not slot.said()[0]:
            child.given_up = True
            slot.say("LoadFailed", f"a worker died {LOAD_ATTEMPTS} times while it loaded the model: {_cause(code)}")
        sys.stderr.write(f"worker {child.number} ended: {_cause(code)}\n")

    def _judge(self) -> None:
        """What the pod is now: Ready when all were ready once and one is."""
        ready = [c for c in self._children if c.alive and self._slot_ready(c)]
        if ready and all(c.ever_ready for c in self._children):
            self.state = State(reason="Ready")
            return
        for child in self._children:
            reason, message = self.slots[child.number].said()
            if reason and (child.given_up or not child.alive):
                self._fail(reason, message)
                return
        if self.state.reason == "Ready":
            self.state = State(reason="WorkersDown", message="no worker runs; they are being started again")

    def _fail(self, reason: str, message: str) -> None:
        if (self.state.reason, self.state.message) != (reason, message):
            sys.stderr.write(f"not ready: {reason}: {message}\n")
        self.state = State(reason=reason, message=message)

    async def _leave(self) -> None:
        """Not ready; serve on while endpoints propagate; drain; end."""
        living = [c for c in self._children if c.alive]
        serving = self.ready
        self.state = State(reason="Draining", message="the pod ends; it answers what still arrives")
        for child in living:
            child.tell(b"n")
        if serving:
            await asyncio.sleep(self.settings.lame_duck)
        for child in living:
            child.tell(b"d")
        loop = asyncio.get_running_loop()
        ends = [loop.run_in_executor(None, child.wait, self.settings.drain + 3.0) for child in living]
        await asyncio.gather(*ends)
        for child in living:
            if child.alive:
                child.kill()


def _cause(code: int | None) -> str:
    if code is None:
        return "not started"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def serve(settings: Settings) -> int:
    """Run the pod's processes until SIGTERM."""
    import uvloop

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return uvloop.run(_run(settings))


async def _run(settings: Settings) -> int:
    return await Supervisor(settings).run()
