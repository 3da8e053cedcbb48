"""The composition root: what the operator is made of, in which order it starts and stops."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from homeostat.api.kinds import KINDS
from homeostat.api.meta import Key
from homeostat.cluster.children import custom
from homeostat.cluster.client import Access, Client, kubeconfig_path
from homeostat.cluster.events import Recorder
from homeostat.cluster.lease import Lease
from homeostat.cluster.writer import ApiWriter
from homeostat.domain.revision import digest
from homeostat.errors import HomeostatError, NotFound, NotLeader, Transient, Unavailable
from homeostat.operator.config import Settings
from homeostat.operator.probes import LAG_SECONDS, QUEUE_SECONDS, STREAM_SECONDS, Lag, serve
from homeostat.operator.world import Live
from homeostat.reconcile import deployment, drift, training, version
from homeostat.runtime.outcome import Outcome
from homeostat.runtime.queue import KeyedQueue
from homeostat.runtime.worker import work
from homeostat.signals.scrape import Scraper
from homeostat.telemetry.logs import CONTEXT, configure
from homeostat.telemetry.metrics import LEADER, QUEUE_LENGTH, RECONCILE_SECONDS

LOG: Final = logging.getLogger("homeostat.operator")
WORKERS: Final = 32
RELIST_SECONDS: Final = 600.0
FINISH_SECONDS: Final = 10.0
LEASE: Final = "homeostat-operator"

RECONCILE: Final[dict[str, Callable[[Key, Any], Awaitable[Outcome]]]] = {
    "ModelTraining": training.reconcile,
    "ModelVersion": version.reconcile,
    "ModelDeployment": deployment.reconcile,
    "DriftMonitor": drift.reconcile,
}


def run(argv: list[str]) -> int:
    """`homeostat operator`. Returns 0 after SIGTERM, 1 when the Lease was lost, 2 when it is configured wrongly."""
    del argv
    try:
        settings = Settings.read()
    except ValueError as error:
        sys.stderr.write(f"homeostat operator: {error}\n")
        return 2
    configure(settings.log_level)
    return asyncio.run(Operator(settings).run())


class Operator:
    """One operator process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = asyncio.Event()
        self._lost = False
        self._synced = False
        self._queue: KeyedQueue[Key] = KeyedQueue(time.monotonic)
        self._signals = Scraper()
        self._lag = Lag()
        self._reconciles = 0
        self._live: Live
        self._lease: Lease

    async def run(self) -> int:
        """Until SIGTERM or the Lease is lost."""
        import kopf

        from homeostat.operator import handlers

        settings = self._settings
        client = await Client.connect(await Access.load(kubeconfig_path()))
        self._lease = Lease(client, settings.config.operator_namespace, LEASE, settings.identity, self._on_lost)
        recorder = Recorder(client, settings.identity, self._lease.held)
        self._live = Live(client, settings.config, settings.namespaces, self._signals, self._wake)
        self._live.writer = ApiWriter(client, self._live, recorder, digest, self._lease.check)
        probes = await serve(settings.port, self._alive, self._ready)
        tasks = [asyncio.create_task(each) for each in self._background(client, recorder)]
        for task in tasks:
            task.add_done_callback(self._on_end)
        workers = [
            asyncio.create_task(work(self._queue, self._reconcile, self._failed, self._allowed)) for _ in range(WORKERS)
        ]
        try:
            await kopf.operator(
                registry=handlers.registry(self._live.resources),
                settings=handlers.settings(),
                standalone=True,
                clusterwide=not settings.namespaces,
                namespaces=settings.namespaces,
                stop_flag=self._stop,
            )
        finally:
            await self._finish(workers)
            await self._lease.release()
            await _cancel(tasks)
            await probes.cleanup()
            await client.close()
        return 1 if self._lost else 0

    def _background(self, client: Client, recorder: Recorder) -> list[Any]:
        informers = [i.run() for i in self._live.informers]
        return [
            *informers,
            self._lease.run(),
            recorder.run(),
            self._signals.run(),
            self._lag.run(),
            self._relist(client),
        ]

    async def _relist(self, client: Client) -> None:
        """The start-up list, and every ten minutes what kopf's streams may have missed: deletions during a gap."""
        wait = 1.0
        while True:
            try:
                for kind in KINDS:
                    await self._list(client, kind)
                await asyncio.gather(*(i.synced.wait() for i in self._live.informers))
                if not self._synced:
                    self._synced = True
                    gc.collect()
                    gc.freeze()
                    LOG.info(
                        "synced: %d resources", sum(len(tuple(r.store.all())) for r in self._live.resources.values())
                    )
                await asyncio.sleep(RELIST_SECONDS)
                wait = 1.0
            except HomeostatError as error:
                LOG.warning("the resources could not be listed: %s", error)
                await asyncio.sleep(wait)
                wait = min(30.0, 2 * wait)

    async def _list(self, client: Client, kind: str) -> None:
        resources = self._live.resources[kind]
        before = {(r.meta.namespace, r.meta.name): r.meta.uid for r in resources.store.all()}
        found = set()
        for namespace in self._settings.namespaces or (None,):
            async for page in client.pages(custom(KINDS[kind].plural, namespace), {}):
                for raw in page.get("items") or ():
                    resources.observe(raw)
                    found.add((raw["metadata"]["namespace"], raw["metadata"]["name"]))
        for place in before.keys() - found:
            resources.forget(*place, before[place])

    def _wake(self, key: Key) -> None:
        """What the first lists bring goes behind what people change meanwhile."""
        self._queue.add(key, low=not self._synced)

    def _allowed(self) -> bool:
        LEADER.set(self._lease.held())
        QUEUE_LENGTH.set(len(self._queue))
        return self._synced and self._lease.held()

    async def _reconcile(self, key: Key) -> Outcome:
        self._reconciles += 1
        found = self._live.resources[key.kind].store.get(key.namespace, key.name)
        generation = found.meta.generation if found is not None else 0
        context = {
            **key._asdict(),
            "generation": generation,
            "reconcile": f"{self._settings.identity}-{self._reconciles}",
        }
        token = CONTEXT.set(context)
        began, outcome = time.monotonic(), "error"
        try:
            result = await RECONCILE[key.kind](key, self._live)
            outcome = type(result).__name__
            return result
        finally:
            RECONCILE_SECONDS.labels(key.kind, outcome).observe(time.monotonic() - began)
            QUEUE_LENGTH.set(len(self._queue))
            CONTEXT.reset(token)

    def _failed(self, key: Key, error: Exception) -> float | None:
        context = {"fields": key._asdict()}
        if self._live.resources[key.kind].store.get(key.namespace, key.name) is None:
            return None
        if isinstance(error, Unavailable):
            LOG.warning("%s: %s", key, error, extra=context)
            return error.retry_after or 0.0
        if isinstance(error, NotLeader):
            return 1.0
        if isinstance(error, Transient | NotFound):
            LOG.info("%s: %s; trying again", key, error, extra=context)
            return 0.0
        if isinstance(error, HomeostatError):
            LOG.warning("%s: %s", key, error, extra=context)
            return 5.0
        LOG.error("%s: an error that nobody expected", key, exc_info=error, extra=context)
        return 0.0

    def _on_end(self, task: asyncio.Task[None]) -> None:
        """No part of the operator may end before the operator does: better a restart than a deaf one."""
        if not task.cancelled() and (error := task.exception()) is not None:
            LOG.critical("a part of the operator died", exc_info=error)
            self._on_lost()

    def _on_lost(self) -> None:
        self._lost = True
        self._stop.set()

    def _alive(self) -> str:
        oldest = self._queue.oldest_seconds()
        if self._allowed() and oldest > QUEUE_SECONDS:
            return f"a resource has been waiting for {oldest:.0f} s"
        now = time.monotonic()
        silent = max(self._live.informers, key=lambda i: now - i.heard)
        if now - silent.heard > STREAM_SECONDS:
            return f"no word of {silent.kind.plural} for {now - silent.heard:.0f} s"
        if self._lag.worst() > LAG_SECONDS:
            return f"the event loop was {self._lag.worst():.1f} s late"
        return ""

    def _ready(self) -> str:
        return "" if self._synced else "the first lists are not complete"

    async def _finish(self, workers: list[asyncio.Task[None]]) -> None:
        """Running reconciles may end; nothing new is begun."""
        self._synced = False
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._queue.idle(), FINISH_SECONDS)
        await _cancel(workers)


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, HomeostatError):
            await task
