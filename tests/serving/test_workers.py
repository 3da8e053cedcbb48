"""Several workers behind one port: even load, dead and hung ones, and a number that follows the pod's CPU limit."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from homeostat.server.counting.counters import Layout, Slot, map_slots
from homeostat.server.life.bundle import read_bundle
from serving.openloop import Users
from serving.pod import ROW, Pod, as_inputs, eventually

CPU_GROUPS = Path("/sys/fs/cgroup/cpu")


def slots(pod: Pod, folder: Path, count: int) -> list[Slot]:
    """The workers' counters, as the supervisor has them; it also has a small empty set from before the model was read."""
    links = []
    for link in Path(f"/proc/{pod.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # a connection that ended meanwhile
            if "counters" in str(link.readlink()):
                links.append(link)
    largest = max(links, key=lambda link: link.stat().st_size)
    layout = Layout.of(read_bundle(folder, 1 << 30).shape)
    return map_slots(os.open(largest, os.O_RDWR), layout, count)


def silent(slot: Slot, seconds: float) -> bool:
    return (time.monotonic_ns() - slot.get("heartbeat")) / 1e9 > seconds


def share(counted: list[Slot], requests: int) -> float:
    """The first worker's part of the next so many requests."""
    before = [s.get("answered") for s in counted]
    eventually(lambda: sum(s.get("answered") for s in counted) >= sum(before) + requests, "requests")
    mine, other = (s.get("answered") - b for s, b in zip(counted, before, strict=True))
    return mine / (mine + other)


class Kept(threading.Thread):
    """One client with one connection, made anew only when the server closed it."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port, self.ending = port, threading.Event()
        self.failures: list[str] = []

    def run(self) -> None:
        body = json.dumps({"inputs": as_inputs(ROW)})
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self.ending.wait(0.005):
            try:
                connection.request("POST", "/v2/models/flights/infer", body)
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                continue
            if response.status != 200:
                self.failures.append(str(response.status))
        connection.close()


def test_eight_kept_connections_are_spread_evenly_over_two_workers(flights: Path) -> None:
    with Pod(flights, workers=2) as pod:
        pod.ready()
        counted = slots(pod, flights, 2)
        os.kill(pod.workers()[0], signal.SIGSTOP)  # soon it gets no new connections: all come to the other one
        eventually(lambda: any(silent(s, 2.3) for s in counted), "one is silent")
        clients = [Kept(pod.port) for _ in range(8)]
        for client in clients:
            client.start()
        eventually(lambda: max(s.get("connections") for s in counted) == 8, "one worker has all")
        for worker in pod.workers():
            os.kill(worker, signal.SIGCONT)
        eventually(lambda: 0.43 <= share(counted, 800) <= 0.57, "each has its share", 60)
        assert 0.4 <= share(counted, 1000) <= 0.6
        for client in clients:
            client.ending.set()
        for client in clients:
            client.join(20)
        assert [c.failures for c in clients] == [[]] * 8


def test_a_hung_worker_is_ended_and_started_again_while_the_other_serves(flights: Path) -> None:
    with Pod(flights, workers=2, wedged_seconds=3) as pod:
        pod.ready()
        hung = pod.workers()[0]
        os.kill(hung, signal.SIGSTOP)
        eventually(lambda: hung not in pod.workers(), "the hung worker is gone", 15)
        eventually(lambda: len(pod.workers()) == 2 and pod.state() == "Ready", "two workers again")
        for _ in range(20):
            assert pod.infer(ROW).status == 200


def test_no_new_connection_is_refused_or_lost_while_the_only_worker_starts_again(flights: Path) -> None:
    with Pod(flights, workers=1) as pod:
        pod.ready()
        worker = pod.workers()[0]
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: worker not in pod.workers(), "the worker is gone")
        assert pod.infer(ROW).status == 200


def test_a_port_that_another_server_has_is_named(pod: Pod, flights: Path) -> None:
    with Pod(flights, more=(f"--port={pod.port}",)) as other:
        eventually(lambda: other.state() == "PortUnavailable", "state PortUnavailable")
        assert "--port" in other.stats().state.message


@pytest.fixture
def quota() -> Iterator[Path]:
    """A CPU control group of ours (version 1), as a node's kubelet changes it at an in-place resize."""
    group = CPU_GROUPS / f"homeostat-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        pytest.skip("needs a writable cgroup v1 cpu controller")
    yield group
    eventually(lambda: not (group / "cgroup.procs").read_text(), "nothing is left in the group")
    group.rmdir()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_workers_follow_the_cpu_limit_without_a_lost_request(flights: Path, quota: Path) -> None:
    (quota / "cpu.cfs_period_us").write_text("100000")
    (quota / "cpu.cfs_quota_us").write_text("150000")
    with Pod(flights, workers=0) as pod:
        (quota / "cgroup.procs").write_text(str(pod.process.pid))
        pod.ready()
        assert len(pod.workers()) == 1
        with Users([pod.port], rate=100) as users:
            (first,) = pod.workers()
            (quota / "cpu.cfs_quota_us").write_text("200000")
            eventually(lambda: len(pod.workers()) == 2, "a second worker")
            eventually(lambda: users.answers["200"] > 200, "requests")
            total = pod.stats().served["stable"].requests
            (quota / "cpu.cfs_quota_us").write_text("100000")
            eventually(lambda: pod.workers() == [first], "the second worker left")
            assert pod.stats().served["stable"].requests >= total
            (quota / "cpu.cfs_quota_us").write_text("200000")
            eventually(lambda: len(pod.workers()) == 2, "a second worker again")
            eventually(lambda: pod.stats().served["stable"].requests > total + 200, "requests")
        assert first in pod.workers()
        assert users.failures == {}
        assert pod.state() == "Ready"
