"""The work queue: each key once, one holder per key, delays, back-off, two priorities."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

K = TypeVar("K", bound=Hashable)

FIRST_BACKOFF: Final = 1.0
LONGEST_BACKOFF: Final = 300.0
JITTER: Final = 0.05


@dataclass(slots=True)
class _Waiting:
    """A key in line. since: monotonic time at which it became due."""

    since: float
    low: bool


class KeyedQueue(Generic[K]):
    """Keys to work on.

    A key that is added while somebody holds it is handed out again after `done`. Of several delays the shortest counts.
    User changes go before start-up and resync (`low`). Not thread-safe: one event loop.
    """

    def __init__(self, monotonic: Callable[[], float], *, jitter: float = JITTER) -> None:
        self._monotonic = monotonic
        self._jitter = jitter
        self._line: tuple[deque[K], deque[K]] = (deque(), deque())
        self._waiting: dict[K, _Waiting] = {}
        self._held: set[K] = set()
        self._again: set[K] = set()
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._failures: dict[K, int] = {}
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def idle(self) -> None:
        """Wait until nobody holds a key."""
        await self._idle.wait()

    def oldest_seconds(self) -> float:
        """How long the first key in line has been waiting; 0 when none is."""
        heads = [line[0] for line in self._line if line]
        return max((self._monotonic() - self._waiting[key].since for key in heads), default=0.0)

    def add(self, key: K, *, low: bool = False) -> None:
        """Work on `key` as soon as possible. O(1)."""
        if key in self._held:
            self._again.add(key)
            return
        self._due.pop(key, None)
        known = self._waiting.get(key)
        if known is None:
            self._waiting[key] = _Waiting(self._monotonic(), low)
            self._line[low].append(key)
        elif known.low and not low:
            known.low = False
            self._line[1].remove(key)
            self._line[0].append(key)
        self._wake.set()

    def add_after(self, key: K, seconds: float) -> None:
        """Work on `key` after `seconds`, unless it is in line or due earlier anyway."""
        if key in self._waiting:
            return
        at = self._monotonic() + seconds
        if self._due.get(key, float("inf")) <= at:
            return
        self._due[key] = at
        self._sequence += 1
        heapq.heappush(self._heap, (at, self._sequence, key))
        self._wake.set()

    async def get(self) -> K:
        """The next key. The caller holds it until `done`."""
        while True:
            self._promote_due()
            for line in self._line:
                if line:
                    key = line.popleft()
                    del self._waiting[key]
                    self._held.add(key)
                    self._idle.clear()
                    return key
            self._wake.clear()
            await self._sleep()

    async def _sleep(self) -> None:
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        timeout = max(0.0, self._heap[0][0] - self._monotonic()) if self._heap else None
        try:
            await asyncio.wait_for(self._wake.wait(), timeout)
        except TimeoutError:
            return

    def _promote_due(self) -> None:
        now = self._monotonic()
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == at:
                del self._due[key]
                self.add(key)

    def _release(self, key: K) -> None:
        self._held.discard(key)
        if not self._held:
            self._idle.set()

    def done(self, key: K, *, again_after: float | None = None) -> None:
        """The holder is finished and it went well. again_after: seconds (with jitter), None for never."""
        self._release(key)
        self._failures.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
        if again_after is not None:
            self.add_after(key, again_after * (1 + self._jitter * random.random()))  # noqa: S311 spreading load

    def failed(self, key: K, *, retry_after: float | None = None) -> float:
        """The holder is finished and it failed: try again after a growing time, which is returned (seconds)."""
        self._release(key)
        self._again.discard(key)
        count = self._failures.get(key, 0)
        self._failures[key] = count + 1
        wait = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(count, 20))
        wait = max(wait * (0.75 + 0.5 * random.random()), retry_after or 0.0)  # noqa: S311 spreading load
        self.add_after(key, wait)
        return wait

    def forget(self, key: K) -> None:
        """The object is gone: no retry, no delay."""
        self._release(key)
        self._failures.pop(key, None)
        self._due.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key)
