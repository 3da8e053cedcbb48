"""Command line of the benchmark."""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench.serving import life, report, scenarios, servers
from bench.serving.measure import LEFT_OUT, Options
from bench.serving.places import KEPT, PLOT, RESULTS
from bench.serving.report import Row
from deploy.local.progress import Problem, note

SCENARIOS: Final[dict[str, Callable[[Options], list[Row]]]] = {
    "json": scenarios.json_logistic,
    "boosting": scenarios.boosting,
    "network": scenarios.network,
    "binary": scenarios.binary,
    "grpc": scenarios.grpc,
    "workers": life.workers,
    "statistics": scenarios.statistics_cost,
    "overload": life.overload,
    "start": life.start,
}


def main() -> int:
    """Run the scenarios. Returns 0 when all ran, 1 when one could not, whatever the figures."""
    options = _parser().parse_args()
    quick = options.quick
    length = Options(
        rounds=1 if quick else options.rounds,
        seconds=1.0 if quick else options.seconds,
        overload_seconds=10.0 if quick else options.overload_seconds,
    )
    path = options.json or (KEPT / "quick.json" if quick else RESULTS)
    with contextlib.suppress(ValueError, OSError):  # thousands of connections in the overload
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # servers are ended on the way out
    os.sched_setaffinity(0, {servers.cores()[1]})  # what we do ourselves disturbs no server
    for old in (KEPT / "logs").glob("*-[0-9]*.log"):
        old.unlink()
    began, rows, failed = time.monotonic(), [], []
    for name in options.only or SCENARIOS:
        try:
            rows += SCENARIOS[name](length)
        except Problem as problem:
            failed.append(name)
            print(f"✗ {name}: {problem}\n  fix: {problem.fix}", file=sys.stderr)
    everything = report.keep(rows, path, add=bool(options.only))
    report.show(rows)
    report.plot(everything, KEPT / "quick.svg" if quick else PLOT)
    print()
    note(f"{time.monotonic() - began:.0f} s; results in {path}")
    for one in LEFT_OUT:
        note(f"left out: {one}")
    if failed:
        note(f"did not run: {', '.join(failed)}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="The serving runtime beside its rivals, in one run; medians of rounds."
    )
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, help="these scenarios; results of others are kept")
    parser.add_argument("--rounds", type=_rounds, default=3, help="at least 3 (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of one measurement (default %(default)s)")
    parser.add_argument("--overload-seconds", type=float, default=60.0, help="(default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short round of everything, kept below .local/bench")
    parser.add_argument("--json", type=Path, help=f"where results go (default {RESULTS})")
    return parser


def _rounds(text: str) -> int:
    if int(text) < 3:
        raise argparse.ArgumentTypeError("a median needs 3 rounds or more")
    return int(text)
