"""List and watch of one kind of children into a store; a relist replaces, so nothing that went unseen stays."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Generic, TypeVar

from homeostat.cluster.children import SELECTOR, ChildKind, collection
from homeostat.cluster.client import Client
from homeostat.cluster.observed import Child
from homeostat.cluster.store import Store
from homeostat.errors import Gone, HomeostatError

C = TypeVar("C", bound=Child)
LOG: Final = logging.getLogger("homeostat.informer")
LONGEST_WAIT: Final = 30.0


class Informer(Generic[C]):
    """Keeps `store` equal to the cluster (to one namespace of it, or None for all).

    changed(old, new) is called for each difference; None is absence.
    """

    def __init__(
        self,
        client: Client,
        kind: ChildKind[C],
        namespace: str | None,
        store: Store[C],
        changed: Callable[[C | None, C | None], None],
    ) -> None:
        self.kind = kind
        self.namespace = namespace
        self.store = store
        self.synced = asyncio.Event()
        self.heard = time.monotonic()
        self._client = client
        self._changed = changed
        self._path = collection(kind.api_version, kind.plural, namespace)
        self._params = {"labelSelector": SELECTOR}

    async def run(self) -> None:
        """Until cancelled. Errors of the connection are logged and waited out."""
        wait = 1.0
        while True:
            try:
                since = await self._list()
                wait = 1.0
                await self._watch(since)
            except Gone:
                continue
            except HomeostatError as error:
                LOG.warning("%s: %s; listing again in %.0f s", self.kind.plural, error, wait)
                await asyncio.sleep(wait)
                wait = min(LONGEST_WAIT, 2 * wait)

    async def _list(self) -> str:
        found: dict[tuple[str, str], C] = {}
        since = ""
        async for page in self._client.pages(self._path, self._params):
            since = page["metadata"]["resourceVersion"]
            for raw in page.get("items") or ():
                child = self.kind.project(raw)
                found[child.meta.namespace, child.meta.name] = child
        for child in found.values():
            self.observe(child)
        gone = [c for c in self._mine() if (c.meta.namespace, c.meta.name) not in found]
        for child in gone:
            self.forget(child.meta.namespace, child.meta.name, child.meta.uid)
        self.heard = time.monotonic()
        self.synced.set()
        return since

    def _mine(self) -> Iterable[C]:
        return [c for c in self.store.all() if self.namespace in (None, c.meta.namespace)]

    async def _watch(self, since: str) -> None:
        while True:
            async for event in self._client.watch(self._path, self._params, since):
                self.heard = time.monotonic()
                since = event["object"]["metadata"]["resourceVersion"]
                self._take(event)

    def _take(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "ADDED" | "MODIFIED":
                self.observe(self.kind.project(event["object"]))
            case "DELETED":
                place = event["object"]["metadata"]
                self.forget(place.get("namespace", ""), place["name"], place["uid"])
            case _:  # a bookmark says only that the stream lives
                pass

    def observe(self, child: C) -> None:
        """Take a newer state, from the stream or from the answer to our own write."""
        old = self.store.get(child.meta.namespace, child.meta.name)
        if self.store.put(child):
            self._changed(old, child)

    def forget(self, namespace: str, name: str, uid: str) -> None:
        """It is gone."""
        old = self.store.drop(namespace, name, uid)
        if old is not None:
            self._changed(old, None)
