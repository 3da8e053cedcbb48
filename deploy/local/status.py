"""`status`: components with process, version and health, then node and pods."""

from __future__ import annotations

import re
import time
from pathlib import Path

from deploy.local import build, cluster, components, packages, record
from deploy.local.layout import Layout
from deploy.local.processes import Running
from deploy.local.progress import Problem, call

MODULES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "coredns": "github.com/coredns/coredns",
    "metrics-server": "sigs.k8s.io/metrics-server",
}


def show(of: Layout) -> int:
    """Print the state of the machine's cluster. Returns 0 when all is healthy, else 3."""
    packages.complete_path()
    known = record.load()
    if known is None:
        print("no local cluster is running; start it with `make up`")
        return 3
    if known.checkout != str(of.checkout):
        print(f"the cluster of this machine belongs to {known.checkout}; `make up` here would take it over")
    owner = Layout(Path(known.checkout))
    healthy = True
    print(f"{'COMPONENT':<24} {'PID':>7}  {'VERSION':<10} {'UP FOR':<10} HEALTH")
    for component in components.everything(owner, build.MODULES["cluster"].output(of)):
        process = known.processes.get(component.name)
        health = (
            "healthy"
            if process and process.alive and component.healthy()
            else "not answering"
            if process and process.alive
            else "dead"
        )
        healthy = healthy and health == "healthy"
        pid, age = (str(process.pid), _age(process)) if process and process.alive else ("-", "-")
        print(f"{component.name:<24} {pid:>7}  {_version(of, component.name):<10} {age:<10} {health}")
    if not healthy:
        print(f"\nnot healthy: `make up` restarts what is dead; logs are in {owner.log}")
        return 3
    print(
        f"\n{cluster.kubectl(owner, 'get', 'nodes', '-o', 'wide')}\n{cluster.kubectl(owner, 'get', 'pods', '-A') or 'no pods'}"
    )
    return 0


def _age(process: Running) -> str:
    ticks = 100  # USER_HZ is 100 on every Linux that we know
    seconds = int(time.clock_gettime(time.CLOCK_BOOTTIME) - process.started / ticks)
    return f"{seconds // 3600} h {seconds % 3600 // 60} m" if seconds >= 3600 else f"{seconds // 60} m {seconds % 60} s"


def _version(of: Layout, component: str) -> str:
    if component == "containerd":
        try:
            found = re.search(r"\d+\.\d+\.\d+", call(["containerd", "--version"], fix=""))
        except Problem:
            return "-"
        return f"v{found[0]}" if found else "-"
    if component not in MODULES:
        return build.KUBERNETES
    required = re.search(
        rf"^\s*{re.escape(MODULES[component])} (v\S+)",
        (of.sources / "go" / "cluster" / "go.mod").read_text(),
        re.MULTILINE,
    )
    return required[1] if required else "-"
