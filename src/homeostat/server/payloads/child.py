"""The logger as the supervisor sees it: started when the pod is ready, started again when it ends, seen off last."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import Final

from homeostat.server.payloads.channel import pair
from homeostat.server.payloads.options import options
from homeostat.server.payloads.words import END, FINISH_SECONDS, HURRY
from homeostat.server.settings import Settings

MAX_BACK_OFF: Final = 10.0
_SPARE: Final = 1.0  # seconds beyond its own limit, before it is ended


class PayloadLogger:
    """Keeps the logger running. fds: what workers inherit, the socket to it and the memory for the schema."""

    def __init__(self, settings: Settings) -> None:
        """Raises ArtifactError `PayloadSettings`."""
        options(settings)
        self._settings = settings
        self._ours, self._theirs = pair()
        self._schema = os.memfd_create("homeostat-payload-schema")
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._failures, self._start_at = 0, 0.0
        self.fds = (self._ours.fileno(), self._schema)

    def tick(self) -> None:
        """Start it, the first time or again. Call it about every 50 ms while the pod is ready."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            sys.stderr.write(f"the payload logger ended with code {self._process.returncode}; what it held is lost\n")
            self._start_at = now + min(MAX_BACK_OFF, 0.5 * 2**self._failures)
            self._failures += 1
            self._forget()
        if self._process is None and now >= self._start_at:
            self._start()

    def _start(self) -> None:
        self._control, theirs = socket.socketpair()
        passed = (self._theirs.fileno(), self._schema, theirs.fileno())
        command = [sys.executable, "-m", "homeostat.server.payloads.logger", self._settings.to_text()]
        self._process = subprocess.Popen([*command, *map(str, passed)], pass_fds=passed, stdin=subprocess.DEVNULL)
        theirs.close()

    def _forget(self) -> None:
        if self._control is not None:
            self._control.close()
        self._process = self._control = None

    def hurry(self) -> None:
        """The pod ends soon: rows are sent at once from now on."""
        self._tell(HURRY)

    async def finish(self) -> None:
        """The workers have ended: what they handed over is sent, at most `FINISH_SECONDS`; then it is ended."""
        if self._process is None:
            return
        self._tell(END)
        with suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self._process.wait, FINISH_SECONDS + _SPARE)
        if self._process.poll() is None:
            sys.stderr.write("the payload logger did not end in time; what it held is lost\n")
            self._process.kill()
            self._process.wait()
        self._forget()

    def _tell(self, word: bytes) -> None:
        if self._control is not None:
            with suppress(OSError):
                self._control.send(word)
