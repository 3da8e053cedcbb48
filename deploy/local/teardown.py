"""The end of a cluster: of ours, or of what another checkout left. Safe to repeat, and to run on nothing."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from deploy.local import layout, network, processes
from deploy.local.processes import Running
from deploy.local.progress import Problem, Step
from deploy.local.record import Record

FIRST = ("kubelet", "kube-controller-manager", "kube-scheduler")  # they would start pods again
LAST = ("etcd", "containerd")
POD_GRACE = 2.0


def everything(record: Record | None, states: Iterable[Path], current: Step) -> None:
    """End all processes, pods, mounts, interfaces, tables and folders of the cluster that `record` describes, or of an unrecorded one.

    `states` are state folders to unmount below. Raises Problem when something cannot be removed.
    """
    known = dict(record.processes) if record else {}
    folders = {str(layout.RUN), str(layout.BUILD), *(str(state) for state in states)}
    if record:
        folders.add(str(layout.Layout(Path(record.checkout)).state))
    current.say("pods")
    processes.end([known[name] for name in FIRST if name in known], grace=0)
    processes.end(processes.find(processes.in_pods()), grace=POD_GRACE)
    current.say("components")
    processes.end([each for name, each in known.items() if name not in LAST], grace=0)
    processes.end([known[name] for name in LAST if name in known], grace=5.0)
    _sweep()
    current.say("mounts and network")
    unmount(folders)
    network.remove(with_proxy=record is not None or network.present())
    _remove_control_groups()
    _remove_traces(folders)
    if record:
        network.restore_settings(record.sysctl_before)
    for folder in (layout.RUN, layout.BUILD):
        shutil.rmtree(folder, ignore_errors=True)
    if rest := leftovers():
        raise Problem(
            f"could not be removed: {', '.join(rest)}",
            "run `make down` again; what stays is held by a program outside of the cluster",
        )


def _sweep() -> None:
    """End what carries our mark or runs in our pods though no record names it."""
    for _ in range(3):
        marks = (processes.marked, processes.exchange, processes.in_pods())
        found: list[Running] = [each for mark in marks for each in processes.find(mark)]
        if not found:
            return
        processes.end(found, grace=0)


def mounts(folders: Iterable[str]) -> list[str]:
    """Mount points below these folders, innermost first."""
    roots = tuple(f"{folder}/" for folder in folders)
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    return sorted((point for point in points if point.startswith(roots)), reverse=True)


def unmount(folders: Iterable[str]) -> None:
    """Unmount everything below these folders."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    detach = 2
    for point in mounts(folders):
        libc.umount2(point.encode(), detach)


def _remove_control_groups() -> None:
    for root in _control_groups():
        for folder in [*sorted(root.rglob("*/"), reverse=True), root]:
            for _ in range(50):  # a dead process leaves its group a moment later
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.02)
                else:
                    break


def _control_groups() -> list[Path]:
    """The kubelet's groups, unless processes of another kubelet's pods are in them."""
    base = Path("/sys/fs/cgroup")
    return [
        folder
        for folder in (base / "kubepods", *base.glob("*/kubepods"))
        if folder.is_dir() and not folder.parent.is_symlink() and not _foreign(folder)
    ]


def _foreign(group: Path) -> bool:
    ids = processes.containers()
    return any(
        file.read_text().strip()
        for file in group.rglob("cgroup.procs")
        if file.parent.name not in ids and not _zombies(file)
    )


def _zombies(file: Path) -> bool:
    """Whether all that a group still holds has ended already."""
    states = [Path("/proc", pid, "stat") for pid in file.read_text().split()]
    return all(not s.exists() or s.read_text().rpartition(")")[2].split()[0] in "ZX" for s in states)


def _remove_traces(folders: Iterable[str]) -> None:
    """Remove the few files that the kubelet, CNI and shims write to places that cannot be chosen."""
    for address in layout.RUN.glob("containerd/*/k8s.io/*/address"):
        Path(address.read_text().removeprefix("unix://")).unlink(missing_ok=True)
    for cached in Path("/var/lib/cni/results").glob("*"):
        if cached.is_file() and f"{layout.RUN}/" in cached.read_text(errors="replace"):
            cached.unlink()
    for link in Path("/var/log/containers").glob("*.log"):
        if link.is_symlink() and str(link.readlink()).startswith(tuple(folders)):
            link.unlink(missing_ok=True)
    Path("/var/lib/kubelet/device-plugins/kubelet.sock").unlink(missing_ok=True)
    for folder in (
        "/var/lib/cni/results",
        "/var/lib/cni",
        "/var/log/containers",
        "/var/lib/kubelet/device-plugins",
        "/var/lib/kubelet",
    ):
        with contextlib.suppress(OSError):  # only when nobody else keeps something there
            Path(folder).rmdir()


def leftovers() -> list[str]:
    """What of a cluster is still on this machine, in words; empty after a complete end."""
    found = [
        f"process {each.pid}" for each in (*processes.find(processes.marked), *processes.find(processes.in_pods()))
    ]
    found += [f"mount {point}" for point in mounts([str(layout.RUN)])]
    if network.present():
        found.append(f"interface {layout.BRIDGE}")
    found += [f"control group {folder}" for folder in _control_groups()]
    if layout.RUN.exists():
        found.append(str(layout.RUN))
    return found
