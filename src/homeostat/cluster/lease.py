"""Leader election on a Lease: renewed early, checked on a monotonic clock before each write, released on the way out."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from homeostat.cluster.client import Client
from homeostat.errors import Conflict, HomeostatError, NotFound, NotLeader

LOG: Final = logging.getLogger("homeostat.lease")
LASTS_SECONDS: Final = 15
RENEW_SECONDS: Final = 2.0
TRUSTED_SECONDS: Final = 10.0  # under LASTS: nobody else may hold it before we have stopped


class Lease:
    """One Lease. lost: called once when it was held and cannot be trusted any more."""

    def __init__(
        self, client: Client, namespace: str, name: str, identity: str, lost: Callable[[], None] = lambda: None
    ) -> None:
        self._client = client
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = name
        self._identity = identity
        self._lost = lost
        self._renewed: float | None = None
        self._seen: tuple[str, float] = ("", 0.0)

    def held(self) -> bool:
        """Whether this process holds it for certain at this moment."""
        return self._renewed is not None and time.monotonic() - self._renewed < TRUSTED_SECONDS

    def check(self) -> None:
        """Raises NotLeader unless held."""
        if not self.held():
            raise NotLeader("the Lease is not held: nothing is written")

    async def run(self) -> None:
        """Acquire and renew until cancelled."""
        was = False
        while True:
            asked = time.monotonic()
            try:
                if await asyncio.wait_for(self._try(), TRUSTED_SECONDS / 2):
                    self._renewed = asked
                else:
                    self._renewed = None
            except (HomeostatError, TimeoutError) as error:
                LOG.warning("the Lease could not be renewed: %s", error)
            if was and not self.held():
                LOG.error("the Lease is lost: this process writes nothing more and ends")
                self._lost()
                return
            if self.held() and not was:
                LOG.info("leading as %s", self._identity)
            was = self.held()
            await asyncio.sleep(RENEW_SECONDS)

    async def _try(self) -> bool:
        try:
            lease = await self._client.get(f"{self._path}/{self._name}")
        except NotFound:
            return await self._write("POST", self._path, self._body(None))
        spec = lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        if holder not in ("", self._identity) and not self._expired(lease):
            return False
        return await self._write("PUT", f"{self._path}/{self._name}", self._body(lease))

    def _expired(self, lease: dict[str, Any]) -> bool:
        """By our own clock: the holder has not renewed for as long as it said it would."""
        version, at = self._seen
        now = time.monotonic()
        if lease["metadata"]["resourceVersion"] != version:
            self._seen = (lease["metadata"]["resourceVersion"], now)
            return False
        return now - at > float((lease.get("spec") or {}).get("leaseDurationSeconds") or LASTS_SECONDS)

    async def _write(self, method: str, path: str, body: dict[str, Any]) -> bool:
        try:
            await self._client.send(method, path, body)
        except Conflict:
            return False
        return True

    def _body(self, before: dict[str, Any] | None) -> dict[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        old = (before or {}).get("spec") or {}
        mine = old.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LASTS_SECONDS,
            "renewTime": now,
            "acquireTime": old.get("acquireTime", now) if mine else now,
            "leaseTransitions": int(old.get("leaseTransitions", 0)) + (0 if mine or before is None else 1),
        }
        metadata: dict[str, Any] = {"name": self._name}
        if before is not None:
            metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}

    async def release(self) -> None:
        """Give it up, so that the next one need not wait. Best effort."""
        if not self.held():
            return
        self._renewed = None
        try:
            lease = await self._client.get(f"{self._path}/{self._name}")
            if (lease.get("spec") or {}).get("holderIdentity") == self._identity:
                lease["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                await self._client.send("PUT", f"{self._path}/{self._name}", lease)
        except HomeostatError as error:
            LOG.warning("the Lease could not be released: %s", error)
