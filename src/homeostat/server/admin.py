"""The admin port: probes, `/stats`, its history and baseline, and `/metrics`, all answered by the supervisor."""

import asyncio
import ssl
import time
from collections.abc import Callable
from typing import Any, Final, Protocol
from urllib.parse import parse_qsl

import orjson

from homeostat.api.wire.stats import State
from homeostat.server.counting import metrics, view
from homeostat.server.counting.counters import LATENCY_BOUNDS, Slot
from homeostat.server.counting.history import FINE_SECONDS, History
from homeostat.server.counting.view import Pod
from homeostat.server.life.bundle import Bundle
from homeostat.server.problem import Problem
from homeostat.server.settings import Settings
from homeostat.server.transport.exchange import TEXT, Exchange, Limits
from homeostat.server.transport.http import Server

MOST_BOUNDS: Final = 4
LIMITS: Final = Limits(body=64 << 10, connections=256, idle_seconds=120.0)


class Shown(Protocol):
    """What the admin port shows; the supervisor is one."""

    settings: Settings
    state: State
    pod: Pod
    bundle: Bundle | None

    @property
    def slots(self) -> list[Slot]:
        """Counters of all workers that ever ran."""
        ...

    @property
    def restarts(self) -> int:
        """Workers that ended and were started again."""
        ...

    @property
    def workers(self) -> int:
        """Workers that serve now."""
        ...

    @property
    def tls_problem(self) -> str:
        """Why a new certificate is not used; empty when there is none."""
        ...

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
        self._exposition: tuple[Pod, metrics.Exposition] | None = None
        self._history = History()
        self._get: dict[bytes, Callable[[Exchange], None]] = {
            b"/livez": lambda e: e.respond(200, b"ok\n", TEXT),
            b"/readyz": self._readyz,
            b"/stats": self._stats,
            b"/stats/baseline": self._stats_baseline,
            b"/stats/history": self._stats_history,
            b"/metrics": self._metrics,
        }

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen; in the clear without `tls`. Raises OSError."""
        settings = self._shown.settings
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._server.connection, settings.host, settings.admin_port, ssl=tls)
        self._sweep = loop.create_task(self._sweep_always())
        self._remember = loop.create_task(self._remember_always(loop))

    async def stop(self) -> None:
        """Close the port and its connections."""
        self._sweep.cancel()
        self._remember.cancel()
        if self._listener is not None:
            self._listener.close()
        self._server.close_idle(0.0)

    async def _sweep_always(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._server.sweep()

    async def _remember_always(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time()
        while True:
            self._history.read(view.read(self._shown.slots, rows=False), time.time())
            due = max(due + FINE_SECONDS, loop.time())
            await asyncio.sleep(due - loop.time())

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
        shown, now = self._shown, time.time()
        asked = _asked(exchange.url)
        if asked is None:
            stats = view.pod_stats(shown.pod, view.read(shown.slots), shown.state, shown.epoch, now)
            exchange.respond(200, stats.model_dump_json().encode())
            return
        counted = view.read(shown.slots, rows=False)
        bounds, versions = asked
        short = view.rollout_stats(shown.pod, counted, shown.state, shown.epoch, now, bounds=bounds, versions=versions)
        exchange.respond(200, short.model_dump_json(exclude_defaults=True).encode())

    def _stats_history(self, exchange: Exchange) -> None:
        pod = self._shown.pod
        said = {"v": 1, "model": pod.model, "version": pod.version, "start": pod.start}
        head = orjson.dumps({**said, "now": round(time.time(), 3), "latency_bounds": LATENCY_BOUNDS})
        exchange.respond(200, self._history.to_json(head))

    def _metrics(self, exchange: Exchange) -> None:
        shown = self._shown
        if self._exposition is None or self._exposition[0] is not shown.pod:
            self._exposition = shown.pod, metrics.Exposition(shown.pod, feature_bins=shown.settings.feature_bins)
        open_metrics = b"application/openmetrics-text" in exchange.known.get(b"accept", b"")
        traced = view.exemplars(shown.slots) if open_metrics else {}
        now = metrics.Now(
            view.read(shown.slots), shown.ready, shown.restarts, shown.workers, bool(shown.tls_problem), traced
        )
        text = self._exposition[1].write(now, open_metrics=open_metrics)
        exchange.respond(200, text, metrics.OPEN_TYPE if open_metrics else metrics.TEXT_TYPE)

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


def _asked(url: bytes) -> tuple[tuple[float, ...], tuple[str, ...]] | None:
    """Latency bounds, rising, and versions of the view for rollouts; None for all that there is. Raises Problem."""
    query = parse_qsl(url.partition(b"?")[2].decode("utf-8", "replace"), keep_blank_values=True)
    asked = dict(query)
    if len(asked) < len(query) or asked.keys() - {"view", "bounds", "versions"}:
        raise Problem(400, "the query may have `view`, `bounds` and `versions`, each once")
    if asked.get("view", "full") == "full":
        if len(asked) > ("view" in asked):
            raise Problem(400, "`bounds` and `versions` belong to view=rollout")
        return None
    if asked["view"] != "rollout":
        raise Problem(400, f"view {asked['view'][:50]!r} does not exist; there are `full` and `rollout`")
    versions = tuple(filter(None, asked.get("versions", "").split(",")))
    bounds = tuple(filter(None, asked.get("bounds", "").split(",")))
    if len(versions) > view.MOST_VERSIONS or len(bounds) > MOST_BOUNDS:
        raise Problem(400, f"at most {view.MOST_VERSIONS} `versions` and {MOST_BOUNDS} `bounds` may be asked")
    return tuple(sorted(set(map(_bound, bounds)))), versions


def _bound(text: str) -> float:
    """A bound of a latency bucket. Raises Problem."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if found not in LATENCY_BOUNDS:
        there = ", ".join(f"{bound:g}" for bound in LATENCY_BOUNDS)
        raise Problem(400, f"bounds: {text[:20]!r} is no bound of a latency bucket; there are {there}")
    return found
