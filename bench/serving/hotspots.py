"""Where a request's time goes in our server: `python bench/serving/hotspots.py [json|boosting|network|binary|grpc] [--seconds 10]`.

Samples the worker 400 times a second under the benchmark's load by py-spy, native frames included (needs the right to
trace processes: root, or ptrace_scope 0). Each sample goes to the innermost part that it can be told of: a library, or
one of our modules; then the dearest functions by their own time.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.serving import models, servers, venvs, wire
from bench.serving.measure import Load, cpu_seconds, generate, measure
from bench.serving.scenarios import BLOCK, BODIES, single
from deploy.local.progress import Problem, call, step

# innermost frame that names it: part; native frames carry their library's file, ours their module's
LIBRARIES = {
    "onnxruntime": "ONNX Runtime",
    "orjson": "JSON (orjson)",
    "httptools": "HTTP parser (httptools)",
    "uvloop": "event loop (uvloop)",
    "numpy": "numpy",
    "grpc": "gRPC library",
    "hashlib": "hashes",
}
CALLS = {"read", "write", "writev", "send", "sendmsg", "recv", "recvmsg", "epoll_ctl"}
# calls of a thread that waits for work; beneath them the C library has frames without names
WAITING = {"epoll_wait", "epoll_pwait", "time_sleep", "PyThread_acquire_lock_timed", "take_gil", "poll", "select"}


def scenario(name: str) -> tuple[models.Model, Load]:
    """The model and the load of a scenario of the benchmark."""
    model = {"boosting": models.boosting, "network": models.network}.get(name, models.logistic)()
    if name == "binary":
        return model, Load([wire.binary_tensor(model.rows(BLOCK, seed=s)) for s in range(BODIES)], 8)
    rows = list(single(model.rows(BODIES)))
    if name == "grpc":
        return model, Load([wire.grpc_message(r) for r in rows], 8, 4)
    if model.strings:
        return model, Load([wire.http(wire.json_columns(model, r)) for r in rows], 32)
    return model, Load([wire.http(wire.json_tensor(r)) for r in rows], 32)


def part(frames: list[str]) -> str:
    """The part of a stack, given from the outside in: the innermost frame that tells."""
    if frames[-1].partition(" ")[0] in CALLS:
        return "system calls of sockets"
    for frame in reversed(frames):
        if "homeostat/" in frame:
            return "our " + frame.partition("(")[2].rpartition(":")[0].rpartition("homeostat/")[2]
        for name, shown in LIBRARIES.items():
            if name in frame:
                return shown
    return "Python itself"


def waits(frames: list[str]) -> bool:
    """Whether the thread did nothing then."""
    return any(frame.partition(" ")[0] in WAITING for frame in frames[-4:])


def sample(pid: int, seconds: float, folder: Path) -> list[tuple[list[str], int]]:
    """Stacks of that process and how often each was seen. Raises Problem."""
    spy, out = venvs.python("profiler").with_name("py-spy"), folder / "stacks"
    command: list[str | Path] = [
        spy,
        "record",
        "--native",
        "--format",
        "raw",
        "--rate",
        "400",
        "--duration",
        str(int(seconds)),
    ]
    command += ["--full-filenames", "--output", out, "--pid", str(pid)]
    call(command, fix="run as root, or with ptrace allowed (sysctl kernel.yama.ptrace_scope=0)")
    lines = [line.rpartition(" ") for line in out.read_text().splitlines()]
    return [(stack.split(";"), int(count)) for stack, _, count in lines]


def main() -> int:
    parser = argparse.ArgumentParser(description="Where a request's time goes in our server.")
    parser.add_argument(
        "scenario", nargs="?", default="json", choices=("json", "boosting", "network", "binary", "grpc")
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    try:
        return show(options.scenario, options.seconds)
    except Problem as problem:
        print(f"error: {problem}\n  fix: {problem.fix}", file=sys.stderr)
        return 1


def show(name: str, seconds: float) -> int:
    model, load = scenario(name)
    venvs.python("profiler")
    with servers.ours(model) as server, tempfile.TemporaryDirectory() as folder:
        cost = measure(server, load, 2.0).cpu * 1e6
        used = cpu_seconds(server)
        worker = max((p for p in used if p != server.process.pid), key=lambda p: used[p])
        with step(f"sample process {worker}"):
            stacks = under_load(server, load, worker, seconds, Path(folder))
    busy = [(frames, count) for frames, count in stacks if not waits(frames)]
    total, everything = sum(count for _, count in busy) or 1, sum(count for _, count in stacks) or 1
    parts, functions = Counter[str](), Counter[str]()
    for frames, count in busy:
        parts[part(frames)] += count
        functions[frames[-1]] += count
    idle = 1 - total / everything
    print(
        f"\n{name}: {cost:.1f} µs of CPU a request; {total} samples; {idle:.0%} of the samples waited and are left out\n"
    )
    for title, counter in (("part", parts), ("function, its own time", functions)):
        print(f"  {title}")
        for what, count in counter.most_common(18):
            print(f"    {count / total:6.1%} {cost * count / total:8.2f} µs  {what[-100:]}")
    return 0


def under_load(
    server: servers.Server, load: Load, pid: int, seconds: float, folder: Path
) -> list[tuple[list[str], int]]:
    """Sample while the load runs, a little longer than that."""
    from threading import Thread

    thread = Thread(target=lambda: generate(server, load, seconds=1.5 * seconds + 5))
    thread.start()
    try:
        return sample(pid, seconds, folder)
    finally:
        thread.join()


if __name__ == "__main__":
    sys.exit(main())
