"""Kubernetes objects that every local cluster has: Services of host processes, metrics API, storage."""

from __future__ import annotations

from typing import Any

from deploy.local.layout import DNS_SERVICE, GATEWAY, VOLUMES, Layout

Manifest = dict[str, Any]
Port = tuple[str, int, int, str]  # name, port of the Service, port on the host, protocol


def _host_service(name: str, address: str | None, ports: list[Port]) -> list[tuple[str, Manifest]]:
    """A process on the host behind a Service without selector."""
    metadata = {"name": name, "namespace": "kube-system"}
    spec: Manifest = {
        "ports": [
            {"name": n, "port": port, "targetPort": target, "protocol": protocol} for n, port, target, protocol in ports
        ]
    }
    if address:
        spec["clusterIP"] = address
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [GATEWAY]}],
        "ports": [{"name": n, "port": target, "protocol": protocol} for n, _, target, protocol in ports],
    }
    return [
        (
            f"/api/v1/namespaces/kube-system/services/{name}",
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec},
        ),
        (f"/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/{name}", endpoints),
    ]


def _metrics_api() -> tuple[str, Manifest]:
    name = "v1beta1.metrics.k8s.io"
    spec = {
        "group": "metrics.k8s.io",
        "version": "v1beta1",
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
        "insecureSkipTLSVerify": True,  # metrics-server makes its own certificate at each start; the way is the bridge
        "service": {"name": "metrics-server", "namespace": "kube-system"},
    }
    return f"/apis/apiregistration.k8s.io/v1/apiservices/{name}", {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": name},
        "spec": spec,
    }


def _storage(of: Layout) -> list[tuple[str, Manifest]]:
    default = {"storageclass.kubernetes.io/is-default-class": "true"}
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": "local", "annotations": default},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
        "reclaimPolicy": "Retain",
    }
    found: list[tuple[str, Manifest]] = [("/apis/storage.k8s.io/v1/storageclasses/local", storage_class)]
    for number in range(VOLUMES):
        name = f"local-{number}"
        spec = {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "local",
            "persistentVolumeReclaimPolicy": "Recycle",  # emptied when its claim goes, then free for the next
            "hostPath": {"path": str(of.volumes / name), "type": "DirectoryOrCreate"},
        }
        found.append(
            (
                f"/api/v1/persistentvolumes/{name}",
                {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec},
            )
        )
    return found


def all_of(of: Layout) -> list[tuple[str, Manifest]]:
    """Every object with the path that it is applied to."""
    return [
        *_host_service("kube-dns", DNS_SERVICE, [("dns", 53, 53, "UDP"), ("dns-tcp", 53, 53, "TCP")]),
        *_host_service("metrics-server", None, [("https", 443, 4443, "TCP")]),
        _metrics_api(),
        *_storage(of),
    ]
