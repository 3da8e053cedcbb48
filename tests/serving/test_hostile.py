"""Models that want to hurt their server: each is refused with a reason, and the pod lives on to say it."""

import ctypes
import hashlib
import json
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from homeostat.errors import ArtifactError
from homeostat.server.life.bundle import read_bundle
from homeostat.server.life.check import memory_for
from homeostat.server.life.room import Room
from homeostat.server.settings import Settings
from serving import hostile
from serving.pod import Pod, eventually


def refused(folder: Path, **settings: float) -> ArtifactError:
    """Why the check refuses what lies there; it runs as in a pod, in a limited child of a process with its libraries."""
    told = Settings(str(folder), "m", "v1", **settings)  # type: ignore[arg-type]
    command = [sys.executable, "-m", "homeostat.server.life.check", str(folder), told.to_text()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 3, done
    said = json.loads(done.stdout)
    return ArtifactError(said["reason"], said["message"])


@pytest.mark.parametrize(
    "vector",
    [
        hostile.parent_folder,
        hostile.down_and_up,
        hostile.absolute,
        hostile.symbolic_link,
        hostile.linked_folder,
        hostile.hard_link,
        hostile.hidden_in_an_attribute,
    ],
)
def test_weights_outside_of_the_folder_are_refused(tmp_path: Path, vector: Callable[[Path], Path]) -> None:
    error = refused(vector(tmp_path / "m"))
    assert error.reason == "ExternalDataRefused"
    assert "beside model.onnx" in error.because


@pytest.mark.parametrize(
    ("vector", "reason", "says"),
    [
        (hostile.terabyte, "OutOfMemory", "memory limit"),
        (hostile.declared_giant, "NotOnnx", "valid"),
        (hostile.foreign_operator, "OperatorNotAllowed", "node 'boom' is of operator 'Exec' in domain 'evil.domain'"),
        (hostile.chain, "TooManyNodes", "100000 nodes"),
        (hostile.doubling, "TooManyNodes", "100000 nodes"),
        (hostile.calls_itself, "NotOnnx", "recursive"),
        (hostile.nested, "NotOnnx", "valid"),
    ],
)
def test_what_would_hurt_is_refused_within_seconds(
    tmp_path: Path, vector: Callable[[Path], Path], reason: str, says: str
) -> None:
    begun = time.monotonic()
    error = refused(vector(tmp_path / "m"))
    assert (error.reason, says in error.because) == (reason, True), error.because
    assert time.monotonic() - begun < 20


def test_an_operator_that_only_another_device_has_is_refused(tmp_path: Path) -> None:
    assert (
        refused(hostile.foreign_operator(tmp_path / "m", "com.microsoft", "EPContext")).reason == "OperatorNotAllowed"
    )


def test_the_runtimes_own_operators_and_weights_beside_the_model_are_served(tmp_path: Path) -> None:
    hostile.weights_file(tmp_path / "beside" / "weights.bin")
    for folder in (hostile.runtime_operator(tmp_path / "own"), hostile.honest(tmp_path / "beside", "weights.bin")):
        with Pod(folder) as pod:
            pod.ready()


def test_a_loop_without_end_is_stopped_in_time_and_the_pod_lives(tmp_path: Path) -> None:
    with Pod(hostile.endless(tmp_path / "m"), load_seconds=3) as pod:
        eventually(lambda: pod.state() == "LoadTimeout", "state LoadTimeout")
        assert "--load-seconds" in pod.stats().state.message
        assert pod.get("/livez", port=pod.admin).status == 200
        assert pod.get("/readyz", port=pod.admin).status == 503
        eventually(lambda: not pod.workers(), "no worker waits for what never comes")
        assert pod.stop() == 0


def test_a_model_that_asks_for_a_terabyte_leaves_the_pod_alive(tmp_path: Path) -> None:
    with Pod(hostile.terabyte(tmp_path / "m")) as pod:
        eventually(lambda: pod.state() == "OutOfMemory", "state OutOfMemory")
        assert "OutOfMemory" in pod.get("/readyz", port=pod.admin).content.decode()
        assert pod.stop() == 0


def test_a_folder_or_a_pipe_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a" / "model.onnx").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    os.mkfifo(tmp_path / "b" / "model.onnx")
    for folder in (tmp_path / "a", tmp_path / "b"):
        with pytest.raises(ArtifactError) as caught:
            read_bundle(folder, 1 << 20)
        assert caught.value.reason == "ModelMissing"


def test_external_weights_count_towards_the_size_cap(tmp_path: Path) -> None:
    folder = hostile.honest(tmp_path / "m", "weights.bin")
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(1 << 20)
    assert refused(folder, max_model_bytes=1 << 20).reason == "ModelTooLarge"


def test_nothing_is_loaded_before_its_digest_held(tmp_path: Path) -> None:
    folder = hostile.honest(tmp_path / "m")
    right = "sha256:" + hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    with Pod(folder, digest="sha256:" + "0" * 64) as pod:
        eventually(lambda: pod.state() == "DigestMismatch", "state DigestMismatch")
        assert right in pod.stats().state.message
        assert not pod.workers()
    with Pod(folder, digest=right) as pod:
        pod.ready()


def test_the_checks_memory_follows_the_models_size_and_the_pods_limit(tmp_path: Path) -> None:
    folder = hostile.honest(tmp_path / "m")
    model = folder / "model.onnx"
    free, small = memory_for(model, 1 << 30, Room(1.0)), memory_for(model, 1 << 30, Room(1.0, 512 << 20))
    (folder / "weights.bin").write_bytes(b"\0" * (8 << 20))
    assert small < 512 << 20 < free < memory_for(model, 1 << 30, Room(1.0)) - (30 << 20)


class Watched:
    """Files that were opened in one folder, by the kernel's own account (inotify)."""

    def __init__(self, folder: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK)
        assert self._libc.inotify_add_watch(self._fd, str(folder).encode(), 0x20) > 0  # IN_OPEN

    def opened(self) -> set[str]:
        names: set[str] = set()
        try:
            content = os.read(self._fd, 1 << 20)
        except BlockingIOError:
            return names
        while content:
            _, _, _, size = struct.unpack("iIII", content[:16])
            names.add(content[16 : 16 + size].rstrip(b"\0").decode())
            content = content[16 + size :]
        return names


@pytest.mark.parametrize("kind", ["weights beside it", "pipeline with strings"])
def test_two_thousand_damaged_models_end_no_parent_and_read_nothing_outside(
    tmp_path: Path, flights: Path, kind: str
) -> None:
    secret, folder = hostile.weights_file(tmp_path / "secret.bin"), tmp_path / "m"
    if kind == "weights beside it":
        hostile.weights_file(hostile.honest(folder, "weights.bin") / "weights.bin")
    else:
        hostile.saved(folder, (flights / "model.onnx").read_bytes())
    watched = Watched(tmp_path)
    command = [sys.executable, str(Path(__file__).with_name("mutants.py")), str(folder), "7", "1000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert sum(found.values()) == 1000, found
    assert found["NotOnnx"] > 500
    assert not [outcome for outcome in found if outcome == "silent" or outcome.startswith("raises")], found
    assert watched.opened() <= {"m", ""}
    secret.read_bytes()
    assert "secret.bin" in watched.opened()


MEMORY_GROUPS = Path("/sys/fs/cgroup/memory")


@pytest.fixture
def small_pod() -> Iterator[Path]:
    """A memory control group of ours (version 1) with a small pod's limit of 192 MiB."""
    group = MEMORY_GROUPS / f"homeostat-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(192 << 20))
    except OSError:
        pytest.skip("needs a writable cgroup v1 memory controller")
    yield group
    eventually(lambda: not (group / "cgroup.procs").read_text(), "nothing is left in the group")
    group.rmdir()


def test_a_model_that_is_too_big_for_a_small_pod_is_refused_before_the_kernel_ends_the_pod(
    tmp_path: Path, small_pod: Path
) -> None:
    with Pod(hostile.zeros(tmp_path / "m", 400)) as pod:
        (small_pod / "cgroup.procs").write_text(str(pod.process.pid))
        eventually(lambda: pod.state() == "OutOfMemory", "state OutOfMemory")
        assert "more than 64 MiB" in pod.stats().state.message
        assert (small_pod / "memory.failcnt").read_text().strip() == "0"
        assert pod.stop() == 0
