"""Our server as a pod lives: two workers, an overload, its start and its memory."""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Self

from bench.serving import models, servers, wire
from bench.serving.measure import Load, Measured, Options, cpu_seconds, generate, measure, memory, repeated
from bench.serving.report import Row, Value, ratio, row
from bench.serving.scenarios import BODIES, MLSERVER, single
from bench.serving.servers import OWN, Server
from deploy.local.progress import step

MEGABYTES: Final = 1e6
DEADLINE: Final = 1.0  # seconds that a row may wait in the overload
FACTOR: Final = 5
BEFORE, AFTER = 4.0, 10.0  # seconds at half the peak around the overload
READY, MOST = 1024, 4000  # connections that the clients hold, and how many they open when all are busy
WINDOW: Final = 0.5
REFUSED: Final = (429, 503)
ANSWERS: Final = (200, *REFUSED, 504)


def workers(options: Options) -> list[Row]:
    """Two workers on two cores with the load beside them, and one with as many connections as each of the two has."""
    scenario = "Two workers on two cores, the load beside them"
    model = models.logistic()
    requests = [wire.http(wire.json_tensor(r)) for r in single(model.rows(BODIES))]
    both = servers.cores()
    found: dict[int, list[Measured]] = {1: [], 2: []}
    shares = []
    with (
        servers.ours(model, on=both) as one,
        servers.ours(model, "--workers", "2", on=both) as two,
        step(scenario) as current,
    ):
        one.pause()
        two.pause()
        for number in range(options.rounds):
            current.say(f"round {number + 1}")
            for count, server in ((1, one), (2, two)):
                server.resume()
                load = Load(requests, 16 * count)
                measure(server, load, 1.0, pinned=False)
                found[count].append(measure(server, load, options.seconds, pinned=False))
                if server is two:
                    shares.append(_share(server, Load(requests, 8), options.seconds))
                server.pause()
    alone, pair = Measured.of(found[1]), Measured.of(found[2])
    low, high = statistics.median(s[0] for s in shares), statistics.median(s[1] for s in shares)
    return [
        row(scenario, "answers a second, one worker, 16 connections", alone.rate, "1/s"),
        row(scenario, "answers a second, two workers, 32 connections", pair.rate, "1/s"),
        row(scenario, "CPU time of a request, one worker", alone.cpu * 1e6, "µs"),
        row(scenario, "CPU time of a request, two workers", pair.cpu * 1e6, "µs"),
        row(scenario, "CPU time of a request, two over one", ratio(pair.cpu, alone.cpu), sign="<=", bound=1.1),
        row(scenario, "smaller worker's share of CPU at 8 connections", low, sign=">=", bound=0.4),
        row(scenario, "larger worker's share of CPU at 8 connections", high, sign="<=", bound=0.6),
    ]


def _share(server: Server, load: Load, seconds: float) -> list[float]:
    """The two workers' parts of their CPU time at few connections, after these had time to spread."""
    seconds = max(2.0, seconds)
    with _Background(server, load, 2 * seconds):
        time.sleep(seconds)
        before = cpu_seconds(server)
        time.sleep(seconds * 0.8)
        after = cpu_seconds(server)
    used = sorted(after[p] - before[p] for p in before if p in after and p != server.process.pid)[-2:]
    return [u / (sum(used) or 1) for u in used]


class _Background:
    """A load on the same connections from begin to end, while something is watched."""

    def __init__(self, server: Server, load: Load, seconds: float) -> None:
        run = partial(generate, server, load, seconds=seconds, pinned=False)
        self._thread = threading.Thread(target=run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()


@dataclass(frozen=True)
class Part:
    """What became of the requests that were due in one phase. Times in seconds; codes: number by status."""

    good: int
    accepted: Sequence[float]
    refused: Sequence[float]
    codes: Counter[int]


def overload(options: Options) -> list[Row]:
    """Five times what the server can do, on an open loop, with a model whose time dominates."""
    model, during = models.slow(), options.overload_seconds
    scenario = f"Overload × {FACTOR}, {models.MACHINES} support vector machines"
    requests = [wire.http(wire.json_tensor(r)) for r in single(model.rows(BODIES))]
    with servers.ours(model, "--deadline", f"{DEADLINE:g}") as server:
        peak = repeated(server, Load(requests, 32), options, "peak at 32 connections")
        schedule = [(peak.rate / 2, BEFORE), (peak.rate * FACTOR, during), (peak.rate / 2, AFTER)]
        with step(scenario), tempfile.NamedTemporaryFile(prefix="records-") as file, _Watched(server) as watched:
            generate(server, Load(requests, MOST), ready=READY, schedule=schedule, records=file.name)
            records = array("d")
            records.frombytes(Path(file.name).read_bytes())
    begin = min(records[::3])
    start, end = begin + BEFORE, begin + BEFORE + during
    before, flood = _part(records, begin, start), _part(records, start, end)
    bound = DEADLINE + peak.p99
    codes = {f"answers with {c}" if c else "without an answer": n for c, n in sorted(flood.codes.items())}
    normal = _p99(before.accepted)
    recovered = None if normal is None else _recovery(records, end, normal)
    lost = sum(n for c, n in flood.codes.items() if c not in ANSWERS)
    return [
        row(scenario, "how long", during, "s"),
        row(scenario, "connections that clients hold from the begin", READY),
        row(scenario, "deadline for a row to begin", DEADLINE, "s"),
        row(scenario, "peak at 32 connections", peak.rate, "1/s"),
        row(scenario, "p99 at the peak", peak.p99 * 1e3, "ms"),
        *(row(scenario, what, float(number)) for what, number in codes.items()),
        row(scenario, "goodput over the peak", flood.good / during / peak.rate, "", sign=">=", bound=0.9),
        row(
            scenario, "p99 of accepted", _milliseconds(_p99(flood.accepted)), "ms", sign="<=", bound=round(bound * 1e3)
        ),
        row(scenario, "p99 of refusals (429, 503)", _milliseconds(_p99(flood.refused)), "ms", sign="<=", bound=10),
        row(
            scenario, "neither served (200), refused (429, 503) nor expired (504)", float(lost), "", sign="<=", bound=0
        ),
        row(scenario, "growth of RSS", watched.growth / (1 << 20), "MiB", sign="<=", bound=64),
        row(scenario, "back to normal after", recovered, "s", sign="<=", bound=5),
    ]


class _Watched:
    """The growth of a server's resident memory while this is open, in bytes."""

    def __init__(self, server: Server) -> None:
        self._server, self._end = server, threading.Event()
        self._base = self._most = memory(server, "Rss")
        self._thread = threading.Thread(target=self._look, daemon=True)

    @property
    def growth(self) -> int:
        return self._most - self._base

    def _look(self) -> None:
        while not self._end.wait(0.5):
            self._most = max(self._most, memory(self._server, "Rss"))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def _part(records: array[float], start: float, end: float) -> Part:
    """Requests due from start to end; good: answers that arrived within it."""
    good, accepted, refused, codes = 0, [], [], Counter[int]()
    for due, took, status in zip(records[::3], records[1::3], records[2::3], strict=True):
        good += status == 200 and start <= due + took < end
        if start <= due < end:
            codes[int(status)] += 1
            if status == 200:
                accepted.append(took)
            elif status in REFUSED:
                refused.append(took)
    return Part(good, accepted, refused, codes)


def _p99(took: Sequence[float]) -> Value:
    return sorted(took)[len(took) * 99 // 100] if took else None


def _milliseconds(seconds: Value) -> Value:
    return None if seconds is None else seconds * 1e3


def _recovery(records: array[float], end: float, normal: float) -> float:
    """Seconds from the overload's end to the end of the last half second with refusals or a p90 above twice normal's p99."""
    last = 0.0
    for number in range(int(AFTER / WINDOW)):
        part = _part(records, end + number * WINDOW, end + (number + 1) * WINDOW)
        took = sorted(part.accepted)
        if set(part.codes) - {200} or (took and took[len(took) * 9 // 10] > 2 * normal):
            last = (number + 1) * WINDOW
    return last


def start(options: Options) -> list[Row]:
    """From process start to ready, and the memory of all processes after requests on 32 connections."""
    scenario = "Start and memory, a model of 1 MB, one worker"
    model = models.megabyte()
    load = Load([wire.http(wire.json_tensor(r)) for r in single(model.rows(BODIES))], 32)
    found: list[Row] = []
    bounds = {OWN: (2.5, 140.0), MLSERVER: (0.0, 0.0)}
    for name, launch in ((OWN, partial(servers.ours, model)), (MLSERVER, partial(servers.mlserver, model))):
        ready, used = [], []
        for _ in range(options.rounds):
            with launch() as server:
                ready.append(server.ready_seconds)
                measure(server, load, 1.0)
                used.append(memory(server) / MEGABYTES)
        sign = "<=" if name == OWN else ""
        seconds, megabytes = bounds[name]
        found.append(
            row(scenario, f"process start to ready, {name}", statistics.median(ready), "s", sign=sign, bound=seconds)
        )
        text = f"memory of all processes (PSS), {name}"
        found.append(row(scenario, text, statistics.median(used), "MB", sign=sign, bound=megabytes))
    return found
