"""A token bucket in front of all writes."""

from __future__ import annotations

import asyncio
import time
from typing import Final

WRITES_PER_SECOND: Final = 200.0


class Bucket:
    """Lets `rate` through per second, and a burst of as many."""

    def __init__(self, rate: float = WRITES_PER_SECOND) -> None:
        self._rate = rate
        self._tokens = rate
        self._at = time.monotonic()

    async def take(self) -> None:
        """Wait for one token."""
        now = time.monotonic()
        self._tokens = min(self._rate, self._tokens + (now - self._at) * self._rate) - 1.0
        self._at = now
        if self._tokens < 0:
            await asyncio.sleep(-self._tokens / self._rate)
