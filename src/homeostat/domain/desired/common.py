"""What all manifests share: labels, owner, security, resources, probes."""

from __future__ import annotations

from typing import Any, Final

from homeostat.api.meta import Meta, ResourceAmounts, Resources
from homeostat.api.names import API_VERSION, LABEL_COMPONENT, LABEL_MANAGED_BY, LABEL_NAME

Manifest = dict[str, Any]

USER: Final = 65532
MANAGED_BY: Final = "homeostat"


def labels(name: str, component: str, more: dict[str, str] | None = None) -> dict[str, str]:
    """Labels of a child. name: of the resource that it belongs to; component: `training`, `server`."""
    return {LABEL_NAME: name, LABEL_COMPONENT: component, LABEL_MANAGED_BY: MANAGED_BY, **(more or {})}


def owner_reference(kind: str, meta: Meta) -> Manifest:
    """The controller reference to one of our resources: the child goes when the resource goes."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": meta.name,
        "uid": meta.uid,
        "controller": True,
    }


def pod_security() -> Manifest:
    """A pod's security context that the `restricted` standard accepts."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> Manifest:
    """A container's security context that the `restricted` standard accepts, with a read-only root file system."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def resources(wanted: Resources | None, *, cpu: str, memory: str) -> Manifest:
    """Requests and limits of a container: what the spec says, else `cpu` and `memory`; memory's limit is its request, no CPU limit."""
    requests = (wanted.requests if wanted else None) or ResourceAmounts()
    limits = (wanted.limits if wanted else None) or ResourceAmounts()
    requested_memory = requests.memory or limits.memory or memory
    amounts: Manifest = {
        "requests": {"cpu": requests.cpu or limits.cpu or cpu, "memory": requested_memory},
        "limits": {"memory": limits.memory or requested_memory},
    }
    if limits.cpu:
        amounts["limits"]["cpu"] = limits.cpu
    return amounts


def http_probe(
    path: str, port: int, *, period: int = 5, failures: int = 3, timeout: int = 2, scheme: str = ""
) -> Manifest:
    """An HTTP probe. period, timeout: seconds. scheme: `HTTPS`; HTTP when empty."""
    return {
        "httpGet": {"path": path, "port": port, **({"scheme": scheme} if scheme else {})},
        "periodSeconds": period,
        "timeoutSeconds": timeout,
        "failureThreshold": failures,
    }
