"""kopf's part: watch-events of our four kinds go into the stores. It never writes to our objects."""

from __future__ import annotations

from typing import Any

import kopf

from homeostat.api.kinds import KINDS
from homeostat.api.names import GROUP, VERSION
from homeostat.cluster.client import kubeconfig_path
from homeostat.cluster.resources import Resources


def registry(resources: dict[str, Resources[Any, Any]]) -> kopf.OperatorRegistry:
    """A registry with one event handler per kind, and how to log in."""
    found = kopf.OperatorRegistry()
    for kind, store in resources.items():
        _bind(found, KINDS[kind].plural, store)

    @kopf.on.login(registry=found)
    def log_in(**given: Any) -> kopf.ConnectionInfo | None:
        """The pod's service account, else the kubeconfig."""
        if kubeconfig_path() is None:
            return kopf.login_with_service_account(**given)
        return kopf.login_with_kubeconfig(**given)

    return found


def _bind(found: kopf.OperatorRegistry, plural: str, store: Resources[Any, Any]) -> None:
    @kopf.on.event(GROUP, VERSION, plural, registry=found, id=plural)
    async def seen(event: kopf.RawEvent, **_: Any) -> None:
        raw: Any = event["object"]
        if event["type"] == "DELETED":
            place = raw["metadata"]
            store.forget(place.get("namespace", ""), place["name"], place["uid"])
        else:
            store.observe(dict(raw))


def settings() -> kopf.OperatorSettings:
    """Kopf as a watch and process runtime: each setting with its reason."""
    found = kopf.OperatorSettings()
    found.queueing.idle_timeout = 0.1  # a worker's slot and task go at once; worker_limit stays None
    found.watching.chunk_size = 500  # bounds the peak of a first list
    found.posting.enabled = False  # our recorder aggregates and limits
    found.networking.request_timeout = 30  # the default is five minutes
    found.networking.connect_timeout = 5
    found.scanning.disabled = True  # the CRDs are there before us
    found.peering.standalone = True  # a Lease decides who works
    found.persistence.finalizer = f"{GROUP}/kopf"  # none is ever added; should one be, its name says whose it is
    return found
