"""What the tests of the loop need: kubectl, waiting for a condition, data in the cluster's registry."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
KUBECTL = ROOT / ".local/bin/kubectl"
CONTEXT = os.environ.get("CONTEXT", "")  # make test CONTEXT=…: another cluster
ACCESS = ("--context", CONTEXT) if CONTEXT else ("--kubeconfig", str(ROOT / ".local/kubeconfig"))
SYSTEM = "homeostat-system"
T = TypeVar("T")


def kubectl(*args: str, given: Any = None, check: bool = True) -> str:
    """kubectl's output. given: a manifest for standard input."""
    text = None if given is None else json.dumps(given)
    done = subprocess.run([KUBECTL, *ACCESS, *args], input=text, text=True, capture_output=True, check=False)
    if check and done.returncode != 0:
        raise AssertionError(f"kubectl {' '.join(args)}: {done.stderr}")
    return done.stdout


@contextmanager
def a_namespace() -> Iterator[str]:
    """A namespace that enforces the restricted standard, gone afterwards."""
    name = f"loop-{uuid.uuid4().hex[:8]}"
    marks = {"pod-security.kubernetes.io/enforce": "restricted"}
    kubectl(
        "apply", "-f", "-", given={"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": marks}}
    )
    try:
        yield name
    finally:
        kubectl("delete", "namespace", name, "--wait=false", check=False)


def eventually(look: Callable[[], T | None], seconds: float, what: str) -> T:
    """The first thing that `look` finds. Fails when it finds none within `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.3)


def get(namespace: str, kind: str, name: str) -> dict[str, Any] | None:
    """An object, or None."""
    text = kubectl("-n", namespace, "get", kind, name, "-o", "json", "--ignore-not-found")
    return json.loads(text) if text.strip() else None


def apply(namespace: str, kind: str, name: str, spec: dict[str, Any]) -> None:
    """Server-side apply of one of our kinds."""
    manifest = {"apiVersion": "homeostat.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}
    kubectl("-n", namespace, "apply", "--server-side", "-f", "-", given=manifest)


def wait_condition(where: tuple[str, str, str], kind: str, wanted: tuple[str, str], seconds: float) -> str:
    """The message of condition `kind` once it has (status, reason). where: namespace, kind, name."""

    def look() -> str | None:
        found = get(*where) or {}
        for condition in found.get("status", {}).get("conditions", []):
            if condition["type"] == kind and (condition["status"], condition["reason"]) == wanted:
                return condition["message"] or " "
        return None

    try:
        return eventually(look, seconds, f"{kind}={wanted} of {where}")
    except AssertionError as error:
        raise AssertionError(f"{error}; status is {(get(*where) or {}).get('status')}") from error


def push(namespace: str, file: Path, name: str) -> None:
    """Put a file into the cluster's registry, as the installation's `artifacts.uri` names it."""
    services = json.loads(kubectl("-n", SYSTEM, "get", "services", "-o", "json"))["items"]
    address = next(
        f"{s['spec']['clusterIP']}:5000" for s in services if any(p["port"] == 5000 for p in s["spec"]["ports"])
    )
    where = f"oci://{address}/{namespace}/{name}"
    subprocess.run(
        [sys.executable, "-m", "homeostat", "push", file, where, "--plain-http", address], check=True, cwd=ROOT
    )
