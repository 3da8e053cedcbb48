"""Host processes of the cluster: started detached, known by process id and start time, ended in bounded time."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.local import layout


@dataclass(frozen=True, slots=True)
class Running:
    """A process that was started: its id alone could belong to another one by now, with its start time it cannot."""

    pid: int
    started: int  # clock ticks since boot
    spec: str  # fingerprint of command line and configuration

    @classmethod
    def of(cls, stored: dict[str, object]) -> Self:
        return cls(int(str(stored["pid"])), int(str(stored["started"])), str(stored["spec"]))

    @property
    def alive(self) -> bool:
        return start_time(self.pid) == self.started


def start_time(pid: int) -> int | None:
    """Start of a process in ticks since boot; None when it is gone or dead and not yet reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def start(argv: Sequence[str], log: Path, spec: str) -> Running:
    """Start a detached process in its own session, with our mark in its environment and its output in `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".old.log"))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("KUBE")} | {layout.MARK: "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=environment,
            cwd="/",
        )
    process.returncode = 0  # it outlives this program: no warning about that
    return Running(process.pid, start_time(process.pid) or 0, spec)


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process that may be gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def end(processes: Iterable[Running], *, grace: float) -> None:
    """End all of them: asked to first, killed after `grace` seconds (0: killed at once)."""
    alive = [process for process in processes if process.alive]
    first = signal.SIGTERM if grace else signal.SIGKILL
    for process in alive:
        send(process.pid, first)
    if not _gone(alive, grace or 5.0):
        for process in alive:
            if process.alive:
                send(process.pid, signal.SIGKILL)
        _gone(alive, 5.0)


def _gone(processes: Sequence[Running], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while any(process.alive for process in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def find(matches: Callable[[Path], bool]) -> list[Running]:
    """Processes whose /proc folder `matches`; this program itself is never among them."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        try:
            fits = pid != os.getpid() and matches(folder)
        except OSError:
            continue
        started = start_time(pid)
        if fits and started is not None:
            found.append(Running(pid, started, ""))
    return found


def marked(folder: Path) -> bool:
    """True for a process that was started by us: it carries our mark, or it is a shim of our containerd."""
    if f"\0{layout.MARK}=1\0".encode() in b"\0" + (folder / "environ").read_bytes():
        return True
    command = (folder / "cmdline").read_bytes().split(b"\0")
    return b"containerd-shim" in command[0] and str(layout.CONTAINERD_SOCKET).encode() in command


def exchange(folder: Path) -> bool:
    """True for the registry that hands images to containerd during `make images`."""
    return f"\0{layout.MARK}=exchange\0".encode() in b"\0" + (folder / "environ").read_bytes()


def containers() -> set[str]:
    """Ids of our containers, by what our containerd keeps of them."""
    return {folder.name for folder in layout.RUN.glob("containerd/*/k8s.io/*")}


def in_pods() -> Callable[[Path], bool]:
    """Matches processes inside of our pods: their control group names a container of ours, or a shim of ours is their parent.

    Pods of another Kubernetes on this machine are nobody's business here.
    """
    ids = containers()
    shims = {each.pid for each in find(marked)}

    def matches(folder: Path) -> bool:
        groups = (
            line.split(":", 2)[2] for line in (folder / "cgroup").read_text().splitlines() if line.count(":") >= 2
        )
        if any(ids & set(group.split("/")) for group in groups):
            return True
        status = (folder / "stat").read_text()
        return int(status.rpartition(")")[2].split()[1]) in shims and not marked(folder)

    return matches
