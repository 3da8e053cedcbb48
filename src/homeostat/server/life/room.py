"""How much CPU and memory this pod may use: its cgroup's limits, version 2 or 1, else what the machine has.

The rule for workers, when nobody sets their number: a limit under 2 cores gives one worker, n cores give n. Memory bounds
them: about 60 MiB for each worker beyond the first. A worker has one thread of the runtime, unless more are asked for:
workers share nothing, and threads of one run spend more time waiting for each other than they save on small models.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WORKER_BYTES: Final = 60 << 20
POD_BYTES: Final = 128 << 20  # supervisor, first worker, and room for what requests hold
CGROUPS: Final = Path("/sys/fs/cgroup")
OWN: Final = Path("/proc/self/cgroup")
_NO_LIMIT: Final = 1 << 60  # version 1 writes a number near 2**63


@dataclass(frozen=True, slots=True)
class Room:
    """cpus: cores' worth of time. memory: bytes that the whole pod may have; None: no limit but the machine's."""

    cpus: float
    memory: int | None = None

    def workers(self, most: int) -> int:
        """How many workers serve best here: between 1 and `most`."""
        wanted = int(self.cpus + 0.01)
        if self.memory is not None:
            wanted = min(wanted, 1 + max(0, self.memory - POD_BYTES) // WORKER_BYTES)
        return max(1, min(wanted, most))


def read_room(root: Path = CGROUPS, own: Path = OWN) -> Room:
    """What holds now. Limits of the groups above ours count too; a file that is missing or strange limits nothing."""
    cpus = float(len(os.sched_getaffinity(0)))
    memory: list[int] = []
    for folder in _folders(root, own, "cpu"):
        cpus = min(cpus, _share(_words(folder / "cpu.max")), _quota(folder))
    for folder in _folders(root, own, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            memory += [int(word) for word in _words(folder / name) if word.isdigit() and int(word) < _NO_LIMIT]
    return Room(cpus, min(memory, default=None))


def _folders(root: Path, own: Path, controller: str) -> list[Path]:
    """Our group's folder and those above it, in both versions. In a container the root is usually ours already."""
    found = [root, root / controller]
    for line in _text(own).splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        top = root / controller if controllers else root
        parts = [p for p in path.split("/") if p and p != ".."]
        found += [top.joinpath(*parts[: i + 1]) for i in range(len(parts))]
    return found


def _share(words: list[str]) -> float:
    """`cpu.max`: quota (or `max`) and period."""
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        return int(words[0]) / int(words[1])
    return float("inf")


def _quota(folder: Path) -> float:
    return _share(_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"))


def _words(path: Path) -> list[str]:
    return _text(path).split()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
