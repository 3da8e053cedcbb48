"""Reading the counters of serving pods: only those that somebody watches, as often as the most eager watcher wants."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp
import orjson
from pydantic import ValidationError

from homeostat.api.names import PORT_ADMIN
from homeostat.api.wire.bundle import Baseline
from homeostat.api.wire.stats import PodStats
from homeostat.telemetry.metrics import SCRAPES

LOG: Final = logging.getLogger("homeostat.signals")
TICK: Final = 0.1
TIMEOUT: Final = aiohttp.ClientTimeout(total=2.0, sock_connect=1.0)
AT_ONCE: Final = 64
MOST_BYTES: Final = 32 << 20
BUSY_SHARE: Final = 0.3  # of a core, above which reads are stretched
STRETCH_TO: Final = 5.0
BASELINES_KEPT: Final = 512


class Identity(Protocol):
    """The part of metadata that a scrape needs."""

    @property
    def uid(self) -> str:
        """Of the pod."""
        ...


class Target(Protocol):
    """A serving pod."""

    @property
    def meta(self) -> Identity:
        """Who it is."""
        ...

    @property
    def ip(self) -> str:
        """Its address, empty before it has one."""
        ...

    @property
    def admin_tls(self) -> bool:
        """Whether its admin port speaks TLS."""
        ...


@dataclass(slots=True)
class _Pod:
    base: str
    due: float = 0.0
    busy: bool = False
    interval: float = 1.0
    newest: tuple[float, PodStats] | None = None
    watchers: set[Hashable] = field(default_factory=set)


class Scraper:
    """The port `reconcile.ports.Signals`."""

    def __init__(self) -> None:
        self._pods: dict[str, _Pod] = {}
        self._watches: dict[Hashable, tuple[frozenset[str], float]] = {}
        self._baselines: dict[str, Baseline] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._spent = 0.0
        self._stretch = 0.0

    def watch(self, owner: Hashable, pods: Iterable[Target], *, interval_seconds: float) -> None:
        """Keep scraping these pods for this owner; an empty iterable stops it. Cheap; called on each reconcile."""
        wanted = {p.meta.uid: _base(p) for p in pods if p.ip}
        before, _ = self._watches.pop(owner, (frozenset[str](), 0.0))
        for uid in before - wanted.keys():
            self._leave(owner, uid)
        if not wanted:
            return
        self._watches[owner] = (frozenset(wanted), interval_seconds)
        for uid, base in wanted.items():
            pod = self._pods.setdefault(uid, _Pod(base))
            pod.base = base
            pod.watchers.add(owner)
            pod.interval = min(self._watches[w][1] for w in pod.watchers)
            pod.due = min(pod.due, time.monotonic() + pod.interval)

    def _leave(self, owner: Hashable, uid: str) -> None:
        pod = self._pods.get(uid)
        if pod is None:
            return
        pod.watchers.discard(owner)
        if not pod.watchers:
            del self._pods[uid]
        else:
            pod.interval = min(self._watches[w][1] for w in pod.watchers)

    def latest(self, pod_uid: str) -> tuple[float, PodStats] | None:
        """Newest stats of a pod with the monotonic time of the scrape, or None."""
        pod = self._pods.get(pod_uid)
        return None if pod is None else pod.newest

    def baseline(self, pods: Iterable[Target], digest: str) -> Baseline | None:
        """The baseline with this digest, from any of the pods; None until one was read (a read is then started)."""
        found = self._baselines.get(digest)
        targets = [_base(p) for p in pods if p.ip]
        if found is None and targets and digest not in self._reading and self._session is not None:
            self._reading[digest] = asyncio.create_task(self._read_baseline(targets, digest))
        return found

    async def run(self) -> None:
        """Scrape until cancelled."""
        # the operator reads no Secret, so it knows no authority: like the kubelet's probes, encrypted and not verified
        connector = aiohttp.TCPConnector(limit=AT_ONCE, keepalive_timeout=15, ssl=False)
        tasks: set[asyncio.Task[None]] = set()
        async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as session:
            self._session = session
            looked = time.monotonic()
            while True:
                await asyncio.sleep(TICK)
                now = time.monotonic()
                for pod in [p for p in self._pods.values() if p.due <= now and not p.busy]:
                    pod.due = now + max(pod.interval, self._stretch)
                    pod.busy = True
                    task = asyncio.create_task(self._scrape(pod))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                if now - looked > STRETCH_TO:
                    share, self._spent = self._spent / (now - looked), 0.0
                    self._stretch = STRETCH_TO if share > BUSY_SHARE else 0.0
                    looked = now

    async def _scrape(self, pod: _Pod) -> None:
        try:
            async with self._slots:
                content = await self._get(f"{pod.base}/stats")
            began = time.thread_time()
            stats = PodStats.model_validate(orjson.loads(content))
            self._spent += time.thread_time() - began
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError, orjson.JSONDecodeError) as error:
            SCRAPES.labels("failed").inc()
            LOG.debug("no stats of %s: %s", pod.base, error)
        else:
            SCRAPES.labels("ok").inc()
            pod.newest = (time.monotonic(), stats)
        finally:
            pod.busy = False

    async def _get(self, url: str) -> bytes:
        assert self._session is not None
        async with self._session.get(url) as answer:
            answer.raise_for_status()
            content = await answer.content.read(MOST_BYTES)
            while not answer.content.at_eof():
                content += await answer.content.read(MOST_BYTES)
                if len(content) > MOST_BYTES:
                    raise aiohttp.ClientPayloadError(f"{url} says more than {MOST_BYTES} bytes")
            return content

    async def _read_baseline(self, bases: list[str], digest: str) -> None:
        assert self._session is not None
        try:
            for base in bases:
                try:
                    async with self._session.get(f"{base}/stats/baseline") as answer:
                        if answer.status == 200 and answer.headers.get("ETag", "").strip('"') == digest:
                            self._keep(digest, Baseline.model_validate(orjson.loads(await answer.read())))
                            return
                except (aiohttp.ClientError, TimeoutError, OSError, ValidationError, orjson.JSONDecodeError) as error:
                    LOG.info("no baseline of %s: %s", base, error)
        finally:
            del self._reading[digest]

    def _keep(self, digest: str, baseline: Baseline) -> None:
        while len(self._baselines) >= BASELINES_KEPT:
            del self._baselines[next(iter(self._baselines))]
        self._baselines[digest] = baseline


def _base(pod: Target) -> str:
    host = f"[{pod.ip}]" if ":" in pod.ip else pod.ip
    return f"{'https' if pod.admin_tls else 'http'}://{host}:{PORT_ADMIN}"
