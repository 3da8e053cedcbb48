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


@dataclass(slots=True)
class Child:
    """One worker. ended_at: monotonic seconds; None while its end was not noticed."""

    settings: Settings
    number: int
    memory: int
    process: "subprocess.Popen[bytes]"
    control: socket.socket
    started: float
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

    def start_again(self) -> None:
        """A new process in the same slot."""
        self.control.close()
        self.process, self.control = _spawn(self.settings, self.number, self.memory)
        self.started, self.ended_at = time.monotonic(), None

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


def start_worker(settings: Settings, number: int, memory: int) -> Child:
    """Start worker `number` on the counters behind file descriptor `memory`."""
    process, control = _spawn(settings, number, memory)
    return Child(settings, number, memory, process, control, time.monotonic())


def _spawn(settings: Settings, number: int, memory: int) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "homeostat.server.worker", settings.to_text()]
    command += [str(number), str(memory), str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=(memory, theirs.fileno()), stdin=subprocess.DEVNULL)
    theirs.close()
    ours.setblocking(False)
    return process, ours
