"""Events for people: repeated ones are counted instead of posted, all pass a rate limit, none holds up a reconcile."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from homeostat.api.meta import Meta
from homeostat.api.names import API_VERSION
from homeostat.cluster.client import MERGE, Client
from homeostat.errors import HomeostatError, NotFound

LOG: Final = logging.getLogger("homeostat.events")
REMEMBERED: Final = 2000
PER_SECOND: Final = 10.0
QUEUED: Final = 1000
REPEAT_SECONDS: Final = 60.0
NOTE: Final = 1024  # the API server's own limit


@dataclass(slots=True)
class _Posted:
    name: str
    count: int
    at: float


class Recorder:
    """Posts Events in the background. instance: this process; allowed: whether writes are allowed now."""

    def __init__(self, client: Client, instance: str, allowed: Callable[[], bool]) -> None:
        self._client = client
        self._instance = instance
        self._allowed = allowed
        self._queue: asyncio.Queue[tuple[str, Meta, str, str, str]] = asyncio.Queue(QUEUED)
        self._posted: OrderedDict[tuple[str, str, str], _Posted] = OrderedDict()

    def record(self, kind: str, meta: Meta, *, warning: bool, reason: str, note: str) -> None:
        """Post an Event about one of our objects soon. When too many wait it is dropped and logged."""
        text = note if len(note) <= NOTE else note[: NOTE - 1] + "…"
        try:
            self._queue.put_nowait((kind, meta, "Warning" if warning else "Normal", reason, text))
        except asyncio.QueueFull:
            LOG.warning("an Event was dropped, too many wait: %s %s/%s %s", kind, meta.namespace, meta.name, reason)

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            kind, meta, level, reason, note = await self._queue.get()
            if self._allowed():
                try:
                    await self._post(kind, meta, level, reason, note)
                except HomeostatError as error:
                    LOG.warning("an Event could not be posted: %s", error)
                await asyncio.sleep(1 / PER_SECOND)

    async def _post(self, kind: str, meta: Meta, level: str, reason: str, note: str) -> None:
        key, now = (meta.uid, reason, note), time.monotonic()
        stamp = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        path = f"/apis/events.k8s.io/v1/namespaces/{meta.namespace}/events"
        known = self._posted.get(key)
        if known is not None:
            known.count += 1
            if now - known.at > REPEAT_SECONDS:
                known.at = now
                series = {"series": {"count": known.count, "lastObservedTime": stamp}}
                try:
                    await self._client.send("PATCH", f"{path}/{known.name}", series, content_type=MERGE)
                except NotFound:  # the API server forgets Events after an hour
                    del self._posted[key]
                    await self._post(kind, meta, level, reason, note)
            return
        name = f"{meta.name}.{uuid.uuid4().hex[:16]}"
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": meta.namespace},
            "eventTime": stamp,
            "reportingController": "homeostat.dev/operator",
            "reportingInstance": self._instance[:128],
            "action": reason,
            "reason": reason,
            "type": level,
            "note": note,
            "regarding": {
                "apiVersion": API_VERSION,
                "kind": kind,
                "namespace": meta.namespace,
                "name": meta.name,
                "uid": meta.uid,
            },
        }
        await self._client.send("POST", path, event)
        self._posted[key] = _Posted(name, 1, now)
        if len(self._posted) > REMEMBERED:
            self._posted.popitem(last=False)
