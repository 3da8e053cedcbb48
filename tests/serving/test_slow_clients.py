"""Clients that say or take little, and slowly: they are ended by their deadlines, and nobody else notices."""

import json
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from serving.pod import ROW, Pod, as_inputs, eventually

HEADERS, BODIES, READERS = 1000, 200, 50
DEADLINE = 3  # seconds of the server for a header, for a body, and for a client that does not read
MEBIBYTE = 1 << 20
GROWTH = 160 * MEBIBYTE  # of the whole pod while all of them are there
HEAD = b"POST /v2/models/flights/infer HTTP/1.1\r\nhost: x\r\n"
ASKS = b"GET /openapi.json HTTP/1.1\r\nhost: x\r\n\r\n" * 320  # more in answers than any socket holds


class Slow:
    """One slow client: what it sends first, what it then adds from time to time, and whether it ever reads."""

    def __init__(self, port: int, first: bytes, more: bytes, *, reads: bool) -> None:
        self.socket = socket.socket()
        if not reads:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(10)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(first)
        self.socket.setblocking(False)
        self.more, self.left, self.reads = more, b"", reads
        self.heard, self.ended = b"", False

    def drip(self) -> None:
        """A little more; sees when the server has closed."""
        if self.ended:
            return
        try:
            self.left = self.left or self.more
            self.left = self.left[self.socket.send(self.left) :]
        except BlockingIOError:
            pass
        except ConnectionError:
            self.ended = True
        if self.reads:
            self._listen()  # also when it has closed: what came before is still there

    def _listen(self) -> None:
        with suppress(OSError):
            while more := self.socket.recv(4096):
                self.heard += more
            self.ended = True

    @property
    def status(self) -> str:
        found = re.findall(rb"HTTP/1\.1 (\d+)", self.heard)
        return found[-1].decode() if found else ""


class Crowd:
    """All slow clients, dripped in turn by one thread until they are ended."""

    def __init__(self, port: int) -> None:
        body = HEAD + b"content-length: 100000\r\n\r\n{"
        self.headers = [Slow(port, HEAD, b"a: b\r\n", reads=True) for _ in range(HEADERS)]
        self.bodies = [Slow(port, body, b" ", reads=True) for _ in range(BODIES)]
        self.readers = [Slow(port, ASKS, ASKS, reads=False) for _ in range(READERS)]
        self.all = [*self.headers, *self.bodies, *self.readers]
        self.stop = False

    def drip(self) -> None:
        while not self.stop and not all(one.ended for one in self.all):
            for one in self.all:
                one.drip()
            time.sleep(0.2)  # as slow as they are

    def close(self) -> None:
        self.stop = True
        for one in self.all:
            one.socket.close()


@pytest.fixture(scope="module")
def patient(flights: Path) -> Iterator[Pod]:
    with Pod(flights, header_seconds=DEADLINE, body_seconds=DEADLINE) as running:
        yield running.ready()


def _resident(pod: Pod) -> int:
    pids = [pod.process.pid, *pod.workers()]
    status = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) * 1024 for text in status)


def test_slow_clients_are_ended_by_their_deadlines_while_all_others_are_answered(patient: Pod) -> None:
    before, workers = _resident(patient), patient.workers()
    row = json.dumps({"inputs": as_inputs(ROW)}).encode()
    assert patient.infer(ROW).status == 200
    crowd, most, answers = Crowd(patient.port), 0, Counter[int]()
    with ThreadPoolExecutor(1) as other:
        dripping = other.submit(crowd.drip)
        try:
            end = time.monotonic() + 10 * DEADLINE
            while not dripping.done() and time.monotonic() < end:
                answers[patient.send("POST", "/v2/models/flights/infer", row).status] += 1
                most = max(most, _resident(patient)) if sum(answers.values()) % 20 == 0 else most
            assert dripping.done(), Counter(one.ended for one in crowd.all)
        finally:
            crowd.close()
    assert {*answers} == {200}
    assert sum(answers.values()) >= 100
    assert {one.status for one in crowd.headers} == {"408"}
    assert {one.status for one in crowd.bodies} == {"408"}
    assert most - before < GROWTH, f"{(most - before) / MEBIBYTE:.0f} MiB more"
    assert patient.workers() == workers
    assert patient.infer(ROW).status == 200
    eventually(
        lambda: re.search(r"^homeostat_connections\S* 0", _metrics(patient), re.MULTILINE), "no connection is left"
    )


def _metrics(pod: Pod) -> str:
    return pod.get("/metrics", port=pod.admin).content.decode()
