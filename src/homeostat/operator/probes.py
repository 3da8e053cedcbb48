"""Port 8082: truthful probes and metrics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from homeostat.telemetry.metrics import LOOP_LAG, REGISTRY

Check = Callable[[], str]
QUEUE_SECONDS: Final = 300.0
STREAM_SECONDS: Final = 180.0
LAG_SECONDS: Final = 10.0


class Lag:
    """How late the event loop is: the longest delay of a short sleep in the last ten seconds."""

    def __init__(self) -> None:
        self._recent: list[float] = []

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.1)
            self._recent = [*self._recent[-99:], time.monotonic() - began - 0.1]
            LOOP_LAG.set(self.worst())

    def worst(self) -> float:
        """Seconds."""
        return max(self._recent, default=0.0)


async def serve(port: int, live: Check, ready: Check) -> web.AppRunner:
    """Serve until the runner is cleaned up. live, ready: what is wrong in one sentence, empty for nothing."""

    def probe(check: Check) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(_: web.Request) -> web.StreamResponse:
            wrong = check()
            return web.Response(status=500 if wrong else 200, text=(wrong or "ok") + "\n")

        return answer

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/livez", probe(live))
    app.router.add_get("/readyz", probe(ready))
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner
