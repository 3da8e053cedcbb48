"""Where everything lies, and the fixed addresses and names of the local cluster."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

RUN = Path("/run/homeostat-local")  # sockets have to be short: a Unix socket path ends at 107 characters
BUILD = Path("/run/homeostat-local-build")  # buildah's short-lived state
LOCK = Path("/run/homeostat-local.lock")
RECORD = RUN / "record.json"
CONTAINERD_SOCKET = RUN / "containerd.sock"

NODE = "local"
BRIDGE = "homeostat0"
GATEWAY = "10.244.0.1"  # first address of the pod range: the bridge, and the node's own address
POD_RANGE = "10.244.0.0/24"
SERVICE_RANGE = "10.96.0.0/16"
API_SERVICE = "10.96.0.1"
DNS_SERVICE = "10.96.0.10"
PAUSE_IMAGE = "docker.io/homeostat/pause:dev"
VOLUMES = 8
NON_ROOT = 65532

MARK = "HOMEOSTAT_LOCAL_CLUSTER"  # in the environment of every host process: found again even without a record


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of one checkout's cluster."""

    checkout: Path

    @property
    def sources(self) -> Path:
        return self.checkout / "deploy" / "local"

    @property
    def local(self) -> Path:
        return self.checkout / ".local"

    @property
    def bin(self) -> Path:
        return self.local / "bin"

    @property
    def kubeconfig(self) -> Path:
        return self.local / "kubeconfig"

    @property
    def images(self) -> Path:
        return self.local / "images.json"

    @property
    def volumes(self) -> Path:
        return self.local / "volumes"

    @property
    def state(self) -> Path:
        return self.local / "state"

    @property
    def identity(self) -> Path:
        return self.state / "id"

    @property
    def pki(self) -> Path:
        return self.state / "pki"

    @property
    def config(self) -> Path:
        return self.state / "config"

    @property
    def log(self) -> Path:
        return self.state / "log"


def cache() -> Path:
    """The folder of build results that outlive a checkout ($HOMEOSTAT_CACHE, else below the user's cache folder)."""
    if given := os.environ.get("HOMEOSTAT_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "homeostat"


def fingerprint(*parts: str | bytes | Path) -> str:
    """12 hex digits that change when a text, or a file's or folder's names and content, change."""
    digest = hashlib.sha256()
    for part in parts:
        for label, content in _pieces(part):
            digest.update(f"{len(label)} {len(content)} ".encode() + label + content)
    return digest.hexdigest()[:12]


def _pieces(part: str | bytes | Path) -> list[tuple[bytes, bytes]]:
    if isinstance(part, str):
        return [(b"", part.encode())]
    if isinstance(part, bytes):
        return [(b"", part)]
    if part.is_file():
        return [(part.name.encode(), part.read_bytes())]
    files = sorted(file for file in part.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return [(str(file.relative_to(part)).encode(), file.read_bytes()) for file in files]
