"""The pod's workers: as many as its limits allow, each looked after, new connections only to those that serve."""

import signal
import sys
import time
from dataclasses import replace
from typing import Final

from homeostat.errors import ArtifactError
from homeostat.server.counting.counters import READY, Layout, Slot, map_slots, shared_memory
from homeostat.server.life.bundle import Bundle
from homeostat.server.life.process import CHECK, LISTEN, LOADED, NOT_READY, PERMANENT_EXIT, Child, start_worker
from homeostat.server.life.room import Room
from homeostat.server.life.spread import targets
from homeostat.server.settings import Settings
from homeostat.server.transport.listeners import Listeners

MAX_BACK_OFF: Final = 10.0
LOAD_ATTEMPTS: Final = 3
SETTLE_SECONDS: Final = 1.0  # connections that began before a worker was taken out of the spread are there by then
SILENT_SECONDS: Final = 2.0  # a worker that says nothing for that long gets no new connections


class Fleet:
    """All workers of the pod. `slots`: counters of those that ever ran; their sums only grow."""

    def __init__(self, settings: Settings, bundle: Bundle, room: Room, payloads: tuple[int, ...] = ()) -> None:
        """payloads: descriptors of the way to the payload logger. Raises OSError when a port is taken."""
        count = settings.workers or room.workers(settings.slots)
        self.settings = replace(settings, threads=settings.threads or 1)
        self.restarts = 0
        self.children: list[Child] = []
        self.was_ready = False
        self._ticked = self._awake = time.monotonic()
        self._wanted, self._may_load, self._checking = count, False, False
        self._payloads = payloads
        self._listeners = [Listeners(settings.host, port, settings.slots) for port in settings.ports]
        layout = Layout.of(bundle.shape)
        self._memory = shared_memory(layout, settings.slots)
        self._all = map_slots(self._memory, layout, settings.slots)
        self.slots: list[Slot] = self._all[:count]

    def start(self) -> None:
        """Start the missing workers; they load nothing before `go`."""
        here = {child.number for child in self.children}
        missing = self._wanted - sum(not child.leaving_since for child in self.children)
        for number in [n for n in range(len(self._all)) if n not in here][: max(0, missing)]:
            sockets = tuple(one.of(number).fileno() for one in self._listeners)
            child = start_worker(self.settings, number, self._memory, sockets, self._payloads)
            self.children.append(child)
            self.slots = self._all[: max(len(self.slots), number + 1)]
            if self._may_load:
                child.go()

    def checked(self) -> bool:
        """Whether the model passed its checks; the first call has them begin. Raises ArtifactError when it did not."""
        first = self.children[0]
        if not self._checking:
            self._checking = True
            first.go(CHECK)
        if first.passed():
            return True
        if first.alive:
            return False
        reason, message = self._all[first.number].said()
        how, first.loads_failed = cause(first.exit_code), first.loads_failed + 1
        if reason or first.loads_failed >= LOAD_ATTEMPTS:
            message = (
                message or f"the process that has the model checked ended {LOAD_ATTEMPTS} times ({how}): see its log"
            )
            raise ArtifactError(reason or "LoadFailed", message)
        sys.stderr.write(f"worker {first.number} ended while it had the model checked: {how}\n")
        first.start_again(CHECK)
        return False

    def go(self) -> None:
        """The model passed its checks: all workers may load it."""
        self._may_load = True
        self.children[0].loading_since = time.monotonic()  # it loads without being told
        for child in self.children[1:]:
            child.go()

    def serving(self) -> list[Child]:
        """Workers that answer and are to stay."""
        return [c for c in self.children if c.alive and not c.leaving_since and self._state(c) == READY]

    @property
    def epoch(self) -> int:
        """The route epoch that all serving workers apply; 0 when none serves."""
        return min((self._all[c.number].get("epoch") for c in self.serving()), default=0)

    def _state(self, child: Child) -> int:
        return self._all[child.number].get("state")

    def tick(self) -> None:
        """Look after every worker. Call it about every 50 ms."""
        now = time.monotonic()
        if now - self._ticked > SILENT_SECONDS:  # we did not run ourselves: their silence says nothing
            self._awake = now
        self._ticked = now
        for child in tuple(self.children):
            if child.leaving_since:
                self._see_off(child, now)
            else:
                self._look_after(child, now)
        self.was_ready = self.was_ready or (bool(self.serving()) and all(c.ever_ready for c in self.children))
        self.steer()

    def _look_after(self, child: Child, now: float) -> None:
        if not child.alive:
            if child.given_up or now < child.start_again_at:
                return
            if child.ended_at is None:
                self._ended(child, now)
                return
            self.restarts += 1
            child.start_again()
            return
        state = self._state(child)
        if state == LOADED and not child.listening:
            child.listening = True
            for one in self._listeners:
                one.listen(child.number)
            child.tell(LISTEN)
        if child.was_ready(state == READY):
            silent = self._silent(child)
            if silent > self.settings.wedged_seconds:
                sys.stderr.write(f"worker {child.number} said nothing for {silent:.0f} s: ended\n")
                child.kill()
        elif child.loading_since and now - child.loading_since > self.settings.load_seconds:
            sys.stderr.write(f"worker {child.number} took over {self.settings.load_seconds:g} s to load: ended\n")
            child.kill()

    def _silent(self, child: Child) -> float:
        return time.monotonic() - max(self._awake, self._all[child.number].get("heartbeat") / 1e9)

    def _ended(self, child: Child, now: float) -> None:
        """A worker ended by itself: again later, unless its model is at fault."""
        code, slot = child.exit_code, self._all[child.number]
        self._idle(slot)
        child.failed(now, MAX_BACK_OFF)
        if code == PERMANENT_EXIT:
            child.given_up = True
        elif child.loads_failed >= LOAD_ATTEMPTS and not slot.said()[0]:
            child.given_up = True
            slot.say("LoadFailed", f"a worker died {LOAD_ATTEMPTS} times while it loaded the model: {cause(code)}")
        sys.stderr.write(f"worker {child.number} ended: {cause(code)}\n")

    def _see_off(self, child: Child, now: float) -> None:
        """A surplus worker: new connections go elsewhere, then it drains, then it is forgotten; its counters stay."""
        if not child.alive:
            self.children.remove(child)
            child.control.close()
            self._idle(self._all[child.number])
        elif now - child.leaving_since > SETTLE_SECONDS + self.settings.drain + 3.0:
            child.kill()
        elif now - child.leaving_since > SETTLE_SECONDS:
            child.leave()

    def _idle(self, slot: Slot) -> None:
        for word in ("state", "queued", "connections"):
            slot.put(word, 0)

    def steer(self) -> None:
        """New connections go to workers that serve and speak, rather to those that have few."""
        speaking = [c.number for c in self.serving() if self._silent(c) < SILENT_SECONDS]
        numbers = targets({n: self._all[n].get("connections") for n in speaking})
        for one in self._listeners:
            one.steer(numbers)

    def resize(self, room: Room) -> None:
        """Follow the pod's limits: more workers, or fewer; those that stay notice nothing. Nothing when their number is set."""
        wanted = room.workers(self.settings.slots)
        if self.settings.workers or not self.was_ready:
            return
        staying = [c for c in self.children if not c.leaving_since]
        if wanted > len(staying):
            sys.stderr.write(f"room for {room.cpus:g} cores: {wanted} workers instead of {len(staying)}\n")
            self._wanted = wanted
            self.start()
        elif wanted < len(staying) and len(self.serving()) == len(staying):
            sys.stderr.write(f"room for {room.cpus:g} cores: {wanted} workers instead of {len(staying)}\n")
            self._wanted = wanted
            for child in sorted(staying, key=lambda c: c.number)[wanted:]:
                child.leaving_since = time.monotonic()

    def said(self) -> tuple[str, str]:
        """Reason and message of a worker that cannot serve; both empty when there is none."""
        for child in self.children:
            reason, message = self._all[child.number].said()
            if reason and (child.given_up or not child.alive):
                return reason, message
        return "", ""

    def not_ready(self) -> None:
        """All workers say that the pod is not ready, and serve on."""
        for child in self.children:
            child.tell(NOT_READY)

    def drain(self) -> list[Child]:
        """All living workers drain and end. Returns them."""
        living = [c for c in self.children if c.alive]
        for child in living:
            child.leave()
        return living

    def kill(self) -> None:
        """End what is left, and stop listening."""
        for child in self.children:
            if child.alive:
                child.kill()
        for one in self._listeners:
            one.close()


def cause(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "not started"
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
