"""What the machine has to offer before anything starts; every refusal names its fix."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from deploy.local.progress import Problem

GIB = 1 << 30
DISK_COLD = 8 * GIB  # Go's build cache 3, binaries 0.5, images and their layers 4
DISK_WARM = 2 * GIB
MEMORY = 4 * 10**9


def root(command: str) -> None:
    """Refuse to work without root: networks, mounts and containers need it."""
    if os.geteuid():
        raise Problem(f"`{command}` needs root: it makes networks, mounts and containers", f"run: sudo make {command}")


def own_cluster(command: str) -> None:
    """Refuse `up` and `down` when another cluster was chosen with CONTEXT=."""
    if context := os.environ.get("CONTEXT"):
        raise Problem(
            f"CONTEXT={context} chooses another cluster; `{command}` is only for the one of this machine",
            f"run `make {command}` without CONTEXT, or use only install and test with it",
        )


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def disk(paths: Iterable[Path], *, cold: bool) -> None:
    """Refuse when a file system would fill up: 8 GB free before a first build, 2 GB later."""
    need = DISK_COLD if cold else DISK_WARM
    for path in paths:
        free = shutil.disk_usage(_existing(path)).free
        if free < need:
            raise Problem(
                f"{free / GIB:.1f} GiB are free at {path}, {need / GIB:.0f} are needed",
                "free some space there, or set HOMEOSTAT_CACHE to a folder on a larger disk",
            )


def memory() -> None:
    """Refuse on machines with less than 4 GB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    total = int(fields["MemTotal"].split()[0]) * 1024
    if total < MEMORY * 0.95:  # the kernel keeps a part of what the machine was given
        raise Problem(f"this machine has {total / 1e9:.1f} GB of memory, 4 are needed", "give the machine 4 GB or more")


def kernel(scratch: Path) -> None:
    """Refuse kernels without overlayfs, nftables or bridge filtering; `scratch` lies where images will lie."""
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        below, above, work, merged = (Path(folder, name) for name in ("below", "above", "work", "merged"))
        for each in (below, above, work, merged):
            each.mkdir()
        options = f"lowerdir={below},upperdir={above},workdir={work}"
        if _fails(["mount", "-t", "overlay", "overlay", "-o", options, str(merged)]):
            raise Problem(
                f"overlayfs cannot be mounted below {scratch}",
                "`modprobe overlay`, or keep the checkout on ext4 or xfs (an overlay on an overlay does not work)",
            )
        subprocess.run(["umount", str(merged)], check=False)
    if _fails(["nft", "list", "tables"]):
        raise Problem(
            "the kernel has no nftables (`nft list tables` fails)",
            "`modprobe nf_tables`, or use a kernel with CONFIG_NF_TABLES",
        )
    bridge = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if not bridge.exists() and _fails(["modprobe", "br_netfilter"]):
        raise Problem(
            "the kernel does not filter bridged packets, so Services would not work inside of pods",
            "`modprobe br_netfilter`, or use a kernel with CONFIG_BRIDGE_NETFILTER",
        )


def _fails(argv: list[str]) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, check=False).returncode != 0
    except FileNotFoundError:
        return True


def port(address: str, number: int, component: str) -> None:
    """Refuse when somebody listens where `component` will."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, number))
        except OSError as error:
            raise Problem(
                f"port {number} for {component} is in use on {address} by {holder(number)} ({error.strerror})",
                "end that program (another local cluster?), then run `make up` again",
            ) from None


def holder(number: int) -> str:
    """Who listens on this TCP port, in words."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        rows = [line.split() for line in Path(table).read_text().splitlines()[1:]] if Path(table).exists() else []
        inodes |= {
            f"socket:[{row[9]}]" for row in rows if row[3] == "0A" and int(row[1].rsplit(":", 1)[1], 16) == number
        }
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(str(entry.readlink()) in inodes for entry in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
        except OSError:  # it ended meanwhile
            continue
    return "a process that cannot be seen from here"
