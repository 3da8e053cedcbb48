"""The admin port: probes, `/stats`, `/stats/baseline` and `/metrics`, all answered by the supervisor."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final, Protocol

import orjson

from homeostat.api.wire.stats import State
from homeostat.server import metrics, view
from homeostat.server.bundle import Bundle
from homeostat.server.counters import Slot
from homeostat.server.http import TEXT, Exchange, Limits, Server
from homeostat.server.problem import Problem
from homeostat.server.settings import Settings
from homeostat.server.view import Pod

LIMITS: Final = Limits(body=64 << 10, connections=256, idle_seconds=120.0)


class Shown(Protocol):
    """What the admin port shows; the supervisor is one."""

    settings: Settings
    state: State
    pod: Pod
    bundle: Bundle | None
    slots: list[Slot]
    restarts: int

    @property
    def ready(self) -> bool:
        """Whether requests should come here."""
        ...

    @property
    def epoch(self) -> int:
        """The route epoch that all running workers apply."""
        ...


class Admin:
    """Listener of the admin port."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._server = Server(self._handle, LIMITS)
        self._listener: asyncio.Server | None = None
        self._baseline: tuple[bytes, bytes] | None = None
        self._get: dict[bytes, Callable[[Exchange], None]] = {
            b"/livez": lambda e: e.respond(200, b"ok\n", TEXT),
            b"/readyz": self._readyz,
            b"/stats": self._stats,
            b"/stats/baseline": self._stats_baseline,
            b"/metrics": self._metrics,
        }

    async def start(self) -> None:
        """Listen. Raises OSError."""
        settings = self._shown.settings
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._server.connection, settings.host, settings.admin_port)
        self._sweep = loop.create_task(self._sweep_always())

    async def stop(self) -> None:
        """Close the port and its connections."""
        self._sweep.cancel()
        if self._listener is not None:
            self._listener.close()
        self._server.close_idle(0.0)

    async def _sweep_always(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._server.sweep()

    def _handle(self, exchange: Exchange) -> None:
        path = exchange.url.partition(b"?")[0]
        answer = self._get.get(path)
        if answer is None:
            paths = ", ".join(p.decode() for p in self._get)
            raise Problem(404, f"{path[:100].decode('utf-8', 'replace')} does not exist; there are {paths}")
        if exchange.method not in {b"GET", b"HEAD"}:
            raise Problem(405, "only GET is allowed here")
        answer(exchange)

    def _readyz(self, exchange: Exchange) -> None:
        state = self._shown.state
        if self._shown.ready:
            exchange.respond(200, b"ok\n", TEXT)
        else:
            exchange.respond(503, f"{state.reason}: {state.message}\n".encode(), TEXT)

    def _stats(self, exchange: Exchange) -> None:
        shown = self._shown
        stats = view.pod_stats(shown.pod, view.read(shown.slots), shown.state, shown.epoch, time.time())
        exchange.respond(200, stats.model_dump_json().encode())

    def _metrics(self, exchange: Exchange) -> None:
        shown = self._shown
        text = metrics.exposition(shown.pod, view.read(shown.slots), ready=shown.ready, restarts=shown.restarts)
        exchange.respond(200, text, metrics.CONTENT_TYPE)

    def _stats_baseline(self, exchange: Exchange) -> None:
        """The baseline's fields, and the signature as `signature`. ETag: SHA-256 of `baseline.json`."""
        bundle = self._shown.bundle
        if bundle is None or bundle.baseline is None:
            raise Problem(404, f"this model has no baseline ({self._shown.state.reason})")
        if self._baseline is None:
            whole: dict[str, Any] = bundle.baseline.model_dump(mode="json")
            whole["signature"] = bundle.signature.model_dump(mode="json") if bundle.signature else None
            self._baseline = f'"{bundle.baseline_digest}"'.encode(), orjson.dumps(whole)
        etag, body = self._baseline
        extra = b"etag: %b\r\n" % etag
        if exchange.known.get(b"if-none-match") == etag:
            exchange.respond(304, b"", extra=extra)
        else:
            exchange.respond(200, body, extra=extra)
