"""Starts each server on its core, waits until it is ready, pauses it while others are measured, and ends it in any case."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from bench.serving import venvs
from bench.serving.models import Model
from bench.serving.places import KEPT, RIVALS, ROOT
from deploy.local.progress import Problem, step

READY_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0
OWN: Final = "homeostat"


@functools.cache
def all_cores() -> frozenset[int]:
    """Those that this process had when it was first asked."""
    return frozenset(os.sched_getaffinity(0))


def cores() -> tuple[int, int]:
    """The core of servers and the core of the load; the same when there is only one."""
    return min(all_cores()), max(all_cores())


@dataclass
class Server:
    """A running server: its process group is ours to pause and to end."""

    label: str
    process: subprocess.Popen[bytes]
    port: int
    grpc_port: int
    ready_url: str
    log: Path
    scratch: Path | None = None
    end_with: int = signal.SIGTERM
    started: float = field(default_factory=time.perf_counter)
    ready_seconds: float = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def pids(self) -> list[int]:
        """The process and all below it."""
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                words = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            children.setdefault(int(words[1]), []).append(int(stat.parent.name))
        found = [self.process.pid]
        for pid in found:
            found.extend(children.get(pid, ()))
        return found

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        """By its signal, then the hard way for all that is left of the group."""
        everything = self.pids()
        if self.process.poll() is None:
            self.resume()
            self.process.send_signal(self.end_with)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_SECONDS)
        self._signal(signal.SIGKILL, everything)
        self.process.wait()
        _running.discard(self.process.pid)
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _signal(self, number: int, pids: Sequence[int] = ()) -> None:
        """To the group, and to those below it that made a group of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)
        for pid in pids or self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait_ready(self) -> Self:
        """Until the server says that it is ready. Raises Problem with the end of its log."""
        end = time.monotonic() + READY_SECONDS
        while True:
            if self.process.poll() is not None:
                self._fail(f"{self.label} ended with {self.process.returncode} instead of serving")
            try:
                self._probe()
            except OSError:
                if time.monotonic() > end:
                    self._fail(f"{self.label} was not ready after {READY_SECONDS:g} s")
                time.sleep(0.005)
            else:
                self.ready_seconds = time.perf_counter() - self.started
                return self

    def _probe(self) -> None:
        """Raises OSError unless the server is ready; a bare gRPC server is when it listens."""
        if self.ready_url:
            urllib.request.urlopen(self.ready_url, timeout=5).close()
        else:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()

    def _fail(self, what: str) -> None:
        self.stop()
        tail = "\n    ".join(self.log.read_text(errors="replace").strip().splitlines()[-8:])
        raise Problem(f"{what}:\n    {tail}", f"see {self.log.relative_to(ROOT)}")


_running: set[int] = set()


def _end_all() -> None:
    for pid in tuple(_running):
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


atexit.register(_end_all)


def free_ports(count: int) -> list[int]:
    """Ports that nobody has right now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    found = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return found


def start(
    label: str,
    command: Sequence[str | Path],
    ready: tuple[int, str],
    ports: tuple[int, int],
    *,
    on: Sequence[int] = (),
    env: dict[str, str] | None = None,
    scratch: Path | None = None,
    end_with: int = signal.SIGTERM,
) -> Server:
    """Start a server in a process group of its own on the cores `on` (default: the servers' one), and wait for it.

    ready: port and path of its probe, no path: it listens. ports: HTTP and gRPC. scratch: its folder, removed at its end.
    """
    chosen = set(on) or {cores()[0]}
    slug = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
    log = KEPT / "logs" / f"{slug}-{ports[0]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with step(f"start {label}") as shown, log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, chosen),  # noqa: PLW1509 - before any thread of the child
            env={**os.environ, **(env or {})},
            cwd=scratch or ROOT,
        )
        _running.add(process.pid)
        url = f"http://127.0.0.1:{ready[0]}{ready[1]}" if ready[1] else ""
        server = Server(label, process, *ports, url, log, scratch, end_with)
        try:
            server.wait_ready()
        except BaseException:
            server.stop()
            raise
        shown.result = f"ready after {server.ready_seconds:.2f} s"
    return server


@functools.cache
def _help() -> str:
    command: list[str | Path] = [sys.executable, "-m", "homeostat", "serve", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout


def ours(model: Model, *flags: str, on: Sequence[int] = ()) -> Server:
    """`homeostat serve` with everything on: statistics, metrics, prediction ids.

    A worker that says nothing for long is restarted; while others are measured ours is paused, so it may be silent.
    """
    port, admin, grpc = free_ports(3)
    command: list[str | Path] = [
        sys.executable,
        "-m",
        "homeostat",
        "serve",
        "--model-dir",
        str(model.folder),
        "--name",
        "bench",
    ]
    command += ["--version", "v1", "--deployment-uid", "bench", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--admin-port", str(admin), "--lame-duck", "0", "--drain", "0"]
    command += ["--wedged-seconds", "3600", *flags]
    if "--grpc-port" in _help():
        command += ["--grpc-port", str(grpc)]
    return start(OWN, command, (admin, "/readyz"), (port, grpc), on=on)


def echo(_model: Model | None = None) -> Server:
    """The bare echo on uvloop and httptools."""
    (port,) = free_ports(1)
    command: list[str | Path] = [sys.executable, RIVALS / "echo.py", str(port)]
    return start("bare echo", command, (port, "/"), (port, 0))


def mlserver(model: Model) -> Server:
    """MLServer with ONNX Runtime as a custom runtime, without debug and without its process for inference.

    `parallel_workers` 0 is nearly twice as fast on one core as its default of 1, so we compare with that.
    """
    return _mlserver(model, "MLServer", {"parallel_workers": 0})


def mlserver_default(model: Model) -> Server:
    """The same with its default of one process for inference beside that for HTTP."""
    return _mlserver(model, "MLServer (parallel_workers 1)", {})


def _mlserver(model: Model, label: str, more: dict[str, int]) -> Server:
    http, grpc, metrics = free_ports(3)
    folder = Path(tempfile.mkdtemp(prefix="mlserver-", dir=KEPT))
    settings = {"debug": False, "host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    (folder / "settings.json").write_text(json.dumps(settings | more))
    columns: list[dict[str, object]] = [{"name": n, "datatype": "FP32", "shape": [-1]} for n in model.numbers]
    columns += [
        {"name": n, "datatype": "BYTES", "shape": [-1], "parameters": {"content_type": "str"}} for n in model.strings
    ]
    extra = {"numbers": list(model.numbers), "strings": list(model.strings)}
    about: dict[str, object] = {"name": "bench", "implementation": "mlserver_runtime.OnnxModel"}
    parameters = {"uri": str(model.folder / "model.onnx"), "extra": extra}
    inputs = {"inputs": columns} if model.strings else {}
    (folder / "model-settings.json").write_text(json.dumps({**about, **inputs, "parameters": parameters}))
    command: list[str | Path] = [venvs.python("mlserver").with_name("mlserver"), "start", folder]
    env = {"PYTHONPATH": str(RIVALS)}
    return start(label, command, (http, "/v2/models/bench/ready"), (http, grpc), env=env, scratch=folder)


def kserve(model: Model) -> Server:
    """KServe's model server with a custom model."""
    http, grpc = free_ports(2)
    command: list[str | Path] = [
        venvs.python("kserve"),
        RIVALS / "kserve_app.py",
        model.folder / "model.onnx",
        str(http),
        str(grpc),
    ]
    return start("KServe", command, (http, "/v2/models/bench/ready"), (http, grpc))


def pytriton(model: Model) -> Server:
    """PyTriton: Triton's own front end, the model in Python."""
    http, grpc = free_ports(2)
    interpreter = venvs.python("pytriton")
    scratch = Path(tempfile.mkdtemp(prefix="pytriton-", dir=KEPT))
    command: list[str | Path] = [interpreter, RIVALS / "pytriton_app.py", model.folder / "model.onnx"]
    command += [str(http), str(grpc), scratch / "workspace"]
    env = {"PATH": f"{interpreter.parent}:{os.environ['PATH']}"}
    ready = (http, "/v2/models/bench/ready")
    # only after SIGINT it removes its shared memory
    return start("PyTriton", command, ready, (http, grpc), env=env, scratch=scratch, end_with=signal.SIGINT)


def fastapi(model: Model) -> Server:
    """FastAPI on uvicorn with uvloop and httptools, no access log."""
    (port,) = free_ports(1)
    command: list[str | Path] = [
        venvs.python("fastapi"),
        "-m",
        "uvicorn",
        "fastapi_app:app",
        "--app-dir",
        RIVALS,
        "--port",
        str(port),
    ]
    command += ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    env = {"MODEL": str(model.folder / "model.onnx")}
    return start("FastAPI", command, (port, "/v2/health/ready"), (port, 0), env=env)


def http2_echo(_model: Model | None = None) -> Server:
    """A bare gRPC echo on uvloop that reads no header."""
    port, _ = free_ports(2)
    command: list[str | Path] = [sys.executable, "-m", "bench.serving.rivals.http2_echo", str(port)]
    return _listening("bare HTTP/2 echo", command, port)


def grpc_aio_echo(_model: Model | None = None) -> Server:
    """A bare echo by grpc.aio."""
    return _grpcio_echo("aio", "grpc.aio echo")


def grpc_threads_echo(_model: Model | None = None) -> Server:
    """A bare echo by grpcio's threads."""
    return _grpcio_echo("threads", "grpcio threads echo")


def _grpcio_echo(kind: str, label: str) -> Server:
    (port,) = free_ports(1)
    command: list[str | Path] = [venvs.python("mlserver"), RIVALS / "grpc_echo.py", kind, str(port)]
    return _listening(label, command, port)


def _listening(label: str, command: Sequence[str | Path], port: int) -> Server:
    return start(label, command, (port, ""), (port, port))
