"""Our containerd, spoken to through its own `ctr`."""

from __future__ import annotations

from pathlib import Path

from deploy.local.layout import CONTAINERD_SOCKET
from deploy.local.progress import call


def ctr(*words: str | Path) -> str:
    """Run `ctr` in the kubelet's namespace; raises Problem."""
    return call(
        ["ctr", "-a", CONTAINERD_SOCKET, "-n", "k8s.io", *words],
        fix="run `make up`, then try again; the log is .local/state/log/containerd.log",
    )


def answers() -> bool:
    """True when containerd is ready to work."""
    from deploy.local.progress import Problem

    try:
        ctr("images", "ls", "-q")
    except Problem:
        return False
    return True


def images() -> set[str]:
    """Names of all images, as containerd normalises them (docker.io/homeostat/operator:dev)."""
    return set(ctr("images", "ls", "-q").split())


def unnamed() -> list[str]:
    """References by digest (`sha256:…`) that the kubelet's side added to images whose names are all gone."""
    rows = [line.split() for line in ctr("images", "ls").splitlines()[1:]]
    named = {row[2] for row in rows if not row[0].startswith("sha256:")}
    return [row[0] for row in rows if row[0].startswith("sha256:") and row[2] not in named]


def load(archive: Path) -> None:
    """Import an image archive: its names replace images of the same names."""
    ctr("images", "import", archive)


def remove(names: list[str]) -> None:
    """Forget images; what a running container needs of them stays until it ends."""
    if names:
        ctr("images", "rm", *names)
