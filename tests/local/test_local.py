"""The local cluster's own tool: what it refuses, what it leaves alone, what it mends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.ground import ROOT

pytestmark = pytest.mark.local
RECORD = Path("/run/homeostat-local/record.json")
NOBODY = 65534


def tool(*words: str, checkout: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """`deploy/local` of a checkout."""
    return subprocess.run(
        [sys.executable, "deploy/local", *words],
        cwd=checkout,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def run(script: str, checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A few lines of Python beside the tool's modules."""
    words = [sys.executable, "-B", "-c", script]
    return subprocess.run(
        words, cwd=checkout, env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def copy() -> Iterator[Path]:
    """The tool without this checkout's state, readable for everybody."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        shutil.copytree(ROOT / "deploy", Path(folder, "deploy"), ignore=shutil.ignore_patterns("__pycache__"))
        yield Path(folder)


def processes() -> dict[str, int]:
    return {name: process["pid"] for name, process in json.loads(RECORD.read_text())["processes"].items()}


def test_up_changes_nothing_when_the_cluster_is_up() -> None:
    before = RECORD.read_text()
    done = tool("up")
    assert done.returncode == 0, done.stderr
    assert "up already" in done.stdout
    assert RECORD.read_text() == before


def test_status_names_every_component_as_healthy() -> None:
    done = tool("status")
    assert done.returncode == 0, done.stdout
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line}
    assert all(rows[name].endswith("healthy") for name in processes())
    assert "Ready" in done.stdout


def test_images_changes_nothing_when_they_are_there() -> None:
    assert tool("images").returncode == 0
    done = tool("images")
    assert "all images are there already" in done.stdout


@pytest.mark.parametrize("command", ["up", "down", "images"])
def test_without_root_it_says_so_and_how(copy: Path, command: str) -> None:
    script = (  # nobody may not be able to read this Python's own files, so they are read before
        "import os, sys\n"
        "from deploy.local import commands\n"
        "from deploy.local.__main__ import main\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        f"sys.exit(main(['{command}']))\n"
    )
    done = run(script, copy)
    assert done.returncode == 1
    assert "needs root" in done.stderr
    assert f"fix: run: sudo make {command}" in done.stderr


def test_without_go_it_says_what_to_install(copy: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from deploy.local import build\n"
        "from deploy.local.layout import Layout\n"
        "from deploy.local.progress import Problem\n"
        "try:\n    build.binaries(build.MODULES['pause'], Layout(Path.cwd()))\n"
        "except Problem as problem:\n    print(problem, problem.fix)\n"
    )
    empty = copy / "nothing"
    empty.mkdir()
    done = run(script, copy, PATH=str(empty), HOMEOSTAT_CACHE=str(copy / "cache"), HOME=str(copy))
    assert "there is no Go here" in done.stdout
    assert "install Go 1.26" in done.stdout


@pytest.mark.parametrize("command", ["up", "down"])
def test_another_cluster_is_never_started_or_ended(command: str) -> None:
    done = tool(command, CONTEXT="somewhere")
    assert done.returncode == 1
    assert "without CONTEXT" in done.stderr


def test_an_exported_kubeconfig_is_ignored(tmp_path: Path) -> None:
    done = tool("status", KUBECONFIG=str(tmp_path / "nowhere"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_dead_component_is_started_again_and_nothing_else() -> None:
    before = processes()
    os.kill(before["kube-scheduler"], signal.SIGKILL)
    assert tool("status").returncode == 3
    done = tool("up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kube-scheduler has ended" in done.stdout
    after = processes()
    assert {name for name, pid in after.items() if pid != before[name]} == {"kube-scheduler"}
    assert tool("status").returncode == 0


def test_another_checkout_takes_over_and_nothing_of_the_first_stays(copy: Path) -> None:
    before = processes()
    try:
        done = tool("up", checkout=copy)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"taking down what is left of {ROOT}" in done.stdout
        assert not [pid for pid in before.values() if _is_component(pid)]
        assert json.loads(RECORD.read_text())["checkout"] == str(copy)
    finally:
        ended = tool("down", checkout=copy)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert _left() == []
    again = tool("up")
    assert again.returncode == 0, again.stdout + again.stderr
    assert tool("status").returncode == 0


def _is_component(pid: int) -> bool:
    try:
        return b"HOMEOSTAT_LOCAL_CLUSTER" in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def _left() -> list[str]:
    """Mounts, interfaces, network namespaces, routes and tables that a cluster would have."""
    asked = {
        "mount": ["cat", "/proc/mounts"],
        "interface": ["ip", "-o", "link"],
        "namespace": ["ip", "netns", "list"],
        "route": ["ip", "route"],
        "table": ["nft", "list", "tables"],
    }
    marks = ("homeostat", "cni-", "10.96.0.0", "kube-proxy", "/kubelet/")
    found = []
    for what, words in asked.items():
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        found += [f"{what}: {line}" for line in said.splitlines() if any(mark in line for mark in marks)]
    return found
