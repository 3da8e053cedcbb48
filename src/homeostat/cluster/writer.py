"""All writes: server-side apply of children, status, annotations, Events. Each passes the Lease and the token bucket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from homeostat.api.kinds import Resource
from homeostat.api.meta import Meta
from homeostat.api.names import ANNOTATION_DIGEST, API_VERSION, FIELD_MANAGER
from homeostat.cluster.bucket import Bucket
from homeostat.cluster.children import path
from homeostat.cluster.client import APPLY, JSON, MERGE, Client
from homeostat.cluster.events import Recorder
from homeostat.cluster.observed import Child
from homeostat.cluster.projections import mark
from homeostat.errors import Blocked, Conflict, NotFound
from homeostat.telemetry.metrics import ACTIONS, API_WRITES, WRITES_SKIPPED

Manifest = dict[str, Any]
_MANAGER: Final = {"fieldManager": FIELD_MANAGER}


class Mirror(Protocol):
    """What we have seen of the cluster; answers to our own writes go in at once."""

    def child(self, kind: str, namespace: str, name: str) -> Child | None:
        """A child as seen last."""
        ...

    def learn(self, raw: Manifest) -> None:
        """An object as the API server just returned it."""
        ...

    def unlearn(self, kind: str, namespace: str, name: str, uid: str) -> None:
        """An object that is gone."""
        ...


class ApiWriter:
    """The port `reconcile.ports.Writer` on a real API server. digest: of a manifest's canonical JSON."""

    def __init__(
        self,
        client: Client,
        mirror: Mirror,
        recorder: Recorder,
        digest: Callable[[Any], str],
        check: Callable[[], None],
    ) -> None:
        self._client = client
        self._mirror = mirror
        self._recorder = recorder
        self._digest = digest
        self._check = check
        self._bucket = Bucket()

    async def apply(self, manifest: Manifest, *, owner: Meta | None, observed_digest: str | None) -> bool:
        """Server-side apply with our field manager; not sent when the digest equals `observed_digest`. True when sent.

        Raises Blocked(`NameTaken`) when an object of that name is not `owner`'s.
        """
        kind, metadata = manifest["kind"], manifest["metadata"]
        wanted = self._digest(manifest)
        if observed_digest == wanted:
            WRITES_SKIPPED.labels("apply", kind).inc()
            return False
        where = path(manifest["apiVersion"], kind, metadata["namespace"], metadata["name"])
        seen = self._mirror.child(kind, metadata["namespace"], metadata["name"])
        if owner is not None and (seen is None or seen.owner_uid != owner.uid):
            await self._refuse_foreign(where, kind, owner)
        note = f"{wanted}@{self._mark(manifest, seen, wanted)}"
        marks = {**metadata.get("annotations", {}), ANNOTATION_DIGEST: note}
        body = {**manifest, "metadata": {**metadata, "annotations": marks}}
        await self._send("apply", kind, "PATCH", where, body, content_type=APPLY, params={**_MANAGER, "force": "true"})
        return True

    @staticmethod
    def _mark(manifest: Manifest, seen: Child | None, wanted: str) -> str:
        """The generation that the object will have: one more when the spec changes. A wrong guess costs one more apply."""
        if own := mark(manifest["kind"], manifest):
            return own
        if seen is None:
            return "1"
        applied = seen.meta.annotations.get(ANNOTATION_DIGEST, "").partition("@")[0]
        return str(seen.meta.generation + (0 if applied == wanted else 1))

    async def _refuse_foreign(self, where: str, kind: str, owner: Meta) -> None:
        try:
            found = await self._client.get(where)
        except NotFound:
            return
        owners = found["metadata"].get("ownerReferences") or ()
        if not any(o.get("controller") and o["uid"] == owner.uid for o in owners):
            name = found["metadata"]["name"]
            raise Blocked(
                "NameTaken", f"{kind} {name} is there and not ours: delete or rename it, it is never taken over"
            )
        self._mirror.learn(found)

    async def create(self, manifest: Manifest) -> bool:
        """Create; False when an object of that name exists already."""
        kind, metadata = manifest["kind"], manifest["metadata"]
        where = path(manifest["apiVersion"], kind, metadata["namespace"], metadata["name"]).rsplit("/", 1)[0]
        try:
            await self._send("create", kind, "POST", where, manifest, params=_MANAGER)
        except Conflict:
            return False
        return True

    async def delete(self, api_version: str, kind: str, meta: Meta) -> None:
        """Delete exactly this object (uid and resourceVersion as preconditions); gone already is fine."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": meta.uid, "resourceVersion": meta.resource_version},
        }
        try:
            await self._send("delete", kind, "DELETE", path(api_version, kind, meta.namespace, meta.name), options)
        except NotFound:
            self._mirror.unlearn(kind, meta.namespace, meta.name, meta.uid)

    async def patch_status(self, resource: Resource[Any, Any], status: Mapping[str, Any]) -> bool:
        """Merge-patch `status` (with the resourceVersion seen) if it differs from the resource's. True when it was sent."""
        if dict(status) == resource.status.to_json():
            WRITES_SKIPPED.labels("status", resource.kind).inc()
            return False
        meta = resource.meta
        body = {"metadata": {"resourceVersion": meta.resource_version}, "status": dict(status)}
        where = path(API_VERSION, resource.kind, meta.namespace, meta.name) + "/status"
        await self._send("status", resource.kind, "PATCH", where, body, content_type=MERGE, params=_MANAGER)
        return True

    async def annotate(self, api_version: str, kind: str, meta: Meta, annotations: Mapping[str, str | None]) -> None:
        """Merge-patch annotations of one object; None removes one. Raises NotFound."""
        body = {"metadata": {"uid": meta.uid, "annotations": dict(annotations)}}
        where = path(api_version, kind, meta.namespace, meta.name)
        await self._send("annotate", kind, "PATCH", where, body, content_type=MERGE, params=_MANAGER)

    def event(self, resource: Resource[Any, Any], *, warning: bool, reason: str, note: str) -> None:
        """Record an Event (aggregated, rate limited, posted in the background)."""
        ACTIONS.labels(resource.kind, reason).inc()
        self._recorder.record(resource.kind, resource.meta, warning=warning, reason=reason, note=note)

    async def _send(
        self,
        verb: str,
        kind: str,
        method: str,
        where: str,
        body: Any,
        *,
        content_type: str = JSON,
        params: Mapping[str, str] | None = None,
    ) -> None:
        await self._bucket.take()
        self._check()
        API_WRITES.labels(verb, kind).inc()
        answer = await self._client.send(method, where, body, content_type=content_type, params=params)
        if answer.get("kind") == kind and verb != "delete":
            self._mirror.learn(answer)
