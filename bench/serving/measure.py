"""One load against one server, and several servers in turns: requests a second, latencies, CPU time."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.serving import http2, wire
from bench.serving.places import ROOT
from bench.serving.servers import Server, all_cores, cores
from deploy.local.progress import Problem, step

SPARE_SECONDS: Final = 60.0  # that a load may take beyond its time
LEFT_OUT: Final[list[str]] = []  # who did not take part, and why
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Options:
    """How long and how often."""

    rounds: int
    seconds: float
    overload_seconds: float


@dataclass(frozen=True)
class Load:
    """What is sent. streams: calls in flight on each connection, for gRPC; 0 for HTTP."""

    requests: Sequence[bytes]
    connections: int
    streams: int = 0


@dataclass(frozen=True)
class Measured:
    """Medians of the rounds. rate: answers a second; p50, p99: seconds; cpu: seconds of CPU a request, all processes."""

    rate: float
    p50: float
    p99: float
    cpu: float

    @classmethod
    def of(cls, rounds: Sequence[Measured]) -> Measured:
        """The median of each number."""
        return cls(*(statistics.median(getattr(r, n) for r in rounds) for n in ("rate", "p50", "p99", "cpu")))


def generate(server: Server, load: Load, *, pinned: bool = True, **more: Any) -> dict[str, Any]:
    """Run the load generator on its core; more: `seconds`, or `schedule` and `records`. Returns its summary."""
    with tempfile.NamedTemporaryFile(prefix="requests-") as file:
        file.write(wire.pack(list(load.requests)))
        file.flush()
        config: dict[str, Any] = {"protocol": "http", "port": server.port, "connections": load.connections, **more}
        if load.streams:
            config |= {"protocol": "grpc", "port": server.grpc_port, "streams": load.streams, "path": wire.GRPC_PATH}
        config["requests"] = file.name
        chosen = {cores()[1]} if pinned else all_cores()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "bench.serving.load", json.dumps(config)],
                capture_output=True,
                text=True,
                check=False,
                cwd=ROOT,
                timeout=SPARE_SECONDS + more.get("seconds", sum(s for _, s in more.get("schedule", ()))),
                preexec_fn=lambda: os.sched_setaffinity(0, chosen),
            )
        except subprocess.TimeoutExpired:
            raise Problem(f"{server.label} left requests without an answer", f"see {server.log}") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        raise Problem(f"the load on {server.label} ended: {last}", f"see {server.log}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(server: Server, load: Load, seconds: float, *, pinned: bool = True) -> Measured:
    """One round in a closed loop. Raises Problem when a request fails."""
    before = sum(cpu_seconds(server).values())
    found = generate(server, load, seconds=seconds, pinned=pinned)
    used = sum(cpu_seconds(server).values()) - before
    if found["failed"] or not found["requests"]:
        raise Problem(f"{server.label}: answers by status: {found['statuses']}", f"see {server.log}")
    return Measured(found["requests"] / found["seconds"], found["p50"], found["p99"], used / found["requests"])


def cpu_seconds(server: Server) -> dict[int, float]:
    """CPU time so far of each process of the server."""
    found = {}
    for pid in server.pids():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            found[pid] = (int(words[11]) + int(words[12])) / TICKS
    return found


def memory(server: Server, field: str = "Pss") -> int:
    """Bytes of all the server's processes: Pss counts shared pages once."""
    total = 0
    for pid in server.pids():
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith(f"{field}:"):
                    total += int(line.split()[1]) << 10
    return total


@dataclass(frozen=True)
class Rival:
    """A server to be started, and the check that its answers are right, which raises Problem when not."""

    start: Callable[[], Server]
    check: Callable[[Server], None] = lambda _server: None


def believed(server: Server, check: Callable[[Server], None], name: str) -> bool:
    """Whether the server answers as it must; it is paused afterwards."""
    server.resume()
    try:
        check(server)
    except Problem as problem:
        left_out(name, problem)
        return False
    finally:
        server.pause()
    return True


def left_out(name: str, problem: Problem) -> None:
    """Say that a server does not take part, and why."""
    LEFT_OUT.append(f"{name}: {str(problem).splitlines()[0]}")
    print(f"✗ {name} is left out: {problem}\n  fix: {problem.fix}", flush=True)


@contextlib.contextmanager
def together(rivals: Mapping[str, Rival]) -> Iterator[dict[str, Server]]:
    """All servers started, checked and paused. One that cannot be installed, started or believed is left out, and said."""
    running: dict[str, Server] = {}
    try:
        for name, rival in rivals.items():
            try:
                server = rival.start()
            except Problem as problem:
                left_out(name, problem)
                continue
            if believed(server, rival.check, name):
                running[name] = server
            else:
                server.stop()
        yield running
    finally:
        for server in running.values():
            server.stop()


def in_turns(
    servers: Mapping[str, Server], loads: Mapping[str, Load], options: Options, title: str, rounds: int = 0
) -> dict[str, Measured]:
    """The servers one after the other in each round, so that the machine's moods meet all of them alike.

    One that fails a request is left out from then on.
    """
    found: dict[str, list[Measured]] = {name: [] for name in servers}
    with step(title) as current:
        for number in range(rounds or options.rounds):
            for name in list(found):
                current.say(f"round {number + 1}: {name}")
                servers[name].resume()
                try:
                    found[name].append(_warm(servers[name], loads[name], options))
                except Problem as problem:
                    del found[name]
                    left_out(name, problem)
                finally:
                    servers[name].pause()
    return {name: Measured.of(rounds_) for name, rounds_ in found.items()}


def repeated(server: Server, load: Load, options: Options, title: str) -> Measured:
    """One server alone, median of the rounds. Raises Problem when a request fails."""
    with step(title):
        return Measured.of([_warm(server, load, options) for _ in range(options.rounds)])


def _warm(server: Server, load: Load, options: Options) -> Measured:
    measure(server, load, max(0.3, options.seconds / 5))
    return measure(server, load, options.seconds)


def once(server: Server, request: bytes) -> tuple[bytes, bytes]:
    """Head and body of one HTTP answer. Raises Problem unless it is 200."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        data = b""
        while True:
            data += (more := connection.recv(1 << 16))
            head, _, body = data.partition(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if not more or (length and len(body) >= int(length[0][15:])):
                break
    if not head.startswith(b"HTTP/1.1 200"):
        raise Problem(
            f"{server.label}: {head[:15].decode()}: {body[:200].decode(errors='replace')}", f"see {server.log}"
        )
    return head, body


def once_grpc(server: Server, message: bytes) -> bytes:
    """The message of one gRPC answer. Raises Problem when there is none."""
    try:
        return http2.call(server.grpc_port, wire.GRPC_PATH, message)
    except (OSError, ValueError) as error:
        raise Problem(f"{server.label}, gRPC: {error}", f"see {server.log}") from None
