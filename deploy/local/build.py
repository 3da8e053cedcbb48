"""Go programs, built once per change of their sources and kept outside of the checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local import layout
from deploy.local.progress import Problem, Step, follow, note, step

KUBERNETES = "v1.36.3"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet", "kubectl")
VERSION_FLAGS = (  # without them clients see v0.0.0
    f"-X k8s.io/component-base/version.gitVersion={KUBERNETES} -X k8s.io/component-base/version.gitMajor=1"
    f" -X k8s.io/component-base/version.gitMinor=36 -X k8s.io/client-go/pkg/version.gitVersion={KUBERNETES}"
)


@dataclass(frozen=True, slots=True)
class Target:
    """One binary: its name, the Go package, extra linker flags, and names that lead to the same binary."""

    name: str
    package: str
    flags: str = ""
    links: Sequence[str] = ()


CLUSTER = (
    Target("kube", ".", VERSION_FLAGS, COMPONENTS),
    Target("metrics-server", "sigs.k8s.io/metrics-server/cmd/metrics-server"),
    Target("coredns", "github.com/coredns/coredns"),
    Target("helm", "helm.sh/helm/v4/cmd/helm"),
    Target("kwok", "sigs.k8s.io/kwok/cmd/kwok"),
)
REGISTRY = (Target("registry", "github.com/distribution/distribution/v3/cmd/registry"),)
PAUSE = (Target("pause", "."),)


@dataclass(frozen=True, slots=True)
class Module:
    """A folder below deploy/local/go with its own go.mod, and what is built from it."""

    name: str
    targets: Sequence[Target]

    def sources(self, layout_: layout.Layout) -> Path:
        return layout_.sources / "go" / self.name

    def output(self, layout_: layout.Layout) -> Path:
        """Folder of the finished binaries; its name changes with the sources."""
        targets = "".join(f"{target.name}{target.package}{target.flags}{target.links}" for target in self.targets)
        return layout.cache() / f"{self.name}-{layout.fingerprint(self.sources(layout_), targets)}"


MODULES = {
    "cluster": Module("cluster", CLUSTER),
    "registry": Module("registry", REGISTRY),
    "pause": Module("pause", PAUSE),
}


def built(module: Module, of: layout.Layout) -> bool:
    """True when the module's binaries are there."""
    return module.output(of).is_dir()


def binaries(module: Module, of: layout.Layout) -> Path:
    """The folder of the module's binaries, built now when they are not there.

    Builds go to a folder of their own that is renamed when it is complete: an interrupted build leaves nothing that looks finished.
    """
    output = module.output(of)
    if output.is_dir():
        return output
    version = _go_version()
    for leftover in output.parent.glob(f"{module.name}-*.partial"):
        note(f"an earlier build was interrupted; building {module.name} again (Go's own cache keeps what it finished)")
        shutil.rmtree(leftover)
    partial = output.with_suffix(".partial")
    partial.mkdir(parents=True)
    for target in module.targets:
        with step(f"building {target.name} with Go {version}") as current:
            _build(module, target, partial, of, current)
    partial.rename(output)
    return output


def _go_version() -> str:
    try:
        said = subprocess.run(["go", "version"], capture_output=True, text=True, check=True).stdout
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise Problem(
            "there is no Go here: it builds Kubernetes from source",
            "install Go 1.26.4 or newer so that `go version` works in this shell ($PATH)",
        ) from None
    found = re.search(r"go(\d+)\.(\d+)(\S*)", said)
    if not found or (int(found[1]), int(found[2])) < (1, 26):
        raise Problem(
            f"Go 1.26.4 or newer is needed, this is: {said.strip()}", "install a newer Go and put it first in $PATH"
        )
    return f"{found[1]}.{found[2]}{found[3]}"


def _build(module: Module, target: Target, output: Path, of: layout.Layout, current: Step) -> None:
    compiled = 0

    def said(line: str) -> None:
        nonlocal compiled
        if line.startswith("go: downloading"):
            current.say(line)
            return
        compiled += 1
        current.say(f"{compiled} packages, now {line}")

    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    command: list[str | Path] = [
        "go",
        "build",
        "-v",
        "-trimpath",
        "-ldflags",
        f"-s -w {target.flags}".strip(),
        "-o",
        output / target.name,
        target.package,
    ]
    follow(
        command,
        layout.cache() / "log" / f"go-{target.name}.log",
        said,
        env=environment,
        cwd=module.sources(of),
        fix="see that the Go module proxy can be reached (`go env GOPROXY`) and that the disk is not full, then run this again",
    )
    for link in target.links:
        (output / link).symlink_to(target.name)
    current.result = f"{(output / target.name).stat().st_size / 1e6:.0f} MB" + (
        f", {compiled} packages compiled" if compiled else ""
    )


def link_tools(output: Path, of: layout.Layout) -> None:
    """Point `.local/bin` at the cluster's binaries."""
    for name in (*COMPONENTS, "metrics-server", "coredns", "helm", "kwok"):
        link(output / name, of)


def link(wanted: Path, of: layout.Layout) -> None:
    """Point `.local/bin` at one binary."""
    of.bin.mkdir(parents=True, exist_ok=True)
    here = of.bin / wanted.name
    if not (here.is_symlink() and here.readlink() == wanted):
        here.unlink(missing_ok=True)
        here.symlink_to(wanted)
