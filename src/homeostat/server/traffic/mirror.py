"""Copies for the shadow: sent after the user has the answer, bounded, compared with it; nobody waits for them."""

import asyncio
import random
import ssl
import time
from functools import partial
from typing import Final

from homeostat.api.wire.route import Mirror
from homeostat.server.asked import Answer, Asked
from homeostat.server.counting.recorder import Recorder
from homeostat.server.traffic.agreement import Answered, compare
from homeostat.server.traffic.circuit import Admit, Circuit
from homeostat.server.traffic.forward import Failure, Pool, request_bytes
from homeostat.server.traffic.outgoing import Reply
from homeostat.server.traffic.route import Shares

MOST_IN_FLIGHT: Final = 64
MOST_BYTES: Final = 4 << 20  # of requests and answers that wait for the shadow
MOST_COPY: Final = 256 << 10  # of one request and its answer: comparing takes the loop's time


class Shadow:
    """One target of copies. What does not fit the bounds is dropped and counted; the user's request is never touched."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        mirror: Mirror,
        recorder: Recorder,
        *,
        hop: bytes = b"1",
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self._loop, self.mirror, self._recorder, self._hop = loop, mirror, recorder, hop
        self._pool = Pool(loop, mirror.target, trust)
        self._circuit = Circuit[Failure]()
        self._shares = Shares(mirror.percent, random.Random())  # noqa: S311  shares of traffic are no secret
        self.in_flight = self.bytes = 0

    def answered(self, asked: Asked, answer: Answer) -> None:
        """The user got this answer with status 200; send a copy when it is drawn."""
        if not self._shares.draw():
            return
        size = len(asked.body) + len(answer[0])
        if self.in_flight >= MOST_IN_FLIGHT or self.bytes + size > MOST_BYTES or size > MOST_COPY:
            self._recorder.dropped("mirror")
            return
        self.in_flight += 1
        self.bytes += size
        self._loop.call_soon(self._send, asked, answer, size)  # the answer's bytes leave first

    def _send(self, asked: Asked, answer: Answer, size: int) -> None:
        admit = self._circuit.admit(time.monotonic())
        own = Answered(answer[1], answer[2], answer[0])
        ended = partial(self._ended, own, size, admit is Admit.PROBE)
        if admit is Admit.HOLD:
            self._compared(own, size, None)
            return
        headers = [(name, value) for name, value in asked.headers if name.lower() != b"accept-encoding"]
        request = request_bytes(
            asked.method,
            asked.url,
            headers,
            asked.body,
            host=self._pool.authority,
            track="shadow",
            hop=self._hop,
            timeout_ms=self.mirror.deadline_ms,
        )
        self._pool.send(request, self.mirror.deadline_ms / 1000, ended)

    def _ended(self, own: Answered, size: int, probe: bool, outcome: Reply | Failure) -> None:
        if isinstance(outcome, Failure):
            self._circuit.failed(time.monotonic(), outcome, probe=probe)
            self._compared(own, size, None)
            return
        self._circuit.answered()
        if outcome.status in (429, 503):  # capacity, not fault: there is nothing to compare
            self._free(size)
            self._recorder.dropped("mirror")
        elif outcome.status == 200 and len(outcome.body) <= 2 * MOST_COPY:
            self._compared(own, size, Answered(outcome.kind, outcome.headers, outcome.body))
        else:
            self._compared(own, size, None)

    def _compared(self, own: Answered, size: int, other: Answered | None) -> None:
        self._free(size)
        found = compare(own, other, self.mirror.tolerance)
        self._recorder.compared(self.mirror.version, found.agreed, found.differed, found.failed)

    def _free(self, size: int) -> None:
        self.in_flight -= 1
        self.bytes -= size

    def close(self) -> None:
        """Forget idle connections; copies that are on their way are still compared."""
        self._pool.close()
