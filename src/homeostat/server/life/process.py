"""A worker process as the supervisor sees it."""

import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from homeostat.server.settings import Settings

PERMANENT_EXIT: Final = 3
LOADED: Final = 3  # a worker's state beside those of `counters`: warm, and waiting for the word to listen

# what the supervisor says on a worker's control socket
CHECK: Final = b"c"  # have the model checked, say `CHECKED`, and load it; only the first worker is told
GO: Final = b"g"  # the model passed its checks: load it
LISTEN: Final = b"l"  # your socket listens: accept
NOT_READY: Final = b"n"  # say so to those who ask, and serve on
DRAIN: Final = b"d"  # ask clients to leave, then end
CHECKED: Final = b"k"  # and what the first worker answers


@dataclass(slots=True)
class Child:
    """One worker. Times are monotonic seconds. ended_at: None while its end was not noticed.

    memory, sockets, payloads: file descriptors of the counters, of the listening sockets and of the way to the payload
    logger (none: no payloads), the same over its restarts.
    loading_since: when it got the word to load, 0 before. leaving_since: since when no new connection comes to it.
    """

    settings: Settings
    number: int
    memory: int
    sockets: tuple[int, ...]
    payloads: tuple[int, ...]
    process: "subprocess.Popen[bytes]"
    control: socket.socket
    started: float
    loading_since: float = 0.0
    listening: bool = False
    leaving_since: float = 0.0
    drained: bool = False
    ended_at: float | None = None
    start_again_at: float = 0.0
    failures: int = 0
    loads_failed: int = 0
    ever_ready: bool = False
    ready_now: bool = False
    given_up: bool = False

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; negative: the signal."""
        return self.process.poll()

    def was_ready(self, ready: bool) -> bool:
        """Remember and return whether the worker serves now."""
        if ready and not self.ready_now:
            self.failures = self.loads_failed = 0
            self.ever_ready = True
        self.ready_now = ready
        return ready

    def failed(self, now: float, most: float) -> None:
        """Its end was noticed: it starts again at once the first time, then later and later."""
        self.loads_failed += not self.ready_now
        self.ready_now, self.ended_at = False, now
        self.start_again_at = now + (min(most, 0.5 * 2**self.failures) if self.failures else 0.0)
        self.failures += 1

    def start_again(self, word: bytes = GO) -> None:
        """A new process in the same slot; `word` is what it is told first."""
        self.control.close()
        descriptors = self.memory, self.sockets, self.payloads
        self.process, self.control = _spawn(self.settings, self.number, *descriptors)
        self.started, self.ended_at, self.listening = time.monotonic(), None, False
        self.go(word)

    def passed(self) -> bool:
        """Whether it said that the model passed its checks."""
        try:
            return CHECKED in self.control.recv(64)
        except OSError:
            return False

    def go(self, word: bytes = GO) -> None:
        """The model may be loaded, or checked first."""
        self.loading_since = time.monotonic()
        self.tell(word)

    def leave(self) -> None:
        """The worker drains and ends; it is not started again."""
        if not self.drained:
            self.drained = True
            self.tell(DRAIN)

    def tell(self, word: bytes) -> None:
        """Say something on the control socket; a worker that is gone hears nothing."""
        try:
            self.control.send(word)
        except OSError:
            return

    def wait(self, seconds: float) -> None:
        """Block until the process ended, at most `seconds`."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def kill(self) -> None:
        """End it now."""
        self.process.kill()


def start_worker(
    settings: Settings, number: int, memory: int, sockets: tuple[int, ...], payloads: tuple[int, ...]
) -> Child:
    """Start worker `number` on the counters behind `memory`; it waits for `Child.go` before it loads anything."""
    process, control = _spawn(settings, number, memory, sockets, payloads)
    return Child(settings, number, memory, sockets, payloads, process, control, time.monotonic())


def _spawn(
    settings: Settings, number: int, memory: int, sockets: tuple[int, ...], payloads: tuple[int, ...]
) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "homeostat.server.worker", settings.to_text()]
    command += [str(number), str(memory), str(theirs.fileno()), ",".join(map(str, sockets)), *map(str, payloads)]
    passed = (memory, theirs.fileno(), *sockets, *payloads)
    process = subprocess.Popen(command, pass_fds=passed, stdin=subprocess.DEVNULL)
    theirs.close()
    ours.setblocking(False)
    return process, ours
