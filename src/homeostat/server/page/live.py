"""What the page draws: sums over all workers, read from shared memory. Whichever worker is asked says the same."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from homeostat.server.counting.counters import BUCKETS, CODES, COUNTERS, LATENCY_BOUNDS, READY, TRACKS, Slot, totals

POINTS: Final = 121  # two minutes, a point a second
FRESH_SECONDS: Final = 0.2  # a point that is younger is given again: many readers cost no more than one
_SUMMED: Final = ("requests", "rows", "latency", "batches", "batch_rows")
_FAULT: Final = 500


@dataclass(frozen=True, slots=True)
class Point:
    """Sums since the pod began, at `at` (Unix seconds). latency: requests by bucket; queued and connections are of the moment."""

    at: float
    ok: int
    refused: int
    failed: int
    rows: int
    batches: int
    batch_rows: int
    queued: int
    connections: int
    workers: int
    latency: tuple[int, ...]


def read(slots: Sequence[Slot], at: float) -> Point:
    """The sums now."""
    used = [slot for slot in slots if slot.get("used")] or [slots[0]]
    sums = {name: totals([slot.words(name, COUNTERS[name]) for slot in used]) for name in _SUMMED}
    codes = [sum(sums["requests"][place :: len(CODES)]) for place in range(len(CODES))]
    ok, failed = 0, 0
    for code, count in zip(CODES, codes, strict=True):
        ok += count if 0 < code < 400 else 0
        failed += count if code >= _FAULT else 0
    return Point(
        at=round(at, 3),
        ok=ok,
        refused=sum(codes) - ok - failed,
        failed=failed,
        rows=sum(sums["rows"]),
        batches=sum(sums["batches"]),
        batch_rows=sums["batch_rows"][0],
        queued=sum(slot.get("queued") for slot in used),
        connections=sum(slot.get("connections") for slot in used),
        workers=sum(slot.get("state") == READY for slot in used),
        latency=tuple(sum(sums["latency"][bucket::BUCKETS]) for bucket in range(BUCKETS)),
    )


class Live:
    """The last two minutes as this worker saw them, a point a second."""

    def __init__(self, slots: Sequence[Slot]) -> None:
        assert COUNTERS["latency"] == len(TRACKS) * BUCKETS
        self._slots = slots
        self._points: deque[Point] = deque(maxlen=POINTS)
        self._last = read(slots, time.time())

    def look(self) -> None:
        """Remember a point."""
        self._points.append(self._now())

    def _now(self) -> Point:
        now = time.time()
        if not 0 <= now - self._last.at < FRESH_SECONDS:
            self._last = read(self._slots, now)
        return self._last

    def to_json(self, since: float) -> bytes:
        """`points` later than `since`, the last one of this moment; `bounds`: upper ones of the latency buckets, seconds."""
        now = self._now()
        points = [point for point in self._points if since < point.at < now.at]
        return orjson.dumps({"now": time.time(), "bounds": LATENCY_BOUNDS, "points": [*points, now]})
