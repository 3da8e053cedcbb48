"""The host processes that make the cluster: command line, ports, health, and how they end."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local import configuration, containerd, layout
from deploy.local.layout import GATEWAY, NODE, POD_RANGE, SERVICE_RANGE, Layout

LOOPBACK = "127.0.0.1"
CLIENT_LIMITS = (
    "--kube-api-qps=500",
    "--kube-api-burst=1000",
)  # the defaults of 20 per second make tests wait for them


@dataclass(frozen=True, slots=True)
class Component:
    """One process; `health` is a URL that answers 200, or "" for containerd, which is asked over its socket."""

    name: str
    argv: Sequence[str]
    health: str
    ports: Sequence[tuple[str, int]] = ()
    configuration: Sequence[str] = ()
    grace: float = 2.0

    def spec(self, files: dict[str, str]) -> str:
        """Changes when the running process would have to be replaced."""
        return layout.fingerprint(*self.argv, *(files[name] for name in self.configuration))

    def healthy(self) -> bool:
        """One question, answered within a second."""
        return answers(self.health) if self.health else containerd.answers()


def answers(url: str) -> bool:
    """True when a GET ends with 200; certificates of these local ports are their own, so they are not verified."""
    context = ssl._create_unverified_context()  # noqa: SLF001 - the one short way, and loopback only
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def foundation(of: Layout, binaries: Path) -> list[Component]:
    """What the API server needs."""
    etcd_url = f"http://{LOOPBACK}:2379"
    return [
        Component(
            "etcd",
            [
                f"{binaries}/etcd",
                "--data-dir",
                f"{of.state}/etcd",
                "--unsafe-no-fsync",
                "--log-level",
                "warn",
                "--listen-client-urls",
                etcd_url,
                "--advertise-client-urls",
                etcd_url,
                "--listen-peer-urls",
                f"http://{LOOPBACK}:2380",
            ],
            f"{etcd_url}/health",
            [(LOOPBACK, 2379), (LOOPBACK, 2380)],
            grace=5.0,
        ),
        Component(
            "containerd",
            ["containerd", "-c", f"{of.config}/containerd.toml"],
            "",
            configuration=["containerd.toml"],
            grace=3.0,
        ),
    ]


def api_server(of: Layout, binaries: Path) -> Component:
    """The API server, reachable on the bridge only. Killed at once in the end: it keeps no state, and its own end takes 20 s."""
    argv = [f"{binaries}/kube-apiserver", *_own_side(of.pki), *_kubelet_and_aggregation(of.pki)]
    return Component("kube-apiserver", argv, f"https://{GATEWAY}:6443/readyz", [(GATEWAY, 6443)], grace=0)


def _own_side(pki: Path) -> list[str]:
    """Store, addresses, certificates and service accounts of the API server."""
    return [
        "--etcd-servers",
        f"http://{LOOPBACK}:2379",
        "--service-cluster-ip-range",
        SERVICE_RANGE,
        "--bind-address",
        GATEWAY,
        "--advertise-address",
        GATEWAY,
        "--authorization-mode",
        "Node,RBAC",
        "--profiling=false",
        "--client-ca-file",
        f"{pki}/ca.crt",
        "--tls-cert-file",
        f"{pki}/apiserver.crt",
        "--tls-private-key-file",
        f"{pki}/apiserver.key",
        "--service-account-key-file",
        f"{pki}/sa.pub",
        "--service-account-signing-key-file",
        f"{pki}/sa.key",
        "--service-account-issuer",
        "https://kubernetes.default.svc",
    ]


def _kubelet_and_aggregation(pki: Path) -> list[str]:
    """How the API server reaches the kubelet and metrics-server."""
    return [
        "--kubelet-certificate-authority",
        f"{pki}/ca.crt",
        "--kubelet-client-certificate",
        f"{pki}/admin.crt",
        "--kubelet-client-key",
        f"{pki}/admin.key",
        "--kubelet-preferred-address-types=InternalIP",  # else exec and logs fail on the look-up of the node's name
        "--requestheader-client-ca-file",
        f"{pki}/ca.crt",
        "--requestheader-allowed-names",
        "front-proxy",
        "--requestheader-username-headers",
        "X-Remote-User",
        "--requestheader-group-headers",
        "X-Remote-Group",
        "--requestheader-extra-headers-prefix",
        "X-Remote-Extra-",
        "--proxy-client-cert-file",
        f"{pki}/front.crt",
        "--proxy-client-key-file",
        f"{pki}/front.key",
        "--enable-aggregator-routing=true",  # metrics-server runs on the host, behind a Service without selector
    ]


def controllers(of: Layout, binaries: Path) -> list[Component]:
    """Controller manager and scheduler."""
    admin = f"{of.state}/admin.kubeconfig"
    return [
        Component(
            "kube-controller-manager",
            [
                f"{binaries}/kube-controller-manager",
                "--kubeconfig",
                admin,
                "--bind-address",
                LOOPBACK,
                "--leader-elect=false",
                *CLIENT_LIMITS,
                "--service-account-private-key-file",
                f"{of.pki}/sa.key",
                "--root-ca-file",
                f"{of.pki}/ca.crt",
                "--use-service-account-credentials",
                "--cluster-signing-cert-file",
                f"{of.pki}/ca.crt",
                "--cluster-signing-key-file",
                f"{of.pki}/ca.key",
                "--horizontal-pod-autoscaler-sync-period=5s",
                "--horizontal-pod-autoscaler-downscale-stabilization=20s",
                "--pv-recycler-pod-template-filepath-hostpath",
                f"{of.config}/recycler.json",
                "--pvclaimbinder-sync-period=5s",
            ],
            f"https://{LOOPBACK}:10257/healthz",
            [(LOOPBACK, 10257)],
            ["recycler.json"],
        ),
        Component(
            "kube-scheduler",
            [
                f"{binaries}/kube-scheduler",
                "--kubeconfig",
                admin,
                "--bind-address",
                LOOPBACK,
                "--leader-elect=false",
                *CLIENT_LIMITS,
            ],
            f"https://{LOOPBACK}:10259/healthz",
            [(LOOPBACK, 10259)],
        ),
    ]


def node(of: Layout, binaries: Path) -> list[Component]:
    """Kubelet, service proxy, DNS and metrics of the one node."""
    return [_kubelet(of, binaries), _proxy(of, binaries), _dns(of, binaries), _metrics(of, binaries)]


def _kubelet(of: Layout, binaries: Path) -> Component:
    return Component(
        "kubelet",
        [
            f"{binaries}/kubelet",
            "--config",
            f"{of.config}/kubelet.json",
            "--kubeconfig",
            f"{of.state}/kubelet.kubeconfig",
            "--hostname-override",
            NODE,
            "--node-ip",
            GATEWAY,
            "--root-dir",
            f"{of.state}/kubelet",
            "--cert-dir",
            f"{of.pki}",
        ],
        f"http://{LOOPBACK}:10248/healthz",
        [(GATEWAY, 10250), (LOOPBACK, 10248)],
        ["kubelet.json", "resolv.conf"],
    )


def _proxy(of: Layout, binaries: Path) -> Component:
    admin = f"{of.state}/admin.kubeconfig"
    return Component(
        "kube-proxy",
        [
            f"{binaries}/kube-proxy",
            "--kubeconfig",
            admin,
            "--proxy-mode",
            "nftables",
            "--hostname-override",
            NODE,
            "--cluster-cidr",
            POD_RANGE,
            "--conntrack-max-per-core",
            "0",  # its sysctl cannot be written in containers and belongs to the machine anyway
            "--metrics-bind-address",
            f"{LOOPBACK}:10249",
            "--healthz-bind-address",
            f"{LOOPBACK}:10256",
        ],
        f"http://{LOOPBACK}:10256/livez",
        [(LOOPBACK, 10249), (LOOPBACK, 10256)],
    )


def _dns(of: Layout, binaries: Path) -> Component:
    return Component(
        "coredns",
        [f"{binaries}/coredns", "-conf", f"{of.config}/Corefile"],
        f"http://{GATEWAY}:8181/health",
        [(GATEWAY, 53), (GATEWAY, 8181)],
        ["Corefile"],
    )


def _metrics(of: Layout, binaries: Path) -> Component:
    admin = f"{of.state}/admin.kubeconfig"
    return Component(
        "metrics-server",
        [
            f"{binaries}/metrics-server",
            "--kubeconfig",
            admin,
            "--authentication-kubeconfig",
            admin,
            "--authorization-kubeconfig",
            admin,
            "--cert-dir",
            f"{of.state}/metrics-server",
            "--kubelet-preferred-address-types",
            "InternalIP",
            "--kubelet-certificate-authority",
            f"{of.pki}/ca.crt",
            "--metric-resolution",
            "10s",
            "--kubelet-request-timeout",
            "5s",
            "--secure-port",
            "4443",
            "--bind-address",
            GATEWAY,
        ],
        f"https://{GATEWAY}:4443/livez",
        [(GATEWAY, 4443)],
    )


def everything(of: Layout, binaries: Path) -> list[Component]:
    """All components in the order of their start."""
    return [*foundation(of, binaries), api_server(of, binaries), *controllers(of, binaries), *node(of, binaries)]


def files(of: Layout, plugins: Path) -> dict[str, str]:
    """The configuration that `spec` compares."""
    return configuration.files(of, plugins)
