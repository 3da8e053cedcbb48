"""How many workers a pod gets from its cgroup's limits."""

import os
from pathlib import Path

import pytest

from homeostat.server.life.room import Room, read_room

CORES = len(os.sched_getaffinity(0))
MIB = 1 << 20


def _group(root: Path, **files: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name.replace("__", ".")).write_text(text)
    return root


@pytest.mark.parametrize(
    ("cpus", "memory", "workers"),
    [
        (0.1, None, 1),
        (1.9, None, 1),
        (2.0, None, 2),
        (3.7, None, 3),
        (64.0, None, 8),
        (4.0, 192 * MIB, 2),
        (4.0, 64 * MIB, 1),
    ],
)
def test_a_core_is_a_worker_where_memory_allows(cpus: float, memory: int | None, workers: int) -> None:
    assert Room(cpus, memory).workers(8) == workers


def test_limits_of_version_2_are_read_also_from_the_groups_above(tmp_path: Path) -> None:
    _group(tmp_path / "a", cpu__max="50000 100000\n", memory__max="max\n")
    _group(tmp_path / "a" / "b", cpu__max="max 100000\n", memory__max=f"{300 * MIB}\n")
    own = tmp_path / "own"
    own.write_text("0::/a/b\n")
    assert read_room(tmp_path, own) == Room(0.5, 300 * MIB)


def test_in_a_container_the_root_is_the_own_group(tmp_path: Path) -> None:
    _group(tmp_path, cpu__max="150000 100000\n", memory__max=f"{512 * MIB}\n")
    own = tmp_path / "own"
    own.write_text("0::/../../kubepods/pod1/c1\n")
    assert read_room(tmp_path, own) == Room(min(1.5, CORES), 512 * MIB)


def test_limits_of_version_1_are_read(tmp_path: Path) -> None:
    _group(tmp_path / "cpu" / "pod", cpu__cfs_quota_us="25000\n", cpu__cfs_period_us="100000\n")
    _group(tmp_path / "memory", memory__limit_in_bytes="9223372036854771712\n")
    own = tmp_path / "own"
    own.write_text("4:memory:/pod\n1:cpu,cpuacct:/pod\n")
    assert read_room(tmp_path, own) == Room(0.25)


@pytest.mark.parametrize("text", ["max 100000", "-1", "", "nonsense here", "100000 0"])
def test_no_limit_means_the_cores_that_we_may_use(tmp_path: Path, text: str) -> None:
    _group(tmp_path, cpu__max=text)
    assert read_room(tmp_path, tmp_path / "none") == Room(float(CORES))
