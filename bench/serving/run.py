"""Requests per second of the server with every feature on, beside a bare echo on the same stack.

    python bench/serving/run.py [--seconds 5] [--rounds 3] [--json bench/results/serving.json]

20-feature logistic regression, JSON; the server on one core, the load on another; medians. Needs the dev environment.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "tests"))
COLUMNS = 20
ECHO, PORT, ADMIN = 18300, 18310, 18312
SHARE_OF_ECHO = 0.45  # of a bare echo on the same stack


def pinned(core: int, command: list[str], **more: Any) -> subprocess.Popen[bytes]:
    """A process on one core."""
    cores = sorted(os.sched_getaffinity(0))
    chosen = {cores[core % len(cores)]}
    return subprocess.Popen(command, preexec_fn=lambda: os.sched_setaffinity(0, chosen), **more)  # noqa: PLW1509


def wait_for(url: str) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return


def load(port: int, body: Path, connections: int, seconds: float) -> dict[str, float]:
    command = [sys.executable, str(HERE / "load.py"), str(port), "/v2/models/bench/infer"]
    command += [str(connections), str(seconds), str(body)]
    process = pinned(1, command, stdout=subprocess.PIPE)
    out, _ = process.communicate()
    found: dict[str, float] = json.loads(out)
    if found["failed"]:
        raise SystemExit(f"{found['failed']} requests failed")
    return found


def cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """What the process and its living children used so far."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    used = 0
    for pid in (process.pid, *children):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used += int(words[11]) + int(words[12])
    return used / os.sysconf("SC_CLK_TCK")


def median(
    server: subprocess.Popen[bytes], port: int, body: Path, connections: int, options: argparse.Namespace
) -> dict[str, float]:
    load(port, body, connections, 1.0)
    rounds = []
    for _ in range(options.rounds):
        before = cpu_seconds(server)
        one = load(port, body, connections, options.seconds)
        rounds.append({**one, "cpu": (cpu_seconds(server) - before) / one["requests"]})
    return {
        "cpu": statistics.median(r["cpu"] for r in rounds),
        "rate": statistics.median(r["requests"] / r["seconds"] for r in rounds),
        "p50": statistics.median(r["p50"] for r in rounds),
        "p99": statistics.median(r["p99"] for r in rounds),
    }


def serve(folder: Path, *flags: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "homeostat", "serve", "--model-dir", str(folder), "--name", "bench"]
    command += ["--version", "v1", "--deployment-uid", "bench", "--host", "127.0.0.1", "--port", str(PORT)]
    command += ["--admin-port", str(ADMIN), "--lame-duck", "0", "--drain", "0", *flags]
    process = pinned(0, command)
    wait_for(f"http://127.0.0.1:{ADMIN}/readyz")
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    process.wait(30)


def bodies(folder: Path) -> dict[str, Path]:
    row = [round(float(v), 4) for v in np.random.default_rng(1).normal(size=COLUMNS)]
    tensor = [{"name": "input", "shape": [1, COLUMNS], "datatype": "FP32", "data": row}]
    named = [{"name": f"f{i}", "shape": [1], "datatype": "FP32", "data": [v]} for i, v in enumerate(row)]
    found = {}
    for name, inputs in (("tensor", tensor), ("named", named)):
        found[name] = folder / f"{name}.json"
        found[name].write_text(json.dumps({"inputs": inputs}, separators=(",", ":")))
    return found


def measure(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    from serving import models  # type: ignore[import-not-found]  # of the tests

    body = bodies(folder)
    model = models.numbers_only(folder / "model", COLUMNS)
    found = {}
    echo = pinned(0, [sys.executable, str(HERE / "echo.py"), str(ECHO)])
    time.sleep(0.5)
    for name in body:
        found[f"echo {name}"] = median(echo, ECHO, body[name], 32, options)
    echo.kill()
    echo.wait()
    for label, flags in (("all on", ()), ("statistics off", ("--no-stats",))):
        server = serve(model, *flags)
        found[f"{label}, tensor"] = median(server, PORT, body["tensor"], 32, options)
        if not flags:
            found["all on, named"] = median(server, PORT, body["named"], 32, options)
            found["all on, one connection"] = median(server, PORT, body["tensor"], 1, options)
        stop(server)
    return found


def rows(found: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    share = found["all on, tensor"]["rate"] / found["echo tensor"]["rate"]
    cost = 1 - found["all on, tensor"]["rate"] / found["statistics off, tensor"]["rate"]
    out: list[dict[str, Any]] = []
    for name, one in found.items():
        out.append({"what": f"{name}: requests", "value": round(one["rate"]), "unit": "1/s"})
        out.append({"what": f"{name}: CPU of a request", "value": round(one["cpu"] * 1e6, 1), "unit": "us"})
        out += [{"what": f"{name}: {p}", "value": round(one[p] * 1000, 3), "unit": "ms"} for p in ("p50", "p99")]
    out = [{**row, "reach": None, "holds": None} for row in out]
    reach = {
        "what": "share of a bare echo, tensor",
        "value": round(share, 3),
        "unit": "",
        "reach": f">= {SHARE_OF_ECHO}",
    }
    out.append({**reach, "holds": share >= SHARE_OF_ECHO})
    cpu = found["echo tensor"]["cpu"] / found["all on, tensor"]["cpu"]
    less = {"what": "the same by CPU time of a request", "value": round(cpu, 3), "unit": "", "reach": None}
    out.append({**less, "holds": None})
    named = found["all on, named"]["rate"] / found["echo named"]["rate"]
    out.append(
        {
            "what": "share of a bare echo, named columns",
            "value": round(named, 3),
            "unit": "",
            "reach": None,
            "holds": None,
        }
    )
    cost_cpu = found["all on, tensor"]["cpu"] / found["statistics off, tensor"]["cpu"] - 1
    more = {"what": "statistics' cost of CPU time", "value": round(cost_cpu, 3), "unit": "", "reach": None}
    out.append({**more, "holds": None})
    off = {"what": "statistics' cost of throughput", "value": round(cost, 3), "unit": "", "reach": "<= 0.05"}
    out.append({**off, "holds": cost <= 0.05})
    return out


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, default=HERE.parents[1] / "bench" / "results" / "serving.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = rows(measure(options, Path(folder)))
    for row in table:
        holds = "" if row["holds"] is None else ("holds" if row["holds"] else "does not hold")
        print(f"{row['what']:<44} {row['value']:>10} {row['unit']:<4} {row['reach'] or '':<8} {holds}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(table, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
