"""The cluster as a user reaches it: kubectl, the registry's and the operator's addresses, `homeostat push` and `pull`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from examples.flights.state import State, read

ROOT: Final = Path(__file__).resolve().parents[2]
KUBECTL: Final = ROOT / ".local/bin/kubectl"
KUBECONFIG: Final = ROOT / ".local/kubeconfig"
SYSTEM: Final = "homeostat-system"
NAMESPACE: Final = "flights"
MODEL: Final = "flights"
WRITES: Final = re.compile(r"^homeostat_api_writes_total\{([^}]*)\} ([0-9.e+]+)$", re.MULTILINE)
VERB: Final = re.compile(r'verb="([^"]*)"')


class Trouble(Exception):  # noqa: N818 it reads as a sentence: raise Trouble(what, fix)
    """The demo cannot go on; `fix` says what to do."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


async def call(*argv: str | Path, given: str = "", seconds: float = 60.0) -> str:
    """Output of a command. Raises Trouble with its own words when it fails or takes longer."""
    env = {k: v for k, v in os.environ.items() if k != "KUBECONFIG"} | {"PYTHONPATH": str(ROOT / "src")}
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=env
    )
    shown = " ".join(Path(a).name if i == 0 else str(a) for i, a in enumerate(argv))
    try:
        out, err = await asyncio.wait_for(process.communicate(given.encode()), seconds)
    except TimeoutError:
        raise Trouble(f"{shown} took longer than {seconds:.0f} s", "look at: make status") from None
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise Trouble(f"{shown}: {err.decode(errors='replace').strip()[-600:]}", "look at: make status")
    return out.decode()


async def kubectl(*args: str, given: Any = None, seconds: float = 60.0) -> str:
    """What kubectl prints. given: a manifest for standard input."""
    text = "" if given is None else json.dumps(given)
    return await call(KUBECTL, "--kubeconfig", KUBECONFIG, *args, given=text, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Addresses. registry: `ip:port` of the registry's Service."""

    registry: str

    async def look(self) -> State:
        """What the four kinds say now."""
        text = await kubectl("-n", NAMESPACE, "get", "mt,mv,md,dm", "-o", "json", seconds=20)
        return read(json.loads(text)["items"])

    async def apply(self, file: Path) -> None:
        """`kubectl apply` one file."""
        await kubectl("-n", NAMESPACE, "apply", "-f", str(file))

    async def push(self, file: Path) -> str:
        """Put rows under the tag that the training names. Returns the artifact's digest."""
        where = f"oci://{self.registry}/{NAMESPACE}/{MODEL}:latest"
        out = await homeostat("push", str(file), where, "--plain-http", self.registry)
        return out.strip().rpartition("@")[2]

    async def pull(self, uri: str, folder: Path) -> None:
        """Fetch a bundle; `uri` names the registry as pods do."""
        _, _, path = uri.removeprefix("oci://").partition("/")
        await homeostat("pull", f"oci://{self.registry}/{path}", str(folder), "--plain-http", self.registry)

    async def front(self) -> str:
        """Base URL of the front Service's cluster address."""
        service = json.loads(await kubectl("-n", NAMESPACE, "get", "service", MODEL, "-o", "json"))
        ports = service["spec"]["ports"]
        port = next((p["port"] for p in ports if p["port"] == 8080), ports[0]["port"])
        return f"http://{service['spec']['clusterIP']}:{port}"

    async def operator_pods(self) -> list[str]:
        """Addresses of the operator's pods."""
        args = ("-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "json")
        pods = json.loads(await kubectl(*args))["items"]
        return [p["status"]["podIP"] for p in pods if p["status"].get("podIP")]


async def homeostat(*args: str) -> str:
    """Output of our own command line."""
    return await call(sys.executable, "-m", "homeostat", *args)


async def connect() -> Cluster:
    """The local cluster with a ready operator and its registry. Raises Trouble when one is missing."""
    if os.environ.get("CONTEXT"):
        raise Trouble("the demo talks to cluster addresses, so it runs on the local cluster only", "run: make demo")
    fix = "run: make demo   (or make up images install, and this again)"
    if not KUBECONFIG.exists() or not KUBECTL.exists():
        raise Trouble(f"there is no cluster: {KUBECONFIG} is missing", fix)
    asked = ("-n", SYSTEM, "get", "deployments", "-l", "app.kubernetes.io/component=operator", "-o", "json")
    operators = json.loads(await kubectl(*asked, seconds=20))["items"]
    if not any(d["status"].get("readyReplicas") for d in operators):
        raise Trouble(f"no operator is ready in namespace {SYSTEM}", fix)
    found = await kubectl("-n", SYSTEM, "get", "service", "homeostat-registry", "-o", "json", "--ignore-not-found")
    if not found.strip():
        raise Trouble("the installation has no registry (chart value registry.enabled)", "run: make install")
    spec = json.loads(found)["spec"]
    return Cluster(f"{spec['clusterIP']}:{spec['ports'][0]['port']}")


async def fresh_namespace() -> bool:
    """An empty namespace with Pod Security `restricted`. Returns whether an earlier one had to go first."""
    before = await kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name")
    if before.strip():
        await kubectl("delete", "namespace", NAMESPACE, "--wait=true", "--timeout=150s", seconds=160)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    await kubectl("apply", "-f", "-", given=manifest)
    return bool(before.strip())


async def pods_in_trouble() -> list[str]:
    """Lines on pods of the namespace that are neither ready nor done."""
    pods = json.loads(await kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]
    lines = []
    for pod in pods:
        states = [*pod["status"].get("initContainerStatuses", []), *pod["status"].get("containerStatuses", [])]
        waiting = [s["state"]["waiting"] for s in states if s.get("state", {}).get("waiting")]
        if pod["status"].get("phase") != "Succeeded" and (waiting or not all(s.get("ready") for s in states)):
            why = "; ".join(f"{w.get('reason', '')} {w.get('message', '')}".strip() for w in waiting[:2])
            lines.append(f"pod {pod['metadata']['name']}: {pod['status'].get('phase')} {why}".rstrip())
    return lines


def writes(metrics: str) -> dict[str, float]:
    """`homeostat_api_writes_total` by verb, from a pod's `/metrics`."""
    sums: dict[str, float] = {}
    for labels, value in WRITES.findall(metrics):
        found = VERB.search(labels)
        verb = found[1] if found else "?"
        sums[verb] = sums.get(verb, 0.0) + float(value)
    return sums
