"""The logger: the pod's process that encodes payloads and sends them away.

    python -m homeostat.server.payloads.logger SETTINGS DATA_FD SCHEMA_FD CONTROL_FD

It does one thing at a time. While a sink is slow nothing is read, the socket and then the workers' queues fill, and what
finds no room there is dropped and counted there: neither requests nor the pod's memory depend on the sink.
"""

import random
import select
import signal
import socket
import sys
import time
from typing import Final

from homeostat.server.payloads import schema as schemas
from homeostat.server.payloads.body import Body
from homeostat.server.payloads.channel import Inlet
from homeostat.server.payloads.frames import Records, count_of, records, split
from homeostat.server.payloads.options import options
from homeostat.server.payloads.sinks import SendError, Sink, sink
from homeostat.server.payloads.words import END, FINISH_SECONDS, HURRY_SECONDS
from homeostat.server.settings import Settings

ATTEMPTS: Final = 6
BACK_OFF: Final = 0.5  # seconds before the second try, then twice as long each time: 15.5 s in all
SAY_SECONDS: Final = 60.0


class Logger:
    """Collects frames until there are enough, or the oldest is old enough, then sends them."""

    def __init__(self, settings: Settings, inlet: Inlet, schema: int, control: socket.socket) -> None:
        self._settings, self._options = settings, options(settings)
        self._inlet, self._schema_at, self._control = inlet, schema, control
        self._frames: list[memoryview] = []
        self._rows = self._bytes = 0
        self._since = 0.0  # when the oldest frame came
        self._seconds = self._options.seconds
        self._end_by: float | None = None  # set once the pod ends
        self._over = False  # and there is no time for another try
        self._sink: Sink | None = None
        self._schema: schemas.Schema | None = None
        self._say_again = 0.0

    def run(self) -> None:
        """Until the supervisor says that it is over, then send the rest."""
        while self._end_by is None:
            self._wait(self._left(), data=True)
            self._read()
            if self._due():
                self._deliver()
        while self._read():
            self._deliver()
        self._deliver()

    def _left(self) -> float:
        return max(0.0, self._since + self._seconds - time.monotonic()) if self._frames else 3600.0

    def _due(self) -> bool:
        full = self._rows >= self._options.rows or self._bytes >= self._settings.payload_buffer
        return bool(self._frames) and (full or self._left() <= 0)

    def _wait(self, seconds: float, *, data: bool) -> None:
        """Until time is over, the supervisor says something or, if wanted, data come."""
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        if data:
            poll.register(self._inlet, select.POLLIN)
        for descriptor, _ in poll.poll(seconds * 1000):
            if descriptor == self._control.fileno():
                words = self._control.recv(64)
                self._seconds = min(self._seconds, HURRY_SECONDS)
                if not words or END in words:
                    self._end_by = self._end_by or time.monotonic() + FINISH_SECONDS

    def _read(self) -> bool:
        """Take what is there, up to what may be held. Whether there may be more."""
        while self._rows < self._options.rows and self._bytes < self._settings.payload_buffer:
            chunk = self._inlet.receive()
            if chunk is None:
                return False
            self._since = self._since if self._frames else time.monotonic()
            frames = list(split(chunk))
            self._frames += frames
            self._rows += sum(map(count_of, frames))
            self._bytes += len(chunk)
        return True

    def _deliver(self) -> None:
        """Encode and send all that is held; what cannot be sent is given up and counted."""
        frames, rows = self._frames, self._rows
        self._frames, self._rows, self._bytes = [], 0, 0
        if not frames:
            return
        found = self._found()
        if found is None:  # no worker has written before: that cannot be
            self._give_up(rows, "no worker said what the rows are")
            return
        schema, to = found
        for body in self._encoded(to, list(records(schema, frames))):
            self._send(to, body)

    def _found(self) -> tuple[schemas.Schema, Sink] | None:
        if self._sink is None or self._schema is None:
            self._schema = schemas.read(self._schema_at)
            if self._schema is None:
                return None
            self._sink = sink(self._options, self._schema, tuple(self._settings.plain_http))
        return self._schema, self._sink

    def _encoded(self, to: Sink, some: list[Records]) -> list[Body]:
        """Files or requests. Rows that do not fit the schema are given up; the others are sent."""
        try:
            return to.encode(some)
        except ValueError as error:
            if len(some) > 1:
                return [body for one in some for body in self._encoded(to, [one])]
            self._give_up(len(some[0].ids), str(error))
            return []

    def _send(self, to: Sink, body: Body) -> None:
        for attempt in range(ATTEMPTS):
            if self._over:
                self._give_up(body.rows, "the pod ends, and the rows before these could not be sent")
                return
            try:
                to.send(body.content)
            except SendError as error:
                wait = max(error.wait, BACK_OFF * 2**attempt * random.uniform(0.8, 1.2))  # noqa: S311
                self._over = self._end_by is not None and time.monotonic() + wait > self._end_by
                if self._over or not error.again or attempt == ATTEMPTS - 1:
                    self._give_up(body.rows, str(error))
                    return
                self._wait(wait, data=False)
            else:
                self._inlet.lost(0)
                return

    def _give_up(self, rows: int, because: str) -> None:
        self._inlet.lost(rows)
        if time.monotonic() >= self._say_again:
            self._say_again = time.monotonic() + SAY_SECONDS
            sys.stderr.write(f"payloads: {rows} rows were given up: {because}\n")


def main(argv: list[str]) -> int:
    """Run the logger. Returns 0 when all was sent or given up."""
    for ignored in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ignored, signal.SIG_IGN)  # the supervisor decides when we end
    data, schema, control = (int(word) for word in argv[1:4])
    inlet = Inlet(socket.socket(fileno=data))
    Logger(Settings.from_text(argv[0]), inlet, schema, socket.socket(fileno=control)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
