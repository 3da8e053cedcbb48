"""Whose cluster runs on this machine: a record under /run that survives the program, and a lock while one works."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deploy.local import layout
from deploy.local.processes import Running
from deploy.local.progress import note


def boot() -> str:
    """The kernel's id of this boot: a record from before a restart of the machine names no process that lives."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(slots=True)
class Record:
    """What has been started, by whom; written before and after every change."""

    checkout: str
    identity: str  # of the state folder: a fresh clone at the same path is another cluster
    boot: str
    processes: dict[str, Running] = field(default_factory=dict)
    sysctl_before: dict[str, str] = field(default_factory=dict)

    def save(self) -> None:
        layout.RUN.mkdir(parents=True, exist_ok=True)
        partial = layout.RECORD.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=1))
        partial.replace(layout.RECORD)


def load() -> Record | None:
    """The record of the cluster that was started last, or None."""
    try:
        stored = json.loads(layout.RECORD.read_text())
        processes = {name: Running.of(each) for name, each in stored["processes"].items()}
        record = Record(stored["checkout"], stored["identity"], stored["boot"], processes, stored["sysctl_before"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if record.boot != boot():
        record.processes.clear()
    return record


@contextmanager
def alone() -> Iterator[None]:
    """Hold the machine's lock: two commands never change the cluster at the same time."""
    with layout.LOCK.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("another command works on the local cluster, waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(str(os.getpid()))
        yield
