"""How often the operator wrote to the API server during the demo, from its own metrics."""

from __future__ import annotations

import asyncio
import urllib.request
from collections import Counter

from examples.flights.cluster import Cluster, writes


class Writes:
    """Counters of the operator's pods, read at the start and at the end."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._before: dict[str, dict[str, float]] = {}

    async def begin(self) -> None:
        """Read the counters as they are before the demo's objects are there."""
        self._before = await self._read()

    async def since(self) -> dict[str, float]:
        """Writes by verb since `begin`, all pods; what a pod that is gone counted is lost."""
        total: Counter[str] = Counter()
        for address, verbs in (await self._read()).items():
            for verb, count in verbs.items():
                before = self._before.get(address, {}).get(verb, 0.0)
                total[verb] += int(count - before if count >= before else count)
        return {verb: float(count) for verb, count in total.items() if count}

    async def _read(self) -> dict[str, dict[str, float]]:
        found = {}
        for address in await self._cluster.operator_pods():
            try:
                found[address] = writes(await asyncio.to_thread(_get, f"http://{address}:8082/metrics"))
            except OSError:
                continue
        return found


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as answer:
        text: str = answer.read().decode()
        return text
