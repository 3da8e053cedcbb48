"""`make install`: the chart into the local cluster, or (CONTEXT=… IMAGES=…) into another one. Standard library only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMESPACE = "homeostat-system"
RELEASE = "homeostat"
PARTS = ("operator", "server", "trainer", "registry")


def main() -> int:
    """Install or upgrade, and wait until the operator leads. Returns the exit code."""
    context, prefix = os.environ.get("CONTEXT", ""), os.environ.get("IMAGES", "")
    if context and not prefix:
        print(
            f"error: CONTEXT={context} chooses another cluster, which needs images that its nodes can pull\n"
            "  fix: add IMAGES=<registry/prefix>, under which operator, server, trainer and registry lie",
            file=sys.stderr,
        )
        return 1
    helm, cluster = _other(context) if context else _local()
    done = subprocess.run([helm, *_words(prefix), *cluster], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"error: helm could not install the chart\n{done.stderr or done.stdout}", file=sys.stderr)
        return 1
    print(f"the operator is installed: release {RELEASE} in namespace {NAMESPACE}")
    return 0


def _words(prefix: str) -> list[str]:
    words = ["upgrade", "--install", RELEASE, str(ROOT / "charts/homeostat"), "--namespace", NAMESPACE]
    words += ["--create-namespace", "--set", "registry.enabled=true", "--wait", "--timeout", "5m"]
    for part, reference in _images(prefix).items():
        repository, _, tag = reference.rpartition(":")
        words += ["--set-string", f"images.{part}.repository={repository},images.{part}.tag={tag}"]
    return words


def _images(prefix: str) -> dict[str, str]:
    if prefix:
        return {part: f"{prefix.rstrip('/')}/{part}:dev" for part in PARTS}
    images: dict[str, str] = json.loads((ROOT / ".local/images.json").read_text())
    return images


def _local() -> tuple[str, list[str]]:
    """The local cluster is ours: what was edited there by hand is put right."""
    return str(ROOT / ".local/bin/helm"), ["--kubeconfig", str(ROOT / ".local/kubeconfig"), "--force-conflicts"]


def _other(context: str) -> tuple[str, list[str]]:
    mine = ROOT / ".local/bin/helm"
    return str(mine) if mine.exists() else (shutil.which("helm") or "helm"), ["--kube-context", context]


if __name__ == "__main__":
    sys.exit(main())
